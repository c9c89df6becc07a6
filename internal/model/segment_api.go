package model

import (
	"strconv"

	"baryon/internal/resource"
)

// maxSegment is the largest segmentation id of any type: a GRE key has 32 bits.
const maxSegment = 1<<32 - 1

// maxPhysicalNetwork is the length of the name of a physical network in characters.
const maxPhysicalNetwork = 64

// MaxSegments is how many segments a network has at most.
const MaxSegments = 64

// Segments defines the resource segment.
var Segments = resource.Define(SegmentTable, "segment", "segments",
	resource.Attr("id", func(s *NetworkSegment) *ID { return &s.ID }, resource.UUID[ID](),
		resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex)),
	// Clients may name a project; a segment has none.
	resource.Attr("project_id", func(s *NetworkSegment) *string { return &s.ProjectID }, resource.String(maxName),
		resource.CreateOnly, resource.Allocated, resource.Alias("tenant_id"), resource.Hidden, resource.Ext("segment")),
	resource.Attr("network_id", func(s *NetworkSegment) *ID { return &s.NetworkID }, resource.UUID[ID](),
		resource.CreateOnly, resource.Required, resource.RefTo("network"), resource.Filter, resource.Sort, resource.Indexed("network"),
		resource.Ext("segment")),
	resource.Attr("network_type", func(s *NetworkSegment) *string { return &s.Type }, resource.String(32),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Ext("segment")),
	resource.Attr("physical_network", func(s *NetworkSegment) *string { return &s.PhysicalNetwork }, resource.NullString(maxPhysicalNetwork),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Sort, resource.Ext("segment")),
	resource.Attr("segmentation_id", func(s *NetworkSegment) *uint32 { return &s.SegmentationID }, resource.NullInt[uint32](0, maxSegment),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Sort, resource.Ext("segment")),
	resource.Attr("name", func(s *NetworkSegment) *string { return &s.Name }, resource.NullString(maxName),
		resource.Writable, resource.Allocated, resource.Filter, resource.Sort, resource.Ext("segment")),
	untagged(func(s *NetworkSegment) *Standard { return &s.Standard }),
)

// SegmentRanges defines the resource network_segment_range.
var SegmentRanges = resource.Define(SegmentRangeTable, "network_segment_range", "network_segment_ranges",
	resource.Attr("id", func(r *SegmentRange) *ID { return &r.ID }, resource.UUID[ID](),
		resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex)),
	resource.Attr("name", func(r *SegmentRange) *string { return &r.Name }, resource.NullString(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("network-segment-range")),
	resource.Attr("default", func(r *SegmentRange) *bool { return &r.Default }, resource.Bool(),
		resource.Filter, resource.Ext("network-segment-range")),
	resource.Attr("shared", func(r *SegmentRange) *bool { return &r.Shared }, resource.Bool(),
		resource.CreateOnly, resource.Default(true), resource.Filter, resource.Ext("network-segment-range")),
	resource.Attr("project_id", func(r *SegmentRange) *string { return &r.ProjectID }, resource.NullString(maxName),
		resource.CreateOnly, resource.Allocated, resource.Alias("tenant_id"), resource.Filter, resource.Sort, resource.Indexed("project"),
		resource.Ext("network-segment-range")),
	resource.Attr("network_type", func(r *SegmentRange) *string { return &r.NetworkType }, resource.Enum(TypeVLAN, TypeVXLAN, TypeGRE, "geneve"),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Ext("network-segment-range")),
	resource.Attr("physical_network", func(r *SegmentRange) *string { return &r.PhysicalNetwork }, resource.NullString(maxPhysicalNetwork),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Sort, resource.Ext("network-segment-range")),
	resource.Attr("minimum", func(r *SegmentRange) *uint32 { return &r.Minimum }, resource.Int[uint32](1, maxSegment),
		resource.Writable, resource.Required, resource.Filter, resource.Sort, resource.Ext("network-segment-range")),
	resource.Attr("maximum", func(r *SegmentRange) *uint32 { return &r.Maximum }, resource.Int[uint32](1, maxSegment),
		resource.Writable, resource.Required, resource.Filter, resource.Sort, resource.Ext("network-segment-range")),
	resource.Attr("used", func(r *SegmentRange) *map[string]any { return &r.Used }, resource.AnyObject(),
		resource.Presented, resource.Ext("network-segment-range")),
	resource.Attr("available", func(r *SegmentRange) *[]uint32 { return &r.Available },
		resource.List("list of segmentation ids", func(dst []byte, id uint32) []byte { return strconv.AppendUint(dst, uint64(id), 10) }),
		resource.Presented, resource.Ext("network-segment-range")),
	standard(func(r *SegmentRange) *Standard { return &r.Standard }),
)

// providerSegments is the list of a network's segments, each with the names of the provider extension.  Null is none.
func providerSegments() resource.Codec[[]Segment] {
	const typ, physnet, id = "provider:network_type", "provider:physical_network", "provider:segmentation_id"
	text, number := resource.NullString(maxPhysicalNetwork), resource.NullInt[uint32](0, maxSegment)
	return resource.Codec[[]Segment]{
		Kind: "list of {" + typ + ", " + physnet + ", " + id + "}, or null",
		Decode: func(v any) ([]Segment, error) {
			if v == nil {
				return nil, nil
			}
			list, err := asList(v, "segments")
			if err != nil || len(list) > MaxSegments {
				return nil, wrong("Invalid data format for segments: '%s'", v)
			}
			out := make([]Segment, 0, len(list))
			for _, item := range list {
				m, err := entry(item, "segment", typ, physnet, id)
				if err != nil {
					return nil, err
				}
				var s Segment
				if s.Type, err = text.Decode(m[typ]); err != nil {
					return nil, err
				}
				if s.PhysicalNetwork, err = text.Decode(m[physnet]); err != nil {
					return nil, err
				}
				if s.SegmentationID, err = number.Decode(m[id]); err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		},
		Append: func(dst []byte, list []Segment) []byte {
			if list == nil {
				return append(dst, "null"...)
			}
			return resource.AppendList(dst, list, func(dst []byte, s Segment) []byte {
				dst = text.Append(append(dst, `{"`+typ+`":`...), s.Type)
				dst = text.Append(append(dst, `,"`+physnet+`":`...), s.PhysicalNetwork)
				dst = number.Append(append(dst, `,"`+id+`":`...), s.SegmentationID)
				return append(dst, '}')
			})
		},
	}
}
