package hybrid

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"baryon/internal/agent/firewall"
	"baryon/internal/dataplane/netfilter"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Engine keeps the wanted chains and sets up to date with records and plugged ports.  It is pure and not safe for concurrent use.
type Engine struct {
	ports   map[string]*nodestate.Port
	groups  map[string]*nodestate.Group
	members map[string]*nodestate.Members
	plugged set

	shown   map[string]*shown
	leaving set                         // shown, but to go with the next Finish
	names   map[string]string           // chain id → port that has it
	byGroup map[string]set              // group → shown filtered ports
	users   map[string]set              // members → groups in use whose rules name them
	sets    map[string]netfilter.Family // wanted sets
	texts   map[string]*groupText       // group → its rules in words
	zones   *zones

	dirtyPorts   set
	dirtyMembers set
	dirtyGroups  set
	turned       map[string]*groupText // groups whose rules have changed, and nothing else of them → what they said before
	check        set
	ended        map[uint16]bool // zones of ports that are no more
	crossing     bool            // the chains with rules of all ports must be made anew
	started      bool
	newZones     bool
}

type set map[string]struct{}

func (s set) add(k string)      { s[k] = struct{}{} }
func (s set) has(k string) bool { _, ok := s[k]; return ok }

// groupText is a group's rules in words, by direction and family.
type groupText struct {
	rules map[side]netfilter.Rules
	names []string // members that the rules name
}

type side struct {
	egress bool
	family netfilter.Family
}

// Delta is what has changed in what is wanted.
type Delta struct {
	Chains map[netfilter.Chain]*netfilter.Rules // nil: wanted no more
	Sets   map[string]*netfilter.Set            // nil: wanted no more
	// Check are ports from which something may have been taken: connections that are not admitted any more must be ended.
	Check map[string]uint16 // port → zone
	Ended map[uint16]bool   // zones in which no connection is anybody's any more
	// Touched are the ports whose rules are not all in the kernel before this is.
	Touched []string
	Zones   bool // the zones have changed
}

// NewEngine makes an engine that knows nothing yet.
func NewEngine() *Engine {
	return &Engine{
		ports: map[string]*nodestate.Port{}, groups: map[string]*nodestate.Group{}, members: map[string]*nodestate.Members{}, plugged: set{},
		shown: map[string]*shown{}, leaving: set{}, names: map[string]string{}, byGroup: map[string]set{}, users: map[string]set{},
		sets: map[string]netfilter.Family{}, texts: map[string]*groupText{}, zones: newZones(),
		dirtyPorts: set{}, dirtyMembers: set{}, dirtyGroups: set{}, turned: map[string]*groupText{}, check: set{},
		ended: map[uint16]bool{}, crossing: true,
	}
}

// Record takes in a record; kinds that do not matter here are ignored.  It reports whether it mattered.
func (e *Engine) Record(r nodestate.Record) bool {
	switch r := r.(type) {
	case *nodestate.Port:
		old := e.ports[r.ID]
		e.ports[r.ID] = r
		if old == nil || !reflect.DeepEqual(old, r) {
			e.dirtyPorts.add(r.ID)
			e.checkIf(narrowerPort(old, r), r.ID)
		}
	case *nodestate.Group:
		old := e.groups[r.ID]
		e.groups[r.ID] = r
		if old == nil || !reflect.DeepEqual(old, r) {
			e.groupChanged(r.ID, narrowerGroup(old, r), old != nil && old.Stateless == r.Stateless)
		}
	case *nodestate.Members:
		old := e.members[r.ID]
		e.members[r.ID] = r
		if old == nil || !slices.Equal(old.Prefixes, r.Prefixes) {
			e.membersChanged(r.ID, old != nil && !contains(r.Prefixes, old.Prefixes))
		}
	default:
		return false
	}
	return true
}

// Forget drops a record.
func (e *Engine) Forget(k nodestate.Key) {
	switch k.Kind {
	case nodestate.KindPort:
		if e.ports[k.ID] != nil {
			delete(e.ports, k.ID)
			e.dirtyPorts.add(k.ID)
		}
	case nodestate.KindGroup:
		if e.groups[k.ID] != nil {
			delete(e.groups, k.ID)
			e.groupChanged(k.ID, true, false)
		}
	case nodestate.KindMembers:
		if e.members[k.ID] != nil {
			delete(e.members, k.ID)
			e.membersChanged(k.ID, true)
		}
	}
}

func (e *Engine) checkIf(narrower bool, port string) {
	if narrower {
		e.check.add(port)
	}
}

