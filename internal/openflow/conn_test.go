package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const reasonPacketOut = 5 // OFPR_PACKET_OUT: an action of a packet that a packet-out sent through the tables

func TestControllerSideOfOpenVSwitch(t *testing.T) {
	b := newBridge(t)
	l, err := Listen("tcp", "127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b.vsctl("set-controller", b.name, "tcp:"+l.Addr().String())
	ctx := testContext(t)
	c, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	id := strings.Trim(strings.TrimSpace(b.vsctl("get", "bridge", b.name, "datapath_id")), `"`)
	if got := fmt.Sprintf("%016x", c.DatapathID()); got != id {
		t.Errorf("datapath id %s, want %s", got, id)
	}

	flow := Flow{Table: 0, Priority: 1, Cookie: 0x77, Match: MatchOf(EthType(0x1234)), Actions: []Action{SetReg(3, 9), Controller(40)}}
	if err := c.Apply(ctx, []FlowMod{AddFlow(flow)}); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 60)
	packet[12], packet[13], packet[59] = 0x12, 0x34, 0x99
	if err := c.PacketOut(ctx, PacketOut{InPort: PortLocal, Actions: []Action{OutTable}, Data: packet}); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-c.PacketIns():
		if p.Cookie != 0x77 || p.InPort() != PortLocal || p.Reason != reasonPacketOut || int(p.TotalLen) != len(packet) || len(p.Data) != len(packet) {
			t.Errorf("packet-in %+v", p)
		}
		if v, _, _ := p.Match.Get(FieldReg3); v.Lo != 9 {
			t.Errorf("packet-in without its register: %s", p.Match)
		}
	case <-ctx.Done():
		t.Fatal("no packet-in")
	}

	testEvents(t, b, c, flow)

	b.vsctl("del-controller", b.name)
	select {
	case <-c.Done():
		if c.Err() == nil {
			t.Error("connection ended without an error")
		}
	case <-ctx.Done():
		t.Fatal("end of connection not seen")
	}
	if err := c.Barrier(ctx); err == nil {
		t.Error("barrier on a dead connection")
	}
}

// testEvents adds a port, and removes a flow that wants to be mourned.
func testEvents(t *testing.T, b *bridge, c *Conn, flow Flow) {
	t.Helper()
	ctx := testContext(t)
	b.vsctl("add-port", b.name, b.name+"p", "--", "set", "interface", b.name+"p", "type=dummy", "ofport_request=7")
	for seen := false; !seen; {
		select {
		case ev := <-c.Events():
			seen = ev.Port != nil && ev.Port.Reason == PortAdded && ev.Port.Port.Name == b.name+"p" && ev.Port.Port.No == 7
		case <-ctx.Done():
			t.Fatal("no port status")
		}
	}
	ports, err := c.PortDescs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(ports, func(p PortDesc) bool { return p.No == 7 && p.Name == b.name+"p" && p.MAC != MAC{} }) {
		t.Errorf("ports %+v", ports)
	}

	gone := flow
	gone.Flags, gone.Priority = SendFlowRem, 2
	if err := c.Apply(ctx, []FlowMod{AddFlow(gone), DeleteFlow(gone)}); err != nil {
		t.Fatal(err)
	}
	for seen := false; !seen; {
		select {
		case ev := <-c.Events():
			if ev.FlowRemoved != nil {
				seen = true
				if r := ev.FlowRemoved; r.Reason != 2 || r.Stats.Cookie != 0x77 || r.Stats.Match != flow.Match || r.Stats.Priority != 2 {
					t.Errorf("flow removed %+v", r)
				}
			}
		case <-ctx.Done():
			t.Fatal("no flow removed")
		}
	}
}

