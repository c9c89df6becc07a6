package l2

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
)

// Flush computes what the touched objects want now and returns what has changed.
func (e *Engine) Flush() Delta {
	e.assign()
	if e.s.Confirmed {
		e.vlans.forget() // the networks that are here have theirs
	}
	if e.dirtyStatic {
		e.dirtyStatic = false
		e.int.set("static", staticInt(e.s.PatchTun, e.s.Node.Filtered))
		e.tun.set("static", staticTun(e.s.PatchInt))
	}
	for name := range e.dirtyBridges {
		e.bridge(name)
	}
	for name := range e.gone {
		e.int.set(deviceOwner(name), nil)
		e.out.Tags[name] = nil
		e.unlimit(name, false)
	}
	for id := range e.dirtyPorts {
		e.wire(id)
	}
	for id := range e.dirtyTrunks {
		e.unpatch(id)
	}
	for id := range e.dirtyTrunks {
		e.trunk(id)
	}
	for k := range e.dirtyPeers {
		e.peers(k)
	}
	for t := range e.dirtyTunnels {
		e.tunnel(t)
	}
	for id := range e.dirtyFlood {
		e.flood(id)
		e.prune(id)
	}
	clear(e.dirtyBridges)
	clear(e.gone)
	clear(e.dirtyPorts)
	clear(e.dirtyTrunks)
	clear(e.dirtyPeers)
	clear(e.dirtyTunnels)
	clear(e.dirtyFlood)
	out := e.out
	out.Int, out.Tun, out.Meters = e.int.take(), e.tun.take(), e.meters.take()
	for name, b := range e.prov {
		if flows := b.take(); flows != nil {
			if out.Provider == nil {
				out.Provider = map[string]map[openflow.FlowKey]*openflow.Flow{}
			}
			out.Provider[name] = flows
		}
	}
	e.out = newDelta()
	return out
}

// assign gives and takes local VLANs for the touched networks.  Those that are given up are given up first, in order of id, so that
// the outcome does not depend on the order of events within one flush.
func (e *Engine) assign() {
	ids := slices.Sorted(maps.Keys(e.dirtyNets))
	clear(e.dirtyNets)
	for _, id := range ids {
		n := e.network(id)
		if n.vlan != 0 && (!e.needsVLAN(id, n) || segmentOf(id, e.carriedNow(id)) != n.segment) {
			e.vlans.release(n.segment)
			e.out.Forget = append(e.out.Forget, forgetLearned(n.vlan))
			n.vlan, n.segment, n.carried = 0, Segment{}, nodestate.Segment{}
			e.out.VLANs = true
			e.rewire(id, n)
		}
	}
	for _, id := range ids {
		n := e.network(id)
		if e.needsVLAN(id, n) {
			n.carried = e.carriedNow(id)
			if n.vlan == 0 {
				n.segment = segmentOf(id, n.carried)
				if n.vlan = e.vlans.get(n.segment); n.vlan != 0 {
					e.out.VLANs = true
					e.rewire(id, n)
				}
			}
		} else {
			n.carried = nodestate.Segment{}
		}
		e.networkVerdict(id, n)
		e.dirtyFlood.add(id)
	}
}

// carriedNow is the segment of a known network that this node carries at present.
func (e *Engine) carriedNow(id string) nodestate.Segment {
	s, _ := e.carried(e.s.Networks[id])
	return s
}

func (e *Engine) rewire(id string, n *network) {
	for p := range n.ports {
		e.dirtyPorts.add(p)
	}
	for k := range n.peers {
		e.dirtyPeers.add(k)
	}
	e.dirtyFlood.add(id)
}

// needsVLAN says whether a network is switched here: it is known, can be served, and a port of it is plugged and up.
func (e *Engine) needsVLAN(id string, n *network) bool {
	rec := e.s.Networks[id]
	if rec == nil || e.unserved(rec) != "" {
		return false
	}
	for p := range n.ports {
		if e.s.Ports[p].AdminUp && len(e.ports[p]) > 0 {
			return true
		}
	}
	return false
}

// unserved says why this node cannot switch a network; empty: it can.
func (e *Engine) unserved(n *nodestate.Network) string {
	_, why := e.carried(n)
	return why
}