// groupChanged notes that a group is another, or onlyRules that it has other rules: then the ports that have it stay where they are.
func (e *Engine) groupChanged(id string, narrower, onlyRules bool) {
	if was := e.texts[id]; !onlyRules {
		delete(e.turned, id)
	} else if was != nil && e.turned[id] == nil {
		e.turned[id] = was
	}
	delete(e.texts, id)
	e.dirtyGroups.add(id)
	for p := range e.byGroup[id] {
		if e.turned[id] == nil {
			e.dirtyPorts.add(p)
		}
		e.checkIf(narrower, p)
	}
}

func (e *Engine) membersChanged(id string, narrower bool) {
	e.dirtyMembers.add(id)
	for g := range e.users[id] {
		for p := range e.byGroup[g] {
			e.checkIf(narrower, p)
		}
	}
}

// narrowerPort tells whether a port may have less than before.
func narrowerPort(old, p *nodestate.Port) bool {
	return old != nil && (old.MAC != p.MAC || !contains(p.Groups, old.Groups) || !contains(p.Addresses, old.Addresses) ||
		!contains(p.AllowedPairs, old.AllowedPairs) || old.Filtered() != p.Filtered())
}

func narrowerGroup(old, g *nodestate.Group) bool {
	return old != nil && (old.Stateless != g.Stateless || !contains(g.Rules, old.Rules))
}

// contains tells whether all of what is in list.
func contains[T comparable](list, what []T) bool {
	in := make(map[T]struct{}, len(list))
	for _, x := range list {
		in[x] = struct{}{}
	}
	for _, x := range what {
		if _, ok := in[x]; !ok {
			return false
		}
	}
	return true
}

// Plugged tells whether a port's OVS end of a Linux bridge is on br-int.
func (e *Engine) Plugged(port string, yes bool) {
	if yes == e.plugged.has(port) {
		return
	}
	if yes {
		e.plugged.add(port)
	} else {
		delete(e.plugged, port)
	}
	e.dirtyPorts.add(port)
}

// RememberZone tells of a zone that a port had before this process; the first word on a port or zone counts.
func (e *Engine) RememberZone(port string, zone uint16) { e.zones.remember(port, zone) }

// Zones are the conntrack zones of the ports.
func (e *Engine) Zones() map[string]uint16 { return e.zones.of }

// Finish says that nothing passes the ports any more that have left, so that their rules may go.
func (e *Engine) Finish() {
	for id := range e.leaving {
		e.hide(id)
	}
	clear(e.leaving)
}

// Leaving tells whether some port's rules wait for Finish.
func (e *Engine) Leaving() bool { return len(e.leaving) > 0 }

// KeepZones forgets the zones of ports that are not here; it is called when the state is known to be complete.
func (e *Engine) KeepZones() {
	for id, zone := range e.zones.of {
		if e.shown[id] == nil && e.ports[id] == nil {
			e.zones.drop(id)
			e.ended[zone], e.newZones = true, true
		}
	}
}

// Flush returns what has changed since the last Flush.
func (e *Engine) Flush() Delta {
	d := Delta{Chains: map[netfilter.Chain]*netfilter.Rules{}, Sets: map[string]*netfilter.Set{}, Check: map[string]uint16{}}
	put := func(c netfilter.Chain, r netfilter.Rules) { d.Chains[c] = &r }
	if !e.started {
		e.started = true
		skeleton(put)
	}
	for _, id := range slices.Sorted(maps.Keys(e.dirtyPorts)) {
		e.place(id, &d)
	}
	e.useMembers()
	changed := e.changedSides()
	touched := slices.Sorted(maps.Keys(changed))
	for _, id := range touched {
		if p := e.shown[id]; p != nil && p.mode == filtered && !e.leaving.has(id) {
			e.render(p, changed[id], put)
		}
	}
	if e.crossing {
		e.crossing = false
		crossing(e.shown, put)
	}
	e.flushSets(&d)
	for id := range e.check {
		if p := e.shown[id]; p != nil && p.mode == filtered && p.zone != 0 {
			d.Check[id] = p.zone
		}
	}
	d.Touched, d.Zones, d.Ended = touched, e.newZones, e.ended
	e.ended = map[uint16]bool{}
	e.newZones = false
	clear(e.dirtyPorts)
	clear(e.turned)
	clear(e.check)
	clear(e.dirtyGroups)
	return d
}

