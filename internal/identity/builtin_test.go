package identity

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// testClock is a clock that tests move.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a bootstrapped store with one user "jo" who is a member of project "p" directly and reader of it through group "g".
type world struct {
	testing.TB
	st    *store.Store
	b     *Builtin
	clock *testClock
	jo    string
}

const joPassword = "jo's password"

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldOn(t, storetest.New(t, Tables()...))
}

func worldOn(t testing.TB, st *store.Store) *world {
	t.Helper()
	w := &world{TB: t, st: st, clock: &testClock{t: time.Unix(1_700_000_000, 0)}, jo: NewID()}
	ctx := context.Background()
	must(t, Bootstrap(ctx, st, BootstrapOptions{AdminPassword: "admin's", IdentityURL: "http://k:5000", NetworkURL: "http://n:9696"}))
	b, err := New(ctx, st, Options{URI: "http://k:5000", Now: w.clock.now})
	must(t, err)
	w.b = b
	hash := hashPassword(joPassword)
	w.update(func(tx store.Tx) {
		store.Put(tx, ProjectTable, &Project{ID: "p", Name: "p", DomainID: DefaultDomainID, ParentID: DefaultDomainID, Enabled: true})
		store.Put(tx, UserTable, &User{ID: w.jo, Name: "jo", DomainID: DefaultDomainID, Enabled: true, Password: hash})
		store.Put(tx, GroupTable, &Group{ID: "g", Name: "g", DomainID: DefaultDomainID})
		store.Put(tx, MembershipTable, &Membership{GroupID: "g", UserID: w.jo})
		store.Put(tx, AssignmentTable, &Assignment{Actor: ActorUser, ActorID: w.jo, Scope: projectP, RoleID: roleID(tx, RoleMember)})
	})
	return w
}

var projectP = Scope{Kind: ScopeProject, ID: "p"}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func roleID(r store.Read, name string) string {
	role, ok := first(r, RoleTable, "name", name)
	if !ok {
		panic("no role " + name)
	}
	return role.ID
}

func (w *world) update(f func(tx store.Tx)) {
	w.Helper()
	_, err := w.st.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil })
	must(w, err)
}

// change edits jo's row.
func (w *world) change(f func(u *User)) {
	w.update(func(tx store.Tx) {
		u, _ := store.Get(tx, UserTable, w.jo)
		row := *u
		f(&row)
		store.Put(tx, UserTable, &row)
	})
}

func (w *world) login() Login {
	return Login{
		Password: &PasswordProof{User: UserRef{ID: w.jo}, Password: joPassword},
		Scope:    &ScopeRef{Kind: ScopeProject, ID: "p"}, Remote: "192.0.2.1:1",
	}
}

func (w *world) issue(l Login) (string, *Session) {
	w.Helper()
	token, s, err := w.b.Issue(context.Background(), l)
	must(w, err)
	return token, s
}

func (w *world) request(token string, headers ...string) (*Caller, error) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Auth-Token", token)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return w.b.Authenticate(context.Background(), r)
}

func (w *world) wantUnauthorized(token, why string) {
	w.Helper()
	c, err := w.request(token)
	var u *UnauthorizedError
	if !errors.As(err, &u) || c != nil || u.Challenge() != `Keystone uri="http://k:5000"` {
		w.Errorf("%s: caller %v, error %v, want 401", why, c, err)
	}
}

// memberOf and readerOf are the assignments that the tests take away and give.
func memberOf(tx store.Tx, user string) *Assignment {
	return &Assignment{Actor: ActorUser, ActorID: user, Scope: projectP, RoleID: roleID(tx, RoleMember)}
}

func readerOf(tx store.Tx, group string) *Assignment {
	return &Assignment{Actor: ActorGroup, ActorID: group, Scope: projectP, RoleID: roleID(tx, RoleReader)}
}

