package firewall

import (
	"maps"
	"slices"

	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// Clause numbers: the port, the rule, the members.
const (
	clausePort    = 1
	clauseRule    = 2
	clauseMembers = 3
)

// ruleOf is the kind of flow that the conjunctions of a group are made of.
func ruleOf(egress, stateless bool) *pipeline.Rule {
	switch {
	case egress && stateless:
		return pipeline.EgressRuleStateless
	case egress:
		return pipeline.EgressRule
	case stateless:
		return pipeline.IngressRuleStateless
	}
	return pipeline.IngressRule
}

// conjsOf lists the conjunctions that a group's rules make, sorted.
func conjsOf(g *nodestate.Group) []conj {
	seen := set[conj]{}
	for i := range g.Rules {
		seen.add(conj{g.ID, g.Rules[i].Egress, g.Rules[i].Members})
	}
	return slices.SortedFunc(maps.Keys(seen), compareConjs)
}

// groupFlows sets the clauses of a group's rules, and what happens when all clauses hold.
func (e *Engine) groupFlows(id string) {
	unit := nodestate.GroupKey(id).String()
	p, ok := e.parts[id]
	if !ok {
		e.book.set(unit, nil)
		return
	}
	var out []want
	p.note = ""
	for i := range p.rec.Rules {
		r := &p.rec.Rules[i]
		c := conj{id, r.Egress, r.Members}
		matches, problem := ruleMatches(r)
		if problem != "" && p.note == "" {
			p.note = problem
		}
		for _, m := range matches {
			out = append(out, clause(ruleOf(r.Egress, p.rec.Stateless), unit, m, e.ids.ids[c], clauseRule, c.clauses()))
		}
	}
	e.parts[id] = p
	// Established connections do not come here: tables 72 and 82 accept them first.
	begins := openflow.CTState("-rel-inv+trk")
	for _, c := range p.conjs {
		met := openflow.MatchOf(openflow.ConjID(e.ids.ids[c]))
		switch {
		case c.egress && p.rec.Stateless:
			out = append(out, flow(pipeline.EgressAdmitsStateless, unit, met, again(pipeline.AcceptOrIngress)))
		case c.egress:
			out = append(out, flow(pipeline.EgressAdmits, unit, met.With(begins), to(pipeline.AcceptEgress)))
		case p.rec.Stateless:
			out = append(out, flow(pipeline.IngressAdmitsStateless, unit, met, outPort()))
		default:
			out = append(out, flow(pipeline.IngressAdmits, unit, met.With(begins), to(pipeline.AcceptIngress)))
		}
	}
	e.book.set(unit, out)
}

// memberFlows sets the clauses of a set of members, for all groups here that name it.
func (e *Engine) memberFlows(id string) {
	unit := nodestate.MembersKey(id).String()
	rec := e.s.Members[id]
	var out []want
	if rec != nil {
		for g := range e.namers[id] {
			p := e.parts[g]
			for _, c := range p.conjs {
				if c.members != id {
					continue
				}
				for _, prefix := range rec.Prefixes {
					if prefix.IsValid() {
						out = append(out, clause(ruleOf(c.egress, p.rec.Stateless), unit, memberMatch(c.egress, prefix), e.ids.ids[c], clauseMembers, c.clauses()))
					}
				}
			}
		}
	}
	e.book.set(unit, out)
}

// clauses sets what a port's groups make of it: which conjunctions it is in, and its flags.
func (e *Engine) clauses(id string) {
	a, ok := e.active[id]
	if !ok || !a.rec.Filtered() {
		e.book.set("clauses/"+id, nil)
		return
	}
	var flags uint32
	if HasIPv6(a.rec) {
		flags |= pipeline.FlagIPv6
	}
	if len(a.rec.Groups) > 0 && !slices.ContainsFunc(a.rec.Groups, func(g string) bool { return e.s.Groups[g] == nil || !e.s.Groups[g].Stateless }) {
		flags |= pipeline.FlagStateless
	}
	if a.flags != flags {
		a.flags = flags
		e.active[id] = a
		e.dirtyNets.add(a.place.VLAN)
		for _, m := range MACs(a.rec) {
			e.dirtyMACs.add(macKey{a.place.VLAN, m})
		}
	}
	e.book.set("port/"+id, filteredFlows(a))
	owner := a.rec.Key().String()
	stateless := openflow.MatchOf(openflow.Reg(pipeline.RegPort, uint32(a.place.OFPort), ^uint32(0)))
	stateful := stateless.With(unset(pipeline.FlagStray)) // what begins no connection is none of their business
	var out []want
	for _, g := range a.rec.Groups {
		p := e.parts[g]
		at := stateful
		if len(p.conjs) > 0 && p.rec.Stateless {
			at = stateless
		}
		for _, c := range p.conjs {
			out = append(out, clause(ruleOf(c.egress, p.rec.Stateless), owner, at, e.ids.ids[c], clausePort, c.clauses()))
		}
	}
	e.book.set("clauses/"+id, out)
}
