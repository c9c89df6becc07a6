package openflow

import (
	"fmt"
	"time"
)

// Multipart types (OFPMP).
const (
	mpDesc        = 0
	mpFlow        = 1
	mpTable       = 3
	mpGroupDesc   = 7
	mpMeterConfig = 10
	mpPortDesc    = 13
	mpFlowMonitor = 16

	mpMore = 1 // more parts follow
)

// FlowStats is a flow as a switch has it, with its counters.  A counter that the switch does not keep is all ones.
type FlowStats struct {
	Flow
	Duration time.Duration
	Packets  uint64
	Bytes    uint64
}

// FlowFilter selects flows of a dump.  The zero value selects all flows of table 0; AllFlows selects all.
type FlowFilter struct {
	Table              uint8
	Match              Match // flows that it covers
	Cookie, CookieMask uint64
	OutPort, OutGroup  uint32 // 0: any
}

// AllFlows selects every flow of every table.
func AllFlows() FlowFilter { return FlowFilter{Table: AllTables} }

// appendMultipart starts a multipart request; finishMessage ends it.
func appendMultipart(b []byte, v Version, xid uint32, kind uint16) []byte {
	b = put16(appendHeader(b, v, typeMultipartRequest, xid), kind)
	return append(b, 0, 0, 0, 0, 0, 0)
}

func (f *FlowFilter) append(b []byte) ([]byte, error) {
	b = append(b, f.Table, 0, 0, 0)
	b = put32(put32(b, orAny(f.OutPort)), orAny(f.OutGroup))
	b = put64(put64(append(b, 0, 0, 0, 0), f.Cookie), f.CookieMask)
	return appendMatch(b, f.Match)
}

// decodeFlowStats appends the flows of one part of a flow dump to out.
func decodeFlowStats(out []FlowStats, b []byte, v Version) ([]FlowStats, error) {
	for len(b) > 0 {
		if len(b) < 2 {
			return out, fmt.Errorf("decode flow dump: %d stray bytes", len(b))
		}
		n := int(be16(b))
		if n < 8 || n > len(b) {
			return out, fmt.Errorf("decode flow dump: entry of %d in %d bytes", n, len(b))
		}
		out = append(out, FlowStats{})
		s := &out[len(out)-1]
		var err error
		if v >= V15 {
			err = s.decode15(b[:n])
		} else {
			err = s.decode13(b[:n], v)
		}
		if err != nil {
			return out[:len(out)-1], fmt.Errorf("decode flow dump: %w", err)
		}
		b = b[n:]
	}
	return out, nil
}

// decode13 reads ofp_flow_stats of OpenFlow 1.3 and 1.4.
func (s *FlowStats) decode13(b []byte, v Version) error {
	if len(b) < 56 {
		return errShort
	}
	s.Table = b[2]
	s.Duration = time.Duration(be32(b[4:]))*time.Second + time.Duration(be32(b[8:]))
	s.Priority, s.IdleTimeout, s.HardTimeout = be16(b[12:]), be16(b[14:]), be16(b[16:])
	s.Flags = FlowFlags(be16(b[18:]))
	if v >= V14 {
		s.Importance = be16(b[20:])
	}
	s.Cookie, s.Packets, s.Bytes = be64(b[24:]), be64(b[32:]), be64(b[40:])
	return s.decodeRest(b[48:], v)
}

func (s *FlowStats) decodeRest(b []byte, v Version) error {
	m, rest, err := decodeMatch(b)
	if err != nil {
		return err
	}
	s.Match = m
	s.Actions, err = decodeInstructions(rest, v)
	return err
}

// decode15 reads ofp_flow_desc of OpenFlow 1.5: match, then statistics as OXS fields, then instructions.
func (s *FlowStats) decode15(b []byte) error {
	if len(b) < 32 {
		return errShort
	}
	s.Table = b[4]
	s.Priority, s.IdleTimeout, s.HardTimeout = be16(b[6:]), be16(b[8:]), be16(b[10:])
	s.Flags, s.Importance, s.Cookie = FlowFlags(be16(b[12:])), be16(b[14:]), be64(b[16:])
	m, rest, err := decodeMatch(b[24:])
	if err != nil {
		return err
	}
	s.Match = m
	if rest, err = s.decodeOXS(rest); err != nil {
		return err
	}
	s.Actions, err = decodeInstructions(rest, V15)
	return err
}

// decodeOXS reads ofp_stats and returns what follows its padding.
func (s *FlowStats) decodeOXS(b []byte) ([]byte, error) {
	if len(b) < 8 {
		return nil, errShort
	}
	n := int(be16(b[2:]))
	total := n + pad8(n)
	if n < 4 || total > len(b) {
		return nil, fmt.Errorf("statistics of %d bytes: %w", n, errShort)
	}
	for f := b[4:n]; len(f) >= 4; {
		h := be32(f)
		size := int(h & 0xff)
		if 4+size > len(f) {
			return nil, errShort
		}
		body := f[4 : 4+size]
		if h>>16 == 0x8002 && size == 8 {
			switch h >> 9 & 0x7f {
			case 0:
				s.Duration = time.Duration(be32(body))*time.Second + time.Duration(be32(body[4:]))
			case 4:
				s.Packets = be64(body)
			case 5:
				s.Bytes = be64(body)
			}
		}
		f = f[4+size:]
	}
	return b[total:], nil
}