// takings are the ways to take a right away.
var takings = map[string]func(w *world, tx store.Tx){
	"user deleted": func(w *world, tx store.Tx) { store.Delete(tx, UserTable, w.jo) },
	"user disabled": func(w *world, tx store.Tx) {
		u, _ := store.Get(tx, UserTable, w.jo)
		r := *u
		r.Enabled = false
		store.Put(tx, UserTable, &r)
	},
	"user's epoch": func(w *world, tx store.Tx) {
		u, _ := store.Get(tx, UserTable, w.jo)
		r := *u
		r.Epoch++
		store.Put(tx, UserTable, &r)
	},
	"project gone": func(_ *world, tx store.Tx) { store.Delete(tx, ProjectTable, "p") },
	"project disabled": func(_ *world, tx store.Tx) {
		p, _ := store.Get(tx, ProjectTable, "p")
		r := *p
		r.Enabled = false
		store.Put(tx, ProjectTable, &r)
	},
	"project's epoch": func(_ *world, tx store.Tx) {
		p, _ := store.Get(tx, ProjectTable, "p")
		r := *p
		r.Epoch++
		store.Put(tx, ProjectTable, &r)
	},
	"domain disabled": func(_ *world, tx store.Tx) {
		d, _ := store.Get(tx, DomainTable, DefaultDomainID)
		r := *d
		r.Enabled = false
		store.Put(tx, DomainTable, &r)
	},
	"domain's epoch": func(_ *world, tx store.Tx) {
		d, _ := store.Get(tx, DomainTable, DefaultDomainID)
		r := *d
		r.Epoch++
		store.Put(tx, DomainTable, &r)
	},
	"last role": func(w *world, tx store.Tx) {
		if !store.Delete(tx, AssignmentTable, memberOf(tx, w.jo).Key()) {
			panic("no such assignment")
		}
	},
}

// Everything that takes a right away takes it from tokens that exist, and giving it back does not bring them back where the
// row says that tokens are revoked.
func TestRevocation(t *testing.T) {
	for name, f := range takings {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			token, _ := w.issue(w.login())
			if _, err := w.request(token); err != nil {
				t.Fatal(err)
			}
			w.update(func(tx store.Tx) { f(w, tx) })
			w.wantUnauthorized(token, "afterwards")
			if _, _, err := w.b.Issue(context.Background(), w.login()); err == nil != (name == "user's epoch" || name == "project's epoch" || name == "domain's epoch") {
				t.Errorf("new login: %v", err)
			}
		})
	}
}

func TestRevocationOfParts(t *testing.T) {
	t.Run("roles follow assignments", func(t *testing.T) {
		w := newWorld(t)
		token, _ := w.issue(w.login())
		w.update(func(tx store.Tx) {
			store.Put(tx, AssignmentTable, readerOf(tx, "g"))
			store.Delete(tx, AssignmentTable, memberOf(tx, w.jo).Key())
		})
		c, err := w.request(token)
		must(t, err)
		if c.Has(RoleMember) || !c.Has(RoleReader) || c.CanWrite("p") || !c.CanRead("p") {
			t.Errorf("roles %v, want reader alone", c.Roles)
		}
		w.update(func(tx store.Tx) { store.Delete(tx, MembershipTable, MembershipKey("g", w.jo)) })
		w.wantUnauthorized(token, "after leaving the group")
	})
	t.Run("one token", func(t *testing.T) {
		w := newWorld(t)
		token, s := w.issue(w.login())
		other, _ := w.issue(w.login())
		must(t, w.b.Revoke(context.Background(), s))
		w.wantUnauthorized(token, "revoked token")
		if _, err := w.request(other); err != nil {
			t.Errorf("another token of the user: %v", err)
		}
	})
	t.Run("password changed during login by token", func(t *testing.T) {
		w := newWorld(t)
		token, _ := w.issue(w.login())
		w.change(func(u *User) { u.Epoch++ })
		if _, _, err := w.b.Issue(context.Background(), Login{Token: &token}); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("rescoping a revoked token: %v", err)
		}
	})
}

