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

// commit remembers that a direction has admitted the connection, revoked before or not.
func commit(mark uint64) openflow.Action {
	set := openflow.SetFieldMasked(openflow.FieldCTMark, openflow.U64(mark), openflow.U64(mark|pipeline.MarkRevoked))
	return openflow.CT{Commit: true, ZoneFrom: pipeline.Zone(), Exec: []openflow.Action{set}}
}

// unset matches a flag of RegFlags that is not set; raise sets it.
func unset(flag uint32) openflow.MatchItem { return openflow.Reg(pipeline.RegFlags, 0, flag) }
func raise(flag uint32) openflow.Action {
	return openflow.SetRegMasked(pipeline.RegFlags, flag, flag)
}

// refuse counts a packet in the table of those that are dropped, by port and stage.
func refuse(stage uint32) []openflow.Action {
	return []openflow.Action{load(pipeline.RegStage, stage), to(pipeline.Dropped)}
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
	any := openflow.Match{}
	if patchTun > 0 {
		add(pipeline.SwitchTunnels, openflow.MatchOf(openflow.InPort(uint32(patchTun))), openflow.Normal)
	}
	add(pipeline.SwitchMiss, any)
	sourceFlows(add)
	rulesFlows(add, pipeline.RulesEgress, egressRules)
	rulesFlows(add, pipeline.RulesIngress, ingressRules)
	add(pipeline.AcceptEgressMiss, any)
	add(pipeline.OpenTagged, openflow.MatchOf(openflow.AnyVLAN()), refuse(pipeline.StageSource)...)
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
	add(pipeline.BaseIngressMiss, any, refuse(pipeline.StageIngress)...)
	add(pipeline.AcceptIngressMiss, any)
	add(pipeline.DroppedFlow, any)
	add(pipeline.DeliverNormal, any, openflow.Normal)
	return out
}

// adder takes a flow in.
type adder func(r *pipeline.Rule, m openflow.Match, acts ...openflow.Action)

// sourceFlows are the part of the source check, and of what every port may send, that is the same for all ports.
func sourceFlows(add adder) {
	any, pass, drop := openflow.Match{}, to(pipeline.AcceptOrIngress), refuse(pipeline.StageSource)
	host := func(a netip.Addr) openflow.MatchItem { return openflow.Src(netip.PrefixFrom(a, a.BitLen())) }
	none4, none6 := host(netip.IPv4Unspecified()), host(netip.IPv6Unspecified())
	add(pipeline.EgressTracked, openflow.MatchOf(openflow.CTState("+trk")), openflow.CTClear, again(pipeline.BaseEgress))
	add(pipeline.EgressTagged, openflow.MatchOf(openflow.AnyVLAN()), drop...)
	add(pipeline.SpoofedMAC, openflow.MatchOf(unset(pipeline.FlagMAC)), drop...)
	add(pipeline.PortSendsRARP, openflow.MatchOf(openflow.RARP()), pass)
	add(pipeline.AdvertisesOther, icmp6(136, unset(pipeline.FlagChecked)), drop...)
	add(pipeline.DHCPDiscover, isUDPMatch(openflow.IP(), 68, 67).With(none4, openflow.IPDst(netip.PrefixFrom(broadcast4, 32))), pass)
	add(pipeline.UnspecifiedIPv6, openflow.MatchOf(openflow.ICMPv6(), none6, openflow.IPv6Dst(allNodes)), to(pipeline.RulesEgress))
	add(pipeline.DHCPServer, isUDPMatch(openflow.IP(), 67, 68), drop...)
	add(pipeline.DHCPv6Server, isUDPMatch(openflow.IPv6(), 547, 546), drop...)
	add(pipeline.RouterAdvert, icmp6(134), drop...)
	add(pipeline.SpoofedARP, openflow.MatchOf(openflow.ARP()), drop...)
	add(pipeline.SpoofedIP, openflow.MatchOf(openflow.IP()), drop...)
	add(pipeline.SpoofedIP, openflow.MatchOf(openflow.IPv6()), drop...)
	add(pipeline.BaseEgressMiss, any, drop...)

	drop = refuse(pipeline.StageEgress)
	for _, typ := range []uint8{131, 135, 143} {
		add(pipeline.SendDiscovery, icmp6(typ, none6, openflow.IPv6Dst(allNodes)), pass)
	}
	add(pipeline.SendDHCP, isUDPMatch(openflow.IP(), 68, 67), pass)
	add(pipeline.SendDHCPv6, isUDPMatch(openflow.IPv6(), 546, 547), pass)
	add(pipeline.SendUnspecified, openflow.MatchOf(openflow.IP(), none4), drop...)
	add(pipeline.SendUnspecified, openflow.MatchOf(openflow.IPv6(), none6), drop...)
	for _, typ := range []uint8{130, 133, 135, 136} {
		add(pipeline.SendND, icmp6(typ), pass)
	}
}

