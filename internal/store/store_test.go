package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// parent and child are the rows of the tests: children belong to a parent and hold an address on it.
type parent struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Shown  string `json:"-"`
	Number int    `json:"number"`
	Text   string `json:"text,omitempty"`
}

type child struct {
	ID     string   `json:"id"`
	Parent string   `json:"parent"`
	Addrs  []string `json:"addrs,omitempty"`
	Data   any      `json:"data,omitempty"`
}

func parents() *resource.Table[parent] {
	return resource.NewTable("parent", func(p *parent) string { return p.ID }).
		Index("name", func(p *parent) []string { return []string{p.Name} })
}

func children() *resource.Table[child] {
	return resource.NewTable("child", func(c *child) string { return c.ID }).
		Index("parent", func(c *child) []string { return []string{c.Parent} }).
		Unique("addr", func(c *child) []string {
			var v []string
			for _, a := range c.Addrs {
				v = append(v, c.Parent+"/"+a)
			}
			return v
		})
}

// kit is a store with its two tables.
type kit struct {
	*store.Store
	p *resource.Table[parent]
	c *resource.Table[child]
}

func newKit(t testing.TB) kit {
	t.Helper()
	p, c := parents(), children()
	return kit{storetest.New(t, p, c), p, c}
}

// must runs an Update that has to succeed.
func (k kit) must(t testing.TB, f func(tx store.Tx) error) int64 {
	t.Helper()
	rev, err := k.Update(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func childIDs(r store.Read, c *resource.Table[child], index, value string) string {
	var ids []string
	for row := range store.Find(r, c, index, value) {
		ids = append(ids, row.ID)
	}
	return strings.Join(ids, " ")
}

func TestReadYourWrites(t *testing.T) {
	k := newKit(t)
	rev := k.must(t, func(tx store.Tx) error {
		store.Put(tx, k.p, &parent{ID: "n1", Name: "net", Shown: "computed"})
		store.Put(tx, k.c, &child{ID: "b", Parent: "n1", Addrs: []string{"1", "2"}})
		store.Put(tx, k.c, &child{ID: "a", Parent: "n1"})
		if got := childIDs(tx, k.c, "parent", "n1"); got != "a b" {
			return fmt.Errorf("in the transaction: %q", got)
		}
		if n := store.Count(tx, k.c, "parent", "n1"); n != 2 {
			return fmt.Errorf("count in the transaction: %d", n)
		}
		return nil
	})
	r := k.Snapshot()
	if r.Revision() < rev {
		t.Errorf("snapshot at %d after commit %d", r.Revision(), rev)
	}
	p, ok := store.Get(r, k.p, "n1")
	if diff := cmp.Diff(&parent{ID: "n1", Name: "net"}, p); !ok || diff != "" {
		t.Errorf("stored row differs from its JSON:\n%s", diff)
	}
	if got := childIDs(r, k.c, "addr", "n1/2"); got != "b" {
		t.Errorf("by address: %q", got)
	}
	if n := store.Count(r, k.c, "", ""); n != 2 {
		t.Errorf("count of table: %d", n)
	}
	if n := store.Count(r, k.c, "parent", "other"); n != 0 {
		t.Errorf("count of nothing: %d", n)
	}
}

func TestOverlayInTx(t *testing.T) {
	k := newKit(t)
	k.must(t, func(tx store.Tx) error {
		for _, id := range []string{"a", "c", "e"} {
			store.Put(tx, k.c, &child{ID: id, Parent: "n"})
		}
		return nil
	})
	k.must(t, func(tx store.Tx) error {
		if !store.Delete(tx, k.c, "c") || store.Delete(tx, k.c, "c") || store.Delete(tx, k.c, "zz") {
			return errors.New("delete tells the wrong thing")
		}
		store.Put(tx, k.c, &child{ID: "b", Parent: "n"})
		store.Put(tx, k.c, &child{ID: "e", Parent: "elsewhere"})
		if got := childIDs(tx, k.c, "parent", "n"); got != "a b" {
			return fmt.Errorf("find: %q", got)
		}
		if n := store.Count(tx, k.c, "parent", "n"); n != 2 {
			return fmt.Errorf("count: %d", n)
		}
		if n := store.Count(tx, k.c, "", ""); n != 3 {
			return fmt.Errorf("count of table: %d", n)
		}
		var all []string
		for row := range store.All(tx, k.c) {
			all = append(all, row.ID)
			store.Delete(tx, k.c, row.ID) // while iterating
		}
		if got := strings.Join(all, " "); got != "a b e" {
			return fmt.Errorf("all: %q", got)
		}
		return nil
	})
	if n := store.Count(k.Snapshot(), k.c, "", ""); n != 0 {
		t.Errorf("%d rows left", n)
	}
}

func TestUnique(t *testing.T) {
	k := newKit(t)
	k.must(t, func(tx store.Tx) error {
		store.Put(tx, k.c, &child{ID: "a", Parent: "n", Addrs: []string{"1"}})
		store.Put(tx, k.c, &child{ID: "b", Parent: "n", Addrs: []string{"2"}})
		return nil
	})
	_, err := k.Update(t.Context(), func(tx store.Tx) error {
		store.Put(tx, k.c, &child{ID: "c", Parent: "n", Addrs: []string{"9", "1"}})
		return nil
	})
	var ue *store.UniqueError
	want := &store.UniqueError{Table: "child", Index: "addr", Value: "n/1", Key: "a"}
	if !errors.As(err, &ue) || *ue != *want {
		t.Errorf("got %v, want %v", err, want)
	}
	_, err = k.Update(t.Context(), func(tx store.Tx) error {
		store.Put(tx, k.c, &child{ID: "c", Parent: "n", Addrs: []string{"7"}})
		store.Put(tx, k.c, &child{ID: "d", Parent: "n", Addrs: []string{"7"}})
		return nil
	})
	if !errors.As(err, &ue) || ue.Value != "n/7" {
		t.Errorf("twice in one transaction: %v", err)
	}
	// Two rows swap their values, a third takes one that is given up.
	k.must(t, func(tx store.Tx) error {
		store.Put(tx, k.c, &child{ID: "a", Parent: "n", Addrs: []string{"2"}})
		store.Put(tx, k.c, &child{ID: "b", Parent: "n", Addrs: []string{"1"}})
		return nil
	})
	k.must(t, func(tx store.Tx) error {
		store.Put(tx, k.c, &child{ID: "c", Parent: "n", Addrs: []string{"1"}})
		store.Delete(tx, k.c, "b")
		return nil
	})
	for addr, id := range map[string]string{"1": "c", "2": "a"} {
		if got := childIDs(k.Snapshot(), k.c, "addr", "n/"+addr); got != id {
			t.Errorf("address %s is held by %q, want %q", addr, got, id)
		}
	}
}

// A picker of free values never sees UniqueError, however many pick at once.
func TestPickFree(t *testing.T) {
	k := newKit(t)
	const n = 100
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() {
			_, err := k.Update(t.Context(), func(tx store.Tx) error {
				for a := 0; ; a++ {
					addr := fmt.Sprint(a)
					if childIDs(tx, k.c, "addr", "n/"+addr) == "" {
						store.Put(tx, k.c, &child{ID: fmt.Sprintf("c%03d", i), Parent: "n", Addrs: []string{addr}})
						return nil
					}
				}
			})
			errs <- err
		})
	}
	wg.Wait()
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for a := range n {
		if got := childIDs(k.Snapshot(), k.c, "addr", fmt.Sprintf("n/%d", a)); got == "" {
			t.Errorf("address %d went to nobody", a)
		}
	}
}

