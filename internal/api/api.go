// Package api is the Networking API v2.0 over HTTP: routes, JSON, error bodies, paging, links.  It holds no business rules: what a
// request means is package neutron's, what a body may look like is the definitions' of package model.
//
// Data flow of a write: authenticate -> route -> ParseCreate/ParseUpdate -> Kind.Create/Update/Delete -> Present -> encode.  Of a
// read: authenticate -> route -> ParseQuery -> one store View -> rows from the best index -> Visible -> filters -> sort -> page
// -> Present -> encode.
//
// Invariants: every response carries X-Openstack-Request-Id; every refusal is a NeutronError body; a panic or an unforeseen error
// is a 500 that tells the client nothing and the log everything; bodies are bounded.
package api

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"baryon/internal/identity"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultMaxBody is the size limit of a request body in bytes: room for a bulk create of several thousand ports.
const DefaultMaxBody = 2 << 20

// Config is what the API is made from.
type Config struct {
	Store    Reader
	Auth     identity.Authenticator
	Services Services
	Log      *slog.Logger
	Now      func() time.Time // for durations in log and metrics only; nil: time.Now

	MaxBody  int64 // bytes; 0: DefaultMaxBody
	MaxLimit int   // rows of one page of a list; 0: no limit (pagination_max_limit = -1)
	// LinkPrefix is the URL that links start with, for servers behind a proxy that sends no X-Forwarded headers
	// (network_link_prefix), such as "https://cloud.example.org/network"; empty: from the request.
	LinkPrefix string
	// Metrics receives the request histogram; nil: none.
	Metrics prometheus.Registerer
}

// New makes the handler of the Networking API.  It fails only when the metrics cannot be registered.
func New(c Config) (http.Handler, error) {
	if c.MaxBody <= 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Config: c}
	s.routes = s.table()
	s.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "baryon_api_request_duration_seconds",
		Help:    "Time from a request's first byte to its answer.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
	}, []string{"method", "route", "code"})
	if c.Metrics != nil {
		if err := c.Metrics.Register(s.seconds); err != nil {
			return nil, fmt.Errorf("register API metrics: %w", err)
		}
	}
	return s, nil
}

type server struct {
	Config
	routes  []route
	seconds *prometheus.HistogramVec
}

// request is one request on its way: what was sent, by whom, and what is answered.
type request struct {
	*http.Request
	w      http.ResponseWriter
	srv    *server
	id     string
	caller *identity.Caller
	route  string   // the pattern, for the metrics
	args   []string // what stands in the pattern's {}
	status int      // of the answer, once written
}

// ServeHTTP answers one request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.Now()
	q := &request{Request: r, w: w, srv: s, id: newRequestID(), route: "none"}
	w.Header().Set("X-Openstack-Request-Id", q.id)
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.Log.Error("handler panicked", "request", q.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if q.status == 0 {
				q.fail(errInternal)
			}
		}
		s.account(q, s.Now().Sub(start))
	}()
	if err := s.serve(q); err != nil {
		q.fail(err)
	}
}

func (s *server) serve(q *request) error {
	path, err := splitPath(q.URL.EscapedPath())
	if err != nil {
		return errNoRoute
	}
	if versionPath(q.URL.Path) {
		q.route = q.URL.Path
		return s.versions(q)
	}
	caller, err := s.Auth.Authenticate(q.Context(), q.Request)
	if err != nil {
		return undecided(err)
	}
	own := *caller // it may be shared: keep our mark to ourselves
	own.RequestID = q.id
	q.caller = &own
	rt, args := s.find(path)
	if rt == nil {
		return errNoRoute
	}
	q.route, q.args = rt.pattern, args
	h, ok := rt.methods[q.Method]
	if !ok {
		q.w.Header().Set("Allow", rt.allow())
		return errMethod(q.Method)
	}
	return h(q)
}

// undecided lets a proven refusal pass as it is and makes every other failure of the authenticator a 503.
func undecided(err error) error {
	var denied *identity.UnauthorizedError
	if errors.As(err, &denied) {
		return err
	}
	return fmt.Errorf("%w: %w", errAuthDown, err)
}

// hasBody tells whether a request brings at least one byte of body.
func hasBody(r *http.Request) bool {
	if r.Body == nil || r.ContentLength == 0 {
		return false
	}
	var one [1]byte
	n, _ := r.Body.Read(one[:])
	return n > 0
}

// account logs and counts an answered request.
func (s *server) account(q *request, took time.Duration) {
	s.seconds.WithLabelValues(method(q.Method), q.route, strconv.Itoa(q.status)).Observe(took.Seconds())
	level := slog.LevelDebug
	if q.status >= 200 && q.status < 300 && q.Method != http.MethodGet {
		level = slog.LevelInfo
	}
	if !s.Log.Enabled(q.Context(), level) {
		return
	}
	var user, project string
	if q.caller != nil {
		user, project = q.caller.UserID, q.caller.ProjectID
	}
	s.Log.Log(q.Context(), level, "request", "request", q.id, "method", q.Method, "path", q.URL.Path, "status", q.status,
		"ms", float64(took.Microseconds())/1000, "user", user, "project", project, "from", q.RemoteAddr)
}

// method bounds the label: a client may send any word as method.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead, http.MethodPatch, http.MethodOptions:
		return m
	}
	return "other"
}

// newRequestID makes "req-<uuid4>".
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return "req-" + strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
