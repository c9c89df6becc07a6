package openflow

import "fmt"

// Field is a packet or metadata field that a flow matches or writes.
type Field uint8

// The fields, in the canonical order of a match: what a field depends on (eth_type, ip_proto) comes before it, as the OpenFlow
// specification asks.  Names and numbers: ovs-fields(7).
const (
	FieldNone Field = iota
	FieldInPort
	FieldActsetOutput
	FieldPktMark
	FieldConjID
	FieldTunID
	FieldTunSrc
	FieldTunDst
	FieldTunIPv6Src
	FieldTunIPv6Dst
	FieldTunGBPID
	FieldTunGBPFlags
	FieldTunFlags
	FieldMetadata
	FieldReg0
	FieldReg1
	FieldReg2
	FieldReg3
	FieldReg4
	FieldReg5
	FieldReg6
	FieldReg7
	FieldReg8
	FieldReg9
	FieldReg10
	FieldReg11
	FieldReg12
	FieldReg13
	FieldReg14
	FieldReg15
	FieldEthDst
	FieldEthSrc
	FieldEthType
	FieldVLANVID
	FieldVLANPCP
	FieldMPLSLabel
	FieldMPLSTC
	FieldMPLSBOS
	FieldMPLSTTL
	FieldIPDSCP
	FieldIPECN
	FieldIPTTL
	FieldIPFrag
	FieldIPProto
	FieldIPv4Src
	FieldIPv4Dst
	FieldIPv6Src
	FieldIPv6Dst
	FieldIPv6Label
	FieldCTState
	FieldCTZone
	FieldCTMark
	FieldCTLabel
	FieldCTNWProto
	FieldCTNWSrc
	FieldCTNWDst
	FieldCTIPv6Src
	FieldCTIPv6Dst
	FieldCTTPSrc
	FieldCTTPDst
	FieldTCPSrc
	FieldTCPDst
	FieldTCPFlags
	FieldUDPSrc
	FieldUDPDst
	FieldSCTPSrc
	FieldSCTPDst
	FieldICMPType
	FieldICMPCode
	FieldICMPv6Type
	FieldICMPv6Code
	FieldNDTarget
	FieldNDSLL
	FieldNDTLL
	FieldARPOp
	FieldARPSPA
	FieldARPTPA
	FieldARPSHA
	FieldARPTHA
	// The fields below are other views of those above: they are written and copied, and in a match they become the field they view.
	FieldInPort16
	FieldVLANTCI
	FieldIPTOS
	FieldXReg0
	FieldXReg1
	FieldXReg2
	FieldXReg3
	FieldXReg4
	FieldXReg5
	FieldXReg6
	FieldXReg7
	FieldXXReg0
	FieldXXReg1
	FieldXXReg2
	FieldXXReg3
	numFields
)

// RegField is the field of register n, 0 <= n <= 15; FieldNone otherwise.
func RegField(n int) Field {
	if n < 0 || n > 15 {
		return FieldNone
	}
	return FieldReg0 + Field(n)
}

// String is the name as set_field prints it; "field(N)" for what is no field.
func (f Field) String() string {
	if !f.known() {
		return fmt.Sprintf("field(%d)", uint8(f))
	}
	return fieldTable[f].name
}

// NXName is the name as load, move and learn print it (NXM_NX_REG5, OXM_OF_METADATA).
func (f Field) NXName() string {
	if !f.known() {
		return f.String()
	}
	return fieldTable[f].nxName
}

// Bits is the width in bits, 0 for what is no field.
func (f Field) Bits() int {
	if !f.known() {
		return 0
	}
	return int(fieldTable[f].bits)
}

// Writable reports whether an action may change the field.
func (f Field) Writable() bool { return f.known() && fieldTable[f].flags&flagWritable != 0 }

// Maskable reports whether a match may look at some bits of the field only.
func (f Field) Maskable() bool { return f.known() && fieldTable[f].flags&flagMaskable != 0 }

func (f Field) known() bool { return f > FieldNone && f < numFields }

// FieldByName finds a field by the name that set_field prints, by one of its ovs-ofctl aliases (dl_src, nw_dst, tunnel_id), or by
// its NXM or OXM name.
func FieldByName(name string) (Field, bool) {
	for f := FieldNone + 1; f < numFields; f++ {
		if fieldTable[f].name == name || fieldTable[f].nxName == name {
			return f, true
		}
	}
	for _, a := range fieldAliases {
		if a.name == name {
			return a.field, true
		}
	}
	return FieldNone, false
}