// Rows created side by side under one parent do not conflict with each other.
func TestCreatesDoNotConflict(t *testing.T) {
	k := newKit(t)
	k.must(t, func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: "n"}); return nil })
	for _, guarded := range []bool{false, true} {
		if guarded { // now the set of children has been read in a transaction and has a guard
			k.must(t, func(tx store.Tx) error {
				childIDs(tx, k.c, "parent", "n")
				store.Put(tx, k.p, &parent{ID: "other"})
				return nil
			})
		}
		before := k.Stats()
		var wg sync.WaitGroup
		for w := range 32 {
			wg.Go(func() {
				for i := range 10 {
					_, err := k.Update(t.Context(), func(tx store.Tx) error {
						if _, ok := store.Get(tx, k.p, "n"); !ok {
							return errors.New("parent is gone")
						}
						id := fmt.Sprintf("c-%v-%d-%d", guarded, w, i)
						store.Put(tx, k.c, &child{ID: id, Parent: "n", Addrs: []string{id}})
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		after := k.Stats()
		if n := after.Conflicts - before.Conflicts; n != 0 {
			t.Errorf("guarded %v: %d conflicts", guarded, n)
		}
	}
	if n := store.Count(k.Snapshot(), k.c, "parent", "n"); n != 640 {
		t.Errorf("%d children, want 640", n)
	}
}

// A parent is deleted only when it has no children, and children are created only under a parent that exists: whatever the
// interleaving, no orphan is left.
func TestNoPhantom(t *testing.T) {
	k := newKit(t)
	for round := range 30 {
		id := fmt.Sprintf("n%d", round)
		k.must(t, func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: id}); return nil })
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				_, err := k.Update(t.Context(), func(tx store.Tx) error {
					if _, ok := store.Get(tx, k.p, id); !ok {
						return errGone
					}
					store.Put(tx, k.c, &child{ID: fmt.Sprintf("%s-%d", id, w), Parent: id})
					return nil
				})
				if err != nil && !errors.Is(err, errGone) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			_, err := k.Update(t.Context(), func(tx store.Tx) error {
				for range store.Find(tx, k.c, "parent", id) {
					return errBusy
				}
				store.Delete(tx, k.p, id)
				return nil
			})
			if err != nil && !errors.Is(err, errBusy) {
				t.Error(err)
			}
		})
		wg.Wait()
		r := k.Snapshot()
		_, alive := store.Get(r, k.p, id)
		if n := store.Count(r, k.c, "parent", id); alive != (n > 0) {
			t.Fatalf("round %d: parent alive %v with %d children", round, alive, n)
		}
	}
}

