package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"baryon/internal/lab"
)

// mappings are removed, added, moved to another bridge and refused while the agent runs; networks that are not concerned lose no packet.
func (p *provider) mappings() {
	given := p.NodeMappings("cmp2")
	change := func(m lab.Mappings) {
		p.t.Helper()
		p.must(p.SetMappings(p.ctx(), "cmp2", m))
	}
	near, rack := p.steadily("x2", p.ip["x3"], 700), p.steadily("k2", "10.50.0.1", 1600)
	began := time.Now()
	p.reaches("f2", "203.0.113.1")
	for what, bad := range map[string]lab.Mappings{
		"longer than 15":                {Bridges: map[string]string{"public": "br-a-name-too-long"}},
		"is the agent's own":            {Bridges: map[string]string{"public": "br-int"}},
		"are both mapped":               {Bridges: map[string]string{"public": "br-ex", "rack": "br-ex"}},
		"a network device of this node": {Bridges: map[string]string{"public": "eth0"}},
		"eth77 does not exist":          {Bridges: map[string]string{"public": "br-77"}, NICs: map[string]string{"br-77": "eth77"}},
		"NIC eth0 has addresses":        {Bridges: map[string]string{"public": "br-77"}, NICs: map[string]string{"br-77": "eth0"}},
	} {
		if err := p.SetMappings(p.ctx(), "cmp2", bad); err == nil || !strings.Contains(err.Error(), what) {
			p.t.Errorf("%v: %v, want %q", bad, err, what)
		}
	}
	p.reaches("f2", "203.0.113.1")

	change(lab.Mappings{Bridges: map[string]string{"rack": "br-rack"}, NICs: map[string]string{"br-rack": given.NICs["br-rack"]}})
	p.eventually("the guest without a mapping is cut off", func() error {
		if _, err := p.GuestRun(p.ctx(), "f2", "ping", "-n", "-c", "1", "-W", "1", "203.0.113.1"); err == nil {
			return fmt.Errorf("f2 still reaches the outside")
		}
		return nil
	})
	p.eventually("the port says why", func() error { return p.portSays("cmp2", "no bridge mapping for physical network public") })
	change(given)
	p.reaches("f2", "203.0.113.1")
	p.reaches("b2", "10.120.0.1")

	moved := lab.Mappings{Bridges: map[string]string{"public": "br-new", "rack": "br-rack"}, NICs: map[string]string{
		"br-new": given.NICs["br-ex"], "br-rack": given.NICs["br-rack"],
	}}
	change(moved)
	p.reaches("f2", "203.0.113.1")
	p.reaches("b2", "10.120.0.1")
	show := p.on("cmp2", "ovs-vsctl", "show")
	if !strings.Contains(show, "int-br-new") || strings.Contains(show, "int-br-ex") {
		p.t.Errorf("after the move: %s", show)
	}
	p.t.Logf("the changes took %s", time.Since(began))
	near.lossless("mappings of a physical network changed")
	rack.lossless("mappings of another physical network changed")
	change(given)
	p.reaches("f2", "203.0.113.1")
	p.on("cmp2", "ovs-vsctl", "del-br", "br-new")
}

func (p *provider) portSays(node, what string) error {
	text, err := p.Run(p.ctx(), node, os.Getenv("BARYON_BIN"), "agent", "status")
	if err == nil && !strings.Contains(text, what) {
		err = fmt.Errorf("the agent says: %s", text)
	}
	return err
}

// on runs a command on a node.
func (p *provider) on(node string, argv ...string) string {
	p.t.Helper()
	text, err := p.Run(p.ctx(), node, argv...)
	p.must(err)
	return text
}

// shows waits until a command on a node prints something, or prints it no more.
func (p *provider) shows(there bool, node, what string, argv ...string) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%s shows %q: %t", strings.Join(argv, " "), what, there), func() error {
		if text := p.on(node, argv...); strings.Contains(text, what) != there {
			return fmt.Errorf("it prints %s", text)
		}
		return nil
	})
}

