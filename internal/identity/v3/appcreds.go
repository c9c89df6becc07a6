package v3

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"baryon/internal/identity"
	"baryon/internal/store"
)

// appTime is how Keystone writes the end of an application credential: UTC without a zone.
const appTime = "2006-01-02T15:04:05.000000"

var appAttrs = []attr{
	{name: "name", required: true, check: name(255)},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "secret", check: orNull(text(1, identity.MaxPassword/4))},
	{name: "expires_at", check: orNull(func(v any) string {
		s, ok := v.(string)
		if _, err := parseTime(s); !ok || err != nil {
			return show(v) + " is not a 'date-time'"
		}
		return ""
	})},
	{name: "unrestricted", check: orNull(boolean)},
	{name: "roles", check: roleRefs},
	{name: "access_rules", check: func(v any) string {
		if l, ok := v.([]any); v != nil && (!ok || len(l) > 0) {
			return "access rules are not supported; leave them out, or give the credential fewer roles"
		}
		return ""
	}},
}

// roleRefs accepts [{"id": ...} | {"name": ...}, ...].
func roleRefs(v any) string {
	items, ok := v.([]any)
	if !ok {
		return show(v) + " is not of type 'array'"
	}
	for _, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return show(item) + " is not of type 'object'"
		}
		id, hasID := m["id"].(string)
		word, hasName := m["name"].(string)
		if hasID == hasName || id == "" && word == "" {
			return show(item) + " must have an id or a name"
		}
	}
	return ""
}

// parseTime reads ISO 8601 with or without fraction and zone; without, it is UTC.
func parseTime(s string) (time.Time, error) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC().Truncate(time.Microsecond), nil
		}
	}
	return time.Time{}, errors.New("not a time")
}

// mountApps adds the calls for application credentials, which hang below their user.
func mountApps(a *API) {
	const path = "/v3/users/{user}/application_credentials"
	a.handle("GET "+path, "identity:list_application_credentials", selfOrOverseer, listApps)
	a.handle("POST "+path, "identity:create_application_credential", self, createApp)
	a.handle("GET "+path+"/{app}", "identity:get_application_credential", selfOrOverseer, getApp)
	a.handle("DELETE "+path+"/{app}", "identity:delete_application_credential", selfOrAdmin, deleteApp)
	a.handle("GET /v3/users/{user}/access_rules", "identity:list_access_rules", selfOrOverseer, func(c *call) error {
		return c.reply(http.StatusOK, map[string]any{"access_rules": []any{}, "links": c.links()})
	})
}

func (c *call) showApp(r store.Read, app *identity.AppCredential) map[string]any {
	held := []any{}
	for _, id := range app.RoleIDs {
		if role, ok := store.Get(r, identity.RoleTable, id); ok {
			held = append(held, map[string]any{"id": role.ID, "name": role.Name, "domain_id": nil})
		}
	}
	var end any
	if !app.ExpiresAt.IsZero() {
		end = app.ExpiresAt.UTC().Format(appTime)
	}
	return map[string]any{
		"id": app.ID, "name": app.Name, "description": none(app.Description), "project_id": app.ProjectID, "roles": held,
		"unrestricted": app.Unrestricted, "expires_at": end, "system": nil,
		"links": map[string]any{"self": c.base + "/v3/users/" + app.UserID + "/application_credentials/" + app.ID},
	}
}

