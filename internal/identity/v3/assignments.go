package v3

import (
	"net/http"
	"net/url"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/store"
)

// mountAssignments adds the calls that give, take, check and list roles: users and groups on projects, domains and the system.
func mountAssignments(a *API) {
	for _, target := range []string{"/v3/projects/{project}", "/v3/domains/{domain}", "/v3/system"} {
		word := "grant"
		if target == "/v3/system" {
			word = "system_grant"
		}
		for _, actor := range []string{"/users/{user}", "/groups/{group}"} {
			path := target + actor + "/roles"
			a.handle("GET "+path, "identity:list_"+word+"s", overseer, listGrants)
			a.handle("GET "+path+"/{role}", "identity:check_"+word, overseer, checkGrant)
			a.handle("PUT "+path+"/{role}", "identity:create_"+word, admin, putGrant)
			a.handle("DELETE "+path+"/{role}", "identity:revoke_"+word, admin, deleteGrant)
		}
	}
	mine := func(c *call) bool { return overseer(c) || c.r.URL.Query().Get("user.id") == c.s.UserID }
	a.handle("GET /v3/role_assignments", "identity:list_role_assignments", mine, listAssignments)
}

// grantOf reads the assignment that the path names and checks that actor and scope exist.  The role may be empty, for lists.
func (c *call) grantOf(r store.Read) (*identity.Assignment, error) {
	as := &identity.Assignment{RoleID: c.r.PathValue("role")}
	if u := c.r.PathValue("user"); u != "" {
		as.Actor, as.ActorID = identity.ActorUser, u
		if _, err := find(r, identity.UserTable, "user", u); err != nil {
			return nil, err
		}
	} else {
		as.Actor, as.ActorID = identity.ActorGroup, c.r.PathValue("group")
		if _, err := find(r, identity.GroupTable, "group", as.ActorID); err != nil {
			return nil, err
		}
	}
	switch p, d := c.r.PathValue("project"), c.r.PathValue("domain"); {
	case p != "":
		as.Scope = identity.Scope{Kind: identity.ScopeProject, ID: p}
		if _, err := find(r, identity.ProjectTable, "project", p); err != nil {
			return nil, err
		}
	case d != "":
		as.Scope = identity.Scope{Kind: identity.ScopeDomain, ID: d}
		if _, err := find(r, identity.DomainTable, "domain", d); err != nil {
			return nil, err
		}
	default:
		as.Scope = identity.Scope{Kind: identity.ScopeSystem}
	}
	if as.RoleID != "" {
		if _, err := find(r, identity.RoleTable, "role", as.RoleID); err != nil {
			return nil, err
		}
	}
	return as, nil
}

func noGrant(as *identity.Assignment) error {
	where := "system"
	if as.Scope.ID != "" {
		where = as.Scope.ID
	}
	return fail(http.StatusNotFound, "Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s.",
		as.RoleID, as.ActorID, where)
}

