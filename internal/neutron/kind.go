package neutron

import (
	"context"

	"baryon/internal/identity"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Kind is one resource as the API offers it: its rules.  What a client may not do is nil and answers 405.
//
// Create is atomic over all inputs.  ifMatch is the revision the client demands, nil if none; another one answers 412.  Visible says
// whether the caller may know of the row at all (not: 404).  Present fills what is computed (subnets of a network, status of a
// port) into a copy.  Prepare, if not nil, runs before a list is read: it writes what the list would miss (a project's default security
// group); projects are those that the list is filtered by.
type Kind[T any] struct {
	Def     *resource.Definition[T]
	Prepare func(ctx context.Context, c *identity.Caller, projects []string) error
	Create  func(ctx context.Context, c *identity.Caller, in []*resource.Input[T]) ([]*T, error)
	Update  func(ctx context.Context, c *identity.Caller, id string, in *resource.Input[T], ifMatch *int64) (*T, error)
	Delete  func(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error
	Visible func(r store.Read, c *identity.Caller, row *T) bool
	Present func(r store.Read, c *identity.Caller, row *T) *T
}
