// Package nodestate holds the records of one node in product terms: what the control plane compiles and what a node's managers
// turn into flows, links and services.  It is the only package that both sides import.
//
// A record is small, a value, and complete in itself: two nodes that need the same record get the same bytes.  Records never
// name a local thing (no OpenFlow port, no local VLAN): those belong to the node.
package nodestate

import (
	"fmt"
	"net/netip"
)

// Kind is the kind of a record.
type Kind string

// The kinds.
const (
	KindNetwork  Kind = "network"
	KindPort     Kind = "port"
	KindPeers    Kind = "peers"
	KindDHCP     Kind = "dhcp"
	KindDHCPHost Kind = "dhcp-host"
	KindGroup    Kind = "group"
	KindMembers  Kind = "members"
	KindTrunk    Kind = "trunk"
)

// Key names a record in the whole cloud.
type Key struct {
	Kind Kind
	ID   string // network id, port id, or "<network id>@<host>" for peers
}

func (k Key) String() string { return string(k.Kind) + "/" + k.ID }

// Record is one piece of node state.
type Record interface{ Key() Key }

// MAC is an Ethernet address in six bytes.
type MAC [6]byte

// String prints fa:16:3e:00:00:01.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Network is how a network appears on the wire.
type Network struct {
	ID              string
	Name            string // for people only
	Type            string // vxlan, gre, local, flat, vlan
	PhysicalNetwork string
	SegmentationID  uint32
	MTU             int
	// More are the further segments of a network that has several, in the order of the API.  A node carries the first one, counted
	// from the one above, that it can: a tunnel if it has that type, flat and vlan if it maps the physical network.
	More []Segment
}

// Segment is one more way in which a network appears on the wire.
type Segment struct {
	Type            string
	PhysicalNetwork string
	SegmentationID  uint32
}

// Key is the network's.
func (n *Network) Key() Key { return NetworkKey(n.ID) }

// NetworkKey names a network's record.
func NetworkKey(id string) Key { return Key{KindNetwork, id} }

// Port is a port that this node carries.
type Port struct {
	ID           string
	NetworkID    string
	Name         string // for people only
	MAC          MAC
	Addresses    []Address
	AllowedPairs []Pair
	AdminUp      bool
	PortSecurity bool
	DeviceOwner  string
	DeviceID     string
	Hybrid       bool     // plugged through a Linux bridge
	Groups       []string // ids of its security groups, sorted; none: nothing but what every port may (DHCP, ND) passes
	QoS          QoS
}

// Key is the port's.
func (p *Port) Key() Key { return PortKey(p.ID) }

// PortKey names a port's record.
func PortKey(id string) Key { return Key{KindPort, id} }

// Address is one address with the prefix length of its subnet.
type Address struct {
	Prefix   netip.Prefix // address, unmasked, with the subnet's length
	SubnetID string
}

// Pair is an address that a port may use besides its own.
type Pair struct {
	MAC    MAC
	Prefix netip.Prefix
}

// Peers is one network on one other host: where its tunnel ends and which addresses live there.
type Peers struct {
	NetworkID string
	Host      string
	Endpoint  netip.Addr
	Peers     []Peer
}

// Key is the pair of network and host.
func (p *Peers) Key() Key { return PeersKey(p.NetworkID, p.Host) }

// PeersKey names the record of a network's peers on a host.
func PeersKey(networkID, host string) Key { return Key{KindPeers, networkID + "@" + host} }

// Peer is one port behind a tunnel.
type Peer struct {
	PortID string
	MAC    MAC
	IPs    []netip.Addr
}

// DHCP is what a network's DHCP, DNS, RA and metadata service says to all its ports.  Nodes that serve the network get it,
// together with the Port record of their own DHCP port and the DHCPHost records of the network's ports.
type DHCP struct {
	NetworkID string
	MTU       int
	DNSDomain string // without a final dot, "openstacklocal" by default
	Subnets   []DHCPSubnet
	Metadata  bool // serve 169.254.169.254 here and give guests a route to it
}

