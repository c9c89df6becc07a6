package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// link is a TCP relay between a store and its etcd that can be cut and can swallow what etcd answers.
type link struct {
	target string
	l      net.Listener

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	mute  bool // answers are swallowed
	cut   bool // connections are refused
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{target: target, l: l, conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { k.relay(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		k.set(false, true)
		wg.Wait()
	})
	return k
}

func (k *link) addr() string { return k.l.Addr().String() }

// set changes what the link does and closes the connections it has if it is cut.
func (k *link) set(mute, cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mute, k.cut = mute, cut
	if cut {
		for c := range k.conns {
			c.Close()
		}
	}
}

func (k *link) relay(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", k.target)
	if err != nil {
		return
	}
	defer up.Close()
	k.mu.Lock()
	if k.cut {
		k.mu.Unlock()
		return
	}
	k.conns[c], k.conns[up] = struct{}{}, struct{}{}
	k.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, c)
		up.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if err != nil {
			break
		}
		k.mu.Lock()
		mute := k.mute
		k.mu.Unlock()
		if mute {
			continue
		}
		if _, err := c.Write(buf[:n]); err != nil {
			break
		}
	}
	c.Close()
	<-done
	k.mu.Lock()
	delete(k.conns, c)
	delete(k.conns, up)
	k.mu.Unlock()
}

func rawClient(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Two servers on one cluster: whatever one has acknowledged, the other shows to View and respects in Update.
func TestTwoStoresLinearizable(t *testing.T) {
	ep := storetest.Etcd(t)
	p, c := parents(), children()
	a := kit{storetest.Join(t, ep, p, c), p, c}
	b := kit{storetest.Join(t, ep, p, c), p, c}
	raw := rawClient(t, ep)
	for i := range 100 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		id := fmt.Sprintf("n%d", i)
		from.must(t, func(tx store.Tx) error { store.Put(tx, p, &parent{ID: id}); return nil })
		if i%10 == 0 { // somebody else uses the same etcd: revisions that we never see as events
			if _, err := raw.Put(t.Context(), "/somebody/else", "x"); err != nil {
				t.Fatal(err)
			}
		}
		switch i % 3 {
		case 0:
			err := to.View(t.Context(), func(r store.Read) error {
				if _, ok := store.Get(r, p, id); !ok {
					return errors.New("not seen by View")
				}
				return nil
			})
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
		case 1: // an error of the function counts only on fresh data
			_, err := to.Update(t.Context(), func(tx store.Tx) error {
				if _, ok := store.Get(tx, p, id); !ok {
					return errors.New("not seen by Update")
				}
				return nil
			})
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
		case 2: // a value given up on one server is free on the other at once
			from.must(t, func(tx store.Tx) error { store.Put(tx, c, &child{ID: "c" + id, Addrs: []string{"1"}}); return nil })
			from.must(t, func(tx store.Tx) error { store.Delete(tx, c, "c"+id); return nil })
			to.must(t, func(tx store.Tx) error { store.Put(tx, c, &child{ID: "d" + id, Addrs: []string{"1"}}); return nil })
			from.must(t, func(tx store.Tx) error { store.Delete(tx, c, "d"+id); return nil })
		}
	}
}

