package firewall

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// ownerNode owns what every node has.
const ownerNode = "node"

func to(t *pipeline.Table) openflow.Action    { return openflow.Goto(t.ID) }
func again(t *pipeline.Table) openflow.Action { return openflow.ResubmitTable(t.ID) }

func load(reg int, v uint32) openflow.Action { return openflow.SetReg(reg, v) }

// outPort sends to the port whose filter the packet is in.
func outPort() openflow.Action {
	return openflow.OutputReg{Src: openflow.Whole(openflow.RegField(pipeline.RegPort)), MaxLen: 0xffff}
}

// track looks the packet's connection up in the port's zone and goes on in a table.
func track(t *pipeline.Table) openflow.Action {
	return openflow.CT{Recirc: true, Table: t.ID, ZoneFrom: pipeline.Zone()}
}

func commit(mark uint64) openflow.Action {
	bits := openflow.U64(mark)
	return openflow.CT{Commit: true, ZoneFrom: pipeline.Zone(), Exec: []openflow.Action{openflow.SetFieldMasked(openflow.FieldCTMark, bits, bits)}}
}

func isUDPMatch(family openflow.MatchItem, src, dst uint16) openflow.Match {
	return openflow.MatchOf(family, openflow.IPProto(ProtoUDP), openflow.TPSrc(src, 0xffff), openflow.TPDst(dst, 0xffff))
}

func icmp6(typ uint8, more ...openflow.MatchItem) openflow.Match {
	return openflow.MatchOf(openflow.ICMPv6(), openflow.ICMPType(typ)).With(more...)
}

func family(v6 bool) openflow.MatchItem {
	if v6 {
		return openflow.IPv6()
	}
	return openflow.IP()
}

// staticFlows are the flows that every node has.
func staticFlows(patchTun int) []want {
	var out []want
	add := func(r *pipeline.Rule, m openflow.Match, acts ...openflow.Action) {
		out = append(out, flow(r, ownerNode, m, acts...))
	}
	any, drop := openflow.Match{}, to(pipeline.Dropped)
	host := func(a netip.Addr) openflow.MatchItem { return openflow.Src(netip.PrefixFrom(a, a.BitLen())) }
	none4, none6 := host(netip.IPv4Unspecified()), host(netip.IPv6Unspecified())
	if patchTun > 0 {
		add(pipeline.SwitchTunnels, openflow.MatchOf(openflow.InPort(uint32(patchTun))), openflow.Normal)
	}
	add(pipeline.EgressTracked, openflow.MatchOf(openflow.CTState("+trk")), openflow.CTClear, again(pipeline.BaseEgress))
	add(pipeline.AdvertisesOther, icmp6(136, openflow.Reg(pipeline.RegFlags, 0, pipeline.FlagChecked)), drop)
	add(pipeline.DHCPServer, isUDPMatch(openflow.IP(), 67, 68), drop)
	add(pipeline.DHCPv6Server, isUDPMatch(openflow.IPv6(), 547, 546), drop)
	add(pipeline.RouterAdvert, icmp6(134), drop)
	add(pipeline.BaseEgressMiss, any)

	pass := to(pipeline.AcceptOrIngress)
	for _, typ := range []uint8{131, 135, 143} {
		add(pipeline.SendDiscovery, icmp6(typ, none6, openflow.IPv6Dst(allNodes)), pass)
	}
	add(pipeline.SendDHCP, isUDPMatch(openflow.IP(), 68, 67), pass)
	add(pipeline.SendDHCPv6, isUDPMatch(openflow.IPv6(), 546, 547), pass)
	add(pipeline.SendUnspecified, openflow.MatchOf(openflow.IP(), none4), drop)
	add(pipeline.SendUnspecified, openflow.MatchOf(openflow.IPv6(), none6), drop)
	for _, typ := range []uint8{130, 133, 135, 136} {
		add(pipeline.SendND, icmp6(typ), pass)
	}
	established, related := openflow.CTState("-new+est-inv+trk"), openflow.CTState("-new-est+rel-inv+trk")
	known := openflow.Reg(pipeline.RegFlags, 0, pipeline.FlagAsk)
	ask := openflow.SetRegMasked(pipeline.RegFlags, pipeline.FlagAsk, pipeline.FlagAsk)
	question := openflow.MatchOf(openflow.ICMPv6(), known, openflow.CTState("-new+est-rpl-inv+trk"))
	add(pipeline.SendAsked, question, ask, again(pipeline.RulesEgress))
	add(pipeline.SendEstablished, openflow.MatchOf(established, known), pass)
	add(pipeline.SendRelated, openflow.MatchOf(related), pass)
	add(pipeline.EgressInvalid, openflow.MatchOf(openflow.CTState("+inv+trk")), drop)
	add(pipeline.RulesEgressMiss, any)
	add(pipeline.AcceptEgressMiss, any)
	add(pipeline.ToOthers, any, to(pipeline.Deliver))

	add(pipeline.ReceiveARP, openflow.MatchOf(openflow.ARP()), outPort())
	for _, typ := range []uint8{130, 135, 136} {
		add(pipeline.ReceiveND, icmp6(typ), outPort())
	}
	add(pipeline.ReceiveRA, icmp6(134, openflow.Reg(pipeline.RegFlags, pipeline.FlagIPv6, pipeline.FlagIPv6)), outPort())
	add(pipeline.ReceiveDHCP, isUDPMatch(openflow.IP(), 67, 68), outPort())
	add(pipeline.ReceiveDHCP, isUDPMatch(openflow.IPv6(), 547, 546), outPort())
	untracked := openflow.Reg(pipeline.RegFlags, pipeline.FlagStateless, pipeline.FlagStateless)
	for _, v6 := range []bool{false, true} {
		ip := openflow.MatchOf(family(v6))
		add(pipeline.ReceiveUntracked, ip.With(untracked), openflow.CTClear, to(pipeline.RulesIngress))
		add(pipeline.ReceiveIP, ip, track(pipeline.RulesIngress))
		add(pipeline.CommitEgress, ip, commit(pipeline.MarkEgress), again(pipeline.AcceptOrIngress))
		add(pipeline.CommitIngress, ip, commit(pipeline.MarkIngress), outPort())
	}
	add(pipeline.BaseIngressMiss, any)
	add(pipeline.ReceiveAsked, question, ask, again(pipeline.RulesIngress))
	add(pipeline.ReceiveEstablished, openflow.MatchOf(established, known), outPort())
	add(pipeline.ReceiveRelated, openflow.MatchOf(related), outPort())
	add(pipeline.IngressInvalid, openflow.MatchOf(openflow.CTState("+inv+trk")), drop)
	add(pipeline.RulesIngressMiss, any)
	add(pipeline.AcceptIngressMiss, any)
	add(pipeline.DroppedFlow, any)
	add(pipeline.DeliverNormal, any, openflow.Normal)
	return out
}

