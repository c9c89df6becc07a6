// Package rtnl keeps devices, addresses, routes and sysctls of a network namespace equal to what is wanted.
//
// One driver for all four: Namespace.Sync reads the actual state, compares, and writes only the difference, in the order
// sysctls → link → addresses → routes, removals last.  It is idempotent: a second Sync writes nothing.
//
// Ownership: routes of protocol 66 (Protocol) on the wanted devices; all addresses of the wanted devices, which are Baryon's
// own, except the link-local one that the kernel derives from the MAC.  Devices that are not wanted are not touched.
//
// One caller per Namespace.
package rtnl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baryon/internal/dataplane/netns"
)

// Protocol marks our routes (rtm_protocol).
const Protocol = 66

// Device is the wanted state of one existing device.
type Device struct {
	Name      string
	MAC       net.HardwareAddr // nil: as it is
	MTU       int              // bytes; 0: as it is
	Addresses []netip.Prefix   // address with the prefix length of its network
	Routes    []Route
	Sysctls   map[string]string // below net/, with slashes: "ipv6/conf/tap1/accept_ra"
}

// Route is one wanted route on its device.
type Route struct {
	Destination netip.Prefix // 0.0.0.0/0 and ::/0 are default routes
	Gateway     netip.Addr   // invalid: on the link
}

// Namespace is the driver of one network namespace.
type Namespace struct {
	ns *netns.NS
	h  *netlink.Handle
}

// Open opens a driver; name "" is the caller's own namespace.
func Open(name string) (*Namespace, error) {
	ns, err := netns.Open(name)
	if err != nil {
		return nil, err
	}
	h, err := ns.Handle()
	if err != nil {
		ns.Close()
		return nil, err
	}
	return &Namespace{ns: ns, h: h}, nil
}

// Close lets go of the namespace.
func (n *Namespace) Close() {
	n.h.Close()
	n.ns.Close()
}

// NS is the namespace itself.
func (n *Namespace) NS() *netns.NS { return n.ns }

// Changes counts what a Sync wrote.
type Changes struct{ Sysctls, Links, Addresses, Routes int }

// Total is the number of writes.
func (c Changes) Total() int { return c.Sysctls + c.Links + c.Addresses + c.Routes }

// Index is the interface index of a device, 0 if there is none with that name.
func (n *Namespace) Index(name string) (int, error) {
	l, err := n.h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find device %s in namespace %q: %w", name, n.ns.Name(), err)
	}
	return l.Attrs().Index, nil
}

// Carrier tells whether the device is up and somebody is at its other end.  A tap that its Open vSwitch has left has none.
func (n *Namespace) Carrier(name string) (bool, error) {
	l, err := n.h.LinkByName(name)
	if err != nil {
		return false, fmt.Errorf("find device %s in namespace %q: %w", name, n.ns.Name(), err)
	}
	return l.Attrs().RawFlags&unix.IFF_LOWER_UP != 0, nil
}

// Adopt moves a device from another namespace here.  A device of that name that is already here is a corpse (Open vSwitch's userspace
// datapath leaves persistent taps behind when it dies and makes new ones in its own namespace), so it is deleted first.
// Nothing happens when `from` has no such device.
func (n *Namespace) Adopt(from *Namespace, name string) (moved bool, err error) {
	if n.ns.ID() == from.ns.ID() {
		return false, nil
	}
	l, err := from.h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find device %s in namespace %q: %w", name, from.ns.Name(), err)
	}
	if old, err := n.h.LinkByName(name); err == nil {
		if err := n.h.LinkDel(old); err != nil {
			return false, fmt.Errorf("delete stale device %s in namespace %q: %w", name, n.ns.Name(), err)
		}
	}
	if err := from.h.LinkSetNsFd(l, n.ns.FD()); err != nil {
		return false, fmt.Errorf("move device %s to namespace %q: %w", name, n.ns.Name(), err)
	}
	return true, nil
}

