package neutron_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
)

func pool(a, b string) model.AddrRange { return model.AddrRange{Start: ip(a), End: ip(b)} }

func TestSubnetDefaults(t *testing.T) {
	e := newEnv(t)
	for _, tc := range []struct {
		cidr, gateway string
		pools         []model.AddrRange
	}{
		{"10.0.0.77/24", "10.0.0.1", []model.AddrRange{pool("10.0.0.2", "10.0.0.254")}},
		{"fd00:a::/64", "fd00:a::", []model.AddrRange{pool("fd00:a::1", "fd00:a::ffff:ffff:ffff:ffff")}},
	} {
		n := must(e.network(alice, model.Network{}))(t)
		s := must(e.subnet(alice, v4(n, tc.cidr)))(t)
		if s.GatewayIP != ip(tc.gateway) || !slices.Equal(s.AllocationPools, tc.pools) || s.CIDR != s.CIDR.Masked() || s.ProjectID != alice.ProjectID {
			t.Errorf("subnet %s: %+v", tc.cidr, s)
		}
	}
	n := must(e.network(alice, model.Network{}))(t)
	none := must(e.subnet(alice, v4(n, "10.5.0.0/24"), "gateway_ip"))(t)
	if none.GatewayIP.IsValid() || !slices.Equal(none.AllocationPools, []model.AddrRange{pool("10.5.0.1", "10.5.0.254")}) {
		t.Errorf("subnet without gateway: %+v", none)
	}
	outside := v4(n, "10.6.0.0/24")
	outside.GatewayIP = ip("192.0.2.1")
	if s := must(e.subnet(alice, outside, "gateway_ip"))(t); s.GatewayIP != ip("192.0.2.1") {
		t.Errorf("gateway outside the subnet became %s", s.GatewayIP)
	}
	if shown := e.svc.Networks().Present(e.st.Snapshot(), alice, n); len(shown.Subnets) != 2 {
		t.Errorf("network shows subnets %v, want two", shown.Subnets)
	}
	if up := must(e.svc.Networks().Update(e.ctx, alice, string(n.ID), resource.NewInput(model.Network{Name: "x"}, "name"), nil))(t); up.Revision != 3 {
		t.Errorf("revision %d after two subnets and an update, want 3", up.Revision)
	}
}

