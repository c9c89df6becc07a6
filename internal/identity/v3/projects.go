package v3

import (
	"net/http"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/store"
)

var projectAttrs = []attr{
	{name: "name", required: true, check: name(64)},
	{name: "domain_id", check: orNull(name(64))},
	{name: "parent_id", check: orNull(name(64))},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "enabled", check: boolean},
	{name: "is_domain", check: boolean},
	{name: "tags", check: tags},
	{name: "options", check: object},
}

var projects = &kind[identity.Project]{
	one: "project", many: "projects", path: "/v3/projects", param: "project",
	table: identity.ProjectTable,
	attrs: projectAttrs,
	see: func(c *call) bool {
		id := c.r.PathValue("project")
		if overseer(c) || c.s.ProjectID == id {
			return true
		}
		return len(identity.RolesOf(c.api.st.Snapshot(), c.s.UserID, identity.Scope{Kind: identity.ScopeProject, ID: id})) > 0
	},
	build: func(c *call, in body) (*identity.Project, error) {
		if in.flag("is_domain", false) {
			return nil, badRequest("A project cannot act as a domain here. Create a domain with POST /v3/domains.")
		}
		row := &identity.Project{ID: identity.NewID(), Enabled: true, ParentID: in.str("parent_id")}
		row.DomainID = in.str("domain_id") // check fills it from the parent
		if row.DomainID == "" && row.ParentID == "" {
			row.DomainID = c.homeDomain(in)
		}
		return row, setProject(row, in)
	},
	patch: func(row *identity.Project, in body) error {
		if err := fixed(in, "domain_id", row.DomainID, "Domain ID"); err != nil {
			return err
		}
		if in.has("parent_id") && in.str("parent_id") != row.ParentID {
			return forbidden("Update of `parent_id` is not allowed.")
		}
		if in.flag("is_domain", false) {
			return badRequest("Update of `is_domain` is not allowed.")
		}
		was := row.Enabled
		err := setProject(row, in)
		if was && !row.Enabled {
			row.Epoch++
		}
		return err
	},
	check: func(tx store.Tx, _ body, row, old *identity.Project) error {
		if old != nil {
			return nil
		}
		if row.ParentID != "" && row.ParentID != row.DomainID {
			if parent, ok := store.Get(tx, identity.ProjectTable, row.ParentID); ok {
				if row.DomainID != "" && row.DomainID != parent.DomainID {
					return badRequest("Cannot create project, the parent (%s) does not belong to the same domain.", clip(row.ParentID))
				}
				row.DomainID = parent.DomainID
			} else if _, ok := store.Get(tx, identity.DomainTable, row.ParentID); ok && row.DomainID == "" {
				row.DomainID = row.ParentID
			} else {
				return notFound("project", row.ParentID)
			}
		}
		if row.ParentID == "" {
			row.ParentID = row.DomainID
		}
		return domainExists(tx, row.DomainID)
	},
	clear: func(tx store.Tx, p *identity.Project) error {
		for range store.Find(tx, identity.ProjectTable, "parent", p.ID) {
			return forbidden("Cannot delete the project %s since it is not a leaf in the hierarchy.", p.ID)
		}
		emptyProject(tx, p)
		return nil
	},
	show: func(p *identity.Project) map[string]any {
		return withExtra(map[string]any{
			"id": p.ID, "name": p.Name, "domain_id": p.DomainID, "parent_id": p.ParentID, "description": p.Description,
			"enabled": p.Enabled, "is_domain": false, "tags": orNone(p.Tags), "options": orEmpty(p.Options),
		}, p.Extra)
	},
	taken: func(p *identity.Project) string {
		return "it is not permitted to have two projects with the same name in the same domain : " + p.Name
	},
	filters: map[string]func(*identity.Project) string{
		"name":      func(p *identity.Project) string { return p.Name },
		"domain_id": func(p *identity.Project) string { return p.DomainID },
		"parent_id": func(p *identity.Project) string { return p.ParentID },
		"enabled":   func(p *identity.Project) string { return yes(p.Enabled) },
		"is_domain": func(*identity.Project) string { return yes(false) },
	},
	keep: keepTagged,
}

func setProject(row *identity.Project, in body) (err error) {
	in.set("name", &row.Name)
	in.set("description", &row.Description)
	row.Enabled = in.flag("enabled", row.Enabled)
	if in.has("tags") {
		row.Tags = in.list("tags")
	}
	setOptions(in, &row.Options)
	row.Extra, err = in.extra(projectAttrs, row.Extra)
	return err
}