func TestSmallRequests(t *testing.T) {
	for _, v := range []Version{V13, V14, V15} {
		b := newBridge(t)
		c := b.dial(Options{Versions: []Version{v}})
		ctx := testContext(t)
		if err := errors.Join(c.Barrier(ctx), c.Echo(ctx), c.SetConfig(ctx, Config{MissSendLen: 77})); err != nil {
			t.Fatal(err)
		}
		if cfg, err := c.GetConfig(ctx); err != nil || cfg.MissSendLen != 77 {
			t.Errorf("%s: config %+v %v", v, cfg, err)
		}
		if d, err := c.Describe(ctx); err != nil || !strings.Contains(d.Hardware, "Open vSwitch") {
			t.Errorf("%s: description %+v %v", v, d, err)
		}
		mod := AddFlow(Flow{Table: 5, Actions: []Action{Normal}})
		if err := c.Send(ctx, &mod); err != nil {
			t.Error(err)
		}
		tables, err := c.TableStats(ctx)
		if err != nil || len(tables) < 250 || tables[5].Active != 1 || tables[6].Active != 0 {
			t.Errorf("%s: %d tables, %v", v, len(tables), err)
		}
		if ports, err := c.PortDescs(ctx); err != nil || len(ports) != 1 || ports[0].No != PortLocal {
			t.Errorf("%s: ports %+v %v", v, ports, err)
		}
		packet := make([]byte, 60)
		if err := c.PacketOut(ctx, PacketOut{InPort: PortController, Actions: []Action{Normal}, Data: packet}); err != nil {
			t.Errorf("%s: %v", v, err)
		}
		err = c.PacketOut(ctx, PacketOut{InPort: PortController, Actions: []Action{SetIPDst(MustAddr("192.0.2.1"))}, Data: packet})
		var e *Error
		if !errors.As(err, &e) || len(e.Data) < 8 {
			t.Errorf("%s: bad packet-out: %v", v, err)
		}
	}
}

func TestFlowMonitor(t *testing.T) {
	for _, v := range []Version{V14, V15} {
		t.Run(v.String(), func(t *testing.T) { testFlowMonitor(t, Options{Versions: []Version{v}}) })
	}
}

func testFlowMonitor(t *testing.T, opts Options) {
	b := newBridge(t)
	c, other := b.dial(opts), b.dial(Options{})
	ctx := testContext(t)
	first := Flow{Table: 3, Priority: 9, Cookie: 5, Match: MatchOf(TCP(), TPDst(80, 0xffff)), Actions: []Action{Output(3)}}
	if err := other.Apply(ctx, []FlowMod{AddFlow(first), AddFlow(Flow{Table: 4})}); err != nil {
		t.Fatal(err)
	}
	m, err := c.MonitorFlows(ctx, MonitorRequest{Table: 3, Initial: true})
	if err != nil {
		t.Fatal(err)
	}
	next := func(event MonitorEvent, want Flow) {
		t.Helper()
		select {
		case u, ok := <-m.C:
			if !ok {
				t.Fatalf("monitor ended: %v", m.Err())
			}
			if u.Event != event || !u.Flow.Equal(&want) {
				t.Errorf("event %d of %s, want %d of %s", u.Event, u.Flow.String(), event, want.String())
			}
		case <-ctx.Done():
			t.Fatalf("no event %d", event)
		}
	}
	next(FlowInitial, first)
	second := first
	second.Priority = 10
	if err := other.Apply(ctx, []FlowMod{AddFlow(second)}); err != nil {
		t.Fatal(err)
	}
	next(FlowAdded, second)
	second.Actions = []Action{Output(4)}
	if err := other.Apply(ctx, []FlowMod{{Command: ModifyStrict, Flow: second}}); err != nil {
		t.Fatal(err)
	}
	next(FlowModified, second)
	if err := other.Apply(ctx, []FlowMod{DeleteFlow(second)}); err != nil {
		t.Fatal(err)
	}
	next(FlowGone, second)
	if err := c.StopMonitor(ctx, m); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-m.C; ok || m.Err() != nil {
		t.Errorf("monitor after stop: %v", m.Err())
	}
	m, err = c.MonitorFlows(ctx, MonitorRequest{Table: AllTables})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, ok := <-m.C; ok || !errors.Is(m.Err(), ErrClosed) {
		t.Errorf("monitor after close: %v", m.Err())
	}
}

