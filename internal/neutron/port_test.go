package neutron_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/neutron/ipam"
	"baryon/internal/resource"
)

func TestPortCreate(t *testing.T) {
	e := newEnv(t)
	n, s := e.simple(alice, "10.0.0.0/24")
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	switch {
	case len(p.FixedIPs) != 1 || p.FixedIPs[0].SubnetID != s.ID || !s.CIDR.Contains(p.FixedIPs[0].IPAddress):
		t.Errorf("fixed IPs %+v", p.FixedIPs)
	case !strings.HasPrefix(p.MAC.String(), "fa:16:3e:") || !p.PortSecurityEnabled || p.Status != model.StatusDown:
		t.Errorf("port %+v", p)
	case p.Binding.VIFType != model.VIFUnbound || p.Binding.VNICType != "normal" || p.Revision != 0:
		t.Errorf("binding %+v revision %d", p.Binding, p.Revision)
	}
	host := "host-" + strings.ReplaceAll(p.FixedIPs[0].IPAddress.String(), ".", "-")
	want := []model.DNSAssignment{{IPAddress: p.FixedIPs[0].IPAddress, Hostname: host, FQDN: host + ".openstacklocal."}}
	if !slices.Equal(p.DNSAssignment, want) {
		t.Errorf("dns_assignment %+v, want %+v", p.DNSAssignment, want)
	}
	none := must(e.port(alice, model.Port{NetworkID: n.ID}, "fixed_ips"))(t)
	if len(none.FixedIPs) != 0 {
		t.Errorf("fixed_ips [] gave %v", addresses(none))
	}
	bare := must(e.network(alice, model.Network{}))(t)
	if p := must(e.port(alice, model.Port{NetworkID: bare.ID}))(t); len(p.FixedIPs) != 0 {
		t.Errorf("port on a network without subnets has %v", addresses(p))
	}
}

// TestPortAddressFamilies: one IPv4 address, one IPv6 address and one of every automatic subnet.
func TestPortAddressFamilies(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	must(e.subnet(alice, v4(n, "10.1.0.0/24")))(t)
	stateful := v4(n, "fd00:1::/64")
	stateful.IPv6AddressMode, stateful.IPv6RAMode = model.ModeStateful, model.ModeStateful
	must(e.subnet(alice, stateful))(t)
	a := must(e.subnet(alice, slaac(n, "fd00:2::/64")))(t)
	less := slaac(n, "fd00:3::/64")
	less.IPv6AddressMode, less.IPv6RAMode = model.ModeStateless, model.ModeStateless
	b := must(e.subnet(alice, less))(t)
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	if len(p.FixedIPs) != 4 || !p.FixedIPs[0].IPAddress.Is4() || !stateful.CIDR.Contains(p.FixedIPs[1].IPAddress) {
		t.Fatalf("addresses %v", addresses(p))
	}
	for i, s := range []*model.Subnet{a, b} {
		if got, want := p.FixedIPs[2+i].IPAddress, ipam.EUI64(s.CIDR, p.MAC); got != want {
			t.Errorf("automatic address %s, want %s", got, want)
		}
	}
	router := must(e.port(alice, model.Port{NetworkID: n.ID, DeviceOwner: "network:router_interface"}))(t)
	if len(router.FixedIPs) != 2 {
		t.Errorf("router port has %v, want no automatic address", addresses(router))
	}
	_, err := e.port(alice, model.Port{NetworkID: n.ID, FixedIPs: []model.FixedIP{{SubnetID: a.ID, IPAddress: ip("fd00:2::5")}}}, "fixed_ips")
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "configured for automatic addresses")
	mac := model.MAC{0xfa, 0x16, 0x3e, 1, 2, 3}
	eui := ipam.EUI64(a.CIDR, mac)
	own := must(e.port(alice, model.Port{NetworkID: n.ID, MAC: mac, FixedIPs: []model.FixedIP{{IPAddress: eui}}}, "fixed_ips", "mac_address"))(t)
	if got := addresses(own); !slices.Equal(got, []string{eui.String(), ipam.EUI64(b.CIDR, mac).String()}) {
		t.Errorf("addresses %v", got)
	}
	moved := must(e.updatePort(alice, own.ID, model.Port{MAC: model.MAC{0xfa, 0x16, 0x3e, 9, 9, 9}}, "mac_address"))(t)
	if got := moved.FixedIPs[0].IPAddress; got != ipam.EUI64(a.CIDR, moved.MAC) {
		t.Errorf("automatic address %s did not follow the MAC", got)
	}
}