// OXM classes.
const (
	classNXM0       = 0x0000
	classNXM1       = 0x0001
	classBasic      = 0x8000
	classPacketRegs = 0x8001
	classExp        = 0xffff
)

type valueFormat uint8

const (
	asDecimal valueFormat = iota
	asHex
	asMAC
	asIPv4
	asIPv6
	asFrag
	asCTState
	asPort
	asTCPFlags
	asTunFlags
)

const (
	flagMaskable = 1 << iota
	flagWritable
)

// fieldInfo describes one field.  wireBits differs from bits for vlan_vid alone, whose bit 12 says "tagged".
type fieldInfo struct {
	name, nxName string
	class        uint16
	num          uint8
	bits         uint8
	wireBits     uint8
	bytes        uint8
	format       valueFormat
	flags        uint8
}

func (i *fieldInfo) header(masked bool) uint32 {
	h := uint32(i.class)<<16 | uint32(i.num)<<9
	if masked {
		return h | 1<<8 | uint32(i.bytes)*2 // the length counts value and mask
	}
	return h | uint32(i.bytes)
}

const (
	maskRW = flagMaskable | flagWritable
	maskRO = flagMaskable
	rw     = flagWritable
)

var fieldTable = buildFieldTable()

func buildFieldTable() [numFields]fieldInfo {
	t := [numFields]fieldInfo{
		FieldInPort:       {"in_port_oxm", "OXM_OF_IN_PORT", classBasic, 0, 32, 0, 4, asPort, rw},
		FieldActsetOutput: {"actset_output", "OXM_OF_ACTSET_OUTPUT", classBasic, 43, 32, 0, 4, asPort, 0},
		FieldPktMark:      {"pkt_mark", "NXM_NX_PKT_MARK", classNXM1, 33, 32, 0, 4, asHex, maskRW},
		FieldConjID:       {"conj_id", "NXM_NX_CONJ_ID", classNXM1, 37, 32, 0, 4, asDecimal, 0},
		FieldTunID:        {"tun_id", "NXM_NX_TUN_ID", classBasic, 38, 64, 0, 8, asHex, maskRW},
		FieldTunSrc:       {"tun_src", "NXM_NX_TUN_IPV4_SRC", classNXM1, 31, 32, 0, 4, asIPv4, maskRW},
		FieldTunDst:       {"tun_dst", "NXM_NX_TUN_IPV4_DST", classNXM1, 32, 32, 0, 4, asIPv4, maskRW},
		FieldTunIPv6Src:   {"tun_ipv6_src", "NXM_NX_TUN_IPV6_SRC", classNXM1, 109, 128, 0, 16, asIPv6, maskRW},
		FieldTunIPv6Dst:   {"tun_ipv6_dst", "NXM_NX_TUN_IPV6_DST", classNXM1, 110, 128, 0, 16, asIPv6, maskRW},
		FieldTunGBPID:     {"tun_gbp_id", "NXM_NX_TUN_GBP_ID", classNXM1, 38, 16, 0, 2, asDecimal, maskRW},
		FieldTunGBPFlags:  {"tun_gbp_flags", "NXM_NX_TUN_GBP_FLAGS", classNXM1, 39, 8, 0, 1, asHex, maskRW},
		FieldTunFlags:     {"tun_flags", "NXM_NX_TUN_FLAGS", classNXM1, 104, 1, 0, 2, asTunFlags, maskRW},
		FieldMetadata:     {"metadata", "OXM_OF_METADATA", classBasic, 2, 64, 0, 8, asHex, maskRW},
		FieldEthDst:       {"eth_dst", "NXM_OF_ETH_DST", classBasic, 3, 48, 0, 6, asMAC, maskRW},
		FieldEthSrc:       {"eth_src", "NXM_OF_ETH_SRC", classBasic, 4, 48, 0, 6, asMAC, maskRW},
		FieldEthType:      {"eth_type", "NXM_OF_ETH_TYPE", classBasic, 5, 16, 0, 2, asHex, 0},
		FieldVLANVID:      {"vlan_vid", "OXM_OF_VLAN_VID", classBasic, 6, 12, 13, 2, asDecimal, maskRW},
		FieldVLANPCP:      {"vlan_pcp", "OXM_OF_VLAN_PCP", classBasic, 7, 3, 0, 1, asDecimal, rw},
		FieldMPLSLabel:    {"mpls_label", "OXM_OF_MPLS_LABEL", classBasic, 34, 20, 0, 4, asDecimal, rw},
		FieldMPLSTC:       {"mpls_tc", "OXM_OF_MPLS_TC", classBasic, 35, 3, 0, 1, asDecimal, rw},
		FieldMPLSBOS:      {"mpls_bos", "OXM_OF_MPLS_BOS", classBasic, 36, 1, 0, 1, asDecimal, 0},
		FieldMPLSTTL:      {"mpls_ttl", "NXM_NX_MPLS_TTL", classNXM1, 30, 8, 0, 1, asDecimal, rw},
		FieldIPDSCP:       {"ip_dscp", "OXM_OF_IP_DSCP", classBasic, 8, 6, 0, 1, asDecimal, rw},
		FieldIPECN:        {"nw_ecn", "NXM_NX_IP_ECN", classBasic, 9, 2, 0, 1, asDecimal, rw},
		FieldIPTTL:        {"nw_ttl", "NXM_NX_IP_TTL", classNXM1, 29, 8, 0, 1, asDecimal, rw},
		FieldIPFrag:       {"ip_frag", "NXM_NX_IP_FRAG", classNXM1, 26, 2, 0, 1, asFrag, maskRO},
		FieldIPProto:      {"nw_proto", "NXM_OF_IP_PROTO", classBasic, 10, 8, 0, 1, asDecimal, 0},
		FieldIPv4Src:      {"ip_src", "NXM_OF_IP_SRC", classBasic, 11, 32, 0, 4, asIPv4, maskRW},
		FieldIPv4Dst:      {"ip_dst", "NXM_OF_IP_DST", classBasic, 12, 32, 0, 4, asIPv4, maskRW},
		FieldIPv6Src:      {"ipv6_src", "NXM_NX_IPV6_SRC", classBasic, 26, 128, 0, 16, asIPv6, maskRW},
		FieldIPv6Dst:      {"ipv6_dst", "NXM_NX_IPV6_DST", classBasic, 27, 128, 0, 16, asIPv6, maskRW},
		FieldIPv6Label:    {"ipv6_label", "NXM_NX_IPV6_LABEL", classBasic, 28, 20, 0, 4, asHex, maskRW},
		FieldCTState:      {"ct_state", "NXM_NX_CT_STATE", classNXM1, 105, 32, 0, 4, asCTState, maskRO},
		FieldCTZone:       {"ct_zone", "NXM_NX_CT_ZONE", classNXM1, 106, 16, 0, 2, asHex, 0},
		FieldCTMark:       {"ct_mark", "NXM_NX_CT_MARK", classNXM1, 107, 32, 0, 4, asHex, maskRW},
		FieldCTLabel:      {"ct_label", "NXM_NX_CT_LABEL", classNXM1, 108, 128, 0, 16, asHex, maskRW},
		FieldCTNWProto:    {"ct_nw_proto", "NXM_NX_CT_NW_PROTO", classNXM1, 119, 8, 0, 1, asDecimal, 0},
		FieldCTNWSrc:      {"ct_nw_src", "NXM_NX_CT_NW_SRC", classNXM1, 120, 32, 0, 4, asIPv4, maskRO},
		FieldCTNWDst:      {"ct_nw_dst", "NXM_NX_CT_NW_DST", classNXM1, 121, 32, 0, 4, asIPv4, maskRO},
		FieldCTIPv6Src:    {"ct_ipv6_src", "NXM_NX_CT_IPV6_SRC", classNXM1, 122, 128, 0, 16, asIPv6, maskRO},
		FieldCTIPv6Dst:    {"ct_ipv6_dst", "NXM_NX_CT_IPV6_DST", classNXM1, 123, 128, 0, 16, asIPv6, maskRO},
		FieldCTTPSrc:      {"ct_tp_src", "NXM_NX_CT_TP_SRC", classNXM1, 124, 16, 0, 2, asDecimal, maskRO},
		FieldCTTPDst:      {"ct_tp_dst", "NXM_NX_CT_TP_DST", classNXM1, 125, 16, 0, 2, asDecimal, maskRO},
		FieldTCPSrc:       {"tcp_src", "NXM_OF_TCP_SRC", classBasic, 13, 16, 0, 2, asDecimal, maskRW},
		FieldTCPDst:       {"tcp_dst", "NXM_OF_TCP_DST", classBasic, 14, 16, 0, 2, asDecimal, maskRW},
		FieldTCPFlags:     {"tcp_flags", "NXM_NX_TCP_FLAGS", classNXM1, 34, 12, 0, 2, asTCPFlags, maskRO},
		FieldUDPSrc:       {"udp_src", "NXM_OF_UDP_SRC", classBasic, 15, 16, 0, 2, asDecimal, maskRW},
		FieldUDPDst:       {"udp_dst", "NXM_OF_UDP_DST", classBasic, 16, 16, 0, 2, asDecimal, maskRW},
		FieldSCTPSrc:      {"sctp_src", "OXM_OF_SCTP_SRC", classBasic, 17, 16, 0, 2, asDecimal, maskRW},
		FieldSCTPDst:      {"sctp_dst", "OXM_OF_SCTP_DST", classBasic, 18, 16, 0, 2, asDecimal, maskRW},
		FieldICMPType:     {"icmp_type", "NXM_OF_ICMP_TYPE", classBasic, 19, 8, 0, 1, asDecimal, rw},
		FieldICMPCode:     {"icmp_code", "NXM_OF_ICMP_CODE", classBasic, 20, 8, 0, 1, asDecimal, rw},
		FieldICMPv6Type:   {"icmpv6_type", "NXM_NX_ICMPV6_TYPE", classBasic, 29, 8, 0, 1, asDecimal, rw},
		FieldICMPv6Code:   {"icmpv6_code", "NXM_NX_ICMPV6_CODE", classBasic, 30, 8, 0, 1, asDecimal, rw},
		FieldNDTarget:     {"nd_target", "NXM_NX_ND_TARGET", classBasic, 31, 128, 0, 16, asIPv6, maskRW},
		FieldNDSLL:        {"nd_sll", "NXM_NX_ND_SLL", classBasic, 32, 48, 0, 6, asMAC, maskRW},
		FieldNDTLL:        {"nd_tll", "NXM_NX_ND_TLL", classBasic, 33, 48, 0, 6, asMAC, maskRW},
		FieldARPOp:        {"arp_op", "NXM_OF_ARP_OP", classBasic, 21, 16, 0, 2, asDecimal, rw},
		FieldARPSPA:       {"arp_spa", "NXM_OF_ARP_SPA", classBasic, 22, 32, 0, 4, asIPv4, maskRW},
		FieldARPTPA:       {"arp_tpa", "NXM_OF_ARP_TPA", classBasic, 23, 32, 0, 4, asIPv4, maskRW},
		FieldARPSHA:       {"arp_sha", "NXM_NX_ARP_SHA", classBasic, 24, 48, 0, 6, asMAC, maskRW},
		FieldARPTHA:       {"arp_tha", "NXM_NX_ARP_THA", classBasic, 25, 48, 0, 6, asMAC, maskRW},
		FieldInPort16:     {"in_port", "NXM_OF_IN_PORT", classNXM0, 0, 16, 0, 2, asPort, rw},
		FieldVLANTCI:      {"vlan_tci", "NXM_OF_VLAN_TCI", classNXM0, 4, 16, 0, 2, asHex, maskRW},
		FieldIPTOS:        {"nw_tos", "NXM_OF_IP_TOS", classNXM0, 5, 8, 0, 1, asDecimal, rw},
	}
	addRegisters(&t)
	for f := range t {
		if t[f].wireBits == 0 {
			t[f].wireBits = t[f].bits
		}
	}
	return t
}

