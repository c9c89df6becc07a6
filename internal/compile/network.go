package compile

import (
	"baryon/internal/model"
	"baryon/internal/nodestate"
)

// Network compiles how a network appears on the wire.
func Network(n *model.Network) *nodestate.Network {
	rec := &nodestate.Network{
		ID:              string(n.ID),
		Name:            n.Name,
		Type:            n.Segment.Type,
		PhysicalNetwork: n.Segment.PhysicalNetwork,
		SegmentationID:  n.Segment.SegmentationID,
		MTU:             n.MTU,
	}
	for _, s := range n.More {
		rec.More = append(rec.More, nodestate.Segment{Type: s.Type, PhysicalNetwork: s.PhysicalNetwork, SegmentationID: s.SegmentationID})
	}
	return rec
}

// carried is the segment of a network that a node carries.
func carried(n *model.Network, node *model.Node) (nodestate.Segment, bool) {
	c := nodestate.Carrier{TunnelIP: node.TunnelIP, TunnelTypes: node.TunnelTypes, BridgeMappings: node.BridgeMappings}
	return c.Carried(Network(n))
}
