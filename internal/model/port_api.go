package model

import "baryon/internal/resource"

// VNICNormal is the vNIC type of a port that a virtual switch carries, the only one that binds here.
const VNICNormal = "normal"

// vnicType is a vNIC type of the Networking API.  Ports of all types can be made, since another switch than ours may carry them.
func vnicType() resource.Codec[string] {
	return resource.Enum(VNICNormal, "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "vdpa",
		"accelerator-direct", "accelerator-direct-physical", "remote-managed")
}

// maxProfile is the size of a binding profile in bytes of JSON, as Neutron has it.
const maxProfile = 4095

// Binding status values of the extension binding-extended.
const (
	BindingActive   = "ACTIVE"
	BindingInactive = "INACTIVE"
)

// Ports defines the resource port.
var Ports = resource.Define(PortTable, "port", "ports",
	identity(func(p *Port) *Standard { return &p.Standard }),
	resource.Attr("name", func(p *Port) *string { return &p.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name")),
	resource.Attr("network_id", func(p *Port) *ID { return &p.NetworkID }, resource.UUID[ID](),
		resource.CreateOnly, resource.Required, resource.RefTo("network"), resource.Filter, resource.Sort, resource.Indexed("network"),
		resource.Policy("project of the network, or the network is shared, or admin")),
	resource.Attr("admin_state_up", func(p *Port) *bool { return &p.AdminStateUp }, resource.Bool(),
		resource.Writable, resource.Default(true), resource.Filter, resource.Sort),
	resource.Attr("status", func(p *Port) *string { return &p.Status }, resource.String(16), resource.Presented, resource.Filter, resource.Sort),
	resource.Attr("mac_address", func(p *Port) *MAC { return &p.MAC }, hardwareAddr(),
		resource.Writable, resource.Allocated, resource.Filter, resource.Sort, resource.Policy("admin or project of the network")),
	resource.Attr("fixed_ips", func(p *Port) *[]FixedIP { return &p.FixedIPs }, fixedIPs(),
		resource.Writable, resource.Allocated, resource.Filter, resource.IndexedBy("subnet", probeSubnets),
		resource.Policy("ip_address: admin or project of the network")),
	resource.Attr("device_id", func(p *Port) *string { return &p.DeviceID }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("device")),
	resource.Attr("device_owner", func(p *Port) *string { return &p.DeviceOwner }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Policy("network:*: admin or project of the network")),
	resource.Attr("binding:vnic_type", func(p *Port) *string { return &p.Binding.VNICType }, vnicType(),
		resource.Writable, resource.Default(VNICNormal), resource.Ext("binding")),
	resource.Attr("binding:host_id", func(p *Port) *string { return &p.Binding.Host }, hostName(),
		resource.Writable, resource.Default(""), resource.Operators, resource.Filter, resource.Indexed("host"),
		resource.Policy("admin or service"), resource.Ext("binding")),
	resource.Attr("binding:profile", func(p *Port) *map[string]any { return &p.Binding.Profile }, resource.Object(maxProfile),
		resource.Writable, resource.Allocated, resource.Operators, resource.Policy("admin or service"), resource.Ext("binding")),
	resource.Attr("binding:vif_type", func(p *Port) *string { return &p.Binding.VIFType }, resource.String(64),
		resource.Operators, resource.Ext("binding")),
	resource.Attr("binding:vif_details", func(p *Port) *map[string]any { return &p.Binding.VIFDetails }, resource.AnyObject(),
		resource.Operators, resource.Ext("binding")),
	resource.Attr("port_security_enabled", func(p *Port) *bool { return &p.PortSecurityEnabled }, resource.Bool(),
		resource.Writable, resource.Allocated, resource.Policy("admin or project of the network"), resource.Ext("port-security")),
	resource.Attr("allowed_address_pairs", func(p *Port) *[]AddressPair { return &p.AllowedAddressPairs }, orNull(addressPairs()),
		resource.Writable, resource.Allocated, resource.Policy("admin or project of the network"), resource.Ext("allowed-address-pairs")),
	resource.Attr("security_groups", func(p *Port) *[]ID { return &p.SecurityGroups }, groupIDs(),
		resource.Writable, resource.Allocated, resource.Filter, resource.Indexed("group"), resource.Ext("security-group")),
	resource.Attr("extra_dhcp_opts", func(p *Port) *[]ExtraDHCPOpt { return &p.ExtraDHCPOpts }, orNull(dhcpOpts()),
		resource.Writable, resource.Allocated, resource.Ext("extra_dhcp_opt")),
	resource.Attr("dns_name", func(p *Port) *string { return &p.DNSName }, dnsName(),
		resource.Writable, resource.Default(""), resource.Ext("dns-integration")),
	resource.Attr("dns_assignment", func(p *Port) *[]DNSAssignment { return &p.DNSAssignment },
		resource.List("list of {ip_address, hostname, fqdn}", appendDNSAssignment), resource.Presented, resource.Ext("dns-integration")),
	resource.Derived("ip_allocation", (*Port).ipAllocation, resource.Enum(allocationImmediate, allocationDeferred, allocationNone),
		resource.Filter, resource.Sort, resource.Ext("ip_allocation")),
	resource.Attr("dns_domain", func(p *Port) *string { return &p.DNSDomain }, dnsDomain(),
		resource.Writable, resource.Default(""), resource.Ext("dns-domain-ports")),
	resource.Attr("qos_policy_id", func(p *Port) *ID { return &p.QoSPolicyID }, idOrNull(),
		resource.Writable, resource.Default(ID("")), resource.RefTo("policy"), resource.Ext("qos")),
	resource.Attr("qos_network_policy_id", func(p *Port) *ID { return &p.QoSNetworkPolicyID }, idOrNull(),
		resource.Presented, resource.Ext("qos-port-network-policy")),
	resource.Attr("trunk_details", func(p *Port) **TrunkDetails { return &p.TrunkDetails }, trunkDetails(),
		resource.Presented, resource.Ext("trunk-details")),
	standard(func(p *Port) *Standard { return &p.Standard }),
)

// hostName is the name of a node; null is none.
func hostName() resource.Codec[string] {
	c := orNull(resource.String(maxName))
	c.Match = resource.Text[string]
	return c
}

// PortBinding is one binding of a port as the extension binding-extended shows it.
type PortBinding struct {
	Binding
	Status string // BindingActive or BindingInactive
}

// PortBindings defines the sub-resource binding of a port.
var PortBindings = resource.Define(
	resource.NewTable("port_binding", func(b *PortBinding) string { return b.Host }), "binding", "bindings",
	resource.Attr("host", func(b *PortBinding) *string { return &b.Host }, resource.String(maxName),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Indexed(resource.KeyIndex), resource.Ext("binding-extended")),
	resource.Attr("vif_type", func(b *PortBinding) *string { return &b.VIFType }, resource.String(64),
		resource.Filter, resource.Ext("binding-extended")),
	resource.Attr("vif_details", func(b *PortBinding) *map[string]any { return &b.VIFDetails }, resource.AnyObject(), resource.Ext("binding-extended")),
	resource.Attr("vnic_type", func(b *PortBinding) *string { return &b.VNICType }, vnicType(),
		resource.Writable, resource.Default(VNICNormal), resource.Filter, resource.Ext("binding-extended")),
	resource.Attr("profile", func(b *PortBinding) *map[string]any { return &b.Profile }, resource.Object(maxProfile),
		resource.Writable, resource.Allocated, resource.Ext("binding-extended")),
	resource.Attr("status", func(b *PortBinding) *string { return &b.Status }, resource.String(16),
		resource.Filter, resource.Ext("binding-extended")),
)

// How a port came to its addresses.
const (
	allocationImmediate = "immediate"
	allocationDeferred  = "deferred"
	allocationNone      = "none"
)

func (p *Port) ipAllocation() string {
	switch {
	case p.Deferred:
		return allocationDeferred
	case len(p.FixedIPs) == 0:
		return allocationNone
	}
	return allocationImmediate
}
