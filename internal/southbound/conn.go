package southbound

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
	pb "baryon/proto/baryon/v1"
)

// Why a server ends a stream.
var (
	errStopping   = status.Error(codes.Unavailable, "server is stopping")
	errResync     = status.Error(codes.Unavailable, "server follows the store anew")
	errRevoked    = status.Error(codes.Unauthenticated, "certificate revoked; enrol the host again")
	errSuperseded = status.Error(codes.Aborted, "the same node has connected again")
)

// Bounds of what is in flight to a node.
const (
	chunkSize  = 256 << 10 // bytes of records in one message, beyond which another message begins
	maxUnacked = 8         // messages
)

// conn is one node's stream.  The handler's goroutine sends, another receives; marks come from the server's follow.
type conn struct {
	s       *Server
	host    string
	serial  string
	remote  string
	session string
	since   time.Time
	ctx     context.Context
	stream  pb.Southbound_ConnectServer
	wake    chan struct{} // capacity 1: something below has changed

	mu       sync.Mutex
	phase    phase
	asked    uint64 // buckets that the node was asked a summary of
	summary  []uint64
	pending  map[nodestate.Key]struct{}
	deletes  []uint64 // key hashes of what the node holds and must not
	synced   bool     // the next update tells so
	sent     uint64
	acked    uint64
	plan     bool // to be sent
	acks     uint64
	acksSent uint64
	notice   string
	closed   error
	reports  reports
	info     *nodestate.NodeInfo // the last, not yet registered
	keeping  bool                // a goroutine registers
	nextBeat time.Time
}

// phase is how far the start of a stream is.
type phase int

const (
	planned phase = iota // waiting for the summary
	live
)

func (c *conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// close ends the stream with an error for the node; the first reason counts.
func (c *conn) close(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil {
		c.closed = why
	}
	c.kick()
}

// mark notes keys to be sent, all of one change at once, so that no message holds half of it.
func (c *conn) mark(keys []nodestate.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		c.pending[k] = struct{}{}
	}
	c.kick()
}

func (c *conn) status() NodeStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return NodeStatus{Host: c.host, Remote: c.remote, Since: c.since, Pending: len(c.pending), Sent: c.sent, Acked: c.acked}
}

// start compares the node's digests with what it needs.  The caller holds the server's lock, so that no change falls between this
// and the marks that follow.
func (c *conn) start(digests []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plan, c.synced = true, true
	if len(digests) != buckets { // holds nothing
		c.phase = live
		for e := range c.s.engine.Records(c.host) {
			c.pending[e.Key] = struct{}{}
		}
		c.kick()
		return
	}
	var want [buckets]uint64
	statuses := c.s.cfg.Store.Snapshot()
	for e := range c.s.engine.Records(c.host) {
		want[bucketOf(e.KeyHash)] ^= mix(e.KeyHash, e.Hash)
		if unheard(statuses, c.host, e.Key) {
			c.pending[e.Key] = struct{}{}
		}
	}
	for i := range want {
		if want[i] != digests[i] {
			c.asked |= 1 << i
		}
	}
	if c.asked == 0 {
		c.phase = live
	}
	c.kick()
}

// unheard tells whether the store has no word of the node on a record whose state the API shows.  Such a record is sent even if the
// node holds it, so that it says again how far it is: what it said may have been forgotten while it was away.
func unheard(r store.Read, host string, k nodestate.Key) bool {
	if k.Kind != nodestate.KindPort && k.Kind != nodestate.KindDHCPHost {
		return false
	}
	row, ok := store.Get(r, model.PortStatusTable, k.ID)
	if k.Kind == nodestate.KindPort {
		return !ok || row.Host != host
	}
	return !ok || !row.DHCPReady
}

// maxSummary bounds what a node may claim to hold, in hashes.
const maxSummary = 2 << 20

