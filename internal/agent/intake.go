package agent

import (
	"maps"
	"slices"
	"strconv"

	"baryon/internal/agent/l2"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/pipeline"
)

// takeUpdates takes in all updates that have arrived.
func (a *agent) takeUpdates() {
	for {
		select {
		case u := <-a.inbox:
			a.takeUpdate(u)
		default:
			return
		}
	}
}

func (a *agent) takeUpdate(u nodestate.Update) {
	a.revision = u.Revision
	if u.Complete && !u.Cached {
		listed := make(map[nodestate.Key]bool, len(u.Upserts))
		for _, r := range u.Upserts {
			listed[r.Key()] = true
		}
		for k := range a.revisions {
			if !listed[k] {
				a.forget(k)
			}
		}
	}
	for _, r := range u.Upserts {
		k := r.Key()
		a.revisions[k] = u.Revision
		a.owners[pipeline.OwnerHash(k.String())] = k
		a.tracker.Want(k, u.Revision)
		a.engine.Record(r)
		a.guardRecord(r)
		if a.filter != nil {
			a.filter.engine.Record(a.filterRecord(r))
		}
		if grouped(k.Kind) { // where nothing is filtered, there is nothing to do about it
			a.verdicts[k] = l2.Verdict{State: nodestate.Done}
			a.unsettled[k] = true
		}
		if switched(k.Kind) {
			a.unsettled[k] = true
		}
	}
	for _, k := range u.Deletes {
		a.forget(k)
	}
	for _, r := range a.runners {
		r.update(u)
	}
	if u.Complete && !u.Cached && !a.confirmed {
		a.confirmed = true
		a.engine.Confirm()
		if a.guard != nil {
			a.guard.fw.Confirm()
		}
		for _, b := range a.br {
			b.flows.Release()
			b.meters.Release()
		}
		a.log.Info("state confirmed by server", "rev", u.Revision, "records", len(u.Upserts))
	}
}

// switched kinds are answered for by the switch, the others by a manager.
func switched(k nodestate.Kind) bool {
	return k == nodestate.KindNetwork || k == nodestate.KindPort || k == nodestate.KindPeers || k == nodestate.KindTrunk
}

// grouped kinds are answered for by the firewall.
func grouped(k nodestate.Kind) bool { return k == nodestate.KindGroup || k == nodestate.KindMembers }

func (a *agent) forget(k nodestate.Key) {
	delete(a.revisions, k)
	delete(a.owners, pipeline.OwnerHash(k.String()))
	delete(a.verdicts, k)
	delete(a.unsettled, k)
	a.tracker.Forget(k)
	a.engine.Forget(k)
	if a.guard != nil {
		a.guard.fw.Forget(k)
	}
	if a.filter != nil {
		a.filter.engine.Forget(k)
	}
}

// takeServices takes in what the managers have said.
func (a *agent) takeServices() {
	released := a.confirmed
	for _, r := range a.runners {
		res, fresh := r.take()
		released = released && res.confirmed
		if !fresh {
			continue
		}
		wanted := map[string]bool{}
		for _, p := range res.ports {
			wanted[p.ID] = true
			a.namespaces[p.ID] = p.Namespace
			a.engine.Service(l2.ServicePort{ID: p.ID, Name: p.Name, MAC: p.MAC, MTU: p.MTU, Placed: res.placed[p.ID]})
		}
		for id := range r.known {
			if !wanted[id] {
				a.engine.NoService(id)
				delete(a.namespaces, id)
			}
		}
		r.known = wanted
		for _, s := range res.statuses {
			if _, ok := a.revisions[s.Key]; ok && !switched(s.Key.Kind) {
				a.tracker.Set(s.Key, s.Revision, s.State, s.Reason)
			}
		}
	}
	if released && !a.released {
		// Only now is everything known that may want a port of ours.
		a.released = true
		for _, name := range a.ovs.PortNames() {
			a.dirtyPorts[name] = true
		}
	}
}

// takePorts takes in what Open vSwitch shows.
func (a *agent) takePorts(full bool) {
	ch := a.ovs.Poll()
	if ch.Connected && !a.recalled {
		a.recalled = true
		a.recallVLANs(ch.Ports)
	}
	a.ovsUp, a.curCfg = ch.Connected, ch.CurCfg
	if ch.Session != a.ovsSession {
		a.ovsSession, a.askedCfg = ch.Session, 0
		clear(a.leaving)
	}
	if !ch.Connected {
		return
	}
	if len(ch.Ports) > 0 {
		a.ovsMoves++
	}
	for _, name := range ch.Ports {
		a.takePort(name)
		a.dirtyPorts[name] = true
	}
	if full {
		for _, name := range a.ovs.PortNames() {
			a.dirtyPorts[name] = true
		}
		for name := range a.ports {
			a.dirtyPorts[name] = true
		}
	}
	a.tellReady()
}

