package openflow

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Printer prints flows with names in place of numbers.  The zero Printer prints numbers, as Flow.String does.
type Printer struct {
	PortName  func(port uint32) (string, bool) // ports below PortMax
	TableName func(table uint8) (string, bool)
}

// Flow prints a flow as `ovs-ofctl --no-stats --names dump-flows` does, without the leading blank.
func (p Printer) Flow(f *Flow) string {
	w := textWriter{b: make([]byte, 0, 256), names: p}
	w.flow(f)
	return string(w.b)
}

// Match prints a match; nothing for the one that takes every packet.
func (p Printer) Match(m Match) string {
	w := textWriter{names: p}
	w.match(m)
	return string(w.b)
}

// Actions prints what follows "actions=".
func (p Printer) Actions(a []Action) string {
	w := textWriter{names: p}
	w.actions(a)
	return string(w.b)
}

// String prints the flow as `ovs-ofctl --no-stats --no-names -O OpenFlow14 dump-flows` does, without the leading blank.
func (f *Flow) String() string { return Printer{}.Flow(f) }

// String prints the match as ovs-ofctl does.
func (m Match) String() string { return Printer{}.Match(m) }

// FormatActions prints what follows "actions=".
func FormatActions(a []Action) string { return Printer{}.Actions(a) }

type textWriter struct {
	b     []byte
	names Printer
}

func (w *textWriter) str(s string) { w.b = append(w.b, s...) }
func (w *textWriter) dec(v uint64) { w.b = strconv.AppendUint(w.b, v, 10) }
func (w *textWriter) chomp(c byte) {
	if n := len(w.b); n > 0 && w.b[n-1] == c {
		w.b = w.b[:n-1]
	}
}

// hex prints as C's %#x: a bare 0 for zero.
func (w *textWriter) hex(v uint64) {
	if v != 0 {
		w.str("0x")
	}
	w.b = strconv.AppendUint(w.b, v, 16)
}

// hexPadded prints 0x and at least n digits.
func (w *textWriter) hexPadded(v uint64, n int) {
	w.str("0x")
	for d := max(1, (U64(v).BitLen()+3)/4); d < n; d++ {
		w.b = append(w.b, '0')
	}
	w.b = strconv.AppendUint(w.b, v, 16)
}

func (w *textWriter) hexValue(v Value) {
	if v.Hi == 0 {
		w.hex(v.Lo)
		return
	}
	w.str("0x")
	w.b = strconv.AppendUint(w.b, v.Hi, 16)
	for shift := 60; shift >= 0; shift -= 4 {
		w.b = append(w.b, "0123456789abcdef"[v.Lo>>uint(shift)&15])
	}
}