func (e *Engine) networkVerdict(id string, n *network) {
	rec := e.s.Networks[id]
	if rec == nil {
		return
	}
	v := Verdict{State: nodestate.Done}
	if why := e.unserved(rec); why != "" {
		v = Verdict{nodestate.Failed, why}
	} else if n.vlan == 0 && e.needsVLAN(id, n) {
		v = Verdict{nodestate.Failed, "all local VLANs are in use"}
	} else if _, waiting := e.uplink(n); waiting != "" {
		v = Verdict{nodestate.Pending, waiting}
	}
	e.out.Verdicts[rec.Key()] = v
}

// wire decides tag and flows of the devices that claim to be port id.
func (e *Engine) wire(id string) {
	rec := e.s.Ports[id]
	devices := e.ports[id]
	chosen := e.choose(devices)
	var at Place
	defer func() { e.place(id, at) }()
	if rec != nil && chosen == "" {
		e.say(id, Verdict{nodestate.Absent, "no device with this iface-id is plugged"})
	}
	for name := range devices {
		d := e.s.Devices[name]
		switch {
		case rec == nil && e.keeps(d):
			// It had its wiring before we came; only a server can say that it should lose it.
			e.leave(d)
		case rec == nil:
			e.kill(d, deviceOwner(name))
		case name != chosen:
			e.kill(d, rec.Key().String())
		default:
			var v Verdict
			v, at = e.wireDevice(rec, d)
			e.say(id, v)
		}
	}
}

// keeps says that a device of which nothing is known may go on as it was: before a server has spoken, and if it is still plugged for
// the port that it was wired for.
func (e *Engine) keeps(d Device) bool { return !e.s.Confirmed && d.Tag >= 0 && !d.Changed }

// choose picks the device of a port when several claim it: one that works, then the smallest name.
func (e *Engine) choose(devices map[string]struct{}) string {
	best := ""
	for name := range devices {
		if best == "" {
			best = name
			continue
		}
		a, b := e.s.Devices[name].OFPort > 0, e.s.Devices[best].OFPort > 0
		if a && !b || a == b && name < best {
			best = name
		}
	}
	return best
}

func (e *Engine) wireDevice(rec *nodestate.Port, d Device) (Verdict, Place) {
	owner := rec.Key().String()
	if !rec.AdminUp {
		e.kill(d, owner)
		return Verdict{nodestate.Done, "administratively down"}, Place{}
	}
	if why := e.s.Held[rec.ID]; why != "" {
		e.kill(d, owner)
		return Verdict{nodestate.Failed, why}, Place{}
	}
	netRec := e.s.Networks[rec.NetworkID]
	if netRec == nil {
		if e.keeps(d) {
			e.leave(d)
		} else {
			e.kill(d, owner)
		}
		return Verdict{nodestate.Pending, "waiting for its network"}, Place{}
	}
	vlan := e.nets[rec.NetworkID].vlan
	if vlan == 0 {
		e.kill(d, owner)
		if why := e.unserved(netRec); why != "" {
			return Verdict{nodestate.Failed, why}, Place{}
		}
		return Verdict{nodestate.Failed, "all local VLANs are in use"}, Place{}
	}
	if svc, ok := e.s.Services[rec.ID]; ok && svc.Name == d.Name && !svc.Placed && d.Tag != int(vlan) {
		e.leave(d) // created on the dead VLAN, and stays there
		return Verdict{nodestate.Pending, "waiting for its device to be put into its namespace"}, Place{}
	}
	e.out.Tags[d.Name] = liveTag(rec.NetworkID, e.nets[rec.NetworkID].carried, vlan)
	if d.OFPort <= 0 {
		e.int.set(deviceOwner(d.Name), nil)
		e.unlimit(d.Name, false)
		if d.OFPort < 0 || d.Error != "" {
			return Verdict{nodestate.Failed, "Open vSwitch cannot open " + d.Name + ": " + d.Error}, Place{}
		}
		return Verdict{nodestate.Pending, "waiting for Open vSwitch to open " + d.Name}, Place{}
	}
	if e.s.Node.Filtered {
		e.int.set(deviceOwner(d.Name), append(e.limit(rec, d), enterFlow(owner, d.OFPort)))
	} else {
		e.int.set(deviceOwner(d.Name), append(e.limit(rec, d), portFlows(rec, d.OFPort)...))
	}
	v := Verdict{State: nodestate.Done, Reason: unlimited(rec, d)}
	up, waiting := e.uplink(e.nets[rec.NetworkID])
	if waiting != "" {
		v = Verdict{nodestate.Pending, waiting}
	}
	return v, Place{d.Name, d.OFPort, vlan, up}
}

