package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"baryon/internal/nodestate"
)

// trick is a frame that must not arrive, and its legal twin, which must.
type trick struct {
	name     string
	from, to *sgPort
	bad      func(token uint32) []byte
	twin     *sgPort // who may send the twin; nil: the same port
	good     func(token uint32) []byte

	why    string // the counter at the sender's node that tells: br-int's table and reason
	bridge string // the same of a port behind a Linux bridge; empty: br-int drops it there too
}

// play sends the tricks and their twins, one after the other, and requires that each trick is counted for what it is.

func (s *security) play(tricks []trick) {
	s.t.Helper()
	want := map[string]int{}
	for _, k := range tricks {
		why := k.why
		if k.from.Hybrid && k.bridge != "" {
			why = k.bridge
		}
		want[why]++
		if table, _, _ := strings.Cut(why, " "); table == "base_egress" {
			want["port source"]++
		}
	}
	s.counted(tricks[0].from, want, func() {
		for _, k := range tricks {
			from := k.from
			if k.twin != nil {
				from = k.twin
			}
			bad, good := s.next(), s.next()
			s.hold("matrix",
				&probe{what: k.name, from: k.from, to: k.to, token: bad, frame: k.bad(bad)},
				&probe{what: k.name + ": its legal twin", from: from, to: k.to, token: good, frame: k.good(good), want: true})
		}
	})
}

// cast are the ports of the spoofing matrix: a villain who may send anything that is his, a neighbour of his whose addresses he
// wants, a victim that takes anything on the same and on another node, and a port without port security.
type cast struct {
	*security
	villain, neighbour, trusted *sgPort
	pair4, pair6                netip.Addr
}

// TestSpoofing: crafted packets that claim what is not their sender's do not arrive anywhere, and those beside them that are honest do.
func TestSpoofing(t *testing.T) {
	eachDriver(t, func(s *security) {
		all := s.group()
		for _, egress := range []bool{false, true} {
			for _, ipv6 := range []bool{false, true} {
				s.rule(all, anything(egress, ipv6))
			}
		}
		c := &cast{
			security: s, villain: s.port(s.nodes[0], all), neighbour: s.port(s.nodes[0], all), trusted: s.port(s.nodes[0]),
			pair4: netip.MustParseAddr("10.77.0.240"), pair6: netip.MustParseAddr("fd77::240"),
		}
		near, far := c.neighbour, s.port(s.nodes[1], all)
		s.set(c.villain, func(p *nodestate.Port) {
			p.AllowedPairs = []nodestate.Pair{{Prefix: netip.PrefixFrom(c.pair4, 32)}, {Prefix: netip.PrefixFrom(c.pair6, 128)}}
		})
		s.set(c.trusted, func(p *nodestate.Port) { p.PortSecurity = false })
		for _, to := range []*sgPort{near, far} {
			s.warm()
			s.converge("rules and pairs", func() []*probe {
				var out []*probe
				for _, from := range []struct {
					p *sgPort
					a netip.Addr
				}{{c.villain, c.pair4}, {c.villain, c.pair6}, {c.trusted, netip.MustParseAddr("192.0.2.1")}} {
					token := s.next()
					out = append(out, &probe{what: "first", from: from.p, to: to, token: token, want: true, frame: c.datagram(from.p, to, from.p.MAC, from.a)(token)})
				}
				return out
			})
			s.play(slices.Concat(c.arpTricks(to), c.addressTricks(to), c.serviceTricks(to), c.neighbourTricks(to), c.tagTricks(to)))
		}
		s.never()
	})
}

// datagram is a UDP packet that says it comes from a MAC and an address.
func (c *cast) datagram(_, to *sgPort, mac nodestate.MAC, src netip.Addr) func(uint32) []byte {
	dst := to.v4
	if src.Is6() {
		dst = to.v6
	}
	return func(token uint32) []byte {
		return packet(to.MAC, mac, src, dst, protoUDP, udp(src, dst, c.nextFlow(), 7, tokenBytes(token)))
	}
}

