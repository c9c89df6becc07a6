package l2

import "baryon/internal/openflow"

// book keeps the wanted flows of one bridge by the unit that wants them.  Two units may want the same flow key (two peers that claim
// one MAC); the unit with the smaller name wins, whatever came first, and the other takes over when it goes.
type book struct {
	units map[string][]openflow.FlowKey
	flows map[openflow.FlowKey]claim
	more  map[openflow.FlowKey][]claim // further claims, rare
	dirty map[openflow.FlowKey]struct{}
}

type claim struct {
	unit string
	flow openflow.Flow
}

func newBook() *book {
	return &book{
		units: map[string][]openflow.FlowKey{}, flows: map[openflow.FlowKey]claim{},
		more: map[openflow.FlowKey][]claim{}, dirty: map[openflow.FlowKey]struct{}{},
	}
}

// set replaces the flows of a unit.
func (b *book) set(unit string, flows []openflow.Flow) {
	old := b.units[unit]
	for _, k := range old {
		b.drop(unit, k)
	}
	if len(flows) == 0 {
		delete(b.units, unit)
		return
	}
	keys := make([]openflow.FlowKey, 0, len(flows))
	for i := range flows {
		k := flows[i].Key()
		if b.claim(k, claim{unit, flows[i]}) {
			keys = append(keys, k)
		}
	}
	b.units[unit] = keys
}

// claim adds c; of one unit's flows with the same key the first counts.
func (b *book) claim(k openflow.FlowKey, c claim) bool {
	cur, ok := b.flows[k]
	switch {
	case !ok:
		b.flows[k] = c
	case cur.unit == c.unit:
		return false
	case c.unit < cur.unit:
		b.flows[k] = c
		b.more[k] = append(b.more[k], cur)
	default:
		for _, m := range b.more[k] {
			if m.unit == c.unit {
				return false
			}
		}
		b.more[k] = append(b.more[k], c)
	}
	b.dirty[k] = struct{}{}
	return true
}

func (b *book) drop(unit string, k openflow.FlowKey) {
	b.dirty[k] = struct{}{}
	rest := b.more[k]
	if b.flows[k].unit != unit {
		for i, m := range rest {
			if m.unit == unit {
				b.setMore(k, append(rest[:i:i], rest[i+1:]...))
				return
			}
		}
		return
	}
	if len(rest) == 0 {
		delete(b.flows, k)
		return
	}
	best := 0
	for i := range rest {
		if rest[i].unit < rest[best].unit {
			best = i
		}
	}
	b.flows[k] = rest[best]
	b.setMore(k, append(rest[:best:best], rest[best+1:]...))
}

func (b *book) setMore(k openflow.FlowKey, c []claim) {
	if len(c) == 0 {
		delete(b.more, k)
		return
	}
	b.more[k] = c
}

// take returns the flows that changed since the last take; nil means wanted no more.
func (b *book) take() map[openflow.FlowKey]*openflow.Flow {
	if len(b.dirty) == 0 {
		return nil
	}
	out := make(map[openflow.FlowKey]*openflow.Flow, len(b.dirty))
	for k := range b.dirty {
		if c, ok := b.flows[k]; ok {
			out[k] = &c.flow
		} else {
			out[k] = nil
		}
	}
	clear(b.dirty)
	return out
}