func appendMAC(b []byte, m MAC) []byte {
	const digits = "0123456789abcdef"
	for i, c := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

var portNames = [...]struct {
	port uint32
	name string
}{
	{PortInPort, "IN_PORT"}, {PortTable, "TABLE"}, {PortNormal, "NORMAL"}, {PortFlood, "FLOOD"}, {PortAll, "ALL"},
	{PortController, "CONTROLLER"}, {PortLocal, "LOCAL"}, {PortAny, "ANY"}, {PortUnset, "UNSET"},
}

func (w *textWriter) port(p uint32) {
	if p >= PortUnset {
		for _, n := range portNames {
			if n.port == p {
				w.str(n.name)
				return
			}
		}
	}
	if w.names.PortName != nil {
		if name, ok := w.names.PortName(p); ok {
			w.name(name)
			return
		}
	}
	w.dec(uint64(p))
}

// port16 prints a port of a Nicira action; 0xff00 and above are reserved.
func (w *textWriter) port16(p uint16) { w.port(wide(p)) }

func wide(p uint16) uint32 {
	if p >= 0xff00 {
		return 0xffff0000 | uint32(p)
	}
	return uint32(p)
}

// name quotes what the reader could not tell from a number or keyword otherwise.
func (w *textWriter) name(s string) {
	plain := s != "" && isLetter(s[0])
	for i := 1; plain && i < len(s); i++ {
		plain = isLetter(s[i]) || s[i] >= '0' && s[i] <= '9' || s[i] == '_'
	}
	if plain {
		if _, taken := reservedPort(s); !taken {
			w.str(s)
			return
		}
	}
	w.b = strconv.AppendQuote(w.b, s)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func reservedPort(s string) (uint32, bool) {
	for _, n := range portNames {
		if strings.EqualFold(n.name, s) {
			return n.port, true
		}
	}
	return 0, false
}

func (w *textWriter) table(t uint8) {
	if w.names.TableName != nil {
		if name, ok := w.names.TableName(t); ok {
			w.name(name)
			return
		}
	}
	w.dec(uint64(t))
}

func (w *textWriter) flow(f *Flow) {
	if f.Cookie != 0 {
		w.str("cookie=")
		w.hex(f.Cookie)
		w.str(", ")
	}
	if f.Table != 0 {
		w.str("table=")
		w.table(f.Table)
		w.str(", ")
	}
	for _, t := range [...]struct {
		name string
		v    uint16
	}{{"idle_timeout=", f.IdleTimeout}, {"hard_timeout=", f.HardTimeout}} {
		if t.v != 0 {
			w.str(t.name)
			w.dec(uint64(t.v))
			w.str(", ")
		}
	}
	for _, fl := range flowFlagNames {
		if f.Flags&fl.flag != 0 {
			w.str(fl.name)
			w.str(" ")
		}
	}
	if f.Importance != 0 {
		w.str("importance=")
		w.dec(uint64(f.Importance))
		w.str(", ")
	}
	start := len(w.b)
	if f.Priority != DefaultPriority {
		w.str("priority=")
		w.dec(uint64(f.Priority))
		w.str(",")
	}
	w.match(f.Match)
	w.chomp(',')
	if len(w.b) > start {
		w.str(" ")
	}
	w.str("actions=")
	w.actions(f.Actions)
}

var flowFlagNames = [...]struct {
	flag FlowFlags
	name string
}{
	{SendFlowRem, "send_flow_rem"}, {CheckOverlap, "check_overlap"}, {ResetCounts, "reset_counts"},
	{NoPktCounts, "no_packet_counts"}, {NoByteCounts, "no_byte_counts"},
}

func (w *textWriter) actions(list []Action) {
	if len(list) == 0 {
		w.str("drop")
		return
	}
	for i, a := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		if a == nil {
			w.str("nil")
			continue
		}
		a.format(w)
	}
}

// addr prints an IP address and, if not all of it counts, its mask: as a prefix length where it is one.
func (w *textWriter) addr(v, mask Value, width int) {
	if width == 32 {
		w.b = v.Addr4().AppendTo(w.b)
	} else {
		w.b = appendIPv6(w.b, v)
	}
	n, ok := mask.prefixLen(width)
	switch {
	case ok && n == width:
	case ok && n > 0:
		w.b = append(w.b, '/')
		w.dec(uint64(n))
	case width == 32:
		w.b = mask.Addr4().AppendTo(append(w.b, '/'))
	default:
		w.b = appendIPv6(append(w.b, '/'), mask)
	}
}

// appendIPv6 prints as inet_ntop(3), which writes the last 32 bits of ::/96 as an IPv4 address.
func appendIPv6(b []byte, v Value) []byte {
	if v.Hi == 0 && v.Lo>>32 == 0 && v.Lo>>16 != 0 {
		return v.Addr4().AppendTo(append(b, "::"...))
	}
	return v.Addr6().AppendTo(b)
}

func (w *textWriter) mac(v, mask Value) {
	w.b = appendMAC(w.b, v.MAC())
	if mask != Ones(48) {
		w.b = appendMAC(append(w.b, '/'), mask.MAC())
	}
}

// fieldValue prints a value as set_field has it.
func (w *textWriter) fieldValue(f Field, v, mask Value) {
	full := fieldMask(f)
	info := &fieldTable[f]
	switch info.format {
	case asMAC:
		w.mac(v, mask)
		return
	case asIPv4, asIPv6:
		w.addr(v, mask, int(info.bits))
		return
	case asPort:
		if info.bytes == 2 {
			w.port16(uint16(v.Lo))
		} else {
			w.port(uint32(v.Lo))
		}
		return
	case asTunFlags, asCTState, asTCPFlags:
		if mask == full {
			w.flagList(uint32(v.Lo), flagNamesOf(info.format))
		} else {
			w.flagsMasked(uint32(v.Lo), uint32(mask.Lo), flagNamesOf(info.format))
		}
		return
	case asFrag:
		w.frag(v, mask)
		return
	case asHex:
		w.hexValue(v)
	default:
		w.dec(v.Lo)
	}
	if mask != full {
		w.b = append(w.b, '/')
		w.hexValue(mask)
	}
}

var (
	ctStateNames = [...]string{"new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"}
	tcpFlagNames = [...]string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"}
	tunFlagNames = [...]string{"oam"}
)

func flagNamesOf(f valueFormat) []string {
	switch f {
	case asCTState:
		return ctStateNames[:]
	case asTCPFlags:
		return tcpFlagNames[:]
	}
	return tunFlagNames[:]
}

// flagsMasked prints +name for the bits that must be set and -name for those that must not.
func (w *textWriter) flagsMasked(v, mask uint32, names []string) {
	for i := range names {
		if mask>>i&1 != 0 {
			w.b = append(w.b, "-+"[v>>i&1])
			w.str(names[i])
		}
	}
}

// flagList prints the set bits as a|b, 0 if there are none.
func (w *textWriter) flagList(v uint32, names []string) {
	if v == 0 {
		w.str("0")
		return
	}
	sep := ""
	for i := range names {
		if v>>i&1 != 0 {
			w.str(sep)
			w.str(names[i])
			sep = "|"
		}
	}
}

func (w *textWriter) frag(v, mask Value) {
	name := "<error>"
	for _, f := range fragNames {
		if f.mask == mask.Lo && f.value == v.Lo {
			name = f.name
			break
		}
	}
	w.str(name)
}

// fragNames: bit 0 says fragment, bit 1 says not the first one.
var fragNames = [...]struct {
	name        string
	value, mask uint64
}{{"no", 0, 3}, {"first", 1, 3}, {"later", 3, 3}, {"yes", 1, 1}, {"not_later", 0, 2}}

func parseFrag(s string) (v, mask Value, err error) {
	for _, f := range fragNames {
		if f.name == s {
			return U64(f.value), U64(f.mask), nil
		}
	}
	return v, mask, fmt.Errorf("unknown kind of fragment %q", s)
}

// parseFlags reads +a-b (some bits), a|b (all bits), or a number with or without a mask.
func parseFlags(s string, names []string) (v, mask uint32, err error) {
	full := uint32(1)<<len(names) - 1
	if s == "" {
		return 0, 0, fmt.Errorf("no flags")
	}
	if s[0] >= '0' && s[0] <= '9' {
		value, m, err := parseUintMask(s, Ones(len(names)))
		return uint32(value.Lo), uint32(m.Lo), err
	}
	if s[0] != '+' && s[0] != '-' {
		for _, name := range strings.Split(s, "|") {
			bit := flagBit(name, names)
			if bit == 0 {
				return 0, 0, fmt.Errorf("unknown flag %q", name)
			}
			v |= bit
		}
		return v, full, nil
	}
	for s != "" {
		sign := s[0]
		if sign != '+' && sign != '-' {
			return 0, 0, fmt.Errorf("%q must start with + or -", s)
		}
		end := 1
		for end < len(s) && s[end] != '+' && s[end] != '-' {
			end++
		}
		bit := flagBit(s[1:end], names)
		if bit == 0 {
			return 0, 0, fmt.Errorf("unknown flag %q", s[1:end])
		}
		if mask&bit != 0 {
			return 0, 0, fmt.Errorf("flag %q is given twice", s[1:end])
		}
		mask |= bit
		if sign == '+' {
			v |= bit
		}
		s = s[end:]
	}
	return v, mask, nil
}

func flagBit(name string, names []string) uint32 {
	for i, n := range names {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// parseUint reads a decimal or 0x number of up to 128 bits.
func parseUint(s string) (Value, error) {
	if digits, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		digits = strings.TrimLeft(digits, "0")
		if len(digits) > 32 || len(s) == 2 {
			return Value{}, fmt.Errorf("%q is no number of up to 128 bits", s)
		}
		if len(digits)%2 != 0 {
			digits = "0" + digits
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			return Value{}, fmt.Errorf("%q is no number", s)
		}
		return valueOf(b), nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return Value{}, fmt.Errorf("%q is no number", s)
	}
	return U64(v), nil
}

// parseUintMask reads VALUE or VALUE/MASK within full.
func parseUintMask(s string, full Value) (v, mask Value, err error) {
	value, m, masked := strings.Cut(s, "/")
	if v, err = parseUint(value); err != nil {
		return v, mask, err
	}
	mask = full
	if masked {
		if mask, err = parseUint(m); err != nil {
			return v, mask, err
		}
	}
	if !mask.AndNot(full).IsZero() || !v.AndNot(full).IsZero() {
		return v, mask, fmt.Errorf("%q does not fit in %d bits", s, full.BitLen())
	}
	return v.And(mask), mask, nil
}

func parseMAC(s string) (MAC, error) {
	var m MAC
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		return m, fmt.Errorf("%q is no Ethernet address", s)
	}
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) > 2 {
			return m, fmt.Errorf("%q is no Ethernet address", s)
		}
		m[i] = byte(v)
	}
	return m, nil
}

// parseAddrMask reads ADDR, ADDR/LENGTH or ADDR/MASK.
func parseAddrMask(s string, width int) (v, mask Value, err error) {
	addr, m, masked := strings.Cut(s, "/")
	one := func(text string) (Value, error) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.BitLen() != width {
			return Value{}, fmt.Errorf("%q is no address of %d bits", text, width)
		}
		return AddrValue(a), nil
	}
	if v, err = one(addr); err != nil {
		return v, mask, err
	}
	mask = Ones(width)
	if masked {
		if n, convErr := strconv.Atoi(m); convErr == nil {
			if n < 0 || n > width {
				return v, mask, fmt.Errorf("%q has no prefix of %d bits", s, n)
			}
			mask = prefixMask(n, width)
		} else if mask, err = one(m); err != nil {
			return v, mask, err
		}
	}
	return v.And(mask), mask, nil
}
