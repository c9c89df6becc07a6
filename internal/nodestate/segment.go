package nodestate

import (
	"net/netip"
	"slices"
)

// Carrier is what decides which segments a node can carry.  It is the same rule on both sides: a server binds a port where this says
// so, and the node wires the segment that this names.
type Carrier struct {
	TunnelIP       netip.Addr // invalid: the node makes no tunnels
	TunnelTypes    []string
	BridgeMappings map[string]string // physical network -> bridge
}

// Carrier is what of a node's word decides which segments it can carry.
func (n *NodeInfo) Carrier() Carrier {
	return Carrier{TunnelIP: n.TunnelIP, TunnelTypes: n.TunnelTypes, BridgeMappings: n.BridgeMappings}
}

// Carries tells whether a node can carry a segment: a tunnel if it has an end for that type, flat and vlan if it maps the physical
// network, local always.
func (c Carrier) Carries(s Segment) bool {
	switch s.Type {
	case "local":
		return true
	case "vxlan", "gre":
		return c.TunnelIP.IsValid() && slices.Contains(c.TunnelTypes, s.Type)
	case "flat", "vlan":
		_, ok := c.BridgeMappings[s.PhysicalNetwork]
		return ok
	}
	return false
}

// First gives the first of the segments that a node can carry, and -1 if there is none.
func (c Carrier) First(segments []Segment) int { return slices.IndexFunc(segments, c.Carries) }

// Carried is the segment of a network that a node carries: the first that it can, false if there is none.
func (c Carrier) Carried(n *Network) (Segment, bool) {
	segments := n.Segments()
	i := c.First(segments)
	if i < 0 {
		return Segment{}, false
	}
	return segments[i], true
}

// Missing says why a node carries none of the segments, as people read it: "no bridge mapping for physical network public".
func (c Carrier) Missing(segments []Segment) string {
	why := "the network has no segment"
	for i, s := range segments {
		if i > 0 {
			why += "; "
		} else {
			why = ""
		}
		switch {
		case s.Type == "flat" || s.Type == "vlan":
			why += "no bridge mapping for physical network " + s.PhysicalNetwork
		case !c.TunnelIP.IsValid():
			why += "no tunnel address for " + s.Type
		default:
			why += "no tunnels of type " + s.Type
		}
	}
	return why
}

// Segments are all segments of the network, the first one first.
func (n *Network) Segments() []Segment {
	first := Segment{Type: n.Type, PhysicalNetwork: n.PhysicalNetwork, SegmentationID: n.SegmentationID}
	return append([]Segment{first}, n.More...)
}

// Tunnelled tells whether the segment's packets travel between nodes in tunnels, so that nodes need to know each other's ends.
func (s Segment) Tunnelled() bool { return s.Type == "vxlan" || s.Type == "gre" }
