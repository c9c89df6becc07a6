package openflow

import (
	"errors"
	"fmt"
)

// maxNesting bounds actions within actions (ct, clone), as Open vSwitch does.
const maxNesting = 16

var errShort = errors.New("cut short")

// decodeInstructions reads instructions up to the end of b, in the order in which Open vSwitch prints them.
func decodeInstructions(b []byte, v Version) ([]Action, error) {
	var meter, apply, clear, write, metadata, next []Action
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("decode instructions: %d stray bytes", len(b))
		}
		typ, n := be16(b), int(be16(b[2:]))
		if n < 8 || n%8 != 0 || n > len(b) {
			return nil, fmt.Errorf("decode instructions: length %d of %d bytes", n, len(b))
		}
		body := b[4:n]
		var err error
		switch typ {
		case insGoto:
			next = []Action{Goto(body[0])}
		case insMeter:
			meter = []Action{Meter(be32(body))}
		case insClear:
			clear = []Action{ClearActions}
		case insApply:
			apply, err = decodeActions(body[4:], v, 0)
		case insWriteActions:
			var list []Action
			list, err = decodeActions(body[4:], v, 0)
			write = []Action{WriteActions{list}}
		case insWriteMetadata:
			if n != 24 {
				return nil, fmt.Errorf("decode instructions: write_metadata of %d bytes", n)
			}
			metadata = []Action{WriteMetadata{be64(body[4:]), be64(body[12:])}}
		default:
			return nil, fmt.Errorf("decode instructions: unknown type %d", typ)
		}
		if err != nil {
			return nil, err
		}
		b = b[n:]
	}
	if meter == nil && clear == nil && write == nil && metadata == nil {
		if next == nil {
			return apply, nil
		}
		if apply == nil {
			return next, nil
		}
	}
	out := append(meter, apply...)
	for _, list := range [][]Action{clear, write, metadata, next} {
		out = append(out, list...)
	}
	return out, nil
}

func decodeActions(b []byte, v Version, depth int) ([]Action, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("decode actions: nested deeper than %d", maxNesting)
	}
	if len(b) == 0 {
		return nil, nil
	}
	n := 0
	for rest := b; len(rest) >= 8 && int(be16(rest[2:])) >= 8 && int(be16(rest[2:])) <= len(rest); rest = rest[be16(rest[2:]):] {
		n++
	}
	out := make([]Action, 0, n)
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("decode actions: %d stray bytes", len(b))
		}
		n := int(be16(b[2:]))
		if n < 8 || n%8 != 0 || n > len(b) {
			return nil, fmt.Errorf("decode actions: length %d of %d bytes", n, len(b))
		}
		a, err := decodeAction(b[:n], v, depth)
		if err != nil {
			return nil, fmt.Errorf("decode actions: %w", err)
		}
		out = append(out, a)
		b = b[n:]
	}
	return out, nil
}

// decodeAction reads one action; what this package cannot express becomes a RawAction.
func decodeAction(b []byte, v Version, depth int) (Action, error) {
	typ, body := be16(b), b[4:]
	switch typ {
	case actOutput:
		if len(b) != 16 {
			return nil, errShort
		}
		if port := be32(body); port == PortController {
			return Controller(be16(body[4:])), nil
		}
		return Output(be32(body)), nil
	case actPushVLAN:
		return PushVLAN(be16(body)), nil
	case actPopVLAN:
		return PopVLAN, nil
	case actPushMPLS:
		return PushMPLS(be16(body)), nil
	case actPopMPLS:
		return PopMPLS(be16(body)), nil
	case actSetNWTTL:
		return SetNWTTL(body[0]), nil
	case actSetMPLSTTL:
		return SetMPLSTTL(body[0]), nil
	case actDecMPLSTTL:
		return DecMPLSTTL, nil
	case actCopyTTLIn:
		return CopyTTLIn, nil
	case actCopyTTLOut:
		return CopyTTLOut, nil
	case actDecTTL:
		return DecTTL, nil
	case actSetQueue:
		return SetQueue(be32(body)), nil
	case actGroup:
		return Group(be32(body)), nil
	case actMeter:
		return Meter(be32(body)), nil
	case actSetField:
		return decodeSetField(b, body)
	case actCopyField:
		if len(b) >= 24 {
			return decodeMove(b, body, body[8:]), nil
		}
	case actExp:
		if len(b) >= 16 && be32(body) == nxVendor {
			return decodeNX(b, v, depth)
		}
	}
	return RawAction{string(b)}, nil
}

