package netfilter

import (
	"strconv"
	"strings"
)

// protocols are the names that iptables prints for IP protocols where /etc/protocols is Debian's.  Rule.Text uses them; what is written
// has numbers, so that a host with other names, or none, understands it.
var protocols = map[int]string{
	1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 6: "tcp", 8: "egp", 9: "igp", 12: "pup", 17: "udp", 20: "hmp",
	22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp", 37: "ddp", 38: "idpr-cmtp", 41: "ipv6", 43: "ipv6-route",
	44: "ipv6-frag", 45: "idrp", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 57: "skip", 58: "ipv6-icmp", 59: "ipv6-nonxt",
	60: "ipv6-opts", 73: "rspf", 81: "vmtp", 88: "eigrp", 89: "ospf", 93: "ax.25", 94: "ipip", 97: "etherip", 98: "encap",
	103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 132: "sctp", 133: "fc", 135: "mobility-header",
	136: "udplite", 137: "mpls-in-ip", 138: "manet", 139: "hip", 140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet",
}

// ProtocolName is how Rule.Text calls an IP protocol: by name if it has one, by number otherwise.
func ProtocolName(n int) string {
	if s, ok := protocols[n]; ok {
		return s
	}
	return strconv.Itoa(n)
}

// protocolArg finds the argument of -p in a rule.
func protocolArg(rule string) (from, to int, ok bool) {
	if strings.HasPrefix(rule, "-p ") {
		from = len("-p ")
	} else if i := strings.Index(rule, " -p "); i >= 0 {
		from = i + len(" -p ")
	} else {
		return 0, 0, false
	}
	to = from + strings.IndexByte(rule[from:], ' ')
	return from, to, to > from
}

// numbered is a rule with the number of its protocol.
func numbered(rule string) string {
	from, to, ok := protocolArg(rule)
	if !ok {
		return rule
	}
	switch rule[from:to] {
	case "tcp", "udp", "icmp", "ipv6-icmp":
		return rule // every iptables knows these
	}
	for n, name := range protocols {
		if name == rule[from:to] {
			return rule[:from] + strconv.Itoa(n) + rule[to:]
		}
	}
	return rule
}

// named is a rule with the name of its protocol.
func named(rule string) string {
	from, to, ok := protocolArg(rule)
	if !ok {
		return rule
	}
	if n, err := strconv.Atoi(rule[from:to]); err == nil {
		return rule[:from] + ProtocolName(n) + rule[to:]
	}
	return rule
}