func addRegisters(t *[numFields]fieldInfo) {
	for n := Field(0); n < 16; n++ {
		t[FieldReg0+n] = fieldInfo{fmt.Sprintf("reg%d", n), fmt.Sprintf("NXM_NX_REG%d", n), classNXM1, uint8(n), 32, 0, 4, asHex, maskRW}
	}
	for n := Field(0); n < 8; n++ {
		t[FieldXReg0+n] = fieldInfo{fmt.Sprintf("xreg%d", n), fmt.Sprintf("OXM_OF_PKT_REG%d", n), classPacketRegs, uint8(n), 64, 0, 8, asHex, maskRW}
	}
	for n := Field(0); n < 4; n++ {
		t[FieldXXReg0+n] = fieldInfo{fmt.Sprintf("xxreg%d", n), fmt.Sprintf("NXM_NX_XXREG%d", n), classNXM1, uint8(111 + n), 128, 0, 16, asHex, maskRW}
	}
}

// fieldAliases are further names that ovs-ofctl reads.
var fieldAliases = []struct {
	name  string
	field Field
}{
	{"tunnel_id", FieldTunID}, {"dl_src", FieldEthSrc}, {"dl_dst", FieldEthDst}, {"dl_type", FieldEthType},
	{"nw_src", FieldIPv4Src}, {"nw_dst", FieldIPv4Dst}, {"ip_proto", FieldIPProto}, {"ip_ttl", FieldIPTTL}, {"nw_frag", FieldIPFrag},
	{"ip_ecn", FieldIPECN}, {"tp_src", FieldTCPSrc}, {"tp_dst", FieldTCPDst}, {"nw_dscp", FieldIPDSCP},
	{"OXM_OF_TUNNEL_ID", FieldTunID}, {"OXM_OF_ETH_DST", FieldEthDst}, {"OXM_OF_ETH_SRC", FieldEthSrc},
	{"OXM_OF_ETH_TYPE", FieldEthType}, {"OXM_OF_IP_ECN", FieldIPECN}, {"OXM_OF_IP_PROTO", FieldIPProto},
	{"OXM_OF_IPV4_SRC", FieldIPv4Src}, {"OXM_OF_IPV4_DST", FieldIPv4Dst}, {"OXM_OF_IPV6_SRC", FieldIPv6Src},
	{"OXM_OF_IPV6_DST", FieldIPv6Dst}, {"OXM_OF_IPV6_FLABEL", FieldIPv6Label}, {"OXM_OF_TCP_SRC", FieldTCPSrc},
	{"OXM_OF_TCP_DST", FieldTCPDst}, {"OXM_OF_UDP_SRC", FieldUDPSrc}, {"OXM_OF_UDP_DST", FieldUDPDst},
	{"OXM_OF_ICMPV4_TYPE", FieldICMPType}, {"OXM_OF_ICMPV4_CODE", FieldICMPCode}, {"OXM_OF_ICMPV6_TYPE", FieldICMPv6Type},
	{"OXM_OF_ICMPV6_CODE", FieldICMPv6Code}, {"OXM_OF_IPV6_ND_TARGET", FieldNDTarget}, {"OXM_OF_IPV6_ND_SLL", FieldNDSLL},
	{"OXM_OF_IPV6_ND_TLL", FieldNDTLL}, {"OXM_OF_ARP_OP", FieldARPOp}, {"OXM_OF_ARP_SPA", FieldARPSPA},
	{"OXM_OF_ARP_TPA", FieldARPTPA}, {"OXM_OF_ARP_SHA", FieldARPSHA}, {"OXM_OF_ARP_THA", FieldARPTHA},
	{"OXM_OF_TCP_FLAGS", FieldTCPFlags}, {"ONFOXM_ET_TCP_FLAGS", FieldTCPFlags},
}

