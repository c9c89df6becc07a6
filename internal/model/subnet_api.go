package model

import (
	"net/netip"

	"baryon/internal/resource"
)

// Subnets defines the resource subnet.
var Subnets = resource.Define(SubnetTable, "subnet", "subnets",
	identity(func(s *Subnet) *Standard { return &s.Standard }),
	resource.Attr("name", func(s *Subnet) *string { return &s.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name")),
	resource.Attr("network_id", func(s *Subnet) *ID { return &s.NetworkID }, resource.UUID[ID](),
		resource.CreateOnly, resource.Required, resource.RefTo("network"), resource.Filter, resource.Sort, resource.Indexed("network"),
		resource.Policy("project of the network, or admin")),
	resource.Attr("ip_version", func(s *Subnet) *int { return &s.IPVersion }, resource.OneOf(4, 6),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort),
	resource.Attr("cidr", func(s *Subnet) *netip.Prefix { return &s.CIDR }, cidr(),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Sort),
	resource.Attr("gateway_ip", func(s *Subnet) *netip.Addr { return &s.GatewayIP }, addrOrNull(),
		resource.Writable, resource.Allocated, resource.Filter, resource.Sort),
	resource.Attr("allocation_pools", func(s *Subnet) *[]AddrRange { return &s.AllocationPools }, pools(),
		resource.Writable, resource.Allocated),
	resource.Attr("dns_nameservers", func(s *Subnet) *[]netip.Addr { return &s.DNSNameservers }, orNull(nameservers()),
		resource.Writable, resource.Allocated),
	resource.Attr("host_routes", func(s *Subnet) *[]HostRoute { return &s.HostRoutes }, orNull(hostRoutes()),
		resource.Writable, resource.Allocated),
	resource.Attr("enable_dhcp", func(s *Subnet) *bool { return &s.EnableDHCP }, resource.Bool(),
		resource.Writable, resource.Default(true), resource.Filter, resource.Sort),
	resource.Attr("ipv6_ra_mode", func(s *Subnet) *string { return &s.IPv6RAMode }, resource.NullEnum(ModeStateful, ModeStateless, ModeSLAAC),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Sort),
	resource.Attr("ipv6_address_mode", func(s *Subnet) *string { return &s.IPv6AddressMode }, resource.NullEnum(ModeStateful, ModeStateless, ModeSLAAC),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Sort),
	resource.Attr("dns_publish_fixed_ip", func(s *Subnet) *bool { return &s.DNSPublishFixedIP }, resource.Bool(),
		resource.Writable, resource.Default(false), resource.Ext("subnet-dns-publish-fixed-ip")),
	resource.Attr("segment_id", func(s *Subnet) *ID { return &s.SegmentID }, idOrNull(),
		resource.Writable, resource.Default(ID("")), resource.Operators, resource.RefTo("segment"), resource.Filter, resource.Sort,
		resource.Indexed("segment"), resource.Policy("admin"), resource.Ext("segment")),
	resource.Attr("router:external", func(s *Subnet) *bool { return &s.External }, resource.Bool(),
		resource.Presented, resource.Filter, resource.Ext("subnet-external-network")),
	resource.Attr("shared", func(s *Subnet) *bool { return &s.Shared }, resource.Bool(), resource.Presented, resource.Hidden, resource.Filter),
	standard(func(s *Subnet) *Standard { return &s.Standard }),
)
