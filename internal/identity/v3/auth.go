package v3

import (
	"net/http"

	"baryon/internal/identity"
	"baryon/internal/store"
)

// tokenTime is how Keystone writes times in tokens: UTC in microseconds.
const tokenTime = "2006-01-02T15:04:05.000000Z"

// mountAuth adds the calls for tokens and for what a token may be used for.
func mountAuth(a *API) {
	a.handle("POST /v3/auth/tokens", "identity:issue_token", nil, issueToken)
	a.handle("GET /v3/auth/tokens", "identity:validate_token", anyUser, validateToken)
	a.handle("DELETE /v3/auth/tokens", "identity:revoke_token", anyUser, revokeToken)
	a.handle("GET /v3/auth/catalog", "identity:get_auth_catalog", anyUser, func(c *call) error {
		var list []any
		err := c.api.st.View(c, func(r store.Read) error {
			list = catalog(r, c.s)
			return nil
		})
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, map[string]any{"catalog": list, "links": c.links()})
	})
	mine := *projects
	mine.scan = func(c *call, r store.Read, add func(*identity.Project)) {
		for _, s := range c.usable(r, identity.ScopeProject) {
			if p, ok := store.Get(r, identity.ProjectTable, s.ID); ok && p.Enabled {
				if d, ok := store.Get(r, identity.DomainTable, p.DomainID); ok && d.Enabled {
					add(p)
				}
			}
		}
	}
	a.handle("GET /v3/auth/projects", "identity:get_auth_projects", anyUser, mine.list)
	mineToo := *domains
	mineToo.scan = func(c *call, r store.Read, add func(*identity.Domain)) {
		for _, s := range c.usable(r, identity.ScopeDomain) {
			if d, ok := store.Get(r, identity.DomainTable, s.ID); ok && d.Enabled {
				add(d)
			}
		}
	}
	a.handle("GET /v3/auth/domains", "identity:get_auth_domains", anyUser, mineToo.list)
	a.handle("GET /v3/auth/system", "identity:get_auth_system", anyUser, func(c *call) error {
		list := []any{}
		err := c.api.st.View(c, func(r store.Read) error {
			if len(c.usable(r, identity.ScopeSystem)) > 0 {
				list = append(list, map[string]any{"all": true})
			}
			return nil
		})
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, map[string]any{"system": list, "links": c.links()})
	})
}

// usable lists the scopes that the caller may ask a token for.
func (c *call) usable(r store.Read, kind identity.ScopeKind) []identity.Scope {
	if c.s.App != nil {
		if kind == c.s.Scope.Kind {
			return []identity.Scope{c.s.Scope}
		}
		return nil
	}
	return identity.ScopesOf(r, c.s.UserID, kind)
}

func issueToken(c *call) error {
	doc, err := c.document()
	if err != nil {
		return err
	}
	login, err := readLogin(doc)
	if err != nil {
		return err
	}
	login.Remote = c.r.RemoteAddr
	token, s, err := c.api.id.Issue(c, login)
	if err != nil {
		return err
	}
	return c.replyToken(http.StatusCreated, token, s)
}

// replyToken writes a token with its body; ?nocatalog leaves the catalog out.
func (c *call) replyToken(code int, token string, s *identity.Session) error {
	out := map[string]any{
		"methods": s.Methods, "audit_ids": s.AuditIDs,
		"issued_at": s.IssuedAt.UTC().Format(tokenTime), "expires_at": s.ExpiresAt.UTC().Format(tokenTime),
		"user": map[string]any{"id": s.User.ID, "name": s.User.Name, "domain": domainRef(s.UserDomain), "password_expires_at": nil},
	}
	switch s.Scope.Kind {
	case identity.ScopeProject:
		out["project"] = map[string]any{"id": s.Project.ID, "name": s.Project.Name, "domain": domainRef(s.Domain)}
		out["is_domain"] = false
	case identity.ScopeDomain:
		out["domain"] = domainRef(s.Domain)
	case identity.ScopeSystem:
		out["system"] = map[string]any{"all": true}
	}
	if s.Scope.Kind != identity.ScopeNone {
		held := make([]any, 0, len(s.Granted))
		for _, role := range s.Granted {
			held = append(held, map[string]any{"id": role.ID, "name": role.Name})
		}
		out["roles"] = held
		if !c.r.URL.Query().Has("nocatalog") {
			out["catalog"] = catalog(c.api.st.Snapshot(), s)
		}
	}
	if s.App != nil {
		out["application_credential"] = map[string]any{"id": s.App.ID, "name": s.App.Name, "restricted": !s.App.Unrestricted}
	}
	c.w.Header().Set("X-Subject-Token", token)
	c.w.Header().Set("Cache-Control", "no-store")
	return c.reply(code, map[string]any{"token": out})
}

// subject opens the token that the call is about.  Users may look at themselves; admins and services at everybody.
func (c *call) subject(action string, late bool) (string, *identity.Session, error) {
	token := c.r.Header.Get("X-Subject-Token")
	if token == "" {
		return "", nil, badRequest("The header X-Subject-Token is missing.")
	}
	s, err := c.api.id.Check(c, token, late)
	own := token == c.r.Header.Get("X-Auth-Token") || err == nil && s.UserID == c.s.UserID
	if !own && !overseer(c) && !(c.s.IsService() && action == "identity:validate_token") {
		return "", nil, notAllowed(action)
	}
	if err != nil {
		if refused(err) {
			return "", nil, fail(http.StatusNotFound, "Could not find token.")
		}
		return "", nil, err
	}
	return token, s, nil
}

func validateToken(c *call) error {
	late := c.r.URL.Query().Get("allow_expired")
	token, s, err := c.subject("identity:validate_token", late != "" && truth(late) && (c.s.IsService() || c.s.IsAdmin()))
	if err != nil {
		return err
	}
	return c.replyToken(http.StatusOK, token, s)
}

func revokeToken(c *call) error {
	_, s, err := c.subject("identity:revoke_token", false)
	if err != nil {
		return err
	}
	if s.UserID != c.s.UserID && !admin(c) {
		return notAllowed("identity:revoke_token")
	}
	if err := c.api.id.Revoke(c, s); err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}

// mountVersions adds the version documents.
func mountVersions(a *API) {
	version := func(c *call) map[string]any {
		return map[string]any{
			"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
			"links":       []any{map[string]any{"rel": "self", "href": c.base + "/v3/"}},
			"media-types": []any{map[string]any{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
		}
	}
	a.handle("GET /{$}", "", nil, func(c *call) error {
		c.w.Header().Set("Location", c.base+"/v3/")
		return c.reply(http.StatusMultipleChoices, map[string]any{"versions": map[string]any{"values": []any{version(c)}}})
	})
	a.handle("GET /v3", "", nil, func(c *call) error {
		return c.reply(http.StatusOK, map[string]any{"version": version(c)})
	})
}

// routes registers everything.
func (a *API) routes() {
	mountVersions(a)
	mountAuth(a)
	mount(a, domains)
	mount(a, projects)
	mount(a, users)
	mount(a, groups)
	mount(a, roles)
	mount(a, services)
	mount(a, endpoints)
	mount(a, regions)
	mountTags(a)
	mountUserParts(a)
	mountMembers(a)
	mountImplied(a)
	mountAssignments(a)
	mountApps(a)
	a.handle("/", "", nil, a.fallback)
}
