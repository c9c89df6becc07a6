package openflow

import (
	"context"
	"fmt"
)

// Barrier returns when the switch has finished all that was sent before.
func (c *Conn) Barrier(ctx context.Context) error {
	msg, err := c.request(ctx, typeBarrierRequest, nil)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	return expect(msg, typeBarrierReply)
}

// Echo returns when the switch has answered an echo.
func (c *Conn) Echo(ctx context.Context) error {
	msg, err := c.request(ctx, typeEchoRequest, nil)
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return expect(msg, typeEchoReply)
}

func expect(msg []byte, t msgType) error {
	if h := decodeHeader(msg); h.typ != t {
		return fmt.Errorf("answer of type %d where %d was due", h.typ, t)
	}
	return nil
}

// Config is what a switch does with fragments and how much of a packet it sends on a table miss.
type Config struct {
	Flags       uint16 // 0 normal, 1 drop fragments, 2 reassemble
	MissSendLen uint16 // bytes
}

// GetConfig reads the switch's configuration of this connection.
func (c *Conn) GetConfig(ctx context.Context) (Config, error) {
	msg, err := c.request(ctx, typeGetConfigRequest, nil)
	if err != nil {
		return Config{}, fmt.Errorf("get config: %w", err)
	}
	if err := expect(msg, typeGetConfigReply); err != nil || len(msg) < 12 {
		return Config{}, fmt.Errorf("get config: malformed answer")
	}
	return Config{be16(msg[8:]), be16(msg[10:])}, nil
}

// SetConfig changes the configuration of this connection.  A management socket gets no packet-in and no event until MissSendLen is
// set above 0.
func (c *Conn) SetConfig(ctx context.Context, cfg Config) error {
	return c.sendRaw(ctx, typeSetConfig, func(b []byte) ([]byte, error) {
		return put16(put16(b, cfg.Flags), cfg.MissSendLen), nil
	})
}

// sendRaw sends a message that has no answer, and a barrier so that an error of it is seen.
func (c *Conn) sendRaw(ctx context.Context, t msgType, build func([]byte) ([]byte, error)) error {
	cl, err := c.begin(2)
	if err != nil {
		return err
	}
	defer c.end(cl)
	b, err := build(appendHeader(nil, c.version, t, cl.first))
	if err != nil {
		return err
	}
	if b, err = finishMessage(b, 0); err != nil {
		return err
	}
	start := len(b)
	if b, err = finishMessage(appendHeader(b, c.version, typeBarrierRequest, cl.last), start); err != nil {
		return err
	}
	if err := c.write(b); err != nil {
		return err
	}
	if _, err := c.wait(ctx, cl); err != nil {
		return err
	}
	if e := cl.firstErr(); e != nil {
		return e
	}
	return nil
}

// PacketOut sends a packet through actions, as if it had come in on InPort (PortController when the controller made it).
type PacketOut struct {
	InPort  uint32
	Actions []Action // Output, set_field and the like; instructions are not possible
	Data    []byte
}

// PacketOut sends a packet and returns once the switch has taken or refused it.
func (c *Conn) PacketOut(ctx context.Context, p PacketOut) error {
	err := c.sendRaw(ctx, typePacketOut, func(b []byte) ([]byte, error) { return p.append(b, c.version) })
	if err != nil {
		return fmt.Errorf("packet-out: %w", err)
	}
	return nil
}

func (p *PacketOut) append(b []byte, v Version) ([]byte, error) {
	acts, err := appendActions(nil, p.Actions, v)
	if err != nil {
		return b, err
	}
	if len(acts) > maxActionsLen {
		return b, fmt.Errorf("encode packet-out: %d bytes of actions", len(acts))
	}
	b = put32(b, noBuffer)
	if v >= V15 {
		b = append(put16(b, uint16(len(acts))), 0, 0)
		if b, err = appendMatch(b, MatchOf(InPort(p.InPort))); err != nil {
			return b, err
		}
	} else {
		b = append(put16(put32(b, p.InPort), uint16(len(acts))), 0, 0, 0, 0, 0, 0)
	}
	return append(append(b, acts...), p.Data...), nil
}

// multipart sends a request and gives each part's body to part.
func (c *Conn) multipart(ctx context.Context, kind uint16, build func([]byte) ([]byte, error), part func([]byte) error) error {
	cl, err := c.begin(1)
	if err != nil {
		return err
	}
	defer c.end(cl)
	b := appendMultipart(nil, c.version, cl.first, kind)
	if build != nil {
		if b, err = build(b); err != nil {
			return err
		}
	}
	if b, err = finishMessage(b, 0); err != nil {
		return err
	}
	if err := c.write(b); err != nil {
		return err
	}
	for {
		msg, err := c.wait(ctx, cl)
		if err != nil {
			return err
		}
		if err := expect(msg, typeMultipartReply); err != nil {
			return err
		}
		if len(msg) < 16 || be16(msg[8:]) != kind {
			return fmt.Errorf("malformed multipart answer")
		}
		if err := part(msg[16:]); err != nil {
			return err
		}
		if be16(msg[10:])&mpMore == 0 {
			return nil
		}
	}
}

// DumpFlows reads flows, decoding each part while the next one travels.
func (c *Conn) DumpFlows(ctx context.Context, filter FlowFilter) ([]FlowStats, error) {
	var out []FlowStats
	err := c.multipart(ctx, mpFlow, filter.append, func(b []byte) (err error) {
		out, err = decodeFlowStats(out, b, c.version)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dump flows: %w", err)
	}
	return out, nil
}

// PortDescs lists the ports of the switch.
func (c *Conn) PortDescs(ctx context.Context) ([]PortDesc, error) {
	var out []PortDesc
	build := func(b []byte) ([]byte, error) {
		if c.version >= V15 {
			b = append(put32(b, PortAny), 0, 0, 0, 0)
		}
		return b, nil
	}
	err := c.multipart(ctx, mpPortDesc, build, func(b []byte) error {
		for len(b) > 0 {
			p, rest, err := decodePort(b, c.version)
			if err != nil {
				return err
			}
			out = append(out, p)
			b = rest
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list ports: %w", err)
	}
	return out, nil
}

// SwitchDesc is how a switch describes itself.
type SwitchDesc struct{ Manufacturer, Hardware, Software, Serial, Datapath string }

// Describe asks the switch who it is.
func (c *Conn) Describe(ctx context.Context) (SwitchDesc, error) {
	var d SwitchDesc
	err := c.multipart(ctx, mpDesc, nil, func(b []byte) error {
		if len(b) < 1056 {
			return errShort
		}
		text := func(from, n int) string { return cString(b[from : from+n]) }
		d = SwitchDesc{text(0, 256), text(256, 256), text(512, 256), text(768, 32), text(800, 256)}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("describe switch: %w", err)
	}
	return d, nil
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// TableStats are the counters of one flow table.
type TableStats struct {
	Table            uint8
	Active           uint32 // flows
	Lookups, Matched uint64 // packets
}

// TableStats reads the counters of all tables.
func (c *Conn) TableStats(ctx context.Context) ([]TableStats, error) {
	var out []TableStats
	err := c.multipart(ctx, mpTable, nil, func(b []byte) error {
		for ; len(b) >= 24; b = b[24:] {
			out = append(out, TableStats{b[0], be32(b[4:]), be64(b[8:]), be64(b[16:])})
		}
		if len(b) > 0 {
			return errShort
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read table statistics: %w", err)
	}
	return out, nil
}
