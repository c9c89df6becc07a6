package model

import (
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"
)

// FuzzQueries feeds query strings to the port's definition.  What is accepted must filter, sort and page without losing, doubling or
// inventing a row, and the index probes must not exclude a row that matches.
func FuzzQueries(f *testing.F) {
	for _, q := range []string{"", "name=a&limit=1", "fixed_ips=ip_address=10.0.0.1", "fixed_ips=subnet_id=s1&sort_key=name&sort_dir=desc",
		"limit=2&marker=2&page_reverse=True", "tags-any=x&changed_since=2026-01-01", "device_id=&binding:host_id=", "project_id=p&tenant_id=q", "security_groups=g&security_groups="} {
		f.Add(q)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ports := []*Port{
		{Standard: Standard{ID: "1", ProjectID: "p", UpdatedAt: at, Tags: []string{"x", "y"}}, Name: "b", NetworkID: "n"},
		{Standard: Standard{ID: "2", ProjectID: "q", UpdatedAt: at}, Name: "a", NetworkID: "n", DeviceID: "d", Binding: Binding{Host: "h"},
			SecurityGroups: []ID{"f", "g"}},
		{Standard: Standard{ID: "3", ProjectID: "p", Revision: 4}, Name: "a", NetworkID: "m", AdminStateUp: true,
			FixedIPs: []FixedIP{{"s1", netip.MustParseAddr("10.0.0.1")}, {"s2", netip.MustParseAddr("fd00::1")}}},
	}
	f.Fuzz(func(t *testing.T, text string) {
		params, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := Ports.ParseQuery(params, 0)
		if err != nil {
			return
		}
		var rows []*Port
		for _, p := range ports {
			if !q.Match(p) || !q.MatchPresented(p) {
				continue
			}
			rows = append(rows, p)
			for _, probe := range q.Probes {
				if !found(p, probe.Index, probe.Values) {
					t.Errorf("?%s: port %s matches, but not under %v", text, p.ID, probe)
				}
			}
		}
		all := slices.Clone(rows)
		var marker *Port
		for _, p := range ports {
			if string(p.ID) == q.Marker {
				marker = p
			}
		}
		page := q.Page(rows, marker)
		if q.Limit > 0 && len(page) > q.Limit {
			t.Errorf("?%s: %d rows with limit %d", text, len(page), q.Limit)
		}
		for i, p := range page {
			if !slices.Contains(all, p) || slices.Contains(page[i+1:], p) {
				t.Errorf("?%s: page %v of %v", text, page, all)
			}
		}
		for _, l := range q.Links(page, "http://h/v2.0/ports") {
			if _, err := url.Parse(l.Href); err != nil {
				t.Errorf("?%s: link %q: %v", text, l.Href, err)
			}
		}
	})
}

// found tells whether the table finds the port by one of the values.
func found(p *Port, index string, values []string) bool {
	if index == "key" {
		return slices.Contains(values, string(p.ID))
	}
	for _, x := range PortTable.Indexes {
		if x.Name == index {
			return slices.ContainsFunc(x.Values(p), func(v string) bool { return slices.Contains(values, v) })
		}
	}
	return false
}
