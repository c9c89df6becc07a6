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
