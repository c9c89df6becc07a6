package v3_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baryon/internal/identity"
)

func TestVersions(t *testing.T) {
	c := newCloud(t)
	for _, tc := range []struct {
		path, self string
		headers    []string
		code       int
	}{
		{"/", c.srv.URL + "/v3/", nil, 300},
		{"/v3", c.srv.URL + "/v3/", nil, 200},
		{"/v3/", c.srv.URL + "/v3/", nil, 200},
		{"/identity", c.srv.URL + "/identity/v3/", nil, 300},
		{"/identity/v3", c.srv.URL + "/identity/v3/", nil, 200},
		{"/v3", "https://api.example.org/id/v3/", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.org", "X-Forwarded-Prefix", "/id/"}, 200},
		{"/v3", c.srv.URL + "/v3/", []string{"X-Forwarded-Proto", "javascript", "X-Forwarded-Host", "a/b", "X-Forwarded-Prefix", "/../x"}, 200},
	} {
		a := c.must(tc.code, "", "GET", tc.path, nil, tc.headers...)
		v := a.at("version")
		if tc.code == 300 {
			v = a.at("versions", "values").([]any)[0]
		}
		doc := v.(obj)
		if href := doc["links"].([]any)[0].(obj)["href"]; href != tc.self || doc["id"] != "v3.14" || doc["status"] != "stable" {
			t.Errorf("%s: %s", tc.path, a.raw)
		}
		if !strings.HasPrefix(a.header.Get("X-Openstack-Request-Id"), "req-") || a.header.Get("Vary") != "X-Auth-Token" {
			t.Errorf("%s: headers %v", tc.path, a.header)
		}
	}
}

func TestRouting(t *testing.T) {
	c := newCloud(t)
	for _, tc := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/v2.0", 404}, {"GET", "/v3/nothing", 404}, {"GET", "/v3//users", 404}, {"GET", "/v3/users/..", 404}, {"GET", "/v3/users/%2e%2e", 404},
		{"PUT", "/v3/users", 405}, {"DELETE", "/v3/users", 405}, {"POST", "/v3/users/x", 405}, {"PATCH", "/v3/auth/tokens", 405}, {"POST", "/", 405},
		{"GET", "/v3/users/a%2Fb", 404}, {"GET", "/v3/projects/%F0%9F%90%B3", 404}, {"GET", "/v3/users/", 200}, {"HEAD", "/v3/users", 200}, {"GET", "/v3/credentials", 404},
	} {
		a := c.must(tc.code, c.admin, tc.method, tc.path, nil)
		if tc.code >= 400 && (a.at("error", "code") != float64(tc.code) || a.str("error", "title") == "" || a.str("error", "message") == "") {
			t.Errorf("%s %s: body %s", tc.method, tc.path, a.raw)
		}
		if tc.code == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tc.method, tc.path)
		}
	}
}

func TestTokenBodies(t *testing.T) {
	c := newCloud(t)
	a := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("admin", adminPassword, projectScope("admin")))
	token := a.header.Get("X-Subject-Token")
	tok := a.at("token").(obj)
	want := []string{"audit_ids", "catalog", "expires_at", "is_domain", "issued_at", "methods", "project", "roles", "user"}
	if got := slices.Sorted(maps.Keys(tok)); !slices.Equal(got, want) {
		t.Errorf("members %v, want %v", got, want)
	}
	for _, k := range []string{"expires_at", "issued_at"} {
		if _, err := time.Parse("2006-01-02T15:04:05.000000Z", tok[k].(string)); err != nil {
			t.Error(err)
		}
	}
	if ids := tok["audit_ids"].([]any); len(ids) != 1 || len(ids[0].(string)) != 22 {
		t.Errorf("audit ids %v", ids)
	}
	user := tok["user"].(obj)
	if exp, there := user["password_expires_at"]; !there || exp != nil || user["domain"].(obj)["name"] != "Default" || user["name"] != "admin" {
		t.Errorf("user %v", user)
	}
	if n := len(token); n > 255 {
		t.Errorf("token of %d characters", n)
	}
	got := c.must(200, token, "GET", "/v3/auth/tokens", nil, "X-Subject-Token", token)
	if got.raw != a.raw || got.header.Get("X-Subject-Token") != token {
		t.Errorf("shown:\n%s\nissued:\n%s", got.raw, a.raw)
	}
	if h := c.must(200, token, "HEAD", "/v3/auth/tokens", nil, "X-Subject-Token", token); h.raw != "" || h.header.Get("X-Subject-Token") != token {
		t.Errorf("HEAD: %v %q", h.header, h.raw)
	}
	if n := c.must(201, "", "POST", "/v3/auth/tokens?nocatalog", passwordAuth("admin", adminPassword, projectScope("admin"))); n.at("token", "catalog") != nil || n.at("token", "roles") == nil {
		t.Errorf("nocatalog: %s", n.raw)
	}
	un := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("admin", adminPassword, "unscoped"))
	if un.at("token", "roles") != nil || un.at("token", "catalog") != nil || un.at("token", "project") != nil {
		t.Errorf("unscoped: %s", un.raw)
	}
	sys := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("admin", adminPassword, obj{"system": obj{"all": true}}))
	if sys.at("token", "system", "all") != true || sys.at("token", "catalog") == nil {
		t.Errorf("system: %s", sys.raw)
	}
	re := c.must(201, "", "POST", "/v3/auth/tokens", obj{"auth": obj{"identity": obj{"methods": []string{"token"}, "token": obj{"id": un.header.Get("X-Subject-Token")}}, "scope": projectScope("admin")}})
	if re.str("token", "expires_at") != un.str("token", "expires_at") || len(re.at("token", "audit_ids").([]any)) != 2 || len(re.at("token", "methods").([]any)) != 2 {
		t.Errorf("rescoped: %s", re.raw)
	}
	for path, member := range map[string]string{"/v3/auth/catalog": "catalog", "/v3/auth/projects": "projects", "/v3/auth/domains": "domains", "/v3/auth/system": "system"} {
		if _, ok := c.must(200, un.header.Get("X-Subject-Token"), "GET", path, nil).at(member).([]any); !ok {
			t.Errorf("%s has no list %s", path, member)
		}
	}
}

