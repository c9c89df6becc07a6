package openflow

import (
	"encoding/binary"
	"fmt"
)

// Command says what a FlowMod does.
type Command uint8

// Flow mod commands (OFPFC).
const (
	Add          Command = iota // overwrites a flow with the same key
	Modify                      // changes the actions of all flows the match covers; adds nothing
	ModifyStrict                // changes the actions of the flow with this key; adds nothing
	Delete                      // removes all flows the match covers
	DeleteStrict                // removes the flow with this key
)

var commandNames = [...]string{"add", "modify", "modify_strict", "delete", "delete_strict"}

// String names the command.
func (c Command) String() string {
	if int(c) < len(commandNames) {
		return commandNames[c]
	}
	return fmt.Sprintf("command(%d)", uint8(c))
}

// AllTables selects every table in a delete or a dump.
const AllTables uint8 = 255

// FlowMod changes flow tables.  For modify and delete, a Cookie counts under CookieMask (0: any cookie), and OutPort and OutGroup
// (0: any) restrict a delete to flows that output there.
type FlowMod struct {
	Command Command
	Flow
	CookieMask uint64
	OutPort    uint32
	OutGroup   uint32
}

// AddFlow adds a flow, or overwrites the one with its key and keeps its counters.
func AddFlow(f Flow) FlowMod { return FlowMod{Command: Add, Flow: f} }

// DeleteFlow removes the flow with the key of f, whatever its cookie.
func DeleteFlow(f Flow) FlowMod {
	return FlowMod{Command: DeleteStrict, Flow: Flow{Table: f.Table, Priority: f.Priority, Match: f.Match}}
}

// DeleteMatching removes the flows of a table (AllTables: of all) that m covers and whose cookie equals cookie under mask.
func DeleteMatching(table uint8, m Match, cookie, mask uint64) FlowMod {
	return FlowMod{Command: Delete, Flow: Flow{Table: table, Match: m, Cookie: cookie}, CookieMask: mask}
}

// String prints the command and the flow.
func (m *FlowMod) String() string {
	s := m.Command.String() + " "
	if m.CookieMask != 0 {
		s += fmt.Sprintf("cookie_mask=%#x ", m.CookieMask)
	}
	return s + m.Flow.String()
}

// appendBody appends ofp_flow_mod behind its header.
func (m *FlowMod) appendBody(b []byte, v Version) ([]byte, error) {
	if m.Command > DeleteStrict {
		return b, fmt.Errorf("encode flow mod: unknown %s", m.Command)
	}
	if m.Command <= ModifyStrict && m.Table == AllTables {
		return b, fmt.Errorf("encode flow mod: no table %d", m.Table)
	}
	b = binary.BigEndian.AppendUint64(b, m.Cookie)
	b = binary.BigEndian.AppendUint64(b, m.CookieMask)
	b = append(b, m.Table, byte(m.Command))
	b = binary.BigEndian.AppendUint16(b, m.IdleTimeout)
	b = binary.BigEndian.AppendUint16(b, m.HardTimeout)
	b = binary.BigEndian.AppendUint16(b, m.Priority)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, orAny(m.OutPort))
	b = binary.BigEndian.AppendUint32(b, orAny(m.OutGroup))
	b = binary.BigEndian.AppendUint16(b, uint16(m.Flags))
	importance := m.Importance
	if v < V14 {
		importance = 0
	}
	b = binary.BigEndian.AppendUint16(b, importance)
	b, err := appendMatch(b, m.Match)
	if err != nil {
		return b, fmt.Errorf("encode flow mod: %w", err)
	}
	if m.Command <= ModifyStrict {
		if b, err = appendInstructions(b, m.Actions, v); err != nil {
			return b, fmt.Errorf("encode flow mod: %w", err)
		}
	}
	return b, nil
}

// Encode makes the whole message of a change.
func Encode(m Message, v Version, xid uint32) ([]byte, error) {
	if v < V13 || v > V15 {
		return nil, fmt.Errorf("encode message: %s is not supported", v)
	}
	b, err := m.appendBody(appendHeader(nil, v, m.messageType(), xid), v)
	if err != nil {
		return nil, err
	}
	return finishMessage(b, 0)
}

// DecodeFlowMod reads a whole flow mod message, as Encode or another controller made it.
func DecodeFlowMod(msg []byte) (FlowMod, error) {
	if len(msg) < headerLen {
		return FlowMod{}, fmt.Errorf("decode flow mod: %d bytes", len(msg))
	}
	h := decodeHeader(msg)
	if h.typ != typeFlowMod || h.length != len(msg) || h.version < V13 || h.version > V15 {
		return FlowMod{}, fmt.Errorf("decode flow mod: message of type %d, version %d, length %d of %d", h.typ, h.version, h.length, len(msg))
	}
	return decodeFlowMod(msg[headerLen:], h.version)
}

// decodeFlowMod reads what appendBody wrote.
func decodeFlowMod(b []byte, v Version) (FlowMod, error) {
	var m FlowMod
	if len(b) < 48 {
		return m, fmt.Errorf("decode flow mod: %d bytes", len(b))
	}
	m.Cookie, m.CookieMask = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	m.Table, m.Command = b[16], Command(b[17])
	if m.Command > DeleteStrict {
		return m, fmt.Errorf("decode flow mod: unknown %s", m.Command)
	}
	m.IdleTimeout, m.HardTimeout = binary.BigEndian.Uint16(b[18:]), binary.BigEndian.Uint16(b[20:])
	m.Priority = binary.BigEndian.Uint16(b[22:])
	m.OutPort, m.OutGroup = anyIsZero(binary.BigEndian.Uint32(b[28:])), anyIsZero(binary.BigEndian.Uint32(b[32:]))
	m.Flags = FlowFlags(binary.BigEndian.Uint16(b[36:]))
	if v >= V14 {
		m.Importance = binary.BigEndian.Uint16(b[38:])
	}
	match, rest, err := decodeMatch(b[40:])
	if err != nil {
		return m, err
	}
	m.Match = match
	m.Actions, err = decodeInstructions(rest, v)
	return m, err
}

const noBuffer = 0xffffffff

// orAny turns 0, which is no port and no group, into OFPP_ANY.
func orAny(n uint32) uint32 {
	if n == 0 {
		return PortAny
	}
	return n
}

func anyIsZero(n uint32) uint32 {
	if n == PortAny {
		return 0
	}
	return n
}
