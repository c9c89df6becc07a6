package openflow

import (
	"encoding/hex"
	"net/netip"
)

func actionString(a Action) string {
	var w textWriter
	a.format(&w)
	return string(w.b)
}

// String methods print as ovs-ofctl does.

func (o Output) String() string            { return actionString(o) }
func (c Controller) String() string        { return actionString(c) }
func (g Goto) String() string              { return actionString(g) }
func (g Group) String() string             { return actionString(g) }
func (m Meter) String() string             { return actionString(m) }
func (q SetQueue) String() string          { return actionString(q) }
func (p PushVLAN) String() string          { return actionString(p) }
func (p PushMPLS) String() string          { return actionString(p) }
func (p PopMPLS) String() string           { return actionString(p) }
func (t SetNWTTL) String() string          { return actionString(t) }
func (t SetMPLSTTL) String() string        { return actionString(t) }
func (s Simple) String() string            { return actionString(s) }
func (r ResubmitAction) String() string    { return actionString(r) }
func (a SetFieldAction) String() string    { return actionString(a) }
func (a LoadAction) String() string        { return actionString(a) }
func (a MoveAction) String() string        { return actionString(a) }
func (o OutputReg) String() string         { return actionString(o) }
func (o OutputTrunc) String() string       { return actionString(o) }
func (s Stack) String() string             { return actionString(s) }
func (c SendToController) String() string  { return actionString(c) }
func (c ConjunctionAction) String() string { return actionString(c) }
func (n NoteAction) String() string        { return actionString(n) }
func (m WriteMetadata) String() string     { return actionString(m) }
func (l WriteActions) String() string      { return actionString(l) }
func (c Clone) String() string             { return actionString(c) }
func (f FinTimeout) String() string        { return actionString(f) }
func (d DecTTLTo) String() string          { return actionString(d) }
func (r RawAction) String() string         { return actionString(r) }
func (c CT) String() string                { return actionString(c) }
func (n NAT) String() string               { return actionString(n) }
func (l Learn) String() string             { return actionString(l) }

func (o Output) format(w *textWriter) {
	if uint32(o) < PortMax {
		w.str("output:")
	}
	w.port(uint32(o))
}

func (c Controller) format(w *textWriter) {
	w.str("CONTROLLER:")
	w.dec(uint64(c))
}

func (g Goto) format(w *textWriter) {
	w.str("goto_table:")
	w.table(uint8(g))
}

func (g Group) format(w *textWriter)    { w.str("group:"); w.dec(uint64(g)) }
func (m Meter) format(w *textWriter)    { w.str("meter:"); w.dec(uint64(m)) }
func (q SetQueue) format(w *textWriter) { w.str("set_queue:"); w.dec(uint64(q)) }
func (p PushVLAN) format(w *textWriter) { w.str("push_vlan:"); w.hexPadded(uint64(p), 4) }
func (p PushMPLS) format(w *textWriter) { w.str("push_mpls:"); w.hexPadded(uint64(p), 4) }
func (p PopMPLS) format(w *textWriter)  { w.str("pop_mpls:"); w.hexPadded(uint64(p), 4) }
func (t SetNWTTL) format(w *textWriter) { w.str("mod_nw_ttl:"); w.dec(uint64(t)) }
func (t SetMPLSTTL) format(w *textWriter) {
	w.str("set_mpls_ttl(")
	w.dec(uint64(t))
	w.str(")")
}

var simpleNames = [...]string{PopVLAN: "pop_vlan", DecTTL: "dec_ttl", PopQueue: "pop_queue", Exit: "exit", CTClear: "ct_clear",
	ClearActions: "clear_actions", DecMPLSTTL: "dec_mpls_ttl", CopyTTLOut: "copy_ttl_out", CopyTTLIn: "copy_ttl_in"}

func (s Simple) format(w *textWriter) {
	if int(s) < len(simpleNames) && s != 0 {
		w.str(simpleNames[s])
		return
	}
	w.str("simple(")
	w.dec(uint64(s))
	w.str(")")
}

func (r ResubmitAction) format(w *textWriter) {
	if r.Port != portInPort16 && r.Table == 255 && !r.CT {
		w.str("resubmit:")
		w.port16(r.Port)
		return
	}
	w.str("resubmit(")
	if r.Port != portInPort16 {
		w.port16(r.Port)
	}
	w.str(",")
	if r.Table != 255 {
		w.table(r.Table)
	}
	if r.CT {
		w.str(",ct")
	}
	w.str(")")
}

func (w *textWriter) subfield(s Subfield) {
	w.str(s.Field.NXName())
	w.str("[")
	switch {
	case s == Whole(s.Field):
	case s.Bits == 1:
		w.dec(uint64(s.Ofs))
	default:
		w.dec(uint64(s.Ofs))
		w.str("..")
		w.dec(uint64(s.Ofs) + uint64(s.Bits) - 1)
	}
	w.str("]")
}

