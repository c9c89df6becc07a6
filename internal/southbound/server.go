// Package southbound carries records from the servers to the nodes and statuses back: gRPC over mutual TLS, one stream per node.
//
// Server side: Server follows the store, compiles (package compile) and feeds each connected node what is its own.  A change marks
// keys on the connections it concerns; each connection sends the latest of what is marked when its node can take it, so a slow node
// costs a set of keys and nobody else waits.  Records are encoded once and shared.
//
// Node side: Client keeps what the node holds in memory and in a file, hands it to the agent as nodestate.Updates, reconnects by
// itself to any of its servers, and brings reports to the store at least once.
//
// A reconnect costs what changed: the node names what it holds by 64 digests, then by 16 bytes per record of the digests that
// differ, and gets only differences.  That needs no memory of the node on any server, so a restarted or other server resumes as well.
//
// A node is who its certificate says.  It is sent its own records and may report only on those.  This is the only package that sees
// the wire messages.
package southbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"baryon/internal/compile"
	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/pki"
	"baryon/internal/store"
	pb "baryon/proto/baryon/v1"
)

// NodeService is what the rules do with what nodes say.  An error whose Temporary method says false is an answer; every other error
// means later, and the call is repeated.
type NodeService interface {
	RegisterNode(ctx context.Context, info nodestate.NodeInfo) error
	Heartbeat(ctx context.Context, host string) error
	// NodeGone is called when a node's stream is lost and no other server has it.
	NodeGone(ctx context.Context, host string) error
	ApplyReports(ctx context.Context, host string, statuses []nodestate.Status) error
	SetInstance(ctx context.Context, host, portID string, in nodestate.Instance) error
}

// Config is what a Server is given.
type Config struct {
	Store     *store.Store
	Nodes     NodeService
	Authority *pki.Authority
	Compile   compile.Config
	Log       *slog.Logger     // nil: slog.Default()
	Now       func() time.Time // nil: time.Now
	Name      string           // of this server, in sessions: for people
	// HeartbeatEvery is how often a connected node is written down as alive; zero: 15 s.
	HeartbeatEvery time.Duration
}

// Limits of the protocol.
const (
	defaultHeartbeat = 15 * time.Second
	keepaliveTime    = 10 * time.Second // a silent connection is asked after this
	keepaliveTimeout = 5 * time.Second  // and dropped after this without an answer
	helloTimeout     = 10 * time.Second
	idleTimeout      = time.Minute // of a connection without a stream: no node's
	maxFromNode      = 4 << 20     // bytes of a message from a node
	bufferSize       = 4 << 10     // per connection and direction: there are many connections, and most are quiet
	stopGrace        = 2 * time.Second
	enrolParallel    = 8
	reportParallel   = 64
	beatParallel     = 16
)

// Server is the server side of the southbound protocol.
type Server struct {
	cfg   Config
	log   *slog.Logger
	now   func() time.Time
	ready chan struct{} // closed when the first snapshot is compiled

	mu     sync.RWMutex // engine and conns; a conn's own lock is taken inside it, never around
	engine *compile.Engine
	conns  map[string]*conn

	enrolments chan struct{} // semaphores
	reports    chan struct{}
	stats      counters
}

// counters are what Stats reads.
type counters struct {
	updates, records, bytes, resyncs, reports, refused atomic.Int64
}

// Stats is what a Server has done since it started.
type Stats struct {
	Nodes    int   // connected now
	Records  int   // compiled now
	Revision int64 // of the store, compiled
	Updates  int64 // messages sent with records
	Sent     int64 // records sent
	Bytes    int64 // of records sent
	Resyncs  int64 // nodes brought up to date after they connected
	Reports  int64 // statuses and instances handed to the rules
	Refused  int64 // statuses and instances that were not the node's own
}

// NodeStatus is a connected node.
type NodeStatus struct {
	Host    string
	Remote  string
	Since   time.Time
	Pending int    // keys not yet sent
	Sent    uint64 // updates sent
	Acked   uint64 // updates that the node holds
}

