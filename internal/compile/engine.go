package compile

import (
	"bytes"
	"iter"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Engine holds the compiled records of the whole cloud and who needs them, and keeps both equal to the store by its batches.  Its
// answers equal Node's.
//
// Records stand in groups, and a node needs groups, not records: the ports of a host; a network with its peers; a network's DHCP; a
// security group with the addresses that its rules name.
// So a network of a thousand nodes costs a thousand subscriptions, not a million, and a change costs what it touches: the records
// that read the changed row and the nodes of their groups.
//
// An Engine has one caller at a time; readers may share it between two calls of Apply.
type Engine struct {
	cfg     Config
	encode  func(nodestate.Record) []byte
	read    store.Read
	entries map[nodestate.Key]*Entry
	nets    map[model.ID]*network
	hosts   map[string]*host
	groups  map[model.ID]*group
	members map[model.ID]map[string]struct{} // Members records -> nodes that need them
	trunks  map[model.ID]string              // trunks -> nodes that carry their parents
}

// Entry is a compiled record.  It is a constant: a change makes a new one.
type Entry struct {
	Key      nodestate.Key
	KeyHash  uint64   // nodestate.HashKey
	Hash     uint64   // nodestate.HashContent of Bytes
	Revision int64    // of the store, when the bytes last changed; at start, that of the first snapshot
	Bytes    []byte   // as the encoder made them
	network  model.ID // of a port's DHCPHost; its key does not tell
}

// network is what the engine knows of a network beyond the store's indexes.
type network struct {
	local   map[string]map[model.ID]struct{} // host -> ids of the ports bound there
	servers map[string]struct{}              // hosts that serve its DHCP
	served  bool                             // Served, as of the last batch
	peers   map[string]struct{}              // hosts with a compiled Peers record
	names   map[model.ID]struct{}            // ports with a compiled DHCPHost record
}

// host is what the engine knows of a node.
type host struct {
	ports   map[model.ID]struct{} // bound there
	local   map[model.ID]int      // networks of those ports -> how many
	serves  map[model.ID]struct{} // networks whose DHCP it serves
	groups  map[model.ID]int      // security groups that filter those ports -> how many
	trunks  map[model.ID]struct{} // whose parents are among those ports
	members map[model.ID]int      // what the rules of those groups name -> how many of the groups do
}

// Delta is what a batch changed: per node the keys whose record is new, different or gone for it.  A key may stand twice, and may be
// one that the node never had.
type Delta struct {
	Revision int64
	Nodes    map[string][]nodestate.Key
}

// NewEngine makes an empty engine; Reset fills it.  encode must be a pure function; an empty result means that the record cannot be
// sent and is left out.
func NewEngine(cfg Config, encode func(nodestate.Record) []byte) *Engine {
	return &Engine{cfg: cfg, encode: encode}
}

// Reset forgets everything and compiles the snapshot from scratch.
func (e *Engine) Reset(r store.Read) {
	e.entries = make(map[nodestate.Key]*Entry)
	e.nets = make(map[model.ID]*network)
	e.hosts = make(map[string]*host)
	e.groups = make(map[model.ID]*group)
	e.members = make(map[model.ID]map[string]struct{})
	e.trunks = make(map[model.ID]string)
	b := newBatch(e, r, r.Revision())
	b.silent = true
	for n := range store.All(r, model.NetworkTable) {
		b.networkChanged(nil, n)
	}
	for d := range store.All(r, model.DHCPBindingTable) {
		b.bindingChanged(nil, d)
	}
	for p := range store.All(r, model.PortTable) {
		b.portChanged(nil, p)
	}
	b.finish()
}

// Apply follows one batch of the store and tells which nodes it concerns.
func (e *Engine) Apply(sb store.Batch) Delta {
	b := newBatch(e, sb.After, sb.Revision)
	for _, c := range sb.Changes {
		b.change(c)
	}
	return b.finish()
}

// Revision is that of the last batch applied.
func (e *Engine) Revision() int64 {
	if e.read == nil {
		return 0
	}
	return e.read.Revision()
}

// Get is the record under a key, if the node needs it.
func (e *Engine) Get(node string, k nodestate.Key) (*Entry, bool) {
	ent, ok := e.entries[k]
	if !ok || !e.needs(node, ent) {
		return nil, false
	}
	return ent, true
}

// Has tells whether the key has a record at all, whoever needs it.
func (e *Engine) Has(k nodestate.Key) bool {
	_, ok := e.entries[k]
	return ok
}

// Len is the number of compiled records.
func (e *Engine) Len() int { return len(e.entries) }

// Records are all records that the node needs, in no order.
func (e *Engine) Records(node string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		h := e.hosts[node]
		if h == nil {
			return
		}
		for k := range h.keys(e, node) {
			if ent := e.entries[k]; ent != nil && !yield(ent) {
				return
			}
		}
	}
}

