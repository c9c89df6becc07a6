package firewall

import (
	"cmp"
	"slices"

	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// book keeps the wanted flows by the unit that wants them.  A flow is wanted by one unit; a clause, a flow of conjunctions, by as many
// as have something to say about its match, and carries what all of them say.
type book struct {
	units map[string][]want
	keys  map[openflow.FlowKey]*entry
	sent  map[openflow.FlowKey]openflow.Flow // as of the last take
	dirty map[openflow.FlowKey]struct{}
}

// want is one unit's wish: a flow, or a conjunction's clause on a match.
type want struct {
	key    openflow.FlowKey
	rule   *pipeline.Rule
	owner  string
	acts   []openflow.Action          // of a flow
	clause openflow.ConjunctionAction // of a clause, whose acts are nil
}

// entry is what is wanted under one key.
type entry struct {
	wants []want // sorted by less
}

func newBook() *book {
	return &book{
		units: map[string][]want{}, keys: map[openflow.FlowKey]*entry{},
		sent: map[openflow.FlowKey]openflow.Flow{}, dirty: map[openflow.FlowKey]struct{}{},
	}
}

// flow is a unit's wish for a whole flow; clause for a part of a conjunctive match.
func flow(r *pipeline.Rule, owner string, m openflow.Match, acts ...openflow.Action) want {
	if acts == nil {
		acts = []openflow.Action{} // drop, which is something else than a clause
	}
	return want{key: openflow.FlowKey{Table: r.Table.ID, Priority: r.Priority, Match: m}, rule: r, owner: owner, acts: acts}
}

func clause(r *pipeline.Rule, owner string, m openflow.Match, id uint32, k, n uint8) want {
	return want{
		key: openflow.FlowKey{Table: r.Table.ID, Priority: r.Priority, Match: m}, rule: r, owner: owner,
		clause: openflow.ConjunctionAction{ID: id, Clause: k, N: n},
	}
}

// set replaces what a unit wants.
func (b *book) set(unit string, wants []want) {
	for _, w := range b.units[unit] {
		e := b.keys[w.key]
		i := slices.IndexFunc(e.wants, func(x want) bool { return compareWants(&x, &w) == 0 })
		e.wants = slices.Delete(e.wants, i, i+1)
		if len(e.wants) == 0 {
			delete(b.keys, w.key)
		}
		b.dirty[w.key] = struct{}{}
	}
	if len(wants) == 0 {
		delete(b.units, unit)
		return
	}
	b.units[unit] = wants
	for _, w := range wants {
		e := b.keys[w.key]
		if e == nil {
			e = &entry{}
			b.keys[w.key] = e
		}
		i, _ := slices.BinarySearchFunc(e.wants, w, func(x, y want) int { return compareWants(&x, &y) })
		e.wants = slices.Insert(e.wants, i, w)
		b.dirty[w.key] = struct{}{}
	}
}

// compareWants orders wishes for one key, so that the outcome does not depend on the order of arrival: flows before clauses, then by
// owner.
func compareWants(x, y *want) int {
	kind := func(w *want) int {
		if w.acts != nil {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(kind(x), kind(y)), cmp.Compare(x.clause.ID, y.clause.ID), cmp.Compare(x.clause.Clause, y.clause.Clause),
		cmp.Compare(x.clause.N, y.clause.N), cmp.Compare(x.owner, y.owner), cmp.Compare(x.rule.Code, y.rule.Code),
	)
}

// made is the flow that an entry's wishes make together.
func (e *entry) made(k openflow.FlowKey) openflow.Flow {
	first := &e.wants[0]
	f := openflow.Flow{Table: k.Table, Priority: k.Priority, Match: k.Match, Actions: first.acts}
	owner, rule := first.owner, first.rule
	if first.acts == nil {
		for i := range e.wants {
			w := &e.wants[i]
			if n := len(f.Actions); n == 0 || f.Actions[n-1] != openflow.Action(w.clause) {
				f.Actions = append(f.Actions, w.clause)
			}
			owner = min(owner, w.owner)
		}
	}
	if len(f.Actions) == 0 {
		f.Actions = nil
	}
	f.Cookie = rule.Cookie(owner)
	return f
}

// take returns the flows that differ from those of the last take; nil means wanted no more.
func (b *book) take() map[openflow.FlowKey]*openflow.Flow {
	out := map[openflow.FlowKey]*openflow.Flow{}
	for k := range b.dirty {
		old, was := b.sent[k]
		e := b.keys[k]
		if e == nil {
			if was {
				delete(b.sent, k)
				out[k] = nil
			}
			continue
		}
		f := e.made(k)
		if !was || !f.Equal(&old) {
			b.sent[k] = f
			out[k] = &f
		}
	}
	clear(b.dirty)
	return out
}
