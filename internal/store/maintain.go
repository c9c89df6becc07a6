package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maintainEvery is the pause between looks at what has to be tidied up.
const maintainEvery = 10 * time.Second

// guardsEvery is the pause between removals of guards that guard nothing any more.
const guardsEvery = 10 * time.Minute

// maxGuardsAtOnce bounds one removal of guards, within etcd's default of operations per transaction.
const maxGuardsAtOnce = 100

// maintain compacts the embedded etcd's history and removes idle guards until the store is closed.
func (s *Store) maintain() {
	t := time.NewTicker(maintainEvery)
	defer t.Stop()
	compacted := s.cur.Load().rev
	swept := time.Now()
	var died <-chan struct{}
	if !s.external {
		died = s.back.server.Server.StopNotify()
	}
	for {
		select {
		case <-s.done:
			return
		case <-died:
			s.log.Error("store stops: the embedded etcd has stopped")
			s.fail(errEtcdDied)
			return
		case <-t.C:
		}
		if rev := s.cur.Load().rev; !s.external && rev-compacted > compactEvery {
			if err := s.compact(rev - compactKeep); err != nil {
				s.log.Warn("compact etcd failed, will retry", "rev", rev-compactKeep, "err", err)
				continue
			}
			compacted = rev
		}
		if time.Since(swept) > guardsEvery {
			swept = time.Now()
			if err := s.sweepGuards(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Warn("remove idle guards failed, will retry", "err", err)
			}
		}
	}
}

var errEtcdDied = errors.New("the embedded etcd has stopped")

func (s *Store) compact(rev int64) error {
	ctx, cancel := context.WithTimeout(s.ctx, requestTimeout)
	defer cancel()
	_, err := s.client.Compact(ctx, rev)
	return err
}

// sweepGuards removes the guards of sets that are empty: mostly of objects that are gone.  Removing a guard is always safe: who
// relied on it runs again and makes it anew.
func (s *Store) sweepGuards(ctx context.Context) error {
	snap := s.cur.Load()
	var ops []clientv3.Op
	var conds []cond
	snap.guards.Ascend(func(g guard) bool {
		table, index, value, ok := splitGuardKey(g.key)
		d := s.schema.byName[table]
		if !ok || d == nil || index == "" {
			return true
		}
		if i, ok := d.byName[index]; ok && snap.count(d, i, value) > 0 {
			return true
		}
		conds = append(conds, cond(g))
		ops = append(ops, clientv3.OpDelete(g.key))
		return true
	})
	for len(ops) > 0 {
		n := min(len(ops), maxGuardsAtOnce)
		if _, _, err := s.send(ctx, conds[:n], ops[:n]); err != nil {
			return err
		}
		conds, ops = conds[n:], ops[n:]
	}
	return nil
}

// Stats are figures about a store since it was opened.
type Stats struct {
	Revision  int64
	Rows      map[string]int // by table
	Commits   int64
	Conflicts int64 // commits lost against another writer and run again
	Resyncs   int64 // complete reads after a lost watch
}

// stats counts.  onCommit, if set, is told how long each committed Update took.
type stats struct {
	commits   atomic.Int64
	conflicts atomic.Int64
	resyncs   atomic.Int64
	onCommit  atomic.Pointer[func(time.Duration)]
}

func (t *stats) observe(d time.Duration) {
	t.commits.Add(1)
	if f := t.onCommit.Load(); f != nil {
		(*f)(d)
	}
}

// OnCommit has f told how long each committed Update took, all runs and waits included.  f must be quick.
func (s *Store) OnCommit(f func(time.Duration)) { s.stats.onCommit.Store(&f) }

// Stats returns the store's figures.
func (s *Store) Stats() Stats {
	snap := s.cur.Load()
	rows := make(map[string]int, len(s.schema.defs))
	for _, d := range s.schema.defs {
		rows[d.name] = snap.tables[d.ord].rows.Len()
	}
	return Stats{
		Revision:  snap.rev,
		Rows:      rows,
		Commits:   s.stats.commits.Load(),
		Conflicts: s.stats.conflicts.Load(),
		Resyncs:   s.stats.resyncs.Load(),
	}
}

// Ping tells whether the store serves: etcd answers a linearizable read and the replica reaches it.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.closed(); err != nil {
		return err
	}
	rev, err := s.heads.revision(ctx, s.readRevision)
	if err != nil {
		return err
	}
	_, err = s.waitFor(ctx, rev)
	return err
}
