package pipeline

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/openflow"
)

var update = flag.Bool("update", false, "rewrite docs/pipeline.md")

func TestDocIsFresh(t *testing.T) {
	path := filepath.Join("..", "..", DocPath)
	if *update {
		if err := os.WriteFile(path, []byte(Doc()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Doc(), string(have)); d != "" {
		t.Errorf("%s is stale; run go test ./internal/pipeline -update: %s", DocPath, d)
	}
}

func TestDeclarations(t *testing.T) {
	codes := map[uint8]*Rule{}
	tables := map[*Table]bool{}
	ids := map[string]map[uint8]bool{}
	for _, tab := range Tables() {
		if ids[tab.Bridge] == nil {
			ids[tab.Bridge] = map[uint8]bool{}
		}
		if tables[tab] || ids[tab.Bridge][tab.ID] || tab.Name == "" || tab.Question == "" {
			t.Errorf("table %+v is listed twice or says nothing", tab)
		}
		tables[tab], ids[tab.Bridge][tab.ID] = true, true
	}
	for _, r := range Rules() {
		if codes[r.Code] != nil || r.Code == 0 {
			t.Errorf("code %#x stands for %q and %q", r.Code, r.Why, codes[r.Code].Why)
		}
		codes[r.Code] = r
		if !tables[r.Table] {
			t.Errorf("rule %#x stands in an undeclared table", r.Code)
		}
		if r.Why == "" || r.Actions == "" {
			t.Errorf("rule %#x gives no reason or no actions", r.Code)
		}
	}
}

func TestCookie(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner := rapid.String().Draw(t, "owner")
		r := rapid.SampledFrom(Rules()).Draw(t, "rule")
		f := r.Flow(owner, openflow.Match{})
		if f.Cookie == ^uint64(0) || !Ours(f.Cookie) || OwnerOf(f.Cookie) != OwnerHash(owner) {
			t.Fatalf("cookie %#x", f.Cookie)
		}
		if got, ok := RuleOf(f.Cookie); !ok || got != r {
			t.Fatalf("cookie %#x leads to %v", f.Cookie, got)
		}
		if Learned(f.Cookie) != (r == LearnedUnicast) {
			t.Fatalf("Learned is wrong for %#x", f.Cookie)
		}
	})
	for _, c := range []uint64{0, 1, ^uint64(0), 0x10fcedddf4db50cf} {
		if _, ok := RuleOf(c); ok || Ours(c) || Learned(c) {
			t.Errorf("%#x counts as ours", c)
		}
	}
}
