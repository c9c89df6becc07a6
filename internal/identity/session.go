package identity

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"baryon/internal/store"
)

// ErrUnauthorized is every refusal of a login or a token.  Wrapped texts say why, for logs only.
var ErrUnauthorized = errors.New("unauthorized")

func refuse(why string) error { return fmt.Errorf("%w: %s", ErrUnauthorized, why) }

// Session is a token opened and found good: its claim joined with the rows of one snapshot.  Read only, shared by requests.
type Session struct {
	Caller
	Scope      Scope
	Methods    []string
	IssuedAt   time.Time
	ExpiresAt  time.Time
	AuditIDs   []string
	User       *User
	UserDomain *Domain
	Project    *Project       // of a project scope
	Domain     *Domain        // of a domain scope; of a project scope the project's domain
	App        *AppCredential // the credential the token came from, or nil
	Granted    []*Role        // empty without scope

	claim *claim
}

// Restricted tells whether the token must not manage application credentials.
func (s *Session) Restricted() bool { return s.App != nil && !s.App.Unrestricted }

// join looks a claim up in a snapshot.  It refuses whatever is gone or disabled, a scope without a role and an application
// credential that expired or whose roles are not all held any more.  It returns the sum of the epochs; comparing is the caller's.
func join(r store.Read, c *claim, now time.Time) (*Session, uint64, error) {
	s := &Session{Scope: c.scope, IssuedAt: c.issued, ExpiresAt: c.expires, AuditIDs: c.audits, claim: c}
	for _, m := range methodNames {
		if c.methods&m.bit != 0 {
			s.Methods = append(s.Methods, m.name)
		}
	}
	var ok bool
	if s.User, ok = store.Get(r, UserTable, c.userID); !ok || !s.User.Enabled {
		return nil, 0, refuse("user is gone or disabled")
	}
	if s.UserDomain, ok = liveDomain(r, s.User.DomainID); !ok {
		return nil, 0, refuse("domain of the user is gone or disabled")
	}
	epoch := s.User.Epoch + s.UserDomain.Epoch
	s.UserID, s.UserName = s.User.ID, s.User.Name
	switch c.scope.Kind {
	case ScopeProject:
		if s.Project, s.Domain, ok = liveProject(r, c.scope.ID); !ok {
			return nil, 0, refuse("project or its domain is gone or disabled")
		}
		s.ProjectID = s.Project.ID
		epoch += s.Project.Epoch + s.Domain.Epoch
	case ScopeDomain:
		if s.Domain, ok = liveDomain(r, c.scope.ID); !ok {
			return nil, 0, refuse("domain is gone or disabled")
		}
		s.DomainID = s.Domain.ID
		epoch += s.Domain.Epoch
	case ScopeSystem:
		s.System = true
	}
	if c.scope.Kind != ScopeNone {
		s.Granted = RolesOf(r, c.userID, c.scope)
	}
	if c.appID != "" {
		if err := s.narrow(r, c, now); err != nil {
			return nil, 0, err
		}
	}
	if c.scope.Kind != ScopeNone && len(s.Granted) == 0 {
		return nil, 0, refuse("no role on the scope")
	}
	for _, role := range s.Granted {
		s.Roles = append(s.Roles, role.Name)
	}
	return s, epoch, nil
}

// narrow leaves the roles of the application credential alone.
func (s *Session) narrow(r store.Read, c *claim, now time.Time) error {
	app, ok := store.Get(r, AppCredentialTable, c.appID)
	if !ok || app.UserID != c.userID || c.scope != (Scope{Kind: ScopeProject, ID: app.ProjectID}) {
		return refuse("application credential is gone")
	}
	if !app.ExpiresAt.IsZero() && !now.Before(app.ExpiresAt) {
		return refuse("application credential has expired")
	}
	for _, id := range app.RoleIDs {
		if !slices.ContainsFunc(s.Granted, func(x *Role) bool { return x.ID == id }) {
			return refuse("a role of the application credential is not held any more")
		}
	}
	s.App, s.Granted = app, Expand(r, app.RoleIDs)
	return nil
}

// check is join for a token that a client brought: nothing may have been revoked since its issue.
func check(r store.Read, c *claim, now time.Time) (*Session, error) {
	if _, revoked := store.Get(r, RevocationTable, c.audits[0]); revoked {
		return nil, refuse("token is revoked")
	}
	s, epoch, err := join(r, c, now)
	if err != nil {
		return nil, err
	}
	if epoch != c.epoch {
		return nil, refuse("tokens were revoked since its issue")
	}
	return s, nil
}
