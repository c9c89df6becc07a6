package store

import "github.com/google/btree"

// builder makes the next snapshot out of one.  It copies a tree only when the first change touches it.  One goroutine, the
// replica's, builds; that is what makes cloning the trees of a published snapshot safe.
type builder struct {
	base    *snapshot
	next    *snapshot
	touched []bool // tables of next that are its own
	guards  bool   // next.guards is its own
	fresh   map[*btree.BTreeG[item]]struct{}
	changes []Change
}

func newBuilder(base *snapshot) *builder {
	next := *base
	next.tables = append([]*table(nil), base.tables...)
	return &builder{base: base, next: &next, touched: make([]bool, len(next.tables)), fresh: map[*btree.BTreeG[item]]struct{}{}}
}

// table gives the table in a form that may be changed.
func (b *builder) table(d *tableDef) *table {
	if !b.touched[d.ord] {
		old := b.next.tables[d.ord]
		t := &table{rows: old.rows.Clone(), indexes: make([]*btree.BTreeG[entry], len(old.indexes))}
		for i, ix := range old.indexes {
			t.indexes[i] = ix.Clone()
		}
		b.next.tables[d.ord] = t
		b.touched[d.ord] = true
	}
	return b.next.tables[d.ord]
}

// put stores a row and records the change.
func (b *builder) put(d *tableDef, r *row) {
	t := b.table(d)
	old, had := t.rows.ReplaceOrInsert(item{key: r.key, row: r})
	c := Change{Table: d.name, Key: r.key, New: r.val}
	var oldVal any
	if had {
		oldVal = old.row.val
		c.Old = oldVal
	}
	for i, ix := range d.indexes {
		now := ix.values(r.val)
		if had {
			for _, v := range ix.values(oldVal) {
				if !contains(now, v) {
					b.drop(t.indexes[i], v, old.row)
				}
			}
		}
		for _, v := range now {
			b.add(t.indexes[i], ix.unique, v, r)
		}
	}
	b.changes = append(b.changes, c)
}

// remove deletes a row and records the change; deleting the absent is nothing.
func (b *builder) remove(d *tableDef, key string) {
	if b.next.get(d, key) == nil {
		return
	}
	t := b.table(d)
	old, _ := t.rows.Delete(item{key: key})
	for i, ix := range d.indexes {
		for _, v := range ix.values(old.row.val) {
			b.drop(t.indexes[i], v, old.row)
		}
	}
	b.changes = append(b.changes, Change{Table: d.name, Key: key, Old: old.row.val})
}

// add puts a row under a value.  Within one transaction a unique value may move between rows in an order in which two seem to
// hold it; the last one added is the one that holds it in the end.
func (b *builder) add(ix *btree.BTreeG[entry], unique bool, value string, r *row) {
	e, ok := ix.Get(entry{value: value})
	switch {
	case !ok || unique:
		ix.ReplaceOrInsert(entry{value: value, one: r})
	case e.many == nil && e.one.key == r.key:
		ix.ReplaceOrInsert(entry{value: e.value, one: r})
	case e.many == nil:
		m := newTree(lessItem)
		b.fresh[m] = struct{}{}
		m.ReplaceOrInsert(item{key: e.one.key, row: e.one})
		m.ReplaceOrInsert(item{key: r.key, row: r})
		ix.ReplaceOrInsert(entry{value: e.value, many: m})
	default:
		m := b.own(ix, e)
		m.ReplaceOrInsert(item{key: r.key, row: r})
	}
}

// drop takes a row from under a value, unless another row stands there by now.
func (b *builder) drop(ix *btree.BTreeG[entry], value string, r *row) {
	e, ok := ix.Get(entry{value: value})
	switch {
	case !ok:
	case e.many == nil:
		if e.one.key == r.key {
			ix.Delete(e)
		}
	default:
		m := b.own(ix, e)
		m.Delete(item{key: r.key})
		if m.Len() == 1 {
			last, _ := m.Min()
			ix.ReplaceOrInsert(entry{value: e.value, one: last.row})
		}
	}
}

// own gives the tree of an entry in a form that may be changed.
func (b *builder) own(ix *btree.BTreeG[entry], e entry) *btree.BTreeG[item] {
	if _, mine := b.fresh[e.many]; mine {
		return e.many
	}
	m := e.many.Clone()
	b.fresh[m] = struct{}{}
	ix.ReplaceOrInsert(entry{value: e.value, many: m})
	return m
}

// setGuard notes a guard's revision; 0 removes it.
func (b *builder) setGuard(key string, mod int64) {
	if !b.guards {
		b.next.guards = b.next.guards.Clone()
		b.guards = true
	}
	if mod == 0 {
		b.next.guards.Delete(guard{key: key})
		return
	}
	b.next.guards.ReplaceOrInsert(guard{key: key, mod: mod})
}
