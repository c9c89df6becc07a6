package model

import "baryon/internal/resource"

// NetworkSegment is one segment of a network as a resource of its own.  A network has at least one; its row names them too, in
// order, so that who only needs to know how the network appears on the wire reads one row.
type NetworkSegment struct {
	Standard         // without project: segments are the administrators'
	NetworkID ID     `json:"network_id"`
	Name      string `json:"name,omitempty"`
	Segment
}

// SegmentTable keeps segments.  One with an id, and a flat one, belongs to one network.
var SegmentTable = resource.NewTable("segment", func(s *NetworkSegment) string { return string(s.ID) }).
	Index("network", func(s *NetworkSegment) []string { return []string{string(s.NetworkID)} }).
	Index("space", func(s *NetworkSegment) []string { return []string{s.Space()} }).
	Unique("segment", func(s *NetworkSegment) []string {
		if s.Type == TypeLocal {
			return nil
		}
		return []string{s.Value()}
	})

// SegmentRange is a range of segmentation ids from which networks are made.
type SegmentRange struct {
	Standard               // ProjectID is empty for a shared range
	Name            string `json:"name,omitempty"`
	Default         bool   `json:"default,omitempty"` // from the servers' configuration
	Shared          bool   `json:"shared,omitempty"`
	NetworkType     string `json:"network_type"`
	PhysicalNetwork string `json:"physical_network,omitempty"` // vlan
	Minimum         uint32 `json:"minimum"`
	Maximum         uint32 `json:"maximum"` // inclusive

	Used      map[string]any `json:"-"` // computed when shown: id -> project of the network that has it
	Available []uint32       `json:"-"` // computed when shown
}

// SegmentRangeTable keeps ranges.
var SegmentRangeTable = resource.NewTable("network_segment_range", func(r *SegmentRange) string { return string(r.ID) }).
	Index("project", func(r *SegmentRange) []string { return some(r.ProjectID) }).
	Index("space", func(r *SegmentRange) []string {
		return []string{Segment{Type: r.NetworkType, PhysicalNetwork: r.PhysicalNetwork}.Space()}
	})