func TestExpiryAndServiceToken(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx store.Tx) {
		a := &Assignment{Actor: ActorUser, ActorID: w.jo, Scope: Scope{Kind: ScopeDomain, ID: DefaultDomainID}, RoleID: roleID(tx, RoleService)}
		store.Put(tx, AssignmentTable, a)
	})
	token, s := w.issue(w.login())
	if d := s.ExpiresAt.Sub(s.IssuedAt); d != time.Hour {
		t.Errorf("token lives %s, want 1h", d)
	}
	rescoped, rs := w.issue(Login{Token: &token, Scope: &ScopeRef{Kind: ScopeProject, ID: "p"}})
	if !rs.ExpiresAt.Equal(s.ExpiresAt) || len(rs.AuditIDs) != 2 || rs.AuditIDs[1] != s.AuditIDs[0] {
		t.Errorf("rescoped token ends at %s with audit ids %v", rs.ExpiresAt, rs.AuditIDs)
	}
	w.clock.add(time.Hour - time.Microsecond)
	if _, err := w.request(token); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	w.clock.add(time.Microsecond)
	w.wantUnauthorized(token, "at its end")
	w.wantUnauthorized(rescoped, "at the end of its origin")

	l := w.login()
	l.Scope = &ScopeRef{Kind: ScopeDomain, ID: DefaultDomainID}
	service, _ := w.issue(l)
	plain, _ := w.issue(w.login())
	if c, err := w.request(token, "X-Service-Token", service); err != nil || c.ProjectID != "p" || c.IsService() {
		t.Errorf("with a service token: %+v %v", c, err)
	}
	for name, st := range map[string]string{"without the role": plain, "forged": "AAAA"} {
		if _, err := w.request(token, "X-Service-Token", st); err == nil {
			t.Errorf("service token %s let an expired token pass", name)
		}
	}
	if _, err := w.request(service, "X-Service-Token", "AAAA"); err == nil {
		t.Error("an invalid service token was overlooked")
	}
	w.clock.add(ExpiredWindow)
	l.Password.Password = joPassword
	service, _ = w.issue(l)
	if _, err := w.request(token, "X-Service-Token", service); err == nil {
		t.Error("a token passes after the window")
	}
}

func TestLoginRefusals(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	def := DomainRef{ID: DefaultDomainID}
	bad := "bad"
	for name, l := range map[string]Login{
		"nothing":         {},
		"wrong password":  {Password: &PasswordProof{User: UserRef{ID: w.jo}, Password: "x"}},
		"no such user":    {Password: &PasswordProof{User: UserRef{Name: "nobody", Domain: def}, Password: joPassword}},
		"no such domain":  {Password: &PasswordProof{User: UserRef{Name: "jo", Domain: DomainRef{Name: "x"}}, Password: joPassword}},
		"no such project": {Password: &PasswordProof{User: UserRef{Name: "jo", Domain: def}, Password: joPassword}, Scope: &ScopeRef{Kind: ScopeProject, ID: "x"}},
		"foreign project": {Password: &PasswordProof{User: UserRef{Name: "jo", Domain: def}, Password: joPassword}, Scope: &ScopeRef{Kind: ScopeProject, Name: "admin", Domain: def}},
		"system":          {Password: &PasswordProof{User: UserRef{Name: "jo", Domain: def}, Password: joPassword}, Scope: &ScopeRef{Kind: ScopeSystem}},
		"bad token":       {Token: &bad},
		"two users": {
			Password: &PasswordProof{User: UserRef{ID: w.jo}, Password: joPassword},
			Token: func() *string {
				t, _ := w.issue(Login{Password: &PasswordProof{User: UserRef{Name: "admin", Domain: def}, Password: "admin's"}})
				return &t
			}(),
		},
		"bad credential": {App: &AppProof{ID: "x", Secret: "y"}},
	} {
		if _, _, err := w.b.Issue(ctx, l); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("%s: %v, want unauthorized", name, err)
		}
	}
	l := w.login()
	l.Remote, l.Password.Password = "198.51.100.7:1", "guess"
	for range maxUserFailures {
		if _, _, err := w.b.Issue(ctx, l); !errors.Is(err, ErrUnauthorized) {
			t.Fatal(err)
		}
	}
	l.Password.Password = joPassword
	var many *TooManyError
	if _, _, err := w.b.Issue(ctx, l); !errors.As(err, &many) {
		t.Errorf("after many failures: %v", err)
	}
	w.issue(w.login()) // from elsewhere it works
	w.clock.add(2 * throttleWindow)
	w.issue(l)
}

