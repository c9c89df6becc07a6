package compile

import (
	"maps"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// finish compiles what is marked and finds who must hear of it.
func (b *batch) finish() Delta {
	for id := range b.recheck {
		b.checkServed(id)
	}
	changed := make(map[model.ID][]nodestate.Key) // by network, for nodes that have just left it
	// Rules first: what they name is known only when they are compiled.
	for k := range b.dirty {
		if k.Kind == nodestate.KindGroup {
			b.compileGroup(k)
		}
	}
	for k := range b.dirty {
		b.compile(k, changed)
	}
	b.tellMovers(changed)
	b.sweep()
	return b.delta
}

// checkServed marks all of a network's DHCP when it begins or ceases to be served: by any node, or at all.
func (b *batch) checkServed(id model.ID) {
	n := b.e.nets[id]
	if n == nil {
		return
	}
	row, ok := store.Get(b.after, model.NetworkTable, string(id))
	served := ok && len(n.servers) > 0 && Served(b.after, row)
	if served == n.served {
		return
	}
	n.served = served
	b.mark(nodestate.DHCPKey(string(id)))
	for p := range n.names {
		b.mark(nodestate.DHCPHostKey(string(p)))
	}
	if served {
		for p := range store.Find(b.after, model.PortTable, "network", string(id)) {
			b.mark(nodestate.DHCPHostKey(string(p.ID)))
		}
	}
}

// compile brings one entry up to date and tells the nodes of its group if its bytes changed.
func (b *batch) compile(k nodestate.Key, changed map[model.ID][]nodestate.Key) {
	switch k.Kind {
	case nodestate.KindPort:
		b.compilePort(k)
	case nodestate.KindNetwork:
		id := model.ID(k.ID)
		n := b.e.nets[id]
		var rec nodestate.Record
		if n != nil && len(n.local)+len(n.servers) > 0 {
			if row, ok := store.Get(b.after, model.NetworkTable, k.ID); ok {
				rec = Network(row)
			}
		}
		b.putWire(k, rec, id, n, "", changed)
	case nodestate.KindPeers:
		b.compilePeers(k, changed)
	case nodestate.KindDHCP:
		id := model.ID(k.ID)
		n := b.e.nets[id]
		var rec nodestate.Record
		if n != nil && n.served {
			if row, ok := store.Get(b.after, model.NetworkTable, k.ID); ok {
				rec = DHCP(b.after, b.e.cfg, row)
			}
		}
		if b.e.put(k, rec, "", b.revision) {
			b.tellServers(k, id, changed)
		}
	case nodestate.KindDHCPHost:
		b.compileHost(k, changed)
	case nodestate.KindMembers:
		b.compileMembers(k)
	case nodestate.KindTrunk:
		b.compileTrunk(k)
	}
}

func (b *batch) compilePort(k nodestate.Key) {
	row, ok := store.Get(b.after, model.PortTable, k.ID)
	on := ""
	var rec nodestate.Record
	if ok {
		if on = boundHost(row); on != "" {
			rec = Port(b.after, row)
		}
	}
	changed := b.e.put(k, rec, "", b.revision)
	for _, h := range b.lost[k] {
		b.tell(h, k)
		changed = true // the new carrier has not seen it, though the bytes may be the same
	}
	if changed && on != "" {
		b.tell(on, k)
	}
}

func (b *batch) compilePeers(k nodestate.Key, changed map[model.ID][]nodestate.Key) {
	id, on := splitPeers(k.ID)
	n := b.e.nets[id]
	var rec nodestate.Record
	if n != nil && len(n.local[on]) > 0 {
		if row, ok := store.Get(b.after, model.NetworkTable, string(id)); ok {
			// A nil *Peers must not become a Record that is not nil.
			if p := Peers(b.after, row, on, b.portsOf(n.local[on])); p != nil {
				rec = p
			}
		}
	}
	b.putWire(k, rec, id, n, on, changed)
	if n == nil {
		return
	}
	if b.e.Has(k) {
		n.peers[on] = struct{}{}
	} else {
		delete(n.peers, on)
	}
}

func (b *batch) portsOf(ids map[model.ID]struct{}) func(yield func(*model.Port) bool) {
	return func(yield func(*model.Port) bool) {
		for id := range ids {
			if p, ok := store.Get(b.after, model.PortTable, string(id)); ok && !yield(p) {
				return
			}
		}
	}
}

func (b *batch) compileHost(k nodestate.Key, changed map[model.ID][]nodestate.Key) {
	row, ok := store.Get(b.after, model.PortTable, k.ID)
	var rec nodestate.Record
	var net model.ID
	if ok {
		net = row.NetworkID
		if n := b.e.nets[net]; n != nil && n.served {
			if h := DHCPHost(b.after, b.e.cfg, row); h != nil {
				rec = h
			}
		}
	}
	if old := b.e.entries[k]; old != nil {
		net = old.network
	}
	if !b.e.put(k, rec, net, b.revision) {
		return
	}
	if n := b.e.nets[net]; n != nil {
		if b.e.Has(k) {
			n.names[model.ID(k.ID)] = struct{}{}
		} else {
			delete(n.names, model.ID(k.ID))
		}
	}
	b.tellServers(k, net, changed)
}

// putWire is put for a record of a network's first group; nobody is told of his own peers.
func (b *batch) putWire(k nodestate.Key, rec nodestate.Record, id model.ID, n *network, on string, changed map[model.ID][]nodestate.Key) {
	if !b.e.put(k, rec, "", b.revision) {
		return
	}
	if b.silent {
		return
	}
	changed[id] = append(changed[id], k)
	if n == nil {
		return
	}
	for h := range n.nodes() {
		if h != on {
			b.tell(h, k)
		}
	}
}

func (b *batch) tellServers(k nodestate.Key, id model.ID, changed map[model.ID][]nodestate.Key) {
	if b.silent {
		return
	}
	changed[id] = append(changed[id], k)
	if n := b.e.nets[id]; n != nil {
		for h := range n.servers {
			b.tell(h, k)
		}
	}
}

// tellMovers tells nodes that joined or left a group of all its keys: those it has now and those it had until this batch.
func (b *batch) tellMovers(changed map[model.ID][]nodestate.Key) {
	for at, was := range b.before {
		is := b.e.subscribed(at)
		n := b.e.nets[at.net]
		tell := func(k nodestate.Key) bool {
			b.tell(at.host, k)
			return true
		}
		if was.wire != is.wire {
			n.wireKeys(at.net, at.host, tell)
		}
		if was.dhcp != is.dhcp {
			n.dhcpKeys(at.net, tell)
		}
		if was.wire && !is.wire || was.dhcp && !is.dhcp {
			for _, k := range changed[at.net] {
				tell(k)
			}
		}
	}
}

func (b *batch) tell(host string, k nodestate.Key) {
	if b.silent {
		return
	}
	b.delta.Nodes[host] = append(b.delta.Nodes[host], k)
}

// sweep forgets networks and hosts that nothing points to any more.
func (b *batch) sweep() {
	for at := range b.before {
		if n := b.e.nets[at.net]; n != nil && len(n.local)+len(n.servers)+len(n.peers)+len(n.names) == 0 {
			delete(b.e.nets, at.net)
		}
		if h := b.e.hosts[at.host]; h != nil && len(h.ports)+len(h.serves)+len(h.local) == 0 {
			delete(b.e.hosts, at.host)
		}
	}
}

// splitPeers undoes nodestate.PeersKey.  Network ids hold no at sign.
func splitPeers(id string) (net model.ID, host string) {
	n, h, _ := strings.Cut(id, "@")
	return model.ID(n), h
}

// Hosts are all nodes that need at least one record.
func (e *Engine) Hosts() []string {
	out := make([]string, 0, len(e.hosts))
	for h := range maps.Keys(e.hosts) {
		out = append(out, h)
	}
	return out
}
