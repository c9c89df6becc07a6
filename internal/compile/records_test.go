package compile_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/compile"
	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// scenario is a network with two subnets, served by node a: a guest on b, a DHCP port on a, a router's interface that owns the first
// gateway, and a port that is reserved.
func scenario(t *testing.T) store.Read {
	st := storetest.New(t, model.AllTables()...)
	ip := netip.MustParseAddr
	port := func(id string, owner, host string, mac byte, ips ...model.FixedIP) *model.Port {
		p := &model.Port{Standard: model.Standard{ID: model.ID(id), ProjectID: "project"}, NetworkID: "net", AdminStateUp: true,
			MAC: model.MAC{2, 0, 0, 0, 0, mac}, DeviceOwner: owner, FixedIPs: ips}
		if host != "" {
			p.Binding = model.Binding{Host: host, VIFType: model.VIFOVS}
		}
		return p
	}
	guest := port("guest", "compute:nova", "b", 1, model.FixedIP{SubnetID: "s1", IPAddress: ip("10.0.0.5")},
		model.FixedIP{SubnetID: "s2", IPAddress: ip("fd00::5")})
	guest.DeviceID, guest.DNSName, guest.Name = "vm-1", "web", "web port"
	guest.AllowedAddressPairs = []model.AddressPair{{IPAddress: netip.MustParsePrefix("10.0.9.0/24")}}
	guest.ExtraDHCPOpts = []model.ExtraDHCPOpt{{Name: "tftp-server", Value: "10.0.0.99"}}
	guest.Binding.VIFDetails = map[string]any{"ovs_hybrid_plug": true}
	_, err := st.Update(t.Context(), func(tx store.Tx) error {
		store.Put(tx, model.NetworkTable, &model.Network{Standard: model.Standard{ID: "net"}, Name: "blue", AdminStateUp: true, MTU: 1450,
			Segment: model.Segment{Type: model.TypeVXLAN, SegmentationID: 7}})
		store.Put(tx, model.SubnetTable, &model.Subnet{Standard: model.Standard{ID: "s1"}, NetworkID: "net", IPVersion: 4, EnableDHCP: true,
			CIDR: netip.MustParsePrefix("10.0.0.0/24"), GatewayIP: ip("10.0.0.1"), DNSNameservers: []netip.Addr{ip("192.0.2.53")},
			HostRoutes: []model.HostRoute{{Destination: netip.MustParsePrefix("10.7.0.0/16"), NextHop: ip("10.0.0.7")}}})
		store.Put(tx, model.SubnetTable, &model.Subnet{Standard: model.Standard{ID: "s2"}, NetworkID: "net", IPVersion: 6,
			CIDR: netip.MustParsePrefix("fd00::/64"), GatewayIP: ip("fd00::1"), IPv6RAMode: model.ModeSLAAC, IPv6AddressMode: model.ModeSLAAC})
		store.Put(tx, model.NodeTable, &model.Node{Host: "b", TunnelIP: ip("192.0.2.2"), TunnelTypes: []string{model.TypeVXLAN}, AvailabilityZone: "z1"})
		store.Put(tx, model.NodeTable, &model.Node{Host: "a", TunnelIP: ip("192.0.2.1"), TunnelTypes: []string{model.TypeGRE}})
		store.Put(tx, model.DHCPBindingTable, &model.DHCPBinding{NetworkID: "net", Host: "a"})
		store.Put(tx, model.PortTable, guest)
		store.Put(tx, model.PortTable, port("dhcp", model.OwnerDHCP, "a", 2, model.FixedIP{SubnetID: "s1", IPAddress: ip("10.0.0.2")}))
		store.Put(tx, model.PortTable, port("reserved", model.OwnerDHCP, "", 3, model.FixedIP{SubnetID: "s1", IPAddress: ip("10.0.0.3")}))
		store.Put(tx, model.PortTable, port("router", "network:router_interface", "", 4, model.FixedIP{SubnetID: "s1", IPAddress: ip("10.0.0.1")}))
		store.Put(tx, model.InstanceTable, &model.Instance{PortID: "guest", Host: "b", Name: "web-vm", UserData: []byte("#!/bin/sh"),
			PublicKeys: map[string]string{"k": "ssh-ed25519 A"}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return st.Snapshot()
}

func TestRecordsOfANode(t *testing.T) {
	r := scenario(t)
	cases := []struct {
		name, node string
		cfg        compile.Config
		want       []string
	}{
		{"node that serves DHCP", "a", compile.Config{}, []string{
			`dhcp/net mtu=1450 domain=openstacklocal metadata subnet={s1,10.0.0.0/24 gateway=10.0.0.1 dhcp dns=192.0.2.53 route=10.7.0.0/16,10.0.0.7 routed server=10.0.0.2} subnet={s2,fd00::/64 gateway=fd00::1 ra=slaac mode=slaac}`,
			`dhcp-host/guest network=net mac=02:00:00:00:00:01 ip=10.0.0.5,s1,host-10-0-0-5,host-10-0-0-5.openstacklocal ip=fd00::5,s2,host-fd00--5,host-fd00--5.openstacklocal option=v4,tftp-server,10.0.0.99 serve instance=vm-1 project=project hostname=web-vm key=k="ssh-ed25519 A" userdata="#!/bin/sh" zone=z1`,
			`dhcp-host/router network=net mac=02:00:00:00:00:04 ip=10.0.0.1,s1,host-10-0-0-1,host-10-0-0-1.openstacklocal instance=router project=project hostname=host-10-0-0-1`,
			`network/net name=blue type=vxlan segment=7 mtu=1450`,
			`peers/net@b network=net host=b endpoint=192.0.2.2 peer=guest,02:00:00:00:00:01,10.0.0.5,fd00::5`,
			`port/dhcp network=net mac=02:00:00:00:00:02 ip=10.0.0.2/24,s1 up owner=network:dhcp`,
		}},
		{"node of the guest; a has no endpoint of the network's type", "b", compile.Config{}, []string{
			`network/net name=blue type=vxlan segment=7 mtu=1450`,
			`port/guest network=net name="web port" mac=02:00:00:00:00:01 ip=10.0.0.5/24,s1 ip=fd00::5/64,s2 allowed=02:00:00:00:00:01,10.0.9.0/24 up owner=compute:nova device=vm-1 hybrid`,
		}},
		{"node with nothing", "c", compile.Config{}, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, rec := range compile.Node(r, tc.cfg, tc.node) {
				got = append(got, nodestate.Text(rec))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNames(t *testing.T) {
	r := scenario(t)
	row, _ := store.Get(r, model.PortTable, "guest")
	cases := []struct{ domain, dnsName, hostname, fqdn string }{
		{"", "web", "host-10-0-0-5", "host-10-0-0-5.openstacklocal"},
		{"openstacklocal.", "web", "host-10-0-0-5", "host-10-0-0-5.openstacklocal"},
		{"example.org.", "web", "web", "web.example.org"},
		{"example.org", "web.other.net.", "web", "web.other.net"},
		{"example.org", "", "host-10-0-0-5", "host-10-0-0-5.example.org"},
	}
	for _, tc := range cases {
		p := *row
		p.DNSName = tc.dnsName
		got := compile.DHCPHost(r, compile.Config{DNSDomain: tc.domain}, &p).Addresses[0]
		if got.Hostname != tc.hostname || got.FQDN != tc.fqdn {
			t.Errorf("domain %q, dns_name %q: %s, %s; want %s, %s", tc.domain, tc.dnsName, got.Hostname, got.FQDN, tc.hostname, tc.fqdn)
		}
	}
}

// TestGroupRecords: what a node's filtered ports need and nothing else; members are those of all nodes, also reserved ones.
func TestGroupRecords(t *testing.T) {
	st := storetest.New(t, model.AllTables()...)
	n := byte(0)
	port := func(owner, host, ip, pair string, secure bool, groups ...model.ID) *model.Port {
		n++
		p := &model.Port{Standard: model.Standard{ID: model.ID('a' + rune(n))}, NetworkID: "net", MAC: model.MAC{2, 0, 0, 0, 0, n},
			DeviceOwner: owner, PortSecurityEnabled: secure, SecurityGroups: groups,
			FixedIPs: []model.FixedIP{{SubnetID: "s", IPAddress: netip.MustParseAddr(ip)}}}
		if pair != "" {
			p.AllowedAddressPairs = []model.AddressPair{{IPAddress: netip.MustParsePrefix(pair)}}
		}
		if host != "" {
			p.Binding = model.Binding{Host: host, VIFType: model.VIFOVS}
		}
		return p
	}
	rule := func(id, group model.ID, direction, ethertype, protocol string, lo, hi int, prefix string, remote, addresses model.ID) *model.SecurityGroupRule {
		r := &model.SecurityGroupRule{Standard: model.Standard{ID: id}, SecurityGroupID: group, Direction: direction, EtherType: ethertype,
			Protocol: protocol, PortMin: lo, PortMax: hi, RemoteGroupID: remote, RemoteAddressGroupID: addresses}
		if prefix != "" {
			r.NormalizedPrefix = netip.MustParsePrefix(prefix)
		}
		return r
	}
	const in, out, v4, v6 = model.DirectionIngress, model.DirectionEgress, model.EtherIPv4, model.EtherIPv6
	_, err := st.Update(t.Context(), func(tx store.Tx) error {
		for _, p := range []*model.Port{
			port("compute:nova", "a", "10.0.0.1", "", true, "web", "none"),
			port("compute:nova", "b", "10.0.0.2", "10.9.0.0/24", true, "db"),
			port("compute:nova", "", "fd00::3", "10.0.0.2/32", true, "db"),
			port("compute:nova", "a", "10.0.0.4", "", false, "unfiltered"),
			port("network:router_interface", "a", "10.0.0.5", "", true, "db"),
		} {
			store.Put(tx, model.PortTable, p)
		}
		for _, g := range []model.ID{"web", "db", "unfiltered"} {
			store.Put(tx, model.SecurityGroupTable, &model.SecurityGroup{Standard: model.Standard{ID: g}, Stateful: g != "web"})
		}
		store.Put(tx, model.AddressGroupTable, &model.AddressGroup{Standard: model.Standard{ID: "office"},
			Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("fd00:1::/64")}})
		for _, r := range []*model.SecurityGroupRule{
			rule("r1", "web", in, v6, "icmp", 128, 0, "", "db", ""),
			rule("r2", "web", in, v4, "tcp", 80, 81, "0.0.0.0/0", "", ""),
			rule("r3", "web", out, v4, "89", -1, -1, "10.0.0.0/8", "", ""),
			rule("r4", "web", out, v4, "", -1, -1, "", "", "office"),
			rule("r5", "web", out, v4, "nonsense", -1, -1, "", "", ""),
			rule("r6", "web", out, v6, "", -1, -1, "10.0.0.0/8", "", ""),
			rule("r7", "db", in, v4, "", -1, -1, "", "unused", ""),
		} {
			store.Put(tx, model.SecurityGroupRuleTable, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rec := range compile.Node(st.Snapshot(), compile.Config{}, "a") {
		if rec.Key().Kind != nodestate.KindNetwork {
			got = append(got, nodestate.Text(rec))
		}
	}
	want := []string{
		"group/web stateless rule={r1 ipv6 proto=58 min=128 max=0 members=db} rule={r2 proto=6 min=80 max=81} " +
			"rule={r3 egress proto=89 remote=10.0.0.0/8} rule={r4 egress members=office}",
		"members/db member=10.0.0.2/32 member=10.0.0.5/32 member=10.9.0.0/24 member=fd00::3/128",
		"members/office member=192.0.2.0/25 member=fd00:1::/64",
		"port/b network=net mac=02:00:00:00:00:01 ip=10.0.0.1/32,s secure owner=compute:nova group=none group=web",
		"port/e network=net mac=02:00:00:00:00:04 ip=10.0.0.4/32,s owner=compute:nova",
		"port/f network=net mac=02:00:00:00:00:05 ip=10.0.0.5/32,s secure owner=network:router_interface",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
