package compile

import (
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// QoS compiles what the policy of a port makes of its traffic: its own, or else that of its network, which leaves ports of the network's
// services alone.
func QoS(r store.Read, p *model.Port) nodestate.QoS {
	id := p.QoSPolicyID
	if id == "" && !strings.HasPrefix(p.DeviceOwner, ownerNetworkPrefix) {
		if n, ok := store.Get(r, model.NetworkTable, string(p.NetworkID)); ok {
			id = n.QoSPolicyID
		}
	}
	var q nodestate.QoS
	policy, ok := store.Get(r, model.QoSPolicyTable, string(id))
	if id == "" || !ok {
		return q
	}
	for i := range policy.Rules {
		switch rule := &policy.Rules[i]; {
		case rule.Type == model.QoSDSCPMarking:
			q.Marked, q.DSCP = true, uint8(rule.DSCPMark)
		case rule.MaxKbps == 0: // no limit
		case rule.Direction == model.DirectionIngress:
			q.Ingress = nodestate.Rate{Kbps: rule.MaxKbps, Burst: rule.MaxBurstKbps}
		default:
			q.Egress = nodestate.Rate{Kbps: rule.MaxKbps, Burst: rule.MaxBurstKbps}
		}
	}
	return q
}

// qosChanged marks the ports that a policy is about.
func (b *batch) qosChanged(old, new *model.QoSPolicy) {
	id := string(either(old, new).ID)
	for p := range store.Find(b.after, model.PortTable, "qos_policy", id) {
		b.mark(nodestate.PortKey(string(p.ID)))
	}
	for n := range store.Find(b.after, model.NetworkTable, "qos_policy", id) {
		b.markPortsOf(n.ID)
	}
}

// markPortsOf marks a network's bound ports.
func (b *batch) markPortsOf(net model.ID) {
	n := b.e.nets[net]
	if n == nil {
		return
	}
	for _, ports := range n.local {
		for p := range ports {
			b.mark(nodestate.PortKey(string(p)))
		}
	}
}