func TestTokenRights(t *testing.T) {
	c := newCloud(t)
	c.tenant("a", "member")
	c.tenant("b", "member")
	c.tenant("svc", "service")
	a, b, svc := c.login("a", "pw-a", "a"), c.login("b", "pw-b", "b"), c.login("svc", "pw-svc", "svc")
	a2 := c.login("a", "pw-a", "a")
	for _, tc := range []struct {
		name, method, caller, subject string
		code                          int
	}{
		{"self", "GET", a, a, 200}, {"own other token", "GET", a, a2, 200}, {"foreign", "GET", a, b, 403}, {"foreign garbage", "GET", a, "x", 403},
		{"service looks", "GET", svc, a, 200}, {"service looks at garbage", "GET", svc, "x", 404}, {"admin looks", "GET", c.admin, b, 200},
		{"garbage", "GET", c.admin, "x", 404}, {"no caller", "GET", "", a, 401}, {"bad caller", "GET", "x", a, 401}, {"no subject", "GET", a, "", 400},
		{"foreign revoke", "DELETE", a, b, 403}, {"service revokes", "DELETE", svc, a, 403},
		{"own revoke", "DELETE", a, a2, 204}, {"gone", "GET", c.admin, a2, 404}, {"gone as caller", "GET", a2, a2, 401}, {"admin revokes", "DELETE", c.admin, b, 204}, {"b is out", "GET", b, b, 401},
	} {
		ans := c.do(tc.caller, tc.method, "/v3/auth/tokens", nil, "X-Subject-Token", tc.subject)
		if ans.code != tc.code {
			t.Errorf("%s: %d, want %d: %s", tc.name, ans.code, tc.code, ans.raw)
		}
		if tc.code == 401 && ans.header.Get("WWW-Authenticate") != `Keystone uri="`+c.srv.URL+`"` {
			t.Errorf("%s: WWW-Authenticate %q", tc.name, ans.header.Get("WWW-Authenticate"))
		}
	}
	c.clock.add(time.Hour + time.Second)
	svc2, admin2 := c.login("svc", "pw-svc", "svc"), c.login("admin", adminPassword, "admin")
	for _, caller := range []string{svc2, admin2} {
		c.must(404, caller, "GET", "/v3/auth/tokens", nil, "X-Subject-Token", a)
		c.must(200, caller, "GET", "/v3/auth/tokens?allow_expired=1", nil, "X-Subject-Token", a)
	}
}

