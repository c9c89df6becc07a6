package conformance_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/addressgroups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// groupList lists groups as a client sees them.
func (w *world) groupList(c *gophercloud.ServiceClient, opts groups.ListOpts) []groups.SecGroup {
	w.t.Helper()
	page := must[pagination.Page](w.t)(groups.List(c, opts).AllPages(w.ctx))
	return must[[]groups.SecGroup](w.t)(groups.ExtractGroups(page))
}

func TestSecurityGroups(t *testing.T) {
	w := newWorld(t)
	alice := w.as("alice", "member,reader")
	first := w.groupList(alice, groups.ListOpts{})
	if len(first) != 1 || first[0].Name != "default" || len(first[0].Rules) != 4 || !first[0].Stateful || first[0].ProjectID != "alice" {
		t.Fatalf("groups of a new project: %+v", first)
	}
	for _, r := range first[0].Rules {
		if (r.Direction == "ingress") != (r.RemoteGroupID == first[0].ID) {
			t.Errorf("rule %+v", r)
		}
	}
	stateless := false
	g := must[*groups.SecGroup](t)(groups.Create(w.ctx, alice, groups.CreateOpts{Name: "web", Description: "d", Stateful: &stateless}).Extract())
	if g.Name != "web" || g.Description != "d" || g.Stateful || len(g.Rules) != 2 || g.CreatedAt.IsZero() || g.RevisionNumber != 1 {
		t.Errorf("made: %+v", g)
	}
	text, yes := "e", true
	g = must[*groups.SecGroup](t)(groups.Update(w.ctx, alice, g.ID, groups.UpdateOpts{Name: "www", Description: &text, Stateful: &yes}).Extract())
	if g.Name != "www" || g.Description != "e" || !g.Stateful || len(g.Rules) != 2 {
		t.Errorf("changed: %+v", g)
	}
	must[[]string](t)(attributestags.ReplaceAll(w.ctx, alice, "security-groups", g.ID, attributestags.ReplaceAllOpts{Tags: []string{"red"}}).Extract())
	for name, opts := range map[string]groups.ListOpts{"name": {Name: "www"}, "tag": {Tags: "red"}, "stateful": {Stateful: &yes, Description: "e"}} {
		if list := w.groupList(alice, opts); len(list) != 1 || list[0].ID != g.ID {
			t.Errorf("by %s: %+v", name, list)
		}
	}
	bob := w.as("bob", "member,reader")
	w.refused(404, groups.Get(w.ctx, bob, g.ID).Err)
	w.refused(404, groups.Delete(w.ctx, bob, g.ID).Err)
	w.refused(409, groups.Delete(w.ctx, alice, first[0].ID).Err)
	if err := groups.Delete(w.ctx, alice, g.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	w.refused(404, groups.Get(w.ctx, alice, g.ID).Err)
	if list := w.groupList(w.ServiceClient, groups.ListOpts{ProjectID: "carol"}); len(list) != 1 || list[0].Name != "default" {
		t.Errorf("the administrator asks for a new project: %+v", list)
	}
	one := 1
	must[*quotas.Quota](t)(quotas.Update(w.ctx, w.ServiceClient, "alice", quotas.UpdateOpts{SecurityGroup: &one}).Extract())
	w.refused(409, groups.Create(w.ctx, alice, groups.CreateOpts{Name: "more"}).Err)
}

func TestSecurityGroupRules(t *testing.T) {
	w := newWorld(t)
	c := w.as("alice", "member,reader")
	g := must[*groups.SecGroup](t)(groups.Create(w.ctx, c, groups.CreateOpts{Name: "web"}).Extract())
	db := must[*groups.SecGroup](t)(groups.Create(w.ctx, c, groups.CreateOpts{Name: "db"}).Extract())
	set := must[*addressgroups.AddressGroup](t)(addressgroups.Create(w.ctx, c, addressgroups.CreateOpts{Name: "set", Addresses: []string{"192.0.2.0/24"}}).Extract())
	var made []*rules.SecGroupRule
	for _, opts := range []rules.CreateOpts{
		{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortRangeMin: 80, PortRangeMax: 443, RemoteIPPrefix: "10.0.0.9/8", Description: "d"},
		{Direction: "ingress", EtherType: "IPv4", Protocol: "icmp", PortRangeMin: 8},
		{Direction: "ingress", EtherType: "IPv6", Protocol: "ipv6-icmp"},
		{Direction: "egress", EtherType: "IPv6", Protocol: "112"},
		{Direction: "ingress", EtherType: "IPv4", RemoteGroupID: db.ID},
		{Direction: "ingress", EtherType: "IPv4", RemoteAddressGroupID: set.ID},
		{Direction: "ingress", EtherType: "IPv4", RemoteIPPrefix: "0.0.0.0/0", Protocol: "udplite"},
	} {
		opts.SecGroupID = g.ID
		r := must[*rules.SecGroupRule](t)(rules.Create(w.ctx, c, opts).Extract())
		if r.Protocol != string(opts.Protocol) || r.RemoteIPPrefix != opts.RemoteIPPrefix || r.PortRangeMin != opts.PortRangeMin ||
			r.PortRangeMax != opts.PortRangeMax || r.RemoteGroupID != opts.RemoteGroupID || r.RemoteAddressGroupID != opts.RemoteAddressGroupID ||
			r.EtherType != string(opts.EtherType) || r.Description != opts.Description || r.SecGroupID != g.ID || r.ProjectID != "alice" {
			t.Errorf("asked for %+v, got %+v", opts, r)
		}
		w.refused(409, rules.Create(w.ctx, c, opts).Err)
		made = append(made, r)
	}
	list := func(opts rules.ListOpts) []rules.SecGroupRule {
		page := must[pagination.Page](t)(rules.List(c, opts).AllPages(w.ctx))
		return must[[]rules.SecGroupRule](t)(rules.ExtractRules(page))
	}
	for name, opts := range map[string]rules.ListOpts{
		"port": {PortRangeMin: 80, SecGroupID: g.ID}, "prefix": {RemoteIPPrefix: "10.0.0.9/8"}, "protocol": {Protocol: "tcp", Direction: "ingress", EtherType: "IPv4"},
	} {
		if got := list(opts); len(got) != 1 || got[0].ID != made[0].ID {
			t.Errorf("by %s: %+v", name, got)
		}
	}
	if got := list(rules.ListOpts{RemoteGroupID: db.ID}); len(got) != 1 || got[0].ID != made[4].ID {
		t.Errorf("by remote group: %+v", got)
	}
	bulk := must[[]rules.SecGroupRule](t)(rules.CreateBulk(w.ctx, c, []rules.CreateOpts{
		{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortRangeMin: 1, PortRangeMax: 1, SecGroupID: g.ID},
		{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortRangeMin: 2, PortRangeMax: 2, SecGroupID: g.ID},
	}).Extract())
	if len(bulk) != 2 {
		t.Errorf("bulk: %+v", bulk)
	}
	w.refused(409, addressgroups.Delete(w.ctx, c, set.ID).Err)
	if err := groups.Delete(w.ctx, c, db.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, rules.Get(w.ctx, c, made[4].ID).Err)
	if err := rules.Delete(w.ctx, c, made[0].ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, rules.Delete(w.ctx, c, made[0].ID).Err)
	resp, err := c.Put(w.ctx, c.ServiceURL("security-group-rules", made[1].ID), map[string]any{"security_group_rule": map[string]any{}}, nil, nil)
	if w.refused(405, err); err == nil {
		t.Errorf("a rule was changed: %s", resp.Status)
	}
	if shown := must[*groups.SecGroup](t)(groups.Get(w.ctx, c, g.ID).Extract()); len(shown.Rules) != 2+7+2-2 {
		t.Errorf("%d rules left", len(shown.Rules))
	}
	// What gophercloud does not know of.
	var raw struct {
		Rule map[string]any `json:"security_group_rule"`
	}
	body := map[string]any{"security_group_rule": map[string]any{
		"security_group_id": g.ID, "direction": "ingress", "ethertype": "ipv4", "protocol": "TCP", "port_range_min": "22", "port_range_max": 22, "remote_ip_prefix": "10.2.3.4/16"}}
	if _, err := c.Post(w.ctx, c.ServiceURL("security-group-rules"), body, &raw, nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"ethertype": "IPv4", "protocol": "tcp", "normalized_cidr": "10.2.0.0/16", "remote_ip_prefix": "10.2.3.4/16",
		"port_range_min": 22, "belongs_to_default_sg": false, "remote_group_id": nil, "remote_address_group_id": nil, "tenant_id": "alice"} {
		if got, ok := raw.Rule[name]; !ok || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestAddressGroups(t *testing.T) {
	w := newWorld(t)
	c := w.as("alice", "member,reader")
	g := must[*addressgroups.AddressGroup](t)(addressgroups.Create(w.ctx, c, addressgroups.CreateOpts{
		Name: "set", Description: "d", Addresses: []string{"10.0.0.0/8", "fd00::/16"}}).Extract())
	change := func(list ...string) addressgroups.UpdateAddressesOpts {
		return addressgroups.UpdateAddressesOpts{Addresses: list}
	}
	g = must[*addressgroups.AddressGroup](t)(addressgroups.AddAddresses(w.ctx, c, g.ID, change("192.0.2.7", "192.0.2.7/32")).Extract())
	if want := []string{"10.0.0.0/8", "192.0.2.7/32", "fd00::/16"}; !slices.Equal(g.Addresses, want) || g.Name != "set" || g.ProjectID != "alice" {
		t.Errorf("group %+v", g)
	}
	w.refused(400, addressgroups.AddAddresses(w.ctx, c, g.ID, change("10.0.0.0/8")).Err)
	w.refused(404, addressgroups.RemoveAddresses(w.ctx, c, g.ID, change("10.0.0.0/9")).Err)
	w.refused(404, addressgroups.AddAddresses(w.ctx, w.as("bob", "member,reader"), g.ID, change("10.0.0.0/9")).Err)
	g = must[*addressgroups.AddressGroup](t)(addressgroups.RemoveAddresses(w.ctx, c, g.ID, change("10.0.0.0/8", "fd00::/16")).Extract())
	name := "other"
	g = must[*addressgroups.AddressGroup](t)(addressgroups.Update(w.ctx, c, g.ID, addressgroups.UpdateOpts{Name: &name}).Extract())
	if g.Name != name || !slices.Equal(g.Addresses, []string{"192.0.2.7/32"}) {
		t.Errorf("group %+v", g)
	}
	page := must[pagination.Page](t)(addressgroups.List(c, addressgroups.ListOpts{Name: name}).AllPages(w.ctx))
	if list := must[[]addressgroups.AddressGroup](t)(addressgroups.ExtractGroups(page)); len(list) != 1 || list[0].ID != g.ID {
		t.Errorf("listed: %+v", list)
	}
	if err := addressgroups.Delete(w.ctx, c, g.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}

func TestPortsWithGroups(t *testing.T) {
	w := newWorld(t)
	n := w.network("n")
	g := must[*groups.SecGroup](t)(groups.Create(w.ctx, w.ServiceClient, groups.CreateOpts{Name: "web"}).Extract())
	create := func(list *[]string) *ports.Port {
		t.Helper()
		return must[*ports.Port](t)(ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: n.ID, SecurityGroups: list}).Extract())
	}
	def := w.groupList(w.ServiceClient, groups.ListOpts{Name: "default"})[0]
	plain, none, web := create(nil), create(&[]string{}), create(&[]string{g.ID})
	if !slices.Equal(plain.SecurityGroups, []string{def.ID}) || len(none.SecurityGroups) != 0 || !slices.Equal(web.SecurityGroups, []string{g.ID}) {
		t.Errorf("groups %v, %v, %v", plain.SecurityGroups, none.SecurityGroups, web.SecurityGroups)
	}
	page := must[pagination.Page](t)(ports.List(w.ServiceClient, ports.ListOpts{SecurityGroups: []string{g.ID}}).AllPages(w.ctx))
	if list := must[[]ports.Port](t)(ports.ExtractPorts(page)); len(list) != 1 || list[0].ID != web.ID {
		t.Errorf("by group: %+v", list)
	}
	w.refused(409, groups.Delete(w.ctx, w.ServiceClient, g.ID).Err)
	off := false
	w.refused(409, ports.Update(w.ctx, w.ServiceClient, web.ID, portsecurity.PortUpdateOptsExt{PortSecurityEnabled: &off, UpdateOptsBuilder: ports.UpdateOpts{}}).Err)
	up := must[*ports.Port](t)(ports.Update(w.ctx, w.ServiceClient, web.ID, portsecurity.PortUpdateOptsExt{PortSecurityEnabled: &off,
		UpdateOptsBuilder: ports.UpdateOpts{SecurityGroups: &[]string{}}}).Extract())
	if len(up.SecurityGroups) != 0 {
		t.Errorf("groups %v", up.SecurityGroups)
	}
	w.refused(400, ports.Update(w.ctx, w.ServiceClient, web.ID, ports.UpdateOpts{SecurityGroups: &[]string{g.ID}}).Err)
	if err := groups.Delete(w.ctx, w.ServiceClient, g.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}

func TestRuleTemplate(t *testing.T) {
	w := newWorld(t)
	var list struct {
		Rules []map[string]any `json:"default_security_group_rules"`
	}
	get := func(c *gophercloud.ServiceClient) int {
		t.Helper()
		if _, err := c.Get(w.ctx, c.ServiceURL("default-security-group-rules"), &list, nil); err != nil {
			t.Fatal(err)
		}
		return len(list.Rules)
	}
	if n := get(w.as("alice", "reader")); n != 4 {
		t.Fatalf("%d rules: %+v", n, list.Rules)
	}
	parents := 0
	for _, r := range list.Rules {
		if r["remote_group_id"] == "PARENT" && r["used_in_default_sg"] == true && r["used_in_non_default_sg"] == false {
			parents++
		}
	}
	if parents != 2 {
		t.Errorf("rules %+v", list.Rules)
	}
	body := map[string]any{"default_security_group_rule": map[string]any{"direction": "ingress", "protocol": "icmp"}}
	var made struct {
		Rule map[string]any `json:"default_security_group_rule"`
	}
	url := w.ServiceURL("default-security-group-rules")
	if _, err := w.Post(w.ctx, url, body, &made, nil); err != nil || made.Rule["used_in_non_default_sg"] != true || made.Rule["used_in_default_sg"] != false {
		t.Fatalf("made %+v, %v", made.Rule, err)
	}
	_, err := w.Post(w.ctx, url, body, nil, nil)
	w.refused(http.StatusConflict, err)
	_, err = w.as("alice", "member,reader").Post(w.ctx, url, body, nil, nil)
	w.refused(http.StatusForbidden, err)
	g := must[*groups.SecGroup](t)(groups.Create(w.ctx, w.ServiceClient, groups.CreateOpts{Name: "web"}).Extract())
	if len(g.Rules) != 3 {
		t.Errorf("rules of a new group: %+v", g.Rules)
	}
	if _, err := w.ServiceClient.Delete(w.ctx, url+"/"+made.Rule["id"].(string), nil); err != nil || get(w.ServiceClient) != 4 {
		t.Errorf("after delete: %+v, %v", list.Rules, err)
	}
}
