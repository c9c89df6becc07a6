package openflow

import (
	"net/netip"
	"strings"
)

// MatchItem is one condition of a match: made by the functions below, used by MatchOf and Match.With.
type MatchItem struct {
	field   Field
	value   Value
	mask    Value
	late    lateField // a field that ip_proto decides
	ethType uint16    // what the item implies
	proto   uint8
	err     string
	raw     string // TLVs of unknown fields
}

type lateField uint8

const (
	lateNone lateField = iota
	lateTPSrc
	lateTPDst
	lateICMPType
	lateICMPCode
)

func (b *matchBuilder) addItem(it *MatchItem) {
	if it.err != "" {
		b.fail("%s", it.err)
		return
	}
	if it.ethType != 0 {
		// RARP has ARP's fields, so an ARP field does not turn a RARP match into a contradiction.
		if eth, ok := b.exactOf(FieldEthType); !ok || it.ethType != EthTypeARP || eth != EthTypeRARP {
			b.add(FieldEthType, U64(uint64(it.ethType)), Ones(16))
		}
	}
	if it.proto != 0 {
		b.add(FieldIPProto, U64(uint64(it.proto)), Ones(8))
	}
	var late *FieldMatch
	switch it.late {
	case lateTPSrc:
		late = &b.tpSrc
	case lateTPDst:
		late = &b.tpDst
	case lateICMPType:
		late = &b.icmpTy
	case lateICMPCode:
		late = &b.icmpCo
	}
	if late != nil {
		if late.Mask.And(it.mask).And(late.Value) != it.value.And(late.Mask) {
			b.fail("a transport field must be two things at once")
		}
		late.Value, late.Mask = late.Value.Or(it.value.And(it.mask)), late.Mask.Or(it.mask)
		return
	}
	for raw := it.raw; raw != ""; raw = raw[4+int(raw[3]):] {
		b.raw = append(b.raw, raw[:4+int(raw[3])])
	}
	if it.field == FieldNone {
		return
	}
	b.add(it.field, it.value, it.mask)
}

// Is matches a whole field.
func Is(f Field, v Value) MatchItem {
	if !f.known() {
		return MatchItem{err: "unknown field"}
	}
	return Masked(f, v, Ones(int(fieldTable[f].wireBits)))
}

// Masked matches the bits of a field where mask has ones.
func Masked(f Field, v, mask Value) MatchItem {
	if !f.known() {
		return MatchItem{err: "unknown field"}
	}
	full := Ones(int(fieldTable[f].wireBits))
	switch {
	case !v.AndNot(full).IsZero() || !mask.AndNot(full).IsZero():
		return MatchItem{err: f.String() + " has no such bits"}
	case mask != full && !mask.IsZero() && !f.Maskable():
		return MatchItem{err: f.String() + " cannot be masked"}
	}
	it := MatchItem{field: f, value: v.And(mask), mask: mask}
	if !mask.IsZero() {
		it.ethType, it.proto = impliedBy(f)
	}
	return it
}

// impliedBy tells the Ethernet type and IP protocol that a field can only mean; zero where several are possible.
func impliedBy(f Field) (ethType uint16, proto uint8) {
	switch f {
	case FieldIPv4Src, FieldIPv4Dst, FieldCTNWSrc, FieldCTNWDst:
		return EthTypeIPv4, 0
	case FieldIPv6Src, FieldIPv6Dst, FieldIPv6Label, FieldCTIPv6Src, FieldCTIPv6Dst:
		return EthTypeIPv6, 0
	case FieldTCPSrc, FieldTCPDst, FieldTCPFlags:
		return 0, ProtoTCP
	case FieldUDPSrc, FieldUDPDst:
		return 0, ProtoUDP
	case FieldSCTPSrc, FieldSCTPDst:
		return 0, ProtoSCTP
	case FieldICMPType, FieldICMPCode:
		return EthTypeIPv4, ProtoICMP
	case FieldICMPv6Type, FieldICMPv6Code, FieldNDTarget, FieldNDSLL, FieldNDTLL:
		return EthTypeIPv6, ProtoICMPv6
	case FieldARPOp, FieldARPSPA, FieldARPTPA, FieldARPSHA, FieldARPTHA:
		return EthTypeARP, 0
	}
	return 0, 0
}

func uintItem(f Field, v uint64) MatchItem { return Is(f, U64(v)) }

