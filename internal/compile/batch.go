package compile

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// batch is one Apply at work: first every change moves the engine's memberships and marks keys, then each marked key is compiled
// once, then the nodes that must hear of it are found.
type batch struct {
	e        *Engine
	after    store.Read
	revision int64
	dirty    map[nodestate.Key]struct{}
	recheck  map[model.ID]struct{} // networks that may have begun or ceased to be served
	before   map[pair]subscription // of nodes that joined or left a group, as it was before the batch
	delta    Delta
	silent   bool                       // nobody is to be told: everything is new
	lost     map[nodestate.Key][]string // ports -> hosts that carried them before
}

// pair is a node and a network.
type pair struct {
	host string
	net  model.ID
}

// subscription tells which of a network's two groups a node needs.
type subscription struct{ wire, dhcp bool }

func newBatch(e *Engine, after store.Read, revision int64) *batch {
	e.read = after
	return &batch{
		e: e, after: after, revision: revision,
		dirty:   make(map[nodestate.Key]struct{}),
		recheck: make(map[model.ID]struct{}),
		before:  make(map[pair]subscription),
		lost:    make(map[nodestate.Key][]string),
		delta:   Delta{Revision: revision, Nodes: make(map[string][]nodestate.Key)},
	}
}

// change looks at one row.  Tables that no record reads are ignored.
func (b *batch) change(c store.Change) {
	switch c.Table {
	case model.NetworkTable.Name:
		b.networkChanged(rows[model.Network](c))
	case model.SubnetTable.Name:
		b.subnetChanged(rows[model.Subnet](c))
	case model.PortTable.Name:
		b.portChanged(rows[model.Port](c))
	case model.NodeTable.Name:
		b.nodeChanged(rows[model.Node](c))
	case model.DHCPBindingTable.Name:
		b.bindingChanged(rows[model.DHCPBinding](c))
	case model.InstanceTable.Name:
		b.mark(nodestate.DHCPHostKey(c.Key))
	case model.SecurityGroupTable.Name:
		b.groupChanged(rows[model.SecurityGroup](c))
	case model.SecurityGroupRuleTable.Name:
		for _, rule := range []any{c.Old, c.New} {
			if rule, _ := rule.(*model.SecurityGroupRule); rule != nil {
				b.mark(nodestate.GroupKey(string(rule.SecurityGroupID)))
			}
		}
	case model.QoSPolicyTable.Name:
		b.qosChanged(rows[model.QoSPolicy](c))
	case model.TrunkTable.Name:
		b.mark(nodestate.TrunkKey(c.Key))
	case model.AddressGroupTable.Name:
		b.markMembers(model.ID(c.Key))
	}
}

func rows[T any](c store.Change) (old, new *T) {
	old, _ = c.Old.(*T)
	new, _ = c.New.(*T)
	return old, new
}

func (b *batch) mark(k nodestate.Key) { b.dirty[k] = struct{}{} }

func (b *batch) networkChanged(old, new *model.Network) {
	id := either(old, new).ID
	b.mark(nodestate.NetworkKey(string(id)))
	b.mark(nodestate.DHCPKey(string(id)))
	b.recheck[id] = struct{}{}
	if old == nil || new == nil || old.QoSPolicyID != new.QoSPolicyID {
		b.markPortsOf(id)
	}
	if old != nil && new != nil && old.Segment == new.Segment && slices.Equal(old.More, new.More) {
		return
	}
	if n := b.e.nets[id]; n != nil {
		for h := range n.local {
			b.mark(nodestate.PeersKey(string(id), h))
		}
	}
}

func (b *batch) subnetChanged(old, new *model.Subnet) {
	s := either(old, new)
	b.mark(nodestate.DHCPKey(string(s.NetworkID)))
	b.recheck[s.NetworkID] = struct{}{}
	if old != nil && new != nil && old.CIDR == new.CIDR {
		return
	}
	for p := range store.Find(b.after, model.PortTable, "subnet", string(s.ID)) {
		b.mark(nodestate.PortKey(string(p.ID)))
	}
}

func (b *batch) portChanged(old, new *model.Port) {
	p := either(old, new)
	b.mark(nodestate.DHCPHostKey(string(p.ID)))
	if serviceOwner(old) || serviceOwner(new) {
		b.mark(nodestate.DHCPKey(string(p.NetworkID)))
	}
	from, to := boundHost(old), boundHost(new)
	if from != "" {
		b.mark(nodestate.PeersKey(string(p.NetworkID), from))
	}
	if to != "" {
		b.mark(nodestate.PeersKey(string(p.NetworkID), to))
	}
	b.mark(nodestate.PortKey(string(p.ID)))
	b.filtersChanged(old, new)
	if from == to {
		return
	}
	if from != "" {
		b.unbind(p.ID, p.NetworkID, from)
	}
	if to != "" {
		b.bind(p.ID, p.NetworkID, to)
	}
	for _, t := range trunksOf(b.after, p.ID) {
		b.mark(nodestate.TrunkKey(string(t.ID)))
	}
}

