package southbound

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"baryon/internal/nodestate"
	"baryon/internal/pki"
)

// ClientConfig is what a node's side is given.
type ClientConfig struct {
	Addresses []string     // host:port of the servers; any of them will do
	StateDir  string       // keeps the last state, and the identity under pki/
	Log       *slog.Logger // nil: slog.Default()
	// Dial makes connections; nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// CacheDelay is how long changes gather before they are written to the cache; zero: 200 ms.
	CacheDelay time.Duration
}

const (
	defaultCacheDelay = 200 * time.Millisecond
	lockName          = "southbound.lock"
	stateDirMode      = 0o755
)

// IdentityDir is where a node keeps its key and certificates, under its state directory.
func IdentityDir(stateDir string) string { return filepath.Join(stateDir, "pki") }

// Client is the node side of the southbound protocol; it implements nodestate.Source.  Run does the work; Report, ReportInstance
// and SetInfo may be called at any time and never wait.
//
// Updates gives the cached state first, as Complete and Cached, even if it is empty; then, once a server has confirmed it,
// everything as Complete; from then on changes.  A consumer that is slow gets the latest of each record, not every step.
type Client struct {
	cfg     ClientConfig
	log     *slog.Logger
	dir     string
	lock    *os.File
	cache   *cache
	updates chan nodestate.Update
	deliver chan struct{} // capacity 1 each: something below has changed
	outgo   chan struct{}
	save    chan struct{}

	mu       sync.Mutex
	id       *pki.Identity
	records  map[uint64]held
	revision int64
	next     delivery
	unsaved  map[uint64]struct{}
	rewrite  bool
	out      outbox
	confirms bool          // a server has confirmed everything at least once
	synced   bool          // connected, and in step with a server
	first    chan struct{} // closed when confirms becomes true
}

// delivery is what the agent has not been handed yet.
type delivery struct {
	any      bool
	complete bool
	cached   bool
	upserts  map[uint64]struct{}
	deletes  map[nodestate.Key]struct{}
}

// NewClient loads the node's identity and its last state.  A host that is not enrolled gets pki.ErrNoIdentity; a damaged cache is
// logged and counts as far as it is whole.  Only one client may use a state directory.
func NewClient(cfg ClientConfig) (*Client, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("make southbound client: no server address")
	}
	if cfg.CacheDelay == 0 {
		cfg.CacheDelay = defaultCacheDelay
	}
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	dir := IdentityDir(cfg.StateDir)
	id, err := pki.LoadIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("make southbound client: %w", err)
	}
	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return nil, fmt.Errorf("make southbound client: %w", err)
	}
	sum := sha256.Sum256(id.Authority.Raw)
	c := &Client{
		cfg: cfg, log: log, dir: dir, lock: lock, id: id,
		cache:   newCache(cfg.StateDir, id.Host, hex.EncodeToString(sum[:])),
		updates: make(chan nodestate.Update),
		deliver: make(chan struct{}, 1),
		outgo:   make(chan struct{}, 1),
		save:    make(chan struct{}, 1),
		unsaved: make(map[uint64]struct{}),
		first:   make(chan struct{}),
	}
	c.records, c.revision, err = c.cache.load()
	if err != nil {
		log.Warn("the last known state is damaged; going on with what could be read", "records", len(c.records), "err", err)
	}
	c.next.reset()
	c.next.any, c.next.complete, c.next.cached = true, true, true
	kick(c.deliver)
	return c, nil
}

// lockState makes sure that no second agent writes the same state.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, stateDirMode); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, cacheFileMode)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock state directory %s: another agent uses it: %w", dir, err), f.Close())
	}
	return f, nil
}

// Host is the node's name, by its certificate.
func (c *Client) Host() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id.Host
}

// Updates are the changes of the node's state.  The channel is never closed.
func (c *Client) Updates() <-chan nodestate.Update { return c.updates }

// Synced tells whether the node is connected and in step with a server.
func (c *Client) Synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced
}

// Confirmed is closed once a server has confirmed the complete state for the first time since the client was made.
func (c *Client) Confirmed() <-chan struct{} { return c.first }

// Run connects, delivers and saves until ctx ends.  It is called once.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.deliverLoop(ctx) })
	wg.Go(func() { c.saveLoop(ctx) })
	c.connectLoop(ctx)
	wg.Wait()
	c.cache.drop()
	if err := c.lock.Close(); err != nil {
		return fmt.Errorf("unlock state directory: %w", err)
	}
	return nil
}

func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (d *delivery) reset() {
	*d = delivery{upserts: make(map[uint64]struct{}), deletes: make(map[nodestate.Key]struct{})}
}

// deliverLoop hands changes to the agent, as many at once as have gathered while it was busy.
func (c *Client) deliverLoop(ctx context.Context) {
	for {
		select {
		case <-c.deliver:
		case <-ctx.Done():
			return
		}
		u, ok := c.take()
		if !ok {
			continue
		}
		select {
		case c.updates <- u:
		case <-ctx.Done():
			return
		}
	}
}

// take empties the delivery into an Update.
func (c *Client) take() (nodestate.Update, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.next.any {
		return nodestate.Update{}, false
	}
	u := nodestate.Update{Revision: c.revision, Complete: c.next.complete, Cached: c.next.cached}
	add := func(h held) {
		r, err := Decode(h.bytes)
		if err != nil { // impossible: it was decoded when it came
			c.log.Error("a held record cannot be read", "record", h.key.String(), "err", err)
			return
		}
		u.Upserts = append(u.Upserts, r)
	}
	if u.Complete {
		for _, h := range c.records {
			add(h)
		}
	} else {
		for k := range c.next.upserts {
			if h, ok := c.records[k]; ok {
				add(h)
			}
		}
		for k := range c.next.deletes {
			u.Deletes = append(u.Deletes, k)
		}
	}
	nodestate.Sort(u.Upserts)
	nodestate.SortKeys(u.Deletes)
	c.next.reset()
	return u, true
}
