package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

var (
	testMACs  = []nodestate.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 3}, {2, 0, 0, 0, 0, 9}}
	testAddrs = []netip.Addr{
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.1.0.9"),
		netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.5"),
	}
	testAddrs6 = []netip.Addr{
		netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3"), netip.MustParseAddr("fd01::9"),
		netip.MustParseAddr("::"), netip.MustParseAddr("ff02::1"), LinkLocal(testMACs[0]), LinkLocal(testMACs[1]),
	}
	testNumbers = []int{0, 1, 8, 22, 53, 67, 68, 80, 81, 130, 131, 133, 134, 135, 136, 546, 547, 1000, 65535}
	testGroups  = []string{"g1", "g2", "g3"}
)

func drawPort(t *rapid.T, n int) *nodestate.Port {
	p := &nodestate.Port{ID: fmt.Sprintf("p%d", n), NetworkID: "net", MAC: testMACs[n-1], AdminUp: true,
		PortSecurity: rapid.IntRange(0, 5).Draw(t, "secure") > 0}
	if rapid.IntRange(0, 5).Draw(t, "trusted") == 0 {
		p.DeviceOwner = "network:dhcp"
	}
	if rapid.Bool().Draw(t, "v4") {
		p.Addresses = append(p.Addresses, nodestate.Address{Prefix: netip.PrefixFrom(testAddrs[n-1], 24)})
	}
	if rapid.Bool().Draw(t, "v6") {
		p.Addresses = append(p.Addresses, nodestate.Address{Prefix: netip.PrefixFrom(testAddrs6[n-1], 64)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "pairs") {
		p.AllowedPairs = append(p.AllowedPairs, nodestate.Pair{MAC: rapid.SampledFrom(append([]nodestate.MAC{{}}, testMACs...)).Draw(t, "pair mac"),
			Prefix: drawPrefix(t)})
	}
	for _, g := range testGroups {
		if rapid.IntRange(0, 2).Draw(t, g) > 0 {
			p.Groups = append(p.Groups, g)
		}
	}
	return p
}

func drawPrefix(t *rapid.T) netip.Prefix {
	return netip.MustParsePrefix(rapid.SampledFrom([]string{
		"10.0.0.1/32", "10.0.0.2/32", "10.1.0.9/32", "10.0.0.0/24", "0.0.0.0/0", "10.0.0.0/8", "fd00::1/128", "fd00::/64", "::/0", "fd01::9/128",
	}).Draw(t, "prefix"))
}

func drawGroup(t *rapid.T, id string) *nodestate.Group {
	g := &nodestate.Group{ID: id, Stateless: rapid.IntRange(0, 3).Draw(t, "stateless") == 0}
	for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
		r := nodestate.Rule{ID: fmt.Sprintf("%s-%d", id, i), Egress: rapid.Bool().Draw(t, "egress"), IPv6: rapid.Bool().Draw(t, "v6"), PortMin: -1, PortMax: -1,
			Protocol: rapid.SampledFrom([]int{-1, -1, 6, 17, 132, 47, 1}).Draw(t, "protocol")}
		if r.Protocol == 1 && r.IPv6 {
			r.Protocol = 58
		}
		switch r.Protocol {
		case 6, 17, 132:
			if rapid.Bool().Draw(t, "ports") {
				a, b := rapid.SampledFrom(testNumbers).Draw(t, "lo"), rapid.SampledFrom(testNumbers).Draw(t, "hi")
				r.PortMin, r.PortMax = min(a, b), max(a, b)
			}
		case 1, 58:
			if rapid.Bool().Draw(t, "type") {
				r.PortMin = rapid.SampledFrom([]int{0, 8, 128, 129, 135}).Draw(t, "icmp type")
				r.PortMax = rapid.SampledFrom([]int{-1, 0, 1}).Draw(t, "icmp code")
			}
		}
		switch rapid.IntRange(0, 2).Draw(t, "remote") {
		case 1:
			r.Remote = drawPrefix(t)
			if r.Remote.Addr().Is4() == r.IPv6 {
				r.Remote = netip.Prefix{}
			}
		case 2:
			r.Members = rapid.SampledFrom([]string{"m1", "m2"}).Draw(t, "members")
		}
		g.Rules = append(g.Rules, r)
	}
	return g
}

func drawMembers(t *rapid.T, id string) *nodestate.Members {
	m := &nodestate.Members{ID: id}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		if p := drawPrefix(t); !slices.Contains(m.Prefixes, p) {
			m.Prefixes = append(m.Prefixes, p)
		}
	}
	return m
}

