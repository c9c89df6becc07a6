package v3

import (
	"cmp"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/store"
)

var serviceAttrs = []attr{
	{name: "type", required: true, check: name(255)},
	{name: "name", check: orNull(text(0, 255))},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "enabled", check: boolean},
}

var services = &kind[identity.CatalogService]{
	one: "service", many: "services", path: "/v3/services", param: "service",
	table: identity.CatalogServiceTable,
	attrs: serviceAttrs,
	build: func(_ *call, in body) (*identity.CatalogService, error) {
		row := &identity.CatalogService{ID: identity.NewID(), Enabled: true}
		return row, setService(row, in)
	},
	patch: setService,
	clear: func(tx store.Tx, s *identity.CatalogService) error {
		drop(tx, identity.EndpointTable, "service", s.ID)
		return nil
	},
	show: func(s *identity.CatalogService) map[string]any {
		return withExtra(map[string]any{
			"id": s.ID, "type": s.Type, "name": s.Name, "description": s.Description, "enabled": s.Enabled,
		}, s.Extra)
	},
	taken: func(s *identity.CatalogService) string { return "Duplicate ID, " + s.ID },
	filters: map[string]func(*identity.CatalogService) string{
		"type": func(s *identity.CatalogService) string { return s.Type },
		"name": func(s *identity.CatalogService) string { return s.Name },
	},
}

func setService(row *identity.CatalogService, in body) (err error) {
	in.set("type", &row.Type)
	in.set("name", &row.Name)
	in.set("description", &row.Description)
	row.Enabled = in.flag("enabled", row.Enabled)
	row.Extra, err = in.extra(serviceAttrs, row.Extra)
	return err
}

var endpointAttrs = []attr{
	{name: "service_id", required: true, check: name(64)},
	{name: "interface", required: true, check: oneOf("public", "internal", "admin")},
	{name: "url", required: true, check: webURL},
	{name: "region_id", check: orNull(regionID)},
	{name: "region", check: orNull(regionID)},
	{name: "name", check: orNull(text(0, 255))},
	{name: "enabled", check: boolean},
}

var endpoints = &kind[identity.Endpoint]{
	one: "endpoint", many: "endpoints", path: "/v3/endpoints", param: "endpoint",
	table: identity.EndpointTable,
	attrs: endpointAttrs,
	build: func(_ *call, in body) (*identity.Endpoint, error) {
		row := &identity.Endpoint{ID: identity.NewID(), Enabled: true}
		return row, setEndpoint(row, in)
	},
	patch: setEndpoint,
	check: func(tx store.Tx, in body, row, _ *identity.Endpoint) error {
		if _, ok := store.Get(tx, identity.CatalogServiceTable, row.ServiceID); !ok {
			return badRequest("Expecting to find endpoint service_id in service table. %s", malformed)
		}
		if row.RegionID == "" {
			return nil
		}
		if _, ok := store.Get(tx, identity.RegionTable, row.RegionID); ok {
			return nil
		}
		if in.str("region_id") != "" || in.str("region") == "" {
			return badRequest("Expecting to find endpoint region_id in region table. %s", malformed)
		}
		// The older attribute, which the openstack command still sends, creates its region.
		store.Put(tx, identity.RegionTable, &identity.Region{ID: row.RegionID})
		return nil
	},
	show: func(e *identity.Endpoint) map[string]any {
		out := map[string]any{
			"id": e.ID, "service_id": e.ServiceID, "interface": e.Interface, "url": e.URL, "enabled": e.Enabled,
			"region": none(e.RegionID), "region_id": none(e.RegionID),
		}
		if e.Name != "" {
			out["name"] = e.Name
		}
		return withExtra(out, e.Extra)
	},
	taken: func(e *identity.Endpoint) string { return "Duplicate ID, " + e.ID },
	filters: map[string]func(*identity.Endpoint) string{
		"service_id": func(e *identity.Endpoint) string { return e.ServiceID },
		"interface":  func(e *identity.Endpoint) string { return e.Interface },
		"region_id":  func(e *identity.Endpoint) string { return e.RegionID },
		"region":     func(e *identity.Endpoint) string { return e.RegionID },
	},
}

