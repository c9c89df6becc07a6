package openflow

// Action is one step of what a flow does to its packets; instructions (goto_table, meter, write_metadata …) count as actions, as
// they do in the text form.  A flow without actions drops.
//
// Actions are values: those without slices compare with ==, all compare with ActionsEqual.
type Action interface {
	// String prints the action as ovs-ofctl does.
	String() string
	format(p *textWriter)
	encode(b []byte, v Version) ([]byte, error)
}

// Reserved port numbers, OpenFlow 1.1 and later (32 bits).
const (
	PortMax        uint32 = 0xffffff00
	PortUnset      uint32 = 0xfffffff7
	PortInPort     uint32 = 0xfffffff8
	PortTable      uint32 = 0xfffffff9
	PortNormal     uint32 = 0xfffffffa
	PortFlood      uint32 = 0xfffffffb
	PortAll        uint32 = 0xfffffffc
	PortController uint32 = 0xfffffffd
	PortLocal      uint32 = 0xfffffffe
	PortAny        uint32 = 0xffffffff
)

// Output sends the packet to a port.  To the controller goes Controller, not Output.
type Output uint32

// Outputs to reserved ports.
const (
	Normal    = Output(PortNormal) // the switch's own learning bridge
	Flood     = Output(PortFlood)
	All       = Output(PortAll)
	Local     = Output(PortLocal)
	OutInPort = Output(PortInPort) // back to where it came from
	OutTable  = Output(PortTable)  // packet-out only: through the flow table
)

// Controller sends at most so many bytes of the packet to the controllers; 65535 means all of it.
type Controller uint16

// Goto goes on in a later table.  It must be the last action.
type Goto uint8

// Group runs a group.
type Group uint32

// Meter sends the packet through a meter.  It must be the first action below OpenFlow 1.5.
type Meter uint32

// SetQueue chooses the queue for later outputs; PopQueue takes that back.
type SetQueue uint32

// PushVLAN adds a VLAN tag of an Ethernet type, 0x8100 or 0x88a8, with id 0.
type PushVLAN uint16

// PushMPLS adds a label stack entry of an Ethernet type, 0x8847 or 0x8848.
type PushMPLS uint16

// PopMPLS removes a label stack entry; the argument is the Ethernet type of what follows.
type PopMPLS uint16

// SetNWTTL sets the TTL or hop limit of an IP packet (mod_nw_ttl).
type SetNWTTL uint8

// SetMPLSTTL sets the TTL of the outer label.
type SetMPLSTTL uint8

// Simple is an action without arguments.
type Simple uint8

// The actions without arguments.
const (
	PopVLAN      Simple = iota + 1
	DecTTL              // to the controllers when it reaches zero
	PopQueue            // back to the default queue
	Exit                // no further actions, not even those of the tables that resubmitted here
	CTClear             // forget connection state that ct() attached
	ClearActions        // empty the action set
	DecMPLSTTL
	CopyTTLOut
	CopyTTLIn
)

// ResubmitAction looks the packet up again, in Table, as if it came from Port, and then goes on here.  Port is 16 bits wide on the
// wire (0xfff8: the port it came from); Table 255 is the current one.  CT looks up with the original direction tuple.
type ResubmitAction struct {
	Port  uint16
	Table uint8
	CT    bool
}

// Resubmit looks up in a table as if the packet came from port; port 0xfff8 keeps its port.
func Resubmit(port uint16, table uint8) Action { return ResubmitAction{Port: port, Table: table} }

// ResubmitTable is resubmit(,table).
func ResubmitTable(table uint8) Action { return ResubmitAction{Port: portInPort16, Table: table} }

const portInPort16 = 0xfff8

// Subfield is a run of bits of a field: Bits of them from bit Ofs up.
type Subfield struct {
	Field     Field
	Ofs, Bits uint8
}

// Whole is all of a field.
func Whole(f Field) Subfield { return Subfield{Field: f, Bits: uint8(f.Bits())} }

// Sub is bits ofs..ofs+n-1 of a field, as NAME[ofs..ofs+n-1] writes.
func Sub(f Field, ofs, n int) Subfield { return Subfield{f, uint8(ofs), uint8(n)} }

func (s Subfield) valid() bool {
	return s.Field.known() && s.Bits > 0 && int(s.Ofs)+int(s.Bits) <= s.Field.Bits()
}

