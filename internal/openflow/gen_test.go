package openflow

import (
	"encoding/binary"
	"net/netip"

	"pgregory.net/rapid"
)

// Generators of flows that a switch takes: fields with what they depend on, actions that need no particular packet.

func genValue(bits int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		v := Value{rapid.Uint64().Draw(t, "hi"), rapid.Uint64().Draw(t, "lo")}
		return v.And(Ones(bits))
	})
}

func genMask(bits int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		switch rapid.IntRange(0, 3).Draw(t, "mask") {
		case 0:
			return prefixMask(rapid.IntRange(0, bits).Draw(t, "prefix"), bits)
		case 1:
			return genValue(bits).Draw(t, "bits")
		}
		return Ones(bits)
	})
}

func genMAC() *rapid.Generator[MAC] {
	return rapid.Custom(func(t *rapid.T) MAC { return genValue(48).Draw(t, "mac").MAC() })
}

func genPrefix(bits int) *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		v := genValue(bits).Draw(t, "addr")
		a := v.Addr4()
		if bits == 128 {
			a = v.Addr6()
		}
		return netip.PrefixFrom(a, rapid.IntRange(0, bits).Draw(t, "length"))
	})
}

func genMatch() *rapid.Generator[Match] {
	return rapid.Custom(func(t *rapid.T) Match {
		items := rapid.SliceOfN(genMetaItem(), 0, 4).Draw(t, "metadata")
		items = append(items, rapid.SliceOfN(genFrameItem(), 0, 3).Draw(t, "frame")...)
		items = append(items, genPacketItems().Draw(t, "packet")...)
		m := MatchOf(items...)
		if m.Err() != nil { // two values for one field
			return MatchOf(items[:min(1, len(items))]...)
		}
		return m
	})
}

func genMetaItem() *rapid.Generator[MatchItem] {
	return rapid.Custom(func(t *rapid.T) MatchItem {
		u32 := func() uint32 { return rapid.Uint32().Draw(t, "u32") }
		switch rapid.IntRange(0, 11).Draw(t, "item") {
		case 0:
			return InPort(uint32(rapid.IntRange(1, 65279).Draw(t, "port")))
		case 1:
			return Masked(FieldTunID, genValue(64).Draw(t, "v"), genMask(64).Draw(t, "m"))
		case 2:
			return Metadata(rapid.Uint64().Draw(t, "v"), genMask(64).Draw(t, "m").Lo)
		case 3:
			return CTStateBits(uint32(rapid.IntRange(0, 255).Draw(t, "v"))|CTTrk, uint32(rapid.IntRange(0, 255).Draw(t, "m"))|CTTrk)
		case 4:
			return CTZone(rapid.Uint16().Draw(t, "zone"))
		case 5:
			return CTMark(u32(), uint32(genMask(32).Draw(t, "m").Lo))
		case 6:
			return CTLabel(genValue(128).Draw(t, "v"), genMask(128).Draw(t, "m"))
		case 7:
			return PktMark(u32(), uint32(genMask(32).Draw(t, "m").Lo))
		case 8:
			return ConjID(u32())
		case 9:
			return TunSrc(genPrefix(32).Draw(t, "p"))
		}
		return Reg(rapid.IntRange(0, 15).Draw(t, "n"), u32(), uint32(genMask(32).Draw(t, "m").Lo))
	})
}

func genFrameItem() *rapid.Generator[MatchItem] {
	return rapid.Custom(func(t *rapid.T) MatchItem {
		switch rapid.IntRange(0, 5).Draw(t, "item") {
		case 0:
			return EthSrc(genMAC().Draw(t, "mac"))
		case 1:
			return EthDstMasked(genMAC().Draw(t, "mac"), genMask(48).Draw(t, "m").MAC())
		case 2:
			return VLAN(uint16(rapid.IntRange(0, 4095).Draw(t, "vid")))
		case 3:
			return NoVLAN()
		case 4:
			return VLANTCI(rapid.Uint16().Draw(t, "v"), uint16(genMask(13).Draw(t, "m").Lo))
		}
		return VLANTCI(rapid.Uint16().Draw(t, "v")|0x1000, 0xf000)
	})
}