// takePort tells the engine of one port that has changed.
func (a *agent) takePort(name string) {
	v, ok := a.ovs.Port(name)
	if !ok || !onTrunkBridge(v) {
		a.dropGuest(name)
	}
	switch {
	case ok && onTrunkBridge(v):
		a.unplugged(name)
		a.takeGuest(name, v)
	case a.physical.patches[name] != "":
		a.takePatch(a.physical.patches[name])
	case name == names.PatchTun || name == names.PatchInt:
		tun, _ := a.ovs.Port(names.PatchTun)
		int, _ := a.ovs.Port(names.PatchInt)
		a.engine.Patch(max(tun.OFPort, 0), max(int.OFPort, 0))
	case ok && v.Bridge == names.BrTun:
		a.engine.Tunnel(name, max(v.OFPort, 0))
	case ok && v.Bridge == names.BrInt && v.ExternalIDs[ovsdb.KeyIfaceID] != "":
		id := v.ExternalIDs[ovsdb.KeyIfaceID]
		if old := a.claims[name]; old != id {
			a.changed[name] = old != ""
			a.unclaim(name)
		}
		if v.OFPort < 0 {
			delete(a.hushed, name) // its device has gone; another one may take the name
		}
		a.engine.Device(l2.Device{
			Name: name, IfaceID: id, OFPort: v.OFPort, Error: v.Error, Tag: v.Tagging.Tag, Changed: a.changed[name],
			Metered: a.metered(v), Shaped: a.shaped(v),
		})
		a.claims[name], a.devices[id] = id, name
		a.guardDevice(name, id)
		a.takeInstance(id, v.ExternalIDs[ovsdb.KeyPlug])
	default:
		a.unplugged(name)
	}
}

// unplugged tells the engine that a port stands for nothing that it knows.
func (a *agent) unplugged(name string) {
	a.engine.Tunnel(name, 0)
	a.engine.Unplug(name)
	a.unclaim(name)
	delete(a.changed, name)
	delete(a.hushed, name)
}

func (a *agent) unclaim(name string) {
	id, ok := a.claims[name]
	if !ok {
		return
	}
	delete(a.claims, name)
	a.guardDevice(name, "")
	if a.devices[id] == name {
		delete(a.devices, id)
		a.dropInstance(id)
	}
}

// tellReady tells the managers which of their ports exist.
func (a *agent) tellReady() {
	for _, r := range a.runners {
		ready := map[string]bool{}
		for id := range r.known {
			if p, ok := a.engine.State().Services[id]; ok {
				if v, ok := a.ovs.Port(p.Name); ok && v.OFPort > 0 {
					ready[id] = true
				}
			}
		}
		r.setReady(ready)
	}
}

// recallVLANs reserves the local VLANs that the ports' tags show, before anything is wired.
func (a *agent) recallVLANs(ports []string) {
	for _, name := range ports {
		v, ok := a.ovs.Port(name)
		if !ok || v.Bridge != names.BrInt || v.Tagging.Tag <= 0 || v.Tagging.Tag >= ovsdb.DeadTag {
			continue
		}
		other := v.Tagging.OtherConfig
		if other["net_uuid"] == "" {
			continue
		}
		segment, err := strconv.ParseUint(other["segmentation_id"], 10, 32)
		if err != nil {
			segment = 0 // networks without a segment id have none written
		}
		a.engine.Remember(l2.Segment{NetworkID: other["net_uuid"], Type: other["network_type"], ID: uint32(segment)}, uint16(v.Tagging.Tag))
	}
	for s, id := range a.savedVLANs {
		a.engine.Remember(s, id)
	}
	a.savedVLANs = nil
}

// takeWanted carries the engine's change over to what is wanted of the drivers.
func (a *agent) takeWanted(d l2.Delta) {
	for bridge, flows := range d.Provider {
		if b := a.br[bridge]; b != nil {
			for k, f := range flows {
				b.want(k, f)
			}
		}
	}
	for k, f := range d.Int {
		a.br[names.BrInt].want(k, f)
	}
	if b := a.br[names.BrTun]; b != nil {
		for k, f := range d.Tun {
			b.want(k, f)
		}
		b.forget = append(b.forget, d.Forget...)
	}
	for name, p := range d.Ports {
		if p == nil {
			delete(a.ports, name)
			a.dropped[name] = true
		} else {
			a.ports[name] = *p
			delete(a.dropped, name)
		}
		a.dirtyPorts[name] = true
	}
	a.takeLimits(d.Limits)
	for id, m := range d.Meters {
		a.br[names.BrInt].wantMeter(id, m)
	}
	var live []string
	for name, t := range d.Tags {
		if t == nil {
			delete(a.tags, name)
		} else {
			a.tags[name] = *t
			if t.Tag != ovsdb.DeadTag {
				live = append(live, name)
			}
		}
		a.dirtyPorts[name] = true
	}
	for k, v := range d.Verdicts {
		if _, ok := a.revisions[k]; ok {
			a.verdicts[k] = v
			a.unsettled[k] = true
		}
	}
	a.hush(live)
	if d.VLANs {
		a.saveVLANs()
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