func (a SetFieldAction) format(w *textWriter) {
	w.str("set_field:")
	if a.Field.known() {
		w.fieldValue(a.Field, a.Value, a.Mask)
	} else {
		w.hexValue(a.Value)
	}
	w.str("->")
	w.str(a.Field.String())
}

func (a LoadAction) format(w *textWriter) {
	w.str("load:")
	w.hex(a.Value)
	w.str("->")
	w.subfield(a.Dst)
}

func (a MoveAction) format(w *textWriter) {
	w.str("move:")
	w.subfield(a.Src)
	w.str("->")
	w.subfield(a.Dst)
}

func (o OutputReg) format(w *textWriter) {
	w.str("output:")
	w.subfield(o.Src)
}

func (o OutputTrunc) format(w *textWriter) {
	w.str("output(port=")
	w.port16(o.Port)
	w.str(",max_len=")
	w.dec(uint64(o.MaxLen))
	w.str(")")
}

func (s Stack) format(w *textWriter) {
	if s.Pop {
		w.str("pop:")
	} else {
		w.str("push:")
	}
	w.subfield(s.Field)
}

var reasonNames = [...]string{"no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"}

func (c SendToController) format(w *textWriter) {
	if c.Reason == reasonAction && c.ID == 0 && c.UserData == "" && !c.Pause && c.MeterID == 0 {
		w.str("CONTROLLER:")
		w.dec(uint64(c.MaxLen))
		return
	}
	w.str("controller(")
	if c.Reason != reasonAction {
		w.str("reason=")
		if int(c.Reason) < len(reasonNames) {
			w.str(reasonNames[c.Reason])
		} else {
			w.dec(uint64(c.Reason))
		}
		w.str(",")
	}
	if c.MaxLen != 0xffff {
		w.str("max_len=")
		w.dec(uint64(c.MaxLen))
		w.str(",")
	}
	if c.ID != 0 {
		w.str("id=")
		w.dec(uint64(c.ID))
		w.str(",")
	}
	if c.UserData != "" {
		w.str("userdata=")
		w.bytes(c.UserData)
		w.str(",")
	}
	if c.Pause {
		w.str("pause,")
	}
	if c.MeterID != 0 {
		w.str("meter_id=")
		w.dec(uint64(c.MeterID))
		w.str(",")
	}
	w.chomp(',')
	w.str(")")
}

// bytes prints pairs of hexadecimal digits with dots.
func (w *textWriter) bytes(s string) {
	for i := range len(s) {
		if i > 0 {
			w.str(".")
		}
		w.b = hex.AppendEncode(w.b, []byte{s[i]})
	}
}

func (c ConjunctionAction) format(w *textWriter) {
	w.str("conjunction(")
	w.dec(uint64(c.ID))
	w.str(",")
	w.dec(uint64(c.Clause))
	w.str("/")
	w.dec(uint64(c.N))
	w.str(")")
}

func (n NoteAction) format(w *textWriter) {
	w.str("note:")
	w.bytes(n.Data)
}

func (m WriteMetadata) format(w *textWriter) {
	w.str("write_metadata:")
	w.hex(m.Value)
	if m.Mask != ^uint64(0) {
		w.str("/")
		w.hex(m.Mask)
	}
}

func (w *textWriter) nested(name string, list []Action) {
	w.str(name)
	w.str("(")
	if len(list) > 0 {
		w.actions(list)
	} else if name == "write_actions" {
		w.str("drop")
	}
	w.str(")")
}

func (l WriteActions) format(w *textWriter) { w.nested("write_actions", l.Actions) }
func (c Clone) format(w *textWriter)        { w.nested("clone", c.Actions) }

func (f FinTimeout) format(w *textWriter) {
	w.str("fin_timeout(")
	if f.Idle != 0 {
		w.str("idle_timeout=")
		w.dec(uint64(f.Idle))
		w.str(",")
	}
	if f.Hard != 0 {
		w.str("hard_timeout=")
		w.dec(uint64(f.Hard))
	}
	w.chomp(',')
	w.str(")")
}

func (d DecTTLTo) format(w *textWriter) {
	w.str("dec_ttl(")
	for i := 0; i+1 < len(d.Controllers); i += 2 {
		if i > 0 {
			w.str(",")
		}
		w.dec(uint64(d.Controllers[i])<<8 | uint64(d.Controllers[i+1]))
	}
	w.str(")")
}

func (r RawAction) format(w *textWriter) {
	w.str("raw(")
	w.b = hex.AppendEncode(w.b, []byte(r.Wire))
	w.str(")")
}

