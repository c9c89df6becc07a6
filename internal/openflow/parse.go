package openflow

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Parser reads flows in text form.  The zero Parser knows the reserved port names only.
type Parser struct {
	PortNumber  func(name string) (uint32, bool)
	TableNumber func(name string) (uint8, bool)

	tagged bool // the match asks for a VLAN tag, which mod_vlan_vid then changes
}

// maxText bounds what is parsed; a flow that fits in a message prints shorter.
const maxText = 1 << 19

// ParseFlow reads a flow as dump-flows prints it, with or without statistics, or as add-flow takes it.
func ParseFlow(s string) (Flow, error) { return Parser{}.Flow(s) }

// ParseMatch reads a match: what stands before "actions=".
func ParseMatch(s string) (Match, error) { return Parser{}.Match(s) }

// ParseActions reads what stands behind "actions=".
func ParseActions(s string) ([]Action, error) { return Parser{}.Actions(s) }

// Flow reads a flow.
func (p Parser) Flow(s string) (Flow, error) {
	if len(s) > maxText {
		return Flow{}, fmt.Errorf("parse flow: %d characters are too long", len(s))
	}
	f := Flow{Priority: DefaultPriority}
	head, acts, found := cutActions(s)
	if !found {
		return f, fmt.Errorf("parse flow %.200q: no actions=", s)
	}
	items, err := p.fields(head, &f)
	if err != nil {
		return f, fmt.Errorf("parse flow %.200q: %w", s, err)
	}
	f.Match = MatchOf(items...)
	if err := f.Match.Err(); err != nil {
		return f, fmt.Errorf("parse flow %.200q: %w", s, err)
	}
	vid, _, _ := f.Match.Get(FieldVLANVID)
	p.tagged = vid.Lo&0x1000 != 0
	if f.Actions, err = p.Actions(acts); err != nil {
		return f, fmt.Errorf("parse flow %.200q: %w", s, err)
	}
	return f, nil
}

// Match reads a match.
func (p Parser) Match(s string) (Match, error) {
	if len(s) > maxText {
		return Match{}, fmt.Errorf("parse match: %d characters are too long", len(s))
	}
	items, err := p.fields(s, nil)
	if err != nil {
		return Match{}, fmt.Errorf("parse match %.200q: %w", s, err)
	}
	m := MatchOf(items...)
	if err := m.Err(); err != nil {
		return Match{}, fmt.Errorf("parse match %.200q: %w", s, err)
	}
	return m, nil
}

// cutActions finds actions= (or action=) at the start of a word outside quotes.
func cutActions(s string) (head, acts string, found bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case quoted || s[i] != 'a' || i > 0 && !isSeparator(s[i-1]):
		case strings.HasPrefix(s[i:], "actions="):
			return s[:i], s[i+len("actions="):], true
		case strings.HasPrefix(s[i:], "action="):
			return s[:i], s[i+len("action="):], true
		}
	}
	return s, "", false
}

func isSeparator(c byte) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// nextWord splits off a word that ends at a separator outside quotes and parentheses; ok is false at the end.
func nextWord(s string) (word, rest string, err error, ok bool) {
	s = strings.TrimLeft(s, ", \t\n\r")
	if s == "" {
		return "", "", nil, false
	}
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth < 0 {
				return "", "", fmt.Errorf("unmatched )"), false
			}
		case depth == 0 && isSeparator(c):
			return s[:i], s[i:], nil, true
		}
	}
	if quoted || depth > 0 {
		return "", "", fmt.Errorf("unclosed quote or parenthesis"), false
	}
	return s, "", nil, true
}

// fields reads the words before the actions; f is nil for a match alone.
func (p Parser) fields(s string, f *Flow) ([]MatchItem, error) {
	var items []MatchItem
	for {
		word, rest, err, ok := nextWord(s)
		if err != nil {
			return nil, err
		}
		if !ok {
			return items, nil
		}
		s = rest
		key, value, hasValue := strings.Cut(word, "=")
		if f != nil {
			used, err := p.flowAttr(f, key, value, hasValue)
			if err != nil {
				return nil, err
			}
			if used {
				continue
			}
		}
		it, err := p.matchWord(key, value, hasValue)
		if err != nil {
			return nil, err
		}
		items = append(items, it...)
		if len(items) > 256 {
			return nil, fmt.Errorf("too many conditions")
		}
	}
}

