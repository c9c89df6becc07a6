package netfilter

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/testkit"
)

func drawRules(t *rapid.T, label string) Rules {
	var out Rules
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 12), 0, 12, rapid.ID[int]).Draw(t, label) {
		out = append(out, Rule{Text: fmt.Sprintf("-p tcp -m tcp --dport %d -j RETURN", n)})
	}
	return out
}

// little takes one rule out and puts another in.
func little(t *rapid.T, old Rules) Rules {
	i := rapid.IntRange(0, len(old)-1).Draw(t, "out")
	r := slices.Delete(slices.Clone(old), i, i+1)
	return slices.Insert(r, rapid.IntRange(0, len(r)).Draw(t, "in"), Rule{Text: fmt.Sprintf("-p udp -m udp --dport %d -j RETURN", rapid.IntRange(1, 1<<16-1).Draw(t, "port"))})
}

// TestEdit carries out edits as iptables does, line by line.
func TestEdit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawRules(t, "have"), drawRules(t, "want")
		e, ok := editOf(have, want)
		if !ok {
			t.Fatal("no edit although no rule is there twice")
		}
		now := slices.Clone(have)
		for _, r := range e.remove {
			i := slices.Index(now, r)
			if i < 0 {
				t.Fatalf("removes %q, which is not there", r.Text)
			}
			now = slices.Delete(now, i, i+1)
		}
		for _, p := range e.insert {
			if p.at > len(now)+1 {
				t.Fatalf("inserts at %d of %d", p.at, len(now))
			}
			now = slices.Insert(now, p.at-1, p.rule)
		}
		if !now.Equal(want) {
			t.Fatalf("%v became %v instead of %v", have, now, want)
		}
		if have.Equal(want) && e.lines() > 0 {
			t.Fatalf("nothing differs, but it edits %v", e)
		}
	})
}

func TestNoEditWithDoubles(t *testing.T) {
	a, b := Rule{Text: "-j a"}, Rule{Text: "-j b"}
	for _, c := range []struct{ have, want Rules }{{Rules{a, b, a}, Rules{a, b}}, {Rules{a, b}, Rules{a, b, a}}} {
		if e, ok := editOf(c.have, c.want); ok {
			t.Errorf("%v to %v: %v", c.have, c.want, e)
		}
	}
}

// TestFailedEditIsWrittenWhole: what was thought to be in a chain is not; the next Apply writes the chain anew.
func TestFailedEditIsWrittenWhole(t *testing.T) {
	k := &kernel{saved: map[Family]string{}}
	d := newTest(k)
	c := Chain{IPv4, "filter", "our-a"}
	long := Rules{{Text: "-p 1 -j RETURN"}, {Text: "-p 2 -j RETURN"}, {Text: "-p 3 -j RETURN"}, {Text: "-p 4 -j RETURN"}}
	must := func() {
		t.Helper()
		if _, err := d.Apply(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	d.Set(c, long)
	must()
	k.saved[IPv4] = "*filter\n:our-a - [0:0]\n-A our-a -p 2 -j RETURN\n-A our-a -p 3 -j RETURN\n-A our-a -p 4 -j RETURN\nCOMMIT\n"
	k.refuse = "-D "
	d.Set(c, long[1:])
	if _, err := d.Apply(context.Background()); err == nil {
		t.Fatal("a failed edit is no error")
	}
	must() // it is as wanted already
	d.Set(c, long[2:])
	if _, err := d.Apply(context.Background()); err == nil {
		t.Fatal("a failed edit is no error")
	}
	must()
	if last := k.scripts[len(k.scripts)-1]; !strings.Contains(last, ":our-a - [0:0]\n") || strings.Contains(last, "-D ") {
		t.Errorf("after a failed edit this was written:\n%s", last)
	}
}

// TestKernelEdits changes chains of the real iptables at random and reads back what became of them.
func TestKernelEdits(t *testing.T) {
	if os.Getenv("BARYON_INSIDE") == "" {
		testkit.NeedRoot(t)
		testkit.NeedTool(t, "iptables-restore", "ip6tables-restore", "unshare")
		cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-rapid.checks=30", "-rapid.nofailfile")
		cmd.Env = append(os.Environ(), "BARYON_INSIDE=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("in a namespace of its own: %v\n%s", err, out)
		}
		return
	}
	rapid.Check(t, func(t *rapid.T) {
		d := NewTables(ours)
		d.Release()
		ctx := context.Background()
		want := map[Chain]Rules{}
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			for _, f := range Families() {
				for _, name := range []string{"our-a", "our-b"} {
					c := Chain{f, "filter", name}
					r := drawRules(t, "rules")
					if old := want[c]; len(old) > 0 && rapid.Bool().Draw(t, "little") {
						r = little(t, old)
					}
					if name == "our-a" && !slices.ContainsFunc(r, func(x Rule) bool { return x.Text == "-j our-b" }) {
						r = append(r, Rule{Text: `-m state --state INVALID -m comment --comment "Not one of ours." -j DROP`}, Rule{Text: "-j our-b"})
					}
					want[c] = r
					d.Set(c, r)
				}
			}
			if _, err := d.Apply(ctx); err != nil {
				t.Fatal(err)
			}
			for _, f := range Families() {
				text, err := exec.Command(f.program("save")).Output()
				if err != nil {
					t.Fatal(err)
				}
				have, err := Parse(f, text, ours)
				if err != nil {
					t.Fatal(err)
				}
				for c, r := range have {
					if !r.Equal(want[c]) {
						t.Fatalf("%s: %s", c, cmp.Diff(want[c], r))
					}
				}
			}
		}
	})
}
