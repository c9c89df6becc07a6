package identity

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"baryon/internal/store"
)

// BootstrapOptions say what the first start creates.
type BootstrapOptions struct {
	AdminPassword string // of the user admin; empty: drawn at random
	IdentityURL   string // public URL of the Identity API without version, http://host:5000
	NetworkURL    string // public URL of the Networking API without version, http://host:9696
	NoComputeURL  string // public URL of what answers that there are no compute quotas; empty: the catalog gets no such entry
	Region        string // empty: RegionOne
	Dir           string // where openrc and clouds.yaml go; empty: not written
	// Recover gives the user admin back its rights and, when AdminPassword is set, that password, for an operator who has locked
	// himself out.  All tokens of admin are revoked by it.
	Recover bool
	Log     *slog.Logger
}

// NewID draws an id in Keystone's form: 32 hex characters.
func NewID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// seed is everything a bootstrap may have to write, drawn before its transaction so that a retry writes the same.
type seed struct {
	o         BootstrapOptions
	hash      string
	ids       [20]string
	used      int
	madeAdmin bool
}

func (s *seed) id() string {
	s.used++
	return s.ids[s.used-1]
}

// Bootstrap makes sure that the default domain, the projects admin and service, the roles, the user admin and the catalog exist.
// It changes nothing that exists, so each start may call it, on several servers at once.  The start that creates the user admin
// writes openrc and clouds.yaml (mode 0600) into Dir; a start that was cut off between the two finishes the files at the next.
func Bootstrap(ctx context.Context, st *store.Store, o BootstrapOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Region == "" {
		o.Region = "RegionOne"
	}
	if o.IdentityURL == "" || o.NetworkURL == "" {
		return errors.New("bootstrap identity: IdentityURL and NetworkURL must be given")
	}
	if len(o.AdminPassword) > MaxPassword {
		return fmt.Errorf("bootstrap identity: admin password is longer than %d bytes", MaxPassword)
	}
	if o.Recover && o.AdminPassword == "" {
		return errors.New("bootstrap identity: to recover, the new admin password must be given")
	}
	hash, exists, err := adminHash(ctx, st)
	if err != nil {
		return err
	}
	if exists && !o.Recover {
		// A first start that was cut off after its commit has left its files as drafts.
		if err := finishFiles(o.Dir, func(p string) bool { return verifyPassword(hash, p) }); err != nil {
			return err
		}
	}
	password := o.AdminPassword
	if password == "" {
		b := make([]byte, 18)
		rand.Read(b)
		password = base64.RawURLEncoding.EncodeToString(b)
	}
	s := &seed{o: o}
	if !exists || o.Recover {
		s.hash = hashPassword(password)
		if err := draftFiles(o, password); err != nil {
			return err
		}
	}
	for i := range s.ids {
		s.ids[i] = NewID()
	}
	if _, err = st.Update(ctx, s.plant); err != nil {
		return fmt.Errorf("bootstrap identity: %w", err)
	}
	if !s.madeAdmin {
		if s.hash != "" { // another server was first
			dropDrafts(o.Dir)
		}
		return nil
	}
	o.Log.Info("identity: user admin created", "dir", o.Dir)
	return finishFiles(o.Dir, func(p string) bool { return p == password })
}

