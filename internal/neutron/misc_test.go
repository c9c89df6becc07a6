package neutron_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
)

func TestQuotas(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(alice, model.Network{}))(t)
	with := func(network, port int) map[string]int {
		return map[string]int{"network": network, "subnet": 100, "port": port, "security_group": 10, "security_group_rule": 100, "address_group": -1, "rbac_policy": 10, "trunk": -1}
	}
	get := func() map[string]int { return must(e.svc.QuotaOf(e.ctx, alice, alice.ProjectID))(t) }
	if d := cmp.Diff(with(100, 500), get()); d != "" {
		t.Error(d)
	}
	set := func(limits map[string]int, check bool) (map[string]int, error) {
		return e.svc.SetQuota(e.ctx, admin, alice.ProjectID, limits, check)
	}
	must(set(map[string]int{"port": 2, "network": 1}, false))(t)
	if d := cmp.Diff(with(1, 2), get()); d != "" {
		t.Error(d)
	}
	_, err := e.network(alice, model.Network{})
	wantError(t, err, neutron.ClassConflict, "OverQuota", "Quota exceeded for resources: ['network'].")
	two := []*resource.Input[model.Port]{resource.NewInput(model.Port{NetworkID: n.ID}), resource.NewInput(model.Port{NetworkID: n.ID})}
	_, err = e.svc.Ports().Create(e.ctx, alice, append(two, two[0]))
	wantError(t, err, neutron.ClassConflict, "OverQuota", "Quota exceeded for resources: ['port'].")
	must(e.svc.Ports().Create(e.ctx, alice, two))(t)
	_, err = e.port(alice, model.Port{NetworkID: n.ID})
	wantError(t, err, neutron.ClassConflict, "OverQuota", "['port']")
	usage := must(e.svc.QuotaUsage(e.ctx, alice, alice.ProjectID))(t)
	if d := cmp.Diff(map[string]model.QuotaUsage{
		"network": {Limit: 1, Used: 1}, "subnet": {Limit: 100}, "port": {Limit: 2, Used: 2},
		"security_group": {Limit: 10, Used: 1}, "security_group_rule": {Limit: 100, Used: 4}, "address_group": {Limit: -1}, "rbac_policy": {Limit: 10}, "trunk": {Limit: -1},
	}, usage); d != "" {
		t.Error(d)
	}
	_, err = set(map[string]int{"port": 1}, true)
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "below its current usage of 2")
	must(set(map[string]int{"port": -1}, true))(t)
	must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	for _, bad := range []map[string]int{{"port": -2}, {"port": 1 << 31}, {"pizza": 1}} {
		_, err = set(bad, false)
		wantError(t, err, neutron.ClassBadRequest, "HTTPBadRequest", "")
	}
	if list := must(e.svc.ListQuotas(e.ctx, admin))(t); len(list) != 1 || list[0].ProjectID != alice.ProjectID || list[0].Limits["subnet"] != 100 {
		t.Errorf("quotas %+v", list)
	}
	_, err = e.svc.SetQuota(e.ctx, alice, alice.ProjectID, map[string]int{"port": 9}, false)
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:update_quota")
	_, err = e.svc.QuotaOf(e.ctx, bob, alice.ProjectID)
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:get_quota")
	_, err = e.svc.ListQuotas(e.ctx, alice)
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:get_quota")
	if err := e.svc.ResetQuota(e.ctx, admin, alice.ProjectID); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(must(e.svc.DefaultQuota(e.ctx, alice, alice.ProjectID))(t), get()); d != "" {
		t.Error(d)
	}
	wantError(t, e.svc.ResetQuota(e.ctx, admin, alice.ProjectID), neutron.ClassNotFound, "TenantQuotaNotFound", "could not be found")
}

func TestTags(t *testing.T) {
	e := newEnv(t)
	n, s := e.simple(alice, "10.0.0.0/24")
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	for collection, id := range map[string]model.ID{"networks": n.ID, "subnets": s.ID, "ports": p.ID} {
		t.Run(collection, func(t *testing.T) {
			id := string(id)
			list := must(e.svc.ReplaceTags(e.ctx, alice, collection, id, []string{"b", "a", "b"}))(t)
			if !slices.Equal(list, []string{"a", "b"}) {
				t.Errorf("tags %v", list)
			}
			if list = must(e.svc.AddTags(e.ctx, alice, collection, id, []string{"c", "a"}))(t); !slices.Equal(list, []string{"a", "b", "c"}) {
				t.Errorf("tags %v", list)
			}
			if err := e.svc.RemoveTag(e.ctx, alice, collection, id, "b"); err != nil {
				t.Fatal(err)
			}
			wantError(t, e.svc.RemoveTag(e.ctx, alice, collection, id, "b"), neutron.ClassNotFound, "TagNotFound", "Tag b could not be found.")
			if list = must(e.svc.TagsOf(e.ctx, auditor, collection, id))(t); !slices.Equal(list, []string{"a", "c"}) {
				t.Errorf("tags %v", list)
			}
			var many []string
			for i := range 51 {
				many = append(many, fmt.Sprint(i))
			}
			_, err := e.svc.AddTags(e.ctx, alice, collection, id, many)
			wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "exceeds the limit 50")
			_, err = e.svc.AddTags(e.ctx, auditor, collection, id, []string{"z"})
			wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "tags is disallowed by policy")
			_, err = e.svc.TagsOf(e.ctx, bob, collection, id)
			wantError(t, err, neutron.ClassNotFound, strings.ToUpper(collection[:1])+strings.TrimSuffix(collection[1:], "s")+"NotFound", id)
		})
	}
	if got := e.getPort(p.ID); got.Revision != 3 || !slices.Equal(got.Tags, []string{"a", "c"}) {
		t.Errorf("revision %d tags %v after three changes", got.Revision, got.Tags)
	}
	_, err := e.svc.TagsOf(e.ctx, alice, "pizzas", "x")
	wantError(t, err, neutron.ClassNotFound, "HTTPNotFound", "The resource could not be found.")
}