func TestBadLogins(t *testing.T) {
	c := newCloud(t)
	pw := func(user any) obj {
		return obj{"auth": obj{"identity": obj{"methods": []string{"password"}, "password": obj{"user": user}}}}
	}
	def := obj{"id": "default"}
	scoped := func(scope any) obj { return passwordAuth("admin", adminPassword, scope) }
	for _, tc := range []struct {
		name string
		body any
		code int
	}{
		{"empty", "", 400}, {"no JSON", "{", 400}, {"a list", "[]", 400}, {"two documents", "{}{}", 400}, {"deep", strings.Repeat(`{"a":`, 12000), 400},
		{"empty object", obj{}, 400}, {"auth is text", obj{"auth": "x"}, 400}, {"no identity", obj{"auth": obj{}}, 400},
		{"methods is text", obj{"auth": obj{"identity": obj{"methods": "password"}}}, 400}, {"no methods", obj{"auth": obj{"identity": obj{"methods": []any{}}}}, 400},
		{"method is number", obj{"auth": obj{"identity": obj{"methods": []any{1}}}}, 400}, {"totp", obj{"auth": obj{"identity": obj{"methods": []any{"totp"}, "totp": obj{}}}}, 401},
		{"no password part", obj{"auth": obj{"identity": obj{"methods": []any{"password"}}}}, 400}, {"no user", pw(nil), 400}, {"user is list", pw([]any{}), 400},
		{"no password", pw(obj{"name": "admin", "domain": def}), 400}, {"password is number", pw(obj{"name": "admin", "domain": def, "password": 1}), 400},
		{"no domain", pw(obj{"name": "admin", "password": "x"}), 400}, {"empty domain", pw(obj{"name": "admin", "domain": obj{}, "password": "x"}), 400}, {"id is number", pw(obj{"id": 5, "password": "x"}), 400},
		{"wrong password", pw(obj{"name": "admin", "domain": def, "password": "x"}), 401}, {"no such user", pw(obj{"id": "nobody", "password": "x"}), 401},
		{"no such domain", pw(obj{"name": "admin", "domain": obj{"name": "x"}, "password": adminPassword}), 401}, {"long password", pw(obj{"name": "admin", "domain": def, "password": strings.Repeat("x", 5000)}), 401},
		{"scope is number", scoped(7), 400}, {"two scopes", scoped(obj{"project": obj{"id": "x"}, "system": obj{"all": true}}), 400}, {"unknown scope", scoped(obj{"OS-TRUST:trust": obj{"id": "x"}}), 400},
		{"project without domain", scoped(obj{"project": obj{"name": "admin"}}), 400}, {"system without all", scoped(obj{"system": obj{}}), 400}, {"no such project", scoped(obj{"project": obj{"id": "x"}}), 401},
		{"no role on domain", scoped(obj{"domain": def}), 401}, {"token is number", obj{"auth": obj{"identity": obj{"methods": []any{"token"}, "token": obj{"id": 1}}}}, 400},
		{"bad token", obj{"auth": obj{"identity": obj{"methods": []any{"token"}, "token": obj{"id": "x"}}}}, 401},
		{"credential without secret", obj{"auth": obj{"identity": obj{"methods": []any{"application_credential"}, "application_credential": obj{"id": "x"}}}}, 400},
		{"bad credential", obj{"auth": obj{"identity": obj{"methods": []any{"application_credential"}, "application_credential": obj{"id": "x", "secret": "y"}}}}, 401},
		{"too large", obj{"auth": strings.Repeat("x", 120000)}, 413},
	} {
		a := c.do("", "POST", "/v3/auth/tokens", tc.body)
		if a.code != tc.code || a.at("error", "code") != float64(tc.code) {
			t.Errorf("%s: %d, want %d: %s", tc.name, a.code, tc.code, a.raw)
		}
		if tc.code == 401 && tc.name != "totp" && a.str("error", "message") != "The request you have made requires authentication." {
			t.Errorf("%s tells %q", tc.name, a.str("error", "message"))
		}
	}
	for range 12 {
		c.do("", "POST", "/v3/auth/tokens", pw(obj{"id": "guessed", "password": "x"}))
	}
	if a := c.must(429, "", "POST", "/v3/auth/tokens", pw(obj{"id": "guessed", "password": "x"})); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// statusCase is one resource and what it makes of good and bad input.
type statusCase struct {
	one, many string
	good      obj
	patch     obj
	unique    bool
	missing   string // of good
	bad       []obj  // changes that make good bad
}

// Each resource: every status it can answer, by the same steps.
func TestResourceStatuses(t *testing.T) {
	c := newCloud(t)
	c.tenant("plain", "member")
	member := c.login("plain", "pw-plain", "plain")
	svc := c.must(201, c.admin, "POST", "/v3/services", obj{"service": obj{"type": "image"}}).str("service", "id")
	for _, tc := range []statusCase{
		{"domain", "domains", obj{"name": "d1", "description": "x"}, obj{"enabled": false}, true, "name", []obj{{"name": ""}, {"name": nil}, {"name": 3}, {"name": "  "}, {"name": strings.Repeat("n", 65)}, {"enabled": "yes"}, {"tags": "x"}, {"options": 1}}},
		{"project", "projects", obj{"name": "p1", "tags": []string{"a"}}, obj{"description": "new", "enabled": false}, true, "name", []obj{{"name": "a\x00b"}, {"description": 4}, {"is_domain": true}, {"tags": []any{"a", "a"}}, {"tags": []any{"a,b"}}, {"big": strings.Repeat("x", 20000)}}},
		{"user", "users", obj{"name": "u1", "password": "x", "email": "a@b"}, obj{"email": "c@d", "enabled": false}, true, "name", []obj{{"password": 1}, {"password": strings.Repeat("x", 300)}, {"enabled": 1}, {"password_expires_at": "2030"}, {"federated": []any{}}}},
		{"group", "groups", obj{"name": "g1"}, obj{"description": "d"}, true, "name", []obj{{"name": []any{}}, {"description": obj{}}}},
		{"role", "roles", obj{"name": "r1"}, obj{"name": "r2"}, true, "name", []obj{{"name": 1}, {"domain_id": "default"}}},
		{"service", "services", obj{"type": "t1", "name": "n"}, obj{"enabled": false}, false, "type", []obj{{"type": 1}, {"type": ""}, {"enabled": nil}}},
		{"endpoint", "endpoints", obj{"service_id": svc, "interface": "public", "url": "http://h/"}, obj{"url": "https://h/$(project_id)s"}, false, "url", []obj{{"interface": "x"}, {"url": "h"}, {"url": "ftp://h"}, {"service_id": "none"}, {"region_id": "nowhere"}}},
		{"region", "regions", obj{"id": "r1"}, obj{"description": "d"}, true, "", []obj{{"id": "a/b"}, {"id": 1}, {"parent_region_id": 1}}},
	} {
		t.Run(tc.many, func(t *testing.T) { tc.run(t, c, member) })
	}
}

func (tc statusCase) run(t *testing.T, c *cloud, member string) {
	path := "/v3/" + tc.many
	body := func(change obj) obj {
		in := maps.Clone(tc.good)
		maps.Copy(in, change)
		return obj{tc.one: in}
	}
	forbidden := func(a answer, action string) {
		t.Helper()
		if a.str("error", "message") != "You are not authorized to perform the requested action: identity:"+action+"." {
			t.Errorf("%s", a.raw)
		}
	}
	c.must(401, "", "GET", path, nil)
	c.must(401, "forged", "POST", path, body(nil))
	forbidden(c.must(403, member, "POST", path, body(nil)), "create_"+tc.one)
	forbidden(c.must(403, member, "GET", path, nil), "list_"+tc.many)
	created := c.must(201, c.admin, "POST", path, body(nil))
	id := created.str(tc.one, "id")
	self := created.str(tc.one, "links", "self")
	if self != c.srv.URL+path+"/"+id || tc.one != "region" && len(id) != 32 {
		t.Errorf("id %q, self %q", id, self)
	}
	if created.at(tc.one, "password") != nil {
		t.Error("the password is shown")
	}
	if tc.unique {
		c.must(409, c.admin, "POST", path, body(nil))
	}
	if tc.missing != "" {
		in := maps.Clone(tc.good)
		delete(in, tc.missing)
		if a := c.must(400, c.admin, "POST", path, obj{tc.one: in}); a.str("error", "message") != "'"+tc.missing+"' is a required property" {
			t.Errorf("%s", a.raw)
		}
	}
	for _, change := range tc.bad {
		c.must(400, c.admin, "POST", path, body(change))
	}
	for _, raw := range []string{"", "null", "[1]", "{", `{"x":{}}`, `{"` + tc.one + `":[]}`, `{"` + tc.one + `":null}`} {
		c.must(400, c.admin, "POST", path, raw)
		c.must(400, c.admin, "PATCH", path+"/"+id, raw)
	}
	c.must(413, c.admin, "POST", path, body(obj{"description": strings.Repeat("x", 120000)}))
	if got := c.must(200, c.admin, "GET", path+"/"+id, nil); got.raw != created.raw {
		t.Errorf("shown %s, created %s", got.raw, created.raw)
	}
	c.must(404, c.admin, "GET", path+"/nothing", nil)
	c.must(404, c.admin, "PATCH", path+"/nothing", obj{tc.one: tc.patch})
	c.must(404, c.admin, "DELETE", path+"/nothing", nil)
	forbidden(c.must(403, member, "PATCH", path+"/"+id, obj{tc.one: tc.patch}), "update_"+tc.one)
	forbidden(c.must(403, member, "DELETE", path+"/"+id, nil), "delete_"+tc.one)
	c.must(400, c.admin, "PATCH", path+"/"+id, obj{tc.one: obj{"id": "other"}})
	patched := c.must(200, c.admin, "PATCH", path+"/"+id, obj{tc.one: tc.patch})
	for k, v := range tc.patch {
		if patched.at(tc.one, k) != v {
			t.Errorf("%s is %v after PATCH, want %v", k, patched.at(tc.one, k), v)
		}
	}
	list := c.must(200, c.admin, "GET", path, nil)
	links := list.at("links").(obj)
	if next, ok := links["next"]; !ok || next != nil || links["self"] != c.srv.URL+path || len(list.at(tc.many).([]any)) == 0 {
		t.Errorf("list links %v", links)
	}
	c.must(204, c.admin, "DELETE", path+"/"+id, nil)
	c.must(404, c.admin, "GET", path+"/"+id, nil)
}

func TestFilters(t *testing.T) {
	c := newCloud(t)
	for _, n := range []string{"alpha", "alphabet", "Beta"} {
		c.must(201, c.admin, "POST", "/v3/projects", obj{"project": obj{"name": n, "enabled": n != "Beta", "tags": []string{"all", n}}})
	}
	for query, want := range map[string]int{
		"": 5, "name=alpha": 1, "name=Alpha": 0, "name__contains=alpha": 2, "name__startswith=alpha&name__endswith=bet": 1, "name__icontains=bET": 2, "name__iexact=beta": 1,
		"enabled=False": 1, "enabled=true": 4, "domain_id=default": 5, "domain_id=x": 0, "is_domain=true": 0, "is_domain=false": 5, "parent_id=default&name=alpha": 1,
		"tags=all": 3, "tags=all,alpha": 1, "tags-any=alpha,Beta": 2, "not-tags=all": 2, "not-tags-any=alpha": 4, "unknown=x": 5, "name__bogus=x": 5, "name=": 0, "name=%00": 0,
	} {
		a := c.must(200, c.admin, "GET", "/v3/projects?"+query, nil)
		if n := len(a.at("projects").([]any)); n != want {
			t.Errorf("%s: %d projects, want %d", query, n, want)
		}
	}
}

func TestProjectTags(t *testing.T) {
	c := newCloud(t)
	p, _ := c.tenant("t", "reader")
	path := "/v3/projects/" + p + "/tags"
	c.must(201, c.admin, "PUT", path+"/blue", nil)
	c.must(201, c.admin, "PUT", path+"/blue", nil)
	c.must(204, c.admin, "GET", path+"/blue", nil)
	c.must(404, c.admin, "HEAD", path+"/red", nil)
	c.must(400, c.admin, "PUT", path+"/a,b", nil)
	c.must(200, c.admin, "PUT", path, obj{"tags": []string{"x", "y"}})
	c.must(400, c.admin, "PUT", path, obj{"tags": "x"})
	c.must(403, c.login("t", "pw-t", "t"), "PUT", path+"/z", nil)
	if l := c.must(200, c.login("t", "pw-t", "t"), "GET", path, nil).at("tags").([]any); len(l) != 2 {
		t.Errorf("tags %v", l)
	}
	c.must(204, c.admin, "DELETE", path+"/x", nil)
	c.must(404, c.admin, "DELETE", path+"/x", nil)
	c.must(204, c.admin, "DELETE", path, nil)
	c.must(404, c.admin, "GET", "/v3/projects/none/tags", nil)
}

func TestAssignments(t *testing.T) {
	c := newCloud(t)
	p, u := c.tenant("as", "member")
	g := c.must(201, c.admin, "POST", "/v3/groups", obj{"group": obj{"name": "g"}}).str("group", "id")
	c.must(204, c.admin, "PUT", "/v3/groups/"+g+"/users/"+u, nil)
	r := c.role("manager")
	for _, target := range []string{"/v3/projects/" + p, "/v3/domains/default", "/v3/system"} {
		for _, actor := range []string{"/users/" + u, "/groups/" + g} {
			path := target + actor + "/roles/" + r
			c.must(404, c.admin, "HEAD", path, nil)
			a := c.must(404, c.admin, "DELETE", path, nil)
			if !strings.HasPrefix(a.str("error", "message"), "Could not find role assignment with role: "+r) {
				t.Errorf("%s", a.raw)
			}
			c.must(204, c.admin, "PUT", path, nil)
			c.must(204, c.admin, "PUT", path, nil)
			c.must(204, c.admin, "HEAD", path, nil)
			if l := c.must(200, c.admin, "GET", target+actor+"/roles", nil).at("roles").([]any); len(l) == 0 {
				t.Errorf("%s: no roles", path)
			}
			c.must(404, c.admin, "PUT", target+actor+"/roles/none", nil)
			c.must(404, c.admin, "PUT", target+strings.TrimSuffix(strings.TrimSuffix(actor, u), g)+"none/roles/"+r, nil)
		}
	}
	c.must(404, c.admin, "PUT", "/v3/projects/none/users/"+u+"/roles/"+r, nil)
	c.must(404, c.admin, "PUT", "/v3/domains/none/users/"+u+"/roles/"+r, nil)
	token := c.login("as", "pw-as", "as")
	c.must(403, token, "PUT", "/v3/system/users/"+u+"/roles/"+c.role("admin"), nil) // nobody makes himself admin
	c.must(403, token, "PUT", "/v3/projects/"+p+"/users/"+u+"/roles/"+c.role("admin"), nil)

	for query, want := range map[string]int{
		"user.id=" + u: 4, "group.id=" + g: 3, "role.id=" + r: 6, "scope.project.id=" + p: 3, "scope.system=all&user.id=" + u: 1, "scope.domain.id=default": 2,
		"user.id=" + u + "&effective": 4 + 3 + 3 - 1, "user.id=" + u + "&effective&scope.project.id=" + p: 3, "user.id=" + u + "&effective=false": 4, "role.id=" + c.role("reader") + "&effective&scope.project.id=" + p: 1,
		"user.id=none": 0, "scope.project.id=none": 0,
	} {
		a := c.must(200, c.admin, "GET", "/v3/role_assignments?include_names&"+query, nil)
		if n := len(a.at("role_assignments").([]any)); n != want {
			t.Errorf("%s: %d assignments, want %d: %s", query, n, want, a.raw)
		}
	}
	for _, query := range []string{"user.id=a&group.id=b", "scope.project.id=a&scope.domain.id=b", "effective&group.id=" + g, "include_subtree=1"} {
		c.must(400, c.admin, "GET", "/v3/role_assignments?"+query, nil)
	}
	c.must(200, token, "GET", "/v3/role_assignments?user.id="+u, nil)
	c.must(403, token, "GET", "/v3/role_assignments", nil)
}

// What a user without admin role may do: look at itself.
func TestMemberRights(t *testing.T) {
	c := newCloud(t)
	p, u := c.tenant("m", "member")
	q, v := c.tenant("n", "member")
	token := c.login("m", "pw-m", "m")
	for path, code := range map[string]int{
		"/v3/users/" + u: 200, "/v3/users/" + v: 403, "/v3/projects/" + p: 200, "/v3/projects/" + q: 403, "/v3/users/" + u + "/projects": 200, "/v3/users/" + v + "/projects": 403,
		"/v3/users/" + u + "/groups": 200, "/v3/domains/default": 200, "/v3/domains/x": 403, "/v3/regions/RegionOne": 200, "/v3/users/" + u + "/application_credentials": 200,
		"/v3/users/" + v + "/application_credentials": 403, "/v3/auth/projects": 200, "/v3/role_inferences": 403, "/v3/groups/x/users/" + u: 404,
	} {
		if a := c.do(token, "GET", path, nil); a.code != code {
			t.Errorf("GET %s: %d, want %d", path, a.code, code)
		}
	}
	apps := "/v3/users/" + v + "/application_credentials"
	c.must(403, token, "POST", apps, obj{"application_credential": obj{"name": "x"}})
	c.must(403, c.admin, "POST", apps, obj{"application_credential": obj{"name": "x"}}) // nor may an admin in another's name
	// A reader of the system sees everything and changes nothing.
	c.must(204, c.admin, "PUT", "/v3/system/users/"+u+"/roles/"+c.role("reader"), nil)
	sys := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("m", "pw-m", obj{"system": obj{"all": true}})).header.Get("X-Subject-Token")
	c.must(200, sys, "GET", "/v3/users", nil)
	c.must(403, sys, "POST", "/v3/users", obj{"user": obj{"name": "x"}})
	c.must(403, sys, "DELETE", "/v3/auth/tokens", nil, "X-Subject-Token", c.admin)
}

