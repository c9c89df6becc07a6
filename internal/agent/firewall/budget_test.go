package firewall

import (
	"fmt"
	"net/netip"
	"testing"

	"baryon/internal/nodestate"
)

// crowd is a node with ports of one network, each with an IPv4 address and one group of ten rules and the members that it names.
func crowd(ports, rules, members int) *State {
	s := NewState()
	s.PatchTun = 1
	g := &nodestate.Group{ID: "g", Rules: []nodestate.Rule{
		{ID: "r0", Egress: true, Protocol: -1, PortMin: -1, PortMax: -1}, {ID: "r1", Egress: true, IPv6: true, Protocol: -1, PortMin: -1, PortMax: -1},
		{ID: "r2", Protocol: -1, PortMin: -1, PortMax: -1, Members: "m"}, {ID: "r3", IPv6: true, Protocol: -1, PortMin: -1, PortMax: -1, Members: "m"},
		{ID: "r4", Protocol: ProtoICMP, PortMin: -1, PortMax: -1},
	}}
	for i := len(g.Rules); i < rules; i++ {
		g.Rules = append(g.Rules, nodestate.Rule{ID: fmt.Sprintf("r%d", i), Protocol: ProtoTCP, PortMin: 1000 + i, PortMax: 1000 + i})
	}
	m := &nodestate.Members{ID: "m"}
	for i := range members {
		m.Prefixes = append(m.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 32))
	}
	s.Groups["g"], s.Members["m"] = g, m
	for i := range ports {
		p := &nodestate.Port{ID: fmt.Sprintf("p%03d", i), NetworkID: "net", MAC: nodestate.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, PortSecurity: true, AdminUp: true,
			Groups: []string{"g"}, Addresses: []nodestate.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 16)}}}
		s.Ports[p.ID], s.Places[p.ID] = p, Place{OFPort: i + 2, VLAN: 1}
	}
	return s
}

// The numbers that docs/firewall.md publishes.  table 0 adds one flow per port (agent/l2).
func TestBudget(t *testing.T) {
	const perPort, perRule, perMember = 12, 1, 1
	base := len(Want(crowd(1, 10, 0)))
	if got := len(Want(crowd(101, 10, 0))); got != base+100*perPort {
		t.Errorf("100 more ports cost %d flows, published %d each", got-base, perPort)
	}
	if got := len(Want(crowd(1, 60, 0))); got != base+50*perRule {
		t.Errorf("50 more rules cost %d flows, published %d each", got-base, perRule)
	}
	if got := len(Want(crowd(1, 10, 1000))); got != base+1000*perMember {
		t.Errorf("1000 members cost %d flows, published %d each", got-base, perMember)
	}
	const hundred = 1293
	if got := len(Want(crowd(100, 10, 0))); got != hundred || got+100 > 1500 {
		t.Errorf("100 ports with a group of ten rules cost %d flows, published %d", got, hundred)
	}
}

// A member more costs one flow, whatever the number of ports and members; a rule more costs its own.
func TestChangeCostsWhatChanges(t *testing.T) {
	s := crowd(100, 10, 1000)
	e := New()
	wantWith(e, s)
	joined := *s.Members["m"]
	joined.Prefixes = append(append([]netip.Prefix{}, joined.Prefixes...), netip.MustParsePrefix("10.9.200.1/32"))
	e.Record(&joined)
	d := e.Flush()
	if len(d.Flows) != 1 || len(d.Revise) != 0 {
		t.Errorf("a member more changes %d flows and has %d ports looked at", len(d.Flows), len(d.Revise))
	}
	e.Record(s.Members["m"])
	if d = e.Flush(); len(d.Flows) != 1 || len(d.Revise) != 100 {
		t.Errorf("a member less changes %d flows and has %d ports looked at", len(d.Flows), len(d.Revise))
	}
	more := *s.Groups["g"]
	more.Rules = append(append([]nodestate.Rule{}, more.Rules...), nodestate.Rule{ID: "new", Protocol: ProtoUDP, PortMin: 5, PortMax: 5})
	e.Record(&more)
	if d = e.Flush(); len(d.Flows) != 1 || len(d.Revise) != 0 {
		t.Errorf("a rule more changes %d flows and has %d ports looked at", len(d.Flows), len(d.Revise))
	}
	p := *s.Ports["p001"]
	p.Groups = nil
	e.Record(&p)
	if d = e.Flush(); len(d.Flows) != 2 || len(d.Revise) != 1 || d.Revise[0] != "p001" {
		t.Errorf("leaving a group changes %d flows and has %v looked at", len(d.Flows), d.Revise)
	}
	e.Unwire("p002")
	if d = e.Flush(); len(d.Freed) != 1 || d.Freed[0] != s.Places["p002"].OFPort {
		t.Errorf("a port that goes frees zones %v", d.Freed)
	}
}

func TestConjunctionIDsDependOnTheSetOnly(t *testing.T) {
	names := []conj{{"a", true, ""}, {"a", false, "m"}, {"b", true, ""}, {"b", false, ""}, {"c", true, "m"}}
	clash := func(c conj, try int) uint32 { return uint32(len(c.members) + try) }
	var want map[conj]uint32
	for shift := range names {
		x := newConjIDs()
		x.hash = clash
		extra := conj{"0", true, ""}
		x.update([]conj{extra}, nil)
		for i := range names {
			x.update([]conj{names[(i+shift)%len(names)]}, nil)
		}
		x.update(nil, []conj{extra})
		if want == nil {
			want = x.ids
			continue
		}
		for c, id := range x.ids {
			if want[c] != id || id == 0 {
				t.Errorf("%v has id %d, in another order %d", c, id, want[c])
			}
		}
	}
}

func TestPortMasksCoverExactly(t *testing.T) {
	for _, r := range [][2]int{{0, 65535}, {1, 100}, {22, 22}, {1024, 65535}, {65535, 65535}, {0, 0}, {5, 4}, {-1, -1}, {80, -1}} {
		lo, hi := max(r[0], 0), r[1]
		if hi < 0 {
			hi = 65535
		}
		masks := portMasks(r[0], r[1])
		for port := 0; port < 65536; port++ {
			n := 0
			for _, m := range masks {
				if uint16(port)&m.mask == m.value {
					n++
				}
			}
			if (n == 1) != (port >= lo && port <= hi) || n > 1 {
				t.Fatalf("%v: port %d is covered %d times", r, port, n)
			}
		}
		if len(masks) > 30 {
			t.Errorf("%v takes %d masks", r, len(masks))
		}
	}
}

func TestFlowsAreSound(t *testing.T) {
	for _, f := range Want(crowd(3, 10, 5)) {
		if err := f.Err(); err != nil {
			t.Errorf("%s: %v", f.String(), err)
		}
	}
}
