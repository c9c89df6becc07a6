package southbound

import (
	"fmt"
	"math"
	"net/netip"

	"baryon/internal/nodestate"
	pb "baryon/proto/baryon/v1"
)

// decoder turns messages into records and remembers the first thing that was wrong.
type decoder struct{ err error }

func (d *decoder) fail(format string, a ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, a...)
	}
}

func (d *decoder) record(m *pb.Record) nodestate.Record {
	switch v := m.GetRecord().(type) {
	case *pb.Record_Network:
		n := &nodestate.Network{ID: d.id(v.Network.GetId()), Name: v.Network.GetName(), Type: v.Network.GetType(),
			PhysicalNetwork: v.Network.GetPhysicalNetwork(), SegmentationID: v.Network.GetSegmentationId(), MTU: int(v.Network.GetMtu())}
		for _, s := range v.Network.GetMore() {
			n.More = append(n.More, nodestate.Segment{Type: s.GetType(), PhysicalNetwork: s.GetPhysicalNetwork(), SegmentationID: s.GetSegmentationId()})
		}
		return n
	case *pb.Record_Port:
		return d.port(v.Port)
	case *pb.Record_Peers:
		p := &nodestate.Peers{NetworkID: d.id(v.Peers.GetNetworkId()), Host: d.id(v.Peers.GetHost()), Endpoint: d.addr(v.Peers.GetEndpoint())}
		for _, e := range v.Peers.GetPeers() {
			p.Peers = append(p.Peers, nodestate.Peer{PortID: d.id(e.GetPortId()), MAC: d.mac(e.GetMac()), IPs: d.addrs(e.GetIps())})
		}
		return p
	case *pb.Record_Dhcp:
		h := &nodestate.DHCP{NetworkID: d.id(v.Dhcp.GetNetworkId()), MTU: int(v.Dhcp.GetMtu()), DNSDomain: v.Dhcp.GetDnsDomain(),
			Metadata: v.Dhcp.GetMetadata()}
		for _, s := range v.Dhcp.GetSubnets() {
			h.Subnets = append(h.Subnets, d.subnet(s))
		}
		return h
	case *pb.Record_DhcpHost:
		return d.host(v.DhcpHost)
	case *pb.Record_Group:
		return d.group(v.Group)
	case *pb.Record_Members:
		m := &nodestate.Members{ID: d.id(v.Members.GetId())}
		for _, p := range v.Members.GetPrefixes() {
			m.Prefixes = append(m.Prefixes, d.network(p))
		}
		return m
	case *pb.Record_Trunk:
		return d.trunk(v.Trunk)
	}
	d.err = errUnknownRecord
	return nil
}

func (d *decoder) port(v *pb.Port) *nodestate.Port {
	p := &nodestate.Port{ID: d.id(v.GetId()), NetworkID: d.id(v.GetNetworkId()), Name: v.GetName(), MAC: d.mac(v.GetMac()),
		AdminUp: v.GetAdminUp(), PortSecurity: v.GetPortSecurity(), DeviceOwner: v.GetDeviceOwner(), DeviceID: v.GetDeviceId(),
		Hybrid: v.GetHybrid(), QoS: d.qos(v.GetQos())}
	for _, g := range v.GetGroups() {
		p.Groups = append(p.Groups, d.id(g))
	}
	for _, a := range v.GetAddresses() {
		p.Addresses = append(p.Addresses, nodestate.Address{Prefix: d.prefix(a.GetPrefix()), SubnetID: a.GetSubnetId()})
	}
	for _, a := range v.GetAllowedPairs() {
		p.AllowedPairs = append(p.AllowedPairs, nodestate.Pair{MAC: d.mac(a.GetMac()), Prefix: d.prefix(a.GetPrefix())})
	}
	return p
}

func (d *decoder) qos(v *pb.QoS) nodestate.QoS {
	q := nodestate.QoS{Egress: d.rate(v.GetEgress()), Ingress: d.rate(v.GetIngress()), Marked: v.GetMarked(), DSCP: uint8(v.GetDscp())}
	if v.GetDscp() > maxDSCP {
		d.fail("DSCP value %d, at most %d", v.GetDscp(), maxDSCP)
	}
	return q
}

// maxDSCP is the highest value of the six bits of DSCP, maxTag the highest VLAN id of a guest.
const (
	maxDSCP = 63
	maxTag  = 4094
)

func (d *decoder) rate(v *pb.Rate) nodestate.Rate {
	if v.GetKbps() > math.MaxInt32 || v.GetBurst() > math.MaxInt32 {
		d.fail("rate of %d kbit/s with a burst of %d kbit", v.GetKbps(), v.GetBurst())
	}
	return nodestate.Rate{Kbps: int(v.GetKbps()), Burst: int(v.GetBurst())}
}

// trunk takes only what leaves each VLAN and each port one meaning.
func (d *decoder) trunk(v *pb.Trunk) *nodestate.Trunk {
	t := &nodestate.Trunk{ID: d.id(v.GetId()), PortID: d.id(v.GetPortId()), AdminUp: v.GetAdminUp()}
	tags, ports := map[uint32]bool{}, map[string]bool{t.PortID: true}
	for _, s := range v.GetSubPorts() {
		tag, id := s.GetTag(), d.id(s.GetPortId())
		if tag < 1 || tag > maxTag || tags[tag] || ports[id] {
			d.fail("subport %.40q with VLAN %d", id, tag)
		}
		tags[tag], ports[id] = true, true
		t.SubPorts = append(t.SubPorts, nodestate.SubPort{PortID: id, Tag: uint16(tag)})
	}
	return t
}

