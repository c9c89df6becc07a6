package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"baryon/internal/agent/firewall"
	"baryon/internal/nodestate"
)

// random is a security world that is changed and probed at random.
type random struct {
	*security
	*rand.Rand
	ids   []string // of groups
	spare []netip.Prefix
	live  []*conversation
}

// TestSecurityGroupsAreTheirModel: with random groups, rules, members, pairs and ports on two nodes, random packets arrive if and only
// if the model of the semantics says so: new ones, and those of connections; also after random changes and with the agents killed.
func TestSecurityGroupsAreTheirModel(t *testing.T) {
	eachDriver(t, func(s *security) {
		r := newRandom(s)
		r.sync()
		r.hold("first rules", r.probes(200)...)
		r.talk("first rules", 30)
		for round := range 5 {
			var done []string
			for range 1 + r.IntN(4) {
				done = append(done, r.change())
				r.cut()
			}
			when := fmt.Sprintf("round %d: %v", round, done)
			r.sync()
			r.hold(when, r.probes(60)...)
			r.follow(when)
			if round%2 == 1 {
				node := r.nodes[r.IntN(2)]
				r.must(r.RestartAgent(r.ctx(), node, syscall.SIGKILL))
				when += ", agent on " + node + " killed and started"
			}
			r.hold(when, r.probes(60)...)
			r.follow(when)
			r.talk(when, 10)
		}
		r.never()
	})
}

