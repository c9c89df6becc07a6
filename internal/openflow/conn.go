package openflow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Options tune a connection; the zero value is fit for use.
type Options struct {
	Versions     []Version     // offered; none: OpenFlow 1.4 only.  Bundles need 1.4 or later
	KeepAlive    time.Duration // an echo after so long a silence, the end after three; 0: 5 s, negative: never
	WriteTimeout time.Duration // a switch that takes nothing for so long is given up; 0: 10 s
	Handshake    time.Duration // for hello and features; 0: 10 s
	Buffer       int           // packet-ins and events kept for a slow reader, each; 0: 256
	Log          *slog.Logger  // nil: silent
}

func (o Options) withDefaults() Options {
	if len(o.Versions) == 0 {
		o.Versions = []Version{V14}
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 5 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 10 * time.Second
	}
	if o.Handshake <= 0 {
		o.Handshake = 10 * time.Second
	}
	if o.Buffer <= 0 {
		o.Buffer = 256
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// ErrClosed is the Err of a connection that Close ended.
var ErrClosed = errors.New("openflow connection closed")

// Conn is one OpenFlow connection to a switch.  A goroutine of its own reads it and answers echoes; it ends with the connection.
type Conn struct {
	nc       net.Conn
	br       *bufio.Reader
	opts     Options
	version  Version
	features Features

	wmu sync.Mutex // one message, or one bundle, after the other

	mu       sync.Mutex // guards what follows
	calls    []*call
	monitors map[uint32]*FlowMonitor
	nextXID  uint32
	bundleID uint32
	err      error

	done      chan struct{}
	packetIns chan PacketIn
	events    chan Event
	echoes    chan []byte
	lost      atomic.Uint64
	lastRead  atomic.Int64 // nanoseconds since start
	start     time.Time
}

// call waits for the answers to the messages first..last.  An error to any of them is kept; only what concerns await wakes the
// caller.
type call struct {
	first, last uint32
	await       atomic.Uint32
	replies     chan []byte
	gone        chan struct{} // closed when the caller stops waiting
	mu          sync.Mutex
	err         *Error // the first one
}

func (c *call) firstErr() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// DialBridge connects to the management socket of a local bridge, RUNDIR/BRIDGE.mgmt (ovs-vswitchd(8)).
func DialBridge(ctx context.Context, runDir, bridge string, opts Options) (*Conn, error) {
	return DialUnix(ctx, filepath.Join(runDir, bridge+".mgmt"), opts)
}

// DialUnix connects to a Unix socket on which a switch listens.
func DialUnix(ctx context.Context, path string, opts Options) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("dial switch: %w", err)
	}
	return NewConn(ctx, nc, opts)
}

// NewConn makes a connection of nc: it says hello, agrees on a version and reads the switch's features.  nc is closed on failure.
func NewConn(ctx context.Context, nc net.Conn, opts Options) (*Conn, error) {
	c := &Conn{nc: nc, opts: opts.withDefaults(), nextXID: 1, done: make(chan struct{}), monitors: map[uint32]*FlowMonitor{},
		start: time.Now()}
	c.br = bufio.NewReaderSize(nc, 1<<16)
	c.packetIns = make(chan PacketIn, c.opts.Buffer)
	c.events = make(chan Event, c.opts.Buffer)
	c.echoes = make(chan []byte, 4)
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	err := c.handshake()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		if ctxErr := ctx.Err(); ctxErr != nil {
			err = ctxErr
		}
		return nil, fmt.Errorf("openflow handshake with %s: %w", nc.RemoteAddr(), err)
	}
	go c.readLoop()
	go c.echoLoop()
	if c.opts.KeepAlive > 0 {
		go c.keepAlive()
	}
	return c, nil
}

// Version is the agreed version.
func (c *Conn) Version() Version { return c.version }

// Features are the switch's answer of the handshake.
func (c *Conn) Features() Features { return c.features }

// DatapathID identifies the bridge.
func (c *Conn) DatapathID() uint64 { return c.features.DatapathID }

// RemoteAddr is the switch's end.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Done is closed when the connection has ended; Err then tells why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err tells why the connection ended: ErrClosed after Close, io.EOF when the switch closed it, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection; calls that wait return ErrClosed.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return nil
}

// PacketIns delivers packets that flows sent to the controller.  When the reader falls behind, the newest are dropped and counted
// by Lost.  It is closed at the end of the connection.
func (c *Conn) PacketIns() <-chan PacketIn { return c.packetIns }

// Events delivers port changes and flow removals, under the rules of PacketIns.  Losing one means: read the state again.
func (c *Conn) Events() <-chan Event { return c.events }

// Lost counts the packet-ins and events that found no reader.
func (c *Conn) Lost() uint64 { return c.lost.Load() }

func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.mu.Unlock()
	close(c.done)
	_ = c.nc.Close()
}

func (c *Conn) readLoop() {
	var buf []byte
	for {
		msg, err := readMessage(c.br, buf)
		if err != nil {
			c.fail(fmt.Errorf("read from switch: %w", err))
			break
		}
		buf = msg[:0]
		c.lastRead.Store(int64(time.Since(c.start)))
		if err := c.dispatch(decodeHeader(msg), msg); err != nil {
			c.fail(err)
			break
		}
	}
	c.mu.Lock()
	for _, m := range c.monitors {
		m.end(c.err)
	}
	c.monitors = nil
	c.mu.Unlock()
	close(c.packetIns)
	close(c.events)
}

