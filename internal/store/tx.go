package store

import (
	"fmt"
	"sort"

	"baryon/internal/resource"
)

// Tx is a transaction in the making: reads see its own writes.  It belongs to one goroutine and is of no use once the function
// that got it has returned.
type Tx interface {
	Read

	tx() *tx
}

// Put stores a row under its key, replacing what was there.  The row must not be changed afterwards.  What is wrong with a row (an
// empty key, bytes that are no UTF-8, a value that JSON cannot hold) is reported by Update.
func Put[T any](t Tx, tab *resource.Table[T], row *T) {
	x := t.tx()
	d := x.base.def(tab.Name)
	if row == nil {
		x.fail(fmt.Errorf("put into %s: row is nil", d.name))
		return
	}
	key := tab.Key(row)
	if key == "" {
		x.fail(fmt.Errorf("put into %s: key is empty", d.name))
		return
	}
	if err := checkKey("key", key); err != nil {
		x.fail(fmt.Errorf("put into %s: %w", d.name, err))
		return
	}
	x.write(d, key, row)
}

// Delete removes a row and tells whether it was there.
func Delete[T any](t Tx, tab *resource.Table[T], key string) bool {
	x := t.tx()
	d := x.base.def(tab.Name)
	if x.get(d, key) == nil {
		return false
	}
	x.write(d, key, nil)
	return true
}

// ref names a row within a transaction.
type ref struct {
	ord int
	key string
}

// findRef names a set that a transaction has read: an index's value, or a whole table with index -1.
type findRef struct {
	ord   int
	index int
	value string
}

// write is what a transaction wants a row to be; a nil row is deleted.
type write struct {
	def *tableDef
	key string
	val any  // *T as given; nil: delete
	old *row // the snapshot's row, nil if absent
}

// tx collects what a function read and wrote on one snapshot.
type tx struct {
	base   *snapshot
	reads  map[ref]int64 // rows read from the snapshot: revision, 0 if absent
	finds  map[findRef]struct{}
	byRef  map[ref]int
	writes []write // in the order of the first write of each row
	perTab []int   // number of writes per table
	err    error   // first misuse
}

func newTx(base *snapshot) *tx {
	return &tx{
		base:   base,
		reads:  map[ref]int64{},
		finds:  map[findRef]struct{}{},
		byRef:  map[ref]int{},
		perTab: make([]int, len(base.tables)),
	}
}

// Revision is the revision of the snapshot that the transaction started from.
func (x *tx) Revision() int64 { return x.base.rev }

func (x *tx) view() (*snapshot, *tx) { return x.base, x }

func (x *tx) tx() *tx { return x }

func (x *tx) fail(err error) {
	if x.err == nil {
		x.err = err
	}
}

// get reads a row: the transaction's own, or the snapshot's, which is then part of what must hold at commit.
func (x *tx) get(d *tableDef, key string) any {
	k := ref{d.ord, key}
	if i, ok := x.byRef[k]; ok {
		return x.writes[i].val
	}
	r := x.base.get(d, key)
	if r == nil {
		x.reads[k] = 0
		return nil
	}
	x.reads[k] = r.mod
	return r.val
}

func (x *tx) write(d *tableDef, key string, val any) {
	k := ref{d.ord, key}
	i, ok := x.byRef[k]
	if !ok {
		i = len(x.writes)
		x.byRef[k] = i
		x.perTab[d.ord]++
		x.writes = append(x.writes, write{def: d, key: key, old: x.base.get(d, key)})
	}
	x.writes[i].val = val
}

func (x *tx) find(d *tableDef, index int, value string, yield func(any) bool) {
	x.finds[findRef{d.ord, index, value}] = struct{}{}
	x.merge(d,
		func(f func(*row) bool) { x.base.each(d, index, value, f) },
		func(v any) bool { return contains(d.indexes[index].values(v), value) },
		yield)
}

func (x *tx) all(d *tableDef, yield func(any) bool) {
	x.finds[findRef{d.ord, -1, ""}] = struct{}{}
	x.merge(d, func(f func(*row) bool) { x.base.eachRow(d, f) }, func(any) bool { return true }, yield)
}

// merge yields the snapshot's rows with the transaction's own writes laid over them, by key.  The caller may write while it
// iterates; what is yielded is the state at the start.
func (x *tx) merge(d *tableDef, each func(func(*row) bool), match, yield func(any) bool) {
	if x.perTab[d.ord] == 0 {
		each(func(r *row) bool { return yield(r.val) })
		return
	}
	known := len(x.writes)
	var own []write
	for _, w := range x.writes {
		if w.def == d && w.val != nil && match(w.val) {
			own = append(own, w)
		}
	}
	sort.Slice(own, func(i, j int) bool { return own[i].key < own[j].key })
	more := true
	each(func(r *row) bool {
		for more && len(own) > 0 && own[0].key < r.key {
			more, own = yield(own[0].val), own[1:]
		}
		if i, overlaid := x.byRef[ref{d.ord, r.key}]; more && !(overlaid && i < known) {
			more = yield(r.val)
		}
		return more
	})
	for more && len(own) > 0 {
		more, own = yield(own[0].val), own[1:]
	}
}

// countOwn is how many more rows match because of the transaction's own writes.
func (x *tx) countOwn(d *tableDef, match func(any) bool) int {
	n := 0
	if x.perTab[d.ord] == 0 {
		return 0
	}
	for _, w := range x.writes {
		if w.def != d {
			continue
		}
		if w.old != nil && match(w.old.val) {
			n--
		}
		if w.val != nil && match(w.val) {
			n++
		}
	}
	return n
}

// Guard makes the transaction commit only if no other writer has touched the set that Find would return, without reading it: for
// decisions taken on Count.
func Guard[T any](t Tx, tab *resource.Table[T], index, value string) {
	x := t.tx()
	d := x.base.def(tab.Name)
	x.finds[findRef{d.ord, d.index(index), value}] = struct{}{}
}

// Base is the snapshot that the transaction started from, for reads that need not hold at commit: a hint where to look, a list to
// choose from.  They are no conditions of the commit and do not see the transaction's own writes.  What must hold is read from the
// Tx itself, or held by a unique index.
func Base(t Tx) Read { return t.tx().base }
