package api

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"baryon/internal/neutron"
	"baryon/internal/resource"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const net1 = "00000000-0000-4000-8000-000000000001"

func TestVersionDocuments(t *testing.T) {
	b := newBench(t, nil)
	for url, want := range map[string]string{
		"/":      `{"versions":[{"id":"v2.0","status":"CURRENT","links":[{"rel":"self","href":"http://example.com/v2.0/"}]}]}`,
		"/v2.0/": `{"resources":[{"name":"network","collection":"networks","links":[{"rel":"self","href":"http://example.com/v2.0/networks"}]},{"name":"subnet","collection":"subnets","links":[{"rel":"self","href":"http://example.com/v2.0/subnets"}]},{"name":"port","collection":"ports","links":[{"rel":"self","href":"http://example.com/v2.0/ports"}]}]}`,
	} {
		if got := b.do("", "GET", url, ""); got.code != 200 || got.text != want {
			t.Errorf("GET %s: %d %s", url, got.code, got.text)
		}
	}
	if got := b.do("", "POST", "/", "{}"); got.code != 405 {
		t.Errorf("POST /: %d", got.code)
	}
}

func TestLinksFollowTheProxy(t *testing.T) {
	b := newBench(t, nil)
	for _, c := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"none", nil, "http://example.com/v2.0/"},
		{"all", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: cloud.example.org:13696, inner", "X-Forwarded-Prefix: /network/"}, "https://cloud.example.org:13696/network/v2.0/"},
		{"hostile", []string{"X-Forwarded-Proto: javascript", `X-Forwarded-Host: evil"host`, "X-Forwarded-Prefix: //evil.org"}, "http://example.com/v2.0/"},
	} {
		if got := b.do("", "GET", "/", "", c.headers...); !strings.Contains(got.text, `"href":"`+c.want+`"`) {
			t.Errorf("%s: %s", c.name, got.text)
		}
	}
	fixed := newBench(t, func(c *Config) { c.LinkPrefix = "https://api.example.org/net/" })
	if got := fixed.do("", "GET", "/", "", "X-Forwarded-Proto: http"); !strings.Contains(got.text, `"https://api.example.org/net/v2.0/"`) {
		t.Errorf("configured prefix: %s", got.text)
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxBody = 4096 })
	b.ok(201, "POST", "/v2.0/networks", `{"network":{"name":"theirs"}}`)
	for _, c := range []struct {
		token, method, url, body string
		code                     int
		typ, message             string
	}{
		{"admin", "GET", "/v2.0", "", 404, "HTTPNotFound", "The resource could not be found."},
		{"admin", "GET", "/v3/networks", "", 404, "HTTPNotFound", "The resource could not be found."},
		{"admin", "GET", "/v2.0/unicorns", "", 404, "HTTPNotFound", "The resource could not be found."},
		{"admin", "GET", "/v2.0/networks/a/b/c", "", 404, "HTTPNotFound", "The resource could not be found."},
		{"admin", "GET", "/v2.0/p1/networks/x", "", 404, "HTTPNotFound", "The resource could not be found."},
		{"admin", "PUT", "/v2.0/networks", "{}", 405, "HTTPMethodNotAllowed", "The method PUT is not allowed for this resource."},
		{"admin", "PATCH", "/v2.0/networks/" + net1, "{}", 405, "HTTPMethodNotAllowed", "The method PATCH is not allowed for this resource."},
		{"admin", "POST", "/v2.0/networks/" + net1, "{}", 405, "HTTPMethodNotAllowed", "The method POST is not allowed for this resource."},
		{"admin", "POST", "/v2.0/quotas", "{}", 405, "HTTPMethodNotAllowed", "The method POST is not allowed for this resource."},
		{"admin", "GET", "/v2.0/networks/nil", "", 404, "NetworkNotFound", "Network nil could not be found."},
		{"admin", "PUT", "/v2.0/networks/nil", `{"network":{}}`, 404, "NetworkNotFound", "Network nil could not be found."},
		{"admin", "DELETE", "/v2.0/networks/nil", "", 404, "NetworkNotFound", "Network nil could not be found."},
		{"admin", "DELETE", "/v2.0/networks/" + net1, "{}", 400, "HTTPBadRequest", "Request body is not supported in DELETE"},
		{"u@p2", "GET", "/v2.0/networks/" + net1, "", 404, "NetworkNotFound", "Network " + net1 + " could not be found."},
		{"admin", "POST", "/v2.0/networks", "", 400, "HTTPBadRequest", "Body contains invalid data"},
		{"admin", "POST", "/v2.0/networks", "{", 400, "HTTPBadRequest", "Body contains invalid data"},
		{"admin", "POST", "/v2.0/networks", "[]", 400, "HTTPBadRequest", "Body contains invalid data"},
		{"admin", "POST", "/v2.0/networks", `{"network":{}} x`, 400, "HTTPBadRequest", "Body contains invalid data"},
		{"admin", "POST", "/v2.0/networks", `{"port":{}}`, 400, "HTTPBadRequest", "Unable to find 'network' in request body"},
		{"admin", "POST", "/v2.0/networks", `{"networks":[]}`, 400, "HTTPBadRequest", "Resources required"},
		{"admin", "POST", "/v2.0/networks", `{"network":{"nam":"x","colour":1}}`, 400, "HTTPBadRequest", "Unrecognized attribute(s) 'colour, nam'"},
		{"admin", "POST", "/v2.0/networks", `{"network":{"id":"x"}}`, 400, "HTTPBadRequest", "Attribute 'id' not allowed in POST"},
		{"admin", "PUT", "/v2.0/networks/" + net1, `{"network":{"status":"x"}}`, 400, "HTTPBadRequest", "Cannot update read-only attribute status"},
		{"admin", "PUT", "/v2.0/networks/" + net1, `{"network":{"tenant_id":"x"}}`, 400, "HTTPBadRequest", "Cannot update read-only attribute project_id"},
		{"admin", "POST", "/v2.0/ports", `{"port":{}}`, 400, "HTTPBadRequest", "Failed to parse request. Required attribute 'network_id' not specified"},
		{"admin", "POST", "/v2.0/networks", `{"network":{"mtu":"many"}}`, 400, "HTTPBadRequest", "Invalid input for mtu. Reason: 'many' is not an integer."},
		{"admin", "POST", "/v2.0/networks", `{"network":{"project_id":"a","tenant_id":"b"}}`, 400, "HTTPBadRequest", "'project_id' and 'tenant_id' are synonyms and must have the same value"},
		{"u@p2", "POST", "/v2.0/networks", `{"network":{"project_id":"p1"}}`, 400, "HTTPBadRequest", "Specifying 'project_id' other than the authenticated project in request requires admin privileges"},
		{"system", "POST", "/v2.0/networks", `{"network":{}}`, 400, "HTTPBadRequest", "Running without a project requires that project_id is specified"},
		{"admin", "POST", "/v2.0/networks", `{"network":{"name":"` + strings.Repeat("x", 5000) + `"}}`, 413, "HTTPRequestEntityTooLarge", "Request is too large."},
		{"admin", "GET", "/v2.0/networks?a=%zz", "", 400, "HTTPBadRequest", "Query string is malformed"},
		{"admin", "GET", "/v2.0/networks?colour=red&name=x", "", 400, "HTTPBadRequest", "['colour'] is invalid attribute for filtering"},
		{"admin", "GET", "/v2.0/networks?subnets=red", "", 400, "HTTPBadRequest", "['subnets'] is invalid attribute for filtering"},
		{"admin", "GET", "/v2.0/networks?shared=maybe", "", 400, "HTTPBadRequest", "Invalid input for shared. Reason: 'maybe' cannot be converted to boolean."},
		{"admin", "GET", "/v2.0/networks?limit=-1", "", 400, "BadRequest", "Bad limit request: Limit must be an integer 0 or greater and not '-1'."},
		{"admin", "GET", "/v2.0/networks?limit=ten", "", 400, "BadRequest", "Bad limit request: Limit must be an integer 0 or greater and not 'ten'."},
		{"admin", "GET", "/v2.0/networks?marker=nil", "", 404, "NetworkNotFound", "Network nil could not be found."},
		{"admin", "GET", "/v2.0/networks?sort_key=name", "", 400, "HTTPBadRequest", "The number of sort_keys and sort_dirs must be same"},
		{"admin", "GET", "/v2.0/networks?sort_key=shared&sort_dir=asc", "", 400, "HTTPBadRequest", "['shared'] is invalid attribute for sort_keys"},
		{"admin", "GET", "/v2.0/networks?sort_key=name&sort_dir=up", "", 400, "HTTPBadRequest", "['up'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'"},
		{"admin", "GET", "/v2.0/extensions/unicorns", "", 404, "ExtensionNotFound", "Extension with alias unicorns does not exist"},
		{"admin", "GET", "/v2.0/networks/" + net1 + "/tags/none", "", 404, "TagNotFound", "Tag none could not be found."},
		{"admin", "PUT", "/v2.0/networks/" + net1 + "/tags", `{"tags":"x"}`, 400, "InvalidInput", "Invalid input for operation: the body must be {'tags': [...]}."},
		{"admin", "PUT", "/v2.0/networks/" + net1 + "/tags", `{"tags":[1]}`, 400, "InvalidInput", "Invalid input for operation: '1' is not a valid string."},
		{"admin", "PUT", "/v2.0/networks/" + net1 + "/tags", `{"tags":["a","a"]}`, 400, "InvalidInput", "Invalid input for operation: Duplicate items in the list: 'a'."},
		{"admin", "PUT", "/v2.0/quotas/p1", `{"quota":{"unicorn":1}}`, 400, "HTTPBadRequest", "Unrecognized attribute(s) 'unicorn'"},
		{"admin", "PUT", "/v2.0/quotas/p1", `{"quota":{"port":-2}}`, 400, "HTTPBadRequest", "Invalid input for port. Reason: '-2' is too small - must be at least '-1'."},
		{"admin", "PUT", "/v2.0/quotas/p1", `{"quota":{"port":2147483648}}`, 400, "HTTPBadRequest", "Invalid input for port. Reason: '2147483648' is too large - must be no larger than '2147483647'."},
		{"admin", "POST", "/v2.0/agents/a/dhcp-networks", `{}`, 400, "HTTPBadRequest", "Failed to parse request. Required attribute 'network_id' not specified"},
		{"down", "GET", "/v2.0/networks", "", 503, "ServiceUnavailable", "The service is unavailable."},
	} {
		got := b.do(c.token, c.method, c.url, c.body)
		typ, message := got.fault()
		if got.code != c.code || typ != c.typ || message != c.message {
			t.Errorf("%s %s %.60s: %d %s %q\nwant %d %s %q", c.method, c.url, c.body, got.code, typ, message, c.code, c.typ, c.message)
		}
		if !strings.HasPrefix(got.header.Get("X-Openstack-Request-Id"), "req-") || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: headers %v", c.method, c.url, got.header)
		}
	}
	if got := b.do("admin", "PATCH", "/v2.0/networks/"+net1, "{}"); got.header.Get("Allow") != "DELETE, GET, PUT" {
		t.Errorf("Allow: %q", got.header.Get("Allow"))
	}
}

