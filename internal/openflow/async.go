package openflow

import (
	"bytes"
	"fmt"
	"time"
)

// PacketIn is a packet that the switch sent to the controller.
type PacketIn struct {
	BufferID uint32 // 0xffffffff: Data is all there is
	TotalLen uint16 // of the packet; Data may be less
	Reason   uint8  // 0 no match, 1 action, 2 invalid TTL, 3 action set, 4 group, 5 packet-out
	Table    uint8
	Cookie   uint64 // of the flow
	Match    Match  // metadata: in_port, tun_id, registers
	Data     []byte
}

// InPort is the port on which the packet came in, 0 if the switch did not say.
func (p *PacketIn) InPort() uint32 {
	v, _, _ := p.Match.Get(FieldInPort)
	return uint32(v.Lo)
}

func decodePacketIn(b []byte) (PacketIn, error) {
	if len(b) < 16 {
		return PacketIn{}, fmt.Errorf("decode packet-in: %w", errShort)
	}
	p := PacketIn{BufferID: be32(b), TotalLen: be16(b[4:]), Reason: b[6], Table: b[7], Cookie: be64(b[8:])}
	m, rest, err := decodeMatch(b[16:])
	if err != nil {
		return p, fmt.Errorf("decode packet-in: %w", err)
	}
	if len(rest) < 2 {
		return p, fmt.Errorf("decode packet-in: %w", errShort)
	}
	p.Match, p.Data = m, bytes.Clone(rest[2:])
	return p, nil
}

// Event is something that happened at the switch: one of the pointers is set.
type Event struct {
	Port        *PortStatus
	FlowRemoved *FlowRemoved
}

// PortReason tells what happened to a port.
type PortReason uint8

// Port reasons (OFPPR).
const (
	PortAdded PortReason = iota
	PortDeleted
	PortModified
)

// PortStatus is a change of a port.
type PortStatus struct {
	Reason PortReason
	Port   PortDesc
}

// FlowRemoved tells that a flow with SendFlowRem is gone.
type FlowRemoved struct {
	Reason  uint8 // 0 idle timeout, 1 hard timeout, 2 delete, 3 group delete, 4 meter delete, 5 eviction
	Table   uint8
	Stats   FlowStats // without actions
	Elapsed time.Duration
}

// Port configuration and state bits (OFPPC, OFPPS).
const (
	PortConfigDown  = 1 << 0
	PortStateNoLink = 1 << 0
	PortStateLive   = 1 << 2
)

// PortDesc describes a port.
type PortDesc struct {
	No            uint32
	MAC           MAC
	Name          string // at most 15 bytes
	Config, State uint32
}

// decodePort reads one ofp_port and returns what follows.
func decodePort(b []byte, v Version) (PortDesc, []byte, error) {
	var p PortDesc
	n, at := 64, 8
	if v >= V14 {
		if len(b) < 8 {
			return p, nil, fmt.Errorf("decode port: %w", errShort)
		}
		if n = int(be16(b[4:])); n < 40 {
			return p, nil, fmt.Errorf("decode port: length %d", n)
		}
	}
	if len(b) < n {
		return p, nil, fmt.Errorf("decode port: %w", errShort)
	}
	p.No = be32(b)
	copy(p.MAC[:], b[at:])
	name, _, _ := bytes.Cut(b[at+8:at+24], []byte{0})
	p.Name = string(name)
	p.Config, p.State = be32(b[at+24:]), be32(b[at+28:])
	return p, b[n:], nil
}

func decodeEvent(h header, b []byte, v Version) (Event, error) {
	if h.typ == typePortStatus {
		if len(b) < 8 {
			return Event{}, fmt.Errorf("decode port status: %w", errShort)
		}
		p, _, err := decodePort(b[8:], v)
		return Event{Port: &PortStatus{PortReason(b[0]), p}}, err
	}
	r, err := decodeFlowRemoved(b, v)
	return Event{FlowRemoved: &r}, err
}

func decodeFlowRemoved(b []byte, v Version) (FlowRemoved, error) {
	var r FlowRemoved
	if v >= V15 {
		if len(b) < 16 {
			return r, fmt.Errorf("decode flow removed: %w", errShort)
		}
		r.Table, r.Reason = b[0], b[1]
		r.Stats.Priority, r.Stats.IdleTimeout, r.Stats.HardTimeout = be16(b[2:]), be16(b[4:]), be16(b[6:])
		r.Stats.Cookie = be64(b[8:])
		m, rest, err := decodeMatch(b[16:])
		if err != nil {
			return r, fmt.Errorf("decode flow removed: %w", err)
		}
		r.Stats.Match = m
		if _, err := r.Stats.decodeOXS(rest); err != nil {
			return r, fmt.Errorf("decode flow removed: %w", err)
		}
	} else {
		if len(b) < 40 {
			return r, fmt.Errorf("decode flow removed: %w", errShort)
		}
		r.Stats.Cookie, r.Stats.Priority, r.Reason, r.Table = be64(b), be16(b[8:]), b[10], b[11]
		r.Stats.Duration = time.Duration(be32(b[12:]))*time.Second + time.Duration(be32(b[16:]))
		r.Stats.IdleTimeout, r.Stats.HardTimeout = be16(b[20:]), be16(b[22:])
		r.Stats.Packets, r.Stats.Bytes = be64(b[24:]), be64(b[32:])
		m, _, err := decodeMatch(b[40:])
		if err != nil {
			return r, fmt.Errorf("decode flow removed: %w", err)
		}
		r.Stats.Match = m
	}
	r.Stats.Table, r.Elapsed = r.Table, r.Stats.Duration
	return r, nil
}