func TestPortFixedIPs(t *testing.T) {
	e := newEnv(t)
	n, s := e.simple(alice, "10.0.0.0/24")
	s2 := must(e.subnet(alice, v4(n, "10.1.0.0/24")))(t)
	other, foreign := e.simple(alice, "10.9.0.0/24")
	create := func(ips ...model.FixedIP) (*model.Port, error) {
		return e.port(alice, model.Port{NetworkID: n.ID, FixedIPs: ips}, "fixed_ips")
	}
	p := must(create(model.FixedIP{IPAddress: ip("10.1.0.50")}, model.FixedIP{SubnetID: s.ID}, model.FixedIP{SubnetID: s.ID},
		model.FixedIP{SubnetID: s.ID, IPAddress: ip("10.0.0.1")}))(t)
	if len(p.FixedIPs) != 4 || p.FixedIPs[0] != (model.FixedIP{SubnetID: s2.ID, IPAddress: ip("10.1.0.50")}) ||
		p.FixedIPs[1].IPAddress == p.FixedIPs[2].IPAddress || p.FixedIPs[3].IPAddress != ip("10.0.0.1") {
		t.Errorf("fixed IPs %v", addresses(p))
	}
	many := make([]model.FixedIP, 65)
	for i, tc := range []struct {
		ips   []model.FixedIP
		class neutron.Class
		typ   string
		part  string
	}{
		{[]model.FixedIP{{IPAddress: ip("10.1.0.50")}}, neutron.ClassConflict, "IpAddressInUse", "The IP address 10.1.0.50 is in use"},
		{[]model.FixedIP{{IPAddress: ip("192.0.2.1")}}, neutron.ClassBadRequest, "InvalidIpForNetwork", "not a valid IP for any of the subnets"},
		{[]model.FixedIP{{SubnetID: s.ID, IPAddress: ip("10.1.0.51")}}, neutron.ClassBadRequest, "InvalidIpForSubnet", "10.1.0.51 is not a valid IP"},
		{[]model.FixedIP{{IPAddress: ip("10.1.0.0")}}, neutron.ClassBadRequest, "InvalidIpForSubnet", "10.1.0.0"},
		{[]model.FixedIP{{IPAddress: ip("10.1.0.255")}}, neutron.ClassBadRequest, "InvalidIpForSubnet", "10.1.0.255"},
		{[]model.FixedIP{{SubnetID: foreign.ID}}, neutron.ClassBadRequest, "InvalidInput", "invalid subnet " + string(foreign.ID)},
		{[]model.FixedIP{{SubnetID: "nothing", IPAddress: ip("10.0.0.5")}}, neutron.ClassBadRequest, "InvalidInput", "invalid subnet nothing"},
		{[]model.FixedIP{{}}, neutron.ClassBadRequest, "InvalidInput", "IP allocation requires subnet_id or ip_address"},
		{[]model.FixedIP{{IPAddress: ip("10.1.0.60")}, {IPAddress: ip("10.1.0.60")}}, neutron.ClassBadRequest, "InvalidInput", "Duplicate IP address"},
		{many, neutron.ClassBadRequest, "InvalidInput", "Exceeded maximum amount of fixed ips per port"},
	} {
		t.Run(fmt.Sprint(i, tc.typ), func(t *testing.T) {
			_, err := create(tc.ips...)
			wantError(t, err, tc.class, tc.typ, tc.part)
		})
	}
	_, err := e.port(alice, model.Port{NetworkID: "nothing"})
	wantError(t, err, neutron.ClassNotFound, "NetworkNotFound", "Network nothing could not be found")
	_, err = e.port(bob, model.Port{NetworkID: other.ID})
	wantError(t, err, neutron.ClassNotFound, "NetworkNotFound", "")
}

