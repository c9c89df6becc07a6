package neutron_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"baryon/internal/model"
	"baryon/internal/store"
)

// until waits until the store shows what the test is about.
func (e *env) until(what string, ok func(r store.Read) bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	r, batches := e.st.Watch(ctx)
	for !ok(r) {
		b, open := <-batches
		if !open {
			e.t.Fatalf("%s: not so within a minute", what)
		}
		r = b.After
	}
}

// TestRun: with Run at work, a node that comes last finds its ports bound and its networks served, and one that dies loses them.
func TestRun(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan error, 1)
	go func() { done <- e.svc.Run(ctx) }()
	n, _ := e.simple(alice, "10.0.0.0/24")
	v := onHost("net1")
	v.NetworkID = n.ID
	p := must(e.port(admin, v, "binding:host_id"))(t)
	e.node("net1", model.RoleCompute, model.RoleNetwork)
	e.until("port bound", func(r store.Read) bool {
		row, ok := store.Get(r, model.PortTable, string(p.ID))
		return ok && row.Bound()
	})
	e.until("DHCP served", func(r store.Read) bool { return store.Count(r, model.DHCPBindingTable, "host", "net1") == 1 })
	if err := e.svc.NodeGone(e.ctx, "net1"); err != nil {
		t.Fatal(err)
	}
	e.clock.add(10 * time.Second)
	e.node("net2", model.RoleNetwork)
	e.until("DHCP moved", func(r store.Read) bool { return store.Count(r, model.DHCPBindingTable, "host", "net2") == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

// TestCloseThenUse: after Close calls still work, on what the store says; only proposals are no longer kept up.
func TestCloseThenUse(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/28")
	e.svc.Close()
	for range 13 {
		must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	}
	if got := distinct(t, e, n); len(got) != 13 {
		t.Errorf("%d addresses, want 13", len(got))
	}
}

// TestContext: a call whose context has ended does nothing and says so.
func TestContext(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.ctx = ctx
	if _, err := e.port(alice, model.Port{NetworkID: n.ID}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := distinct(t, e, n); len(got) != 0 {
		t.Errorf("%d addresses given", len(got))
	}
}
