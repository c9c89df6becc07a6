// Package v3 is the HTTP side of the built-in identity service: the part of the OpenStack Identity API v3 that the openstack command,
// the SDKs, Terraform, tempest and the networking service use.
//
// A request passes: size limit → prefix → route → token (identity.Builtin) → rule of the route → handler.  One call is one store
// transaction.  Every answer is JSON in Keystone's form; errors are {"error":{"code","title","message"}}.  Nothing here keeps state.
package v3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"

	"baryon/internal/identity"
	"baryon/internal/store"
)

// maxBody is the largest request body in bytes, oslo.middleware's default.
const maxBody = 114688

// callTimeout ends a request whose store does not answer.
const callTimeout = 30 * time.Second

// Options say how the API presents itself.
type Options struct {
	// PublicURL is the base of all links, without /v3.  Empty: links repeat the scheme, host and prefix the client used.
	PublicURL string
	Log       *slog.Logger
}

// API is the handler.
type API struct {
	id     *identity.Builtin
	st     *store.Store
	public string
	prefix []string // path prefixes that are taken off
	log    *slog.Logger
	mux    *http.ServeMux
}

// New makes the handler of the Identity API, for :5000 or behind a web server at /identity.
func New(b *identity.Builtin, o Options) (*API, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{id: b, st: b.Store(), public: strings.TrimRight(o.PublicURL, "/"), prefix: []string{"/identity"}, log: o.Log, mux: http.NewServeMux()}
	if a.public != "" {
		u, err := url.Parse(a.public)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("read public identity URL %q: it must be http(s)://host[:port][/prefix]", o.PublicURL)
		}
		if u.Path != "" {
			a.prefix = append(a.prefix, u.Path)
		}
	}
	a.routes()
	return a, nil
}

// call is one request on its way through the API.
type call struct {
	context.Context
	api  *API
	w    http.ResponseWriter
	r    *http.Request
	base string            // of links, without /v3
	s    *identity.Session // nil on routes that need no token
}

// problem is an error with the answer it becomes.
type problem struct {
	code    int
	message string
}

func (p *problem) Error() string { return p.message }

func fail(code int, format string, a ...any) error { return &problem{code, fmt.Sprintf(format, a...)} }

func badRequest(format string, a ...any) error { return fail(http.StatusBadRequest, format, a...) }
func forbidden(format string, a ...any) error  { return fail(http.StatusForbidden, format, a...) }

func notFound(noun, id string) error {
	return fail(http.StatusNotFound, "Could not find %s: %s.", noun, clip(id))
}

func notAllowed(action string) error {
	return forbidden("You are not authorized to perform the requested action: %s.", action)
}

// clip keeps what a client sent short when it is repeated in an answer.
func clip(s string) string {
	if r := []rune(s); len(r) > 255 {
		return string(r[:255]) + "..."
	}
	return s
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	rid := "req-" + uuid.NewString()
	w.Header().Set("X-Openstack-Request-Id", rid)
	w.Header().Set("Vary", "X-Auth-Token")
	c := &call{Context: ctx, api: a, w: w}
	c.r, c.base = a.rebase(r.WithContext(ctx))
	c.r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			a.log.Error("identity API panicked", "request", rid, "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			c.error(fail(http.StatusInternalServerError, "%s", unexpected))
		}
	}()
	if unclean(c.r.URL.Path) {
		c.error(fail(http.StatusNotFound, "The resource could not be found."))
		return
	}
	a.mux.ServeHTTP(w, c.r.WithContext(context.WithValue(ctx, callKey{}, c)))
}

// callKey finds the call in the context of a routed request.
type callKey struct{}

const unexpected = "An unexpected error prevented the server from fulfilling your request."

// unclean tells paths that http.ServeMux would answer by a redirect, which no Identity API does.
func unclean(path string) bool {
	for seg := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if seg == "." || seg == ".." || seg == "" && path != "/" {
			return true
		}
	}
	return !strings.HasPrefix(path, "/")
}

var (
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]{1,255}$`)
	prefixForm = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}$`)
)

