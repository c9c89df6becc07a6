package dhcpd

import (
	"net/netip"
	"time"
)

// MAC is an Ethernet address.
type MAC [6]byte

// DefaultLease is the lease time of addresses, dnsmasq's as Neutron starts it.
const DefaultLease = 86400 * time.Second

// Config is what a network's service says to all: the table's source.  The server keeps it, so the caller must not change it later.
type Config struct {
	NetworkID string
	MTU       int           // bytes, sent in DHCPv4 (always) and in router advertisements; 0: not sent
	Domain    string        // without a final dot; "" none
	Lease     time.Duration // 0: DefaultLease; negative: infinite
	Subnets   []Subnet
	Hosts     []Host
	Metadata  bool             // metadata is served beside this server: give guests a route to it
	Upstreams []netip.AddrPort // DNS servers for other names, dialled from the node's own namespace; none: such questions are refused
}

// Subnet is one subnet of the network.
type Subnet struct {
	ID          string
	CIDR        netip.Prefix
	Server      netip.Addr   // this server's own address on it; invalid: it has none and cannot answer DHCPv4 there
	Servers     []netip.Addr // addresses of all DHCP servers of the network on it, in order
	Gateway     netip.Addr   // invalid: none
	EnableDHCP  bool
	Nameservers []netip.Addr // 0.0.0.0 or :: : advertise none
	Routes      []Route
	RAMode      string // "", slaac, dhcpv6-stateful, dhcpv6-stateless
	AddressMode string // the same values
	Routed      bool   // a router owns the gateway address: it advertises, and metadata is behind it
}

// The modes of IPv6 subnets.
const (
	SLAAC     = "slaac"
	Stateful  = "dhcpv6-stateful"
	Stateless = "dhcpv6-stateless"
)

// Route is one route for guests; an unspecified NextHop means on-link.
type Route struct {
	Destination netip.Prefix
	NextHop     netip.Addr
}

// Host is one port of the network.
type Host struct {
	PortID    string
	MAC       MAC
	Addresses []HostAddress
	Options   []Option
	Serve     bool // answer DHCP for it; false: only its names
	Server    bool // it is this server's own port: listed in the leases file, nowhere else
}

// HostAddress is an address of a port with its names.
type HostAddress struct {
	SubnetID string
	IP       netip.Addr
	Hostname string // first label
	FQDN     string // without a final dot
}

// Option is an extra DHCP option of a port.
type Option struct {
	Name      string // dnsmasq's name or a number, after optional tag:… prefixes
	Value     string
	IPVersion int // 4 or 6
}

func (m MAC) isZero() bool { return m == MAC{} }

// Metadata's addresses (EC2's, and the IPv6 one of OpenStack).
var (
	metadata4 = netip.AddrFrom4([4]byte{169, 254, 169, 254})
	metadata6 = netip.AddrFrom16([16]byte{0xfe, 0x80, 12: 0xa9, 0xfe, 0xa9, 0xfe})
)