// direction is what differs between the rules of what a port sends and of what it receives.
type direction struct {
	revokedAnswer, asked, sctp, established, oneWay, related, stray, invalid, midstream, miss *pipeline.Rule

	mark  uint32          // of connections that this direction has admitted
	stage uint32          // of what it drops
	pass  openflow.Action // what it does with packets of known connections
}

var (
	egressRules = direction{
		pipeline.SendRevokedAnswer, pipeline.SendAsked, pipeline.SendSCTP, pipeline.SendEstablished, pipeline.SendOneWay, pipeline.SendRelated,
		pipeline.SendStray, pipeline.EgressInvalid, pipeline.EgressMidstream, pipeline.RulesEgressMiss, pipeline.MarkEgress, pipeline.StageEgress, to(pipeline.AcceptOrIngress),
	}
	ingressRules = direction{
		pipeline.ReceiveRevokedAnswer, pipeline.ReceiveAsked, pipeline.ReceiveSCTP, pipeline.ReceiveEstablished, pipeline.ReceiveOneWay, pipeline.ReceiveRelated,
		pipeline.ReceiveStray, pipeline.IngressInvalid, pipeline.IngressMidstream, pipeline.RulesIngressMiss, pipeline.MarkIngress, pipeline.StageIngress, outPort(),
	}
)

// rulesFlows are what the rules' table of a direction says about connections, the same for all ports.
func rulesFlows(add adder, table *pipeline.Table, d direction) {
	state := openflow.CTState
	drop, known, fresh := refuse(d.stage), unset(pipeline.FlagAsk), unset(pipeline.FlagStray)
	whole := openflow.IPFrag("not_later") // later fragments look as if they had no flags
	revoked := openflow.CTMark(pipeline.MarkRevoked, pipeline.MarkRevoked)
	add(d.revokedAnswer, openflow.MatchOf(state("+rpl+trk"), revoked), drop...)
	add(d.asked, openflow.MatchOf(state("-rpl+trk"), revoked, known), raise(pipeline.FlagAsk), again(table))
	for _, sctp := range []openflow.Match{openflow.MatchOf(openflow.SCTP()), openflow.MatchOf(openflow.SCTP6())} {
		add(d.sctp, sctp.With(state("-rpl-inv+trk"), known), raise(pipeline.FlagAsk), again(table))
	}
	add(d.established, openflow.MatchOf(state("-new+est-inv+trk"), known), d.pass)
	add(d.oneWay, openflow.MatchOf(state("+new-inv+trk"), openflow.CTMark(d.mark, d.mark), known), d.pass)
	add(d.related, openflow.MatchOf(state("-new-est+rel-inv+trk"), known), d.pass)
	for _, m := range []openflow.Match{
		openflow.MatchOf(state("+inv+trk")), openflow.MatchOf(state("+rel+trk")),
		openflow.MatchOf(openflow.TCP(), whole, openflow.TCPFlags("-syn"), state("+trk")),
		openflow.MatchOf(openflow.TCP6(), whole, openflow.TCPFlags("-syn"), state("+trk")),
	} {
		add(d.stray, m.With(fresh), raise(pipeline.FlagStray), again(table))
	}
	add(d.invalid, openflow.MatchOf(state("+inv+trk")), drop...)
	add(d.midstream, openflow.MatchOf(openflow.Reg(pipeline.RegFlags, pipeline.FlagStray, pipeline.FlagStray)), drop...)
	add(d.miss, openflow.Match{}, drop...)
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
		add(pipeline.PortMACChecked, in.With(openflow.EthSrc(openflow.MAC(m)), unset(pipeline.FlagMAC)), raise(pipeline.FlagMAC), again(pipeline.BaseEgress))
	}
	for stage, r := range []*pipeline.Rule{pipeline.DroppedSource, pipeline.DroppedEgress, pipeline.DroppedIngress} {
		add(r, openflow.MatchOf(openflow.Reg(pipeline.RegPort, n, ^uint32(0)), openflow.Reg(pipeline.RegStage, uint32(stage+1), ^uint32(0))))
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
		na, ip := mac.With(openflow.ICMPv6(), openflow.ICMPType(136), unset(pipeline.FlagChecked)), mac.With(openflow.IPv6())
		if !all {
			na, ip = na.With(openflow.NDTarget(s.Prefix)), ip.With(openflow.IPv6Src(s.Prefix))
		}
		add(pipeline.PortAdvertises, na, raise(pipeline.FlagChecked), again(pipeline.BaseEgress))
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
