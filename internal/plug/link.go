package plug

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"baryon/internal/names"
)

// guestDevice makes (or finds) the device that leads to the guest, on the host's side, and says how to unmake it.
func guestDevice(s Spec, userspace bool) (name string, undo func() error, err error) {
	tap := names.Tap(s.PortID)
	switch {
	case s.NetNS != "":
		return vethGuest(s, tap, userspace)
	case s.Device != "":
		if _, err := netlink.LinkByName(s.Device); err != nil {
			return "", nil, fmt.Errorf("find device %s: %w", s.Device, err)
		}
		return s.Device, nil, setUp(s.Device, s.MTU)
	}
	if _, err := netlink.LinkByName(tap); isMissing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = tap
		if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}); err != nil {
			return "", nil, fmt.Errorf("make tap %s: %w", tap, err)
		}
		undo = func() error { return remove(tap) }
	} else if err != nil {
		return "", nil, fmt.Errorf("find tap %s: %w", tap, err)
	}
	return tap, undo, setUp(tap, s.MTU)
}

// vethGuest joins the namespace by a veth pair; the end inside gets the port's MAC.
func vethGuest(s Spec, tap string, userspace bool) (string, func() error, error) {
	dev := s.Device
	if dev == "" {
		dev = "eth0"
	}
	ns, err := netns.GetFromName(s.NetNS)
	if err != nil {
		return "", nil, fmt.Errorf("open network namespace %s: %w", s.NetNS, err)
	}
	defer ns.Close() //nolint:errcheck // only read
	// Only rtnetlink: without a choice every family is opened, and a kernel that lacks one of them (XFRM) refuses.
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return "", nil, fmt.Errorf("enter network namespace %s: %w", s.NetNS, err)
	}
	defer inside.Close()

	var undo func() error
	if _, err := netlink.LinkByName(tap); isMissing(err) {
		if _, err := inside.LinkByName(dev); err == nil {
			return "", nil, fmt.Errorf("namespace %s has a device %s already", s.NetNS, dev)
		}
		mac, err := net.ParseMAC(s.MAC)
		if err != nil {
			return "", nil, err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = tap, s.MTU
		pair := &netlink.Veth{
			LinkAttrs: attrs, PeerName: dev, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns), PeerMTU: uint32(s.MTU),
		}
		if err := netlink.LinkAdd(pair); err != nil {
			return "", nil, fmt.Errorf("make veth %s to %s in %s: %w", tap, dev, s.NetNS, err)
		}
		undo = func() error { return remove(tap) }
	} else if err != nil {
		return "", nil, fmt.Errorf("find %s: %w", tap, err)
	}
	link, err := inside.LinkByName(dev)
	if err != nil {
		return "", undo, fmt.Errorf("find %s in namespace %s: %w", dev, s.NetNS, err)
	}
	if err := inside.LinkSetMTU(link, s.MTU); err != nil {
		return "", undo, fmt.Errorf("set MTU of %s in namespace %s: %w", dev, s.NetNS, err)
	}
	// The userspace datapath forwards the guest's frames as they are: a checksum left to be filled in by hardware never would be.
	// The kernel's fills it in where a frame leaves the host, so there the offload stays, and segmentation offload with it.
	if userspace {
		if err := txChecksumOff(ns, dev); err != nil {
			return "", undo, err
		}
	}
	if lo, err := inside.LinkByName("lo"); err == nil {
		if err := inside.LinkSetUp(lo); err != nil {
			return "", undo, fmt.Errorf("bring lo of namespace %s up: %w", s.NetNS, err)
		}
	}
	if err := inside.LinkSetUp(link); err != nil {
		return "", undo, fmt.Errorf("bring %s of namespace %s up: %w", dev, s.NetNS, err)
	}
	return tap, undo, setUp(tap, s.MTU)
}

// hybrid puts a Linux bridge and a veth pair between the guest's device and br-int.
func hybrid(s Spec, guest string) (undo func() error, err error) {
	qbr, qvb, qvo := names.Qbr(s.PortID), names.Qvb(s.PortID), names.Qvo(s.PortID)
	var made []string
	undo = func() error {
		var errs []error
		for i := len(made) - 1; i >= 0; i-- {
			errs = append(errs, remove(made[i]))
		}
		return errors.Join(errs...)
	}
	if _, err := netlink.LinkByName(qbr); isMissing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = qbr
		ageing, snooping := uint32(0), false
		// Ageing 0 makes the bridge a hub: it must never remember where an address was.
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, AgeingTime: &ageing, MulticastSnooping: &snooping}); err != nil {
			return undo, fmt.Errorf("make bridge %s: %w", qbr, err)
		}
		made = append(made, qbr)
	} else if err != nil {
		return undo, fmt.Errorf("find bridge %s: %w", qbr, err)
	}
	for path, value := range map[string]string{
		"ipv6/conf/%s/disable_ipv6": "1", "ipv4/conf/%s/arp_ignore": "1", "ipv4/conf/%s/arp_announce": "2",
	} {
		if err := sysctl(fmt.Sprintf(path, qbr), value); err != nil {
			return undo, err
		}
	}
	if _, err := netlink.LinkByName(qvo); isMissing(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = qvb, s.MTU
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: qvo, PeerMTU: uint32(s.MTU)}); err != nil {
			return undo, fmt.Errorf("make veth %s to %s: %w", qvb, qvo, err)
		}
		made = append(made, qvb)
	} else if err != nil {
		return undo, fmt.Errorf("find %s: %w", qvo, err)
	}
	bridge, err := netlink.LinkByName(qbr)
	if err != nil {
		return undo, fmt.Errorf("find bridge %s: %w", qbr, err)
	}
	for _, dev := range []string{qvb, qvo} {
		if err := setUp(dev, s.MTU); err != nil {
			return undo, err
		}
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return undo, fmt.Errorf("find %s: %w", dev, err)
		}
		if err := netlink.SetPromiscOn(link); err != nil {
			return undo, fmt.Errorf("set %s promiscuous: %w", dev, err)
		}
	}
	for _, dev := range []string{qvb, guest} {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return undo, fmt.Errorf("find %s: %w", dev, err)
		}
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return undo, fmt.Errorf("put %s into %s: %w", dev, qbr, err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return undo, fmt.Errorf("bring %s up: %w", qbr, err)
	}
	return undo, nil
}

// setUp sets the MTU of a device of the host, keeps the host's own IPv6 off it, and brings it up.
func setUp(dev string, mtu int) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s: %w", dev, err)
	}
	if err := sysctl("ipv6/conf/"+dev+"/disable_ipv6", "1"); err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set MTU of %s: %w", dev, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", dev, err)
	}
	return nil
}

// removeDevices deletes what Attach made for a port.  A tap that a hypervisor made (not persistent) is left to it.
func removeDevices(portID string) error {
	var errs []error
	for _, dev := range []string{names.Qbr(portID), names.Qvb(portID)} {
		errs = append(errs, remove(dev))
	}
	tap := names.Tap(portID)
	link, err := netlink.LinkByName(tap)
	if isMissing(err) {
		return errors.Join(errs...)
	}
	if t, ok := link.(*netlink.Tuntap); ok && t.NonPersist {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, remove(tap))...)
}

func remove(dev string) error {
	link, err := netlink.LinkByName(dev)
	if isMissing(err) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !isMissing(err) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", dev, err)
	}
	return nil
}

func isMissing(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}

func sysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) && filepath.Base(key) == "disable_ipv6" {
		return nil // a kernel without IPv6 has none to keep off
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", key, err)
	}
	return nil
}
