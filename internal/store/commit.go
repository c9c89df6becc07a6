package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// requestTimeout bounds one request to etcd.
const requestTimeout = 15 * time.Second

// gateSize is how many transactions of one process may be under way at once; the rest queue up in order.
const gateSize = 512

// exclusiveAfter is how many conflicts a transaction suffers before it is let through alone, so that a long one is not starved by
// many short ones.
const exclusiveAfter = 3

// plan is a transaction ready for etcd.
type plan struct {
	cmps   []clientv3.Cmp
	ops    []clientv3.Op
	absent []string        // guards that the transaction needs and that do not exist yet
	sent   map[string]sent // rows by etcd key
	taken  *UniqueError    // a unique value that the snapshot shows as held by another row
}

// Update runs f in a transaction and commits it; rev is the revision of the commit, and the caller's next Snapshot shows it.  If f
// wrote nothing there is nothing to commit, and rev is that of the state f saw.
//
// f runs on the newest snapshot without holding anything up.  If what it read has changed by the time of the commit it runs again
// on a newer snapshot, as often as it takes until ctx ends.  So f must be pure: no clock, no random, nothing that cannot be done
// twice.  An error of f is returned as it is, after making sure that f has seen every write acknowledged before the call.
func (s *Store) Update(ctx context.Context, f func(tx Tx) error) (rev int64, err error) {
	start := time.Now()
	var min int64        // the snapshot to run on must be this new
	fresh := !s.external // a snapshot at min shows everything acknowledged before the call
	conflicts := 0
	for {
		out, err := s.attempt(ctx, f, min, fresh, conflicts >= exclusiveAfter)
		switch {
		case err == nil && !out.again:
			if out.committed {
				s.stats.observe(time.Since(start))
			}
			return out.rev, nil
		case err != nil:
			return 0, err
		}
		if out.conflict {
			conflicts++
			s.stats.conflicts.Add(1)
		}
		min, fresh = out.rev, out.fresh
	}
}

// outcome is how an attempt went.
type outcome struct {
	rev       int64
	committed bool
	again     bool // run f again on a snapshot at rev or later
	conflict  bool // because another writer was first
	fresh     bool // rev was read from the cluster after the call began
}

// attempt runs f once and tries to commit.
func (s *Store) attempt(ctx context.Context, f func(tx Tx) error, min int64, fresh, alone bool) (outcome, error) {
	weight := int64(1)
	if alone {
		weight = gateSize
	}
	if err := s.gate.Acquire(ctx, weight); err != nil {
		return outcome{}, fmt.Errorf("wait for other transactions: %w", err)
	}
	defer s.gate.Release(weight)
	if err := s.closed(); err != nil {
		return outcome{}, err
	}
	snap, err := s.waitFor(ctx, min)
	if err != nil {
		return outcome{}, fmt.Errorf("wait for revision %d: %w", min, err)
	}
	x := newTx(snap)
	ferr := f(x)
	if ferr == nil {
		ferr = x.err
	}
	var p *plan
	if ferr == nil && len(x.writes) > 0 {
		if p, err = x.plan(); err != nil {
			return outcome{}, err
		}
	}
	if p == nil || p.taken != nil {
		return s.verdict(ctx, x, p, ferr, fresh)
	}
	if len(p.absent) > 0 {
		return s.makeGuards(ctx, p.absent)
	}
	return s.commit(ctx, p)
}

// verdict ends an attempt that commits nothing: f failed, wrote nothing, or wants a value that is taken.  The answer counts only
// when f saw a fresh snapshot.
func (s *Store) verdict(ctx context.Context, x *tx, p *plan, ferr error, fresh bool) (outcome, error) {
	if !fresh {
		snap, err := s.fresh(ctx)
		if err != nil {
			return outcome{}, fmt.Errorf("read newest revision: %w", err)
		}
		if snap.rev != x.base.rev {
			return outcome{rev: snap.rev, again: true, fresh: true}, nil
		}
	}
	switch {
	case ferr != nil:
		return outcome{}, ferr
	case p != nil:
		return outcome{}, p.taken
	}
	return outcome{rev: x.base.rev}, nil
}

// commit sends the transaction and waits until the replica shows it.
func (s *Store) commit(ctx context.Context, p *plan) (outcome, error) {
	for k, v := range p.sent {
		s.pending.add(k, v)
	}
	defer func() {
		for k, v := range p.sent {
			s.pending.drop(k, v.raw)
		}
	}()
	resp, err := s.txn(ctx, p.cmps, p.ops)
	if err != nil {
		return outcome{}, fmt.Errorf("commit transaction: %w", err)
	}
	if !resp.Succeeded {
		return outcome{rev: resp.Header.Revision, again: true, conflict: true, fresh: true}, nil
	}
	rev := resp.Header.Revision
	if _, err := s.waitFor(ctx, rev); err != nil {
		return outcome{}, fmt.Errorf("wait for own revision %d: %w", rev, errors.Join(err, ErrUnknown))
	}
	return outcome{rev: rev, committed: true}, nil
}