func TestDefaultProject(t *testing.T) {
	w := newWorld(t)
	l := w.login()
	l.Scope = nil
	if _, s := w.issue(l); s.Scope.Kind != ScopeNone || len(s.Roles) != 0 {
		t.Errorf("without a default project: %+v", s.Scope)
	}
	w.change(func(u *User) { u.DefaultProjectID = "p" })
	if _, s := w.issue(l); s.Scope != projectP {
		t.Errorf("with a default project: %+v", s.Scope)
	}
	w.change(func(u *User) { u.DefaultProjectID = "gone" })
	if _, s := w.issue(l); s.Scope.Kind != ScopeNone {
		t.Errorf("with a default project that is gone: %+v", s.Scope)
	}
	l.Scope = &ScopeRef{Kind: ScopeNone}
	w.change(func(u *User) { u.DefaultProjectID = "p" })
	if _, s := w.issue(l); s.Scope.Kind != ScopeNone {
		t.Errorf("asked for none: %+v", s.Scope)
	}
}

func TestAppCredential(t *testing.T) {
	w := newWorld(t)
	secret, hash := newSecret()
	app := &AppCredential{ID: NewID(), Name: "ci", UserID: w.jo, ProjectID: "p", Secret: hash, ExpiresAt: w.clock.now().Add(30 * time.Minute)}
	w.update(func(tx store.Tx) {
		app.RoleIDs = []string{roleID(tx, RoleReader)}
		store.Put(tx, AppCredentialTable, app)
	})
	l := Login{App: &AppProof{ID: app.ID, Secret: secret}}
	token, s := w.issue(l)
	if len(s.Roles) != 1 || s.Roles[0] != RoleReader || !s.ExpiresAt.Equal(app.ExpiresAt) || !s.Restricted() {
		t.Errorf("session %+v", s.Caller)
	}
	again, rs := w.issue(Login{Token: &token})
	if rs.App == nil || len(rs.Roles) != 1 {
		t.Errorf("a token made from the token escapes the credential: %+v", rs.Caller)
	}
	for name, want := range map[string]*ScopeRef{"system": {Kind: ScopeSystem}, "none": {Kind: ScopeNone}, "other": {Kind: ScopeProject, ID: "q"}} {
		if _, _, err := w.b.Issue(context.Background(), Login{Token: &token, Scope: want}); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("rescope to %s: %v", name, err)
		}
	}
	// With a role that the user does not hold, it does not work at all.
	w.update(func(tx store.Tx) {
		row := *app
		row.RoleIDs = append(row.RoleIDs, roleID(tx, RoleAdmin))
		store.Put(tx, AppCredentialTable, &row)
	})
	w.wantUnauthorized(token, "credential with a role its user lacks")
	w.update(func(tx store.Tx) { store.Put(tx, AppCredentialTable, app) })
	if _, err := w.request(again); err != nil {
		t.Error(err)
	}
	w.clock.add(30 * time.Minute)
	w.wantUnauthorized(again, "credential has expired")
	if _, _, err := w.b.Issue(context.Background(), l); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("login with an expired credential: %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	keys := func() int { return store.Count(w.st.Snapshot(), TokenKeyTable, "", "") }
	_, s := w.issue(w.login())
	must(t, w.b.Revoke(ctx, s))
	token, _ := w.issue(w.login())
	w.clock.add(keyLife + time.Second)
	must(t, w.b.maintain(ctx))
	must(t, w.b.maintain(ctx))
	if keys() != 2 {
		t.Fatalf("%d keys, want 2", keys())
	}
	before, _ := sealingKey(w.st.Snapshot(), w.clock.now())
	w.clock.add(keyDelay)
	after, _ := sealingKey(w.st.Snapshot(), w.clock.now())
	if before.ID == after.ID {
		t.Error("the new key is not used after its delay")
	}
	// The old key still opens what it sealed, for as long as anybody may ask.
	if _, err := w.b.Check(ctx, token, true); err != nil {
		t.Errorf("token of the old key: %v", err)
	}
	for range 4 {
		w.clock.add(keyLife)
		must(t, w.b.maintain(ctx))
	}
	if n := keys(); n < 2 || n > 4 {
		t.Errorf("%d keys after four more days, want 2 to 4", n)
	}
	if _, ok := store.Get(w.st.Snapshot(), TokenKeyTable, before.ID); ok {
		t.Error("the first key is still there")
	}
	if n := store.Count(w.st.Snapshot(), RevocationTable, "", ""); n != 0 {
		t.Errorf("%d revocations are still there", n)
	}
	w.wantUnauthorized(token, "token of a forgotten key")
}

