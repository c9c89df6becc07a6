package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	keystoneCache   = 300 * time.Second // keystonemiddleware's token_cache_time
	keystoneRefused = 30 * time.Second  // how long a refusal is remembered
	keystoneTimeout = 10 * time.Second  // of one question
	keystoneAnswer  = 1 << 20           // bytes of an answer that are read
	keystoneToken   = 8 << 10           // longest token that is asked about, in bytes
	keystoneMargin  = time.Minute       // the own token is renewed this long before its end
)

// KeystoneOptions say which Keystone to ask and as whom.
type KeystoneOptions struct {
	URL       string // http(s)://host:5000, with or without /v3
	PublicURL string // named in 401 answers; empty: URL

	// The service user, by password or by application credential.  It needs the role service or admin.
	Username, Password       string
	UserDomain               string // name; empty: Default
	Project, ProjectDomain   string // names; empty: service, Default
	AppCredential, AppSecret string // id and secret; take precedence
	Client                   *http.Client
	CacheFor                 time.Duration // 0: 300 s.  A revoked token passes at most so long
	Now                      func() time.Time
	Log                      *slog.Logger
}

// Keystone asks a real Keystone who a token belongs to.  Answers are remembered for CacheFor, but never longer than the token lives.
// When Keystone does not answer, tokens that are not remembered are refused with an error that is no *UnauthorizedError.
type Keystone struct {
	o     KeystoneOptions
	base  string
	cache *cache[[33]byte, verdict]
	calls singleflight.Group

	mu     sync.Mutex
	own    string
	ownEnd time.Time
}

var _ Authenticator = (*Keystone)(nil)

// verdict is an answer of Keystone.
type verdict struct {
	caller *Caller // nil: refused
	end    time.Time
	until  time.Time // forget it then
}