// InPort matches the OpenFlow port on which the packet came in.
func InPort(port uint32) MatchItem { return uintItem(FieldInPort, uint64(port)) }

// EthDst matches the destination Ethernet address (dl_dst).
func EthDst(m MAC) MatchItem { return Is(FieldEthDst, MACValue(m)) }

// EthDstMasked matches some bits of the destination Ethernet address.
func EthDstMasked(m, mask MAC) MatchItem { return Masked(FieldEthDst, MACValue(m), MACValue(mask)) }

// EthSrc matches the source Ethernet address (dl_src).
func EthSrc(m MAC) MatchItem { return Is(FieldEthSrc, MACValue(m)) }

// EthSrcMasked matches some bits of the source Ethernet address.
func EthSrcMasked(m, mask MAC) MatchItem { return Masked(FieldEthSrc, MACValue(m), MACValue(mask)) }

// Unicast matches destination addresses without the group bit, Multicast those with it (broadcast included).
func Unicast() MatchItem { return EthDstMasked(MAC{}, MAC{1}) }

// Multicast matches destination addresses with the group bit: multicast and broadcast.
func Multicast() MatchItem { return EthDstMasked(MAC{1}, MAC{1}) }

// EthType matches the Ethernet type behind any VLAN tag (dl_type).
func EthType(t uint16) MatchItem { return uintItem(FieldEthType, uint64(t)) }

// VLAN matches packets tagged with a VLAN id, 0 to 4095 (dl_vlan).
func VLAN(id uint16) MatchItem {
	if id > 4095 {
		return MatchItem{err: "vlan id above 4095"}
	}
	return uintItem(FieldVLANVID, uint64(id)|0x1000)
}

// NoVLAN matches untagged packets.
func NoVLAN() MatchItem { return uintItem(FieldVLANVID, 0) }

// AnyVLAN matches tagged packets.
func AnyVLAN() MatchItem { return VLANTCI(0x1000, 0x1000) }

// VLANPCP matches the priority of a tagged packet, 0 to 7.
func VLANPCP(p uint8) MatchItem { return uintItem(FieldVLANPCP, uint64(p)) }

// VLANTCI matches the tag control information; bit 12 (0x1000) means that a tag is there.  The three priority bits go together.
func VLANTCI(value, mask uint16) MatchItem {
	return Masked(FieldVLANTCI, U64(uint64(value)), U64(uint64(mask)))
}

// ARP matches ARP packets.
func ARP() MatchItem { return EthType(EthTypeARP) }

// RARP matches RARP packets.
func RARP() MatchItem { return EthType(EthTypeRARP) }

// IP matches IPv4 packets.
func IP() MatchItem { return EthType(EthTypeIPv4) }

// IPv6 matches IPv6 packets.
func IPv6() MatchItem { return EthType(EthTypeIPv6) }

// IPProto matches the protocol of an IPv4 or IPv6 packet; give IP or IPv6 too.
func IPProto(p uint8) MatchItem { return uintItem(FieldIPProto, uint64(p)) }

func proto(ethType uint16, p uint8) MatchItem {
	it := IPProto(p)
	it.ethType = ethType
	return it
}

// TCP matches TCP over IPv4.
func TCP() MatchItem { return proto(EthTypeIPv4, ProtoTCP) }

// TCP6 matches TCP over IPv6.
func TCP6() MatchItem { return proto(EthTypeIPv6, ProtoTCP) }

// UDP matches UDP over IPv4.
func UDP() MatchItem { return proto(EthTypeIPv4, ProtoUDP) }

// UDP6 matches UDP over IPv6.
func UDP6() MatchItem { return proto(EthTypeIPv6, ProtoUDP) }

// SCTP matches SCTP over IPv4.
func SCTP() MatchItem { return proto(EthTypeIPv4, ProtoSCTP) }

// SCTP6 matches SCTP over IPv6.
func SCTP6() MatchItem { return proto(EthTypeIPv6, ProtoSCTP) }

// ICMP matches ICMP over IPv4.
func ICMP() MatchItem { return proto(EthTypeIPv4, ProtoICMP) }

// ICMPv6 matches ICMPv6.
func ICMPv6() MatchItem { return proto(EthTypeIPv6, ProtoICMPv6) }

// ARPOp matches the ARP operation: 1 request, 2 reply.
func ARPOp(op uint16) MatchItem { return uintItem(FieldARPOp, uint64(op)) }