// Two servers on one cluster: each takes the other's tokens at once, and each revocation.
func TestTwoServers(t *testing.T) {
	endpoint := storetest.Etcd(t)
	a := worldOn(t, storetest.Join(t, endpoint, Tables()...))
	st := storetest.Join(t, endpoint, Tables()...)
	ctx := context.Background()
	must(t, Bootstrap(ctx, st, BootstrapOptions{IdentityURL: "http://k:5000", NetworkURL: "http://n:9696"}))
	other, err := New(ctx, st, Options{Now: a.clock.now})
	must(t, err)
	for i := range 20 {
		token, s := a.issue(a.login())
		if _, err := other.Check(ctx, token, false); err != nil {
			t.Fatalf("round %d: token of the other server: %v", i, err)
		}
		must(t, a.b.Revoke(ctx, s))
		// The other server's replica may be some milliseconds behind; what it serves from then on is not.
		must(t, st.View(ctx, func(store.Read) error { return nil }))
		if _, err := other.Check(ctx, token, false); !errors.Is(err, ErrUnauthorized) {
			t.Fatalf("round %d: revoked token on the other server: %v", i, err)
		}
	}
}

func TestStripIdentity(t *testing.T) {
	w := newWorld(t)
	token, _ := w.issue(w.login())
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Auth-Token", token)
	for _, h := range []string{"X-Roles", "X-User-Id", "X-Project-Id", "X-Is-Admin-Project", "OpenStack-System-Scope", "X-Service-Roles", "X_Roles", "x_user_id"} {
		r.Header[http.CanonicalHeaderKey(h)] = []string{"admin"} // as net/http delivers it
	}
	c, err := w.b.Authenticate(context.Background(), r)
	must(t, err)
	if c.UserID != w.jo || c.IsAdmin() || len(r.Header) != 1 {
		t.Errorf("caller %+v, headers left %v", c, r.Header)
	}
	if c, err := (None{}).Authenticate(context.Background(), r); err != nil || !c.IsAdmin() || !c.Has(RoleReader) || c.ProjectID != NoneProjectID {
		t.Errorf("without authentication: %+v %v", c, err)
	}
	r.Header.Set("X-Roles", " Member ,")
	r.Header.Set("X-Project-Id", "p7")
	if c, err := (None{}).Authenticate(context.Background(), r); err != nil || c.IsAdmin() || !c.CanWrite("p7") || !c.CanRead("p7") || c.CanRead("p8") || r.Header.Get("X-Roles") != "" {
		t.Errorf("playing a member: %+v %v", c, err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b)
	token, _ := w.issue(w.login())
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Auth-Token", token)
	ctx := context.Background()
	b.Run("hit", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.b.Authenticate(ctx, r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("after a write", func(b *testing.B) { // the token's worth is looked up again
		c, _ := w.b.cache.get(token)
		for b.Loop() {
			if _, err := check(w.st.Snapshot(), c.claim, w.clock.now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first sight", func(b *testing.B) {
		for b.Loop() {
			w.b.cache = newCache[string, opened]()
			if _, err := w.b.Authenticate(ctx, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
