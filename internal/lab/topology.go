package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"

	"gopkg.in/yaml.v3"
)

// Topology says what a lab is made of.  It is what a topology file (YAML) holds; docs/lab.md shows one.
type Topology struct {
	Nodes    []Node    `yaml:"nodes" json:"nodes"`
	Networks []Network `yaml:"networks" json:"networks,omitempty"`
	Guests   []Guest   `yaml:"guests" json:"guests,omitempty"`
	// PhysicalNetworks are what is outside of the nodes.
	PhysicalNetworks []PhysicalNetwork `yaml:"physical_networks,omitempty" json:"physical_networks,omitempty"`
	// ServerFlags are added to the servers' flags, before those of the command line: "--network-vlan-ranges=public:100:199".
	ServerFlags []string `yaml:"server_flags,omitempty" json:"server_flags,omitempty"`
}

// Node is one host of the lab.
type Node struct {
	Name  string   `yaml:"name" json:"name"`
	Roles []string `yaml:"roles" json:"roles"`                   // compute, network
	Plug  string   `yaml:"plug,omitempty" json:"plug,omitempty"` // another word for firewall: direct is openvswitch, hybrid is iptables_hybrid
	// Firewall is the firewall driver, and with it how its ports are plugged: openvswitch (default), iptables_hybrid or noop.
	Firewall string   `yaml:"firewall,omitempty" json:"firewall,omitempty"`
	Types    []string `yaml:"tunnels,omitempty" json:"types,omitempty"` // tunnel types, default vxlan and gre
}

// firewall is the node's firewall driver, however it was named.
func (n *Node) firewall() string {
	switch {
	case n.Firewall != "":
		return n.Firewall
	case n.Plug == PlugHybrid:
		return FirewallHybrid
	}
	return FirewallOVS
}

// Network is a network that is made when the lab comes up.
type Network struct {
	Name            string   `yaml:"name" json:"name"`
	Type            string   `yaml:"type,omitempty" json:"type,omitempty"`                         // vxlan, gre, vlan, flat, local; empty: the server's choice
	PhysicalNetwork string   `yaml:"physical_network,omitempty" json:"physical_network,omitempty"` // flat and vlan
	SegmentationID  int      `yaml:"segmentation_id,omitempty" json:"segmentation_id,omitempty"`   // 0: the server's choice
	External        bool     `yaml:"external,omitempty" json:"external,omitempty"`
	Shared          bool     `yaml:"shared,omitempty" json:"shared,omitempty"`
	MTU             int      `yaml:"mtu,omitempty" json:"mtu,omitempty"` // 0: the largest that fits
	Subnets         []Subnet `yaml:"subnets" json:"subnets"`
}

// check tells what is wrong with the way in which a network appears on the wire.
func (n *Network) check() error {
	physical := n.Type == "flat" || n.Type == "vlan"
	switch {
	case !slices.Contains([]string{"", "vxlan", "gre", "vlan", "flat", "local"}, n.Type):
		return fmt.Errorf("network %s: type %q is none of vxlan, gre, vlan, flat, local", n.Name, n.Type)
	case n.Type == "flat" && n.PhysicalNetwork == "":
		return fmt.Errorf("network %s: type flat needs a physical_network", n.Name)
	case !physical && n.PhysicalNetwork != "":
		return fmt.Errorf("network %s: a physical_network is for types flat and vlan", n.Name)
	case n.SegmentationID != 0 && (n.Type == "" || n.Type == "flat" || n.Type == "local"):
		return fmt.Errorf("network %s: a segmentation_id is for types vxlan, gre and vlan", n.Name)
	}
	return nil
}

// Subnet is one subnet of a Network.
type Subnet struct {
	Name    string `yaml:"name,omitempty" json:"name,omitempty"`
	CIDR    string `yaml:"cidr" json:"cidr"`
	IPv6    string `yaml:"ipv6_mode,omitempty" json:"ipv6_mode,omitempty"` // slaac, dhcpv6-stateful, dhcpv6-stateless
	Gateway string `yaml:"gateway,omitempty" json:"gateway,omitempty"`     // "none": no gateway
	NoDHCP  bool   `yaml:"no_dhcp,omitempty" json:"no_dhcp,omitempty"`     // guests get their addresses from elsewhere
	Pool    string `yaml:"pool,omitempty" json:"pool,omitempty"`           // "FIRST-LAST": addresses given out by themselves
}

// Guest is a network namespace that stands for a machine: it is plugged into a port and runs a real DHCP client.
type Guest struct {
	Name    string `yaml:"name" json:"name"`
	Node    string `yaml:"node" json:"node"`
	Network string `yaml:"network" json:"network"`
	Plug    string `yaml:"plug,omitempty" json:"plug,omitempty"`     // direct or hybrid; empty: as the port's binding says
	Client  string `yaml:"client,omitempty" json:"client,omitempty"` // udhcpc (default), dhclient, dhclient6, none
	FixedIP string `yaml:"fixed_ip,omitempty" json:"fixed_ip,omitempty"`
}

