package resource

// Table says how rows of T are kept by the store: the table's name, a row's primary key, the indexes rows are found by and
// the values that at most one row may hold.  Every API definition has one; rows that no API shows (segment allocations,
// certificates) have a Table alone.
//
// A Table is a declaration: built once in a package variable, never changed afterwards.
type Table[T any] struct {
	Name    string
	Key     func(*T) string
	Indexes []Index[T]
	Uniques []Index[T]
}

// Index names a set of values that a row is found under.  Values returns zero or more values; a row may stand under several
// (a port under each of its addresses).  Values must be a pure function of the row.
type Index[T any] struct {
	Name   string
	Values func(*T) []string
}

// NewTable declares a table.  name is also the stem of its keys in etcd, so it must not change once data exists.
func NewTable[T any](name string, key func(*T) string) *Table[T] {
	return &Table[T]{Name: name, Key: key}
}

// Index adds an index that several rows may share a value of.
func (t *Table[T]) Index(name string, values func(*T) []string) *Table[T] {
	t.Indexes = append(t.Indexes, Index[T]{Name: name, Values: values})
	return t
}

// Unique adds an index of which each value belongs to at most one row in the whole cluster.  The store holds it by a key in
// the same transaction as the row, so no interleaving of writers can break it.
func (t *Table[T]) Unique(name string, values func(*T) []string) *Table[T] {
	t.Uniques = append(t.Uniques, Index[T]{Name: name, Values: values})
	return t
}
