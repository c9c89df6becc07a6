package dhcpd

import (
	"context"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"baryon/internal/dataplane/netns"
)

// bound makes a socket belong to one device and runs more on it.
func bound(device string, more ...func(fd int) error) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(fd uintptr) {
			if err = unix.BindToDevice(int(fd), device); err != nil {
				return
			}
			for _, f := range more {
				if err = f(int(fd)); err != nil {
					return
				}
			}
		})
		if ctl != nil {
			return ctl
		}
		return err
	}
}

func listenPacket(ns *netns.NS, lc net.ListenConfig, network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	err := ns.Do(func() (err error) {
		c, err = lc.ListenPacket(context.Background(), network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s %s in %q: %w", network, address, ns.Name(), err)
	}
	return c, nil
}

func listenStream(ns *netns.NS, lc net.ListenConfig, network, address string) (net.Listener, error) {
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s %s in %q: %w", network, address, ns.Name(), err)
	}
	return l, nil
}
