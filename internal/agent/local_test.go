package agent_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"baryon/internal/agent"
	baryonns "baryon/internal/dataplane/netns"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/nodestate"
)

// While the agent and the server are away, a device goes and another one gets its OpenFlow number, and a third is given to another
// port.  A restarted agent that hears no server must not let them speak as those who had the numbers before.
func TestReusedPortNumbersInheritNothing(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	stays, goes, turns, lost := port(port1, net, 1), port(port2, net, 2), port(port3, net, 3), port(port4, net, 4)
	all := []*nodestate.Port{stays, goes, turns, lost}
	n.src.put(net, stays, goes, turns, lost)
	<-n.src.updates
	n.src.complete(false)
	n.start()
	n.plugAll(all)
	for _, p := range all {
		n.src.done(t, p.Key(), 1)
	}
	number := func(dev string) string { return strings.TrimSpace(n.Ctl("get", "Interface", dev, "ofport")) }
	bound := func(ofport string) int {
		return strings.Count(n.flows("br-int"), "in_port="+ofport+" ") + strings.Count(n.flows("br-int"), "in_port="+ofport+",")
	}
	kept := bound(number(device(stays)))
	reused, turned, gone := number(device(goes)), number(device(turns)), number(device(lost))
	if kept == 0 || bound(reused) == 0 || bound(turned) == 0 || bound(gone) == 0 {
		t.Fatalf("flows: %s", n.flows("br-int"))
	}
	n.stop()
	n.Ctl("del-port", "br-int", device(goes), "--", "del-port", "br-int", device(lost))
	n.Ctl("add-port", "br-int", "intruder", "--", "set", "Interface", "intruder", "type=internal", "ofport_request="+reused,
		"external_ids:iface-id=99999999-0000-4000-8000-000000000009")
	n.Ctl("set", "Interface", device(turns), "external_ids:iface-id=88888888-0000-4000-8000-000000000008")
	if got := number("intruder"); got != reused {
		t.Fatalf("Open vSwitch gave number %s, not %s", got, reused)
	}

	// All the agent hears is an empty cache: of no port it knows anything.
	n.src.mu.Lock()
	clear(n.src.records)
	n.src.mu.Unlock()
	n.src.complete(true)
	n.start()
	n.Eventually("no flow is left for the numbers of other devices", func() bool {
		f := n.flows("br-int")
		return f != "" && !strings.Contains(f, "10.0.0.2 ") && !strings.Contains(f, "10.0.0.3 ") && bound(gone) == 0
	})
	n.Eventually("the devices of other ports are dead", func() bool {
		return tag(n, "intruder") == "4095" && tag(n, device(turns)) == "4095"
	})
	if got := bound(number(device(stays))); got != kept {
		t.Errorf("the device that stayed has %d flows, had %d", got, kept)
	}
	if got := tag(n, device(stays)); got == "4095" || got == "[]" {
		t.Errorf("the device that stayed has tag %s", got)
	}

	// The same in a running agent: a device that turns to another port is dead at once.
	n.Ctl("set", "Interface", device(stays), "external_ids:iface-id=77777777-0000-4000-8000-000000000007")
	n.Eventually("the third is dead, too", func() bool {
		return tag(n, device(stays)) == "4095" && !strings.Contains(n.flows("br-int"), "10.0.0.1 ")
	})
}

func tag(n *node, dev string) string { return strings.TrimSpace(n.Ctl("get", "Port", dev, "tag")) }

// mover is a manager that wants one internal port per DHCP record and moves its device into a namespace.
type mover struct {
	mu    sync.Mutex
	root  *rtnl.Namespace
	space string
	want  bool
	moved int
}

func (m *mover) Name() string            { return "mover" }
func (m *mover) Kinds() []nodestate.Kind { return []nodestate.Kind{nodestate.KindDHCP} }
func (m *mover) Close() error            { return nil }

