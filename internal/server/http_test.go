package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"baryon/internal/identity"
)

// nobody is an authenticator that believes nobody without a token.
type nobody struct{ identity.None }

func (nobody) Authenticate(ctx context.Context, r *http.Request) (*identity.Caller, error) {
	if r.Header.Get("X-Auth-Token") == "" {
		return nil, &identity.UnauthorizedError{URI: "http://k:5000", Reason: "no token"}
	}
	return identity.None{}.Authenticate(ctx, r)
}

func TestPathsReachTheAPIUntouched(t *testing.T) {
	page := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, name+" "+r.URL.EscapedPath()) })
	}
	h := beside(page("api"), page("compute"), map[string]http.Handler{"/healthz": page("health")})
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/healthz", "health /healthz"},
		{"HEAD", "/healthz", "health /healthz"},
		{"POST", "/healthz", "api /healthz"},
		{"GET", "/healthz/", "api /healthz/"},
		{"POST", "//v2.0//networks/", "api //v2.0//networks/"},
		{"PUT", "/v2.0/networks/x/tags/a%2F..%2Fb", "api /v2.0/networks/x/tags/a%2F..%2Fb"},
		{"GET", "/v2.0/networks/../ports", "api /v2.0/networks/../ports"},
		{"GET", "/compute/v2.1", "compute /compute/v2.1"},
		{"GET", "/compute/v2.1/os-quota-sets/p", "compute /compute/v2.1/os-quota-sets/p"},
		{"GET", "/compute/v2.10", "api /compute/v2.10"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, "http://h"+c.path, nil))
		if w.Code != http.StatusOK || w.Body.String() != c.want {
			t.Errorf("%s %s: %d %q, want %q", c.method, c.path, w.Code, w.Body, c.want)
		}
	}
}

func TestNoCompute(t *testing.T) {
	h := &noCompute{url: "http://h:9696" + computePath, auth: nobody{}}
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "", "", 200, `"href":"http://h:9696/compute/v2.1/"`},
		{"GET", "/os-quota-sets/p1", "", 200, `{"quota_set":{"id":"p1"}}`},
		{"GET", "/os-quota-sets/p1/defaults", "", 200, `{"quota_set":{"id":"p1"}}`},
		{"GET", "/os-quota-sets/p1/detail?user_id=u", "", 200, `{"quota_set":{"id":"p1"}}`},
		{"GET", "/os-quota-sets/p1/else", "", 404, `This cloud has no compute service.`},
		{"GET", "/os-quota-class-sets/default", "", 200, `{"quota_class_set":{"id":"default"}}`},
		{"PUT", "/os-quota-sets/p1", `{"quota_set":{"force":true}}`, 200, `{"quota_set":{"id":"p1"}}`},
		{"PUT", "/os-quota-sets/p1", `{"quota_set":{"ram":1,"cores":2}}`, 400, `it keeps no quota of cores, ram.`},
		{"PUT", "/os-quota-sets/p1", `[`, 400, `no JSON object`},
		{"PUT", "/os-quota-sets/p1", `{"quota_set":{"` + strings.Repeat("x", maxQuotaBody) + `":1}}`, 400, `no JSON object`},
		{"DELETE", "/os-quota-sets/p1", "", 202, ``},
		{"GET", "/servers/detail", "", 200, `{"servers":[]}`},
		{"POST", "/servers", `{}`, 404, `{"itemNotFound":{"code":404,"message":"This cloud has no compute service."}}`},
		{"GET", "/flavors", "", 404, `no compute service`},
	} {
		r := httptest.NewRequest(c.method, "http://h"+computePath+c.path, strings.NewReader(c.body))
		r.Header.Set("X-Auth-Token", "t")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, w.Code, w.Body, c.code, c.want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "http://h"+computePath+"/os-quota-sets/p1", nil))
	if w.Code != http.StatusUnauthorized || w.Header().Get("Www-Authenticate") != "Keystone uri=\"http://k:5000\"" {
		t.Errorf("without a token: %d %v", w.Code, w.Header())
	}
}
