package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"baryon/internal/model"
)

// ports fills the bench with a network's ports a to f: names, addresses, devices and tags to filter by.
func (b *bench) ports() {
	b.t.Helper()
	const subnet = "00000000-0000-4000-8000-0000000000aa"
	var list []string
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		list = append(list, fmt.Sprintf(`{"name":%q,"network_id":%q,"device_id":%q,"mac_address":"fa:16:3e:00:00:0%d","admin_state_up":%t,
			"binding:host_id":%q,"fixed_ips":[{"subnet_id":%q,"ip_address":"10.0.%d.%d"}]}`,
			name, net1, []string{"", "vm1", "vm2"}[i%3], i, i%2 == 0, []string{"", "h1"}[i%2], subnet, i, i+5))
	}
	b.ok(201, "POST", "/v2.0/ports", `{"ports":[`+strings.Join(list, ",")+`]}`)
}

func TestPortFilters(t *testing.T) {
	b := newBench(t, nil)
	b.ports()
	for query, want := range map[string]string{
		"":                                  "a b c d e f",
		"name=a&name=c&name=zz":             "a c",
		"name=":                             "",
		"name=~a":                           "",
		"device_id=":                        "a d",
		"device_id=&device_id=vm1":          "a b d e",
		"device_id=vm1&admin_state_up=True": "e",
		"admin_state_up=0":                  "b d f",
		"admin_state_up=0&admin_state_up=1": "a b c d e f",
		"mac_address=FA:16:3E:00:00:02":     "c",
		"mac_address=bogus":                 "",
		"status=DOWN":                       "a b c d e f",
		"status=ACTIVE":                     "",
		"binding:host_id=h1":                "b d f",
		"binding%3Ahost_id=":                "a c e",
		"fixed_ips=ip_address%3D10.0.1.6":   "b",
		"fixed_ips=ip_address=10.0.1.6&fixed_ips=ip_address=10.0.2.7":                               "b c",
		"fixed_ips=subnet_id=00000000-0000-4000-8000-0000000000aa":                                  "a b c d e f",
		"fixed_ips=subnet_id=00000000-0000-4000-8000-0000000000aa&fixed_ips=ip_address_substr=0.3.": "d",
		"fixed_ips=subnet_id=00000000-0000-4000-8000-0000000000ab&fixed_ips=ip_address_substr=0.3.": "",
		"fixed_ips=subnet_id=":                      "",
		"network_id=" + net1:                        "a b c d e f",
		"network_id=other":                          "",
		"project_id=p1&tenant_id=p1":                "a b c d e f",
		"project_id=p1&tenant_id=p2":                "",
		"id=" + net1 + "&id=" + net1:                "a",
		"revision_number=0":                         "a b c d e f",
		"revision_number=1":                         "",
		"changed_since=2026-01-02T03:04:07Z":        "c d e f",
		"changed_since=2026-01-02T03:04:07":         "c d e f",
		"changed_since=2026-01-02T04:04:07%2B01:00": "c d e f",
		"sort_key=name&sort_dir=desc":               "f e d c b a",
		"sort_key=admin_state_up&sort_key=name&sort_dir=desc&sort_dir=desc": "e c a f d b",
		"sort_key=admin_state_up&sort_dir=asc":                              "b d f a c e",
		"sort_key=status&sort_dir=asc":                                      "a b c d e f",
		"limit=0":                                                           "a b c d e f",
		"limit=2":                                                           "a b",
		"limit=99999999999999999999999":                                     "a b c d e f",
		"fields=name&limit=1&sort_key=mac_address&sort_dir=desc":            "f",
	} {
		got := strings.Join(b.ok(200, "GET", "/v2.0/ports?"+query, "").column("ports", "name"), " ")
		if got != want {
			t.Errorf("?%s: %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"fixed_ips=10.0.0.1", "fixed_ips=colour=red", "changed_since=yesterday", "revision_number=x", "dns_name=x", "tags-any=,", "not-tags=",
		"binding:profile=x", "sort_key=fixed_ips&sort_dir=asc", "sort_key=name&sort_dir=", "limit=1.5", "limit=0x10"} {
		if got := b.do("admin", "GET", "/v2.0/ports?"+query, ""); got.code != 400 {
			t.Errorf("?%s: %d, want 400", query, got.code)
		}
	}
}

func TestMembersSeeNoBinding(t *testing.T) {
	b := newBench(t, nil)
	b.ports()
	for token, want := range map[string]bool{"u@p1": false, "admin": true, "nova": true} {
		row := b.do(token, "GET", "/v2.0/ports?name=b", "").body["ports"].([]any)[0].(map[string]any)
		for _, attr := range []string{"binding:host_id", "binding:profile", "binding:vif_type", "binding:vif_details"} {
			if _, has := row[attr]; has != want {
				t.Errorf("%s sees %s: %t, want %t", token, attr, has, want)
			}
		}
		if row["binding:vnic_type"] != "normal" {
			t.Errorf("%s sees vnic_type %v", token, row["binding:vnic_type"])
		}
	}
}

func TestListsOmitTheInvisible(t *testing.T) {
	b := newBench(t, nil)
	b.ok(201, "POST", "/v2.0/networks", `{"networks":[{"name":"mine","project_id":"p2"},{"name":"other"},{"name":"all","shared":true}]}`)
	if got := b.do("u@p2", "GET", "/v2.0/networks", "").column("networks", "name"); !slices.Equal(got, []string{"mine", "all"}) {
		t.Errorf("member's list: %v", got)
	}
	if got := b.do("u@p2", "GET", "/v2.0/networks?shared=True", "").column("networks", "name"); !slices.Equal(got, []string{"all"}) {
		t.Errorf("shared ones: %v", got)
	}
	if got := b.do("u@p2", "GET", "/v2.0/networks?limit=1&marker=00000000-0000-4000-8000-000000000002", ""); got.code != 404 {
		t.Errorf("a marker that the caller may not see: %d", got.code)
	}
}

// links are the rel and href of a list's links.
func (r reply) links(plural string) map[string]string {
	out := map[string]string{}
	list, _ := r.body[plural+"_links"].([]any)
	for _, l := range list {
		m := l.(map[string]any)
		out[m["rel"].(string)] = m["href"].(string)
	}
	return out
}

func TestPagingWalksBothWays(t *testing.T) {
	b := newBench(t, nil)
	b.ports()
	if got := b.ok(200, "GET", "/v2.0/ports", ""); strings.Contains(got.text, "ports_links") {
		t.Error("links without paging")
	}
	walk := func(at, rel string) (pages []string) {
		for range 10 {
			page := b.ok(200, "GET", at, "")
			names := page.column("ports", "name")
			pages = append(pages, strings.Join(names, ""))
			next, more := page.links("ports")[rel]
			if !more || len(names) == 0 {
				return pages
			}
			u, err := url.Parse(next)
			if err != nil || u.Host != "example.com" || u.Path != "/v2.0/ports" || u.Query().Get("sort_key") != "name" {
				t.Fatalf("link %q: %v", next, err)
			}
			at = u.RequestURI()
		}
		t.Fatalf("endless pages: %v", pages)
		return nil
	}
	query := "/v2.0/ports?sort_key=name&sort_dir=desc&limit="
	for start, want := range map[string][2]string{
		query + "4":                   {"next", "fedc ba"},
		query + "3":                   {"next", "fed cba "},
		query + "4&page_reverse=True": {"previous", "dcba fe"},
		query + "3&page_reverse=1":    {"previous", "cba fed "},
	} {
		if got := strings.Join(walk(start, want[0]), " "); got != want[1] {
			t.Errorf("%s: pages %q, want %q", start, got, want[1])
		}
	}
}

func TestLinksOfAPage(t *testing.T) {
	b := newBench(t, nil)
	b.ports()
	for query, want := range map[string][]string{
		"limit=6":                   {"next", "previous"}, // a full last page still has a next one
		"limit=7":                   {"previous"},
		"limit=7&page_reverse=True": {"next"},
		"limit=2&page_reverse=True": {"next", "previous"},
		"limit=0":                   {},
	} {
		var rels []string
		for rel := range b.ok(200, "GET", "/v2.0/ports?"+query, "").links("ports") {
			rels = append(rels, rel)
		}
		slices.Sort(rels)
		if !slices.Equal(rels, want) {
			t.Errorf("?%s: %v, want %v", query, rels, want)
		}
	}
	capped := newBench(t, func(c *Config) { c.MaxLimit = 2 })
	capped.ports()
	for _, query := range []string{"", "?limit=0", "?limit=5"} {
		page := capped.ok(200, "GET", "/v2.0/ports"+query, "")
		if n := len(page.column("ports", "id")); n != 2 || !strings.Contains(page.links("ports")["next"], "limit=") {
			t.Errorf("%q with at most 2 rows: %d rows, %v", query, n, page.links("ports"))
		}
	}
}

func TestAMarkerNeedNotMatchTheFilter(t *testing.T) {
	b := newBench(t, nil)
	b.ports()
	third := "00000000-0000-4000-8000-000000000003"
	if got := b.ok(200, "GET", "/v2.0/ports?device_id=vm1&limit=5&marker="+third, "").column("ports", "name"); !slices.Equal(got, []string{"e"}) {
		t.Errorf("after c: %v", got)
	}
	if got := b.ok(200, "GET", "/v2.0/ports?device_id=vm1&page_reverse=True&limit=5&marker="+third, "").column("ports", "name"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("before c: %v", got)
	}
}

func TestTags(t *testing.T) {
	b := newBench(t, nil)
	b.ok(201, "POST", "/v2.0/networks", `{"networks":[{"name":"a"},{"name":"b"},{"name":"c"}]}`)
	at := func(n int) string { return fmt.Sprintf("/v2.0/networks/00000000-0000-4000-8000-%012x/tags", n) }
	if got := b.ok(200, "PUT", at(1), `{"tags":["red","blue"]}`).text; got != `{"tags":["blue","red"]}` {
		t.Errorf("replace: %s", got)
	}
	if got := b.ok(201, "PUT", at(2)+"/red", ""); got.text != "" {
		t.Errorf("put one: %q", got.text)
	}
	b.ok(201, "PUT", at(3)+"/a%2Fb.json", "")
	b.ok(204, "GET", at(3)+"/a%2Fb.json", "")
	b.ok(404, "GET", at(3)+"/a", "")
	if got := b.ok(200, "POST", at(3), `{"tags":["green"]}`).text; got != `{"tags":["a/b.json","green"]}` {
		t.Errorf("add: %s", got)
	}
	for query, want := range map[string]string{
		"tags=red": "a b", "tags=red,blue": "a", "tags=red&tags=blue": "a", "tags-any=blue,green": "a c",
		"not-tags=red,blue": "b c", "not-tags-any=red,blue": "c", "tags=red&not-tags=blue": "b", "tags=": "a b c",
	} {
		if got := strings.Join(b.ok(200, "GET", "/v2.0/networks?"+query, "").column("networks", "name"), " "); got != want {
			t.Errorf("?%s: %q, want %q", query, got, want)
		}
	}
	b.ok(204, "DELETE", at(3)+"/green", "")
	b.ok(404, "DELETE", at(3)+"/green", "")
	b.ok(204, "DELETE", at(3), "")
	if got := b.ok(200, "GET", at(3), "").text; got != `{"tags":[]}` {
		t.Errorf("after clearing: %s", got)
	}
	b.ok(404, "GET", strings.Replace(at(3), "networks", "agents", 1), "")
	if got := b.ok(400, "PUT", at(1)+"/"+strings.Repeat("x", 256), ""); got.field("NeutronError", "type") != "InvalidInput" {
		t.Errorf("long tag: %s", got.text)
	}
}

func TestQuotas(t *testing.T) {
	b := newBench(t, nil)
	for _, c := range []struct {
		method, url, body string
		code              int
		want              string
	}{
		{"GET", "/v2.0/quotas", "", 200, `{"quotas":[]}`},
		{"GET", "/v2.0/quotas/p2", "", 200, `{"quota":{"network":100,"subnet":100,"port":500}}`},
		{"PUT", "/v2.0/quotas/p2", `{"quota":{"port":"7","tenant_id":"p2","force":true}}`, 200, `{"quota":{"network":100,"subnet":100,"port":7}}`},
		{"PUT", "/v2.0/quotas/p2.json", `{"quota":{"network":-1}}`, 200, `{"quota":{"network":-1,"subnet":100,"port":7}}`},
		{"GET", "/v2.0/quotas", "", 200, `{"quotas":[{"network":-1,"subnet":100,"port":7,"project_id":"p2","tenant_id":"p2"}]}`},
		{"GET", "/v2.0/quotas/p2/default", "", 200, `{"quota":{"network":100,"subnet":100,"port":500}}`},
		{"GET", "/v2.0/quotas/p2/details.json", "", 200, `{"quota":{"network":{"limit":100,"used":3,"reserved":1},"subnet":{"limit":0,"used":0,"reserved":0},"port":{"limit":0,"used":0,"reserved":0}}}`},
		{"GET", "/v2.0/quotas/tenant", "", 200, `{"tenant":{"tenant_id":"p1"}}`},
		{"GET", "/v2.0/quotas/project.json", "", 200, `{"project":{"project_id":"p1"}}`},
		{"DELETE", "/v2.0/quotas/p2", "", 204, ``},
		{"GET", "/v2.0/quotas", "", 200, `{"quotas":[]}`},
	} {
		if got := b.ok(c.code, c.method, c.url, c.body).text; got != c.want {
			t.Errorf("%s %s: %s\nwant %s", c.method, c.url, got, c.want)
		}
	}
	if typ, _ := b.ok(400, "PUT", "/v2.0/quotas/p2", `{"quota":{"port":1,"check_limit":"True"}}`).fault(); typ != "InvalidQuotaValue" {
		t.Errorf("check_limit did not reach the rules: %s", typ)
	}
	for _, body := range []string{`{}`, `{"quota":[]}`, `{"quota":{"port":null}}`, `{"quota":{"port":1.5}}`, `{"quota":{},"x":1}`} {
		b.ok(400, "PUT", "/v2.0/quotas/p2", body)
	}
}

func TestScheduling(t *testing.T) {
	b := newBench(t, nil)
	b.ok(201, "POST", "/v2.0/networks", `{"network":{"name":"n"}}`)
	b.ok(201, "POST", "/v2.0/agents/a/dhcp-networks", `{"network_id":"`+net1+`"}`)
	b.ok(409, "POST", "/v2.0/agents/a/dhcp-networks", `{"network_id":"`+net1+`"}`)
	if got := b.ok(200, "GET", "/v2.0/agents/a/dhcp-networks?fields=name", "").text; got != `{"networks":[{"name":"n"}]}` {
		t.Errorf("networks of an agent: %s", got)
	}
	if got := b.ok(200, "GET", "/v2.0/networks/"+net1+"/dhcp-agents?fields=host&fields=created_at&fields=description", "").text; got != `{"agents":[{"host":"net1","description":null,"created_at":"2026-01-02 03:04:05"}]}` {
		t.Errorf("agents of a network: %s", got)
	}
	b.ok(204, "DELETE", "/v2.0/agents/a/dhcp-networks/"+net1, `{"network_id":"`+net1+`"}`) // as openstacksdk sends it
}

func TestBindings(t *testing.T) {
	b := newBench(t, nil)
	want := `{"binding":{"host":"h2","vif_type":"ovs","vif_details":{},"vnic_type":"normal","profile":{"a":1},"status":"INACTIVE"}}`
	if got := b.ok(201, "POST", "/v2.0/ports/p/bindings", `{"binding":{"host":"h2","profile":{"a":1}}}`).text; got != want {
		t.Errorf("create: %s", got)
	}
	if got := b.ok(200, "GET", "/v2.0/ports/p/bindings/h2", "").text; got != want {
		t.Errorf("show: %s", got)
	}
	b.ok(200, "PUT", "/v2.0/ports/p/bindings/h2", `{"binding":{"profile":null}}`)
	if got := b.ok(200, "PUT", "/v2.0/ports/p/bindings/h2/activate", "").field("binding", "status"); got != model.BindingActive {
		t.Errorf("activate: %v", got)
	}
	for query, n := range map[string]int{"": 1, "?status=ACTIVE": 1, "?host=h3": 0, "?host=h2&limit=5": 1} {
		if got := b.ok(200, "GET", "/v2.0/ports/p/bindings"+query, "").column("bindings", "host"); len(got) != n {
			t.Errorf("%s: %v", query, got)
		}
	}
	b.ok(404, "GET", "/v2.0/ports/p/bindings?marker=h9", "")
	b.ok(400, "POST", "/v2.0/ports/p/bindings", `{"binding":{}}`)
	b.ok(400, "POST", "/v2.0/ports/p/bindings", `{"bindings":[{"host":"h3"}]}`)
	b.ok(400, "PUT", "/v2.0/ports/p/bindings/h2", `{"binding":{"host":"h3"}}`)
	b.ok(204, "DELETE", "/v2.0/ports/p/bindings/h2", "")
	b.ok(404, "GET", "/v2.0/ports/p/bindings/h2", "")
}

func TestIPAvailability(t *testing.T) {
	b := newBench(t, nil)
	b.ok(201, "POST", "/v2.0/networks", `{"networks":[{"name":"n"},{"name":"m"}]}`)
	for query, want := range map[string]string{
		"?network_name=n":                           `18446744073709551869`,
		"?network_name=n&ip_version=4":              `253`,
		"?network_name=n&ip_version=6":              `18446744073709551616`,
		"?network_name=n&ip_version=6&ip_version=4": `18446744073709551869`,
	} {
		got := b.ok(200, "GET", "/v2.0/network-ip-availabilities"+query, "")
		if !strings.Contains(got.text, `"total_ips":`+want+`,"used_ips"`) || len(got.column("network_ip_availabilities", "network_id")) != 1 {
			t.Errorf("%s: %s", query, got.text)
		}
	}
	b.ok(400, "GET", "/v2.0/network-ip-availabilities?ip_version=5", "")
	if got := b.ok(200, "GET", "/v2.0/network-ip-availabilities?sort_key=network_name&sort_dir=asc", "").column("network_ip_availabilities", "network_name"); !slices.Equal(got, []string{"m", "n"}) {
		t.Errorf("sorted: %v", got)
	}
	if got := b.ok(200, "GET", "/v2.0/network-ip-availabilities/"+net1, "").field("network_ip_availability", "used_ips"); got != 3.0 {
		t.Errorf("show: %v", got)
	}
	b.ok(404, "GET", "/v2.0/network-ip-availabilities/none", "")
}

func TestAvailabilityZones(t *testing.T) {
	b := newBench(t, nil)
	for query, want := range map[string][]string{
		"":                           {"az1", "az2"},
		"?state=available":           {"az1"},
		"?name=az2&resource=network": {"az2"},
		"?resource=router":           nil,
		"?sort_key=name&sort_dir=desc&fields=name": {"az2", "az1"},
	} {
		if got := b.ok(200, "GET", "/v2.0/availability_zones"+query, "").column("availability_zones", "name"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	b.ok(400, "GET", "/v2.0/availability_zones?colour=red", "")
	b.ok(405, "POST", "/v2.0/availability_zones", `{}`)
}

// Whatever the filter and whoever asks, the pages put together are the whole list.
func TestPagesMakeTheWhole(t *testing.T) {
	b := newBench(t, nil)
	b.ports()
	for _, who := range []string{"admin", "u@p1", "u@p2"} {
		for _, filter := range []string{"", "device_id=vm1", "device_id=vm1&device_id=vm2&device_id=", "admin_state_up=True", "status=DOWN",
			"id=00000000-0000-4000-8000-000000000004&id=00000000-0000-4000-8000-000000000002", "sort_key=mac_address&sort_dir=desc"} {
			whole := b.do(who, "GET", "/v2.0/ports?fields=id&"+filter, "").column("ports", "id")
			for limit := 1; limit <= len(whole)+1; limit++ {
				var got []string
				for at := ""; ; {
					path := fmt.Sprintf("/v2.0/ports?fields=id&%s&limit=%d", filter, limit)
					if at != "" {
						path += "&marker=" + at
					}
					page := b.do(who, "GET", path, "").column("ports", "id")
					if len(page) > limit {
						t.Fatalf("%s %s: %d rows on a page of %d", who, filter, len(page), limit)
					}
					if len(page) == 0 {
						break
					}
					got, at = append(got, page...), page[len(page)-1]
				}
				if !slices.Equal(got, whole) {
					t.Errorf("%s ?%s in pages of %d: %v, want %v", who, filter, limit, got, whole)
				}
			}
		}
	}
}
