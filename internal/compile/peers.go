package compile

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Peers compiles a network on one host, from the bound ports it has there.  nil: the host carries the network
// in no tunnel.  A port that is administratively down is no peer.
func Peers(r store.Read, n *model.Network, host string, ports iter.Seq[*model.Port]) *nodestate.Peers {
	endpoint, ok := endpoint(r, n, host)
	if !ok {
		return nil
	}
	rec := &nodestate.Peers{NetworkID: string(n.ID), Host: host, Endpoint: endpoint}
	for p := range ports {
		if !p.AdminStateUp {
			continue
		}
		peer := nodestate.Peer{PortID: string(p.ID), MAC: nodestate.MAC(p.MAC)}
		for _, f := range p.FixedIPs {
			peer.IPs = append(peer.IPs, f.IPAddress)
		}
		rec.Peers = append(rec.Peers, peer)
	}
	slices.SortFunc(rec.Peers, func(a, b nodestate.Peer) int { return strings.Compare(a.PortID, b.PortID) })
	return rec
}

// endpoint is where tunnels of the network end on a host: nowhere if the segment that the host carries is no tunnel.
func endpoint(r store.Read, n *model.Network, host string) (netip.Addr, bool) {
	node, ok := store.Get(r, model.NodeTable, host)
	if !ok {
		return netip.Addr{}, false
	}
	seg, ok := carried(n, node)
	if !ok || !seg.Tunnelled() {
		return netip.Addr{}, false
	}
	return node.TunnelIP, true
}