// flowAttr reads what is about the flow and not its match.
func (p Parser) flowAttr(f *Flow, key, value string, hasValue bool) (bool, error) {
	if !hasValue {
		for _, n := range flowFlagNames {
			if n.name == key {
				f.Flags |= n.flag
				return true, nil
			}
		}
		return key == "reset_counts", nil
	}
	var err error
	switch key {
	case "table":
		f.Table, err = p.table(value)
	case "priority":
		f.Priority, err = parse16(value)
	case "cookie":
		var v Value
		if v, err = parseUint(value); err == nil && v.Hi != 0 {
			err = fmt.Errorf("cookie %q does not fit in 64 bits", value)
		}
		f.Cookie = v.Lo
	case "idle_timeout":
		f.IdleTimeout, err = parse16(value)
	case "hard_timeout":
		f.HardTimeout, err = parse16(value)
	case "importance":
		f.Importance, err = parse16(value)
	case "duration", "n_packets", "n_bytes", "idle_age", "hard_age", "reset_counts":
	default:
		return false, nil
	}
	return true, err
}

func parse16(s string) (uint16, error) {
	v, err := parseUintMaskless(s, 16)
	return uint16(v), err
}

func parseUintMaskless(s string, bits int) (uint64, error) {
	v, err := parseUint(s)
	if err != nil {
		return 0, err
	}
	if v.BitLen() > bits {
		return 0, fmt.Errorf("%q does not fit in %d bits", s, bits)
	}
	return v.Lo, nil
}

func (p Parser) table(s string) (uint8, error) {
	if p.TableNumber != nil {
		if name, err := unquote(s); err == nil {
			if t, ok := p.TableNumber(name); ok {
				return t, nil
			}
		}
	}
	v, err := parseUintMaskless(s, 8)
	return uint8(v), err
}

func unquote(s string) (string, error) {
	if strings.HasPrefix(s, `"`) {
		return strconv.Unquote(s)
	}
	return s, nil
}

// port reads a port: number, reserved name, or what PortNumber knows.
func (p Parser) port(s string) (uint32, error) {
	name, err := unquote(s)
	if err != nil {
		return 0, fmt.Errorf("port %s: %w", s, err)
	}
	if name == s {
		if n, ok := reservedPort(name); ok {
			return n, nil
		}
		if v, err := parseUintMaskless(s, 32); err == nil {
			if v >= 0xff00 && v <= 0xffff { // reserved in OpenFlow 1.0, and so no port in later versions
				v |= 0xffff0000
			}
			return uint32(v), nil
		}
	}
	if p.PortNumber != nil {
		if n, ok := p.PortNumber(name); ok {
			return n, nil
		}
	}
	return 0, fmt.Errorf("unknown port %q", name)
}

// protocolWords are the words that stand for an Ethernet type and an IP protocol.
var protocolWords = map[string]MatchItem{
	"ip": IP(), "ipv4": IP(), "ipv6": IPv6(), "arp": ARP(), "rarp": RARP(), "icmp": ICMP(), "icmp6": ICMPv6(), "tcp": TCP(),
	"tcp6": TCP6(), "udp": UDP(), "udp6": UDP6(), "sctp": SCTP(), "sctp6": SCTP6(), "mpls": EthType(EthTypeMPLS),
	"mplsm": EthType(EthTypeMPLSMulti), "eth": {},
}

