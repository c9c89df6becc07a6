// Package firewall decides what a node's ports may send and receive: anti-spoofing and security groups.
//
// # Semantics
//
// Admits is the meaning of all of it, for the first packet of a connection; the drivers, revocation and the tests' oracles go by it.
// A packet that belongs to an admitted connection passes without being asked again, in both directions, and so does an ICMP
// error about it.  What is revoked therefore has to be ended actively: Stale names the connections that the present rules would not
// admit any more.
//
// # The openvswitch driver
//
// Engine turns records and wired ports into flows of br-int, incrementally; Want computes the same at once.  It is pure: no clock, no
// IO, no goroutine.  See docs/firewall.md for the structure of the flows.
package firewall

import (
	"net/netip"

	"baryon/internal/nodestate"
)

// Ethernet types that ports may use.
const (
	EthIPv4 = 0x0800
	EthARP  = 0x0806
	EthRARP = 0x8035
	EthIPv6 = 0x86dd
)

// IP protocols with a meaning of their own here.
const (
	ProtoICMP    = 1
	ProtoTCP     = 6
	ProtoUDP     = 17
	ProtoDCCP    = 33
	ProtoICMPv6  = 58
	ProtoSCTP    = 132
	ProtoUDPLite = 136
)

// Packet is a packet at a port that belongs to no known connection; of TCP it is a SYN: nothing else can begin a connection, and only
// stateless groups admit it.
type Packet struct {
	Egress         bool // from the port; otherwise to it
	EthSrc, EthDst nodestate.MAC
	EthType        uint16     // as in the frame: that of a tagged frame is 0x8100
	Src, Dst       netip.Addr // of the IP header; of ARP: sender and target address
	Protocol       uint8
	SrcPort        uint16     // source port, or ICMP type
	DstPort        uint16     // destination port, or ICMP code
	Target         netip.Addr // of a neighbour solicitation or advertisement
	Later          bool       // a fragment other than the first: it has no ports
	AnyPort        bool       // its ports are not known: a rule admits it if it does with some ports
}

// Admits tells whether a port that is Filtered may send or receive a packet as the first of a connection.  An ingress packet is
// addressed to the port, or to many.
func Admits(p *nodestate.Port, groups map[string]*nodestate.Group, members map[string]*nodestate.Members, pkt Packet) bool {
	if pkt.Egress {
		if !genuine(p, pkt) || servesOthers(pkt) {
			return false
		}
		return pkt.EthType == EthARP || pkt.EthType == EthRARP || clientWork(pkt) || Allowed(p, groups, members, pkt)
	}
	return pkt.EthType == EthARP || serverWork(p, pkt) || Allowed(p, groups, members, pkt)
}

// Allowed tells whether a rule of the port's groups admits an IP packet.
func Allowed(p *nodestate.Port, groups map[string]*nodestate.Group, members map[string]*nodestate.Members, pkt Packet) bool {
	if pkt.EthType != EthIPv4 && pkt.EthType != EthIPv6 || pkt.Egress && unspecified(pkt.Src) {
		return false
	}
	for _, id := range p.Groups {
		if g := groups[id]; g != nil {
			for i := range g.Rules {
				if matches(&g.Rules[i], members, pkt) {
					return true
				}
			}
		}
	}
	return false
}

// matches tells whether a rule is for the packet.
func matches(r *nodestate.Rule, members map[string]*nodestate.Members, pkt Packet) bool {
	if r.Egress != pkt.Egress || r.IPv6 != (pkt.EthType == EthIPv6) {
		return false
	}
	if r.Protocol >= 0 && r.Protocol != int(pkt.Protocol) {
		return false
	}
	if !matchesPorts(r, pkt) {
		return false
	}
	remote := pkt.Src
	if pkt.Egress {
		remote = pkt.Dst
	}
	if r.Members != "" {
		m := members[r.Members]
		return m != nil && covered(m.Prefixes, remote)
	}
	return !r.Remote.IsValid() || r.Remote.Bits() == 0 || r.Remote.Contains(remote)
}

func matchesPorts(r *nodestate.Rule, pkt Packet) bool {
	switch r.Protocol {
	case ProtoICMP, ProtoICMPv6:
		if r.PortMin < 0 {
			return true
		}
		return !pkt.Later && int(pkt.SrcPort) == r.PortMin && (r.PortMax < 0 || int(pkt.DstPort) == r.PortMax)
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoDCCP, ProtoUDPLite:
		if r.PortMin < 0 && r.PortMax < 0 {
			return true
		}
		return pkt.AnyPort || !pkt.Later && int(pkt.DstPort) >= r.PortMin && (r.PortMax < 0 || int(pkt.DstPort) <= r.PortMax)
	}
	return true // other protocols have no ports
}

