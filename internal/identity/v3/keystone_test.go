package v3_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baryon/internal/identity"
)

// fromToken authenticates a request that carries the token.
func fromToken(a identity.Authenticator, token string, headers ...string) (*identity.Caller, error) {
	r := httptest.NewRequest("GET", "/v2.0/networks", nil)
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return a.Authenticate(context.Background(), r)
}

func refusedBy(err error) bool {
	var u *identity.UnauthorizedError
	return errors.As(err, &u)
}

// The client of a real Keystone, proved against our own.
func TestKeystoneAuthenticator(t *testing.T) {
	c := newCloud(t)
	project, user := c.tenant("acme", "member")
	service := c.must(201, c.admin, "POST", "/v3/users", obj{"user": obj{"name": "neutron", "password": "svc"}}).str("user", "id")
	projects := c.must(200, c.admin, "GET", "/v3/projects?name=service", nil).body["projects"].([]any)
	c.must(204, c.admin, "PUT", "/v3/projects/"+projects[0].(obj)["id"].(string)+"/users/"+service+"/roles/"+c.role("service"), nil)
	k, err := identity.NewKeystone(identity.KeystoneOptions{URL: c.srv.URL + "/v3/", Username: "neutron", Password: "svc", Now: c.clock.now})
	none(t, err)

	token := c.login("acme", "pw-acme", "acme")
	caller, err := fromToken(k, token, "X-Roles", "admin", "X-Project-Id", "forged")
	if err != nil || caller.UserID != user || caller.ProjectID != project || caller.IsAdmin() || !caller.CanWrite(project) || !caller.CanRead(project) {
		t.Fatalf("caller %+v, error %v", caller, err)
	}
	_, err = fromToken(k, "")
	var u *identity.UnauthorizedError
	if !errors.As(err, &u) || u.Challenge() != `Keystone uri="`+c.srv.URL+`"` {
		t.Errorf("without a token: %v", err)
	}
	for _, bad := range []string{"nonsense", "a b", strings.Repeat("x", 9000), "x\x7f"} {
		if _, err := fromToken(k, bad); !refusedBy(err) {
			t.Errorf("token %.20q: %v", bad, err)
		}
	}
	system := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("admin", adminPassword, obj{"system": obj{"all": true}})).header.Get("X-Subject-Token")
	if caller, err := fromToken(k, system); err != nil || !caller.System || !caller.IsAdmin() || caller.ProjectID != "" {
		t.Errorf("system scope: %+v %v", caller, err)
	}

	// A revoked token passes from memory until the memory ends, and then no more.
	c.must(204, token, "DELETE", "/v3/auth/tokens", nil, "X-Subject-Token", token)
	if _, err := fromToken(k, token); err != nil {
		t.Errorf("remembered token: %v", err)
	}
	c.clock.add(301 * time.Second)
	if _, err := fromToken(k, token); !refusedBy(err) {
		t.Errorf("revoked token after 300 s: %v", err)
	}

	// The own token ends or is revoked: the next question brings a new one.
	c.clock.add(2 * time.Hour)
	late := c.login("acme", "pw-acme", "acme")
	if _, err := fromToken(k, late); err != nil {
		t.Errorf("after the end of the service user's token: %v", err)
	}
	admin := c.login("admin", adminPassword, "admin")
	c.must(200, admin, "PATCH", "/v3/users/"+service, obj{"user": obj{"password": "svc", "enabled": true}}) // revokes its tokens
	late = c.login("acme", "pw-acme", "acme")
	if _, err := fromToken(k, late); err != nil {
		t.Errorf("after revocation of the service user's token: %v", err)
	}

	// Expired: refused locally, but accepted beside a service token.
	c.clock.add(time.Hour + time.Second)
	if _, err := fromToken(k, late); !refusedBy(err) {
		t.Errorf("expired token: %v", err)
	}
	st := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("neutron", "svc", projectScope("service"))).header.Get("X-Subject-Token")
	if caller, err := fromToken(k, late, "X-Service-Token", st); err != nil || caller.UserID != user {
		t.Errorf("expired token with a service token: %+v %v", caller, err)
	}
	if _, err := fromToken(k, late, "X-Service-Token", late); !refusedBy(err) {
		t.Errorf("expired token with an expired service token: %v", err)
	}
}

func TestKeystoneFailures(t *testing.T) {
	var asked, logins atomic.Int32
	var status atomic.Int32
	hold := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		if r.Method == "POST" {
			logins.Add(1)
			w.Header().Set("X-Subject-Token", "own")
			w.WriteHeader(201)
			_ = json.NewEncoder(w).Encode(obj{"token": obj{"expires_at": end}})
			return
		}
		asked.Add(1)
		switch s := int(status.Load()); s {
		case 200:
			if r.Header.Get("X-Subject-Token") == "slow" {
				<-hold
			}
			_ = json.NewEncoder(w).Encode(obj{"token": obj{"expires_at": end, "user": obj{"id": "u"}, "roles": []any{obj{"name": "Member"}}, "project": obj{"id": "p"}}})
		case 1:
			_, _ = w.Write([]byte(`{"token":`))
		case 2:
			_, _ = w.Write([]byte(`{"token":{}}`))
		case 302:
			http.Redirect(w, r, "http://192.0.2.1/steal", http.StatusFound)
		default:
			w.WriteHeader(s)
		}
	}))
	defer srv.Close()
	k, err := identity.NewKeystone(identity.KeystoneOptions{URL: srv.URL, AppCredential: "id", AppSecret: "secret"})
	none(t, err)
	for _, s := range []int32{500, 503, 403, 401, 302, 1, 2} {
		status.Store(s)
		if c, err := fromToken(k, "tok"); err == nil || refusedBy(err) || c != nil {
			t.Errorf("status %d: %v %v, want an error that is no refusal", s, c, err)
		}
	}
	status.Store(404)
	before := asked.Load()
	for range 5 {
		if _, err := fromToken(k, "tok"); !refusedBy(err) {
			t.Errorf("unknown token: %v", err)
		}
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("%d questions about one unknown token, want 1", n)
	}
	// One question for many who wait, and a waiter that leaves does not spoil it for the rest.
	status.Store(200)
	before = asked.Load()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if c, err := fromToken(k, "slow"); err != nil || !c.Has("member") || !c.Has("reader") {
				t.Errorf("shared question: %+v %v", c, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Auth-Token", "slow")
	if _, err := k.Authenticate(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiter that left: %v", err)
	}
	close(hold)
	wg.Wait()
	if n := asked.Load() - before; n != 1 {
		t.Errorf("%d questions about one token, want 1", n)
	}
	srv.Close()
	if _, err := fromToken(k, "other"); err == nil || refusedBy(err) {
		t.Errorf("with Keystone gone: %v", err)
	}
	if _, err := fromToken(k, "slow"); err != nil {
		t.Errorf("remembered token with Keystone gone: %v", err)
	}
}

func TestKeystoneOptions(t *testing.T) {
	for _, o := range []identity.KeystoneOptions{
		{}, {URL: "host:5000", Username: "a", Password: "b"}, {URL: "ftp://h", Username: "a", Password: "b"},
		{URL: "http://h"}, {URL: "http://h", Username: "a"}, {URL: "http://h", AppCredential: "a"},
	} {
		if _, err := identity.NewKeystone(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
