package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// op is one randomly made transaction on a handful of rows, so that they get in each other's way.
type op struct {
	Kind   string // create, move, delete, empty, pick, swap
	ID     int
	Parent int
	Addr   int
}

// result is what an op saw and did.
type result struct {
	op    op
	rev   int64  // position in the order: of the commit, or of the state that was read
	wrote bool   // committed something
	saw   string // everything that it read
	err   string
}

// db is what an op works on: a transaction of the store, or the model.
type db interface {
	get(id string) (child, bool)
	find(index, value string) []child
	put(c child)
	del(id string)
}

var errNo = errors.New("no")

// run executes an op and tells what it read.  It is the same code on the store and on the model.
func (o op) run(d db) (saw string, wrote bool, err error) {
	id, par, addr := fmt.Sprintf("c%d", o.ID), fmt.Sprintf("p%d", o.Parent), fmt.Sprint(o.Addr)
	var log strings.Builder
	put := func(c child) { d.put(c); wrote = true }
	del := func(id string) { d.del(id); wrote = true }
	switch o.Kind {
	case "create": // only if absent
		_, ok := d.get(id)
		fmt.Fprintf(&log, "%v;", ok)
		if ok {
			return log.String(), wrote, errNo
		}
		put(child{ID: id, Parent: par, Addrs: []string{addr}})
	case "move":
		c, ok := d.get(id)
		fmt.Fprintf(&log, "%v %v;", ok, c)
		if !ok {
			return log.String(), wrote, errNo
		}
		put(child{ID: id, Parent: par, Addrs: c.Addrs})
	case "delete":
		c, ok := d.get(id)
		fmt.Fprintf(&log, "%v %v;", ok, c)
		if ok {
			del(id)
		}
	case "empty": // all children of a parent go, and a mark says how many there were
		n := 0
		for _, c := range d.find("parent", par) {
			fmt.Fprintf(&log, "%v;", c)
			del(c.ID)
			n++
		}
		put(child{ID: "mark" + par, Parent: "marks", Addrs: []string{par}, Data: float64(n)})
	case "pick": // the first free address
		for a := 0; ; a++ {
			holders := d.find("addr", fmt.Sprintf("%s/%d", par, a))
			fmt.Fprintf(&log, "%v;", holders)
			if len(holders) == 0 {
				put(child{ID: fmt.Sprintf("%s-%d", par, a), Parent: par, Addrs: []string{fmt.Sprint(a)}})
				break
			}
		}
	case "swap": // exchange the addresses of two rows
		a, aok := d.get(id)
		b, bok := d.get(fmt.Sprintf("c%d", o.Addr))
		fmt.Fprintf(&log, "%v %v %v %v;", aok, a, bok, b)
		if !aok || !bok || a.ID == b.ID {
			return log.String(), wrote, errNo
		}
		put(child{ID: a.ID, Parent: b.Parent, Addrs: b.Addrs})
		put(child{ID: b.ID, Parent: a.Parent, Addrs: a.Addrs})
	}
	return log.String(), wrote, nil
}

// storeDB runs an op in a transaction.
type storeDB struct {
	tx store.Tx
	k  kit
}

func (d storeDB) get(id string) (child, bool) {
	if c, ok := store.Get(d.tx, d.k.c, id); ok {
		return *c, true
	}
	return child{}, false
}

func (d storeDB) find(index, value string) []child {
	var out []child
	for c := range store.Find(d.tx, d.k.c, index, value) {
		out = append(out, *c)
	}
	return out
}

func (d storeDB) put(c child)   { store.Put(d.tx, d.k.c, &c) }
func (d storeDB) del(id string) { store.Delete(d.tx, d.k.c, id) }

// modelDB runs an op on plain maps, one at a time.
type modelDB map[string]child

func (m modelDB) get(id string) (child, bool) { c, ok := m[id]; return c, ok }

func (m modelDB) find(index, value string) []child {
	var out []child
	for _, c := range m {
		for _, a := range c.Addrs {
			if index == "addr" && c.Parent+"/"+a == value {
				out = append(out, c)
			}
		}
		if index == "parent" && c.Parent == value {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b child) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (m modelDB) put(c child)   { m[c.ID] = c }
func (m modelDB) del(id string) { delete(m, id) }

// taken tells whether two rows of the model hold one address.
func (m modelDB) taken() bool {
	held := map[string]bool{}
	for _, c := range m {
		for _, a := range c.Addrs {
			k := c.Parent + "/" + a
			if held[k] {
				return true
			}
			held[k] = true
		}
	}
	return false
}

func drawOps(rt *rapid.T) []op {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) op {
		return op{
			Kind:   rapid.SampledFrom([]string{"create", "move", "delete", "empty", "pick", "swap"}).Draw(rt, "kind"),
			ID:     rapid.IntRange(0, 5).Draw(rt, "id"),
			Parent: rapid.IntRange(0, 2).Draw(rt, "parent"),
			Addr:   rapid.IntRange(0, 3).Draw(rt, "addr"),
		}
	}), 1, 40).Draw(rt, "ops")
}

