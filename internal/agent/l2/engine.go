package l2

import (
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
)

// Engine keeps the wanted state up to date.  It is not safe for concurrent use.
type Engine struct {
	s   *State
	int *book // flows of br-int
	tun *book // flows of br-tun
	// prov are those of the provider bridges.
	prov map[string]*book

	vlans   *vlans
	nets    map[string]*network
	ports   map[string]map[string]struct{} // port id -> names of the devices that claim it
	tunnels map[tunnel]*tunnelState
	using   map[nodestate.Key]tunnel // which tunnel a peers record needs

	tunnelNames map[string]tunnel

	trunkOf map[string]set[string]     // port id -> ids of the trunks that it is part of (one, but for moments)
	patches map[string]map[string]bool // trunk id -> its patch ports, and which of them are on its own bridge
	said    map[string]Verdict         // on ports
	limited map[string]ovsdb.Limits    // by device
	meters  *meterBook                 // of br-int

	dirtyTrunks  set[string]
	dirtyNets    set[string]
	dirtyPorts   set[string]
	dirtyFlood   set[string]
	dirtyPeers   set[nodestate.Key]
	dirtyTunnels set[tunnel]
	dirtyBridges set[string]
	dirtyStatic  bool
	gone         map[string]struct{} // devices whose tag is wanted no more
	places       map[string]Place    // of the wired ports, by port id
	out          Delta
}

// network is what belongs together through a network id, whether its record is known or not.
type network struct {
	ports   set[string]        // port records in it
	peers   set[nodestate.Key] // peers records of it
	segment Segment            // whose VLAN it has
	carried nodestate.Segment  // the same on the wire, with its physical network
	vlan    uint16             // 0: none
}

type tunnelState struct {
	users set[nodestate.Key] // peers records that need it
	has   bool               // wanted now
	last  int                // OpenFlow number its flows were made with
}

type set[K comparable] map[K]struct{}

func (s set[K]) add(k K)           { s[k] = struct{}{} }
func (s set[K]) contains(k K) bool { _, ok := s[k]; return ok }

// Delta is what has changed in the wanted state.  A nil value means: wanted no more.
type Delta struct {
	Int, Tun map[openflow.FlowKey]*openflow.Flow
	Provider map[string]map[openflow.FlowKey]*openflow.Flow // by provider bridge
	NoBridge []string                                       // bridges that carry no physical network any more; those in Provider, too, do so anew
	Ports    map[string]*ovsdb.Port                         // ports of ours
	Tags     map[string]*ovsdb.Tagging                      // of devices on br-int
	Forget   []openflow.FlowMod                             // learned flows on br-tun that must go
	Verdicts map[nodestate.Key]Verdict                      // of the records that were looked at
	Limits   map[string]*ovsdb.Limits                       // of devices on br-int
	Meters   map[uint32]*openflow.MeterConfig               // of br-int, by number
	Places   map[string]*Place                              // of ports, by id: where they are switched now
	VLANs    bool                                           // the local VLANs have changed
}

func newDelta() Delta {
	return Delta{Ports: map[string]*ovsdb.Port{}, Tags: map[string]*ovsdb.Tagging{}, Verdicts: map[nodestate.Key]Verdict{},
		Places: map[string]*Place{}, Limits: map[string]*ovsdb.Limits{}}
}

// New makes an engine for a node that knows nothing yet.
func New(n Node) *Engine { return newEngine(NewState(n)) }

func newEngine(s *State) *Engine {
	return &Engine{
		s: s, int: newBook(), tun: newBook(), prov: map[string]*book{}, dirtyBridges: set[string]{}, vlans: newVLANs(), nets: map[string]*network{},
		ports: map[string]map[string]struct{}{}, tunnels: map[tunnel]*tunnelState{}, using: map[nodestate.Key]tunnel{},
		tunnelNames: map[string]tunnel{}, trunkOf: map[string]set[string]{}, patches: map[string]map[string]bool{}, said: map[string]Verdict{},
		limited: map[string]ovsdb.Limits{}, meters: newMeterBook(), dirtyTrunks: set[string]{},
		dirtyNets: set[string]{}, dirtyPorts: set[string]{}, dirtyFlood: set[string]{}, dirtyPeers: set[nodestate.Key]{},
		dirtyTunnels: set[tunnel]{}, dirtyStatic: true, gone: map[string]struct{}{}, places: map[string]Place{}, out: newDelta(),
	}
}