// rebase takes prefix and trailing slash off the path and finds the base for links.  X-Forwarded-Proto, -Host and -Prefix are
// believed: they change the client's own links only.
func (a *API) rebase(r *http.Request) (*http.Request, string) {
	u := *r.URL
	prefix := ""
	for _, p := range a.prefix {
		if u.Path == p || strings.HasPrefix(u.Path, p+"/") {
			prefix = p
			u.Path, u.RawPath = strings.TrimPrefix(u.Path, p), strings.TrimPrefix(u.RawPath, p)
			break
		}
	}
	if len(u.Path) > 1 {
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	r.URL = &u
	if a.public != "" {
		return r, a.public
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if f := r.Header.Get("X-Forwarded-Proto"); f == "http" || f == "https" {
		scheme = f
	}
	if f := r.Header.Get("X-Forwarded-Host"); f != "" && hostForm.MatchString(f) {
		host = f
	}
	if f := strings.TrimRight(r.Header.Get("X-Forwarded-Prefix"), "/"); f != "" && prefixForm.MatchString(f) {
		prefix = f
	}
	if !hostForm.MatchString(host) {
		host = "localhost"
	}
	return r, scheme + "://" + host + prefix
}

// rule decides whether the caller may do what the route does.
type rule func(c *call) bool

func admin(c *call) bool { return c.s.IsAdmin() }

// overseer may see everything: an admin, or a reader of the system as a whole.
func overseer(c *call) bool { return c.s.IsAdmin() || c.s.System && c.s.Has(identity.RoleReader) }

func anyUser(*call) bool { return true }

// self is the user of the path.
func self(c *call) bool { return c.r.PathValue("user") == c.s.UserID }

func selfOrOverseer(c *call) bool { return self(c) || overseer(c) }
func selfOrAdmin(c *call) bool    { return self(c) || admin(c) }

// handle registers a route.  action is its name in policies; a nil rule means that no token is needed.
func (a *API) handle(pattern, action string, may rule, f func(c *call) error) {
	a.mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(callKey{}).(*call)
		c.r = r
		if err := c.run(action, may, f); err != nil {
			c.error(err)
		}
	})
}

func (c *call) run(action string, may rule, f func(c *call) error) error {
	if may != nil {
		s, err := c.api.id.Check(c, c.r.Header.Get("X-Auth-Token"), false)
		if err != nil {
			return err
		}
		if c.s = s; !may(c) {
			return notAllowed(action)
		}
	}
	return f(c)
}

// reply writes a JSON answer; a nil body means none.
func (c *call) reply(code int, body any) error {
	if body == nil {
		c.w.WriteHeader(code)
		return nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", fmt.Sprint(buf.Len()))
	c.w.WriteHeader(code)
	_, _ = c.w.Write(buf.Bytes()) // a client that has gone needs no answer
	return nil
}

// error writes the answer that an error stands for.  Causes inside the server are logged and not told.
func (c *call) error(err error) {
	var p *problem
	var many *identity.TooManyError
	switch {
	case errors.As(err, &p):
	case errors.Is(err, identity.ErrUnauthorized):
		c.api.log.Debug("identity: refused", "path", c.r.URL.Path, "err", err)
		p = &problem{http.StatusUnauthorized, "The request you have made requires authentication."}
	case errors.As(err, &many):
		c.w.Header().Set("Retry-After", fmt.Sprint(int(many.Retry.Seconds())+1))
		p = &problem{http.StatusTooManyRequests, "Too many failed logins. Wait before you try again."}
	case errors.Is(err, identity.ErrBusy):
		c.w.Header().Set("Retry-After", "1")
		p = &problem{http.StatusServiceUnavailable, "Too many logins are being checked. Try again."}
	case errors.Is(err, context.Canceled) && c.Err() != nil:
		return // the client has gone
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrClosed):
		c.api.log.Warn("identity: store does not answer", "path", c.r.URL.Path, "err", err)
		p = &problem{http.StatusServiceUnavailable, "The store does not answer. Try again."}
	default:
		c.api.log.Error("identity: request failed", "method", c.r.Method, "path", c.r.URL.Path, "err", err)
		p = &problem{http.StatusInternalServerError, unexpected}
	}
	if p.code == http.StatusUnauthorized {
		uri := c.api.id.URI()
		if uri == "" {
			uri = c.base
		}
		c.w.Header().Set("WWW-Authenticate", identity.Challenge(uri))
	}
	_ = c.reply(p.code, map[string]any{"error": map[string]any{
		"code": p.code, "title": http.StatusText(p.code), "message": p.message,
	}})
}

// fallback answers paths without a route: 405 when another method has one, else 404.
func (a *API) fallback(c *call) error {
	var allow []string
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		probe := c.r.Clone(c)
		probe.Method = m
		if _, pattern := a.mux.Handler(probe); pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		return fail(http.StatusNotFound, "The resource could not be found.")
	}
	c.w.Header().Set("Allow", strings.Join(allow, ", "))
	return fail(http.StatusMethodNotAllowed, "The method is not allowed for the requested URL.")
}
