package store

import (
	"errors"
	"fmt"
)

// UniqueError says that a value which at most one row may hold is held by another row.  Update returns it only when the function
// ran on a state in which the value was already taken, so a function that picks a free value gets to see the taken one first.
type UniqueError struct {
	Table, Index, Value string
	Key                 string // the row that holds it, if known
}

func (e *UniqueError) Error() string {
	return fmt.Sprintf("%s.%s %q is held by %q", e.Table, e.Index, e.Value, e.Key)
}

// ErrConflict means that a transaction lost against another one.  It never leaves Update, which runs its function again.
var ErrConflict = errors.New("transaction conflict")

// ErrClosed is returned by everything that is called on, or is still waiting in, a store that has been closed.
var ErrClosed = errors.New("store is closed")

// ErrUnknown marks an Update whose outcome is not known: the connection to etcd or the caller's context ended after the
// transaction was sent.  It may be applied or not.
var ErrUnknown = errors.New("outcome unknown")

// ErrTooLarge is wrapped when the cluster's limits do not let a transaction in; the text names the option to raise.
var ErrTooLarge = errors.New("transaction too large")

// ErrFormat is returned once the data in etcd has a format newer than this program understands.
var ErrFormat = errors.New("data was written by a newer version")

// ErrInconsistent is returned by Update when etcd and the replica disagree about a key at one and the same revision: somebody has
// edited the data by hand, or a row is unreadable (which is logged when it is seen).
var ErrInconsistent = errors.New("data in etcd is inconsistent")
