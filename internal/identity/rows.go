package identity

import (
	"time"

	"baryon/internal/resource"
)

// DefaultDomainID is the id of the domain that always exists.
const DefaultDomainID = "default"

// Domain holds projects, users and groups under names of its own.
type Domain struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Enabled     bool           `json:"enabled"`
	Epoch       uint64         `json:"epoch,omitempty"` // grows when all tokens that touch the domain are revoked
	Tags        []string       `json:"tags,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"` // attributes the API does not know, given back as they came
}

// Project owns networks.  A token is mostly for one project.
type Project struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	DomainID    string         `json:"domain_id"`
	ParentID    string         `json:"parent_id"` // a project of the same domain, or the domain
	Description string         `json:"description,omitempty"`
	Enabled     bool           `json:"enabled"`
	Epoch       uint64         `json:"epoch,omitempty"`
	Tags        []string       `json:"tags,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// User is a person or a service.
type User struct {
	ID               string         `json:"id"`
	Name             string         `json:"name"`
	DomainID         string         `json:"domain_id"`
	DefaultProjectID string         `json:"default_project_id,omitempty"`
	Email            string         `json:"email,omitempty"`
	Description      string         `json:"description,omitempty"`
	Enabled          bool           `json:"enabled"`
	Password         string         `json:"password,omitempty"` // a hash (password.go); empty: no login by password
	Epoch            uint64         `json:"epoch,omitempty"`    // grows with each password change and disable
	Options          map[string]any `json:"options,omitempty"`
	Extra            map[string]any `json:"extra,omitempty"`
}

// Group is a set of users that roles are given to as one.
type Group struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	DomainID    string         `json:"domain_id"`
	Description string         `json:"description,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Membership puts a user into a group.
type Membership struct {
	GroupID string `json:"group_id"`
	UserID  string `json:"user_id"`
}

// Role is a name that policies ask for.  Whoever holds it also holds the roles it implies.
type Role struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Implies     []string       `json:"implies,omitempty"` // role ids
	Options     map[string]any `json:"options,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Kinds of actor an assignment is given to.
const (
	ActorUser  = "user"
	ActorGroup = "group"
)

// Assignment gives a role to an actor on a scope.
type Assignment struct {
	Actor   string `json:"actor"` // ActorUser or ActorGroup
	ActorID string `json:"actor_id"`
	Scope   Scope  `json:"scope"`
	RoleID  string `json:"role_id"`
}

// CatalogService is one service of the cloud.
type CatalogService struct {
	ID          string         `json:"id"`
	Type        string         `json:"type"`
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Enabled     bool           `json:"enabled"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Endpoint is where a service is reached.
type Endpoint struct {
	ID        string         `json:"id"`
	ServiceID string         `json:"service_id"`
	Interface string         `json:"interface"` // public, internal or admin
	RegionID  string         `json:"region_id,omitempty"`
	URL       string         `json:"url"` // may hold $(project_id)s
	Name      string         `json:"name,omitempty"`
	Enabled   bool           `json:"enabled"`
	Extra     map[string]any `json:"extra,omitempty"`
}

