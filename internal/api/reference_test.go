package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files and docs/api.md")

// golden compares with a committed file, or rewrites it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is stale, run go test with -update (-committed +now):\n%s", path, diff)
	}
}

func TestReferenceIsCurrent(t *testing.T) {
	var services Services
	newBench(t, func(c *Config) { services = c.Services })
	golden(t, "../../docs/api.md", Reference(services))
}

func TestExtensions(t *testing.T) {
	b := newBench(t, nil)
	list := b.ok(200, "GET", "/v2.0/extensions", "")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(list.text), "", " "); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/extensions.json", append(pretty.Bytes(), '\n'))
	aliases := list.column("extensions", "alias")
	if !slices.IsSorted(aliases) || len(slices.Compact(slices.Clone(aliases))) != len(aliases) {
		t.Errorf("aliases are not sorted and distinct: %v", aliases)
	}
	for _, alias := range aliases {
		if got := b.ok(200, "GET", "/v2.0/extensions/"+alias+".json", "").field("extension", "alias"); got != alias {
			t.Errorf("show %s: %v", alias, got)
		}
	}
}