func (c CT) format(w *textWriter) {
	w.str("ct(")
	if c.Commit {
		w.str("commit,")
	}
	if c.Force {
		w.str("force,")
	}
	if c.Recirc {
		w.str("table=")
		w.table(c.Table)
		w.str(",")
	}
	if c.ZoneFrom.Field != FieldNone {
		w.str("zone=")
		w.subfield(c.ZoneFrom)
		w.str(",")
	} else if c.Zone != 0 {
		w.str("zone=")
		w.dec(uint64(c.Zone))
		w.str(",")
	}
	exec := c.Exec
	if len(exec) > 0 {
		if nat, ok := exec[0].(NAT); ok {
			nat.format(w)
			w.str(",")
			exec = exec[1:]
		}
	}
	if len(exec) > 0 {
		w.nested("exec", exec)
		w.str(",")
	}
	switch c.ALG {
	case 0:
	case algFTP:
		w.str("alg=ftp,")
	case algTFTP:
		w.str("alg=tftp,")
	default:
		w.str("alg=")
		w.dec(uint64(c.ALG))
		w.str(",")
	}
	w.chomp(',')
	w.str(")")
}

const (
	algFTP  = 21
	algTFTP = 69
)

func (n NAT) format(w *textWriter) {
	w.str("nat")
	if !n.Src && !n.Dst {
		return
	}
	w.str("(src")
	if n.Dst {
		w.b = append(w.b[:len(w.b)-3], "dst"...)
	}
	if n.Family != NATNoAddr {
		w.str("=")
		w.natAddr(n.Family, n.MinAddr, n.MinPort != 0)
		if n.HasMaxAddr {
			w.str("-")
			w.natAddr(n.Family, n.MaxAddr, n.MinPort != 0)
		}
		if n.MinPort != 0 {
			w.str(":")
			w.dec(uint64(n.MinPort))
			if n.MaxPort != 0 {
				w.str("-")
				w.dec(uint64(n.MaxPort))
			}
		}
	}
	for _, f := range [...]struct {
		on   bool
		name string
	}{{n.Persistent, ",persistent"}, {n.Hash, ",hash"}, {n.Random, ",random"}} {
		if f.on {
			w.str(f.name)
		}
	}
	w.str(")")
}

func (w *textWriter) natAddr(family NATFamily, a [16]byte, ports bool) {
	if family == NATIPv4 {
		w.b = netip.AddrFrom4([4]byte(a[:4])).AppendTo(w.b)
		return
	}
	if ports {
		w.str("[")
	}
	w.b = appendIPv6(w.b, valueOf(a[:]))
	if ports {
		w.str("]")
	}
}

func (l Learn) format(w *textWriter) {
	w.str("learn(table=")
	w.table(l.Table)
	for _, t := range [...]struct {
		name string
		v    uint16
	}{{",idle_timeout=", l.IdleTimeout}, {",hard_timeout=", l.HardTimeout}, {",fin_idle_timeout=", l.FinIdleTimeout},
		{",fin_hard_timeout=", l.FinHardTimeout}} {
		if t.v != 0 {
			w.str(t.name)
			w.dec(uint64(t.v))
		}
	}
	if l.Priority != DefaultPriority {
		w.str(",priority=")
		w.dec(uint64(l.Priority))
	}
	if l.SendFlowRem {
		w.str(",send_flow_rem")
	}
	if l.DeleteLearned {
		w.str(",delete_learned")
	}
	if l.Cookie != 0 {
		w.str(",cookie=")
		w.hex(l.Cookie)
	}
	for i := range l.Specs {
		w.str(",")
		w.learnSpec(&l.Specs[i])
	}
	w.str(")")
}

func (w *textWriter) learnSpec(s *LearnSpec) {
	imm := s.Src.Field == FieldNone
	switch s.Kind {
	case LearnOutput:
		w.str("output:")
		w.subfield(s.Src)
	case LearnLoad:
		w.str("load:")
		if imm {
			w.hexValue(valueOf([]byte(s.Imm)))
		} else {
			w.subfield(s.Src)
		}
		w.str("->")
		w.subfield(s.Dst)
	default:
		switch {
		case imm && s.Dst == Whole(s.Dst.Field) && s.Dst.Field.known():
			w.str(s.Dst.Field.String())
			w.str("=")
			w.fieldValue(s.Dst.Field, valueOf([]byte(s.Imm)), fieldMask(s.Dst.Field))
		case imm:
			w.subfield(s.Dst)
			w.str("=")
			w.hexValue(valueOf([]byte(s.Imm)))
		default:
			w.subfield(s.Dst)
			if s.Src.Field != s.Dst.Field || s.Src.Ofs != s.Dst.Ofs {
				w.str("=")
				w.subfield(s.Src)
			}
		}
	}
}
