package alloc

import (
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
)

// Layout maps values to ids and says how many there are.
type Layout[T any] interface {
	Size() uint64
	ID(v T) (id uint64, ok bool) // false: the value is not in the space (an address outside the pools)
	Value(id uint64) T
}

// Item is one value of one space.
type Item[T comparable] struct {
	Space string
	Value T
}

// Step is what one or more store revisions changed, in no order.
type Step[T comparable] struct {
	Revision int64              // the newest
	Touched  []Item[T]          // values that were taken or freed, or both
	Gone     []string           // spaces that do not exist any more
	Used     func(Item[T]) bool // whether a value is taken at Revision
}

// Ledger keeps the free values of many spaces.  Spaces are made when first asked for, from the used values of the newest revision
// applied.  Safe for concurrent use.
type Ledger[T comparable] struct {
	mu       sync.Mutex
	used     func(space string) iter.Seq[T]
	revision int64
	layouts  int                          // how many layouts of a space are kept
	spaces   map[string][]*ledgerSpace[T] // the layout used last comes last
	holds    map[Item[T]]int
	pending  []pendingDrop[T] // holds of committed transactions that Apply has not seen yet
}

type ledgerSpace[T any] struct {
	layout Layout[T]
	space  *Space
}

type pendingDrop[T comparable] struct {
	revision int64
	items    []Item[T]
}

// NewLedger makes a ledger at a revision.  used lists the values of a space that are taken at the revision that was last applied;
// it is called with the ledger locked.
func NewLedger[T comparable](revision int64, used func(space string) iter.Seq[T]) *Ledger[T] {
	return &Ledger[T]{
		used: used, revision: revision, layouts: 1,
		spaces: make(map[string][]*ledgerSpace[T]), holds: make(map[Item[T]]int),
	}
}

// KeepLayouts makes the ledger remember the n layouts last used of each space instead of one, for spaces from which different callers pick
// different parts.
func (l *Ledger[T]) KeepLayouts(n int) { l.layouts = max(n, 1) }

// Apply brings the ledger to a later revision.  advance is called first, with the ledger locked, so that used reads the new state from
// then on.
func (l *Ledger[T]) Apply(step Step[T], advance func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	advance()
	for _, name := range step.Gone {
		delete(l.spaces, name)
	}
	for _, it := range step.Touched {
		if step.Used(it) {
			l.mark(it, (*Space).Use)
		} else {
			l.mark(it, (*Space).Free)
		}
	}
	l.revision = step.Revision
	rest := l.pending[:0]
	for _, p := range l.pending {
		if p.revision <= l.revision {
			l.drop(p.items)
		} else {
			rest = append(rest, p)
		}
	}
	clear(l.pending[len(rest):])
	l.pending = rest
}

// Hold picks a free value and holds it until Release.
func (l *Ledger[T]) Hold(space string, layout Layout[T], r *rand.Rand, how Choice) (T, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sp := l.ensure(space, layout)
	id, ok := sp.space.Pick(r, how)
	if !ok {
		var zero T
		return zero, false
	}
	it := Item[T]{space, sp.layout.Value(id)}
	l.mark(it, (*Space).Hold)
	l.holds[it]++
	return it.Value, true
}

// HoldValue holds one value, so that Hold does not propose it to others.  It may be held or used already: the store decides who gets it.
func (l *Ledger[T]) HoldValue(space string, layout Layout[T], v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ensure(space, layout)
	it := Item[T]{space, v}
	l.mark(it, (*Space).Hold)
	l.holds[it]++
}

// Release gives held values back.  revision is the one the values were committed at, 0 if they were not: a committed value stays held
// until Apply has brought that revision, so that there is no moment at which it looks free.
func (l *Ledger[T]) Release(revision int64, items []Item[T]) {
	if len(items) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision > l.revision {
		l.pending = append(l.pending, pendingDrop[T]{revision, items})
		return
	}
	l.drop(items)
}

// ensure gives the space, built anew when it is unknown or its layout has changed.
func (l *Ledger[T]) ensure(name string, layout Layout[T]) *ledgerSpace[T] {
	kept := l.spaces[name]
	if i := slices.IndexFunc(kept, func(sp *ledgerSpace[T]) bool { return sameLayout(sp.layout, layout) }); i >= 0 {
		sp := kept[i]
		copy(kept[i:], kept[i+1:])
		kept[len(kept)-1] = sp
		return sp
	}
	sp := &ledgerSpace[T]{layout: layout, space: NewSpace(layout.Size())}
	for v := range l.used(name) {
		if id, ok := layout.ID(v); ok {
			sp.space.Use(id)
		}
	}
	for it := range l.holds {
		if id, ok := layout.ID(it.Value); ok && it.Space == name {
			sp.space.Hold(id)
		}
	}
	if len(kept) >= l.layouts {
		kept = slices.Delete(kept, 0, len(kept)-l.layouts+1)
	}
	l.spaces[name] = append(kept, sp)
	return sp
}

// sameLayout compares layouts that know how to; others are the same.
func sameLayout[T any](a, b Layout[T]) bool {
	e, ok := a.(interface{ Equal(Layout[T]) bool })
	return !ok || e.Equal(b)
}

func (l *Ledger[T]) mark(it Item[T], f func(*Space, uint64)) {
	for _, sp := range l.spaces[it.Space] {
		if id, ok := sp.layout.ID(it.Value); ok {
			f(sp.space, id)
		}
	}
}

func (l *Ledger[T]) drop(items []Item[T]) {
	for _, it := range items {
		if l.holds[it]--; l.holds[it] > 0 {
			continue
		}
		delete(l.holds, it)
		l.mark(it, (*Space).Drop)
	}
}