// place decides whether and how a port is shown.
func (e *Engine) place(id string, d *Delta) {
	rec, old := e.ports[id], e.shown[id]
	if rec == nil || !e.plugged.has(id) {
		if old != nil {
			e.leaving.add(id)
		} else {
			e.dropChains(id, d)
		}
		return
	}
	delete(e.leaving, id)
	m := modeOf(rec)
	if other := e.names[short(id)]; m == filtered && other != "" && other != id {
		return // refused by Clash
	}
	now := &shown{rec: rec, mode: m}
	if m == filtered {
		e.names[short(id)] = id
		if !e.stateless(rec) {
			var fresh bool
			now.zone, fresh = e.zones.get(id)
			e.newZones = e.newZones || fresh
		}
	}
	if old != nil && old.mode == filtered {
		e.ungroup(old.rec)
		if m != filtered {
			e.dropChains(id, d)
		}
	}
	if m == filtered {
		for _, g := range rec.Groups {
			if e.byGroup[g] == nil {
				e.byGroup[g] = set{}
				e.dirtyGroups.add(g)
			}
			e.byGroup[g].add(id)
		}
	}
	if old == nil || old.mode != m || old.zone != now.zone {
		e.crossing = true
		e.check.add(id) // its zone may know connections from an earlier life
	}
	e.shown[id] = now
}

// Clash is the port that has the names which a port's chains would need, "" if none has.
func (e *Engine) Clash(id string) string {
	if other := e.names[short(id)]; other != id {
		return other
	}
	return ""
}

func short(id string) string { return names.PortChain('i', id) }

// stateless tells whether a port's packets are not tracked: all its groups are stateless.
func (e *Engine) stateless(p *nodestate.Port) bool {
	for _, id := range p.Groups {
		if g := e.groups[id]; g == nil || !g.Stateless {
			return false
		}
	}
	return len(p.Groups) > 0
}

func (e *Engine) ungroup(p *nodestate.Port) {
	for _, g := range p.Groups {
		delete(e.byGroup[g], p.ID)
		if len(e.byGroup[g]) == 0 {
			delete(e.byGroup, g)
			e.dirtyGroups.add(g)
		}
	}
}

// hide ends a port's rules.
func (e *Engine) hide(id string) {
	p := e.shown[id]
	if p == nil {
		return
	}
	delete(e.shown, id)
	if p.mode == filtered {
		e.ungroup(p.rec)
		if e.names[short(id)] == id {
			delete(e.names, short(id))
			for other := range e.plugged {
				if other != id && short(other) == short(id) {
					e.dirtyPorts.add(other)
				}
			}
		}
		if zone := e.zones.of[id]; e.ports[id] == nil && zone != 0 {
			e.zones.drop(id)
			e.ended[zone], e.newZones = true, true
		}
	}
	e.crossing = true
	e.dirtyPorts.add(id)
}

// dropChains wants a port's own chains no more, unless another port has their names.
func (e *Engine) dropChains(id string, d *Delta) {
	if e.names[short(id)] != "" && e.names[short(id)] != id {
		return
	}
	for _, f := range netfilter.Families() {
		for _, kind := range []byte("ios") {
			d.Chains[portChain(f, kind, id)] = nil
		}
	}
	if p := e.shown[id]; p != nil && p.mode == filtered && e.ports[id] != nil {
		delete(e.names, short(id))
	}
}

func portChain(f netfilter.Family, kind byte, id string) netfilter.Chain {
	return netfilter.Chain{Family: f, Table: "filter", Name: names.PortChain(kind, id)}
}

// changedSides lists for each touched port the sides whose chains may be others now; nil means all of them and its sources.
func (e *Engine) changedSides() map[string][]side {
	out := map[string][]side{}
	for group, was := range e.turned {
		if len(e.byGroup[group]) == 0 {
			continue
		}
		now := e.text(group)
		for _, s := range sides() {
			if slices.Equal(was.rules[s], now.rules[s]) {
				continue
			}
			for id := range e.byGroup[group] {
				if !slices.Contains(out[id], s) {
					out[id] = append(out[id], s)
				}
			}
		}
	}
	for id := range e.dirtyPorts {
		out[id] = nil
	}
	return out
}

func sides() []side {
	return []side{{true, netfilter.IPv4}, {true, netfilter.IPv6}, {false, netfilter.IPv4}, {false, netfilter.IPv6}}
}

