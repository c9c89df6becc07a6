package openflow

import (
	"context"
	"errors"
	"fmt"
)

// MonitorEvent says what happened to a monitored flow.
type MonitorEvent uint16

// Flow monitor events (OFPFME).
const (
	FlowInitial  MonitorEvent = iota // was there when the monitor began
	FlowAdded                        // came
	FlowGone                         // went
	FlowModified                     // changed
	FlowOwn                          // our own change of this transaction, without details
	FlowPaused                       // the switch fell behind; details follow after FlowResumed
	FlowResumed
)

// FlowUpdate is one change of a monitored flow.
type FlowUpdate struct {
	Event  MonitorEvent
	Reason uint8  // of FlowGone, as in FlowRemoved
	XID    uint32 // of FlowOwn
	Flow   Flow
}

// MonitorRequest selects flows to monitor.
type MonitorRequest struct {
	Table    uint8 // AllTables: all
	Match    Match // flows that it covers
	OutPort  uint32
	OutGroup uint32
	Initial  bool // report the flows that are there now
	Own      bool // report this connection's own changes in full too
}

// FlowMonitor delivers changes of flows until it is stopped, its connection ends, or its reader falls too far behind.
type FlowMonitor struct {
	// C is closed at the end; Err then tells why.
	C   <-chan FlowUpdate
	c   chan FlowUpdate
	id  uint32
	xid uint32
	err error
	end func(error)
}

// ErrMonitorOverrun ends a monitor whose reader was too slow.  Dump the flows and start another.
var ErrMonitorOverrun = errors.New("flow monitor overrun: updates were not read in time")

// Err tells why C was closed.  Call it only after that.
func (m *FlowMonitor) Err() error { return m.err }

const (
	monitorInitial  = 1 << 0
	monitorAdd      = 1 << 1
	monitorRemoved  = 1 << 2
	monitorModify   = 1 << 3
	monitorActions  = 1 << 4
	monitorNoAbbrev = 1 << 5

	monitorCmdAdd    = 0
	monitorCmdDelete = 2

	monitorBuffer = 4096
)

// MonitorFlows starts a monitor (OpenFlow 1.4 and later).
func (c *Conn) MonitorFlows(ctx context.Context, r MonitorRequest) (*FlowMonitor, error) {
	if c.version < V14 {
		return nil, fmt.Errorf("monitor flows: %s has no monitors here", c.version)
	}
	cl, err := c.begin(2)
	if err != nil {
		return nil, err
	}
	defer c.end(cl)
	m := &FlowMonitor{c: make(chan FlowUpdate, monitorBuffer), xid: cl.first, id: cl.first}
	m.C = m.c
	ended := false // guarded by c.mu
	m.end = func(err error) {
		if !ended {
			ended = true
			m.err = err
			close(m.c)
		}
	}
	flags := uint16(monitorAdd | monitorRemoved | monitorModify | monitorActions)
	if r.Initial {
		flags |= monitorInitial
	}
	if r.Own {
		flags |= monitorNoAbbrev
	}
	b := appendMultipart(nil, c.version, m.xid, mpFlowMonitor)
	b = put32(put32(put32(b, m.id), orAny(r.OutPort)), orAny(r.OutGroup))
	if b, err = appendMatch(append(put16(b, flags), r.Table, monitorCmdAdd), r.Match); err != nil {
		return nil, fmt.Errorf("monitor flows: %w", err)
	}
	if b, err = finishMessage(b, 0); err != nil {
		return nil, fmt.Errorf("monitor flows: %w", err)
	}
	start := len(b)
	if b, err = finishMessage(appendHeader(b, c.version, typeBarrierRequest, cl.last), start); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.monitors == nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("monitor flows: %w", c.Err())
	}
	c.monitors[m.xid] = m
	c.mu.Unlock()
	err = c.write(b)
	if err == nil {
		_, err = c.wait(ctx, cl)
	}
	if e := cl.firstErr(); err == nil && e != nil {
		err = e
	}
	if err != nil {
		c.dropMonitor(m, err)
		return nil, fmt.Errorf("monitor flows: %w", err)
	}
	return m, nil
}

// StopMonitor ends a monitor; its Err is then nil.
func (c *Conn) StopMonitor(ctx context.Context, m *FlowMonitor) error {
	c.dropMonitor(m, nil)
	err := c.sendRaw(ctx, typeMultipartRequest, func(b []byte) ([]byte, error) {
		b = append(put16(b, mpFlowMonitor), 0, 0, 0, 0, 0, 0)
		b = put32(put32(put32(b, m.id), PortAny), PortAny)
		return appendMatch(append(put16(b, 0), AllTables, monitorCmdDelete), Match{})
	})
	if err != nil {
		return fmt.Errorf("stop monitor: %w", err)
	}
	return nil
}

func (c *Conn) dropMonitor(m *FlowMonitor, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.monitors, m.xid)
	m.end(err)
}

func (c *Conn) monitorError(e *Error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.monitors[e.XID]
	if ok {
		delete(c.monitors, e.XID)
		m.end(e)
	}
	return ok
}

// monitorUpdate hands updates to their monitor.  The initial ones have the xid of the request, later ones have 0 and go to every
// monitor, which this package keeps apart no further than the switch does.
func (c *Conn) monitorUpdate(h header, body []byte) bool {
	updates, err := decodeFlowUpdates(body[8:], c.version)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := false
	for xid, m := range c.monitors {
		if h.xid != 0 && h.xid != xid {
			continue
		}
		known = true
		if err != nil {
			delete(c.monitors, xid)
			m.end(err)
			continue
		}
		for _, u := range updates {
			select {
			case m.c <- u:
				continue
			default:
			}
			delete(c.monitors, xid)
			m.end(ErrMonitorOverrun)
			break
		}
	}
	return known || h.xid == 0
}

func decodeFlowUpdates(b []byte, v Version) ([]FlowUpdate, error) {
	var out []FlowUpdate
	for len(b) > 0 {
		if len(b) < 4 {
			return out, fmt.Errorf("decode flow update: %w", errShort)
		}
		n := int(be16(b))
		if n < 8 || n > len(b) {
			return out, fmt.Errorf("decode flow update: %d of %d bytes", n, len(b))
		}
		u := FlowUpdate{Event: MonitorEvent(be16(b[2:]))}
		switch {
		case u.Event <= FlowModified:
			if n < 32 {
				return out, fmt.Errorf("decode flow update: %w", errShort)
			}
			u.Flow.Table, u.Reason = b[4], b[5]
			u.Flow.IdleTimeout, u.Flow.HardTimeout, u.Flow.Priority = be16(b[6:]), be16(b[8:]), be16(b[10:])
			u.Flow.Cookie = be64(b[16:])
			m, rest, err := decodeMatch(b[24:n])
			if err != nil {
				return out, fmt.Errorf("decode flow update: %w", err)
			}
			u.Flow.Match = m
			if u.Flow.Actions, err = decodeInstructions(rest, v); err != nil {
				return out, fmt.Errorf("decode flow update: %w", err)
			}
		case u.Event == FlowOwn:
			u.XID = be32(b[4:])
		}
		out = append(out, u)
		b = b[n:]
	}
	return out, nil
}