// makeGuards creates guards that a transaction needs and asks for another run: from the guards' revision on, every writer to the
// guarded sets shows.
func (s *Store) makeGuards(ctx context.Context, keys []string) (outcome, error) {
	cmps := make([]clientv3.Cmp, len(keys))
	ops := make([]clientv3.Op, len(keys))
	for i, k := range keys {
		cmps[i] = clientv3.Compare(clientv3.ModRevision(k), "=", 0)
		ops[i] = clientv3.OpPut(k, "")
	}
	resp, err := s.txn(ctx, cmps, ops)
	if err != nil {
		return outcome{}, fmt.Errorf("create guards: %w", err)
	}
	return outcome{rev: resp.Header.Revision, again: true, fresh: true}, nil
}

// txn sends one transaction to etcd.
func (s *Store) txn(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	tctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		resp, err := s.client.Txn(tctx).If(cmps...).Then(ops...).Commit()
		switch {
		case err == nil:
			return resp, nil
		case s.ctx.Err() != nil:
			return nil, errors.Join(ErrClosed, ErrUnknown)
		case errors.Is(err, rpctypes.ErrTooManyRequests):
			// refused before it was proposed
			select {
			case <-time.After(retryPause):
				continue
			case <-tctx.Done():
				return nil, tctx.Err()
			}
		case errors.Is(err, rpctypes.ErrTooManyOps):
			return nil, fmt.Errorf("%d conditions and %d writes are more than the etcd cluster allows; start its members with --max-txn-ops=%d: %w",
				len(cmps), len(ops), maxTxnOps, err)
		case errors.Is(err, rpctypes.ErrRequestTooLarge):
			return nil, fmt.Errorf("transaction is larger than the etcd cluster allows; start its members with --max-request-bytes=%d: %w",
				maxRequestBytes, err)
		case errors.Is(err, rpctypes.ErrNoSpace):
			return nil, fmt.Errorf("etcd's space quota is used up; compact and defragment it, then disarm the alarm: %w", err)
		case definite(err):
			return nil, err
		}
		return nil, errors.Join(err, ErrUnknown)
	}
}