func TestIPAvailability(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	must(e.subnet(alice, slaac(n, "fd00::/64")))(t)
	e.simple(bob, "10.0.0.0/24")
	for range 3 {
		must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	}
	a, ok := e.svc.IPAvailabilityOf(e.st.Snapshot(), admin, string(n.ID))
	if !ok || a.UsedIPs != 6 || a.TotalIPs.String() != "18446744073709551868" || len(a.Subnets) != 2 || a.ProjectID != alice.ProjectID {
		t.Errorf("availability %+v", a)
	}
	if list := e.svc.IPAvailabilities(e.st.Snapshot(), admin); len(list) != 2 {
		t.Errorf("%d networks, want 2", len(list))
	}
	if list := e.svc.IPAvailabilities(e.st.Snapshot(), alice); len(list) != 0 {
		t.Error("a member sees availabilities")
	}
	if _, ok := e.svc.IPAvailabilityOf(e.st.Snapshot(), alice, string(n.ID)); ok {
		t.Error("a member sees an availability")
	}
}

func TestConfig(t *testing.T) {
	st := newEnv(t).st
	for name, edit := range map[string]func(*neutron.Config){
		"no store": func(c *neutron.Config) { c.Store = nil },
		"type":     func(c *neutron.Config) { c.TenantNetworkTypes = []string{"flat"} },
		"VLAN": func(c *neutron.Config) {
			c.VLANRanges = map[string][]neutron.TagRange{"public": {{First: 1, Last: 4095}}}
		},
		"physnet": func(c *neutron.Config) { c.VLANRanges = map[string][]neutron.TagRange{"a b": nil} },
		"flat":    func(c *neutron.Config) { c.FlatNetworks = []string{""} },
		"jumbo":   func(c *neutron.Config) { c.PhysicalNetworkMTUs = map[string]int{"public": 67} },
		"range":   func(c *neutron.Config) { c.VNIRanges = []neutron.TagRange{{First: 5, Last: 4}} },
		"zero":    func(c *neutron.Config) { c.VNIRanges = []neutron.TagRange{{First: 0, Last: 4}} },
		"wide":    func(c *neutron.Config) { c.VNIRanges = []neutron.TagRange{{First: 1, Last: 1 << 24}} },
		"overlap": func(c *neutron.Config) {
			c.TunnelIDRanges = []neutron.TagRange{{First: 1, Last: 4}, {First: 4, Last: 5}}
		},
		"MAC":          func(c *neutron.Config) { c.BaseMAC = model.MAC{1} },
		"full MAC":     func(c *neutron.Config) { c.BaseMAC = model.MAC{2, 2, 2, 2, 2, 2} },
		"overlay":      func(c *neutron.Config) { c.OverlayIPVersion = 5 },
		"agents":       func(c *neutron.Config) { c.DHCPAgents = -1 },
		"quota":        func(c *neutron.Config) { c.DefaultQuota = map[string]int{"pizza": 1} },
		"path MTU":     func(c *neutron.Config) { c.PathMTU = -1 },
		"quota number": func(c *neutron.Config) { c.DefaultQuota = map[string]int{"port": -2} },
	} {
		cfg := neutron.Config{Store: st}
		edit(&cfg)
		if s, err := neutron.New(cfg); err == nil {
			s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	e := envOn(t, st, func(c *neutron.Config) {
		c.OverlayIPVersion, c.PathMTU, c.BaseMAC = 6, 1400, model.MAC{0xfa, 0x16, 0x3e, 0x99}
	})
	n, _ := e.simple(alice, "10.0.0.0/24")
	if n.MTU != 1330 {
		t.Errorf("MTU %d over IPv6 with path MTU 1400, want 1330", n.MTU)
	}
	if p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t); !strings.HasPrefix(p.MAC.String(), "fa:16:3e:99:") {
		t.Errorf("MAC %s", p.MAC)
	}
}
