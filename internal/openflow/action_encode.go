package openflow

import "fmt"

// Action types (OFPAT) and Nicira subtypes (NXAST), as Open vSwitch numbers them.
const (
	actOutput     = 0
	actCopyTTLOut = 11
	actCopyTTLIn  = 12
	actSetMPLSTTL = 15
	actDecMPLSTTL = 16
	actPushVLAN   = 17
	actPopVLAN    = 18
	actPushMPLS   = 19
	actPopMPLS    = 20
	actSetQueue   = 21
	actGroup      = 22
	actSetNWTTL   = 23
	actDecTTL     = 24
	actSetField   = 25
	actCopyField  = 28 // 1.5
	actMeter      = 29 // 1.5
	actExp        = 0xffff

	nxVendor = 0x00002320

	nxResubmit        = 1
	nxSetTunnel       = 2
	nxPopQueue        = 5
	nxRegMove         = 6
	nxRegLoad         = 7
	nxNote            = 8
	nxSetTunnel64     = 9
	nxResubmitTable   = 14
	nxOutputReg       = 15
	nxLearn           = 16
	nxExit            = 17
	nxDecTTL          = 18
	nxFinTimeout      = 19
	nxController      = 20
	nxDecTTLCntIDs    = 21
	nxStackPush       = 27
	nxStackPop        = 28
	nxRegLoad2        = 33
	nxConjunction     = 34
	nxCT              = 35
	nxNAT             = 36
	nxController2     = 37
	nxOutputTrunc     = 39
	nxClone           = 42
	nxCTClear         = 43
	nxResubmitTableCT = 44
)

// Instruction types (OFPIT).
const (
	insGoto          = 1
	insWriteMetadata = 2
	insWriteActions  = 3
	insApply         = 4
	insClear         = 5
	insMeter         = 6
)

// maxActionsLen keeps the actions of one flow within one message.
const maxActionsLen = 60000

// appendInstructions appends the instructions that do what the actions say.
func appendInstructions(b []byte, actions []Action, v Version) ([]byte, error) {
	base := len(b)
	i := 0
	if len(actions) > 0 && v < V15 {
		if m, ok := actions[0].(Meter); ok {
			b = put32(put16(put16(b, insMeter), 8), uint32(m))
			i = 1
		}
	}
	end := i
	for end < len(actions) && !isInstruction(actions[end]) {
		end++
	}
	var err error
	if end > i {
		start := len(b)
		b = append(b, 0, insApply, 0, 0, 0, 0, 0, 0)
		if b, err = appendActions(b, actions[i:end], v); err != nil {
			return b, err
		}
		if b, err = closeTLV(b, start); err != nil {
			return b, err
		}
	}
	rank := 0
	for _, a := range actions[end:] {
		r := instructionRank(a)
		if r <= rank {
			return b, fmt.Errorf("encode actions: %s cannot come here: instructions follow the actions, once each, in the order clear_actions, write_actions, write_metadata, goto_table", a)
		}
		rank = r
		if b, err = appendInstruction(b, a, v); err != nil {
			return b, err
		}
	}
	if len(b)-base > maxActionsLen {
		return b, fmt.Errorf("encode actions: %d bytes are too long for a message", len(b)-base)
	}
	return b, nil
}

func isInstruction(a Action) bool { return instructionRank(a) > 0 }

// instructionRank is the place of an instruction behind the actions, 0 for an action.
func instructionRank(a Action) int {
	switch x := a.(type) {
	case Simple:
		if x == ClearActions {
			return 1
		}
	case WriteActions:
		return 2
	case WriteMetadata:
		return 3
	case Goto:
		return 4
	}
	return 0
}

func appendInstruction(b []byte, a Action, v Version) ([]byte, error) {
	switch x := a.(type) {
	case WriteActions:
		start := len(b)
		b = append(b, 0, insWriteActions, 0, 0, 0, 0, 0, 0)
		b, err := appendActions(b, x.Actions, v)
		if err != nil {
			return b, err
		}
		return closeTLV(b, start)
	case WriteMetadata:
		b = append(b, 0, insWriteMetadata, 0, 24, 0, 0, 0, 0)
		return put64(put64(b, x.Value), x.Mask), nil
	case Goto:
		if x == Goto(AllTables) {
			return b, fmt.Errorf("encode actions: no table %d to go to", x)
		}
		return append(b, 0, insGoto, 0, 8, byte(x), 0, 0, 0), nil
	}
	return append(b, 0, insClear, 0, 8, 0, 0, 0, 0), nil // the only Simple with a rank
}

