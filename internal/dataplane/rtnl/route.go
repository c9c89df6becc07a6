package rtnl

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baryon/internal/delta"
)

// syncRoutes keeps the routes of protocol 66 on the device equal to the wanted ones.  A gateway outside the device's own networks
// must come with a wanted link route; link routes are written before the others.
func (n *Namespace) syncRoutes(l netlink.Link, want Device) (int, error) {
	wanted := make(map[netip.Prefix]Route, len(want.Routes))
	for _, r := range want.Routes {
		r.Destination = r.Destination.Masked()
		wanted[r.Destination] = r
	}
	have := make(map[netip.Prefix]Route)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
		list, err := n.h.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return 0, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			got := routeOf(r, family)
			have[got.Destination] = got
		}
	}
	plan := delta.Plan(wanted, have, func(a, b Route) bool { return a == b })
	var errs []error
	changed := 0
	write := make([]Route, 0, len(plan.Add)+len(plan.Change))
	for _, r := range plan.Add {
		write = append(write, r)
	}
	for _, r := range plan.Change {
		write = append(write, r)
	}
	slices.SortFunc(write, func(a, b Route) int {
		if c := boolOrder(a.Gateway.IsValid(), b.Gateway.IsValid()); c != 0 {
			return c
		}
		return cmp.Or(a.Destination.Addr().Compare(b.Destination.Addr()), cmp.Compare(a.Destination.Bits(), b.Destination.Bits()))
	})
	for _, r := range write {
		if err := n.h.RouteReplace(kernelRoute(l, r)); err != nil {
			errs = append(errs, fmt.Errorf("add route to %s via %s: %w", r.Destination, r.Gateway, err))
			continue
		}
		changed++
	}
	for d, r := range plan.Change {
		// IPv6 keeps routes of another gateway side by side; take the old one away.
		if old := have[d]; d.Addr().Is6() && old.Gateway != r.Gateway {
			if err := n.h.RouteDel(kernelRoute(l, old)); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("remove route to %s: %w", d, err))
			}
		}
	}
	for d, r := range plan.Remove {
		if err := n.h.RouteDel(kernelRoute(l, r)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", d, err))
			continue
		}
		changed++
	}
	return changed, errors.Join(errs...)
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func routeOf(r netlink.Route, family int) Route {
	var out Route
	if p, ok := prefixOf(r.Dst); ok {
		out.Destination = p
	} else if family == netlink.FAMILY_V4 {
		out.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	} else {
		out.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Gateway = gw.Unmap()
	}
	return out
}

func kernelRoute(l netlink.Link, r Route) *netlink.Route {
	k := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: Protocol, Dst: netOf(r.Destination), Table: unix.RT_TABLE_MAIN}
	if r.Gateway.IsValid() {
		k.Gw = r.Gateway.AsSlice()
	} else if r.Destination.Addr().Is4() {
		k.Scope = netlink.SCOPE_LINK
	}
	return k
}
