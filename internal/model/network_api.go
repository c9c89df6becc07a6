package model

import "baryon/internal/resource"

// Networks defines the resource network.
var Networks = resource.Define(NetworkTable, "network", "networks",
	identity(func(n *Network) *Standard { return &n.Standard }),
	resource.Attr("name", func(n *Network) *string { return &n.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name")),
	resource.Derived("status", func(*Network) string { return StatusActive }, resource.String(16), resource.Filter, resource.Sort),
	resource.Attr("admin_state_up", func(n *Network) *bool { return &n.AdminStateUp }, resource.Bool(),
		resource.Writable, resource.Default(true), resource.Filter, resource.Sort),
	resource.Attr("subnets", func(n *Network) *[]ID { return &n.Subnets }, resource.List("list of UUIDs", resource.AppendString[ID]),
		resource.Presented),
	resource.Attr("shared", func(n *Network) *bool { return &n.Shared }, resource.Bool(),
		resource.Writable, resource.Default(false), resource.Filter, resource.Policy("admin")),
	resource.Attr("provider:network_type", func(n *Network) *string { return &n.Segment.Type }, resource.NullString(32),
		resource.Writable, resource.Allocated, resource.Operators, resource.Filter, resource.Policy("admin"), resource.Ext("provider")),
	resource.Attr("provider:physical_network", func(n *Network) *string { return &n.Segment.PhysicalNetwork }, resource.NullString(64),
		resource.Writable, resource.Allocated, resource.Operators, resource.Filter, resource.Policy("admin"), resource.Ext("provider")),
	resource.Attr("provider:segmentation_id", func(n *Network) *uint32 { return &n.Segment.SegmentationID }, resource.NullInt[uint32](0, 1<<32-1),
		resource.Writable, resource.Allocated, resource.Operators, resource.Filter, resource.Policy("admin"), resource.Ext("provider")),
	resource.Attr("router:external", func(n *Network) *bool { return &n.External }, resource.Bool(),
		resource.Writable, resource.Default(false), resource.Filter, resource.Policy("admin"), resource.Ext("external-net")),
	resource.Attr("is_default", func(n *Network) *bool { return &n.IsDefault }, resource.Bool(),
		resource.Writable, resource.Default(false), resource.Filter, resource.Policy("admin"), resource.Ext("external-net")),
	// 0 means: computed from the type.
	resource.Attr("mtu", func(n *Network) *int { return &n.MTU }, resource.Int[int](0, 1<<31-1),
		resource.Writable, resource.Default(0), resource.Filter, resource.Sort, resource.Ext("net-mtu-writable")),
	resource.Attr("port_security_enabled", func(n *Network) *bool { return &n.PortSecurityEnabled }, resource.Bool(),
		resource.Writable, resource.Default(true), resource.Ext("port-security")),
	resource.Attr("dns_domain", func(n *Network) *string { return &n.DNSDomain }, dnsDomain(),
		resource.Writable, resource.Default(""), resource.Ext("dns-integration")),
	resource.Attr("availability_zone_hints", func(n *Network) *[]string { return &n.AvailabilityZoneHints }, zoneHints(),
		resource.CreateOnly, resource.Allocated, resource.Ext("network_availability_zone")),
	resource.Attr("availability_zones", func(n *Network) *[]string { return &n.AvailabilityZones },
		resource.List("list of strings", resource.AppendString[string]), resource.Presented, resource.Ext("network_availability_zone")),
	standard(func(n *Network) *Standard { return &n.Standard }),
)
