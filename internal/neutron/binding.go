package neutron

import (
	"reflect"
	"slices"

	"baryon/internal/model"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// bind decides how a port of the network is plugged on its binding's host, from what the node says of itself.  It never fails: what
// cannot be bound says so in its vif_type, and is bound when the node comes.
func bind(tx store.Tx, n *model.Network, b *model.Binding) {
	b.VIFType, b.VIFDetails = model.VIFUnbound, nil
	if b.Host == "" {
		return
	}
	b.VIFType = model.VIFBindingFailed
	if unbindable(tx, n, b) != "" {
		return
	}
	if node, ok := store.Get(tx, model.NodeTable, b.Host); ok {
		b.VIFType, b.VIFDetails = model.VIFOVS, vifDetails(node)
	}
}

// unbindable says why a port of the network cannot be bound to its host; empty: it can.
func unbindable(r store.Read, n *model.Network, b *model.Binding) string {
	node, ok := store.Get(r, model.NodeTable, b.Host)
	segments := segmentsOf(n)
	switch {
	case !ok:
		return "no node " + b.Host + " has registered"
	case b.VNICType != model.VNICNormal:
		return "vnic_type " + b.VNICType + " is not supported by node " + b.Host
	case carrierOf(node).First(segments) < 0:
		return "node " + b.Host + ": " + carrierOf(node).Missing(segments)
	case !serving(r, node.Host, ovsBinary):
		return "node " + b.Host + " is down or its Open vSwitch agent is disabled"
	}
	return ""
}

// carrierOf is what decides which segments a node can carry.
func carrierOf(node *model.Node) nodestate.Carrier {
	return nodestate.Carrier{TunnelIP: node.TunnelIP, TunnelTypes: node.TunnelTypes, BridgeMappings: node.BridgeMappings}
}

func segmentsOf(n *model.Network) []nodestate.Segment {
	out := make([]nodestate.Segment, 0, 1+len(n.More))
	for _, seg := range n.AllSegments() {
		out = append(out, nodestate.Segment{Type: seg.Type, PhysicalNetwork: seg.PhysicalNetwork, SegmentationID: seg.SegmentationID})
	}
	return out
}

// hostSegment is the segment of a network that a host carries, false if it carries none or is not known.
func hostSegment(r store.Read, n *model.Network, host string) (model.Segment, bool) {
	node, ok := store.Get(r, model.NodeTable, host)
	if !ok {
		return model.Segment{}, false
	}
	i := carrierOf(node).First(segmentsOf(n))
	if i < 0 {
		return model.Segment{}, false
	}
	return n.AllSegments()[i], true
}

// warnUnbound tells the log of ports that a request asked to be bound where they cannot be.
func (s *Service) warnUnbound(ports ...*model.Port) {
	for _, p := range ports {
		if p == nil || p.Binding.VIFType != model.VIFBindingFailed {
			continue
		}
		r := s.st.Snapshot()
		if n, ok := store.Get(r, model.NetworkTable, string(p.NetworkID)); ok {
			s.log.Warn("port cannot be bound", "port", p.ID, "network", n.ID, "node", p.Binding.Host, "reason", unbindable(r, n, &p.Binding))
		}
	}
}

// serving tells whether a node is not declared dead and an administrator has not turned the agent off.
func serving(r store.Read, host, binary string) bool {
	h, ok := store.Get(r, model.HeartbeatTable, host)
	if !ok || !h.Alive {
		return false
	}
	a, ok := store.Get(r, model.AgentTable, string(agentID(host, binary)))
	return ok && a.AdminStateUp
}

// firewallNone is the firewall driver of nodes that filter nothing.  A node of a version that names none filters nothing either, but
// says so of itself in no way that clients could know: it keeps the answer it always had.
const firewallNone = "noop"

func vifDetails(node *model.Node) map[string]any {
	return map[string]any{
		"port_filter":     node.Firewall != firewallNone,
		"ovs_hybrid_plug": node.HybridPlug,
		"datapath_type":   node.DatapathType,
		"connectivity":    "l2",
		"bridge_name":     names.BrInt,
		"bound_drivers":   map[string]any{"0": "openvswitch"},
	}
}

// rebind follows an update's binding attributes.  Another host, profile or vnic_type ends the binding; a port with a host and without
// a binding is bound anew.
func rebind(tx store.Tx, n *model.Network, p *model.Port, in *resource.Input[model.Port]) error {
	b, v := p.Binding, &in.Value.Binding
	set(in.Has("binding:host_id"), &b.Host, v.Host)
	set(in.Has("binding:profile"), &b.Profile, profile(v.Profile))
	if in.Has("binding:vnic_type") && v.VNICType != b.VNICType {
		if p.Bound() {
			return Conflict("PortBound", "Unable to complete operation on port %s, port is already bound, port type: %s, "+
				"old vnic_type %s, new vnic_type %s.", p.ID, p.Binding.VIFType, b.VNICType, v.VNICType)
		}
		b.VNICType = v.VNICType
	}
	moved := b.Host != p.Binding.Host
	if moved || b.VNICType != p.Binding.VNICType || !reflect.DeepEqual(b.Profile, p.Binding.Profile) {
		b.VIFType = model.VIFUnbound
	}
	if b.VIFType != model.VIFOVS {
		bind(tx, n, &b)
		trunkBridge(tx, p.ID, &b)
	}
	if moved {
		forgetPlug(tx, p, b.Host)
		p.Inactive = slices.DeleteFunc(slices.Clone(p.Inactive), func(i model.Binding) bool { return i.Host == b.Host })
		if len(p.Inactive) == 0 {
			p.Inactive = nil
		}
	}
	p.Binding = b
	return nil
}

// profile makes an empty profile nil, as the store gives it back.
func profile(p map[string]any) map[string]any {
	if len(p) == 0 {
		return nil
	}
	return p
}

// forgetPlug drops what nodes said of a port that is now host's, or nobody's.  That its DHCP service is ready stays true, and so does
// what the host itself knew of the guest before it got the port.
func forgetPlug(tx store.Tx, p *model.Port, host string) {
	st, ok := store.Get(tx, model.PortStatusTable, string(p.ID))
	switch {
	case !ok:
	case st.DHCPReady:
		store.Put(tx, model.PortStatusTable, &model.PortStatus{PortID: p.ID, Status: model.StatusDown, DHCPReady: true})
	default:
		store.Delete(tx, model.PortStatusTable, string(p.ID))
	}
	if in, ok := store.Get(tx, model.InstanceTable, string(p.ID)); ok && in.Host != host {
		store.Delete(tx, model.InstanceTable, string(p.ID))
	}
}