func (m *mover) Update(u nodestate.Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want = m.want || len(u.Upserts) > 0
}

func (m *mover) Ports() []agent.InternalPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.want {
		return nil
	}
	return []agent.InternalPort{{
		ID: port3, Name: "tap" + port3[:11], MAC: nodestate.MAC{0xfa, 0x16, 0x3e, 0, 0, 3}, MTU: 1400, Namespace: m.space,
	}}
}

func (m *mover) Apply(context.Context, agent.Input) agent.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out agent.Outcome
	if !m.want {
		return out
	}
	if err := baryonns.Ensure(m.space); err != nil {
		return agent.Outcome{Retry: 1}
	}
	ns, err := rtnl.Open(m.space)
	if err != nil {
		return agent.Outcome{Retry: 1}
	}
	defer ns.Close()
	if moved, err := ns.Adopt(m.root, "tap"+port3[:11]); err == nil && moved {
		m.moved++
	}
	if index, err := ns.Index("tap" + port3[:11]); err == nil && index > 0 {
		out.Placed = []string{port3}
	}
	return out
}

func (m *mover) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

// When the namespace of a service is deleted by hand, its device goes with it, and Open vSwitch says nothing.
func TestLostDeviceOfServicePortComesBack(t *testing.T) {
	var space string
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", space).Run() }) // the last thing: an agent that runs would make it anew
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	dhcp := port(port3, net, 3)
	dhcp.DeviceOwner, dhcp.PortSecurity = "network:dhcp", false
	space = n.NS + "-dhcp"
	m := &mover{space: space, root: n.namespace()}
	n.cfg.Managers = []agent.Manager{m}
	n.src.complete(false)
	n.start()
	n.src.put(net, dhcp, &nodestate.DHCP{NetworkID: netA})
	n.src.done(t, dhcp.Key(), 2)
	tap := "tap" + port3[:11]
	row := n.Ctl("get", "Interface", tap, "_uuid")

	n.must("ip", "netns", "del", space)
	n.Eventually("the device is back in a new namespace", func() bool { return m.count() == 2 })
	n.src.done(t, dhcp.Key(), 2)
	n.Eventually("the port is switched again", func() bool { return n.Ctl("get", "Interface", tap, "_uuid") != row && tag(n, tap) != "4095" })
	row = n.Ctl("get", "Interface", tap, "_uuid")

	// A restart that finds everything in place makes nothing anew.
	n.stop()
	n.src.complete(false)
	n.start()
	n.src.done(t, dhcp.Key(), 3)
	if got := n.Ctl("get", "Interface", tap, "_uuid"); got != row || m.count() != 2 {
		t.Errorf("the row was made anew: %s, was %s; moved %d times", got, row, m.count())
	}
}

// namespace opens the node's namespace by its name.
func (n *node) namespace() *rtnl.Namespace {
	n.t.Helper()
	ns, err := rtnl.Open(n.NS)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(ns.Close)
	return ns
}

// A plugged device is the end of a cable: the host must not be reachable through it.
func TestPluggedDevicesHaveNoAddresses(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	n.src.complete(false)
	n.start()
	n.src.put(net, p)
	n.guest(p, 1400)
	addresses := func(dev string) []netlink.Addr {
		h, err := netns.GetFromName(n.NS)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		nl, err := netlink.NewHandleAt(h)
		if err != nil {
			t.Fatal(err)
		}
		defer nl.Close()
		l, err := nl.LinkByName(dev)
		if err != nil {
			t.Fatal(err)
		}
		list, err := nl.AddrList(l, netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("the kernel has no IPv6")
	}
	n.Eventually("the device has an address of its own", func() bool { return len(addresses(device(p))) > 0 })
	n.plug(p)
	n.src.done(t, p.Key(), 2)
	if got := addresses(device(p)); len(got) != 0 {
		t.Errorf("a plugged device has addresses: %v", got)
	}
}