// closeTLV pads what starts at start to 8 bytes and writes its length, which counts the padding.
func closeTLV(b []byte, start int) ([]byte, error) {
	b = appendZeros(b, pad8(len(b)-start))
	n := len(b) - start
	if n > 0xfff8 {
		return b, fmt.Errorf("encode actions: %d bytes are too long", n)
	}
	b[start+2], b[start+3] = byte(n>>8), byte(n)
	return b, nil
}

func appendActions(b []byte, actions []Action, v Version) ([]byte, error) {
	var err error
	for _, a := range actions {
		if a == nil {
			return b, fmt.Errorf("encode actions: nil action")
		}
		if b, err = a.encode(b, v); err != nil {
			return b, fmt.Errorf("encode actions: %w", err)
		}
	}
	return b, nil
}

// nx starts a Nicira action; closeTLV ends it.
func nx(b []byte, subtype uint16) []byte {
	b = append(b, 0xff, 0xff, 0, 0)
	return put16(put32(b, nxVendor), subtype)
}

func (o Output) encode(b []byte, _ Version) ([]byte, error) {
	port := uint32(o)
	if port == 0 || port == PortController || port > PortMax && port < PortUnset || port == PortAny {
		return b, fmt.Errorf("no output to port %#x", port)
	}
	b = put32(append(b, 0, actOutput, 0, 16), port)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0), nil
}

func (c Controller) encode(b []byte, _ Version) ([]byte, error) {
	b = put32(append(b, 0, actOutput, 0, 16), PortController)
	return append(put16(b, uint16(c)), 0, 0, 0, 0, 0, 0), nil
}

func misplaced(a Action) error { return fmt.Errorf("%s cannot come here", a) }

func (g Goto) encode(b []byte, _ Version) ([]byte, error)          { return b, misplaced(g) }
func (w WriteMetadata) encode(b []byte, _ Version) ([]byte, error) { return b, misplaced(w) }
func (w WriteActions) encode(b []byte, _ Version) ([]byte, error)  { return b, misplaced(w) }

func (m Meter) encode(b []byte, v Version) ([]byte, error) {
	if v < V15 {
		return b, misplaced(m)
	}
	return put32(append(b, 0, actMeter, 0, 8), uint32(m)), nil
}

func (g Group) encode(b []byte, _ Version) ([]byte, error) {
	return put32(append(b, 0, actGroup, 0, 8), uint32(g)), nil
}

func (q SetQueue) encode(b []byte, _ Version) ([]byte, error) {
	return put32(append(b, 0, actSetQueue, 0, 8), uint32(q)), nil
}

func (p PushVLAN) encode(b []byte, _ Version) ([]byte, error) {
	if p != 0x8100 && p != 0x88a8 {
		return b, fmt.Errorf("push_vlan:%#x is no VLAN type", uint16(p))
	}
	return append(b, 0, actPushVLAN, 0, 8, byte(p>>8), byte(p), 0, 0), nil
}

func (p PushMPLS) encode(b []byte, _ Version) ([]byte, error) {
	return append(b, 0, actPushMPLS, 0, 8, byte(p>>8), byte(p), 0, 0), nil
}

func (p PopMPLS) encode(b []byte, _ Version) ([]byte, error) {
	return append(b, 0, actPopMPLS, 0, 8, byte(p>>8), byte(p), 0, 0), nil
}

func (t SetMPLSTTL) encode(b []byte, _ Version) ([]byte, error) {
	return append(b, 0, actSetMPLSTTL, 0, 8, byte(t), 0, 0, 0), nil
}

func (t SetNWTTL) encode(b []byte, _ Version) ([]byte, error) {
	return append(b, 0, actSetNWTTL, 0, 8, byte(t), 0, 0, 0), nil
}

func (s Simple) encode(b []byte, _ Version) ([]byte, error) {
	std := byte(0)
	sub := uint16(0)
	switch s {
	case PopVLAN:
		std = actPopVLAN
	case DecTTL:
		std = actDecTTL
	case DecMPLSTTL:
		std = actDecMPLSTTL
	case CopyTTLOut:
		std = actCopyTTLOut
	case CopyTTLIn:
		std = actCopyTTLIn
	case PopQueue:
		sub = nxPopQueue
	case Exit:
		sub = nxExit
	case CTClear:
		sub = nxCTClear
	default:
		return b, misplaced(s)
	}
	if std != 0 {
		return append(b, 0, std, 0, 8, 0, 0, 0, 0), nil
	}
	start := len(b)
	return closeTLV(nx(b, sub), start)
}