func TestHeadIsNotAllowed(t *testing.T) {
	b := newBench(t, nil)
	if got := b.do("admin", "HEAD", "/v2.0/networks", ""); got.code != 405 || got.text != "" {
		t.Errorf("HEAD: %d %q", got.code, got.text)
	}
}

func TestUnauthenticated(t *testing.T) {
	b := newBench(t, nil)
	for _, url := range []string{"/v2.0/networks", "/v2.0/unicorns", "/nothing"} {
		got := b.do("forged", "GET", url, "")
		want := `{"error":{"code":401,"title":"Unauthorized","message":"The request you have made requires authentication."}}`
		if got.code != 401 || got.text != want || got.header.Get("WWW-Authenticate") != `Keystone uri="http://idp:5000"` {
			t.Errorf("GET %s: %d %s %v", url, got.code, got.text, got.header)
		}
	}
}

func TestErrorClasses(t *testing.T) {
	b := newBench(t, nil)
	for class, want := range map[neutron.Class]int{
		neutron.ClassBadRequest: 400, neutron.ClassForbidden: 403, neutron.ClassNotFound: 404,
		neutron.ClassConflict: 409, neutron.ClassPrecondition: 412, neutron.ClassUnavailable: 503, neutron.Class(99): 500,
	} {
		b.fault = fmt.Errorf("create network: %w", &neutron.Error{Class: class, Type: "SomeError", Message: `quote " it`})
		got := b.do("admin", "POST", "/v2.0/networks", `{"network":{}}`)
		if got.code != want || got.text != `{"NeutronError":{"type":"SomeError","message":"quote \" it","detail":""}}` {
			t.Errorf("class %d: %d %s", class, got.code, got.text)
		}
	}
}