// newRandom makes three groups, one address group and five ports on the two nodes, one of them without port security.
func newRandom(s *security) *random {
	s.t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("BARYON_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	s.t.Logf("BARYON_SEED=%d repeats this", seed)
	r := &random{security: s, Rand: rand.New(rand.NewPCG(seed, 0)), spare: []netip.Prefix{
		netip.MustParsePrefix("10.77.0.200/32"), netip.MustParsePrefix("10.77.0.208/29"), netip.MustParsePrefix("fd77::200/128"),
		netip.MustParsePrefix("fd77:0:0:0:1::/80"), netip.MustParsePrefix("192.0.2.0/24"),
	}}
	for range 3 {
		r.ids = append(r.ids, s.group())
	}
	s.addressGroup(r.spare[0], netip.MustParsePrefix("10.77.0.10/31"), netip.MustParsePrefix("fd77::a/127"))
	for i := range 5 {
		p := s.port(s.nodes[i%2], r.someGroups()...)
		if i == 4 {
			s.set(p, func(p *nodestate.Port) { p.PortSecurity, p.Groups = false, nil })
		}
	}
	for range 12 {
		r.change()
	}
	return r
}

func (r *random) someGroups() []string {
	var out []string
	for _, id := range r.ids {
		if r.IntN(2) == 0 {
			out = append(out, id)
		}
	}
	return out
}

// change makes one random change through the API and names it.
func (r *random) change() string {
	g := r.ids[r.IntN(len(r.ids))]
	rules := r.groups[g].Rules
	p := r.ports[r.IntN(len(r.ports))]
	switch n := r.IntN(10); {
	case n < 5 && len(rules) < 6:
		rule := r.someRule()
		if slices.ContainsFunc(rules, func(have nodestate.Rule) bool { have.ID = ""; return have == rule }) {
			return "nothing"
		}
		r.rule(g, rule)
		return fmt.Sprintf("rule %+v", rule)
	case n < 7 && len(rules) > 0:
		rule := rules[r.IntN(len(rules))]
		r.deleteRule(g, rule.ID)
		return fmt.Sprintf("no rule %+v", rule)
	case n == 7:
		if !p.PortSecurity {
			r.set(p, func(p *nodestate.Port) { p.PortSecurity, p.Groups = true, r.someGroups() })
			// Nobody watched its connections begin.
			r.live = slices.DeleteFunc(r.live, func(c *conversation) bool { return c.from == p || c.to == p })
			return p.name + " secured"
		}
		r.set(p, func(p *nodestate.Port) { p.Groups = r.someGroups() })
		return p.name + " in other groups"
	case n == 8:
		id := r.addressGroupID()
		prefix := r.spare[r.IntN(len(r.spare))]
		action := "add_addresses"
		if slices.Contains(r.addresses[id], prefix) {
			action = "remove_addresses"
		}
		r.changeAddressGroup(id, action, prefix)
		return action + " " + prefix.String()
	case p.PortSecurity:
		r.set(p, func(p *nodestate.Port) {
			p.AllowedPairs = nil
			for range r.IntN(3) {
				pair := nodestate.Pair{Prefix: r.spare[r.IntN(len(r.spare))]}
				if !slices.Contains(p.AllowedPairs, pair) {
					p.AllowedPairs = append(p.AllowedPairs, pair)
				}
			}
		})
		return p.name + " with other pairs"
	}
	return "nothing"
}

func (r *random) addressGroupID() string {
	for id := range r.addresses {
		return id
	}
	return ""
}

var probePorts = []uint16{53, 80, 81, 443, 1000, 8080}

func (r *random) someRule() nodestate.Rule {
	rule := anything(r.IntN(2) == 0, r.IntN(2) == 0)
	switch r.IntN(5) {
	case 0: // any protocol
	case 1:
		rule.Protocol = protoICMP
		if rule.IPv6 {
			rule.Protocol = protoICMPv6
		}
		if r.IntN(2) == 0 {
			rule.PortMin = int(echo(rule.IPv6))
			rule.PortMax = r.IntN(2) - 1
		}
	default:
		rule.Protocol = []int{protoTCP, protoUDP}[r.IntN(2)]
		if r.IntN(4) > 0 {
			from, to := r.IntN(len(probePorts)), r.IntN(len(probePorts))
			rule.PortMin, rule.PortMax = int(probePorts[min(from, to)]), int(probePorts[max(from, to)])
		}
	}
	switch r.IntN(4) {
	case 0:
		rule.Members = r.ids[r.IntN(len(r.ids))]
	case 1:
		rule.Members = r.addressGroupID()
	case 2:
		rule.Remote = []netip.Prefix{netip.MustParsePrefix("10.77.0.8/29"), netip.MustParsePrefix("10.77.0.12/32")}[r.IntN(2)]
		if rule.IPv6 {
			rule.Remote = []netip.Prefix{netip.MustParsePrefix("fd77::8/125"), netip.MustParsePrefix("fd77::c/128")}[r.IntN(2)]
		}
	}
	return rule
}

// echo is the type of the family's echo request.
func echo(ipv6 bool) uint8 {
	if ipv6 {
		return 128
	}
	return 8
}

// connection is the tuple of a probe.
type connection struct {
	from, to     *sgPort
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16 // of ICMP: the identifier in both
}

func (c connection) String() string {
	return fmt.Sprintf("%s → %s protocol %d ports %d → %d", c.src, c.dst, c.proto, c.sport, c.dport)
}

// first is the connection's first packet as the model sees it.
func (c connection) first() firewall.Packet {
	k := firewall.Packet{EthSrc: c.from.MAC, EthDst: c.to.MAC, EthType: ethIPv4, Src: c.src, Dst: c.dst, Protocol: c.proto, SrcPort: c.sport, DstPort: c.dport}
	if c.src.Is6() {
		k.EthType = ethIPv6
	}
	if c.proto == icmpProto(c.src) {
		k.SrcPort, k.DstPort = uint16(echo(c.src.Is6())), 0
	}
	return k
}

// frame is a packet of the connection: TCP by its flags and numbers, ICMP an echo request, or its reply when back.
func (c connection) frame(token uint32, back bool, seq, ack uint32, flags uint8) []byte {
	from, to, src, dst, sport, dport, typ := c.from, c.to, c.src, c.dst, c.sport, c.dport, echo(c.src.Is6())
	if back {
		from, to, src, dst, sport, dport = to, from, dst, src, dport, sport
		typ = map[uint8]uint8{8: 0, 128: 129}[typ]
	}
	data := tokenBytes(token)
	var body []byte
	switch c.proto {
	case protoTCP:
		body = tcp(src, dst, sport, dport, seq, ack, flags, data)
	case protoUDP:
		body = udp(src, dst, sport, dport, data)
	default:
		body = icmp(src, dst, typ, 0, uint32(c.sport)<<16|1, data)
	}
	return packet(to.MAC, from.MAC, src, dst, c.proto, body)
}

// connections between random ports; one in ten claims an address that may not be the sender's.
func (r *random) someConnection() connection {
	at := r.Perm(len(r.ports))
	c := connection{from: r.ports[at[0]], to: r.ports[at[1]], sport: r.nextFlow(), dport: probePorts[r.IntN(len(probePorts))]}
	c.src, c.dst = c.from.v4, c.to.v4
	if r.IntN(2) == 0 {
		c.src, c.dst = c.from.v6, c.to.v6
	}
	if r.IntN(5) == 0 {
		if a := r.spare[r.IntN(len(r.spare))].Addr(); a.Is4() == c.src.Is4() {
			c.src = a
		}
	}
	c.proto = []uint8{protoTCP, protoUDP, icmpProto(c.src)}[r.IntN(3)]
	return c
}

// probes are first packets of random connections.
func (r *random) probes(n int) []*probe {
	out := make([]*probe, n)
	for i := range out {
		c := r.someConnection()
		token := r.next()
		out[i] = &probe{
			what: c.String(), from: c.from, to: c.to, token: token, frame: c.frame(token, false, 1000, 0, tcpSYN),
			want: r.sends(c.from, c.first()) && r.takes(c.to, c.first()),
		}
	}
	return out
}

// conversation is a connection with packets in both directions.
type conversation struct {
	connection
	seq, ack uint32     // what the sender of the connection sends next, and what it has received
	cut      bool       // some change did not admit it
	slow     *[2]uint32 // acknowledge only this of the client and of the server: who speaks at once has not heard yet
}

// step is the conversation's next packet in a direction.
func (c *conversation) step(s *security, back bool, flags uint8, want bool) *probe {
	token := s.next()
	p := &probe{from: c.from, to: c.to, token: token, want: want}
	carried := uint32(len(tokenBytes(0)))
	if flags&tcpSYN != 0 {
		carried++
	}
	heard := [2]uint32{c.seq, c.ack}
	if c.slow != nil {
		heard = *c.slow
	}
	if back {
		p.from, p.to = c.to, c.from
		p.what, p.frame = "answer on "+c.String(), c.frame(token, true, c.ack, heard[0], flags)
		c.ack += carried
	} else {
		p.what, p.frame = "packet on "+c.String(), c.frame(token, false, c.seq, heard[1], flags)
		c.seq += carried
	}
	return p
}

// talk opens connections, and speaks on those that the model admits: answers and what follows pass without a rule of their own.  They
// are live from then on.
func (r *random) talk(when string, n int) {
	r.t.Helper()
	var opened []*conversation
	var first []*probe
	for range n {
		c := &conversation{connection: r.someConnection(), seq: 1000, ack: 5000}
		if !r.admitted(c.connection) {
			continue
		}
		opened = append(opened, c)
		first = append(first, c.step(r.security, false, tcpSYN, true))
	}
	r.hold(when, first...)
	r.exchange(when, opened, true, tcpSYN|tcpACK)
	r.exchange(when, opened, false, tcpACK)
	r.exchange(when, opened, true, tcpACK|tcpPSH)
	r.live = append(r.live, opened...)
}

func (r *random) exchange(when string, list []*conversation, back bool, flags uint8) {
	r.t.Helper()
	var step []*probe
	for _, c := range list {
		step = append(step, c.step(r.security, back, flags, true))
	}
	r.hold(when, step...)
}

func (r *random) admitted(c connection) bool {
	return r.sends(c.from, c.first()) && r.takes(c.to, c.first())
}

// cut notes which live connections the rules of this moment end, though the next change may admit them again.
func (r *random) cut() {
	for _, c := range r.live {
		c.cut = c.cut || !r.admitted(c.connection)
	}
}

// follow speaks on live connections: those that the rules still admit pass, in both directions; the others are dead, and forgotten.
func (r *random) follow(when string) {
	r.t.Helper()
	var alive []*conversation
	var dead []*probe
	for _, c := range r.live {
		switch admitted := r.admitted(c.connection); {
		case admitted && !c.cut:
			alive = append(alive, c)
		case !admitted:
			dead = append(dead, c.step(r.security, false, tcpACK|tcpPSH, false))
		}
	}
	r.hold(when+", connections no longer allowed", dead...)
	r.exchange(when+", connections still allowed", alive, false, tcpACK|tcpPSH)
	r.exchange(when+", connections still allowed", alive, true, tcpACK|tcpPSH)
	r.live = alive
}