// TestPortFixedIPsUpdate: what is asked for again stays, also when it is asked for by subnet only.
func TestPortFixedIPsUpdate(t *testing.T) {
	e := newEnv(t)
	n, s := e.simple(alice, "10.0.0.0/24")
	auto := must(e.subnet(alice, slaac(n, "fd00::/64")))(t)
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	was, eui := p.FixedIPs[0], p.FixedIPs[1]
	update := func(ips ...model.FixedIP) (*model.Port, error) {
		return e.updatePort(alice, p.ID, model.Port{FixedIPs: ips}, "fixed_ips")
	}
	up := must(update(model.FixedIP{SubnetID: s.ID}))(t)
	if !slices.Equal(up.FixedIPs, []model.FixedIP{was, eui}) || up.Revision != 0 {
		t.Errorf("by subnet: %v revision %d, want nothing changed", addresses(up), up.Revision)
	}
	up = must(update(was, model.FixedIP{IPAddress: ip("10.0.0.200")}))(t)
	if got, want := addresses(up), []string{was.IPAddress.String(), "10.0.0.200", eui.IPAddress.String()}; !slices.Equal(got, want) {
		t.Errorf("after adding one: %v, want %v", got, want)
	}
	up = must(update(model.FixedIP{SubnetID: s.ID, IPAddress: ip("10.0.0.200")}))(t)
	if got, want := addresses(up), []string{"10.0.0.200", eui.IPAddress.String()}; !slices.Equal(got, want) {
		t.Errorf("after removing one: %v, want %v", got, want)
	}
	q := must(e.port(alice, model.Port{NetworkID: n.ID, FixedIPs: []model.FixedIP{{IPAddress: was.IPAddress}}}, "fixed_ips"))(t)
	if q.FixedIPs[0] != was {
		t.Errorf("the freed address was not given: %v", addresses(q))
	}
	_, err := update(was)
	wantError(t, err, neutron.ClassConflict, "IpAddressInUse", was.IPAddress.String())
	if up = must(update())(t); len(up.FixedIPs) != 0 {
		t.Errorf("fixed_ips [] left %v", addresses(up))
	}
	up = must(update(model.FixedIP{SubnetID: auto.ID}))(t)
	if got := addresses(up); !slices.Equal(got, []string{eui.IPAddress.String()}) {
		t.Errorf("automatic subnet gave %v", got)
	}
}

func TestPortMAC(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", model.RoleCompute)
	n, _ := e.simple(alice, "10.0.0.0/24")
	mac := model.MAC{0xfa, 0x16, 0x3e, 0, 0, 7}
	p := must(e.port(alice, model.Port{NetworkID: n.ID, MAC: mac}, "mac_address"))(t)
	_, err := e.port(alice, model.Port{NetworkID: n.ID, MAC: mac}, "mac_address")
	wantError(t, err, neutron.ClassConflict, "MacAddressInUse", "The mac address fa:16:3e:00:00:07 is in use")
	other, _ := e.simple(alice, "10.0.0.0/24")
	must(e.port(alice, model.Port{NetworkID: other.ID, MAC: mac}, "mac_address"))(t)
	_, err = e.port(alice, model.Port{NetworkID: n.ID, MAC: model.MAC{1, 0, 0x5e, 0, 0, 1}}, "mac_address")
	wantError(t, err, neutron.ClassBadRequest, "HTTPBadRequest", "not a valid unicast MAC")

	again := must(e.updatePort(alice, p.ID, model.Port{}, "mac_address"))(t)
	if again.MAC == mac || !strings.HasPrefix(again.MAC.String(), "fa:16:3e:") {
		t.Errorf("null gave MAC %s", again.MAC)
	}
	must(e.updatePort(nova, p.ID, model.Port{Binding: model.Binding{Host: "cmp1"}}, "binding:host_id"))(t)
	_, err = e.updatePort(alice, p.ID, model.Port{MAC: mac}, "mac_address")
	wantError(t, err, neutron.ClassConflict, "PortBound", "port is already bound, port type: ovs, old_mac "+again.MAC.String())
	if same := must(e.updatePort(alice, p.ID, model.Port{MAC: again.MAC}, "mac_address"))(t); same.MAC != again.MAC {
		t.Error("the same MAC again changed it")
	}
}