// fieldOf finds the field of an OXM class and number, whichever of its headers (NXM or OXM) was used.
func fieldOf(class uint16, num uint8) Field {
	switch class {
	case classBasic:
		if int(num) < len(basicFields) {
			return basicFields[num]
		}
	case classNXM0:
		if int(num) < len(nxm0Fields) {
			return nxm0Fields[num]
		}
	case classNXM1:
		if int(num) < len(nxm1Fields) {
			return nxm1Fields[num]
		}
	case classPacketRegs:
		if num < 8 {
			return FieldXReg0 + Field(num)
		}
	}
	return FieldNone
}

// onfVendor has the fields that OpenFlow 1.5 made standard; Open vSwitch uses these headers of theirs before.
const onfVendor = 0x4f4e4600

func onfField(num uint8) Field {
	switch num {
	case 42:
		return FieldTCPFlags
	case 43:
		return FieldActsetOutput
	}
	return FieldNone
}

var (
	basicFields = headerIndex(classBasic, map[uint8]Field{42: FieldTCPFlags})
	// nxm0Fields and nxm1Fields also hold the NXM headers of fields that we write with their OXM header.
	nxm0Fields = headerIndex(classNXM0, map[uint8]Field{
		1: FieldEthDst, 2: FieldEthSrc, 3: FieldEthType, 6: FieldIPProto, 7: FieldIPv4Src, 8: FieldIPv4Dst, 9: FieldTCPSrc,
		10: FieldTCPDst, 11: FieldUDPSrc, 12: FieldUDPDst, 13: FieldICMPType, 14: FieldICMPCode, 15: FieldARPOp, 16: FieldARPSPA,
		17: FieldARPTPA,
	})
	nxm1Fields = headerIndex(classNXM1, map[uint8]Field{
		16: FieldTunID, 17: FieldARPSHA, 18: FieldARPTHA, 19: FieldIPv6Src, 20: FieldIPv6Dst, 21: FieldICMPv6Type,
		22: FieldICMPv6Code, 23: FieldNDTarget, 24: FieldNDSLL, 25: FieldNDTLL, 27: FieldIPv6Label, 28: FieldIPECN,
	})
)

func headerIndex(class uint16, others map[uint8]Field) [128]Field {
	var x [128]Field
	for f := FieldNone + 1; f < numFields; f++ {
		if fieldTable[f].class == class {
			x[fieldTable[f].num] = f
		}
	}
	for num, f := range others {
		x[num] = f
	}
	return x
}
