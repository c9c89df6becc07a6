package neutron

import (
	"context"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// maxShownTags is how many of a range's free ids are listed; a range of VXLAN may have millions.
const maxShownTags = 1 << 16

// SegmentRanges are the rules of ranges of segmentation ids.  They are the administrators'.
func (s *Service) SegmentRanges() *Kind[model.SegmentRange] {
	return &Kind[model.SegmentRange]{
		Def:     model.SegmentRanges,
		Create:  s.createRanges,
		Update:  s.updateRange,
		Delete:  s.deleteRange,
		Visible: func(_ store.Read, c *identity.Caller, _ *model.SegmentRange) bool { return c.IsAdmin() },
		Present: presentRange,
	}
}

// presentRange computes which ids of the range are used by which project, and which are free.
func presentRange(r store.Read, _ *identity.Caller, row *model.SegmentRange) *model.SegmentRange {
	shown := *row
	shown.Used, shown.Available = map[string]any{}, []uint32{}
	taken := map[uint32]bool{}
	for seg := range rangeSegments(r, row) {
		project := ""
		if n, ok := store.Get(r, model.NetworkTable, string(seg.NetworkID)); ok {
			project = n.ProjectID
		}
		taken[seg.SegmentationID] = true
		shown.Used[strconv.FormatUint(uint64(seg.SegmentationID), 10)] = project
	}
	for id := uint64(row.Minimum); id <= uint64(row.Maximum) && len(shown.Available) < maxShownTags; id++ {
		if !taken[uint32(id)] {
			shown.Available = append(shown.Available, uint32(id))
		}
	}
	return &shown
}

// rangeSegments are the segments whose id is in a range.
func rangeSegments(r store.Read, row *model.SegmentRange) func(yield func(*model.NetworkSegment) bool) {
	space := model.Segment{Type: row.NetworkType, PhysicalNetwork: row.PhysicalNetwork}.Space()
	return func(yield func(*model.NetworkSegment) bool) {
		for seg := range store.Find(r, model.SegmentTable, "space", space) {
			if row.Minimum <= seg.SegmentationID && seg.SegmentationID <= row.Maximum && !yield(seg) {
				return
			}
		}
	}
}

func (s *Service) createRanges(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.SegmentRange],
) ([]*model.SegmentRange, error) {
	if err := newCheck("create_network_segment_range", c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	o := s.newOp(c)
	var made []*model.SegmentRange
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		for _, input := range in {
			row := input.Value
			row.Default = false
			if err := s.checkRangeKind(&row); err != nil {
				return err
			}
			o.fresh(&row.Standard, row.ProjectID)
			if err := checkRange(tx, &row); err != nil {
				return err
			}
			store.Put(tx, model.SegmentRangeTable, &row)
			made = append(made, &row)
		}
		return nil
	})
	return presented(s, c, made, presentRange, err)
}

// checkRangeKind checks what never changes of a range.
func (s *Service) checkRangeKind(row *model.SegmentRange) error {
	vlan, _ := s.types.byName[model.TypeVLAN].(*vlanDriver)
	_, known := vlan.tags[row.PhysicalNetwork]
	switch {
	case maxTag[row.NetworkType] == 0:
		return BadRequest("NetworkSegmentRangeNetTypeNotSupported", "Network type %s does not support network segment ranges.", row.NetworkType)
	case row.NetworkType == model.TypeVLAN && row.PhysicalNetwork == "":
		return InvalidInput("physical_network is required for VLAN network segment ranges")
	case row.NetworkType == model.TypeVLAN && !known:
		return InvalidInput("physical_network '%s' unknown for VLAN provider network", row.PhysicalNetwork)
	case row.NetworkType != model.TypeVLAN && row.PhysicalNetwork != "":
		return InvalidInput("physical_network is not valid for %s network segment ranges", row.NetworkType)
	case !row.Shared && row.ProjectID == "":
		return InvalidInput("project_id is required for network segment ranges that are not shared")
	case row.Shared:
		row.ProjectID = ""
	}
	return nil
}

// checkRange checks bounds: within what the type has, and apart from the other ranges of the same project, or of all.
func checkRange(tx store.Tx, row *model.SegmentRange) error {
	if row.Minimum > row.Maximum || uint64(row.Maximum) > maxTag[row.NetworkType] {
		return InvalidInput("Network segment range %d:%d is not valid: %s networks have ids from 1 to %d, the minimum not above the maximum",
			row.Minimum, row.Maximum, row.NetworkType, maxTag[row.NetworkType])
	}
	space := model.Segment{Type: row.NetworkType, PhysicalNetwork: row.PhysicalNetwork}.Space()
	for other := range store.Find(tx, model.SegmentRangeTable, "space", space) {
		apart := other.Maximum < row.Minimum || row.Maximum < other.Minimum
		if other.ID != row.ID && !other.Default && other.ProjectID == row.ProjectID && !apart {
			return Conflict("NetworkSegmentRangeOverlaps", "Network segment range overlaps with range(s) with id %s.", other.ID)
		}
	}
	return nil
}