// Region groups endpoints.
type Region struct {
	ID          string         `json:"id"`
	ParentID    string         `json:"parent_id,omitempty"`
	Description string         `json:"description,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// AppCredential lets a program act as a user on one project with some of the user's roles.  It works only while the user holds
// every one of these roles there.
type AppCredential struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	UserID       string    `json:"user_id"`
	ProjectID    string    `json:"project_id"`
	Description  string    `json:"description,omitempty"`
	Secret       string    `json:"secret"` // a hash (password.go)
	RoleIDs      []string  `json:"role_ids"`
	Unrestricted bool      `json:"unrestricted,omitempty"` // may manage application credentials
	ExpiresAt    time.Time `json:"expires_at,omitzero"`    // zero: never
}

// Revocation refuses one token before it expires.
type Revocation struct {
	AuditID string    `json:"audit_id"`
	Until   time.Time `json:"until"` // after that the token is refused without it
}

// TokenKey seals and opens tokens.  A key is published before it is used, so that every server knows it by then.
type TokenKey struct {
	ID         string    `json:"id"`     // 8 hex characters
	Secret     []byte    `json:"secret"` // 32 bytes
	ActiveFrom time.Time `json:"active_from"`
}

func pair(a, b string) string { return a + "\x00" + b }

// Index and Unique names shared by several tables.
const (
	byName   = "name_in_domain"
	byDomain = "domain"
)

// DomainTable keeps domains.
var DomainTable = resource.NewTable("identity_domain", func(d *Domain) string { return d.ID }).
	Unique("name", func(d *Domain) []string { return []string{d.Name} })

// ProjectTable keeps projects.  A name belongs to one project of its domain.
var ProjectTable = resource.NewTable("identity_project", func(p *Project) string { return p.ID }).
	Index(byDomain, func(p *Project) []string { return []string{p.DomainID} }).
	Index("parent", func(p *Project) []string { return []string{p.ParentID} }).
	Unique(byName, func(p *Project) []string { return []string{pair(p.DomainID, p.Name)} })

// UserTable keeps users.  A name belongs to one user of its domain.
var UserTable = resource.NewTable("identity_user", func(u *User) string { return u.ID }).
	Index(byDomain, func(u *User) []string { return []string{u.DomainID} }).
	Index("default_project", func(u *User) []string { return nonEmpty(u.DefaultProjectID) }).
	Unique(byName, func(u *User) []string { return []string{pair(u.DomainID, u.Name)} })

// GroupTable keeps groups.  A name belongs to one group of its domain.
var GroupTable = resource.NewTable("identity_group", func(g *Group) string { return g.ID }).
	Index(byDomain, func(g *Group) []string { return []string{g.DomainID} }).
	Unique(byName, func(g *Group) []string { return []string{pair(g.DomainID, g.Name)} })

// MembershipTable keeps who is in which group.
var MembershipTable = resource.NewTable("identity_membership", func(m *Membership) string { return MembershipKey(m.GroupID, m.UserID) }).
	Index("group", func(m *Membership) []string { return []string{m.GroupID} }).
	Index("user", func(m *Membership) []string { return []string{m.UserID} })

// MembershipKey is the key of a Membership.
func MembershipKey(groupID, userID string) string { return groupID + "." + userID }

// RoleTable keeps roles.
var RoleTable = resource.NewTable("identity_role", func(r *Role) string { return r.ID }).
	Index("implies", func(r *Role) []string { return r.Implies }).
	Unique("name", func(r *Role) []string { return []string{r.Name} })

// AssignmentTable keeps who holds which role where.  Index "grant" finds the roles of one actor on one scope.
var AssignmentTable = resource.NewTable("identity_assignment", func(a *Assignment) string { return a.Key() }).
	Index("actor", func(a *Assignment) []string { return []string{pair(a.Actor, a.ActorID)} }).
	Index("scope", func(a *Assignment) []string { return []string{a.Scope.String()} }).
	Index("role", func(a *Assignment) []string { return []string{a.RoleID} }).
	Index("grant", func(a *Assignment) []string { return []string{grant(a.Actor, a.ActorID, a.Scope)} })

// Key is the assignment's key: the whole of it, since it has no other property.
func (a *Assignment) Key() string {
	return a.Actor + "." + a.ActorID + "." + a.Scope.String() + "." + a.RoleID
}

func grant(actor, id string, s Scope) string { return pair(pair(actor, id), s.String()) }

// CatalogServiceTable keeps the catalog's services.
var CatalogServiceTable = resource.NewTable("identity_service", func(s *CatalogService) string { return s.ID }).
	Index("type", func(s *CatalogService) []string { return []string{s.Type} })

// EndpointTable keeps the catalog's endpoints.
var EndpointTable = resource.NewTable("identity_endpoint", func(e *Endpoint) string { return e.ID }).
	Index("service", func(e *Endpoint) []string { return []string{e.ServiceID} }).
	Index("region", func(e *Endpoint) []string { return nonEmpty(e.RegionID) })

// RegionTable keeps regions.
var RegionTable = resource.NewTable("identity_region", func(r *Region) string { return r.ID }).
	Index("parent", func(r *Region) []string { return nonEmpty(r.ParentID) })

// AppCredentialTable keeps application credentials.  A name belongs to one credential of its user.
var AppCredentialTable = resource.NewTable("identity_app_credential", func(a *AppCredential) string { return a.ID }).
	Index("user", func(a *AppCredential) []string { return []string{a.UserID} }).
	Index("project", func(a *AppCredential) []string { return []string{a.ProjectID} }).
	Index("role", func(a *AppCredential) []string { return a.RoleIDs }).
	Unique("name_of_user", func(a *AppCredential) []string { return []string{pair(a.UserID, a.Name)} })

// RevocationTable keeps revoked tokens until they would have expired anyway.
var RevocationTable = resource.NewTable("identity_revocation", func(r *Revocation) string { return r.AuditID })

// TokenKeyTable keeps the keys that tokens are sealed with.  Index "all" lets a transaction guard the whole set.
var TokenKeyTable = resource.NewTable("identity_token_key", func(k *TokenKey) string { return k.ID }).
	Index("all", func(*TokenKey) []string { return []string{"1"} })

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Tables lists the tables of this package, for store.Options.
func Tables() []resource.AnyTable {
	return []resource.AnyTable{
		DomainTable, ProjectTable, UserTable, GroupTable, MembershipTable, RoleTable, AssignmentTable,
		CatalogServiceTable, EndpointTable, RegionTable, AppCredentialTable, RevocationTable, TokenKeyTable,
	}
}

// ActorKey is a value of the index "actor" of AssignmentTable.
func ActorKey(actor, id string) string { return pair(actor, id) }

// GrantKey is a value of the index "grant" of AssignmentTable: one actor on one scope.
func GrantKey(actor, id string, s Scope) string { return grant(actor, id, s) }