func (p Parser) matchWord(key, value string, hasValue bool) ([]MatchItem, error) {
	if !hasValue {
		if it, ok := protocolWords[key]; ok {
			return []MatchItem{it}, nil
		}
		return nil, fmt.Errorf("unknown word %q", key)
	}
	one := func(it MatchItem, err error) ([]MatchItem, error) {
		if err == nil && it.err != "" {
			err = fmt.Errorf("%s", it.err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", key, value, err)
		}
		return []MatchItem{it}, nil
	}
	switch key {
	case "in_port":
		port, err := p.port(value)
		return one(InPort(port), err)
	case "dl_vlan":
		v, err := parseUintMaskless(value, 16)
		if v == 0xffff { // OpenFlow 1.0's way to say untagged
			return one(NoVLAN(), err)
		}
		return one(VLAN(uint16(min(v, 5000))), err)
	case "dl_vlan_pcp":
		v, err := parseUintMaskless(value, 3)
		return []MatchItem{AnyVLAN(), VLANPCP(uint8(v))}, err
	case "nw_tos", "ip_tos":
		v, err := parseUintMaskless(value, 8)
		return one(NWTOS(uint8(v)), err)
	case "tp_src", "tp_dst":
		v, mask, err := parseUintMask(value, Ones(16))
		if key == "tp_src" {
			return one(TPSrc(uint16(v.Lo), uint16(mask.Lo)), err)
		}
		return one(TPDst(uint16(v.Lo), uint16(mask.Lo)), err)
	case "icmp_type", "icmp_code":
		v, err := parseUintMaskless(value, 8)
		if key == "icmp_type" {
			return one(ICMPType(uint8(v)), err)
		}
		return one(ICMPCode(uint8(v)), err)
	case "oxm":
		return parseRawOXM(value)
	}
	f, ok := FieldByName(key)
	if !ok {
		return nil, fmt.Errorf("unknown field %q", key)
	}
	v, mask, err := p.fieldValue(f, value)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return one(Masked(f, v, mask), nil)
}

// parseRawOXM reads TLVs of fields that this package does not know.
func parseRawOXM(s string) ([]MatchItem, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) > maxMatchLen {
		return nil, fmt.Errorf("oxm=%.100s: no hexadecimal TLVs", s)
	}
	for rest := b; len(rest) > 0; {
		if len(rest) < 4 || 4+int(rest[3]) > len(rest) {
			return nil, fmt.Errorf("oxm=%.100s: cut short", s)
		}
		if fieldOf(be16(rest), rest[2]>>1) != FieldNone {
			return nil, fmt.Errorf("oxm=%.100s: the field has a name", s)
		}
		rest = rest[4+int(rest[3]):]
	}
	return []MatchItem{{raw: string(b)}}, nil
}

// fieldValue reads what set_field prints.
func (p Parser) fieldValue(f Field, s string) (v, mask Value, err error) {
	info, full := &fieldTable[f], fieldMask(f)
	switch info.format {
	case asMAC:
		addr, m, masked := strings.Cut(s, "/")
		a, err := parseMAC(addr)
		if err != nil {
			return v, mask, err
		}
		mask = full
		if masked {
			mm, err := parseMAC(m)
			if err != nil {
				return v, mask, err
			}
			mask = MACValue(mm)
		}
		return MACValue(a).And(mask), mask, nil
	case asIPv4, asIPv6:
		return parseAddrMask(s, int(info.bits))
	case asPort:
		port, err := p.port(s)
		if info.bytes == 2 {
			if port > 0xffff && port < 0xffffff00 {
				return v, mask, fmt.Errorf("port %d does not fit in 16 bits", port)
			}
			port &= 0xffff
		}
		return U64(uint64(port)), full, err
	case asCTState, asTCPFlags, asTunFlags:
		bits, m, err := parseFlags(s, flagNamesOf(info.format))
		if names := len(flagNamesOf(info.format)); Value(U64(uint64(m))) == Ones(names) && info.format == asTunFlags {
			return U64(uint64(bits)), full, err
		}
		return U64(uint64(bits)), U64(uint64(m)), err
	case asFrag:
		return parseFrag(s)
	}
	return parseUintMask(s, full)
}

// subfield reads NAME[], NAME[n] or NAME[a..b].
func parseSubfield(s string) (Subfield, error) {
	name, rest, found := strings.Cut(s, "[")
	f, ok := FieldByName(name)
	if !ok {
		return Subfield{}, fmt.Errorf("unknown field %q", s)
	}
	if !found {
		return Whole(f), nil
	}
	inner, ok := strings.CutSuffix(rest, "]")
	if !ok {
		return Subfield{}, fmt.Errorf("%q lacks its ]", s)
	}
	if inner == "" {
		return Whole(f), nil
	}
	from, to, isRange := strings.Cut(inner, "..")
	if !isRange {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 8)
	b, err2 := strconv.ParseUint(to, 10, 8)
	if err1 != nil || err2 != nil || a > b || int(b) >= f.Bits() {
		return Subfield{}, fmt.Errorf("%q is no run of bits of a field of %d", s, f.Bits())
	}
	return Sub(f, int(a), int(b-a)+1), nil
}
