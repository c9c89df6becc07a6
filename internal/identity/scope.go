package identity

import (
	"cmp"
	"slices"
	"strings"

	"baryon/internal/store"
)

// ScopeKind is what a token or an assignment is good for.
type ScopeKind byte

// The kinds of scope.
const (
	ScopeNone    ScopeKind = iota // a token that proves who, for nothing in particular
	ScopeProject                  // ID is a project
	ScopeDomain                   // ID is a domain
	ScopeSystem                   // the cloud as a whole; no ID
)

// Scope is where roles hold.
type Scope struct {
	Kind ScopeKind `json:"kind"`
	ID   string    `json:"id,omitempty"`
}

// String is the scope as text, unique among scopes: "project/<id>", "domain/<id>", "system/", "none/".
func (s Scope) String() string {
	return [...]string{"none/", "project/", "domain/", "system/"}[s.Kind&3] + s.ID
}

// actorsOf lists the actors that speak for a user: the user and the groups it is in.
func actorsOf(r store.Read, userID string) [][2]string {
	actors := [][2]string{{ActorUser, userID}}
	for m := range store.Find(r, MembershipTable, "user", userID) {
		actors = append(actors, [2]string{ActorGroup, m.GroupID})
	}
	return actors
}

// RolesOf lists the roles that a user holds on a scope, by assignment to it or to its groups, with all implied ones, by name.
func RolesOf(r store.Read, userID string, s Scope) []*Role {
	var ids []string
	for _, a := range actorsOf(r, userID) {
		for as := range store.Find(r, AssignmentTable, "grant", grant(a[0], a[1], s)) {
			ids = append(ids, as.RoleID)
		}
	}
	return Expand(r, ids)
}

// Expand turns role ids into roles and adds what they imply.  Unknown ids are left out.  Sorted by name.
func Expand(r store.Read, ids []string) []*Role {
	var roles []*Role
	queue := slices.Clone(ids)
	for i := 0; i < len(queue); i++ {
		id := queue[i]
		if slices.ContainsFunc(roles, func(x *Role) bool { return x.ID == id }) {
			continue
		}
		if role, ok := store.Get(r, RoleTable, id); ok {
			roles = append(roles, role)
			queue = append(queue, role.Implies...)
		}
	}
	slices.SortFunc(roles, func(a, b *Role) int { return cmp.Compare(a.Name, b.Name) })
	return roles
}

// ScopesOf lists the scopes of one kind that a user holds a role on, whether their projects or domains are enabled or not, sorted.
func ScopesOf(r store.Read, userID string, kind ScopeKind) []Scope {
	seen := map[Scope]bool{}
	for _, a := range actorsOf(r, userID) {
		for as := range store.Find(r, AssignmentTable, "actor", pair(a[0], a[1])) {
			if as.Scope.Kind == kind {
				seen[as.Scope] = true
			}
		}
	}
	out := make([]Scope, 0, len(seen))
	for s := range seen {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Scope) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// liveProject finds a project that is enabled in an enabled domain.
func liveProject(r store.Read, id string) (*Project, *Domain, bool) {
	p, ok := store.Get(r, ProjectTable, id)
	if !ok || !p.Enabled {
		return nil, nil, false
	}
	d, ok := liveDomain(r, p.DomainID)
	return p, d, ok
}

// liveDomain finds an enabled domain.
func liveDomain(r store.Read, id string) (*Domain, bool) {
	d, ok := store.Get(r, DomainTable, id)
	return d, ok && d.Enabled
}

// DomainRef names a domain by id or by name.
type DomainRef struct{ ID, Name string }

func (d DomainRef) find(r store.Read) (*Domain, bool) {
	if d.ID != "" {
		return store.Get(r, DomainTable, d.ID)
	}
	return first(r, DomainTable, "name", d.Name)
}

// UserRef names a user by id, or by name and domain.
type UserRef struct {
	ID, Name string
	Domain   DomainRef
}

func (u UserRef) find(r store.Read) (*User, bool) {
	if u.ID != "" {
		return store.Get(r, UserTable, u.ID)
	}
	d, ok := u.Domain.find(r)
	if !ok {
		return nil, false
	}
	return first(r, UserTable, byName, pair(d.ID, u.Name))
}

// key is the reference as text, for counting failed logins.  It needs no such user.
func (u UserRef) key() string {
	return strings.ToLower(u.ID + "\x00" + u.Name + "\x00" + u.Domain.ID + "\x00" + u.Domain.Name)
}

// ScopeRef names a scope in a login: a project or domain by id or by name, or the system.
type ScopeRef struct {
	Kind     ScopeKind
	ID, Name string
	Domain   DomainRef // of a project that is given by name
}

func (s ScopeRef) find(r store.Read) (Scope, bool) {
	switch s.Kind {
	case ScopeProject:
		if s.ID != "" {
			return Scope{Kind: ScopeProject, ID: s.ID}, true
		}
		d, ok := s.Domain.find(r)
		if !ok {
			return Scope{}, false
		}
		p, ok := first(r, ProjectTable, byName, pair(d.ID, s.Name))
		if !ok {
			return Scope{}, false
		}
		return Scope{Kind: ScopeProject, ID: p.ID}, true
	case ScopeDomain:
		d, ok := DomainRef{ID: s.ID, Name: s.Name}.find(r)
		if !ok {
			return Scope{}, false
		}
		return Scope{Kind: ScopeDomain, ID: d.ID}, true
	default:
		return Scope{Kind: s.Kind}, true
	}
}
