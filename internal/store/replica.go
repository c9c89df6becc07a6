package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Pages of a complete read.  They are large, because etcd counts for each page all keys that follow it; how large follows from the
// bytes of the page before, so that an answer stays below some megabytes whatever the rows hold.
const (
	firstPage = 1000 // keys
	pageLeast = 100
	pageMost  = 100_000
	pageBytes = 16 << 20
)

// nextPage is how many keys to ask for after a page of so many keys and bytes.
func nextPage(keys, bytes int) int64 {
	return int64(min(max(pageBytes*keys/max(bytes, 1), pageLeast), pageMost))
}

// readRanges is all that the replica reads: everything of ours but the keys of unique values, which only transactions look at.
var readRanges = [][2]string{{rangeFrom, uniquePrefix}, {uniqueEnd, rangeEnd}}

// maxDrain bounds how many watch responses become one batch.
const maxDrain = 256

// resyncTimeout bounds one complete read.
const resyncTimeout = 2 * time.Minute

// retryPause is the pause before a lost watch is started again.
const retryPause = 100 * time.Millisecond

// pending holds rows that this process has sent to etcd, so that the replica need not decode them again when they come back.  A row
// is taken only when the bytes are the same, so it only spares work, and tells a sender who lost the answer that it was applied.
type pending struct {
	mu   sync.Mutex
	rows map[string]sent
}

type sent struct {
	raw    []byte
	val    any
	landed *atomic.Int64 // where the replica notes the revision
}

func (p *pending) add(rows map[string]sent) {
	p.mu.Lock()
	for k, v := range rows {
		p.rows[k] = v
	}
	p.mu.Unlock()
}

func (p *pending) take(key string, raw []byte, mod int64) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.rows[key]
	if !ok || !bytes.Equal(s.raw, raw) {
		return nil
	}
	delete(p.rows, key)
	s.landed.Store(mod)
	return s.val
}

// drop forgets rows, but not those that another transaction has sent under the same key since.
func (p *pending) drop(rows map[string]sent) {
	p.mu.Lock()
	for k, v := range rows {
		if s, ok := p.rows[k]; ok && s.landed == v.landed {
			delete(p.rows, k)
		}
	}
	p.mu.Unlock()
}

