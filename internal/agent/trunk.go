package agent

import (
	"strings"

	"baryon/internal/agent/l2"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
)

// onTrunkBridge tells a port that somebody has plugged into the bridge of a trunk.
func onTrunkBridge(v ovsdb.PortView) bool {
	return strings.HasPrefix(v.Bridge, names.TrunkPrefix) && !v.Ours && v.ExternalIDs[ovsdb.KeyIfaceID] != ""
}

// takeGuest tells the engine of the device of a trunk's guest.
func (a *agent) takeGuest(name string, v ovsdb.PortView) {
	id := v.ExternalIDs[ovsdb.KeyIfaceID]
	if old := a.guests[name]; old != "" && old != id {
		a.dropInstance(old)
	}
	a.guests[name] = id
	a.engine.Guest(name, l2.Guest{IfaceID: id, Bridge: v.Bridge})
	a.takeInstance(id, v.ExternalIDs[ovsdb.KeyPlug])
}

// dropGuest tells it that a device is on no bridge of a trunk.
func (a *agent) dropGuest(name string) {
	if id, ok := a.guests[name]; ok {
		delete(a.guests, name)
		a.engine.NoGuest(name)
		a.dropInstance(id)
	}
}

// claimBridge has the bridge of a trunk become ours with the first port that we put into it; whoever plugged the guest made it.
func (a *agent) claimBridge(plan *ovsdb.Plan, bridge string) {
	if b, ok := a.ovs.Bridge(bridge); ok && !b.Ours && strings.HasPrefix(bridge, names.TrunkPrefix) {
		plan.Claim = append(plan.Claim, bridge)
	}
}

// abandon has the bridges of trunks removed that nothing is plugged into and nothing wanted for, and the rows of limits whose ports have gone.
func (a *agent) abandon(plan *ovsdb.Plan) {
	if !a.released {
		return
	}
	plan.Sweep = a.ovs.StaleQoS()
	for _, bridge := range a.ovs.Abandoned(names.TrunkPrefix) {
		wanted := false
		for _, p := range a.ports {
			wanted = wanted || p.Bridge == bridge
		}
		if !wanted {
			plan.Raze = append(plan.Raze, bridge)
		}
	}
}