// openFlows are those of a port that is not filtered.
func openFlows(a active) []want {
	owner := a.rec.Key().String()
	net := openflow.Reg(pipeline.RegNet, uint32(a.place.VLAN), ^uint32(0))
	out := []want{flow(pipeline.OpenEnter, owner, openflow.MatchOf(openflow.InPort(uint32(a.place.OFPort))),
		load(pipeline.RegNet, uint32(a.place.VLAN)), to(pipeline.AcceptOrIngress))}
	if m := openflow.MAC(a.rec.MAC); m != (openflow.MAC{}) && m[0]&1 == 0 {
		out = append(out, flow(pipeline.ToOpen, owner, openflow.MatchOf(net, openflow.EthDst(m)), openflow.Output(a.place.OFPort)))
	}
	return out
}

// filteredFlows are those of a filtered port, but for what its groups say.
func filteredFlows(a active) []want {
	owner, n := a.rec.Key().String(), uint32(a.place.OFPort)
	var out []want
	add := func(r *pipeline.Rule, m openflow.Match, acts ...openflow.Action) {
		out = append(out, flow(r, owner, m, acts...))
	}
	in := openflow.MatchOf(openflow.InPort(n))
	add(pipeline.FilteredEnter, in, load(pipeline.RegPort, n), load(pipeline.RegNet, uint32(a.place.VLAN)), to(pipeline.BaseEgress))
	in = in.With(openflow.Reg(pipeline.RegPort, n, ^uint32(0)))
	identity, next := pipeline.PortSendsIP, track(pipeline.RulesEgress)
	if a.flags&pipeline.FlagStateless != 0 {
		identity, next = pipeline.PortSendsUntracked, to(pipeline.RulesEgress)
	}
	pass := to(pipeline.AcceptOrIngress)
	for _, m := range MACs(a.rec) {
		mac := in.With(openflow.EthSrc(openflow.MAC(m)))
		add(pipeline.PortSendsRARP, mac.With(openflow.RARP()), pass)
		add(pipeline.DHCPDiscover, mac.With(openflow.UDP(), openflow.TPSrc(68, 0xffff), openflow.TPDst(67, 0xffff),
			openflow.IPSrc(netip.PrefixFrom(netip.IPv4Unspecified(), 32)), openflow.IPDst(netip.PrefixFrom(broadcast4, 32))), pass)
		add(pipeline.UnspecifiedIPv6, mac.With(openflow.ICMPv6(), openflow.IPv6Src(netip.PrefixFrom(netip.IPv6Unspecified(), 128)),
			openflow.IPv6Dst(allNodes)), to(pipeline.RulesEgress))
	}
	for _, s := range Sources(a.rec) {
		mac := in.With(openflow.EthSrc(openflow.MAC(s.MAC)))
		all := s.Prefix.Bits() == 0
		if s.Prefix.Addr().Is4() {
			arp, ip := mac.With(openflow.ARP()), mac.With(openflow.IP())
			if !all {
				arp, ip = arp.With(openflow.ARPSPA(s.Prefix)), ip.With(openflow.IPSrc(s.Prefix))
			}
			add(pipeline.PortSendsARP, arp, pass)
			add(identity, ip, next)
			continue
		}
		na, ip := mac.With(openflow.ICMPv6(), openflow.ICMPType(136), openflow.Reg(pipeline.RegFlags, 0, pipeline.FlagChecked)), mac.With(openflow.IPv6())
		if !all {
			na, ip = na.With(openflow.NDTarget(s.Prefix)), ip.With(openflow.IPv6Src(s.Prefix))
		}
		add(pipeline.PortAdvertises, na, openflow.SetRegMasked(pipeline.RegFlags, pipeline.FlagChecked, pipeline.FlagChecked), again(pipeline.BaseEgress))
		add(identity, ip, next)
	}
	return out
}

