package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"baryon/internal/nodestate"
)

// clientServer is a client and a server that may send anything; both are on the first node, or on one each.
func clientServer(s *security, apart bool, groups ...string) (client, server *sgPort) {
	s.t.Helper()
	out := s.group()
	s.rule(out, anything(true, false))
	s.rule(out, anything(true, true))
	node := s.nodes[0]
	if apart {
		node = s.nodes[1]
	}
	return s.port(s.nodes[0], out), s.port(node, append(groups, out)...)
}

// ingress is a rule for one port of TCP or UDP, or for echo requests.
func ingress(ipv6 bool, proto uint8, port int) nodestate.Rule {
	r := anything(false, ipv6)
	r.Protocol, r.PortMin, r.PortMax = int(proto), port, port
	return r
}

// dial is a new connection of two ports' own addresses.
func (s *security) dial(from, to *sgPort, ipv6 bool, proto uint8, port uint16) *conversation {
	c := &conversation{connection: connection{from: from, to: to, src: from.v4, dst: to.v4, proto: proto, sport: s.nextFlow(), dport: port}, seq: 1000, ack: 5000}
	if ipv6 {
		c.src, c.dst = from.v6, to.v6
	}
	return c
}

// open opens connections that the rules admit, to both ends.
func (s *security) open(list ...*conversation) {
	s.t.Helper()
	s.sync()
	s.speak("connections open", list, tcpSYN, tcpSYN|tcpACK, true)
	s.speak("connections open", list, tcpACK, tcpACK|tcpPSH, true)
}

// speak sends a packet there and one back on each connection.
func (s *security) speak(when string, list []*conversation, there, back uint8, want bool) {
	s.t.Helper()
	for _, dir := range []struct {
		back  bool
		flags uint8
	}{{false, there}, {true, back}} {
		var step []*probe
		for _, c := range list {
			step = append(step, c.step(s, dir.back, dir.flags, want))
		}
		s.hold(when, step...)
	}
}

// dead requires that connections have ended once the nodes have heard of it: the client's packets do not arrive, and stay away after the server has spoken once more.
// What the server says may arrive where its own rules let it begin a connection; it must not bring the old one back.
func (s *security) dead(when string, list ...*conversation) {
	s.t.Helper()
	step := func() []*probe {
		var out []*probe
		for _, c := range list {
			out = append(out, c.step(s, false, tcpACK|tcpPSH, false))
		}
		return out
	}
	s.sync()
	s.hold(when, step()...)
	for _, c := range list {
		if c.proto != protoTCP {
			continue // of UDP, the server's packet would begin a connection of its own, if it may
		}
		p := c.step(s, true, tcpACK|tcpPSH, false)
		s.must(p.from.send(p.frame))
	}
	s.hold(when+", after a word of the server", step()...)
	s.hold(when+", after a word of the server", step()...)
}

// TestRevoke: what is revoked ends the connections that it allowed, in use or not, and no other.
func TestRevoke(t *testing.T) {
	eachDriver(t, func(s *security) {
		for _, apart := range []bool{false, true} {
			revoke(s, apart)
		}
		s.never()
	})
}

