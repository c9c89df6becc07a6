package store

import (
	"fmt"

	"github.com/google/btree"

	"baryon/internal/resource"
)

// degree of the B-trees: nodes of 15 to 31 items, a compromise between memory (full nodes) and what one change copies.
const degree = 16

// schema is what Options.Tables declared.  It never changes.
type schema struct {
	defs   []*tableDef
	byName map[string]*tableDef
}

// tableDef is one table.  indexes holds the shared indexes first, then the unique ones.
type tableDef struct {
	name    string
	ord     int
	key     func(any) string
	blank   func() any
	indexes []indexDef
	byName  map[string]int
}

type indexDef struct {
	name   string
	unique bool
	values func(any) []string
}

func newSchema(tables []resource.AnyTable) (*schema, error) {
	s := &schema{byName: make(map[string]*tableDef, len(tables))}
	for _, t := range tables {
		e := t.Erase()
		if err := checkName(e.Name); err != nil {
			return nil, fmt.Errorf("table %q: %w", e.Name, err)
		}
		if s.byName[e.Name] != nil {
			return nil, fmt.Errorf("table %q is listed twice", e.Name)
		}
		d := &tableDef{name: e.Name, ord: len(s.defs), key: e.Key, blank: e.New, byName: map[string]int{}}
		if err := d.addIndexes(e.Indexes, false); err != nil {
			return nil, err
		}
		if err := d.addIndexes(e.Uniques, true); err != nil {
			return nil, err
		}
		s.defs = append(s.defs, d)
		s.byName[e.Name] = d
	}
	return s, nil
}

func (d *tableDef) addIndexes(in []resource.ErasedIndex, unique bool) error {
	for _, ix := range in {
		if err := checkName(ix.Name); err != nil {
			return fmt.Errorf("index %q of table %q: %w", ix.Name, d.name, err)
		}
		if _, dup := d.byName[ix.Name]; dup {
			return fmt.Errorf("table %q has two indexes named %q", d.name, ix.Name)
		}
		d.byName[ix.Name] = len(d.indexes)
		d.indexes = append(d.indexes, indexDef{name: ix.Name, unique: unique, values: ix.Values})
	}
	return nil
}

// checkName keeps names of tables and indexes fit to be one element of an etcd key.
func checkName(n string) error {
	if n == "" {
		return fmt.Errorf("name is empty")
	}
	for _, c := range n {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("name has %q, want a-z, 0-9 and _", c)
		}
	}
	return nil
}

// index finds an index by name.  A wrong name is a bug of the caller, not input.
func (d *tableDef) index(name string) int {
	i, ok := d.byName[name]
	if !ok {
		panic(fmt.Sprintf("store: table %q has no index %q", d.name, name))
	}
	return i
}

// row is one stored row.  It is immutable and shared by all snapshots that have it.
type row struct {
	key string
	mod int64 // etcd's revision that wrote it
	val any   // *T
}

// item makes a row findable by key without allocating a row to compare with.
type item struct {
	key string
	row *row
}

func lessItem(a, b item) bool { return a.key < b.key }

// entry holds the rows under one value of an index: one inline, several in a tree by key.
type entry struct {
	value string
	one   *row
	many  *btree.BTreeG[item]
}

func lessEntry(a, b entry) bool { return a.value < b.value }

func (e entry) len() int {
	if e.many != nil {
		return e.many.Len()
	}
	return 1
}

// guard is a guard key and the revision that wrote it.
type guard struct {
	key string
	mod int64
}

func lessGuard(a, b guard) bool { return a.key < b.key }

// newTree makes a tree that keeps no freed nodes: with copy on write there are hardly any, and small trees are many.
func newTree[T any](less btree.LessFunc[T]) *btree.BTreeG[T] {
	return btree.NewWithFreeListG(degree, less, btree.NewFreeListG[T](0))
}

// table is the rows of one table with their indexes.
type table struct {
	rows    *btree.BTreeG[item]
	indexes []*btree.BTreeG[entry]
}

func newTable(d *tableDef) *table {
	t := &table{rows: newTree(lessItem), indexes: make([]*btree.BTreeG[entry], len(d.indexes))}
	for i := range t.indexes {
		t.indexes[i] = newTree(lessEntry)
	}
	return t
}

// snapshot is the state at one revision.  It is immutable once published; the trees share their nodes with those of its
// neighbours in time.
type snapshot struct {
	schema *schema
	rev    int64
	tables []*table
	guards *btree.BTreeG[guard]
}

func emptySnapshot(sc *schema) *snapshot {
	s := &snapshot{schema: sc, guards: newTree(lessGuard)}
	for _, d := range sc.defs {
		s.tables = append(s.tables, newTable(d))
	}
	return s
}

// Revision is etcd's revision that the snapshot shows.
func (s *snapshot) Revision() int64 { return s.rev }

func (s *snapshot) view() (*snapshot, *tx) { return s, nil }

func (s *snapshot) def(name string) *tableDef {
	d := s.schema.byName[name]
	if d == nil {
		panic(fmt.Sprintf("store: table %q is not among the tables that the store was opened with", name))
	}
	return d
}

func (s *snapshot) get(d *tableDef, key string) *row {
	it, _ := s.tables[d.ord].rows.Get(item{key: key})
	return it.row
}

func (s *snapshot) guardMod(key string) int64 {
	g, _ := s.guards.Get(guard{key: key})
	return g.mod
}

// holder is the row that holds a value of a unique index, nil if none.
func (s *snapshot) holder(d *tableDef, index int, value string) *row {
	e, _ := s.tables[d.ord].indexes[index].Get(entry{value: value})
	return e.one
}

// each calls f for the rows under a value of an index, by key, until f returns false.
func (s *snapshot) each(d *tableDef, index int, value string, f func(*row) bool) {
	e, ok := s.tables[d.ord].indexes[index].Get(entry{value: value})
	switch {
	case !ok:
	case e.many == nil:
		f(e.one)
	default:
		e.many.Ascend(func(it item) bool { return f(it.row) })
	}
}

func (s *snapshot) eachRow(d *tableDef, f func(*row) bool) {
	s.tables[d.ord].rows.Ascend(func(it item) bool { return f(it.row) })
}

func (s *snapshot) count(d *tableDef, index int, value string) int {
	e, ok := s.tables[d.ord].indexes[index].Get(entry{value: value})
	if !ok {
		return 0
	}
	return e.len()
}
