package agent_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/agent"
	"baryon/internal/agent/status"
	"baryon/internal/nodestate"
)

// outside makes a NIC in the node whose other end is in a namespace of its own, with an address.
func (n *node) outside(nic, address string) (ns string) {
	n.t.Helper()
	ns = n.NS + "-" + nic
	n.must("ip", "netns", "add", ns)
	n.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	n.Exec("ip", "link", "add", nic, "type", "veth", "peer", "name", "eth0", "netns", ns)
	n.must("ip", "-n", ns, "addr", "add", address, "dev", "eth0")
	n.must("ip", "-n", ns, "link", "set", "eth0", "up")
	// A veth leaves checksums to whoever is at the other end, and the userspace switch does not make them.
	n.must("ip", "netns", "exec", ns, "ethtool", "-K", "eth0", "tx", "off")
	return ns
}

func flat(id, physical string) *nodestate.Network {
	return &nodestate.Network{ID: id, Type: "flat", PhysicalNetwork: physical, MTU: 1500}
}

// config is a configuration that tests change.
type config struct {
	mu sync.Mutex
	p  agent.Physical
}

func (c *config) set(mappings, nics map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.p = agent.Physical{Mappings: mappings, NICs: nics}
}

func (c *config) reload(context.Context) (agent.Physical, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.p, nil
}

func failed(t *testing.T, n *node, k nodestate.Key, why string) {
	t.Helper()
	n.src.until(t, k, "failed: "+why, func(s nodestate.Status) bool {
		return s.State == nodestate.Failed && strings.Contains(s.Reason, why)
	})
}

func TestFlatNetworkReachesOutside(t *testing.T) {
	for _, firewall := range []string{agent.FirewallNone, agent.FirewallOVS} {
		t.Run(firewall, func(t *testing.T) {
			n := newNode(t, "n1", "192.168.20.11")
			n.cfg.Firewall = firewall
			ns := n.outside("eth2", "10.0.0.254/24")
			n.cfg.Physical = agent.Physical{Mappings: map[string]string{"public": "br-ex"}, NICs: map[string]string{"br-ex": "eth2"}}
			net, lost := flat(netA, "public"), flat(netB, "nowhere")
			p, q := port(port1, net, 1), port(port2, lost, 2)
			p.Groups = []string{"everything"}
			all := &nodestate.Group{ID: "everything", Rules: []nodestate.Rule{
				{ID: "in", Protocol: -1, PortMin: -1, PortMax: -1}, {ID: "out", Egress: true, Protocol: -1, PortMin: -1, PortMax: -1},
			}}
			n.src.complete(false)
			n.start()
			n.src.put(all, net, lost, p, q)
			guest := n.guest(p, 1500)
			n.guest(q, 1500)
			n.plug(p)
			n.plug(q)
			n.src.done(t, p.Key(), 2)
			failed(t, n, q.Key(), "no bridge mapping for physical network nowhere")
			if err := ping(guest, "10.0.0.254"); err != nil {
				t.Error(err)
			}
			if err := ping(ns, "10.0.0.1"); err != nil {
				t.Error(err)
			}
			show := n.Ctl("show")
			for _, want := range []string{"Bridge br-ex", "Port int-br-ex", "peer=phy-br-ex", "Port phy-br-ex", "peer=int-br-ex", "Port eth2"} {
				if !strings.Contains(show, want) {
					t.Errorf("ovs-vsctl show lacks %q: %s", want, show)
				}
			}
			n.Eventually("br-ex has its controller", func() bool { return strings.Count(n.Ctl("show"), "is_connected: true") == 3 })

			before := n.ages("br-ex")
			n.stop()
			n.src.complete(false)
			n.start()
			n.src.done(t, p.Key(), 3)
			after := n.ages("br-ex")
			for f, age := range before {
				if after[f] < age {
					t.Errorf("after a restart the flow is %gs old, was %gs: %s", after[f], age, f)
				}
			}
			if len(after) != len(before) || len(before) != 3 {
				t.Errorf("flows %v, then %v", before, after)
			}
			if n.src.info.BridgeMappings["public"] != "br-ex" {
				t.Errorf("the node reports %v", n.src.info.BridgeMappings)
			}
		})
	}
}

