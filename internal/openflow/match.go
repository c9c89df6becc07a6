package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Match says which packets a flow takes: a set of fields with masks, all of which must hold.  The zero Match takes every packet.
// It is immutable and comparable: two matches are the same match exactly when they are ==.
type Match struct {
	oxm string // canonical TLVs: ordered by Field, values masked, full masks left out; then unknown TLVs as they came
	bad string // why the match is unusable; empty for a good one
}

// FieldMatch is one field of a match.  A bit of Value counts where Mask has a one.
type FieldMatch struct {
	Field       Field
	Value, Mask Value
}

// Exact reports whether every bit of the field is compared.
func (f FieldMatch) Exact() bool { return f.Mask == Ones(int(fieldTable[f.Field].wireBits)) }

// maxMatchLen bounds a match on the wire; ofp_match has a 16-bit length and lies in a message of at most 64 KiB.
const maxMatchLen = 2048

// MatchOf makes a match of items.  What an item depends on comes with it: ARPSPA implies ARP, TCP implies IPv4.  Contradictions
// and impossible values make a match whose Err is set.
func MatchOf(items ...MatchItem) Match {
	return Match{}.With(items...)
}

// With is the match narrowed by further items.
func (m Match) With(items ...MatchItem) Match {
	if m.bad != "" {
		return m
	}
	var b matchBuilder
	b.addMatch(m)
	for i := range items {
		b.addItem(&items[i])
	}
	return b.finish(true)
}

// Err tells why the match cannot be used, nil for a good one.
func (m Match) Err() error {
	if m.bad == "" {
		return nil
	}
	return errors.New("match: " + m.bad)
}

// IsZero reports whether the match takes every packet.
func (m Match) IsZero() bool { return m == Match{} }

// Get returns the value and mask of one field; ok is false when the match does not look at it.
func (m Match) Get(f Field) (value, mask Value, ok bool) {
	for rest := m.oxm; rest != ""; {
		var fm FieldMatch
		if fm, rest, ok = nextCanonical(rest); !ok {
			break
		}
		if fm.Field == f {
			return fm.Value, fm.Mask, true
		}
	}
	return Value{}, Value{}, false
}

// Fields lists the fields of the match in canonical order; TLVs that this package does not know are left out.
func (m Match) Fields() []FieldMatch {
	var out []FieldMatch
	for rest := m.oxm; rest != ""; {
		fm, next, ok := nextCanonical(rest)
		if !ok {
			break
		}
		out = append(out, fm)
		rest = next
	}
	return out
}

// EthType is the matched Ethernet type, 0 when any is taken.
func (m Match) EthType() uint16 {
	v, _, _ := m.Get(FieldEthType)
	return uint16(v.Lo)
}

// nextCanonical splits the first TLV off canonical bytes; ok is false at the first unknown one.
func nextCanonical(s string) (fm FieldMatch, rest string, ok bool) {
	h := uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
	f := fieldOf(uint16(h>>16), uint8(h>>9&0x7f))
	if f == FieldNone {
		return fm, s, false
	}
	info := &fieldTable[f]
	n := int(info.bytes)
	var buf [32]byte
	body := buf[:copy(buf[:], s[4:4+int(h&0xff)])]
	fm = FieldMatch{Field: f, Value: valueOf(body[:n]), Mask: Ones(int(info.wireBits))}
	if h&0x100 != 0 {
		fm.Mask = valueOf(body[n:])
	}
	return fm, s[4+len(body):], true
}

// appendMatch appends ofp_match: type OXM, length, TLVs, padding to 8 bytes.
func appendMatch(b []byte, m Match) ([]byte, error) {
	if err := m.Err(); err != nil {
		return b, err
	}
	n := 4 + len(m.oxm)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, m.oxm...)
	return appendZeros(b, pad8(n)), nil
}

// decodeMatch reads ofp_match and returns what follows its padding.
func decodeMatch(b []byte) (Match, []byte, error) {
	if len(b) < 8 {
		return Match{}, nil, fmt.Errorf("decode match: %d bytes, need 8", len(b))
	}
	typ, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	if typ != 1 {
		return Match{}, nil, fmt.Errorf("decode match: type %d is not OXM", typ)
	}
	total := n + pad8(n)
	if n < 4 || total > len(b) || n > maxMatchLen {
		return Match{}, nil, fmt.Errorf("decode match: length %d of %d bytes", n, len(b))
	}
	m, err := decodeOXM(b[4:n])
	return m, b[total:], err
}

