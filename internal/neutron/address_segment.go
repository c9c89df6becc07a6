package neutron

import (
	"slices"

	"baryon/internal/model"
	"baryon/internal/store"
)

// place finds the subnets that reach a port on a host.  Of a network whose subnets are tied to segments these are the ones of the segment
// that the host carries; without a host those of the segment on which the port has addresses, and none as long as it has none.
func (a *addressing) place(p *model.Port, host string) error {
	a.near, a.deferred = a.subnets, false
	if !a.routed() {
		return nil
	}
	var at model.ID
	switch {
	case host != "":
		seg, ok := hostSegmentID(a.tx, a.network, host)
		if !ok {
			return Conflict("HostNotConnectedToAnySegment", "Host %s is not connected to any segments on routed provider network '%s'.  "+
				"It should be connected to one.", host, a.network.ID)
		}
		at = seg
	case len(p.FixedIPs) > 0:
		if sub := a.byID(p.FixedIPs[0].SubnetID); sub != nil {
			at = sub.SegmentID
		}
	default:
		a.near, a.deferred = nil, true
		return nil
	}
	a.near = a.onSegment(at)
	return nil
}

// routed tells whether the network's subnets are tied to segments, between which only routers carry packets.
func (a *addressing) routed() bool {
	return slices.ContainsFunc(a.subnets, func(s *model.Subnet) bool { return s.SegmentID != "" })
}

func (a *addressing) onSegment(id model.ID) []*model.Subnet {
	var out []*model.Subnet
	for _, s := range a.subnets {
		if s.SegmentID == id {
			out = append(out, s)
		}
	}
	return out
}

// checkReach refuses addresses that cannot all be used in one place, or not on the host, and makes the automatic addresses those of their
// segment.
func (a *addressing) checkReach(p *model.Port, ips []model.FixedIP, host string) error {
	if !a.routed() || len(ips) == 0 {
		return nil
	}
	var at model.ID
	for i, f := range ips {
		sub := a.byID(f.SubnetID)
		if sub == nil {
			continue
		}
		if i > 0 && sub.SegmentID != at {
			return BadRequest("FixedIpsSubnetsNotOnSameSegment", "Cannot allocate addresses from different segments.")
		}
		at = sub.SegmentID
	}
	if seg, ok := hostSegmentID(a.tx, a.network, host); host != "" && (!ok || seg != at) {
		return Conflict("HostNotCompatibleWithFixedIps", "Host %s is not connected to a segment where the existing fixed_ips on port %s "+
			"will function given the routed network topology.", host, p.ID)
	}
	a.near, a.deferred = a.onSegment(at), false
	return nil
}

// hostSegmentID is the id of the segment of a network that a host carries.
func hostSegmentID(r store.Read, n *model.Network, host string) (model.ID, bool) {
	seg, ok := hostSegment(r, n, host)
	if !ok {
		return "", false
	}
	for row := range store.Find(r, model.SegmentTable, "network", string(n.ID)) {
		if row.Segment == seg {
			return row.ID, true
		}
	}
	return "", false
}

// checkSubnetSegment ties a subnet to a segment, or not: all subnets of a network are, or none.
func checkSubnetSegment(tx store.Tx, n *model.Network, old, sub *model.Subnet) error {
	if old != nil && old.SegmentID == sub.SegmentID {
		return nil
	}
	if sub.SegmentID != "" {
		seg, ok := store.Get(tx, model.SegmentTable, string(sub.SegmentID))
		if !ok {
			return NotFound("SegmentNotFound", "Segment %s could not be found.", sub.SegmentID)
		}
		if seg.NetworkID != n.ID {
			return BadRequest("NetworkIdsDontMatch", "The subnet's network id, '%s', doesn't match the network_id of segment '%s', '%s'.",
				n.ID, seg.ID, seg.NetworkID)
		}
	}
	switch {
	case old != nil && old.SegmentID != "":
		return BadRequest("SubnetSegmentAssociationChangeNotAllowed",
			"A subnet that is already associated with a segment cannot have its segment association changed.")
	case old != nil && len(n.More) > 0:
		return BadRequest("NoUpdateSubnetWhenMultipleSegmentsOnNetwork", "The network '%s' has multiple segments, it is only possible to "+
			"associate an existing subnet with a segment on networks with a single segment.", n.ID)
	}
	// The subnets of a network with one segment are tied to it one by one; what is not yet lives on the same segment.
	for other := range store.Find(tx, model.SubnetTable, "network", string(n.ID)) {
		if old == nil && other.ID != sub.ID && (other.SegmentID == "") != (sub.SegmentID == "") {
			return BadRequest("SubnetsNotAllAssociatedWithSegments", "All of the subnets on network '%s' must either all be associated "+
				"with segments or all not associated with any segment.", n.ID)
		}
	}
	return nil
}
