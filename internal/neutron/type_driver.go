package neutron

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/store"
)

// typeDriver is what a network type means: where its segmentation ids come from and how much of the MTU its header takes.
type typeDriver interface {
	// segment completes a segment that names only the type or, by an administrator, also more.  project is whose network it becomes.
	segment(o *op, tx store.Tx, project string, asked model.Segment) (model.Segment, error)
	// maxMTU is the largest MTU of a segment of the type, in bytes.
	maxMTU(physicalNetwork string) int
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

// maxTag is the largest segmentation id of a type: a VLAN tag has 12 bits of which two values are reserved (IEEE 802.1Q), a VNI 24, a GRE
// key 32.
var maxTag = map[string]uint64{model.TypeVLAN: 4094, model.TypeVXLAN: 1<<24 - 1, model.TypeGRE: 1<<32 - 1}

// networkTypes names the types for messages.
const networkTypes = "vxlan, gre, vlan, flat, local"

func newTypeDrivers(cfg *Config) (typeDrivers, error) {
	vni, err := newTagRanges(model.TypeVXLAN, cfg.VNIRanges)
	if err != nil {
		return typeDrivers{}, err
	}
	key, err := newTagRanges(model.TypeGRE, cfg.TunnelIDRanges)
	if err != nil {
		return typeDrivers{}, err
	}
	physnets := physicalMTU{cfg.GlobalPhysnetMTU, cfg.PhysicalNetworkMTUs}
	vlan := &vlanDriver{mtu: physnets, tags: map[string]tagRanges{}}
	for name, ranges := range cfg.VLANRanges {
		if vlan.tags[name], err = newTagRanges(model.TypeVLAN, ranges); err != nil {
			return typeDrivers{}, err
		}
	}
	flat := flatDriver{mtu: physnets, any: slices.Contains(cfg.FlatNetworks, AnyPhysicalNetwork), networks: cfg.FlatNetworks}
	t := typeDrivers{
		byName: map[string]typeDriver{
			model.TypeVXLAN: &tunnelDriver{model.TypeVXLAN, vni, tunnelMTU(cfg, vxlanHeader)},
			model.TypeGRE:   &tunnelDriver{model.TypeGRE, key, tunnelMTU(cfg, greHeader)},
			model.TypeVLAN:  vlan,
			model.TypeFlat:  flat,
			model.TypeLocal: localDriver{cfg.GlobalPhysnetMTU},
		},
		order: cfg.TenantNetworkTypes,
	}
	for _, name := range t.order {
		if t.byName[name] == nil || name == model.TypeFlat {
			return t, fmt.Errorf("%w: tenant network type %q is not one of vxlan, gre, vlan, local", ErrConfig, name)
		}
	}
	return t, nil
}

// AnyPhysicalNetwork among Config.FlatNetworks lets flat networks be made on any physical network.
const AnyPhysicalNetwork = "*"

// checkPhysicalNetworks refuses a configuration that names no physical network or an impossible MTU.
func (c *Config) checkPhysicalNetworks() error {
	names := slices.Concat(c.FlatNetworks, slices.Sorted(maps.Keys(c.VLANRanges)), slices.Sorted(maps.Keys(c.PhysicalNetworkMTUs)))
	for _, name := range names {
		if err := checkPhysicalNetwork(name); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	for name, mtu := range c.PhysicalNetworkMTUs {
		if mtu < minMTU {
			return fmt.Errorf("%w: MTU %d of physical network %s is below %d", ErrConfig, mtu, name, minMTU)
		}
	}
	return nil
}

// checkPhysicalNetwork refuses what is no name of a physical network: it stands in keys and in lists "name:bridge,name:bridge".
func checkPhysicalNetwork(name string) error {
	const most = 64
	if name == "" || len(name) > most || strings.ContainsAny(name, "/:, \t\r\n") {
		return fmt.Errorf("%q is no name of a physical network", name)
	}
	return nil
}

// allocate finds a segment for a network: the one asked for, or the first that a type in the configured order has free.
func (t *typeDrivers) allocate(o *op, tx store.Tx, project string, asked model.Segment) (model.Segment, error) {
	if asked.Type != "" {
		d, ok := t.byName[asked.Type]
		if !ok {
			return asked, InvalidInput("provider:network_type '%s' is not supported, use one of %s", asked.Type, networkTypes)
		}
		return d.segment(o, tx, project, asked)
	}
	if asked.PhysicalNetwork != "" || asked.SegmentationID != 0 {
		return asked, InvalidInput("provider:network_type required for provider network")
	}
	var full *exhausted
	var gates []string
	for _, name := range t.order {
		seg, err := t.byName[name].segment(o, tx, project, model.Segment{Type: name})
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

func (d *tunnelDriver) maxMTU(string) int { return d.mtu }

func (d *tunnelDriver) segment(o *op, tx store.Tx, project string, asked model.Segment) (model.Segment, error) {
	if asked.PhysicalNetwork != "" {
		return asked, InvalidInput("provider:physical_network specified for %s network", d.name)
	}
	seg := model.Segment{Type: d.name, SegmentationID: asked.SegmentationID}
	if id := uint64(seg.SegmentationID); id > maxTag[d.name] {
		return seg, InvalidInput("provider:segmentation_id %d is out of range, %s networks have 1 to %d", id, d.name, maxTag[d.name])
	}
	if seg.SegmentationID != 0 {
		o.askSegment(seg, Conflict("TunnelIdInUse", "Unable to create the network. The tunnel ID %d is in use.", seg.SegmentationID))
		return seg, nil
	}
	id, ok := o.pickTag(tx, project, seg, d.tags)
	if !ok {
		return seg, noNetwork(d.name)
	}
	seg.SegmentationID = id
	return seg, nil
}

// noNetwork says that a type has no free id.
func noNetwork(typ string) error {
	return &exhausted{[]string{segmentGate(typ)}, Unavailable("NoNetworkAvailable",
		"Unable to create the network. No tenant network is available for allocation.")}
}

// askSegment takes a segment that the client named.
func (o *op) askSegment(seg model.Segment, taken *Error) {
	o.ask(model.SegmentTable.Name, "segment", seg.Value(), taken)
	o.givenTags[seg.Space()] = append(o.givenTags[seg.Space()], seg.SegmentationID)
}

// physicalMTU is the MTU of physical networks: no more than the underlay's in general.
type physicalMTU struct {
	global int
	byName map[string]int
}

func (m physicalMTU) of(name string) int {
	if own, ok := m.byName[name]; ok {
		return min(own, m.global)
	}
	return m.global
}

// vlanDriver serves VLANs of physical networks that are configured, those with ids to choose from and those without.
type vlanDriver struct {
	mtu  physicalMTU
	tags map[string]tagRanges
}

func (d *vlanDriver) maxMTU(name string) int { return d.mtu.of(name) }

func (d *vlanDriver) segment(o *op, tx store.Tx, project string, asked model.Segment) (model.Segment, error) {
	seg := asked
	tags, known := d.tags[asked.PhysicalNetwork]
	switch {
	case asked.PhysicalNetwork != "" && !known:
		return seg, InvalidInput("physical_network '%s' unknown for VLAN provider network", asked.PhysicalNetwork)
	case asked.PhysicalNetwork == "" && asked.SegmentationID != 0:
		return seg, InvalidInput("segmentation_id requires physical_network for VLAN provider network")
	case uint64(asked.SegmentationID) > maxTag[model.TypeVLAN]:
		return seg, InvalidInput("segmentation_id out of range (1 through %d)", maxTag[model.TypeVLAN])
	case asked.SegmentationID != 0:
		o.askSegment(seg, Conflict("VlanIdInUse", "Unable to create the network. The VLAN %d on physical network %s is in use.",
			seg.SegmentationID, seg.PhysicalNetwork))
		return seg, nil
	case asked.PhysicalNetwork != "" && tags.size == 0 && !o.hasRanges(tx, seg):
		return seg, InvalidInput("Physical network %s requires segmentation_id to be specified when creating a provider network",
			asked.PhysicalNetwork)
	}
	for _, name := range slices.Sorted(maps.Keys(d.tags)) {
		if asked.PhysicalNetwork != "" && name != asked.PhysicalNetwork {
			continue
		}
		seg.PhysicalNetwork = name
		if id, ok := o.pickTag(tx, project, seg, d.tags[name]); ok {
			seg.SegmentationID = id
			return seg, nil
		}
	}
	return asked, noNetwork(model.TypeVLAN)
}

// flatDriver serves networks that are a physical network as it is; each carries one.
type flatDriver struct {
	mtu      physicalMTU
	any      bool
	networks []string
}

func (d flatDriver) maxMTU(name string) int { return d.mtu.of(name) }

func (d flatDriver) segment(o *op, _ store.Tx, _ string, asked model.Segment) (model.Segment, error) {
	name := asked.PhysicalNetwork
	switch {
	case name == "":
		return asked, InvalidInput("physical_network required for flat provider network")
	case asked.SegmentationID != 0:
		return asked, InvalidInput("segmentation_id prohibited for flat provider network")
	case len(d.networks) == 0:
		return asked, InvalidInput("Flat provider networks are disabled")
	case !d.any && !slices.Contains(d.networks, name) || checkPhysicalNetwork(name) != nil:
		return asked, InvalidInput("physical_network '%s' unknown for flat provider network", name)
	}
	o.askSegment(asked, Conflict("FlatNetworkInUse", "Unable to create the flat network. Physical network %s is in use.", name))
	return asked, nil
}

// localDriver serves networks that never leave their host.
type localDriver struct{ mtu int }

func (d localDriver) maxMTU(string) int { return d.mtu }

func (localDriver) segment(_ *op, _ store.Tx, _ string, asked model.Segment) (model.Segment, error) {
	if asked.PhysicalNetwork != "" || asked.SegmentationID != 0 {
		return asked, InvalidInput("provider:segmentation_id and provider:physical_network prohibited for local provider network")
	}
	return model.Segment{Type: model.TypeLocal}, nil
}

// segmentGate names the gate of a type's ids.
func segmentGate(typ string) string { return "segment/" + typ }

// segmentGates are the gates a creation of networks may pass.
func (t *typeDrivers) segmentGates() []string {
	return []string{segmentGate(model.TypeVXLAN), segmentGate(model.TypeGRE), segmentGate(model.TypeVLAN)}
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

// checkMTU gives a network its MTU: the asked one if it fits all segments, the largest if none was asked for.
func (t *typeDrivers) checkMTU(segments []model.Segment, asked int) (int, error) {
	most := 1<<31 - 1
	for _, seg := range segments {
		most = min(most, t.byName[seg.Type].maxMTU(seg.PhysicalNetwork))
	}
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