func TestPortPolicy(t *testing.T) {
	e := newEnv(t)
	shared := must(e.network(admin, model.Network{Shared: true}))(t)
	must(e.subnet(admin, v4(shared, "10.0.0.0/24")))(t)
	sub := e.svc.Networks().Present(e.st.Snapshot(), admin, shared).Subnets[0]
	for i, tc := range []struct {
		v     model.Port
		given []string
		rule  string
	}{
		{model.Port{MAC: model.MAC{2, 0, 0, 0, 0, 1}}, []string{"mac_address"}, "(rule:create_port and rule:create_port:mac_address)"},
		{model.Port{FixedIPs: []model.FixedIP{{IPAddress: ip("10.0.0.200")}}}, []string{"fixed_ips"},
			"(rule:create_port and (rule:create_port:fixed_ips and (rule:create_port:fixed_ips:ip_address)))"},
		{model.Port{DeviceOwner: "network:dhcp"}, []string{"device_owner"}, "(rule:create_port and rule:create_port:device_owner)"},
		{model.Port{}, []string{"port_security_enabled"}, "rule:create_port:port_security_enabled"},
		{model.Port{PortSecurityEnabled: true, AllowedAddressPairs: []model.AddressPair{{IPAddress: netip.MustParsePrefix("10.0.0.9/32")}}},
			[]string{"allowed_address_pairs"}, "rule:create_port:allowed_address_pairs"},
		{model.Port{Binding: model.Binding{Host: "h"}}, []string{"binding:host_id"}, "(rule:create_port and rule:create_port:binding:host_id)"},
		{model.Port{Binding: model.Binding{Profile: map[string]any{"a": 1}}}, []string{"binding:profile"}, "rule:create_port:binding:profile"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			tc.v.NetworkID = shared.ID
			_, err := e.port(bob, tc.v, tc.given...)
			wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", tc.rule)
			must(e.port(admin, tc.v, tc.given...))(t)
		})
	}
	must(e.port(bob, model.Port{NetworkID: shared.ID, FixedIPs: []model.FixedIP{{SubnetID: sub}}}, "fixed_ips"))(t)
	_, err := e.port(auditor, model.Port{NetworkID: shared.ID})
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_port is disallowed by policy")

	// The owner of the network sees a port of another project on it and may delete it, not change it.
	mine := must(e.network(alice, model.Network{}))(t)
	theirs := must(e.port(admin, model.Port{NetworkID: mine.ID, Standard: model.Standard{ProjectID: bob.ProjectID}}))(t)
	if v := e.svc.Ports().Visible; !v(e.st.Snapshot(), alice, theirs) || !v(e.st.Snapshot(), bob, theirs) {
		t.Error("a port is hidden from the owner of its network or its own")
	}
	_, err = e.updatePort(alice, theirs.ID, model.Port{Name: "x"}, "name")
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:update_port is disallowed by policy")
	if err := e.svc.Ports().Delete(e.ctx, alice, string(theirs.ID), nil); err != nil {
		t.Errorf("network's owner cannot delete: %v", err)
	}
	hidden := must(e.port(alice, model.Port{NetworkID: mine.ID}))(t)
	_, err = e.updatePort(bob, hidden.ID, model.Port{Name: "x"}, "name")
	wantError(t, err, neutron.ClassNotFound, "PortNotFound", "Port "+string(hidden.ID)+" could not be found.")
	wantError(t, e.svc.Ports().Delete(e.ctx, bob, string(hidden.ID), nil), neutron.ClassNotFound, "PortNotFound", "")
}

func TestPortSecurityAndPairs(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	pairs := func(list ...string) []model.AddressPair {
		var out []model.AddressPair
		for _, s := range list {
			out = append(out, model.AddressPair{IPAddress: netip.MustParsePrefix(s)})
		}
		return out
	}
	p := must(e.port(alice, model.Port{NetworkID: n.ID, AllowedAddressPairs: pairs("10.0.0.9/32", "10.8.0.0/16")}, "allowed_address_pairs"))(t)
	if len(p.AllowedAddressPairs) != 2 || p.AllowedAddressPairs[0].MAC != p.MAC {
		t.Errorf("pairs %+v", p.AllowedAddressPairs)
	}
	_, err := e.updatePort(alice, p.ID, model.Port{}, "port_security_enabled")
	wantError(t, err, neutron.ClassConflict, "AddressPairAndPortSecurityRequired", "Port Security must be enabled")
	off := must(e.updatePort(alice, p.ID, model.Port{}, "port_security_enabled", "allowed_address_pairs", "security_groups"))(t)
	if off.PortSecurityEnabled || len(off.AllowedAddressPairs) != 0 || len(off.SecurityGroups) != 0 {
		t.Errorf("port %+v", off)
	}
	_, err = e.port(alice, model.Port{NetworkID: n.ID, AllowedAddressPairs: pairs("10.0.0.9/32", "10.0.0.9/32")}, "allowed_address_pairs")
	wantError(t, err, neutron.ClassBadRequest, "DuplicateAddressPairInRequest", "ip_address 10.0.0.9.")
	var eleven []string
	for i := range 11 {
		eleven = append(eleven, fmt.Sprintf("10.0.1.%d/32", i))
	}
	_, err = e.port(alice, model.Port{NetworkID: n.ID, AllowedAddressPairs: pairs(eleven...)}, "allowed_address_pairs")
	wantError(t, err, neutron.ClassBadRequest, "AllowedAddressPairExhausted", "exceeds the maximum 10")

	must(e.svc.Networks().Update(e.ctx, alice, string(n.ID), resource.NewInput(model.Network{}, "port_security_enabled"), nil))(t)
	if p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t); p.PortSecurityEnabled {
		t.Error("port does not follow its network's port security")
	}
	if p := must(e.port(alice, model.Port{NetworkID: n.ID, PortSecurityEnabled: true}, "port_security_enabled"))(t); !p.PortSecurityEnabled {
		t.Error("port does not keep its own port security")
	}
}