func (r ResubmitAction) encode(b []byte, _ Version) ([]byte, error) {
	start, sub := len(b), uint16(nxResubmitTable)
	if r.CT {
		sub = nxResubmitTableCT
	}
	b = append(put16(nx(b, sub), r.Port), r.Table, 0, 0, 0)
	return closeTLV(b, start)
}

func (a SetFieldAction) encode(b []byte, v Version) ([]byte, error) {
	if !a.Field.Writable() {
		return b, fmt.Errorf("%s is not writable", a.Field)
	}
	full := fieldMask(a.Field)
	if a.Mask.IsZero() || !a.Mask.AndNot(full).IsZero() || !a.Value.AndNot(a.Mask).IsZero() {
		return b, fmt.Errorf("set_field has a value or mask that %s cannot hold", a.Field)
	}
	exact := a.Mask == full
	if !exact && !a.Field.Maskable() {
		return b, fmt.Errorf("%s cannot be masked", a.Field)
	}
	start := len(b)
	// Only OpenFlow 1.5 lets set_field have a mask; before, the Nicira action says the same.
	if exact || v >= V15 {
		b = append(b, 0, actSetField, 0, 0)
	} else {
		b = nx(b, nxRegLoad2) // the TLV follows at once, unaligned
	}
	info := &fieldTable[a.Field]
	b = put32(b, info.header(!exact))
	b = a.Value.appendBytes(b, int(info.bytes))
	if !exact {
		b = a.Mask.appendBytes(b, int(info.bytes))
	}
	return closeTLV(b, start)
}

// ofsNBits is how Nicira actions write a run of bits.
func ofsNBits(s Subfield) uint16 { return uint16(s.Ofs)<<6 | uint16(s.Bits-1) }

func (s Subfield) header() uint32 { return fieldTable[s.Field].header(false) }

func checkSubfield(s Subfield, write bool) error {
	if !s.valid() {
		return fmt.Errorf("%s[%d..%d] does not exist", s.Field, s.Ofs, int(s.Ofs)+int(s.Bits)-1)
	}
	if write && !s.Field.Writable() {
		return fmt.Errorf("%s is not writable", s.Field)
	}
	return nil
}

func (a LoadAction) encode(b []byte, v Version) ([]byte, error) {
	if err := checkSubfield(a.Dst, true); err != nil {
		return b, err
	}
	if a.Dst.Bits > 64 || !U64(a.Value).AndNot(Ones(int(a.Dst.Bits))).IsZero() {
		return b, fmt.Errorf("load:%#x does not fit in %d bits", a.Value, a.Dst.Bits)
	}
	if v >= V15 { // OpenFlow 1.5 has set_field with a mask in place of load
		mask := Ones(int(a.Dst.Bits)).Shl(int(a.Dst.Ofs))
		return SetFieldAction{a.Dst.Field, U64(a.Value).Shl(int(a.Dst.Ofs)), mask}.encode(b, v)
	}
	start := len(b)
	b = put64(put32(put16(nx(b, nxRegLoad), ofsNBits(a.Dst)), a.Dst.header()), a.Value)
	return closeTLV(b, start)
}

func (a MoveAction) encode(b []byte, v Version) ([]byte, error) {
	if err := checkSubfield(a.Src, false); err != nil {
		return b, err
	}
	if err := checkSubfield(a.Dst, true); err != nil {
		return b, err
	}
	if a.Src.Bits != a.Dst.Bits {
		return b, fmt.Errorf("move of %d bits to %d", a.Src.Bits, a.Dst.Bits)
	}
	start := len(b)
	if v >= V15 {
		b = append(b, 0, actCopyField, 0, 0)
		b = put16(put16(put16(b, uint16(a.Src.Bits)), uint16(a.Src.Ofs)), uint16(a.Dst.Ofs))
		b = append(b, 0, 0)
	} else {
		b = put16(put16(put16(nx(b, nxRegMove), uint16(a.Src.Bits)), uint16(a.Src.Ofs)), uint16(a.Dst.Ofs))
	}
	b = put32(put32(b, a.Src.header()), a.Dst.header())
	return closeTLV(b, start)
}

