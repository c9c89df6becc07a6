package v3_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"baryon/internal/identity"
	v3 "baryon/internal/identity/v3"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

const adminPassword = "s3cret'quoted"

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// cloud is a running identity service with its admin.
type cloud struct {
	t     testing.TB
	st    *store.Store
	id    *identity.Builtin
	srv   *httptest.Server
	clock *clock
	dir   string
	admin string // an admin's project token
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{t: t, clock: &clock{t: time.Now()}, dir: t.TempDir()}
	c.st = storetest.New(t, identity.Tables()...)
	var h http.Handler
	c.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(c.srv.Close)
	ctx := context.Background()
	if err := identity.Bootstrap(ctx, c.st, identity.BootstrapOptions{
		AdminPassword: adminPassword, IdentityURL: c.srv.URL, NetworkURL: "http://127.0.0.1:9696", Dir: c.dir,
	}); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.id, err = identity.New(ctx, c.st, identity.Options{URI: c.srv.URL, Now: c.clock.now}); err != nil {
		t.Fatal(err)
	}
	if h, err = v3.New(c.id, v3.Options{Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}); err != nil {
		t.Fatal(err)
	}
	c.admin = c.login("admin", adminPassword, "admin")
	return c
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// answer is a response read to its end.
type answer struct {
	code   int
	header http.Header
	body   map[string]any
	raw    string
}

// at walks into the body: at("user", "id").
func (a answer) at(path ...string) any {
	var v any = a.body
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (a answer) str(path ...string) string { s, _ := a.at(path...).(string); return s }

// do sends a request; body may be nil, a text or anything JSON can hold.
func (c *cloud) do(token, method, path string, body any, headers ...string) answer {
	c.t.Helper()
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		rd = bytes.NewReader([]byte(b))
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		rd = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, c.srv.URL+path, rd)
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	cl := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := cl.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := answer{code: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			c.t.Fatalf("%s %s: answer is no JSON: %s", method, path, raw)
		}
	}
	return a
}

// must is do with an expected status.
func (c *cloud) must(code int, token, method, path string, body any, headers ...string) answer {
	c.t.Helper()
	a := c.do(token, method, path, body, headers...)
	if a.code != code {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.code, code, a.raw)
	}
	return a
}

type obj = map[string]any

// passwordAuth is the body of a login.  scope may be nil.
func passwordAuth(user, password string, scope any) obj {
	auth := obj{"identity": obj{"methods": []string{"password"}, "password": obj{
		"user": obj{"name": user, "domain": obj{"id": "default"}, "password": password},
	}}}
	if scope != nil {
		auth["scope"] = scope
	}
	return obj{"auth": auth}
}

func projectScope(name string) obj {
	return obj{"project": obj{"name": name, "domain": obj{"name": "Default"}}}
}

func (c *cloud) login(user, password, project string) string {
	c.t.Helper()
	a := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth(user, password, projectScope(project)))
	return a.header.Get("X-Subject-Token")
}

func (c *cloud) role(name string) string {
	c.t.Helper()
	a := c.must(200, c.admin, "GET", "/v3/roles?name="+name, nil)
	l := a.body["roles"].([]any)
	if len(l) != 1 {
		c.t.Fatalf("roles named %s: %d", name, len(l))
	}
	return l[0].(obj)["id"].(string)
}

// tenant creates a project and a user with a role on it, and returns their ids.
func (c *cloud) tenant(name, role string) (project, user string) {
	c.t.Helper()
	project = c.must(201, c.admin, "POST", "/v3/projects", obj{"project": obj{"name": name}}).str("project", "id")
	user = c.must(201, c.admin, "POST", "/v3/users", obj{"user": obj{"name": name, "password": "pw-" + name}}).str("user", "id")
	c.must(204, c.admin, "PUT", "/v3/projects/"+project+"/users/"+user+"/roles/"+c.role(role), nil)
	return project, user
}
