package v3

import (
	"errors"
	"slices"

	"baryon/internal/identity"
)

// walk reads a nested document and keeps the first thing that is wrong with it.
type walk struct{ err error }

func (w *walk) fail(format string, a ...any) {
	if w.err == nil {
		w.err = badRequest(format, a...)
	}
}

// object is a member that must be an object; nil after a failure.
func (w *walk) object(in body, name, where string) body {
	v, ok := in[name]
	if !ok {
		w.fail("Expecting to find %s in %s. %s", name, where, malformed)
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		w.fail("Invalid input for field '%s/%s': %s is not of type 'object'", where, name, show(v))
		return nil
	}
	return m
}

// text is a member that must be a string if it is there.
func (w *walk) text(in body, name, where string) (string, bool) {
	v, ok := in[name]
	if !ok || v == nil {
		return "", false
	}
	s, ok := v.(string)
	if !ok {
		w.fail("Invalid input for field '%s/%s': the value is not of type 'string'", where, name)
	}
	return s, ok
}

// need is a member that must be a string.
func (w *walk) need(in body, name, where string) string {
	s, ok := w.text(in, name, where)
	if !ok {
		w.fail("'%s' is a required property", name)
	}
	return s
}

// readLogin reads the body of POST /v3/auth/tokens.
func readLogin(doc body) (identity.Login, error) {
	var w walk
	var l identity.Login
	auth := w.object(doc, "auth", "request body")
	id := w.object(auth, "identity", "auth")
	methods, ok := id["methods"].([]any)
	if w.err == nil && (!ok || len(methods) == 0 || len(methods) > 8) {
		w.fail("Expecting to find methods in identity. %s", malformed)
	}
	for _, m := range methods {
		method, ok := m.(string)
		if !ok {
			w.fail("Invalid input for field 'identity/methods': %s is not of type 'string'", show(m))
			break
		}
		if !slices.Contains([]string{"password", "token", "application_credential"}, method) {
			return l, fail(401, "Attempted to authenticate with an unsupported method.")
		}
		w.proof(&l, method, w.object(id, method, "identity"))
	}
	if w.err == nil {
		w.scope(&l, auth)
	}
	return l, w.err
}

func (w *walk) proof(l *identity.Login, method string, in body) {
	if w.err != nil {
		return
	}
	switch method {
	case "password":
		u := w.object(in, "user", "password")
		l.Password = &identity.PasswordProof{User: w.user(u), Password: w.need(u, "password", "user")}
	case "token":
		t := w.need(in, "id", "token")
		l.Token = &t
	case "application_credential":
		app := &identity.AppProof{Secret: w.need(in, "secret", method)}
		if id, ok := w.text(in, "id", method); ok {
			app.ID = id
		} else {
			app.Name = w.need(in, "name", method)
			app.User = w.user(w.object(in, "user", method))
		}
		l.App = app
	}
}

// user reads {"id"} or {"name", "domain"}.
func (w *walk) user(in body) identity.UserRef {
	if id, ok := w.text(in, "id", "user"); ok {
		return identity.UserRef{ID: id}
	}
	u := identity.UserRef{Name: w.need(in, "name", "user")}
	if w.err == nil {
		u.Domain = w.domain(w.object(in, "domain", "user"))
	}
	return u
}

// domain reads {"id"} or {"name"}.
func (w *walk) domain(in body) identity.DomainRef {
	if id, ok := w.text(in, "id", "domain"); ok {
		return identity.DomainRef{ID: id}
	}
	return identity.DomainRef{Name: w.need(in, "name", "domain")}
}

func (w *walk) scope(l *identity.Login, auth body) {
	v, given := auth["scope"]
	if !given || v == nil {
		return
	}
	if v == "unscoped" {
		l.Scope = &identity.ScopeRef{Kind: identity.ScopeNone}
		return
	}
	scope, ok := v.(map[string]any)
	if !ok {
		w.fail("Invalid input for field 'auth/scope': %s is not of type 'object'", show(v))
		return
	}
	if len(scope) != 1 {
		w.fail("Expecting to find one of project, domain, system or unscoped in scope. %s", malformed)
		return
	}
	switch {
	case body(scope).has("unscoped"):
		l.Scope = &identity.ScopeRef{Kind: identity.ScopeNone}
	case body(scope).has("project"):
		p := w.object(scope, "project", "scope")
		ref := &identity.ScopeRef{Kind: identity.ScopeProject}
		if id, ok := w.text(p, "id", "project"); ok {
			ref.ID = id
		} else if ref.Name = w.need(p, "name", "project"); w.err == nil {
			ref.Domain = w.domain(w.object(p, "domain", "project"))
		}
		l.Scope = ref
	case body(scope).has("domain"):
		d := w.domain(w.object(scope, "domain", "scope"))
		l.Scope = &identity.ScopeRef{Kind: identity.ScopeDomain, ID: d.ID, Name: d.Name}
	case body(scope).has("system"):
		if s := w.object(scope, "system", "scope"); w.err == nil && s["all"] != true {
			w.fail("Expecting to find all in system. %s", malformed)
		}
		l.Scope = &identity.ScopeRef{Kind: identity.ScopeSystem}
	default:
		w.fail("Expecting to find one of project, domain, system or unscoped in scope. %s", malformed)
	}
}

// refused tells whether a token was found bad, as against not looked up.
func refused(err error) bool { return errors.Is(err, identity.ErrUnauthorized) }
