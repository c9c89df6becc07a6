package v3

import (
	"net/http"

	"baryon/internal/identity"
	"baryon/internal/resource"
	"baryon/internal/store"
)

var groupAttrs = []attr{
	{name: "name", required: true, check: name(64)},
	{name: "domain_id", check: orNull(name(64))},
	{name: "description", check: orNull(text(0, 4096))},
}

var groups = &kind[identity.Group]{
	one: "group", many: "groups", path: "/v3/groups", param: "group",
	table: identity.GroupTable,
	attrs: groupAttrs,
	build: func(c *call, in body) (*identity.Group, error) {
		row := &identity.Group{ID: identity.NewID(), DomainID: c.homeDomain(in)}
		return row, setGroup(row, in)
	},
	patch: func(row *identity.Group, in body) error {
		if err := fixed(in, "domain_id", row.DomainID, "Domain ID"); err != nil {
			return err
		}
		return setGroup(row, in)
	},
	check: func(tx store.Tx, _ body, row, old *identity.Group) error {
		if old != nil {
			return nil
		}
		return domainExists(tx, row.DomainID)
	},
	clear: func(tx store.Tx, g *identity.Group) error {
		clearGroup(tx, g)
		return nil
	},
	show: func(g *identity.Group) map[string]any {
		return withExtra(map[string]any{"id": g.ID, "name": g.Name, "domain_id": g.DomainID, "description": g.Description}, g.Extra)
	},
	taken: func(g *identity.Group) string {
		return "Duplicate entry found with name " + g.Name + " at domain ID " + g.DomainID
	},
	filters: map[string]func(*identity.Group) string{
		"name":      func(g *identity.Group) string { return g.Name },
		"domain_id": func(g *identity.Group) string { return g.DomainID },
	},
}

func setGroup(row *identity.Group, in body) (err error) {
	in.set("name", &row.Name)
	in.set("description", &row.Description)
	row.Extra, err = in.extra(groupAttrs, row.Extra)
	return err
}

// clearGroup removes memberships and roles of a group.
func clearGroup(tx store.Tx, g *identity.Group) {
	drop(tx, identity.MembershipTable, "group", g.ID)
	drop(tx, identity.AssignmentTable, "actor", identity.ActorKey(identity.ActorGroup, g.ID))
}

// existing answers 404 before f when the path's object is not there.
func existing[T any](t *resource.Table[T], param string, f func(c *call) error) func(c *call) error {
	return func(c *call) error {
		err := c.api.st.View(c, func(r store.Read) error {
			_, err := find(r, t, param, c.r.PathValue(param))
			return err
		})
		if err != nil {
			return err
		}
		return f(c)
	}
}

// mountMembers adds the calls for who is in a group.
func mountMembers(a *API) {
	const path = "/v3/groups/{group}/users"
	members := *users
	members.scan = func(c *call, r store.Read, add func(*identity.User)) {
		for m := range store.Find(r, identity.MembershipTable, "group", c.r.PathValue("group")) {
			if u, ok := store.Get(r, identity.UserTable, m.UserID); ok {
				add(u)
			}
		}
	}
	a.handle("GET "+path, "identity:list_users_in_group", overseer, existing(identity.GroupTable, "group", members.list))
	a.handle("GET "+path+"/{user}", "identity:check_user_in_group", selfOrOverseer, func(c *call) error {
		return c.member(func(r store.Read, m *identity.Membership) error {
			if _, ok := store.Get(r, identity.MembershipTable, identity.MembershipKey(m.GroupID, m.UserID)); !ok {
				return fail(http.StatusNotFound, "User '%s' not found in group '%s'.", m.UserID, m.GroupID)
			}
			return nil
		}, nil)
	})
	a.handle("PUT "+path+"/{user}", "identity:add_user_to_group", admin, func(c *call) error {
		return c.member(nil, func(tx store.Tx, m *identity.Membership) error {
			store.Put(tx, identity.MembershipTable, m)
			return nil
		})
	})
	a.handle("DELETE "+path+"/{user}", "identity:remove_user_from_group", admin, func(c *call) error {
		return c.member(nil, func(tx store.Tx, m *identity.Membership) error {
			if !store.Delete(tx, identity.MembershipTable, identity.MembershipKey(m.GroupID, m.UserID)) {
				return fail(http.StatusNotFound, "User '%s' not found in group '%s'.", m.UserID, m.GroupID)
			}
			return nil
		})
	})
}

// member runs look or change with the membership of the path, whose group and user exist, and answers 204.
func (c *call) member(look func(store.Read, *identity.Membership) error, change func(store.Tx, *identity.Membership) error) error {
	m := &identity.Membership{GroupID: c.r.PathValue("group"), UserID: c.r.PathValue("user")}
	exist := func(r store.Read) error {
		if _, err := find(r, identity.GroupTable, "group", m.GroupID); err != nil {
			return err
		}
		_, err := find(r, identity.UserTable, "user", m.UserID)
		return err
	}
	var err error
	if look != nil {
		err = c.api.st.View(c, func(r store.Read) error {
			if err := exist(r); err != nil {
				return err
			}
			return look(r, m)
		})
	} else {
		_, err = c.api.st.Update(c, func(tx store.Tx) error {
			if err := exist(tx); err != nil {
				return err
			}
			return change(tx, m)
		})
	}
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}
