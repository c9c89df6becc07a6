package neutron_test

import (
	"errors"
	"slices"
	"testing"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

var provider = []string{"provider:network_type", "provider:physical_network", "provider:segmentation_id"}

func flat(name string) model.Segment {
	return model.Segment{Type: model.TypeFlat, PhysicalNetwork: name}
}

func vlan(name string, id uint32) model.Segment {
	return model.Segment{Type: model.TypeVLAN, PhysicalNetwork: name, SegmentationID: id}
}

// physical is a cloud with the physical networks public, with ids to choose from, and storage, without.
func physical(c *neutron.Config) {
	c.FlatNetworks = []string{"public"}
	c.VLANRanges = map[string][]neutron.TagRange{"public": {{First: 100, Last: 102}}, "storage": nil}
	c.PhysicalNetworkMTUs = map[string]int{"public": 1400, "storage": 9000}
}

func TestProviderNetworks(t *testing.T) {
	e := newEnv(t, physical)
	for _, tc := range []struct {
		seg model.Segment
		mtu int
	}{
		{flat("public"), 1400}, {vlan("public", 7), 1400}, {vlan("storage", 7), 1500}, {vlan("storage", 4094), 1500},
	} {
		n := must(e.network(admin, model.Network{Segment: tc.seg}, provider...))(t)
		if n.Segment != tc.seg || n.MTU != tc.mtu {
			t.Errorf("network %+v MTU %d, want %+v %d", n.Segment, n.MTU, tc.seg, tc.mtu)
		}
	}
	if n := must(e.network(admin, model.Network{Segment: vlan("public", 0)}, provider...))(t); n.Segment.SegmentationID < 100 || n.Segment.SegmentationID > 102 {
		t.Errorf("an id for public: %+v", n.Segment)
	}
	if n := must(e.network(admin, model.Network{Segment: vlan("", 0)}, provider...))(t); n.Segment.PhysicalNetwork != "public" {
		t.Errorf("a physical network: %+v", n.Segment)
	}
	bad := neutron.ClassBadRequest
	for _, tc := range []struct {
		seg   model.Segment
		mtu   int
		class neutron.Class
		typ   string
		part  string
	}{
		{flat("public"), 0, neutron.ClassConflict, "FlatNetworkInUse", "Unable to create the flat network. Physical network public is in use."},
		{flat("storage"), 0, bad, "InvalidInput", "physical_network 'storage' unknown for flat provider network"},
		{flat(""), 0, bad, "InvalidInput", "physical_network required for flat provider network"},
		{model.Segment{Type: model.TypeFlat, PhysicalNetwork: "public", SegmentationID: 4}, 0, bad, "InvalidInput", "segmentation_id prohibited"},
		{vlan("public", 7), 0, neutron.ClassConflict, "VlanIdInUse", "Unable to create the network. The VLAN 7 on physical network public is in use."},
		{vlan("public", 4095), 0, bad, "InvalidInput", "segmentation_id out of range (1 through 4094)"},
		{vlan("nowhere", 7), 0, bad, "InvalidInput", "physical_network 'nowhere' unknown for VLAN provider network"},
		{vlan("storage", 0), 0, bad, "InvalidInput", "Physical network storage requires segmentation_id"},
		{vlan("", 7), 0, bad, "InvalidInput", "segmentation_id requires physical_network"},
		{vlan("public", 8), 1401, bad, "InvalidInput", "maximum is 1400"},
	} {
		_, err := e.network(admin, model.Network{Segment: tc.seg, MTU: tc.mtu}, provider...)
		wantError(t, err, tc.class, tc.typ, tc.part)
	}
	for _, attr := range append(slices.Clone(provider), "segments") {
		_, err := e.network(alice, model.Network{Segment: vlan("public", 9)}, attr)
		wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_network:"+attr)
	}
	off := newEnv(t, func(c *neutron.Config) { c.FlatNetworks = []string{} })
	_, err := off.network(admin, model.Network{Segment: flat("public")}, provider...)
	wantError(t, err, bad, "InvalidInput", "Flat provider networks are disabled")
}

// TestProviderIDsComeBack: what a network had is free when it is gone, and so is the id that one gave up for another.
func TestProviderIDsComeBack(t *testing.T) {
	e := newEnv(t, physical)
	n := must(e.network(admin, model.Network{Segment: vlan("public", 100)}, provider...))(t)
	change := func(seg model.Segment, given ...string) error {
		return second(e.svc.Networks().Update(e.ctx, admin, string(n.ID), resource.NewInput(model.Network{Segment: seg}, given...), nil))
	}
	other := must(e.network(admin, model.Network{Segment: vlan("public", 101)}, provider...))(t)
	wantError(t, change(vlan("", 101), "provider:segmentation_id"), neutron.ClassConflict, "VlanIdInUse", "VLAN 101")
	wantError(t, change(vlan("storage", 0), "provider:physical_network"), neutron.ClassBadRequest, "InvalidInput", "does not support updating")
	wantError(t, change(vlan("", 5000), "provider:segmentation_id"), neutron.ClassBadRequest, "InvalidInput", "out of range")
	if err := change(vlan("", 55), "provider:segmentation_id"); err != nil {
		t.Fatal(err)
	}
	must(e.network(admin, model.Network{Segment: vlan("public", 100)}, provider...))(t)
	if err := e.svc.Networks().Delete(e.ctx, admin, string(other.ID), nil); err != nil {
		t.Fatal(err)
	}
	must(e.network(admin, model.Network{Segment: vlan("public", 101)}, provider...))(t)
	must(e.network(admin, model.Network{Segment: flat("public")}, provider...))(t)
}

// TestVLANsInParallel: as many networks as ids, made at once by two servers, have all of them; one more has none, until one is given
// back.
func TestVLANsInParallel(t *testing.T) {
	st := storetest.New(t, model.AllTables()...)
	few := func(c *neutron.Config) {
		unlimited(c)
		c.TenantNetworkTypes = []string{"vlan"}
		c.VLANRanges = map[string][]neutron.TagRange{"one": {{First: 100, Last: 119}}, "two": {{First: 7, Last: 11}, {First: 4090, Last: 4094}}}
	}
	a, b := envOn(t, st, few), envOn(t, st, few)
	errs := parallel(30, func(i int) error {
		return second([]*env{a, b}[i%2].network(alice, model.Network{}))
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := map[string]model.ID{}
	for n := range store.All(st.Snapshot(), model.NetworkTable) {
		seen[n.Segment.Value()] = n.ID
	}
	if len(seen) != 30 {
		t.Errorf("%d different ids, want 30", len(seen))
	}
	_, err := a.network(alice, model.Network{})
	wantError(t, err, neutron.ClassUnavailable, "NoNetworkAvailable", "No tenant network is available for allocation")
	if err := b.svc.Networks().Delete(b.ctx, alice, string(seen["vlan/two/4092"]), nil); err != nil {
		t.Fatal(err)
	}
	if n := must(a.network(alice, model.Network{}))(t); n.Segment != vlan("two", 4092) {
		t.Errorf("segment %+v, want the one given back", n.Segment)
	}
}

func mapped(host string, mappings map[string]string, roles ...string) nodestate.NodeInfo {
	info := nodeInfo(host, roles...)
	info.BridgeMappings = mappings
	return info
}

// TestProviderBinding: a port is bound where its physical network is mapped; elsewhere it says what is missing, and is bound when the mapping
// comes.
func TestProviderBinding(t *testing.T) {
	e := newEnv(t, physical)
	e.node("cmp1", model.RoleCompute)
	n := must(e.network(admin, model.Network{Segment: flat("public"), Shared: true}, provider...))(t)
	v := onHost("cmp1")
	v.NetworkID = n.ID
	p := must(e.port(admin, v, "binding:host_id"))(t)
	const why = "node cmp1: no bridge mapping for physical network public"
	if p.Binding.VIFType != model.VIFBindingFailed || p.Binding.VIFDetails["reason"] != why || p.Status != model.StatusDown {
		t.Errorf("binding %+v", p.Binding)
	}
	register := func(mappings map[string]string) *model.Port {
		t.Helper()
		if err := e.svc.RegisterNode(e.ctx, mapped("cmp1", mappings, model.RoleCompute)); err != nil {
			t.Fatal(err)
		}
		e.reconcile()
		return e.getPort(p.ID)
	}
	if got := register(map[string]string{"other": "br-ex"}); got.Bound() {
		t.Errorf("bound by the mapping of another physical network: %+v", got.Binding)
	}
	if got := register(map[string]string{"public": "br-ex"}); !got.Bound() || got.Binding.VIFDetails["reason"] != nil {
		t.Errorf("not bound when the mapping came: %+v", got.Binding)
	}
	if got := register(nil); !got.Bound() {
		t.Errorf("a plugged port lost its binding with the mapping: %+v", got.Binding)
	}
}

// TestProviderDHCP: only a node that carries the network serves it, and it gives it up with its mapping if there is another.
func TestProviderDHCP(t *testing.T) {
	e := newEnv(t, physical)
	for _, host := range []string{"net1", "net2", "net3"} {
		e.node(host, model.RoleNetwork)
	}
	n := must(e.network(admin, model.Network{Segment: vlan("public", 5)}, provider...))(t)
	sub := must(e.subnet(admin, v4(n, "203.0.113.0/24")))(t)
	if got := e.dhcpPorts(n); len(got) != 0 {
		t.Errorf("served without a mapping by %v", got)
	}
	maps := func(host string, m map[string]string) {
		t.Helper()
		if err := e.svc.RegisterNode(e.ctx, mapped(host, m, model.RoleNetwork)); err != nil {
			t.Fatal(err)
		}
		e.reconcile()
	}
	serves := func(want string) {
		t.Helper()
		got := e.dhcpPorts(n)
		p := got[want]
		if len(got) != 1 || p == nil || !p.Bound() || len(p.FixedIPs) != 1 || p.FixedIPs[0].SubnetID != sub.ID {
			t.Errorf("DHCP ports %v, want one on %s", got, want)
		}
	}
	public := map[string]string{"public": "br-ex"}
	maps("net2", public)
	serves("net2")
	maps("net3", public)
	serves("net2")
	maps("net2", nil)
	serves("net3")
	agents := must(e.svc.DHCPAgents(e.ctx, admin, string(n.ID)))(t)
	if len(agents) != 1 || agents[0].Host != "net3" {
		t.Errorf("agents %v", agents)
	}
	for a := range store.Find(e.st.Snapshot(), model.AgentTable, "host", "net1") {
		if a.Type == "DHCP agent" {
			wantError(t, e.svc.AddDHCPNetwork(e.ctx, admin, string(a.ID), string(n.ID)), neutron.ClassConflict, "InvalidDHCPAgent", "does not carry")
		}
	}
}

// TestProviderSubnet: a subnet without DHCP, whose pools leave the outside's hosts alone, gives addresses of the pool only.
func TestProviderSubnet(t *testing.T) {
	e := newEnv(t, physical)
	if err := e.svc.RegisterNode(e.ctx, mapped("net1", map[string]string{"public": "br-ex"}, model.RoleNetwork)); err != nil {
		t.Fatal(err)
	}
	n := must(e.network(admin, model.Network{Segment: flat("public"), Shared: true}, provider...))(t)
	v := v4(n, "203.0.113.0/24")
	v.EnableDHCP, v.AllocationPools = false, []model.AddrRange{{Start: ip("203.0.113.101"), End: ip("203.0.113.102")}}
	must(e.subnet(admin, v, "allocation_pools"))(t)
	if got := e.dhcpPorts(n); len(got) != 0 {
		t.Errorf("DHCP ports %v on a network without DHCP", got)
	}
	got := []string{}
	for range 2 {
		got = append(got, addresses(must(e.port(bob, model.Port{NetworkID: n.ID}))(t))...)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"203.0.113.101", "203.0.113.102"}) {
		t.Errorf("addresses %v", got)
	}
	_, err := e.port(bob, model.Port{NetworkID: n.ID})
	wantError(t, err, neutron.ClassConflict, "IpAddressGenerationFailure", "No more IP addresses available")
}