// TestManyCallers uses one connection from several goroutines, some of whose requests are refused.
func TestManyCallers(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 20 {
				flow := Flow{Table: uint8(g), Priority: uint16(i), Actions: []Action{Output(uint32(1 + i))}}
				if i%5 == 4 {
					bad := flow
					bad.Actions = []Action{SetIPDst(MustAddr("192.0.2.1"))}
					err := c.Apply(ctx, []FlowMod{AddFlow(flow), AddFlow(bad)})
					var fe *FlowError
					if !errors.As(err, &fe) || fe.Index != 1 {
						t.Errorf("error %v", err)
					}
					continue
				}
				if err := c.Apply(ctx, []FlowMod{AddFlow(flow)}); err != nil {
					t.Error(err)
				}
				if got, err := c.DumpFlows(ctx, FlowFilter{Table: uint8(g)}); err != nil || len(got) != i+1-i/5 {
					t.Errorf("table %d after %d: %d flows, %v", g, i, len(got), err)
				}
			}
		}()
	}
	wg.Wait()
}

// fakeSwitch answers a handshake and leaves the rest to the test.
func fakeSwitch(t *testing.T, opts Options) (*Conn, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = theirs.Close() })
	go serveHandshake(theirs)
	c, err := NewConn(testContext(t), ours, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, theirs
}

func serveHandshake(nc net.Conn) {
	_, _ = readMessage(nc, nil)
	_, _ = nc.Write(appendHello(nil, []Version{V14}))
	msg, err := readMessage(nc, nil)
	if err != nil {
		return
	}
	reply, _ := finishMessage(append(appendHeader(nil, V14, typeFeaturesReply, decodeHeader(msg).xid), make([]byte, 24)...), 0)
	_, _ = nc.Write(reply)
}

func TestEchoIsAnswered(t *testing.T) {
	_, peer := fakeSwitch(t, Options{KeepAlive: -1})
	ask, _ := finishMessage(append(appendHeader(nil, V14, typeEchoRequest, 99), "hello"...), 0)
	if _, err := peer.Write(ask); err != nil {
		t.Fatal(err)
	}
	msg, err := readMessage(peer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := decodeHeader(msg); h.typ != typeEchoReply || h.xid != 99 || string(msg[8:]) != "hello" {
		t.Errorf("answer % x", msg)
	}
}

func TestSilentSwitchIsGivenUp(t *testing.T) {
	c, peer := fakeSwitch(t, Options{KeepAlive: 5 * time.Millisecond})
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	err := c.Barrier(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "silent") {
		t.Errorf("barrier to a silent switch: %v", err)
	}
}

func TestCallerMayGiveUp(t *testing.T) {
	c, peer := fakeSwitch(t, Options{KeepAlive: -1})
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan header, 1)
	go func() {
		msg, err := readMessage(peer, nil)
		if err == nil {
			got <- decodeHeader(msg)
			cancel()
		}
	}()
	if err := c.Barrier(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("barrier: %v", err)
	}
	// The late answer goes nowhere, and the next request is served.
	late := <-got
	go func() {
		b, _ := finishMessage(appendHeader(nil, V14, typeBarrierReply, late.xid), 0)
		_, _ = peer.Write(b)
		msg, err := readMessage(peer, nil)
		if err != nil {
			return
		}
		b, _ = finishMessage(appendHeader(nil, V14, typeBarrierReply, decodeHeader(msg).xid), 0)
		_, _ = peer.Write(b)
	}()
	if err := c.Barrier(testContext(t)); err != nil {
		t.Errorf("next barrier: %v", err)
	}
}

