package neutron

import (
	"cmp"
	"fmt"
	"slices"

	"baryon/internal/model"
	"baryon/internal/neutron/alloc"
	"baryon/internal/store"
)

// tagRanges numbers the segmentation ids of ranges from 0.  It is an alloc.Layout.
type tagRanges struct {
	ranges []TagRange // sorted, apart
	base   []uint64
	size   uint64
}

var _ alloc.Layout[uint32] = tagRanges{}

// newTagRanges reads the ranges of a configuration.
func newTagRanges(typ string, in []TagRange) (tagRanges, error) {
	ranges := slices.Clone(in)
	slices.SortFunc(ranges, compareRanges)
	for i, r := range ranges {
		if r.First == 0 || r.Last < r.First || uint64(r.Last) > maxTag[typ] {
			return tagRanges{}, fmt.Errorf("%w: %s range %d:%d is not within 1:%d", ErrConfig, typ, r.First, r.Last, maxTag[typ])
		}
		if i > 0 && r.First <= ranges[i-1].Last {
			return tagRanges{}, fmt.Errorf("%w: %s ranges %d:%d and %d:%d overlap", ErrConfig, typ,
				ranges[i-1].First, ranges[i-1].Last, r.First, r.Last)
		}
	}
	return numbered(ranges), nil
}

func compareRanges(a, b TagRange) int {
	return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}

// numbered numbers ranges that are sorted and apart.
func numbered(ranges []TagRange) tagRanges {
	t := tagRanges{ranges: ranges}
	for _, r := range ranges {
		t.base = append(t.base, t.size)
		t.size += uint64(r.Last-r.First) + 1
	}
	return t
}

// union makes ranges that may overlap sorted and apart.
func union(ranges []TagRange) []TagRange {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, compareRanges)
	var out []TagRange
	for _, r := range sorted {
		if n := len(out); n > 0 && r.First <= out[n-1].Last {
			out[n-1].Last = max(out[n-1].Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// without takes ranges out of others; both are sorted and apart.
func without(ranges, out []TagRange) []TagRange {
	var left []TagRange
	for _, r := range ranges {
		for _, x := range out {
			if x.Last < r.First || x.First > r.Last {
				continue
			}
			if x.First > r.First {
				left = append(left, TagRange{r.First, x.First - 1})
			}
			if x.Last >= r.Last { // also keeps First from wrapping around
				r = TagRange{1, 0}
				break
			}
			r.First = x.Last + 1
		}
		if r.First <= r.Last {
			left = append(left, r)
		}
	}
	return left
}

// Size is how many ids there are.
func (t tagRanges) Size() uint64 { return t.size }

// ID gives a segmentation id its number.
func (t tagRanges) ID(v uint32) (uint64, bool) {
	for i, r := range t.ranges {
		if r.First <= v && v <= r.Last {
			return t.base[i] + uint64(v-r.First), true
		}
	}
	return 0, false
}

// Value gives the segmentation id of a number below Size.
func (t tagRanges) Value(id uint64) uint32 {
	i, ok := slices.BinarySearch(t.base, id)
	if !ok {
		i--
	}
	return t.ranges[i].First + uint32(id-t.base[i])
}

// Equal tells whether two layouts number the same ids alike.
func (t tagRanges) Equal(o alloc.Layout[uint32]) bool {
	other, ok := o.(tagRanges)
	return ok && slices.Equal(t.ranges, other.ranges)
}

// hasRanges tells whether an administrator has given ids of the segment's type and physical network to be chosen from.
func (o *op) hasRanges(tx store.Tx, seg model.Segment) bool {
	for r := range store.Find(tx, model.SegmentRangeTable, "space", seg.Space()) {
		if !r.Default {
			return true
		}
	}
	return false
}

// tagsFor gives the ids that a project's networks may have: first its own, then those of all, less what others own.  configured are
// those of the configuration, which the default ranges in the store only show.
func tagsFor(tx store.Tx, project, space string, configured tagRanges) []tagRanges {
	var own, others []TagRange
	shared, more := configured.ranges, false
	for r := range store.Find(tx, model.SegmentRangeTable, "space", space) {
		tags := TagRange{r.Minimum, r.Maximum}
		switch {
		case r.Default:
			continue
		case r.Shared:
			shared = append(slices.Clip(shared), tags)
		case r.ProjectID == project:
			own = append(own, tags)
		default:
			others = append(others, tags)
		}
		more = true
	}
	if !more {
		return []tagRanges{configured}
	}
	own, others = union(own), union(others)
	private := union(slices.Concat(own, others))
	return []tagRanges{numbered(own), numbered(without(union(shared), private))}
}

// pickTag gives a free segmentation id of a type and physical network to a project, in the way of pickAddress.
func (o *op) pickTag(tx store.Tx, project string, seg model.Segment, configured tagRanges) (uint32, bool) {
	for _, layout := range tagsFor(tx, project, seg.Space(), configured) {
		if layout.size == 0 {
			continue
		}
		if id, ok := o.pickTagOf(seg, layout); ok {
			o.givenTags[seg.Space()] = append(o.givenTags[seg.Space()], id)
			return id, true
		}
	}
	return 0, false
}

func (o *op) pickTagOf(seg model.Segment, layout tagRanges) (uint32, bool) {
	space := seg.Space()
	for {
		v, ok := o.tags.next(space)
		if !ok {
			if v, ok = o.s.tags.Hold(space, layout, o.rng, o.choice(false)); !ok {
				break
			}
			o.tags.add(space, v)
		}
		_, in := layout.ID(v)
		if in && !slices.Contains(o.givenTags[space], v) && !tagUsed(o.snap, alloc.Item[uint32]{Space: space, Value: v}) {
			return v, true
		}
	}
	if !o.alone[segmentGate(seg.Type)] {
		return 0, false
	}
	return pickLast(layout, usedTags(o.snap, space), o.givenTags[space])
}