func TestPasswordChange(t *testing.T) {
	c := newCloud(t)
	_, u := c.tenant("pw", "member")
	token, path := c.login("pw", "pw-pw", "pw"), "/v3/users/"+u+"/password"
	change := func(old, new any) obj { return obj{"user": obj{"original_password": old, "password": new}} }
	c.must(401, token, "POST", path, change("wrong", "n"))
	c.must(401, c.admin, "POST", "/v3/users/none/password", change("wrong", "n"))
	c.must(400, token, "POST", path, change("pw-pw", ""))
	c.must(400, token, "POST", path, change("pw-pw", nil))
	c.must(400, token, "POST", path, change("pw-pw", "pw-pw"))
	c.must(400, token, "POST", path, obj{"user": obj{"password": "n"}})
	c.must(204, token, "POST", path, change("pw-pw", "n"))
	c.must(401, token, "GET", "/v3/users/"+u, nil) // all tokens are gone
	c.must(401, "", "POST", "/v3/auth/tokens", passwordAuth("pw", "pw-pw", nil))
	token = c.login("pw", "n", "pw")
	c.must(200, c.admin, "PATCH", "/v3/users/"+u, obj{"user": obj{"password": "by admin"}})
	c.must(401, token, "GET", "/v3/users/"+u, nil)
	token = c.login("pw", "by admin", "pw")
	c.must(200, c.admin, "PATCH", "/v3/users/"+u, obj{"user": obj{"enabled": false}})
	c.must(200, c.admin, "PATCH", "/v3/users/"+u, obj{"user": obj{"enabled": true}})
	c.must(401, token, "GET", "/v3/users/"+u, nil) // enabling again brings no token back
	c.must(401, "", "POST", path, change("wrong", "x"))
	c.must(200, c.admin, "PATCH", "/v3/users/"+u, obj{"user": obj{"password": nil}})
	c.must(401, "", "POST", "/v3/auth/tokens", passwordAuth("pw", "by admin", nil))
	c.must(401, "", "POST", "/v3/auth/tokens", passwordAuth("pw", "", nil))
}

