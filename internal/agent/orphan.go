package agent

import (
	"slices"

	"baryon/internal/agent/l2"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// condemn ends flows that an earlier run has left for a device that is certainly not there any more: no port of the bridge has the
// number they match, or it belongs to a device of somebody else.  For that no server has to be heard; what the number is given
// to next would inherit the right to speak as another port.  Everything else that is not known waits for a confirmed state.
func (a *agent) condemn(b *bridge) {
	if a.confirmed || b.judged == a.ovsMoves {
		return
	}
	b.judged = a.ovsMoves
	holders := map[uint32]string{}
	for _, name := range a.ovs.PortNames() {
		if v, ok := a.ovs.Port(name); ok && v.Bridge == b.name && v.OFPort > 0 {
			holders[uint32(v.OFPort)] = name
		}
	}
	kept := map[string]bool{} // devices whose number stands in flows that are theirs
	condemned := 0
	for k := range b.flows.Orphans() {
		f, _ := b.flows.Actual(k)
		in, _, ok := f.Match.Get(openflow.FieldInPort)
		if !ok {
			continue
		}
		name, there := holders[uint32(in.Lo)]
		if there && a.owns(name, f.Cookie) {
			kept[name] = true
			continue
		}
		b.flows.Condemn(k)
		condemned++
	}
	if condemned > 0 {
		a.log.Info("removing flows of devices that are gone", "bridge", b.name, "flows", condemned)
	}
	if b.name == names.BrInt {
		a.distrust(kept)
	}
}

// owns says that a flow with this cookie may stand on the number of a port.
func (a *agent) owns(name string, cookie uint64) bool {
	if a.physical.patches[name] != "" {
		return true // whatever the network: the number is the patch port's
	}
	v, _ := a.ovs.Port(name)
	owners := l2.DeviceOwners(name, v.ExternalIDs[ovsdb.KeyIfaceID])
	return slices.ContainsFunc(owners, func(o string) bool { return pipeline.OwnerHash(o) == pipeline.OwnerOf(cookie) })
}

// distrust has the tags of those unknown devices taken away that no flow vouches for: a tag alone does not say for which port it was
// given.
func (a *agent) distrust(kept map[string]bool) {
	for name, id := range a.claims {
		d := a.engine.State().Devices[name]
		if _, known := a.revisions[nodestate.PortKey(id)]; known || kept[name] || d.Changed || d.Tag < 0 || d.Tag == ovsdb.DeadTag {
			continue
		}
		a.changed[name] = true
		a.takePort(name)
		a.loop.Dirty()
	}
}
