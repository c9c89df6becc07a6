package e2e

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"
	"testing"

	"baryon/internal/nodestate"
)

// Kinds of groups, protocols and ports that the random tests leave out.

// statelessGroup makes a stateless group without rules.
func (s *security) statelessGroup() string {
	s.t.Helper()
	id := s.group()
	s.put("security-groups/"+id, "security_group", map[string]any{"stateful": false})
	s.groups[id].Stateless = true
	return id
}

// TestStatelessGroups: a stateless group admits packets one by one: answers need rules of their own, and what a stateful group would take
// for nothing's passes.
func TestStatelessGroups(t *testing.T) {
	eachDriver(t, func(s *security) {
		less := s.statelessGroup()
		r80 := s.rule(less, ingress(false, protoTCP, 80))
		s.rule(less, ingress(false, protoUDP, 80))
		client, server := clientServer(s, true)
		s.set(server, func(p *nodestate.Port) { p.Groups = []string{less} })
		s.sync()
		conv, dgram := s.dial(client, server, false, protoTCP, 80), s.dial(client, server, false, protoUDP, 80)
		s.hold("stateless", conv.step(s, false, tcpSYN, true), dgram.step(s, false, 0, true),
			s.dial(client, server, false, protoTCP, 81).step(s, false, tcpSYN, false), s.dial(client, server, true, protoTCP, 80).step(s, false, tcpSYN, false))
		s.hold("answers without a rule", conv.step(s, true, tcpSYN|tcpACK, false), dgram.step(s, true, 0, false))

		out := anything(true, false)
		out.Protocol = protoTCP
		s.rule(less, out)
		s.sync()
		s.hold("answers with a rule", conv.step(s, true, tcpSYN|tcpACK, true), dgram.step(s, true, 0, false))
		s.hold("what follows", conv.step(s, false, tcpACK|tcpPSH, true))

		s.deleteRule(less, r80)
		s.sync()
		s.hold("rule deleted", conv.step(s, false, tcpACK|tcpPSH, false), dgram.step(s, false, 0, true))
		s.never()
	})
}

// TestSCTP: one port of SCTP is open and no other, also for those who have an association already; the end of the rule ends it.
func TestSCTP(t *testing.T) {
	eachDriver(t, func(s *security) {
		open := s.group()
		rule := s.rule(open, ingress(false, protoSCTP, 36412))
		client, server := clientServer(s, true, open)
		s.set(server, func(p *nodestate.Port) { p.Groups = []string{open} })
		s.sync()
		sport := s.nextFlow()
		begin := func(sport, dport uint16, want bool) *probe {
			token := s.next()
			return &probe{what: "SCTP INIT", from: client, to: server, token: token, want: want,
				frame: packet(server.MAC, client.MAC, client.v4, server.v4, protoSCTP, sctp(sport, dport, 1, 0, token))}
		}
		s.hold("SCTP", begin(sport, 36412, true))
		s.hold("SCTP to another port", begin(sport, 36413, false), begin(s.nextFlow(), 36413, false))
		token := s.next()
		s.hold("SCTP answer", &probe{what: "SCTP INIT ACK", from: server, to: client, token: token, want: true,
			frame: packet(client.MAC, server.MAC, server.v4, client.v4, protoSCTP, sctp(36412, sport, 2, 1, token))})
		s.deleteRule(open, rule)
		s.sync()
		token = s.next()
		s.hold("SCTP revoked", begin(sport, 36412, false), begin(s.nextFlow(), 36412, false),
			&probe{what: "SCTP answer", from: server, to: client, token: token,
				frame: packet(client.MAC, server.MAC, server.v4, client.v4, protoSCTP, sctp(36412, sport, 2, 1, token))})
		s.never()
	})
}

const protoSCTP = 132