func listGrants(c *call) error {
	var rows []*identity.Role
	err := c.api.st.View(c, func(r store.Read) error {
		as, err := c.grantOf(r)
		if err != nil {
			return err
		}
		for g := range store.Find(r, identity.AssignmentTable, "grant", identity.GrantKey(as.Actor, as.ActorID, as.Scope)) {
			if role, ok := store.Get(r, identity.RoleTable, g.RoleID); ok {
				rows = append(rows, role)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return roles.answerList(c, rows)
}

func checkGrant(c *call) error {
	err := c.api.st.View(c, func(r store.Read) error {
		as, err := c.grantOf(r)
		if err != nil {
			return err
		}
		if _, ok := store.Get(r, identity.AssignmentTable, as.Key()); !ok {
			return noGrant(as)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}

func putGrant(c *call) error {
	_, err := c.api.st.Update(c, func(tx store.Tx) error {
		as, err := c.grantOf(tx)
		if err != nil {
			return err
		}
		if _, ok := store.Get(tx, identity.AssignmentTable, as.Key()); !ok {
			store.Put(tx, identity.AssignmentTable, as)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}

func deleteGrant(c *call) error {
	_, err := c.api.st.Update(c, func(tx store.Tx) error {
		as, err := c.grantOf(tx)
		if err != nil {
			return err
		}
		if !store.Delete(tx, identity.AssignmentTable, as.Key()) {
			return noGrant(as)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusNoContent, nil)
}

// entry is one line of a role assignment list: an assignment, or with ?effective what follows from one.
type entry struct {
	identity.Assignment
	group string // the group it came through
	prior string // the role that implies it
}

// assignmentQuery is what GET /v3/role_assignments asks for.
type assignmentQuery struct {
	user, group, role string
	scope             *identity.Scope
	effective, names  bool
}

func readAssignmentQuery(q url.Values) (assignmentQuery, error) {
	flag := func(name string) bool { return q.Has(name) && truth(q.Get(name)) }
	f := assignmentQuery{
		user: q.Get("user.id"), group: q.Get("group.id"), role: q.Get("role.id"),
		effective: flag("effective"), names: flag("include_names"),
	}
	scopes := 0
	for name, kind := range map[string]identity.ScopeKind{
		"scope.project.id": identity.ScopeProject, "scope.domain.id": identity.ScopeDomain, "scope.system": identity.ScopeSystem,
	} {
		if v := q.Get(name); v != "" {
			scopes++
			f.scope = &identity.Scope{Kind: kind, ID: v}
			if kind == identity.ScopeSystem {
				f.scope.ID = ""
			}
		}
	}
	switch {
	case f.user != "" && f.group != "":
		return f, badRequest("Specify a user or group, not both")
	case scopes > 1:
		return f, badRequest("Specify a domain or project, not both")
	case f.effective && f.group != "":
		return f, badRequest("Combining effective and group filter will always result in an empty list.")
	case flag("include_subtree") || q.Has("scope.OS-INHERIT:inherited_to"):
		return f, badRequest("Inherited role assignments are not supported.")
	}
	return f, nil
}

// candidates are the assignments among which the answer is, by the narrowest index.
func (f assignmentQuery) candidates(r store.Read) []*identity.Assignment {
	switch {
	case f.scope != nil:
		return slices.Collect(store.Find(r, identity.AssignmentTable, "scope", f.scope.String()))
	case f.group != "":
		return slices.Collect(store.Find(r, identity.AssignmentTable, "actor", identity.ActorKey(identity.ActorGroup, f.group)))
	case f.user != "":
		all := slices.Collect(store.Find(r, identity.AssignmentTable, "actor", identity.ActorKey(identity.ActorUser, f.user)))
		if f.effective {
			for m := range store.Find(r, identity.MembershipTable, "user", f.user) {
				all = slices.AppendSeq(all, store.Find(r, identity.AssignmentTable, "actor", identity.ActorKey(identity.ActorGroup, m.GroupID)))
			}
		}
		return all
	case f.role != "" && !f.effective:
		return slices.Collect(store.Find(r, identity.AssignmentTable, "role", f.role))
	}
	return slices.Collect(store.All(r, identity.AssignmentTable))
}

// entries lists what the query asks for.  An effective list names no group and no role twice.
func (f assignmentQuery) entries(r store.Read) []entry {
	var out []entry
	seen := map[string]bool{}
	add := func(e entry) {
		if f.user != "" && (e.Actor != identity.ActorUser || e.ActorID != f.user) ||
			f.group != "" && (e.Actor != identity.ActorGroup || e.ActorID != f.group) ||
			f.role != "" && e.RoleID != f.role || seen[e.Key()] {
			return
		}
		seen[e.Key()] = true
		out = append(out, e)
	}
	for _, as := range f.candidates(r) {
		if !f.effective {
			add(entry{Assignment: *as})
			continue
		}
		actors := []entry{{Assignment: *as}}
		if as.Actor == identity.ActorGroup {
			actors = nil
			for m := range store.Find(r, identity.MembershipTable, "group", as.ActorID) {
				e := entry{Assignment: *as, group: as.ActorID}
				e.Actor, e.ActorID = identity.ActorUser, m.UserID
				actors = append(actors, e)
			}
		}
		for _, e := range actors {
			add(e)
			for _, role := range identity.Expand(r, []string{as.RoleID}) {
				if role.ID != as.RoleID {
					implied := e
					implied.RoleID, implied.prior = role.ID, as.RoleID
					add(implied)
				}
			}
		}
	}
	return out
}

func listAssignments(c *call) error {
	f, err := readAssignmentQuery(c.r.URL.Query())
	if err != nil {
		return err
	}
	items := []any{}
	err = c.api.st.View(c, func(r store.Read) error {
		for _, e := range f.entries(r) {
			items = append(items, c.showEntry(r, e, f.names))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"role_assignments": items, "links": c.links()})
}

func (c *call) showEntry(r store.Read, e entry, names bool) map[string]any {
	role := map[string]any{"id": e.RoleID}
	actor := map[string]any{"id": e.ActorID}
	target := map[string]any{"id": e.Scope.ID}
	if names {
		if row, ok := store.Get(r, identity.RoleTable, e.RoleID); ok {
			role["name"] = row.Name
		}
		nameActor(r, e, actor)
		nameTarget(r, e.Scope, target)
	}
	path, scope := "/v3/system", map[string]any{"system": map[string]any{"all": true}}
	switch e.Scope.Kind {
	case identity.ScopeProject:
		path, scope = "/v3/projects/"+e.Scope.ID, map[string]any{"project": target}
	case identity.ScopeDomain:
		path, scope = "/v3/domains/"+e.Scope.ID, map[string]any{"domain": target}
	}
	links := map[string]any{}
	from := e.Assignment
	if e.group != "" {
		from.Actor, from.ActorID = identity.ActorGroup, e.group
		links["membership"] = c.base + "/v3/groups/" + e.group + "/users/" + e.ActorID
	}
	if e.prior != "" {
		from.RoleID = e.prior
		links["prior_role"] = c.base + "/v3/prior_role/" + e.prior + "/implies/" + e.RoleID
	}
	links["assignment"] = c.base + path + "/" + from.Actor + "s/" + from.ActorID + "/roles/" + from.RoleID
	return map[string]any{"role": role, e.Actor: actor, "scope": scope, "links": links}
}

func nameActor(r store.Read, e entry, actor map[string]any) {
	domain := ""
	if e.Actor == identity.ActorUser {
		if u, ok := store.Get(r, identity.UserTable, e.ActorID); ok {
			actor["name"], domain = u.Name, u.DomainID
		}
	} else if g, ok := store.Get(r, identity.GroupTable, e.ActorID); ok {
		actor["name"], domain = g.Name, g.DomainID
	}
	if d, ok := store.Get(r, identity.DomainTable, domain); ok {
		actor["domain"] = domainRef(d)
	}
}

func nameTarget(r store.Read, s identity.Scope, target map[string]any) {
	switch s.Kind {
	case identity.ScopeProject:
		if p, ok := store.Get(r, identity.ProjectTable, s.ID); ok {
			target["name"] = p.Name
			if d, ok := store.Get(r, identity.DomainTable, p.DomainID); ok {
				target["domain"] = domainRef(d)
			}
		}
	case identity.ScopeDomain:
		if d, ok := store.Get(r, identity.DomainTable, s.ID); ok {
			target["name"] = d.Name
		}
	}
}

func domainRef(d *identity.Domain) map[string]any {
	return map[string]any{"id": d.ID, "name": d.Name}
}