// definite tells whether an error says that etcd did not apply the transaction.
func definite(err error) bool {
	for _, e := range []error{
		rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken,
		rpctypes.ErrNoLeader, rpctypes.ErrNotCapable, rpctypes.ErrEmptyKey, rpctypes.ErrDuplicateKey, rpctypes.ErrKeyNotFound,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// plan turns what the transaction read and wrote into conditions and operations.
func (x *tx) plan() (*plan, error) {
	p := &plan{sent: make(map[string]sent, len(x.writes))}
	pl := &planner{x: x, p: p, uniques: map[uniqueRef]string{}, touched: map[string]struct{}{}}
	for i := range x.writes {
		if err := pl.row(&x.writes[i]); err != nil {
			return nil, err
		}
	}
	for i := range x.writes {
		if err := pl.claims(&x.writes[i]); err != nil {
			return nil, err
		}
	}
	pl.uniqueOps()
	pl.reads()
	return p, nil
}

// planner builds a plan.
type planner struct {
	x       *tx
	p       *plan
	uniques map[uniqueRef]string // what a unique value's key shall hold; "" is deleted
	order   []uniqueRef
	touched map[string]struct{} // guards that are written or required absent
}

type uniqueRef struct {
	def   *tableDef
	index int
	value string
}

func equals(key string, mod int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", mod)
}

// row plans the row itself.  From here on the transaction's row is what its JSON says, as every other server will see it.
func (pl *planner) row(w *write) error {
	k := rowKey(w.def.name, w.key)
	var mod int64
	if w.old != nil {
		mod = w.old.mod
	}
	pl.p.cmps = append(pl.p.cmps, equals(k, mod))
	if w.val == nil {
		if w.old != nil {
			pl.p.ops = append(pl.p.ops, clientv3.OpDelete(k))
		}
	} else {
		raw, err := json.Marshal(w.val)
		if err != nil {
			return fmt.Errorf("encode row %s: %w", k, err)
		}
		if w.val, err = decodeRow(w.def, w.key, raw); err != nil {
			return err
		}
		pl.p.sent[k] = sent{raw: raw, val: w.val}
		pl.p.ops = append(pl.p.ops, clientv3.OpPut(k, string(raw)))
	}
	if w.val == nil && w.old == nil {
		return nil
	}
	return pl.indexes(w)
}

// indexes touches the guards of every set that the row stands in or leaves, and gives up its unique values.
func (pl *planner) indexes(w *write) error {
	pl.touch(guardKey(w.def.name, "", ""))
	for i, ix := range w.def.indexes {
		if w.old != nil {
			for _, v := range ix.values(w.old.val) {
				if ix.unique {
					pl.setUnique(uniqueRef{w.def, i, v}, "")
				} else {
					pl.touch(guardKey(w.def.name, ix.name, v))
				}
			}
		}
		if w.val == nil {
			continue
		}
		for _, v := range ix.values(w.val) {
			if err := checkKey("value of index "+w.def.name+"."+ix.name, v); err != nil {
				return err
			}
			if !ix.unique {
				pl.touch(guardKey(w.def.name, ix.name, v))
			}
		}
	}
	return nil
}

// touch makes the commit show to everyone who has read the set behind a guard: a guard that exists is written, one that does not
// exist must still not exist.
func (pl *planner) touch(k string) {
	if _, done := pl.touched[k]; done {
		return
	}
	pl.touched[k] = struct{}{}
	if pl.x.base.guardMod(k) == 0 {
		pl.p.cmps = append(pl.p.cmps, equals(k, 0))
		return
	}
	pl.p.ops = append(pl.p.ops, clientv3.OpPut(k, ""))
}

func (pl *planner) setUnique(u uniqueRef, key string) {
	if _, ok := pl.uniques[u]; !ok {
		pl.order = append(pl.order, u)
	}
	pl.uniques[u] = key
}

// claims takes the row's unique values, after all rows have given up theirs.
func (pl *planner) claims(w *write) error {
	if w.val == nil {
		return nil
	}
	for i, ix := range w.def.indexes {
		if !ix.unique {
			continue
		}
		for _, v := range ix.values(w.val) {
			u := uniqueRef{w.def, i, v}
			owner, known := pl.uniques[u]
			if !known {
				if h := pl.x.base.holder(w.def, i, v); h != nil {
					owner = h.key
				}
			}
			if owner != "" && owner != w.key {
				pl.taken(&UniqueError{Table: w.def.name, Index: ix.name, Value: v, Key: owner})
				continue
			}
			pl.setUnique(u, w.key)
		}
	}
	return nil
}

func (pl *planner) taken(e *UniqueError) {
	if pl.p.taken == nil {
		pl.p.taken = e
	}
}

// uniqueOps writes the keys of the unique values that change hands.  A value that nobody held must still be free; one that was
// held belongs to a row of this transaction, whose revision is a condition already.
func (pl *planner) uniqueOps() {
	for _, u := range pl.order {
		k := uniqueKey(u.def.name, u.def.indexes[u.index].name, u.value)
		key := pl.uniques[u]
		held := ""
		if h := pl.x.base.holder(u.def, u.index, u.value); h != nil {
			held = h.key
		}
		switch {
		case key == held:
		case key == "":
			pl.p.ops = append(pl.p.ops, clientv3.OpDelete(k))
		default:
			if held == "" {
				pl.p.cmps = append(pl.p.cmps, equals(k, 0))
			}
			pl.p.ops = append(pl.p.ops, clientv3.OpPut(k, key))
		}
	}
}

// reads plans the conditions for what was only read.
func (pl *planner) reads() {
	x := pl.x
	for r, mod := range x.reads {
		if _, written := x.byRef[r]; !written {
			pl.p.cmps = append(pl.p.cmps, equals(rowKey(x.base.schema.defs[r.ord].name, r.key), mod))
		}
	}
	for f := range x.finds {
		d := x.base.schema.defs[f.ord]
		if f.index >= 0 && d.indexes[f.index].unique {
			pl.readUnique(d, f)
			continue
		}
		name := ""
		if f.index >= 0 {
			name = d.indexes[f.index].name
		}
		k := guardKey(d.name, name, f.value)
		mod := x.base.guardMod(k)
		if mod == 0 {
			pl.p.absent = append(pl.p.absent, k)
			continue
		}
		pl.p.cmps = append(pl.p.cmps, equals(k, mod))
	}
}

// readUnique: the row that held the value must be unchanged, or the value still free.
func (pl *planner) readUnique(d *tableDef, f findRef) {
	h := pl.x.base.holder(d, f.index, f.value)
	if h == nil {
		u := uniqueRef{d, f.index, f.value}
		if pl.uniques[u] == "" {
			pl.p.cmps = append(pl.p.cmps, equals(uniqueKey(d.name, d.indexes[f.index].name, f.value), 0))
		}
		return
	}
	r := ref{d.ord, h.key}
	if _, written := pl.x.byRef[r]; written {
		return
	}
	if _, read := pl.x.reads[r]; !read {
		pl.p.cmps = append(pl.p.cmps, equals(rowKey(d.name, h.key), h.mod))
	}
}
