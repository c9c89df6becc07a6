package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Device owners that DHCP, DNS and metadata treat differently (Neutron's names).
const (
	ownerNetworkPrefix  = "network:"
	ownerHAInterface    = "network:router_ha_interface"
	ownerFloatingIP     = "network:floatingip"
	ownerDistributed    = "network:distributed"
	ownerRouter         = "network:router_interface"
	ownerRouterDVR      = "network:router_interface_distributed"
	ownerRouterHA       = "network:ha_router_replicated_interface"
	hostnamePrefix      = "host-"
	defaultOptionFamily = 4
)

// Served tells whether a network has anything for a DHCP service to do: it is up and at least one subnet wants DHCP.
func Served(r store.Read, n *model.Network) bool {
	if !n.AdminStateUp {
		return false
	}
	for s := range store.Find(r, model.SubnetTable, "network", string(n.ID)) {
		if s.EnableDHCP {
			return true
		}
	}
	return false
}

// DHCP compiles what a network's DHCP, DNS and metadata service says to all ports.  Subnets come in order of their ids.
func DHCP(r store.Read, cfg Config, n *model.Network) *nodestate.DHCP {
	rec := &nodestate.DHCP{NetworkID: string(n.ID), MTU: n.MTU, DNSDomain: cfg.domain(), Metadata: !cfg.DisableMetadata}
	servers := dhcpAddresses(r, n.ID)
	for s := range store.Find(r, model.SubnetTable, "network", string(n.ID)) {
		sub := nodestate.DHCPSubnet{
			ID:             string(s.ID),
			CIDR:           s.CIDR,
			Gateway:        s.GatewayIP,
			EnableDHCP:     s.EnableDHCP,
			DNSNameservers: s.DNSNameservers,
			RAMode:         s.IPv6RAMode,
			AddressMode:    s.IPv6AddressMode,
			Routed:         routed(r, s),
			Servers:        servers[s.ID],
		}
		for _, h := range s.HostRoutes {
			sub.HostRoutes = append(sub.HostRoutes, nodestate.Route{Destination: h.Destination, NextHop: h.NextHop})
		}
		rec.Subnets = append(rec.Subnets, sub)
	}
	slices.SortFunc(rec.Subnets, func(a, b nodestate.DHCPSubnet) int { return strings.Compare(a.ID, b.ID) })
	return rec
}

// dhcpAddresses lists the addresses of a network's DHCP ports per subnet, in address order.
func dhcpAddresses(r store.Read, network model.ID) map[model.ID][]netip.Addr {
	out := make(map[model.ID][]netip.Addr)
	for p := range store.Find(r, model.PortTable, "network_owner", model.NetworkOwner(network, model.OwnerDHCP)) {
		if boundHost(p) == "" {
			continue // reserved, or its node is unknown: nobody answers there
		}
		for _, f := range p.FixedIPs {
			out[f.SubnetID] = append(out[f.SubnetID], f.IPAddress)
		}
	}
	for _, as := range out {
		slices.SortFunc(as, netip.Addr.Compare)
	}
	return out
}

// routed tells whether a router's interface owns the subnet's gateway address; otherwise the subnet is isolated.
func routed(r store.Read, s *model.Subnet) bool {
	if !s.GatewayIP.IsValid() {
		return false
	}
	for p := range store.Find(r, model.PortTable, "subnet_ip", string(s.ID)+"/"+s.GatewayIP.String()) {
		switch p.DeviceOwner {
		case ownerRouter, ownerRouterDVR, ownerRouterHA:
			return true
		}
	}
	return false
}

// DHCPHost compiles a port for the DHCP, DNS and metadata service of its network; nil for ports that it does not name.  Ports of
// network services (a router's interface) are named but not served.
func DHCPHost(r store.Read, cfg Config, p *model.Port) *nodestate.DHCPHost {
	switch p.DeviceOwner {
	case ownerHAInterface, ownerFloatingIP, ownerDistributed, model.OwnerDHCP:
		return nil
	}
	rec := &nodestate.DHCPHost{
		PortID:    string(p.ID),
		NetworkID: string(p.NetworkID),
		MAC:       nodestate.MAC(p.MAC),
		Serve:     !strings.HasPrefix(p.DeviceOwner, ownerNetworkPrefix),
	}
	for _, f := range p.FixedIPs {
		hostname, fqdn := names(cfg, p, f.IPAddress)
		rec.Addresses = append(rec.Addresses, nodestate.HostAddress{
			SubnetID: string(f.SubnetID), IP: f.IPAddress, Hostname: hostname, FQDN: fqdn,
		})
	}
	for _, o := range p.ExtraDHCPOpts {
		rec.Options = append(rec.Options, nodestate.DHCPOption{
			Name: o.Name, Value: o.Value, IPVersion: cmp.Or(o.IPVersion, defaultOptionFamily),
		})
	}
	rec.Instance = instance(r, p, rec.Addresses)
	return rec
}

// names are a port's host name and full name at one address.  With DNS integration the port's dns_name counts; one that ends with
// a dot is already full.  Otherwise the name is host- and the address with dashes.
func names(cfg Config, p *model.Port, ip netip.Addr) (hostname, fqdn string) {
	domain := cfg.domain()
	if p.DNSName != "" && domain != DefaultDNSDomain {
		if full, ok := strings.CutSuffix(p.DNSName, "."); ok {
			hostname, _, _ = strings.Cut(full, ".")
			return hostname, full
		}
		return p.DNSName, p.DNSName + "." + domain
	}
	hostname = hostnamePrefix + strings.Map(dashed, ip.WithZone("").String())
	return hostname, hostname + "." + domain
}

func dashed(c rune) rune {
	if c == '.' || c == ':' {
		return '-'
	}
	return c
}

// instance is what the guest behind a port is told about itself: what came with the plug, completed from the port.
func instance(r store.Read, p *model.Port, addresses []nodestate.HostAddress) nodestate.Instance {
	in := nodestate.Instance{ID: cmp.Or(p.DeviceID, string(p.ID)), ProjectID: p.ProjectID, Name: cmp.Or(p.DNSName, p.Name)}
	if in.Name == "" && len(addresses) > 0 {
		in.Name = addresses[0].Hostname
	}
	if node, ok := store.Get(r, model.NodeTable, p.Binding.Host); ok && boundHost(p) != "" {
		in.Zone = node.AvailabilityZone
	}
	row, ok := store.Get(r, model.InstanceTable, string(p.ID))
	if !ok {
		return in
	}
	in.ID = cmp.Or(row.ID, in.ID)
	in.Name = cmp.Or(row.Name, in.Name)
	in.PublicKeys, in.UserData, in.Meta = row.PublicKeys, row.UserData, row.Meta
	return in
}
