package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/agent"
	"baryon/internal/agent/status"
	"baryon/internal/nodestate"
)

// What comes first does not matter: network, port, device, agent, Open vSwitch's own start, the server's word.
func TestAnyOrder(t *testing.T) {
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	peers := &nodestate.Peers{NetworkID: netA, Host: "far", Endpoint: newAddr("192.168.20.99"),
		Peers: []nodestate.Peer{{MAC: nodestate.MAC{0xfa, 0x16, 0x3e, 0, 0, 9}}}}
	for _, order := range []string{
		"agent bridge network port peers device", "bridge device agent port network peers", "bridge network port peers device agent",
		"bridge device peers port network agent", "agent port peers bridge device network", "network agent bridge device peers port",
	} {
		t.Run(order, func(t *testing.T) {
			n := newNode(t, "n1", "192.168.20.11")
			n.src.complete(false)
			for _, step := range strings.Fields(order) {
				switch step {
				case "agent":
					n.start()
				case "network":
					n.src.put(net)
				case "port":
					n.src.put(p)
				case "peers":
					n.src.put(peers)
				case "bridge": // somebody else makes br-int, with a guess at its settings
					n.Ctl("--may-exist", "add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
				case "device":
					n.Ctl("add-port", "br-int", device(p), "--", "set", "Interface", device(p), "type=internal", "external_ids:iface-id="+p.ID)
				}
			}
			for _, k := range []nodestate.Key{p.Key(), net.Key(), peers.Key()} {
				n.src.done(t, k, 2)
			}
			got := n.flows("br-int") + n.flows("br-tun")
			for _, want := range []string{"arp_spa=10.0.0.1 ", "dl_dst=fa:16:3e:00:00:09", "tun_id=0x7 "} {
				if !strings.Contains(got, want) {
					t.Errorf("no flow with %q: %s", want, got)
				}
			}
			if strings.Contains(n.flows("br-int"), "cookie=0x0, priority=0 actions=NORMAL") {
				t.Error("the flow of a bridge without controller is still there")
			}
		})
	}
}

// After a restart nothing goes before a server has spoken, and then what nobody wants goes, and only if it is ours.
func TestNothingIsRemovedBeforeConfirmation(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p, gone := port(port1, net, 1), port(port2, net, 2)
	n.src.put(net, p, gone, &nodestate.Peers{NetworkID: netA, Host: "far", Endpoint: newAddr("192.168.20.99")})
	<-n.src.updates
	n.src.complete(false)
	n.start()
	n.plugAll([]*nodestate.Port{p, gone})
	n.bridgeUp()
	n.Ctl("add-port", "br-tun", "theirs", "--", "set", "Interface", "theirs", "type=internal")
	n.src.done(t, p.Key(), 2)
	n.src.done(t, gone.Key(), 2)
	n.src.done(t, nodestate.PeersKey(netA, "far"), 2)
	before := n.flows("br-int") + n.flows("br-tun")
	n.stop()

	// The state has changed while the agent was away, and all it gets is a cache without what it had.
	n.src.mu.Lock()
	delete(n.src.records, gone.Key())
	delete(n.src.records, nodestate.PeersKey(netA, "far"))
	n.src.mu.Unlock()
	n.src.complete(true)
	n.start()
	n.src.done(t, p.Key(), 3)
	if d := cmp.Diff(before, n.flows("br-int")+n.flows("br-tun")); d != "" {
		t.Errorf("an unconfirmed state changed flows: %s", d)
	}
	n.src.complete(false)
	n.src.done(t, p.Key(), 4)
	n.Eventually("the stale port is dead and the tunnel gone", func() bool {
		return strings.TrimSpace(n.Ctl("get", "Port", device(gone), "tag")) == "4095" && !strings.Contains(n.Ctl("list-ports", "br-tun"), "vxlan-")
	})
	if f := n.flows("br-int"); strings.Contains(f, "10.0.0.2 ") || !strings.Contains(f, "10.0.0.1 ") {
		t.Errorf("flows after confirmation: %s", f)
	}
	if !strings.Contains(n.Ctl("list-ports", "br-tun"), "theirs") {
		t.Error("a port of others was removed")
	}
}

func TestNetworkAndPortDeletedWhilePlugged(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	n.src.complete(false)
	n.start()
	n.src.put(net, p, &nodestate.Peers{NetworkID: netA, Host: "far", Endpoint: newAddr("192.168.20.99")})
	n.plugAll([]*nodestate.Port{p})
	n.src.done(t, p.Key(), 2)
	n.src.delete(p.Key(), net.Key(), nodestate.PeersKey(netA, "far"))
	n.Eventually("the device is dead and nothing of the network is left", func() bool {
		f := n.flows("br-int") + n.flows("br-tun")
		return strings.TrimSpace(n.Ctl("get", "Port", device(p), "tag")) == "4095" && !strings.Contains(f, "tun_id=0x7") &&
			!strings.Contains(f, "10.0.0.1") && !strings.Contains(n.Ctl("list-ports", "br-tun"), "vxlan-")
	})
	rev := n.src.put(net, p)
	n.src.done(t, p.Key(), rev)
}

func TestStrangeDevices(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	n.src.complete(false)
	n.start()
	n.src.put(net, p)
	if err := os.MkdirAll(filepath.Join(n.state, "plugs"), 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(n.state, "secret.json")
	if err := os.WriteFile(secret, []byte(`{"Name":"secret"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	n.bridgeUp()
	for i, id := range []string{"../secret", "no-such-port", `\"\";drop\ table`, strings.Repeat("x", 5000)} {
		dev := fmt.Sprintf("odd%d", i)
		n.Ctl("add-port", "br-int", dev, "--", "set", "Interface", dev, "type=internal", "external_ids:iface-id="+id,
			"external_ids:baryon-plug=1")
		n.Eventually(dev+" is dead", func() bool { return strings.TrimSpace(n.Ctl("get", "Port", dev, "tag")) == "4095" })
	}
	// A device that is not there at all: Open vSwitch says why, and so do we.
	n.Ctl("--no-wait", "add-port", "br-int", "missing", "--", "set", "Interface", "missing", "external_ids:iface-id="+p.ID)
	st := n.src.until(t, p.Key(), "failed", func(s nodestate.Status) bool { return s.State == nodestate.Failed })
	if !strings.Contains(st.Reason, "missing") {
		t.Errorf("reason: %q", st.Reason)
	}
	n.Ctl("--no-wait", "del-port", "br-int", "missing")
	n.plugAll([]*nodestate.Port{p})
	n.src.done(t, p.Key(), 2)
	if len(n.src.instances) != 0 {
		t.Errorf("instance data of strange ports: %v", n.src.instances)
	}
}

func TestInstanceData(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	plugs := filepath.Join(n.state, "plugs")
	if err := os.MkdirAll(plugs, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		b, _ := json.Marshal(nodestate.Instance{ID: "i-1", Name: name, UserData: []byte("#!")})
		if err := os.WriteFile(filepath.Join(plugs, p.ID+".json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name := func() string {
		n.src.mu.Lock()
		defer n.src.mu.Unlock()
		if in := n.src.instances[p.ID]; in != nil {
			return in.Name
		}
		return ""
	}
	write("first")
	n.src.complete(false)
	n.start()
	n.plugAll([]*nodestate.Port{p})
	n.Ctl("set", "Interface", device(p), "external_ids:baryon-plug=one")
	n.Eventually("first", func() bool { return name() == "first" })
	write("second")
	n.Ctl("set", "Interface", device(p), "external_ids:baryon-plug=two")
	n.Eventually("second", func() bool { return name() == "second" })
	n.Ctl("del-port", "br-int", device(p))
	n.Eventually("taken back", func() bool { return name() == "" })
}

func TestDatabaseVanishes(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p, q := port(port1, net, 1), port(port2, net, 2)
	n.src.complete(false)
	n.start()
	n.src.put(net, p, q)
	n.plugAll([]*nodestate.Port{p})
	n.src.done(t, p.Key(), 2)
	before := n.flows("br-int")
	n.KillDB()
	c := status.NewClient(n.state)
	defer c.Close()
	n.Eventually("the agent says so", func() bool {
		r, err := c.Status(t.Context())
		return err == nil && !r.Healthy && strings.Contains(strings.Join(r.Reasons, " "), "ovsdb-server")
	})
	n.StartDB() // without a database ovs-vswitchd switches on, but answers no OpenFlow
	n.Eventually("healthy again", func() bool { r, err := c.Status(t.Context()); return err == nil && r.Healthy })
	if d := cmp.Diff(before, n.flows("br-int")); d != "" {
		t.Errorf("flows after the database was away: %s", d)
	}
	n.plugAll([]*nodestate.Port{q})
	n.src.done(t, q.Key(), 2)
}

func TestStatusSocket(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	n.src.complete(false)
	n.start()
	c := status.NewClient(n.state)
	defer c.Close()
	n.Eventually("the socket answers", func() bool { _, err := c.Status(t.Context()); return err == nil })
	waited := make(chan status.Record, 1)
	go func() {
		r, err := c.WaitPort(t.Context(), p.ID)
		if err != nil {
			t.Error(err)
		}
		waited <- r
	}()
	n.src.put(net, p)
	n.plugAll([]*nodestate.Port{p})
	r := <-waited
	if !r.InSync() || r.Device != device(p) || r.OFPort <= 0 || r.LocalTag == 0 {
		t.Errorf("record: %+v", r)
	}
	rep, err := c.Status(t.Context())
	if err != nil || !rep.Healthy || !rep.Confirmed || len(rep.Records) != 2 || rep.LocalVLANs[netA] != r.LocalTag || rep.Flows["br-int"] == 0 {
		t.Errorf("report: %+v, %v", rep, err)
	}
	var cookie uint64
	for _, l := range strings.Split(n.flows("br-int"), "\n") {
		if strings.Contains(l, "arp_spa=10.0.0.1 ") {
			fmt.Sscanf(strings.TrimSpace(l), "cookie=0x%x,", &cookie)
		}
	}
	w, err := c.Cookie(t.Context(), cookie)
	if err != nil || w.Owner != "port/"+p.ID || !strings.Contains(w.Why, "IPv4") {
		t.Errorf("cookie %#x: %+v, %v", cookie, w, err)
	}
	if _, err := c.Port(t.Context(), "nobody"); err == nil {
		t.Error("an unknown port has a status")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.WaitPort(ctx, "nobody"); err == nil {
		t.Error("waiting for an unknown port ends well")
	}
}

// service is a manager that wants one internal port per DHCP record and says it is placed when told.
type service struct {
	mu     sync.Mutex
	want   map[string]agent.InternalPort
	placed bool
	ready  bool
	hold   chan struct{} // Update waits for it to close
}

func (s *service) Name() string            { return "fake" }
func (s *service) Kinds() []nodestate.Kind { return []nodestate.Kind{nodestate.KindDHCP} }
func (s *service) Close() error            { return nil }

func (s *service) Update(u nodestate.Update) {
	<-s.hold
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Complete && !u.Cached {
		s.want = map[string]agent.InternalPort{}
	}
	for _, r := range u.Upserts {
		d := r.(*nodestate.DHCP)
		s.want[d.NetworkID] = agent.InternalPort{ID: port3, Name: "tap" + port3[:11], MAC: nodestate.MAC{0xfa, 0x16, 0x3e, 0, 0, 3}, MTU: 1400}
	}
	for _, k := range u.Deletes {
		delete(s.want, k.ID)
	}
}

func (s *service) Ports() []agent.InternalPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []agent.InternalPort
	for _, p := range s.want {
		out = append(out, p)
	}
	return out
}

func (s *service) Apply(_ context.Context, in agent.Input) agent.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out agent.Outcome
	s.ready = in.Ready[port3]
	for net := range s.want {
		st := nodestate.Status{Key: nodestate.DHCPKey(net), State: nodestate.Pending, Reason: "not placed"}
		if s.ready && s.placed {
			st.State, st.Reason = nodestate.Done, ""
			out.Placed = append(out.Placed, port3)
		} else {
			out.Retry = 10 * time.Millisecond
		}
		out.Statuses = append(out.Statuses, st)
	}
	return out
}

func TestServicePort(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	dhcp := port(port3, net, 3)
	dhcp.DeviceOwner, dhcp.PortSecurity = "network:dhcp", false
	rec := &nodestate.DHCP{NetworkID: netA}
	open := make(chan struct{})
	close(open)
	svc := &service{want: map[string]agent.InternalPort{}, hold: open}
	n.cfg.Managers = []agent.Manager{svc}
	n.src.complete(false)
	n.start()
	n.src.put(net, dhcp, rec)
	tap := "tap" + port3[:11]
	n.Eventually("the manager is told that its device exists", func() bool { svc.mu.Lock(); defer svc.mu.Unlock(); return svc.ready })
	if got := strings.Join(strings.Fields(n.Ctl("get", "Port", tap, "tag", "vlan_mode", "trunks")), " "); got != "4095 trunk [4095]" {
		t.Errorf("before it is placed: %s", got)
	}
	n.src.until(t, dhcp.Key(), "pending", func(s nodestate.Status) bool { return s.State == nodestate.Pending })
	svc.mu.Lock()
	svc.placed = true
	svc.mu.Unlock()
	n.src.done(t, dhcp.Key(), 2)
	n.src.done(t, rec.Key(), 2)
	if got := n.Ctl("get", "Interface", tap, "external_ids:iface-id", "mtu_request", "external_ids:attached-mac"); got != `"`+port3+"\"\n1400\n\"fa:16:3e:00:00:03\"\n" {
		t.Errorf("interface: %s", got)
	}
	// A restart whose manager is slow to speak must not take the port for an orphan.
	n.stop()
	uuid := n.Ctl("get", "Interface", tap, "_uuid")
	hold := make(chan struct{})
	n.cfg.Managers = []agent.Manager{&service{want: map[string]agent.InternalPort{}, hold: hold, placed: true}}
	n.src.complete(false)
	n.start()
	n.src.done(t, dhcp.Key(), 3)
	if got := n.Ctl("get", "Interface", tap, "_uuid"); got != uuid {
		t.Error("the service's port was made anew")
	}
	close(hold)
	n.src.done(t, rec.Key(), 3)
	if got := n.Ctl("get", "Interface", tap, "_uuid"); got != uuid {
		t.Error("the service's port was made anew")
	}
	n.src.delete(rec.Key())
	n.Eventually("the port goes with its service", func() bool { return !strings.Contains(n.Ctl("list-ports", "br-int"), tap) })
}

// A tunnel port whose name an operator has taken is refused; that is said, and everything else goes on.
func TestRefusedPortHoldsUpNothing(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	far := &nodestate.Peers{NetworkID: netA, Host: "far", Endpoint: newAddr("192.168.20.99")}
	near := &nodestate.Peers{NetworkID: netA, Host: "near", Endpoint: newAddr("192.168.20.98")}
	n.src.complete(false)
	n.start()
	n.bridgeUp()
	n.Ctl("add-port", "br-int", "vxlan-c0a81463", "--", "set", "Interface", "vxlan-c0a81463", "type=internal")
	n.src.put(net, p, far, near)
	n.plugAll([]*nodestate.Port{p})
	n.src.done(t, p.Key(), 2)
	n.src.done(t, near.Key(), 2)
	n.src.until(t, far.Key(), "pending", func(s nodestate.Status) bool { return s.State == nodestate.Pending })
	c := status.NewClient(n.state)
	defer c.Close()
	if r, err := c.Status(t.Context()); err != nil || r.Healthy {
		t.Errorf("healthy with a refused port: %+v, %v", r, err)
	}
	n.Ctl("del-port", "br-int", "vxlan-c0a81463")
	n.src.done(t, far.Key(), 2)
	n.Eventually("healthy", func() bool { r, err := c.Status(t.Context()); return err == nil && r.Healthy })
}

func TestDeletedBridgeComesBack(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	n.src.complete(false)
	n.start()
	n.src.put(net, p, &nodestate.Peers{NetworkID: netA, Host: "far", Endpoint: newAddr("192.168.20.99")})
	n.plugAll([]*nodestate.Port{p})
	n.src.done(t, p.Key(), 2)
	n.src.done(t, nodestate.PeersKey(netA, "far"), 2)
	ports, flows := n.Ctl("list-ports", "br-tun"), strings.Count(n.flows("br-tun"), "\n")
	n.Ctl("del-br", "br-tun")
	n.Eventually("br-tun is whole again", func() bool {
		return strings.Contains(n.Ctl("list-br"), "br-tun") && n.Ctl("list-ports", "br-tun") == ports && strings.Count(n.flows("br-tun"), "\n") == flows
	})
}

func TestConfigIsChecked(t *testing.T) {
	good := agent.Config{Host: "n1", Source: newSource(), StateDir: t.TempDir(), OVSRunDir: "/nonexistent", ControllerListen: "127.0.0.1:0"}
	for name, change := range map[string]func(*agent.Config){
		"no host":           func(c *agent.Config) { c.Host = "" },
		"host with @":       func(c *agent.Config) { c.Host = "a@b" },
		"no source":         func(c *agent.Config) { c.Source = nil },
		"datapath":          func(c *agent.Config) { c.DatapathType = "dpdk" },
		"relative":          func(c *agent.Config) { c.StateDir = "state" },
		"unknown type":      func(c *agent.Config) { c.TunnelIP, c.TunnelTypes = newAddr("10.0.0.1"), []string{"geneve"} },
		"unspecified IP":    func(c *agent.Config) { c.TunnelIP = newAddr("0.0.0.0") },
		"role":              func(c *agent.Config) { c.Roles = []string{"chief"} },
		"controller":        func(c *agent.Config) { c.ControllerListen = "nowhere" },
		"taken controller":  func(c *agent.Config) { c.ControllerListen = "203.0.113.1:6633" },
		"state dir is file": func(c *agent.Config) { c.StateDir = "/dev/null/x" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			cfg.TunnelTypes = []string{"vxlan"} // by itself no error: without an address there are no tunnels
			change(&cfg)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := agent.Run(ctx, cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}