func prefixItem(f Field, p netip.Prefix) MatchItem {
	width := f.Bits()
	if !p.IsValid() || p.Addr().BitLen() != width {
		return MatchItem{err: f.String() + " cannot be " + p.String()}
	}
	it := Masked(f, AddrValue(p.Addr()), prefixMask(p.Bits(), width))
	it.ethType, it.proto = impliedBy(f) // a prefix of length 0 still names the family
	return it
}

// ARPSPA matches the sender address of an ARP packet.
func ARPSPA(p netip.Prefix) MatchItem { return prefixItem(FieldARPSPA, p) }

// ARPTPA matches the target address of an ARP packet.
func ARPTPA(p netip.Prefix) MatchItem { return prefixItem(FieldARPTPA, p) }

// ARPSHA matches the sender hardware address of an ARP packet.
func ARPSHA(m MAC) MatchItem { return Is(FieldARPSHA, MACValue(m)) }

// ARPTHA matches the target hardware address of an ARP packet.
func ARPTHA(m MAC) MatchItem { return Is(FieldARPTHA, MACValue(m)) }

// IPSrc matches the source of an IPv4 packet (nw_src).
func IPSrc(p netip.Prefix) MatchItem { return prefixItem(FieldIPv4Src, p) }

// IPDst matches the destination of an IPv4 packet (nw_dst).
func IPDst(p netip.Prefix) MatchItem { return prefixItem(FieldIPv4Dst, p) }

// IPv6Src matches the source of an IPv6 packet.
func IPv6Src(p netip.Prefix) MatchItem { return prefixItem(FieldIPv6Src, p) }

// IPv6Dst matches the destination of an IPv6 packet.
func IPv6Dst(p netip.Prefix) MatchItem { return prefixItem(FieldIPv6Dst, p) }

// Src matches the source of an IPv4 or IPv6 packet, as the prefix is.
func Src(p netip.Prefix) MatchItem {
	if p.Addr().Is4() {
		return IPSrc(p)
	}
	return IPv6Src(p)
}

// Dst matches the destination of an IPv4 or IPv6 packet, as the prefix is.
func Dst(p netip.Prefix) MatchItem {
	if p.Addr().Is4() {
		return IPDst(p)
	}
	return IPv6Dst(p)
}

// TPSrc matches the source port under a mask (0xffff: exactly) of the TCP, UDP or SCTP that the match also asks for.
func TPSrc(port, mask uint16) MatchItem {
	return MatchItem{late: lateTPSrc, value: U64(uint64(port & mask)), mask: U64(uint64(mask))}
}

// TPDst matches the destination port under a mask (0xffff: exactly) of the TCP, UDP or SCTP that the match also asks for.
func TPDst(port, mask uint16) MatchItem {
	return MatchItem{late: lateTPDst, value: U64(uint64(port & mask)), mask: U64(uint64(mask))}
}

// ICMPType matches the type of the ICMP or ICMPv6 that the match also asks for.
func ICMPType(t uint8) MatchItem {
	return MatchItem{late: lateICMPType, value: U64(uint64(t)), mask: Ones(8)}
}

// ICMPCode matches the code of the ICMP or ICMPv6 that the match also asks for.
func ICMPCode(c uint8) MatchItem {
	return MatchItem{late: lateICMPCode, value: U64(uint64(c)), mask: Ones(8)}
}

// NDTarget matches the target of a neighbour solicitation (give ICMPType(135)) or advertisement (136).
func NDTarget(p netip.Prefix) MatchItem { return prefixItem(FieldNDTarget, p) }

// NDSLL matches the source link-layer option of a neighbour solicitation.
func NDSLL(m MAC) MatchItem { return Is(FieldNDSLL, MACValue(m)) }

// NDTLL matches the target link-layer option of a neighbour advertisement.
func NDTLL(m MAC) MatchItem { return Is(FieldNDTLL, MACValue(m)) }

// TunID matches the tunnel id: VXLAN's VNI, GRE's key.
func TunID(id uint64) MatchItem { return uintItem(FieldTunID, id) }

// TunIDMasked matches some bits of the tunnel id.
func TunIDMasked(id, mask uint64) MatchItem { return Masked(FieldTunID, U64(id), U64(mask)) }

