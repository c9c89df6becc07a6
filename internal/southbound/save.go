package southbound

import (
	"context"
	"time"
)

// saveRetry is the pause after a write to the cache failed: a full disk does not get better by haste.
const saveRetry = 5 * time.Second

// saveLoop writes changes to the cache behind the node's back: they gather for a moment, and while a write is under way.
func (c *Client) saveLoop(ctx context.Context) {
	failed := false
	for {
		select {
		case <-c.save:
		case <-ctx.Done():
			c.saveOnce(&failed)
			return
		}
		wait := c.cfg.CacheDelay
		if failed {
			wait = saveRetry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		c.saveOnce(&failed)
	}
}

func (c *Client) saveOnce(failed *bool) {
	c.mu.Lock()
	dirty := len(c.unsaved) > 0 || c.rewrite
	all := c.rewrite || c.cache.due()
	c.rewrite = false
	c.mu.Unlock()
	if !dirty {
		return
	}
	var err error
	if parts := c.parts(all); all {
		err = c.cache.rewrite(parts)
	} else {
		err = c.cache.append(parts)
	}
	if err != nil {
		if !*failed {
			c.log.Error("cannot keep the last known state; a restart without a server would begin with an older one", "err", err)
		}
		c.mu.Lock()
		c.rewrite = true
		c.mu.Unlock()
		kick(c.save)
	} else if *failed {
		c.log.Info("the last known state is kept again")
	}
	*failed = err != nil
}
