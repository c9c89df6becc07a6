package v3_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/catalog"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/domains"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"baryon/internal/testkit"
)

// ok fails the test on an error and passes the value on.
func ok[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func none(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pages reads a whole list.
func pages[T any](t testing.TB, p pagination.Pager, extract func(pagination.Page) ([]T, error)) []T {
	t.Helper()
	return ok[[]T](t)(extract(ok[pagination.Page](t)(p.AllPages(context.Background()))))
}

// sdk logs gophercloud in.
func (c *cloud) sdk(o gophercloud.AuthOptions) (*gophercloud.ProviderClient, *gophercloud.ServiceClient) {
	c.t.Helper()
	if o.IdentityEndpoint == "" {
		o.IdentityEndpoint = c.srv.URL
	}
	p := ok[*gophercloud.ProviderClient](c.t)(openstack.AuthenticatedClient(context.Background(), o))
	return p, ok[*gophercloud.ServiceClient](c.t)(openstack.NewIdentityV3(p, gophercloud.EndpointOpts{}))
}

func (c *cloud) adminOptions() gophercloud.AuthOptions {
	return gophercloud.AuthOptions{Username: "admin", Password: adminPassword, DomainName: "Default",
		Scope: &gophercloud.AuthScope{ProjectName: "admin", DomainName: "Default"}, AllowReauth: true}
}

func TestGophercloudTokens(t *testing.T) {
	c := newCloud(t)
	ctx := context.Background()
	for _, endpoint := range []string{c.srv.URL, c.srv.URL + "/", c.srv.URL + "/v3", c.srv.URL + "/v3/", c.srv.URL + "/identity/v3/"} {
		o := c.adminOptions()
		o.IdentityEndpoint = endpoint
		p, _ := c.sdk(o)
		if url := ok[string](t)(p.EndpointLocator(gophercloud.EndpointOpts{Type: "network", Availability: gophercloud.AvailabilityPublic, Region: "RegionOne"})); url != "http://127.0.0.1:9696/" {
			t.Errorf("through %s: network endpoint %q", endpoint, url)
		}
	}
	p, id := c.sdk(c.adminOptions())
	got := tokens.Get(ctx, id, p.Token())
	tok := ok[*tokens.Token](t)(got.ExtractToken())
	if d := time.Until(tok.ExpiresAt); d < 50*time.Minute || d > time.Hour+time.Minute {
		t.Errorf("token ends in %s, want about an hour", d)
	}
	if pr := ok[*tokens.Project](t)(got.ExtractProject()); pr.Name != "admin" || pr.Domain.ID != "default" {
		t.Errorf("project %+v", pr)
	}
	var names []string
	for _, r := range ok[[]tokens.Role](t)(got.ExtractRoles()) {
		names = append(names, r.Name)
	}
	if s := strings.Join(names, " "); s != "admin manager member reader" {
		t.Errorf("roles %q", s)
	}
	if !ok[bool](t)(tokens.Validate(ctx, id, p.Token())) {
		t.Error("own token is not valid")
	}
	if n := len(pages(t, catalog.List(id), catalog.ExtractServiceCatalog)); n != 2 {
		t.Errorf("catalog has %d services, want 2", n)
	}
	// A revoked token makes the client log in again by itself.
	old := p.Token()
	none(t, tokens.Revoke(ctx, id, old).Err)
	pages(t, projects.List(id, nil), projects.ExtractProjects)
	if p.Token() == old {
		t.Error("client still uses the revoked token")
	}
	for name, scope := range map[string]*gophercloud.AuthScope{
		"system": {System: true}, "project": {ProjectName: "admin", DomainID: "default"},
	} {
		o := c.adminOptions()
		o.Scope = scope
		_, id := c.sdk(o)
		if n := len(pages(t, users.List(id, nil), users.ExtractUsers)); n != 1 {
			t.Errorf("%s scope: %d users, want 1", name, n)
		}
	}
	o := c.adminOptions()
	o.Password = "wrong"
	if _, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{IdentityEndpoint: c.srv.URL, Username: o.Username, Password: o.Password, DomainName: "Default"}); !gophercloud.ResponseCodeIs(err, 401) {
		t.Errorf("wrong password: %v, want 401", err)
	}
}

func TestGophercloudResources(t *testing.T) {
	c := newCloud(t)
	ctx := context.Background()
	_, id := c.sdk(c.adminOptions())

	d := ok[*domains.Domain](t)(domains.Create(ctx, id, domains.CreateOpts{Name: "lab", Description: "a lab"}).Extract())
	p := ok[*projects.Project](t)(projects.Create(ctx, id, projects.CreateOpts{Name: "demo", DomainID: d.ID, Tags: []string{"x", "y"}, Extra: map[string]any{"cost_centre": "7"}}).Extract())
	if p.Extra["cost_centre"] != "7" || len(p.Tags) != 2 || p.ParentID != d.ID || !p.Enabled {
		t.Errorf("project %+v", p)
	}
	child := ok[*projects.Project](t)(projects.Create(ctx, id, projects.CreateOpts{Name: "child", ParentID: p.ID}).Extract())
	if child.DomainID != d.ID || child.ParentID != p.ID {
		t.Errorf("child %+v", child)
	}
	if err := projects.Delete(ctx, id, p.ID).ExtractErr(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("delete parent: %v, want 403", err)
	}
	none(t, projects.Delete(ctx, id, child.ID).ExtractErr())
	text := "changed"
	p = ok[*projects.Project](t)(projects.Update(ctx, id, p.ID, projects.UpdateOpts{Description: &text}).Extract())
	if p.Description != text || ok[*projects.Project](t)(projects.Get(ctx, id, p.ID).Extract()).Description != text {
		t.Errorf("project after update %+v", p)
	}
	if n := len(pages(t, projects.List(id, projects.ListOpts{DomainID: d.ID, Name: "demo", Tags: "x,y"}), projects.ExtractProjects)); n != 1 {
		t.Errorf("%d projects, want 1", n)
	}

	on := true
	u := ok[*users.User](t)(users.Create(ctx, id, users.CreateOpts{Name: "jo", DomainID: d.ID, DefaultProjectID: p.ID, Password: "jo's", Description: "Jo", Enabled: &on, Extra: map[string]any{"email": "jo@example.org"}}).Extract())
	if u.Extra["email"] != "jo@example.org" || u.DefaultProjectID != p.ID {
		t.Errorf("user %+v", u)
	}
	u = ok[*users.User](t)(users.Update(ctx, id, u.ID, users.UpdateOpts{Name: "joe"}).Extract())
	if n := len(pages(t, users.List(id, users.ListOpts{DomainID: d.ID, Name: "joe"}), users.ExtractUsers)); n != 1 || u.Name != "joe" {
		t.Errorf("%d users, want 1", n)
	}
	none(t, users.ChangePassword(ctx, id, u.ID, users.ChangePasswordOpts{OriginalPassword: "jo's", Password: "new"}).ExtractErr())

	g := ok[*groups.Group](t)(groups.Create(ctx, id, groups.CreateOpts{Name: "ops", DomainID: d.ID}).Extract())
	none(t, users.AddToGroup(ctx, id, g.ID, u.ID).ExtractErr())
	if !ok[bool](t)(users.IsMemberOfGroup(ctx, id, g.ID, u.ID).Extract()) {
		t.Error("user is not in the group")
	}
	if a, b := pages(t, users.ListInGroup(id, g.ID, nil), users.ExtractUsers), pages(t, users.ListGroups(id, u.ID), groups.ExtractGroups); len(a) != 1 || len(b) != 1 {
		t.Errorf("members %d, groups %d, want 1 each", len(a), len(b))
	}

	assignSDK(t, c, id, d, p, u, g)
	none(t, groups.Delete(ctx, id, g.ID).ExtractErr())
	if err := domains.Delete(ctx, id, d.ID).ExtractErr(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("delete enabled domain: %v, want 403", err)
	}
	off := false
	ok[*domains.Domain](t)(domains.Update(ctx, id, d.ID, domains.UpdateOpts{Enabled: &off}).Extract())
	none(t, domains.Delete(ctx, id, d.ID).ExtractErr())
	if _, err := users.Get(ctx, id, u.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("user of a deleted domain: %v, want 404", err)
	}
}

// assignSDK gives and takes roles; the user is a member of the group.
func assignSDK(t *testing.T, c *cloud, id *gophercloud.ServiceClient, d *domains.Domain, p *projects.Project, u *users.User, g *groups.Group) {
	ctx := context.Background()
	r := ok[*roles.Role](t)(roles.Create(ctx, id, roles.CreateOpts{Name: "auditor", Extra: map[string]any{"why": "law"}}).Extract())
	r = ok[*roles.Role](t)(roles.Update(ctx, id, r.ID, roles.UpdateOpts{Name: "examiner"}).Extract())
	reader := c.role("reader")
	ok[*roles.RoleInferenceRule](t)(roles.CreateRoleInferenceRule(ctx, id, r.ID, reader).Extract())
	ok[*roles.RoleInferenceRule](t)(roles.GetRoleInferenceRule(ctx, id, r.ID, reader).Extract())
	if l := ok[*roles.RoleInferenceRuleList](t)(roles.ListRoleInferenceRules(ctx, id).Extract()); len(l.RoleInferenceRuleList) != 4 {
		t.Errorf("%d role inferences, want 4", len(l.RoleInferenceRuleList))
	}
	for _, as := range []roles.AssignOpts{{GroupID: g.ID, ProjectID: p.ID}, {UserID: u.ID, DomainID: d.ID}, {UserID: u.ID, ProjectID: p.ID}} {
		none(t, roles.Assign(ctx, id, r.ID, as).ExtractErr())
		none(t, roles.Assign(ctx, id, r.ID, as).ExtractErr()) // again is no error
		onResource := roles.ListAssignmentsOnResourceOpts(as)
		if l := pages(t, roles.ListAssignmentsOnResource(id, onResource), roles.ExtractRoles); len(l) != 1 || l[0].ID != r.ID {
			t.Errorf("roles on resource: %+v", l)
		}
	}
	none(t, roles.Unassign(ctx, id, r.ID, roles.UnassignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr())
	yes := true
	eff := pages(t, roles.ListAssignments(id, roles.ListAssignmentsOpts{UserID: u.ID, ScopeProjectID: p.ID, Effective: &yes, IncludeNames: &yes}), roles.ExtractRoleAssignments)
	if len(eff) != 2 || eff[0].User.Name != "joe" || eff[0].Scope.Project.Domain.Name != "lab" {
		t.Errorf("effective assignments %+v", eff)
	}
	if l := pages(t, users.ListProjects(id, u.ID), projects.ExtractProjects); len(l) != 1 || l[0].ID != p.ID {
		t.Errorf("projects of the user %+v", l)
	}
	// The group's role lets the user in.
	c.sdk(gophercloud.AuthOptions{UserID: u.ID, Password: "new", Scope: &gophercloud.AuthScope{ProjectID: p.ID}})
	none(t, roles.DeleteRoleInferenceRule(ctx, id, r.ID, reader).ExtractErr())
	none(t, users.RemoveFromGroup(ctx, id, g.ID, u.ID).ExtractErr())
	if _, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{IdentityEndpoint: c.srv.URL, UserID: u.ID, Password: "new", Scope: &gophercloud.AuthScope{ProjectID: p.ID}}); !gophercloud.ResponseCodeIs(err, 401) {
		t.Errorf("login without a role: %v, want 401", err)
	}
	none(t, roles.Delete(ctx, id, r.ID).ExtractErr())
}

func TestGophercloudCatalog(t *testing.T) {
	c := newCloud(t)
	ctx := context.Background()
	p, id := c.sdk(c.adminOptions())
	reg := ok[*regions.Region](t)(regions.Create(ctx, id, regions.CreateOpts{ID: "north", Description: "cold"}).Extract())
	if _, err := regions.Create(ctx, id, regions.CreateOpts{ID: "north"}).Extract(); !gophercloud.ResponseCodeIs(err, 409) {
		t.Errorf("second region of the name: %v, want 409", err)
	}
	text := "very cold"
	ok[*regions.Region](t)(regions.Update(ctx, id, reg.ID, regions.UpdateOpts{Description: &text}).Extract())
	s := ok[*services.Service](t)(services.Create(ctx, id, services.CreateOpts{Type: "compute", Extra: map[string]any{"name": "nova"}}).Extract())
	if n := len(pages(t, services.List(id, services.ListOpts{ServiceType: "compute"}), services.ExtractServices)); n != 1 {
		t.Errorf("%d services, want 1", n)
	}
	e := ok[*endpoints.Endpoint](t)(endpoints.Create(ctx, id, endpoints.CreateOpts{Availability: gophercloud.AvailabilityPublic, Name: "nova", Region: reg.ID, ServiceID: s.ID, URL: "http://n:8774/v2.1/$(project_id)s"}).Extract())
	e = ok[*endpoints.Endpoint](t)(endpoints.Update(ctx, id, e.ID, endpoints.UpdateOpts{URL: "http://nova:8774/v2.1/%(tenant_id)s"}).Extract())
	if n := len(pages(t, endpoints.List(id, endpoints.ListOpts{ServiceID: s.ID, RegionID: "north"}), endpoints.ExtractEndpoints)); n != 1 {
		t.Errorf("%d endpoints, want 1", n)
	}
	project := ok[*tokens.Project](t)(tokens.Get(ctx, id, p.Token()).ExtractProject()).ID
	cat := ok[*tokens.ServiceCatalog](t)(tokens.Get(ctx, id, p.Token()).ExtractServiceCatalog())
	var url string
	for _, entry := range cat.Entries {
		if entry.Type == "compute" {
			url = entry.Endpoints[0].URL
		}
	}
	if url != "http://nova:8774/v2.1/"+project {
		t.Errorf("endpoint in the catalog %q", url)
	}
	if err := regions.Delete(ctx, id, reg.ID).ExtractErr(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("delete region in use: %v, want 403", err)
	}
	none(t, endpoints.Delete(ctx, id, e.ID).ExtractErr())
	none(t, services.Delete(ctx, id, s.ID).ExtractErr())
	none(t, regions.Delete(ctx, id, reg.ID).ExtractErr())
	if n := len(pages(t, regions.List(id, nil), regions.ExtractRegions)); n != 1 {
		t.Errorf("%d regions, want 1", n)
	}
}

func TestGophercloudApplicationCredentials(t *testing.T) {
	c := newCloud(t)
	ctx := context.Background()
	_, user := c.tenant("acme", "manager")
	_, id := c.sdk(gophercloud.AuthOptions{Username: "acme", Password: "pw-acme", DomainName: "Default", Scope: &gophercloud.AuthScope{ProjectName: "acme", DomainName: "Default"}})
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	app := ok[*applicationcredentials.ApplicationCredential](t)(applicationcredentials.Create(ctx, id, user, applicationcredentials.CreateOpts{
		Name: "ci", Roles: []applicationcredentials.Role{{Name: "reader"}}, ExpiresAt: &end,
	}).Extract())
	if app.Secret == "" || !app.ExpiresAt.Equal(end) || len(app.Roles) != 1 {
		t.Errorf("credential %+v", app)
	}
	got := ok[*applicationcredentials.ApplicationCredential](t)(applicationcredentials.Get(ctx, id, user, app.ID).Extract())
	if got.Secret != "" || got.Name != "ci" {
		t.Errorf("credential shown later %+v", got)
	}
	free := ok[*applicationcredentials.ApplicationCredential](t)(applicationcredentials.Create(ctx, id, user, applicationcredentials.CreateOpts{Name: "free", Secret: "own secret", Unrestricted: true}).Extract())
	if n := len(pages(t, applicationcredentials.List(id, user, nil), applicationcredentials.ExtractApplicationCredentials)); n != 2 {
		t.Errorf("%d credentials, want 2", n)
	}

	_, byID := c.sdk(gophercloud.AuthOptions{ApplicationCredentialID: app.ID, ApplicationCredentialSecret: app.Secret})
	c.sdk(gophercloud.AuthOptions{ApplicationCredentialName: "ci", Username: "acme", DomainName: "Default", ApplicationCredentialSecret: app.Secret})
	_, byFree := c.sdk(gophercloud.AuthOptions{ApplicationCredentialID: free.ID, ApplicationCredentialSecret: "own secret"})
	if _, err := applicationcredentials.Create(ctx, byID, user, applicationcredentials.CreateOpts{Name: "heir"}).Extract(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("restricted credential makes another: %v, want 403", err)
	}
	ok[*applicationcredentials.ApplicationCredential](t)(applicationcredentials.Create(ctx, byFree, user, applicationcredentials.CreateOpts{Name: "heir"}).Extract())
	if _, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{IdentityEndpoint: c.srv.URL, ApplicationCredentialID: app.ID, ApplicationCredentialSecret: "wrong"}); !gophercloud.ResponseCodeIs(err, 401) {
		t.Errorf("wrong secret: %v, want 401", err)
	}
	none(t, applicationcredentials.Delete(ctx, id, user, app.ID).ExtractErr())
	if _, err := applicationcredentials.Get(ctx, byID, user, free.ID).Extract(); !gophercloud.ResponseCodeIs(err, 401) {
		t.Errorf("token of a deleted credential: %v, want 401", err)
	}
}

