package model

import (
	"net/netip"
	"time"

	"baryon/internal/resource"
)

// Roles of a node.
const (
	RoleCompute = "compute"
	RoleNetwork = "network"
)

// Node is a host that runs the agent.  One node shows in the Networking API as one row per service it runs (Open vSwitch agent,
// DHCP agent, Metadata agent), as clients expect of Neutron.
type Node struct {
	Host             string            `json:"host"`
	Roles            []string          `json:"roles"`
	TunnelIP         netip.Addr        `json:"tunnel_ip"` // invalid: node makes no tunnels
	TunnelTypes      []string          `json:"tunnel_types,omitempty"`
	BridgeMappings   map[string]string `json:"bridge_mappings,omitempty"`
	DatapathType     string            `json:"datapath_type"`             // system or netdev
	HybridPlug       bool              `json:"ovs_hybrid_plug"`           // the node's firewall wants tap-qbr-qvb-qvo
	Firewall         string            `json:"firewall_driver,omitempty"` // openvswitch, iptables_hybrid, noop
	Version          string            `json:"version,omitempty"`         // of the agent
	StartedAt        time.Time         `json:"started_at"`
	CreatedAt        time.Time         `json:"created_at"`
	AvailabilityZone string            `json:"availability_zone,omitempty"`
}

// NodeTable keeps nodes.  A tunnel address belongs to one node.
var NodeTable = resource.NewTable("node", func(n *Node) string { return n.Host }).
	Index("role", func(n *Node) []string { return n.Roles }).
	Unique("tunnel_ip", func(n *Node) []string {
		if !n.TunnelIP.IsValid() {
			return nil
		}
		return []string{n.TunnelIP.String()}
	})

// Heartbeat is when a node was last heard of.  It is kept apart from Node because it changes all the time and nothing compiled
// depends on it but liveness.
type Heartbeat struct {
	Host  string    `json:"host"`
	At    time.Time `json:"at"`
	Alive bool      `json:"alive"` // false once the server has declared the node dead
}

// HeartbeatTable keeps heartbeats by host.
var HeartbeatTable = resource.NewTable("heartbeat", func(h *Heartbeat) string { return h.Host })

// Agent is one service of a node, as the agent extension shows it.  Its id is a name-based UUID of host and binary, so it
// survives everything that the host's name survives.
type Agent struct {
	ID               ID             `json:"id"`
	Type             string         `json:"agent_type"` // "Open vSwitch agent", "DHCP agent", "Metadata agent"
	Binary           string         `json:"binary"`
	Topic            string         `json:"topic"`
	Host             string         `json:"host"`
	AdminStateUp     bool           `json:"admin_state_up"`
	Description      string         `json:"description,omitempty"`
	Configurations   map[string]any `json:"-"` // computed when shown
	CreatedAt        time.Time      `json:"created_at"`
	StartedAt        time.Time      `json:"-"` // computed when shown
	HeartbeatAt      time.Time      `json:"-"` // computed when shown
	Alive            bool           `json:"-"` // computed when shown
	AvailabilityZone string         `json:"availability_zone,omitempty"`
}

// AgentTable keeps agents.
var AgentTable = resource.NewTable("agent", func(a *Agent) string { return string(a.ID) }).
	Index("host", func(a *Agent) []string { return []string{a.Host} })

// DHCPBinding says that a node serves DHCP for a network.
type DHCPBinding struct {
	NetworkID ID     `json:"network_id"`
	Host      string `json:"host"`
	Manual    bool   `json:"manual,omitempty"` // scheduled by an administrator: not moved by the scheduler while alive
}

// DHCPBindingTable keeps which node serves which network.
var DHCPBindingTable = resource.NewTable("dhcp_binding", func(b *DHCPBinding) string { return string(b.NetworkID) + "/" + b.Host }).
	Index("network", func(b *DHCPBinding) []string { return []string{string(b.NetworkID)} }).
	Index("host", func(b *DHCPBinding) []string { return []string{b.Host} })
