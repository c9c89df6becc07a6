package neutron

import (
	"maps"
	"slices"

	"baryon/internal/model"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// maxSubPorts bounds a trunk: a VLAN id stands once in it.
const maxSubPorts = 4094

// addSubPorts checks ports that are to become part of a trunk, completes what the client left out, and binds them to the parent's host.
func (o *op) addSubPorts(tx store.Tx, t *model.Trunk, parent *model.Port, add []model.SubPort) error {
	all := slices.Clone(t.SubPorts)
	for _, sub := range add {
		if sub.PortID == t.PortID {
			return Conflict("ParentPortInUse", "Port %s is currently in use and is not eligible for use as a parent port.", sub.PortID)
		}
		p, err := o.trunkPort(tx, sub.PortID)
		if err != nil {
			return err
		}
		if p.Binding.Host != "" && p.Binding.Host != parent.Binding.Host {
			return Conflict("PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.",
				p.ID, p.NetworkID, p.DeviceID)
		}
		if err := subPortSegment(tx, p, &sub); err != nil {
			return err
		}
		if err := checkSubPortMTU(tx, t, parent, p); err != nil {
			return err
		}
		for _, other := range all {
			if other.PortID == sub.PortID || other.SegmentationID == sub.SegmentationID {
				return Conflict("DuplicateSubPort", "segmentation_type %s and segmentation_id %d already in use on trunk %s.",
					sub.SegmentationType, sub.SegmentationID, t.ID)
			}
		}
		o.ask(model.TrunkTable.Name, "port", string(sub.PortID), Conflict("PortInUseAsSubPort",
			"Port %s is currently a subport for another trunk.", sub.PortID))
		all = append(all, sub)
		o.bindSubPort(tx, p, parent)
	}
	if len(all) > maxSubPorts {
		return InvalidInput("The number of subports exceeds the limit %d of one trunk", maxSubPorts)
	}
	if len(all) > 0 {
		t.SubPorts = all
	}
	return nil
}

// subPortSegment completes and checks the VLAN of a subport: its own, or its network's if it inherits.
func subPortSegment(r store.Read, p *model.Port, sub *model.SubPort) error {
	if sub.SegmentationType == model.SegmentationInherit {
		n, ok := store.Get(r, model.NetworkTable, string(p.NetworkID))
		if !ok || n.Segment.Type != model.TypeVLAN {
			return InvalidInput("Cannot inherit segmentation details for port %s: its network is none of type vlan", p.ID)
		}
		sub.SegmentationType, sub.SegmentationID = model.SegmentationVLAN, int(n.Segment.SegmentationID)
	}
	if sub.SegmentationType == "" || sub.SegmentationID == 0 {
		return InvalidInput("Invalid subport details '%s': missing segmentation information. Must specify both segmentation_id and "+
			"segmentation_type", sub.PortID)
	}
	return nil
}

// checkSubPortMTU: what fits the subport's network must fit the parent's, which carries it.
func checkSubPortMTU(r store.Read, t *model.Trunk, parent, p *model.Port) error {
	under, ok := store.Get(r, model.NetworkTable, string(parent.NetworkID))
	n, also := store.Get(r, model.NetworkTable, string(p.NetworkID))
	if ok && also && n.MTU > under.MTU {
		return Conflict("SubPortMtuGreaterThanTrunkPortMtu", "MTU %d of subport %s cannot be greater than MTU %d of trunk %s.",
			n.MTU, p.ID, under.MTU, t.ID)
	}
	return nil
}

// bindSubPort gives a subport its owner and the host of its parent.
func (o *op) bindSubPort(tx store.Tx, p, parent *model.Port) {
	next := *p
	next.DeviceOwner = model.OwnerSubPort
	o.moveSubPort(tx, p, &next, parent.Binding.Host)
}

// freeSubPort ends what bindSubPort began.
func (o *op) freeSubPort(tx store.Tx, id model.ID) {
	p, ok := store.Get(tx, model.PortTable, string(id))
	if !ok {
		return
	}
	next := *p
	if next.DeviceOwner == model.OwnerSubPort {
		next.DeviceOwner = ""
	}
	o.moveSubPort(tx, p, &next, "")
}

// moveSubPort writes next, a copy of p, with a binding to the host.
func (o *op) moveSubPort(tx store.Tx, p, next *model.Port, host string) {
	if p.Binding.Host != host {
		next.Binding.Host = host
		next.Inactive = nil
		forgetPlug(tx, p, host)
	}
	if n, ok := store.Get(tx, model.NetworkTable, string(p.NetworkID)); ok && (p.Binding.Host != host || !p.Bound()) {
		bind(tx, n, &next.Binding)
	}
	o.touch(&next.Standard)
	store.Put(tx, model.PortTable, next)
}

// followParent binds the subports of a parent's trunk to where the parent is now.
func (o *op) followParent(tx store.Tx, parent *model.Port) {
	t, is, ok := trunkOf(tx, parent.ID)
	if !ok || !is {
		return
	}
	for _, sub := range t.SubPorts {
		if p, ok := store.Get(tx, model.PortTable, string(sub.PortID)); ok && p.Binding.Host != parent.Binding.Host {
			o.bindSubPort(tx, p, parent)
		}
	}
	if parent.Binding.Host == "" {
		store.Delete(tx, model.TrunkStatusTable, string(t.ID))
	}
}

// ownBridge is the bridge that a port's guest is plugged into, if that is another than its node's integration bridge.
func ownBridge(r store.Read, port model.ID) string {
	if t, parent, ok := trunkOf(r, port); ok && parent {
		return names.TrunkBridge(string(t.ID))
	}
	return ""
}

// plugDetails are the vif_details of a port on a node.
func plugDetails(r store.Read, node *model.Node, port model.ID) map[string]any {
	details := vifDetails(node)
	intoTrunk(details, ownBridge(r, port))
	return details
}

// intoTrunk changes the vif_details of a trunk's parent: the guest is plugged into the trunk's bridge, and without a Linux bridge in between,
// since what a trunk carries is filtered at br-int, whichever the firewall driver.
func intoTrunk(details map[string]any, bridge string) {
	if bridge != "" {
		details["bridge_name"], details["ovs_hybrid_plug"] = bridge, false
	}
}

// trunkBridge completes a binding just made of a port: the guest of a trunk's parent is plugged into the trunk's bridge.
func trunkBridge(r store.Read, port model.ID, b *model.Binding) {
	name := ownBridge(r, port)
	if name == "" || b.VIFType != model.VIFOVS || b.VIFDetails["bridge_name"] == name {
		return
	}
	b.VIFDetails = maps.Clone(b.VIFDetails)
	intoTrunk(b.VIFDetails, name)
}

// trunkDetails is the trunk whose parent a port is, nil if it is none's.
func trunkDetails(r store.Read, port model.ID) *model.TrunkDetails {
	t, parent, ok := trunkOf(r, port)
	if !ok || !parent {
		return nil
	}
	d := &model.TrunkDetails{TrunkID: t.ID, SubPorts: t.SubPorts, MACs: make([]model.MAC, len(t.SubPorts))}
	for i, s := range t.SubPorts {
		if p, ok := store.Get(r, model.PortTable, string(s.PortID)); ok {
			d.MACs[i] = p.MAC
		}
	}
	return d
}

// applyTrunkReport stores what a node says of a trunk; false: it does not carry the parent.
func applyTrunkReport(tx store.Tx, host string, rep *nodestate.Status) bool {
	t, ok := store.Get(tx, model.TrunkTable, rep.Key.ID)
	if !ok {
		return false
	}
	p, ok := store.Get(tx, model.PortTable, string(t.PortID))
	if !ok || !p.Bound() || p.Binding.Host != host {
		return false
	}
	next := model.TrunkStatus{
		TrunkID: t.ID, Host: host, Revision: rep.Revision, State: string(rep.State), Reason: truncate(rep.Reason, maxReason),
	}
	if old, had := store.Get(tx, model.TrunkStatusTable, string(t.ID)); !had || *old != next {
		store.Put(tx, model.TrunkStatusTable, &next)
	}
	return true
}
