// Package lab puts several nodes on one host: each node is a set of namespaces (network, mount, UTS, PID) with its own Open vSwitch,
// its own /run/netns and its own agent, joined by a switch; guests are network namespaces in a node that run a real DHCP client.
// It is a user's first hour and the harness of the end-to-end tests.
//
// Nothing of a lab is visible in the host's network: no device, no address.  The only doors are the server's API and identity
// ports on the loopback address.  Everything of a lab lives in one directory and under holders, one per node, whose end is the
// node's end; a lab that lost its processes is cleaned up by Down.
//
// Ownership: package cmd/baryon and test/e2e call it; one caller at a time per lab.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Config says which lab to bring up and where.
type Config struct {
	Name        string       // also of the switch's network namespace on the host, "baryon-<name>"
	Dir         string       // directory of the lab; made by Up, removed by Down
	Exe         string       // the baryon binary
	Servers     []ServerAddr // one or more; several need --etcd-endpoints among ServerFlags
	Topology    Topology
	Datapath    string    // of the nodes' switches: DatapathKernel, DatapathUser; "": the kernel's where this kernel has it
	ServerFlags []string  // added to the server's
	AgentFlags  []string  // added to every agent's
	Out         io.Writer // progress for people
}

// ServerAddr is where one server listens on the host's loopback address.
type ServerAddr struct {
	API      string // host:port
	Identity string // host:port
}

// DefaultDir is where a lab of the given name lives.
func DefaultDir(name string) string { return filepath.Join("/var/lib/baryon-lab", name) }

// Addresses of the lab's two networks; a node's last octet is 10 + its place in the topology.
var (
	mgmtNet     = netip.MustParsePrefix("192.168.10.0/24")
	underlayNet = netip.MustParsePrefix("192.168.20.0/24")
)

const (
	southboundPort = 6610
	maxServers     = 9
)

// Lab is a lab that is up, or was.
type Lab struct {
	mu         sync.Mutex // guards state and its file
	state      state
	ovsVersion string
	out        io.Writer
}

// state is what lab.json holds.
type state struct {
	Name, Dir, Exe string
	Datapath       string
	ServerFlags    []string
	AgentFlags     []string
	SwitchPID      int
	OutsidePID     int
	Physical       []PhysicalNetwork
	Servers        []*serverState
	Nodes          []*nodeState
	Guests         []*guestState
}

type serverState struct {
	ServerAddr
	Name   string
	PID    int
	MgmtIP netip.Addr
}

type nodeState struct {
	Node
	PID      int
	MgmtIP   netip.Addr
	TunnelIP netip.Addr
}

// ErrNoLab is returned by Open when there is no lab in the directory.
var ErrNoLab = errors.New("no lab is up")

// Up brings a lab up.  On failure everything is taken down again.
func Up(ctx context.Context, c Config) (*Lab, error) {
	if err := c.Topology.Check(); err != nil {
		return nil, err
	}
	if !nameRule.MatchString(c.Name) {
		return nil, fmt.Errorf("lab name %q: a lower-case letter, then letters, digits and dashes, 15 at most", c.Name)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("lab up: needs root, to make namespaces")
	}
	if err := removeDead(ctx, c); err != nil {
		return nil, err
	}
	version, err := ovsVersion(ctx)
	if err != nil {
		return nil, err
	}
	datapath, err := chooseDatapath(ctx, c.Datapath)
	if err != nil {
		return nil, err
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	l := &Lab{ovsVersion: version, out: c.Out, state: state{
		Name: c.Name, Dir: c.Dir, Exe: c.Exe, Datapath: datapath, AgentFlags: c.AgentFlags,
		Physical:    c.Topology.PhysicalNetworks,
		ServerFlags: slices.Concat(c.Topology.ServerFlags, c.ServerFlags),
	}}
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return nil, fmt.Errorf("lab up: %d servers, must be 1 to %d", len(c.Servers), maxServers)
	}
	for i, addr := range c.Servers {
		l.state.Servers = append(l.state.Servers, &serverState{
			ServerAddr: addr, Name: fmt.Sprintf("server%d", i+1), MgmtIP: nth(mgmtNet, 1+i),
		})
	}
	for i, n := range c.Topology.Nodes {
		l.state.Nodes = append(l.state.Nodes, &nodeState{
			Node: n, MgmtIP: nth(mgmtNet, 11+i), TunnelIP: nth(underlayNet, 11+i),
		})
	}
	if err := l.up(ctx, c.Topology); err != nil {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, l.Down(down))
	}
	return l, nil
}