func raw(b []byte) Action { return RawAction{string(b)} }

// decodeSetField reads one OXM TLV, with a mask perhaps.
func decodeSetField(b, tlv []byte) (Action, error) {
	if len(tlv) < 4 {
		return nil, errShort
	}
	h := be32(tlv)
	f := fieldOf(uint16(h>>16), uint8(h>>9&0x7f))
	if f == FieldNone {
		return raw(b), nil
	}
	info := &fieldTable[f]
	n := int(info.bytes)
	masked := h&0x100 != 0
	if want := int(h & 0xff); masked && want != 2*n || !masked && want != n || 4+want > len(tlv) {
		return nil, fmt.Errorf("set_field of %s has a wrong length", info.name)
	}
	full := fieldMask(f)
	value, mask := valueOf(tlv[4:4+n]), full
	if masked {
		mask = valueOf(tlv[4+n : 4+2*n]).And(full)
	}
	return SetFieldAction{f, value.And(mask), mask}, nil
}

// subfieldOf makes a Subfield of a header and a range; ok is false when the field is unknown or the range is not in it.
func subfieldOf(header uint32, ofs, n int) (Subfield, bool) {
	f := fieldOf(uint16(header>>16), uint8(header>>9&0x7f))
	if f == FieldNone || n <= 0 || ofs < 0 || ofs+n > f.Bits() {
		return Subfield{}, false
	}
	return Sub(f, ofs, n), true
}

func decodeMove(b, body, headers []byte) Action {
	n := int(be16(body))
	src, ok1 := subfieldOf(be32(headers), int(be16(body[2:])), n)
	dst, ok2 := subfieldOf(be32(headers[4:]), int(be16(body[4:])), n)
	if !ok1 || !ok2 {
		return raw(b)
	}
	return MoveAction{src, dst}
}

func packedSubfield(ofsNBits uint16, header uint32) (Subfield, bool) {
	return subfieldOf(header, int(ofsNBits>>6), int(ofsNBits&0x3f)+1)
}

// nxMinLen is the least length of the Nicira actions that are read below.
var nxMinLen = [64]uint8{
	nxResubmit: 16, nxSetTunnel: 16, nxPopQueue: 16, nxRegMove: 24, nxRegLoad: 24, nxNote: 16, nxSetTunnel64: 24,
	nxResubmitTable: 16, nxOutputReg: 24, nxLearn: 32, nxExit: 16, nxDecTTL: 16, nxFinTimeout: 16, nxController: 16,
	nxDecTTLCntIDs: 24, nxStackPush: 24, nxStackPop: 24, nxRegLoad2: 16, nxConjunction: 16, nxCT: 24, nxNAT: 16,
	nxController2: 16, nxOutputTrunc: 16, nxClone: 16, nxCTClear: 16, nxResubmitTableCT: 16,
}

