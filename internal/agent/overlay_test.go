package agent_test

import (
	"strings"
	"testing"

	"baryon/internal/nodestate"
)

// pair is two joined nodes with two networks of the same addresses, one VXLAN and one GRE, and a port of each on both nodes.
type pair struct {
	a, b         *node
	blue, red    *nodestate.Network
	bluePorts    [2]*nodestate.Port
	redPorts     [2]*nodestate.Port
	blueNS, reds [2]string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{
		a: newNode(t, "na", "192.168.20.11"), b: newNode(t, "nb", "192.168.20.12"),
		blue: network(netA, "vxlan", 77), red: network(netB, "gre", 77),
	}
	underlay(t, p.a, p.b)
	p.bluePorts = [2]*nodestate.Port{port(port1, p.blue, 1), port(port2, p.blue, 2)}
	p.redPorts = [2]*nodestate.Port{port(port3, p.red, 1), port(port4, p.red, 2)}
	for i, n := range []*node{p.a, p.b} {
		n.src.complete(false)
		n.start()
		far := []*node{p.b, p.a}[i]
		n.src.put(p.blue, p.red, p.bluePorts[i], p.redPorts[i],
			peersOf(far, p.blue, p.bluePorts[1-i]), peersOf(far, p.red, p.redPorts[1-i]))
		p.blueNS[i] = n.guest(p.bluePorts[i], 1400)
		p.reds[i] = n.guest(p.redPorts[i], 1400)
		n.plug(p.bluePorts[i])
		n.plug(p.redPorts[i])
	}
	p.inSync(t, 2)
	return p
}

func (p *pair) inSync(t *testing.T, rev int64) {
	t.Helper()
	for i, n := range []*node{p.a, p.b} {
		n.src.done(t, p.bluePorts[i].Key(), rev)
		n.src.done(t, p.redPorts[i].Key(), rev)
		far := []*node{p.b, p.a}[i]
		n.src.done(t, nodestate.PeersKey(p.blue.ID, far.name), rev)
		n.src.done(t, nodestate.PeersKey(p.red.ID, far.name), rev)
	}
}

func (p *pair) reachable(t *testing.T) {
	t.Helper()
	for _, ns := range []string{p.blueNS[0], p.reds[0]} {
		if err := ping(ns, "10.0.0.2"); err != nil {
			t.Error(err)
		}
	}
}

func TestTwinNetworksAcrossNodes(t *testing.T) {
	p := newPair(t)
	p.reachable(t)
	// Same addresses, same MACs, same segment id: the twin's port on the other node may be unplugged without the other noticing, and
	// then nobody answers for it.
	p.b.Ctl("del-port", "br-int", device(p.redPorts[1]))
	p.b.src.until(t, p.redPorts[1].Key(), "absent", func(s nodestate.Status) bool { return s.State == nodestate.Absent })
	if err := ping(p.reds[0], "10.0.0.2"); err == nil {
		t.Error("red reaches blue's port")
	}
	if err := ping(p.blueNS[0], "10.0.0.2"); err != nil {
		t.Error(err)
	}
}

func TestSpoofedAddressesAreDropped(t *testing.T) {
	p := newPair(t)
	ns := p.blueNS[0]
	p.a.must("ip", "-n", ns, "addr", "add", "10.0.0.99/24", "dev", "eth0")
	// The far guest must not come to know 10.0.0.99.
	if err := ping(p.blueNS[1], "10.0.0.99"); err == nil {
		t.Error("an address that the port does not own answers ARP")
	}
	p.a.must("ip", "-n", ns, "addr", "del", "10.0.0.99/24", "dev", "eth0")
	p.reachable(t)
	p.a.must("ip", "-n", ns, "link", "set", "eth0", "address", "fa:16:3e:00:00:77")
	if err := ping(ns, "10.0.0.2"); err == nil {
		t.Error("a MAC that the port does not own gets through")
	}
	p.a.must("ip", "-n", ns, "link", "set", "eth0", "address", p.bluePorts[0].MAC.String())
	p.reachable(t)
}

func TestAgentRestartUnderTrafficLosesNothing(t *testing.T) {
	p := newPair(t)
	p.reachable(t)
	pings := []*pinger{startPing(t, p.blueNS[0], "10.0.0.2"), startPing(t, p.reds[0], "10.0.0.2")}
	for _, n := range []*node{p.a, p.b, p.a} {
		n.stop()
		n.src.complete(false)
		n.start()
		for k := range n.src.records {
			n.src.done(t, k, n.src.rev)
		}
	}
	p.reachable(t)
	for _, x := range pings {
		if got, lost := x.stop(t); lost > 0 || got < 20 {
			t.Errorf("%d packets lost, %d answered", lost, got)
		}
	}
}

func TestSwitchCrashRecovers(t *testing.T) {
	p := newPair(t)
	p.reachable(t)
	before := [2]string{p.a.flows("br-int"), p.a.flows("br-tun")}
	p.a.KillSwitch()
	p.a.StartSwitch()
	p.a.Eventually("flows are back", func() bool { return before == [2]string{p.a.flows("br-int"), p.a.flows("br-tun")} })
	p.a.Exec("ip", "addr", "replace", p.a.ip.String()+"/24", "dev", "br-phy") // the userspace datapath makes its devices anew
	p.a.Exec("ip", "link", "set", "br-phy", "up")
	p.a.Eventually("traffic flows again", func() bool { return ping(p.blueNS[0], "10.0.0.2") == nil })
	p.reachable(t)
}

func TestFlowsRemovedByOthersComeBack(t *testing.T) {
	p := newPair(t)
	want := p.a.flows("br-int")
	p.a.OFCtl("-O", "OpenFlow14", "del-flows", p.a.RunDir+"/br-int.mgmt")
	p.a.Eventually("br-int's flows are back", func() bool { return p.a.flows("br-int") == want })
	foreign := "table=50,priority=7,ip,actions=drop"
	p.a.OFCtl("-O", "OpenFlow14", "add-flow", p.a.RunDir+"/br-int.mgmt", foreign)
	p.a.OFCtl("-O", "OpenFlow14", "--strict", "del-flows", p.a.RunDir+"/br-int.mgmt", "table=60,priority=3")
	p.a.Eventually("the one flow is back", func() bool { return strings.Contains(p.a.flows("br-int"), "priority=3 actions=NORMAL") })
	if !strings.Contains(p.a.flows("br-int"), "table=50") {
		t.Error("a flow of others was removed")
	}
	p.reachable(t)
}
