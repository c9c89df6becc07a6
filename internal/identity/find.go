package identity

import (
	"baryon/internal/resource"
	"baryon/internal/store"
)

// first is the row that a Unique or an Index has under the value.
func first[T any](r store.Read, t *resource.Table[T], index, value string) (*T, bool) {
	for row := range store.Find(r, t, index, value) {
		return row, true
	}
	return nil, false
}