func TestTwoStoresContend(t *testing.T) {
	ep := storetest.Etcd(t)
	p, c := parents(), children()
	stores := []kit{{storetest.Join(t, ep, p, c), p, c}, {storetest.Join(t, ep, p, c), p, c}}
	var wg sync.WaitGroup
	const each = 40
	for s, k := range stores {
		for w := range 4 {
			wg.Go(func() {
				for i := range each {
					_, err := k.Update(t.Context(), func(tx store.Tx) error {
						n := 0
						if row, ok := store.Get(tx, p, "counter"); ok {
							n = row.Number
						}
						store.Put(tx, p, &parent{ID: "counter", Number: n + 1})
						addr := fmt.Sprint(n)
						store.Put(tx, c, &child{ID: fmt.Sprintf("%d-%d-%d", s, w, i), Parent: "n", Addrs: []string{addr}})
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for i, k := range stores {
		err := k.View(t.Context(), func(r store.Read) error {
			row, _ := store.Get(r, p, "counter")
			if row == nil || row.Number != 8*each || store.Count(r, c, "parent", "n") != 8*each {
				return fmt.Errorf("counter %+v, children %d, want %d", row, store.Count(r, c, "parent", "n"), 8*each)
			}
			return nil
		})
		if err != nil {
			t.Errorf("store %d: %v", i, err)
		}
	}
}

// A store that was cut off while etcd compacted what it missed reads everything anew and tells its watchers the difference.
func TestResyncAfterCompaction(t *testing.T) {
	ep := storetest.Etcd(t)
	cable := newLink(t, ep)
	p, c := parents(), children()
	a := kit{storetest.Join(t, cable.addr(), p, c), p, c}
	b := kit{storetest.Join(t, ep, p, c), p, c}
	a.must(t, func(tx store.Tx) error {
		store.Put(tx, p, &parent{ID: "kept", Name: "x"})
		store.Put(tx, p, &parent{ID: "changed", Name: "x"})
		store.Put(tx, p, &parent{ID: "deleted", Name: "x"})
		for range store.Find(tx, p, "name", "x") { // makes a guard
			continue
		}
		return nil
	})
	snap, ch := a.Watch(t.Context())
	cable.set(false, true)
	var rev int64
	for i := range 5 {
		rev = b.must(t, func(tx store.Tx) error {
			store.Put(tx, p, &parent{ID: "changed", Name: "x", Number: i + 1})
			store.Put(tx, p, &parent{ID: "new", Name: "x", Number: i})
			store.Delete(tx, p, "deleted")
			return nil
		})
	}
	if _, err := rawClient(t, ep).Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	cable.set(false, false)
	old, _ := store.Get(snap, p, "kept")
	batch := <-ch
	var got []string
	for _, ch := range batch.Changes {
		got = append(got, fmt.Sprintf("%s %v %v", ch.Key, ch.Old != nil, ch.New != nil))
	}
	if s := strings.Join(got, ", "); s != "changed true true, new false true, deleted true false" {
		t.Errorf("changes: %s", s)
	}
	if kept, _ := store.Get(batch.After, p, "kept"); kept != old {
		t.Error("an unchanged row was made anew")
	}
	if row, _ := store.Get(batch.After, p, "changed"); row.Number != 5 || batch.Revision != rev {
		t.Errorf("row %+v at %d, want 5 at %d", row, batch.Revision, rev)
	}
	if n := a.Stats().Resyncs; n != 1 {
		t.Errorf("%d resyncs", n)
	}
	a.must(t, func(tx store.Tx) error { store.Put(tx, p, &parent{ID: "after", Name: "x"}); return nil })
}

// The answer to a commit is lost with the connection: the store finds out that it was applied and does not apply it twice.
func TestLostAnswer(t *testing.T) {
	ep := storetest.Etcd(t)
	cable := newLink(t, ep)
	p, c := parents(), children()
	a := kit{storetest.Join(t, cable.addr(), p, c), p, c}
	b := kit{storetest.Join(t, ep, p, c), p, c}
	a.must(t, func(tx store.Tx) error { store.Put(tx, p, &parent{ID: "n"}); return nil })
	if err := b.View(t.Context(), func(store.Read) error { return nil }); err != nil { // b shows what there is so far
		t.Fatal(err)
	}
	_, seen := b.Watch(t.Context())
	cable.set(true, false)
	runs := 0
	type result struct {
		rev int64
		err error
	}
	res := make(chan result, 1)
	go func() {
		rev, err := a.Update(t.Context(), func(tx store.Tx) error {
			runs++
			row, _ := store.Get(tx, p, "n")
			store.Put(tx, p, &parent{ID: "n", Number: row.Number + 1})
			return nil
		})
		res <- result{rev, err}
	}()
	batch := <-seen // applied, and nobody has told a
	cable.set(true, true)
	cable.set(false, false)
	r := <-res
	if r.err != nil || r.rev != batch.Revision || runs != 1 {
		t.Errorf("rev %d, err %v after %d runs, want rev %d after 1", r.rev, r.err, runs, batch.Revision)
	}
	if row, _ := store.Get(a.Snapshot(), p, "n"); row.Number != 1 {
		t.Errorf("number is %d, want 1", row.Number)
	}
}

func TestEtcdAway(t *testing.T) {
	ep := storetest.Etcd(t)
	cable := newLink(t, ep)
	p, c := parents(), children()
	a := kit{storetest.Join(t, cable.addr(), p, c), p, c}
	cable.set(false, true)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := a.Update(ctx, func(tx store.Tx) error { store.Put(tx, p, &parent{ID: "n"}); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("Update: %v", err)
		}
	})
	wg.Go(func() {
		if err := a.View(ctx, func(store.Read) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("View: %v", err)
		}
	})
	wg.Go(func() {
		if err := a.Ping(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Ping: %v", err)
		}
	})
	a.Snapshot() // never blocks
	cancel()
	wg.Wait()
	cable.set(false, false)
	if err := a.Ping(t.Context()); err != nil {
		t.Errorf("Ping when it is back: %v", err)
	}
}

// What is edited by hand is refused with the key's name instead of endless conflicts.
func TestEditedByHand(t *testing.T) {
	ep := storetest.Etcd(t)
	raw := rawClient(t, ep)
	p, c := parents(), children()
	a := kit{storetest.Join(t, ep, p, c), p, c}
	if _, err := raw.Put(t.Context(), "/baryon-unique/child/addr/n/1", "nobody"); err != nil {
		t.Fatal(err)
	}
	_, err := a.Update(t.Context(), func(tx store.Tx) error {
		store.Put(tx, c, &child{ID: "x", Parent: "n", Addrs: []string{"1"}})
		return nil
	})
	if !errors.Is(err, store.ErrInconsistent) || !strings.Contains(err.Error(), "/baryon-unique/child/addr/n/1") {
		t.Errorf("stray unique key: %v", err)
	}
	if _, err := raw.Put(t.Context(), "/baryon/parent/bad", "{"); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Put(t.Context(), "/baryon/unknown/x", "{"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{Endpoints: []string{ep}, Tables: []store.AnyTable{p, c}}); err == nil || !strings.Contains(err.Error(), "/baryon/parent/bad") {
		t.Errorf("unreadable row: %v", err)
	}
	a.must(t, func(tx store.Tx) error { store.Put(tx, p, &parent{ID: "good"}); return nil })
	if _, err := raw.Put(t.Context(), "/baryon/parent/bad", `{"id":"bad"}`); err != nil {
		t.Fatal(err)
	}
	err = a.View(t.Context(), func(r store.Read) error {
		if _, ok := store.Get(r, p, "bad"); !ok {
			return errors.New("mended row is not seen")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNewerFormat(t *testing.T) {
	ep := storetest.Etcd(t)
	p, c := parents(), children()
	a := kit{storetest.Join(t, ep, p, c), p, c}
	_, ch := a.Watch(t.Context())
	if _, err := rawClient(t, ep).Put(t.Context(), "/baryon-format", "2"); err != nil {
		t.Fatal(err)
	}
	for range ch { // closed when the store stops
		continue
	}
	if _, err := a.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrFormat) {
		t.Errorf("running store: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Options{Endpoints: []string{ep}}); !errors.Is(err, store.ErrFormat) {
		t.Errorf("Open: %v", err)
	}
}

// With etcd's default limits a transaction that is too big names the option to raise.
func TestTooManyOps(t *testing.T) {
	ep := storetest.Etcd(t)
	p, c := parents(), children()
	a := kit{storetest.Join(t, ep, p, c), p, c}
	_, err := a.Update(t.Context(), func(tx store.Tx) error {
		for i := range 200 {
			store.Put(tx, p, &parent{ID: fmt.Sprint(i)})
		}
		return nil
	})
	if !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), "--max-txn-ops=65536") {
		t.Errorf("got %v", err)
	}
}

// More bytes than the cluster's default takes, be it refused by etcd or by the connection below it.
func TestTooManyBytes(t *testing.T) {
	ep := storetest.Etcd(t)
	p, c := parents(), children()
	a := kit{storetest.Join(t, ep, p, c), p, c}
	for _, megabytes := range []int{1, 2, 4, 40} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a refusal that is not understood would be tried again for ever
		defer cancel()
		_, err := a.Update(ctx, func(tx store.Tx) error {
			store.Put(tx, p, &parent{ID: "n", Text: strings.Repeat("x", megabytes<<20)})
			return nil
		})
		if megabytes == 1 {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), "--max-request-bytes=10485760") || len(err.Error()) > 1000 {
			t.Errorf("%d MiB: %v", megabytes, err)
		}
	}
}