func serviceOwner(p *model.Port) bool {
	return p != nil && strings.HasPrefix(p.DeviceOwner, ownerNetworkPrefix)
}

func (b *batch) bind(port, net model.ID, on string) {
	b.remember(on, net)
	n, h := b.e.network(net), b.e.host(on)
	if n.local[on] == nil {
		n.local[on] = make(map[model.ID]struct{})
		b.mark(nodestate.NetworkKey(string(net)))
	}
	n.local[on][port] = struct{}{}
	h.ports[port] = struct{}{}
	h.local[net]++
}

func (b *batch) unbind(port, net model.ID, on string) {
	n, h := b.e.nets[net], b.e.hosts[on]
	if n == nil || h == nil {
		return
	}
	if _, ok := h.ports[port]; !ok {
		return
	}
	b.remember(on, net)
	b.lost[nodestate.PortKey(string(port))] = append(b.lost[nodestate.PortKey(string(port))], on)
	delete(h.ports, port)
	if h.local[net]--; h.local[net] <= 0 {
		delete(h.local, net)
	}
	delete(n.local[on], port)
	if len(n.local[on]) == 0 {
		delete(n.local, on)
		b.mark(nodestate.NetworkKey(string(net)))
	}
}

func (b *batch) nodeChanged(old, new *model.Node) {
	h := b.e.hosts[either(old, new).Host]
	if h == nil {
		return
	}
	name := either(old, new).Host
	if old == nil || new == nil || old.TunnelIP != new.TunnelIP || !sameSet(old.TunnelTypes, new.TunnelTypes) ||
		!maps.Equal(old.BridgeMappings, new.BridgeMappings) {
		for net := range h.local {
			b.mark(nodestate.PeersKey(string(net), name))
		}
	}
	if old == nil || new == nil || old.AvailabilityZone != new.AvailabilityZone {
		for p := range h.ports {
			b.mark(nodestate.DHCPHostKey(string(p)))
		}
	}
}

func sameSet(a, b []string) bool {
	seen := make(map[string]bool, len(a))
	for _, s := range a {
		seen[s] = true
	}
	for _, s := range b {
		if !seen[s] {
			return false
		}
		delete(seen, s)
	}
	return len(seen) == 0
}

func (b *batch) bindingChanged(old, new *model.DHCPBinding) {
	if old != nil && (new == nil || *old != *new) {
		if n, h := b.e.nets[old.NetworkID], b.e.hosts[old.Host]; n != nil && h != nil {
			b.remember(old.Host, old.NetworkID)
			delete(n.servers, old.Host)
			delete(h.serves, old.NetworkID)
			b.serversChanged(old.NetworkID)
		}
	}
	if new != nil {
		b.remember(new.Host, new.NetworkID)
		b.e.network(new.NetworkID).servers[new.Host] = struct{}{}
		b.e.host(new.Host).serves[new.NetworkID] = struct{}{}
		b.serversChanged(new.NetworkID)
	}
}

func (b *batch) serversChanged(net model.ID) {
	b.mark(nodestate.NetworkKey(string(net)))
	b.mark(nodestate.DHCPKey(string(net)))
	b.recheck[net] = struct{}{}
}

// remember keeps a node's subscription to a network as it was before the batch.
func (b *batch) remember(host string, net model.ID) {
	if b.silent {
		return
	}
	at := pair{host, net}
	if _, ok := b.before[at]; !ok {
		b.before[at] = b.e.subscribed(at)
	}
}

func (e *Engine) subscribed(at pair) subscription {
	h := e.hosts[at.host]
	if h == nil {
		return subscription{}
	}
	_, dhcp := h.serves[at.net]
	return subscription{wire: dhcp || h.local[at.net] > 0, dhcp: dhcp}
}

func (e *Engine) network(id model.ID) *network {
	n := e.nets[id]
	if n == nil {
		n = &network{
			local:   make(map[string]map[model.ID]struct{}),
			servers: make(map[string]struct{}),
			peers:   make(map[string]struct{}),
			names:   make(map[model.ID]struct{}),
		}
		e.nets[id] = n
	}
	return n
}

func (e *Engine) host(name string) *host {
	h := e.hosts[name]
	if h == nil {
		h = &host{
			ports: make(map[model.ID]struct{}), local: make(map[model.ID]int), serves: make(map[model.ID]struct{}),
			groups: make(map[model.ID]int), members: make(map[model.ID]int), trunks: make(map[model.ID]struct{}),
		}
		e.hosts[name] = h
	}
	return h
}

// nodes are all nodes that need a network's first group.
func (n *network) nodes() iter.Seq[string] {
	return func(yield func(string) bool) {
		for h := range n.local {
			if !yield(h) {
				return
			}
		}
		for h := range n.servers {
			if _, ok := n.local[h]; !ok && !yield(h) {
				return
			}
		}
	}
}

func either[T any](a, b *T) *T {
	if b != nil {
		return b
	}
	if a != nil {
		return a
	}
	return new(T) // a change of nothing to nothing: no store makes it, and it matches nothing
}