func TestSubnetRefused(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	type edit func(*model.Subnet)
	for i, tc := range []struct {
		cidr  string
		edit  edit
		given []string
		class neutron.Class
		typ   string
		part  string
	}{
		{"10.0.0.128/25", nil, nil, neutron.ClassBadRequest, "InvalidInput", "overlaps with another subnet"},
		{"10.0.0.0/24", nil, nil, neutron.ClassBadRequest, "InvalidInput", "Requested subnet with cidr: 10.0.0.0/24 for network: "},
		{"10.0.0.0/8", nil, nil, neutron.ClassBadRequest, "InvalidInput", "overlaps"},
		{"0.0.0.0/0", nil, nil, neutron.ClassBadRequest, "InvalidInput", "0 is not allowed as CIDR prefix length"},
		{"::/64", nil, nil, neutron.ClassBadRequest, "InvalidInput", "'::'"},
		{"", nil, nil, neutron.ClassBadRequest, "BadRequest", "a subnetpool must be specified in the absence of a cidr"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.IPVersion = 6 }, nil, neutron.ClassBadRequest, "InvalidInput", "does not match the ip_version '6'"},
		{"10.1.0.0/31", nil, nil, neutron.ClassBadRequest, "InvalidInput", "incompatible with DHCP"},
		{"fd00::/127", nil, nil, neutron.ClassBadRequest, "InvalidInput", "incompatible with DHCP"},
		{"224.0.0.0/24", nil, nil, neutron.ClassBadRequest, "InvalidInput", "Multicast"},
		{"127.0.0.0/24", nil, nil, neutron.ClassBadRequest, "InvalidInput", "Loopback"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.GatewayIP = ip("10.1.0.0") }, []string{"gateway_ip"}, neutron.ClassBadRequest, "InvalidInput", "Gateway is not valid"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.GatewayIP = ip("10.1.0.255") }, []string{"gateway_ip"}, neutron.ClassBadRequest, "InvalidInput", "Gateway is not valid"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.GatewayIP = ip("fd00::1") }, []string{"gateway_ip"}, neutron.ClassBadRequest, "InvalidInput", "gateway_ip 'fd00::1'"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.AllocationPools = []model.AddrRange{pool("10.1.0.1", "10.1.0.9")} }, []string{"allocation_pools"},
			neutron.ClassConflict, "GatewayConflictWithAllocationPools", "Gateway ip 10.1.0.1 conflicts with allocation pool 10.1.0.1-10.1.0.9"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.AllocationPools = []model.AddrRange{pool("10.1.0.9", "10.1.0.5")} }, []string{"allocation_pools"},
			neutron.ClassBadRequest, "InvalidAllocationPool", "10.1.0.9-10.1.0.5"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.AllocationPools = []model.AddrRange{pool("10.1.0.9", "10.1.1.5")} }, []string{"allocation_pools"},
			neutron.ClassBadRequest, "OutOfBoundsAllocationPool", "spans beyond the subnet cidr 10.1.0.0/24"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.AllocationPools = []model.AddrRange{pool("10.1.0.9", "10.1.0.255")} }, []string{"allocation_pools"},
			neutron.ClassBadRequest, "OutOfBoundsAllocationPool", "spans beyond"},
		{"10.1.0.0/24", func(s *model.Subnet) {
			s.AllocationPools = []model.AddrRange{pool("10.1.0.9", "10.1.0.20"), pool("10.1.0.20", "10.1.0.30")}
		}, []string{"allocation_pools"}, neutron.ClassConflict, "OverlappingAllocationPools", "10.1.0.9-10.1.0.20 10.1.0.20-10.1.0.30"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.AllocationPools = make([]model.AddrRange, 101) }, []string{"allocation_pools"},
			neutron.ClassBadRequest, "InvalidInput", "Exceeded maximum amount of allocation pools"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.DNSNameservers = make([]netip.Addr, 6) }, []string{"dns_nameservers"},
			neutron.ClassBadRequest, "DNSNameServersExhausted", "exceeds the limit 5"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.DNSNameservers = []netip.Addr{ip("fd00::1")} }, nil, neutron.ClassBadRequest, "InvalidInput", "dns_nameserver 'fd00::1'"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.HostRoutes = make([]model.HostRoute, 21) }, nil, neutron.ClassBadRequest, "HostRoutesExhausted", "exceeds the limit 20"},
		{"10.1.0.0/24", func(s *model.Subnet) {
			s.HostRoutes = []model.HostRoute{{Destination: netip.MustParsePrefix("10.9.0.0/16"), NextHop: ip("fd00::1")}}
		}, nil, neutron.ClassBadRequest, "InvalidInput", "nexthop 'fd00::1'"},
		{"10.1.0.0/24", func(s *model.Subnet) { s.IPv6RAMode = model.ModeSLAAC }, nil, neutron.ClassBadRequest, "InvalidInput", "ipv6_ra_mode is not valid when ip_version is 4"},
		{"fd00::/64", func(s *model.Subnet) { s.IPv6RAMode, s.EnableDHCP = model.ModeSLAAC, false }, nil, neutron.ClassBadRequest, "InvalidInput", "enable_dhcp is set to False"},
		{"fd00::/64", func(s *model.Subnet) { s.IPv6RAMode, s.IPv6AddressMode = model.ModeSLAAC, model.ModeStateful }, nil,
			neutron.ClassBadRequest, "InvalidInput", "must be the same value"},
		{"fd00::/80", func(s *model.Subnet) { s.IPv6AddressMode = model.ModeSLAAC }, nil, neutron.ClassBadRequest, "InvalidInput", "requires the prefix to be /64"},
	} {
		t.Run(fmt.Sprint(i, tc.typ), func(t *testing.T) {
			s := model.Subnet{NetworkID: n.ID, EnableDHCP: true}
			if tc.cidr != "" {
				s = v4(n, tc.cidr)
				s.IPVersion = 4
				if s.CIDR.Addr().Is6() {
					s.IPVersion = 6
				}
			}
			if tc.edit != nil {
				tc.edit(&s)
			}
			_, err := e.subnet(alice, s, tc.given...)
			wantError(t, err, tc.class, tc.typ, tc.part)
		})
	}
	_, err := e.subnet(bob, v4(n, "10.1.0.0/24"))
	wantError(t, err, neutron.ClassNotFound, "NetworkNotFound", string(n.ID))
	shared := must(e.network(admin, model.Network{Shared: true}))(t)
	_, err = e.subnet(bob, v4(shared, "10.1.0.0/24"))
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_subnet is disallowed by policy")
}

// TestOverlappingNetworks: the same CIDR stands in as many networks as one likes.
func TestOverlappingNetworks(t *testing.T) {
	e := newEnv(t)
	a, _ := e.simple(alice, "10.0.0.0/24")
	b, _ := e.simple(alice, "10.0.0.0/24")
	for _, n := range []*model.Network{a, b} {
		p := must(e.port(alice, model.Port{NetworkID: n.ID, FixedIPs: []model.FixedIP{{IPAddress: ip("10.0.0.9")}}}, "fixed_ips"))(t)
		if got := addresses(p); !slices.Equal(got, []string{"10.0.0.9"}) {
			t.Errorf("addresses %v", got)
		}
	}
}