func (o OutputReg) encode(b []byte, _ Version) ([]byte, error) {
	if err := checkSubfield(o.Src, false); err != nil {
		return b, err
	}
	start := len(b)
	b = put16(put32(put16(nx(b, nxOutputReg), ofsNBits(o.Src)), o.Src.header()), o.MaxLen)
	return closeTLV(b, start)
}

func (o OutputTrunc) encode(b []byte, _ Version) ([]byte, error) {
	start := len(b)
	return closeTLV(put32(put16(nx(b, nxOutputTrunc), o.Port), o.MaxLen), start)
}

func (s Stack) encode(b []byte, _ Version) ([]byte, error) {
	if err := checkSubfield(s.Field, s.Pop); err != nil {
		return b, err
	}
	start, sub := len(b), uint16(nxStackPush)
	if s.Pop {
		sub = nxStackPop
	}
	b = put16(put32(put16(nx(b, sub), uint16(s.Field.Ofs)), s.Field.header()), uint16(s.Field.Bits))
	return closeTLV(b, start)
}

func (c SendToController) encode(b []byte, _ Version) ([]byte, error) {
	start := len(b)
	if c.UserData == "" && !c.Pause && c.MeterID == 0 {
		b = put16(put16(nx(b, nxController), c.MaxLen), c.ID)
		return closeTLV(append(b, c.Reason, 0), start)
	}
	b = appendZeros(nx(b, nxController2), 6)
	if c.MaxLen != 0xffff {
		b = append(put16(append(b, 0, 0, 0, 6), c.MaxLen), 0, 0)
	}
	if c.ID != 0 {
		b = append(put16(append(b, 0, 1, 0, 6), c.ID), 0, 0)
	}
	if c.Reason != reasonAction {
		b = append(b, 0, 2, 0, 5, c.Reason, 0, 0, 0)
	}
	if n := 4 + len(c.UserData); n > 4 {
		if n > 0xf000 {
			return b, fmt.Errorf("controller: %d bytes of userdata are too long", n)
		}
		b = append(put16(append(b, 0, 3), uint16(n)), c.UserData...)
		b = appendZeros(b, pad8(n))
	}
	if c.Pause {
		b = append(b, 0, 4, 0, 4, 0, 0, 0, 0)
	}
	if c.MeterID != 0 {
		b = put32(append(b, 0, 5, 0, 8), c.MeterID)
	}
	return closeTLV(b, start)
}

const reasonAction = 1

func (c ConjunctionAction) encode(b []byte, _ Version) ([]byte, error) {
	if c.N < 2 || c.N > 64 || c.Clause < 1 || c.Clause > c.N {
		return b, fmt.Errorf("%s: clause must be 1 to n, n 2 to 64", c)
	}
	start := len(b)
	return closeTLV(put32(append(nx(b, nxConjunction), c.Clause-1, c.N), c.ID), start)
}

func (n NoteAction) encode(b []byte, _ Version) ([]byte, error) {
	if len(n.Data) < 6 || (len(n.Data)-6)%8 != 0 {
		return b, fmt.Errorf("note of %d bytes; make it with Note", len(n.Data))
	}
	start := len(b)
	return closeTLV(append(nx(b, nxNote), n.Data...), start)
}

func (f FinTimeout) encode(b []byte, _ Version) ([]byte, error) {
	start := len(b)
	return closeTLV(put16(put16(nx(b, nxFinTimeout), f.Idle), f.Hard), start)
}

func (d DecTTLTo) encode(b []byte, _ Version) ([]byte, error) {
	if len(d.Controllers) == 0 || len(d.Controllers)%2 != 0 {
		return b, fmt.Errorf("dec_ttl has %d bytes of controller ids", len(d.Controllers))
	}
	start := len(b)
	b = appendZeros(put16(nx(b, nxDecTTLCntIDs), uint16(len(d.Controllers)/2)), 4)
	return closeTLV(append(b, d.Controllers...), start)
}

func (c Clone) encode(b []byte, v Version) ([]byte, error) {
	start := len(b)
	b, err := appendActions(appendZeros(nx(b, nxClone), 6), c.Actions, v)
	if err != nil {
		return b, err
	}
	return closeTLV(b, start)
}

func (r RawAction) encode(b []byte, _ Version) ([]byte, error) {
	if n := len(r.Wire); n < 8 || n%8 != 0 || n > 0xfff8 || int(r.Wire[2])<<8|int(r.Wire[3]) != n {
		return b, fmt.Errorf("raw action of %d bytes is malformed", n)
	}
	return append(b, r.Wire...), nil
}
