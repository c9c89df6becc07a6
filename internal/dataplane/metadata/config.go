// Package metadata serves guests their metadata inside a network's namespace: on 169.254.169.254:80 and [fe80::a9fe:a9fe]:80, in EC2's
// layout and in OpenStack's, from the port's own data; or it passes requests on to a real Nova with the signed headers.
//
// Data flow: a request's source address is looked up among this network's ports; exactly one must have it, else the answer is 404.
// Nothing the guest says of itself counts: X-Forwarded-For and the like are ignored.  A link-local IPv6 source is turned back
// into the MAC it was made from.
//
// Invariants: Apply swaps the whole table at once; a request sees one table.  Requests to Nova leave from the node's own namespace,
// not from the guest's network.  Sizes, times and connections per guest are bounded.
//
// One caller for Apply and Close.
package metadata

import (
	"net/netip"
	"strings"
)

// MAC is an Ethernet address.
type MAC [6]byte

// Config is the table's source; the server keeps it, so the caller must not change it later.
type Config struct {
	NetworkID string
	MTU       int // bytes
	Ports     []Port
	Subnets   []Subnet
}

// Port is one port of the network with what its guest may know.
type Port struct {
	ID         string
	MAC        MAC
	Addresses  []Address
	InstanceID string
	ProjectID  string
	Name       string // the guest's; "": its host name
	PublicKeys map[string]string
	UserData   []byte
	Meta       map[string]string
	Zone       string
}

// Address is one of a port's addresses.
type Address struct {
	IP       netip.Addr
	SubnetID string
	Hostname string
	FQDN     string // without a final dot
}

// Subnet is what network_data.json says of a subnet.
type Subnet struct {
	ID          string
	CIDR        netip.Prefix
	Gateway     netip.Addr // invalid: none
	EnableDHCP  bool
	Mode        string // "", slaac, dhcpv6-stateful, dhcpv6-stateless
	Nameservers []netip.Addr
	Routes      []Route
}

// Route is one route of a subnet.
type Route struct {
	Destination netip.Prefix
	NextHop     netip.Addr
}

// table is a Config made ready for lookups.
type table struct {
	cfg     *Config
	byIP    map[netip.Addr][]*Port
	byMAC   map[MAC][]*Port
	subnets map[string]*Subnet
}

func compile(cfg *Config) *table {
	t := &table{
		cfg: cfg, byIP: make(map[netip.Addr][]*Port, len(cfg.Ports)), byMAC: make(map[MAC][]*Port, len(cfg.Ports)),
		subnets: make(map[string]*Subnet, len(cfg.Subnets)),
	}
	for i := range cfg.Subnets {
		t.subnets[cfg.Subnets[i].ID] = &cfg.Subnets[i]
	}
	for i := range cfg.Ports {
		p := &cfg.Ports[i]
		t.byMAC[p.MAC] = append(t.byMAC[p.MAC], p)
		for _, a := range p.Addresses {
			t.byIP[a.IP] = append(t.byIP[a.IP], p)
		}
	}
	return t
}

// find gives the one port that a source address belongs to, or nil.
func (t *table) find(source netip.Addr) *Port {
	source = source.Unmap().WithZone("")
	list := t.byIP[source]
	if len(list) == 0 && source.IsLinkLocalUnicast() && source.Is6() {
		b := source.As16()
		if b[11] != 0xff || b[12] != 0xfe {
			return nil
		}
		list = t.byMAC[MAC{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}]
	}
	if len(list) != 1 {
		return nil
	}
	return list[0]
}

// hostname is the instance's name in the network's domain, as Nova has it; an instance without a name that DNS would take goes by
// the name of its first address.
func (p *Port) hostname() string {
	for _, a := range p.Addresses {
		fqdn := strings.TrimSuffix(a.FQDN, ".")
		if fqdn == "" {
			continue
		}
		if _, domain, ok := strings.Cut(fqdn, "."); ok && isLabel(p.Name) {
			return p.Name + "." + domain
		}
		return fqdn
	}
	return p.Name
}

// isLabel tells whether the text can be one label of a host name (RFC 1123).
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func (p *Port) name() string {
	if p.Name != "" {
		return p.Name
	}
	for _, a := range p.Addresses {
		if a.Hostname != "" {
			return a.Hostname
		}
	}
	return p.ID
}
