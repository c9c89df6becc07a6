package southbound

import (
	"errors"

	"baryon/internal/nodestate"
	pb "baryon/proto/baryon/v1"
)

// digests are the node's side of Hello: empty when it holds nothing.
func (c *Client) digests() (digests []uint64, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.records) == 0 {
		return nil, c.revision
	}
	digests = make([]uint64, buckets)
	for k, h := range c.records {
		digests[bucketOf(k)] ^= mix(k, h.hash)
	}
	return digests, c.revision
}

// summaries answer a plan: what the node holds in the asked buckets.
func (c *Client) summaries(asked uint64) []*pb.Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []*pb.Summary{{}}
	for k, h := range c.records {
		if asked&(1<<bucketOf(k)) == 0 {
			continue
		}
		last := out[len(out)-1]
		if len(last.Hashes) >= summaryPart {
			last.More = true
			last = &pb.Summary{}
			out = append(out, last)
		}
		last.Hashes = append(last.Hashes, k, h.hash)
	}
	return out
}

// summaryPart is how many hashes one Summary holds at most.
const summaryPart = 32 << 10

// apply takes one whole change.
func (c *Client) apply(group []*pb.Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for _, u := range group {
		for _, k := range u.GetDeletes() {
			h, ok := c.records[k]
			if !ok {
				continue
			}
			delete(c.records, k)
			delete(c.next.upserts, k)
			c.next.deletes[h.key] = struct{}{}
			c.unsaved[k] = struct{}{}
			changed = true
		}
		for _, b := range u.GetUpserts() {
			changed = c.upsert(b) || changed
		}
		c.revision = max(u.GetRevision(), 0)
	}
	last := group[len(group)-1]
	if last.GetSynced() {
		c.synced = true
		if !c.confirms {
			c.confirms = true
			c.next.complete = true
			changed = true
			close(c.first)
		}
	}
	if !changed {
		return
	}
	c.next.any = true
	if c.confirms {
		// What is undelivered of a cached state is confirmed now.
		c.next.cached = false
	}
	kick(c.deliver)
	kick(c.save)
}

// upsert takes one record and tells whether the agent must hear of it.  It must even if the bytes are known: a server sends a record
// again when it wants to be told again how far the node is, as after a port was unbound and bound while the node looked elsewhere.
func (c *Client) upsert(b []byte) bool {
	r, err := Decode(b)
	if errors.Is(err, errUnknownRecord) {
		return false // of a newer server; managers of this version have no use for it
	}
	if err != nil {
		c.log.Error("the server sent a record that cannot be read", "err", err)
		return false
	}
	key := r.Key()
	k, hash := nodestate.HashKey(key), nodestate.HashContent(b)
	c.next.upserts[k] = struct{}{}
	delete(c.next.deletes, key)
	if key.Kind == nodestate.KindPort {
		c.out.wake(key.ID)
		kick(c.outgo)
	}
	if c.records[k].hash != hash {
		c.records[k] = held{key: key, hash: hash, bytes: b}
		c.unsaved[k] = struct{}{}
	}
	return true
}

// parts lays a change out for the cache: all records, or those that changed since the last write.
func (c *Client) parts(all bool) []*pb.Update {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := &pb.Update{Revision: c.revision}
	out := []*pb.Update{cur}
	size := 0
	add := func(h held) {
		if size > chunkSize {
			cur.More = true
			cur = &pb.Update{Revision: c.revision}
			out, size = append(out, cur), 0
		}
		cur.Upserts = append(cur.Upserts, h.bytes)
		size += len(h.bytes)
	}
	if all {
		for _, h := range c.records {
			add(h)
		}
	} else {
		for k := range c.unsaved {
			if h, ok := c.records[k]; ok {
				add(h)
			} else {
				cur.Deletes = append(cur.Deletes, k)
			}
		}
	}
	clear(c.unsaved)
	return out
}