func decodeNX(b []byte, v Version, depth int) (Action, error) {
	sub := be16(b[8:])
	if int(sub) >= len(nxMinLen) || nxMinLen[sub] == 0 {
		return raw(b), nil
	}
	if len(b) < int(nxMinLen[sub]) {
		return nil, fmt.Errorf("nicira action %d: %w", sub, errShort)
	}
	p := b[10:]
	switch sub {
	case nxResubmit:
		return ResubmitAction{Port: be16(p), Table: 255}, nil
	case nxResubmitTable, nxResubmitTableCT:
		return ResubmitAction{Port: be16(p), Table: p[2], CT: sub == nxResubmitTableCT}, nil
	case nxSetTunnel:
		return SetTunnel(uint64(be32(p[2:]))), nil
	case nxSetTunnel64:
		return SetTunnel(be64(p[6:])), nil
	case nxPopQueue:
		return PopQueue, nil
	case nxExit:
		return Exit, nil
	case nxDecTTL:
		return DecTTL, nil
	case nxCTClear:
		return CTClear, nil
	case nxNote:
		return NoteAction{string(p)}, nil
	case nxFinTimeout:
		return FinTimeout{be16(p), be16(p[2:])}, nil
	case nxController:
		return SendToController{MaxLen: be16(p), ID: be16(p[2:]), Reason: p[4]}, nil
	case nxConjunction:
		return ConjunctionAction{ID: be32(p[2:]), Clause: p[0] + 1, N: p[1]}, nil
	case nxOutputTrunc:
		return OutputTrunc{Port: be16(p), MaxLen: be32(p[2:])}, nil
	case nxRegMove:
		return decodeMove(b, p, p[6:]), nil
	case nxRegLoad:
		if dst, ok := packedSubfield(be16(p), be32(p[2:])); ok {
			return LoadAction{be64(p[6:]), dst}, nil
		}
	case nxRegLoad2:
		return decodeSetField(b, p)
	case nxOutputReg:
		if src, ok := packedSubfield(be16(p), be32(p[2:])); ok {
			return OutputReg{src, be16(p[6:])}, nil
		}
	case nxStackPush, nxStackPop:
		if s, ok := subfieldOf(be32(p[2:]), int(be16(p)), int(be16(p[6:]))); ok {
			return Stack{sub == nxStackPop, s}, nil
		}
	case nxDecTTLCntIDs:
		n := 2 * int(be16(p))
		if n == 0 || 6+n > len(p) {
			return nil, fmt.Errorf("dec_ttl: %w", errShort)
		}
		return DecTTLTo{string(p[6 : 6+n])}, nil
	case nxClone:
		list, err := decodeActions(p[6:], v, depth+1)
		return Clone{list}, err
	case nxController2:
		return decodeController2(b, p[6:])
	case nxNAT:
		return decodeNAT(b, p), nil
	case nxCT:
		return decodeCT(b, p, v, depth)
	case nxLearn:
		return decodeLearn(b, p), nil
	}
	return raw(b), nil
}

func decodeController2(b, p []byte) (Action, error) {
	c := SendToController{MaxLen: 0xffff, Reason: reasonAction}
	for len(p) >= 4 {
		typ, n := be16(p), int(be16(p[2:]))
		if n < 4 || n > len(p) {
			return nil, fmt.Errorf("controller property: %w", errShort)
		}
		body := p[4:n]
		switch {
		case typ == 0 && len(body) >= 2:
			c.MaxLen = be16(body)
		case typ == 1 && len(body) >= 2:
			c.ID = be16(body)
		case typ == 2 && len(body) >= 1:
			c.Reason = body[0]
		case typ == 3:
			c.UserData = string(body)
		case typ == 4:
			c.Pause = true
		case typ == 5 && len(body) >= 4:
			c.MeterID = be32(body)
		default:
			return raw(b), nil
		}
		p = p[min(len(p), n+pad8(n)):]
	}
	return c, nil
}

func decodeCT(b, p []byte, v Version, depth int) (Action, error) {
	flags := be16(p)
	c := CT{Commit: flags&ctCommit != 0, Force: flags&ctForce != 0, ALG: be16(p[12:])}
	if header := be32(p[2:]); header == 0 {
		c.Zone = be16(p[6:])
	} else {
		var ok bool
		if c.ZoneFrom, ok = packedSubfield(be16(p[6:]), header); !ok {
			return raw(b), nil
		}
	}
	if p[8] != ctNoRecirc {
		c.Recirc, c.Table = true, p[8]
	}
	var err error
	c.Exec, err = decodeActions(p[14:], v, depth+1)
	return c, err
}