// render makes a filtered port's own chains of some sides; without sides all.
func (e *Engine) render(p *shown, list []side, put func(netfilter.Chain, netfilter.Rules)) {
	if list == nil {
		list = sides()
		for _, f := range netfilter.Families() {
			put(portChain(f, 's', p.rec.ID), sources(p.rec, f))
		}
	}
	for _, s := range list {
		if s.egress {
			put(portChain(s.family, 'o', p.rec.ID), egress(p.rec, s.family, e.rules(p.rec, s)))
		} else {
			put(portChain(s.family, 'i', p.rec.ID), ingress(p.rec, s.family, e.rules(p.rec, s)))
		}
	}
}

// rules are the rules of all groups of a port for one side, duplicates dropped.
func (e *Engine) rules(p *nodestate.Port, s side) netfilter.Rules {
	var out netfilter.Rules
	seen := map[string]bool{}
	for _, id := range p.Groups {
		for _, r := range e.text(id).rules[s] {
			if !seen[r.Text] {
				seen[r.Text] = true
				out = append(out, r)
			}
		}
	}
	return out
}

func (e *Engine) text(group string) *groupText {
	if t := e.texts[group]; t != nil {
		return t
	}
	t := &groupText{rules: map[side]netfilter.Rules{}}
	if g := e.groups[group]; g != nil {
		for i := range g.Rules {
			r := &g.Rules[i]
			if r.Members != "" && !slices.Contains(t.names, r.Members) {
				t.names = append(t.names, r.Members)
			}
			if x, ok := groupRule(r); ok {
				s := side{r.Egress, netfilter.IPv4}
				if r.IPv6 {
					s.family = netfilter.IPv6
				}
				t.rules[s] = append(t.rules[s], x)
			}
		}
	}
	e.texts[group] = t
	return t
}

// useMembers finds which sets of addresses the rules of the groups in use name.
func (e *Engine) useMembers() {
	for g := range e.dirtyGroups {
		for m, users := range e.users {
			if users.has(g) {
				delete(users, g)
				e.dirtyMembers.add(m)
			}
		}
		if len(e.byGroup[g]) == 0 {
			delete(e.texts, g)
			continue
		}
		for _, m := range e.text(g).names {
			if e.users[m] == nil {
				e.users[m] = set{}
			}
			e.users[m].add(g)
			e.dirtyMembers.add(m)
		}
	}
}

// flushSets makes the sets of touched members: both families of what is named by a rule in use.
func (e *Engine) flushSets(d *Delta) {
	for id := range e.dirtyMembers {
		used := len(e.users[id]) > 0
		if !used {
			delete(e.users, id)
		}
		for _, f := range netfilter.Families() {
			name := names.AddressSet(f == netfilter.IPv6, id)
			if !used {
				if _, ok := e.sets[name]; ok {
					delete(e.sets, name)
					d.Sets[name] = nil
				}
				continue
			}
			e.sets[name] = f
			s := &netfilter.Set{Name: name, Family: f}
			if m := e.members[id]; m != nil {
				for _, p := range m.Prefixes {
					if p.IsValid() && familyOf(p.Addr()) == f {
						s.Members = append(s.Members, p)
					}
				}
			}
			d.Sets[name] = s
		}
	}
	clear(e.dirtyMembers)
}

// Stale lists the connections of a port that its present rules do not admit.
func (e *Engine) Stale(port string, list []netfilter.Entry) []netfilter.Entry {
	p := e.shown[port]
	if p == nil || p.mode != filtered {
		return nil
	}
	var out []netfilter.Entry
	for _, x := range list {
		if !e.admitted(p.rec, x) {
			out = append(out, x)
		}
	}
	return out
}

// admitted tells whether a connection would be admitted now.  An entry does not say from which side it began; that is told by whose
// address is whose, the port's own counting more than its pairs'.  Where both ends may be the port's, either direction will do.
func (e *Engine) admitted(p *nodestate.Port, x netfilter.Entry) bool {
	c := firewall.Connection{Src: x.Src, Dst: x.Dst, Protocol: x.Protocol, SrcPort: x.SrcPort, DstPort: x.DstPort}
	from, to := fixed(p, x.Src), fixed(p, x.Dst)
	if !from && !to {
		from, to = firewall.OwnsAddress(p, x.Src), firewall.OwnsAddress(p, x.Dst)
	}
	if from {
		c.Egress = true
		if !firewall.Stale(p, e.groups, e.members, c) {
			return true
		}
	}
	if to || !from {
		c.Egress = false
		return !firewall.Stale(p, e.groups, e.members, c)
	}
	return false
}

func fixed(p *nodestate.Port, a netip.Addr) bool {
	return slices.ContainsFunc(p.Addresses, func(x nodestate.Address) bool { return x.Prefix.Addr().Unmap() == a })
}