func drawPacket(t *rapid.T) Packet {
	pkt := Packet{
		EthSrc: rapid.SampledFrom(testMACs).Draw(t, "src mac"), EthDst: rapid.SampledFrom(testMACs).Draw(t, "dst mac"),
		EthType:  rapid.SampledFrom([]uint16{EthIPv4, EthIPv4, EthIPv4, EthIPv6, EthIPv6, EthIPv6, EthARP, EthRARP, 0x88cc}).Draw(t, "type"),
		Protocol: rapid.SampledFrom([]uint8{1, 6, 6, 17, 17, 47, 58, 58, 132}).Draw(t, "proto"),
		SrcPort:  uint16(rapid.SampledFrom(testNumbers).Draw(t, "sport")), DstPort: uint16(rapid.SampledFrom(testNumbers).Draw(t, "dport")),
		Later: rapid.IntRange(0, 9).Draw(t, "later") == 0,
	}
	if pkt.Protocol == 1 || pkt.Protocol == 58 {
		pkt.SrcPort = uint16(rapid.SampledFrom([]int{0, 8, 128, 129, 130, 131, 133, 134, 135, 136, 143}).Draw(t, "icmp type"))
		pkt.DstPort = uint16(rapid.IntRange(0, 1).Draw(t, "icmp code"))
	}
	if rapid.IntRange(0, 5).Draw(t, "dhcp") == 0 {
		pkt.Protocol, pkt.Later = 17, false
		ports := rapid.SampledFrom([][2]uint16{{67, 68}, {68, 67}, {546, 547}, {547, 546}}).Draw(t, "dhcp ports")
		pkt.SrcPort, pkt.DstPort = ports[0], ports[1]
	}
	addrs := testAddrs
	if pkt.EthType == EthIPv6 {
		addrs = testAddrs6
	}
	pkt.Src, pkt.Dst = rapid.SampledFrom(addrs).Draw(t, "src"), rapid.SampledFrom(addrs).Draw(t, "dst")
	if pkt.EthType == EthIPv6 {
		pkt.Target = rapid.SampledFrom(testAddrs6).Draw(t, "target")
	}
	return pkt
}

const testTun = 99

// The flows mean what Admits says: from a port to a port beside it, to the tunnels, from the tunnels, to many.
func TestFlowsMeanTheSemantics(t *testing.T) {
	passed, dropped := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		s.PatchTun = testTun
		uplink := 0
		if rapid.Bool().Draw(t, "physical") { // the network leaves by a provider bridge's patch port
			s.PatchTun, uplink = testTun+1, testTun
		}
		for n := 1; n <= 3; n++ {
			p := drawPort(t, n)
			s.Ports[p.ID], s.Places[p.ID] = p, Place{n, 7, uplink}
		}
		for _, id := range testGroups {
			s.Groups[id] = drawGroup(t, id)
		}
		for _, id := range []string{"m1", "m2"} {
			s.Members[id] = drawMembers(t, id)
		}
		flows := Want(s)
		if uplink > 0 {
			f := pipeline.SwitchProvider.Flow("", openflow.MatchOf(openflow.InPort(testTun)), openflow.Normal)
			flows[f.Key()] = f // the switch has it from elsewhere
		}
		sim := newSimulator(t, flows)
		for range 40 {
			pkt := drawPacket(t)
			from := rapid.IntRange(0, 3).Draw(t, "from") // 0: the tunnels
			if rapid.IntRange(0, 4).Draw(t, "many") == 0 {
				pkt.EthDst = nodestate.MAC{0x33, 0x33, 0, 0, 0, 1}
			}
			if from > 0 && rapid.Bool().Draw(t, "own mac") {
				pkt.EthSrc = testMACs[from-1]
			}
			fields, rules := pkt.wire(inPort(from), uint16(7*btoi(from == 0))), s
			sim.state = openflow.CTNew | openflow.CTTrk
			switch kind := rapid.IntRange(0, 6).Draw(t, "kind"); {
			case kind == 0:
				sim.state, rules = openflow.CTInv|openflow.CTTrk, statelessOnly(s)
			case kind == 1:
				sim.state, rules = openflow.CTNew|openflow.CTRel|openflow.CTTrk, statelessOnly(s)
			case kind == 2 && pkt.Protocol == ProtoTCP && !pkt.Later && (pkt.EthType == EthIPv4 || pkt.EthType == EthIPv6):
				fields[openflow.FieldTCPFlags], rules = openflow.U64(0x10), statelessOnly(s) // ACK
			}
			got := sim.run(pipeline.Switch.ID, fields)
			want := expected(rules, pkt, from)
			if got == nil && want != nil || !slices.Equal(got, want) {
				t.Fatalf("from %d: %+v\nreaches %v, should reach %v", from, pkt, got, want)
			}
			if len(want) > 0 {
				passed++
			} else {
				dropped++
			}
		}
	})
	if passed < 100 || dropped < 100 {
		t.Errorf("%d packets passed, %d were dropped: that proves little", passed, dropped)
	}
}

// statelessOnly is the state as what begins no connection meets it: only stateless groups admit packets one by one.
func statelessOnly(s *State) *State {
	out := *s
	out.Groups = map[string]*nodestate.Group{}
	for id, g := range s.Groups {
		if g.Stateless {
			out.Groups[id] = g
		}
	}
	return &out
}