func revoke(s *security, apart bool) {
	s.t.Helper()
	where := map[bool]string{false: "on one node", true: "across nodes"}[apart]
	kept, left, remote, offices := s.group(), s.group(), s.group(), s.group()
	friends := s.group()
	client, server := clientServer(s, apart, kept, left, remote, offices)
	stay := slices.DeleteFunc(slices.Clone(server.Groups), func(g string) bool { return g == left })
	s.set(client, func(p *nodestate.Port) { p.Groups = append(p.Groups, friends) })
	office := s.addressGroup(netip.PrefixFrom(client.v4, 32), netip.PrefixFrom(client.v6, 128))
	pair4, pair6 := netip.MustParsePrefix("10.77.0.240/32"), netip.MustParsePrefix("fd77::240/128")

	rules := map[string]string{} // what a port is for -> rule
	add := func(group, key string, ipv6 bool, proto uint8, port int, members string) {
		r := ingress(ipv6, proto, port)
		r.Members = members
		rules[key] = s.rule(group, r)
	}
	var steady, byRule, byGroup, byMember, byOffice []*conversation
	for _, ipv6 := range []bool{false, true} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			key := fmt.Sprint(ipv6, proto)
			add(kept, "kept"+key, ipv6, proto, 80, "")
			add(kept, "rule"+key, ipv6, proto, 81, "")
			add(left, "left"+key, ipv6, proto, 82, "")
			add(remote, "remote"+key, ipv6, proto, 83, friends)
			add(offices, "office"+key, ipv6, proto, 84, office)
			steady = append(steady, s.dial(client, server, ipv6, proto, 80))
			byRule = append(byRule, s.dial(client, server, ipv6, proto, 81))
			byGroup = append(byGroup, s.dial(client, server, ipv6, proto, 82))
			byMember = append(byMember, s.dial(client, server, ipv6, proto, 83))
			byOffice = append(byOffice, s.dial(client, server, ipv6, proto, 84))
		}
	}
	// The client keeps every address for ever but its pairs; connections from them are allowed by name of its group.
	s.set(client, func(p *nodestate.Port) { p.AllowedPairs = []nodestate.Pair{{Prefix: pair4}, {Prefix: pair6}} })
	var byPair []*conversation
	for _, ipv6 := range []bool{false, true} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			c := s.dial(client, server, ipv6, proto, 83)
			c.src = pair4.Addr()
			if ipv6 {
				c.src = pair6.Addr()
			}
			byPair = append(byPair, c)
		}
	}
	s.open(slices.Concat(steady, byRule, byGroup, byMember, byOffice, byPair)...)
	live := func(what string, lists ...[]*conversation) {
		s.t.Helper()
		s.speak(where+", others after "+what, slices.Concat(append(lists, steady)...), tcpACK|tcpPSH, tcpACK|tcpPSH, true)
	}

	for _, ipv6 := range []bool{false, true} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			s.deleteRule(kept, rules["rule"+fmt.Sprint(ipv6, proto)])
		}
	}
	s.dead(where+", rule deleted", byRule...)
	live("rule deleted", byGroup, byMember, byOffice, byPair)

	s.set(client, func(p *nodestate.Port) { p.AllowedPairs = nil })
	s.dead(where+", address pair removed", byPair...)
	live("address pair removed", byGroup, byMember, byOffice)

	s.set(server, func(p *nodestate.Port) { p.Groups = stay })
	s.dead(where+", group left", byGroup...)
	live("group left", byMember, byOffice)

	s.set(client, func(p *nodestate.Port) {
		p.Groups = slices.DeleteFunc(p.Groups, func(g string) bool { return g == friends })
	})
	s.dead(where+", member gone", byMember...)
	live("member gone", byOffice)

	s.changeAddressGroup(office, "remove_addresses", netip.PrefixFrom(client.v4, 32))
	var four, six []*conversation
	for _, c := range byOffice {
		if c.src.Is4() {
			four = append(four, c)
		} else {
			six = append(six, c)
		}
	}
	s.dead(where+", address gone from the address group", four...)
	live("address gone from the address group", six)

	// What was revoked and is allowed again works for new connections.
	s.rule(kept, ingress(false, protoTCP, 81))
	again := s.dial(client, server, false, protoTCP, 81)
	s.open(again)
	live("rule made again", []*conversation{again})

	// The sender's rules count as the receiver's do.
	for _, g := range client.Groups {
		for _, r := range slices.Clone(s.groups[g].Rules) {
			if r.Egress && !r.IPv6 {
				s.deleteRule(g, r.ID)
			}
		}
	}
	four = slices.DeleteFunc(slices.Clone(steady), func(c *conversation) bool { return c.src.Is6() })
	six = slices.DeleteFunc(slices.Clone(steady), func(c *conversation) bool { return c.src.Is4() })
	s.dead(where+", egress rule deleted", four...)
	s.speak(where+", others after egress rule deleted", six, tcpACK|tcpPSH, tcpACK|tcpPSH, true)
}