// NewKeystone makes the authenticator.  It asks nothing yet, so Keystone may start later.
func NewKeystone(o KeystoneOptions) (*Keystone, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("read Keystone URL %q: it must be http(s)://host[:port]", o.URL)
	}
	if (o.AppCredential == "" || o.AppSecret == "") && (o.Username == "" || o.Password == "") {
		return nil, errors.New("configure Keystone: a user with password or an application credential with secret is needed")
	}
	base := strings.TrimSuffix(strings.TrimRight(o.URL, "/"), "/v3")
	for _, d := range []struct {
		to  *string
		def string
	}{{&o.PublicURL, base}, {&o.UserDomain, "Default"}, {&o.Project, "service"}, {&o.ProjectDomain, "Default"}} {
		if *d.to == "" {
			*d.to = d.def
		}
	}
	if o.CacheFor <= 0 {
		o.CacheFor = keystoneCache
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := http.Client{}
	if o.Client != nil {
		c = *o.Client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // tokens go nowhere else
	o.Client = &c
	return &Keystone{o: o, base: base, cache: newCache[[33]byte, verdict]()}, nil
}

// Authenticate checks X-Auth-Token, and X-Service-Token as Builtin does.
func (k *Keystone) Authenticate(ctx context.Context, r *http.Request) (*Caller, error) {
	stripIdentity(r.Header)
	late := false
	if t := r.Header.Get("X-Service-Token"); t != "" {
		c, err := k.ask(ctx, t, false)
		if err != nil {
			return nil, err
		}
		late = c.IsService()
	}
	return k.ask(ctx, r.Header.Get("X-Auth-Token"), late)
}

func (k *Keystone) unauthorized(why string) error {
	return &UnauthorizedError{URI: k.o.PublicURL, Reason: why}
}

// ask answers from memory or asks Keystone; requests that bring the same token meanwhile share one question.
func (k *Keystone) ask(ctx context.Context, token string, late bool) (*Caller, error) {
	if token == "" {
		return nil, k.unauthorized("no token")
	}
	if len(token) > keystoneToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, k.unauthorized("malformed token")
	}
	var key [33]byte
	sum := sha256.Sum256([]byte(token))
	copy(key[:], sum[:])
	if late {
		key[32] = 1
	}
	now := k.o.Now()
	v, ok := k.cache.get(key)
	if !ok || !now.Before(v.until) {
		ch := k.calls.DoChan(string(key[:]), func() (any, error) {
			// Not the first request's context: others wait for the same answer.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keystoneTimeout)
			defer cancel()
			v, err := k.validate(ctx, token, late)
			if err == nil {
				k.cache.put(key, v)
			}
			return v, err
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case res := <-ch:
			if res.Err != nil {
				return nil, fmt.Errorf("ask Keystone: %w", res.Err)
			}
			v = res.Val.(verdict)
		}
	}
	end := v.end
	if late {
		end = end.Add(ExpiredWindow)
	}
	switch {
	case v.caller == nil:
		return nil, k.unauthorized("Keystone does not know the token")
	case !now.Before(end):
		return nil, k.unauthorized("token has expired")
	}
	c := *v.caller
	return &c, nil
}

// tokenBody is the part of a token's body that matters here.
type tokenBody struct {
	Token struct {
		ExpiresAt time.Time `json:"expires_at"`
		User      struct{ ID, Name string }
		Project   *struct{ ID string }
		Domain    *struct{ ID string }
		System    *struct{ All bool }
		Roles     []struct{ Name string }
	}
}

// validate asks Keystone.  The own token may have been revoked, so a 401 is tried once more with a new one.
func (k *Keystone) validate(ctx context.Context, token string, late bool) (verdict, error) {
	query := "/v3/auth/tokens?nocatalog"
	if late {
		query += "&allow_expired=1"
	}
	bad := ""
	for attempt := 0; ; attempt++ {
		own, err := k.ownToken(ctx, bad)
		if err != nil {
			return verdict{}, err
		}
		var body tokenBody
		resp, err := k.call(ctx, http.MethodGet, query, nil, http.Header{"X-Auth-Token": {own}, "X-Subject-Token": {token}}, &body)
		if err != nil {
			return verdict{}, err
		}
		now := k.o.Now()
		switch {
		case resp.StatusCode == http.StatusOK:
			return k.accept(&body, now)
		case resp.StatusCode == http.StatusNotFound:
			return verdict{until: now.Add(min(keystoneRefused, k.o.CacheFor))}, nil
		case resp.StatusCode == http.StatusUnauthorized && attempt == 0:
			bad = own
		case resp.StatusCode == http.StatusForbidden:
			return verdict{}, errors.New("validate token: the service user may not do it; give it the role service or admin")
		default:
			return verdict{}, fmt.Errorf("validate token: status %d", resp.StatusCode)
		}
	}
}

// accept turns Keystone's answer into a caller.
func (k *Keystone) accept(body *tokenBody, now time.Time) (verdict, error) {
	t := &body.Token
	if t.User.ID == "" || t.ExpiresAt.IsZero() {
		return verdict{}, errors.New("validate token: the answer names no user or no end")
	}
	c := &Caller{UserID: t.User.ID, UserName: t.User.Name}
	switch {
	case t.Project != nil:
		c.ProjectID = t.Project.ID
	case t.Domain != nil:
		c.DomainID = t.Domain.ID
	case t.System != nil:
		c.System = t.System.All
	}
	for _, r := range t.Roles {
		if name := strings.ToLower(r.Name); !c.Has(name) { // policies compare role names without case
			c.Roles = append(c.Roles, name)
		}
	}
	c.Roles = expandNames(c.Roles)
	return verdict{caller: c, end: t.ExpiresAt, until: now.Add(k.o.CacheFor)}, nil
}

// ownToken is the service user's token, and another one than bad.
func (k *Keystone) ownToken(ctx context.Context, bad string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.own != "" && k.own != bad && k.o.Now().Before(k.ownEnd.Add(-keystoneMargin)) {
		return k.own, nil
	}
	named := func(name, domain string) map[string]any {
		return map[string]any{"name": name, "domain": map[string]any{"name": domain}}
	}
	var auth map[string]any
	if k.o.AppCredential != "" {
		auth = map[string]any{"identity": map[string]any{
			"methods":                []string{"application_credential"},
			"application_credential": map[string]any{"id": k.o.AppCredential, "secret": k.o.AppSecret},
		}}
	} else {
		user := named(k.o.Username, k.o.UserDomain)
		user["password"] = k.o.Password
		auth = map[string]any{
			"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": user}},
			"scope":    map[string]any{"project": named(k.o.Project, k.o.ProjectDomain)},
		}
	}
	var body tokenBody
	resp, err := k.call(ctx, http.MethodPost, "/v3/auth/tokens?nocatalog", map[string]any{"auth": auth}, nil, &body)
	if err != nil {
		return "", err
	}
	token := resp.Header.Get("X-Subject-Token")
	if resp.StatusCode != http.StatusCreated || token == "" || body.Token.ExpiresAt.IsZero() {
		k.own = ""
		return "", fmt.Errorf("log service user in: status %d", resp.StatusCode)
	}
	k.own, k.ownEnd = token, body.Token.ExpiresAt
	return token, nil
}

// call sends one request and decodes a good answer into out.
func (k *Keystone) call(ctx context.Context, method, path string, in any, h http.Header, out any) (*http.Response, error) {
	var rd io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.base+path, rd)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for name, v := range h {
		req.Header[name] = v
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := k.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, keystoneAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode < 300 {
		if err := json.Unmarshal(b, out); err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
	}
	return resp, nil
}