func TestApplicationCredentialInput(t *testing.T) {
	c := newCloud(t)
	p, u := c.tenant("ac", "member")
	token, path := c.login("ac", "pw-ac", "ac"), "/v3/users/"+u+"/application_credentials"
	in := func(m obj) obj { return obj{"application_credential": m} }
	for _, bad := range []obj{
		{}, {"name": 1}, {"name": "x", "expires_at": "tomorrow"}, {"name": "x", "expires_at": "2001-01-01T00:00:00"}, {"name": "x", "expires_at": 5}, {"name": "x", "roles": "admin"},
		{"name": "x", "roles": []any{obj{"name": "admin"}}}, {"name": "x", "roles": []any{obj{}}}, {"name": "x", "roles": []any{1}}, {"name": "x", "roles": []any{obj{"id": "none"}}},
		{"name": "x", "access_rules": []any{obj{"path": "/v2.0/networks"}}}, {"name": "x", "secret": 1}, {"name": "x", "unrestricted": "yes"}, {"name": "x", "secret": strings.Repeat("s", 300)},
	} {
		c.must(400, token, "POST", path, in(bad))
	}
	un := c.must(201, "", "POST", "/v3/auth/tokens", passwordAuth("ac", "pw-ac", "unscoped")).header.Get("X-Subject-Token")
	c.must(400, un, "POST", path, in(obj{"name": "x"}))
	a := c.must(201, token, "POST", path, in(obj{"name": "x", "access_rules": []any{}, "expires_at": nil, "description": "d"}))
	if a.at("application_credential", "expires_at") != nil || a.str("application_credential", "project_id") != p || len(a.at("application_credential", "roles").([]any)) != 2 {
		t.Errorf("%s", a.raw)
	}
	c.must(409, token, "POST", path, in(obj{"name": "x"}))
	id := a.str("application_credential", "id")
	c.must(405, token, "PATCH", path+"/"+id, in(obj{"name": "y"}))
	c.must(404, token, "GET", path+"/none", nil)
	got := c.must(201, "", "POST", "/v3/auth/tokens", obj{"auth": obj{"identity": obj{"methods": []any{"application_credential"},
		"application_credential": obj{"id": id, "secret": a.str("application_credential", "secret")}}}})
	if got.at("token", "application_credential", "restricted") != true || got.str("token", "project", "id") != p {
		t.Errorf("%s", got.raw)
	}
	app := got.header.Get("X-Subject-Token")
	c.must(403, app, "DELETE", path+"/"+id, nil)
	if l := c.must(200, app, "GET", "/v3/auth/projects", nil).at("projects").([]any); len(l) != 1 {
		t.Errorf("projects of the credential: %v", l)
	}
	// The role goes, and the credential with it.
	c.must(204, c.admin, "DELETE", "/v3/projects/"+p+"/users/"+u+"/roles/"+c.role("member"), nil)
	c.must(401, app, "GET", "/v3/auth/projects", nil)
	c.must(204, c.admin, "DELETE", path+"/"+id, nil)
}