// keys are the keys of all groups of the node; some may have no record.
func (h *host) keys(e *Engine, node string) iter.Seq[nodestate.Key] {
	return func(yield func(nodestate.Key) bool) {
		for p := range h.ports {
			if !yield(nodestate.PortKey(string(p))) {
				return
			}
		}
		for t := range h.trunks {
			if !yield(nodestate.TrunkKey(string(t))) {
				return
			}
		}
		for g := range h.groups {
			if !yield(nodestate.GroupKey(string(g))) {
				return
			}
		}
		for m := range h.members {
			if !yield(nodestate.MembersKey(string(m))) {
				return
			}
		}
		for n := range h.local {
			if !e.nets[n].wireKeys(n, node, yield) {
				return
			}
		}
		for n := range h.serves {
			if h.local[n] == 0 && !e.nets[n].wireKeys(n, node, yield) {
				return
			}
			if !e.nets[n].dhcpKeys(n, yield) {
				return
			}
		}
	}
}

// wireKeys are the keys of a network's first group: the network and its peers on other hosts.
func (n *network) wireKeys(id model.ID, node string, yield func(nodestate.Key) bool) bool {
	if n == nil {
		return true
	}
	if !yield(nodestate.NetworkKey(string(id))) {
		return false
	}
	for h := range n.peers {
		if h != node && !yield(nodestate.PeersKey(string(id), h)) {
			return false
		}
	}
	return true
}

// dhcpKeys are the keys of a network's second group: its DHCP service and the ports that it names.
func (n *network) dhcpKeys(id model.ID, yield func(nodestate.Key) bool) bool {
	if n == nil {
		return true
	}
	if !yield(nodestate.DHCPKey(string(id))) {
		return false
	}
	for p := range n.names {
		if !yield(nodestate.DHCPHostKey(string(p))) {
			return false
		}
	}
	return true
}

// needs tells whether an existing record belongs to a group of the node.
func (e *Engine) needs(node string, ent *Entry) bool {
	h := e.hosts[node]
	if h == nil {
		return false
	}
	id := model.ID(ent.Key.ID)
	switch ent.Key.Kind {
	case nodestate.KindPort:
		_, ok := h.ports[id]
		return ok
	case nodestate.KindNetwork:
		return h.interested(id)
	case nodestate.KindPeers:
		net, on := splitPeers(ent.Key.ID)
		return on != node && h.interested(net)
	case nodestate.KindDHCP:
		_, ok := h.serves[id]
		return ok
	case nodestate.KindDHCPHost:
		_, ok := h.serves[ent.network]
		return ok
	case nodestate.KindGroup:
		return h.groups[id] > 0
	case nodestate.KindMembers:
		return h.members[id] > 0
	case nodestate.KindTrunk:
		_, ok := h.trunks[id]
		return ok
	}
	return false
}

func (h *host) interested(net model.ID) bool {
	if h.local[net] > 0 {
		return true
	}
	_, ok := h.serves[net]
	return ok
}

// put makes the entry of a key say rec, or be gone if rec is nil, and tells whether anything changed.
func (e *Engine) put(k nodestate.Key, rec nodestate.Record, network model.ID, revision int64) bool {
	old := e.entries[k]
	var enc []byte
	if rec != nil {
		enc = e.encode(rec)
	}
	if len(enc) == 0 {
		delete(e.entries, k)
		return old != nil
	}
	if old != nil && bytes.Equal(old.Bytes, enc) {
		return false
	}
	ent := &Entry{Key: k, Hash: nodestate.HashContent(enc), Revision: revision, Bytes: enc, network: network}
	if old != nil {
		ent.KeyHash = old.KeyHash
	} else {
		ent.KeyHash = nodestate.HashKey(k)
	}
	e.entries[k] = ent
	return true
}