func decodeNAT(b, p []byte) Action {
	flags, present, body := be16(p[2:]), be16(p[4:]), p[6:]
	n := NAT{Src: flags&natSrc != 0, Dst: flags&natDst != 0, Persistent: flags&natPersistent != 0, Hash: flags&natHash != 0,
		Random: flags&natRandom != 0}
	take := func(dst []byte) bool {
		if len(body) < len(dst) {
			return false
		}
		copy(dst, body)
		body = body[len(dst):]
		return true
	}
	ok := flags&^31 == 0 && present&^63 == 0
	switch {
	case present&natV4Min != 0:
		n.Family, n.HasMaxAddr = NATIPv4, present&natV4Max != 0
		ok = ok && take(n.MinAddr[:4]) && (!n.HasMaxAddr || take(n.MaxAddr[:4])) && present&(natV6Min|natV6Max) == 0
	case present&natV6Min != 0:
		n.Family, n.HasMaxAddr = NATIPv6, present&natV6Max != 0
		ok = ok && take(n.MinAddr[:]) && (!n.HasMaxAddr || take(n.MaxAddr[:])) && present&natV4Max == 0
	default:
		ok = ok && present == 0
	}
	var port [2]byte
	if present&natPortMin != 0 && ok {
		ok = take(port[:])
		n.MinPort = be16(port[:])
	}
	if present&natPortMax != 0 && ok {
		ok = take(port[:]) && present&natPortMin != 0
		n.MaxPort = be16(port[:])
	}
	if !ok {
		return raw(b)
	}
	return n
}

func decodeLearn(b, p []byte) Action {
	flags := be16(p[14:])
	l := Learn{IdleTimeout: be16(p), HardTimeout: be16(p[2:]), Priority: be16(p[4:]), Cookie: be64(p[6:]), Table: p[16],
		FinIdleTimeout: be16(p[18:]), FinHardTimeout: be16(p[20:]), SendFlowRem: flags&learnSendFlowRem != 0,
		DeleteLearned: flags&learnDeleteLearned != 0}
	if flags&^3 != 0 {
		return raw(b)
	}
	for p = p[22:]; len(p) >= 2; {
		h := be16(p)
		if h == 0 {
			break
		}
		spec, rest, ok := decodeLearnSpec(h, p[2:])
		if !ok {
			return raw(b)
		}
		l.Specs = append(l.Specs, spec)
		p = rest
	}
	return l
}

func decodeLearnSpec(h uint16, p []byte) (s LearnSpec, rest []byte, ok bool) {
	n := int(h & 0x7ff)
	s.Kind = LearnKind(h >> 11 & 3)
	if h>>14 != 0 || s.Kind > LearnOutput || n == 0 {
		return s, nil, false
	}
	if h>>13&1 != 0 {
		size, bytes := (n+15)/16*2, (n+7)/8
		if len(p) < size || bytes > 16 || s.Kind == LearnOutput {
			return s, nil, false
		}
		s.Imm = string(p[size-bytes : size])
		p = p[size:]
	} else {
		if len(p) < 6 {
			return s, nil, false
		}
		if s.Src, ok = subfieldOf(be32(p), int(be16(p[4:])), n); !ok {
			return s, nil, false
		}
		p = p[6:]
	}
	if s.Kind != LearnOutput {
		if len(p) < 6 {
			return s, nil, false
		}
		if s.Dst, ok = subfieldOf(be32(p), int(be16(p[4:])), n); !ok {
			return s, nil, false
		}
		p = p[6:]
	}
	return s, p, true
}