func setEndpoint(row *identity.Endpoint, in body) (err error) {
	in.set("service_id", &row.ServiceID)
	in.set("interface", &row.Interface)
	in.set("url", &row.URL)
	in.set("name", &row.Name)
	in.set("region", &row.RegionID)
	in.set("region_id", &row.RegionID)
	row.Enabled = in.flag("enabled", row.Enabled)
	row.Extra, err = in.extra(endpointAttrs, row.Extra)
	return err
}

var regionAttrs = []attr{
	{name: "id", check: regionID},
	{name: "description", check: orNull(text(0, 4096))},
	{name: "parent_region_id", check: orNull(regionID)},
}

// regionID accepts what can stand in a path.
func regionID(v any) string {
	if wrong := name(255)(v); wrong != "" {
		return wrong
	}
	if s := v.(string); strings.Contains(s, "/") || s == "." || s == ".." {
		return show(v) + " must not contain a slash"
	}
	return ""
}

var regions = &kind[identity.Region]{
	one: "region", many: "regions", path: "/v3/regions", param: "region",
	table: identity.RegionTable,
	attrs: regionAttrs,
	see:   anyUser,
	build: func(_ *call, in body) (*identity.Region, error) {
		row := &identity.Region{ID: in.str("id")}
		if row.ID == "" {
			row.ID = identity.NewID()
		}
		return row, setRegion(row, in)
	},
	patch: setRegion,
	check: func(tx store.Tx, _ body, row, _ *identity.Region) error {
		for id := row.ParentID; id != ""; {
			if id == row.ID {
				return badRequest("The specified parent region %s would create a circular region hierarchy.", row.ParentID)
			}
			parent, err := find(tx, identity.RegionTable, "region", id)
			if err != nil {
				return err
			}
			id = parent.ParentID
		}
		return nil
	},
	clear: func(tx store.Tx, r *identity.Region) error {
		for range store.Find(tx, identity.EndpointTable, "region", r.ID) {
			return forbidden("Unable to delete region %s because it or its child regions have associated endpoints.", r.ID)
		}
		for range store.Find(tx, identity.RegionTable, "parent", r.ID) {
			return forbidden("Unable to delete region %s because it has child regions.", r.ID)
		}
		return nil
	},
	show: func(r *identity.Region) map[string]any {
		return withExtra(map[string]any{"id": r.ID, "description": r.Description, "parent_region_id": none(r.ParentID)}, r.Extra)
	},
	taken:   func(r *identity.Region) string { return "Duplicate ID, " + r.ID },
	filters: map[string]func(*identity.Region) string{"parent_region_id": func(r *identity.Region) string { return r.ParentID }},
}

func setRegion(row *identity.Region, in body) (err error) {
	in.set("description", &row.Description)
	in.set("parent_region_id", &row.ParentID)
	row.Extra, err = in.extra(regionAttrs, row.Extra)
	return err
}

// catalog is the service catalog as one token sees it.
func catalog(r store.Read, s *identity.Session) []any {
	values := map[string]string{"user_id": s.UserID}
	if s.ProjectID != "" {
		values["project_id"], values["tenant_id"] = s.ProjectID, s.ProjectID
	}
	rows := slices.SortedFunc(store.All(r, identity.CatalogServiceTable), func(a, b *identity.CatalogService) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
	})
	out := []any{}
	for _, row := range rows {
		if !row.Enabled {
			continue
		}
		eps := []any{}
		for e := range store.Find(r, identity.EndpointTable, "service", row.ID) {
			u := substitute(e.URL, values)
			if !e.Enabled || u == "" {
				continue
			}
			eps = append(eps, map[string]any{
				"id": e.ID, "interface": e.Interface, "region": none(e.RegionID), "region_id": none(e.RegionID), "url": u,
			})
		}
		out = append(out, map[string]any{"id": row.ID, "type": row.Type, "name": row.Name, "endpoints": eps})
	}
	return out
}

// substitute fills $(name)s and %(name)s in an endpoint's URL.  A nil-valued map only takes them out; a name without a value makes
// the URL empty: this token has no use for it.
func substitute(u string, values map[string]string) string {
	if !strings.Contains(u, "(") {
		return u
	}
	for _, name := range []string{"project_id", "tenant_id", "user_id"} {
		v, ok := values[name]
		for _, form := range []string{"$(" + name + ")s", "%(" + name + ")s"} {
			if !strings.Contains(u, form) {
				continue
			}
			if !ok && len(values) > 0 {
				return ""
			}
			u = strings.ReplaceAll(u, form, v)
		}
	}
	return u
}