func (c *Conn) dispatch(h header, msg []byte) error {
	body := msg[headerLen:]
	switch h.typ {
	case typeEchoRequest:
		reply, err := finishMessage(append(appendHeader(nil, c.version, typeEchoReply, h.xid), body...), 0)
		if err != nil {
			return err
		}
		select {
		case c.echoes <- reply:
		default: // it does not read our answers, so it misses none
		}
	case typeError:
		e, err := decodeError(h, body)
		if err != nil {
			return err
		}
		if !c.deliverError(e) {
			c.opts.Log.Debug("switch refused a message that nobody waits for", "err", e)
		}
	case typePacketIn:
		p, err := decodePacketIn(body)
		if err != nil {
			return err
		}
		select {
		case c.packetIns <- p:
		default:
			c.lost.Add(1)
		}
	case typePortStatus, typeFlowRemoved:
		ev, err := decodeEvent(h, body, c.version)
		if err != nil {
			return err
		}
		select {
		case c.events <- ev:
		default:
			c.lost.Add(1)
		}
	case typeMultipartReply:
		if len(body) >= 8 && be16(body) == mpFlowMonitor && c.monitorUpdate(h, body) {
			return nil
		}
		c.deliver(h.xid, msg)
	default:
		c.deliver(h.xid, msg)
	}
	return nil
}

// echoLoop answers echoes: a switch that does not read must not keep readLoop from reading.
func (c *Conn) echoLoop() {
	for {
		select {
		case reply := <-c.echoes:
			if c.write(reply) != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

// deliver hands a copy of an answer to the caller; what nobody waits for, such as the answer to a bundle's opening, is dropped.
func (c *Conn) deliver(xid uint32, msg []byte) {
	cl := c.find(xid)
	if cl == nil || cl.await.Load() != xid {
		return
	}
	select {
	case cl.replies <- append([]byte(nil), msg...):
	case <-cl.gone:
	case <-c.done:
	}
}

func (c *Conn) deliverError(e *Error) bool {
	cl := c.find(e.XID)
	if cl == nil {
		return c.monitorError(e)
	}
	cl.mu.Lock()
	if cl.err == nil {
		cl.err = e
	}
	cl.mu.Unlock()
	if e.XID == cl.await.Load() {
		select {
		case cl.replies <- nil:
		case <-cl.gone:
		case <-c.done:
		}
	}
	return true
}

func (c *Conn) find(xid uint32) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.calls {
		if cl.first <= xid && xid <= cl.last {
			return cl
		}
	}
	return nil
}

// begin reserves n transaction ids and waits for what comes back to them.
func (c *Conn) begin(n int) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if uint64(c.nextXID)+uint64(n) > 0xffff0000 {
		c.nextXID = 1
	}
	cl := &call{first: c.nextXID, last: c.nextXID + uint32(n) - 1, replies: make(chan []byte, 16), gone: make(chan struct{})}
	cl.await.Store(cl.last)
	c.nextXID += uint32(n)
	c.calls = append(c.calls, cl)
	return cl, nil
}

func (c *Conn) end(cl *call) {
	close(cl.gone)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.calls {
		if x == cl {
			c.calls = append(c.calls[:i], c.calls[i+1:]...)
			return
		}
	}
}

// wait returns the next answer to the awaited message of the call.
func (c *Conn) wait(ctx context.Context, cl *call) ([]byte, error) {
	select {
	case msg := <-cl.replies:
		if msg == nil {
			return nil, cl.firstErr()
		}
		return msg, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
	}
	select { // the answer may have come just before the end
	case msg := <-cl.replies:
		if msg == nil {
			return nil, cl.firstErr()
		}
		return msg, nil
	default:
		return nil, c.Err()
	}
}

// writeChunk is how much is written under one deadline.
const writeChunk = 1 << 18

// write sends whole messages.  A failed write ends the connection, since the switch may have got half of one.
func (c *Conn) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.opts.WriteTimeout))
		if _, err := c.nc.Write(b[:n]); err != nil {
			c.fail(fmt.Errorf("write to switch: %w", err))
			return c.Err()
		}
		b = b[n:]
	}
	return nil
}

// request sends one message, whose body build appends, and returns its answer.
func (c *Conn) request(ctx context.Context, t msgType, build func([]byte) ([]byte, error)) ([]byte, error) {
	cl, err := c.begin(1)
	if err != nil {
		return nil, err
	}
	defer c.end(cl)
	b := appendHeader(nil, c.version, t, cl.first)
	if build != nil {
		if b, err = build(b); err != nil {
			return nil, err
		}
	}
	if b, err = finishMessage(b, 0); err != nil {
		return nil, err
	}
	if err := c.write(b); err != nil {
		return nil, err
	}
	return c.wait(ctx, cl)
}

func (c *Conn) keepAlive() {
	tick := time.NewTicker(c.opts.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		silence := time.Since(c.start) - time.Duration(c.lastRead.Load())
		if silence > 3*c.opts.KeepAlive {
			c.fail(fmt.Errorf("switch has been silent for %s", silence.Round(time.Millisecond)))
			return
		}
		if silence >= c.opts.KeepAlive {
			echo, _ := finishMessage(appendHeader(nil, c.version, typeEchoRequest, 0), 0)
			if c.write(echo) != nil {
				return
			}
		}
	}
}
