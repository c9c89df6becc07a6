package l2

import (
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// The parts of the wanted flows, each a pure function of one object.

// ownerBridges owns what every node has; ownerOf a record's flows.
const ownerBridges = "node"

// DeviceOwners are the owners that flows matching the number of an OVS port may have, given the iface-id that it carries ("" if none).
func DeviceOwners(name, ifaceID string) []string {
	owners := []string{"tunnel/" + name, deviceOwner(name)}
	if name == names.PatchTun || name == names.PatchInt {
		owners = append(owners, ownerBridges)
	}
	if ifaceID != "" {
		owners = append(owners, nodestate.PortKey(ifaceID).String())
	}
	return owners
}

// deviceOwner owns the flows of a device whose port is not known.
func deviceOwner(name string) string { return "device/" + name }

// learnTimeout is how long a learned entry lives without being confirmed, seconds (Neutron's).
const learnTimeout = 300

// staticInt are br-int's; with filtered ports, what they and their networks need comes from the firewall.
func staticInt(patchTun int, filtered bool) []openflow.Flow {
	flows := []openflow.Flow{
		pipeline.DeadVLAN.Flow(ownerBridges, openflow.MatchOf(openflow.VLAN(4095))),
		pipeline.ClassifyMiss.Flow(ownerBridges, openflow.Match{}),
		pipeline.CanaryFlow.Flow(ownerBridges, openflow.Match{}),
	}
	if !filtered {
		flows = append(flows, pipeline.ARPSpoofMiss.Flow(ownerBridges, openflow.Match{}), pipeline.MACSpoofMiss.Flow(ownerBridges, openflow.Match{}),
			pipeline.SwitchNormal.Flow(ownerBridges, openflow.Match{}, openflow.Normal))
	}
	if patchTun > 0 {
		flows = append(flows, pipeline.FromTunnels.Flow(ownerBridges, openflow.MatchOf(openflow.InPort(uint32(patchTun))), to(pipeline.Switch)))
	}
	return flows
}

func to(t *pipeline.Table) openflow.Action { return openflow.Goto(t.ID) }

func staticTun(patchInt int) []openflow.Flow {
	if patchInt <= 0 {
		return nil
	}
	back := openflow.Output(patchInt)
	learn := openflow.Learn{
		Table: pipeline.Unicast.ID, Priority: pipeline.LearnedUnicast.Priority, HardTimeout: learnTimeout,
		Cookie: pipeline.LearnedUnicast.Cookie(ownerBridges),
		Specs: []openflow.LearnSpec{
			openflow.MatchSame(openflow.Sub(openflow.FieldVLANTCI, 0, 12)),
			openflow.MatchFrom(openflow.Whole(openflow.FieldEthDst), openflow.Whole(openflow.FieldEthSrc)),
			openflow.LoadImm(openflow.Whole(openflow.FieldVLANTCI), openflow.U64(0)),
			openflow.LoadFrom(openflow.Whole(openflow.FieldTunID), openflow.Whole(openflow.FieldTunID)),
			openflow.OutputTo(openflow.Whole(openflow.FieldInPort)),
		},
	}
	any := openflow.Match{}
	arp := openflow.MatchOf(openflow.ARP(), openflow.EthDst(openflow.Broadcast()))
	return []openflow.Flow{
		pipeline.TunFromLocal.Flow(ownerBridges, openflow.MatchOf(openflow.InPort(uint32(patchInt))), to(pipeline.ToTunnel)),
		pipeline.TunClassifyMiss.Flow(ownerBridges, any),
		pipeline.ToARPReply.Flow(ownerBridges, arp, to(pipeline.ARPReply)),
		pipeline.ToUnicast.Flow(ownerBridges, openflow.MatchOf(openflow.Unicast()), to(pipeline.Unicast)),
		pipeline.ToFlood.Flow(ownerBridges, openflow.MatchOf(openflow.Multicast()), to(pipeline.Flood)),
		pipeline.GREMiss.Flow(ownerBridges, any),
		pipeline.VXLANMiss.Flow(ownerBridges, any),
		pipeline.GeneveMiss.Flow(ownerBridges, any),
		pipeline.LearnSender.Flow(ownerBridges, any, learn, back),
		pipeline.UnicastMiss.Flow(ownerBridges, any, to(pipeline.Flood)),
		pipeline.ARPReplyMiss.Flow(ownerBridges, any, to(pipeline.Flood)),
		pipeline.FloodMiss.Flow(ownerBridges, any),
	}
}

// trusted ports may use any address.
func trusted(p *nodestate.Port) bool {
	return !p.PortSecurity || strings.HasPrefix(p.DeviceOwner, "network:")
}

// portFlows are the flows of a wired port.
func portFlows(p *nodestate.Port, ofport int) []openflow.Flow {
	owner, in := p.Key().String(), openflow.InPort(uint32(ofport))
	if trusted(p) {
		return []openflow.Flow{pipeline.PortTrusted.Flow(owner, openflow.MatchOf(in), to(pipeline.Switch))}
	}
	macs := []openflow.MAC{openflow.MAC(p.MAC)}
	var v4, v6 []netip.Prefix
	for _, a := range p.Addresses {
		if !a.Prefix.IsValid() {
			continue
		}
		addr := a.Prefix.Addr().Unmap()
		if host := netip.PrefixFrom(addr, addr.BitLen()); addr.Is4() {
			v4 = append(v4, host)
		} else {
			v6 = append(v6, host)
		}
	}
	for _, pair := range p.AllowedPairs {
		if m := openflow.MAC(pair.MAC); m != (openflow.MAC{}) {
			macs = append(macs, m)
		}
		if !pair.Prefix.IsValid() {
			continue
		}
		if pair.Prefix.Addr().Is4() {
			v4 = append(v4, pair.Prefix.Masked())
		} else {
			v6 = append(v6, pair.Prefix.Masked())
		}
	}
	macs = unique(macs)
	for _, m := range macs {
		v6 = append(v6, netip.PrefixFrom(linkLocal(m), 128))
	}
	flows := []openflow.Flow{pipeline.PortChecked.Flow(owner, openflow.MatchOf(in), to(pipeline.MACSpoof))}
	// A port that may use every address of a family (a pair of length 0) is not asked for its addresses, only for its MAC.
	if !anyAddress(v4) {
		flows = append(flows, pipeline.PortARP.Flow(owner, openflow.MatchOf(in, openflow.ARP()), to(pipeline.ARPSpoof)))
		for _, a := range unique(v4) {
			flows = append(flows, pipeline.PortIPv4.Flow(owner, openflow.MatchOf(in, openflow.ARPSPA(a)), to(pipeline.MACSpoof)))
		}
	}
	if !anyAddress(v6) {
		na := openflow.MatchOf(in, openflow.ICMPv6(), openflow.ICMPType(136))
		flows = append(flows, pipeline.PortND.Flow(owner, na, to(pipeline.ARPSpoof)))
		for _, a := range unique(v6) {
			flows = append(flows, pipeline.PortIPv6.Flow(owner, na.With(openflow.NDTarget(a)), to(pipeline.MACSpoof)))
		}
	}
	for _, m := range macs {
		flows = append(flows, pipeline.PortMAC.Flow(owner, openflow.MatchOf(in, openflow.EthSrc(m)), to(pipeline.Switch)))
	}
	return flows
}

func unique[T comparable](in []T) []T {
	var out []T
	for _, x := range in {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func anyAddress(list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// linkLocal is the address that a host forms from its MAC (RFC 4291, modified EUI-64).
func linkLocal(m openflow.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// enterFlow lets a filtered port's packets in.
func enterFlow(owner string, ofport int) openflow.Flow {
	return pipeline.PortEnter.Flow(owner, openflow.MatchOf(openflow.InPort(uint32(ofport))), to(pipeline.Switch))
}

// EnterKey is the key of the flow on br-int that lets the packets of a filtered port with this OpenFlow number in.
func EnterKey(ofport int) openflow.FlowKey {
	f := enterFlow("", ofport)
	return f.Key()
}

func deadFlow(owner string, ofport int) openflow.Flow {
	return pipeline.DeadPort.Flow(owner, openflow.MatchOf(openflow.InPort(uint32(ofport))))
}

// segmentFlow lets a network's packets in from its type of tunnel.
func segmentFlow(s Segment, vlan uint16) openflow.Flow {
	rule := pipeline.VXLANSegment
	if s.Type == "gre" {
		rule = pipeline.GRESegment
	}
	return rule.Flow(nodestate.NetworkKey(s.NetworkID).String(), openflow.MatchOf(openflow.TunID(uint64(s.ID))),
		openflow.PushVLAN(openflow.EthTypeVLAN), openflow.SetVLAN(vlan), to(pipeline.Learn))
}

// floodFlow copies a network's broadcasts to its tunnels; outs is sorted.
func floodFlow(s Segment, vlan uint16, outs []int) openflow.Flow {
	actions := []openflow.Action{openflow.PopVLAN, openflow.SetTunnel(uint64(s.ID))}
	for _, o := range outs {
		actions = append(actions, openflow.Output(o))
	}
	return pipeline.FloodNetwork.Flow(nodestate.NetworkKey(s.NetworkID).String(), openflow.MatchOf(openflow.VLAN(vlan)), actions...)
}

// tunnelFlow sends what comes out of a tunnel to the table of its type.
func tunnelFlow(t tunnel, ofport int) openflow.Flow {
	table := pipeline.FromVXLAN
	if t.typ == "gre" {
		table = pipeline.FromGRE
	}
	return pipeline.TunFromTunnel.Flow(t.owner(), openflow.MatchOf(openflow.InPort(uint32(ofport))), to(table))
}

// peerFlows are the entries for the ports of a network behind one tunnel.
func peerFlows(p *nodestate.Peers, s Segment, vlan uint16, ofport int) []openflow.Flow {
	owner := p.Key().String()
	var flows []openflow.Flow
	for _, peer := range p.Peers {
		mac := openflow.MAC(peer.MAC)
		if mac == (openflow.MAC{}) || mac[0]&1 != 0 {
			continue // only floods reach it: what is no unicast address is behind no single tunnel
		}
		flows = append(flows, pipeline.UnicastPeer.Flow(owner, openflow.MatchOf(openflow.VLAN(vlan), openflow.EthDst(mac)),
			openflow.PopVLAN, openflow.SetTunnel(uint64(s.ID)), openflow.Output(ofport)))
		for _, ip := range peer.IPs {
			if ip = ip.Unmap(); ip.Is4() {
				flows = append(flows, arpFlow(owner, vlan, mac, ip))
			}
		}
	}
	return flows
}

func arpFlow(owner string, vlan uint16, mac openflow.MAC, ip netip.Addr) openflow.Flow {
	m := openflow.MatchOf(openflow.VLAN(vlan), openflow.ARPTPA(netip.PrefixFrom(ip, 32)), openflow.ARPOp(1))
	return pipeline.ARPAnswer.Flow(owner, m,
		openflow.SetARPOp(2),
		openflow.MoveField(openflow.FieldARPSHA, openflow.FieldARPTHA),
		openflow.MoveField(openflow.FieldARPSPA, openflow.FieldARPTPA),
		openflow.SetARPSHA(mac),
		openflow.SetARPSPA(ip),
		openflow.MoveField(openflow.FieldEthSrc, openflow.FieldEthDst),
		openflow.SetEthSrc(mac),
		openflow.OutInPort,
	)
}

// forgetLearned removes what Open vSwitch has learned for a local VLAN that is given up.
func forgetLearned(vlan uint16) openflow.FlowMod {
	return openflow.DeleteMatching(pipeline.Unicast.ID, openflow.MatchOf(openflow.VLANTCI(vlan, 0x0fff)),
		pipeline.LearnedUnicast.Cookie(ownerBridges), ^uint64(0))
}

// forgetTunnel removes what was learned for a tunnel that goes: its port number may be given to another.
func forgetTunnel(ofport int) openflow.FlowMod {
	m := openflow.DeleteMatching(pipeline.Unicast.ID, openflow.Match{}, pipeline.LearnedUnicast.Cookie(ownerBridges), ^uint64(0))
	m.OutPort = uint32(ofport)
	return m
}

// tunnel is one tunnel port: type and remote end.
type tunnel struct {
	typ    string
	remote netip.Addr
}

func (t tunnel) name() string  { return names.TunnelPort(t.typ, t.remote) }
func (t tunnel) owner() string { return "tunnel/" + t.name() }
