package hybrid

import (
	"net/netip"
	"strconv"

	"baryon/internal/agent/firewall"
	"baryon/internal/dataplane/netfilter"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Comments, as operators know them.
const (
	noteDirect    = "Direct traffic from the VM interface to the security group chain."
	noteIncoming  = "Direct incoming traffic from VM to the security group chain."
	noteJump      = "Jump to the VM specific chain."
	noteFallback  = "Send unmatched traffic to the fallback chain."
	noteDefault   = "Default drop rule for unmatched traffic."
	noteDHCP      = "Allow DHCP client traffic."
	noteDHCPSpoof = "Prevent DHCP Spoofing by VM."
	noteICMPv6    = "Allow IPv6 ICMP traffic."
	noteRA        = "Drop IPv6 Router Advts from VM Instance."
	notePair      = "Allow traffic from defined IP/MAC pairs."
	noteNoPair    = "Drop traffic without an IP/MAC allow rule."
	noteSession   = "Direct packets associated with a known session to the RETURN chain."
	noteInvalid   = "Drop packets that appear related to an existing connection (e.g. TCP ACK/FIN) but do not have an entry in conntrack."
	noteStray     = "Drop TCP packets that neither begin a connection nor belong to one."
	noteNoSource  = "Drop packets without a source address."
	noteOff       = "Accept all packets when port security is disabled."
	noteTrusted   = "Accept all packets when port is trusted."
)

func comment(text string) string { return `-m comment --comment "` + text + `"` }

func rule(text string) netfilter.Rule { return netfilter.Rule{Text: text} }

// established passes what belongs to a connection.
func established() netfilter.Rule {
	return rule("-m state --state RELATED,ESTABLISHED " + comment(noteSession) + " -j RETURN")
}

// strays drops what only looks like part of a connection.  It comes before the groups' rules: "any protocol" does not mean packets of no
// connection.
func strays() []netfilter.Rule {
	return []netfilter.Rule{
		rule("-m state --state INVALID " + comment(noteInvalid) + " -j DROP"),
		rule("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW " + comment(noteStray) + " -j DROP"),
	}
}

func fallback() netfilter.Rule {
	return rule(comment(noteFallback) + " -j " + names.ChainPrefix + "sg-fallback")
}

func icmpv6(typ int) string { return "-p ipv6-icmp -m icmp6 --icmpv6-type " + strconv.Itoa(typ) }

func udp(src, dst int) string {
	return "-p udp -m udp --sport " + strconv.Itoa(src) + " --dport " + strconv.Itoa(dst)
}

// egress is chain o: what the port sends.
func egress(p *nodestate.Port, f netfilter.Family, groups []netfilter.Rule) netfilter.Rules {
	var out netfilter.Rules
	sources := rule("-j " + names.PortChain('s', p.ID))
	if f == netfilter.IPv4 {
		out = append(out,
			rule("-s 0.0.0.0/32 -d 255.255.255.255/32 "+udp(68, 67)+" "+comment(noteDHCP)+" -j RETURN"),
			sources,
			rule(udp(68, 67)+" "+comment(noteDHCP)+" -j RETURN"),
			rule(udp(67, 68)+" "+comment(noteDHCPSpoof)+" -j DROP"),
		)
	} else {
		for _, typ := range []int{131, 135, 143} {
			out = append(out, rule("-s ::/128 -d ff02::/16 "+icmpv6(typ)+" "+comment(noteICMPv6)+" -j RETURN"))
		}
		if mayUse(p, netip.IPv6Unspecified()) {
			out = append(out, rule("-s ::/128 "+comment(noteNoSource)+" -j DROP"))
		}
		out = append(out, sources, rule(icmpv6(134)+" "+comment(noteRA)+" -j DROP"))
		for _, typ := range []int{130, 133, 135, 136} {
			out = append(out, rule(icmpv6(typ)+" "+comment(noteICMPv6)+" -j RETURN"))
		}
		out = append(out,
			rule(udp(546, 547)+" "+comment(noteDHCP)+" -j RETURN"),
			rule(udp(547, 546)+" "+comment(noteDHCPSpoof)+" -j DROP"),
		)
	}
	out = append(out, established())
	if f == netfilter.IPv4 && mayUse(p, netip.IPv4Unspecified()) {
		out = append(out, rule("-s 0.0.0.0/32 "+comment(noteNoSource)+" -j DROP"))
	}
	out = append(out, strays()...)
	out = append(out, groups...)
	return append(out, fallback())
}

// mayUse tells whether an address pair of the port covers an address that no rule may be about.
func mayUse(p *nodestate.Port, a netip.Addr) bool {
	for _, pair := range p.AllowedPairs {
		if pair.Prefix.IsValid() && pair.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// ingress is chain i: what is sent to the port.
func ingress(p *nodestate.Port, f netfilter.Family, groups []netfilter.Rule) netfilter.Rules {
	var out netfilter.Rules
	if f == netfilter.IPv6 {
		for _, typ := range []int{130, 135, 136} {
			out = append(out, rule(icmpv6(typ)+" -j RETURN"))
		}
	}
	out = append(out, established())
	if f == netfilter.IPv6 && firewall.HasIPv6(p) {
		out = append(out, rule(icmpv6(134)+" -j RETURN"))
	}
	server, many := udp(67, 68), "255.255.255.255/32"
	if f == netfilter.IPv6 {
		server, many = udp(547, 546), "fe80::/64"
	}
	for _, a := range p.Addresses {
		if ip := a.Prefix.Addr().Unmap(); a.Prefix.IsValid() && familyOf(ip) == f {
			out = append(out, rule("-d "+host(ip)+" "+server+" -j RETURN"))
		}
	}
	out = append(out, rule("-d "+many+" "+server+" -j RETURN"))
	out = append(out, strays()...)
	out = append(out, groups...)
	return append(out, fallback())
}

// sources is chain s: the addresses that the port may send from.
func sources(p *nodestate.Port, f netfilter.Family) netfilter.Rules {
	var out, own netfilter.Rules
	pairs := map[firewall.Source]bool{}
	for _, pair := range p.AllowedPairs {
		for _, s := range firewall.Sources(&nodestate.Port{MAC: p.MAC, AllowedPairs: []nodestate.Pair{pair}}) {
			if pair.Prefix.IsValid() && s.Prefix == pair.Prefix.Masked() {
				pairs[s] = true // the others are link-local addresses
			}
		}
	}
	for _, s := range firewall.Sources(p) {
		if familyOf(s.Prefix.Addr()) != f {
			continue
		}
		text := "-m mac --mac-source " + s.MAC.String() + " " + comment(notePair) + " -j RETURN"
		if s.Prefix.Bits() > 0 {
			text = "-s " + s.Prefix.String() + " " + text
		}
		if pairs[s] {
			out = append(out, rule(text)) // pairs first, as Neutron has them
		} else {
			own = append(own, rule(text))
		}
	}
	return append(append(out, own...), rule(comment(noteNoPair)+" -j DROP"))
}

func familyOf(a netip.Addr) netfilter.Family {
	if a.Is4() {
		return netfilter.IPv4
	}
	return netfilter.IPv6
}

func host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// groupRule is a rule of a security group; ok is false for one that can match no packet, or that iptables has no words for.
func groupRule(r *nodestate.Rule) (netfilter.Rule, bool) {
	text := ""
	if r.Members == "" && r.Remote.IsValid() && r.Remote.Bits() > 0 {
		if r.Remote.Addr().Is4() == r.IPv6 {
			return netfilter.Rule{}, false
		}
		text = "-s "
		if r.Egress {
			text = "-d "
		}
		text += r.Remote.Masked().String() + " "
	}
	proto, ok := protocol(r)
	if !ok {
		return netfilter.Rule{}, false
	}
	text += proto
	if r.Members != "" {
		side := "src"
		if r.Egress {
			side = "dst"
		}
		text += "-m set --match-set " + names.AddressSet(r.IPv6, r.Members) + " " + side + " "
	}
	return netfilter.Rule{Text: text + "-j RETURN", Owner: r.ID}, true
}

// protocol is the part of a rule about protocol and ports, with a blank at its end.
func protocol(r *nodestate.Rule) (string, bool) {
	if r.Protocol < 0 {
		return "", true
	}
	if r.Protocol == 0 || r.Protocol > 255 {
		return "", false // iptables takes 0 for any protocol
	}
	name := netfilter.ProtocolName(r.Protocol)
	text := "-p " + name + " "
	switch r.Protocol {
	case firewall.ProtoICMP, firewall.ProtoICMPv6:
		return icmpRule(r, text)
	case firewall.ProtoTCP, firewall.ProtoUDP, firewall.ProtoSCTP, firewall.ProtoDCCP, firewall.ProtoUDPLite:
		lo, hi := max(r.PortMin, 0), r.PortMax
		if r.PortMin < 0 && r.PortMax < 0 {
			return text, true
		}
		if hi < 0 {
			hi = 65535
		}
		if lo > hi || hi > 65535 {
			return "", false
		}
		if r.Protocol != firewall.ProtoUDPLite { // it has no match of its own
			text += "-m " + name + " "
			if lo == hi {
				return text + "--dport " + strconv.Itoa(lo) + " ", true
			}
		}
		text += "-m multiport --dports " + strconv.Itoa(lo)
		if lo != hi {
			text += ":" + strconv.Itoa(hi)
		}
		return text + " ", true
	}
	return text, true
}

// anyICMPType is iptables' word for any ICMP type (IPv4 only); the real type 255 is reserved and cannot be said.
const anyICMPType = 255

func icmpRule(r *nodestate.Rule, text string) (string, bool) {
	if r.PortMin < 0 {
		return text, true
	}
	if r.IPv6 != (r.Protocol == firewall.ProtoICMPv6) || r.PortMin > 255 || r.PortMax > 255 || !r.IPv6 && r.PortMin == anyICMPType {
		return "", false
	}
	if r.IPv6 {
		text += "-m icmp6 --icmpv6-type "
	} else {
		text += "-m icmp --icmp-type "
	}
	text += strconv.Itoa(r.PortMin)
	if r.PortMax >= 0 {
		text += "/" + strconv.Itoa(r.PortMax)
	}
	return text + " ", true
}
