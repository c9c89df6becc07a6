// Package server is the composition root of the control plane: it opens the store, puts rules, APIs and the southbound server on it,
// and runs them until it is told to stop.
//
// A server keeps nothing but its store: several servers on one external etcd cluster are alike, and killing one at any moment loses
// nothing that was acknowledged.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"baryon/internal/api"
	"baryon/internal/compile"
	"baryon/internal/identity"
	v3 "baryon/internal/identity/v3"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/pki"
	"baryon/internal/southbound"
	"baryon/internal/store"
	"baryon/internal/telemetry"
)

// Run is the server: it returns nil when ctx ends, after requests under way have been answered.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	unlock, err := lockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := openStore(ctx, &cfg)
	if err != nil {
		return err
	}
	defer st.Close() //nolint:errcheck // everything acknowledged is on disk already
	s := &server{cfg: cfg, st: st, log: cfg.Log, metrics: telemetry.NewRegistry(cfg.Version)}
	if err := s.build(ctx); err != nil {
		return err
	}
	defer s.rules.Close()
	return s.serve(ctx)
}

type server struct {
	cfg     Config
	st      *store.Store
	log     *slog.Logger
	metrics *prometheus.Registry

	rules *neutron.Service
	users *identity.Builtin // nil unless the identity is built in
	auth  identity.Authenticator
	ca    *pki.Authority
	south *southbound.Server
}

// openStore opens the embedded store or reaches the external cluster.
func openStore(ctx context.Context, cfg *Config) (*store.Store, error) {
	o := store.Options{Endpoints: cfg.Etcd.Endpoints, Username: cfg.Etcd.Username, Log: cfg.Log.With("part", "store")}
	o.Tables = append(o.Tables, model.AllTables()...)
	o.Tables = append(o.Tables, identity.Tables()...)
	o.Tables = append(o.Tables, pki.Tables()...)
	o.Tables = append(o.Tables, southbound.Tables()...)
	if len(o.Endpoints) == 0 {
		o.Dir = cfg.DataDir + "/etcd"
	} else {
		var err error
		if o.TLS, err = cfg.Etcd.clientTLS(); err != nil {
			return nil, err
		}
		if o.Password, err = secret(cfg.Etcd.PasswordFile); err != nil {
			return nil, err
		}
	}
	return store.Open(ctx, o)
}

// lockDir keeps a second server from the same data directory: with an external store, too, it would take over the admin socket.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "server.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory: another server runs with %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing is what unlocks
}

func (s *server) build(ctx context.Context) error {
	if err := s.buildIdentity(ctx); err != nil {
		return err
	}
	network := s.cfg.Network
	network.Store, network.Log = s.st, s.log.With("part", "rules")
	var err error
	if s.rules, err = neutron.New(network); err != nil {
		return err
	}
	if s.ca, err = pki.Open(ctx, pki.Config{Store: s.st, Names: s.cfg.SouthboundNames}); err != nil {
		return err
	}
	s.south, err = southbound.NewServer(southbound.Config{
		Store: s.st, Nodes: s.rules, Authority: s.ca, Compile: compile.Config{DNSDomain: network.DNSDomain},
		Log: s.log.With("part", "southbound"), Name: s.cfg.APIListen,
	})
	return err
}

func (s *server) buildIdentity(ctx context.Context) error {
	switch s.cfg.Identity {
	case IdentityNone:
		s.log.Warn("identity is none: every request is an administrator's")
		s.auth = identity.None{}
		return nil
	case IdentityKeystone:
		k := s.cfg.Keystone
		password, err := secret(k.PasswordFile)
		if err != nil {
			return err
		}
		s.auth, err = identity.NewKeystone(identity.KeystoneOptions{
			URL: s.cfg.IdentityURL, Username: k.Username, Password: password, Project: k.Project,
			UserDomain: k.UserDomain, ProjectDomain: k.ProjectDomain, Log: s.log.With("part", "identity"),
		})
		return err
	}
	log := s.log.With("part", "identity")
	err := identity.Bootstrap(ctx, s.st, identity.BootstrapOptions{
		AdminPassword: s.cfg.AdminPassword, IdentityURL: s.cfg.IdentityURL, NetworkURL: s.cfg.APIURL, NoComputeURL: s.cfg.APIURL + computePath, Region: s.cfg.Region,
		Dir: s.cfg.DataDir, Recover: s.cfg.Recover, Log: log,
	})
	if err != nil {
		return err
	}
	if s.users, err = identity.New(ctx, s.st, identity.Options{URI: s.cfg.IdentityURL, Log: log}); err != nil {
		return err
	}
	s.auth = s.users
	return nil
}

// serve runs everything until ctx ends or a part fails.  Listeners are opened first, so that a taken port is an error at start.
func (s *server) serve(ctx context.Context) error {
	var lis listeners
	defer lis.close()
	apiL := lis.open(ctx, s.cfg.APIListen, "")
	var idL net.Listener
	if s.users != nil {
		idL = lis.open(ctx, s.cfg.IdentityListen, "")
	}
	southL := lis.open(ctx, s.cfg.SouthboundListen, s.cfg.SouthboundNetns)
	adminL := lis.add(listenAdmin(s.cfg.DataDir))
	if lis.err != nil {
		return lis.err
	}
	apiH, err := s.apiHandler()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.south.Run(ctx) })
	g.Go(func() error { return s.south.Serve(ctx, southL) })
	g.Go(func() error { return untilDone(ctx, s.rules.Run(ctx)) })
	g.Go(func() error { return s.serveHTTP(ctx, "api", apiL, apiH) })
	g.Go(func() error { return s.serveHTTP(ctx, "admin", adminL, adminHandler(s.ca)) })
	if s.users != nil {
		idH, err := v3.New(s.users, v3.Options{Log: s.log.With("part", "identity")})
		if err != nil {
			return err
		}
		g.Go(func() error { return untilDone(ctx, s.users.Run(ctx)) })
		g.Go(func() error { return s.serveHTTP(ctx, "identity", idL, idH) })
	}
	s.log.Info("server runs", "api", s.cfg.APIURL, "identity", s.cfg.Identity, "southbound", s.cfg.SouthboundListen)
	err = g.Wait()
	s.log.Info("server stops", "err", err)
	return err
}

