package e2e

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"baryon/internal/nodestate"
)

// Frames by hand, right to the checksum, so that what is wrong in one is wrong on purpose.

const (
	ethIPv4 = 0x0800
	ethARP  = 0x0806
	ethIPv6 = 0x86dd

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	tcpFIN, tcpSYN, tcpRST, tcpPSH, tcpACK = 1, 2, 4, 8, 16
)

var broadcast = nodestate.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// multicastMAC is where an IPv6 multicast packet goes on Ethernet (RFC 2464).
func multicastMAC(ip netip.Addr) nodestate.MAC {
	b := ip.As16()
	return nodestate.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// ether is a frame, padded to what Ethernet wants.
func ether(dst, src nodestate.MAC, typ uint16, payload []byte) []byte {
	f := slices.Concat(dst[:], src[:], be16(typ), payload)
	if len(f) < 60 {
		f = append(f, make([]byte, 60-len(f))...)
	}
	return f
}

// tagged puts an 802.1Q tag into a frame.
func tagged(vid uint16, frame []byte) []byte {
	return slices.Concat(frame[:12], be16(0x8100), be16(vid), frame[12:])
}

// arp is an ARP packet with a token behind it, in what is padding to everybody else.
func arp(op uint16, sha nodestate.MAC, spa netip.Addr, tha nodestate.MAC, tpa netip.Addr, token uint32) []byte {
	s, t := spa.As4(), tpa.As4()
	return slices.Concat(be16(1), be16(ethIPv4), []byte{6, 4}, be16(op), sha[:], s[:], tha[:], t[:], tokenBytes(token))
}

// header4 is what of an IPv4 header a test may want otherwise.
type header4 struct {
	src, dst netip.Addr
	proto    uint8
	id       uint16
	more     bool   // more fragments follow
	offset   uint16 // of a fragment, in bytes
	options  []byte // a multiple of four bytes
}

func (h header4) with(payload []byte) []byte {
	n := 20 + len(h.options)
	frag := h.offset / 8
	if h.more {
		frag |= 0x2000
	}
	s, d := h.src.As4(), h.dst.As4()
	b := slices.Concat([]byte{0x40 | byte(n/4), 0}, be16(uint16(n+len(payload))), be16(h.id), be16(frag),
		[]byte{64, h.proto, 0, 0}, s[:], d[:], h.options)
	binary.BigEndian.PutUint16(b[10:], checksum(b, 0))
	return append(b, payload...)
}

// ip is a packet of the addresses' family.
func ip(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	if src.Is4() {
		return header4{src: src, dst: dst, proto: proto, id: binary.BigEndian.Uint16(checkID(payload))}.with(payload)
	}
	s, d := src.As16(), dst.As16()
	hops := byte(64)
	if proto == protoICMPv6 {
		hops = 255 // neighbour discovery wants it
	}
	return slices.Concat([]byte{0x60, 0, 0, 0}, be16(uint16(len(payload))), []byte{proto, hops}, s[:], d[:], payload)
}

// checkID makes an identification that differs from packet to packet.
func checkID(payload []byte) []byte { return be16(checksum(payload, 0)) }

// packet is a frame with an IP packet in it.
func packet(dst, src nodestate.MAC, from, to netip.Addr, proto uint8, payload []byte) []byte {
	typ := uint16(ethIPv4)
	if from.Is6() {
		typ = ethIPv6
	}
	return ether(dst, src, typ, ip(from, to, proto, payload))
}

func udp(src, dst netip.Addr, sport, dport uint16, payload []byte) []byte {
	b := slices.Concat(be16(sport), be16(dport), be16(uint16(8+len(payload))), []byte{0, 0}, payload)
	return summed(b, 6, src, dst, protoUDP)
}

func tcp(src, dst netip.Addr, sport, dport uint16, seq, ack uint32, flags uint8, payload []byte) []byte {
	b := slices.Concat(be16(sport), be16(dport), be32(seq), be32(ack), []byte{5 << 4, flags}, be16(65535), []byte{0, 0, 0, 0}, payload)
	return summed(b, 16, src, dst, protoTCP)
}

// icmp is an ICMP or ICMPv6 message; rest is the second half of its header.
func icmp(src, dst netip.Addr, typ, code uint8, rest uint32, payload []byte) []byte {
	b := slices.Concat([]byte{typ, code, 0, 0}, be32(rest), payload)
	if src.Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b, 0))
		return b
	}
	return summed(b, 2, src, dst, protoICMPv6)
}

// icmpProto is the number of the family's ICMP.
func icmpProto(a netip.Addr) uint8 {
	if a.Is4() {
		return protoICMP
	}
	return protoICMPv6
}

// summed writes the checksum over pseudo header and segment.
func summed(b []byte, at int, src, dst netip.Addr, proto uint8) []byte {
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), be32(uint32(len(b))), be32(uint32(proto)))
	sum := checksum(b, partial(pseudo, 0))
	if sum == 0 && proto == protoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	return b
}

func partial(b []byte, sum uint32) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	return sum
}

func checksum(b []byte, sum uint32) uint16 {
	sum = partial(b, sum)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// option is a neighbour discovery option of a private type that holds a token.
func option(token uint32) []byte {
	return slices.Concat([]byte{253, 2}, make([]byte, 6), tokenBytes(token))
}

// solicit and advertise are neighbour discovery; an advertisement overrides what the receiver knows.
func solicit(src, dst, target netip.Addr, token uint32) []byte {
	t := target.As16()
	return icmp(src, dst, 135, 0, 0, slices.Concat(t[:], option(token)))
}

func advertise(src, dst, target netip.Addr, token uint32) []byte {
	t := target.As16()
	return icmp(src, dst, 136, 0, 0x60000000, slices.Concat(t[:], option(token)))
}

// routerAdvert makes the sender the default router for half an hour.
func routerAdvert(src, dst netip.Addr, token uint32) []byte {
	return icmp(src, dst, 134, 0, 64<<24|1800, slices.Concat(make([]byte, 8), option(token)))
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
