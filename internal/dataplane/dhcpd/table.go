package dhcpd

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// table is a Config made ready for lookups.  It never changes once it is in use.
type table struct {
	cfg    *Config
	mac    MAC
	local  netip.Addr // this server's link-local address
	lease  time.Duration
	duid   []byte
	domain string // lower case

	subnets  map[string]*subnet
	own      map[netip.Addr]bool
	byMAC    map[MAC]*host
	byClient map[string]*host
	byName   map[string][]netip.Addr // lower case, without a final dot
	byAddr   map[netip.Addr]string
	v6       bool // a subnet has DHCPv6
	ra       []*subnet
}

// subnet is a Subnet with its option bodies.
type subnet struct {
	Subnet
	mask, broadcast, router, dns, routes []byte
}

// host is a Host with its addresses sorted by what serves them.
type host struct {
	Host
	v4, v6 []served // by DHCP
	linked []*subnet
	extra4 []extra
	extra6 []extra
}

// served is an address that DHCP gives out.
type served struct {
	HostAddress
	net *subnet
}

// compile builds the table.  What is wrong in the configuration (a bad option, mostly) is left out and named in problems.
func compile(cfg *Config, mac MAC) (t *table, problems []string) {
	t = &table{
		cfg: cfg, mac: mac, local: linkLocal(mac), lease: cmp.Or(cfg.Lease, DefaultLease),
		duid:    append([]byte{0, 3, 0, 1}, mac[:]...), // DUID-LL: the same after every restart without a file
		domain:  strings.ToLower(strings.TrimSuffix(cfg.Domain, ".")),
		subnets: make(map[string]*subnet, len(cfg.Subnets)), own: map[netip.Addr]bool{},
		byMAC: make(map[MAC]*host, len(cfg.Hosts)), byClient: map[string]*host{},
		byName: make(map[string][]netip.Addr, 2*len(cfg.Hosts)), byAddr: make(map[netip.Addr]string, len(cfg.Hosts)),
	}
	for i := range cfg.Subnets {
		s := &subnet{Subnet: cfg.Subnets[i]}
		if !s.CIDR.IsValid() {
			problems = append(problems, fmt.Sprintf("subnet %s has no prefix", s.ID))
			continue
		}
		if s.CIDR.Addr().Is4() {
			s.compile4(cfg)
		} else {
			s.dns = addrBytes(s.nameservers())
			t.v6 = t.v6 || s.dhcp6()
			if s.RAMode != "" && !s.Routed {
				t.ra = append(t.ra, s)
			}
		}
		t.subnets[s.ID] = s
		if s.Server.IsValid() {
			t.own[s.Server] = true
		}
	}
	for i := range cfg.Hosts {
		problems = append(problems, t.addHost(&cfg.Hosts[i])...)
	}
	return t, problems
}

// dhcp6 tells whether DHCPv6 is spoken on the subnet, for addresses or for options only.
func (s *subnet) dhcp6() bool {
	return s.EnableDHCP && s.CIDR.Addr().Is6() && s.AddressMode != SLAAC
}

// stateful tells whether the subnet's addresses come by DHCPv6: also when neither mode is set, as Neutron serves it.
func (s *subnet) stateful() bool {
	return s.dhcp6() && (s.AddressMode == Stateful || s.AddressMode == "")
}

// compile4 prepares the option bodies; rules of Neutron's DHCP agent.
func (s *subnet) compile4(cfg *Config) {
	mask := ^uint32(0)
	if s.CIDR.Bits() < 32 {
		mask <<= 32 - s.CIDR.Bits()
	}
	s.mask = binary.BigEndian.AppendUint32(nil, mask)
	network := s.CIDR.Masked().Addr().As4()
	s.broadcast = binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(network[:])|^mask)
	gateway := s.gateway()
	if gateway.IsValid() {
		s.router = gateway.AsSlice()
	}
	s.dns = addrBytes(s.nameservers())
	s.routes = encodeRoutes(s.classlessRoutes(cfg))
}

// gateway is the subnet's, or the next hop of a default route among the host routes.
func (s *subnet) gateway() netip.Addr {
	if s.Gateway.IsValid() {
		return s.Gateway
	}
	for _, r := range s.Routes {
		if r.Destination.Bits() == 0 && r.Destination.Addr().Is4() == s.CIDR.Addr().Is4() {
			return r.NextHop
		}
	}
	return netip.Addr{}
}

