package openflow

import (
	"cmp"
	"slices"
)

// DefaultPriority is the priority that ovs-ofctl does not print.
const DefaultPriority = 32768

// FlowFlags are the OFPFF flags of a flow.
type FlowFlags uint16

// Flags of a flow.  ResetCounts and CheckOverlap act when the flow is added; a switch remembers the other three.
const (
	SendFlowRem  FlowFlags = 1 << 0 // tell the controllers when the flow goes
	CheckOverlap FlowFlags = 1 << 1 // refuse to add when flows of this priority overlap
	ResetCounts  FlowFlags = 1 << 2
	NoPktCounts  FlowFlags = 1 << 3
	NoByteCounts FlowFlags = 1 << 4
)

// Flow is one entry of a flow table.  Timeouts are in seconds, 0 means for ever.  No actions means drop.
type Flow struct {
	Table       uint8
	Priority    uint16
	Cookie      uint64
	IdleTimeout uint16
	HardTimeout uint16
	Flags       FlowFlags
	Importance  uint16 // OpenFlow 1.4 and later: what an evicting table keeps longer
	Match       Match
	Actions     []Action
}

// FlowKey is what a switch tells flows apart by.
type FlowKey struct {
	Table    uint8
	Priority uint16
	Match    Match
}

// Key returns the identity of the flow.
func (f *Flow) Key() FlowKey { return FlowKey{f.Table, f.Priority, f.Match} }

// Equal reports whether two flows are the same in all that a dump shows but counters.
func (f *Flow) Equal(g *Flow) bool {
	return f.Table == g.Table && f.Priority == g.Priority && f.Cookie == g.Cookie && f.IdleTimeout == g.IdleTimeout &&
		f.HardTimeout == g.HardTimeout && f.kept() == g.kept() && f.Importance == g.Importance && f.Match == g.Match &&
		ActionsEqual(f.Actions, g.Actions)
}

// kept are the flags that a switch remembers.
func (f *Flow) kept() FlowFlags { return f.Flags & (SendFlowRem | NoPktCounts | NoByteCounts) }

// Err tells why the flow cannot be encoded, nil for a good one.
func (f *Flow) Err() error {
	m := FlowMod{Command: Add, Flow: *f}
	_, err := m.appendBody(nil, V14)
	return err
}

// SortFlows orders flows for reading: by table, then highest priority first, then by text.
func SortFlows(flows []Flow) {
	text := make(map[FlowKey]string, len(flows))
	slices.SortFunc(flows, func(a, b Flow) int {
		if c := cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority)); c != 0 {
			return c
		}
		return cmp.Compare(flowText(text, &a), flowText(text, &b))
	})
}

func flowText(text map[FlowKey]string, f *Flow) string {
	k := f.Key()
	s, ok := text[k]
	if !ok {
		s = f.Match.String()
		text[k] = s
	}
	return s
}

// Changes is how to get from one set of flows to another.
type Changes struct {
	Adds    []FlowMod // flows that are not there
	Mods    []FlowMod // flows that are there with other actions, cookie, timeouts or flags
	Deletes []FlowMod // flows that are there and not wanted
}

// Len is the number of flow mods.
func (c *Changes) Len() int { return len(c.Adds) + len(c.Mods) + len(c.Deletes) }

// All lists the flow mods in an order that opens no hole: what is wanted comes in before what is not wanted goes.
func (c *Changes) All() []FlowMod {
	return slices.Concat(c.Adds, c.Mods, c.Deletes)
}

// FlowMap indexes flows by their key; a later flow wins over an earlier one with the same key.
func FlowMap(flows []Flow) map[FlowKey]Flow {
	m := make(map[FlowKey]Flow, len(flows))
	for i := range flows {
		m[flows[i].Key()] = flows[i]
	}
	return m
}

// StatsMap indexes a dump by flow key.
func StatsMap(stats []FlowStats) map[FlowKey]Flow {
	m := make(map[FlowKey]Flow, len(stats))
	for i := range stats {
		m[stats[i].Key()] = stats[i].Flow
	}
	return m
}

// Diff computes what turns have into want.  Counters do not count; a different cookie does.  A changed flow is added over the old
// one without RESET_COUNTS, which keeps its counters and lets the new cookie and timeouts in; if only its actions changed,
// MODIFY_STRICT keeps its age as well.  Each list is sorted by table and priority, so the outcome does not depend on map order.
func Diff(want, have map[FlowKey]Flow) Changes {
	var c Changes
	kept := 0
	for k, w := range want {
		h, ok := have[k]
		if ok {
			kept++
		}
		switch {
		case !ok:
			c.Adds = append(c.Adds, FlowMod{Command: Add, Flow: w})
		case w.Equal(&h):
		case onlyActions(&w, &h):
			c.Mods = append(c.Mods, FlowMod{Command: ModifyStrict, Flow: w})
		default:
			c.Mods = append(c.Mods, FlowMod{Command: Add, Flow: w})
		}
	}
	if kept < len(have) {
		for k := range have {
			if _, ok := want[k]; !ok {
				c.Deletes = append(c.Deletes, FlowMod{Command: DeleteStrict, Flow: Flow{Table: k.Table, Priority: k.Priority, Match: k.Match}})
			}
		}
	}
	for _, list := range [][]FlowMod{c.Adds, c.Mods, c.Deletes} {
		slices.SortFunc(list, func(a, b FlowMod) int {
			return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Match.oxm, b.Match.oxm))
		})
	}
	return c
}

// onlyActions reports whether nothing but the actions differs, which is all that a modify can change.
func onlyActions(w, h *Flow) bool {
	x := *w
	x.Actions = h.Actions
	return x.Equal(h)
}
