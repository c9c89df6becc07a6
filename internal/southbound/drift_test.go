package southbound

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"baryon/internal/testkit"
)

// TestGeneratedCodeIsFresh compares the generated files with what protoc makes now, but for the lines that name tool versions.
func TestGeneratedCodeIsFresh(t *testing.T) {
	testkit.NeedTool(t, "protoc")
	plugins := t.TempDir()
	for _, tool := range []string{"google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"} {
		if b, err := exec.Command("go", "build", "-o", plugins, tool).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", tool, err, b)
		}
	}
	t.Setenv("PATH", plugins+string(os.PathListSeparator)+os.Getenv("PATH"))
	const root, dir = "../..", "proto/baryon/v1"
	out := t.TempDir()
	cmd := exec.Command("protoc", "-I", root, "--go_out="+out, "--go_opt=module=baryon", "--go-grpc_out="+out, "--go-grpc_opt=module=baryon",
		filepath.Join(dir, "southbound.proto"))
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, b)
	}
	for _, name := range []string{"southbound.pb.go", "southbound_grpc.pb.go"} {
		if code(t, filepath.Join(out, dir, name)) != code(t, filepath.Join(root, dir, name)) {
			t.Errorf("%s/%s is stale: run go generate ./%s", dir, name, dir)
		}
	}
}

func code(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), "\npackage ")
	if !ok {
		t.Fatalf("%s: no package clause", path)
	}
	return after
}
