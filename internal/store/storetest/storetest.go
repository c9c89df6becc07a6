// Package storetest opens stores for tests.
package storetest

import (
	"testing"
	"time"

	"context"

	"baryon/internal/store"
)

// openTimeout bounds the start of the embedded etcd, generously for a busy machine.
const openTimeout = time.Minute

// New opens a store with the tables on an embedded etcd of its own and closes it when the test ends.  It is the real store; only
// fsync is off.
func New(t testing.TB, tables ...store.AnyTable) *store.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	s, err := store.Open(ctx, store.Options{Dir: t.TempDir(), Tables: tables, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}