// troubleshooting: each step of the published list, with the fault made and shown by the command that the step names.
func (p *provider) troubleshooting() {
	const node, guest, gateway = "cmp2", "f2", "203.0.113.1"
	given := p.NodeMappings(node)
	translation := "strip_vlan,NORMAL"
	healthy := func() {
		p.t.Helper()
		p.reaches(guest, gateway)
		p.shows(true, node, translation, "ovs-ofctl", "dump-flows", "br-ex")
	}
	healthy()

	// 1. bridge_mappings: the physical network's name is another one than the network's.
	typo := lab.Mappings{Bridges: map[string]string{"publik": "br-ex", "rack": "br-rack"}, NICs: given.NICs}
	p.must(p.SetMappings(p.ctx(), node, typo))
	p.shows(true, node, "publik: br-ex", "cat", "/var/lib/baryon/agent.yaml")
	if n := p.shown("flat"); n.physical != "public" {
		p.t.Errorf("the network shows physical network %q", n.physical)
	}
	p.shows(false, node, translation, "ovs-ofctl", "dump-flows", "br-ex")
	p.reachesNot(guest, gateway)
	p.must(p.SetMappings(p.ctx(), node, given))
	healthy()

	// 2. The network: of another type, and not external.
	p.network(lab.Network{Name: "mistaken", Type: "local", Subnets: []lab.Subnet{{CIDR: "10.99.0.0/24", NoDHCP: true}}})
	if n := p.shown("mistaken"); n.kind != "local" || n.external {
		p.t.Errorf("the mistaken network shows %+v", n)
	}
	if n := p.shown("flat"); n.kind != "flat" || !n.external {
		p.t.Errorf("the right network shows %+v", n)
	}

	// 3. The patch peers: without the agent nobody brings one back.
	p.must(p.StopAgent(p.ctx(), node, syscall.SIGTERM))
	p.on(node, "ovs-vsctl", "del-port", "br-int", "int-br-ex")
	p.shows(false, node, "Port int-br-ex", "ovs-vsctl", "show")
	p.reachesNot(guest, gateway)
	p.must(p.StartAgent(p.ctx(), node))
	p.shows(true, node, "peer=phy-br-ex", "ovs-vsctl", "show")
	healthy()

	// 4. The flows.
	p.must(p.StopAgent(p.ctx(), node, syscall.SIGTERM))
	p.on(node, "ovs-ofctl", "del-flows", "br-ex")
	p.shows(false, node, translation, "ovs-ofctl", "dump-flows", "br-ex")
	p.reachesNot(guest, gateway)
	p.must(p.StartAgent(p.ctx(), node))
	healthy()
	// They are there only while the node has a port of the network.
	if flows := p.on("ctl", "ovs-ofctl", "dump-flows", "br-ex"); strings.Contains(flows, "mod_vlan_vid:199") {
		p.t.Errorf("a network that nobody uses has flows: %s", flows)
	}

	// The NIC: not in the bridge, then down.
	nic := given.NICs["br-ex"]
	p.must(p.StopAgent(p.ctx(), node, syscall.SIGTERM))
	p.on(node, "ovs-vsctl", "del-port", "br-ex", nic)
	p.shows(false, node, "Port "+nic, "ovs-vsctl", "show")
	p.reachesNot(guest, gateway)
	p.must(p.StartAgent(p.ctx(), node))
	p.shows(true, node, "Port "+nic, "ovs-vsctl", "show")
	healthy()
	p.on(node, "ip", "link", "set", nic, "down")
	p.shows(false, node, "UP", "ip", "-br", "link", "show", nic, "up")
	p.reachesNot(guest, gateway)
	p.on(node, "ip", "link", "set", nic, "up")
	p.shows(true, node, "UP", "ip", "-br", "link", "show", nic, "up")
	healthy()
}

// shownNetwork is what the API shows of how a network is attached.
type shownNetwork struct {
	kind, physical string
	external       bool
}

func (p *provider) shown(name string) shownNetwork {
	p.t.Helper()
	var answer struct {
		Network struct {
			Kind     string `json:"provider:network_type"`
			Physical string `json:"provider:physical_network"`
			External bool   `json:"router:external"`
		} `json:"network"`
	}
	_, err := p.api.Get(p.ctx(), p.api.ServiceURL("networks", p.networkID(name)), &answer, nil)
	p.must(err)
	return shownNetwork{answer.Network.Kind, answer.Network.Physical, answer.Network.External}
}
