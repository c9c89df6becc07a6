package firewall

import (
	"maps"
	"net/netip"
	"slices"

	"baryon/internal/nodestate"
	"baryon/internal/openflow"
)

// Place is where a wired port is on br-int.
type Place struct {
	OFPort int    // OpenFlow number
	VLAN   uint16 // local VLAN of its network
	Uplink int    // OpenFlow number of the port by which its network leaves br-int, 0: patch-tun
}

// State is everything that the wanted flows depend on.
type State struct {
	Ports    map[string]*nodestate.Port
	Groups   map[string]*nodestate.Group
	Members  map[string]*nodestate.Members
	Places   map[string]Place // wired ports, by port id
	PatchTun int              // OpenFlow number of patch-tun; 0: none
}

// NewState makes an empty state.
func NewState() *State {
	return &State{
		Ports: map[string]*nodestate.Port{}, Groups: map[string]*nodestate.Group{}, Members: map[string]*nodestate.Members{},
		Places: map[string]Place{},
	}
}

// Delta is what has changed since the last Flush.
type Delta struct {
	Flows map[openflow.FlowKey]*openflow.Flow // of br-int; nil: wanted no more
	// Revise names the ports whose connections may not all be admitted any more: once the flows are in force, those that are Stale
	// have to be ended.
	Revise []string
	// Freed are conntrack zones whose port has gone: nothing in them counts any more, and they must be empty before a port gets them.
	Freed []int
	// Lacking tells of the filtered ports that were looked at why their filter is not complete; empty: it is.
	Lacking map[string]string
	// Notes tells of them which rules cannot be carried out and admit nothing; empty: none.
	Notes map[string]string
}

type set[K comparable] map[K]struct{}

func (s set[K]) add(k K)           { s[k] = struct{}{} }
func (s set[K]) contains(k K) bool { _, ok := s[k]; return ok }

// into adds member k to the set under g.
func into[G, K comparable](m map[G]set[K], g G, k K) {
	if m[g] == nil {
		m[g] = set[K]{}
	}
	m[g].add(k)
}

func outOf[G, K comparable](m map[G]set[K], g G, k K) {
	delete(m[g], k)
	if len(m[g]) == 0 {
		delete(m, g)
	}
}

type macKey struct {
	vlan uint16
	mac  nodestate.MAC
}

// active is a wired port as it was last taken into account.
type active struct {
	rec   *nodestate.Port
	place Place
	flags uint32
}

// part is a group as it was last taken into account.
type part struct {
	rec   *nodestate.Group
	conjs []conj // sorted
	note  string
}

// Engine keeps the wanted flows up to date.  It is not safe for concurrent use.
type Engine struct {
	s    *State
	book *book
	ids  *conjIDs

	active  map[string]active
	parts   map[string]part             // of groups that a filtered port here has
	users   map[string]set[string]      // group → filtered ports
	namers  map[string]set[string]      // members → groups in use that name them
	nets    map[uint16]set[string]      // local VLAN → wired ports
	macs    map[macKey]set[string]      // → filtered ports
	zones   map[int]string              // zone → filtered port
	had     map[string]*nodestate.Group // as of the last flush, to tell what was taken away
	hadSets map[string]*nodestate.Members

	dirtyPorts, dirtyGroups, dirtyMembers, dirtyClauses set[string]
	dirtyNets                                           set[uint16]
	dirtyMACs                                           set[macKey]
	dirtyStatic                                         bool
	revise                                              set[string]
	freed                                               set[int]
}

// New makes an engine that knows nothing yet.
func New() *Engine {
	return &Engine{
		s: NewState(), book: newBook(), ids: newConjIDs(), active: map[string]active{}, parts: map[string]part{},
		users: map[string]set[string]{}, namers: map[string]set[string]{}, nets: map[uint16]set[string]{}, macs: map[macKey]set[string]{},
		zones: map[int]string{}, had: map[string]*nodestate.Group{}, hadSets: map[string]*nodestate.Members{},
		dirtyPorts: set[string]{}, dirtyGroups: set[string]{}, dirtyMembers: set[string]{}, dirtyClauses: set[string]{},
		dirtyNets: set[uint16]{}, dirtyMACs: set[macKey]{}, dirtyStatic: true, revise: set[string]{}, freed: set[int]{},
	}
}

