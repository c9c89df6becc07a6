package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netns"
)

// probe is a stream of small UDP packets, one a millisecond, from one guest to another.
type probe struct {
	from, to net.PacketConn
	addr     *net.UDPAddr
	last     atomic.Int64 // when a packet arrived last, in ns of the monotonic clock since began; 0: none yet
	began    time.Time
	stop     chan struct{}
}

const (
	probeEvery = time.Millisecond
	probeQuiet = 150 * time.Millisecond // after so long without a packet the stream is cut
	probeWait  = 30 * time.Second
)

// guest is a namespace on a node.
type guest struct{ node, ns, ip, mac string }

func guestOf(node string, p apiPort) guest { return guest{node, "b" + p.ID[:8], p.Fixed[0].IP, p.MAC} }

// listen opens a socket in a guest.
func (c *cloud) listen(g guest, port int) (net.PacketConn, error) {
	pid, err := c.HostPID(g.node)
	if err != nil {
		return nil, err
	}
	ns, err := netns.GetFromPath(filepath.Join("/proc", strconv.Itoa(pid), "root/run/netns", g.ns))
	if err != nil {
		return nil, fmt.Errorf("open guest %s: %w", g.ns, err)
	}
	defer ns.Close() //nolint:errcheck // the socket keeps it
	type opened struct {
		conn net.PacketConn
		err  error
	}
	done := make(chan opened)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		if err := netns.Set(ns); err != nil {
			done <- opened{nil, err}
			return
		}
		conn, err := net.ListenPacket("udp4", ":"+strconv.Itoa(port))
		done <- opened{conn, err}
	}()
	o := <-done
	return o.conn, o.err
}

// watch starts a stream between two guests to a UDP port.
func (c *cloud) watch(ctx context.Context, from, to guest, port int) (*probe, error) {
	if _, err := c.Run(ctx, from.node, "ip", "-n", from.ns, "neigh", "replace", to.ip, "lladdr", to.mac, "dev", "eth0"); err != nil {
		return nil, err
	}
	p := &probe{addr: &net.UDPAddr{IP: net.ParseIP(to.ip), Port: port}, began: time.Now(), stop: make(chan struct{})}
	var err error
	if p.from, err = c.listen(from, 0); err != nil {
		return nil, err
	}
	if p.to, err = c.listen(to, port); err != nil {
		p.from.Close() //nolint:errcheck // nothing was sent
		return nil, err
	}
	go func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				_, _ = p.from.WriteTo([]byte("probe"), p.addr) // what is not sent does not arrive
			}
		}
	}()
	go func() {
		b := make([]byte, 64)
		for {
			if _, _, err := p.to.ReadFrom(b); err != nil {
				return // closed
			}
			p.last.Store(int64(time.Since(p.began)))
		}
	}()
	return p, nil
}

func (p *probe) close() {
	close(p.stop)
	p.from.Close() //nolint:errcheck // only datagrams
	p.to.Close()   //nolint:errcheck // only datagrams
}

// opened makes a change and returns how long it took from its beginning until the first packet came.
func (p *probe) opened(change func() error) (time.Duration, error) {
	if err := p.silent(); err != nil {
		return 0, err
	}
	t := time.Since(p.began)
	if err := change(); err != nil {
		return 0, err
	}
	for {
		if last := time.Duration(p.last.Load()); last > t {
			// The first one: later ones are a packet's distance from it at most, because this looks more often than they come.
			return last - t, nil
		}
		if time.Since(p.began)-t > probeWait {
			return 0, fmt.Errorf("no packet passes %s after the change", probeWait)
		}
		time.Sleep(probeEvery / 10)
	}
}

// cut makes a change and returns how long it took from its beginning until the last packet came.
func (p *probe) cut(change func() error) (time.Duration, error) {
	t := time.Since(p.began)
	if last := time.Duration(p.last.Load()); t-last > probeQuiet {
		return 0, fmt.Errorf("no packet passes before the change")
	}
	if err := change(); err != nil {
		return 0, err
	}
	if err := p.silent(); err != nil {
		return 0, err
	}
	return time.Duration(p.last.Load()) - t, nil
}

// silent waits until nothing comes any more.
func (p *probe) silent() error {
	for t := time.Now(); ; time.Sleep(probeEvery) {
		if time.Since(p.began)-time.Duration(p.last.Load()) > probeQuiet && time.Since(t) > probeQuiet {
			return nil
		}
		if time.Since(t) > probeWait {
			return fmt.Errorf("packets pass %s after the change", probeWait)
		}
	}
}