// getRange reads a range for an administrator; for others there are none.
func getRange(r store.Read, c *identity.Caller, id model.ID) (*model.SegmentRange, error) {
	row, ok := store.Get(r, model.SegmentRangeTable, string(id))
	if !ok || !c.IsAdmin() {
		return nil, NotFound("NetworkSegmentRangeNotFound", "Network Segment Range %s could not be found.", id)
	}
	return row, nil
}

// rangeToChange reads a range that may be changed: those of the configuration are not.
func rangeToChange(tx store.Tx, c *identity.Caller, id string, ifMatch *int64) (*model.SegmentRange, error) {
	row, err := getRange(tx, c, model.ID(id))
	if err != nil {
		return nil, err
	}
	if row.Default {
		return nil, BadRequest("NetworkSegmentRangeDefaultReadOnly",
			"Network Segment Range %s is a default segment range which could not be updated or deleted.", id)
	}
	return row, matchRevision(&row.Standard, ifMatch)
}

func (s *Service) updateRange(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.SegmentRange], ifMatch *int64,
) (*model.SegmentRange, error) {
	o := s.newOp(c)
	var out *model.SegmentRange
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := rangeToChange(tx, c, id, ifMatch)
		if err != nil {
			return err
		}
		row := *old
		set(in.Has("name"), &row.Name, in.Value.Name)
		set(in.Has("description"), &row.Description, in.Value.Description)
		set(in.Has("minimum"), &row.Minimum, in.Value.Minimum)
		set(in.Has("maximum"), &row.Maximum, in.Value.Maximum)
		if err := checkRange(tx, &row); err != nil {
			return err
		}
		for seg := range rangeSegments(tx, old) {
			if seg.SegmentationID < row.Minimum || seg.SegmentationID > row.Maximum {
				return rangeInUse(id)
			}
		}
		o.touch(&row.Standard)
		store.Put(tx, model.SegmentRangeTable, &row)
		out = &row
		return nil
	})
	return one(s, c, out, presentRange, err)
}

func rangeInUse(id string) error {
	return Conflict("NetworkSegmentRangeReferencedByProject",
		"Network Segment Range %s is referenced by one or more tenant networks.", id)
}

func (s *Service) deleteRange(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		row, err := rangeToChange(tx, c, id, ifMatch)
		if err != nil {
			return err
		}
		for range rangeSegments(tx, row) {
			return rangeInUse(id)
		}
		store.Delete(tx, model.SegmentRangeTable, id)
		return nil
	})
}

// defaultRanges are the ranges of the configuration as rows.  Their ids follow from what they are, so that all servers agree.
func (s *Service) defaultRanges() []model.SegmentRange {
	var rows []model.SegmentRange
	add := func(typ, physnet string, tags tagRanges) {
		for _, r := range tags.ranges {
			row := model.SegmentRange{
				Default: true, Shared: true, NetworkType: typ, PhysicalNetwork: physnet, Minimum: r.First, Maximum: r.Last,
			}
			name := model.SegmentValue(model.Segment{Type: typ, PhysicalNetwork: physnet}.Space(), r.First) + "-" + strconv.FormatUint(uint64(r.Last), 10)
			space := uuid.NewSHA1(uuid.NameSpaceDNS, []byte("network-segment-range.baryon"))
			row.ID = model.ID(uuid.NewSHA1(space, []byte(name)).String())
			rows = append(rows, row)
		}
	}
	for _, name := range []string{model.TypeVLAN, model.TypeVXLAN, model.TypeGRE} {
		switch d := s.types.byName[name].(type) {
		case *tunnelDriver:
			add(name, "", d.tags)
		case *vlanDriver:
			for physnet, tags := range d.tags {
				add(name, physnet, tags)
			}
		}
	}
	return rows
}

// ShowDefaultRanges writes the ranges of this server's configuration into the store and takes those of an older one out.  They are there to
// be seen; networks get their ids from the configuration itself.  Run does it at its start.
func (s *Service) ShowDefaultRanges(ctx context.Context) error {
	o := s.newOp(nil)
	want := s.defaultRanges()
	return o.run(ctx, nil, func(tx store.Tx) error {
		for old := range store.All(tx, model.SegmentRangeTable) {
			if old.Default && !slices.ContainsFunc(want, func(r model.SegmentRange) bool { return r.ID == old.ID }) {
				store.Delete(tx, model.SegmentRangeTable, string(old.ID))
			}
		}
		for _, row := range want {
			if _, ok := store.Get(tx, model.SegmentRangeTable, string(row.ID)); !ok {
				row.CreatedAt, row.UpdatedAt = o.now, o.now
				store.Put(tx, model.SegmentRangeTable, &row)
			}
		}
		return nil
	})
}