// State is the engine's state, for looking only.
func (e *Engine) State() *State { return e.s }

// Record takes in a record; kinds that the firewall does not need are ignored.
func (e *Engine) Record(r nodestate.Record) {
	switch r := r.(type) {
	case *nodestate.Port:
		e.s.Ports[r.ID] = r
		e.dirtyPorts.add(r.ID)
	case *nodestate.Group:
		e.s.Groups[r.ID] = r
		e.dirtyGroups.add(r.ID)
	case *nodestate.Members:
		e.s.Members[r.ID] = r
		e.dirtyMembers.add(r.ID)
	}
}

// Forget drops a record.
func (e *Engine) Forget(k nodestate.Key) {
	switch k.Kind {
	case nodestate.KindPort:
		delete(e.s.Ports, k.ID)
		e.dirtyPorts.add(k.ID)
	case nodestate.KindGroup:
		delete(e.s.Groups, k.ID)
		e.dirtyGroups.add(k.ID)
	case nodestate.KindMembers:
		delete(e.s.Members, k.ID)
		e.dirtyMembers.add(k.ID)
	}
}

// Wire says where a port is.
func (e *Engine) Wire(id string, at Place) {
	if e.s.Places[id] != at {
		e.s.Places[id] = at
		e.dirtyPorts.add(id)
	}
}

// Unwire says that a port is on br-int no more.
func (e *Engine) Unwire(id string) {
	if _, ok := e.s.Places[id]; ok {
		delete(e.s.Places, id)
		e.dirtyPorts.add(id)
	}
}

// Patch tells the OpenFlow number of patch-tun; 0 while it has none.
func (e *Engine) Patch(ofport int) {
	if e.s.PatchTun != ofport {
		e.s.PatchTun = ofport
		e.dirtyStatic = true
		for v := range e.nets {
			e.dirtyNets.add(v)
		}
	}
}

