// Package storetest opens stores, and etcd clusters for them, in tests.
package storetest

import (
	"context"
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"baryon/internal/store"
)

// startTimeout bounds the start of an etcd, generously for a busy machine.
const startTimeout = time.Minute

// New opens a store with the tables on an embedded etcd of its own and closes it when the test ends.  It is the real store; only
// fsync is off.
func New(t testing.TB, tables ...store.AnyTable) *store.Store {
	t.Helper()
	return open(t, store.Options{Dir: t.TempDir(), Tables: tables, UnsafeNoFsync: true})
}

// Join opens a store on an external etcd, as one of several servers, and closes it when the test ends.
func Join(t testing.TB, endpoint string, tables ...store.AnyTable) *store.Store {
	t.Helper()
	return open(t, store.Options{Endpoints: []string{endpoint}, Tables: tables})
}

func open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := store.Open(ctx, o)
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

// Etcd starts an etcd that serves clients on a free port of 127.0.0.1, as an external cluster of one, and returns its endpoint:
// "127.0.0.1:34567".  Its limits are etcd's defaults.  It ends with the test.
func Etcd(t testing.TB) string {
	t.Helper()
	return start(t, embed.NewConfig(), "http")
}

// start starts an etcd with the rest of a test's settings.
func start(t testing.TB, cfg *embed.Config, scheme string) string {
	t.Helper()
	cfg.Dir = t.TempDir()
	cfg.ListenPeerUrls = nil
	cfg.ListenClientUrls = []url.URL{{Scheme: scheme, Host: "127.0.0.1:0"}}
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(startTimeout):
		t.Fatal("start etcd: not ready")
	}
	return e.Clients[0].Addr().String()
}