func TestGuards(t *testing.T) {
	c := newCloud(t)
	c.must(403, c.admin, "DELETE", "/v3/domains/default", nil)
	c.must(403, c.admin, "DELETE", "/v3/roles/"+c.role("admin"), nil)
	c.must(403, c.admin, "PATCH", "/v3/roles/"+c.role("member"), obj{"role": obj{"name": "x"}})
	c.must(403, c.admin, "PUT", "/v3/roles/"+c.role("reader")+"/implies/"+c.role("admin"), nil)
	d := c.must(201, c.admin, "POST", "/v3/domains", obj{"domain": obj{"name": "other"}}).str("domain", "id")
	p := c.must(201, c.admin, "POST", "/v3/projects", obj{"project": obj{"name": "p", "domain_id": d}}).str("project", "id")
	c.must(400, c.admin, "PATCH", "/v3/projects/"+p, obj{"project": obj{"domain_id": "default"}})
	c.must(403, c.admin, "PATCH", "/v3/projects/"+p, obj{"project": obj{"parent_id": "default"}})
	c.must(404, c.admin, "POST", "/v3/projects", obj{"project": obj{"name": "q", "domain_id": "none"}})
	c.must(404, c.admin, "POST", "/v3/projects", obj{"project": obj{"name": "q", "parent_id": "none"}})
	c.must(400, c.admin, "POST", "/v3/projects", obj{"project": obj{"name": "q", "parent_id": p, "domain_id": "default"}})
	c.must(404, c.admin, "POST", "/v3/users", obj{"user": obj{"name": "q", "default_project_id": "none"}})
	c.must(201, c.admin, "POST", "/v3/users", obj{"user": obj{"name": "q", "domain_id": d, "default_project_id": p}})
	c.must(204, c.admin, "DELETE", "/v3/projects/"+p, nil)
	l := c.must(200, c.admin, "GET", "/v3/users?name=q", nil).at("users").([]any)
	if l[0].(obj)["default_project_id"] != nil {
		t.Error("a user keeps a default project that is gone")
	}
	c.must(201, c.admin, "POST", "/v3/regions", obj{"region": obj{"id": "child", "parent_region_id": "RegionOne"}})
	c.must(400, c.admin, "PATCH", "/v3/regions/RegionOne", obj{"region": obj{"parent_region_id": "child"}})
	c.must(403, c.admin, "DELETE", "/v3/regions/RegionOne", nil)
}

