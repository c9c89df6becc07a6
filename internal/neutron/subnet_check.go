package neutron

import (
	"fmt"
	"net/netip"
	"slices"

	"baryon/internal/model"
	"baryon/internal/neutron/ipam"
)

// Neutron's max_dns_nameservers and max_subnet_host_routes, and a bound for pools, of which Neutron has none.
const (
	maxNameservers = 5
	maxHostRoutes  = 20
	maxPools       = 100
)

// checkCIDR checks what can never change of a subnet.
func checkCIDR(sub *model.Subnet) error {
	p := sub.CIDR
	switch {
	case version(p.Addr()) != sub.IPVersion:
		return InvalidInput("cidr '%s' does not match the ip_version '%d'", p, sub.IPVersion)
	case p.Bits() == 0:
		return InvalidInput("0 is not allowed as CIDR prefix length")
	case p.Addr() == netip.IPv6Unspecified():
		return InvalidInput("IPv6 address '::' is not allowed as the network address of a CIDR")
	case sub.IPVersion == 4 && (sub.IPv6RAMode != "" || sub.IPv6AddressMode != ""):
		name := "ipv6_ra_mode"
		if sub.IPv6RAMode == "" {
			name = "ipv6_address_mode"
		}
		return InvalidInput("%s is not valid when ip_version is 4", name)
	}
	return nil
}

// checkSubnet checks everything else.
func checkSubnet(sub *model.Subnet) error {
	for _, check := range []func(*model.Subnet) error{checkDHCP, checkModes, checkGateway, checkOptions, checkPools} {
		if err := check(sub); err != nil {
			return err
		}
	}
	return nil
}

func checkDHCP(sub *model.Subnet) error {
	a := sub.CIDR.Addr()
	switch {
	case !sub.EnableDHCP:
		return nil
	case sub.CIDR.Bits() > a.BitLen()-2:
		return InvalidInput("Subnet has a prefix length that is incompatible with DHCP service enabled")
	case a.IsMulticast():
		return InvalidInput("Multicast IP subnet is not supported if enable_dhcp is True")
	case a.IsLoopback():
		return InvalidInput("Loopback IP subnet is not supported if enable_dhcp is True")
	case a == netip.IPv4Unspecified():
		return InvalidInput("Subnet 0.0.0.0 is not supported if enable_dhcp is True")
	}
	return nil
}

func checkModes(sub *model.Subnet) error {
	ra, address := sub.IPv6RAMode, sub.IPv6AddressMode
	switch {
	case ra == "" && address == "":
		return nil
	case !sub.EnableDHCP:
		return InvalidInput("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
	case ra != "" && address != "" && ra != address:
		return InvalidInput("ipv6_ra_mode set to '%s' with ipv6_address_mode set to '%s' is not valid. "+
			"If both attributes are set, they must be the same value", ra, address)
	}
	for _, mode := range []string{ra, address} {
		if (mode == model.ModeSLAAC || mode == model.ModeStateless) && sub.CIDR.Bits() != 64 {
			return InvalidInput("Invalid CIDR %s for IPv6 address mode. OpenStack uses the EUI-64 address format, "+
				"which requires the prefix to be /64", sub.CIDR)
		}
	}
	return nil
}

// checkGateway: a gateway outside the subnet is on-link, as in Neutron.
func checkGateway(sub *model.Subnet) error {
	gw := sub.GatewayIP
	switch {
	case !gw.IsValid():
		return nil
	case version(gw) != sub.IPVersion:
		return wrongVersion("gateway_ip", gw, sub)
	case gw.Is4() && sub.CIDR.Contains(gw) && !usable(sub.CIDR, gw):
		return InvalidInput("Gateway is not valid on subnet")
	case gw.IsMulticast() || gw == netip.IPv4Unspecified():
		return InvalidInput("Gateway is not valid on subnet")
	}
	return nil
}

func checkOptions(sub *model.Subnet) error {
	if len(sub.DNSNameservers) > maxNameservers {
		return BadRequest("DNSNameServersExhausted",
			"Unable to complete operation for %s. The number of DNS nameservers exceeds the limit %d.", sub.ID, maxNameservers)
	}
	if len(sub.HostRoutes) > maxHostRoutes {
		return BadRequest("HostRoutesExhausted",
			"Unable to complete operation for %s. The number of host routes exceeds the limit %d.", sub.ID, maxHostRoutes)
	}
	for _, a := range sub.DNSNameservers {
		if version(a) != sub.IPVersion {
			return wrongVersion("dns_nameserver", a, sub)
		}
	}
	for _, r := range sub.HostRoutes {
		if version(r.Destination.Addr()) != sub.IPVersion {
			return wrongVersion("destination", r.Destination, sub)
		}
		if version(r.NextHop) != sub.IPVersion {
			return wrongVersion("nexthop", r.NextHop, sub)
		}
	}
	return nil
}

// checkPools checks the pools and puts them in order.
func checkPools(sub *model.Subnet) error {
	if len(sub.AllocationPools) > maxPools {
		return InvalidInput("Exceeded maximum amount of allocation pools per subnet: %d", maxPools)
	}
	first, last := sub.CIDR.Addr(), ipam.Last(sub.CIDR)
	if first.Is4() && sub.CIDR.Bits() <= 30 {
		first, last = first.Next(), last.Prev()
	}
	for _, p := range sub.AllocationPools {
		switch {
		case version(p.Start) != sub.IPVersion || version(p.End) != sub.IPVersion || p.End.Less(p.Start):
			return BadRequest("InvalidAllocationPool", "The allocation pool %s is not valid.", poolText(p))
		case p.Start.Less(first) || last.Less(p.End):
			return BadRequest("OutOfBoundsAllocationPool", "The allocation pool %s spans beyond the subnet cidr %s.", poolText(p), sub.CIDR)
		}
	}
	sub.AllocationPools = slices.Clone(sub.AllocationPools)
	slices.SortFunc(sub.AllocationPools, func(a, b model.AddrRange) int { return a.Start.Compare(b.Start) })
	for i, p := range sub.AllocationPools {
		if i > 0 && ipam.Overlap(sub.AllocationPools[i-1], p) {
			return Conflict("OverlappingAllocationPools", "Found overlapping allocation pools: %s %s for subnet %s.",
				poolText(sub.AllocationPools[i-1]), poolText(p), sub.CIDR)
		}
		if sub.GatewayIP.IsValid() && ipam.Contains(p, sub.GatewayIP) {
			return Conflict("GatewayConflictWithAllocationPools", "Gateway ip %s conflicts with allocation pool %s.", sub.GatewayIP, poolText(p))
		}
	}
	return nil
}

func poolText(p model.AddrRange) string { return p.Start.String() + "-" + p.End.String() }

func wrongVersion(name string, v fmt.Stringer, sub *model.Subnet) error {
	return InvalidInput("%s '%s' does not match the ip_version '%d'", name, v, sub.IPVersion)
}

// version is 4 or 6, 0 for no address.
func version(a netip.Addr) int {
	switch {
	case a.Is4():
		return 4
	case a.Is6():
		return 6
	}
	return 0
}