// State is the engine's state, for looking only.
func (e *Engine) State() *State { return e.s }

// VLAN is the local VLAN of a network, 0 if it has none here.
func (e *Engine) VLAN(networkID string) uint16 {
	if n := e.nets[networkID]; n != nil {
		return n.vlan
	}
	return 0
}

// VLANs are the given local VLANs.
func (e *Engine) VLANs() map[Segment]uint16 { return e.vlans.given }

// Remember tells of a local VLAN that a segment had before this process.
func (e *Engine) Remember(s Segment, id uint16) { e.vlans.remember(s, id) }

func (e *Engine) network(id string) *network {
	n := e.nets[id]
	if n == nil {
		n = &network{ports: set[string]{}, peers: set[nodestate.Key]{}}
		e.nets[id] = n
	}
	return n
}

func (e *Engine) prune(id string) {
	if n := e.nets[id]; n != nil && len(n.ports) == 0 && len(n.peers) == 0 && n.vlan == 0 && e.s.Networks[id] == nil {
		delete(e.nets, id)
	}
}

// Record takes in a record; kinds that are not switched are ignored.
func (e *Engine) Record(r nodestate.Record) {
	switch r := r.(type) {
	case *nodestate.Network:
		e.s.Networks[r.ID] = r
		e.network(r.ID)
		e.touchNetwork(r.ID)
	case *nodestate.Port:
		if old := e.s.Ports[r.ID]; old != nil && old.NetworkID != r.NetworkID {
			delete(e.network(old.NetworkID).ports, r.ID)
			e.dirtyNets.add(old.NetworkID)
		}
		e.s.Ports[r.ID] = r
		e.network(r.NetworkID).ports.add(r.ID)
		e.dirtyPorts.add(r.ID)
		e.dirtyNets.add(r.NetworkID)
		e.touchTrunkOf(r.ID)
	case *nodestate.Trunk:
		e.trunkRecord(r.ID, r)
	case *nodestate.Peers:
		k := r.Key()
		e.s.Peers[k] = r
		e.network(r.NetworkID).peers.add(k)
		e.dirtyPeers.add(k)
		e.dirtyFlood.add(r.NetworkID)
	}
}

// Forget drops a record.
func (e *Engine) Forget(k nodestate.Key) {
	switch k.Kind {
	case nodestate.KindNetwork:
		if e.s.Networks[k.ID] != nil {
			delete(e.s.Networks, k.ID)
			e.touchNetwork(k.ID)
		}
	case nodestate.KindPort:
		if r := e.s.Ports[k.ID]; r != nil {
			delete(e.s.Ports, k.ID)
			delete(e.network(r.NetworkID).ports, k.ID)
			e.dirtyPorts.add(k.ID)
			e.dirtyNets.add(r.NetworkID)
			delete(e.said, k.ID)
			e.touchTrunkOf(k.ID)
		}
	case nodestate.KindTrunk:
		if e.s.Trunks[k.ID] != nil {
			e.trunkRecord(k.ID, nil)
		}
	case nodestate.KindPeers:
		if r := e.s.Peers[k]; r != nil {
			delete(e.s.Peers, k)
			delete(e.network(r.NetworkID).peers, k)
			e.dirtyPeers.add(k)
			e.dirtyFlood.add(r.NetworkID)
		}
	}
}

// touchNetwork marks a network and everything in it.
func (e *Engine) touchNetwork(id string) {
	e.dirtyNets.add(id)
	e.dirtyFlood.add(id)
	n := e.network(id)
	for p := range n.ports {
		e.dirtyPorts.add(p)
	}
	for k := range n.peers {
		e.dirtyPeers.add(k)
	}
}

// Confirm says that a complete state of a server has been taken in: what no record speaks of may go.
func (e *Engine) Confirm() {
	if e.s.Confirmed {
		return
	}
	e.s.Confirmed = true
	for id := range e.ports {
		e.dirtyPorts.add(id)
	}
}