// runAll executes the ops with one goroutine per store and lane.
func runAll(rt *rapid.T, kits []kit, ops []op) []result {
	const lanes = 4
	results := make([]result, len(ops))
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < len(ops); i += lanes {
				k := kits[i%len(kits)]
				r := &results[i]
				r.op = ops[i]
				rev, err := k.Update(rt.Context(), func(tx store.Tx) error {
					var err error
					r.saw, r.wrote, err = ops[i].run(storeDB{tx, k})
					r.rev = tx.Revision()
					return err
				})
				var ue *store.UniqueError
				switch {
				case errors.As(err, &ue):
					r.err, r.wrote = "taken", false
				case err != nil:
					r.err, r.wrote = err.Error(), false
				default:
					r.rev = rev
				}
			}
		})
	}
	wg.Wait()
	return results
}

// checkSerial replays the results in the order of their revisions: each must have seen and done exactly what it would have, alone.
func checkSerial(rt *rapid.T, model modelDB, results []result) {
	// A reader of revision r comes after the writer of r.
	sort.SliceStable(results, func(i, j int) bool {
		a, b := results[i], results[j]
		if a.rev != b.rev {
			return a.rev < b.rev
		}
		return a.wrote && !b.wrote
	})
	for i, r := range results {
		if i > 0 && r.wrote && results[i-1].wrote && r.rev == results[i-1].rev {
			rt.Fatalf("two commits at revision %d", r.rev)
		}
		next := modelDB{}
		for k, v := range model {
			next[k] = v
		}
		saw, wrote, err := r.op.run(next)
		want := ""
		switch {
		case err != nil:
			want = err.Error()
		case next.taken():
			want = "taken"
		}
		if want != "" {
			wrote = false
		}
		if saw != r.saw || want != r.err || wrote != r.wrote {
			rt.Fatalf("%+v at %d\n saw  %q err %q wrote %v\n want %q err %q wrote %v", r.op, r.rev, r.saw, r.err, r.wrote, saw, want, wrote)
		}
		if wrote {
			clear(model)
			for k, v := range next {
				model[k] = v
			}
		}
	}
}

func checkState(rt *rapid.T, k kit, model modelDB) {
	err := k.View(rt.Context(), func(r store.Read) error {
		got := map[string]string{}
		for c := range store.All(r, k.c) {
			got[c.ID] = fmt.Sprint(*c)
			for _, a := range c.Addrs {
				if h := childIDs(r, k.c, "addr", c.Parent+"/"+a); h != c.ID {
					rt.Errorf("address %s/%s of %s is indexed to %q", c.Parent, a, c.ID, h)
				}
			}
			if n, want := store.Count(r, k.c, "parent", c.Parent), len(model.find("parent", c.Parent)); n != want {
				rt.Errorf("parent %s counts %d, want %d", c.Parent, n, want)
			}
		}
		if len(got) != len(model) {
			rt.Errorf("%d rows, want %d", len(got), len(model))
		}
		for id, c := range model {
			if got[id] != fmt.Sprint(c) {
				rt.Errorf("row %s is %s, want %v", id, got[id], c)
			}
		}
		return nil
	})
	if err != nil {
		rt.Error(err)
	}
}

// wipe empties the store between two runs of a property.
func wipe(rt *rapid.T, k kit) {
	_, err := k.Update(rt.Context(), func(tx store.Tx) error {
		for c := range store.All(tx, k.c) {
			store.Delete(tx, k.c, c.ID)
		}
		return nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}

func serializable(t *testing.T, kits ...kit) {
	rapid.Check(t, func(rt *rapid.T) {
		ops := drawOps(rt)
		wipe(rt, kits[0])
		for _, k := range kits { // all start from the same state
			if err := k.View(rt.Context(), func(store.Read) error { return nil }); err != nil {
				rt.Fatal(err)
			}
		}
		snap, ch := kits[0].Watch(rt.Context())
		seen := kits[0].state(snap)
		model := modelDB{}
		checkSerial(rt, model, runAll(rt, kits, ops))
		for _, k := range kits {
			checkState(rt, k, model)
		}
		end, err := kits[0].Update(rt.Context(), func(tx store.Tx) error {
			store.Put(tx, kits[0].p, &parent{ID: "end"})
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		for b := range ch {
			if err := replay(seen, b); err != nil {
				rt.Error(err)
			}
			if b.Revision == end {
				break
			}
		}
		if diff := cmp.Diff(kits[0].state(kits[0].Snapshot()), seen); diff != "" {
			rt.Errorf("the watch leads elsewhere than the snapshot:\n%s", diff)
		}
	})
}

// Concurrent transactions equal some serial order of them, the order of their revisions.
func TestSerializable(t *testing.T) {
	serializable(t, newKit(t))
}

// The same with two servers on one etcd.
func TestSerializableTwoStores(t *testing.T) {
	ep := storetest.Etcd(t)
	p, c := parents(), children()
	serializable(t, kit{storetest.Join(t, ep, p, c), p, c}, kit{storetest.Join(t, ep, p, c), p, c})
}
