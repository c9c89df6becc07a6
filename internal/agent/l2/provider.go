package l2

import (
	"fmt"
	"maps"
	"slices"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// A provider bridge carries a physical network.  It is an ordinary switch for the NIC and for the host itself; a pair of patch ports joins
// it to br-int, and every packet that crosses has its VLAN translated: inside it is the local one, outside the network's own or none.
// What is of no network of this node is dropped on both sides of the pair.

// Link is the pair of patch ports between br-int and a provider bridge: their OpenFlow numbers, 0 while they have none.
type Link struct {
	Int int // of int-<bridge> on br-int
	Phy int // of phy-<bridge> on the provider bridge
	// Joined: each is the other's peer.
	Joined bool
}

func (l Link) ready() bool { return l.Int > 0 && l.Phy > 0 && l.Joined }

// Map tells which physical networks are mapped to which bridges, and of those that cannot be used, why.
func (e *Engine) Map(mappings, unusable map[string]string) {
	old := e.s.Mappings
	e.s.Mappings = maps.Clone(mappings)
	before := e.s.Unusable
	e.s.Unusable = maps.Clone(unusable)
	was, is := bridgesOf(old), bridgesOf(mappings)
	for bridge := range was {
		if !is.contains(bridge) {
			e.dropBridge(bridge)
		}
	}
	for bridge := range is {
		if !was.contains(bridge) {
			e.prov[bridge] = newBook()
			for name, p := range patchPair(bridge) {
				e.out.Ports[name] = &p
			}
			e.dirtyBridges.add(bridge)
		}
	}
	for id, rec := range e.s.Networks {
		for _, s := range rec.Segments() {
			p := s.PhysicalNetwork
			if p != "" && (old[p] != e.s.Mappings[p] || before[p] != e.s.Unusable[p]) {
				e.touchNetwork(id)
			}
		}
	}
}

func bridgesOf(mappings map[string]string) set[string] {
	out := set[string]{}
	for _, b := range mappings {
		out.add(b)
	}
	return out
}

func (e *Engine) dropBridge(bridge string) {
	for name := range patchPair(bridge) {
		e.out.Ports[name] = nil
	}
	e.int.set(bridgeOwner(bridge), nil)
	delete(e.prov, bridge)
	delete(e.dirtyBridges, bridge)
	e.out.NoBridge = append(e.out.NoBridge, bridge)
}

// patchPair are the two patch ports that join a provider bridge to br-int.
func patchPair(bridge string) map[string]ovsdb.Port {
	inner, outer := names.IntPatch(bridge), names.PhyPatch(bridge)
	return map[string]ovsdb.Port{
		inner: {Name: inner, Bridge: names.BrInt, Type: "patch", Options: map[string]string{"peer": outer}},
		outer: {Name: outer, Bridge: bridge, Type: "patch", Options: map[string]string{"peer": inner}},
	}
}

// Join tells the OpenFlow numbers of the patch ports of a bridge, mapped or not.
func (e *Engine) Join(bridge string, l Link) {
	if e.s.Links[bridge] == l {
		return
	}
	if e.s.Links[bridge] = l; l == (Link{}) {
		delete(e.s.Links, bridge)
	}
	e.touchBridge(bridge)
}

// Distribute says whether this node hosts distributed routers, which the flows of the provider bridges make room for.
func (e *Engine) Distribute(yes bool) {
	if e.s.Distributed == yes {
		return
	}
	e.s.Distributed = yes
	for bridge := range e.prov {
		e.touchBridge(bridge)
	}
}

func (e *Engine) touchBridge(bridge string) {
	if e.prov[bridge] == nil {
		return
	}
	e.dirtyBridges.add(bridge)
	for id, n := range e.nets {
		if n.vlan != 0 && n.carried.PhysicalNetwork != "" && e.s.Mappings[n.carried.PhysicalNetwork] == bridge {
			e.touchNetwork(id)
		}
	}
}

// carrier is what decides which segment of a network this node carries.
func (e *Engine) carrier() nodestate.Carrier {
	return nodestate.Carrier{TunnelIP: e.s.Node.TunnelIP, TunnelTypes: e.s.Node.TunnelTypes, BridgeMappings: e.s.Mappings}
}

// carried is the segment of a network that this node carries, or why it carries none.
func (e *Engine) carried(n *nodestate.Network) (s nodestate.Segment, why string) {
	c := e.carrier()
	s, ok := c.Carried(n)
	if !ok {
		return s, c.Missing(n.Segments())
	}
	switch s.Type {
	case "vxlan", "gre":
		// A VNI has 24 bits: a larger id would be cut and meet another network's.
		if s.SegmentationID == 0 || s.Type == "vxlan" && s.SegmentationID >= 1<<24 {
			return s, fmt.Sprintf("segment id %d is none of %s", s.SegmentationID, s.Type)
		}
	case "vlan":
		if s.SegmentationID < minVLAN || s.SegmentationID > maxVLAN {
			return s, fmt.Sprintf("segment id %d is none of vlan", s.SegmentationID)
		}
	}
	if why := e.s.Unusable[s.PhysicalNetwork]; s.PhysicalNetwork != "" && why != "" {
		return s, "physical network " + s.PhysicalNetwork + ": " + why
	}
	return s, ""
}

// uplink is the OpenFlow number of the port of br-int by which a network leaves the node for its physical network; 0: it has none.
// waiting says what it still waits for.
func (e *Engine) uplink(n *network) (ofport int, waiting string) {
	if n.carried.PhysicalNetwork == "" {
		return 0, ""
	}
	bridge := e.s.Mappings[n.carried.PhysicalNetwork]
	l := e.s.Links[bridge]
	if !l.ready() {
		waiting = fmt.Sprintf("waiting for the patch ports %s and %s", names.IntPatch(bridge), names.PhyPatch(bridge))
	}
	return l.Int, waiting
}

// physical decides how a network's packets pass between br-int and its provider bridge.
func (e *Engine) physical(id string, n *network) {
	unit := "network/" + id
	on := ""
	if n != nil && n.vlan != 0 && n.carried.PhysicalNetwork != "" {
		on = e.s.Mappings[n.carried.PhysicalNetwork]
	}
	for bridge, b := range e.prov {
		if bridge != on {
			b.set(unit, nil)
		}
	}
	b, l := e.prov[on], e.s.Links[on]
	if b == nil {
		e.int.set(unit, nil)
		return
	}
	var in, out []openflow.Flow
	if l.Int > 0 {
		in = append(in, entersFlow(id, n, l.Int))
	}
	if l.Phy > 0 {
		out = append(out, leavesFlow(id, n, l.Phy, e.s.Distributed))
	}
	e.int.set(unit, in)
	b.set(unit, out)
}

// entersFlow gives what comes in from a physical network its local VLAN.
func entersFlow(id string, n *network, in int) openflow.Flow {
	owner, port := nodestate.NetworkKey(id).String(), openflow.InPort(uint32(in))
	if n.carried.Type == "flat" {
		return pipeline.FlatEnters.Flow(owner, openflow.MatchOf(port, openflow.NoVLAN()),
			openflow.PushVLAN(openflow.EthTypeVLAN), openflow.SetVLAN(n.vlan), to(pipeline.Switch))
	}
	return pipeline.VLANEnters.Flow(owner, openflow.MatchOf(port, openflow.VLAN(uint16(n.carried.SegmentationID))),
		openflow.SetVLAN(n.vlan), to(pipeline.Switch))
}

// leavesFlow makes of the local VLAN what the physical network knows.
func leavesFlow(id string, n *network, phy int, distributed bool) openflow.Flow {
	rule := pipeline.ProviderLeaves
	if distributed {
		rule = pipeline.ProviderLeavesRouted
	}
	actions := []openflow.Action{openflow.PopVLAN, openflow.Normal}
	if n.carried.Type == "vlan" {
		actions[0] = openflow.SetVLAN(uint16(n.carried.SegmentationID))
	}
	return rule.Flow(nodestate.NetworkKey(id).String(), openflow.MatchOf(openflow.InPort(uint32(phy)), openflow.VLAN(n.vlan)), actions...)
}

// bridgeOwner owns what a provider bridge has whatever networks there are.
func bridgeOwner(bridge string) string { return "bridge/" + bridge }

// bridge decides the flows that a provider bridge has whatever networks there are, on both sides of its patch ports.
func (e *Engine) bridge(name string) {
	b := e.prov[name]
	if b == nil {
		return
	}
	l, owner := e.s.Links[name], bridgeOwner(name)
	var in []openflow.Flow
	if l.Int > 0 {
		port := openflow.MatchOf(openflow.InPort(uint32(l.Int)))
		in = append(in, pipeline.ProviderForeign.Flow(owner, port))
		if e.s.Node.Filtered {
			in = append(in, pipeline.SwitchProvider.Flow(owner, port, openflow.Normal))
		}
	}
	e.int.set(owner, in)
	b.set(owner, bridgeFlows(owner, l.Phy, e.s.Distributed))
}

func bridgeFlows(owner string, phy int, distributed bool) []openflow.Flow {
	any := openflow.Match{}
	flows := []openflow.Flow{pipeline.ProviderSwitch.Flow(owner, any, openflow.Normal)}
	port := openflow.MatchOf(openflow.InPort(uint32(phy)))
	if !distributed {
		if phy > 0 {
			flows = append(flows, pipeline.ProviderStranger.Flow(owner, port))
		}
		return flows
	}
	flows = append(flows,
		pipeline.ProviderFromOutside.Flow(owner, any, to(pipeline.ProviderRemote)),
		pipeline.ProviderRoutersMiss.Flow(owner, any, to(pipeline.ProviderTranslate)),
		pipeline.ProviderRemoteMiss.Flow(owner, any, openflow.Normal))
	if phy > 0 {
		flows = append(flows, pipeline.ProviderToRouters.Flow(owner, port, to(pipeline.ProviderRouters)),
			pipeline.ProviderStrangerRouted.Flow(owner, port))
	}
	return flows
}

// Sealed lists, by bridge, the flows that must stand before the two patch ports of a provider bridge may be joined: without them packets
// would cross with VLANs that mean nothing on the other side.  ok is false while the ports have no numbers.
func (e *Engine) Sealed(bridge string) (flows map[string]openflow.FlowKey, ok bool) {
	l := e.s.Links[bridge]
	if l.Int <= 0 || l.Phy <= 0 {
		return nil, false
	}
	inner := pipeline.ProviderForeign.Flow("", openflow.MatchOf(openflow.InPort(uint32(l.Int))))
	rule := pipeline.ProviderStranger
	if e.s.Distributed {
		rule = pipeline.ProviderStrangerRouted
	}
	outer := rule.Flow("", openflow.MatchOf(openflow.InPort(uint32(l.Phy))))
	return map[string]openflow.FlowKey{names.BrInt: inner.Key(), bridge: outer.Key()}, true
}

// Bridges are the provider bridges, sorted.
func (e *Engine) Bridges() []string { return slices.Sorted(maps.Keys(e.prov)) }
