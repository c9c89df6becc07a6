package model

import "baryon/internal/resource"

// Definitions lists every definition that the API shows, in the order of the reference.
func Definitions() []resource.Described {
	return []resource.Described{
		Networks, Segments, SegmentRanges, Subnets, Ports, PortBindings, RBACPolicies, SecurityGroups, SecurityGroupRules, AddressGroups, DefaultRules, QoSPolicies,
		BandwidthLimitRules, DSCPMarkingRules, Trunks, Agents, IPAvailabilities,
		AvailabilityZones,
	}
}
