package hybrid

import (
	"fmt"
	"net/netip"
	"testing"

	"baryon/internal/nodestate"
)

// lines counts the rules that a node has with some ports of one group, and the chains.
func lines(t *testing.T, ports, rules, addresses int) (lines, chains int) {
	t.Helper()
	e, w := NewEngine(), newWorld()
	g := &nodestate.Group{ID: "group", Rules: []nodestate.Rule{anyRule("out4", true, false), anyRule("out6", true, true)}}
	for i := range rules {
		g.Rules = append(g.Rules, tcpRule(fmt.Sprint(i), 1000+i))
	}
	e.Record(g)
	for i := range ports {
		p := &nodestate.Port{ID: fmt.Sprintf("%08x-1111-4222-8333-444444444444", i), MAC: nodestate.MAC{2, 0, 0, 0, 1, byte(i)}, AdminUp: true,
			PortSecurity: true, Hybrid: true, Groups: []string{g.ID}}
		for n := range addresses {
			a := netip.AddrFrom4([4]byte{10, byte(n), 0, byte(i)})
			p.Addresses = append(p.Addresses, nodestate.Address{Prefix: netip.PrefixFrom(a, 16)})
		}
		e.Record(p)
		e.Plugged(p.ID, true)
	}
	w.take(e.Flush())
	for _, r := range w.chains {
		lines += len(r)
	}
	return lines, len(w.chains)
}

// The numbers that docs/firewall.md publishes: rules of both families together.
func TestBudget(t *testing.T) {
	const node, perPort, perRule, perAddress = 20, 59, 1, 2
	if got, _ := lines(t, 0, 0, 0); got != node {
		t.Errorf("a node without ports has %d rules, published %d", got, node)
	}
	one, chains := lines(t, 1, 0, 1)
	if got := one - node; got != perPort {
		t.Errorf("a port costs %d rules, published %d", got, perPort)
	}
	if _, two := lines(t, 2, 0, 1); two-chains != 6 {
		t.Errorf("a port costs %d chains, published 6", two-chains)
	}
	if got, _ := lines(t, 1, 50, 1); got != one+50*perRule {
		t.Errorf("50 rules cost %d, published %d each", got-one, perRule)
	}
	if got, _ := lines(t, 1, 0, 3); got != one+2*perAddress {
		t.Errorf("two addresses more cost %d rules, published %d each", got-one, perAddress)
	}
}

// A rule more of a group changes one chain of each port that has the group, and no other.
func TestARuleChangesOneChainOfAPort(t *testing.T) {
	e := NewEngine()
	g := &nodestate.Group{ID: "group", Rules: []nodestate.Rule{tcpRule("1", 1)}}
	e.Record(g)
	for i, id := range []string{portA, portB} {
		e.Record(testPort(id, byte(i+1), g.ID))
		e.Plugged(id, true)
	}
	e.Flush()
	e.Record(&nodestate.Group{ID: g.ID, Rules: append(g.Rules[:1:1], tcpRule("2", 2))})
	if d := e.Flush(); len(d.Chains) != 2 || len(d.Check) != 0 || len(d.Touched) != 2 {
		t.Errorf("a rule more changes %d chains, has %d ports checked and %d touched", len(d.Chains), len(d.Check), len(d.Touched))
	}
	e.Record(g)
	if d := e.Flush(); len(d.Chains) != 2 || len(d.Check) != 2 {
		t.Errorf("a rule less changes %d chains and has %d ports checked", len(d.Chains), len(d.Check))
	}
}