func inPort(from int) int {
	if from == 0 {
		return testTun
	}
	return from
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// expected says by the model alone where a packet must come out.
func expected(s *State, pkt Packet, from int) []int {
	var filtered, open []*nodestate.Port
	for n := 1; n <= 3; n++ {
		if p := s.Ports[fmt.Sprintf("p%d", n)]; p.Filtered() {
			filtered = append(filtered, p)
		} else {
			open = append(open, p)
		}
	}
	number := func(p *nodestate.Port) int { return s.Places[p.ID].OFPort }
	if from > 0 {
		pkt.Egress = true
		if p := s.Ports[fmt.Sprintf("p%d", from)]; p.Filtered() && !Admits(p, s.Groups, s.Members, pkt) {
			return nil
		}
	}
	if len(filtered) == 0 && (from == 0 || pkt.EthDst[0]&1 == 1) {
		return []int{int(openflow.Normal)}
	}
	in := pkt
	in.Egress = false
	var out []int
	copyTo := func(p *nodestate.Port) {
		if number(p) != from && Admits(p, s.Groups, s.Members, in) {
			out = append(out, number(p))
		}
	}
	var own, pairs []*nodestate.Port
	for _, p := range filtered {
		if p.MAC == pkt.EthDst {
			own = append(own, p)
		} else if OwnsMAC(p, pkt.EthDst) {
			pairs = append(pairs, p)
		}
	}
	many := pkt.EthDst[0]&1 == 1
	switch {
	case many:
		for _, p := range filtered {
			copyTo(p)
		}
	case len(own) > 0:
		copyTo(own[0])
		return out
	case len(pairs) > 0:
		for _, p := range pairs {
			copyTo(p)
		}
		slices.Sort(out)
		return out
	}
	for _, p := range open {
		if !many && p.MAC == pkt.EthDst {
			if number(p) == from {
				return nil
			}
			return []int{number(p)}
		}
	}
	if len(filtered) == 0 {
		return []int{int(openflow.Normal)}
	}
	for _, p := range open {
		if number(p) != from && (many || !p.PortSecurity) {
			out = append(out, number(p))
		}
	}
	if from > 0 {
		out = append(out, testTun)
	}
	slices.Sort(out)
	return out
}

// Whatever has happened, in whatever batches: the increments add up to what Want computes at once from the state that is left.
func TestIncrementsEqualWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, flows := New(), map[openflow.FlowKey]openflow.Flow{}
		if rapid.Bool().Draw(t, "ids clash") {
			e.ids.hash = func(c conj, try int) uint32 { return hashConj(c, try) % 16 }
		}
		n := func() int { return rapid.IntRange(1, 3).Draw(t, "port") }
		t.Repeat(map[string]func(*rapid.T){
			"port":    func(t *rapid.T) { e.Record(drawPort(t, n())) },
			"group":   func(t *rapid.T) { e.Record(drawGroup(t, rapid.SampledFrom(testGroups).Draw(t, "id"))) },
			"members": func(t *rapid.T) { e.Record(drawMembers(t, rapid.SampledFrom([]string{"m1", "m2"}).Draw(t, "id"))) },
			"wire": func(t *rapid.T) {
				e.Wire(fmt.Sprintf("p%d", n()), Place{rapid.IntRange(1, 4).Draw(t, "ofport"), uint16(rapid.IntRange(1, 2).Draw(t, "vlan")), rapid.IntRange(0, 1).Draw(t, "uplink")})
			},
			"unwire": func(*rapid.T) { e.Unwire(fmt.Sprintf("p%d", n())) },
			"forget": func(t *rapid.T) {
				e.Forget(rapid.SampledFrom([]nodestate.Key{nodestate.PortKey("p1"), nodestate.PortKey("p2"), nodestate.GroupKey("g1"),
					nodestate.GroupKey("g2"), nodestate.MembersKey("m1")}).Draw(t, "key"))
			},
			"patch": func(t *rapid.T) { e.Patch(rapid.IntRange(0, 2).Draw(t, "tun")) },
			"flush": func(*rapid.T) { Carry(flows, e.Flush().Flows) },
		})
		Carry(flows, e.Flush().Flows)
		full := New()
		full.ids.hash = e.ids.hash
		if diff := cmp.Diff(texts(wantWith(full, e.s)), texts(flows)); diff != "" {
			t.Fatalf("increments differ from the whole: %s", diff)
		}
		if d := e.Flush(); len(d.Flows) != 0 {
			t.Fatalf("a flush without events changes %d flows", len(d.Flows))
		}
	})
}

func texts(flows map[openflow.FlowKey]openflow.Flow) []string {
	var out []string
	for _, f := range flows {
		out = append(out, f.String())
	}
	slices.Sort(out)
	return out
}
