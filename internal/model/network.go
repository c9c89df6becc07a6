package model

import (
	"strconv"

	"baryon/internal/resource"
)

// Network types, as the provider extension spells them.
const (
	TypeLocal = "local"
	TypeVXLAN = "vxlan"
	TypeGRE   = "gre"
	TypeFlat  = "flat"
	TypeVLAN  = "vlan"
)

// Network is one layer-2 broadcast domain.
type Network struct {
	Standard
	Name                  string   `json:"name"`
	AdminStateUp          bool     `json:"admin_state_up"`
	External              bool     `json:"external,omitempty"`   // somebody may use it as an external network: an RBAC policy says who
	IsDefault             bool     `json:"is_default,omitempty"` // the one default external network
	MTU                   int      `json:"mtu"`                  // bytes of an IP packet; never 0 in the store
	PortSecurityEnabled   bool     `json:"port_security_enabled"`
	DNSDomain             string   `json:"dns_domain,omitempty"`
	AvailabilityZoneHints []string `json:"availability_zone_hints,omitempty"`
	Segment               Segment  `json:"segment"`
	// More are the further segments of a network that has several.
	More        []Segment `json:"more,omitempty"`
	QoSPolicyID ID        `json:"qos_policy_id,omitempty"`

	// Shared and Segments are what a request asks for, and otherwise computed when shown: whether a policy shares the network with the
	// caller, and all segments of a network that has several.
	Shared   bool      `json:"-"`
	Segments []Segment `json:"-"`

	L2Adjacency       bool     `json:"-"` // computed when shown: false if its subnets are tied to segments
	Subnets           []ID     `json:"-"` // computed when shown
	AvailabilityZones []string `json:"-"` // computed when shown
}

// Segment is how a network appears on the wire.
type Segment struct {
	Type            string `json:"type"`                       // one of the Type constants
	PhysicalNetwork string `json:"physical_network,omitempty"` // flat and vlan
	SegmentationID  uint32 `json:"segmentation_id,omitempty"`  // VNI, GRE key or VLAN id; 0 where the type has none
}

// AllSegments are the network's segments, in order.
func (n *Network) AllSegments() []Segment { return append([]Segment{n.Segment}, n.More...) }

// Space names the ids among which the segment's is unique: its type and physical network.
func (s Segment) Space() string { return s.Type + "/" + s.PhysicalNetwork }

// Value is the segment as one text, unique in the cloud for types that have an id: "vxlan//1716".
func (s Segment) Value() string {
	return SegmentValue(s.Space(), s.SegmentationID)
}

// SegmentValue is Value of the segment with an id of a Space.
func SegmentValue(space string, id uint32) string {
	return space + "/" + strconv.FormatUint(uint64(id), 10)
}

// DefaultExternal is the value of NetworkTable's index default_external that the default external network holds.
const DefaultExternal = "yes"

// NetworkTable keeps networks.  One network at most is the default external one.
var NetworkTable = resource.NewTable("network", func(n *Network) string { return string(n.ID) }).
	Index("project", func(n *Network) []string { return []string{n.ProjectID} }).
	Index("name", func(n *Network) []string { return some(n.Name) }).
	Index("qos_policy", func(n *Network) []string { return some(string(n.QoSPolicyID)) }).
	Unique("default_external", func(n *Network) []string {
		if !n.IsDefault {
			return nil
		}
		return []string{DefaultExternal}
	})