// TunSrc matches the outer source of a packet from an IPv4 tunnel.
func TunSrc(p netip.Prefix) MatchItem { return prefixItem(FieldTunSrc, p) }

// TunDst matches the outer destination of a packet from an IPv4 tunnel.
func TunDst(p netip.Prefix) MatchItem { return prefixItem(FieldTunDst, p) }

// Reg matches register n (0 to 15) under a mask (0xffffffff: exactly).
func Reg(n int, value, mask uint32) MatchItem {
	return Masked(RegField(n), U64(uint64(value)), U64(uint64(mask)))
}

// Metadata matches the metadata register under a mask.
func Metadata(value, mask uint64) MatchItem {
	return Masked(FieldMetadata, U64(value), U64(mask))
}

// Bits of ct_state, ovs-fields(7).
const (
	CTNew  = 0x01
	CTEst  = 0x02
	CTRel  = 0x04
	CTRpl  = 0x08
	CTInv  = 0x10
	CTTrk  = 0x20
	CTSNAT = 0x40
	CTDNAT = 0x80
)

// CTState matches connection states written as ovs-ofctl does: "+est-rel+trk".
func CTState(s string) MatchItem {
	v, mask, err := parseFlags(s, ctStateNames[:])
	if err != nil {
		return MatchItem{err: "ct_state " + err.Error()}
	}
	return CTStateBits(v, mask)
}

// CTStateBits matches connection states under a mask of the CT constants.
func CTStateBits(value, mask uint32) MatchItem {
	if (value|mask)&^0xff != 0 {
		return MatchItem{err: "ct_state has no such bits"}
	}
	return Masked(FieldCTState, U64(uint64(value)), U64(uint64(mask)))
}

// CTZone matches the conntrack zone of the connection.
func CTZone(z uint16) MatchItem { return uintItem(FieldCTZone, uint64(z)) }

// CTMark matches the connection mark under a mask.
func CTMark(value, mask uint32) MatchItem {
	return Masked(FieldCTMark, U64(uint64(value)), U64(uint64(mask)))
}

// CTLabel matches the connection label under a mask.
func CTLabel(value, mask Value) MatchItem { return Masked(FieldCTLabel, value, mask) }

// PktMark matches the packet mark (Linux's skb mark) under a mask.
func PktMark(value, mask uint32) MatchItem {
	return Masked(FieldPktMark, U64(uint64(value)), U64(uint64(mask)))
}

// ConjID matches packets for which every clause of a conjunction held.
func ConjID(id uint32) MatchItem { return uintItem(FieldConjID, uint64(id)) }

// IPFrag matches fragments as ovs-ofctl names them: "no", "yes", "first", "later", "not_later".
func IPFrag(s string) MatchItem {
	v, mask, err := parseFrag(s)
	if err != nil {
		return MatchItem{err: err.Error()}
	}
	return Masked(FieldIPFrag, v, mask)
}

// TCPFlags matches TCP flags written as ovs-ofctl does: "+syn-ack".
func TCPFlags(s string) MatchItem {
	if !strings.HasPrefix(s, "+") && !strings.HasPrefix(s, "-") {
		return MatchItem{err: "tcp_flags wants + and - before the names"}
	}
	v, mask, err := parseFlags(s, tcpFlagNames[:])
	if err != nil {
		return MatchItem{err: "tcp_flags " + err.Error()}
	}
	return Masked(FieldTCPFlags, U64(uint64(v)), U64(uint64(mask)))
}

// IPDSCP matches the six DSCP bits, 0 to 63, of the IPv4 or IPv6 that the match also asks for.
func IPDSCP(dscp uint8) MatchItem { return uintItem(FieldIPDSCP, uint64(dscp)) }

// NWTOS matches the DSCP as nw_tos writes it: shifted left by two.
func NWTOS(tos uint8) MatchItem {
	if tos&3 != 0 {
		return MatchItem{err: "nw_tos has bits in the ECN part"}
	}
	return IPDSCP(tos >> 2)
}

// IPECN matches the two ECN bits of the IPv4 or IPv6 that the match also asks for.
func IPECN(ecn uint8) MatchItem { return uintItem(FieldIPECN, uint64(ecn)) }

// IPTTL matches the TTL or hop limit of the IPv4 or IPv6 that the match also asks for.
func IPTTL(ttl uint8) MatchItem { return uintItem(FieldIPTTL, uint64(ttl)) }