// SetFieldAction writes Value where Mask has ones.
type SetFieldAction struct {
	Field       Field
	Value, Mask Value
}

// SetField writes a whole field.
func SetField(f Field, v Value) Action {
	return SetFieldAction{f, v, fieldMask(f)}
}

// SetFieldMasked writes some bits of a field.
func SetFieldMasked(f Field, v, mask Value) Action { return SetFieldAction{f, v.And(mask), mask} }

func fieldMask(f Field) Value {
	if !f.known() {
		return Value{}
	}
	return Ones(int(fieldTable[f].wireBits))
}

// LoadAction writes an integer of at most 64 bits into a run of bits; it prints as load:VALUE->NAME[].
type LoadAction struct {
	Value uint64
	Dst   Subfield
}

// Load writes v into n bits of f from bit ofs up.
func Load(v uint64, f Field, ofs, n int) Action { return LoadAction{v, Sub(f, ofs, n)} }

// MoveAction copies bits; both runs have the same length.
type MoveAction struct{ Src, Dst Subfield }

// Move copies src to dst.
func Move(src, dst Subfield) Action { return MoveAction{src, dst} }

// MoveField copies one whole field to another of the same width.
func MoveField(src, dst Field) Action { return MoveAction{Whole(src), Whole(dst)} }

// OutputReg sends the packet to the port whose number is in Src; MaxLen bounds what a controller gets of it.
type OutputReg struct {
	Src    Subfield
	MaxLen uint16
}

// OutputTrunc sends the first MaxLen bytes of the packet to a port.
type OutputTrunc struct {
	Port   uint16
	MaxLen uint32
}

// Stack pushes bits to, or pops them from, a stack that lives as long as the packet's way through the tables.
type Stack struct {
	Pop   bool
	Field Subfield
}

// SendToController is the long form of Controller.  Pause stops the packet until the controller resumes it.
type SendToController struct {
	MaxLen   uint16
	Reason   uint8 // PacketIn reason; 1 is "action"
	ID       uint16
	UserData string
	Pause    bool
	MeterID  uint32
}

// ConjunctionAction marks clause Clause (1 to N) of conjunction ID as true for this packet.
type ConjunctionAction struct {
	ID        uint32
	Clause, N uint8
}

// Conjunction is conjunction(id, clause/n); clause counts from 1, n is 2 to 64.
func Conjunction(id uint32, clause, n uint8) Action { return ConjunctionAction{id, clause, n} }

// NoteAction does nothing; Data stays with the flow.  Its length is 6 + 8·k.
type NoteAction struct{ Data string }

// Note keeps data with the flow, zero-padded to the lengths that the wire has (6, 14, 22 …).
func Note(data string) Action {
	b := []byte(data)
	for len(b) < 6 || (len(b)-6)%8 != 0 {
		b = append(b, 0)
	}
	return NoteAction{string(b)}
}

// WriteMetadata sets bits of metadata for later tables.
type WriteMetadata struct{ Value, Mask uint64 }

// WriteActions merges actions into the action set.
type WriteActions struct{ Actions []Action }

// Clone runs actions on a copy of the packet.
type Clone struct{ Actions []Action }

// FinTimeout shortens the flow's timeouts, in seconds, when a TCP FIN or RST passes.
type FinTimeout struct{ Idle, Hard uint16 }

// DecTTLTo decrements the TTL and tells only the listed controllers when it reaches zero.
type DecTTLTo struct{ Controllers string } // big-endian uint16 each

// RawAction is an action that this package does not know, as it is on the wire, header included.
type RawAction struct{ Wire string }

// CT sends the packet through the connection tracker.
type CT struct {
	Commit, Force bool
	Zone          uint16   // used when ZoneFrom.Field is FieldNone
	ZoneFrom      Subfield // 16 bits
	Recirc        bool     // continue in Table with the connection's state known
	Table         uint8
	ALG           uint16   // 21 for FTP, 69 for TFTP
	Exec          []Action // on the connection: NAT first, then set_field, load, move of ct_mark and ct_label
}

// NAT translates inside CT.Exec; without Src and Dst it applies what the connection has.
type NAT struct {
	Src, Dst                 bool
	Persistent, Hash, Random bool
	MinAddr, MaxAddr         [16]byte // used when Family says so
	Family                   NATFamily
	HasMaxAddr               bool
	MinPort, MaxPort         uint16 // 0: none
}

// NATFamily tells which address range a NAT has.
type NATFamily uint8