func listApps(c *call) error {
	items := []any{}
	q := c.r.URL.Query()
	err := c.api.st.View(c, func(r store.Read) error {
		user := c.r.PathValue("user")
		if _, err := find(r, identity.UserTable, "user", user); err != nil {
			return err
		}
		for app := range store.Find(r, identity.AppCredentialTable, "user", user) {
			if !q.Has("name") || q.Get("name") == app.Name {
				items = append(items, c.showApp(r, app))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"application_credentials": items, "links": c.links()})
}

// appOf is the credential of the path.
func (c *call) appOf(r store.Read) (*identity.AppCredential, error) {
	id := c.r.PathValue("app")
	app, ok := store.Get(r, identity.AppCredentialTable, id)
	if !ok || app.UserID != c.r.PathValue("user") {
		return nil, notFound("Application Credential", id)
	}
	return app, nil
}

func getApp(c *call) error {
	var out map[string]any
	err := c.api.st.View(c, func(r store.Read) error {
		app, err := c.appOf(r)
		if err == nil {
			out = c.showApp(r, app)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"application_credential": out})
}

// mayManageApps refuses tokens of restricted credentials: one that leaked must not be able to make itself a successor.
func (c *call) mayManageApps() error {
	if c.s.Restricted() {
		return notAllowed("Using method 'application_credential' is not allowed for managing additional application credentials")
	}
	return nil
}

func deleteApp(c *call) error {
	if err := c.mayManageApps(); err != nil {
		return err
	}
	_, err := c.api.st.Update(c, func(tx store.Tx) error {
		app, err := c.appOf(tx)
		if err != nil {
			return err
		}
		store.Delete(tx, identity.AppCredentialTable, app.ID)
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}

func createApp(c *call) error {
	if err := c.mayManageApps(); err != nil {
		return err
	}
	in, err := c.input("application_credential", appAttrs, true)
	if err != nil {
		return err
	}
	if c.s.ProjectID == "" {
		return badRequest("An application credential is made for a project: use a token that is scoped to one.")
	}
	row := &identity.AppCredential{
		ID: identity.NewID(), Name: in.str("name"), UserID: c.s.UserID, ProjectID: c.s.ProjectID,
		Description: in.str("description"), Unrestricted: in.flag("unrestricted", false),
	}
	if s := in.str("expires_at"); s != "" {
		if row.ExpiresAt, err = parseTime(s); err != nil || !row.ExpiresAt.After(c.api.id.Now()) {
			return badRequest("Invalid input for field 'expires_at': the time must be in the future")
		}
	}
	if row.RoleIDs, err = c.chooseRoles(in); err != nil {
		return err
	}
	secret := in.str("secret")
	if secret == "" {
		secret, row.Secret = c.api.id.NewSecret()
	} else if row.Secret, err = c.api.id.HashPassword(c, secret); err != nil {
		return err
	}
	var shown map[string]any
	_, err = c.api.st.Update(c, func(tx store.Tx) error {
		held := identity.RolesOf(tx, row.UserID, identity.Scope{Kind: identity.ScopeProject, ID: row.ProjectID})
		for _, id := range row.RoleIDs {
			if !slices.ContainsFunc(held, func(r *identity.Role) bool { return r.ID == id }) {
				return notHeld(id)
			}
		}
		if _, err := find(tx, identity.UserTable, "user", row.UserID); err != nil {
			return err
		}
		store.Put(tx, identity.AppCredentialTable, row)
		shown = c.showApp(tx, row)
		return nil
	})
	var taken *store.UniqueError
	if errors.As(err, &taken) {
		return fail(http.StatusConflict, "Conflict occurred attempting to store application_credential - Duplicate entry found with name %s.", row.Name)
	}
	if err != nil {
		return err
	}
	shown["secret"] = secret
	return c.reply(http.StatusCreated, map[string]any{"application_credential": shown})
}

func notHeld(role string) error {
	return badRequest("Invalid application credential: the role %s is not held on the project.", clip(role))
}

// chooseRoles picks the roles asked for among those of the caller's token; all of them when none is asked for.
func (c *call) chooseRoles(in body) ([]string, error) {
	asked, _ := in["roles"].([]any)
	var ids []string
	for _, role := range c.s.Granted {
		if len(asked) == 0 {
			ids = append(ids, role.ID)
		}
	}
	for _, item := range asked {
		ref := body(item.(map[string]any))
		i := slices.IndexFunc(c.s.Granted, func(r *identity.Role) bool {
			return r.ID == ref.str("id") || ref.str("id") == "" && r.Name == ref.str("name")
		})
		if i < 0 {
			return nil, notHeld(ref.str("id") + ref.str("name"))
		}
		if id := c.s.Granted[i].ID; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