// As tempest does it, in parallel: make a project, a user, a role on it, log in, look, and take everything down again.
func TestParallelTenants(t *testing.T) {
	c := newCloud(t)
	member := c.role("member")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 4 {
				name := fmt.Sprintf("tempest-%d-%d", i, j)
				p, u := c.tenant(name, "member")
				token := c.login(name, "pw-"+name, name)
				a := c.must(200, c.admin, "GET", "/v3/auth/tokens", nil, "X-Subject-Token", token)
				if a.str("token", "project", "id") != p {
					t.Errorf("%s: %s", name, a.raw)
				}
				c.must(204, c.admin, "HEAD", "/v3/projects/"+p+"/users/"+u+"/roles/"+member, nil)
				c.must(204, c.admin, "DELETE", "/v3/users/"+u, nil)
				c.must(401, token, "GET", "/v3/auth/projects", nil)
				c.must(204, c.admin, "DELETE", "/v3/projects/"+p, nil)
			}
		})
	}
	wg.Wait()
	if n := len(c.must(200, c.admin, "GET", "/v3/role_assignments", nil).at("role_assignments").([]any)); n != 2 {
		t.Errorf("%d assignments are left, want the admin's 2", n)
	}
	// Many want one name: one gets it.
	codes := make([]int, 12)
	for i := range codes {
		wg.Go(func() {
			codes[i] = c.do(c.admin, "POST", "/v3/projects", obj{"project": obj{"name": "the one"}}).code
		})
	}
	wg.Wait()
	slices.Sort(codes)
	if codes[0] != 201 || codes[1] != 409 || codes[len(codes)-1] != 409 {
		t.Errorf("codes %v, want one 201 and 409 else", codes)
	}
}