// Address ranges of NAT.
const (
	NATNoAddr NATFamily = iota
	NATIPv4
	NATIPv6
)

// ActionsEqual compares lists of actions.
func ActionsEqual(a, b []Action) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !actionEqual(a[i], b[i]) {
			return false
		}
	}
	return true
}

func actionEqual(a, b Action) bool {
	switch x := a.(type) {
	case Learn:
		y, ok := b.(Learn)
		return ok && x.equal(y)
	case CT:
		y, ok := b.(CT)
		if !ok || !ActionsEqual(x.Exec, y.Exec) {
			return false
		}
		return x.Commit == y.Commit && x.Force == y.Force && x.Zone == y.Zone && x.ZoneFrom == y.ZoneFrom &&
			x.Recirc == y.Recirc && x.Table == y.Table && x.ALG == y.ALG
	case WriteActions:
		y, ok := b.(WriteActions)
		return ok && ActionsEqual(x.Actions, y.Actions)
	case Clone:
		y, ok := b.(Clone)
		return ok && ActionsEqual(x.Actions, y.Actions)
	}
	switch b.(type) {
	case Learn, CT, WriteActions, Clone:
		return false
	}
	return a == b
}

// Learn adds a flow to Table each time it runs, made from the packet by its specs.
type Learn struct {
	IdleTimeout, HardTimeout       uint16 // seconds, 0: for ever
	Priority                       uint16
	Cookie                         uint64
	Table                          uint8
	FinIdleTimeout, FinHardTimeout uint16
	SendFlowRem, DeleteLearned     bool
	Specs                          []LearnSpec
}

// LearnSpec is one match or action of a learned flow.
type LearnSpec struct {
	Kind LearnKind
	Src  Subfield // where the bits come from; FieldNone: they are Imm
	Imm  string   // big-endian, as many bytes as the bits need
	Dst  Subfield // FieldNone for LearnOutput
}

// LearnKind tells what a LearnSpec makes.
type LearnKind uint8

// Kinds of LearnSpec.
const (
	LearnMatch  LearnKind = iota // match Dst against the bits
	LearnLoad                    // load the bits into Dst
	LearnOutput                  // output to the port that Src holds
)

// MatchFrom makes the learned flow match dst against the present content of src (dst=src).
func MatchFrom(dst, src Subfield) LearnSpec { return LearnSpec{Kind: LearnMatch, Src: src, Dst: dst} }

// MatchSame makes the learned flow match a subfield against its present content.
func MatchSame(f Subfield) LearnSpec { return MatchFrom(f, f) }

// MatchImm makes the learned flow match dst against a constant.
func MatchImm(dst Subfield, v Value) LearnSpec {
	return LearnSpec{Kind: LearnMatch, Imm: immBytes(v, dst.Bits), Dst: dst}
}

// LoadFrom makes the learned flow load the present content of src into dst.
func LoadFrom(dst, src Subfield) LearnSpec { return LearnSpec{Kind: LearnLoad, Src: src, Dst: dst} }

// LoadImm makes the learned flow load a constant into dst.
func LoadImm(dst Subfield, v Value) LearnSpec {
	return LearnSpec{Kind: LearnLoad, Imm: immBytes(v, dst.Bits), Dst: dst}
}

// OutputTo makes the learned flow output to the port that src holds now.
func OutputTo(src Subfield) LearnSpec { return LearnSpec{Kind: LearnOutput, Src: src} }

func immBytes(v Value, bits uint8) string {
	return string(v.appendBytes(nil, min(16, (int(bits)+7)/8)))
}

func (s *LearnSpec) bits() int {
	if s.Kind == LearnOutput {
		return int(s.Src.Bits)
	}
	return int(s.Dst.Bits)
}

func (l Learn) equal(m Learn) bool {
	if len(l.Specs) != len(m.Specs) {
		return false
	}
	for i := range l.Specs {
		if l.Specs[i] != m.Specs[i] {
			return false
		}
	}
	return l.IdleTimeout == m.IdleTimeout && l.HardTimeout == m.HardTimeout && l.Priority == m.Priority && l.Cookie == m.Cookie &&
		l.Table == m.Table && l.FinIdleTimeout == m.FinIdleTimeout && l.FinHardTimeout == m.FinHardTimeout &&
		l.SendFlowRem == m.SendFlowRem && l.DeleteLearned == m.DeleteLearned
}