// NewServer makes a server; Run and Serve start it.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Nodes == nil || cfg.Authority == nil {
		return nil, errors.New("make southbound server: Store, Nodes and Authority are needed")
	}
	if cfg.HeartbeatEvery == 0 {
		cfg.HeartbeatEvery = defaultHeartbeat
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, now: cfg.Now,
		ready:      make(chan struct{}),
		engine:     compile.NewEngine(cfg.Compile, Encode),
		conns:      make(map[string]*conn),
		enrolments: make(chan struct{}, enrolParallel),
		reports:    make(chan struct{}, reportParallel),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Ready is closed once the store's state is compiled; nodes that come earlier wait.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run follows the store until ctx ends.  It must run for Serve to serve.
func (s *Server) Run(ctx context.Context) error {
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		s.keepNodes(ctx)
	}()
	defer func() { <-beats }()
	for first := true; ; first = false {
		snapshot, batches := s.cfg.Store.Watch(ctx)
		s.mu.Lock()
		s.engine.Reset(snapshot)
		s.mu.Unlock()
		if first {
			close(s.ready)
		} else {
			// The watch broke: nodes may hold anything between the two snapshots, and a resync finds out what.
			s.dropAll(errResync)
		}
		for b := range batches {
			s.follow(b)
		}
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("store watch ended; following the store anew")
	}
}

// follow takes one batch of the store to the nodes it concerns.
func (s *Server) follow(b store.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delta := s.engine.Apply(b)
	for host, keys := range delta.Nodes {
		if c := s.conns[host]; c != nil {
			c.mark(keys)
		}
	}
	for _, change := range b.Changes {
		switch change.Table {
		case pki.CertificateTable.Name:
			s.certificateChanged(change)
		case model.PortStatusTable.Name:
			s.statusChanged(b.After, change)
		}
	}
}

func (s *Server) certificateChanged(change store.Change) {
	row, _ := change.New.(*pki.Certificate)
	if row == nil || row.Revoked == "" {
		return
	}
	if c := s.conns[row.Host]; c != nil && c.serial == row.Serial {
		c.close(errRevoked)
	}
}

// statusChanged asks a node again about a port whose status was reset.  Usually the port's own change does that; but of an unbind and
// a bind that arrive as one batch nothing is left to see in the port.
func (s *Server) statusChanged(r store.Read, change store.Change) {
	if row, _ := change.New.(*model.PortStatus); row != nil && row.Host != "" {
		return
	}
	p, ok := store.Get(r, model.PortTable, change.Key)
	if !ok {
		return
	}
	k := nodestate.PortKey(change.Key)
	if c := s.conns[p.Binding.Host]; c != nil {
		if _, own := s.engine.Get(c.host, k); own {
			c.mark([]nodestate.Key{k})
		}
	}
}

// Serve answers nodes on a listener until ctx ends; it closes the listener.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	srv := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.cfg.Authority.ServerConfig())),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, MaxConnectionIdle: idleTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxFromNode),
		grpc.MaxConcurrentStreams(4),
		grpc.ConnectionTimeout(helloTimeout),
		grpc.ReadBufferSize(bufferSize), grpc.WriteBufferSize(bufferSize),
	)
	pb.RegisterSouthboundServer(srv, southbound{s: s})
	pb.RegisterEnrolmentServer(srv, enrolment{s: s})
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.dropAll(errStopping)
		force := time.AfterFunc(stopGrace, srv.Stop)
		defer force.Stop()
		srv.GracefulStop()
	})
	err := srv.Serve(lis)
	if !unwatch() {
		<-stopped
		return nil
	}
	srv.Stop()
	if err != nil {
		return fmt.Errorf("serve southbound on %s: %w", lis.Addr(), err)
	}
	return nil
}

func (s *Server) dropAll(why error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.conns {
		c.close(why)
	}
}

// Stats tells what the server has done.
func (s *Server) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{
		Nodes: len(s.conns), Records: s.engine.Len(), Revision: s.engine.Revision(),
		Updates: s.stats.updates.Load(), Sent: s.stats.records.Load(), Bytes: s.stats.bytes.Load(),
		Resyncs: s.stats.resyncs.Load(), Reports: s.stats.reports.Load(), Refused: s.stats.refused.Load(),
	}
}

// Nodes are the nodes connected to this server, in no order.
func (s *Server) Nodes() []NodeStatus {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]NodeStatus, 0, len(s.conns))
	for _, c := range s.conns {
		out = append(out, c.status())
	}
	return out
}

// Records are the records that a node needs, in key order: what it holds when it is in sync.
func (s *Server) Records(host string) []nodestate.Record {
	s.mu.RLock()
	var encoded [][]byte
	for e := range s.engine.Records(host) {
		encoded = append(encoded, e.Bytes)
	}
	s.mu.RUnlock()
	out := make([]nodestate.Record, 0, len(encoded))
	for _, b := range encoded {
		if r, err := Decode(b); err == nil {
			out = append(out, r)
		}
	}
	nodestate.Sort(out)
	return out
}

// Wanted is the revision of the store at which a record of a node last changed; a node that reports it, or a later one, has it.
func (s *Server) Wanted(host string, k nodestate.Key) (revision int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.engine.Get(host, k)
	if !ok {
		return 0, false
	}
	return e.Revision, true
}