func (d *decoder) group(v *pb.Group) *nodestate.Group {
	g := &nodestate.Group{ID: d.id(v.GetId()), Stateless: v.GetStateless()}
	for _, r := range v.GetRules() {
		g.Rules = append(g.Rules, d.rule(r))
	}
	return g
}

// rule takes only what a driver can carry out as it stands: a rule that is read wrongly could let anything pass.
func (d *decoder) rule(v *pb.Rule) nodestate.Rule {
	r := nodestate.Rule{ID: d.id(v.GetId()), Egress: v.GetEgress(), IPv6: v.GetIpv6(), Protocol: d.oneDown(v.GetProtocol(), 255),
		PortMin: d.oneDown(v.GetPortMin(), 65535), PortMax: d.oneDown(v.GetPortMax(), 65535), Members: v.GetMembers()}
	if v.GetRemote() != nil {
		r.Remote = d.network(v.GetRemote())
	}
	switch {
	case r.Members != "" && r.Remote.IsValid():
		d.fail("rule %s names both a prefix and members", r.ID)
	case r.Remote.IsValid() && r.Remote.Addr().Is4() == r.IPv6:
		d.fail("rule %s has a prefix of the other family: %s", r.ID, r.Remote)
	case r.Members != "":
		d.id(r.Members)
	}
	return r
}

func (d *decoder) oneDown(n, highest uint32) int {
	if n > highest+1 {
		d.fail("number %d of a rule, at most %d", int64(n)-1, highest)
		return -1
	}
	return int(n) - 1
}

// network is a prefix without host bits.
func (d *decoder) network(p *pb.Prefix) netip.Prefix {
	out := d.prefix(p)
	if !out.IsValid() || out != out.Masked() {
		d.fail("%s is no network", out)
	}
	return out
}

func (d *decoder) subnet(v *pb.DHCPSubnet) nodestate.DHCPSubnet {
	s := nodestate.DHCPSubnet{ID: d.id(v.GetId()), CIDR: d.prefix(v.GetCidr()), Gateway: d.addr(v.GetGateway()),
		EnableDHCP: v.GetEnableDhcp(), DNSNameservers: d.addrs(v.GetDnsNameservers()), RAMode: v.GetRaMode(),
		AddressMode: v.GetAddressMode(), Routed: v.GetRouted(), Servers: d.addrs(v.GetServers())}
	for _, r := range v.GetHostRoutes() {
		s.HostRoutes = append(s.HostRoutes, nodestate.Route{Destination: d.prefix(r.GetDestination()), NextHop: d.addr(r.GetNextHop())})
	}
	return s
}

func (d *decoder) host(v *pb.DHCPHost) *nodestate.DHCPHost {
	h := &nodestate.DHCPHost{PortID: d.id(v.GetPortId()), NetworkID: d.id(v.GetNetworkId()), MAC: d.mac(v.GetMac()), Serve: v.GetServe(),
		Instance: instanceFromProto(v.GetInstance())}
	for _, a := range v.GetAddresses() {
		h.Addresses = append(h.Addresses, nodestate.HostAddress{SubnetID: a.GetSubnetId(), IP: d.addr(a.GetIp()),
			Hostname: a.GetHostname(), FQDN: a.GetFqdn()})
	}
	for _, o := range v.GetOptions() {
		h.Options = append(h.Options, nodestate.DHCPOption{Name: o.GetName(), Value: o.GetValue(), IPVersion: int(o.GetIpVersion())})
	}
	return h
}

// id takes what names something.  A node uses ids in file and namespace names, so nothing that could leave a directory passes,
// whoever sent it.
func (d *decoder) id(s string) string {
	if s == "" || len(s) > maxID || s == "." || s == ".." {
		d.fail("bad id %.40q", s)
		return s
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == '/' || c == '\\' || c >= 0x7f {
			d.fail("bad id %.40q", s)
			return s
		}
	}
	return s
}

// maxID is more than the longest key: a UUID, an at sign and a host name.
const maxID = 300

func (d *decoder) mac(b []byte) (m nodestate.MAC) {
	if len(b) != len(m) {
		d.fail("Ethernet address of %d bytes", len(b))
		return m
	}
	copy(m[:], b)
	return m
}

func (d *decoder) addr(b []byte) netip.Addr {
	if len(b) == 0 {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		d.fail("address of %d bytes", len(b))
	}
	return a
}

func (d *decoder) addrs(bs [][]byte) []netip.Addr {
	if len(bs) == 0 {
		return nil
	}
	out := make([]netip.Addr, 0, len(bs))
	for _, b := range bs {
		a := d.addr(b)
		if !a.IsValid() {
			d.fail("empty address in a list")
		}
		out = append(out, a)
	}
	return out
}

func (d *decoder) prefix(p *pb.Prefix) netip.Prefix {
	if p == nil {
		return netip.Prefix{}
	}
	a := d.addr(p.GetAddress())
	if !a.IsValid() || p.GetBits() > uint32(a.BitLen()) {
		d.fail("prefix %s/%d", a, p.GetBits())
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(p.GetBits()))
}
