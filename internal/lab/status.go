package lab

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// NodeStatus is what is known of a node.
type NodeStatus struct {
	Node
	TunnelIP netip.Addr
	Alive    bool
	Services []ServiceStatus // sorted by name
}

// Status asks every node for its services; the servers come first.
func (l *Lab) Status(ctx context.Context) []NodeStatus {
	var list []NodeStatus
	for _, s := range l.state.Servers {
		list = append(list, boxStatus(ctx, l.serverBox(s), Node{Name: s.Name}, netip.Addr{}))
	}
	for _, n := range l.state.Nodes {
		list = append(list, boxStatus(ctx, l.box(n), n.Node, n.TunnelIP))
	}
	return list
}

func boxStatus(ctx context.Context, b *box, n Node, ip netip.Addr) NodeStatus {
	st := NodeStatus{Node: n, TunnelIP: ip, Alive: b.alive(ctx)}
	if !st.Alive {
		return st
	}
	services, err := b.services(ctx)
	if err != nil {
		st.Alive = false // it went away between the two questions
		return st
	}
	slices.SortFunc(services, func(a, b ServiceStatus) int { return strings.Compare(a.Name, b.Name) })
	st.Services = services
	return st
}