// sctp is an SCTP packet (RFC 9260) with an INIT or INIT ACK chunk and the token in a parameter of it that nobody knows.
func sctp(sport, dport uint16, chunk uint8, tag, token uint32) []byte {
	param := slices.Concat(be16(0xc0de), be16(12), tokenBytes(token))
	init := slices.Concat([]byte{chunk, 0}, be16(uint16(20+len(param))), be32(1), be32(1<<16), be16(1), be16(1), be32(1), param)
	b := slices.Concat(be16(sport), be16(dport), be32(tag), be32(0), init)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestAddressPairsWithMACs: a pair opens its address with its MAC, and neither of them with anything else; what is for the pair's MAC
// reaches the port.
func TestAddressPairsWithMACs(t *testing.T) {
	eachDriver(t, func(s *security) {
		all := s.group()
		for _, egress := range []bool{false, true} {
			for _, ipv6 := range []bool{false, true} {
				s.rule(all, anything(egress, ipv6))
			}
		}
		c := &cast{security: s, villain: s.port(s.nodes[0], all), neighbour: s.port(s.nodes[1], all)}
		v, n := c.villain, c.neighbour
		virtual := nodestate.MAC{0, 0, 0x5e, 0, 1, 7}
		vip4, vip6 := netip.MustParseAddr("10.77.0.240"), netip.MustParseAddr("fd77::240")
		s.set(v, func(p *nodestate.Port) {
			p.AllowedPairs = []nodestate.Pair{{MAC: virtual, Prefix: netip.PrefixFrom(vip4, 32)}, {MAC: virtual, Prefix: netip.PrefixFrom(vip6, 128)}}
		})
		s.sync()
		says := func(mac nodestate.MAC, spa netip.Addr) func(uint32) []byte {
			return func(token uint32) []byte { return ether(n.MAC, mac, ethARP, arp(2, mac, spa, n.MAC, n.v4, token)) }
		}
		s.play([]trick{
			{name: "pair's address with the port's MAC", why: whyAddress, bridge: chainSource, from: v, to: n, bad: c.datagram(v, n, v.MAC, vip4), good: c.datagram(v, n, virtual, vip4)},
			{name: "pair's IPv6 address with the port's MAC", why: whyAddress, bridge: chainSource, from: v, to: n, bad: c.datagram(v, n, v.MAC, vip6), good: c.datagram(v, n, virtual, vip6)},
			{name: "pair's MAC with the port's address", why: whyAddress, bridge: chainSource, from: v, to: n, bad: c.datagram(v, n, virtual, v.v4), good: c.datagram(v, n, v.MAC, v.v4)},
			{name: "ARP of the pair's address with the port's MAC", why: whyARP, from: v, to: n, bad: says(v.MAC, vip4), good: says(virtual, vip4)},
			{name: "ARP of the port's address with the pair's MAC", why: whyARP, from: v, to: n, bad: says(virtual, v.v4), good: says(v.MAC, v.v4)},
		})
		in := s.next()
		s.hold("to the pair", &probe{what: "datagram", from: n, to: v, token: in, want: true,
			frame: packet(virtual, n.MAC, n.v4, vip4, protoUDP, udp(n.v4, vip4, c.nextFlow(), 7, tokenBytes(in)))})
		s.set(v, func(p *nodestate.Port) { p.AllowedPairs = nil })
		s.sync()
		s.play([]trick{{name: "pair that is gone", why: whyMAC, bridge: chainSource, from: v, to: n, bad: c.datagram(v, n, virtual, vip4), good: c.datagram(v, n, v.MAC, v.v4)}})
		s.never()
	})
}

// TestPortSecurityOff: a port without port security may send and receive anything; its neighbours' filters stay closed to it, its claims
// of their MACs bring it none of their packets, and when it gets port security again it is closed at once.
func TestPortSecurityOff(t *testing.T) {
	eachDriver(t, func(s *security) {
		out := s.group()
		s.rule(out, anything(true, false))
		c := &cast{security: s, villain: s.port(s.nodes[0], out), neighbour: s.port(s.nodes[0], out), trusted: s.port(s.nodes[1], out)}
		v, n, other := c.villain, c.neighbour, c.trusted
		s.set(v, func(p *nodestate.Port) { p.PortSecurity, p.Groups = false, nil })
		s.set(other, func(p *nodestate.Port) { p.PortSecurity, p.Groups = false, nil })
		s.sync()
		stranger := netip.MustParseAddr("192.0.2.1")
		send := func(what string, from, to *sgPort, frame func(uint32) []byte, want bool) *probe {
			token := s.next()
			return &probe{what: what, from: from, to: to, token: token, frame: frame(token), want: want}
		}
		s.hold("open port",
			send("anything", v, other, c.datagram(v, other, v.MAC, stranger), true),
			send("with any MAC", v, other, c.datagram(v, other, nodestate.MAC{2, 9, 9, 9, 9, 9}, v.v4), true),
			send("anything to it", other, v, c.datagram(other, v, other.MAC, stranger), true),
			send("a filtered neighbour to it", n, v, c.datagram(n, v, n.MAC, n.v4), true))
		s.hold("its neighbours",
			send("to a filtered port", v, n, c.datagram(v, n, v.MAC, v.v4), false),
			send("to a filtered port from elsewhere", other, n, c.datagram(other, n, other.MAC, other.v4), false),
			send("tagged", v, other, func(token uint32) []byte { return tagged(1, c.datagram(v, other, v.MAC, v.v4)(token)) }, false))
		// It claims the MAC of its neighbour, to everybody.
		claim := s.next()
		s.must(v.send(ether(broadcast, n.MAC, ethARP, arp(1, n.MAC, n.v4, nodestate.MAC{}, n.v4, claim))))
		hello := s.dial(n, other, false, protoUDP, 7)
		s.hold("neighbour speaks", hello.step(s, false, 0, true))
		back := hello.step(s, true, 0, true)
		s.hold("after a claim of the neighbour's MAC", back)
		if v.arrived(back.token) > 0 {
			t.Error("a port without port security takes its neighbour's packets by claiming its MAC")
		}
		s.set(v, func(p *nodestate.Port) { p.PortSecurity = true })
		s.sync()
		s.hold("secured again",
			send("anything", v, other, c.datagram(v, other, v.MAC, v.v4), false), send("anything to it", other, v, c.datagram(other, v, other.MAC, other.v4), false))
		s.never()
	})
}