// removeDead removes what is left of a lab of the same name whose processes are all gone, as after a reboot of the host.
func removeDead(ctx context.Context, c Config) error {
	old, err := Open(ctx, c.Dir)
	if errors.Is(err, ErrNoLab) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.alive(ctx) {
		return fmt.Errorf("lab %s is up already; see: baryon lab status, baryon lab down", c.Name)
	}
	return old.Down(ctx)
}

// alive tells whether anything of the lab still runs.
func (l *Lab) alive(ctx context.Context) bool {
	boxes := []*box{{name: "switch", dir: filepath.Join(l.state.Dir, "switch"), pid: l.state.SwitchPID}}
	boxes = append(boxes, l.outside())
	for _, s := range l.state.Servers {
		boxes = append(boxes, l.serverBox(s))
	}
	for _, n := range l.state.Nodes {
		boxes = append(boxes, l.box(n))
	}
	return slices.ContainsFunc(boxes, func(b *box) bool { return b.alive(ctx) })
}

// Open finds a lab that is up.
func Open(ctx context.Context, dir string) (*Lab, error) {
	text, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoLab, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open lab: %w", err)
	}
	l := &Lab{out: io.Discard}
	if err := json.Unmarshal(text, &l.state); err != nil {
		return nil, fmt.Errorf("open lab: %s: %w", dir, err)
	}
	l.ovsVersion, err = ovsVersion(ctx)
	return l, err
}

