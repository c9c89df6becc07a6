package hybrid

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"baryon/internal/dataplane/netfilter"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Chains that every hybrid node has, without their prefix.
const (
	chainSG       = "sg-chain"
	chainFallback = "sg-fallback"
	chainLocal    = "local"
)

// mode is what is done with a port's packets.
type mode uint8

const (
	filtered mode = iota
	open          // port security is off
	trusted       // one of the network's own
)

// shown is a port that has rules.
type shown struct {
	rec  *nodestate.Port
	mode mode
	zone uint16 // of a filtered port; 0: not tracked (stateless)
}

func modeOf(p *nodestate.Port) mode {
	switch {
	case p.Filtered():
		return filtered
	case p.PortSecurity:
		return trusted
	default:
		return open
	}
}

func wrapped(f netfilter.Family, table, name string) netfilter.Chain {
	return netfilter.Chain{Family: f, Table: table, Name: names.ChainPrefix + name}
}

// skeleton is what stands on every hybrid node whatever its ports.
func skeleton(put func(netfilter.Chain, netfilter.Rules)) {
	for _, f := range netfilter.Families() {
		jumps := func(table, builtIn string, targets ...string) {
			var r netfilter.Rules
			for _, t := range targets {
				r = append(r, rule("-j "+t))
			}
			put(netfilter.Chain{Family: f, Table: table, Name: builtIn}, r)
		}
		jumps("raw", "PREROUTING", names.ChainPrefix+"PREROUTING")
		jumps("raw", "OUTPUT", names.ChainPrefix+"OUTPUT")
		put(wrapped(f, "raw", "OUTPUT"), netfilter.Rules{})
		jumps("filter", "INPUT", names.ChainPrefix+"INPUT")
		jumps("filter", "FORWARD", names.FilterTop, names.ChainPrefix+"FORWARD")
		jumps("filter", "OUTPUT", names.FilterTop, names.ChainPrefix+"OUTPUT")
		put(wrapped(f, "filter", "OUTPUT"), netfilter.Rules{})
		put(wrapped(f, "filter", chainLocal), netfilter.Rules{})
		put(wrapped(f, "filter", chainFallback), netfilter.Rules{rule(comment(noteDefault) + " -j DROP")})
		put(netfilter.Chain{Family: f, Table: "filter", Name: names.FilterTop}, netfilter.Rules{rule("-j " + names.ChainPrefix + chainLocal)})
	}
}

// crossing are the chains that have rules of all ports.
func crossing(ports map[string]*shown, put func(netfilter.Chain, netfilter.Rules)) {
	list := slices.SortedFunc(maps.Values(ports), func(a, b *shown) int {
		return cmp.Or(cmp.Compare(a.mode, b.mode), cmp.Compare(a.rec.ID, b.rec.ID))
	})
	var zones, forward, input, sg netfilter.Rules
	for _, p := range list {
		tap := names.Tap(p.rec.ID)
		out, in := "-m physdev --physdev-out "+tap+" --physdev-is-bridged ", "-m physdev --physdev-in "+tap+" --physdev-is-bridged "
		note := noteTrusted
		switch p.mode {
		case open:
			note = noteOff
			input = append(input, rule(in+comment(noteOff)+" -j ACCEPT"))
			fallthrough
		case trusted:
			forward = append(forward, rule(out+comment(note)+" -j ACCEPT"), rule(in+comment(note)+" -j ACCEPT"))
			continue
		}
		o, i := names.PortChain('o', p.rec.ID), names.PortChain('i', p.rec.ID)
		direct := comment(noteDirect) + " -j " + names.ChainPrefix + chainSG
		forward = append(forward, rule(out+direct), rule(in+direct))
		sg = append(sg, rule(out+comment(noteJump)+" -j "+i), rule(in+comment(noteJump)+" -j "+o))
		input = append(input, rule(in+comment(noteIncoming)+" -j "+o))
		zones = append(zones, zoneRules(p)...)
	}
	sg = append(sg, rule("-j ACCEPT"))
	for _, f := range netfilter.Families() {
		put(wrapped(f, "raw", "PREROUTING"), zones)
		put(wrapped(f, "filter", "FORWARD"), forward)
		put(wrapped(f, "filter", "INPUT"), input)
		put(wrapped(f, "filter", chainSG), sg)
	}
}

const (
	zoneNote = "Set zone for "
	zoneArg  = " -j CT --zone "
)

// zoneRules give a port's packets their conntrack zone, or keep them from being tracked.
func zoneRules(p *shown) netfilter.Rules {
	what := comment(zoneNote+p.rec.ID) + zoneArg + strconv.Itoa(int(p.zone))
	if p.zone == 0 {
		what = comment("Make "+p.rec.ID+" stateless") + " -j CT --notrack"
	}
	qvb, tap := names.Qvb(p.rec.ID), names.Tap(p.rec.ID)
	return netfilter.Rules{
		rule("-m physdev --physdev-in " + qvb + " " + what),
		rule("-i " + qvb + " " + what),
		rule("-m physdev --physdev-in " + tap + " " + what),
	}
}