func TestUnforeseenErrorsTellNothing(t *testing.T) {
	var log strings.Builder
	b := newBench(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	want := `{"NeutronError":{"type":"HTTPInternalServerError","message":"Request Failed: internal server error while processing your request.","detail":""}}`

	b.fault = fmt.Errorf("password is hunter2: %w", io.ErrClosedPipe)
	if got := b.do("admin", "POST", "/v2.0/networks", `{"network":{}}`); got.code != 500 || got.text != want {
		t.Errorf("error: %d %s", got.code, got.text)
	}
	b.crash = true
	got := b.do("admin", "POST", "/v2.0/networks", `{"network":{}}`)
	if got.code != 500 || got.text != want {
		t.Errorf("panic: %d %s", got.code, got.text)
	}
	for _, part := range []string{"hunter2", "the rules fell over", got.header.Get("X-Openstack-Request-Id")} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q:\n%s", part, log.String())
		}
	}
}

func TestLifeOfANetwork(t *testing.T) {
	b := newBench(t, nil)
	made := b.do("u@p2", "POST", "/v2.0/networks.json", `{"network":{"name":"n","admin_state_up":"False","mtu":"1400"}}`)
	if made.code != 201 {
		t.Fatalf("create: %d %s", made.code, made.text)
	}
	want := map[string]any{
		"id": net1, "project_id": "p2", "tenant_id": "p2", "name": "n", "status": "ACTIVE", "admin_state_up": false,
		"subnets": []any{}, "shared": false, "router:external": false, "l2_adjacency": false, "is_default": false, "availability_zone_hints": []any{}, "availability_zones": []any{}, "mtu": 1400.0, "port_security_enabled": true, "dns_domain": "", "qos_policy_id": nil,
		"description": "", "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "revision_number": 0.0, "tags": []any{},
	}
	if diff := cmp.Diff(want, made.body["network"]); diff != "" {
		t.Errorf("what a member sees (-want +got):\n%s", diff)
	}
	shown := b.ok(200, "GET", "/v2.0/networks/"+net1+".json", "")
	want["provider:network_type"], want["provider:physical_network"], want["provider:segmentation_id"] = "local", nil, nil
	want["segments"] = nil
	if diff := cmp.Diff(want, shown.body["network"]); diff != "" {
		t.Errorf("what an administrator sees (-want +got):\n%s", diff)
	}
	some := b.ok(200, "GET", "/v2.0/networks/"+net1+"?fields=id&fields=tenant_id&fields=none", "")
	if some.text != `{"network":{"id":"`+net1+`","project_id":"p2","tenant_id":"p2"}}` {
		t.Errorf("fields: %s", some.text)
	}
	put := b.ok(200, "PUT", "/v2.0/networks/"+net1, `{"network":{"name":"m"}}`, "If-Match: revision_number=0")
	if put.field("network", "name") != "m" || put.field("network", "revision_number") != 1.0 || put.field("network", "mtu") != 1400.0 {
		t.Errorf("update: %s", put.text)
	}
	b.ok(412, "PUT", "/v2.0/networks/"+net1, `{"network":{"name":"o"}}`, "If-Match: revision_number=0")
	b.ok(412, "DELETE", "/v2.0/networks/"+net1, "", "If-Match: revision_number=7")
	for _, bad := range []string{"*", "revision_number=x", "revision_number=-1", `"1"`, "1"} {
		if typ, _ := b.ok(400, "DELETE", "/v2.0/networks/"+net1, "", "If-Match: "+bad).fault(); typ != "InvalidInput" {
			t.Errorf("If-Match %s: %s", bad, typ)
		}
	}
	if gone := b.ok(204, "DELETE", "/v2.0/networks/"+net1, "", "If-Match: revision_number=1"); gone.text != "" {
		t.Errorf("delete: %s", gone.text)
	}
	b.ok(404, "GET", "/v2.0/networks/"+net1, "")
}

