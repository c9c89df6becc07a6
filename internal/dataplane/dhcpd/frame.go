package dhcpd

import (
	"encoding/binary"
	"net/netip"
)

// Ethernet, IP and UDP as this server reads and writes them.  Reading expects what the socket's filter let through, but checks every
// length again.

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoUDP  = 17
	protoICMP = 58 // ICMPv6

	etherHeader = 14
	ipv4Header  = 20
	ipv6Header  = 40
	udpHeader   = 8

	port4Server, port4Client = 67, 68
	port6Server, port6Client = 547, 546
)

var (
	broadcastMAC  = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodesMAC   = MAC{0x33, 0x33, 0, 0, 0, 1}
	allNodes      = netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1})
	limitedBcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// packet is a received frame taken apart: a UDP datagram or an ICMPv6 message.
type packet struct {
	eth      MAC // source of the frame
	src, dst netip.Addr
	proto    byte
	srcPort  uint16
	dstPort  uint16
	hops     byte // TTL or hop limit
	payload  []byte
}

// parseFrame takes a frame apart.  UDP checksums are not looked at: a guest whose virtual NIC leaves them to hardware that does not
// exist sends them unfinished over a userspace switch, and the messages inside are checked byte by byte anyway.
func parseFrame(b []byte) (packet, bool) {
	var p packet
	if len(b) < etherHeader {
		return p, false
	}
	p.eth = MAC(b[6:12])
	kind, b := binary.BigEndian.Uint16(b[12:]), b[etherHeader:]
	switch kind {
	case etherIPv4:
		if len(b) < ipv4Header || b[0]>>4 != 4 {
			return p, false
		}
		head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		// Fragments are refused: no client needs them for a DHCP message.
		if head < ipv4Header || total < head || len(b) < total || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return p, false
		}
		p.proto, p.hops, p.src, p.dst = b[9], b[8], addr4(b[12:]), addr4(b[16:])
		b = b[head:total]
	case etherIPv6:
		if len(b) < ipv6Header || b[0]>>4 != 6 {
			return p, false
		}
		n := int(binary.BigEndian.Uint16(b[4:]))
		if len(b) < ipv6Header+n {
			return p, false
		}
		p.proto, p.hops = b[6], b[7]
		p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[ipv6Header : ipv6Header+n]
	default:
		return p, false
	}
	switch p.proto {
	case protoUDP:
		if len(b) < udpHeader {
			return p, false
		}
		n := int(binary.BigEndian.Uint16(b[4:]))
		if n < udpHeader || len(b) < n {
			return p, false
		}
		p.srcPort, p.dstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.payload = b[udpHeader:n]
	case protoICMP:
		if kind != etherIPv6 || len(b) < 4 {
			return p, false
		}
		p.payload = b
	default:
		return p, false
	}
	return p, true
}

// endpoint is one end of a frame to be sent.
type endpoint struct {
	mac  MAC
	ip   netip.Addr
	port uint16
}

// udpFrame writes a whole UDP frame with its checksums.
func udpFrame(from, to endpoint, payload []byte) []byte {
	udp := make([]byte, udpHeader, udpHeader+len(payload))
	binary.BigEndian.PutUint16(udp[0:], from.port)
	binary.BigEndian.PutUint16(udp[2:], to.port)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	udp = append(udp, payload...)
	sum := transportSum(from.ip, to.ip, protoUDP, udp)
	if sum == 0 {
		sum = 0xffff // zero would mean: no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return ipFrame(from, to, protoUDP, 64, udp)
}

// ipFrame wraps a transport payload in IP and Ethernet.
func ipFrame(from, to endpoint, proto, hops byte, body []byte) []byte {
	b := make([]byte, 0, etherHeader+ipv6Header+len(body))
	b = append(append(b, to.mac[:]...), from.mac[:]...)
	if from.ip.Is4() {
		b = binary.BigEndian.AppendUint16(b, etherIPv4)
		h := make([]byte, ipv4Header)
		h[0], h[8], h[9] = 0x45, hops, proto
		h[1] = 0xc0 // network control, as other DHCP servers send it
		binary.BigEndian.PutUint16(h[2:], uint16(ipv4Header+len(body)))
		s, d := from.ip.As4(), to.ip.As4()
		copy(h[12:], s[:])
		copy(h[16:], d[:])
		binary.BigEndian.PutUint16(h[10:], ^fold(sum16(0, h)))
		return append(append(b, h...), body...)
	}
	b = binary.BigEndian.AppendUint16(b, etherIPv6)
	h := make([]byte, 8, ipv6Header)
	h[0], h[6], h[7] = 0x6c, proto, hops // traffic class 0xc0
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	s, d := from.ip.As16(), to.ip.As16()
	h = append(append(h, s[:]...), d[:]...)
	return append(append(b, h...), body...)
}

// transportSum is the checksum of UDP or ICMPv6 with its pseudo header (RFC 768, RFC 8200 section 8.1).
func transportSum(src, dst netip.Addr, proto byte, body []byte) uint16 {
	sum := sum16(0, src.AsSlice())
	sum = sum16(sum, dst.AsSlice())
	sum += uint32(proto) + uint32(len(body))
	return ^fold(sum16(sum, body))
}

func sum16(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
