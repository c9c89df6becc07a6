package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// NeedTool skips a test whose external programs are missing.  Like NeedRoot it fails instead where BARYON_ROOT=required says that
// nothing may be lost: `make test` installs them all.
func NeedTool(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("BARYON_ROOT") == "required" {
			t.Fatalf("%s is not installed and BARYON_ROOT=required; run: make setup", p)
		}
		t.Skipf("%s is not installed", p)
	}
}
