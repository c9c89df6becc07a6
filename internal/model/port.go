package model

import (
	"net/netip"
	"strings"

	"baryon/internal/resource"
)

// Port status values.
const (
	StatusActive = "ACTIVE"
	StatusBuild  = "BUILD"
	StatusDown   = "DOWN"
	StatusError  = "ERROR"
)

// VIF types of a binding.
const (
	VIFUnbound       = "unbound"
	VIFBindingFailed = "binding_failed"
	VIFOVS           = "ovs"
)

// Device owners that the project itself gives to ports.
const OwnerDHCP = "network:dhcp"

// ReservedDHCPPort is the device_id of a DHCP port whose agent has left; the next agent takes the port over.
const ReservedDHCPPort = "reserved_dhcp_port"

// Port is one attachment to a network.  Its status is kept apart, in PortStatus: it changes with what nodes acknowledge, not
// with what clients ask.
type Port struct {
	Standard
	Name                string         `json:"name"`
	NetworkID           ID             `json:"network_id"`
	AdminStateUp        bool           `json:"admin_state_up"`
	MAC                 MAC            `json:"mac_address"`
	FixedIPs            []FixedIP      `json:"fixed_ips,omitempty"`
	Deferred            bool           `json:"deferred,omitempty"` // its addresses are chosen when it gets a host
	DeviceID            string         `json:"device_id,omitempty"`
	DeviceOwner         string         `json:"device_owner,omitempty"`
	PortSecurityEnabled bool           `json:"port_security_enabled"`
	AllowedAddressPairs []AddressPair  `json:"allowed_address_pairs,omitempty"`
	SecurityGroups      []ID           `json:"security_groups,omitempty"` // sorted
	ExtraDHCPOpts       []ExtraDHCPOpt `json:"extra_dhcp_opts,omitempty"`
	DNSName             string         `json:"dns_name,omitempty"`
	DNSDomain           string         `json:"dns_domain,omitempty"`
	QoSPolicyID         ID             `json:"qos_policy_id,omitempty"`
	Binding             Binding        `json:"binding"`            // the active one
	Inactive            []Binding      `json:"inactive,omitempty"` // binding-extended: prepared for live migration

	Status        string          `json:"-"` // computed when shown
	DNSAssignment []DNSAssignment `json:"-"` // computed when shown

	QoSNetworkPolicyID ID            `json:"-"` // computed when shown: of its network
	TrunkDetails       *TrunkDetails `json:"-"` // computed when shown: of the trunk whose parent it is
}

// FixedIP is one address of a port.
type FixedIP struct {
	SubnetID  ID         `json:"subnet_id"`
	IPAddress netip.Addr `json:"ip_address"`
}

// AddressPair is an address that a port may use besides its own.
type AddressPair struct {
	IPAddress netip.Prefix `json:"ip_address"` // a single address is a /32 or /128
	MAC       MAC          `json:"mac_address"`
}

// ExtraDHCPOpt is a DHCP option for one port.
type ExtraDHCPOpt struct {
	Name      string `json:"opt_name"` // dnsmasq's option name, or a number
	Value     string `json:"opt_value"`
	IPVersion int    `json:"ip_version"` // 4 or 6
	Remove    bool   `json:"-"`          // in an update only: the client sent opt_value null, which deletes the option
}

// DNSAssignment is a name that the network's DNS answers for a port.
type DNSAssignment struct {
	IPAddress netip.Addr `json:"ip_address"`
	Hostname  string     `json:"hostname"`
	FQDN      string     `json:"fqdn"`
}

// Binding says which host carries a port and how it is plugged there.
type Binding struct {
	Host       string         `json:"host_id,omitempty"`
	VNICType   string         `json:"vnic_type"` // VNICNormal is the only one that binds
	VIFType    string         `json:"vif_type"`  // a VIF constant
	VIFDetails map[string]any `json:"vif_details,omitempty"`
	Profile    map[string]any `json:"profile,omitempty"`
}