// decodeOXM makes a canonical match of any sequence of OXM and NXM TLVs.
func decodeOXM(b []byte) (Match, error) {
	var mb matchBuilder
	for len(b) > 0 {
		if len(b) < 4 {
			return Match{}, fmt.Errorf("decode match: %d stray bytes", len(b))
		}
		h := binary.BigEndian.Uint32(b)
		n := int(h & 0xff)
		if 4+n > len(b) {
			return Match{}, fmt.Errorf("decode match: field %#08x is cut short", h)
		}
		if err := mb.addTLV(h, b[:4+n]); err != nil {
			return Match{}, fmt.Errorf("decode match: %w", err)
		}
		b = b[4+n:]
	}
	m := mb.finish(false)
	return m, m.Err()
}

// matchBuilder collects fields; finish puts them in canonical order.
type matchBuilder struct {
	atoms  [24]FieldMatch
	n      int
	more   []FieldMatch // beyond the array
	raw    []string     // unknown TLVs
	bad    string
	tpSrc  FieldMatch // wait for ip_proto
	tpDst  FieldMatch
	icmpTy FieldMatch
	icmpCo FieldMatch
}

func (b *matchBuilder) fail(format string, args ...any) {
	if b.bad == "" {
		b.bad = fmt.Sprintf(format, args...)
	}
}

func (b *matchBuilder) addMatch(m Match) {
	rest := m.oxm
	for rest != "" {
		fm, next, ok := nextCanonical(rest)
		if !ok {
			break
		}
		b.add(fm.Field, fm.Value, fm.Mask)
		rest = next
	}
	for rest != "" {
		n := 4 + int(rest[3])
		b.raw = append(b.raw, rest[:n])
		rest = rest[n:]
	}
}

func (b *matchBuilder) addTLV(h uint32, tlv []byte) error {
	f, body := fieldOf(uint16(h>>16), uint8(h>>9&0x7f)), tlv[4:]
	if h>>16 == classExp && len(body) >= 4 && be32(body) == onfVendor {
		f, body = onfField(uint8(h>>9&0x7f)), body[4:]
	}
	if f == FieldNone {
		b.raw = append(b.raw, string(tlv))
		return nil
	}
	info := &fieldTable[f]
	n, masked := int(info.bytes), h&0x100 != 0
	if !masked && len(body) != n || masked && len(body) != 2*n {
		return fmt.Errorf("%s has %d bytes", info.name, len(body))
	}
	value, mask := valueOf(body[:n]), Ones(int(info.wireBits))
	if masked {
		m := valueOf(body[n:])
		if f.Maskable() {
			mask = m
		} else if m.And(mask) != mask {
			return fmt.Errorf("%s cannot be masked", info.name)
		}
	} else if value.AndNot(mask) != (Value{}) {
		return fmt.Errorf("%s has bits beyond its %d", info.name, info.wireBits)
	}
	b.add(f, value, mask.And(Ones(int(info.wireBits))))
	return nil
}

func (b *matchBuilder) find(f Field) *FieldMatch {
	for i := range b.atoms[:b.n] {
		if b.atoms[i].Field == f {
			return &b.atoms[i]
		}
	}
	for i := range b.more {
		if b.more[i].Field == f {
			return &b.more[i]
		}
	}
	return nil
}

// add requires value under mask of a field, and rewrites the fields that are views of others.
func (b *matchBuilder) add(f Field, value, mask Value) {
	value = value.And(mask)
	switch {
	case f == FieldInPort16:
		v := value.Lo
		if v >= 0xff00 { // the reserved ports of OpenFlow 1.0
			v |= 0xffff0000
		}
		f, value, mask = FieldInPort, U64(v), Ones(32)
	case f == FieldIPTOS:
		f, value, mask = FieldIPDSCP, U64(value.Lo>>2), Ones(6)
	case f == FieldVLANTCI:
		b.addTCI(uint16(value.Lo), uint16(mask.Lo))
		return
	case f == FieldIPFrag:
		value, mask = canonicalFrag(value, mask)
	case f >= FieldXReg0 && f <= FieldXReg7:
		b.addRegs(FieldReg0+2*(f-FieldXReg0), 2, value, mask)
		return
	case f >= FieldXXReg0 && f <= FieldXXReg3:
		b.addRegs(FieldReg0+4*(f-FieldXXReg0), 4, value, mask)
		return
	}
	if mask.IsZero() {
		return
	}
	if have := b.find(f); have != nil {
		if common := have.Mask.And(mask); have.Value.And(common) != value.And(common) {
			b.fail("%s must be two things at once", f)
		}
		have.Value, have.Mask = have.Value.Or(value), have.Mask.Or(mask)
		return
	}
	fm := FieldMatch{f, value, mask}
	if b.n < len(b.atoms) {
		b.atoms[b.n] = fm
		b.n++
	} else {
		b.more = append(b.more, fm)
	}
}