// adminHash is the password hash of the user admin, if any; exists is false before the first bootstrap only.
func adminHash(ctx context.Context, st *store.Store) (hash string, exists bool, err error) {
	err = st.View(ctx, func(r store.Read) error {
		if u, ok := first(r, UserTable, byName, pair(DefaultDomainID, "admin")); ok {
			hash, exists = u.Password, true
		}
		if role, ok := first(r, RoleTable, "name", RoleAdmin); ok && hasAdmin(r, role.ID) {
			exists = true
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("bootstrap identity: %w", err)
	}
	return hash, exists, err
}

// hasAdmin tells whether anybody holds the role.  An operator may have replaced the user admin by others; then it does not come back.
func hasAdmin(r store.Read, roleID string) bool {
	_, ok := first(r, AssignmentTable, "role", roleID)
	return ok
}

// plant is the transaction.
func (s *seed) plant(tx store.Tx) error {
	s.used, s.madeAdmin = 0, false
	if d, ok := store.Get(tx, DomainTable, DefaultDomainID); !ok {
		store.Put(tx, DomainTable, &Domain{ID: DefaultDomainID, Name: "Default", Description: "The default domain", Enabled: true})
	} else if s.o.Recover && !d.Enabled {
		row := *d
		row.Enabled = true
		store.Put(tx, DomainTable, &row)
	}
	admin := s.project(tx, "admin", "Bootstrap project for initializing the cloud.")
	s.project(tx, "service", "Users of the cloud's own services.")

	reader := s.role(tx, RoleReader)
	member := s.role(tx, RoleMember, reader)
	manager := s.role(tx, RoleManager, member)
	adminRole := s.role(tx, RoleAdmin, manager)
	s.role(tx, RoleService)
	s.admin(tx, admin, adminRole)

	for _, e := range []catalogEntry{
		{typ: "identity", name: "keystone", url: s.o.IdentityURL + "/v3"},
		{typ: "network", name: "neutron", url: s.o.NetworkURL},
		{typ: "compute", name: "no-compute", url: s.o.NoComputeURL, optional: true,
			text: "This cloud has no compute service. The endpoint tells clients that there are no compute quotas."},
	} {
		s.service(tx, e)
	}
	return nil
}

// catalogEntry is a service of the catalog.
type catalogEntry struct {
	typ, name, text, url string
	optional             bool // without a URL it is left out, and an operator's own is as good
}

func (s *seed) project(tx store.Tx, name, text string) string {
	id := s.id()
	if p, ok := first(tx, ProjectTable, byName, pair(DefaultDomainID, name)); ok {
		if s.o.Recover && !p.Enabled {
			row := *p
			row.Enabled = true
			store.Put(tx, ProjectTable, &row)
		}
		return p.ID
	}
	store.Put(tx, ProjectTable, &Project{
		ID: id, Name: name, DomainID: DefaultDomainID, ParentID: DefaultDomainID, Description: text, Enabled: true,
	})
	return id
}

func (s *seed) role(tx store.Tx, name string, implies ...string) string {
	id := s.id()
	if r, ok := first(tx, RoleTable, "name", name); ok {
		return r.ID
	}
	store.Put(tx, RoleTable, &Role{ID: id, Name: name, Implies: implies, Options: map[string]any{"immutable": true}})
	return id
}

func (s *seed) admin(tx store.Tx, projectID, roleID string) {
	id := s.id()
	u, ok := first(tx, UserTable, byName, pair(DefaultDomainID, "admin"))
	switch {
	case !ok && s.hash != "" && (s.o.Recover || !hasAdmin(tx, roleID)):
		store.Put(tx, UserTable, &User{ID: id, Name: "admin", DomainID: DefaultDomainID, Enabled: true, Password: s.hash})
	case ok && s.o.Recover:
		row := *u
		row.Enabled, row.Password = true, s.hash
		row.Epoch++
		id = u.ID
		store.Put(tx, UserTable, &row)
	default:
		return
	}
	s.madeAdmin = true
	for _, scope := range []Scope{{Kind: ScopeProject, ID: projectID}, {Kind: ScopeSystem}} {
		store.Put(tx, AssignmentTable, &Assignment{Actor: ActorUser, ActorID: id, Scope: scope, RoleID: roleID})
	}
}

// service adds a service of the type with its three endpoints.  If there is one of the type, an operator may have arranged it as he
// wants it, so it stays; a URL other than ours is worth a word, for it is what clients will use.
func (s *seed) service(tx store.Tx, e catalogEntry) {
	id := s.id()
	ids := []string{s.id(), s.id(), s.id()}
	if have, ok := first(tx, CatalogServiceTable, "type", e.typ); ok {
		known := slices.Collect(store.Find(tx, EndpointTable, "service", have.ID))
		if !e.optional && !slices.ContainsFunc(known, func(have *Endpoint) bool { return have.URL == e.url }) {
			s.o.Log.Warn("identity: the catalog names another URL than this server's; change it with 'openstack endpoint set --url'",
				"service", e.typ, "url", e.url)
		}
		return
	}
	if e.url == "" {
		return
	}
	if _, ok := store.Get(tx, RegionTable, s.o.Region); !ok {
		store.Put(tx, RegionTable, &Region{ID: s.o.Region})
	}
	store.Put(tx, CatalogServiceTable, &CatalogService{ID: id, Type: e.typ, Name: e.name, Description: e.text, Enabled: true})
	for i, iface := range []string{"public", "internal", "admin"} {
		store.Put(tx, EndpointTable, &Endpoint{ID: ids[i], ServiceID: id, Interface: iface, RegionID: s.o.Region, URL: e.url, Enabled: true})
	}
}