func TestBulkCreate(t *testing.T) {
	b := newBench(t, nil)
	got := b.ok(201, "POST", "/v2.0/networks", `{"networks":[{"name":"a"},{"network":{"name":"b"}}]}`)
	if names := got.column("networks", "name"); !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("names %v", names)
	}
	b.ok(400, "POST", "/v2.0/networks", `{"networks":[{"name":"c"},{"name":7}]}`)
	b.ok(400, "POST", "/v2.0/networks", `{"networks":[{"name":"c"},7]}`)
	many := `{"networks":[{}` + strings.Repeat(",{}", resource.MaxBulk) + `]}`
	if _, message := b.ok(400, "POST", "/v2.0/networks", many).fault(); message != "Bulk creation of 4001 networks exceeds the limit of 4000 in one request" {
		t.Errorf("too many at once: %s", message)
	}
	if names := b.ok(200, "GET", "/v2.0/networks", "").column("networks", "name"); !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("a refused bulk left %v", names)
	}
}

func TestMetricsCountByRoute(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := newBench(t, func(c *Config) { c.Metrics = reg })
	b.ok(404, "GET", "/v2.0/networks/a", "")
	b.ok(404, "GET", "/v2.0/networks/b", "")
	b.ok(404, "GET", "/random/path", "")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, m := range families[0].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "route" {
				got[l.GetValue()] = m.GetHistogram().GetSampleCount()
			}
		}
	}
	if diff := cmp.Diff(map[string]uint64{"/v2.0/networks/{}": 2, "none": 1}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := New(Config{Metrics: reg, Auth: tokens{}}); err == nil {
		t.Error("registered the same metrics twice")
	}
}

func TestConcurrentReadersAndWriters(t *testing.T) {
	b := newBench(t, nil)
	b.ok(201, "POST", "/v2.0/networks", `{"network":{"name":"n"}}`)
	done := make(chan int)
	for range 8 {
		go func() { done <- b.do("admin", "GET", "/v2.0/networks?name=n", "").code }()
	}
	for range 8 {
		if code := <-done; code != http.StatusOK {
			t.Errorf("list: %d", code)
		}
	}
}
