package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/semaphore"

	"baryon/internal/resource"
)

// AnyTable is a table of any row type.
type AnyTable = resource.AnyTable

// Options say where the data is and what it looks like.
type Options struct {
	Dir       string      // embedded: the data directory, made if missing
	Endpoints []string    // external cluster; empty: embedded
	TLS       *tls.Config // external: nil for a cluster without TLS
	Username  string      // external: empty for a cluster without authentication
	Password  string
	Log       *slog.Logger // nil: silent
	Tables    []AnyTable   // all tables; rows of others in etcd are left alone

	// UnsafeNoFsync makes the embedded etcd lose data when the machine (not the process) crashes.  For tests.
	UnsafeNoFsync bool
}

// Store is the cluster's state: a replica in memory, writes through etcd.  Its methods may be called from any goroutine.
type Store struct {
	log      *slog.Logger
	schema   *schema
	back     *backend
	client   *clientv3.Client
	external bool

	ctx      context.Context // ends when the store closes
	cancel   context.CancelFunc
	watchCtx context.Context // ctx, asking for a member that has a leader
	done     chan struct{}   // closed when the store closes or fails
	stopped  chan struct{}   // closed when the replica has ended
	closing  sync.Once
	failure  atomic.Pointer[error]

	gate    *semaphore.Weighted
	heads   heads
	asking  sync.Mutex
	pending pending
	stats   stats

	cur     atomic.Pointer[snapshot]
	mu      sync.Mutex // guards what follows, and orders it with cur
	waiters []*waiter
	subs    map[*subscription]struct{}
}

// Open starts or reaches etcd, checks the format of the data, reads all of it and follows it from there on.  ctx bounds the
// opening, not the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	sc, err := newSchema(o.Tables)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	var back *backend
	if len(o.Endpoints) > 0 {
		back, err = openExternal(ctx, o)
	} else if o.Dir == "" {
		err = errors.New("neither a data directory nor endpoints are given")
	} else {
		back, err = openEmbedded(ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		log:      o.Log,
		schema:   sc,
		back:     back,
		client:   back.client,
		external: back.server == nil,
		done:     make(chan struct{}),
		stopped:  make(chan struct{}),
		gate:     semaphore.NewWeighted(gateSize),
		pending:  pending{rows: map[string]sent{}},
		subs:     map[*subscription]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.watchCtx = clientv3.WithRequireLeader(s.ctx)
	if err := s.start(ctx); err != nil {
		s.cancel()
		return nil, errors.Join(fmt.Errorf("open store: %w", err), back.close())
	}
	go s.replicate()
	go s.maintain()
	return s, nil
}

// start writes the format version into an empty cluster and makes the first snapshot.
func (s *Store) start(ctx context.Context) error {
	tctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := s.client.Txn(tctx).
		If(clientv3.Compare(clientv3.ModRevision(formatKey), "=", 0)).
		Then(clientv3.OpPut(formatKey, strconv.Itoa(formatVersion))).
		Commit()
	if err != nil {
		return fmt.Errorf("write format version: %w", err)
	}
	b, err := s.load(ctx, emptySnapshot(s.schema), true)
	if err != nil {
		return err
	}
	s.cur.Store(b.next)
	return nil
}

// Close ends all waiting calls and watches and stops the embedded etcd.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.fail(ErrClosed)
		s.cancel()
		<-s.stopped
		err = s.back.close()
	})
	return err
}

// fail ends the service of the store for good.
func (s *Store) fail(err error) {
	if s.failure.CompareAndSwap(nil, &err) {
		close(s.done)
	}
}

// closed tells why the store no longer serves, nil if it does.
func (s *Store) closed() error {
	if e := s.failure.Load(); e != nil {
		return *e
	}
	return nil
}

func (s *Store) closedErr() error {
	if err := s.closed(); err != nil {
		return err
	}
	return ErrClosed
}

// Snapshot returns the newest local snapshot.  It never blocks and shows every Update that returned on this Store; writes of other
// servers it may not show yet.
func (s *Store) Snapshot() Read { return s.cur.Load() }

// View runs f on a snapshot that shows every write acknowledged before the call, by any server.  The snapshot stays valid after f.
func (s *Store) View(ctx context.Context, f func(r Read) error) error {
	snap, err := s.fresh(ctx)
	if err != nil {
		return fmt.Errorf("view store: %w", err)
	}
	return f(snap)
}