// Plug kinds, firewall drivers and DHCP clients.
const (
	PlugDirect = "direct"
	PlugHybrid = "hybrid"

	FirewallOVS    = "openvswitch"
	FirewallHybrid = "iptables_hybrid"
	FirewallNone   = "noop"

	ClientUDHCPC    = "udhcpc"
	ClientDHClient  = "dhclient"
	ClientDHClient6 = "dhclient6"
	ClientNone      = "none"
)

// MaxNodes is how many nodes the lab's underlay addresses allow.
const MaxNodes = 200

// NodesTopology is n nodes, the first of role network ("ctl"), the others of role compute ("cmp1", "cmp2", …).  A single node has
// both roles.
func NodesTopology(n int) Topology {
	if n == 1 {
		return Topology{Nodes: []Node{{Name: "ctl", Roles: []string{"compute", "network"}}}}
	}
	t := Topology{Nodes: []Node{{Name: "ctl", Roles: []string{"network"}}}}
	for i := 1; i < n; i++ {
		t.Nodes = append(t.Nodes, Node{Name: fmt.Sprintf("cmp%d", i), Roles: []string{"compute"}})
	}
	return t
}

// LoadTopology reads a topology file.  Unknown keys are errors.
func LoadTopology(path string) (Topology, error) {
	f, err := os.Open(path)
	if err != nil {
		return Topology{}, fmt.Errorf("read topology: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	return ReadTopology(f)
}

// ReadTopology reads a topology and checks it.
func ReadTopology(r io.Reader) (Topology, error) {
	var t Topology
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	if err := d.Decode(&t); err != nil {
		return t, fmt.Errorf("read topology: %w", err)
	}
	return t, t.Check()
}

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9-]{0,14}$`)

// Check tells what is wrong with a topology, everything at once.
func (t *Topology) Check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("topology: "+format, a...)) }
	if len(t.Nodes) == 0 || len(t.Nodes) > MaxNodes {
		bad("%d nodes, must be 1 to %d", len(t.Nodes), MaxNodes)
	}
	nodes, networks, guests := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if !nameRule.MatchString(n.Name) || slices.Contains([]string{"switch", "server", OutsideNode}, n.Name) {
			bad("node name %q: a lower-case letter, then letters, digits and dashes, 15 at most, and none of switch, server, outside", n.Name)
		}
		if nodes[n.Name] {
			bad("node %s stands twice", n.Name)
		}
		nodes[n.Name] = true
		if len(n.Roles) == 0 {
			n.Roles = []string{"compute", "network"}
		}
		for _, r := range n.Roles {
			if r != "compute" && r != "network" {
				bad("node %s: role %q is neither compute nor network", n.Name, r)
			}
		}
		if !slices.Contains([]string{"", PlugDirect, PlugHybrid}, n.Plug) {
			bad("node %s: plug %q is neither direct nor hybrid", n.Name, n.Plug)
		}
		if !slices.Contains([]string{"", FirewallOVS, FirewallHybrid, FirewallNone}, n.Firewall) {
			bad("node %s: firewall %q is none of openvswitch, iptables_hybrid, noop", n.Name, n.Firewall)
		}
		if n.Plug != "" && n.Firewall != "" && (n.Plug == PlugHybrid) != (n.Firewall == FirewallHybrid) {
			bad("node %s: plug %s and firewall %s contradict each other", n.Name, n.Plug, n.Firewall)
		}
	}
	t.checkPhysical(bad, nodes)
	for _, n := range t.Networks {
		if networks[n.Name] || n.Name == "" {
			bad("network %q is unnamed or stands twice", n.Name)
		}
		networks[n.Name] = true
		if err := n.check(); err != nil {
			bad("%w", err)
		}
		for _, s := range n.Subnets {
			if _, err := netip.ParsePrefix(s.CIDR); err != nil {
				bad("network %s: cidr %q: %w", n.Name, s.CIDR, err)
			}
		}
	}
	for _, g := range t.Guests {
		if err := g.check(); err != nil {
			bad("%w", err)
		}
		if guests[g.Name] {
			bad("guest %s stands twice", g.Name)
		}
		guests[g.Name] = true
		if !nodes[g.Node] {
			bad("guest %s: no node %q", g.Name, g.Node)
		}
		if !networks[g.Network] {
			bad("guest %s: no network %q", g.Name, g.Network)
		}
	}
	return errors.Join(errs...)
}

func (g *Guest) check() error {
	switch {
	case !nameRule.MatchString(g.Name):
		return fmt.Errorf("guest name %q: a lower-case letter, then letters, digits and dashes, 15 at most", g.Name)
	case !slices.Contains([]string{"", PlugDirect, PlugHybrid}, g.Plug):
		return fmt.Errorf("guest %s: plug %q is neither direct nor hybrid", g.Name, g.Plug)
	case !slices.Contains([]string{"", ClientUDHCPC, ClientDHClient, ClientDHClient6, ClientNone}, g.Client):
		return fmt.Errorf("guest %s: client %q is none of udhcpc, dhclient, dhclient6, none", g.Name, g.Client)
	}
	return nil
}