// addTCI splits a TCI as OXM does: vlan_vid with its present bit, and vlan_pcp, which cannot be masked.
func (b *matchBuilder) addTCI(value, mask uint16) {
	b.add(FieldVLANVID, U64(uint64(value&0x1fff)), U64(uint64(mask&0x1fff)))
	switch mask >> 13 {
	case 0:
	case 7:
		// Without a tag there is no priority to look at: OXM cannot say it and Open vSwitch does not.
		if mask&0x1000 == 0 || value&0x1000 != 0 {
			b.add(FieldVLANPCP, U64(uint64(value>>13)), Ones(3))
		} else if value>>13 != 0 {
			b.fail("vlan_tci %#04x has a priority but no tag", value)
		}
	default:
		b.fail("vlan_tci mask %#04x splits the priority bits", mask)
	}
}

func (b *matchBuilder) addRegs(first Field, n int, value, mask Value) {
	for i := n - 1; i >= 0; i-- {
		b.add(first+Field(i), U64(value.Lo&0xffffffff), U64(mask.Lo&0xffffffff))
		value, mask = value.Shr(32), mask.Shr(32)
	}
}

// canonicalFrag gives one form to the values that mean the same: no fragment has no later part, a later part is a fragment.
func canonicalFrag(value, mask Value) (Value, Value) {
	const frag, later = 1, 2
	switch {
	case mask.Lo == frag && value.Lo == 0:
		return Value{}, U64(frag | later)
	case mask.Lo == later && value.Lo == later:
		return U64(frag | later), U64(frag | later)
	}
	return value, mask
}

// finish orders and encodes.  strict checks that each field has what it depends on, as a switch would.
func (b *matchBuilder) finish(strict bool) Match {
	b.resolve()
	all := b.atoms[:b.n]
	if len(b.more) > 0 {
		all = append(append([]FieldMatch(nil), all...), b.more...)
	}
	for i := 1; i < len(all); i++ {
		for j := i; j > 0 && all[j-1].Field > all[j].Field; j-- {
			all[j-1], all[j] = all[j], all[j-1]
		}
	}
	if strict && b.bad == "" {
		for i := range all {
			if !b.allowed(all[i].Field) {
				b.fail("%s needs its protocol to be matched too", all[i].Field)
			}
		}
	}
	if b.bad != "" {
		return Match{bad: b.bad}
	}
	var scratch [256]byte
	buf := scratch[:0]
	for i := range all {
		info := &fieldTable[all[i].Field]
		exact := all[i].Exact()
		buf = binary.BigEndian.AppendUint32(buf, info.header(!exact))
		buf = all[i].Value.appendBytes(buf, int(info.bytes))
		if !exact {
			buf = all[i].Mask.appendBytes(buf, int(info.bytes))
		}
	}
	if len(b.raw) > 0 {
		sortStrings(b.raw)
		buf = append(buf, strings.Join(b.raw, "")...)
	}
	if len(buf) > maxMatchLen {
		return Match{bad: fmt.Sprintf("%d bytes are too long", len(buf))}
	}
	return Match{oxm: string(buf)}
}

func sortStrings(s []string) {
	for i := 1; i < len(s); i++ {
		for j := i; j > 0 && s[j-1] > s[j]; j-- {
			s[j-1], s[j] = s[j], s[j-1]
		}
	}
}

func (b *matchBuilder) exactOf(f Field) (uint64, bool) {
	if fm := b.find(f); fm != nil {
		return fm.Value.Lo, true
	}
	return 0, false
}