// A user is made in a domain while the domain goes: either the user is there and the domain too, or neither.
func TestCreateAgainstDelete(t *testing.T) {
	c := newCloud(t)
	for i := range 10 {
		d := c.must(201, c.admin, "POST", "/v3/domains", obj{"domain": obj{"name": fmt.Sprint("d", i), "enabled": false}}).str("domain", "id")
		var wg sync.WaitGroup
		var made answer
		wg.Go(func() {
			made = c.do(c.admin, "POST", "/v3/groups", obj{"group": obj{"name": "g", "domain_id": d}})
		})
		wg.Go(func() { c.do(c.admin, "DELETE", "/v3/domains/"+d, nil) })
		wg.Wait()
		c.must(404, c.admin, "GET", "/v3/domains/"+d, nil)
		if made.code == 201 {
			c.must(404, c.admin, "GET", "/v3/groups/"+made.str("group", "id"), nil)
		} else if made.code != 404 {
			t.Errorf("create answered %d: %s", made.code, made.raw)
		}
	}
}

// Whatever is sent, the answer is JSON with a status that blames the client, never a 500.
func FuzzBodies(f *testing.F) {
	c := newCloud(f)
	paths := []string{"/v3/auth/tokens", "/v3/users", "/v3/projects", "/v3/roles", "/v3/endpoints", "/v3/regions", "/v3/domains", "/v3/users/none/password"}
	for i := range paths {
		f.Add(i, `{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"x","password":"y"}}},"scope":"unscoped"}}`)
		f.Add(i, `{"user":{"name":"x","password":"p","options":{"a":null},"extra":[1,{"b":2}]}}`)
		f.Add(i, `{"project":{"name":null}}`)
		f.Add(i, `{"region":{"id":"\u0000"}}`)
		f.Add(i, "{\"role\":{\"name\":\"\xff\"}}")
	}
	f.Fuzz(func(t *testing.T, i int, body string) {
		cc := *c
		cc.t = t
		a := cc.do(c.admin, "POST", paths[uint(i)%uint(len(paths))], body)
		if a.code >= 500 || a.code < 200 {
			t.Fatalf("%s: %d %s", body, a.code, a.raw)
		}
	})
}

func FuzzTokens(f *testing.F) {
	c := newCloud(f)
	f.Add("x")
	f.Add(c.admin[:len(c.admin)-1])
	f.Add(strings.ToLower(c.admin))
	f.Fuzz(func(t *testing.T, token string) {
		s, err := c.id.Check(t.Context(), token, true)
		if err == nil && strings.NewReplacer("\r", "", "\n", "").Replace(token) != c.admin {
			t.Fatalf("forged token %q is %+v", token, s.Caller)
		}
		if err != nil && s != (*identity.Session)(nil) {
			t.Fatal("a refusal with a session")
		}
	})
}