// Counters that stop more than one kind of trick; the chains are those of a port behind a Linux bridge.
const (
	whyARP       = "base_egress spoofed_arp"
	whyMAC       = "base_egress spoofed_mac"
	whyAddress   = "base_egress spoofed_address"
	whyNeighbour = "base_egress spoofed_neighbour"
	whyTag       = "base_egress tagged"
	chainSource  = "chain s drop"
	chainOut     = "chain o drop"
)

func (c *cast) arpTricks(to *sgPort) []trick {
	v, n := c.villain, c.neighbour
	says := func(dst, mac nodestate.MAC, op uint16, spa, tpa netip.Addr) func(uint32) []byte {
		return func(token uint32) []byte { return ether(dst, mac, ethARP, arp(op, mac, spa, to.MAC, tpa, token)) }
	}
	return []trick{
		{name: "ARP answer for another's address", why: whyARP, from: v, to: to, bad: says(to.MAC, v.MAC, 2, n.v4, to.v4), good: says(to.MAC, v.MAC, 2, v.v4, to.v4)},
		{name: "gratuitous ARP for another's address", why: whyARP, from: v, to: to, bad: says(broadcast, v.MAC, 2, n.v4, n.v4), good: says(broadcast, v.MAC, 2, v.v4, v.v4)},
		{name: "ARP question from another's address", why: whyARP, from: v, to: to, bad: says(to.MAC, v.MAC, 1, n.v4, to.v4), good: says(to.MAC, v.MAC, 1, v.v4, to.v4)},
		{name: "ARP answer from another's MAC", why: whyMAC, from: v, to: to, bad: says(to.MAC, n.MAC, 2, v.v4, to.v4), good: says(to.MAC, v.MAC, 2, c.pair4, to.v4)},
	}
}