var (
	errGone = errors.New("parent is gone")
	errBusy = errors.New("parent has children")
)

func TestUpdateErrors(t *testing.T) {
	k := newKit(t)
	boom := errors.New("boom")
	cases := []struct {
		name string
		f    func(tx store.Tx) error
		want string
	}{
		{"own error", func(store.Tx) error { return boom }, "boom"},
		{"empty key", func(tx store.Tx) error { store.Put(tx, k.p, &parent{}); return nil }, "key is empty"},
		{"nil row", func(tx store.Tx) error { store.Put(tx, k.p, nil); return nil }, "row is nil"},
		{"key not UTF-8", func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: "\xff"}); return nil }, "not UTF-8"},
		{"key too long", func(tx store.Tx) error {
			store.Put(tx, k.p, &parent{ID: strings.Repeat("x", 4000)})
			return nil
		}, "longer than"},
		{"value too long", func(tx store.Tx) error {
			store.Put(tx, k.p, &parent{ID: "x", Name: strings.Repeat("x", 4000)})
			return nil
		}, "longer than"},
		{"not JSON", func(tx store.Tx) error {
			store.Put(tx, k.c, &child{ID: "x", Data: func() {}})
			return nil
		}, "encode row /baryon/child/x"},
		{"too large", func(tx store.Tx) error {
			store.Put(tx, k.c, &child{ID: "x", Data: strings.Repeat("x", 11<<20)})
			return nil
		}, "--max-request-bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := k.Update(t.Context(), c.f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if n := store.Count(k.Snapshot(), k.p, "", ""); n != 0 {
		t.Errorf("failed updates left %d rows", n)
	}
}

func TestReadOnlyUpdateCommitsNothing(t *testing.T) {
	k := newKit(t)
	before := k.Stats()
	rev, err := k.Update(t.Context(), func(tx store.Tx) error {
		store.Get(tx, k.p, "x")
		childIDs(tx, k.c, "parent", "x")
		return nil
	})
	if after := k.Stats(); err != nil || rev != before.Revision || after.Revision != before.Revision || after.Commits != before.Commits {
		t.Errorf("rev %d, err %v: %+v, before %+v", rev, err, after, before)
	}
}

func TestContextEnds(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancel(t.Context())
	runs := 0
	_, err := k.Update(ctx, func(tx store.Tx) error { // conflicts with itself for ever
		store.Get(tx, k.p, "x")
		k.must(t, func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: "x", Number: runs}); return nil })
		store.Put(tx, k.p, &parent{ID: "y"})
		if runs++; runs == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if runs != 3 {
		t.Errorf("ran %d times", runs)
	}
}

