package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// OutsideNode is the name under which the outside answers to "lab exec": the box that stands for everything beyond the nodes' NICs.
const OutsideNode = "outside"

// PhysicalNetwork is a switch outside of the nodes, with hosts on it.  Each node that is attached has a NIC of its own in it, which carries
// untagged packets and every VLAN.
type PhysicalNetwork struct {
	Name    string        `yaml:"name" json:"name"`
	Bridge  string        `yaml:"bridge" json:"bridge"`                   // on the nodes, made by their agents
	Nodes   []string      `yaml:"nodes,omitempty" json:"nodes,omitempty"` // that are attached; default: all
	Outside []OutsideHost `yaml:"outside,omitempty" json:"outside,omitempty"`
}

// OutsideHost is a network namespace of the outside with one NIC on an access port of the switch.
type OutsideHost struct {
	Name      string   `yaml:"name" json:"name"`
	VLAN      int      `yaml:"vlan,omitempty" json:"vlan,omitempty"` // 0: untagged on the nodes' NICs
	Addresses []string `yaml:"addresses,omitempty" json:"addresses,omitempty"`
}

// attached says whether a node has a NIC in the physical network.
func (p *PhysicalNetwork) attached(node string) bool {
	return len(p.Nodes) == 0 || slices.Contains(p.Nodes, node)
}

// checkPhysical tells what is wrong with the physical networks of a topology.
func (t *Topology) checkPhysical(bad func(format string, a ...any), nodes map[string]bool) {
	if len(t.PhysicalNetworks) > maxPhysical {
		bad("%d physical networks, must be %d at most", len(t.PhysicalNetworks), maxPhysical)
	}
	seen, hosts := map[string]bool{}, map[string]bool{}
	for i := range t.PhysicalNetworks {
		p := &t.PhysicalNetworks[i]
		if p.Name == "" || strings.ContainsAny(p.Name, ":,= \t\n") || seen[p.Name] {
			bad("physical network %q is unnamed, stands twice, or has a colon, a comma, an equals sign or a blank in its name", p.Name)
		}
		seen[p.Name] = true
		if p.Bridge == "" {
			bad("physical network %s: no bridge", p.Name)
		}
		for _, n := range p.Nodes {
			if !nodes[n] {
				bad("physical network %s: no node %q", p.Name, n)
			}
		}
		for _, h := range p.Outside {
			if !nameRule.MatchString(h.Name) || len(h.Name) > maxHostName || hosts[h.Name] {
				bad("host %q outside: a lower-case letter, then letters, digits and dashes, %d at most, and no other like it", h.Name, maxHostName)
			}
			hosts[h.Name] = true
			if h.VLAN < 0 || h.VLAN > 4094 {
				bad("host %s outside: VLAN %d is not in 0 to 4094", h.Name, h.VLAN)
			}
			for _, a := range h.Addresses {
				if _, err := netip.ParsePrefix(a); err != nil {
					bad("host %s outside: address %q: %w", h.Name, a, err)
				}
			}
		}
	}
}

// maxPhysical bounds the NICs of a node; maxHostName leaves room for a prefix in a device's name.
const (
	maxPhysical = 8
	maxHostName = 12
)

// nic is the name of a node's NIC in the i-th physical network, sw of its switch outside.
func nic(i int) string { return fmt.Sprintf("eth%d", 2+i) }
func sw(i int) string  { return fmt.Sprintf("sw%d", i) }

func (l *Lab) outside() *box {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &box{name: OutsideNode, dir: filepath.Join(l.state.Dir, OutsideNode), pid: l.state.OutsidePID}
}

