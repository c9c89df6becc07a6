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

// NIC is what a network device of the host looks like to somebody who wants to put it into a bridge.
type NIC struct {
	Name      string
	Kind      string // the kernel's: device, veth, bridge, tun, openvswitch, …
	MAC       net.HardwareAddr
	MTU       int // bytes
	Up        bool
	Loopback  bool
	Master    bool           // it is a port of something already
	Addresses []netip.Prefix // but the link-local one that the kernel derives from the MAC
	Default   bool           // a default route goes through it
}

// NIC looks at a device; false: there is none of that name.
func (n *Namespace) NIC(name string) (NIC, bool, error) {
	l, err := n.h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return NIC{}, false, nil
	}
	if err != nil {
		return NIC{}, false, fmt.Errorf("find device %s in namespace %q: %w", name, n.ns.Name(), err)
	}
	at := l.Attrs()
	nic := NIC{
		Name: name, Kind: l.Type(), MAC: slices.Clone(at.HardwareAddr), MTU: at.MTU, Up: at.Flags&net.FlagUp != 0,
		Loopback: at.Flags&net.FlagLoopback != 0, Master: at.MasterIndex != 0,
	}
	list, err := n.h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nic, true, fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			nic.Addresses = append(nic.Addresses, p)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.h.RouteListFiltered(family, &netlink.Route{LinkIndex: at.Index, Table: unix.RT_TABLE_MAIN},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nic, true, fmt.Errorf("list routes of %s: %w", name, err)
		}
		for _, r := range routes {
			if ones := -1; r.Dst != nil {
				if ones, _ = r.Dst.Mask.Size(); ones == 0 {
					nic.Default = true
				}
			} else {
				nic.Default = true
			}
		}
	}
	return nic, true, nil
}

// Raise brings a device up.
func (n *Namespace) Raise(name string) error {
	l, err := n.h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s in namespace %q: %w", name, n.ns.Name(), err)
	}
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := n.h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}