// No packet crosses before the drop flows are in: the patch ports lead nowhere until then, also when they are made anew.
func TestPatchPortsAreJoinedLast(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	n.outside("eth2", "10.0.0.254/24")
	n.bridgeWithNIC("br-ex", "eth2")
	n.cfg.Physical = agent.Physical{Mappings: map[string]string{"public": "br-ex"}}
	n.src.complete(false)
	n.start()
	joined := func() bool {
		return strings.Contains(n.Ctl("--columns=options", "find", "Interface", "name=phy-br-ex"), "int-br-ex") &&
			strings.Contains(n.Ctl("--columns=options", "find", "Interface", "name=int-br-ex"), "phy-br-ex")
	}
	n.Eventually("the bridges are joined", joined)
	heard := filepath.Join(t.TempDir(), "monitor")
	file, err := os.Create(heard)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	watch := n.Command("ovsdb-client", "monitor", "unix:"+n.RunDir+"/db.sock", "Interface", "name,options")
	watch.Stdout = file
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = watch.Process.Kill()
		_ = watch.Wait() // killed
	}()
	says := func(what string) func() bool {
		return func() bool {
			text, err := os.ReadFile(heard)
			return err == nil && strings.Contains(string(text), what)
		}
	}
	n.Eventually("the monitor runs", says("initial"))
	n.Ctl("del-port", "br-ex", "phy-br-ex", "--", "del-port", "br-int", "int-br-ex")
	n.Eventually("the patch ports are made without their peers", says("nonexistent-peer"))
	n.Eventually("the bridges are joined again", joined)
	if f := n.flows("br-ex"); !strings.Contains(f, "priority=2,in_port=") {
		t.Errorf("no drop flow: %s", f)
	}
}

func (n *node) bridgeWithNIC(bridge, nic string) {
	n.t.Helper()
	n.Ctl("add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev", "--", "add-port", bridge, nic)
	n.Exec("ip", "link", "set", nic, "up")
}

