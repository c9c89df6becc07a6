package neutron_test

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/neutron/ipam"
	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// parallel runs f n times at once and returns the errors.
func parallel(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			errs[i] = f(i)
		}()
	}
	close(start)
	wg.Wait()
	return errs
}

// distinct checks that no two ports have one address or one MAC, and returns the addresses.
func distinct(t testing.TB, e *env, n *model.Network) []netip.Addr {
	t.Helper()
	ips, macs := map[netip.Addr]bool{}, map[model.MAC]bool{}
	for p := range store.Find(e.st.Snapshot(), model.PortTable, "network", string(n.ID)) {
		if macs[p.MAC] {
			t.Errorf("MAC %s twice", p.MAC)
		}
		macs[p.MAC] = true
		for _, f := range p.FixedIPs {
			if ips[f.IPAddress] {
				t.Errorf("address %s twice", f.IPAddress)
			}
			ips[f.IPAddress] = true
		}
	}
	var out []netip.Addr
	for a := range ips {
		out = append(out, a)
	}
	return out
}

// TestParallelPorts: 250 creations at once on one subnet all succeed with distinct addresses; of the pool's 253 addresses 3 are left, and
// then none.
func TestParallelPorts(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	create := func(int) error { return second(e.port(alice, model.Port{NetworkID: n.ID})) }
	if err := errors.Join(parallel(250, create)...); err != nil {
		t.Fatal(err)
	}
	if got := distinct(t, e, n); len(got) != 250 {
		t.Fatalf("%d addresses, want 250", len(got))
	}
	full := 0
	for _, err := range parallel(20, create) {
		if err != nil {
			full++
			wantError(t, err, neutron.ClassConflict, "IpAddressGenerationFailure", "No more IP addresses available on network")
		}
	}
	if got := distinct(t, e, n); full != 17 || len(got) != 253 {
		t.Errorf("%d of 20 refused and %d addresses given, want 17 and all 253", full, len(got))
	}
}

// TestTwoServers: two servers on one cluster hand out one pool to its last address, never one twice, and agree that it is empty.
func TestTwoServers(t *testing.T) {
	at := storetest.Etcd(t)
	a := envOn(t, storetest.Join(t, at, model.AllTables()...))
	b := envOn(t, storetest.Join(t, at, model.AllTables()...))
	n, s := a.simple(alice, "10.0.0.0/25")
	create := func(i int) error {
		return second([]*env{a, b}[i%2].port(alice, model.Port{NetworkID: n.ID}))
	}
	if err := errors.Join(parallel(100, create)...); err != nil {
		t.Fatal(err)
	}
	full := 0
	for _, err := range parallel(40, create) {
		if err != nil {
			full++
			wantError(t, err, neutron.ClassConflict, "IpAddressGenerationFailure", "")
		}
	}
	if err := a.st.View(a.ctx, func(store.Read) error { return nil }); err != nil {
		t.Fatal(err)
	}
	got := distinct(t, a, n)
	if full != 15 || len(got) != 125 {
		t.Errorf("%d refused, %d addresses given; want 15 and 125", full, len(got))
	}
	for _, ip := range got {
		if !s.CIDR.Contains(ip) {
			t.Errorf("address %s is outside", ip)
		}
	}
	// What one server gives back, the other can give at once.
	for p := range store.Find(a.st.Snapshot(), model.PortTable, "network", string(n.ID)) {
		if err := a.svc.Ports().Delete(a.ctx, alice, string(p.ID), nil); err != nil {
			t.Fatal(err)
		}
		q := must(b.port(alice, model.Port{NetworkID: n.ID}))(t)
		if q.FixedIPs[0] != p.FixedIPs[0] {
			t.Errorf("got %v, want %v", addresses(q), addresses(p))
		}
		break
	}
}

