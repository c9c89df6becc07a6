// Package delta compares what is wanted with what is there.
//
// Plan compares two maps once.  Map keeps both sides and the set of keys on which they differ, so that a change of one key costs the
// same whether there are ten keys or a hundred thousand.  Neither looks at the world: a driver tells what it saw (Seen, Gone, Load),
// a manager what it wants (Set, Unset), and the driver works off Pending and tells again what it has done.
//
// A Map is not safe for concurrent use: its one caller is a driver's loop.
package delta

import "iter"

// Op says what has to be done with a key.
type Op uint8

// The operations.
const (
	None   Op = iota // wanted and actual agree
	Add              // wanted, not there
	Change           // wanted, there, but different
	Remove           // there, not wanted
)

func (o Op) String() string {
	return [...]string{"none", "add", "change", "remove"}[o]
}

// Changes is the difference of two maps.
type Changes[K comparable, V any] struct {
	Add    map[K]V // wanted, not there
	Change map[K]V // the wanted value, where another is there
	Remove map[K]V // the value that is there and not wanted
}

// Empty reports that nothing has to be done.
func (c Changes[K, V]) Empty() bool { return len(c.Add)+len(c.Change)+len(c.Remove) == 0 }

// Plan returns what turns have into want.
func Plan[K comparable, V any](want, have map[K]V, equal func(a, b V) bool) Changes[K, V] {
	c := Changes[K, V]{Add: map[K]V{}, Change: map[K]V{}, Remove: map[K]V{}}
	for k, w := range want {
		h, ok := have[k]
		switch {
		case !ok:
			c.Add[k] = w
		case !equal(w, h):
			c.Change[k] = w
		}
	}
	for k, h := range have {
		if _, ok := want[k]; !ok {
			c.Remove[k] = h
		}
	}
	return c
}

// Map holds wanted and actual values and the keys on which they differ.
//
// Orphans are keys that Load found and that nobody has wanted since the Map was made.  While the Map is held they are not pending:
// a restarted node must not remove what it does not know yet.  Release, called once the wanted side is known to be complete,
// makes them pending.  What was wanted and is wanted no more is pending at once, held or not.
type Map[K comparable, V any] struct {
	equal   func(a, b V) bool
	want    map[K]V
	have    map[K]V
	pending map[K]struct{}
	orphans map[K]struct{}
	held    bool
}

// NewMap makes an empty Map.  Held says that orphans must wait for Release.
func NewMap[K comparable, V any](equal func(a, b V) bool, held bool) *Map[K, V] {
	return &Map[K, V]{
		equal: equal, want: map[K]V{}, have: map[K]V{}, pending: map[K]struct{}{}, orphans: map[K]struct{}{}, held: held,
	}
}

// Set wants v under k.
func (m *Map[K, V]) Set(k K, v V) {
	m.want[k] = v
	delete(m.orphans, k)
	m.check(k)
}

// Unset wants nothing under k.
func (m *Map[K, V]) Unset(k K) {
	if _, ok := m.want[k]; !ok {
		return
	}
	delete(m.want, k)
	m.check(k)
}

// Seen records that v is there under k.
func (m *Map[K, V]) Seen(k K, v V) {
	m.have[k] = v
	m.check(k)
}

// Gone records that nothing is there under k.
func (m *Map[K, V]) Gone(k K) {
	delete(m.have, k)
	delete(m.orphans, k)
	m.check(k)
}

// Load replaces the whole actual side.
func (m *Map[K, V]) Load(have map[K]V) {
	old := m.have
	m.have = have
	clear(m.orphans)
	for k := range old {
		m.check(k)
	}
	for k := range m.want {
		m.check(k)
	}
	for k := range have {
		if _, wanted := m.want[k]; wanted {
			continue
		}
		if m.held {
			m.orphans[k] = struct{}{}
		}
		m.check(k)
	}
}

// Orphans ranges over the keys that are held, in no order.  Condemn may be called meanwhile.
func (m *Map[K, V]) Orphans() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range m.orphans {
			if !yield(k) {
				return
			}
		}
	}
}

// Condemn makes one orphan pending although the Map is held: its time is over whatever is still to come.
func (m *Map[K, V]) Condemn(k K) {
	if _, ok := m.orphans[k]; ok {
		delete(m.orphans, k)
		m.check(k)
	}
}

// Release ends holding: orphans become pending removals.
func (m *Map[K, V]) Release() {
	m.held = false
	for k := range m.orphans {
		delete(m.orphans, k)
		m.check(k)
	}
}

func (m *Map[K, V]) check(k K) {
	if m.op(k) == None {
		delete(m.pending, k)
		return
	}
	m.pending[k] = struct{}{}
}

func (m *Map[K, V]) op(k K) Op {
	w, wanted := m.want[k]
	h, there := m.have[k]
	switch {
	case wanted && !there:
		return Add
	case wanted && !m.equal(w, h):
		return Change
	case !wanted && there:
		if _, orphan := m.orphans[k]; orphan {
			return None
		}
		return Remove
	}
	return None
}

// Op says what has to be done with k now.
func (m *Map[K, V]) Op(k K) Op { return m.op(k) }

// Pending ranges over the keys on which the sides differ, in no order.  Set, Seen and the like may be called meanwhile.
func (m *Map[K, V]) Pending() iter.Seq2[K, Op] {
	return func(yield func(K, Op) bool) {
		for k := range m.pending {
			if !yield(k, m.op(k)) {
				return
			}
		}
	}
}

// PendingLen is the number of pending keys.
func (m *Map[K, V]) PendingLen() int { return len(m.pending) }

// Wanted is the wanted value of k.
func (m *Map[K, V]) Wanted(k K) (V, bool) { v, ok := m.want[k]; return v, ok }

// Actual is the value last seen under k.
func (m *Map[K, V]) Actual(k K) (V, bool) { v, ok := m.have[k]; return v, ok }

// Want ranges over the wanted side, in no order.
func (m *Map[K, V]) Want() iter.Seq2[K, V] { return all(m.want) }

// Have ranges over the actual side, in no order.
func (m *Map[K, V]) Have() iter.Seq2[K, V] { return all(m.have) }

// WantLen is the number of wanted keys.
func (m *Map[K, V]) WantLen() int { return len(m.want) }

func all[K comparable, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, v := range m {
			if !yield(k, v) {
				return
			}
		}
	}
}
