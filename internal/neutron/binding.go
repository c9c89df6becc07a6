package neutron

import (
	"reflect"
	"slices"

	"baryon/internal/model"
	"baryon/internal/names"
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
	node, ok := store.Get(tx, model.NodeTable, b.Host)
	if !ok || b.VNICType != model.VNICNormal || !carries(node, n.Segment.Type) || !serving(tx, node.Host, ovsBinary) {
		return
	}
	b.VIFType, b.VIFDetails = model.VIFOVS, vifDetails(node)
}

// carries tells whether a node can carry networks of a type.
func carries(node *model.Node, typ string) bool {
	switch typ {
	case model.TypeLocal:
		return true
	case model.TypeVXLAN, model.TypeGRE:
		return node.TunnelIP.IsValid() && slices.Contains(node.TunnelTypes, typ)
	}
	return false
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
