package nodestate

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() []Record {
	return []Record{
		&Port{ID: "p1", NetworkID: "n1", Name: "my port", MAC: MAC{2, 0, 0, 0, 0, 1}, AdminUp: true, PortSecurity: true,
			Addresses:    []Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24"), SubnetID: "s1"}, {Prefix: netip.MustParsePrefix("fd00::5/64")}},
			AllowedPairs: []Pair{{MAC: MAC{2}, Prefix: netip.MustParsePrefix("10.1.0.0/16")}}, DeviceOwner: "compute:nova", Hybrid: true,
			Groups: []string{"g1", "g2"}, QoS: QoS{Egress: Rate{Kbps: 5000, Burst: 4000}, Ingress: Rate{Kbps: 8000}, Marked: true}},
		&Network{ID: "n1", Name: "blue", Type: "vxlan", SegmentationID: 1716, MTU: 1450,
			More: []Segment{{Type: "vlan", PhysicalNetwork: "public", SegmentationID: 7}, {Type: "flat", PhysicalNetwork: "a,b"}}},
		&DHCPHost{PortID: "p1", NetworkID: "n1", MAC: MAC{2, 0, 0, 0, 0, 1}, Serve: true,
			Addresses: []HostAddress{{SubnetID: "s1", IP: netip.MustParseAddr("10.0.0.5"), Hostname: "host-10-0-0-5", FQDN: "host-10-0-0-5.x"}},
			Options:   []DHCPOption{{Name: "mtu", Value: "a,b", IPVersion: 4}},
			Instance:  Instance{ID: "i1", Meta: map[string]string{"b": "2", "a": "1"}, UserData: []byte("#!\n")}},
		&DHCP{NetworkID: "n1", MTU: 1450, DNSDomain: "x", Metadata: true, Subnets: []DHCPSubnet{{ID: "s1",
			CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), EnableDHCP: true,
			HostRoutes: []Route{{Destination: netip.MustParsePrefix("10.9.0.0/16"), NextHop: netip.MustParseAddr("10.0.0.9")}},
			Servers:    []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}},
		&Peers{NetworkID: "n1", Host: "node-2", Endpoint: netip.MustParseAddr("192.0.2.2"),
			Peers: []Peer{{PortID: "p2", MAC: MAC{2, 0, 0, 0, 0, 2}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.6")}}}},
		&Group{ID: "g1", Stateless: true, Rules: []Rule{
			{ID: "r1", Egress: true, IPv6: true, Protocol: -1, PortMin: -1, PortMax: -1, Members: "g2"},
			{ID: "r2", Protocol: 1, PortMin: 8, PortMax: 0, Remote: netip.MustParsePrefix("10.0.0.0/8")}}},
		&Members{ID: "g2", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.6/32"), netip.MustParsePrefix("fd00::/64")}},
		&Trunk{ID: "t1", PortID: "p1", AdminUp: true, SubPorts: []SubPort{{PortID: "p2", Tag: 10}}},
	}
}

const sampleDump = `dhcp/n1 mtu=1450 domain=x metadata subnet={s1,10.0.0.0/24 gateway=10.0.0.1 dhcp route=10.9.0.0/16,10.0.0.9 server=10.0.0.2}
dhcp-host/p1 network=n1 mac=02:00:00:00:00:01 ip=10.0.0.5,s1,host-10-0-0-5,host-10-0-0-5.x option=v4,mtu,"a,b" serve instance=i1 userdata="#!\n" meta=a=1 meta=b=2
group/g1 stateless rule={r1 egress ipv6 members=g2} rule={r2 proto=1 min=8 max=0 remote=10.0.0.0/8}
members/g2 member=10.0.0.6/32 member=fd00::/64
network/n1 name=blue type=vxlan segment=1716 mtu=1450 more=vlan,public,7 more=flat,"a,b",0
peers/n1@node-2 network=n1 host=node-2 endpoint=192.0.2.2 peer=p2,02:00:00:00:00:02,10.0.0.6
port/p1 network=n1 name="my port" mac=02:00:00:00:00:01 ip=10.0.0.5/24,s1 ip=fd00::5/64 allowed=02:00:00:00:00:00,10.1.0.0/16 up secure owner=compute:nova hybrid group=g1 group=g2 egress=5000,4000 ingress=8000,0 dscp=0
trunk/t1 parent=p1 up subport=10,p2
`

func TestDump(t *testing.T) {
	var b strings.Builder
	if err := Dump(&b, sample()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleDump, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDiffAndApply(t *testing.T) {
	old, set := sample(), map[Key]Record{}
	Apply(set, Update{Complete: true, Upserts: old})
	changed := &Network{ID: "n1", Name: "green", Type: "vxlan", SegmentationID: 1716, MTU: 1450}
	next := append(sample()[2:], changed, &Network{ID: "n2"})
	upserts, deletes := Diff(old, next)
	if len(upserts) != 2 || upserts[0] != Record(changed) || upserts[1].Key() != NetworkKey("n2") {
		t.Errorf("upserts %v", upserts)
	}
	if diff := cmp.Diff([]Key{PortKey("p1")}, deletes); diff != "" {
		t.Errorf("deletes (-want +got):\n%s", diff)
	}
	Apply(set, Update{Upserts: upserts, Deletes: deletes})
	var have []Record
	for _, r := range set {
		have = append(have, r)
	}
	if u, d := Diff(have, next); len(u)+len(d) != 0 {
		t.Errorf("applying a difference leaves %v, %v", u, d)
	}
	if u, d := Diff(next, next); len(u)+len(d) != 0 {
		t.Errorf("a set differs from itself: %v, %v", u, d)
	}
}

// TestCachedStateRemovesNothing: what a node remembers may be old.
func TestCachedStateRemovesNothing(t *testing.T) {
	set := map[Key]Record{}
	Apply(set, Update{Complete: true, Upserts: sample()})
	Apply(set, Update{Complete: true, Cached: true, Upserts: []Record{&Network{ID: "n9"}}})
	if len(set) != len(sample())+1 {
		t.Errorf("%d records after a cached state of one, want %d", len(set), len(sample())+1)
	}
	Apply(set, Update{Complete: true})
	if len(set) != 0 {
		t.Errorf("%d records after an empty complete state", len(set))
	}
}

func TestEqual(t *testing.T) {
	a, b := &Port{ID: "p"}, &Port{ID: "p", Addresses: []Address{}}
	if !Equal(a, b) || Equal(a, nil) || !Equal(nil, nil) || Equal(a, &Network{ID: "p"}) || Equal(a, &Port{ID: "p", AdminUp: true}) {
		t.Error("Equal is wrong")
	}
}

func TestHashKeyIsOfItsText(t *testing.T) {
	for _, k := range []Key{{}, PortKey("p"), PeersKey("n", strings.Repeat("h", 300))} {
		if HashKey(k) != HashContent([]byte(k.String())) {
			t.Errorf("hash of %q is not that of its text", k)
		}
	}
}
