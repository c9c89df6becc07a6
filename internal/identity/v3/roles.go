package v3

import (
	"net/http"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/store"
)

var roleAttrs = []attr{
	{name: "name", required: true, check: name(255)},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "domain_id", check: mustBeNull("roles of one domain are not supported")},
	{name: "options", check: object},
}

var roles = &kind[identity.Role]{
	one: "role", many: "roles", path: "/v3/roles", param: "role",
	table: identity.RoleTable,
	attrs: roleAttrs,
	build: func(_ *call, in body) (*identity.Role, error) {
		row := &identity.Role{ID: identity.NewID()}
		return row, setRole(row, in)
	},
	patch: setRole,
	check: func(_ store.Tx, _ body, row, old *identity.Role) error {
		if old != nil && immutable(old) && immutable(row) {
			return forbidden("Unable to update immutable role resource: `%s`. Set resource option \"immutable\" to false first.", old.ID)
		}
		return nil
	},
	clear: func(tx store.Tx, role *identity.Role) error {
		if immutable(role) {
			return forbidden("Unable to delete immutable role resource: `%s`. Set resource option \"immutable\" to false first.", role.ID)
		}
		drop(tx, identity.AssignmentTable, "role", role.ID)
		drop(tx, identity.AppCredentialTable, "role", role.ID)
		var prior []*identity.Role
		for p := range store.Find(tx, identity.RoleTable, "implies", role.ID) {
			prior = append(prior, p)
		}
		for _, p := range prior {
			row := *p
			row.Implies = slices.DeleteFunc(slices.Clone(p.Implies), func(id string) bool { return id == role.ID })
			store.Put(tx, identity.RoleTable, &row)
		}
		return nil
	},
	show: func(r *identity.Role) map[string]any {
		return withExtra(map[string]any{
			"id": r.ID, "name": r.Name, "domain_id": nil, "description": none(r.Description), "options": orEmpty(r.Options),
		}, r.Extra)
	},
	taken: func(r *identity.Role) string { return "Duplicate entry found with name " + r.Name },
	filters: map[string]func(*identity.Role) string{
		"name":      func(r *identity.Role) string { return r.Name },
		"domain_id": func(*identity.Role) string { return "" },
	},
}

func immutable(r *identity.Role) bool { return r.Options["immutable"] == true }

func setRole(row *identity.Role, in body) (err error) {
	in.set("name", &row.Name)
	in.set("description", &row.Description)
	setOptions(in, &row.Options)
	row.Extra, err = in.extra(roleAttrs, row.Extra)
	return err
}

// mountImplied adds the calls for which role implies which.
func mountImplied(a *API) {
	const path = "/v3/roles/{role}/implies"
	a.handle("GET "+path, "identity:list_implied_roles", overseer, func(c *call) error {
		return c.inference(func(r store.Read, prior *identity.Role) (any, error) {
			return c.implied(r, prior), nil
		})
	})
	a.handle("GET "+path+"/{implied}", "identity:get_implied_role", overseer, func(c *call) error {
		return c.inference(func(r store.Read, prior *identity.Role) (any, error) {
			id := c.r.PathValue("implied")
			role, err := find(r, identity.RoleTable, "role", id)
			if err == nil && !slices.Contains(prior.Implies, id) {
				err = fail(http.StatusNotFound, "%s does not imply %s", prior.ID, id)
			}
			if err != nil {
				return nil, err
			}
			return c.roleRef(role), nil
		})
	})
	a.handle("PUT "+path+"/{implied}", "identity:create_implied_role", admin, putImplied)
	a.handle("DELETE "+path+"/{implied}", "identity:delete_implied_role", admin, func(c *call) error {
		_, err := c.api.st.Update(c, func(tx store.Tx) error {
			prior, err := find(tx, identity.RoleTable, "role", c.r.PathValue("role"))
			if err != nil {
				return err
			}
			i := slices.Index(prior.Implies, c.r.PathValue("implied"))
			if i < 0 {
				return fail(http.StatusNotFound, "%s does not imply %s", prior.ID, clip(c.r.PathValue("implied")))
			}
			row := *prior
			row.Implies = slices.Delete(slices.Clone(prior.Implies), i, i+1)
			store.Put(tx, identity.RoleTable, &row)
			return nil
		})
		if err != nil {
			return err
		}
		return c.reply(http.StatusNoContent, nil)
	})
	a.handle("GET /v3/role_inferences", "identity:list_role_inference_rules", overseer, func(c *call) error {
		rules := []any{}
		err := c.api.st.View(c, func(r store.Read) error {
			for role := range store.All(r, identity.RoleTable) {
				if len(role.Implies) > 0 {
					rules = append(rules, map[string]any{"prior_role": c.roleRef(role), "implies": c.implied(r, role)})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, map[string]any{"role_inferences": rules, "links": c.links()})
	})
}

func putImplied(c *call) error {
	var prior, role *identity.Role
	_, err := c.api.st.Update(c, func(tx store.Tx) (err error) {
		if prior, err = find(tx, identity.RoleTable, "role", c.r.PathValue("role")); err != nil {
			return err
		}
		if role, err = find(tx, identity.RoleTable, "role", c.r.PathValue("implied")); err != nil {
			return err
		}
		if role.Name == identity.RoleAdmin || role.ID == prior.ID {
			return forbidden("%s cannot be an implied roles", role.Name)
		}
		if slices.Contains(prior.Implies, role.ID) {
			return nil
		}
		row := *prior
		row.Implies = append(slices.Clone(prior.Implies), role.ID)
		store.Put(tx, identity.RoleTable, &row)
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, map[string]any{
		"role_inference": map[string]any{"prior_role": c.roleRef(prior), "implies": c.roleRef(role)}, "links": c.links(),
	})
}

// inference answers with the role of the path and what f says it implies.
func (c *call) inference(f func(r store.Read, prior *identity.Role) (any, error)) error {
	var out map[string]any
	err := c.api.st.View(c, func(r store.Read) error {
		prior, err := find(r, identity.RoleTable, "role", c.r.PathValue("role"))
		if err != nil {
			return err
		}
		implies, err := f(r, prior)
		out = map[string]any{"prior_role": c.roleRef(prior), "implies": implies}
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"role_inference": out, "links": c.links()})
}

func (c *call) implied(r store.Read, prior *identity.Role) []any {
	out := []any{}
	for _, id := range prior.Implies {
		if role, ok := store.Get(r, identity.RoleTable, id); ok {
			out = append(out, c.roleRef(role))
		}
	}
	return out
}

func (c *call) roleRef(role *identity.Role) map[string]any {
	return map[string]any{"id": role.ID, "name": role.Name, "links": map[string]any{"self": c.base + "/v3/roles/" + role.ID}}
}
