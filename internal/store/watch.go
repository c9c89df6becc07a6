package store

import (
	"context"
	"sync"
)

// Batch is what changed since the batch before it: the changes of one or more revisions, in order.
type Batch struct {
	Revision int64    // the newest revision in it
	Changes  []Change // never empty
	After    Read     // the snapshot at Revision
}

// Change is one row's change.  Old and New are *T of the table's row type, nil where there was or is no row.
type Change struct {
	Table, Key string
	Old, New   any
}

// maxQueued bounds the changes that wait for one slow consumer.  Beyond it they are dropped and the consumer gets the difference
// of two snapshots instead, which has at most one change per row.
const maxQueued = 8192

// subscription is one consumer of batches.  The replica only appends to its queue, so a slow consumer never blocks a writer.
type subscription struct {
	mu      sync.Mutex
	queue   []Batch
	queued  int       // changes in queue
	dropped bool      // the queue was given up; newest says where the consumer has to get to
	newest  *snapshot // the newest snapshot offered
	wake    chan struct{}
}

// offer hands a batch to the consumer.
func (u *subscription) offer(b Batch, after *snapshot) {
	u.mu.Lock()
	u.newest = after
	switch {
	case u.dropped:
	case u.queued+len(b.Changes) > maxQueued && u.queued > 0:
		u.queue, u.queued, u.dropped = nil, 0, true
	default:
		u.queue = append(u.queue, b)
		u.queued += len(b.Changes)
	}
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.  last is the snapshot that the consumer has seen.
func (u *subscription) take(last *snapshot) []Batch {
	u.mu.Lock()
	queue, dropped, newest := u.queue, u.dropped, u.newest
	u.queue, u.queued, u.dropped = nil, 0, false
	u.mu.Unlock()
	if !dropped {
		return queue
	}
	changes := diff(last, newest)
	if len(changes) == 0 {
		return nil
	}
	return []Batch{{Revision: newest.rev, Changes: changes, After: newest}}
}

// Watch returns the newest snapshot and a channel of exactly the changes after it.  The channel is closed when ctx ends or the
// store is closed.  A consumer may be as slow as it likes: nobody waits for it, and when too much has piled up it gets one batch
// that leads from the last state it saw to the newest.
func (s *Store) Watch(ctx context.Context) (Read, <-chan Batch) {
	u := &subscription{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	snap := s.cur.Load()
	s.subs[u] = struct{}{}
	s.mu.Unlock()
	ch := make(chan Batch)
	go func() {
		defer close(ch)
		defer func() {
			s.mu.Lock()
			delete(s.subs, u)
			s.mu.Unlock()
		}()
		u.pump(ctx, s.done, snap, ch)
	}()
	return snap, ch
}

func (u *subscription) pump(ctx context.Context, done <-chan struct{}, last *snapshot, ch chan<- Batch) {
	for {
		for _, b := range u.take(last) {
			select {
			case ch <- b:
				last, _ = b.After.view()
			case <-ctx.Done():
				return
			case <-done:
				return
			}
		}
		select {
		case <-u.wake:
		case <-ctx.Done():
			return
		case <-done:
			return
		}
	}
}

// diff lists what leads from one snapshot to another, by table and key.
func diff(from, to *snapshot) []Change {
	var out []Change
	for _, d := range to.schema.defs {
		a, b := from.tables[d.ord].rows, to.tables[d.ord].rows
		if a == b {
			continue
		}
		b.Ascend(func(it item) bool {
			old, ok := a.Get(item{key: it.key})
			switch {
			case !ok:
				out = append(out, Change{Table: d.name, Key: it.key, New: it.row.val})
			case old.row.mod != it.row.mod:
				out = append(out, Change{Table: d.name, Key: it.key, Old: old.row.val, New: it.row.val})
			}
			return true
		})
		a.Ascend(func(it item) bool {
			if _, ok := b.Get(item{key: it.key}); !ok {
				out = append(out, Change{Table: d.name, Key: it.key, Old: it.row.val})
			}
			return true
		})
	}
	return out
}
