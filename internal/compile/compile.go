// Package compile turns intent into records: it is a pure function of the store.  No clock, no IO, no goroutine.
//
// One function per kind of record says what the record is (network.go, port.go, peers.go, dhcp.go, group.go); Node says which records a
// node needs, straight from the store.  Engine gives the same answer incrementally: it follows the store's batches, recompiles
// only what a change touches, encodes each record once however many nodes share it, and tells which nodes must hear of it.  Node is
// the oracle of Engine: a property test holds them equal over random histories.
//
// Which records a node needs:
//
//	port       bound to the node
//	network    has a bound port on the node, or is served by the node's DHCP
//	peers      of those networks, on every other host that has a bound port there and carries the network in a tunnel
//	dhcp       networks that the node serves, if administratively up with at least one DHCP-enabled subnet
//	dhcp-host  every named port of those
//	group      security groups of the ports that it filters
//	trunk      its parent port is bound to the node
//	members    what the rules of those groups name: the addresses of a remote security group's ports, or of an address group
package compile

import (
	"cmp"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// DefaultDNSDomain is Neutron's dns_domain default.  While it stands, DNS integration is off: ports go by their address.
const DefaultDNSDomain = "openstacklocal"

// Config is what of the server's configuration shows in records.
type Config struct {
	DNSDomain       string // of guests; empty means DefaultDNSDomain; a final dot is ignored
	DisableMetadata bool   // nodes do not serve 169.254.169.254
}

// domain is the DNS domain without a final dot.
func (c Config) domain() string {
	return cmp.Or(strings.TrimSuffix(c.DNSDomain, "."), DefaultDNSDomain)
}

// Node compiles everything that the node needs, in key order.  Its cost grows with what the node's networks hold.
func Node(r store.Read, cfg Config, host string) []nodestate.Record {
	var out []nodestate.Record
	local, groups := make(map[model.ID]bool), make(map[model.ID]bool)
	for p := range store.Find(r, model.PortTable, "host", host) {
		if boundHost(p) == "" {
			continue
		}
		local[p.NetworkID] = true
		out = append(out, Port(r, p))
		for _, t := range trunksOf(r, p.ID) {
			out = append(out, Trunk(t))
		}
		for _, g := range groupsOf(p) {
			groups[g] = true
		}
	}
	out = append(out, groupRecords(r, groups)...)
	networks := local
	for b := range store.Find(r, model.DHCPBindingTable, "host", host) {
		networks[b.NetworkID] = true
		out = append(out, dhcpOf(r, cfg, b.NetworkID)...)
	}
	for id := range networks {
		out = append(out, networkOf(r, id, host)...)
	}
	nodestate.Sort(out)
	return out
}

// networkOf compiles a network and its peers on all hosts but one.
func networkOf(r store.Read, id model.ID, except string) []nodestate.Record {
	n, ok := store.Get(r, model.NetworkTable, string(id))
	if !ok {
		return nil
	}
	out := []nodestate.Record{Network(n)}
	byHost := make(map[string][]*model.Port)
	for p := range store.Find(r, model.PortTable, "network", string(id)) {
		if boundHost(p) != "" {
			byHost[p.Binding.Host] = append(byHost[p.Binding.Host], p)
		}
	}
	for host, ports := range byHost {
		if host == except {
			continue
		}
		if peers := Peers(r, n, host, slices.Values(ports)); peers != nil {
			out = append(out, peers)
		}
	}
	return out
}

// dhcpOf compiles what a network's DHCP service needs, nothing if the network has none.
func dhcpOf(r store.Read, cfg Config, id model.ID) []nodestate.Record {
	n, ok := store.Get(r, model.NetworkTable, string(id))
	if !ok || !Served(r, n) {
		return nil
	}
	out := []nodestate.Record{DHCP(r, cfg, n)}
	for p := range store.Find(r, model.PortTable, "network", string(id)) {
		if h := DHCPHost(r, cfg, p); h != nil {
			out = append(out, h)
		}
	}
	return out
}
