package southbound

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/pki"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// patience is how long a test waits for what must come; only a failure takes that long.
const patience = 30 * time.Second

// signal lets tests wait for a change of state without polling: every change closes the channel and makes a new one.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func newSignal() *signal { return &signal{ch: make(chan struct{})} }

// change runs f under the lock and wakes waiters.
func (s *signal) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.ch)
	s.ch = make(chan struct{})
}

// wait blocks until ok, called under the lock, is true.
func (s *signal) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		done, ch := ok(), s.ch
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-ch:
		case <-deadline:
			t.Fatalf("gave up waiting for: %s", what)
		}
	}
}

// fakeNodes is the rules' side: it keeps what it is told and fails on demand.
type fakeNodes struct {
	*signal
	nodes     map[string]nodestate.NodeInfo
	beats     map[string]int
	gone      map[string]int
	statuses  map[string]map[nodestate.Key]nodestate.Status
	batches   int
	instances map[string]nodestate.Instance // "host/port"
	fail      error                         // answer of every call
}

func newFakeNodes() *fakeNodes {
	return &fakeNodes{signal: newSignal(), nodes: map[string]nodestate.NodeInfo{}, beats: map[string]int{}, gone: map[string]int{},
		statuses: map[string]map[nodestate.Key]nodestate.Status{}, instances: map[string]nodestate.Instance{}}
}

func (f *fakeNodes) do(fn func()) (err error) {
	f.change(func() {
		if err = f.fail; err == nil {
			fn()
		}
	})
	return err
}

func (f *fakeNodes) RegisterNode(_ context.Context, info nodestate.NodeInfo) error {
	return f.do(func() { f.nodes[info.Host] = info })
}

func (f *fakeNodes) Heartbeat(_ context.Context, host string) error {
	return f.do(func() { f.beats[host]++ })
}

func (f *fakeNodes) NodeGone(_ context.Context, host string) error {
	return f.do(func() { f.gone[host]++ })
}

func (f *fakeNodes) ApplyReports(_ context.Context, host string, statuses []nodestate.Status) error {
	return f.do(func() {
		f.batches++
		if f.statuses[host] == nil {
			f.statuses[host] = map[nodestate.Key]nodestate.Status{}
		}
		for _, st := range statuses {
			f.statuses[host][st.Key] = st
		}
	})
}

func (f *fakeNodes) SetInstance(_ context.Context, host, port string, in nodestate.Instance) error {
	return f.do(func() { f.instances[host+"/"+port] = in })
}

