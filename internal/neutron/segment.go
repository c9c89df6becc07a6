package neutron

import (
	"context"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Segments are the rules of segments as resources of their own.  They are the administrators'.
func (s *Service) Segments() *Kind[model.NetworkSegment] {
	return &Kind[model.NetworkSegment]{
		Def:     model.Segments,
		Create:  s.createSegments,
		Update:  s.updateSegment,
		Delete:  s.deleteSegment,
		Visible: func(_ store.Read, c *identity.Caller, _ *model.NetworkSegment) bool { return segmentVisible(c) },
		Present: presentSegment,
	}
}

func segmentVisible(c *identity.Caller) bool { return c.IsAdmin() || c.IsService() }

func presentSegment(_ store.Read, _ *identity.Caller, seg *model.NetworkSegment) *model.NetworkSegment {
	return seg
}

func getSegment(r store.Read, c *identity.Caller, id model.ID) (*model.NetworkSegment, error) {
	seg, ok := store.Get(r, model.SegmentTable, string(id))
	if !ok || !segmentVisible(c) {
		return nil, NotFound("SegmentNotFound", "Segment %s could not be found.", id)
	}
	return seg, nil
}

// newSegments finds the segments of a new network: the one or the several asked for, or one that is free.
func (o *op) newSegments(tx store.Tx, in *resource.Input[model.Network], project string) ([]model.Segment, error) {
	v := &in.Value
	if len(v.Segments) == 0 {
		seg, err := o.s.types.allocate(o, tx, project, v.Segment)
		return []model.Segment{seg}, err
	}
	if v.Segment != (model.Segment{}) {
		return nil, BadRequest("SegmentsSetInConjunctionWithProviders", "Segments and provider values cannot both be set.")
	}
	out := make([]model.Segment, len(v.Segments))
	for i, asked := range v.Segments {
		if asked.Type == "" {
			return nil, InvalidInput("provider:network_type required for provider network")
		}
		whole := asked.SegmentationID != 0 || asked.Type == model.TypeFlat
		if whole && slices.Contains(v.Segments[:i], asked) {
			return nil, BadRequest("SegmentsContainDuplicateEntry", "Duplicate segment entry in request.")
		}
		seg, err := o.s.types.allocate(o, tx, project, asked)
		if err != nil {
			return nil, err
		}
		out[i] = seg
	}
	return out, nil
}

func (o *op) putSegment(tx store.Tx, seg *model.NetworkSegment) {
	o.fresh(&seg.Standard, "")
	store.Put(tx, model.SegmentTable, seg)
}

// changedSegment follows the provider attributes of an update: of a network that is one VLAN, another id can be taken.
func (o *op) changedSegment(tx store.Tx, n *model.Network, in *resource.Input[model.Network]) error {
	if !segmentGiven(in.Has) {
		return nil
	}
	want := n.Segment
	set(in.Has("provider:network_type"), &want.Type, in.Value.Segment.Type)
	set(in.Has("provider:physical_network"), &want.PhysicalNetwork, in.Value.Segment.PhysicalNetwork)
	set(in.Has("provider:segmentation_id"), &want.SegmentationID, in.Value.Segment.SegmentationID)
	same := want.Type == model.TypeVLAN && n.Segment.Type == model.TypeVLAN && want.PhysicalNetwork == n.Segment.PhysicalNetwork
	if in.Has("segments") || len(n.More) > 0 || !same || want.SegmentationID == 0 {
		return InvalidInput("Plugin does not support updating provider attributes")
	}
	if want == n.Segment {
		return nil
	}
	seg, err := o.s.types.allocate(o, tx, n.ProjectID, want)
	if err != nil {
		return err
	}
	for row := range store.Find(tx, model.SegmentTable, "segment", n.Segment.Value()) {
		next := *row
		next.Segment = seg
		o.touch(&next.Standard)
		store.Put(tx, model.SegmentTable, &next)
	}
	n.Segment = seg
	return nil
}

// segmentGiven tells whether a request names any part of a segment.
func segmentGiven(has func(string) bool) bool {
	return has("provider:network_type") || has("provider:physical_network") || has("provider:segmentation_id") || has("segments")
}

func (s *Service) createSegments(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.NetworkSegment],
) ([]*model.NetworkSegment, error) {
	if err := newCheck("create_segment", c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	o := s.newOp(c)
	var made []*model.NetworkSegment
	err := o.run(ctx, s.types.segmentGates(), func(tx store.Tx) error {
		made = made[:0]
		for _, input := range in {
			seg, err := o.newSegment(tx, input.Value)
			if err != nil {
				return err
			}
			made = append(made, seg)
		}
		return nil
	})
	return presented(s, c, made, presentSegment, err)
}

// newSegment adds a segment to a network, as its last.
func (o *op) newSegment(tx store.Tx, seg model.NetworkSegment) (*model.NetworkSegment, error) {
	n, err := getNetwork(tx, o.caller, seg.NetworkID)
	if err != nil {
		return nil, err
	}
	if len(n.More)+1 >= model.MaxSegments {
		return nil, InvalidInput("Network %s has %d segments already, which is the most", n.ID, model.MaxSegments)
	}
	if seg.Segment, err = o.s.types.allocate(o, tx, n.ProjectID, seg.Segment); err != nil {
		return nil, err
	}
	o.putSegment(tx, &seg)
	next := *n
	next.More = append(slices.Clone(n.More), seg.Segment)
	most, err := o.s.types.checkMTU(next.AllSegments(), 0)
	next.MTU = min(next.MTU, most)
	o.touch(&next.Standard)
	store.Put(tx, model.NetworkTable, &next)
	return &seg, err
}

func (s *Service) updateSegment(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.NetworkSegment], ifMatch *int64,
) (*model.NetworkSegment, error) {
	o := s.newOp(c)
	var out *model.NetworkSegment
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := segmentToChange(tx, c, id, "update_segment", ifMatch)
		if err != nil {
			return err
		}
		next := *old
		set(in.Has("name"), &next.Name, in.Value.Name)
		set(in.Has("description"), &next.Description, in.Value.Description)
		o.touch(&next.Standard)
		store.Put(tx, model.SegmentTable, &next)
		out = &next
		return nil
	})
	return one(s, c, out, presentSegment, err)
}

