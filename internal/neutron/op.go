package neutron

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron/alloc"
	"baryon/internal/neutron/ipam"
	"baryon/internal/store"
)

// op is one API call on its way into the store.  It holds what must not change when the store runs the transaction again (time,
// ids, seeds, picked addresses), so that the transaction's function is pure.
type op struct {
	s      *Service
	caller *identity.Caller
	now    time.Time
	seed   [2]uint64

	alone   map[string]bool // gates that no other op is in
	attempt int             // 0 on the first transaction, more when a picked value turned out to be taken by another server
	rng     *rand.Rand      // the same sequence in each run of an attempt
	snap    store.Read      // to see whether a pick is stale; never decides anything

	ids       []model.ID
	idsUsed   int
	addrs     picks[netip.Addr]
	kept      []alloc.Item[netip.Addr] // held because the client chose them
	given     map[string][]netip.Addr  // what this run gave, by subnet
	tags      picks[uint32]
	givenTags map[string][]uint32
	asked     map[uniqueValue]*Error // values the client asked for: the answer when they are taken
	macs      map[string]bool        // drawn in this run, as values of "network_mac"
	claims    []claim
	exact     map[quotaKey]int    // what this run needs where a claim was an estimate
	defaults  map[string]model.ID // default groups that this run made, by project
}

// uniqueValue names a value of a unique index.
type uniqueValue struct{ table, index, value string }

// picks are the values that an op holds in a ledger, in the order in which each space's were picked.
type picks[T comparable] struct {
	held  []alloc.Item[T]
	spent map[string]int // per space: how many of its picks this run has used
}

// next gives the space's next pick of an earlier run.
func (p *picks[T]) next(space string) (T, bool) {
	n := 0
	for _, it := range p.held {
		if it.Space != space {
			continue
		}
		if n == p.spent[space] {
			p.spent[space]++
			return it.Value, true
		}
		n++
	}
	var zero T
	return zero, false
}

func (p *picks[T]) add(space string, v T) {
	p.held = append(p.held, alloc.Item[T]{Space: space, Value: v})
	p.spent[space]++
}

// exhausted is returned inside a transaction when a space has no free value.
type exhausted struct {
	gates  []string // of the spaces that look full
	answer *Error
}

func (e *exhausted) Error() string { return e.answer.Error() }

// closeIn adds the gates to those that are passed alone; false if all of them were already.
func (e *exhausted) closeIn(alone map[string]bool) bool {
	more := false
	for _, g := range e.gates {
		more = more || !alone[g]
		alone[g] = true
	}
	return more
}

func (s *Service) newOp(c *identity.Caller) *op {
	return &op{s: s, caller: c, now: s.now(), seed: [2]uint64{s.cfg.Rand(), s.cfg.Rand()}}
}