func (c *cast) addressTricks(to *sgPort) []trick {
	v, n := c.villain, c.neighbour
	local := func(p *sgPort) netip.Addr {
		m := p.MAC
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
	}
	return []trick{
		{name: "another's MAC", why: whyMAC, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, n.MAC, v.v4), good: c.datagram(v, to, v.MAC, v.v4)},
		{name: "another's MAC and address", why: whyMAC, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, n.MAC, n.v4), good: c.datagram(v, to, v.MAC, c.pair4)},
		{name: "another's IPv4 address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, v.MAC, n.v4), good: c.datagram(v, to, v.MAC, v.v4)},
		{name: "another's IPv6 address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, v.MAC, n.v6), good: c.datagram(v, to, v.MAC, v.v6)},
		{name: "address beside an address pair", why: whyAddress, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, v.MAC, c.pair6.Next()), good: c.datagram(v, to, v.MAC, c.pair6)},
		{name: "another's link-local address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, v.MAC, local(n)), good: c.datagram(v, to, v.MAC, local(v))},
		{name: "no address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, v.MAC, netip.IPv4Unspecified()), good: c.datagram(v, to, v.MAC, v.v4)},
		{name: "loopback address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: c.datagram(v, to, v.MAC, netip.MustParseAddr("127.0.0.1")), good: c.datagram(v, to, v.MAC, v.v4)},
	}
}

// serviceTricks are what only the network's own services, or a port that is trusted, may say.
func (c *cast) serviceTricks(to *sgPort) []trick {
	v, d := c.villain, c.trusted
	all := netip.MustParseAddr("ff02::1")
	serve := func(from *sgPort, mac nodestate.MAC, src, dst netip.Addr, sport, dport uint16) func(uint32) []byte {
		return func(token uint32) []byte {
			return packet(mac, from.MAC, src, dst, protoUDP, udp(src, dst, sport, dport, append(make([]byte, 240), tokenBytes(token)...)))
		}
	}
	advert := func(from *sgPort, mac nodestate.MAC, dst netip.Addr) func(uint32) []byte {
		return func(token uint32) []byte {
			return packet(mac, from.MAC, from.v6, dst, protoICMPv6, routerAdvert(from.v6, dst, token))
		}
	}
	all4 := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return []trick{
		{name: "DHCP server's answer", why: "base_egress dhcp_server", bridge: chainOut, from: v, to: to, bad: serve(v, to.MAC, v.v4, to.v4, 67, 68), twin: d, good: serve(d, to.MAC, d.v4, to.v4, 67, 68)},
		{name: "DHCP server's answer to all", why: "base_egress dhcp_server", bridge: chainOut, from: v, to: to, bad: serve(v, broadcast, v.v4, all4, 67, 68), twin: d, good: serve(d, broadcast, d.v4, all4, 67, 68)},
		{name: "DHCPv6 server's answer", why: "base_egress dhcpv6_server", bridge: chainOut, from: v, to: to, bad: serve(v, to.MAC, v.v6, to.v6, 547, 546), twin: d, good: serve(d, to.MAC, d.v6, to.v6, 547, 546)},
		{name: "router advertisement", why: "base_egress router_advertisement", bridge: chainOut, from: v, to: to, bad: advert(v, multicastMAC(all), all), twin: d, good: advert(d, multicastMAC(all), all)},
		{name: "router advertisement to one", why: "base_egress router_advertisement", bridge: chainOut, from: v, to: to, bad: advert(v, to.MAC, to.v6), twin: d, good: advert(d, to.MAC, to.v6)},
	}
}

func (c *cast) neighbourTricks(to *sgPort) []trick {
	v, n := c.villain, c.neighbour
	all := netip.MustParseAddr("ff02::1")
	tell := func(mac, src nodestate.MAC, from, dst, target netip.Addr) func(uint32) []byte {
		return func(token uint32) []byte {
			return packet(mac, src, from, dst, protoICMPv6, advertise(from, dst, target, token))
		}
	}
	ask := func(from netip.Addr, target netip.Addr) func(uint32) []byte {
		return func(token uint32) []byte {
			return packet(multicastMAC(all), v.MAC, from, all, protoICMPv6, solicit(from, all, target, token))
		}
	}
	return []trick{
		{name: "advertisement of another's address", why: whyNeighbour, from: v, to: to, bad: tell(to.MAC, v.MAC, v.v6, to.v6, n.v6), good: tell(to.MAC, v.MAC, v.v6, to.v6, v.v6)},
		{name: "advertisement to all of another's address", why: whyNeighbour, from: v, to: to, bad: tell(multicastMAC(all), v.MAC, v.v6, all, n.v6), good: tell(multicastMAC(all), v.MAC, v.v6, all, c.pair6)},
		{name: "advertisement from another's MAC", why: whyMAC, bridge: chainSource, from: v, to: to, bad: tell(to.MAC, n.MAC, v.v6, to.v6, v.v6), good: tell(to.MAC, v.MAC, v.v6, to.v6, v.v6)},
		{name: "solicitation from another's address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: ask(n.v6, to.v6), good: ask(v.v6, to.v6)},
		{name: "solicitation without address", why: whyAddress, bridge: chainSource, from: v, to: to, bad: ask(netip.MustParseAddr("fd77::ffff"), v.v6), good: ask(netip.IPv6Unspecified(), v.v6)},
	}
}

// tagTricks hide what they are behind a tag or another type.
func (c *cast) tagTricks(to *sgPort) []trick {
	v, n := c.villain, c.neighbour
	honest, lying := c.datagram(v, to, v.MAC, v.v4), c.datagram(v, to, v.MAC, n.v4)
	list := []trick{{name: "unknown type of packet", why: "base_egress not_ip", from: v, to: to, good: honest, bad: func(token uint32) []byte {
		return ether(to.MAC, v.MAC, 0x88b5, tokenBytes(token))
	}}}
	for _, vid := range []uint16{1, 2, 3, 100, 4094, 4095} {
		why := whyTag
		if vid == 4095 {
			why = "local_switching dead_vlan"
		}
		list = append(list, trick{name: "tagged packet", why: why, from: v, to: to, good: honest, bad: func(token uint32) []byte { return tagged(vid, honest(token)) }})
	}
	return append(list,
		trick{name: "priority tag before another's address", why: whyTag, bridge: chainSource, from: v, to: to, good: honest, bad: func(token uint32) []byte { return tagged(0, lying(token)) }},
		trick{name: "two tags before another's address", why: whyTag, from: v, to: to, good: honest, bad: func(token uint32) []byte { return tagged(0, tagged(0, lying(token))) }},
		trick{name: "priority tag before another's ARP", why: whyTag, from: v, to: to, good: honest, bad: func(token uint32) []byte {
			return tagged(0, ether(to.MAC, v.MAC, ethARP, arp(2, v.MAC, n.v4, to.MAC, to.v4, token)))
		}})
}

// TestCraftedPackets: what is cut, in pieces, or belongs to nothing does not arrive where only one port of UDP and TCP is open, nor
// leave a port that may send nothing; the whole packets beside them, and the errors that belong to a connection, do.
func TestCraftedPackets(t *testing.T) {
	eachDriver(t, func(s *security) {
		for _, apart := range []bool{false, true} {
			open := s.group()
			s.rule(open, ingress(false, protoUDP, 80))
			s.rule(open, ingress(false, protoTCP, 80))
			s.rule(open, ingress(true, protoUDP, 80))
			client, server := clientServer(s, apart)
			s.set(server, func(p *nodestate.Port) { p.Groups = []string{open} })
			c := s.dial(client, server, false, protoUDP, 80)
			s.warm()
			s.converge("rules", func() []*probe {
				fresh, other := s.dial(client, server, false, protoUDP, 80), s.dial(client, server, false, protoUDP, 81)
				back := s.dial(server, client, false, protoTCP, 80)
				return []*probe{fresh.step(s, false, 0, true), other.step(s, false, 0, false), back.step(s, false, tcpSYN, false)}
			})
			s.play(s.cutTricks(client, server))
			s.strays(client, server)
			s.pieces(client, server)
			s.related(c)
		}
		s.never()
	})
}

// cutTricks are packets to the open port whose headers are not whole, or say nothing.  The token is in an option of the IP header, so
// that it is seen whatever becomes of the rest.
func (s *security) cutTricks(client, server *sgPort) []trick {
	with := func(proto uint8, body func(sport uint16) []byte) func(uint32) []byte {
		return func(token uint32) []byte {
			h := header4{src: client.v4, dst: server.v4, proto: proto, options: slices.Concat([]byte{0x9e, 10}, tokenBytes(token), []byte{1, 1})}
			return ether(server.MAC, client.MAC, ethIPv4, h.with(body(s.nextFlow())))
		}
	}
	seg := func(flags uint8) func(uint16) []byte {
		return func(sport uint16) []byte { return tcp(client.v4, server.v4, sport, 80, 1, 0, flags, nil) }
	}
	dgram := func(sport uint16) []byte { return udp(client.v4, server.v4, sport, 80, []byte("data")) }
	first := func(body func(uint16) []byte, n int) func(uint16) []byte {
		return func(sport uint16) []byte { return body(sport)[:n] }
	}
	poke := func(body func(uint16) []byte, at int, v byte) func(uint16) []byte {
		return func(sport uint16) []byte { b := body(sport); b[at] = v; return b }
	}
	tcpTwin, udpTwin := with(protoTCP, seg(tcpSYN)), with(protoUDP, dgram)
	return []trick{
		{name: "TCP of 4 bytes", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoTCP, first(seg(tcpSYN), 4)), good: tcpTwin},
		{name: "TCP of 12 bytes", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoTCP, first(seg(tcpSYN), 12)), good: tcpTwin},
		{name: "TCP with a header of no length", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoTCP, poke(seg(tcpSYN), 12, 0)), good: tcpTwin},
		{name: "TCP with a header longer than the packet", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoTCP, poke(seg(tcpSYN), 12, 0xf0)), good: tcpTwin},
		{name: "UDP of no bytes", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoUDP, func(uint16) []byte { return nil }), good: udpTwin},
		{name: "UDP of 4 bytes", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoUDP, first(dgram, 4)), good: udpTwin},
		{name: "UDP longer than its packet", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoUDP, poke(dgram, 4, 0xff)), good: udpTwin},
		{name: "ICMP of no bytes", why: "rules_egress invalid", bridge: chainOut, from: client, to: server, bad: with(protoICMP, func(uint16) []byte { return nil }), good: udpTwin},
	}
}

