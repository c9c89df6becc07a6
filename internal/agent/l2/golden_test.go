package l2

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testNode() Node {
	return Node{Host: "n1", TunnelIP: netip.MustParseAddr("192.168.20.11"), TunnelTypes: []string{"vxlan", "gre"}}
}

// Each file of testdata: a comment that says what is proved, a state, and what is wanted.  The state runs as written, reversed and
// shuffled, at once and line by line; the outcome must be the same.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, want, _ := strings.Cut(string(text), "-- br-int --\n")
	comment, state, ok := strings.Cut(head, "-- state --\n")
	if !ok || !strings.HasPrefix(comment, "#") {
		t.Fatalf("%s has no comment or no state", file)
	}
	lines := parseScript(state)
	got := dump(runScript(t, lines, false))
	if *update {
		if err := os.WriteFile(file, []byte(head+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff("-- br-int --\n"+want, got); d != "" {
		t.Errorf("as written: %s", d)
	}
	reversed := slices.Clone(lines)
	slices.Reverse(reversed)
	orders := []script{reversed}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		s := slices.Clone(lines)
		rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		orders = append(orders, s)
	}
	for _, s := range append(orders, lines) {
		for _, stepwise := range []bool{false, true} {
			if d := cmp.Diff(got, dump(runScript(t, s, stepwise))); d != "" {
				t.Fatalf("in another order (stepwise %v): %s\n%s", stepwise, d, strings.Join(s, "\n"))
			}
		}
	}
}

func runScript(t *testing.T, lines script, stepwise bool) Wanted {
	t.Helper()
	e, w := New(testNode()), NewWanted()
	for _, l := range lines {
		do(t, e, l)
		if stepwise {
			w.Apply(e.Flush())
		}
	}
	w.Apply(e.Flush())
	return w
}