// Sync makes the device as wanted and up.  One failing step does not stop the others; errors are joined.
func (n *Namespace) Sync(ctx context.Context, want Device) (Changes, error) {
	var done Changes
	l, err := n.h.LinkByName(want.Name)
	if err != nil {
		return done, fmt.Errorf("find device %s in namespace %q: %w", want.Name, n.ns.Name(), err)
	}
	var errs []error
	note := func(count *int, changed int, err error) {
		*count += changed
		if err != nil {
			errs = append(errs, err)
		}
	}
	c, err := n.syncSysctls(want.Sysctls)
	note(&done.Sysctls, c, err)
	c, err = n.syncLink(l, want)
	note(&done.Links, c, err)
	if ctx.Err() == nil {
		c, err = n.syncAddresses(l, want)
		note(&done.Addresses, c, err)
	}
	if ctx.Err() == nil {
		c, err = n.syncRoutes(l, want)
		note(&done.Routes, c, err)
	}
	if err := ctx.Err(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return done, fmt.Errorf("set up %s in namespace %q: %w", want.Name, n.ns.Name(), errors.Join(errs...))
	}
	return done, nil
}

func (n *Namespace) syncLink(l netlink.Link, want Device) (int, error) {
	a := l.Attrs()
	changed := 0
	var errs []error
	if want.MAC != nil && a.HardwareAddr.String() != want.MAC.String() {
		if err := n.h.LinkSetHardwareAddr(l, want.MAC); err != nil {
			errs = append(errs, fmt.Errorf("set address %s: %w", want.MAC, err))
		} else {
			changed++
		}
	}
	if want.MTU > 0 && a.MTU != want.MTU {
		if err := n.h.LinkSetMTU(l, want.MTU); err != nil {
			errs = append(errs, fmt.Errorf("set mtu %d: %w", want.MTU, err))
		} else {
			changed++
		}
	}
	if a.Flags&net.FlagUp == 0 {
		if err := n.h.LinkSetUp(l); err != nil {
			errs = append(errs, fmt.Errorf("set up: %w", err))
		} else {
			changed++
		}
	}
	return changed, errors.Join(errs...)
}

// syncAddresses adds before it removes, so that a changed prefix length does not cost the routes through it.  IPv6 addresses skip
// duplicate address detection: several DHCP nodes of a network share fe80::a9fe:a9fe, and a tentative address serves nobody.
func (n *Namespace) syncAddresses(l netlink.Link, want Device) (int, error) {
	list, err := n.h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	have := make(map[netip.Prefix]netlink.Addr, len(list))
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok {
			have[p] = a
		}
	}
	changed := 0
	var errs []error
	wanted := make(map[netip.Prefix]bool, len(want.Addresses))
	for _, p := range want.Addresses {
		wanted[p] = true
		if old, ok := have[p]; ok && old.Flags&(unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE) == 0 {
			continue
		}
		addr := &netlink.Addr{IPNet: netOf(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		} else if p.Bits() < 31 {
			addr.Broadcast = net.IP(lastAddress(p).AsSlice())
		}
		if err := n.h.AddrReplace(l, addr); err != nil {
			errs = append(errs, fmt.Errorf("add address %s: %w", p, err))
			continue
		}
		changed++
	}
	var own netip.Addr
	if mac := l.Attrs().HardwareAddr; want.MAC != nil {
		own = LinkLocal(want.MAC)
	} else if len(mac) == 6 {
		own = LinkLocal(mac)
	}
	for p, a := range have {
		if wanted[p] || p.Addr() == own {
			continue
		}
		if err := n.h.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove address %s: %w", p, err))
			continue
		}
		changed++
	}
	return changed, errors.Join(errs...)
}

// LinkLocal is the address that a MAC gives by EUI-64 (RFC 4291 appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	if len(mac) != 6 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, size := n.Mask.Size()
	if a = a.Unmap(); size == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, bits), true
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
