package southbound

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Session says which server has a node's stream.  A server that loses a stream calls the node gone only while the session is its
// own: the node may long be with another.
type Session struct {
	Host   string    `json:"host"`
	ID     string    `json:"id"`
	Server string    `json:"server,omitempty"`
	Remote string    `json:"remote,omitempty"`
	Since  time.Time `json:"since"`
}

// SessionTable keeps the sessions by host.
var SessionTable = resource.NewTable("southbound_session", func(s *Session) string { return s.Host })

// Pace of what is repeated until the store takes it.
const (
	retryFirst   = 100 * time.Millisecond
	retryMost    = 5 * time.Second
	retryRefused = 30 * time.Second // after an answer that only a person can change
	beatTick     = time.Second
	purgeEvery   = time.Hour
	goneTimeout  = 30 * time.Second
)

// begin writes the session down and registers the node.
func (s *Server) begin(c *conn) {
	c.mu.Lock()
	c.nextBeat = s.now().Add(spread(s.cfg.HeartbeatEvery))
	c.keeping = true
	c.mu.Unlock()
	go func() {
		row := &Session{Host: c.host, ID: c.session, Server: s.cfg.Name, Remote: c.remote, Since: c.since.UTC()}
		c.persist("write session down", func(ctx context.Context) error {
			_, err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
				store.Put(tx, SessionTable, row)
				return nil
			})
			return err
		})
		c.register()
	}()
}

// keep registers the node's latest information, unless that is under way.
func (s *Server) keep(c *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Before attach the first information only waits: begin registers it.
	if c.keeping || c.nextBeat.IsZero() {
		return
	}
	c.keeping = true
	go c.register()
}

// register hands the latest information to the rules until there is none.
func (c *conn) register() {
	for {
		c.mu.Lock()
		info := c.info
		c.info = nil
		c.keeping = info != nil && c.ctx.Err() == nil
		again := c.keeping
		c.mu.Unlock()
		if !again {
			return
		}
		c.persist("register node", func(ctx context.Context) error {
			if newer := c.newerInfo(); newer != nil {
				info = newer
			}
			return c.s.cfg.Nodes.RegisterNode(ctx, *info)
		})
	}
}

func (c *conn) newerInfo() *nodestate.NodeInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.info
	c.info = nil
	return info
}

// persist repeats do until it succeeds or the stream ends.  The first failure is logged and told to the node.
func (c *conn) persist(what string, do func(context.Context) error) {
	wait := retryFirst
	for failed := false; ; failed = true {
		err := do(c.ctx)
		if err == nil {
			if failed {
				c.s.log.Info("recovered: "+what, "node", c.host)
			}
			return
		}
		if c.ctx.Err() != nil {
			return
		}
		if permanent(err) {
			wait = retryRefused
		}
		if !failed {
			c.s.log.Warn("cannot "+what, "node", c.host, "err", err)
			c.tell("server cannot " + what + ": " + err.Error())
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-c.ctx.Done():
			return
		}
		wait = min(2*wait, max(wait, retryMost))
	}
}

// tell leaves a notice for the person who reads the node's log.
func (c *conn) tell(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notice = text
	c.kick()
}

// gone tells the rules that a node's stream is lost, unless another stream has followed.
func (s *Server) gone(c *conn) {
	ctx, cancel := context.WithTimeout(context.Background(), goneTimeout)
	defer cancel()
	var current *Session
	if err := s.cfg.Store.View(ctx, func(r store.Read) error {
		current, _ = store.Get(r, SessionTable, c.host)
		return nil
	}); err != nil {
		s.log.Warn("cannot tell whether a lost node is elsewhere; its heartbeat will", "node", c.host, "err", err)
		return
	}
	if current != nil && current.ID != c.session {
		return
	}
	if err := s.cfg.Nodes.NodeGone(ctx, c.host); err != nil {
		s.log.Warn("cannot note that a node is gone; its heartbeat will tell", "node", c.host, "err", err)
	}
}

// keepNodes writes heartbeats of connected nodes, spread in time, and clears what has ended of tokens and certificates.
func (s *Server) keepNodes(ctx context.Context) {
	tick := time.NewTicker(min(beatTick, s.cfg.HeartbeatEvery))
	defer tick.Stop()
	purge := time.NewTicker(purgeEvery)
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.beat(ctx)
		case <-purge.C:
			if err := s.cfg.Authority.Purge(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot purge ended tokens and certificates", "err", err)
			}
		}
	}
}

func (s *Server) beat(ctx context.Context) {
	var due []*conn
	now := s.now()
	s.mu.RLock()
	for _, c := range s.conns {
		c.mu.Lock()
		if !c.nextBeat.IsZero() && !now.Before(c.nextBeat) {
			c.nextBeat = now.Add(spread(s.cfg.HeartbeatEvery))
			due = append(due, c)
		}
		c.mu.Unlock()
	}
	s.mu.RUnlock()
	var wg sync.WaitGroup
	slots := make(chan struct{}, beatParallel)
	var failed error
	var mu sync.Mutex
	for _, c := range due {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.cfg.Nodes.Heartbeat(ctx, c.host); err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed != nil && ctx.Err() == nil {
		s.log.Warn("cannot write heartbeats", "nodes", len(due), "err", failed)
	}
}

// spread is d give or take a tenth, so that a thousand nodes do not beat as one.
func spread(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// Tables lists every table of this package, for the store.
func Tables() []resource.AnyTable { return []resource.AnyTable{SessionTable} }
