package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"baryon/internal/agent"
	"baryon/internal/dataplane/ovsdb/ovstest"
	"baryon/internal/nodestate"
)

// source is a fake of the southbound connection: it keeps the state that a server would have, hands it to each agent that is
// started with it, and keeps what is reported.
type source struct {
	mu        sync.Mutex
	rev       int64
	records   map[nodestate.Key]nodestate.Record
	updates   chan nodestate.Update
	statuses  map[nodestate.Key]nodestate.Status
	instances map[string]*nodestate.Instance
	info      nodestate.NodeInfo
	moved     chan struct{}
}

func newSource() *source {
	return &source{
		records: map[nodestate.Key]nodestate.Record{}, updates: make(chan nodestate.Update, 100),
		statuses: map[nodestate.Key]nodestate.Status{}, instances: map[string]*nodestate.Instance{}, moved: make(chan struct{}),
	}
}

func (s *source) Updates() <-chan nodestate.Update { return s.updates }

func (s *source) Report(list []nodestate.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range list {
		s.statuses[st.Key] = st
	}
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *source) ReportInstance(id string, in *nodestate.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances[id] = in
}

func (s *source) SetInfo(i nodestate.NodeInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info = i
}

// complete sends everything, as after a connect.
func (s *source) complete(cached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	u := nodestate.Update{Revision: s.rev, Complete: true, Cached: cached}
	for _, r := range s.records {
		u.Upserts = append(u.Upserts, r)
	}
	s.updates <- u
}

// put sends records as one increment and returns its revision.
func (s *source) put(rs ...nodestate.Record) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	for _, r := range rs {
		s.records[r.Key()] = r
	}
	s.updates <- nodestate.Update{Revision: s.rev, Upserts: rs}
	return s.rev
}

func (s *source) delete(keys ...nodestate.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	for _, k := range keys {
		delete(s.records, k)
	}
	s.updates <- nodestate.Update{Revision: s.rev, Deletes: keys}
}

// until waits for a status.
func (s *source) until(t *testing.T, k nodestate.Key, what string, ok func(nodestate.Status) bool) nodestate.Status {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		st, moved := s.statuses[k], s.moved
		s.mu.Unlock()
		if ok(st) {
			return st
		}
		select {
		case <-moved:
		case <-timeout:
			t.Fatalf("%s never %s: %+v", k, what, st)
		}
	}
}

func (s *source) done(t *testing.T, k nodestate.Key, rev int64) {
	t.Helper()
	s.until(t, k, fmt.Sprintf("done at %d", rev), func(st nodestate.Status) bool {
		return st.State == nodestate.Done && st.Revision >= rev
	})
}

// node is a host: a namespace with its own Open vSwitch and, while started, an agent.
type node struct {
	*ovstest.Node
	t      *testing.T
	name   string
	ip     netip.Addr
	state  string
	src    *source
	cfg    agent.Config
	cancel context.CancelFunc
	ended  chan error
}

func newNode(t *testing.T, name string, ip string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "ag")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{Node: ovstest.Start(t), t: t, name: name, state: dir, src: newSource()}
	n.ip, _ = netip.ParseAddr(ip)
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})).With("node", name)
	n.cfg = agent.Config{
		Host: name, Roles: []string{"compute"}, TunnelIP: n.ip, StateDir: dir, OVSRunDir: n.RunDir, Source: n.src, Log: log,
		Firewall: agent.FirewallNone, // most tests are about switching
	}
	t.Cleanup(n.stop)
	return n
}

// start runs the agent in the node's namespace.
func (n *node) start() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan error, 1)
	ended, cfg := n.ended, n.cfg
	go func() {
		// The thread is not given back: it ends with the goroutine.  What Run opens at once (the controller's socket) is opened in
		// the namespace; the rest is Unix sockets.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(n.NS)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = agent.Run(ctx, cfg)
		}
		ended <- err
	}()
}

func (n *node) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Errorf("agent %s ended: %v", n.name, err)
	}
	n.cancel = nil
}

// guest makes a namespace with a veth pair; the outer end is named after the port and stays in the node, unplugged.
func (n *node) guest(p *nodestate.Port, mtu int) string {
	n.t.Helper()
	ns := n.NS + "-" + p.ID[:4]
	dev := device(p)
	n.must("ip", "netns", "add", ns)
	n.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	n.Exec("ip", "link", "add", dev, "mtu", fmt.Sprint(mtu), "type", "veth", "peer", "name", "eth0", "netns", ns, "mtu", fmt.Sprint(mtu),
		"address", p.MAC.String())
	n.Exec("ip", "link", "set", dev, "up")
	for _, a := range p.Addresses {
		n.must("ip", "-n", ns, "addr", "add", a.Prefix.String(), "dev", "eth0", "nodad")
	}
	n.must("ip", "-n", ns, "link", "set", "lo", "up")
	n.must("ip", "-n", ns, "link", "set", "eth0", "up")
	return ns
}

func device(p *nodestate.Port) string { return "qvo" + p.ID[:11] }