func TestMappingsChangeWhileRunning(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	a, b := n.outside("eth2", "10.0.0.254/24"), n.outside("eth3", "10.0.0.254/24")
	public, tunnelled := flat(netA, "public"), network(netB, "vxlan", 7)
	p, q := port(port1, public, 1), port(port2, tunnelled, 2)
	c := &config{}
	n.cfg.Reload = c.reload
	n.src.complete(false)
	n.start()
	n.src.put(public, tunnelled, p, q)
	guest := n.guest(p, 1500)
	n.guest(q, 1400)
	n.plug(p)
	n.plug(q)
	n.src.done(t, q.Key(), 2)
	failed(t, n, p.Key(), "no bridge mapping for physical network public")
	before := n.ages("br-tun")

	for _, bad := range []struct {
		mappings, nics map[string]string
		why            string
	}{
		{map[string]string{"public": "br-int"}, nil, "the agent's own"},
		{map[string]string{"public": "a-name-too-long-"}, nil, "longer than 15"},
		{map[string]string{"public": "br-ex", "rack": "br-ex"}, nil, "both mapped to bridge br-ex"},
		{map[string]string{"public": "br-ex"}, nil, "no NIC is given"},
		{map[string]string{"public": "eth2"}, nil, "a network device of this node has that name"},
		{map[string]string{"public": "br-ex"}, map[string]string{"br-ex": "eth9"}, "eth9 does not exist"},
		{map[string]string{"public": "br-ex"}, map[string]string{"br-ex": "lo"}, "is no NIC"},
		{map[string]string{"public": "br-ex"}, map[string]string{"br-two": "eth2"}, "no physical network is mapped"},
	} {
		c.set(bad.mappings, bad.nics)
		if err := n.reload(); err == nil || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%v %v: %v, want %q", bad.mappings, bad.nics, err, bad.why)
		}
	}

	c.set(map[string]string{"public": "br-ex"}, map[string]string{"br-ex": "eth2"})
	if err := n.reload(); err != nil {
		t.Fatal(err)
	}
	n.src.done(t, p.Key(), 2)
	if err := ping(guest, "10.0.0.254"); err != nil {
		t.Error(err)
	}
	vlan := tag(n, device(p))

	c.set(map[string]string{"public": "br-two"}, map[string]string{"br-two": "eth3"})
	if err := n.reload(); err != nil {
		t.Fatal(err)
	}
	n.Eventually("the bridge has moved", func() bool { return ping(b, "10.0.0.1") == nil })
	n.src.done(t, p.Key(), 2)
	if err := ping(a, "10.0.0.1"); err == nil {
		t.Error("the old NIC still reaches the guest")
	}
	if got := tag(n, device(p)); got != vlan {
		t.Errorf("the local VLAN is %s, was %s", got, vlan)
	}
	n.Eventually("the old bridge is given back", func() bool {
		return strings.TrimSpace(n.Ctl("get", "Bridge", "br-ex", "controller")) == "[]" && strings.TrimSpace(n.Ctl("get", "Bridge", "br-ex", "fail_mode")) == "[]" &&
			!strings.Contains(n.Ctl("list-ports", "br-int"), "int-br-ex") && !strings.Contains(n.Ctl("list-ports", "br-ex"), "phy-br-ex")
	})

	c.set(nil, nil)
	if err := n.reload(); err != nil {
		t.Fatal(err)
	}
	failed(t, n, p.Key(), "no bridge mapping for physical network public")
	n.Eventually("the guest is dead", func() bool { return tag(n, device(p)) == "4095" })
	after := n.ages("br-tun")
	for f, age := range before {
		if after[f] < age {
			t.Errorf("a flow of br-tun was written anew: %s", f)
		}
	}
	if d := cmp.Diff(len(before), len(after)); d != "" {
		t.Error(d)
	}
}

func (n *node) reload() error {
	c := status.NewClient(n.state)
	defer c.Close()
	return c.Reload(context.Background())
}

// What cannot be had says why, and comes when it can be had.
func TestUnusableBridges(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	n.cfg.Physical = agent.Physical{
		Mappings: map[string]string{"a": "br-a", "b": "br-b", "c": "br-c", "d": "lo"},
		NICs:     map[string]string{"br-b": "eth2", "br-c": "eth3"},
	}
	n.Exec("ip", "link", "add", "eth3", "type", "veth", "peer", "name", "eth4")
	n.Exec("ip", "addr", "add", "10.9.9.9/24", "dev", "eth3")
	n.Exec("ip", "link", "set", "eth3", "up")
	n.src.complete(false)
	n.start()
	for i, tc := range []struct{ physical, why string }{
		{"a", "bridge br-a does not exist"}, {"b", "NIC eth2 does not exist"}, {"c", "NIC eth3 has addresses (10.9.9.9/24)"},
		{"d", "lo is a network device of this node"},
	} {
		net := flat(fmt.Sprintf("aaaaaaaa-0000-4000-8000-00000000001%d", i), tc.physical)
		n.src.put(net)
		failed(t, n, net.Key(), tc.why)
	}
	if got := n.Exec("ip", "addr", "show", "eth3"); !strings.Contains(got, "10.9.9.9/24") {
		t.Errorf("eth3 was touched: %s", got)
	}
	n.Ctl("add-br", "br-a", "--", "set", "Bridge", "br-a", "datapath_type=netdev")
	n.outside("eth2", "10.0.0.254/24")
	for i := range 2 {
		n.src.until(t, nodestate.NetworkKey(fmt.Sprintf("aaaaaaaa-0000-4000-8000-00000000001%d", i)), "served", func(s nodestate.Status) bool {
			return s.State == nodestate.Done
		})
	}
}