func TestGarbageEndsTheConnection(t *testing.T) {
	message := func(typ msgType, body ...byte) []byte {
		b, _ := finishMessage(append(appendHeader(nil, V14, typ, 1), body...), 0)
		return b
	}
	for name, bytes := range map[string][]byte{
		"length below a header": {5, 10, 0, 7, 0, 0, 0, 0},
		"short packet-in":       message(typePacketIn, 1, 2, 3),
		"short port status":     message(typePortStatus, 1),
		"short flow removed":    message(typeFlowRemoved, 1),
		"short error":           message(typeError, 1),
		"end inside a message":  message(typePacketIn, make([]byte, 100)...)[:50],
	} {
		c, peer := fakeSwitch(t, Options{KeepAlive: -1})
		if _, err := peer.Write(bytes); err != nil {
			t.Fatal(err)
		}
		_ = peer.Close()
		<-c.Done()
		if c.Err() == nil {
			t.Errorf("%s: no error", name)
		}
		if _, ok := <-c.PacketIns(); ok {
			t.Errorf("%s: delivered a packet", name)
		}
	}
}

func TestSlowReaderLosesButDoesNotBlock(t *testing.T) {
	c, peer := fakeSwitch(t, Options{KeepAlive: -1, Buffer: 2})
	body := binary.BigEndian.AppendUint32(nil, noBuffer)
	body = append(body, make([]byte, 12)...)
	body, err := appendMatch(body, MatchOf(InPort(1)))
	if err != nil {
		t.Fatal(err)
	}
	packet, _ := finishMessage(append(appendHeader(nil, V14, typePacketIn, 0), append(body, 0, 0)...), 0)
	go func() {
		for range 5 {
			_, _ = peer.Write(packet)
		}
		msg, err := readMessage(peer, nil)
		if err == nil {
			b, _ := finishMessage(appendHeader(nil, V14, typeBarrierReply, decodeHeader(msg).xid), 0)
			_, _ = peer.Write(b)
		}
	}()
	if err := c.Barrier(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if c.Lost() != 3 {
		t.Errorf("lost %d", c.Lost())
	}
}

func TestHandshakeRefusals(t *testing.T) {
	hello := func(v Version, elements ...byte) []byte {
		b, _ := finishMessage(append(appendHeader(nil, v, typeHello, 0), elements...), 0)
		return b
	}
	for name, first := range map[string][]byte{
		"OpenFlow 1.0 only":   hello(1),
		"bitmap without ours": hello(V15, 0, 1, 0, 8, 0, 0, 0, 1<<1|1<<6),
		"not a hello":         func() []byte { b, _ := finishMessage(appendHeader(nil, V14, typeBarrierReply, 0), 0); return b }(),
		"an error": func() []byte {
			b, _ := finishMessage(append(appendHeader(nil, V14, typeError, 0), 0, 0, 0, 0), 0)
			return b
		}(),
		"garbage":                 []byte("GET / HTTP/1.1\r\n\r\n"),
		"connection closed early": nil,
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = readMessage(theirs, nil)
			_, _ = theirs.Write(first)
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			if first == nil || name == "garbage" {
				_ = theirs.Close()
			}
		}()
		if c, err := NewConn(testContext(t), ours, Options{}); err == nil {
			t.Errorf("%s: connected with %s", name, c.Version())
		}
		_ = theirs.Close()
	}
}

func TestVersionNegotiation(t *testing.T) {
	for _, tt := range []struct {
		ours   []Version
		theirs uint32
		want   Version
	}{
		{[]Version{V14}, 1<<1 | 1<<4 | 1<<5, V14},
		{[]Version{V13, V14, V15}, 1<<4 | 1<<5, V14},
		{[]Version{V13, V15}, 1 << 4, V13},
		{[]Version{V14}, helloVersions(header{version: V15}, nil), V14},
		{[]Version{V15}, helloVersions(header{version: V14}, nil), 0},
	} {
		if got, _ := negotiate(tt.ours, tt.theirs); got != tt.want {
			t.Errorf("%v with %#x: %s", tt.ours, tt.theirs, got)
		}
	}
}

func TestListenerShrugsOffStrangers(t *testing.T) {
	l, err := Listen("tcp", "127.0.0.1:0", Options{Handshake: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	friend, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go serveHandshake(friend)
	c, err := l.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	_, _ = stranger.Close(), friend.Close()
}