// Key is the network's.
func (d *DHCP) Key() Key { return DHCPKey(d.NetworkID) }

// DHCPKey names the record of a network's DHCP service.
func DHCPKey(networkID string) Key { return Key{KindDHCP, networkID} }

// DHCPSubnet is one subnet as its DHCP service needs it.
type DHCPSubnet struct {
	ID             string
	CIDR           netip.Prefix
	Gateway        netip.Addr // invalid: none
	EnableDHCP     bool
	DNSNameservers []netip.Addr // 0.0.0.0 or :: means: advertise none
	HostRoutes     []Route
	RAMode         string       // "", slaac, dhcpv6-stateful, dhcpv6-stateless
	AddressMode    string       // the same values
	Routed         bool         // a router owns the gateway address, so metadata goes there
	Servers        []netip.Addr // addresses of all the network's DHCP ports on this subnet, in order
}

// Route is one route given to guests.
type Route struct {
	Destination netip.Prefix
	NextHop     netip.Addr
}

// DHCPHost is one port as the DHCP, DNS and metadata service of its network needs it.
type DHCPHost struct {
	PortID    string
	NetworkID string
	MAC       MAC
	Addresses []HostAddress
	Options   []DHCPOption
	Serve     bool // answer DHCP for it; false for ports that are only names (a router's interface)
	Instance  Instance
}

// Key is the port's.
func (h *DHCPHost) Key() Key { return DHCPHostKey(h.PortID) }

// DHCPHostKey names the DHCP record of a port.
func DHCPHostKey(portID string) Key { return Key{KindDHCPHost, portID} }

// HostAddress is one address of a port with its names.
type HostAddress struct {
	SubnetID string
	IP       netip.Addr
	Hostname string // "host-10-0-0-5" or the port's dns_name
	FQDN     string // without a final dot
}

// DHCPOption is an extra option of one port.
type DHCPOption struct {
	Name      string // dnsmasq's option name or a number
	Value     string
	IPVersion int
}

// Instance is what a guest is told about itself.
type Instance struct {
	ID         string // instance id: what was given at plug, or the port's device_id, or its id
	ProjectID  string
	Name       string
	PublicKeys map[string]string
	UserData   []byte
	Meta       map[string]string
	Zone       string
}

// Update is a change of a node's state.  Complete: Upserts is everything, what is not in it is no longer wanted.  Cached: it comes
// from the node's own last known state, not yet confirmed by a server; a Cached state may add but must not remove.
type Update struct {
	Revision int64
	Complete bool
	Cached   bool
	Upserts  []Record
	Deletes  []Key
}

// State is how far a node is with a record.
type State string

// The states.
const (
	Done    State = "done"    // applied, in the dataplane
	Absent  State = "absent"  // the port's device is not plugged
	Pending State = "pending" // not yet tried, or waiting for something named in Reason
	Failed  State = "failed"  // tried, did not work: Reason says why
)

// Status is a node's word on one record: the revision of the Update that brought what is now applied.
type Status struct {
	Key      Key
	Revision int64
	State    State
	Reason   string
}

// NodeInfo is what a node says of itself when it connects and when it changes.
type NodeInfo struct {
	Host             string
	Roles            []string // compute, network
	TunnelIP         netip.Addr
	TunnelTypes      []string
	BridgeMappings   map[string]string
	DatapathType     string // system, netdev
	HybridPlug       bool
	Firewall         string // openvswitch, iptables_hybrid, noop
	Version          string
	AvailabilityZone string
}

// Source is the node's side of the southbound connection.
//
// Updates delivers states in order; the first is Complete (Cached if no server has been reached yet).  Report hands statuses and
// plugged instances over; it never blocks on the network, and what was not acknowledged by a server is sent again after reconnect.
type Source interface {
	Updates() <-chan Update
	Report(statuses []Status)
	ReportInstance(portID string, in *Instance)
	SetInfo(info NodeInfo)
}