// Ethernet types and IP protocols that matches depend on.
const (
	EthTypeIPv4      = 0x0800
	EthTypeARP       = 0x0806
	EthTypeRARP      = 0x8035
	EthTypeVLAN      = 0x8100
	EthTypeIPv6      = 0x86dd
	EthTypeMPLS      = 0x8847
	EthTypeMPLSMulti = 0x8848
	ProtoICMP        = 1
	ProtoIGMP        = 2
	ProtoTCP         = 6
	ProtoUDP         = 17
	ProtoICMPv6      = 58
	ProtoSCTP        = 132
)

// resolve gives tp_src, tp_dst, icmp_type and icmp_code the field of the matched protocol.
func (b *matchBuilder) resolve() {
	proto, _ := b.exactOf(FieldIPProto)
	var src, dst Field
	switch proto {
	case ProtoTCP:
		src, dst = FieldTCPSrc, FieldTCPDst
	case ProtoUDP:
		src, dst = FieldUDPSrc, FieldUDPDst
	case ProtoSCTP:
		src, dst = FieldSCTPSrc, FieldSCTPDst
	case ProtoICMP:
		src, dst = FieldICMPType, FieldICMPCode
	case ProtoICMPv6:
		src, dst = FieldICMPv6Type, FieldICMPv6Code
	}
	isICMP := proto == ProtoICMP || proto == ProtoICMPv6
	b.settle("tp_src", b.tpSrc, src, !isICMP)
	b.settle("tp_dst", b.tpDst, dst, !isICMP)
	b.settle("icmp_type", b.icmpTy, src, isICMP)
	b.settle("icmp_code", b.icmpCo, dst, isICMP)
}

func (b *matchBuilder) settle(name string, pending FieldMatch, f Field, fits bool) {
	switch {
	case pending.Mask.IsZero():
	case f == FieldNone || !fits:
		b.fail("%s needs its protocol to be matched too", name)
	default:
		b.add(f, pending.Value, pending.Mask)
	}
}

// allowed checks the prerequisites of ovs-fields(7).
func (b *matchBuilder) allowed(f Field) bool {
	eth, _ := b.exactOf(FieldEthType)
	proto, _ := b.exactOf(FieldIPProto)
	ip := eth == EthTypeIPv4 || eth == EthTypeIPv6
	icmp6, _ := b.exactOf(FieldICMPv6Type)
	switch f {
	case FieldIPv4Src, FieldIPv4Dst, FieldCTNWSrc, FieldCTNWDst:
		return eth == EthTypeIPv4
	case FieldIPv6Src, FieldIPv6Dst, FieldIPv6Label, FieldCTIPv6Src, FieldCTIPv6Dst:
		return eth == EthTypeIPv6
	case FieldIPProto, FieldIPDSCP, FieldIPECN, FieldIPTTL, FieldIPFrag, FieldCTNWProto, FieldCTTPSrc, FieldCTTPDst:
		return ip
	case FieldTCPSrc, FieldTCPDst, FieldTCPFlags:
		return ip && proto == ProtoTCP
	case FieldUDPSrc, FieldUDPDst:
		return ip && proto == ProtoUDP
	case FieldSCTPSrc, FieldSCTPDst:
		return ip && proto == ProtoSCTP
	case FieldICMPType, FieldICMPCode:
		return eth == EthTypeIPv4 && proto == ProtoICMP
	case FieldICMPv6Type, FieldICMPv6Code:
		return eth == EthTypeIPv6 && proto == ProtoICMPv6
	case FieldNDTarget:
		return icmp6 == 135 || icmp6 == 136
	case FieldNDSLL:
		return icmp6 == 135
	case FieldNDTLL:
		return icmp6 == 136
	case FieldARPOp, FieldARPSPA, FieldARPTPA, FieldARPSHA, FieldARPTHA:
		return eth == EthTypeARP || eth == EthTypeRARP
	case FieldMPLSLabel, FieldMPLSTC, FieldMPLSBOS, FieldMPLSTTL:
		return eth == EthTypeMPLS || eth == EthTypeMPLSMulti
	case FieldVLANPCP:
		v := b.find(FieldVLANVID)
		return v != nil && v.Value.Lo&0x1000 != 0
	}
	return true
}

func pad8(n int) int { return -n & 7 }

func appendZeros(b []byte, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, 0)
	}
	return b
}