// Users are the filtered ports on which a group's or a member set's record bears.
func (e *Engine) Users(k nodestate.Key) []string {
	out := set[string]{}
	switch k.Kind {
	case nodestate.KindGroup:
		maps.Copy(out, e.users[k.ID])
	case nodestate.KindMembers:
		for g := range e.namers[k.ID] {
			maps.Copy(out, e.users[g])
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// Zone is the conntrack zone of a filtered, wired port.
func (e *Engine) Zone(id string) (int, bool) {
	a, ok := e.active[id]
	return a.place.OFPort, ok && a.rec.Filtered()
}

// Stale tells whether a connection in a port's zone must end.
func (e *Engine) Stale(id string, c Connection) bool {
	a, ok := e.active[id]
	return ok && Stale(a.rec, e.s.Groups, e.s.Members, c)
}

// Flush computes what the touched objects want now and returns what has changed.
func (e *Engine) Flush() Delta {
	d := Delta{Lacking: map[string]string{}, Notes: map[string]string{}}
	if e.dirtyStatic {
		e.dirtyStatic = false
		e.book.set("static", staticFlows(e.s.PatchTun))
	}
	looked := maps.Clone(e.dirtyPorts)
	for id := range e.dirtyPorts {
		e.port(id)
	}
	for id := range e.dirtyMembers {
		e.tookMembers(id)
	}
	e.groups()
	for id := range e.dirtyGroups {
		e.groupFlows(id)
		maps.Copy(looked, e.users[id])
	}
	for id := range e.dirtyMembers {
		e.memberFlows(id)
		for g := range e.namers[id] {
			maps.Copy(looked, e.users[g])
		}
	}
	for id := range e.dirtyClauses {
		e.clauses(id)
	}
	for k := range e.dirtyMACs {
		e.macFlow(k)
	}
	for v := range e.dirtyNets {
		e.netFlows(v)
	}
	for id := range looked {
		if a, ok := e.active[id]; ok && a.rec.Filtered() {
			d.Lacking[id], d.Notes[id] = e.lacking(a.rec), e.notes(a.rec)
		}
	}
	for _, s := range []set[string]{e.dirtyPorts, e.dirtyGroups, e.dirtyMembers, e.dirtyClauses} {
		clear(s)
	}
	clear(e.dirtyMACs)
	clear(e.dirtyNets)
	d.Flows = e.book.take()
	d.Revise, d.Freed = slices.Sorted(maps.Keys(e.revise)), slices.Sorted(maps.Keys(e.freed))
	clear(e.revise)
	clear(e.freed)
	return d
}

// port takes the present record and place of a port into account.
func (e *Engine) port(id string) {
	old, was := e.active[id]
	rec, place := e.s.Ports[id], e.s.Places[id]
	is := rec != nil && place.OFPort > 0 && place.VLAN > 0
	if was {
		e.leave(id, old)
	}
	if !is {
		delete(e.active, id)
		e.book.set("port/"+id, nil)
		e.dirtyClauses.add(id)
		return
	}
	a := active{rec: rec, place: place}
	e.active[id] = a
	into(e.nets, place.VLAN, id)
	e.dirtyNets.add(place.VLAN)
	if !rec.Filtered() {
		e.dirtyClauses.add(id)
		e.book.set("port/"+id, openFlows(a))
		return
	}
	if by, taken := e.zones[place.OFPort]; taken && by != id {
		e.freed.add(place.OFPort) // its former owner has not been looked at yet
	}
	e.zones[place.OFPort] = id
	for _, m := range MACs(rec) {
		into(e.macs, macKey{place.VLAN, m}, id)
		e.dirtyMACs.add(macKey{place.VLAN, m})
	}
	for _, g := range rec.Groups {
		if len(e.users[g]) == 0 {
			e.dirtyGroups.add(g)
		}
		into(e.users, g, id)
	}
	e.dirtyClauses.add(id)
	if !was || !old.rec.Filtered() || old.place != place || shrunk(old.rec, rec) {
		e.revise.add(id)
	}
}

// leave takes a port out of all indexes.
func (e *Engine) leave(id string, a active) {
	outOf(e.nets, a.place.VLAN, id)
	e.dirtyNets.add(a.place.VLAN)
	if !a.rec.Filtered() {
		return
	}
	for _, m := range MACs(a.rec) {
		k := macKey{a.place.VLAN, m}
		outOf(e.macs, k, id)
		e.dirtyMACs.add(k)
	}
	for _, g := range a.rec.Groups {
		outOf(e.users, g, id)
		if len(e.users[g]) == 0 {
			e.dirtyGroups.add(g)
		}
	}
	rec, place := e.s.Ports[id], e.s.Places[id]
	if e.zones[a.place.OFPort] == id && (rec == nil || !rec.Filtered() || place.OFPort != a.place.OFPort) {
		delete(e.zones, a.place.OFPort)
		e.freed.add(a.place.OFPort)
	}
}

// shrunk tells whether a port may have lost a group or a source address, so that a connection of it may have lost its right.
func shrunk(old, now *nodestate.Port) bool {
	for _, g := range old.Groups {
		if !slices.Contains(now.Groups, g) {
			return true
		}
	}
	have := Sources(now)
	for _, s := range Sources(old) {
		if !slices.Contains(have, s) {
			return true
		}
	}
	return false
}

// groups decides which groups are in use and which conjunctions they make, and gives those their ids.
func (e *Engine) groups() {
	var add, remove []conj
	for id := range maps.Clone(e.dirtyGroups) {
		rec := e.s.Groups[id]
		if e.had[id] != nil && lost(e.had[id], rec) {
			maps.Copy(e.revise, e.users[id])
		}
		if e.had[id] = rec; rec == nil {
			delete(e.had, id)
		}
		old := e.parts[id]
		var now part
		if rec != nil && len(e.users[id]) > 0 {
			now = part{rec: rec, conjs: conjsOf(rec)}
			e.parts[id] = now
		} else {
			delete(e.parts, id)
		}
		turned := old.rec != nil && now.rec != nil && old.rec.Stateless != now.rec.Stateless
		if turned || (old.rec == nil) != (now.rec == nil) || !slices.Equal(old.conjs, now.conjs) {
			maps.Copy(e.dirtyClauses, e.users[id]) // otherwise the ports' part stays as it is, whatever the rules say
		}
		if turned {
			for _, c := range now.conjs {
				if c.members != "" {
					e.dirtyMembers.add(c.members) // their clauses move to the other priority
				}
			}
		}
		for _, c := range old.conjs {
			if !slices.Contains(now.conjs, c) {
				remove = append(remove, c)
				e.unname(c)
			}
		}
		for _, c := range now.conjs {
			if !slices.Contains(old.conjs, c) {
				add = append(add, c)
				e.name(c)
			}
		}
	}
	for _, c := range e.ids.update(add, remove) {
		e.dirtyGroups.add(c.group)
		maps.Copy(e.dirtyClauses, e.users[c.group])
		if c.members != "" {
			e.dirtyMembers.add(c.members)
		}
	}
}

func (e *Engine) name(c conj) {
	if c.members != "" {
		into(e.namers, c.members, c.group)
		e.dirtyMembers.add(c.members)
	}
}

// unname notes that a group does not speak of a set in one direction any more; it may in the other.
func (e *Engine) unname(c conj) {
	if c.members == "" {
		return
	}
	e.dirtyMembers.add(c.members)
	other := c
	other.egress = !c.egress
	if !slices.Contains(e.parts[c.group].conjs, other) {
		outOf(e.namers, c.members, c.group)
	}
}

// lost tells whether a group admits less than before.
func lost(old, now *nodestate.Group) bool {
	if now == nil || old.Stateless != now.Stateless {
		return true
	}
	content := func(r nodestate.Rule) nodestate.Rule { r.ID = ""; return r }
	have := set[nodestate.Rule]{}
	for _, r := range now.Rules {
		have.add(content(r))
	}
	for _, r := range old.Rules {
		if !have.contains(content(r)) {
			return true
		}
	}
	return false
}

// tookMembers notes whose connections may have lost their right by a change of members.
func (e *Engine) tookMembers(id string) {
	old, now := e.hadSets[id], e.s.Members[id]
	if e.hadSets[id] = now; now == nil {
		delete(e.hadSets, id)
	}
	if old == nil {
		return
	}
	have := set[netip.Prefix]{}
	if now != nil {
		for _, p := range now.Prefixes {
			have.add(p)
		}
	}
	for _, p := range old.Prefixes {
		if !have.contains(p) {
			for g := range e.namers[id] {
				maps.Copy(e.revise, e.users[g])
			}
			return
		}
	}
}

// lacking says what a port's filter waits for.
func (e *Engine) lacking(p *nodestate.Port) string {
	for _, g := range p.Groups {
		rec := e.s.Groups[g]
		if rec == nil {
			return "waiting for security group " + g
		}
		for i := range rec.Rules {
			if m := rec.Rules[i].Members; m != "" && e.s.Members[m] == nil {
				return "waiting for the members of " + m + ", which security group " + g + " names"
			}
		}
	}
	return ""
}

func (e *Engine) notes(p *nodestate.Port) string {
	for _, g := range p.Groups {
		if n := e.parts[g].note; n != "" {
			return "security group " + g + ": " + n
		}
	}
	return ""
}
