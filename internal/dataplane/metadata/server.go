package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baryon/internal/dataplane/netns"
)

// Limits of one network's server; total and times are those of the haproxy that Neutron runs.
const (
	maxConns     = 1024
	maxPerClient = 32
	maxHeader    = 16 << 10
	headerTime   = 30 * time.Second
	idleTime     = 30 * time.Second
	writeTime    = 90 * time.Second // longer than Nova may take
)

// Where metadata is (EC2's address, and OpenStack's for IPv6).
const (
	Address4 = "169.254.169.254"
	Address6 = "fe80::a9fe:a9fe"
	Port80   = 80
)

// Options are what a server keeps for its life.
type Options struct {
	NS    *netns.NS // where to listen; used by Start only
	Nova  *Nova     // nil: answer from the port's own data
	Log   *slog.Logger
	Stats *Stats // nil: its own
}

// Stats counts answers; safe for concurrent use.  Several servers may share one.
type Stats struct{ Answered, NotFound, Unknown, Failed, Limited atomic.Uint64 }

// Server serves metadata on one network.
type Server struct {
	opt   Options
	log   *slog.Logger
	stats *Stats
	table atomic.Pointer[table]
	http  *http.Server
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[netip.Addr]int
	total int

	failing atomic.Bool
}

// Start listens in the namespace.  Neither addresses nor devices need to be there yet, and they may come and go: the IPv4 socket has
// its address in any case (IP_FREEBIND), the IPv6 one takes all and refuses connections to other addresses, because a socket of a
// link-local address would belong to one device's index.  A missing version of IP is left out.
func Start(opt Options, cfg *Config) (*Server, error) {
	s := &Server{opt: opt, log: opt.Log, stats: opt.Stats, conns: map[netip.Addr]int{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("network", cfg.NetworkID)
	if s.stats == nil {
		s.stats = new(Stats)
	}
	s.Apply(cfg)
	listeners, err := s.listen()
	if err != nil {
		return nil, fmt.Errorf("start metadata server: %w", err)
	}
	s.http = &http.Server{
		Handler: s, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, IdleTimeout: idleTime,
		WriteTimeout: writeTime, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	for _, l := range listeners {
		s.wg.Go(func() {
			if err := s.http.Serve(&limited{Listener: l, s: s}); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("metadata is no longer served", "err", err)
			}
		})
	}
	return s, nil
}

func (s *Server) listen() ([]net.Listener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(fd uintptr) {
			if network == "tcp4" {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			}
		})
		return errors.Join(ctl, err)
	}}
	var out []net.Listener
	var errs []error
	err := s.opt.NS.Do(func() error {
		for network, host := range map[string]string{"tcp4": Address4, "tcp6": "::"} {
			l, err := lc.Listen(context.Background(), network, net.JoinHostPort(host, fmt.Sprint(Port80)))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, l)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.Join(errs...)
	} else if len(errs) > 0 {
		s.log.Warn("no metadata on one version of IP", "err", errors.Join(errs...))
	}
	if err != nil {
		return nil, fmt.Errorf("listen in %q: %w", s.opt.NS.Name(), err)
	}
	return out, nil
}

// Stats are the server's counters.
func (s *Server) Stats() *Stats { return s.stats }

// Apply swaps the table.
func (s *Server) Apply(cfg *Config) { s.table.Store(compile(cfg)) }

// Close stops the server; requests under way are cut.
func (s *Server) Close() error {
	err := s.http.Close()
	s.wg.Wait()
	return err
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := s.table.Load()
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	var p *Port
	if err == nil {
		p = t.find(source.Addr())
	}
	if p == nil {
		s.stats.Unknown.Add(1)
		http.Error(w, "no port of this network has your address", http.StatusNotFound)
		return
	}
	if s.opt.Nova != nil {
		s.proxy(w, r, p, source.Addr())
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	n := t.root(p).walk(r.URL.Path)
	if n == nil {
		s.stats.NotFound.Add(1)
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	body, kind := []byte(nil), n.kind
	if n.dir != nil {
		body = []byte(n.list())
	} else if body, err = n.content(); err != nil {
		s.stats.Failed.Add(1)
		s.log.Error("metadata cannot be written", "port", p.ID, "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if kind == "" {
		kind = "text/plain; charset=UTF-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	s.stats.Answered.Add(1)
	w.Write(body) //nolint:errcheck // the guest went away
}

// proxy passes a request to Nova; the first failure and the recovery are logged, not each.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, p *Port, source netip.Addr) {
	if err := s.opt.Nova.serve(w, r, p, source); err != nil {
		s.stats.Failed.Add(1)
		if !s.failing.Swap(true) {
			s.log.Warn("metadata request failed", "port", p.ID, "err", err)
		}
		return
	}
	s.stats.Answered.Add(1)
	if s.failing.Swap(false) {
		s.log.Info("metadata requests work again")
	}
}

// limited counts connections, in all and per guest; what is too much is closed at once.
type limited struct {
	net.Listener
	s *Server
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err == nil && isMetadata(c.LocalAddr()) && l.s.admit(a.Addr()) {
			return &counted{Conn: c, done: sync.OnceFunc(func() { l.s.leave(a.Addr()) })}, nil
		}
		l.s.stats.Limited.Add(1)
		c.Close() //nolint:errcheck // refused
	}
}

// isMetadata tells whether a guest called one of metadata's two addresses.
func isMetadata(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("").String()
	return ip == Address4 || ip == Address6
}

type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}

func (s *Server) admit(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxConns || s.conns[a] >= maxPerClient {
		return false
	}
	s.total++
	s.conns[a]++
	return true
}

func (s *Server) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.conns[a]--; s.conns[a] <= 0 {
		delete(s.conns, a)
	}
}