// enter loads the registers of a filtered port and sends the packet through its filter.
func (a active) enter() []openflow.Action {
	return []openflow.Action{load(pipeline.RegPort, uint32(a.place.OFPort)), load(pipeline.RegFlags, a.flags), again(pipeline.BaseIngress)}
}

// macFlow delivers a MAC to its filtered port.  Of ports that share it, those whose own it is come first; ports that are only allowed
// it (a virtual MAC that moves between them) each get a copy.
func (e *Engine) macFlow(k macKey) {
	unit := "mac/" + string([]byte{byte(k.vlan >> 8), byte(k.vlan)}) + k.mac.String()
	var own, pairs []string
	for _, id := range slices.Sorted(maps.Keys(e.macs[k])) {
		if e.active[id].rec.MAC == k.mac {
			own = append(own, id)
		} else {
			pairs = append(pairs, id)
		}
	}
	if len(own) == 0 {
		own = pairs
	}
	if len(own) == 0 || k.mac[0]&1 != 0 || k.mac == (nodestate.MAC{}) {
		e.book.set(unit, nil)
		return
	}
	var acts []openflow.Action
	for _, id := range own {
		acts = append(acts, e.active[id].enter()...)
	}
	m := openflow.MatchOf(openflow.Reg(pipeline.RegNet, uint32(k.vlan), ^uint32(0)), openflow.EthDst(openflow.MAC(k.mac)))
	e.book.set(unit, []want{flow(pipeline.ToFiltered, nodestate.PortKey(own[0]).String(), m, acts...)})
}

// netFlows deliver what is for many, or for nobody known, in a network that has filtered ports here: NORMAL would carry it past
// their filters.
func (e *Engine) netFlows(vlan uint16) {
	unit := "net/" + string([]byte{byte(vlan >> 8), byte(vlan)})
	var filtered, open []active
	for id := range e.nets[vlan] {
		if a := e.active[id]; a.rec.Filtered() {
			filtered = append(filtered, a)
		} else {
			open = append(open, a)
		}
	}
	if len(filtered) == 0 {
		e.book.set(unit, nil)
		return
	}
	byPort := func(a, b active) int {
		return cmp.Or(cmp.Compare(a.flags, b.flags), cmp.Compare(a.place.OFPort, b.place.OFPort), cmp.Compare(a.rec.ID, b.rec.ID))
	}
	slices.SortFunc(filtered, byPort)
	slices.SortFunc(open, byPort)
	owner := nodestate.NetworkKey(filtered[0].rec.NetworkID).String()
	var many, unknown []openflow.Action
	for i, a := range filtered {
		if i == 0 || filtered[i-1].flags != a.flags {
			many = append(many, load(pipeline.RegFlags, a.flags))
		}
		many = append(many, load(pipeline.RegPort, uint32(a.place.OFPort)), again(pipeline.BaseIngress))
	}
	for _, a := range open {
		many = append(many, openflow.Output(a.place.OFPort))
		if !a.rec.PortSecurity { // behind it may be MACs that nobody knows; the network's own ports have none
			unknown = append(unknown, openflow.Output(a.place.OFPort))
		}
	}
	uplink := e.s.PatchTun
	if up := filtered[0].place.Uplink; up > 0 {
		uplink = up
	}
	if uplink > 0 {
		tunnels := []openflow.Action{openflow.PushVLAN(openflow.EthTypeVLAN), openflow.SetVLAN(vlan), openflow.Output(uplink)}
		many, unknown = append(many, tunnels...), append(unknown, tunnels...)
	}
	net := openflow.Reg(pipeline.RegNet, uint32(vlan), ^uint32(0))
	e.book.set(unit, []want{
		flow(pipeline.TunnelEnter, owner, openflow.MatchOf(openflow.VLAN(vlan)), openflow.PopVLAN, load(pipeline.RegNet, uint32(vlan)),
			to(pipeline.AcceptOrIngress)),
		flow(pipeline.ToMany, owner, openflow.MatchOf(net, openflow.Multicast()), many...),
		flow(pipeline.ToUnknown, owner, openflow.MatchOf(net, openflow.Unicast()), unknown...),
	})
}
