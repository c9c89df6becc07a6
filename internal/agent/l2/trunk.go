package l2

import (
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// A trunk's guest is plugged into a bridge of the trunk's own, made by whoever plugs it.  From there a pair of patch ports per port of the
// trunk leads to br-int: the parent's carries what is untagged, a subport's its VLAN.  The ends on br-int carry iface-id like any
// plugged device, so that br-int wires, filters and limits the ports of a trunk as it does all others.

// Guest is a device that is plugged into the bridge of a trunk.
type Guest struct {
	IfaceID string // the port it claims to be: the trunk's parent
	Bridge  string
}

// Guest takes in a device on the bridge of a trunk.
func (e *Engine) Guest(device string, g Guest) {
	if old, ok := e.s.Guests[device]; ok {
		if old == g {
			return
		}
		e.touchTrunkOf(old.IfaceID)
	}
	e.s.Guests[device] = g
	e.touchTrunkOf(g.IfaceID)
}

// NoGuest says that a device is on no bridge of a trunk.
func (e *Engine) NoGuest(device string) {
	if old, ok := e.s.Guests[device]; ok {
		delete(e.s.Guests, device)
		e.touchTrunkOf(old.IfaceID)
	}
}

func (e *Engine) touchTrunkOf(port string) {
	for id := range e.trunkOf[port] {
		e.dirtyTrunks.add(id)
	}
}

// trunkRecord takes in a trunk, or drops it.
func (e *Engine) trunkRecord(id string, rec *nodestate.Trunk) {
	if old := e.s.Trunks[id]; old != nil {
		for _, port := range trunkPorts(old) {
			delete(e.trunkOf[port], id)
			if len(e.trunkOf[port]) == 0 {
				delete(e.trunkOf, port)
			}
		}
		delete(e.s.Trunks, id)
	}
	if rec != nil {
		e.s.Trunks[id] = rec
		for _, port := range trunkPorts(rec) {
			if e.trunkOf[port] == nil {
				e.trunkOf[port] = set[string]{}
			}
			e.trunkOf[port].add(id)
		}
	}
	e.dirtyTrunks.add(id)
}

// trunkPorts are the ids of a trunk's ports, the parent first.
func trunkPorts(t *nodestate.Trunk) []string {
	ids := make([]string, 0, len(t.SubPorts)+1)
	ids = append(ids, t.PortID)
	for _, s := range t.SubPorts {
		ids = append(ids, s.PortID)
	}
	return ids
}

// unpatch wants nothing of a trunk's patch ports any more.  It goes before trunk for all that are looked at: a port may have changed from one
// to the other.
func (e *Engine) unpatch(id string) {
	for name, outer := range e.patches[id] {
		if e.out.Ports[name] = nil; outer {
			e.out.Tags[name] = nil
		}
	}
	delete(e.patches, id)
}

// trunk decides which patch ports a trunk has.
func (e *Engine) trunk(id string) {
	rec := e.s.Trunks[id]
	wanted := map[string]ovsdb.Port{}
	tags := map[string]ovsdb.Tagging{}
	if rec != nil {
		e.out.Verdicts[rec.Key()] = e.patch(rec, wanted, tags)
	}
	now := map[string]bool{}
	for name, p := range wanted {
		_, now[name] = tags[name]
		e.out.Ports[name] = &p
	}
	for name, t := range tags {
		e.out.Tags[name] = &t
	}
	if len(now) > 0 {
		e.patches[id] = now
	}
}

// patch fills in the patch ports of a trunk and their tags, and says how far it is.
func (e *Engine) patch(rec *nodestate.Trunk, wanted map[string]ovsdb.Port, tags map[string]ovsdb.Tagging) Verdict {
	bridge := names.TrunkBridge(rec.ID)
	if !e.plugged(rec.PortID, bridge) {
		for device := range e.ports[rec.PortID] {
			if device != names.TrunkParentInt(rec.PortID) {
				return Verdict{nodestate.Failed, "the guest is plugged into " + names.BrInt + ", not into the trunk's bridge " + bridge}
			}
		}
		return Verdict{nodestate.Absent, "no device of the parent port is plugged into " + bridge}
	}
	v := Verdict{State: nodestate.Done}
	add := func(port, inner, outer string, tag int) {
		p := e.s.Ports[port]
		if p == nil {
			v = worse(v, Verdict{nodestate.Pending, "waiting for port " + port})
			return
		}
		wanted[inner] = ovsdb.Port{
			Name: inner, Bridge: names.BrInt, Type: "patch", Options: map[string]string{"peer": outer}, Dead: true,
			ExternalIDs: map[string]string{
				ovsdb.KeyIfaceID: port, ovsdb.KeyAttachedMAC: p.MAC.String(), ovsdb.KeyIfaceStatus: "active",
			},
		}
		wanted[outer] = ovsdb.Port{Name: outer, Bridge: bridge, Type: "patch", Options: map[string]string{"peer": inner}}
		tags[outer] = ovsdb.Tagging{Tag: tag, Mode: "access"}
		switch pv := e.said[port]; pv.State {
		case nodestate.Done:
		case nodestate.Failed:
			v = worse(v, Verdict{nodestate.Failed, "port " + port + ": " + pv.Reason})
		default:
			v = worse(v, Verdict{nodestate.Pending, "waiting for port " + port})
		}
	}
	add(rec.PortID, names.TrunkParentInt(rec.PortID), names.TrunkParent(rec.PortID), 0)
	for _, s := range rec.SubPorts {
		add(s.PortID, names.SubPortInt(s.PortID), names.SubPort(s.PortID), int(s.Tag))
	}
	return v
}

// worse is the one of two verdicts that a person should hear of: the failed one, or the one that waits; of two alike the first.
func worse(a, b Verdict) Verdict {
	rank := map[nodestate.State]int{nodestate.Failed: 2, nodestate.Pending: 1}
	if rank[b.State] > rank[a.State] {
		return b
	}
	return a
}

// plugged says that a device which claims to be the port is on the bridge.
func (e *Engine) plugged(port, bridge string) bool {
	for _, g := range e.s.Guests {
		if g.IfaceID == port && g.Bridge == bridge {
			return true
		}
	}
	return false
}

// say gives the verdict on a port, which the trunk that it is part of repeats.
func (e *Engine) say(port string, v Verdict) {
	e.out.Verdicts[nodestate.PortKey(port)] = v
	if e.said[port] != v {
		e.said[port] = v
		e.touchTrunkOf(port)
	}
}
