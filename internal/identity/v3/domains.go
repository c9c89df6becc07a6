package v3

import (
	"baryon/internal/identity"
	"baryon/internal/store"
)

var domainAttrs = []attr{
	{name: "name", required: true, check: name(64)},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "enabled", check: boolean},
	{name: "tags", check: tags},
	{name: "options", check: object},
}

var domains = &kind[identity.Domain]{
	one: "domain", many: "domains", path: "/v3/domains", param: "domain",
	table: identity.DomainTable,
	attrs: domainAttrs,
	see: func(c *call) bool {
		id := c.r.PathValue("domain")
		return overseer(c) || c.s.UserDomain.ID == id || c.s.Domain != nil && c.s.Domain.ID == id
	},
	build: func(_ *call, in body) (*identity.Domain, error) {
		row := &identity.Domain{ID: identity.NewID(), Enabled: true}
		return row, patchDomain(row, in)
	},
	patch: func(row *identity.Domain, in body) error {
		was := row.Enabled
		err := patchDomain(row, in)
		if was && !row.Enabled {
			row.Epoch++
		}
		return err
	},
	clear: clearDomain,
	show: func(d *identity.Domain) map[string]any {
		return withExtra(map[string]any{
			"id": d.ID, "name": d.Name, "description": d.Description, "enabled": d.Enabled,
			"tags": orNone(d.Tags), "options": orEmpty(d.Options),
		}, d.Extra)
	},
	taken: func(d *identity.Domain) string { return "Duplicate entry found with name " + d.Name },
	filters: map[string]func(*identity.Domain) string{
		"name":    func(d *identity.Domain) string { return d.Name },
		"enabled": func(d *identity.Domain) string { return yes(d.Enabled) },
	},
}

func patchDomain(row *identity.Domain, in body) (err error) {
	in.set("name", &row.Name)
	in.set("description", &row.Description)
	row.Enabled = in.flag("enabled", row.Enabled)
	if in.has("tags") {
		row.Tags = in.list("tags")
	}
	setOptions(in, &row.Options)
	row.Extra, err = in.extra(domainAttrs, row.Extra)
	return err
}

// setOptions merges options; null removes one.
func setOptions(in body, to *map[string]any) {
	given, ok := in["options"].(map[string]any)
	if !ok {
		return
	}
	merged := map[string]any{}
	for k, v := range *to {
		merged[k] = v
	}
	for k, v := range given {
		if v == nil {
			delete(merged, k)
		} else {
			merged[k] = v
		}
	}
	*to = merged
}

// clearDomain removes what a domain holds.  Only a disabled one can go, so that nobody deletes a living cloud by one call.
func clearDomain(tx store.Tx, d *identity.Domain) error {
	if d.ID == identity.DefaultDomainID {
		return notAllowed("delete the default domain")
	}
	if d.Enabled {
		return forbidden("Cannot delete a domain that is enabled, please disable it first.")
	}
	var users []*identity.User
	for u := range store.Find(tx, identity.UserTable, "domain", d.ID) {
		users = append(users, u)
	}
	for _, u := range users {
		clearUser(tx, u)
		store.Delete(tx, identity.UserTable, u.ID)
	}
	var groups []*identity.Group
	for g := range store.Find(tx, identity.GroupTable, "domain", d.ID) {
		groups = append(groups, g)
	}
	for _, g := range groups {
		clearGroup(tx, g)
		store.Delete(tx, identity.GroupTable, g.ID)
	}
	var projects []*identity.Project
	for p := range store.Find(tx, identity.ProjectTable, "domain", d.ID) {
		projects = append(projects, p)
	}
	for _, p := range projects {
		emptyProject(tx, p)
		store.Delete(tx, identity.ProjectTable, p.ID)
	}
	drop(tx, identity.AssignmentTable, "scope", identity.Scope{Kind: identity.ScopeDomain, ID: d.ID}.String())
	return nil
}