// plug adds the port's device to br-int as a plugger does.
func (n *node) plug(p *nodestate.Port) {
	n.t.Helper()
	n.bridgeUp()
	n.Ctl("--no-wait", "add-port", "br-int", device(p), "--", "set", "Interface", device(p), "external_ids:iface-id="+p.ID,
		`external_ids:attached-mac="`+p.MAC.String()+`"`, "external_ids:iface-status=active")
}

func (n *node) bridgeUp() {
	n.t.Helper()
	n.Eventually("br-int is there", func() bool { return strings.Contains(n.Ctl("list-br"), "br-int") })
}

func (n *node) must(name string, args ...string) string {
	n.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// flows dumps a bridge, sorted; empty while it cannot be reached.
func (n *node) flows(bridge string) string {
	n.t.Helper()
	out, err := n.Command("ovs-ofctl", "--timeout=5", "--no-stats", "--no-names", "-O", "OpenFlow14", "dump-flows",
		filepath.Join(n.RunDir, bridge+".mgmt")).Output()
	if err != nil {
		return ""
	}
	var lines []string
	for _, l := range strings.Split(string(out), "\n") {
		if !strings.Contains(l, "hard_timeout=300, priority=1,vlan_tci") { // learned
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var age = regexp.MustCompile(`duration=([0-9.]+)s`)

// ages maps each flow (without counters) to its age in seconds.
func (n *node) ages(bridge string) map[string]float64 {
	n.t.Helper()
	counters := regexp.MustCompile(`(n_packets|n_bytes|idle_age|hard_age)=\d+, `)
	out := map[string]float64{}
	for _, l := range strings.Split(n.OFCtl("-O", "OpenFlow14", "dump-flows", filepath.Join(n.RunDir, bridge+".mgmt")), "\n") {
		m := age.FindStringSubmatch(l)
		if m == nil || strings.Contains(l, "hard_timeout") {
			continue
		}
		var s float64
		fmt.Sscanf(m[1], "%g", &s)
		out[strings.TrimSpace(counters.ReplaceAllString(age.ReplaceAllString(l, ""), ""))] = s
	}
	return out
}

// underlay joins nodes by a bridge in the first node's namespace; each has its address on br-phy, as the userspace datapath needs.
func underlay(t *testing.T, nodes ...*node) {
	t.Helper()
	hub := nodes[0]
	hub.Exec("ip", "link", "add", "hub", "type", "bridge")
	hub.Exec("ip", "link", "set", "hub", "up")
	for i, n := range nodes {
		outer := fmt.Sprintf("u%d", i)
		hub.Exec("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth1", "netns", n.NS)
		hub.Exec("ip", "link", "set", outer, "master", "hub", "up")
		n.Exec("ip", "link", "set", "eth1", "up")
		n.Ctl("add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev", "--", "add-port", "br-phy", "eth1")
		n.Exec("ip", "addr", "add", n.ip.String()+"/24", "dev", "br-phy")
		n.Exec("ip", "link", "set", "br-phy", "up")
	}
}

// ping sends three packets from a guest.
func ping(ns, to string) error {
	out, err := exec.Command("ip", "netns", "exec", ns, "ping", "-c", "3", "-i", "0.2", "-W", "2", to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ping %s from %s: %w: %s", to, ns, err, out)
	}
	return nil
}

// pinger pings 100 times a second until stopped and tells how many were lost.
type pinger struct {
	cmd *exec.Cmd
	out *strings.Builder
}

func startPing(t *testing.T, ns, to string) *pinger {
	t.Helper()
	p := &pinger{cmd: exec.Command("ip", "netns", "exec", ns, "ping", "-i", "0.01", to), out: &strings.Builder{}}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

var sequence = regexp.MustCompile(`icmp_seq=(\d+) ttl`)

// stop ends it and returns the packets answered and those lost before the last answer: the end itself may cut one off.
func (p *pinger) stop(t *testing.T) (got, lost int) {
	t.Helper()
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait() // status 1 if anything was lost
	seen := map[int]bool{}
	last := 0
	for _, m := range sequence.FindAllStringSubmatch(p.out.String(), -1) {
		var n int
		fmt.Sscan(m[1], &n)
		seen[n], last = true, max(last, n)
	}
	return len(seen), last - len(seen)
}

func network(id, typ string, segment uint32) *nodestate.Network {
	return &nodestate.Network{ID: id, Type: typ, SegmentationID: segment, MTU: 1400}
}

func port(id string, net *nodestate.Network, last byte) *nodestate.Port {
	return &nodestate.Port{
		ID: id, NetworkID: net.ID, MAC: nodestate.MAC{0xfa, 0x16, 0x3e, 0, 0, last}, AdminUp: true, PortSecurity: true,
		Addresses: []nodestate.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 24)}},
	}
}

// peersOf is what the other nodes are told of ports on n.
func peersOf(n *node, net *nodestate.Network, ports ...*nodestate.Port) *nodestate.Peers {
	p := &nodestate.Peers{NetworkID: net.ID, Host: n.name, Endpoint: n.ip}
	for _, x := range ports {
		p.Peers = append(p.Peers, nodestate.Peer{PortID: x.ID, MAC: x.MAC, IPs: []netip.Addr{x.Addresses[0].Prefix.Addr()}})
	}
	return p
}

func newAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
