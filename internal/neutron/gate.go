package neutron

import (
	"context"
	"hash/maphash"
	"slices"

	"golang.org/x/sync/semaphore"
)

// gates let many transactions pick from one space at once, and one alone when the space looks full: it waits for those in flight,
// keeps new ones out, and can then say for sure whether nothing is free.  Names are hashed onto a fixed number of gates: two names
// that share one only wait for each other.
type gates struct {
	seed  maphash.Seed
	gates []*semaphore.Weighted
}

const (
	gateCount = 256
	gateWidth = 1 << 30 // readers at once
)

func newGates() gates {
	g := gates{seed: maphash.MakeSeed(), gates: make([]*semaphore.Weighted, gateCount)}
	for i := range g.gates {
		g.gates[i] = semaphore.NewWeighted(gateWidth)
	}
	return g
}

// enter passes the gates of names, alone through those for which alone is true, and returns what leaves them.  Gates are passed in a fixed
// order, so that two callers never wait for each other.
func (g *gates) enter(ctx context.Context, names []string, alone map[string]bool) (func(), error) {
	width := make(map[int]int64, len(names))
	for _, n := range names {
		i := int(maphash.String(g.seed, n) % gateCount)
		if alone[n] {
			width[i] = gateWidth
		} else if width[i] == 0 {
			width[i] = 1
		}
	}
	order := make([]int, 0, len(width))
	for i := range width {
		order = append(order, i)
	}
	slices.Sort(order)
	leave := func(n int) {
		for _, i := range order[:n] {
			g.gates[i].Release(width[i])
		}
	}
	for n, i := range order {
		if err := g.gates[i].Acquire(ctx, width[i]); err != nil {
			leave(n)
			return nil, err
		}
	}
	return func() { leave(len(order)) }, nil
}
