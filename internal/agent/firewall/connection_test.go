package firewall

import (
	"net/netip"
	"slices"
	"testing"

	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// What becomes of packets by what conntrack says of them: known connections pass without a rule, revoked ones are asked of the rules or
// dropped, nothing begins in the middle, and each drop says where.
func TestKnownConnections(t *testing.T) {
	const newTrk, est, rel, rpl, inv = openflow.CTNew | openflow.CTTrk, openflow.CTEst | openflow.CTTrk, openflow.CTRel | openflow.CTTrk, openflow.CTRpl, openflow.CTInv | openflow.CTTrk
	open80 := nodestate.Rule{Protocol: ProtoTCP, PortMin: 80, PortMax: 80}
	sctp := nodestate.Rule{Protocol: ProtoSCTP, PortMin: 80, PortMax: 80}
	for _, c := range []struct {
		name  string
		rules []nodestate.Rule
		less  bool // the group is stateless, beside another that is not
		proto uint8
		flags uint64 // of TCP
		state uint64
		mark  uint64
		pass  bool
	}{
		{name: "SYN with a rule", rules: []nodestate.Rule{open80}, proto: ProtoTCP, flags: 2, state: newTrk, pass: true},
		{name: "SYN without a rule", proto: ProtoTCP, flags: 2, state: newTrk},
		{name: "ACK of nothing", rules: []nodestate.Rule{open80}, proto: ProtoTCP, flags: 0x10, state: newTrk},
		{name: "ACK of nothing, stateless", rules: []nodestate.Rule{open80}, less: true, proto: ProtoTCP, flags: 0x10, state: newTrk, pass: true},
		{name: "invalid", rules: []nodestate.Rule{open80}, proto: ProtoTCP, flags: 2, state: inv},
		{name: "invalid, stateless", rules: []nodestate.Rule{open80}, less: true, proto: ProtoTCP, flags: 2, state: inv, pass: true},
		{name: "known", proto: ProtoTCP, flags: 0x10, state: est, mark: 2, pass: true},
		{name: "known answer", proto: ProtoTCP, flags: 0x10, state: est | rpl, mark: 1, pass: true},
		{name: "one way", proto: ProtoUDP, state: newTrk, mark: 2, pass: true},
		{name: "one way of the other direction", proto: ProtoUDP, state: newTrk, mark: 1},
		{name: "error about a connection", proto: ProtoICMP, state: rel, mark: 2, pass: true},
		{name: "error about a revoked connection", proto: ProtoICMP, state: rel | rpl, mark: 6},
		{name: "error about a revoked connection, its direction", proto: ProtoICMP, state: rel, mark: 6},
		{name: "revoked", proto: ProtoUDP, state: est, mark: 6},
		{name: "revoked before an answer", proto: ProtoUDP, state: newTrk, mark: 6},
		{name: "answer on a revoked one", rules: []nodestate.Rule{{Protocol: -1, PortMin: -1, PortMax: -1}}, proto: ProtoUDP, state: est | rpl, mark: 5},
		{name: "revoked and admitted again", rules: []nodestate.Rule{{Protocol: ProtoUDP, PortMin: 80, PortMax: 80}}, proto: ProtoUDP, state: est, mark: 6, pass: true},
		{name: "SCTP to its port", rules: []nodestate.Rule{sctp}, proto: ProtoSCTP, state: est, mark: 2, pass: true},
		{name: "SCTP to another port", proto: ProtoSCTP, state: est, mark: 2},
		{name: "SCTP answer", proto: ProtoSCTP, state: est | rpl, mark: 1, pass: true},
	} {
		s := NewState()
		s.PatchTun = testTun
		p := &nodestate.Port{ID: "p", NetworkID: "net", MAC: testMACs[0], AdminUp: true, PortSecurity: true, Groups: []string{"g", "other"},
			Addresses: []nodestate.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24")}}}
		s.Ports["p"], s.Places["p"] = p, Place{OFPort: 1, VLAN: 7}
		s.Groups["g"] = &nodestate.Group{ID: "g", Rules: c.rules, Stateless: c.less}
		s.Groups["other"] = &nodestate.Group{ID: "other", Rules: []nodestate.Rule{{Protocol: 47, PortMin: -1, PortMax: -1}}}
		sim := newSimulator(t, Want(s))
		sim.state, sim.mark = c.state, c.mark
		in := Packet{EthSrc: testMACs[1], EthDst: testMACs[0], EthType: EthIPv4, Src: testAddrs[1], Dst: testAddrs[0], Protocol: c.proto, SrcPort: 5, DstPort: 80}
		fields := in.wire(testTun, 7)
		if c.proto == ProtoTCP {
			fields[openflow.FieldTCPFlags] = openflow.U64(c.flags)
		}
		got := sim.run(pipeline.Switch.ID, fields)
		if passed := slices.Equal(got, []int{1}); passed != c.pass {
			t.Errorf("%s: passes %v", c.name, passed)
		}
		if !c.pass && !slices.Equal(sim.dropped, []pipeline.Rule{*pipeline.DroppedIngress}) {
			t.Errorf("%s: is counted as %v", c.name, sim.dropped)
		}
	}
}
