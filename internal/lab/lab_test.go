package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"baryon/internal/testkit"
)

// TestMain lets this binary stand for baryon when a box is made: the holder is a run of itself.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "lab" && os.Args[2] == "hold" {
		var spec HolderSpec
		err := json.Unmarshal([]byte(os.Args[3]), &spec)
		if err == nil {
			err = Hold(context.Background(), spec)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func testBox(t *testing.T, name string) *box {
	t.Helper()
	testkit.NeedRoot(t)
	dir := t.TempDir()
	b, err := newBox(t.Context(), os.Args[0], name, dir, true, map[string]string{filepath.Join(dir, "ovs"): "/etc/openvswitch"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestBoxIsAWorldOfItsOwn(t *testing.T) {
	b := testBox(t, "box1")
	host, err := b.run(t.Context(), "hostname")
	if err != nil || strings.TrimSpace(host) != "box1" {
		t.Errorf("host name %q, %v", host, err)
	}
	links, err := b.run(t.Context(), "ip", "-o", "link")
	if err != nil || strings.Count(links, "\n") != 1 || !strings.Contains(links, "LOOPBACK,UP") {
		t.Errorf("a new box has other links than lo up: %q, %v", links, err)
	}
	if _, err := b.run(t.Context(), "ip", "netns", "add", "guest"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/run/netns/guest"); err == nil {
		t.Error("a namespace of the box shows on the host")
	}
}

func TestServicesStartStopAndDie(t *testing.T) {
	b := testBox(t, "box2")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log := filepath.Join(b.dir, "log", "a.log")
	sleeper := Service{Name: "a", Argv: []string{"sh", "-c", "echo hello; exec sleep 1000"}, Log: log}
	if err := b.start(ctx, sleeper); err != nil {
		t.Fatal(err)
	}
	if err := b.start(ctx, sleeper); err == nil {
		t.Error("the same service could be started twice")
	}
	if err := b.start(ctx, Service{Name: "b", Argv: []string{"/no/such/binary"}, Log: log}); err == nil {
		t.Error("a binary that is not there could be started")
	}
	for { // the shell has its say before it is stopped
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) == "hello\n" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("log: %q", text)
		}
	}
	if err := b.stop(ctx, "a", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	list, err := b.services(ctx)
	if err != nil || len(list) != 1 || list[0].Running || !strings.Contains(list[0].Exit, "terminated") {
		t.Errorf("after stop: %+v, %v", list, err)
	}
	if err := b.kill(ctx); err != nil {
		t.Fatal(err)
	}
	if b.alive(ctx) {
		t.Error("a killed box is alive")
	}
}

func TestNodeSwitchSurvivesKill(t *testing.T) {
	b := testBox(t, "box3")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	version, err := ovsVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := &nodeState{Node: Node{Name: "box3"}, PID: b.pid, TunnelIP: nth(underlayNet, 11)}
	l := &Lab{ovsVersion: version, state: state{Dir: b.dir, Nodes: []*nodeState{n}}}
	// The box of a node lives in the lab's nodes directory.
	if err := os.MkdirAll(l.nodeDir(n.Name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(b.control(), filepath.Join(l.nodeDir(n.Name), "control.sock")); err != nil {
		t.Fatal(err)
	}
	if err := b.script(ctx, "ip link add eth1 type veth peer name far\nip link set eth1 up"); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if err := l.startOVS(ctx, n); err != nil {
			t.Fatal(err)
		}
		addr, err := b.run(ctx, "ip", "-4", "-o", "addr", "show", "br-phy")
		if err != nil || !strings.Contains(addr, "192.168.20.11/24") {
			t.Fatalf("round %d: the underlay address is missing: %q, %v", round, addr, err)
		}
		if err := l.KillSwitch(ctx, n.Name, round == 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTopologyErrors(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown key", "nodes: [{name: a, rolls: [x]}]", "rolls"},
		{"no nodes", "networks: []", "0 nodes"},
		{"bad name", "nodes: [{name: 'A b'}]", "node name"},
		{"twice", "nodes: [{name: a},{name: a}]", "stands twice"},
		{"bad role", "nodes: [{name: a, roles: [boss]}]", "role"},
		{"guest without node", "nodes: [{name: a}]\nnetworks: [{name: n}]\nguests: [{name: g, node: b, network: n}]", "no node"},
		{"guest without network", "nodes: [{name: a}]\nguests: [{name: g, node: a, network: n}]", "no network"},
		{"network type", "nodes: [{name: a}]\nnetworks: [{name: n, type: vlna}]", "type \"vlna\""},
		{"flat nowhere", "nodes: [{name: a}]\nnetworks: [{name: n, type: flat}]", "needs a physical_network"},
		{"tunnel on a wire", "nodes: [{name: a}]\nnetworks: [{name: n, type: vxlan, physical_network: p}]", "for types flat and vlan"},
		{"id of nothing", "nodes: [{name: a}]\nnetworks: [{name: n, segmentation_id: 5}]", "segmentation_id is for"},
		{"bad cidr", "nodes: [{name: a}]\nnetworks: [{name: n, subnets: [{cidr: x}]}]", "cidr"},
	} {
		_, err := ReadTopology(strings.NewReader(c.yaml))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	top, err := ReadTopology(strings.NewReader("nodes: [{name: a}]\nnetworks: [{name: n, subnets: [{cidr: 10.0.0.0/24}]}]\nguests: [{name: g, node: a, network: n}]"))
	if err != nil || len(top.Nodes[0].Roles) != 2 {
		t.Errorf("a good topology: %+v, %v", top, err)
	}
}

func TestChooseDatapath(t *testing.T) {
	if got, err := chooseDatapath(t.Context(), DatapathUser); err != nil || got != DatapathUser {
		t.Errorf("netdev: %q, %v", got, err)
	}
	best, err := chooseDatapath(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := chooseDatapath(t.Context(), DatapathKernel); (err == nil) != (best == DatapathKernel) || err == nil && got != best {
		t.Errorf("system, where the best is %s: %q, %v", best, got, err)
	}
	if _, err := chooseDatapath(t.Context(), "dpdk"); err == nil {
		t.Error("an unknown datapath passes")
	}
}

// TestFirewallOfANode: the driver is named by itself or by how ports are plugged, and the two must not contradict each other.
func TestFirewallOfANode(t *testing.T) {
	for _, c := range []struct{ node, want string }{
		{"{name: a}", FirewallOVS},
		{"{name: a, plug: direct}", FirewallOVS},
		{"{name: a, plug: hybrid}", FirewallHybrid},
		{"{name: a, firewall: iptables_hybrid}", FirewallHybrid},
		{"{name: a, firewall: iptables_hybrid, plug: hybrid}", FirewallHybrid},
		{"{name: a, firewall: noop}", FirewallNone},
		{"{name: a, firewall: openvswitch}", FirewallOVS},
		{"{name: a, firewall: openvswitch, plug: hybrid}", ""},
		{"{name: a, firewall: iptables_hybrid, plug: direct}", ""},
		{"{name: a, firewall: iptables}", ""},
	} {
		top, err := ReadTopology(strings.NewReader("nodes: [" + c.node + "]"))
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s is taken", c.node)
		case c.want != "" && err != nil:
			t.Errorf("%s: %v", c.node, err)
		case c.want != "" && top.Nodes[0].firewall() != c.want:
			t.Errorf("%s: %s, want %s", c.node, top.Nodes[0].firewall(), c.want)
		}
	}
}

// A lab whose processes are all gone is removed to make room for a new one; one that lives is not.
func TestDeadLabMakesRoom(t *testing.T) {
	testkit.NeedRoot(t)
	dir := t.TempDir()
	dead := &Lab{state: state{
		Name: "gone", Dir: filepath.Join(dir, "lab"), SwitchPID: 1 << 22, // above any pid
		Nodes: []*nodeState{{Node: Node{Name: "n1"}, PID: 1 << 22}},
	}}
	if err := os.MkdirAll(dead.state.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := dead.save(); err != nil {
		t.Fatal(err)
	}
	if err := removeDead(t.Context(), Config{Name: "gone", Dir: dead.state.Dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead.state.Dir); !os.IsNotExist(err) {
		t.Errorf("the dead lab's directory is still there: %v", err)
	}

	b := testBox(t, "alive")
	live := &Lab{state: state{Name: "live", Dir: b.dir, Nodes: []*nodeState{{Node: Node{Name: "alive"}, PID: b.pid}}}}
	if err := os.MkdirAll(live.nodeDir("alive"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(b.control(), filepath.Join(live.nodeDir("alive"), "control.sock")); err != nil {
		t.Fatal(err)
	}
	if err := live.save(); err != nil {
		t.Fatal(err)
	}
	if err := removeDead(t.Context(), Config{Name: "live", Dir: b.dir}); err == nil {
		t.Error("a lab that lives was removed")
	}
}
