package neutron

import (
	"errors"
	"fmt"
	"slices"

	"baryon/internal/model"
	"baryon/internal/neutron/alloc"
)

// typeDriver is what a network type means: where its segmentation ids come from and how much of the MTU its header takes.
type typeDriver interface {
	// segment completes a segment that names only the type or, by an administrator, also an id.
	segment(o *op, asked model.Segment) (model.Segment, error)
	// maxMTU is the largest MTU of a network of the type, in bytes.
	maxMTU() int
}

// typeDrivers are the network types that are served, by name, and the order in which they are tried.
type typeDrivers struct {
	byName map[string]typeDriver
	order  []string
}

// Headers of the tunnels without the outer IP header, in bytes: UDP + VXLAN + inner Ethernet, GRE with key + inner Ethernet.
const (
	vxlanHeader = 30
	greHeader   = 22
)

// maxTag is the largest segmentation id of a type: a VNI has 24 bits, a GRE key 32.
var maxTag = map[string]uint64{model.TypeVXLAN: 1<<24 - 1, model.TypeGRE: 1<<32 - 1}

func newTypeDrivers(cfg *Config) (typeDrivers, error) {
	vni, err := newTagRanges(model.TypeVXLAN, cfg.VNIRanges)
	if err != nil {
		return typeDrivers{}, err
	}
	key, err := newTagRanges(model.TypeGRE, cfg.TunnelIDRanges)
	if err != nil {
		return typeDrivers{}, err
	}
	t := typeDrivers{
		byName: map[string]typeDriver{
			model.TypeVXLAN: &tunnelDriver{model.TypeVXLAN, vni, tunnelMTU(cfg, vxlanHeader)},
			model.TypeGRE:   &tunnelDriver{model.TypeGRE, key, tunnelMTU(cfg, greHeader)},
			model.TypeLocal: localDriver{cfg.GlobalPhysnetMTU},
		},
		order: cfg.TenantNetworkTypes,
	}
	for _, name := range t.order {
		if t.byName[name] == nil {
			return t, fmt.Errorf("%w: tenant network type %q is not one of vxlan, gre, local", ErrConfig, name)
		}
	}
	return t, nil
}

// allocate finds a segment for a network: the one asked for, or the first that a type in the configured order has free.
func (t *typeDrivers) allocate(o *op, asked model.Segment) (model.Segment, error) {
	if asked.Type != "" {
		d, ok := t.byName[asked.Type]
		if !ok {
			return asked, InvalidInput("provider:network_type '%s' is not supported, use one of vxlan, gre, local", asked.Type)
		}
		return d.segment(o, asked)
	}
	if asked.PhysicalNetwork != "" || asked.SegmentationID != 0 {
		return asked, InvalidInput("provider:network_type required for provider network")
	}
	var full *exhausted
	var gates []string
	for _, name := range t.order {
		seg, err := t.byName[name].segment(o, model.Segment{Type: name})
		if !errors.As(err, &full) {
			return seg, err
		}
		gates = append(gates, full.gates...)
	}
	return asked, &exhausted{gates, full.answer}
}

// tunnelDriver serves vxlan and gre.
type tunnelDriver struct {
	name string
	tags tagRanges
	mtu  int
}

func (d *tunnelDriver) maxMTU() int { return d.mtu }

func (d *tunnelDriver) segment(o *op, asked model.Segment) (model.Segment, error) {
	if asked.PhysicalNetwork != "" {
		return asked, InvalidInput("provider:physical_network specified for %s network", d.name)
	}
	seg := model.Segment{Type: d.name, SegmentationID: asked.SegmentationID}
	if id := uint64(seg.SegmentationID); id > maxTag[d.name] {
		return seg, InvalidInput("provider:segmentation_id %d is out of range, %s networks have 1 to %d", id, d.name, maxTag[d.name])
	}
	if seg.SegmentationID != 0 {
		o.ask(model.NetworkTable.Name, "segment", seg.Value(), Conflict("TunnelIdInUse",
			"Unable to create the network. The tunnel ID %d is in use.", seg.SegmentationID))
		return seg, nil
	}
	id, ok := o.pickTag(d.name, d.tags)
	if !ok {
		return seg, &exhausted{[]string{segmentGate(d.name)}, Unavailable("NoNetworkAvailable",
			"Unable to create the network. No tenant network is available for allocation.")}
	}
	seg.SegmentationID = id
	return seg, nil
}

// localDriver serves networks that never leave their host.
type localDriver struct{ mtu int }

func (d localDriver) maxMTU() int { return d.mtu }

func (localDriver) segment(_ *op, asked model.Segment) (model.Segment, error) {
	if asked.PhysicalNetwork != "" || asked.SegmentationID != 0 {
		return asked, InvalidInput("provider:segmentation_id and provider:physical_network prohibited for local provider network")
	}
	return model.Segment{Type: model.TypeLocal}, nil
}

// segmentGate names the gate of a type's ids.
func segmentGate(typ string) string { return "segment/" + typ }

// segmentGates are the gates a creation of networks may pass.
func (t *typeDrivers) segmentGates() []string {
	return []string{segmentGate(model.TypeVXLAN), segmentGate(model.TypeGRE)}
}

// tunnelMTU is the MTU inside a tunnel: the smaller of what the wire and the path carry, less the outer headers.  Zero means unknown.
func tunnelMTU(cfg *Config, header int) int {
	ip := 20
	if cfg.OverlayIPVersion == 6 {
		ip = 40
	}
	base := cfg.GlobalPhysnetMTU
	if cfg.PathMTU > 0 {
		base = min(base, cfg.PathMTU)
	}
	return base - ip - header
}

// minMTU is the smallest MTU of IPv4 (RFC 791).
const minMTU = 68

// checkMTU gives a network its MTU: the asked one if it fits, the largest if none was asked for.
func (t *typeDrivers) checkMTU(typ string, asked int) (int, error) {
	most := t.byName[typ].maxMTU()
	switch {
	case asked == 0:
		return most, nil
	case asked > most:
		return 0, InvalidInput("Requested MTU is too big, maximum is %d", most)
	case asked < minMTU:
		return 0, InvalidInput("Requested MTU is too small, minimum is %d", minMTU)
	}
	return asked, nil
}

// tagRanges numbers the segmentation ids of configured ranges from 0.  It is an alloc.Layout.
type tagRanges struct {
	ranges []TagRange // sorted, apart
	base   []uint64
	size   uint64
}

var _ alloc.Layout[uint32] = tagRanges{}

func newTagRanges(typ string, in []TagRange) (tagRanges, error) {
	t := tagRanges{ranges: slices.Clone(in)}
	slices.SortFunc(t.ranges, func(a, b TagRange) int { return int(int64(a.First) - int64(b.First)) })
	for i, r := range t.ranges {
		if r.First == 0 || r.Last < r.First || uint64(r.Last) > maxTag[typ] {
			return t, fmt.Errorf("%w: %s range %d:%d is not within 1:%d", ErrConfig, typ, r.First, r.Last, maxTag[typ])
		}
		if i > 0 && r.First <= t.ranges[i-1].Last {
			return t, fmt.Errorf("%w: %s ranges %d:%d and %d:%d overlap", ErrConfig, typ,
				t.ranges[i-1].First, t.ranges[i-1].Last, r.First, r.Last)
		}
		t.base = append(t.base, t.size)
		t.size += uint64(r.Last-r.First) + 1
	}
	return t, nil
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

// segmentGiven tells whether a request names any part of a segment.
func segmentGiven(has func(string) bool) bool {
	return has("provider:network_type") || has("provider:physical_network") || has("provider:segmentation_id")
}