// load reads everything at one revision and builds the snapshot that follows base.  Rows that base already has are kept as they
// are, so the changes are exactly the difference.  A row that cannot be decoded is an error when strict, else it is logged and
// keeps its old value.
func (s *Store) load(ctx context.Context, base *snapshot, strict bool) (*builder, error) {
	b := newBuilder(base)
	seen := make(map[string]struct{})
	rev := int64(0)
	for _, r := range readRanges {
		err := s.loadRange(ctx, r[0], r[1], &rev, func(kv *mvccpb.KeyValue) error {
			if base.rev > 0 {
				seen[string(kv.Key)] = struct{}{}
			}
			err := s.applyPut(b, kv)
			if err != nil && !strict && !errors.Is(err, ErrFormat) {
				s.log.Error("row in etcd is unreadable, the last readable one stays in use", "err", err)
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	s.removeUnseen(b, seen)
	b.next.rev = rev
	return b, nil
}

// loadRange reads a range of keys at the revision, or at the newest if it is 0, and notes which that was.
func (s *Store) loadRange(ctx context.Context, from, end string, rev *int64, each func(*mvccpb.KeyValue) error) error {
	for limit := int64(firstPage); ; {
		resp, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(*rev))
		if err != nil {
			return fmt.Errorf("read all rows: %w", err)
		}
		if *rev == 0 {
			*rev = resp.Header.Revision
		}
		bytes := 0
		for _, kv := range resp.Kvs {
			bytes += len(kv.Key) + len(kv.Value)
			if err := each(kv); err != nil {
				return err
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		limit = nextPage(len(resp.Kvs), bytes)
	}
}

// removeUnseen drops what the base snapshot has and etcd no longer holds.
func (s *Store) removeUnseen(b *builder, seen map[string]struct{}) {
	for _, d := range s.schema.defs {
		b.base.eachRow(d, func(r *row) bool {
			if _, ok := seen[rowKey(d.name, r.key)]; !ok {
				b.remove(d, r.key)
			}
			return true
		})
	}
	b.base.guards.Ascend(func(g guard) bool {
		if _, ok := seen[g.key]; !ok {
			b.setGuard(g.key, 0)
		}
		return true
	})
}

// applyPut brings one key of etcd into the snapshot that is being built.
func (s *Store) applyPut(b *builder, kv *mvccpb.KeyValue) error {
	k := string(kv.Key)
	if table, key, ok := splitRowKey(k); ok {
		d := s.schema.byName[table]
		if d == nil {
			return nil // a table of another version of this program
		}
		if old := b.next.get(d, key); old != nil && old.mod == kv.ModRevision {
			return nil
		}
		val := s.pending.take(k, kv.Value, kv.ModRevision)
		if val == nil {
			var err error
			if val, err = decodeRow(d, key, kv.Value); err != nil {
				return err
			}
		}
		b.put(d, &row{key: key, mod: kv.ModRevision, val: val})
		return nil
	}
	switch {
	case k == formatKey:
		return checkFormat(kv.Value)
	case len(k) > len(guardPrefix) && k[:len(guardPrefix)] == guardPrefix:
		b.setGuard(k, kv.ModRevision)
	}
	return nil
}

func (s *Store) applyDelete(b *builder, k string) {
	if table, key, ok := splitRowKey(k); ok {
		if d := s.schema.byName[table]; d != nil {
			b.remove(d, key)
		}
		return
	}
	if len(k) > len(guardPrefix) && k[:len(guardPrefix)] == guardPrefix {
		b.setGuard(k, 0)
	}
}

// decodeRow reads a row's JSON and checks that it belongs under its key.
func decodeRow(d *tableDef, key string, raw []byte) (any, error) {
	val := d.blank()
	if err := json.Unmarshal(raw, val); err != nil {
		return nil, fmt.Errorf("decode row %s: %w", rowKey(d.name, key), err)
	}
	if got := d.key(val); got != key {
		return nil, fmt.Errorf("decode row %s: it calls itself %q", rowKey(d.name, key), got)
	}
	return val, nil
}

func checkFormat(raw []byte) error {
	v, err := strconv.Atoi(string(raw))
	if err != nil {
		return fmt.Errorf("%s is %q, not a number: %w", formatKey, raw, ErrFormat)
	}
	if v < 1 || v > formatVersion {
		return fmt.Errorf("%s is %d, this program reads 1 to %d: %w", formatKey, v, formatVersion, ErrFormat)
	}
	return nil
}

// errRestored means that etcd's revision went back: somebody restored it from a backup.
var errRestored = errors.New("etcd has gone back to an older state; restart this server")

// replicate follows etcd until the store is closed.  It is the only writer of s.cur.
func (s *Store) replicate() {
	defer close(s.stopped)
	lost := false
	for {
		err := s.follow(&lost)
		if errors.Is(err, rpctypes.ErrCompacted) && s.ctx.Err() == nil {
			s.log.Info("watch fell behind etcd's compaction, reading everything anew")
			err = s.resync()
		}
		switch {
		case s.ctx.Err() != nil:
			return
		case errors.Is(err, ErrFormat) || errors.Is(err, errRestored):
			s.log.Error("store stops", "err", err)
			s.fail(err)
			return
		case err != nil && !lost:
			s.log.Warn("watch of etcd lost, will retry", "err", err)
			lost = true
		}
		select {
		case <-time.After(retryPause):
		case <-s.ctx.Done():
			return
		}
	}
}

// resync reads everything anew and publishes the difference as one batch.
func (s *Store) resync() error {
	ctx, cancel := context.WithTimeout(s.ctx, resyncTimeout)
	defer cancel()
	b, err := s.load(ctx, s.cur.Load(), false)
	if err != nil {
		return err
	}
	if b.next.rev < b.base.rev {
		return errRestored
	}
	s.stats.resyncs.Add(1)
	s.publish(b)
	return nil
}

// follow watches from the current revision on and returns when the watch ends.  A broken connection does not end it: etcd's client
// resumes where it was.
func (s *Store) follow(lost *bool) error {
	ctx, cancel := context.WithCancel(s.watchCtx)
	defer cancel()
	ch := s.client.Watch(ctx, rangeFrom, clientv3.WithRange(rangeEnd), clientv3.WithRev(s.cur.Load().rev+1), clientv3.WithCreatedNotify())
	for {
		resp, ok := <-ch
		if !ok {
			return errWatchClosed
		}
		if resp.Created && resp.Header.Revision < s.cur.Load().rev { // the member lags behind, or all of them went back
			if rev, err := s.readRevision(); err == nil && rev < s.cur.Load().rev {
				return errRestored
			}
		}
		if *lost && resp.Err() == nil {
			s.log.Info("watch of etcd is back", "rev", s.cur.Load().rev)
			*lost = false
		}
		b := newBuilder(s.cur.Load())
		err := s.applyResponse(b, resp)
		for n := 0; err == nil && n < maxDrain; n++ {
			more, ok, ready := poll(ch)
			if !ready {
				break
			}
			if !ok {
				err = errWatchClosed
				break
			}
			err = s.applyResponse(b, more)
		}
		if errors.Is(err, ErrFormat) {
			return err // half of a response is in b
		}
		s.publish(b)
		if err != nil {
			return err
		}
	}
}

var errWatchClosed = errors.New("watch closed")

// poll receives what is there already.
func poll(ch clientv3.WatchChan) (resp clientv3.WatchResponse, ok, ready bool) {
	select {
	case resp, ok = <-ch:
		return resp, ok, true
	default:
		return resp, false, false
	}
}

// applyResponse brings one watch response into the snapshot that is being built.  etcd never splits a revision over responses.
func (s *Store) applyResponse(b *builder, resp clientv3.WatchResponse) error {
	if err := resp.Err(); err != nil {
		return err
	}
	had, rev := b.next.rev, b.next.rev
	for _, ev := range resp.Events {
		if ev.Kv.ModRevision <= had {
			continue
		}
		rev = max(rev, ev.Kv.ModRevision)
		if ev.Type == clientv3.EventTypeDelete {
			s.applyDelete(b, string(ev.Kv.Key))
			continue
		}
		if err := s.applyPut(b, ev.Kv); err != nil {
			if errors.Is(err, ErrFormat) {
				return err
			}
			s.log.Error("row in etcd is unreadable, the last readable one stays in use", "err", err)
		}
	}
	if resp.IsProgressNotify() {
		rev = max(rev, resp.Header.Revision)
	}
	b.next.rev = rev
	return nil
}

// publish makes the built snapshot the current one, wakes who waits for its revision and hands the changes to the watchers.
func (s *Store) publish(b *builder) {
	next := b.next
	if next.rev == b.base.rev && len(b.changes) == 0 && !b.guards {
		return
	}
	s.mu.Lock()
	s.cur.Store(next)
	kept := s.waiters[:0]
	for _, w := range s.waiters {
		if w.rev <= next.rev {
			close(w.done)
		} else {
			kept = append(kept, w)
		}
	}
	clear(s.waiters[len(kept):])
	s.waiters = kept
	if len(b.changes) > 0 {
		batch := Batch{Revision: next.rev, Changes: b.changes, After: next}
		for u := range s.subs {
			u.offer(batch, next)
		}
	}
	s.mu.Unlock()
}
