package openflow

import (
	"context"
	"fmt"
	"strings"
)

// MeterFlags tell how a meter measures.
type MeterFlags uint16

// Meter flags (OFPMF).
const (
	MeterKbps  MeterFlags = 1 << 0 // rates are in kilobits per second, bursts in kilobits
	MeterPktps MeterFlags = 1 << 1 // rates are in packets per second, bursts in packets
	MeterBurst MeterFlags = 1 << 2 // bands have a burst
	MeterStats MeterFlags = 1 << 3 // count
)

// MeterBand is what happens above a rate.
type MeterBand struct {
	Remark    bool // raise the DSCP drop precedence by PrecLevel; otherwise drop
	Rate      uint32
	Burst     uint32
	PrecLevel uint8
}

// MeterConfig is a meter.
type MeterConfig struct {
	ID    uint32
	Flags MeterFlags
	Bands []MeterBand
}

// String prints the meter as `ovs-ofctl dump-meters` does, on one line.
func (m *MeterConfig) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "meter=%d", m.ID)
	for _, f := range [...]struct {
		flag MeterFlags
		name string
	}{{MeterKbps, "kbps"}, {MeterPktps, "pktps"}, {MeterBurst, "burst"}, {MeterStats, "stats"}} {
		if m.Flags&f.flag != 0 {
			s.WriteString(" " + f.name)
		}
	}
	s.WriteString(" bands=")
	for _, b := range m.Bands {
		s.WriteString(" type=" + map[bool]string{false: "drop", true: "dscp_remark"}[b.Remark])
		fmt.Fprintf(&s, " rate=%d", b.Rate)
		if m.Flags&MeterBurst != 0 {
			fmt.Fprintf(&s, " burst_size=%d", b.Burst)
		}
		if b.Remark {
			fmt.Fprintf(&s, " prec_level=%d", b.PrecLevel)
		}
	}
	return s.String()
}

// MeterMod changes a meter.
type MeterMod struct {
	Change ChangeKind
	MeterConfig
}

// String prints the change and the meter.
func (m *MeterMod) String() string { return m.Change.String() + " " + m.MeterConfig.String() }

func (m *MeterMod) messageType() msgType { return typeMeterMod }

// maxBands keeps a meter within one message.
const maxBands = 255

func (m *MeterMod) appendBody(b []byte, _ Version) ([]byte, error) {
	if m.Change > DeleteExisting || len(m.Bands) > maxBands {
		return b, fmt.Errorf("encode meter mod: %s with %d bands", m.Change, len(m.Bands))
	}
	b = put32(put16(put16(b, uint16(m.Change)), uint16(m.Flags)), m.ID)
	if m.Change == DeleteExisting {
		return b, nil
	}
	for _, k := range m.Bands {
		typ, level := uint16(1), uint8(0)
		if k.Remark {
			typ, level = 2, k.PrecLevel
		}
		b = append(put32(put32(put16(put16(b, typ), 16), k.Rate), k.Burst), level, 0, 0, 0)
	}
	return b, nil
}

// DumpMeters reads a meter, or AllMeters.
func (c *Conn) DumpMeters(ctx context.Context, id uint32) ([]MeterConfig, error) {
	var out []MeterConfig
	build := func(b []byte) ([]byte, error) { return append(put32(b, id), 0, 0, 0, 0), nil }
	err := c.multipart(ctx, mpMeterConfig, build, func(b []byte) (err error) {
		out, err = decodeMeters(out, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dump meters: %w", err)
	}
	return out, nil
}

func decodeMeters(out []MeterConfig, b []byte) ([]MeterConfig, error) {
	for len(b) > 0 {
		if len(b) < 8 {
			return out, errShort
		}
		n := int(be16(b))
		if n < 8 || n > len(b) {
			return out, fmt.Errorf("decode meter: %d of %d bytes", n, len(b))
		}
		m := MeterConfig{Flags: MeterFlags(be16(b[2:])), ID: be32(b[4:])}
		for p := b[8:n]; len(p) > 0; {
			if len(p) < 16 || be16(p[2:]) < 16 || int(be16(p[2:])) > len(p) {
				return out, fmt.Errorf("decode meter %d: %w", m.ID, errShort)
			}
			m.Bands = append(m.Bands, MeterBand{Remark: be16(p) == 2, Rate: be32(p[4:]), Burst: be32(p[8:]), PrecLevel: p[12]})
			p = p[be16(p[2:]):]
		}
		out = append(out, m)
		b = b[n:]
	}
	return out, nil
}
