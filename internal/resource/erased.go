package resource

// AnyTable is a *Table of whatever row type, so that tables of different rows stand in one list.
type AnyTable interface {
	// Erase gives the table with its row type hidden.
	Erase() Erased
}

// Erased is a Table whose rows are passed as any.  Every row is a *T of the table it was made from; another type panics.
type Erased struct {
	Name    string
	Key     func(row any) string
	New     func() any // an empty *T, to decode into
	Indexes []ErasedIndex
	Uniques []ErasedIndex
}

// ErasedIndex is an Index with its row type hidden.
type ErasedIndex struct {
	Name   string
	Values func(row any) []string
}

// Erase gives the table with its row type hidden.
func (t *Table[T]) Erase() Erased {
	return Erased{
		Name:    t.Name,
		Key:     func(row any) string { return t.Key(row.(*T)) },
		New:     func() any { return new(T) },
		Indexes: eraseIndexes(t.Indexes),
		Uniques: eraseIndexes(t.Uniques),
	}
}

func eraseIndexes[T any](in []Index[T]) []ErasedIndex {
	out := make([]ErasedIndex, len(in))
	for i, ix := range in {
		out[i] = ErasedIndex{Name: ix.Name, Values: func(row any) []string { return ix.Values(row.(*T)) }}
	}
	return out
}