// cli runs Debian's openstack command with the clouds.yaml or the openrc that the first start wrote.
type cli struct {
	t   testing.TB
	env []string
}

func (c *cloud) cli() *cli {
	c.t.Helper()
	required := os.Getenv("BARYON_ROOT") == "required"
	if testing.Short() && !required {
		c.t.Skip("each command starts a Python interpreter")
	}
	testkit.NeedTool(c.t, "openstack")
	return &cli{c.t, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.t.TempDir(), "LC_ALL=C.UTF-8", "OS_CLIENT_CONFIG_FILE=" + c.dir + "/clouds.yaml", "OS_CLOUD=baryon"}}
}

func (c *cli) run(args ...string) (string, error) {
	cmd := exec.Command("openstack", args...)
	cmd.Env = c.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		c.t.Logf("openstack %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), err
}

// ok is run of a command that must succeed.
func (c *cli) ok(args ...string) string {
	c.t.Helper()
	out, err := c.run(args...)
	if err != nil {
		c.t.Fatalf("openstack %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// value is one column of what the command shows.
func (c *cli) value(column string, args ...string) string {
	c.t.Helper()
	return c.ok(append(args, "-f", "value", "-c", column)...)
}

func TestOpenstackCommand(t *testing.T) {
	t.Parallel() // most of it is waiting for Python
	c := newCloud(t)
	o := c.cli()
	var tok map[string]any
	if err := json.Unmarshal([]byte(o.ok("token", "issue", "-f", "json")), &tok); err != nil || tok["id"] == "" {
		t.Fatalf("token issue: %v %v", tok, err)
	}
	if s := o.ok("catalog", "list"); !strings.Contains(s, "http://127.0.0.1:9696") {
		t.Errorf("catalog list:\n%s", s)
	}
	project := o.value("id", "project", "create", "--description", "a demo", "--tag", "t1", "demo")
	if o.value("id", "project", "show", "demo") != project || o.value("description", "project", "show", project) != "a demo" {
		t.Error("project show does not find the project by name and by id")
	}
	user := o.value("id", "user", "create", "--project", "demo", "--password", "pass word", "--email", "d@example.org", "dora")
	if s := o.value("Name", "user", "list"); s != "admin\ndora" && s != "dora\nadmin" {
		t.Errorf("user list: %q", s)
	}
	if s := o.value("Name", "role", "list"); len(strings.Fields(s)) != 5 {
		t.Errorf("role list: %q", s)
	}
	o.ok("role", "create", "watcher")
	o.ok("role", "add", "--project", "demo", "--user", "dora", "member")
	if s := o.value("Role", "role", "assignment", "list", "--names", "--user", "dora", "--project", "demo"); s != "member" {
		t.Errorf("role assignment list: %q", s)
	}
	if s := o.value("Role", "role", "assignment", "list", "--names", "--effective", "--user", "dora"); s != "member\nreader" {
		t.Errorf("effective role assignment list: %q", s)
	}
	if _, err := o.run("project", "create", "demo"); err == nil {
		t.Error("a second project of the name was created")
	}

	dora := &cli{t, append(o.env[:3:3], "OS_AUTH_URL="+c.srv.URL+"/v3", "OS_USERNAME=dora", "OS_PASSWORD=pass word", "OS_PROJECT_NAME=demo",
		"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_ID=default", "OS_IDENTITY_API_VERSION=3")}
	if dora.value("project_id", "token", "issue") != project {
		t.Error("dora's token is for another project")
	}
	if s := dora.value("Name", "project", "list"); s != "demo" {
		t.Errorf("dora's project list: %q", s)
	}
	if _, err := dora.run("user", "create", "eve"); err == nil {
		t.Error("dora may create users")
	}
	var app map[string]any
	if err := json.Unmarshal([]byte(dora.ok("application", "credential", "create", "ci", "-f", "json")), &app); err != nil {
		t.Fatal(err)
	}
	bot := &cli{t, append(o.env[:3:3], "OS_AUTH_TYPE=v3applicationcredential", "OS_AUTH_URL="+c.srv.URL+"/v3",
		"OS_APPLICATION_CREDENTIAL_ID="+app["id"].(string), "OS_APPLICATION_CREDENTIAL_SECRET="+app["secret"].(string))}
	if bot.value("user_id", "token", "issue") != user {
		t.Error("the application credential is another user's")
	}
	if s := dora.value("Name", "application", "credential", "list"); s != "ci" {
		t.Errorf("application credential list: %q", s)
	}
	dora.ok("application", "credential", "delete", "ci")
	dora.ok("user", "password", "set", "--original-password", "pass word", "--password", "other")
	if _, err := dora.run("token", "issue"); err == nil {
		t.Error("dora's old password still works")
	}

	// The openrc file does the same as clouds.yaml, in a shell.
	sh := exec.Command("sh", "-c", ". \"$1\" && openstack token issue -f value -c project_id", "sh", c.dir+"/openrc")
	sh.Env = o.env[:3]
	if out, err := sh.CombinedOutput(); err != nil || len(strings.TrimSpace(string(out))) != 32 {
		t.Errorf("with openrc: %v: %s", err, out)
	}
}

func TestOpenstackCommandAdministration(t *testing.T) {
	t.Parallel() // most of it is waiting for Python
	c := newCloud(t)
	o := c.cli()
	o.ok("domain", "create", "lab")
	o.ok("group", "create", "--domain", "lab", "ops")
	o.ok("user", "create", "--domain", "lab", "--password", "x", "uma")
	o.ok("group", "add", "user", "--group-domain", "lab", "--user-domain", "lab", "ops", "uma")
	if s := o.ok("group", "contains", "user", "--group-domain", "lab", "--user-domain", "lab", "ops", "uma"); !strings.Contains(s, "in group") {
		t.Errorf("group contains user: %q", s)
	}
	o.ok("project", "create", "--domain", "lab", "p1")
	o.ok("role", "add", "--group", "ops", "--group-domain", "lab", "--project", "p1", "--project-domain", "lab", "member")
	o.ok("role", "add", "--user", "uma", "--user-domain", "lab", "--system", "all", "reader")
	if s := o.value("Name", "project", "list", "--user", "uma"); s != "p1" {
		t.Errorf("project list --user: %q", s)
	}
	o.ok("role", "remove", "--user", "uma", "--user-domain", "lab", "--system", "all", "reader")
	o.ok("project", "set", "--disable", "p1", "--domain", "lab")
	o.ok("service", "create", "--name", "nova", "--description", "Compute", "compute")
	o.ok("endpoint", "create", "--region", "RegionTwo", "compute", "public", "http://127.0.0.1:8774/v2.1")
	if s := o.value("URL", "endpoint", "list", "--service", "compute"); s != "http://127.0.0.1:8774/v2.1" {
		t.Errorf("endpoint list: %q", s)
	}
	o.ok("region", "show", "RegionTwo")
	o.ok("implied", "role", "list")
	o.ok("service", "delete", "nova")
	o.ok("user", "set", "--disable", "uma", "--domain", "lab")
	o.ok("user", "delete", "--domain", "lab", "uma")
	o.ok("group", "delete", "--domain", "lab", "ops")
	o.ok("project", "delete", "--domain", "lab", "p1")
	o.ok("domain", "set", "--disable", "lab")
	o.ok("domain", "delete", "lab")
	if s := o.value("Name", "domain", "list"); s != "Default" {
		t.Errorf("domain list: %q", s)
	}
	token := o.value("id", "token", "issue")
	o.ok("token", "revoke", token)
	if a := c.do(token, "GET", "/v3/users", nil); a.code != 401 {
		t.Errorf("revoked token: %d, want 401", a.code)
	}
}
