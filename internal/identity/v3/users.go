package v3

import (
	"net/http"

	"baryon/internal/identity"
	"baryon/internal/store"
)

var userAttrs = []attr{
	{name: "name", required: true, check: name(255)},
	{name: "domain_id", check: orNull(name(64))},
	{name: "default_project_id", check: orNull(text(0, 64))},
	{name: "password", check: orNull(text(1, identity.MaxPassword/4))},
	{name: "enabled", check: boolean},
	{name: "email", check: orNull(text(0, 320))},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "options", check: object},
	{name: "password_expires_at", check: mustBeNull("passwords do not expire here")},
	{name: "original_password", check: func(any) string { return "use POST /v3/users/{user_id}/password" }},
	{name: "federated", check: func(any) string { return "federated users are not supported" }},
}

var users = &kind[identity.User]{
	one: "user", many: "users", path: "/v3/users", param: "user",
	table: identity.UserTable,
	attrs: userAttrs,
	see:   selfOrOverseer,
	prepare: func(c *call, in body) error {
		if in.str("password") == "" {
			return nil
		}
		hash, err := c.api.id.HashPassword(c, in.str("password"))
		in["password"] = hash
		return err
	},
	build: func(c *call, in body) (*identity.User, error) {
		row := &identity.User{ID: identity.NewID(), DomainID: c.homeDomain(in), Enabled: true}
		return row, setUser(row, in)
	},
	patch: func(row *identity.User, in body) error {
		if err := fixed(in, "domain_id", row.DomainID, "Domain ID"); err != nil {
			return err
		}
		was := *row
		err := setUser(row, in)
		if was.Enabled && !row.Enabled || was.Password != row.Password {
			row.Epoch++
		}
		return err
	},
	check: func(tx store.Tx, _ body, row, old *identity.User) error {
		if id := row.DefaultProjectID; id != "" && (old == nil || old.DefaultProjectID != id) {
			if _, err := find(tx, identity.ProjectTable, "project", id); err != nil {
				return err
			}
		}
		if old != nil {
			return nil
		}
		return domainExists(tx, row.DomainID)
	},
	clear: func(tx store.Tx, u *identity.User) error {
		clearUser(tx, u)
		return nil
	},
	show: func(u *identity.User) map[string]any {
		out := map[string]any{
			"id": u.ID, "name": u.Name, "domain_id": u.DomainID, "enabled": u.Enabled, "default_project_id": none(u.DefaultProjectID),
			"description": u.Description, "password_expires_at": nil, "options": orEmpty(u.Options),
		}
		if u.Email != "" {
			out["email"] = u.Email
		}
		return withExtra(out, u.Extra)
	},
	taken: func(u *identity.User) string {
		return "Duplicate entry found with name " + u.Name + " at domain ID " + u.DomainID
	},
	filters: map[string]func(*identity.User) string{
		"name":      func(u *identity.User) string { return u.Name },
		"domain_id": func(u *identity.User) string { return u.DomainID },
		"enabled":   func(u *identity.User) string { return yes(u.Enabled) },
	},
}

func setUser(row *identity.User, in body) (err error) {
	in.set("name", &row.Name)
	in.set("default_project_id", &row.DefaultProjectID)
	in.set("email", &row.Email)
	in.set("description", &row.Description)
	in.set("password", &row.Password) // a hash by now; null takes the password away
	row.Enabled = in.flag("enabled", row.Enabled)
	setOptions(in, &row.Options)
	row.Extra, err = in.extra(userAttrs, row.Extra)
	return err
}

// clearUser removes memberships, roles and credentials of a user.  Its tokens die with the row.
func clearUser(tx store.Tx, u *identity.User) {
	drop(tx, identity.MembershipTable, "user", u.ID)
	drop(tx, identity.AssignmentTable, "actor", identity.ActorKey(identity.ActorUser, u.ID))
	drop(tx, identity.AppCredentialTable, "user", u.ID)
}

// mountUserParts adds the calls below a user that are no resource of their own.
func mountUserParts(a *API) {
	a.handle("POST /v3/users/{user}/password", "identity:change_password", nil, changePassword)
	userProjects := *projects
	userProjects.scan = func(c *call, r store.Read, add func(*identity.Project)) {
		for _, s := range identity.ScopesOf(r, c.r.PathValue("user"), identity.ScopeProject) {
			if p, ok := store.Get(r, identity.ProjectTable, s.ID); ok {
				add(p)
			}
		}
	}
	a.handle("GET /v3/users/{user}/projects", "identity:list_user_projects", selfOrOverseer, existing(identity.UserTable, "user", userProjects.list))
	userGroups := *groups
	userGroups.scan = func(c *call, r store.Read, add func(*identity.Group)) {
		for m := range store.Find(r, identity.MembershipTable, "user", c.r.PathValue("user")) {
			if g, ok := store.Get(r, identity.GroupTable, m.GroupID); ok {
				add(g)
			}
		}
	}
	a.handle("GET /v3/users/{user}/groups", "identity:list_groups_for_user", selfOrOverseer, existing(identity.UserTable, "user", userGroups.list))
}

// changePassword lets users change their own password.  The old one is the proof, so no token is needed.  All tokens of the user end.
func changePassword(c *call) error {
	in, err := c.input("user", []attr{
		{name: "original_password", required: true, check: text(0, identity.MaxPassword/4)},
		{name: "password", required: true, check: text(1, identity.MaxPassword/4)},
	}, true)
	if err != nil {
		return err
	}
	id := c.r.PathValue("user")
	old, err := c.api.id.CheckPassword(c, identity.UserRef{ID: id}, in.str("original_password"), c.r.RemoteAddr)
	if err != nil {
		return err
	}
	if !old.Enabled {
		return identity.ErrUnauthorized
	}
	if in.str("password") == in.str("original_password") {
		return badRequest("Invalid password: the new password cannot be identical to the current one.")
	}
	hash, err := c.api.id.HashPassword(c, in.str("password"))
	if err != nil {
		return err
	}
	_, err = c.api.st.Update(c, func(tx store.Tx) error {
		u, ok := store.Get(tx, identity.UserTable, id)
		if !ok || u.Password != old.Password || !u.Enabled { // somebody else was faster
			return identity.ErrUnauthorized
		}
		row := *u
		row.Password = hash
		row.Epoch++
		store.Put(tx, identity.UserTable, &row)
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}