func TestPortDHCPOptions(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	opt := func(name, value string) model.ExtraDHCPOpt {
		return model.ExtraDHCPOpt{Name: name, Value: value, IPVersion: 4}
	}
	p := must(e.port(alice, model.Port{NetworkID: n.ID, ExtraDHCPOpts: []model.ExtraDHCPOpt{opt("a", "1"), opt("b", "2"), {Name: "c", Remove: true}}}))(t)
	if want := []model.ExtraDHCPOpt{opt("a", "1"), opt("b", "2")}; !slices.Equal(p.ExtraDHCPOpts, want) {
		t.Errorf("options %+v", p.ExtraDHCPOpts)
	}
	up := must(e.updatePort(alice, p.ID, model.Port{ExtraDHCPOpts: []model.ExtraDHCPOpt{
		{Name: "a", IPVersion: 4, Remove: true}, opt("b", "3"), {Name: "b", Value: "6", IPVersion: 6},
	}}, "extra_dhcp_opts"))(t)
	if want := []model.ExtraDHCPOpt{opt("b", "3"), {Name: "b", Value: "6", IPVersion: 6}}; !slices.Equal(up.ExtraDHCPOpts, want) {
		t.Errorf("options %+v, want %+v", up.ExtraDHCPOpts, want)
	}
}

func TestPortDNS(t *testing.T) {
	off, on := newEnv(t), newEnv(t, func(c *neutron.Config) { c.DNSDomain = "example.org." })
	n, _ := off.simple(alice, "10.0.0.0/24")
	if p := must(off.port(alice, model.Port{NetworkID: n.ID, DNSName: "web"}))(t); p.DNSName != "" || !strings.HasSuffix(p.DNSAssignment[0].FQDN, ".openstacklocal.") {
		t.Errorf("with integration off: dns_name %q, %+v", p.DNSName, p.DNSAssignment)
	}
	n, _ = on.simple(alice, "10.0.0.0/24")
	for _, tc := range []struct{ name, keep, host, fqdn string }{
		{"Web", "web", "web", "web.example.org."},
		{"web.example.org.", "web.example.org.", "web", "web.example.org."},
	} {
		p := must(on.port(alice, model.Port{NetworkID: n.ID, DNSName: tc.name}))(t)
		want := []model.DNSAssignment{{IPAddress: p.FixedIPs[0].IPAddress, Hostname: tc.host, FQDN: tc.fqdn}}
		if p.DNSName != tc.keep || !slices.Equal(p.DNSAssignment, want) {
			t.Errorf("dns_name %q: %q %+v, want %+v", tc.name, p.DNSName, p.DNSAssignment, want)
		}
	}
	_, err := on.port(alice, model.Port{NetworkID: n.ID, DNSName: "web.other.org."})
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "must be equal to the dns_domain option")
	_, err = on.port(alice, model.Port{NetworkID: n.ID, DNSName: strings.Repeat("a.", 125) + "a"})
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "PQDN")
}

func TestPortUpdateWithoutChange(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	p := must(e.port(alice, model.Port{NetworkID: n.ID, Name: "a", AllowedAddressPairs: []model.AddressPair{{IPAddress: netip.MustParsePrefix("10.0.0.9/32")}}}))(t)
	before := e.st.Snapshot().Revision()
	same := must(e.updatePort(alice, p.ID, model.Port{Name: "a", DeviceID: "", AllowedAddressPairs: p.AllowedAddressPairs}, "name", "device_id", "allowed_address_pairs"))(t)
	if same.Revision != 0 || e.st.Snapshot().Revision() != before {
		t.Errorf("revision %d; store moved from %d to %d", same.Revision, before, e.st.Snapshot().Revision())
	}
	if d := cmp.Diff(p.Name, same.Name); d != "" {
		t.Error(d)
	}
	stale := int64(7)
	_, err := e.svc.Ports().Update(e.ctx, alice, string(p.ID), resource.NewInput(model.Port{Name: "b"}, "name"), &stale)
	wantError(t, err, neutron.ClassPrecondition, "RevisionNumberConstraintFailed", "Constrained to 7, but current revision is 0")
}
