package compile

import (
	"slices"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// group is what the engine knows of a security group that filters a port somewhere.
type group struct {
	hosts map[string]struct{}   // with filtered ports of the group
	refs  map[model.ID]struct{} // Members records that its compiled rules name
}

// filtersChanged follows which groups filter a port on which node, and whose members' addresses it has.
func (b *batch) filtersChanged(old, new *model.Port) {
	from, to := boundHost(old), boundHost(new)
	was, is := groupsOf(old), groupsOf(new)
	for _, g := range was {
		if from != to || !slices.Contains(is, g) {
			b.leaveGroup(from, g)
		}
	}
	for _, g := range is {
		if from != to || !slices.Contains(was, g) {
			b.joinGroup(to, g)
		}
	}
	if old != nil && new != nil && slices.Equal(old.SecurityGroups, new.SecurityGroups) && slices.Equal(old.FixedIPs, new.FixedIPs) &&
		slices.Equal(old.AllowedAddressPairs, new.AllowedAddressPairs) {
		return
	}
	for _, p := range []*model.Port{old, new} {
		if p == nil {
			continue
		}
		for _, g := range p.SecurityGroups {
			b.markMembers(g)
		}
	}
}

// markMembers marks a set of addresses if any node needs it.
func (b *batch) markMembers(id model.ID) {
	if len(b.e.members[id]) > 0 {
		b.mark(nodestate.MembersKey(string(id)))
	}
}

func (b *batch) groupChanged(old, new *model.SecurityGroup) {
	if old == nil || new == nil || old.Stateful != new.Stateful {
		b.mark(nodestate.GroupKey(string(either(old, new).ID)))
	}
}

// joinGroup counts one more filtered port of a group on a node.
func (b *batch) joinGroup(on string, id model.ID) {
	h := b.e.host(on)
	if h.groups[id]++; h.groups[id] > 1 {
		return
	}
	k := nodestate.GroupKey(string(id))
	g := b.e.groups[id]
	if g == nil {
		g = &group{hosts: make(map[string]struct{})}
		b.e.groups[id] = g
		b.mark(k)
	}
	g.hosts[on] = struct{}{}
	b.tell(on, k)
	for m := range g.refs {
		b.joinMembers(on, m)
	}
}

// leaveGroup counts one less.  The record of a group that filters nothing any more goes when the batch is compiled.
func (b *batch) leaveGroup(on string, id model.ID) {
	h, g := b.e.hosts[on], b.e.groups[id]
	if h == nil || g == nil || h.groups[id] == 0 {
		return
	}
	if h.groups[id]--; h.groups[id] > 0 {
		return
	}
	delete(h.groups, id)
	delete(g.hosts, on)
	k := nodestate.GroupKey(string(id))
	b.tell(on, k)
	for m := range g.refs {
		b.leaveMembers(on, m)
	}
	if len(g.hosts) == 0 {
		b.mark(k)
	}
}

// joinMembers counts one more group on a node whose rules name a set of addresses.
func (b *batch) joinMembers(on string, id model.ID) {
	h := b.e.host(on)
	if h.members[id]++; h.members[id] > 1 {
		return
	}
	k := nodestate.MembersKey(string(id))
	if b.e.members[id] == nil {
		b.e.members[id] = make(map[string]struct{})
		b.mark(k)
	}
	b.e.members[id][on] = struct{}{}
	b.tell(on, k)
}

func (b *batch) leaveMembers(on string, id model.ID) {
	h := b.e.hosts[on]
	if h == nil || h.members[id] == 0 {
		return
	}
	if h.members[id]--; h.members[id] > 0 {
		return
	}
	delete(h.members, id)
	delete(b.e.members[id], on)
	k := nodestate.MembersKey(string(id))
	b.tell(on, k)
	if len(b.e.members[id]) == 0 {
		b.mark(k)
	}
}

// compileGroup compiles a group and follows what its rules name; what they begin or cease to name is marked.
func (b *batch) compileGroup(k nodestate.Key) {
	id := model.ID(k.ID)
	g := b.e.groups[id]
	if g == nil {
		return // no node needs it
	}
	var rec nodestate.Record
	var refs map[model.ID]struct{}
	if row, ok := store.Get(b.after, model.SecurityGroupTable, k.ID); ok && len(g.hosts) > 0 {
		compiled := Group(b.after, row)
		rec, refs = compiled, references(compiled)
	}
	for h := range g.hosts {
		for m := range refs {
			if _, ok := g.refs[m]; !ok {
				b.joinMembers(h, m)
			}
		}
		for m := range g.refs {
			if _, ok := refs[m]; !ok {
				b.leaveMembers(h, m)
			}
		}
	}
	g.refs = refs
	if b.e.put(k, rec, "", b.revision) {
		for h := range g.hosts {
			b.tell(h, k)
		}
	}
	if len(g.hosts) == 0 {
		delete(b.e.groups, id)
	}
}

func (b *batch) compileMembers(k nodestate.Key) {
	id := model.ID(k.ID)
	hosts := b.e.members[id]
	var rec nodestate.Record
	if len(hosts) > 0 {
		rec = Members(b.after, id)
	} else {
		delete(b.e.members, id)
	}
	if !b.e.put(k, rec, "", b.revision) {
		return
	}
	for h := range hosts {
		b.tell(h, k)
	}
}