func TestSubnetUpdate(t *testing.T) {
	e := newEnv(t)
	n, s := e.simple(alice, "10.0.0.0/24")
	update := func(v model.Subnet, given ...string) (*model.Subnet, error) {
		return e.svc.Subnets().Update(e.ctx, alice, string(s.ID), resource.NewInput(v, given...), nil)
	}
	up := must(update(model.Subnet{Name: "x", DNSNameservers: []netip.Addr{ip("192.0.2.53")}}, "name", "dns_nameservers"))(t)
	if up.Name != "x" || len(up.DNSNameservers) != 1 || up.Revision != 1 {
		t.Errorf("updated subnet %+v", up)
	}
	if same := must(update(model.Subnet{Name: "x"}, "name"))(t); same.Revision != 1 {
		t.Errorf("revision %d after an update without change, want 1", same.Revision)
	}
	_, err := update(model.Subnet{GatewayIP: ip("10.0.0.7")}, "gateway_ip")
	wantError(t, err, neutron.ClassConflict, "GatewayConflictWithAllocationPools", "10.0.0.7")
	small := model.Subnet{AllocationPools: []model.AddrRange{pool("10.0.0.100", "10.0.0.101")}}
	must(update(small, "allocation_pools"))(t)
	for range 2 {
		p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
		if a := p.FixedIPs[0].IPAddress; !a.Is4() || a.Less(ip("10.0.0.100")) || ip("10.0.0.101").Less(a) {
			t.Errorf("address %s is not from the new pool", a)
		}
	}
	_, err = e.port(alice, model.Port{NetworkID: n.ID})
	wantError(t, err, neutron.ClassConflict, "IpAddressGenerationFailure", "No more IP addresses available on network "+string(n.ID))
}

func TestSubnetDelete(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	n, s := e.simple(alice, "10.0.0.0/24")
	auto := must(e.subnet(alice, slaac(n, "fd00::/64")))(t)
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	if len(p.FixedIPs) != 2 {
		t.Fatalf("port has %v", addresses(p))
	}
	err := e.svc.Subnets().Delete(e.ctx, alice, string(s.ID), nil)
	wantError(t, err, neutron.ClassConflict, "SubnetInUse", "One or more ports have an IP allocation from this subnet")
	if err := e.svc.Subnets().Delete(e.ctx, alice, string(auto.ID), nil); err != nil {
		t.Fatalf("automatic subnet: %v", err)
	}
	if got := addresses(e.getPort(p.ID)); len(got) != 1 || !ip(got[0]).Is4() {
		t.Errorf("addresses after the automatic subnet went: %v", got)
	}
	if err := e.svc.Ports().Delete(e.ctx, alice, string(p.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.svc.Subnets().Delete(e.ctx, alice, string(s.ID), nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"network": 1}, e.leftovers()); d != "" {
		t.Errorf("after the last subnet: %s", d)
	}
}

// TestSLAACReachesExistingPorts: a new automatic subnet gives the ports that are there an address, more of them than one transaction takes.
func TestSLAACReachesExistingPorts(t *testing.T) {
	e := newEnv(t, unlimited)
	n, _ := e.simple(alice, "10.0.0.0/16")
	in := make([]*resource.Input[model.Port], 230)
	for i := range in {
		in[i] = resource.NewInput(model.Port{NetworkID: n.ID, AdminStateUp: true})
	}
	ports := must(e.svc.Ports().Create(e.ctx, alice, in))(t)
	must(e.subnet(alice, slaac(n, "fd00::/64")))(t)
	for _, p := range ports {
		if got := e.getPort(p.ID); len(got.FixedIPs) != 2 || !netip.MustParsePrefix("fd00::/64").Contains(got.FixedIPs[1].IPAddress) {
			t.Fatalf("port has %v, want an automatic address beside %v", addresses(got), addresses(p))
		}
	}
	subs := e.svc.Networks().Present(e.st.Snapshot(), alice, n).Subnets
	for _, id := range subs {
		if s := must(e.svc.Subnets().Update(e.ctx, alice, string(id), resource.NewInput(model.Subnet{}, "name"), nil))(t); s.IPVersion == 6 {
			if err := e.svc.Subnets().Delete(e.ctx, alice, string(id), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range ports {
		if got := e.getPort(p.ID); len(got.FixedIPs) != 1 {
			t.Fatalf("port keeps %v", addresses(got))
		}
	}
}