func genPacketItems() *rapid.Generator[[]MatchItem] {
	return rapid.Custom(func(t *rapid.T) []MatchItem {
		port := func(f func(p, m uint16) MatchItem) MatchItem {
			return f(rapid.Uint16().Draw(t, "port"), uint16(genMask(16).Draw(t, "m").Lo))
		}
		v4, v6 := genPrefix(32), genPrefix(128)
		switch rapid.IntRange(0, 11).Draw(t, "packet") {
		case 0:
			return nil
		case 1:
			return []MatchItem{ARP(), ARPOp(rapid.Uint16Range(0, 255).Draw(t, "op")), ARPSPA(v4.Draw(t, "spa")), ARPTPA(v4.Draw(t, "tpa")), ARPSHA(genMAC().Draw(t, "sha"))}
		case 2:
			return []MatchItem{TCP(), IPSrc(v4.Draw(t, "src")), port(TPSrc), port(TPDst)}
		case 3:
			return []MatchItem{TCP6(), IPv6Dst(v6.Draw(t, "dst")), port(TPDst), Masked(FieldTCPFlags, genValue(12).Draw(t, "v"), genMask(12).Draw(t, "m"))}
		case 4:
			return []MatchItem{UDP(), port(TPSrc), NWTOS(rapid.Uint8().Draw(t, "tos") &^ 3)}
		case 5:
			return []MatchItem{UDP6(), port(TPDst), Masked(FieldIPv6Label, genValue(20).Draw(t, "v"), genMask(20).Draw(t, "m"))}
		case 6:
			return []MatchItem{SCTP(), port(TPDst), IPECN(rapid.Uint8Range(0, 3).Draw(t, "ecn"))}
		case 7:
			return []MatchItem{ICMP(), ICMPType(rapid.Uint8().Draw(t, "type")), ICMPCode(rapid.Uint8().Draw(t, "code"))}
		case 8:
			return []MatchItem{ICMPv6(), ICMPType(135), NDTarget(v6.Draw(t, "target")), NDSLL(genMAC().Draw(t, "sll"))}
		case 9:
			return []MatchItem{ICMPv6(), ICMPType(136), NDTarget(v6.Draw(t, "target")), IPv6Src(v6.Draw(t, "src"))}
		case 10:
			return []MatchItem{IP(), IPProto(rapid.Uint8().Draw(t, "proto")), IPTTL(rapid.Uint8().Draw(t, "ttl")),
				IPFrag(rapid.SampledFrom([]string{"no", "yes", "first", "later", "not_later"}).Draw(t, "frag"))}
		}
		return []MatchItem{EthType(rapid.Uint16Range(0x0600, 0xffff).Draw(t, "type"))}
	})
}

func genSubfield(bits int) *rapid.Generator[Subfield] {
	return rapid.Custom(func(t *rapid.T) Subfield {
		f := rapid.SampledFrom([]Field{FieldReg0, FieldReg5, FieldReg15, FieldTunID, FieldMetadata, FieldEthSrc, FieldXXReg1, FieldPktMark}).Draw(t, "field")
		n := min(bits, f.Bits())
		return Sub(f, rapid.IntRange(0, f.Bits()-n).Draw(t, "ofs"), n)
	})
}

