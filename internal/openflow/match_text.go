package openflow

import "encoding/hex"

// matchIndex finds the fields of a match by their number.
type matchIndex struct {
	f   [numFields]FieldMatch
	has [numFields]bool
}

// match prints fields in the order of Open vSwitch, which is not that of the wire.
func (w *textWriter) match(m Match) {
	if m.bad != "" {
		w.str("<" + m.Err().Error() + ">")
		return
	}
	if m.oxm == "" {
		return
	}
	var x matchIndex
	rest := m.oxm
	for rest != "" {
		fm, next, ok := nextCanonical(rest)
		if !ok {
			break
		}
		x.f[fm.Field], x.has[fm.Field] = fm, true
		rest = next
	}
	w.numeric(&x, FieldPktMark)
	w.numeric(&x, FieldConjID)
	w.portField(&x, FieldActsetOutput, "actset_output=")
	w.connection(&x)
	skipType, skipProto := w.protocol(&x)
	for f := FieldReg0; f <= FieldReg15; f++ {
		w.numeric(&x, f)
	}
	w.tunnel(&x)
	w.numeric(&x, FieldMetadata)
	w.portField(&x, FieldInPort, "in_port=")
	w.vlan(&x)
	w.macField(&x, FieldEthSrc, "dl_src=")
	w.macField(&x, FieldEthDst, "dl_dst=")
	if x.has[FieldEthType] && !skipType {
		w.str("dl_type=")
		w.hexPadded(x.f[FieldEthType].Value.Lo, 4)
		w.str(",")
	}
	w.addrField(&x, FieldIPv6Src, "ipv6_src=")
	w.addrField(&x, FieldIPv6Dst, "ipv6_dst=")
	if x.has[FieldIPv6Label] {
		w.str("ipv6_label=")
		w.hexPadded(x.f[FieldIPv6Label].Value.Lo, 5)
		if !x.f[FieldIPv6Label].Exact() {
			w.str("/")
			w.hexPadded(x.f[FieldIPv6Label].Mask.Lo, 5)
		}
		w.str(",")
	}
	w.addrField(&x, FieldIPv4Src, "nw_src=")
	w.addrField(&x, FieldIPv4Dst, "nw_dst=")
	w.addrField(&x, FieldARPSPA, "arp_spa=")
	w.addrField(&x, FieldARPTPA, "arp_tpa=")
	if !skipProto {
		w.decimal(&x, FieldIPProto, "nw_proto=")
	}
	w.decimal(&x, FieldARPOp, "arp_op=")
	w.macField(&x, FieldARPSHA, "arp_sha=")
	w.macField(&x, FieldARPTHA, "arp_tha=")
	w.network(&x)
	w.transport(&x)
	if rest != "" {
		w.str("oxm=")
		w.b = hex.AppendEncode(w.b, []byte(rest))
	}
	w.chomp(',')
}

// numeric prints hexadecimal fields as %#x, decimal ones in decimal, and masks always in hexadecimal.
func (w *textWriter) numeric(x *matchIndex, f Field) {
	if !x.has[f] {
		return
	}
	w.str(fieldTable[f].name)
	w.str("=")
	fm := &x.f[f]
	if fieldTable[f].format == asDecimal && fm.Exact() {
		w.dec(fm.Value.Lo)
	} else {
		w.hexValue(fm.Value)
	}
	if !fm.Exact() {
		w.str("/")
		w.hexValue(fm.Mask)
	}
	w.str(",")
}

func (w *textWriter) decimal(x *matchIndex, f Field, label string) {
	if x.has[f] {
		w.str(label)
		w.dec(x.f[f].Value.Lo)
		w.str(",")
	}
}

// be16 prints a port or a type: decimal, or two hexadecimal numbers when masked.
func (w *textWriter) be16(x *matchIndex, f Field, label string) {
	if !x.has[f] {
		return
	}
	w.str(label)
	if fm := &x.f[f]; fm.Exact() {
		w.dec(fm.Value.Lo)
	} else {
		w.hexPadded(fm.Value.Lo, 1)
		w.str("/")
		w.hexPadded(fm.Mask.Lo, 1)
	}
	w.str(",")
}

func (w *textWriter) portField(x *matchIndex, f Field, label string) {
	if x.has[f] {
		w.str(label)
		w.port(uint32(x.f[f].Value.Lo))
		w.str(",")
	}
}

func (w *textWriter) macField(x *matchIndex, f Field, label string) {
	if x.has[f] {
		w.str(label)
		w.mac(x.f[f].Value, x.f[f].Mask)
		w.str(",")
	}
}

func (w *textWriter) addrField(x *matchIndex, f Field, label string) {
	if x.has[f] {
		w.str(label)
		w.addr(x.f[f].Value, x.f[f].Mask, int(fieldTable[f].bits))
		w.str(",")
	}
}

func (w *textWriter) flagsField(x *matchIndex, f Field, label string) {
	if !x.has[f] {
		return
	}
	w.str(label)
	names, fm := flagNamesOf(fieldTable[f].format), &x.f[f]
	if fm.Mask == Ones(len(names)) && f != FieldTunFlags {
		w.flagList(uint32(fm.Value.Lo), names)
	} else {
		w.flagsMasked(uint32(fm.Value.Lo), uint32(fm.Mask.Lo), names)
	}
	w.str(",")
}