// keepTagged applies the tag filters: all of tags, any of tags-any, and their negations.
func keepTagged(c *call, p *identity.Project) bool {
	if !strings.Contains(c.r.URL.RawQuery, "tags") {
		return true
	}
	q := c.r.URL.Query()
	has := func(param string, all bool) bool {
		wanted := strings.Split(q.Get(param), ",")
		n := 0
		for _, t := range wanted {
			if slices.Contains(p.Tags, t) {
				n++
			}
		}
		return n > 0 && (!all || n == len(wanted))
	}
	return (!q.Has("tags") || has("tags", true)) && (!q.Has("tags-any") || has("tags-any", false)) &&
		!(q.Has("not-tags") && has("not-tags", true)) && !(q.Has("not-tags-any") && has("not-tags-any", false))
}

// emptyProject removes what only means something with the project.
func emptyProject(tx store.Tx, p *identity.Project) {
	drop(tx, identity.AssignmentTable, "scope", identity.Scope{Kind: identity.ScopeProject, ID: p.ID}.String())
	drop(tx, identity.AppCredentialTable, "project", p.ID)
	var users []*identity.User
	for u := range store.Find(tx, identity.UserTable, "default_project", p.ID) {
		users = append(users, u)
	}
	for _, u := range users {
		row := *u
		row.DefaultProjectID = ""
		store.Put(tx, identity.UserTable, &row)
	}
}

// mountTags adds the calls for the tags of a project.
func mountTags(a *API) {
	const path = "/v3/projects/{project}/tags"
	a.handle("GET "+path, "identity:list_project_tags", projects.see, func(c *call) error {
		p, err := c.project()
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, map[string]any{"tags": orNone(p.Tags), "links": c.links()})
	})
	a.handle("GET "+path+"/{tag}", "identity:get_project_tag", projects.see, func(c *call) error {
		p, err := c.project()
		if err != nil {
			return err
		}
		if t := c.r.PathValue("tag"); !slices.Contains(p.Tags, t) {
			return notFound("project tag", t)
		}
		return c.reply(http.StatusNoContent, nil)
	})
	a.handle("PUT "+path, "identity:update_project_tags", admin, func(c *call) error {
		doc, err := c.document()
		if err != nil {
			return err
		}
		if wrong := tags(doc["tags"]); wrong != "" {
			return badRequest("Invalid input for field 'tags': %s", wrong)
		}
		list := doc.list("tags")
		if err := c.retag(func([]string) ([]string, error) { return list, nil }); err != nil {
			return err
		}
		return c.reply(http.StatusOK, map[string]any{"tags": orNone(list), "links": c.links()})
	})
	a.handle("DELETE "+path, "identity:delete_project_tags", admin, func(c *call) error {
		if err := c.retag(func([]string) ([]string, error) { return nil, nil }); err != nil {
			return err
		}
		return c.reply(http.StatusNoContent, nil)
	})
	a.handle("PUT "+path+"/{tag}", "identity:create_project_tag", admin, func(c *call) error {
		t := c.r.PathValue("tag")
		if wrong := tag(t); wrong != "" {
			return badRequest("Invalid input for field 'tag': %s", wrong)
		}
		err := c.retag(func(have []string) ([]string, error) {
			if slices.Contains(have, t) {
				return have, nil
			}
			if len(have) >= maxTags {
				return nil, badRequest("Invalid input for field 'tags': at most %d tags are allowed", maxTags)
			}
			return append(slices.Clone(have), t), nil
		})
		if err != nil {
			return err
		}
		c.w.Header().Set("Location", c.base+c.r.URL.Path)
		return c.reply(http.StatusCreated, nil)
	})
	a.handle("DELETE "+path+"/{tag}", "identity:delete_project_tag", admin, func(c *call) error {
		t := c.r.PathValue("tag")
		err := c.retag(func(have []string) ([]string, error) {
			i := slices.Index(have, t)
			if i < 0 {
				return nil, notFound("project tag", t)
			}
			return slices.Delete(slices.Clone(have), i, i+1), nil
		})
		if err != nil {
			return err
		}
		return c.reply(http.StatusNoContent, nil)
	})
}

// project is the project of the path.
func (c *call) project() (p *identity.Project, err error) {
	verr := c.api.st.View(c, func(r store.Read) error {
		p, err = find(r, identity.ProjectTable, "project", c.r.PathValue("project"))
		return nil
	})
	if verr != nil {
		return nil, verr
	}
	return p, err
}

// retag changes the tags of the project of the path.
func (c *call) retag(f func(have []string) ([]string, error)) error {
	_, err := c.api.st.Update(c, func(tx store.Tx) error {
		p, err := find(tx, identity.ProjectTable, "project", c.r.PathValue("project"))
		if err != nil {
			return err
		}
		row := *p
		if row.Tags, err = f(p.Tags); err != nil {
			return err
		}
		store.Put(tx, identity.ProjectTable, &row)
		return nil
	})
	return err
}
