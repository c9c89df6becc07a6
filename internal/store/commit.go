package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// requestTimeout bounds one request to etcd.
const requestTimeout = 15 * time.Second

// gateSize is how many transactions of one process may be under way at once; the rest queue up in order.
const gateSize = 512

// exclusiveAfter is how many conflicts a transaction suffers before it is let through alone, so that a long one is not starved by
// many short ones.
const exclusiveAfter = 3

// diagnoseEvery is how many conflicts pass between checks for conditions that can never hold.
const diagnoseEvery = 16

// Update runs f in a transaction and commits it; rev is the revision of the commit, and the caller's next Snapshot shows it.  If f
// wrote nothing there is nothing to commit, and rev is that of the state f saw.
//
// f runs on the newest snapshot without holding anything up.  If what it read has changed by the time of the commit it runs again
// on a newer snapshot, as often as it takes until ctx ends.  So f must be pure: no clock, no random, no
// call of Update, nothing that cannot be done twice.  An error of f is returned as it is, after making sure that f has seen every
// write acknowledged before the call.
func (s *Store) Update(ctx context.Context, f func(tx Tx) error) (rev int64, err error) {
	start := time.Now()
	var min int64        // the snapshot to run on must be this new
	fresh := !s.external // a snapshot at min shows everything acknowledged before the call
	conflicts := 0
	for {
		out, err := s.attempt(ctx, f, min, fresh, conflicts)
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
func (s *Store) attempt(ctx context.Context, f func(tx Tx) error, min int64, fresh bool, conflicts int) (outcome, error) {
	weight := int64(1)
	if conflicts >= exclusiveAfter {
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
	out, err := s.commit(ctx, p)
	if err == nil && out.conflict && conflicts%diagnoseEvery == diagnoseEvery-1 {
		err = s.diagnose(ctx, p)
	}
	return out, err
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
	s.pending.add(p.sent)
	defer s.pending.drop(p.sent)
	resp, resent, err := s.send(ctx, p.conds, p.ops)
	if err != nil {
		return outcome{}, fmt.Errorf("commit transaction: %w", err)
	}
	rev := resp.Header.Revision
	if _, err := s.waitFor(ctx, rev); err != nil {
		if !resp.Succeeded && !resent {
			return outcome{}, fmt.Errorf("wait for revision %d: %w", rev, err)
		}
		return outcome{}, fmt.Errorf("wait for own revision %d: %w", rev, errors.Join(err, ErrUnknown))
	}
	switch {
	case resp.Succeeded:
		return outcome{rev: rev, committed: true}, nil
	case resent && p.landed.Load() != 0:
		// The first copy was applied, only its answer was lost.
		return outcome{rev: p.landed.Load(), committed: true}, nil
	case resent && len(p.sent) == 0:
		return outcome{}, fmt.Errorf("commit transaction: %w", ErrUnknown) // only deletes: nothing tells whose they were
	}
	return outcome{rev: rev, again: true, conflict: true, fresh: true}, nil
}

// makeGuards creates guards that a transaction needs and asks for another run: from the guards' revision on, every writer to the
// guarded sets shows.
func (s *Store) makeGuards(ctx context.Context, keys []string) (outcome, error) {
	conds := make([]cond, len(keys))
	ops := make([]clientv3.Op, len(keys))
	for i, k := range keys {
		conds[i] = cond{k, 0}
		ops[i] = clientv3.OpPut(k, "")
	}
	resp, _, err := s.send(ctx, conds, ops)
	if err != nil {
		return outcome{}, fmt.Errorf("create guards: %w", err)
	}
	return outcome{rev: resp.Header.Revision, again: true, fresh: true}, nil
}

// send sends one transaction to etcd until it gets an answer.  A transaction whose answer was lost is sent again as it is: its
// conditions hold at most once, because each row that it writes is one of them, so it cannot be applied twice.  resent tells
// that this happened, so that "not applied" may mean "applied the first time".
func (s *Store) send(ctx context.Context, conds []cond, ops []clientv3.Op) (resp *clientv3.TxnResponse, resent bool, err error) {
	cmps := compares(conds)
	for {
		tctx, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err = s.client.Txn(tctx).If(cmps...).Then(ops...).Commit()
		cancel()
		switch {
		case err == nil:
			return resp, resent, nil
		case s.ctx.Err() != nil:
			return nil, resent, errors.Join(s.closedErr(), ErrUnknown)
		case ctx.Err() != nil:
			return nil, resent, errors.Join(ctx.Err(), ErrUnknown)
		}
		refused, final := explain(err, len(conds), len(ops))
		switch {
		case final != nil && resent:
			return nil, resent, errors.Join(final, ErrUnknown)
		case final != nil:
			return nil, resent, final
		case !refused:
			s.log.Warn("answer of etcd lost, will send again", "err", err)
			resent = true
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil, resent, errors.Join(ctx.Err(), ErrUnknown)
		case <-s.done:
			return nil, resent, errors.Join(s.closedErr(), ErrUnknown)
		}
	}
}

// explain sorts etcd's errors: refused says that the transaction was not applied; final is an error that trying again cannot cure.
func explain(err error, conds, ops int) (refused bool, final error) {
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return true, fmt.Errorf("%d conditions and %d writes are more than the etcd cluster allows; start its members with --max-txn-ops=%d: %w: %w",
			conds, ops, maxTxnOps, ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), tooLong(err):
		return true, fmt.Errorf("the transaction has more bytes than the etcd cluster allows; start its members with --max-request-bytes=%d: %w: %w",
			maxRequestBytes, ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return true, fmt.Errorf("etcd's space quota is used up; compact and defragment it, then disarm the alarm: %w", err)
	}
	for _, e := range []error{
		rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed, rpctypes.ErrCorrupt,
		rpctypes.ErrEmptyKey, rpctypes.ErrDuplicateKey, rpctypes.ErrKeyNotFound,
	} {
		if errors.Is(err, e) {
			return true, err
		}
	}
	return errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrNoLeader), nil
}

// tooLong tells whether the connection's own limit, somewhat above that of etcd behind it, has refused a message.
func tooLong(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "message larger than max")
}

// diagnose looks for conditions that could never hold: keys of which etcd, at the very revision of the snapshot, says another
// thing than the snapshot.  It happens when somebody edits our keys by hand or a row is unreadable; without it Update would run
// for ever.
func (s *Store) diagnose(ctx context.Context, p *plan) error {
	for _, c := range p.conds {
		resp, err := s.client.Get(ctx, c.key, clientv3.WithRev(p.base), clientv3.WithKeysOnly())
		if err != nil {
			return nil // compacted meanwhile, or etcd is away: nothing proved
		}
		var mod int64
		if len(resp.Kvs) > 0 {
			mod = resp.Kvs[0].ModRevision
		}
		if mod != c.mod {
			return fmt.Errorf("commit transaction: %s has revision %d in etcd and %d in memory: %w", c.key, mod, c.mod, ErrInconsistent)
		}
	}
	return nil
}