// untilDone takes an end by the context for what it is: no error.
func untilDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// apiHandler is the networking API with the operators' pages beside it.
func (s *server) apiHandler() (http.Handler, error) {
	health := &telemetry.Health{}
	health.Add("store", s.st.Ping)
	health.Add("southbound", func(context.Context) error {
		select {
		case <-s.south.Ready():
			return nil
		default:
			return errors.New("state is being compiled")
		}
	})
	networking, err := api.New(api.Config{
		Services: s.services(), Store: s.st, Auth: s.auth, Log: s.log.With("part", "api"), Metrics: s.metrics,
	})
	if err != nil {
		return nil, err
	}
	s.register()
	return beside(networking, &noCompute{url: s.cfg.APIURL + computePath, auth: s.auth}, map[string]http.Handler{
		"/healthz": health.Live(), "/readyz": health.Ready(), "/metrics": telemetry.Handler(s.metrics),
	}), nil
}

// beside serves pages at exactly their paths, what is below computePath from compute, and everything else from the API with its path
// untouched: http.ServeMux would redirect what it takes for unclean, and a client that follows the redirect loses its body.
func beside(networking, compute http.Handler, pages map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		switch {
		case ok && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			page.ServeHTTP(w, r)
		case r.URL.Path == computePath || strings.HasPrefix(r.URL.Path, computePath+"/"):
			compute.ServeHTTP(w, r)
		default:
			networking.ServeHTTP(w, r)
		}
	})
}

// bounded ends a call that the store keeps waiting: its client is told to come again instead of waiting for ever.
func bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// services are the rules as the API's routes want them.
func (s *server) services() api.Services {
	return api.Services{
		Networks: s.rules.Networks(), Subnets: s.rules.Subnets(), Ports: s.rules.Ports(), Agents: s.rules.Agents(),
		Segments: s.rules.Segments(), SegmentRanges: s.rules.SegmentRanges(), RBACPolicies: s.rules.RBACPolicies(),
		SecurityGroups: s.rules.SecurityGroups(), SecurityGroupRules: s.rules.SecurityGroupRules(),
		AddressGroups: s.rules.AddressGroups(), DefaultRules: s.rules.DefaultRules(), Addresses: s.rules,
		QoSPolicies: s.rules.QoSPolicies(), QoSRules: s.rules, Trunks: s.rules.Trunks(), SubPorts: s.rules,
		Tags: s.rules, Quotas: s.rules, DHCP: s.rules, Bindings: s.rules, IPAvailability: s.rules, Zones: s.rules,
	}
}

// register adds what store and southbound server count to the metrics.
func (s *server) register() {
	s.st.OnCommit(telemetry.CommitSeconds(s.metrics))
	telemetry.Rows(s.metrics, func() map[string]int { return s.st.Stats().Rows })
	telemetry.Gauges(s.metrics, map[string]func() float64{
		"baryon_store_revision":     func() float64 { return float64(s.st.Stats().Revision) },
		"baryon_southbound_nodes":   func() float64 { return float64(s.south.Stats().Nodes) },
		"baryon_southbound_records": func() float64 { return float64(s.south.Stats().Records) },
	})
	telemetry.Counters(s.metrics, map[string]func() float64{
		"baryon_store_commits_total":      func() float64 { return float64(s.st.Stats().Commits) },
		"baryon_store_conflicts_total":    func() float64 { return float64(s.st.Stats().Conflicts) },
		"baryon_store_resyncs_total":      func() float64 { return float64(s.st.Stats().Resyncs) },
		"baryon_southbound_updates_total": func() float64 { return float64(s.south.Stats().Updates) },
		"baryon_southbound_records_total": func() float64 { return float64(s.south.Stats().Sent) },
		"baryon_southbound_bytes_total":   func() float64 { return float64(s.south.Stats().Bytes) },
		"baryon_southbound_resyncs_total": func() float64 { return float64(s.south.Stats().Resyncs) },
		"baryon_southbound_reports_total": func() float64 { return float64(s.south.Stats().Reports) },
		"baryon_southbound_refused_total": func() float64 { return float64(s.south.Stats().Refused) },
	})
}

// serveHTTP serves until ctx ends, then lets requests under way finish.
func (s *server) serveHTTP(ctx context.Context, name string, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.log.With("part", name).Handler(), slog.LevelDebug),
	}
	if s.cfg.pair != nil && name != "admin" {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*s.cfg.pair}})
	}
	stopped := make(chan error, 1)
	unwatch := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		err := srv.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		stopped <- err
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		unwatch()
		return fmt.Errorf("serve %s on %s: %w", name, l.Addr(), err)
	}
	return <-stopped
}

// listeners are opened together and closed together when one fails.
type listeners struct {
	list []net.Listener
	err  error
}

func (l *listeners) open(ctx context.Context, address, namespace string) net.Listener {
	lis, err := listen(ctx, address, namespace)
	return l.add(lis, err)
}

func (l *listeners) add(lis net.Listener, err error) net.Listener {
	if err != nil {
		l.err = errors.Join(l.err, err)
		return nil
	}
	l.list = append(l.list, lis)
	return lis
}

func (l *listeners) close() {
	for _, lis := range l.list {
		_ = lis.Close() // most are closed by their servers already
	}
}