// run executes f as one transaction, passing the gates of the spaces it picks from.  It runs again as long as only values that it picked
// itself are in the way.  What f refuses is refused on a state that is current on all servers: the store sees to that.
func (o *op) run(ctx context.Context, names []string, f func(tx store.Tx) error) error {
	defer o.unclaim()
	o.alone = map[string]bool{}
	for ; ; o.attempt++ {
		err := o.once(ctx, names, f)
		var full *exhausted
		var taken *store.UniqueError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &full):
			if !full.closeIn(o.alone) {
				return full.answer
			}
		case errors.As(err, &taken):
			if answer, ok := o.asked[uniqueValue{taken.Table, taken.Index, taken.Value}]; ok {
				return answer
			}
			if !picked(taken) {
				return err
			}
		default:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// picked tells whether a value of the index may have been chosen by the server, or whether another run finds out what stands there: the
// default group that somebody else has just made, the rule that is like ours.
func picked(u *store.UniqueError) bool {
	switch u.Table {
	case model.PortTable.Name:
		return u.Index == "subnet_ip" || u.Index == "network_mac"
	case model.SegmentTable.Name:
		return u.Index == "segment"
	case model.RBACPolicyTable.Name:
		return u.Index == "grant"
	case model.SecurityGroupTable.Name:
		return u.Index == "project_default"
	case model.SecurityGroupRuleTable.Name:
		return u.Index == "content"
	}
	return false
}

// once runs the transaction until it commits or fails.
func (o *op) once(ctx context.Context, names []string, f func(tx store.Tx) error) error {
	leave, err := o.s.gates.enter(ctx, names, o.alone)
	if err != nil {
		return err
	}
	defer leave()
	rev, err := o.s.st.Update(ctx, func(tx store.Tx) error {
		o.rewind(tx)
		return f(tx)
	})
	if err != nil {
		rev = 0
	}
	o.s.addrs.Release(rev, append(o.addrs.held, o.kept...))
	o.s.tags.Release(rev, o.tags.held)
	o.addrs.held, o.kept, o.tags.held = nil, nil, nil
	return err
}

// rewind starts a run of the transaction's function.
func (o *op) rewind(tx store.Tx) {
	o.rng = rand.New(rand.NewPCG(o.seed[0], o.seed[1]+uint64(o.attempt)))
	o.snap = store.Base(tx)
	o.idsUsed = 0
	o.addrs.spent, o.tags.spent = map[string]int{}, map[string]int{}
	o.given, o.givenTags = map[string][]netip.Addr{}, map[string][]uint32{}
	o.asked, o.macs = map[uniqueValue]*Error{}, map[string]bool{}
	o.exact, o.defaults = map[quotaKey]int{}, map[string]model.ID{}
}

// id gives the next fresh id, the same in each run.
func (o *op) id() model.ID {
	if o.idsUsed == len(o.ids) {
		o.ids = append(o.ids, o.s.cfg.NewID())
	}
	o.idsUsed++
	return o.ids[o.idsUsed-1]
}

// ask remembers what to answer when a value that the client chose is taken.
func (o *op) ask(table, index, value string, answer *Error) {
	o.asked[uniqueValue{table, index, value}] = answer
}

// pickAddress gives a free address of a subnet's pools, false if there is none.  first asks for the lowest one.
//
// Proposals come from the ledger, which may be behind.  An op that is alone in the network's gate does not take its word for it that there is
// none, but looks at all addresses.
func (o *op) pickAddress(sub *model.Subnet, first bool) (netip.Addr, bool) {
	space := string(sub.ID)
	pools := ipam.NewPools(sub.AllocationPools)
	for {
		a, ok := o.addrs.next(space)
		if !ok {
			if a, ok = o.s.addrs.Hold(space, pools, o.rng, o.choice(first)); !ok {
				break
			}
			o.addrs.add(space, a)
		}
		if _, in := pools.ID(a); in && !addressUsed(o.snap, alloc.Item[netip.Addr]{Space: space, Value: a}) {
			o.given[space] = append(o.given[space], a)
			return a, true
		}
	}
	if !o.alone[addressGate(sub.NetworkID)] {
		return netip.Addr{}, false
	}
	a, ok := pickLast(pools, usedAddresses(o.snap, space), o.given[space])
	if ok {
		o.given[space] = append(o.given[space], a)
	}
	return a, ok
}

// pickLast finds a free value by looking at all used ones.
func pickLast[T comparable](layout alloc.Layout[T], used iter.Seq[T], given []T) (T, bool) {
	all := alloc.NewSpace(layout.Size())
	for v := range used {
		if id, ok := layout.ID(v); ok {
			all.Use(id)
		}
	}
	for _, v := range given {
		if id, ok := layout.ID(v); ok {
			all.Use(id)
		}
	}
	id, ok := all.Pick(nil, alloc.First)
	if !ok {
		var zero T
		return zero, false
	}
	return layout.Value(id), true
}

// keepAddress holds an address that the client chose, so that nobody on this server picks it meanwhile.
func (o *op) keepAddress(sub *model.Subnet, a netip.Addr) {
	space := string(sub.ID)
	it := alloc.Item[netip.Addr]{Space: space, Value: a}
	o.given[space] = append(o.given[space], a)
	if slices.Contains(o.kept, it) {
		return
	}
	o.s.addrs.HoldValue(space, ipam.NewPools(sub.AllocationPools), a)
	o.kept = append(o.kept, it)
}

func (o *op) choice(first bool) alloc.Choice {
	switch {
	case o.attempt > 0:
		return alloc.Spread
	case first:
		return alloc.First
	}
	return alloc.Near
}

// macTries is how many random hardware addresses are tried before a network counts as full.  Of 2^24 addresses, a network with a
// million ports misses so often once in 10^12 cases.
const macTries = 1000

// mac draws a hardware address below the configured base that nobody on the network has.
func (o *op) mac(network model.ID) (model.MAC, error) {
	for range macTries {
		m := o.s.cfg.BaseMAC
		bits := o.rng.Uint64()
		for i := 5; i >= 3 && (i > 3 || m[3] == 0); i-- {
			m[i] = byte(bits >> (8 * (5 - i)))
		}
		v := model.NetworkMAC(network, m)
		if !o.macs[v] && store.Count(o.snap, model.PortTable, "network_mac", v) == 0 {
			o.macs[v] = true
			return m, nil
		}
	}
	return model.MAC{}, Unavailable("MacAddressGenerationFailure", "Unable to generate unique mac on network %s.", network)
}

// touch sets what every change sets.
func (o *op) touch(st *model.Standard) {
	st.UpdatedAt = o.now
	st.Revision++
}

// fresh sets what every creation sets.
func (o *op) fresh(st *model.Standard, project string) {
	st.ID = o.id()
	st.ProjectID = project
	st.CreatedAt, st.UpdatedAt = o.now, o.now
	st.Revision = 0
}
