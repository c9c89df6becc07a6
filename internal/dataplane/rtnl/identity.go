package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Identity is what makes a device the host's end of a network: its addresses and the routes through it.  Those that the kernel makes by itself
// (link routes of addresses, the link-local address of the MAC) are left out.
type Identity struct {
	Addresses []HostAddress `json:"addresses,omitempty"`
	Routes    []HostRoute   `json:"routes,omitempty"`
}

// HostAddress is one address of the host.
type HostAddress struct {
	Prefix    netip.Prefix `json:"prefix"`
	Flags     int          `json:"flags,omitempty"`
	Scope     int          `json:"scope,omitempty"`
	Valid     int          `json:"valid,omitempty"`     // seconds; 0: for ever
	Preferred int          `json:"preferred,omitempty"` // seconds; 0: for ever
}

// HostRoute is one route of the host.
type HostRoute struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway"` // invalid: on the link
	Source      netip.Addr   `json:"source"`  // invalid: the kernel's choice
	Metric      int          `json:"metric,omitempty"`
	Table       int          `json:"table"`
	Protocol    int          `json:"protocol"`
	Scope       int          `json:"scope,omitempty"`
	Flags       int          `json:"flags,omitempty"`
	MTU         int          `json:"mtu,omitempty"`
}

// keptFlags are the flags of addresses that the host has chosen.
const keptFlags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MCAUTOJOIN

// Identity reads that of a device.
func (n *Namespace) Identity(name string) (Identity, error) {
	var id Identity
	l, err := n.h.LinkByName(name)
	if err != nil {
		return id, fmt.Errorf("find device %s: %w", name, err)
	}
	own := LinkLocal(l.Attrs().HardwareAddr)
	list, err := n.h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return id, fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for _, a := range list {
		p, ok := prefixOf(a.IPNet)
		if !ok || p.Addr() == own || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		h := HostAddress{Prefix: p, Flags: a.Flags & keptFlags, Scope: a.Scope}
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			h.Valid, h.Preferred = a.ValidLft, a.PreferedLft
		}
		id.Addresses = append(id.Addresses, h)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.h.RouteListFiltered(family, &netlink.Route{LinkIndex: l.Attrs().Index, Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return id, fmt.Errorf("list routes of %s: %w", name, err)
		}
		for _, r := range routes {
			if r.Table == unix.RT_TABLE_LOCAL || int(r.Protocol) == unix.RTPROT_KERNEL || r.Type != unix.RTN_UNICAST {
				continue
			}
			id.Routes = append(id.Routes, hostRoute(r, family))
		}
	}
	return id, nil
}

func hostRoute(r netlink.Route, family int) HostRoute {
	got := routeOf(r, family)
	out := HostRoute{
		Destination: got.Destination, Gateway: got.Gateway, Metric: r.Priority, Table: r.Table, Protocol: int(r.Protocol),
		Scope: int(r.Scope), Flags: r.Flags & int(netlink.FLAG_ONLINK), MTU: r.MTU,
	}
	if a, ok := netip.AddrFromSlice(r.Src); ok {
		out.Source = a.Unmap()
	}
	return out
}

// Give makes a device have an identity besides what it has.  Routes that go through another device now go through this one.
func (n *Namespace) Give(name string, id Identity) error {
	l, err := n.h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	var errs []error
	for _, a := range id.Addresses {
		addr := &netlink.Addr{IPNet: netOf(a.Prefix), Flags: a.Flags, Scope: a.Scope, ValidLft: a.Valid, PreferedLft: a.Preferred}
		if a.Prefix.Addr().Is6() {
			addr.Flags |= unix.IFA_F_NODAD // it has been in use all the time
		} else if a.Prefix.Bits() < 31 {
			addr.Broadcast = net.IP(lastAddress(a.Prefix).AsSlice())
		}
		if err := n.h.AddrReplace(l, addr); err != nil {
			errs = append(errs, fmt.Errorf("add address %s to %s: %w", a.Prefix, name, err))
		}
	}
	routes := slices.Clone(id.Routes)
	// A gateway must be reachable on the link first.
	slices.SortStableFunc(routes, func(a, b HostRoute) int { return boolOrder(a.Gateway.IsValid(), b.Gateway.IsValid()) })
	for _, r := range routes {
		k := kernelRoute(l, Route{Destination: r.Destination, Gateway: r.Gateway})
		k.Priority, k.Table, k.Protocol, k.Scope, k.MTU = r.Metric, r.Table, netlink.RouteProtocol(r.Protocol), netlink.Scope(r.Scope), r.MTU
		k.Flags |= r.Flags
		if r.Source.IsValid() {
			k.Src = r.Source.AsSlice()
		}
		if err := n.h.RouteReplace(k); err != nil {
			errs = append(errs, fmt.Errorf("add route to %s via %s: %w", r.Destination, name, err))
		}
	}
	return errors.Join(errs...)
}

// Strip takes the addresses and routes of an identity from a device, as far as it has them.
func (n *Namespace) Strip(name string, id Identity) error {
	l, err := n.h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	var errs []error
	for _, r := range id.Routes {
		k := kernelRoute(l, Route{Destination: r.Destination, Gateway: r.Gateway})
		k.Priority, k.Table, k.Protocol, k.Scope = r.Metric, r.Table, netlink.RouteProtocol(r.Protocol), netlink.Scope(r.Scope)
		if err := n.h.RouteDel(k); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s from %s: %w", r.Destination, name, err))
		}
	}
	for _, a := range id.Addresses {
		if err := n.h.AddrDel(l, &netlink.Addr{IPNet: netOf(a.Prefix)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove address %s from %s: %w", a.Prefix, name, err))
		}
	}
	return errors.Join(errs...)
}

// Answers tells whether somebody has answered on a device for an address: the kernel knows its MAC.
func (n *Namespace) Answers(name string, ip netip.Addr) (bool, error) {
	l, err := n.h.LinkByName(name)
	if err != nil {
		return false, fmt.Errorf("find device %s: %w", name, err)
	}
	family := netlink.FAMILY_V4
	if ip.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := n.h.NeighList(l.Attrs().Index, family)
	if err != nil {
		return false, fmt.Errorf("list neighbours on %s: %w", name, err)
	}
	const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	return slices.ContainsFunc(list, func(e netlink.Neigh) bool {
		a, ok := netip.AddrFromSlice(e.IP)
		return ok && a.Unmap() == ip.Unmap().WithZone("") && e.State&known != 0
	}), nil
}
