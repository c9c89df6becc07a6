package agent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"baryon/internal/nodestate"
	"baryon/internal/reconcile"
)

// runner gives a manager its goroutine.  The agent's loop puts updates and readiness in and takes results out; neither waits.
type runner struct {
	m      Manager
	kinds  map[nodestate.Kind]bool
	loop   *reconcile.Loop
	notify func() // tells the agent's loop that result has changed

	mu     sync.Mutex
	inbox  []nodestate.Update
	ready  map[string]bool
	result result

	known map[string]bool // ports taken in; the agent's loop's alone

	// Of the manager's goroutine alone:
	revisions map[nodestate.Key]int64
	confirmed bool
}

// result is what a manager has said last.
type result struct {
	ports     []InternalPort
	placed    map[string]bool
	statuses  []nodestate.Status
	confirmed bool // ports were computed from a confirmed state
	fresh     bool // not taken yet
}

// managerResync bounds how long a manager's world may drift unseen.
const managerResync = 10 * time.Second

func newRunner(m Manager, notify func(), failed func(err error, attempt int)) *runner {
	r := &runner{m: m, kinds: map[nodestate.Kind]bool{}, notify: notify, revisions: map[nodestate.Key]int64{}}
	for _, k := range m.Kinds() {
		r.kinds[k] = true
	}
	r.loop = reconcile.New(reconcile.Options{Run: r.pass, Failed: failed, Resync: managerResync})
	return r
}

func (r *runner) run(ctx context.Context) error {
	r.loop.Run(ctx)
	return r.m.Close()
}

// update hands an update over, cut down to what the manager wants to see.
func (r *runner) update(u nodestate.Update) {
	cut := nodestate.Update{Revision: u.Revision, Complete: u.Complete, Cached: u.Cached}
	for _, rec := range u.Upserts {
		if r.kinds[rec.Key().Kind] {
			cut.Upserts = append(cut.Upserts, rec)
		}
	}
	for _, k := range u.Deletes {
		if r.kinds[k.Kind] {
			cut.Deletes = append(cut.Deletes, k)
		}
	}
	if len(cut.Upserts) == 0 && len(cut.Deletes) == 0 && !cut.Complete {
		return
	}
	r.mu.Lock()
	r.inbox = append(r.inbox, cut)
	r.mu.Unlock()
	r.loop.Dirty()
}

// setReady tells which of the wanted ports exist.
func (r *runner) setReady(ready map[string]bool) {
	r.mu.Lock()
	same := maps.Equal(r.ready, ready)
	r.ready = ready
	r.mu.Unlock()
	if !same {
		r.loop.Dirty()
	}
}

// take returns what the manager has said, and whether that is new since the last take.
func (r *runner) take() (result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.result.fresh
	r.result.fresh = false
	return r.result, fresh
}

func (r *runner) pass(ctx context.Context, _ reconcile.Pass) (time.Duration, error) {
	r.mu.Lock()
	inbox := r.inbox
	r.inbox = nil
	r.mu.Unlock()
	for _, u := range inbox {
		r.note(u)
		r.m.Update(u)
	}
	ports := slices.Clone(r.m.Ports())
	r.mu.Lock()
	if !slices.Equal(ports, r.result.ports) || r.confirmed != r.result.confirmed {
		r.result.ports, r.result.confirmed, r.result.fresh = ports, r.confirmed, true
	}
	in := Input{Ready: maps.Clone(r.ready), MayRemove: r.confirmed}
	r.mu.Unlock()
	if in.Ready == nil {
		in.Ready = map[string]bool{}
	}
	r.notify() // the ports can be made while the manager works

	out := r.m.Apply(ctx, in)
	placed := make(map[string]bool, len(out.Placed))
	for _, id := range out.Placed {
		placed[id] = true
	}
	for i := range out.Statuses {
		if out.Statuses[i].Revision == 0 {
			out.Statuses[i].Revision = r.revisions[out.Statuses[i].Key]
		}
	}
	r.mu.Lock()
	r.result.placed, r.result.statuses, r.result.fresh = placed, slices.Clone(out.Statuses), true
	r.mu.Unlock()
	r.notify()
	return out.Retry, nil
}

// note keeps the revision that brought each record.
func (r *runner) note(u nodestate.Update) {
	if u.Complete && !u.Cached {
		r.confirmed = true
		clear(r.revisions)
	}
	for _, rec := range u.Upserts {
		r.revisions[rec.Key()] = u.Revision
	}
	for _, k := range u.Deletes {
		delete(r.revisions, k)
	}
}
