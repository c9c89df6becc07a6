package hybrid

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/nodestate"
)

// TestIncrementsMakeTheWhole: records of several ports and groups come, change and go, ports are plugged and unplugged, and now and then
// it is asked what is wanted; in the end it is what an engine wants that is told the last state at once.
func TestIncrementsMakeTheWhole(t *testing.T) {
	ids := []string{portA, portB, modelPort}
	rapid.Check(t, func(t *rapid.T) {
		e, w := NewEngine(), newWorld()
		records, plugged := map[nodestate.Key]nodestate.Record{}, map[string]bool{}
		put := func(r nodestate.Record) {
			e.Record(r)
			records[r.Key()] = r
		}
		n := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0:
				p := drawPort(t, rapid.SampledFrom(ids).Draw(t, "port"))
				p.PortSecurity = rapid.IntRange(0, 4).Draw(t, "security") > 0
				put(p)
			case 1, 2:
				g := &nodestate.Group{ID: rapid.SampledFrom([]string{"g-1", "g-2"}).Draw(t, "group"), Stateless: rapid.IntRange(0, 3).Draw(t, "stateless") == 0}
				for range rapid.IntRange(0, 4).Draw(t, "rules") {
					n++
					g.Rules = append(g.Rules, drawRule(t, n))
				}
				put(g)
			case 3:
				put(&nodestate.Members{ID: rapid.SampledFrom([]string{"m-1", "m-2"}).Draw(t, "members"), Prefixes: nil})
			case 4:
				id := rapid.SampledFrom(ids).Draw(t, "device")
				plugged[id] = !plugged[id]
				e.Plugged(id, plugged[id])
			case 5:
				keys := slices.SortedFunc(maps.Keys(records), func(a, b nodestate.Key) int { return cmp.Compare(a.String(), b.String()) })
				if len(keys) > 0 {
					k := rapid.SampledFrom(keys).Draw(t, "forgotten")
					e.Forget(k)
					delete(records, k)
				}
			case 6:
				w.take(e.Flush())
			}
		}
		w.take(e.Flush())
		e.Finish()
		w.take(e.Flush())
		e2, w2 := NewEngine(), newWorld()
		for _, r := range records {
			e2.Record(r)
		}
		for id, yes := range plugged {
			e2.Plugged(id, yes)
		}
		w2.take(e2.Flush())
		text := func(w *world) []string {
			var out []string
			for c, rules := range w.chains {
				// Which number a zone has depends on who came first.
				out = append(out, zoneNumber.ReplaceAllString(fmt.Sprint(c, rules), "--zone N"))
			}
			for s, members := range w.sets {
				out = append(out, fmt.Sprint(s, members))
			}
			slices.Sort(out)
			return out
		}
		if diff := gocmp.Diff(text(w2), text(w)); diff != "" {
			t.Fatalf("whole (-) and increments (+): %s", diff)
		}
	})
}

var zoneNumber = regexp.MustCompile(`--zone [0-9]+`)
