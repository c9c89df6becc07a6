package store

import (
	"iter"

	"baryon/internal/resource"
)

// Read is the state at one revision: a snapshot, or a transaction's snapshot with the transaction's own writes on it.  Rows read
// from it are constants: copy before changing.
type Read interface {
	// Revision is the revision of the snapshot.  Revisions are etcd's: they grow with every commit and have gaps.
	Revision() int64

	view() (*snapshot, *tx) // tx is nil for a plain snapshot
}

// Get returns the row with the key.
func Get[T any](r Read, t *resource.Table[T], key string) (*T, bool) {
	s, x := r.view()
	d := s.def(t.Name)
	var v any
	if x != nil {
		v = x.get(d, key)
	} else if row := s.get(d, key); row != nil {
		v = row.val
	}
	if v == nil {
		return nil, false
	}
	return v.(*T), true
}

// Find returns the rows that stand under a value of an index or hold a value of a unique index, by key.  In a Tx the set is what
// it was when the iteration began, and the transaction commits only if no other writer has inserted into the set, changed a row
// of it or taken one out by then.
func Find[T any](r Read, t *resource.Table[T], index, value string) iter.Seq[*T] {
	s, x := r.view()
	d := s.def(t.Name)
	i := d.index(index)
	return func(yield func(*T) bool) {
		emit := func(v any) bool { return yield(v.(*T)) }
		if x != nil {
			x.find(d, i, value, emit)
			return
		}
		s.each(d, i, value, func(r *row) bool { return emit(r.val) })
	}
}

// All returns all rows of the table, by key.  In a Tx it is guarded as Find is: any other write to the table is a conflict, so a
// transaction on a busy table should use Find.
func All[T any](r Read, t *resource.Table[T]) iter.Seq[*T] {
	s, x := r.view()
	d := s.def(t.Name)
	return func(yield func(*T) bool) {
		emit := func(v any) bool { return yield(v.(*T)) }
		if x != nil {
			x.all(d, emit)
			return
		}
		s.eachRow(d, func(r *row) bool { return emit(r.val) })
	}
}

// Count returns how many rows stand under a value of an index; the index "" means the whole table.  Its cost does not grow with
// the number.  In a Tx it includes the transaction's own writes, but other writers may change it before the
// commit, unless the set is guarded by Guard.
func Count[T any](r Read, t *resource.Table[T], index, value string) int {
	s, x := r.view()
	d := s.def(t.Name)
	if index == "" {
		n := s.tables[d.ord].rows.Len()
		if x != nil {
			n += x.countOwn(d, func(any) bool { return true })
		}
		return n
	}
	i := d.index(index)
	n := s.count(d, i, value)
	if x != nil {
		n += x.countOwn(d, func(v any) bool { return contains(d.indexes[i].values(v), value) })
	}
	return n
}

func contains(list []string, v string) bool {
	for _, s := range list {
		if s == v {
			return true
		}
	}
	return false
}