func covered(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// genuine tells whether the source addresses of a packet are the port's.
func genuine(p *nodestate.Port, pkt Packet) bool {
	switch pkt.EthType {
	case EthRARP:
		return OwnsMAC(p, pkt.EthSrc)
	case EthIPv4:
		// A DHCP client that has no address yet.
		if pkt.Src == netip.IPv4Unspecified() && pkt.Dst == broadcast4 && isUDP(pkt, 68, 67) {
			return OwnsMAC(p, pkt.EthSrc)
		}
	case EthIPv6:
		// Duplicate address detection and the multicast reports that belong to it.
		if pkt.Src == netip.IPv6Unspecified() {
			return OwnsMAC(p, pkt.EthSrc) && allNodes.Contains(pkt.Dst) && isICMPv6(pkt, 131, 135, 143)
		}
		if isICMPv6(pkt, 136) && !Owns(p, pkt.EthSrc, pkt.Target) {
			return false
		}
	case EthARP:
	default:
		return false
	}
	return Owns(p, pkt.EthSrc, pkt.Src)
}

var (
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	allNodes   = netip.MustParsePrefix("ff02::/16")
)

// servesOthers tells of what only the network's own services may send: DHCP and DHCPv6 servers' answers, router advertisements.
func servesOthers(pkt Packet) bool {
	return pkt.EthType == EthIPv4 && isUDP(pkt, 67, 68) || pkt.EthType == EthIPv6 && (isUDP(pkt, 547, 546) || isICMPv6(pkt, 134))
}

// clientWork tells of what every port may send: DHCP and DHCPv6 clients' questions, neighbour and router discovery.
func clientWork(pkt Packet) bool {
	if pkt.EthType == EthIPv4 {
		return isUDP(pkt, 68, 67)
	}
	if unspecified(pkt.Src) {
		return true // genuine lets only discovery use it
	}
	return isUDP(pkt, 546, 547) || isICMPv6(pkt, 130, 133, 135, 136)
}

// serverWork tells of what every port may receive: DHCP and DHCPv6 servers' answers, neighbour discovery, and router advertisements
// if it has an IPv6 address.
func serverWork(p *nodestate.Port, pkt Packet) bool {
	if pkt.EthType == EthIPv4 {
		return isUDP(pkt, 67, 68)
	}
	return pkt.EthType == EthIPv6 && (isUDP(pkt, 547, 546) || isICMPv6(pkt, 130, 135, 136) || isICMPv6(pkt, 134) && HasIPv6(p))
}

func unspecified(a netip.Addr) bool { return a.IsValid() && a.IsUnspecified() }

func isUDP(pkt Packet, src, dst uint16) bool {
	return !pkt.Later && pkt.Protocol == ProtoUDP && pkt.SrcPort == src && pkt.DstPort == dst
}

func isICMPv6(pkt Packet, types ...uint16) bool {
	if pkt.Later || pkt.Protocol != ProtoICMPv6 {
		return false
	}
	for _, t := range types {
		if pkt.SrcPort == t {
			return true
		}
	}
	return false
}

// HasIPv6 tells whether a port has an IPv6 address of a subnet.
func HasIPv6(p *nodestate.Port) bool {
	for _, a := range p.Addresses {
		if a.Prefix.IsValid() && !a.Prefix.Addr().Unmap().Is4() {
			return true
		}
	}
	return false
}

// Source is an address, with the MAC that goes with it, that a port may send from.
type Source struct {
	MAC    nodestate.MAC
	Prefix netip.Prefix // masked
}

// Sources lists what a port may send from: its own addresses, its pairs, and the link-local address of each of its MACs, in this order
// and without duplicates.  A pair without MAC has the port's.
func Sources(p *nodestate.Port) []Source {
	var out []Source
	seen := map[Source]bool{}
	add := func(mac nodestate.MAC, prefix netip.Prefix) {
		if s := (Source{mac, prefix.Masked()}); prefix.IsValid() && !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, a := range p.Addresses {
		if a.Prefix.IsValid() {
			ip := a.Prefix.Addr().Unmap()
			add(p.MAC, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	for _, pair := range p.AllowedPairs {
		add(pairMAC(p, pair), pair.Prefix)
	}
	for _, m := range MACs(p) {
		add(m, netip.PrefixFrom(LinkLocal(m), 128))
	}
	return out
}

// MACs lists the MACs of a port, its own first.
func MACs(p *nodestate.Port) []nodestate.MAC {
	out := []nodestate.MAC{p.MAC}
	seen := map[nodestate.MAC]bool{p.MAC: true}
	for _, pair := range p.AllowedPairs {
		if m := pairMAC(p, pair); !seen[m] {
			seen[m] = true
			out = append(out, m)
		}
	}
	return out
}

func pairMAC(p *nodestate.Port, pair nodestate.Pair) nodestate.MAC {
	if pair.MAC == (nodestate.MAC{}) {
		return p.MAC
	}
	return pair.MAC
}

// Owns tells whether a port may send from an address with a MAC.
func Owns(p *nodestate.Port, mac nodestate.MAC, a netip.Addr) bool {
	for _, s := range Sources(p) {
		if s.MAC == mac && s.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// OwnsMAC tells whether a port may send from a MAC.
func OwnsMAC(p *nodestate.Port, mac nodestate.MAC) bool {
	for _, m := range MACs(p) {
		if m == mac {
			return true
		}
	}
	return false
}

// OwnsAddress tells whether an address is the port's with any of its MACs.
func OwnsAddress(p *nodestate.Port, a netip.Addr) bool {
	for _, s := range Sources(p) {
		if s.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// LinkLocal is the address that a host forms from its MAC (RFC 4291, modified EUI-64).
func LinkLocal(m nodestate.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