func (l *Lab) up(ctx context.Context, t Topology) error {
	if err := os.MkdirAll(l.state.Dir, 0o755); err != nil {
		return fmt.Errorf("make lab: %w", err)
	}
	if err := l.save(); err != nil {
		return err
	}
	if len(l.state.Physical) > 0 {
		l.say("outside: %d physical networks", len(l.state.Physical))
	}
	l.say("switch and server; the nodes' datapath type is %s", l.state.Datapath)
	if err := l.upSwitch(ctx); err != nil {
		return err
	}
	if err := l.upOutside(ctx); err != nil {
		return err
	}
	for i := range l.state.Servers {
		if err := l.StartServer(ctx, i); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(l.state.Nodes))
	for i, n := range l.state.Nodes {
		l.say("node %s (%v), tunnel address %s", n.Name, n.Roles, n.TunnelIP)
		wg.Go(func() { errs[i] = l.upNode(ctx, n) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := l.save(); err != nil {
		return err
	}
	if err := l.WaitAgents(ctx); err != nil {
		return err
	}
	return l.populate(ctx, t)
}

// upSwitch makes the box in which the nodes' management and underlay networks are bridges.  The server's southbound listener is
// opened there too, by the name that the namespace gets on the host.
func (l *Lab) upSwitch(ctx context.Context) error {
	b, err := newBox(ctx, l.state.Exe, "switch", filepath.Join(l.state.Dir, "switch"), true, nil)
	if err != nil {
		return err
	}
	l.state.SwitchPID = b.pid
	if err := l.save(); err != nil {
		return err
	}
	addresses := ""
	for _, s := range l.state.Servers {
		addresses += fmt.Sprintf("ip address add %s/24 dev mgmt\n", s.MgmtIP)
	}
	// A bridge without an address of its own takes the lowest of its ports', so it would change with the nodes that come and go,
	// and the others would speak to a server that has moved.
	if err := b.script(ctx, `
ip link add mgmt address 02:ba:51:00:00:01 type bridge
ip link add underlay address 02:ba:51:00:00:02 type bridge
ip link set mgmt up
ip link set underlay up
`+addresses); err != nil {
		return err
	}
	_, err = hostRun(ctx, "ip", "netns", "attach", l.switchNetns(), fmt.Sprint(b.pid))
	return err
}

func (l *Lab) switchNetns() string { return "baryon-" + l.state.Name }

// upNode makes a node: its namespaces, its links to the switch, Open vSwitch, and the agent.
func (l *Lab) upNode(ctx context.Context, n *nodeState) error {
	dir := l.nodeDir(n.Name)
	if err := os.MkdirAll("/etc/netns", 0o755); err != nil {
		return fmt.Errorf("make /etc/netns: %w", err)
	}
	if err := os.MkdirAll("/var/lib/baryon", 0o755); err != nil {
		return fmt.Errorf("make /var/lib/baryon: %w", err)
	}
	b, err := newBox(ctx, l.state.Exe, n.Name, dir, true, map[string]string{
		filepath.Join(dir, "lib"):   "/var/lib/baryon",
		filepath.Join(dir, "ovs"):   "/etc/openvswitch",
		filepath.Join(dir, "netns"): "/etc/netns",
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	n.PID = b.pid
	l.mu.Unlock()
	if err := l.save(); err != nil {
		return err
	}
	sw := &box{name: "switch", dir: filepath.Join(l.state.Dir, "switch"), pid: l.state.SwitchPID}
	for dev, bridge := range map[string]string{"eth0": "mgmt", "eth1": "underlay"} {
		peer := fmt.Sprintf("%s-%d", dev, n.TunnelIP.As4()[3])
		// A node that died may still be leaving; its end of the pair goes with it.
		if err := sw.script(ctx, fmt.Sprintf("ip link del %s 2>/dev/null || true", peer)); err != nil {
			return err
		}
		if _, err := hostRun(ctx, "ip", "link", "add", dev, "netns", fmt.Sprint(b.pid), "type", "veth",
			"peer", "name", peer, "netns", fmt.Sprint(sw.pid)); err != nil {
			return err
		}
		if err := sw.script(ctx, fmt.Sprintf("ip link set %s master %s\nip link set %s up\n", peer, bridge, peer)); err != nil {
			return err
		}
	}
	if err := b.script(ctx, fmt.Sprintf(`
ip address add %s/24 dev eth0
ip link set eth0 up
ip link set eth1 up
`, n.MgmtIP)); err != nil {
		return err
	}
	if err := l.attach(ctx, n, b); err != nil {
		return err
	}
	if err := l.startOVS(ctx, n); err != nil {
		return err
	}
	return l.StartAgent(ctx, n.Name)
}

// Down ends everything of a lab and removes its directory.  It goes on past errors and can be called again.
func (l *Lab) Down(ctx context.Context) error {
	var errs []error
	for _, n := range l.state.Nodes {
		errs = append(errs, l.box(n).kill(ctx))
	}
	for _, s := range l.state.Servers {
		errs = append(errs, l.serverBox(s).kill(ctx))
	}
	errs = append(errs, l.outside().kill(ctx))
	errs = append(errs, (&box{name: "switch", dir: filepath.Join(l.state.Dir, "switch"), pid: l.state.SwitchPID}).kill(ctx))
	if _, err := os.Stat(filepath.Join("/run/netns", l.switchNetns())); err == nil {
		_, err := hostRun(ctx, "ip", "netns", "delete", l.switchNetns())
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take lab %s down: %w", l.state.Name, err)
	}
	if err := os.RemoveAll(l.state.Dir); err != nil {
		return fmt.Errorf("take lab %s down: %w", l.state.Name, err)
	}
	return nil
}

// KillNode ends a node at once with everything in it, as a power cut would.
func (l *Lab) KillNode(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	return l.box(n).kill(ctx)
}

// BootNode starts a node that was killed.  Its disk is as it was; its guests are gone, as after a reboot.
func (l *Lab) BootNode(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	if l.box(n).alive(ctx) {
		return fmt.Errorf("node %s is up", name)
	}
	l.mu.Lock()
	l.state.Guests = slices.DeleteFunc(l.state.Guests, func(g *guestState) bool { return g.Node == name })
	l.mu.Unlock()
	return l.upNode(ctx, n)
}

// StartAgent starts a node's agent; a node that never ran one gets a join token first.
func (l *Lab) StartAgent(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	b := l.box(n)
	types := "vxlan,gre"
	if len(n.Types) > 0 {
		types = join(n.Types)
	}
	var servers []string
	for _, s := range l.state.Servers {
		servers = append(servers, fmt.Sprintf("%s:%d", s.MgmtIP, southboundPort))
	}
	argv := []string{
		l.state.Exe, "agent", "--host", n.Name, "--roles", join(n.Roles), "--server", join(servers),
		"--tunnel-ip", n.TunnelIP.String(), "--tunnel-types", types, "--state-dir", "/var/lib/baryon",
		"--datapath-type", l.state.Datapath, "--firewall-driver", n.firewall(),
	}
	if len(l.state.Physical) > 0 {
		argv = append(argv, "--config", "/var/lib/baryon/agent.yaml")
	}
	token := filepath.Join(b.dir, "lib", "join-token")
	if _, err := os.Stat(token); errors.Is(err, os.ErrNotExist) {
		text, err := hostRun(ctx, l.state.Exe, "node", "token", "--data-dir", l.serverData(l.state.Servers[0]), "--host", n.Name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write join token: %w", err)
		}
	}
	argv = append(argv, "--join-token-file", "/var/lib/baryon/join-token")
	return b.start(ctx, Service{
		Name: ServiceAgent, Argv: append(argv, l.state.AgentFlags...), Log: filepath.Join(b.dir, "log", "agent.log"),
	})
}

// SetFirewall gives a node another firewall driver; its agent has it from the next start.
func (l *Lab) SetFirewall(name, driver string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{FirewallOVS, FirewallHybrid, FirewallNone}, driver) {
		return fmt.Errorf("node %s: firewall %q is none of openvswitch, iptables_hybrid, noop", name, driver)
	}
	l.mu.Lock()
	n.Firewall, n.Plug = driver, ""
	l.mu.Unlock()
	return l.save()
}

// StopAgent ends a node's agent with the signal; its dataplane stays.
func (l *Lab) StopAgent(ctx context.Context, name string, sig syscall.Signal) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	return l.box(n).stop(ctx, ServiceAgent, sig)
}

// RestartAgent ends a node's agent with the signal, starts it again and waits until it is in sync with a server.
func (l *Lab) RestartAgent(ctx context.Context, name string, sig syscall.Signal) error {
	if err := l.StopAgent(ctx, name, sig); err != nil {
		return err
	}
	if err := l.StartAgent(ctx, name); err != nil {
		return err
	}
	return l.WaitSync(ctx, name)
}

// WaitSync waits until a node's agent has everything applied that a server wants.
func (l *Lab) WaitSync(ctx context.Context, name string) error {
	_, err := l.Run(ctx, name, l.state.Exe, "agent", "status", "--wait", "1m")
	return err
}

// Command makes a command that runs on a node, with the node's network, mounts, host name and processes.
func (l *Lab) Command(ctx context.Context, node string, argv ...string) (*exec.Cmd, error) {
	b, err := l.place(node)
	if err != nil {
		return nil, err
	}
	if !b.alive(ctx) {
		return nil, fmt.Errorf("node %s is down", node)
	}
	return b.command(ctx, argv...), nil
}

// Run runs a command on a node, or outside, and returns what it printed.
func (l *Lab) Run(ctx context.Context, node string, argv ...string) (string, error) {
	b, err := l.place(node)
	if err != nil {
		return "", err
	}
	return b.run(ctx, argv...)
}

// place is the box of a node, or the outside.
func (l *Lab) place(name string) (*box, error) {
	if b := l.outside(); name == OutsideNode && b.pid != 0 {
		return b, nil
	}
	n, err := l.node(name)
	if err != nil {
		return nil, err
	}
	return l.box(n), nil
}

// HostPID is the process id, on the host, of a node's first process: /proc/<pid>/root is the node's file system.
func (l *Lab) HostPID(name string) (int, error) {
	n, err := l.node(name)
	if err != nil {
		return 0, err
	}
	return l.box(n).pid, nil
}

// Nodes lists the nodes in the topology's order.
func (l *Lab) Nodes() []Node {
	nodes := make([]Node, 0, len(l.state.Nodes))
	for _, n := range l.state.Nodes {
		nodes = append(nodes, n.Node)
	}
	return nodes
}

// Datapath is the datapath type of the nodes' switches.
func (l *Lab) Datapath() string { return l.state.Datapath }

// Dir is the lab's directory.
func (l *Lab) Dir() string { return l.state.Dir }

// LogDir is where a node's services write their logs.
func (l *Lab) LogDir(node string) string { return filepath.Join(l.nodeDir(node), "log") }

func (l *Lab) nodeDir(name string) string { return filepath.Join(l.state.Dir, "nodes", name) }

func (l *Lab) box(n *nodeState) *box {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &box{name: n.Name, dir: l.nodeDir(n.Name), pid: n.PID}
}

func (l *Lab) node(name string) (*nodeState, error) {
	for _, n := range l.state.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("the lab has no node %q", name)
}

// save writes lab.json atomically.
func (l *Lab) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := json.MarshalIndent(&l.state, "", "  ")
	if err != nil {
		return fmt.Errorf("save lab: %w", err)
	}
	path := filepath.Join(l.state.Dir, "lab.json")
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("save lab: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save lab: %w", err)
	}
	return nil
}

func (l *Lab) say(format string, a ...any) { fmt.Fprintf(l.out, "lab: "+format+"\n", a...) }

// nth is the address of a /24 with the given last octet.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

func hostRun(ctx context.Context, argv ...string) (string, error) {
	return output(exec.CommandContext(ctx, argv[0], argv[1:]...), "the host", argv)
}
