package conntrack

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// protocols are the names that dpctl/dump-conntrack prints; others are numbers.
var protocols = map[string]uint8{
	"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136,
}

// parse reads a line of dpctl/dump-conntrack:
//
//	tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=40000,dport=80),reply=(…),zone=3,mark=1,protoinfo=(state=ESTABLISHED)
//	icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=7,type=8,code=0),reply=(…)
func parse(line string) (Entry, error) {
	var e Entry
	bad := func(what string) (Entry, error) {
		return Entry{}, fmt.Errorf("%s in %q", what, line)
	}
	head, rest, ok := strings.Cut(line, ",orig=(")
	orig, tail, closed := strings.Cut(rest, ")")
	if !ok || !closed {
		return bad("no original direction")
	}
	if e.Protocol, ok = protocols[head]; !ok {
		n, err := strconv.ParseUint(head, 10, 8)
		if err != nil {
			return bad("unknown protocol")
		}
		e.Protocol = uint8(n)
	}
	for _, pair := range strings.Split(orig, ",") {
		name, text, _ := strings.Cut(pair, "=")
		var err error
		switch name {
		case "src":
			e.Src, err = netip.ParseAddr(text)
		case "dst":
			e.Dst, err = netip.ParseAddr(text)
		case "sport":
			err = number(text, &e.SrcPort, 16)
		case "dport":
			err = number(text, &e.DstPort, 16)
		case "id":
			err = number(text, &e.ID, 16)
		case "type":
			err = number(text, &e.Type, 8)
		case "code":
			err = number(text, &e.Code, 8)
		}
		if err != nil {
			return bad("bad " + name)
		}
	}
	if !e.Src.IsValid() || !e.Dst.IsValid() {
		return bad("no addresses")
	}
	// What follows in parentheses (the reply, the state) has neither zone nor mark.
	depth := 0
	for _, word := range strings.Split(tail, ",") {
		name, text, _ := strings.Cut(word, "=")
		if depth == 0 {
			var err error
			switch name {
			case "zone":
				err = number(text, &e.Zone, 16)
			case "mark":
				err = number(text, &e.Mark, 32)
			}
			if err != nil {
				return bad("bad " + name)
			}
		}
		depth += strings.Count(word, "(") - strings.Count(word, ")")
	}
	return e, nil
}

func number[T uint8 | uint16 | uint32](text string, to *T, bits int) error {
	n, err := strconv.ParseUint(text, 0, bits)
	*to = T(n)
	return err
}

// tuple writes an entry as dpctl/flush-conntrack wants it.
func tuple(e Entry) string {
	src, dst := "ct_nw_src", "ct_nw_dst"
	if e.Src.Is6() {
		src, dst = "ct_ipv6_src", "ct_ipv6_dst"
	}
	s := fmt.Sprintf("%s=%s,%s=%s,ct_nw_proto=%d", src, e.Src, dst, e.Dst, e.Protocol)
	switch e.Protocol {
	case protocols["icmp"], protocols["icmpv6"]:
		return s + fmt.Sprintf(",icmp_id=%d,icmp_type=%d,icmp_code=%d", e.ID, e.Type, e.Code)
	}
	return s + fmt.Sprintf(",ct_tp_src=%d,ct_tp_dst=%d", e.SrcPort, e.DstPort)
}
