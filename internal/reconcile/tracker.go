package reconcile

import (
	"context"
	"sync"
)

// Status is how far one object is.  State is the owner's own word ("done", "pending", …).
type Status[S comparable] struct {
	Wanted  int64 // revision that is wanted
	Applied int64 // revision that State speaks of
	State   S
	Reason  string
}

// Tracker holds the status of many objects.  It is safe for concurrent use.
//
// One side calls Want and Set, another drains Changed, others look with Get and All or wait with Wait.
type Tracker[K comparable, S comparable] struct {
	mu      sync.Mutex
	objects map[K]Status[S]
	changed map[K]struct{}
	moved   chan struct{} // closed and replaced when something changes, if somebody waits
	waiting int
}

// NewTracker makes an empty tracker.
func NewTracker[K comparable, S comparable]() *Tracker[K, S] {
	return &Tracker[K, S]{objects: map[K]Status[S]{}, changed: map[K]struct{}{}, moved: make(chan struct{})}
}

// Want says that revision rev of k is wanted.
func (t *Tracker[K, S]) Want(k K, rev int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.objects[k]
	s.Wanted = rev
	t.objects[k] = s
}

// Set says what became of revision rev of k.  Only a real change counts as changed.  Objects that nobody wants are ignored.
func (t *Tracker[K, S]) Set(k K, rev int64, state S, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.objects[k]
	if !ok {
		return
	}
	n := Status[S]{Wanted: s.Wanted, Applied: rev, State: state, Reason: reason}
	if n == s {
		return
	}
	t.objects[k] = n
	t.changed[k] = struct{}{}
	t.wake()
}

// Forget drops k.
func (t *Tracker[K, S]) Forget(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.objects, k)
	delete(t.changed, k)
	t.wake()
}

func (t *Tracker[K, S]) wake() {
	if t.waiting > 0 {
		close(t.moved)
		t.moved = make(chan struct{})
		t.waiting = 0
	}
}

// Changed returns the statuses set since the last call.
func (t *Tracker[K, S]) Changed() map[K]Status[S] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.changed) == 0 {
		return nil
	}
	out := make(map[K]Status[S], len(t.changed))
	for k := range t.changed {
		out[k] = t.objects[k]
	}
	clear(t.changed)
	return out
}

// Get returns the status of k.
func (t *Tracker[K, S]) Get(k K) (Status[S], bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.objects[k]
	return s, ok
}

// All returns a copy of everything.
func (t *Tracker[K, S]) All() map[K]Status[S] {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[K]Status[S], len(t.objects))
	for k, s := range t.objects {
		out[k] = s
	}
	return out
}

// Wait returns when ok says yes to the status of k (the zero Status while k is not known), or with the last status and the
// context's error.
func (t *Tracker[K, S]) Wait(ctx context.Context, k K, ok func(s Status[S], known bool) bool) (Status[S], error) {
	for {
		t.mu.Lock()
		s, known := t.objects[k]
		if ok(s, known) {
			t.mu.Unlock()
			return s, nil
		}
		t.waiting++
		moved := t.moved
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-moved:
		}
	}
}
