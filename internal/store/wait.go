package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// waiter waits for the replica to reach a revision.
type waiter struct {
	rev  int64
	done chan struct{}
}

// progressAfter is how long a waiter trusts that the watch brings its revision by itself.  Revisions that touched none of our keys
// (someone else uses the same cluster) show only when etcd is asked for its progress.
const progressAfter = 5 * time.Millisecond

// waitFor returns a snapshot at rev or later.
func (s *Store) waitFor(ctx context.Context, rev int64) (*snapshot, error) {
	if snap := s.cur.Load(); snap.rev >= rev {
		return snap, nil
	}
	w := &waiter{rev: rev, done: make(chan struct{})}
	s.mu.Lock()
	if snap := s.cur.Load(); snap.rev >= rev {
		s.mu.Unlock()
		return snap, nil
	}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	var tick <-chan time.Time
	if s.external {
		t := time.NewTicker(progressAfter)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-w.done:
			return s.cur.Load(), nil
		case <-tick:
			s.askProgress()
		case <-ctx.Done():
			s.forget(w)
			return nil, ctx.Err()
		case <-s.done:
			s.forget(w)
			return nil, s.closedErr()
		}
	}
}

func (s *Store) forget(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.waiters {
		if o == w {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			return
		}
	}
}

// askProgress makes etcd tell the watch how far it has come.  Many waiters ask as one.
func (s *Store) askProgress() {
	if !s.asking.TryLock() {
		return
	}
	defer s.asking.Unlock()
	ctx, cancel := context.WithTimeout(s.watchCtx, time.Second)
	defer cancel()
	_ = s.client.RequestProgress(ctx) // a lost request is asked again by the next tick
}

// fresh returns a snapshot that shows every write acknowledged, by any server, before the call.
//
// The only member of an embedded cluster has shown every acknowledged write already: Update returns after its revision is in the
// replica.  With an external cluster one linearizable read tells the revision to wait for, shared by all who ask meanwhile.
func (s *Store) fresh(ctx context.Context) (*snapshot, error) {
	if !s.external {
		if err := s.closed(); err != nil {
			return nil, err
		}
		return s.cur.Load(), nil
	}
	rev, err := s.heads.revision(ctx, s.readRevision)
	if err != nil {
		return nil, err
	}
	return s.waitFor(ctx, rev)
}

// readRevision asks the cluster, through its leader, which revision it is at.
func (s *Store) readRevision() (int64, error) {
	ctx, cancel := context.WithTimeout(s.ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, formatKey, clientv3.WithKeysOnly())
	if err != nil {
		return 0, fmt.Errorf("read revision of etcd: %w", err)
	}
	return resp.Header.Revision, nil
}

// heads shares linearizable reads: who comes while one is under way waits for the next one, because the one under way may
// already have been answered with an older revision.
type heads struct {
	mu   sync.Mutex
	busy bool
	next *headCall
}

type headCall struct {
	done chan struct{}
	rev  int64
	err  error
}

func (h *heads) revision(ctx context.Context, read func() (int64, error)) (int64, error) {
	h.mu.Lock()
	c := h.next
	if c == nil {
		c = &headCall{done: make(chan struct{})}
		h.next = c
	}
	if !h.busy {
		h.busy = true
		go h.run(read)
	}
	h.mu.Unlock()
	select {
	case <-c.done:
		return c.rev, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run answers calls until none is left.
func (h *heads) run(read func() (int64, error)) {
	for {
		h.mu.Lock()
		c := h.next
		h.next = nil
		if c == nil {
			h.busy = false
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		c.rev, c.err = read()
		close(c.done)
	}
}
