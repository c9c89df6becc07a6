package agent_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"

	"baryon/internal/agent"
	"baryon/internal/nodestate"
)

const groupA, groupB = "aaaaaaaa-0000-4000-8000-00000000000a", "bbbbbbbb-0000-4000-8000-00000000000b"

// rule is a rule in the shortest form that still says everything: "egress 4", "ingress 4 tcp 80-81 from 10.0.0.0/24".
func group(id string, rules ...nodestate.Rule) *nodestate.Group {
	for i := range rules {
		rules[i].ID = fmt.Sprintf("%s-%d", id, i)
	}
	return &nodestate.Group{ID: id, Rules: rules}
}

func egressAll(v6 bool) nodestate.Rule {
	return nodestate.Rule{Egress: true, IPv6: v6, Protocol: -1, PortMin: -1, PortMax: -1}
}

func ingress(protocol, lo, hi int) nodestate.Rule {
	return nodestate.Rule{Protocol: protocol, PortMin: lo, PortMax: hi}
}

// filteredNode is a node whose driver is openvswitch, with two ports of a network that each have a guest.
type filteredNode struct {
	*node
	net    *nodestate.Network
	p, q   *nodestate.Port
	np, nq string // namespaces of the guests
}

func newFilteredNode(t *testing.T) *filteredNode {
	t.Helper()
	n := newNode(t, "n1", "192.168.20.11")
	n.cfg.Firewall = agent.FirewallOVS
	f := &filteredNode{node: n, net: network(netA, "vxlan", 7)}
	f.p, f.q = port(port1, f.net, 1), port(port2, f.net, 2)
	for _, x := range []*nodestate.Port{f.p, f.q} {
		x.Addresses = append(x.Addresses, nodestate.Address{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", x.MAC[5]))})
	}
	f.p.Groups, f.q.Groups = []string{groupA}, []string{groupB}
	f.np, f.nq = n.guest(f.p, 1400), n.guest(f.q, 1400)
	for _, ns := range []string{f.np, f.nq} {
		// Between veths checksums are left out, which Open vSwitch's userspace conntrack takes for damage.
		n.must("ip", "netns", "exec", ns, "ethtool", "-K", "eth0", "tx", "off")
	}
	n.src.complete(false)
	n.start()
	return f
}

// up puts groups and ports and waits until all is in force.
func (f *filteredNode) up(recs ...nodestate.Record) {
	f.t.Helper()
	rev := f.src.put(append(recs, f.net, f.p, f.q)...)
	f.plug(f.p)
	f.plug(f.q)
	for _, r := range append(recs, f.p, f.q) {
		f.src.done(f.t, r.Key(), rev)
	}
}

// now puts records and waits until they are in force.
func (f *filteredNode) now(recs ...nodestate.Record) {
	f.t.Helper()
	rev := f.src.put(recs...)
	for _, r := range recs {
		f.src.done(f.t, r.Key(), rev)
	}
}

func reach(ns, to string) bool {
	return exec.Command("ip", "netns", "exec", ns, "ping", "-c", "1", "-W", "1", to).Run() == nil
}

// inside runs f in a guest's namespace; sockets opened in it stay there.
func inside(t *testing.T, ns string, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never given back: the thread ends with the goroutine
		h, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(h)
			h.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// echo serves a port of a guest: what comes in goes back.
func echo(t *testing.T, ns, network, addr string) {
	t.Helper()
	err := inside(t, ns, func() error {
		if network == "udp" {
			c, err := net.ListenPacket(network, addr)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				buf := make([]byte, 65536)
				for {
					n, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo(buf[:n], from)
				}
			}()
			return nil
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { c.Close() })
				go func() { _, _ = io.Copy(c, c) }()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// talk is a connection of a guest that lives for the test; without conn it could not be made.
type talk struct{ conn net.Conn }

func dial(t *testing.T, ns, network, to string) talk {
	t.Helper()
	var c net.Conn
	err := inside(t, ns, func() (err error) {
		c, err = net.DialTimeout(network, to, time.Second)
		return err
	})
	if err != nil {
		return talk{}
	}
	t.Cleanup(func() { c.Close() })
	return talk{c}
}

// says sends a text and tells whether it comes back within a second.
func (c talk) says(text string) bool {
	if c.conn == nil {
		return false
	}
	_ = c.conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c.conn, text); err != nil {
		return false
	}
	buf := make([]byte, len(text))
	_, err := io.ReadFull(c.conn, buf)
	return err == nil && string(buf) == text
}

func TestGroupsLetPassWhatTheyAllow(t *testing.T) {
	f := newFilteredNode(t)
	f.up(group(groupA, egressAll(false), egressAll(true)), group(groupB, egressAll(false), ingress(1, -1, -1), ingress(6, 80, 81),
		nodestate.Rule{IPv6: true, Protocol: 58, PortMin: 128, PortMax: 0}))
	echo(t, f.nq, "tcp", ":80")
	echo(t, f.nq, "tcp", ":82")
	echo(t, f.nq, "udp", ":53")
	if !reach(f.np, "10.0.0.2") || !reach(f.np, "fd00::2") {
		t.Error("allowed pings are lost")
	}
	if reach(f.nq, "10.0.0.1") {
		t.Error("a group without ingress rules lets a ping in")
	}
	f.Eventually("TCP 80 passes", func() bool { return dial(t, f.np, "tcp", "10.0.0.2:80").says("hello") })
	if dial(t, f.np, "tcp", "10.0.0.2:82").says("hello") || dial(t, f.np, "udp", "10.0.0.2:53").says("hello") {
		t.Error("a port passes that no rule names")
	}
	f.now(group(groupB, egressAll(false), ingress(17, 53, 53)))
	if !dial(t, f.np, "udp", "10.0.0.2:53").says("hello") {
		t.Error("UDP 53 does not pass after its rule came")
	}
	if reach(f.np, "10.0.0.2") || reach(f.np, "fd00::2") {
		t.Error("pings pass after their rules have gone")
	}
}

func TestRevokedConnectionsEnd(t *testing.T) {
	f := newFilteredNode(t)
	a, b := group(groupA, egressAll(false)), group(groupB, ingress(6, 80, 80), ingress(6, 81, 81), ingress(17, 53, 53))
	f.up(a, b)
	echo(t, f.nq, "tcp", ":80")
	echo(t, f.nq, "tcp", ":81")
	echo(t, f.nq, "udp", ":53")
	var tcp, other talk
	f.Eventually("TCP 80 passes", func() bool { tcp = dial(t, f.np, "tcp", "10.0.0.2:80"); return tcp.says("one") })
	f.Eventually("TCP 81 passes", func() bool { other = dial(t, f.np, "tcp", "10.0.0.2:81"); return other.says("one") })
	udp := dial(t, f.np, "udp", "10.0.0.2:53")
	if !udp.says("one") {
		t.Fatal("UDP does not pass")
	}
	f.now(group(groupB, ingress(6, 81, 81)))
	if tcp.says("two") || udp.says("two") {
		t.Error("a connection lives on after its rule has gone")
	}
	if !other.says("two") {
		t.Error("a connection that is still allowed was ended")
	}
	// An egress rule goes at the other end.
	f.now(group(groupA))
	if other.says("three") {
		t.Error("a connection lives on after its egress rule has gone")
	}
}

func TestFirewallRestartChangesNothing(t *testing.T) {
	f := newFilteredNode(t)
	f.up(group(groupA, egressAll(false), egressAll(true)), group(groupB, ingress(1, 8, 0), ingress(6, 1, 1000),
		nodestate.Rule{Protocol: 17, PortMin: 5, PortMax: 5, Members: groupA}), &nodestate.Members{ID: groupA, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}})
	ping := startPing(t, f.np, "10.0.0.2")
	f.Eventually("traffic", func() bool { return reach(f.np, "10.0.0.2") })
	before, ages := f.flows("br-int"), f.ages("br-int")
	f.stop()
	f.src.complete(true)
	f.src.complete(false)
	f.start()
	f.src.done(t, f.p.Key(), 3)
	f.src.done(t, f.q.Key(), 3)
	if d := cmp.Diff(before, f.flows("br-int")); d != "" {
		t.Errorf("flows: %s", d)
	}
	for k, age := range f.ages("br-int") {
		if age < ages[k] {
			t.Errorf("made anew: %s", k)
		}
	}
	if got, lost := ping.stop(t); lost > 0 || got == 0 {
		t.Errorf("%d packets answered, %d lost", got, lost)
	}
	if !strings.Contains(before, "conjunction(") {
		t.Error("no conjunctions were at work")
	}
}

// Fragments of what a rule without ports allows pass from the first datagram on; of what no rule allows nothing passes.
func TestFragments(t *testing.T) {
	f := newFilteredNode(t)
	f.up(group(groupA, egressAll(false)), group(groupB, ingress(1, -1, -1), ingress(17, -1, -1)))
	echo(t, f.nq, "udp", ":53")
	long := strings.Repeat("0123456789", 400)
	if !dial(t, f.np, "udp", "10.0.0.2:53").says(long) {
		t.Error("an allowed fragmented datagram is lost")
	}
	f.now(group(groupB, ingress(1, -1, -1)))
	if dial(t, f.np, "udp", "10.0.0.2:53").says(long) {
		t.Error("a fragmented datagram passes that no rule allows")
	}
}

// A rule that the switch refuses admits nothing; its group and the ports that have it say so, the log too, and all is well again when the
// switch takes it.
func TestRefusedRuleIsNamed(t *testing.T) {
	f := newFilteredNode(t)
	f.stop()
	var text logText
	f.cfg.Log = slog.New(slog.NewTextHandler(&text, nil))
	f.src.complete(false)
	f.start()
	f.up(group(groupA, egressAll(false)), group(groupB, ingress(1, 8, 0)))
	if !reach(f.np, "10.0.0.2") {
		t.Fatal("an allowed ping is lost")
	}
	flows := strings.Count(f.must("ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "unix:"+f.RunDir+"/br-int.mgmt", "table=82"), "cookie=")
	f.Ctl("--", "--id=@full", "create", "Flow_Table", fmt.Sprint("flow_limit=", flows), "overflow_policy=refuse", "--", "set", "Bridge", "br-int", "flow_tables:82=@full")
	more := group(groupB, ingress(1, 8, 0), ingress(17, 53, 53), ingress(17, 54, 54))
	f.src.put(more)
	refused := func(s nodestate.Status) bool { return s.State == nodestate.Failed && s.Reason != "" }
	f.src.until(t, more.Key(), "fails", refused)
	if s := f.src.until(t, f.q.Key(), "fails", refused); !strings.Contains(s.Reason, groupB) {
		t.Errorf("the port does not name its group: %s", s.Reason)
	}
	echo(t, f.nq, "udp", ":53")
	echo(t, f.nq, "udp", ":55")
	if dial(t, f.np, "udp", "10.0.0.2:53").says("hello") {
		t.Error("a refused rule admits packets")
	}
	if !reach(f.np, "10.0.0.2") {
		t.Error("an allowed ping is lost beside a refused rule")
	}
	if !strings.Contains(text.String(), "refused flows") {
		t.Errorf("the log says nothing of it:\n%s", text.String())
	}
	f.Ctl("clear", "Bridge", "br-int", "flow_tables")
	f.now(group(groupB, ingress(1, 8, 0), ingress(17, 55, 55)))
	f.src.until(t, f.q.Key(), "recovers", func(s nodestate.Status) bool { return s.State == nodestate.Done && s.Reason == "" })
	if !dial(t, f.np, "udp", "10.0.0.2:55").says("hello") {
		t.Error("a rule does not work although the switch takes it again")
	}
}

// A filtered port that Open vSwitch has not opened yet has no flows, so it stays on no VLAN: NORMAL would flood to it past its filter.
func TestTagOfFilteredPortWaitsForItsFlows(t *testing.T) {
	f := newFilteredNode(t)
	open := func(i byte) *nodestate.Port {
		p := port(fmt.Sprintf("3333333%d-0000-4000-8000-000000000003", i), f.net, 10+i)
		p.PortSecurity = false
		return p
	}
	one, two := open(1), open(2)
	rev := f.src.put(group(groupA, egressAll(false)), group(groupB, ingress(1, 8, 0)), f.net, f.p, f.q, one, two)
	f.plug(f.p)
	f.src.done(t, f.p.Key(), rev)
	resume := f.PauseSwitch()
	defer resume()
	tag := func(p *nodestate.Port) string { return f.Ctl("--no-wait", "get", "Port", device(p), "tag") }
	f.plug(f.q)
	// Ports without a filter are tagged at once.  The second one's tag shows that the pass that saw f.q has ended.
	for _, p := range []*nodestate.Port{one, two} {
		f.plug(p)
		f.Eventually(device(p)+" is tagged", func() bool { return !strings.Contains(tag(p), "[]") })
	}
	if got := strings.TrimSpace(tag(f.q)); got != "[]" {
		t.Errorf("a filtered port without flows has the tag %s", got)
	}
	resume()
	f.src.done(t, f.q.Key(), rev)
	f.Eventually("the filtered port is tagged", func() bool { return tag(f.q) == tag(f.p) })
}

// logText collects log lines.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
