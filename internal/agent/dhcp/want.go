// Package dhcp is the agent's manager of DHCP, DNS and router advertisements: from the records of the networks that this node serves
// to namespaces qdhcp-<network>, their devices, and the tables of their servers.
//
// Data flow: Update keeps records by network; want is pure and says what one network needs; Apply brings namespace, device and
// server there, network by network, and touches only what changed or drifted.
//
// Ownership: namespaces qdhcp-… that carry our mark, the devices that the agent makes for this manager, and the directories
// <state>/dhcp/<network>.  What is ours and not wanted is removed once a server has confirmed the node's state.  A restart leaves
// namespaces, devices, addresses and leases alone.
package dhcp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"baryon/internal/agent"
	"baryon/internal/dataplane/dhcpd"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// DeviceOwner is what the ports of DHCP services have as device_owner.
const DeviceOwner = "network:dhcp"

// Where metadata is, beside the port's own addresses.
var (
	metadata4 = netip.MustParsePrefix("169.254.169.254/32")
	metadata6 = netip.MustParsePrefix("fe80::a9fe:a9fe/128")
)

// records is all that is known of one network.
type records struct {
	network *nodestate.Network
	dhcp    *nodestate.DHCP
	ports   map[string]*nodestate.Port // the node's own DHCP ports
	hosts   map[string]*nodestate.DHCPHost
}

func (r *records) empty() bool {
	return r.network == nil && r.dhcp == nil && len(r.ports) == 0 && len(r.hosts) == 0
}

// service is what one network needs on this node.
type service struct {
	port      agent.InternalPort
	namespace string
	device    rtnl.Device
	base      map[string]string // sysctls of the namespace, before the device is there
	config    dhcpd.Config
}

// errWait says what a network still waits for.
var errWait = errors.New("waiting")

// settings are what the node's configuration adds.
type settings struct {
	lease     time.Duration
	upstreams []netip.AddrPort
}

// want says what the network needs.  A wrapped errWait names what is missing so far; another error cannot be cured by waiting.
func want(networkID string, r *records, set settings) (*service, error) {
	switch {
	case !validID(networkID):
		return nil, fmt.Errorf("serve network %q: not an id", networkID)
	case r.dhcp == nil:
		return nil, fmt.Errorf("%w for the network's DHCP record", errWait)
	case len(r.ports) == 0:
		return nil, fmt.Errorf("%w for this node's DHCP port", errWait)
	}
	port := r.port()
	mtu := r.dhcp.MTU
	if mtu == 0 && r.network != nil {
		mtu = r.network.MTU
	}
	s := &service{namespace: names.DHCPNamespace(networkID)}
	s.port = agent.InternalPort{ID: port.ID, Name: names.Tap(port.ID), MAC: port.MAC, MTU: mtu, Namespace: s.namespace}
	s.base = map[string]string{
		"ipv4/ip_nonlocal_bind":       "1",
		"ipv6/conf/default/accept_ra": "0",
	}
	s.device = wantDevice(r.dhcp, port, s.port)
	s.config = dhcpd.Config{
		NetworkID: networkID, MTU: mtu, Domain: r.dhcp.DNSDomain, Lease: set.lease, Metadata: r.dhcp.Metadata, Upstreams: set.upstreams,
		Hosts: wantHosts(r, port),
	}
	for _, n := range r.dhcp.Subnets {
		s.config.Subnets = append(s.config.Subnets, wantSubnet(n, port))
	}
	return s, nil
}

// port is the DHCP port that serves: the first by id if the node has several.
func (r *records) port() *nodestate.Port {
	var first *nodestate.Port
	for _, p := range r.ports {
		if first == nil || p.ID < first.ID {
			first = p
		}
	}
	return first
}