// cloud is a store, an authority and one server at a time on one address.
type cloud struct {
	t     testing.TB
	st    *store.Store
	ca    *pki.Authority
	nodes *fakeNodes
	addr  string
	srv   *Server
	stop  func()
	log   *slog.Logger
	beat  time.Duration
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	tables := append(model.AllTables(), pki.Tables()...)
	st := storetest.New(t, append(tables, Tables()...)...)
	ca, err := pki.Open(t.Context(), pki.Config{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, st: st, ca: ca, nodes: newFakeNodes(), addr: "127.0.0.1:0", beat: 50 * time.Millisecond, log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	t.Cleanup(func() { c.halt() })
	c.start()
	return c
}

// testWriter shows logs with the test that made them; after its end nothing more may be written.
type testWriter struct{ testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if w.Context().Err() == nil {
		w.Logf("%s", b)
	}
	return len(b), nil
}

func (c *cloud) start() {
	c.t.Helper()
	lis, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.addr = lis.Addr().String()
	srv, err := NewServer(Config{Store: c.st, Nodes: c.nodes, Authority: c.ca, Log: c.log, Name: "test", HeartbeatEvery: c.beat})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	wg.Go(func() {
		if err := srv.Serve(ctx, lis); err != nil {
			c.t.Error(err)
		}
	})
	c.srv = srv
	c.stop = func() {
		cancel()
		wg.Wait()
	}
}

func (c *cloud) halt() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

func (c *cloud) restart() {
	c.halt()
	c.start()
}

func (c *cloud) update(f func(tx store.Tx)) int64 {
	c.t.Helper()
	rev, err := c.st.Update(context.Background(), func(tx store.Tx) error {
		f(tx)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return rev
}

func (c *cloud) token(req pki.TokenRequest) string {
	c.t.Helper()
	tok, err := c.ca.NewToken(c.t.Context(), req)
	if err != nil {
		c.t.Fatal(err)
	}
	return tok.String()
}

// node is a host with a client whose updates are applied to a set.
type node struct {
	*signal
	t       testing.TB
	dir     string
	client  *Client
	set     map[nodestate.Key]nodestate.Record
	updates []nodestate.Update
	rev     int64
	stop    func()

	addresses []string // of the servers; nil: the cloud's
}

// join enrols a host and starts its client.
func (c *cloud) join(host string) *node {
	c.t.Helper()
	n := &node{signal: newSignal(), t: c.t, dir: c.t.TempDir(), set: map[nodestate.Key]nodestate.Record{}}
	if _, err := Enrol(c.t.Context(), []string{c.addr}, n.dir, host, c.token(pki.TokenRequest{Host: host})); err != nil {
		c.t.Fatal(err)
	}
	n.run(c)
	c.t.Cleanup(n.halt)
	return n
}

func (n *node) run(c *cloud) {
	n.t.Helper()
	addresses := n.addresses
	if addresses == nil {
		addresses = []string{c.addr}
	}
	client, err := NewClient(ClientConfig{Addresses: addresses, StateDir: n.dir, Log: c.log, CacheDelay: time.Millisecond})
	if err != nil {
		n.t.Fatal(err)
	}
	n.client = client
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := client.Run(ctx); err != nil {
			n.t.Error(err)
		}
	})
	wg.Go(func() {
		for {
			select {
			case u := <-client.Updates():
				n.change(func() {
					nodestate.Apply(n.set, u)
					n.updates = append(n.updates, u)
					n.rev = u.Revision
				})
			case <-ctx.Done():
				return
			}
		}
	})
	n.stop = func() {
		cancel()
		wg.Wait()
	}
}

func (n *node) halt() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// confirmed waits until a server has confirmed the node's state and the node has it.
func (n *node) confirmed() {
	n.t.Helper()
	n.wait(n.t, "a confirmed complete state", func() bool {
		for _, u := range n.updates {
			if u.Complete && !u.Cached {
				return true
			}
		}
		return false
	})
}

func (n *node) dump() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return dump(maps.Clone(n.set))
}

func dump(set map[nodestate.Key]nodestate.Record) string {
	out := make([]nodestate.Record, 0, len(set))
	for _, r := range set {
		out = append(out, r)
	}
	nodestate.Sort(out)
	s := ""
	for _, r := range out {
		s += nodestate.Text(r) + "\n"
	}
	return s
}

// Rows of a small cloud.

func netRow(id string, vni uint32) *model.Network {
	return &model.Network{Standard: model.Standard{ID: model.ID(id)}, Name: id, AdminStateUp: true, MTU: 1450,
		Segment: model.Segment{Type: model.TypeVXLAN, SegmentationID: vni}}
}

func nodeRow(host string, i int) *model.Node {
	return &model.Node{Host: host, TunnelIP: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), TunnelTypes: []string{model.TypeVXLAN}}
}

func portRow(id, net, host string, i int) *model.Port {
	return &model.Port{Standard: model.Standard{ID: model.ID(id), ProjectID: "p"}, NetworkID: model.ID(net), Name: id, AdminStateUp: true,
		MAC:     model.MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)},
		Binding: model.Binding{Host: host, VIFType: cmp.Or(map[bool]string{true: model.VIFOVS}[host != ""], model.VIFUnbound)}}
}

// heard writes down that all bound ports were reported, as the rules do.
func (c *cloud) heard() {
	c.update(func(tx store.Tx) {
		for p := range store.All(c.st.Snapshot(), model.PortTable) {
			if p.Bound() {
				store.Put(tx, model.PortStatusTable, &model.PortStatus{PortID: p.ID, Host: p.Binding.Host, State: string(nodestate.Done)})
			}
		}
	})
}

// seed puts one network with a port on each host.
func (c *cloud) seed(hosts ...string) {
	c.update(func(tx store.Tx) {
		store.Put(tx, model.NetworkTable, netRow("net", 1))
		for i, h := range hosts {
			store.Put(tx, model.NodeTable, nodeRow(h, i+1))
			store.Put(tx, model.PortTable, portRow(fmt.Sprint("port-", h), "net", h, i+1))
		}
	})
}
