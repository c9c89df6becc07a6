package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"baryon/internal/nodestate"
	cp "baryon/internal/server"
	"baryon/internal/southbound"
)

// The cloud of DESIGN's last row.  Networks are as many as nodes; each spans scaleSpan nodes.
const (
	scaleNodes   = 1000
	scalePorts   = 50 // per node
	scaleSpan    = 20 // nodes of one network
	scaleBulk    = 500
	scaleChanges = 300
	scaleWait    = time.Minute // for what must come
)

// measureScale runs a real server process with its disk, and in this process a thousand real southbound clients: all of a node but
// its Open vSwitch.  A node says of each port that it is done, as agents do.  Nodes, server and etcd share the machine.
func measureScale(ctx context.Context, exe string, r *report) (err error) {
	s, err := startServer(ctx, exe)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.unlimited(); err != nil {
		return err
	}
	f, err := newFleet(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	nets, err := f.cloud(s)
	if err != nil {
		return err
	}
	if err := f.settled(ctx, s); err != nil {
		return err
	}
	var took []time.Duration
	for i := range scaleChanges {
		d, err := f.change(ctx, s, nets, i)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	r.add(figure{Name: "1,000 nodes, 50,000 ports: a new port is with its 20 nodes, p50", Value: quantile(took, .5), Unit: "ms"})
	r.add(figure{Name: "1,000 nodes, 50,000 ports: a new port is with its 20 nodes, p99", Value: quantile(took, .99), Unit: "ms", Goal: "≤ 50 ms"})
	began := time.Now()
	if err := s.restart(ctx); err != nil {
		return err
	}
	r.add(figure{Name: "server with 50,000 ports is killed, starts and is ready", Value: time.Since(began).Seconds(), Unit: "s"})
	if err := f.synced(ctx); err != nil {
		return err
	}
	r.add(figure{Name: "1,000 nodes resume after the server was killed, its start included", Value: time.Since(began).Seconds(), Unit: "s", Goal: "≤ 5 s"})
	rss, err := rssMB(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.add(figure{Name: "memory: server with 1,000 nodes, 50,000 ports", Value: rss, Unit: "MB"})
	return nil
}

// fleet is the nodes.
type fleet struct {
	dir   string
	nodes []*southbound.Client
	hunt  atomic.Pointer[hunt]
	stop  context.CancelFunc
	all   sync.WaitGroup
}

// hunt is the port that is waited for.
type hunt struct {
	mac  nodestate.MAC
	seen chan struct{}
}

func scaleHost(i int) string { return fmt.Sprintf("node-%04d", i) }

// newFleet enrols the nodes and starts them.  Their state is in memory: a thousand nodes do not share one disk.
func newFleet(ctx context.Context, s *server) (*fleet, error) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "baryon-bench")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &fleet{dir: dir, nodes: make([]*southbound.Client, scaleNodes), stop: cancel}
	token, err := cp.NodeToken(ctx, s.dir, cp.TokenOrder{Multi: true, Life: time.Hour})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	var g errgroup.Group
	g.SetLimit(8)
	for i := range scaleNodes {
		g.Go(func() error { return f.join(ctx, s, i, token) })
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, f.synced(ctx)
}

func (f *fleet) join(ctx context.Context, s *server, i int, token string) error {
	host := scaleHost(i)
	dir := filepath.Join(f.dir, host)
	if _, err := southbound.Enrol(ctx, []string{s.south}, dir, host, token); err != nil {
		return err
	}
	c, err := southbound.NewClient(southbound.ClientConfig{Addresses: []string{s.south}, StateDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	c.SetInfo(nodestate.NodeInfo{
		Host: host, Roles: []string{"compute"}, TunnelIP: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}),
		TunnelTypes: []string{"vxlan"}, DatapathType: "system", Version: "bench",
	})
	f.nodes[i] = c
	f.all.Go(func() { _ = c.Run(ctx) }) // ends with ctx
	f.all.Go(func() { f.serve(ctx, c) })
	return nil
}

// serve does what an agent does with what it is told, short of doing it.
func (f *fleet) serve(ctx context.Context, c *southbound.Client) {
	for {
		var u nodestate.Update
		select {
		case u = <-c.Updates():
		case <-ctx.Done():
			return
		}
		h := f.hunt.Load()
		var done []nodestate.Status
		for _, r := range u.Upserts {
			switch r := r.(type) {
			case *nodestate.Port:
				done = append(done, nodestate.Status{Key: r.Key(), Revision: u.Revision, State: nodestate.Done})
				h.found(r.MAC)
			case *nodestate.Peers:
				for _, p := range r.Peers {
					h.found(p.MAC)
				}
			}
		}
		if len(done) > 0 {
			c.Report(done)
		}
	}
}

func (h *hunt) found(mac nodestate.MAC) {
	if h != nil && h.mac == mac {
		h.seen <- struct{}{}
	}
}

// scaleNet is the network of a node's port: the networks of a group of scaleSpan nodes are spread over its nodes.
func scaleNet(node, port int) int { return node/scaleSpan*scaleSpan + port%scaleSpan }

// cloud makes networks, subnets and ports over the API.
func (f *fleet) cloud(s *server) (nets []string, err error) {
	for at := 0; at < scaleNodes; at += scaleBulk {
		var in, subs []obj
		for i := range scaleBulk {
			in = append(in, obj{"name": fmt.Sprintf("net-%d", at+i)})
		}
		var out struct{ Networks []struct{ ID string } }
		if err := s.call("POST", "/v2.0/networks", obj{"networks": in}, &out); err != nil {
			return nil, err
		}
		for _, n := range out.Networks {
			nets = append(nets, n.ID)
			subs = append(subs, obj{"network_id": n.ID, "cidr": "10.0.0.0/16", "ip_version": 4})
		}
		if err := s.call("POST", "/v2.0/subnets", obj{"subnets": subs}, nil); err != nil {
			return nil, err
		}
	}
	var in []obj
	for node := range scaleNodes {
		for p := range scalePorts {
			in = append(in, obj{"network_id": nets[scaleNet(node, p)], "binding:host_id": scaleHost(node), "device_owner": "compute:nova",
				"device_id": fmt.Sprintf("guest-%d-%d", node, p)})
		}
		if len(in) >= scaleBulk {
			if err := s.call("POST", "/v2.0/ports", obj{"ports": in}, nil); err != nil {
				return nil, err
			}
			in = nil
		}
	}
	return nets, nil
}

// settled waits until all ports are ACTIVE: everything has arrived and was reported.
func (f *fleet) settled(ctx context.Context, s *server) error {
	return poll(ctx, "all ports to be ACTIVE", func() (bool, error) {
		var got struct{ Ports []struct{ ID string } }
		err := s.call("GET", "/v2.0/ports?status=DOWN&fields=id&limit=1", nil, &got)
		return len(got.Ports) == 0, err
	})
}

// synced waits until all nodes are in step with the server.
func (f *fleet) synced(ctx context.Context) error {
	return poll(ctx, "all nodes to be in step", func() (bool, error) {
		for _, c := range f.nodes {
			if !c.Synced() {
				return false, nil
			}
		}
		return true, nil
	})
}

// change creates one port; the time runs from the call until the last node of its network has it.
func (f *fleet) change(ctx context.Context, s *server, nets []string, i int) (time.Duration, error) {
	node := i * 7 % scaleNodes
	mac := nodestate.MAC{0xfa, 0x16, 0x3f, 0, byte(i >> 8), byte(i)}
	h := &hunt{mac: mac, seen: make(chan struct{}, 10*scaleSpan)}
	f.hunt.Store(h)
	defer f.hunt.Store(nil)
	body := obj{"port": obj{"network_id": nets[scaleNet(node, i)], "binding:host_id": scaleHost(node), "mac_address": mac.String()}}
	began := time.Now()
	if err := s.call("POST", "/v2.0/ports", body, nil); err != nil {
		return 0, err
	}
	late := time.After(scaleWait)
	for range scaleSpan {
		select {
		case <-h.seen:
		case <-late:
			return 0, fmt.Errorf("port %s has not reached all its nodes", mac)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}

func (f *fleet) close() error {
	f.stop()
	f.all.Wait()
	return os.RemoveAll(f.dir)
}

// poll asks until the answer is yes.
func poll(ctx context.Context, what string, ok func() (bool, error)) error {
	for late := time.Now().Add(scaleWait); ; {
		yes, err := ok()
		if yes || err != nil {
			return err
		}
		if time.Now().After(late) {
			return fmt.Errorf("gave up waiting for %s", what)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