func segmentToChange(tx store.Tx, c *identity.Caller, id, action string, ifMatch *int64) (*model.NetworkSegment, error) {
	seg, err := getSegment(tx, c, model.ID(id))
	if err != nil {
		return nil, err
	}
	if err := newCheck(action, c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	return seg, matchRevision(&seg.Standard, ifMatch)
}

func (s *Service) deleteSegment(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		seg, err := segmentToChange(tx, c, id, "delete_segment", ifMatch)
		if err != nil {
			return err
		}
		n, ok := store.Get(tx, model.NetworkTable, string(seg.NetworkID))
		if !ok {
			return NotFound("NetworkNotFound", "Network %s could not be found.", seg.NetworkID)
		}
		if reason := segmentUser(tx, n, seg); reason != "" {
			return Conflict("SegmentInUse", "Segment '%s' cannot be deleted: %s.", id, reason)
		}
		segments := n.AllSegments()
		i := slices.Index(segments, seg.Segment)
		segments = slices.Delete(segments, i, i+1)
		next := *n
		next.Segment, next.More = segments[0], segments[1:]
		if len(next.More) == 0 {
			next.More = nil
		}
		o.touch(&next.Standard)
		store.Put(tx, model.NetworkTable, &next)
		store.Delete(tx, model.SegmentTable, id)
		return nil
	})
}

// segmentUser says why a segment is needed, empty if it is not.  A network without segments could never be anywhere, so its last one stays.
func segmentUser(tx store.Tx, n *model.Network, seg *model.NetworkSegment) string {
	if len(n.More) == 0 {
		return "It is the only segment of network " + string(n.ID)
	}
	var subnets, ports []string
	for sub := range store.Find(tx, model.SubnetTable, "segment", string(seg.ID)) {
		subnets = append(subnets, string(sub.ID))
	}
	if subnets != nil {
		return "The segment is still associated with subnet(s) " + strings.Join(subnets, ", ")
	}
	for p := range store.Find(tx, model.PortTable, "network", string(n.ID)) {
		if at, ok := hostSegment(tx, n, p.Binding.Host); p.Bound() && ok && at == seg.Segment {
			ports = append(ports, string(p.ID))
		}
		if len(ports) == 10 {
			break
		}
	}
	if ports != nil {
		return "The segment is still bound with port(s) " + strings.Join(ports, ", ")
	}
	return ""
}