func wantDevice(d *nodestate.DHCP, port *nodestate.Port, p agent.InternalPort) rtnl.Device {
	mac := net.HardwareAddr(slices.Clone(port.MAC[:]))
	conf := "ipv6/conf/" + p.Name + "/"
	w := rtnl.Device{
		Name: p.Name, MAC: mac, MTU: p.MTU,
		Sysctls: map[string]string{
			conf + "accept_ra": "0", conf + "accept_dad": "0", conf + "dad_transmits": "0",
		},
	}
	for _, a := range port.Addresses {
		if a.Prefix.IsValid() {
			w.Addresses = append(w.Addresses, a.Prefix)
		}
	}
	if d.Metadata {
		w.Addresses = append(w.Addresses, metadata4, metadata6)
	}
	w.Addresses = append(w.Addresses, netip.PrefixFrom(rtnl.LinkLocal(mac), 64))
	var have4, have6 bool
	for _, s := range d.Subnets {
		v4 := s.CIDR.Addr().Is4()
		if !s.EnableDHCP || !s.Gateway.IsValid() || s.Gateway.Is4() != v4 || v4 && have4 || !v4 && have6 {
			continue
		}
		if v4 {
			have4 = true
		} else {
			have6 = true
		}
		if !s.CIDR.Contains(s.Gateway) && !s.Gateway.IsLinkLocalUnicast() {
			w.Routes = append(w.Routes, rtnl.Route{Destination: netip.PrefixFrom(s.Gateway, s.Gateway.BitLen())})
		}
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if !v4 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		w.Routes = append(w.Routes, rtnl.Route{Destination: all, Gateway: s.Gateway})
	}
	return w
}

func wantSubnet(n nodestate.DHCPSubnet, port *nodestate.Port) dhcpd.Subnet {
	out := dhcpd.Subnet{
		ID: n.ID, CIDR: n.CIDR, Servers: n.Servers, Gateway: n.Gateway, EnableDHCP: n.EnableDHCP, Nameservers: n.DNSNameservers,
		RAMode: n.RAMode, AddressMode: n.AddressMode, Routed: n.Routed,
	}
	for _, a := range port.Addresses {
		if a.SubnetID == n.ID && a.Prefix.IsValid() {
			out.Server = a.Prefix.Addr()
			break
		}
	}
	for _, r := range n.HostRoutes {
		out.Routes = append(out.Routes, dhcpd.Route(r))
	}
	return out
}

// wantHosts lists the network's ports by address, and the node's own DHCP port for the leases file.
func wantHosts(r *records, port *nodestate.Port) []dhcpd.Host {
	out := make([]dhcpd.Host, 0, len(r.hosts)+1)
	for _, h := range r.hosts {
		c := dhcpd.Host{PortID: h.PortID, MAC: dhcpd.MAC(h.MAC), Serve: h.Serve}
		for _, a := range h.Addresses {
			c.Addresses = append(c.Addresses, dhcpd.HostAddress(a))
		}
		for _, o := range h.Options {
			c.Options = append(c.Options, dhcpd.Option(o))
		}
		out = append(out, c)
	}
	own := dhcpd.Host{PortID: port.ID, MAC: dhcpd.MAC(port.MAC), Server: true}
	for _, a := range port.Addresses {
		host := "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(a.Prefix.Addr().String())
		own.Addresses = append(own.Addresses, dhcpd.HostAddress{SubnetID: a.SubnetID, IP: a.Prefix.Addr(), Hostname: host, FQDN: host})
	}
	out = append(out, own)
	slices.SortFunc(out, func(a, b dhcpd.Host) int {
		return cmp.Or(first(a).Compare(first(b)), cmp.Compare(a.PortID, b.PortID))
	})
	return out
}

func first(h dhcpd.Host) netip.Addr {
	if len(h.Addresses) == 0 {
		return netip.Addr{}
	}
	return h.Addresses[0].IP
}

// validID refuses what cannot be part of a path or of a namespace's name.
func validID(id string) bool {
	return id != "" && len(id) <= 64 && id != "." && id != ".." && !strings.ContainsAny(id, "/\x00\n") && filepath.Base(id) == id
}