// Device takes in what is known of a device that carries an iface-id.
func (e *Engine) Device(d Device) {
	old, had := e.s.Devices[d.Name]
	if had && old == d {
		return
	}
	if had && old.IfaceID != d.IfaceID {
		e.unclaim(old)
	}
	e.s.Devices[d.Name] = d
	if e.ports[d.IfaceID] == nil {
		e.ports[d.IfaceID] = map[string]struct{}{}
	}
	e.ports[d.IfaceID][d.Name] = struct{}{}
	delete(e.gone, d.Name)
	e.touchTrunkOf(d.IfaceID)
	// A new tag alone decides something only for a device whose wiring depends on what it had.
	if had && old.IfaceID == d.IfaceID && old.OFPort == d.OFPort && old.Error == d.Error &&
		old.Metered == d.Metered && old.Shaped == d.Shaped && e.s.Confirmed && !e.isService(d.IfaceID) {
		return
	}
	e.touchPort(d.IfaceID)
}

func (e *Engine) isService(id string) bool { _, ok := e.s.Services[id]; return ok }

func (e *Engine) touchPort(id string) {
	e.dirtyPorts.add(id)
	if r := e.s.Ports[id]; r != nil {
		e.dirtyNets.add(r.NetworkID)
	}
}

func (e *Engine) unclaim(d Device) {
	delete(e.ports[d.IfaceID], d.Name)
	e.touchTrunkOf(d.IfaceID)
	if len(e.ports[d.IfaceID]) == 0 {
		delete(e.ports, d.IfaceID)
	}
	e.touchPort(d.IfaceID)
}

// Unplug says that a device has gone.
func (e *Engine) Unplug(name string) {
	d, ok := e.s.Devices[name]
	if !ok {
		return
	}
	delete(e.s.Devices, name)
	e.unclaim(d)
	e.gone[name] = struct{}{}
}

// Service takes in an internal port that a service wants.
func (e *Engine) Service(p ServicePort) {
	if old, ok := e.s.Services[p.ID]; ok {
		if old == p {
			return
		}
		if old.Name != p.Name {
			e.out.Ports[old.Name] = nil
		}
	}
	e.s.Services[p.ID] = p
	e.out.Ports[p.Name] = servicePort(p)
	e.touchPort(p.ID)
}

// NoService says that a service wants the port no more.
func (e *Engine) NoService(id string) {
	p, ok := e.s.Services[id]
	if !ok {
		return
	}
	delete(e.s.Services, id)
	e.out.Ports[p.Name] = nil
	e.touchPort(id)
}

func servicePort(p ServicePort) *ovsdb.Port {
	return &ovsdb.Port{
		Name: p.Name, Bridge: names.BrInt, Type: "internal", MTU: p.MTU, Dead: true, Options: map[string]string{},
		ExternalIDs: map[string]string{
			ovsdb.KeyIfaceID: p.ID, ovsdb.KeyAttachedMAC: p.MAC.String(), ovsdb.KeyIfaceStatus: "active",
		},
	}
}

// Hold keeps a port on the dead VLAN for a reason; an empty reason lets it go.
func (e *Engine) Hold(id, why string) {
	if e.s.Held[id] == why {
		return
	}
	if e.s.Held[id] = why; why == "" {
		delete(e.s.Held, id)
	}
	e.touchPort(id)
}

// Patch tells the OpenFlow numbers of patch-tun on br-int and patch-int on br-tun; 0 while they have none.
func (e *Engine) Patch(patchTun, patchInt int) {
	if e.s.PatchTun != patchTun || e.s.PatchInt != patchInt {
		e.s.PatchTun, e.s.PatchInt = patchTun, patchInt
		e.dirtyStatic = true
	}
}

// Tunnel tells the OpenFlow number of a tunnel port that exists; 0 when it has none or is gone.
func (e *Engine) Tunnel(name string, ofport int) {
	if e.s.Tunnels[name] == ofport {
		return
	}
	if ofport == 0 {
		delete(e.s.Tunnels, name)
	} else {
		e.s.Tunnels[name] = ofport
	}
	t, ok := e.tunnelNames[name]
	if !ok {
		return
	}
	e.dirtyTunnels.add(t)
	for k := range e.tunnels[t].users {
		e.dirtyPeers.add(k)
		if r := e.s.Peers[k]; r != nil {
			e.dirtyFlood.add(r.NetworkID)
		}
	}
}