// upOutside makes the switches of the physical networks and the hosts on them.  They are bridges of an Open vSwitch of their own: not every
// kernel's bridge knows VLANs.
func (l *Lab) upOutside(ctx context.Context) error {
	if len(l.state.Physical) == 0 {
		return nil
	}
	dir := filepath.Join(l.state.Dir, OutsideNode)
	b, err := newBox(ctx, l.state.Exe, OutsideNode, dir, true, map[string]string{
		filepath.Join(dir, "ovs"): "/etc/openvswitch", filepath.Join(dir, "netns"): "/etc/netns",
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.state.OutsidePID = b.pid
	l.mu.Unlock()
	if err := l.save(); err != nil {
		return err
	}
	if err := l.startSwitch(ctx, b); err != nil {
		return err
	}
	var script strings.Builder
	for i, p := range l.state.Physical {
		fmt.Fprintf(&script, "ovs-vsctl --timeout=20 add-br %s -- set Bridge %[1]s datapath_type=%s\n", sw(i), l.state.Datapath)
		for _, h := range p.Outside {
			fmt.Fprintf(&script, `ip netns add %[1]s
ip link add h-%[1]s type veth peer name eth0 netns %[1]s
ip -n %[1]s link set lo up
ip -n %[1]s link set eth0 up
ip netns exec %[1]s ethtool -K eth0 tx off >/dev/null
ip link set h-%[1]s up
ovs-vsctl --timeout=20 add-port %[2]s h-%[1]s tag=%[3]d vlan_mode=access
`, h.Name, sw(i), h.VLAN)
			for _, a := range h.Addresses {
				nodad := ""
				if strings.Contains(a, ":") {
					nodad = " nodad"
				}
				fmt.Fprintf(&script, "ip -n %s address add %s dev eth0%s\n", h.Name, a, nodad)
			}
		}
	}
	return b.script(ctx, script.String())
}

// attach gives a node its NICs in the physical networks, and the file in which its agent finds its bridge mappings.
func (l *Lab) attach(ctx context.Context, n *nodeState, b *box) error {
	if len(l.state.Physical) == 0 {
		return nil
	}
	out := l.outside()
	last := n.TunnelIP.As4()[3]
	for i, p := range l.state.Physical {
		if !p.attached(n.Name) {
			continue
		}
		peer := fmt.Sprintf("n%d-%d", last, i)
		// A node that died may still be leaving; its end of the pair goes with it.
		if err := out.script(ctx, fmt.Sprintf("ovs-vsctl --timeout=20 --if-exists del-port %s\nip link del %[1]s 2>/dev/null || true\n", peer)); err != nil {
			return err
		}
		if _, err := hostRun(ctx, "ip", "link", "add", nic(i), "netns", fmt.Sprint(b.pid), "type", "veth",
			"peer", "name", peer, "netns", fmt.Sprint(out.pid)); err != nil {
			return err
		}
		if err := out.script(ctx, fmt.Sprintf("ip link set %[1]s up\novs-vsctl --timeout=20 add-port %s %[1]s\n", peer, sw(i))); err != nil {
			return err
		}
	}
	return l.writeMappings(n)
}

// Mappings is what a node's agent reads: which physical networks it is attached to by which bridges and NICs.
type Mappings struct {
	Bridges map[string]string `yaml:"bridge_mappings"` // physical network: bridge
	NICs    map[string]string `yaml:"bridge_nics"`     // bridge: NIC
}

// NodeMappings is what the topology gives a node.
func (l *Lab) NodeMappings(node string) Mappings {
	m := Mappings{Bridges: map[string]string{}, NICs: map[string]string{}}
	for i, p := range l.state.Physical {
		if p.attached(node) {
			m.Bridges[p.Name], m.NICs[p.Bridge] = p.Bridge, nic(i)
		}
	}
	return m
}

func (l *Lab) agentFile(node string) string {
	return filepath.Join(l.nodeDir(node), "lib", "agent.yaml")
}

// writeMappings writes a node's file if it has none yet: what somebody has changed in it survives a boot.
func (l *Lab) writeMappings(n *nodeState) error {
	if _, err := os.Stat(l.agentFile(n.Name)); err == nil {
		return nil
	}
	return l.putMappings(n.Name, l.NodeMappings(n.Name))
}

func (l *Lab) putMappings(node string, m Mappings) error {
	text, err := yaml.Marshal(m)
	if err == nil {
		err = os.WriteFile(l.agentFile(node), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write mappings of %s: %w", node, err)
	}
	return nil
}

// SetMappings changes a node's bridge mappings while its agent runs.
func (l *Lab) SetMappings(ctx context.Context, node string, m Mappings) error {
	if _, err := l.node(node); err != nil {
		return err
	}
	if err := l.putMappings(node, m); err != nil {
		return err
	}
	_, err := l.Run(ctx, node, l.state.Exe, "agent", "reload")
	return err
}

// OutsideCommand makes a command that runs in a host outside.
func (l *Lab) OutsideCommand(ctx context.Context, host string, argv ...string) (*exec.Cmd, error) {
	b := l.outside()
	if !b.alive(ctx) {
		return nil, errors.New("the lab has no outside")
	}
	return b.command(ctx, append([]string{"ip", "netns", "exec", host}, argv...)...), nil
}