// place notes where a port is switched now; nowhere, if it has no device.
func (e *Engine) place(id string, at Place) {
	old := e.places[id]
	if old == at {
		return
	}
	if at.Device == "" {
		delete(e.places, id)
		e.out.Places[id] = nil
		return
	}
	e.places[id] = at
	e.out.Places[id] = &at
}

// leave wants nothing of a device: what it has stays.
func (e *Engine) leave(d Device) {
	e.unlimit(d.Name, false)
	e.int.set(deviceOwner(d.Name), nil)
	e.out.Tags[d.Name] = nil
}

// kill puts a device on the dead VLAN and takes nothing from it.
func (e *Engine) kill(d Device, owner string) {
	e.unlimit(d.Name, true)
	e.out.Tags[d.Name] = &ovsdb.Tagging{Tag: ovsdb.DeadTag}
	var flows []openflow.Flow
	if d.OFPort > 0 {
		flows = []openflow.Flow{deadFlow(owner, d.OFPort)}
	}
	e.int.set(deviceOwner(d.Name), flows)
}

// liveTag is what Neutron's agent writes, so that its tools and ours find the same.
func liveTag(network string, s nodestate.Segment, vlan uint16) *ovsdb.Tagging {
	tag := strconv.Itoa(int(vlan))
	other := map[string]string{
		"net_uuid": network, "network_type": s.Type, "physical_network": "None", "tag": tag,
	}
	if s.PhysicalNetwork != "" {
		other["physical_network"] = s.PhysicalNetwork
	}
	if s.SegmentationID != 0 {
		other["segmentation_id"] = strconv.FormatUint(uint64(s.SegmentationID), 10)
	}
	return &ovsdb.Tagging{Tag: int(vlan), OtherConfig: other}
}

// peers decides the entries for one network on one other node, and which tunnel it needs.
func (e *Engine) peers(k nodestate.Key) {
	rec := e.s.Peers[k]
	if rec == nil {
		e.tun.set(k.String(), nil)
		e.use(k, tunnel{}, false)
		return
	}
	t, needed, v := e.peerTunnel(rec)
	e.use(k, t, needed)
	if !needed {
		e.tun.set(k.String(), nil)
		e.out.Verdicts[k] = v
		return
	}
	n := e.nets[rec.NetworkID]
	ofport := e.s.Tunnels[t.name()]
	if ofport <= 0 {
		e.tun.set(k.String(), nil)
		e.out.Verdicts[k] = Verdict{nodestate.Pending, "waiting for tunnel port " + t.name()}
		return
	}
	e.tun.set(k.String(), peerFlows(rec, n.segment, n.vlan, ofport))
	e.out.Verdicts[k] = Verdict{State: nodestate.Done}
}

// peerTunnel says which tunnel leads to the peers, or why none is needed or possible.
func (e *Engine) peerTunnel(rec *nodestate.Peers) (tunnel, bool, Verdict) {
	n := e.nets[rec.NetworkID]
	if n == nil || n.vlan == 0 {
		return tunnel{}, false, Verdict{nodestate.Done, "no port of the network is plugged here"}
	}
	if !e.s.Node.tunnels(n.segment.Type) {
		return tunnel{}, false, Verdict{nodestate.Done, "the network has no tunnels"}
	}
	remote := rec.Endpoint.Unmap()
	switch {
	case !remote.IsValid():
		return tunnel{}, false, Verdict{nodestate.Failed, "node " + rec.Host + " has no tunnel address"}
	case remote.IsUnspecified() || remote.IsMulticast() || remote.Zone() != "":
		return tunnel{}, false, Verdict{nodestate.Failed, "node " + rec.Host + " has no usable tunnel address: " + remote.String()}
	case remote == e.s.Node.TunnelIP.Unmap():
		return tunnel{}, false, Verdict{nodestate.Failed, "node " + rec.Host + " has this node's tunnel address"}
	case remote.Is4() != e.s.Node.TunnelIP.Unmap().Is4():
		return tunnel{}, false, Verdict{nodestate.Failed, "tunnel addresses " + remote.String() + " and " + e.s.Node.TunnelIP.String() +
			" are of different IP versions"}
	}
	return tunnel{n.segment.Type, remote}, true, Verdict{}
}

