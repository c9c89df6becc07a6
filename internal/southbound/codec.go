package southbound

import (
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"baryon/internal/nodestate"
	pb "baryon/proto/baryon/v1"
)

// errUnknownRecord is a record of a kind that this version does not know: kept, counted as held, but not handed to managers.
var errUnknownRecord = errors.New("unknown kind of record")

// Encode is the canonical form of a record: the same record gives the same bytes, in every process of one version.
func Encode(r nodestate.Record) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(toProto(r))
	if err != nil {
		// Marshal fails only for text that is not UTF-8.  JSON from clients always is; what slipped in otherwise must not
		// take the node's other records with it.
		return nil
	}
	return b
}

// Decode reads what Encode wrote.  It answers an error for anything that cannot be a record; it never panics.
func Decode(b []byte) (nodestate.Record, error) {
	var m pb.Record
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	d := decoder{}
	r := d.record(&m)
	if d.err != nil {
		return nil, fmt.Errorf("decode record: %w", d.err)
	}
	return r, nil
}

// buckets is how many digests a node's state is split into; it is part of the protocol.
const buckets = 64

func bucketOf(key uint64) int { return int(key % buckets) }

// mix makes one number of a record's two hashes, such that the XOR over a set names the set.
func mix(key, content uint64) uint64 {
	x := key*0x9e3779b97f4a7c15 + content
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func toProto(r nodestate.Record) *pb.Record {
	switch v := r.(type) {
	case *nodestate.Network:
		n := &pb.Network{Id: v.ID, Name: v.Name, Type: v.Type,
			PhysicalNetwork: v.PhysicalNetwork, SegmentationId: v.SegmentationID, Mtu: int64(v.MTU)}
		for _, s := range v.More {
			n.More = append(n.More, &pb.Segment{Type: s.Type, PhysicalNetwork: s.PhysicalNetwork, SegmentationId: s.SegmentationID})
		}
		return &pb.Record{Record: &pb.Record_Network{Network: n}}
	case *nodestate.Port:
		return &pb.Record{Record: &pb.Record_Port{Port: portToProto(v)}}
	case *nodestate.Peers:
		p := &pb.Peers{NetworkId: v.NetworkID, Host: v.Host, Endpoint: v.Endpoint.AsSlice()}
		for i := range v.Peers {
			e := &v.Peers[i]
			p.Peers = append(p.Peers, &pb.Peer{PortId: e.PortID, Mac: e.MAC[:], Ips: addrsToProto(e.IPs)})
		}
		return &pb.Record{Record: &pb.Record_Peers{Peers: p}}
	case *nodestate.DHCP:
		d := &pb.DHCP{NetworkId: v.NetworkID, Mtu: int64(v.MTU), DnsDomain: v.DNSDomain, Metadata: v.Metadata}
		for i := range v.Subnets {
			d.Subnets = append(d.Subnets, subnetToProto(&v.Subnets[i]))
		}
		return &pb.Record{Record: &pb.Record_Dhcp{Dhcp: d}}
	case *nodestate.DHCPHost:
		return &pb.Record{Record: &pb.Record_DhcpHost{DhcpHost: hostToProto(v)}}
	case *nodestate.Group:
		return &pb.Record{Record: &pb.Record_Group{Group: groupToProto(v)}}
	case *nodestate.Members:
		m := &pb.Members{Id: v.ID, Prefixes: make([]*pb.Prefix, 0, len(v.Prefixes))}
		for _, p := range v.Prefixes {
			m.Prefixes = append(m.Prefixes, prefixToProto(p))
		}
		return &pb.Record{Record: &pb.Record_Members{Members: m}}
	case *nodestate.Trunk:
		return &pb.Record{Record: &pb.Record_Trunk{Trunk: trunkToProto(v)}}
	}
	return &pb.Record{}
}

// qosToProto is nil for what limits and marks nothing.
func qosToProto(v *nodestate.QoS) *pb.QoS {
	if *v == (nodestate.QoS{}) {
		return nil
	}
	return &pb.QoS{Egress: rateToProto(v.Egress), Ingress: rateToProto(v.Ingress), Marked: v.Marked, Dscp: uint32(v.DSCP)}
}

func rateToProto(r nodestate.Rate) *pb.Rate {
	if r == (nodestate.Rate{}) {
		return nil
	}
	return &pb.Rate{Kbps: uint32(r.Kbps), Burst: uint32(r.Burst)}
}

func trunkToProto(v *nodestate.Trunk) *pb.Trunk {
	t := &pb.Trunk{Id: v.ID, PortId: v.PortID, AdminUp: v.AdminUp}
	for _, s := range v.SubPorts {
		t.SubPorts = append(t.SubPorts, &pb.SubPort{PortId: s.PortID, Tag: uint32(s.Tag)})
	}
	return t
}

func portToProto(v *nodestate.Port) *pb.Port {
	p := &pb.Port{Id: v.ID, NetworkId: v.NetworkID, Name: v.Name, Mac: v.MAC[:], AdminUp: v.AdminUp, PortSecurity: v.PortSecurity,
		DeviceOwner: v.DeviceOwner, DeviceId: v.DeviceID, Hybrid: v.Hybrid, Groups: v.Groups, Qos: qosToProto(&v.QoS)}
	for _, a := range v.Addresses {
		p.Addresses = append(p.Addresses, &pb.Address{Prefix: prefixToProto(a.Prefix), SubnetId: a.SubnetID})
	}
	for i := range v.AllowedPairs {
		a := &v.AllowedPairs[i]
		p.AllowedPairs = append(p.AllowedPairs, &pb.Pair{Mac: a.MAC[:], Prefix: prefixToProto(a.Prefix)})
	}
	return p
}

func groupToProto(v *nodestate.Group) *pb.Group {
	g := &pb.Group{Id: v.ID, Stateless: v.Stateless}
	for i := range v.Rules {
		r := &v.Rules[i]
		g.Rules = append(g.Rules, &pb.Rule{Id: r.ID, Egress: r.Egress, Ipv6: r.IPv6, Protocol: oneUp(r.Protocol), PortMin: oneUp(r.PortMin),
			PortMax: oneUp(r.PortMax), Remote: prefixToProto(r.Remote), Members: r.Members})
	}
	return g
}

// oneUp is a rule's number on the wire, where nothing means -1.
func oneUp(n int) uint32 { return uint32(max(n, -1) + 1) }

func subnetToProto(v *nodestate.DHCPSubnet) *pb.DHCPSubnet {
	s := &pb.DHCPSubnet{Id: v.ID, Cidr: prefixToProto(v.CIDR), Gateway: v.Gateway.AsSlice(), EnableDhcp: v.EnableDHCP,
		DnsNameservers: addrsToProto(v.DNSNameservers), RaMode: v.RAMode, AddressMode: v.AddressMode, Routed: v.Routed,
		Servers: addrsToProto(v.Servers)}
	for _, r := range v.HostRoutes {
		s.HostRoutes = append(s.HostRoutes, &pb.Route{Destination: prefixToProto(r.Destination), NextHop: r.NextHop.AsSlice()})
	}
	return s
}

func hostToProto(v *nodestate.DHCPHost) *pb.DHCPHost {
	h := &pb.DHCPHost{PortId: v.PortID, NetworkId: v.NetworkID, Mac: v.MAC[:], Serve: v.Serve, Instance: instanceToProto(&v.Instance)}
	for _, a := range v.Addresses {
		h.Addresses = append(h.Addresses, &pb.HostAddress{SubnetId: a.SubnetID, Ip: a.IP.AsSlice(), Hostname: a.Hostname, Fqdn: a.FQDN})
	}
	for _, o := range v.Options {
		h.Options = append(h.Options, &pb.DHCPOption{Name: o.Name, Value: o.Value, IpVersion: uint32(o.IPVersion)})
	}
	return h
}

func instanceToProto(v *nodestate.Instance) *pb.Instance {
	return &pb.Instance{Id: clean(v.ID), ProjectId: clean(v.ProjectID), Name: clean(v.Name), PublicKeys: cleanMap(v.PublicKeys),
		UserData: v.UserData, Meta: cleanMap(v.Meta), Zone: clean(v.Zone)}
}

func instanceFromProto(v *pb.Instance) nodestate.Instance {
	return nodestate.Instance{ID: v.GetId(), ProjectID: v.GetProjectId(), Name: v.GetName(), PublicKeys: v.GetPublicKeys(),
		UserData: v.GetUserData(), Meta: v.GetMeta(), Zone: v.GetZone()}
}

func infoToProto(v *nodestate.NodeInfo) *pb.NodeInfo {
	return &pb.NodeInfo{Host: clean(v.Host), Roles: cleanList(v.Roles), TunnelIp: v.TunnelIP.AsSlice(),
		TunnelTypes: cleanList(v.TunnelTypes), BridgeMappings: cleanMap(v.BridgeMappings), DatapathType: clean(v.DatapathType),
		HybridPlug: v.HybridPlug, Firewall: clean(v.Firewall), Version: clean(v.Version), AvailabilityZone: clean(v.AvailabilityZone)}
}

func infoFromProto(v *pb.NodeInfo) (nodestate.NodeInfo, error) {
	d := decoder{}
	info := nodestate.NodeInfo{Host: v.GetHost(), Roles: v.GetRoles(), TunnelIP: d.addr(v.GetTunnelIp()),
		TunnelTypes: v.GetTunnelTypes(), BridgeMappings: v.GetBridgeMappings(), DatapathType: v.GetDatapathType(),
		HybridPlug: v.GetHybridPlug(), Firewall: v.GetFirewall(), Version: v.GetVersion(), AvailabilityZone: v.GetAvailabilityZone()}
	return info, d.err
}

func prefixToProto(p netip.Prefix) *pb.Prefix {
	if !p.IsValid() {
		return nil
	}
	return &pb.Prefix{Address: p.Addr().AsSlice(), Bits: uint32(p.Bits())}
}

func addrsToProto(as []netip.Addr) [][]byte {
	if len(as) == 0 {
		return nil
	}
	out := make([][]byte, len(as))
	for i, a := range as {
		out[i] = a.AsSlice()
	}
	return out
}
