package model

import (
	"net/netip"

	"baryon/internal/resource"
)

// IPv6 modes of a subnet (ipv6_ra_mode and ipv6_address_mode).
const (
	ModeSLAAC     = "slaac"
	ModeStateful  = "dhcpv6-stateful"
	ModeStateless = "dhcpv6-stateless"
)

// Subnet is one range of addresses on a network.
type Subnet struct {
	Standard
	Name              string       `json:"name"`
	NetworkID         ID           `json:"network_id"`
	IPVersion         int          `json:"ip_version"` // 4 or 6
	CIDR              netip.Prefix `json:"cidr"`       // masked
	GatewayIP         netip.Addr   `json:"gateway_ip"` // invalid: none
	AllocationPools   []AddrRange  `json:"allocation_pools"`
	DNSNameservers    []netip.Addr `json:"dns_nameservers,omitempty"`
	HostRoutes        []HostRoute  `json:"host_routes,omitempty"`
	EnableDHCP        bool         `json:"enable_dhcp"`
	IPv6RAMode        string       `json:"ipv6_ra_mode,omitempty"`      // "" or a Mode constant
	IPv6AddressMode   string       `json:"ipv6_address_mode,omitempty"` // "" or a Mode constant
	DNSPublishFixedIP bool         `json:"dns_publish_fixed_ip,omitempty"`
	SegmentID         ID           `json:"segment_id,omitempty"` // the one segment of the network on which it lives, empty: all

	Shared   bool `json:"-"` // its network's; computed when shown, to filter by
	External bool `json:"-"` // its network's; computed when shown
}

// AutoAddress tells whether a guest on the subnet makes its own address from its MAC (SLAAC, stateless DHCPv6), so that the
// server must choose the same EUI-64 address.
func (s *Subnet) AutoAddress() bool {
	return s.IPv6AddressMode == ModeSLAAC || s.IPv6AddressMode == ModeStateless
}

// AddrRange is an inclusive range of addresses.
type AddrRange struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// HostRoute is one route given to guests.
type HostRoute struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nexthop"`
}

// SubnetTable keeps subnets.  A CIDR may stand once on a network; overlap is checked by the rules, inside the transaction.
var SubnetTable = resource.NewTable("subnet", func(s *Subnet) string { return string(s.ID) }).
	Index("project", func(s *Subnet) []string { return []string{s.ProjectID} }).
	Index("name", func(s *Subnet) []string { return some(s.Name) }).
	Index("network", func(s *Subnet) []string { return []string{string(s.NetworkID)} }).
	Index("segment", func(s *Subnet) []string { return some(string(s.SegmentID)) }).
	Unique("network_cidr", func(s *Subnet) []string { return []string{string(s.NetworkID) + "/" + s.CIDR.String()} })