// use notes that peers record k needs t, and none besides.
func (e *Engine) use(k nodestate.Key, t tunnel, needed bool) {
	if old, ok := e.using[k]; ok && !(needed && old == t) {
		delete(e.tunnels[old].users, k)
		delete(e.using, k)
		e.dirtyTunnels.add(old)
	}
	if !needed {
		return
	}
	st := e.tunnels[t]
	if st == nil {
		st = &tunnelState{users: set[nodestate.Key]{}}
		e.tunnels[t] = st
		e.tunnelNames[t.name()] = t
	}
	if !st.users.contains(k) {
		st.users.add(k)
		e.using[k] = t
		e.dirtyTunnels.add(t)
	}
}

// tunnel decides whether a tunnel port is wanted, and its classifier flow.
func (e *Engine) tunnel(t tunnel) {
	st := e.tunnels[t]
	if st == nil {
		return
	}
	name := t.name()
	if len(st.users) == 0 {
		if st.last > 0 {
			e.out.Forget = append(e.out.Forget, forgetTunnel(st.last))
		}
		e.tun.set(t.owner(), nil)
		if st.has {
			e.out.Ports[name] = nil
		}
		delete(e.tunnels, t)
		delete(e.tunnelNames, name)
		return
	}
	if !st.has {
		st.has = true
		p := e.tunnelPort(t)
		e.out.Ports[name] = &p
	}
	ofport := max(e.s.Tunnels[name], 0)
	if st.last > 0 && st.last != ofport {
		e.out.Forget = append(e.out.Forget, forgetTunnel(st.last))
	}
	st.last = ofport
	if ofport == 0 {
		e.tun.set(t.owner(), nil)
		return
	}
	e.tun.set(t.owner(), []openflow.Flow{tunnelFlow(t, ofport)})
}

func (e *Engine) tunnelPort(t tunnel) ovsdb.Port {
	n := e.s.Node
	opts := map[string]string{
		"df_default": "true", "egress_pkt_mark": "0", "in_key": "flow", "out_key": "flow",
		"local_ip": n.TunnelIP.Unmap().String(), "remote_ip": t.remote.String(),
	}
	if n.Checksum {
		opts["csum"] = "true"
	}
	typ := t.typ
	if t.typ == "vxlan" && n.VXLANPort != 0 && n.VXLANPort != 4789 {
		opts["dst_port"] = strconv.Itoa(int(n.VXLANPort))
	}
	if t.typ == "gre" && t.remote.Is6() {
		typ = "ip6gre"
		opts["packet_type"] = "legacy_l2"
	}
	return ovsdb.Port{Name: t.name(), Bridge: names.BrTun, Type: typ, Options: opts}
}

// flood decides how a network's packets come in from tunnels and which tunnels get copies of its broadcasts.
func (e *Engine) flood(id string) {
	unit := "network/" + id
	n := e.nets[id]
	e.physical(id, n)
	if n == nil || n.vlan == 0 || !e.s.Node.tunnels(n.segment.Type) {
		e.tun.set(unit, nil)
		return
	}
	flows := []openflow.Flow{segmentFlow(n.segment, n.vlan)}
	var outs []int
	seen := map[netip.Addr]bool{}
	for k := range n.peers {
		t, ok, _ := e.peerTunnel(e.s.Peers[k])
		if !ok || seen[t.remote] {
			continue
		}
		seen[t.remote] = true
		if o := e.s.Tunnels[t.name()]; o > 0 {
			outs = append(outs, o)
		}
	}
	if len(outs) > 0 {
		slices.Sort(outs)
		flows = append(flows, floodFlow(n.segment, n.vlan, outs))
	}
	e.tun.set(unit, flows)
}