func genAction() *rapid.Generator[Action] {
	return rapid.Custom(func(t *rapid.T) Action {
		port := uint32(rapid.IntRange(1, 65279).Draw(t, "port"))
		switch rapid.IntRange(0, 15).Draw(t, "action") {
		case 0:
			return Output(port)
		case 1:
			return Resubmit(uint16(port), rapid.Uint8().Draw(t, "table"))
		case 2:
			return ResubmitTable(rapid.Uint8Range(0, 254).Draw(t, "table"))
		case 3:
			s := genSubfield(rapid.IntRange(1, 64).Draw(t, "bits")).Draw(t, "dst")
			return LoadAction{genValue(int(s.Bits)).Draw(t, "v").Lo, s}
		case 4:
			n := rapid.IntRange(1, 32).Draw(t, "bits")
			return Move(genSubfield(n).Draw(t, "src"), genSubfield(n).Draw(t, "dst"))
		case 5:
			return SetRegMasked(rapid.IntRange(0, 15).Draw(t, "n"), rapid.Uint32().Draw(t, "v"), uint32(genMask(32).Draw(t, "m").Lo)|1)
		case 6:
			return SetTunnel(rapid.Uint64().Draw(t, "id"))
		case 7:
			return SetEthDst(genMAC().Draw(t, "mac"))
		case 8:
			return Note(string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "note")))
		case 9:
			return genLearn().Draw(t, "learn")
		case 10:
			return Clone{rapid.SliceOfN(rapid.Just[Action](Output(port)), 1, 3).Draw(t, "clone")}
		case 11:
			return SetQueue(rapid.Uint32Range(0, 100).Draw(t, "queue"))
		case 12:
			return SendToController{MaxLen: rapid.Uint16().Draw(t, "max"), Reason: 1, ID: rapid.Uint16Range(1, 9).Draw(t, "id")}
		case 13:
			return OutputReg{genSubfield(16).Draw(t, "src"), 0xffff}
		case 14:
			return Stack{rapid.Bool().Draw(t, "pop"), genSubfield(8).Draw(t, "field")}
		}
		return rapid.SampledFrom([]Action{Normal, Flood, Local, OutInPort, Controller(128), PopQueue, All}).Draw(t, "simple")
	})
}

func genLearn() *rapid.Generator[Learn] {
	return rapid.Custom(func(t *rapid.T) Learn {
		l := Learn{Table: rapid.Uint8Range(0, 254).Draw(t, "table"), Priority: rapid.Uint16().Draw(t, "priority"),
			HardTimeout: rapid.Uint16().Draw(t, "hard"), IdleTimeout: rapid.Uint16().Draw(t, "idle"), Cookie: rapid.Uint64().Draw(t, "cookie"),
			DeleteLearned: rapid.Bool().Draw(t, "delete")}
		for range rapid.IntRange(0, 4).Draw(t, "specs") {
			n := rapid.IntRange(1, 64).Draw(t, "bits")
			dst := genSubfield(n).Draw(t, "dst")
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				l.Specs = append(l.Specs, MatchImm(dst, genValue(int(dst.Bits)).Draw(t, "imm")))
			case 1:
				l.Specs = append(l.Specs, LoadImm(dst, genValue(int(dst.Bits)).Draw(t, "imm")))
			case 2:
				l.Specs = append(l.Specs, MatchSame(dst))
			case 3:
				l.Specs = append(l.Specs, LoadFrom(dst, Sub(FieldXXReg1, 3, int(dst.Bits))))
			default:
				l.Specs = append(l.Specs, OutputTo(genSubfield(16).Draw(t, "out")))
			}
		}
		return l
	})
}

func genFlow() *rapid.Generator[Flow] {
	timeout := rapid.OneOf(rapid.Just(uint16(0)), rapid.Uint16Min(1000)) // a flow must outlive its test
	return rapid.Custom(func(t *rapid.T) Flow {
		f := Flow{Table: rapid.Uint8Range(0, 253).Draw(t, "table"), Priority: rapid.Uint16().Draw(t, "priority"),
			Cookie: rapid.Uint64Range(0, 1<<63).Draw(t, "cookie"), IdleTimeout: timeout.Draw(t, "idle"),
			HardTimeout: timeout.Draw(t, "hard"), Importance: rapid.Uint16().Draw(t, "importance"), Match: genMatch().Draw(t, "match"),
			Flags: FlowFlags(rapid.Uint16().Draw(t, "flags")) & (SendFlowRem | NoPktCounts | NoByteCounts)}
		f.Actions = rapid.SliceOfN(genAction(), 0, 5).Draw(t, "actions")
		if len(f.Actions) == 0 {
			f.Actions = nil
		}
		if f.Table < 250 && rapid.Bool().Draw(t, "goto") {
			f.Actions = append(f.Actions, Goto(f.Table+1))
		}
		return f
	})
}

// seedBytes turns flows into messages for the fuzzers to start from.
func seedBytes(f Flow) []byte {
	m := AddFlow(f)
	b, err := Encode(&m, V14, 1)
	if err != nil {
		return binary.BigEndian.AppendUint32(nil, 0)
	}
	return b
}