// strays are packets in the middle of connections that never began.
func (s *security) strays(client, server *sgPort) {
	s.t.Helper()
	kinds := []uint8{tcpACK, tcpSYN | tcpACK, tcpACK | tcpPSH, tcpFIN | tcpACK, tcpRST, 0}
	want := map[string]int{"port egress": len(kinds)}
	if client.Hybrid {
		want = map[string]int{chainOut: len(kinds)}
	}
	s.counted(client, want, func() {
		for _, flags := range kinds {
			in, out := s.dial(client, server, false, protoTCP, 80), s.dial(server, client, false, protoTCP, 80)
			s.hold("stray TCP", in.step(s, false, flags, false), out.step(s, false, flags, false))
		}
	})
	echoReply := s.dial(client, server, false, protoICMP, 0)
	s.hold("stray echo reply", echoReply.step(s, true, 0, false), s.dial(client, server, false, protoUDP, 80).step(s, false, 0, true))
}

// pieces are datagrams in two fragments.  They are long enough for what Open vSwitch takes as a fragment that is not the last, and
// legal ones belong to a connection: its userspace datapath shows no ports of a fragment, so that no rule that names ports can begin
// a connection with one.
func (s *security) pieces(client, server *sgPort) {
	s.t.Helper()
	const cut = 1288
	half := func(c *conversation, id uint16, want bool) (first, second *probe) {
		first, second = &probe{what: "first fragment of " + c.String()}, &probe{what: "second fragment of " + c.String()}
		first.token, second.token = s.next(), s.next()
		whole := udp(c.src, c.dst, c.sport, c.dport,
			slices.Concat(tokenBytes(first.token), make([]byte, cut-16), tokenBytes(second.token), make([]byte, 120)))
		for i, p := range []*probe{first, second} {
			p.from, p.to, p.want = client, server, want
			from, to := i*cut, min((i+1)*cut, len(whole))
			if c.src.Is6() {
				head := slices.Concat([]byte{protoUDP, 0}, be16(uint16(from)|uint16(1-i)), be32(uint32(id)))
				p.frame = packet(server.MAC, client.MAC, c.src, c.dst, 44, append(head, whole[from:to]...))
				continue
			}
			h := header4{src: c.src, dst: c.dst, proto: protoUDP, id: id, more: i == 0, offset: uint16(from)}
			p.frame = ether(server.MAC, client.MAC, ethIPv4, h.with(whole[from:to]))
		}
		return first, second
	}
	for i, ipv6 := range []bool{false, true} {
		id := uint16(100 * i)
		known, closed, spoofed := s.dial(client, server, ipv6, protoUDP, 80), s.dial(client, server, ipv6, protoUDP, 81), s.dial(client, server, ipv6, protoUDP, 80)
		spoofed.src = known.dst.Next()
		s.hold("connection for pieces", known.step(s, false, 0, true))
		for j, c := range []*conversation{known, closed, spoofed} {
			a, b := half(c, id+uint16(j), c == known)
			s.hold("datagram in pieces", a, b)
		}
		_, alone := half(closed, id+10, false)
		s.hold("piece without its first", alone)
	}
}

// related are ICMP errors: one about a connection passes though no rule names ICMP, one about nothing does not.
func (s *security) related(c *conversation) {
	s.t.Helper()
	s.hold("connection for errors", c.step(s, false, 0, true))
	unreachable := func(c *conversation, want bool) *probe {
		token := s.next()
		quoted := ip(c.src, c.dst, protoUDP, udp(c.src, c.dst, c.sport, c.dport, tokenBytes(0)))
		body := icmp(c.dst, c.src, 3, 3, 0, slices.Concat(quoted[:28], tokenBytes(token)))
		return &probe{
			what: "port unreachable for " + c.String(), from: c.to, to: c.from, token: token, want: want,
			frame: packet(c.from.MAC, c.to.MAC, c.dst, c.src, protoICMP, body),
		}
	}
	s.hold("error about a connection", unreachable(c, true))
	s.hold("error about nothing", unreachable(s.dial(c.from, c.to, false, protoUDP, 80), false))
}
