package dhcpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"baryon/internal/dataplane/netns"
)

// Options are what a server keeps for its life.
type Options struct {
	NS     *netns.NS // where the device is; used by Start only
	Device string
	MAC    MAC    // the device's
	Dir    string // of the files; made if missing; "" writes none
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
	Stats  *Stats           // nil: its own
}

// Server is the service of one network on one device.
type Server struct {
	opt   Options
	log   *slog.Logger
	now   func() time.Time
	stats *Stats
	index int

	ctx    context.Context //nolint:containedctx // the life of the server's goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup
	table  atomic.Pointer[table]
	raw    *os.File
	close  []func() error
	once   sync.Once
	ended  error // of Close

	limit    *limiter
	inFlight chan struct{}
	raKick   chan struct{}
	leaseC   chan *event
	applied  chan *table

	mu     sync.Mutex // warned and gone
	warned map[string]bool
	gone   map[netip.Prefix]int // how often still to be taken back
}

// Start opens the sockets and answers from cfg at once.  What the device lacks (IPv6 switched off) is left out with a warning;
// without the packet socket there is no server.
func Start(opt Options, cfg *Config) (*Server, error) {
	s := &Server{
		opt: opt, log: opt.Log, now: opt.Now, stats: opt.Stats,
		limit: newLimiter(dnsRate, dnsBurst, dnsClients), inFlight: make(chan struct{}, dnsInFlight),
		raKick: make(chan struct{}, 1), leaseC: make(chan *event, 256), applied: make(chan *table, 1),
		warned: map[string]bool{}, gone: map[netip.Prefix]int{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("network", cfg.NetworkID)
	if s.now == nil {
		s.now = time.Now
	}
	if s.stats == nil {
		s.stats = new(Stats)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	book := &leaseBook{m: map[netip.Addr]lease{}}
	if opt.Dir != "" {
		if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("start DHCP server: %w", err)
		}
		if f, err := os.Open(filepath.Join(opt.Dir, "leases")); err == nil {
			book = readLeases(f)
			f.Close() //nolint:errcheck // only read
		}
	}
	if err := s.open(); err != nil {
		s.cancel()
		s.closeAll() //nolint:errcheck // the first error counts
		return nil, fmt.Errorf("start DHCP server: %w", err)
	}
	s.Apply(cfg)
	s.wg.Go(s.receive)
	s.wg.Go(s.advertise)
	s.wg.Go(func() { s.record(book) })
	return s, nil
}

// open opens every socket.
func (s *Server) open() error {
	raw, index, err := openRaw(s.opt.NS, s.opt.Device)
	if err != nil {
		return err
	}
	s.raw, s.index = raw, index
	s.close = append(s.close, raw.Close)
	for _, p := range []struct {
		network string
		port    int
	}{{"udp4", port4Server}, {"udp6", port6Server}} {
		c, err := openSilent(s.opt.NS, s.opt.Device, p.network, p.port)
		if err != nil {
			s.log.Warn("a port stays open for unreachable messages", "err", err)
			continue
		}
		s.close = append(s.close, c.Close)
	}
	served := 0
	for _, v := range []string{"4", "6"} {
		if err := s.openDNS(v); err != nil {
			s.log.Warn("no DNS on one version of IP", "err", err)
			continue
		}
		served++
	}
	if served == 0 {
		return errors.New("listen for DNS: neither version of IP works")
	}
	return nil
}

// openDNS serves DNS over UDP and TCP on all addresses of the device, so that a changed address needs no new socket.
func (s *Server) openDNS(version string) error {
	lc := net.ListenConfig{Control: bound(s.opt.Device)}
	pc, err := listenPacket(s.opt.NS, lc, "udp"+version, ":53")
	if err != nil {
		return err
	}
	l, err := listenStream(s.opt.NS, lc, "tcp"+version, ":53")
	if err != nil {
		pc.Close() //nolint:errcheck // the first error counts
		return err
	}
	for _, srv := range []*dns.Server{
		{PacketConn: pc, Handler: s, UDPSize: dnsUDPSize},
		{Listener: netutil.LimitListener(l, dnsTCPConns), Handler: s, ReadTimeout: dnsTimeout, MaxTCPQueries: dnsTCPQueries},
	} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		s.wg.Go(func() { ended <- srv.ActivateAndServe() })
		select {
		case <-started:
			s.close = append(s.close, srv.Shutdown)
		case err := <-ended:
			return fmt.Errorf("serve DNS: %w", err)
		}
	}
	return nil
}

// Index is the device's interface index when the sockets were opened; a device that has another one by now needs a new server.
func (s *Server) Index() int { return s.index }

// Stats are the server's counters.
func (s *Server) Stats() *Stats { return s.stats }

// Apply swaps the tables: requests that arrive from now on see all of the new configuration.
func (s *Server) Apply(cfg *Config) {
	t, problems := compile(cfg, s.opt.MAC)
	old := s.table.Swap(t)
	s.mu.Lock()
	for _, p := range problems {
		if !s.warned[p] {
			s.warned[p] = true
			s.log.Warn("configuration is not served in full", "reason", p)
		}
	}
	if len(s.warned) > 4*len(problems)+100 {
		clear(s.warned)
	}
	changed := s.withdraw(old, t)
	s.mu.Unlock()
	if changed {
		select {
		case s.raKick <- struct{}{}:
		default:
		}
	}
	// The recorder only needs the newest.
	select {
	case <-s.applied:
	default:
	}
	s.applied <- t
}

// withdraw remembers prefixes that are advertised no more, and tells whether advertisements changed.
func (s *Server) withdraw(old, t *table) bool {
	if old == nil {
		return len(t.ra) > 0
	}
	now := map[netip.Prefix]bool{}
	for _, n := range t.ra {
		now[n.CIDR.Masked()] = true
		delete(s.gone, n.CIDR.Masked())
	}
	changed := len(old.ra) != len(t.ra)
	for i, n := range old.ra {
		p := n.CIDR.Masked()
		still := t.subnets[n.ID]
		if !now[p] && (still == nil || !still.Routed) {
			s.gone[p] = raInitialN
		}
		changed = changed || i >= len(t.ra) || t.ra[i].ID != n.ID || t.ra[i].RAMode != n.RAMode || !slices.Equal(t.ra[i].dns, n.dns)
	}
	return changed || old.cfg.MTU != t.cfg.MTU || old.cfg.Domain != t.cfg.Domain || old.cfg.Metadata != t.cfg.Metadata
}

// goneList is what advertisements take back now.
func (s *Server) goneList() []netip.Prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.Prefix
	for p := range s.gone {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}

// receive answers requests until the socket is closed.
func (s *Server) receive() {
	buf := make([]byte, maxFrame)
	for {
		n, err := s.raw.Read(buf)
		if err != nil {
			if errors.Is(err, os.ErrClosed) || s.ctx.Err() != nil {
				return
			}
			// The device went down or away: wait for it, or for Close.
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		s.handle(buf[:n])
	}
}

func (s *Server) handle(b []byte) {
	p, ok := parseFrame(b)
	if !ok {
		s.stats.add(Malformed)
		return
	}
	t := s.table.Load()
	var frame []byte
	var ev *event
	var v Verdict
	switch {
	case p.proto == protoICMP:
		frame, v = answerRS(t, &p, s.goneList())
	case p.src.Is4():
		frame, ev, v = answer4(t, &p)
	default:
		frame, ev, v = answer6(t, &p)
	}
	if frame != nil {
		if err := sendRaw(s.raw, frame); err != nil {
			s.stats.add(SendFailed)
			s.log.Debug("reply lost", "err", err)
			return
		}
	}
	s.stats.add(v)
	if ev == nil {
		return
	}
	if ev.kind == declined {
		s.log.Warn("a client says that its address is used by somebody else", "port", ev.host.PortID, "ip", ev.addr.IP)
	}
	select {
	case s.leaseC <- ev:
	case <-s.ctx.Done():
	}
}

// advertise sends router advertisements: three soon after a change, then in RFC 4861's rhythm.
func (s *Server) advertise() {
	initial := 0
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.raKick:
			initial = raInitialN
		case <-timer.C:
		}
		sent := s.sendRA()
		wait := raMin + rand.N(raMax-raMin)
		if initial--; initial > 0 {
			wait = min(wait, raInitial)
		}
		if !sent {
			wait = time.Hour // nothing to say until a change
		}
		timer.Reset(wait)
	}
}

