package compile

import (
	"baryon/internal/model"
	"baryon/internal/nodestate"
)

// Network compiles how a network appears on the wire.
func Network(n *model.Network) *nodestate.Network {
	return &nodestate.Network{
		ID:              string(n.ID),
		Name:            n.Name,
		Type:            n.Segment.Type,
		PhysicalNetwork: n.Segment.PhysicalNetwork,
		SegmentationID:  n.Segment.SegmentationID,
		MTU:             n.MTU,
	}
}

// tunnelled tells whether a network's packets travel between nodes in tunnels, so that nodes need to know its peers.
func tunnelled(n *model.Network) bool {
	return n.Segment.Type == model.TypeVXLAN || n.Segment.Type == model.TypeGRE
}
