package firewall

import (
	"net/netip"

	"baryon/internal/nodestate"
)

// Connection is a tracked connection of a port, by the first packet that it was made from.
type Connection struct {
	Egress           bool // the port began it
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16 // of ICMP: type and code
	AnyPort          bool   // the ports are not known
}

// Stale tells whether the present rules would not admit a connection any more, or the port's own end of it is no address of the port
// any more: it has to be ended.
func Stale(p *nodestate.Port, groups map[string]*nodestate.Group, members map[string]*nodestate.Members, c Connection) bool {
	pkt := Packet{
		Egress: c.Egress, EthType: EthIPv4, Src: c.Src, Dst: c.Dst, Protocol: c.Protocol, SrcPort: c.SrcPort, DstPort: c.DstPort, AnyPort: c.AnyPort,
	}
	if c.Src.Is6() {
		pkt.EthType = EthIPv6
	}
	own := c.Dst
	if c.Egress {
		own = c.Src
	}
	// What is sent to many has no single end that could be the port's.
	if !OwnsAddress(p, own) && (c.Egress || !own.IsMulticast() && own != broadcast4 && !subnetBroadcast(p, own)) {
		return true
	}
	return !Allowed(p, groups, members, pkt)
}

// subnetBroadcast tells whether a is the directed broadcast address of a subnet of the port.
func subnetBroadcast(p *nodestate.Port, a netip.Addr) bool {
	for _, x := range p.Addresses {
		if !x.Prefix.IsValid() || !x.Prefix.Addr().Is4() || !a.Is4() || !x.Prefix.Masked().Contains(a) {
			continue
		}
		host := a.As4()
		ones := true
		for bit := x.Prefix.Bits(); bit < 32; bit++ {
			ones = ones && host[bit/8]>>(7-bit%8)&1 == 1
		}
		if ones {
			return true
		}
	}
	return false
}