// classlessRoutes are the routes of options 121 and 249: the network's other subnets on the link, host routes, metadata, and the
// default last, because a client that takes option 121 ignores the router option (RFC 3442).
func (s *subnet) classlessRoutes(cfg *Config) []Route {
	var out []Route
	for i := range cfg.Subnets {
		o := &cfg.Subnets[i]
		if o.ID != s.ID && o.CIDR.IsValid() && o.CIDR.Addr().Is4() {
			out = append(out, Route{o.CIDR.Masked(), netip.IPv4Unspecified()})
		}
	}
	for _, r := range s.Routes {
		if r.Destination.IsValid() && r.Destination.Addr().Is4() && r.NextHop.Is4() && r.Destination.Bits() != 0 {
			out = append(out, r)
		}
	}
	gateway := s.gateway()
	if hop := s.metadataHop(cfg); hop.IsValid() {
		out = append(out, Route{netip.PrefixFrom(metadata4, 32), hop})
	}
	if len(out) > 0 && gateway.IsValid() {
		out = append(out, Route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway})
	}
	return out
}

// metadataHop is the router if there is one, else this server.
func (s *subnet) metadataHop(cfg *Config) netip.Addr {
	switch {
	case s.Routed && s.Gateway.IsValid():
		return s.Gateway
	case cfg.Metadata && s.Server.IsValid():
		return s.Server
	default:
		return netip.Addr{}
	}
}

// nameservers are the subnet's; without any, the network's DHCP servers, which answer DNS.  0.0.0.0 or :: means none.
func (s *subnet) nameservers() []netip.Addr {
	var out []netip.Addr
	for _, a := range s.Nameservers {
		if a.IsUnspecified() {
			return nil
		}
		if a.Is4() == s.CIDR.Addr().Is4() {
			out = append(out, a)
		}
	}
	if len(s.Nameservers) > 0 {
		return out
	}
	if len(s.Servers) > 1 {
		return s.Servers
	}
	if s.Server.IsValid() {
		return []netip.Addr{s.Server}
	}
	return nil
}

func (t *table) addHost(h *Host) (problems []string) {
	if h.Server {
		return nil
	}
	c := &host{Host: *h}
	for _, a := range h.Addresses {
		t.addNames(a)
		s := t.subnets[a.SubnetID]
		if s == nil || !h.Serve || a.IP.Is4() != s.CIDR.Addr().Is4() {
			continue
		}
		c.linked = append(c.linked, s)
		switch {
		case a.IP.Is4() && s.EnableDHCP && s.Server.IsValid():
			c.v4 = append(c.v4, served{a, s})
		case a.IP.Is6() && s.stateful():
			c.v6 = append(c.v6, served{a, s})
		}
	}
	if !h.Serve || h.MAC.isZero() {
		return nil
	}
	for _, o := range h.Options {
		e, err := parseExtra(o)
		if err != nil {
			problems = append(problems, fmt.Sprintf("port %s: extra DHCP option %q is skipped: %v", h.PortID, o.Name, err))
			continue
		}
		switch {
		case o.IPVersion == 6:
			c.extra6 = append(c.extra6, e)
		case e.code == opt4ClientID:
			t.byClient[string(e.value)] = c
		default:
			c.extra4 = append(c.extra4, e)
		}
	}
	if other, ok := t.byMAC[h.MAC]; ok {
		problems = append(problems, fmt.Sprintf("ports %s and %s have one address %x; the first is served", other.PortID, h.PortID, h.MAC))
		return problems
	}
	t.byMAC[h.MAC] = c
	return problems
}

func (t *table) addNames(a HostAddress) {
	if !a.IP.IsValid() {
		return
	}
	for _, n := range []string{a.FQDN, a.Hostname} {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if n != "" && !slices.Contains(t.byName[n], a.IP) {
			t.byName[n] = append(t.byName[n], a.IP)
		}
	}
	if name := strings.TrimSuffix(cmp.Or(a.FQDN, a.Hostname), "."); name != "" {
		t.byAddr[a.IP] = name
	}
}

func linkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func addrBytes(list []netip.Addr) []byte {
	var out []byte
	for _, a := range list {
		out = append(out, a.AsSlice()...)
	}
	return out
}

// seconds is a lease time on the wire; negative is infinite.
func seconds(d time.Duration) uint32 {
	if d < 0 || d/time.Second >= 0xffffffff {
		return 0xffffffff
	}
	return uint32(d / time.Second)
}