func TestClose(t *testing.T) {
	p := parents()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Tables: []store.AnyTable{p}})
	if err != nil {
		t.Fatal(err)
	}
	_, ch := s.Watch(t.Context())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, open := <-ch; open {
		t.Error("watch got a batch after Close")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Update(t.Context(), func(tx store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if err := s.View(t.Context(), func(store.Read) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View: %v", err)
	}
}

// What is read from Base is no condition: the transaction commits although another writer changed it.
func TestBaseIsUnguarded(t *testing.T) {
	k := newKit(t)
	runs := 0
	k.must(t, func(tx store.Tx) error {
		runs++
		base := store.Base(tx)
		store.Get(base, k.p, "x")
		childIDs(base, k.c, "parent", "n")
		k.must(t, func(tx store.Tx) error {
			store.Put(tx, k.p, &parent{ID: "x"})
			store.Put(tx, k.c, &child{ID: "c", Parent: "n"})
			return nil
		})
		store.Put(tx, k.p, &parent{ID: "y"})
		if _, ok := store.Get(base, k.p, "y"); ok {
			return errors.New("base shows the transaction's own write")
		}
		return nil
	})
	if runs != 1 {
		t.Errorf("ran %d times", runs)
	}
}

// A limit decided on Count holds under concurrency when the set is guarded.
func TestGuardedCount(t *testing.T) {
	k := newKit(t)
	const limit = 7
	var wg sync.WaitGroup
	for i := range 4 * limit {
		wg.Go(func() {
			_, err := k.Update(t.Context(), func(tx store.Tx) error {
				store.Guard(tx, k.c, "parent", "n")
				if store.Count(tx, k.c, "parent", "n") >= limit {
					return errBusy
				}
				store.Put(tx, k.c, &child{ID: fmt.Sprint(i), Parent: "n"})
				return nil
			})
			if err != nil && !errors.Is(err, errBusy) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := store.Count(k.Snapshot(), k.c, "parent", "n"); n != limit {
		t.Errorf("%d rows, want %d", n, limit)
	}
}

// Writing while iterating does not change what is iterated over, and breaking off is possible anywhere.
func TestIterateAndWrite(t *testing.T) {
	k := newKit(t)
	k.must(t, func(tx store.Tx) error {
		for _, id := range []string{"b", "d", "f"} {
			store.Put(tx, k.c, &child{ID: id, Parent: "n"})
		}
		return nil
	})
	k.must(t, func(tx store.Tx) error {
		store.Put(tx, k.c, &child{ID: "a", Parent: "n"})
		store.Put(tx, k.c, &child{ID: "e", Parent: "n"})
		store.Put(tx, k.c, &child{ID: "g", Parent: "n"})
		var got []string
		for c := range store.Find(tx, k.c, "parent", "n") {
			got = append(got, c.ID)
			store.Delete(tx, k.c, "d")
			store.Delete(tx, k.c, "g")
			store.Put(tx, k.c, &child{ID: "c", Parent: "n"})
		}
		if s := strings.Join(got, " "); s != "a b d e f g" {
			return fmt.Errorf("iterated over %q", s)
		}
		if s := childIDs(tx, k.c, "parent", "n"); s != "a b c e f" {
			return fmt.Errorf("afterwards %q", s)
		}
		for stop := range 5 {
			n := 0
			for range store.Find(tx, k.c, "parent", "n") {
				if n == stop {
					break
				}
				n++
			}
			if n != stop {
				return fmt.Errorf("broke off at %d of %d", n, stop)
			}
		}
		return nil
	})
}

// Updates under way when the store closes end, one way or the other.
func TestCloseUnderLoad(t *testing.T) {
	p := parents()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Tables: []store.AnyTable{p}, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	started := make(chan struct{}, 1)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := s.Update(t.Context(), func(tx store.Tx) error {
					store.Put(tx, p, &parent{ID: fmt.Sprintf("%d-%d", w, i)})
					return nil
				})
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("ended with %v", err)
					}
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestSchemaMistakes(t *testing.T) {
	none := func(p *parent) []string { return nil }
	key := func(p *parent) string { return p.ID }
	for want, tables := range map[string][]store.AnyTable{
		"listed twice":         {parents(), parents()},
		"name is empty":        {resource.NewTable("", key)},
		"want a-z":             {resource.NewTable("a/b", key)},
		"two indexes named":    {resource.NewTable("a", key).Index("i", none).Unique("i", none)},
		"index \"I\" of table": {resource.NewTable("a", key).Index("I", none)},
	} {
		_, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Tables: tables})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := store.Open(t.Context(), store.Options{}); err == nil {
		t.Error("opened without directory and endpoints")
	}
}
