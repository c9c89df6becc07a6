package neutron_test

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// Callers of the tests.
var (
	admin   = &identity.Caller{ProjectID: "p-admin", Roles: []string{"admin", "manager", "member", "reader"}}
	alice   = &identity.Caller{ProjectID: "p-alice", Roles: []string{"member", "reader"}}
	bob     = &identity.Caller{ProjectID: "p-bob", Roles: []string{"member", "reader"}}
	auditor = &identity.Caller{ProjectID: "p-alice", Roles: []string{"reader"}}
	nova    = &identity.Caller{ProjectID: "p-service", Roles: []string{"service", "reader"}}
)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(time.Nanosecond) // no two things happen at once
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// env is a Service on a store of its own.
type env struct {
	t     testing.TB
	ctx   context.Context
	st    *store.Store
	svc   *neutron.Service
	clock *clock
}

func newEnv(t testing.TB, edit ...func(*neutron.Config)) *env {
	t.Helper()
	return envOn(t, storetest.New(t, model.AllTables()...), edit...)
}

func envOn(t testing.TB, st *store.Store, edit ...func(*neutron.Config)) *env {
	t.Helper()
	e := &env{t: t, ctx: context.Background(), st: st, clock: &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	cfg := neutron.Config{Store: st, Now: e.clock.now}
	for _, f := range edit {
		f(&cfg)
	}
	svc, err := neutron.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(svc.Close)
	e.svc = svc
	return e
}

// unlimited takes quotas out of the way.
func unlimited(c *neutron.Config) {
	c.DefaultQuota = map[string]int{"network": -1, "subnet": -1, "port": -1, "security_group": -1, "security_group_rule": -1}
}

func (e *env) network(c *identity.Caller, v model.Network, given ...string) (*model.Network, error) {
	v.AdminStateUp, v.PortSecurityEnabled = true, true
	out, err := e.svc.Networks().Create(e.ctx, c, []*resource.Input[model.Network]{resource.NewInput(v, given...)})
	return first(out, err)
}

// subnet creates one; the zero IPVersion means that of the CIDR.
func (e *env) subnet(c *identity.Caller, v model.Subnet, given ...string) (*model.Subnet, error) {
	if v.IPVersion == 0 && v.CIDR.IsValid() {
		v.IPVersion = 4
		if v.CIDR.Addr().Is6() {
			v.IPVersion = 6
		}
	}
	out, err := e.svc.Subnets().Create(e.ctx, c, []*resource.Input[model.Subnet]{resource.NewInput(v, given...)})
	return first(out, err)
}

func (e *env) port(c *identity.Caller, v model.Port, given ...string) (*model.Port, error) {
	v.AdminStateUp = true
	out, err := e.svc.Ports().Create(e.ctx, c, []*resource.Input[model.Port]{resource.NewInput(v, given...)})
	return first(out, err)
}

func (e *env) updatePort(c *identity.Caller, id model.ID, v model.Port, given ...string) (*model.Port, error) {
	return e.svc.Ports().Update(e.ctx, c, string(id), resource.NewInput(v, given...), nil)
}

func first[T any](list []*T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// must gives what an operation made that has to succeed.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// simple makes a network with one subnet with DHCP.
func (e *env) simple(c *identity.Caller, cidr string) (*model.Network, *model.Subnet) {
	e.t.Helper()
	n := must(e.network(c, model.Network{Name: "net"}))(e.t)
	return n, must(e.subnet(c, v4(n, cidr)))(e.t)
}

func v4(n *model.Network, cidr string) model.Subnet {
	return model.Subnet{NetworkID: n.ID, CIDR: netip.MustParsePrefix(cidr), EnableDHCP: true}
}

func slaac(n *model.Network, cidr string) model.Subnet {
	s := v4(n, cidr)
	s.IPv6AddressMode, s.IPv6RAMode = model.ModeSLAAC, model.ModeSLAAC
	return s
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// node registers a node.
func (e *env) node(host string, roles ...string) {
	e.t.Helper()
	if err := e.svc.RegisterNode(e.ctx, nodeInfo(host, roles...)); err != nil {
		e.t.Fatal(err)
	}
}

func nodeInfo(host string, roles ...string) nodestate.NodeInfo {
	sum := 10
	for _, c := range host {
		sum += int(c)
	}
	return nodestate.NodeInfo{
		Host: host, Roles: roles, TunnelIP: netip.AddrFrom4([4]byte{192, 0, byte(sum >> 8), byte(sum)}),
		TunnelTypes: []string{"vxlan", "gre"}, DatapathType: "netdev",
	}
}

// reconcile does what Run would do now.
func (e *env) reconcile() {
	e.t.Helper()
	e.settle()
	if err := e.svc.Reconcile(e.ctx); err != nil {
		e.t.Fatal(err)
	}
}

// settle waits until the Service has seen all that is in the store: it writes something and waits for its revision.
func (e *env) settle() {
	e.t.Helper()
	rev, err := e.st.Update(e.ctx, func(tx store.Tx) error {
		g := model.QuotaGuard{ProjectID: "settle", Resource: "test"}
		if old, ok := store.Get(tx, model.QuotaGuardTable, model.QuotaGuardKey(g.ProjectID, g.Resource)); ok {
			g.Serial = old.Serial + 1
		}
		store.Put(tx, model.QuotaGuardTable, &g)
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	for e.svc.Revision() < rev {
		runtime.Gosched()
	}
}

func (e *env) getPort(id model.ID) *model.Port {
	e.t.Helper()
	p, ok := store.Get(e.st.Snapshot(), model.PortTable, string(id))
	if !ok {
		e.t.Fatalf("port %s is not there", id)
	}
	return e.svc.Ports().Present(e.st.Snapshot(), admin, p)
}

// dhcpPorts are the DHCP ports of a network, by host.
func (e *env) dhcpPorts(n *model.Network) map[string]*model.Port {
	out := map[string]*model.Port{}
	for p := range store.Find(e.st.Snapshot(), model.PortTable, "network", string(n.ID)) {
		if p.DeviceOwner == model.OwnerDHCP {
			out[p.Binding.Host] = p
		}
	}
	return out
}

// wantError checks class, type and a part of the message.
func wantError(t testing.TB, err error, class neutron.Class, typ, part string) {
	t.Helper()
	var e *neutron.Error
	switch {
	case err == nil:
		t.Errorf("no error, want %s", typ)
	case !errors.As(err, &e):
		t.Errorf("error %v is no *neutron.Error, want %s", err, typ)
	case e.Class != class || e.Type != typ || !strings.Contains(e.Message, part):
		t.Errorf("error %d %s %q, want %d %s with %q", e.Class, e.Type, e.Message, class, typ, part)
	}
}

func addresses(p *model.Port) []string {
	out := []string{}
	for _, f := range p.FixedIPs {
		out = append(out, f.IPAddress.String())
	}
	return out
}

// leftovers counts what is in the tables of networks, by table; empty tables are left out.
func (e *env) leftovers() map[string]int {
	r := e.st.Snapshot()
	out := map[string]int{}
	for name, n := range map[string]int{
		"network": store.Count(r, model.NetworkTable, "", ""), "subnet": store.Count(r, model.SubnetTable, "", ""),
		"port": store.Count(r, model.PortTable, "", ""), "port_status": store.Count(r, model.PortStatusTable, "", ""),
		"instance": store.Count(r, model.InstanceTable, "", ""), "dhcp_binding": store.Count(r, model.DHCPBindingTable, "", ""),
	} {
		if n > 0 {
			out[name] = n
		}
	}
	return out
}