// TestParallelQuota: on two servers at once, exactly as many ports are made as the limit says, one by one or in bulk.
func TestParallelQuota(t *testing.T) {
	at := storetest.Etcd(t)
	a := envOn(t, storetest.Join(t, at, model.AllTables()...))
	b := envOn(t, storetest.Join(t, at, model.AllTables()...))
	n, _ := a.simple(alice, "10.0.0.0/20")
	must(a.svc.SetQuota(a.ctx, admin, alice.ProjectID, map[string]int{"port": 120}, false))(t)
	errs := parallel(130, func(i int) error {
		e := []*env{a, b}[i%2]
		size := 1
		if i%13 == 0 {
			size = 3
		}
		in := make([]*resource.Input[model.Port], size)
		for k := range in {
			in[k] = resource.NewInput(model.Port{NetworkID: n.ID})
		}
		return second(e.svc.Ports().Create(e.ctx, alice, in))
	})
	for _, err := range errs {
		if err != nil {
			wantError(t, err, neutron.ClassConflict, "OverQuota", "['port']")
		}
	}
	if err := a.st.View(a.ctx, func(store.Read) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := store.Count(a.st.Snapshot(), model.PortTable, "project", alice.ProjectID); got != 120 {
		t.Errorf("%d ports, want exactly the limit of 120", got)
	}
}

// TestParallelSegments: networks made at once have different segments, to the last id.
func TestParallelSegments(t *testing.T) {
	e := newEnv(t, unlimited, func(c *neutron.Config) {
		c.TenantNetworkTypes, c.VNIRanges = []string{"vxlan"}, []neutron.TagRange{{First: 100, Last: 139}}
	})
	full := 0
	for _, err := range parallel(50, func(int) error { return second(e.network(alice, model.Network{})) }) {
		if err != nil {
			full++
			wantError(t, err, neutron.ClassUnavailable, "NoNetworkAvailable", "")
		}
	}
	if n := store.Count(e.st.Snapshot(), model.NetworkTable, "", ""); full != 10 || n != 40 {
		t.Errorf("%d refused, %d networks; want 10 and 40", full, n)
	}
}

// TestNetworkDeleteAgainstPortCreate: of a deletion and creations at once, either the port stands and the network too, or neither.
func TestNetworkDeleteAgainstPortCreate(t *testing.T) {
	e := newEnv(t)
	for range 20 {
		n, _ := e.simple(alice, "10.0.0.0/24")
		errs := parallel(4, func(i int) error {
			if i == 0 {
				return e.svc.Networks().Delete(e.ctx, alice, string(n.ID), nil)
			}
			return second(e.port(alice, model.Port{NetworkID: n.ID}))
		})
		_, exists := store.Get(e.st.Snapshot(), model.NetworkTable, string(n.ID))
		ports := store.Count(e.st.Snapshot(), model.PortTable, "network", string(n.ID))
		if exists == (errs[0] == nil) || !exists && ports > 0 {
			t.Fatalf("network exists: %v, %d ports, errors %v", exists, ports, errs)
		}
		for p := range store.Find(e.st.Snapshot(), model.PortTable, "network", string(n.ID)) {
			if err := e.svc.Ports().Delete(e.ctx, alice, string(p.ID), nil); err != nil {
				t.Fatal(err)
			}
		}
		if exists {
			if err := e.svc.Networks().Delete(e.ctx, alice, string(n.ID), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOverlapUnderConcurrency: of overlapping subnets made at once, one stands.
func TestOverlapUnderConcurrency(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(alice, model.Network{}))(t)
	cidrs := []string{"10.0.0.0/16", "10.0.0.0/24", "10.0.0.0/25", "10.0.0.0/20"}
	ok := 0
	for _, err := range parallel(len(cidrs), func(i int) error { return second(e.subnet(alice, v4(n, cidrs[i]))) }) {
		if err == nil {
			ok++
			continue
		}
		wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "overlaps")
	}
	if ok != 1 {
		t.Errorf("%d overlapping subnets stand", ok)
	}
}

// TestRandomRequests plays random requests and holds the store to what must always be so: no address or MAC twice, addresses inside their
// subnets, automatic addresses as the MAC says; and a service that starts on that store gives the same as one that followed it.
func TestRandomRequests(t *testing.T) {
	st := storetest.New(t, model.AllTables()...)
	rapid.Check(t, func(rt *rapid.T) {
		e := envOn(t, st, unlimited)
		n := must(e.network(alice, model.Network{}))(t)
		s := must(e.subnet(alice, v4(n, "10.0.0.0/28")))(t)
		auto := must(e.subnet(alice, slaac(n, "fd00::/64")))(t)
		var ports []model.ID
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			var f []model.FixedIP
			if rapid.Bool().Draw(rt, "exact") {
				f = append(f, model.FixedIP{IPAddress: netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 15).Draw(rt, "ip"))})})
			}
			given := []string{"fixed_ips"}[:len(f)]
			switch op := rapid.IntRange(0, 3).Draw(rt, "op"); {
			case op <= 1:
				if p, err := e.port(alice, model.Port{NetworkID: n.ID, FixedIPs: f}, given...); err == nil {
					ports = append(ports, p.ID)
				}
			case len(ports) == 0:
			case op == 2:
				i := rapid.IntRange(0, len(ports)-1).Draw(rt, "port")
				if err := e.svc.Ports().Delete(e.ctx, alice, string(ports[i]), nil); err != nil {
					rt.Fatal(err)
				}
				ports = slices.Delete(ports, i, i+1)
			default:
				i := rapid.IntRange(0, len(ports)-1).Draw(rt, "port")
				_, err := e.updatePort(alice, ports[i], model.Port{FixedIPs: f}, "fixed_ips", "mac_address")
				var refused *neutron.Error
				if err != nil && !errors.As(err, &refused) {
					rt.Fatal(err)
				}
			}
			free := 13
			for p := range store.Find(st.Snapshot(), model.PortTable, "network", string(n.ID)) {
				for _, f := range p.FixedIPs {
					switch {
					case f.SubnetID == auto.ID && f.IPAddress != ipam.EUI64(auto.CIDR, p.MAC), f.SubnetID == s.ID && !s.CIDR.Contains(f.IPAddress):
						rt.Fatalf("port %s has %v", p.MAC, addresses(p))
					case f.SubnetID == s.ID && f.IPAddress != s.GatewayIP:
						free--
					}
				}
			}
			distinct(t, e, n)
			fresh := envOn(t, st, unlimited)
			v := model.Port{NetworkID: n.ID, FixedIPs: []model.FixedIP{{SubnetID: s.ID}}}
			for _, each := range []*env{e, fresh} {
				p, err := each.port(alice, v, "fixed_ips")
				if (err == nil) != (free > 0) {
					rt.Fatalf("with %d free: %v", free, err)
				}
				if err == nil {
					if err := each.svc.Ports().Delete(e.ctx, alice, string(p.ID), nil); err != nil {
						rt.Fatal(err)
					}
				}
			}
			fresh.svc.Close()
		}
		e.svc.Close()
	})
}