// summarised takes the node's list of what it holds and marks the differences.
func (c *conn) summarised(m *pb.Summary) error {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != planned || len(m.GetHashes())%2 != 0 {
		return status.Error(codes.InvalidArgument, "summary that was not asked for, or is cut")
	}
	c.summary = append(c.summary, m.GetHashes()...)
	if len(c.summary) > maxSummary {
		return status.Error(codes.ResourceExhausted, "summary of too many records")
	}
	if m.GetMore() {
		return nil
	}
	holds := make(map[uint64]uint64, len(c.summary)/2)
	for i := 0; i < len(c.summary); i += 2 {
		holds[c.summary[i]] = c.summary[i+1]
	}
	c.summary = nil
	for e := range c.s.engine.Records(c.host) {
		if c.asked&(1<<bucketOf(e.KeyHash)) == 0 {
			continue
		}
		hash, ok := holds[e.KeyHash]
		delete(holds, e.KeyHash)
		if !ok || hash != e.Hash {
			c.pending[e.Key] = struct{}{}
		}
	}
	for k := range holds {
		c.deletes = append(c.deletes, k)
	}
	c.phase = live
	c.kick()
	return nil
}

// run sends until the stream ends.
func (c *conn) run() error {
	for {
		msgs, err := c.next()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if err := c.stream.Send(m); err != nil {
				return fmt.Errorf("send to %s: %w", c.host, err)
			}
		}
		if len(msgs) > 0 {
			continue
		}
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// next is what to send now; empty: nothing, or the node must first take what is on its way.
func (c *conn) next() ([]*pb.ToNode, error) {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return nil, c.closed
	}
	var out []*pb.ToNode
	if c.plan {
		c.plan = false
		asked := c.asked
		out = append(out, &pb.ToNode{Message: &pb.ToNode_Plan{Plan: &pb.Plan{Buckets: asked}}})
	}
	if c.acks > c.acksSent {
		c.acksSent = c.acks
		out = append(out, &pb.ToNode{Message: &pb.ToNode_ReportAck{ReportAck: &pb.ReportAck{Seq: c.acks}}})
	}
	if c.notice != "" {
		out = append(out, &pb.ToNode{Message: &pb.ToNode_Notice{Notice: &pb.Notice{Text: c.notice}}})
		c.notice = ""
	}
	if c.phase != live || c.sent-c.acked >= maxUnacked || len(c.pending)+len(c.deletes) == 0 && !c.synced {
		return out, nil
	}
	return append(out, c.updates()...), nil
}

// updates turns everything marked into one change, in as many messages as its size asks.
func (c *conn) updates() []*pb.ToNode {
	revision := c.s.engine.Revision()
	var out []*pb.ToNode
	var size, records int
	cur := &pb.Update{Revision: revision, Deletes: c.deletes}
	flush := func(more bool) {
		c.sent++
		cur.Seq, cur.More = c.sent, more
		out = append(out, &pb.ToNode{Message: &pb.ToNode_Update{Update: cur}})
		c.s.stats.bytes.Add(int64(size))
		c.s.stats.updates.Add(1)
		cur, size = &pb.Update{Revision: revision}, 0
	}
	for k := range c.pending {
		if e, ok := c.s.engine.Get(c.host, k); ok {
			if size > 0 && size+len(e.Bytes) > chunkSize {
				flush(true)
			}
			cur.Upserts = append(cur.Upserts, e.Bytes)
			size += len(e.Bytes)
			records++
		} else {
			cur.Deletes = append(cur.Deletes, nodestate.HashKey(k))
		}
	}
	cur.Synced = c.synced
	flush(false)
	if c.synced {
		c.s.stats.resyncs.Add(1)
	}
	c.s.stats.records.Add(int64(records))
	c.synced, c.deletes = false, nil
	c.pending = make(map[nodestate.Key]struct{})
	return out
}

// receive takes what the node says until the stream ends.
func (c *conn) receive() error {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return err
		}
		switch v := m.GetMessage().(type) {
		case *pb.FromNode_Summary:
			err = c.summarised(v.Summary)
		case *pb.FromNode_Ack:
			err = c.ack(v.Ack.GetSeq())
		case *pb.FromNode_Reports:
			err = c.reported(v.Reports)
		case *pb.FromNode_Info:
			err = c.introduced(v.Info)
		case *pb.FromNode_Hello:
			err = status.Error(codes.InvalidArgument, "second hello")
		default:
			// A newer node says something that this server does not know.
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) ack(seq uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq > c.sent || seq < c.acked {
		return status.Errorf(codes.InvalidArgument, "ack of %d after %d of %d", seq, c.acked, c.sent)
	}
	c.acked = seq
	c.kick()
	return nil
}

// permanent tells whether an error of the rules is their answer, so that asking again is of no use.
func permanent(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && !t.Temporary()
}