func (s *Server) sendRA() bool {
	gone := s.goneList()
	frame, err := advertisement(s.table.Load(), endpoint{mac: allNodesMAC, ip: allNodes}, gone)
	if err != nil {
		s.log.Error("router advertisement cannot be written", "err", err)
		return false
	}
	if frame == nil {
		return false
	}
	s.mu.Lock()
	for _, p := range gone {
		if s.gone[p]--; s.gone[p] <= 0 {
			delete(s.gone, p)
		}
	}
	s.mu.Unlock()
	if err := sendRaw(s.raw, frame); err != nil {
		s.stats.add(SendFailed)
	} else {
		s.stats.add(Advertised)
	}
	return true
}

// settle is how long changes are collected before files are written.
const settle = 100 * time.Millisecond

// record owns the leases and writes the files, some time after the first change of a burst and once at the end.
func (s *Server) record(book *leaseBook) {
	var t, written *table
	dirty := false
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	flush := func() {
		if !dirty || t == nil || s.opt.Dir == "" {
			return
		}
		dirty = false
		var err error
		if written != t {
			book.seed(t, s.now())
			err = writeFiles(s.opt.Dir, s.opt.Device, t)
			written = t
		}
		if err = errors.Join(err, writeLeases(s.opt.Dir, book, t)); err != nil && s.ctx.Err() == nil {
			s.log.Warn("files for operators are not up to date", "err", err)
		}
	}
	touch := func() {
		if !dirty {
			dirty = true
			timer.Reset(settle)
		}
	}
	for {
		select {
		case ev := <-s.leaseC:
			book.note(ev, s.now())
			touch()
		case t = <-s.applied:
			touch()
		case <-timer.C:
			flush()
		case <-s.ctx.Done():
			for len(s.leaseC) > 0 {
				book.note(<-s.leaseC, s.now())
				dirty = true
			}
			select {
			case t = <-s.applied:
				dirty = true
			default:
			}
			flush()
			return
		}
	}
}

// Close stops the server and writes the leases.  Nothing is said to guests: a restart is invisible.
// Closing twice is fine.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.ended = s.closeAll()
		s.wg.Wait()
	})
	return s.ended
}

func (s *Server) closeAll() error {
	var errs []error
	for _, c := range s.close {
		if err := c(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
