package firewall

import (
	"fmt"
	"net/netip"

	"baryon/internal/nodestate"
	"baryon/internal/openflow"
)

// ruleMatches are the matches that a rule's protocol, ports and remote prefix make together.  What Open vSwitch cannot match admits
// nothing, and problem says so.
func ruleMatches(r *nodestate.Rule) (out []openflow.Match, problem string) {
	base := []openflow.MatchItem{openflow.IP()}
	if r.IPv6 {
		base[0] = openflow.IPv6()
	}
	if r.Remote.IsValid() && r.Remote.Bits() > 0 {
		if r.Remote.Addr().Is4() == r.IPv6 {
			return nil, fmt.Sprintf("rule %s: %s is of the other IP version", r.ID, r.Remote)
		}
		base = append(base, remoteItem(r.Egress, r.Remote.Masked()))
	}
	if r.Protocol < 0 {
		return []openflow.Match{openflow.MatchOf(base...)}, ""
	}
	if r.Protocol > 255 {
		return nil, fmt.Sprintf("rule %s: no protocol has number %d", r.ID, r.Protocol)
	}
	base = append(base, openflow.IPProto(uint8(r.Protocol)))
	switch m := openflow.MatchOf(base...); r.Protocol {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		for _, p := range portMasks(r.PortMin, r.PortMax) {
			x := m
			if p.mask != 0 {
				x = m.With(openflow.TPDst(p.value, p.mask))
			}
			if p.value == 0 && r.PortMin >= 0 {
				x = x.With(openflow.IPFrag("not_later")) // later fragments look as if they had port 0
			}
			out = append(out, x)
		}
		return out, ""
	case ProtoDCCP, ProtoUDPLite:
		if r.PortMin >= 0 || r.PortMax >= 0 {
			return nil, fmt.Sprintf("rule %s: Open vSwitch cannot match ports of protocol %d, so it admits nothing", r.ID, r.Protocol)
		}
	case ProtoICMP, ProtoICMPv6:
		if r.PortMin < 0 {
			break
		}
		if r.PortMin > 255 || r.PortMax > 255 || r.IPv6 != (r.Protocol == ProtoICMPv6) {
			return nil, fmt.Sprintf("rule %s: no such ICMP type and code in this IP version", r.ID)
		}
		items := []openflow.MatchItem{openflow.ICMPType(uint8(r.PortMin))}
		if r.PortMax >= 0 {
			items = append(items, openflow.ICMPCode(uint8(r.PortMax)))
		}
		if r.PortMin == 0 {
			items = append(items, openflow.IPFrag("not_later")) // later fragments look as if they had type 0
		}
		return []openflow.Match{m.With(items...)}, ""
	}
	return []openflow.Match{openflow.MatchOf(base...)}, ""
}

func remoteItem(egress bool, p netip.Prefix) openflow.MatchItem {
	if egress {
		return openflow.Dst(p)
	}
	return openflow.Src(p)
}

// memberMatch matches the other end of a packet.
func memberMatch(egress bool, p netip.Prefix) openflow.Match {
	family := openflow.IPv6()
	if p.Addr().Is4() {
		family = openflow.IP()
	}
	if p.Bits() == 0 {
		return openflow.MatchOf(family)
	}
	return openflow.MatchOf(family, remoteItem(egress, p.Masked()))
}

type portMask struct{ value, mask uint16 }

// portMasks covers lo..hi, -1 meaning no bound, with as few value/mask pairs as there are; a mask of 0 stands for all ports.
func portMasks(lo, hi int) []portMask {
	if lo < 0 {
		lo = 0
	}
	if hi < 0 || hi > 65535 {
		hi = 65535
	}
	var out []portMask
	for lo <= hi {
		size := 1
		for lo%(size*2) == 0 && lo+size*2-1 <= hi && size < 65536 {
			size *= 2
		}
		out = append(out, portMask{uint16(lo), uint16(65536 - size)})
		lo += size
	}
	return out
}