// Bound tells whether a node carries the port.
func (p *Port) Bound() bool { return p.Binding.VIFType == VIFOVS }

// ownerNetworkPrefix starts the device owner of every port of a network service.
const ownerNetworkPrefix = "network:"

// NetworkOwner is a value of PortTable's index network_owner, which finds the ports of network services (owners that start with
// "network:") on a network: its DHCP ports, its router interfaces.
func NetworkOwner(network ID, owner string) string { return string(network) + "/" + owner }

// PortTable keeps ports.  A MAC and an address stand once on a network and a subnet.
var PortTable = resource.NewTable("port", func(p *Port) string { return string(p.ID) }).
	Index("project", func(p *Port) []string { return []string{p.ProjectID} }).
	Index("name", func(p *Port) []string { return some(p.Name) }).
	Index("network", func(p *Port) []string { return []string{string(p.NetworkID)} }).
	Index("subnet", func(p *Port) []string {
		ids := make([]string, 0, len(p.FixedIPs))
		for _, f := range p.FixedIPs {
			ids = append(ids, string(f.SubnetID))
		}
		return ids
	}).
	Index("device", func(p *Port) []string { return some(p.DeviceID) }).
	Index("group", func(p *Port) []string {
		ids := make([]string, 0, len(p.SecurityGroups))
		for _, g := range p.SecurityGroups {
			ids = append(ids, string(g))
		}
		return ids
	}).
	Index("qos_policy", func(p *Port) []string { return some(string(p.QoSPolicyID)) }).
	Index("host", func(p *Port) []string { return some(p.Binding.Host) }).
	Index("network_owner", func(p *Port) []string {
		if !strings.HasPrefix(p.DeviceOwner, ownerNetworkPrefix) {
			return nil
		}
		return []string{NetworkOwner(p.NetworkID, p.DeviceOwner)}
	}).
	Unique("network_mac", func(p *Port) []string { return []string{NetworkMAC(p.NetworkID, p.MAC)} }).
	Unique("subnet_ip", func(p *Port) []string {
		v := make([]string, 0, len(p.FixedIPs))
		for _, f := range p.FixedIPs {
			v = append(v, SubnetIP(f.SubnetID, f.IPAddress))
		}
		return v
	})

// NetworkMAC is a port's value in the unique index "network_mac".
func NetworkMAC(network ID, mac MAC) string { return string(network) + "/" + mac.String() }

// SubnetIP is an address's value in the unique index "subnet_ip".
func SubnetIP(subnet ID, ip netip.Addr) string { return string(subnet) + "/" + ip.String() }

// PortStatus is what the nodes acknowledged of a port.
type PortStatus struct {
	PortID   ID     `json:"port_id"`
	Status   string `json:"status"`           // a Status constant
	Host     string `json:"host,omitempty"`   // the node that reported it
	Revision int64  `json:"revision"`         // revision of the node's record that was applied, 0: none
	Reason   string `json:"reason,omitempty"` // why it is not ACTIVE

	State     string `json:"state,omitempty"`      // what the node said: a nodestate.State
	DHCPReady bool   `json:"dhcp_ready,omitempty"` // a DHCP node has acknowledged the port's host record
}

// PortStatusTable keeps port status beside the port, so that reports of nodes never collide with changes of clients.  A port
// without a row is DOWN.
var PortStatusTable = resource.NewTable("port_status", func(s *PortStatus) string { return string(s.PortID) })

// Instance is what a guest is told about itself by the metadata service.  It comes with the plug of a port and is reported by
// the node that carries the port.
type Instance struct {
	PortID     ID                `json:"port_id"`
	Host       string            `json:"host"`
	ID         string            `json:"id,omitempty"`   // instance id; the port's device_id when empty
	Name       string            `json:"name,omitempty"` // host name
	PublicKeys map[string]string `json:"public_keys,omitempty"`
	UserData   []byte            `json:"user_data,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
}

// InstanceTable keeps instances by port.
var InstanceTable = resource.NewTable("instance", func(i *Instance) string { return string(i.PortID) })