func (w *textWriter) connection(x *matchIndex) {
	w.flagsField(x, FieldCTState, "ct_state=")
	w.decimal(x, FieldCTZone, "ct_zone=")
	w.numeric(x, FieldCTMark)
	w.numeric(x, FieldCTLabel)
	w.addrField(x, FieldCTNWSrc, "ct_nw_src=")
	w.addrField(x, FieldCTIPv6Src, "ct_ipv6_src=")
	w.addrField(x, FieldCTNWDst, "ct_nw_dst=")
	w.addrField(x, FieldCTIPv6Dst, "ct_ipv6_dst=")
	w.decimal(x, FieldCTNWProto, "ct_nw_proto=")
	w.be16(x, FieldCTTPSrc, "ct_tp_src=")
	w.be16(x, FieldCTTPDst, "ct_tp_dst=")
}

// protocol prints eth_type and ip_proto as one word where there is one, and tells which of the two it covers.
func (w *textWriter) protocol(x *matchIndex) (skipType, skipProto bool) {
	if !x.has[FieldEthType] {
		return false, false
	}
	word := ""
	suffix := ""
	switch x.f[FieldEthType].Value.Lo {
	case EthTypeIPv6:
		suffix = "6"
		fallthrough
	case EthTypeIPv4:
		word = "ip"
		if suffix != "" {
			word = "ipv6"
		}
		if !x.has[FieldIPProto] {
			break
		}
		skipProto = true
		switch proto := x.f[FieldIPProto].Value.Lo; {
		case proto == ProtoTCP:
			word = "tcp" + suffix
		case proto == ProtoUDP:
			word = "udp" + suffix
		case proto == ProtoSCTP:
			word = "sctp" + suffix
		case proto == ProtoICMP && suffix == "":
			word = "icmp"
		case proto == ProtoICMPv6 && suffix == "6":
			word = "icmp6"
		default:
			skipProto = false
		}
	case EthTypeARP:
		word = "arp"
	case EthTypeRARP:
		word = "rarp"
	case EthTypeMPLS:
		word = "mpls"
	case EthTypeMPLSMulti:
		word = "mplsm"
	default:
		return false, false
	}
	w.str(word)
	w.str(",")
	return true, skipProto
}

func (w *textWriter) tunnel(x *matchIndex) {
	w.numeric(x, FieldTunID)
	w.addrField(x, FieldTunSrc, "tun_src=")
	w.addrField(x, FieldTunDst, "tun_dst=")
	w.addrField(x, FieldTunIPv6Src, "tun_ipv6_src=")
	w.addrField(x, FieldTunIPv6Dst, "tun_ipv6_dst=")
	w.be16(x, FieldTunGBPID, "tun_gbp_id=")
	w.numeric(x, FieldTunGBPFlags)
	w.flagsField(x, FieldTunFlags, "tun_flags=")
}

func (w *textWriter) vlan(x *matchIndex) {
	vid, pcp := &x.f[FieldVLANVID], x.has[FieldVLANPCP]
	if !x.has[FieldVLANVID] && !pcp {
		return
	}
	exact, presence := vid.Exact(), vid.Mask.Lo == 0x1000
	if vid.Value.Lo&0x1000 != 0 && (exact || presence && pcp) {
		if exact {
			w.str("dl_vlan=")
			w.dec(vid.Value.Lo & 0xfff)
			w.str(",")
		}
		w.decimal(x, FieldVLANPCP, "dl_vlan_pcp=")
		return
	}
	value, mask := vid.Value.Lo, vid.Mask.Lo
	if pcp {
		value, mask = value|x.f[FieldVLANPCP].Value.Lo<<13, mask|0xe000
	}
	w.str("vlan_tci=")
	w.hexPadded(value, 4)
	if mask != 0xffff {
		w.str("/")
		w.hexPadded(mask, 4)
	}
	w.str(",")
}

func (w *textWriter) network(x *matchIndex) {
	if x.has[FieldIPDSCP] {
		w.str("nw_tos=")
		w.dec(x.f[FieldIPDSCP].Value.Lo << 2)
		w.str(",")
	}
	w.decimal(x, FieldIPECN, "nw_ecn=")
	w.decimal(x, FieldIPTTL, "nw_ttl=")
	w.decimal(x, FieldMPLSLabel, "mpls_label=")
	w.decimal(x, FieldMPLSTC, "mpls_tc=")
	w.decimal(x, FieldMPLSTTL, "mpls_ttl=")
	w.decimal(x, FieldMPLSBOS, "mpls_bos=")
	if x.has[FieldIPFrag] {
		w.str("nw_frag=")
		w.frag(x.f[FieldIPFrag].Value, x.f[FieldIPFrag].Mask)
		w.str(",")
	}
}

func (w *textWriter) transport(x *matchIndex) {
	for _, t := range [...]struct {
		f     Field
		label string
	}{
		{FieldICMPType, "icmp_type="}, {FieldICMPCode, "icmp_code="}, {FieldICMPv6Type, "icmp_type="}, {FieldICMPv6Code, "icmp_code="},
	} {
		w.decimal(x, t.f, t.label)
	}
	w.addrField(x, FieldNDTarget, "nd_target=")
	w.macField(x, FieldNDSLL, "nd_sll=")
	w.macField(x, FieldNDTLL, "nd_tll=")
	for _, t := range [...]struct {
		f     Field
		label string
	}{
		{FieldTCPSrc, "tp_src="}, {FieldTCPDst, "tp_dst="}, {FieldUDPSrc, "tp_src="}, {FieldUDPDst, "tp_dst="},
		{FieldSCTPSrc, "tp_src="}, {FieldSCTPDst, "tp_dst="},
	} {
		w.be16(x, t.f, t.label)
	}
	w.flagsField(x, FieldTCPFlags, "tcp_flags=")
}
