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
	Shared                bool     `json:"shared,omitempty"`
	External              bool     `json:"external,omitempty"`
	IsDefault             bool     `json:"is_default,omitempty"` // the one default external network
	MTU                   int      `json:"mtu"`                  // bytes of an IP packet; never 0 in the store
	PortSecurityEnabled   bool     `json:"port_security_enabled"`
	DNSDomain             string   `json:"dns_domain,omitempty"`
	AvailabilityZoneHints []string `json:"availability_zone_hints,omitempty"`
	Segment               Segment  `json:"segment"`
	QoSPolicyID           ID       `json:"qos_policy_id,omitempty"`

	Subnets           []ID     `json:"-"` // computed when shown
	AvailabilityZones []string `json:"-"` // computed when shown
}

// Segment is how a network appears on the wire.
type Segment struct {
	Type            string `json:"type"`                       // one of the Type constants
	PhysicalNetwork string `json:"physical_network,omitempty"` // flat and vlan
	SegmentationID  uint32 `json:"segmentation_id,omitempty"`  // VNI, GRE key or VLAN id; 0 where the type has none
}

// Value is the segment as one text, unique in the cloud for types that have an id: "vxlan//1716".
func (s Segment) Value() string {
	return s.Type + "/" + s.PhysicalNetwork + "/" + strconv.FormatUint(uint64(s.SegmentationID), 10)
}

// DefaultExternal is the value of NetworkTable's index default_external that the default external network holds.
const DefaultExternal = "yes"

// NetworkTable keeps networks.  A segment with an id belongs to one network, and one network at most is the default external one.
var NetworkTable = resource.NewTable("network", func(n *Network) string { return string(n.ID) }).
	Index("project", func(n *Network) []string { return []string{n.ProjectID} }).
	Index("name", func(n *Network) []string { return some(n.Name) }).
	Index("qos_policy", func(n *Network) []string { return some(string(n.QoSPolicyID)) }).
	Unique("segment", func(n *Network) []string {
		if n.Segment.Type == TypeLocal {
			return nil
		}
		return []string{n.Segment.Value()}
	}).
	Unique("default_external", func(n *Network) []string {
		if !n.IsDefault {
			return nil
		}
		return []string{DefaultExternal}
	})
