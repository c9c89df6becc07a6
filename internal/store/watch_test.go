package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/store"
)

// state flattens a snapshot's rows.
func (k kit) state(r store.Read) map[string]any {
	m := map[string]any{}
	for p := range store.All(r, k.p) {
		m["parent/"+p.ID] = p
	}
	for c := range store.All(r, k.c) {
		m["child/"+c.ID] = c
	}
	return m
}

// replay applies a batch to a flat state and checks that each change starts from what is there.
func replay(m map[string]any, b store.Batch) error {
	var errs []error
	for _, c := range b.Changes {
		k := c.Table + "/" + c.Key
		if m[k] != c.Old {
			errs = append(errs, fmt.Errorf("revision %d: %s changes from %v, but is %v", b.Revision, k, c.Old, m[k]))
		}
		if c.New == nil {
			delete(m, k)
		} else {
			m[k] = c.New
		}
	}
	return errors.Join(errs...)
}

func TestWatchReplays(t *testing.T) {
	k := newKit(t)
	k.must(t, func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: "before"}); return nil })
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				k.must(t, func(tx store.Tx) error {
					id := fmt.Sprintf("%d-%d", w, i%7)
					if i%3 == 2 {
						store.Delete(tx, k.p, id)
					} else {
						store.Put(tx, k.p, &parent{ID: id, Number: i})
						store.Put(tx, k.c, &child{ID: id, Parent: id})
					}
					return nil
				})
			}
		})
	}
	snap, ch := k.Watch(t.Context()) // while writers are at it
	m := k.state(snap)
	wg.Wait()
	last := k.must(t, func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: "end"}); return nil })
	rev := snap.Revision()
	for b := range ch {
		if b.Revision <= rev || b.Revision != b.After.Revision() || len(b.Changes) == 0 {
			t.Errorf("batch of %d changes at %d (snapshot %d) after %d", len(b.Changes), b.Revision, b.After.Revision(), rev)
		}
		rev = b.Revision
		if err := replay(m, b); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(k.state(b.After), m); diff != "" {
			t.Fatalf("state at %d differs from the replayed one:\n%s", rev, diff)
		}
		if rev == last {
			break
		}
	}
}

// A consumer that does not read holds nobody up, and gets one difference instead of all that happened.
func TestSlowWatcher(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancel(t.Context())
	snap, ch := k.Watch(ctx)
	m := k.state(snap)
	var last int64
	const rounds, rows = 30, 1000
	for i := range rounds {
		last = k.must(t, func(tx store.Tx) error {
			for j := range rows {
				store.Put(tx, k.p, &parent{ID: fmt.Sprint(j), Number: i})
			}
			store.Delete(tx, k.p, fmt.Sprint(i))
			return nil
		})
	}
	changes := 0
	for b := range ch {
		if err := replay(m, b); err != nil {
			t.Error(err)
		}
		changes += len(b.Changes)
		if b.Revision == last {
			break
		}
	}
	if diff := cmp.Diff(k.state(k.Snapshot()), m); diff != "" {
		t.Errorf("after all batches:\n%s", diff)
	}
	if changes > rounds*rows/2 {
		t.Errorf("%d changes delivered to a consumer that slept through %d", changes, rounds*rows)
	}
	cancel()
	for range ch { // ends
		continue
	}
}

func TestWatchersAreIndependent(t *testing.T) {
	k := newKit(t)
	var chans []<-chan store.Batch
	for range 3 {
		_, ch := k.Watch(t.Context())
		chans = append(chans, ch)
	}
	rev := k.must(t, func(tx store.Tx) error { store.Put(tx, k.p, &parent{ID: "x"}); return nil })
	for i, ch := range slices.Backward(chans) {
		if b := <-ch; b.Revision != rev {
			t.Errorf("watcher %d got revision %d, want %d", i, b.Revision, rev)
		}
	}
	_, late := k.Watch(t.Context())
	rev = k.must(t, func(tx store.Tx) error { store.Delete(tx, k.p, "x"); return nil })
	b := <-late
	got := maps.Collect(func(yield func(string, bool) bool) {
		for _, c := range b.Changes {
			yield(c.Key, c.New == nil)
		}
	})
	if b.Revision != rev || !cmp.Equal(got, map[string]bool{"x": true}) {
		t.Errorf("late watcher got %v at %d, want the deletion at %d only", got, b.Revision, rev)
	}
}
