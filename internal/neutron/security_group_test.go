package neutron_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

func (e *env) group(c *identity.Caller, v model.SecurityGroup) (*model.SecurityGroup, error) {
	v.Stateful = !v.Stateful // the zero value here is Neutron's default
	out, err := e.svc.SecurityGroups().Create(e.ctx, c, []*resource.Input[model.SecurityGroup]{resource.NewInput(v)})
	return first(out, err)
}

// aRule is a rule of a group as decoding makes it of a body that says nothing else.
func aRule(g *model.SecurityGroup, edit ...func(*model.SecurityGroupRule)) model.SecurityGroupRule {
	r := model.SecurityGroupRule{SecurityGroupID: g.ID, Direction: "ingress", EtherType: "IPv4", PortMin: -1, PortMax: -1}
	for _, f := range edit {
		f(&r)
	}
	return r
}

func tcp(low, high int) func(*model.SecurityGroupRule) {
	return func(r *model.SecurityGroupRule) { r.Protocol, r.PortMin, r.PortMax = "tcp", low, high }
}

func (e *env) rules(c *identity.Caller, list ...model.SecurityGroupRule) ([]*model.SecurityGroupRule, error) {
	in := make([]*resource.Input[model.SecurityGroupRule], len(list))
	for i, r := range list {
		in[i] = resource.NewInput(r)
	}
	return e.svc.SecurityGroupRules().Create(e.ctx, c, in)
}

func (e *env) rule(c *identity.Caller, r model.SecurityGroupRule) (*model.SecurityGroupRule, error) {
	return first(e.rules(c, r))
}

func (e *env) updateGroup(c *identity.Caller, id model.ID, v model.SecurityGroup, given ...string) (*model.SecurityGroup, error) {
	return e.svc.SecurityGroups().Update(e.ctx, c, string(id), resource.NewInput(v, given...), nil)
}

// groups are a project's groups by name, presented.
func (e *env) groups(c *identity.Caller) map[string]*model.SecurityGroup {
	r := e.st.Snapshot()
	out := map[string]*model.SecurityGroup{}
	for g := range store.Find(r, model.SecurityGroupTable, "project", c.ProjectID) {
		if out[g.Name] != nil {
			e.t.Errorf("two groups named %s", g.Name)
		}
		out[g.Name] = e.svc.SecurityGroups().Present(r, c, g)
	}
	return out
}

// rulesOf puts a group's rules into words, sorted.
func rulesOf(g *model.SecurityGroup) []string {
	out := []string{}
	for _, r := range g.Rules {
		text := r.Direction + " " + r.EtherType
		if r.RemoteGroupID == g.ID {
			text += " from itself"
		}
		if r.Protocol != "" {
			text += " " + r.Protocol
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// TestDefaultGroup: a project has it from its first network, port, group or list on, with its four rules.
func TestDefaultGroup(t *testing.T) {
	four := []string{"egress IPv4", "egress IPv6", "ingress IPv4 from itself", "ingress IPv6 from itself"}
	for name, use := range map[string]func(t *testing.T, e *env){
		"network": func(t *testing.T, e *env) { must(e.network(alice, model.Network{}))(t) },
		"port": func(t *testing.T, e *env) {
			n := must(e.network(admin, model.Network{Shared: true}))(t)
			must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
		},
		"group": func(t *testing.T, e *env) { must(e.group(alice, model.SecurityGroup{Name: "web"}))(t) },
		"list": func(t *testing.T, e *env) {
			if err := e.svc.SecurityGroups().Prepare(e.ctx, alice, []string{"p-bob"}); err != nil {
				t.Fatal(err)
			}
		},
		"administrator's list": func(t *testing.T, e *env) {
			if err := e.svc.SecurityGroupRules().Prepare(e.ctx, admin, []string{"p-alice"}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			use(t, e)
			g := e.groups(alice)["default"]
			if g == nil {
				t.Fatal("no default group")
			}
			if d := cmp.Diff(four, rulesOf(g)); d != "" {
				t.Error(d)
			}
			if g.Description != "Default security group" || !g.Stateful || g.Revision != 1 || !g.Rules[0].BelongsToDefault {
				t.Errorf("group %+v", g)
			}
			if len(e.groups(bob)) != 0 {
				t.Errorf("groups of a project that did nothing: %v", e.groups(bob))
			}
			must(e.network(alice, model.Network{}))(t)
			if again := e.groups(alice)["default"]; again.ID != g.ID {
				t.Error("default group made twice")
			}
		})
	}
}

// TestReadersSeeTheDefaultGroup: a list shows it to whoever may list, and makes it for the caller's project alone.
func TestReadersSeeTheDefaultGroup(t *testing.T) {
	e := newEnv(t)
	if err := e.svc.SecurityGroups().Prepare(e.ctx, auditor, []string{"p-bob"}); err != nil || len(e.groups(alice)) != 1 || len(e.groups(bob)) != 0 {
		t.Errorf("groups %v and %v, %v", e.groups(alice), e.groups(bob), err)
	}
	if err := e.svc.SecurityGroups().Prepare(e.ctx, &identity.Caller{Roles: admin.Roles, System: true}, nil); err != nil {
		t.Errorf("list without a project: %v", err)
	}
}

// TestDefaultGroupOnce: however many need it at once, on two servers, there is one.
func TestDefaultGroupOnce(t *testing.T) {
	at := storetest.Etcd(t)
	a := envOn(t, storetest.Join(t, at, model.AllTables()...), unlimited)
	b := envOn(t, storetest.Join(t, at, model.AllTables()...), unlimited)
	for _, err := range parallel(24, func(i int) error {
		e := []*env{a, b}[i%2]
		if i%3 == 0 {
			return second(e.group(alice, model.SecurityGroup{Name: string(rune('a' + i))}))
		}
		return second(e.network(alice, model.Network{}))
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	if err := a.st.View(a.ctx, func(r store.Read) error {
		if n := store.Count(r, model.SecurityGroupTable, "name", "default"); n != 1 {
			t.Errorf("%d default groups", n)
		}
		if n := store.Count(r, model.SecurityGroupRuleTable, "", ""); n != 4+8*2 {
			t.Errorf("%d rules, want 20", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSameRuleOnce: of equal rules that are made at once on two servers one is made, the others name it.
func TestSameRuleOnce(t *testing.T) {
	at := storetest.Etcd(t)
	a := envOn(t, storetest.Join(t, at, model.AllTables()...))
	b := envOn(t, storetest.Join(t, at, model.AllTables()...))
	g := must(a.group(alice, model.SecurityGroup{Name: "web"}))(t)
	made := make([]*model.SecurityGroupRule, 16)
	errs := parallel(len(made), func(i int) (err error) {
		made[i], err = []*env{a, b}[i%2].rule(alice, aRule(g, tcp(80, 80)))
		return err
	})
	won := slices.IndexFunc(errs, func(err error) bool { return err == nil })
	if won < 0 {
		t.Fatal(errs)
	}
	for i, err := range errs {
		if i != won {
			wantError(t, err, neutron.ClassConflict, "SecurityGroupRuleExists", "Rule id is "+string(made[won].ID))
		}
	}
}

func TestDefaultGroupIsKept(t *testing.T) {
	e := newEnv(t)
	must(e.network(alice, model.Network{}))(t)
	g := e.groups(alice)["default"]
	conflict := func(err error, typ, part string) { t.Helper(); wantError(t, err, neutron.ClassConflict, typ, part) }
	conflict(second(e.group(alice, model.SecurityGroup{Name: "Default"})), "SecurityGroupDefaultAlreadyExists", "already exists")
	conflict(second(e.updateGroup(alice, g.ID, model.SecurityGroup{Name: "mine"}, "name")), "SecurityGroupCannotUpdateDefault", "not allowed")
	conflict(e.svc.SecurityGroups().Delete(e.ctx, alice, string(g.ID), nil), "SecurityGroupCannotRemoveDefault", "Insufficient rights")
	web := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	conflict(second(e.updateGroup(alice, web.ID, model.SecurityGroup{Name: "default"}, "name")), "SecurityGroupDefaultAlreadyExists", "")
	up := must(e.updateGroup(alice, g.ID, model.SecurityGroup{Standard: model.Standard{Description: "x"}}, "description"))(t)
	if up.Description != "x" || up.Name != "default" || up.Revision != 2 || len(up.Rules) != 4 {
		t.Errorf("group %+v", up)
	}
	if err := e.svc.SecurityGroups().Delete(e.ctx, admin, string(g.ID), nil); err != nil {
		t.Errorf("administrator cannot delete it: %v", err)
	}
	must(e.network(alice, model.Network{}))(t)
	if again := e.groups(alice)["default"]; again == nil || again.ID == g.ID {
		t.Error("default group does not come back")
	}
}

func TestGroupPolicy(t *testing.T) {
	e := newEnv(t)
	g := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	r := g.Rules[0]
	missing, missingRule := "Security group "+string(g.ID)+" does not exist", "Security group rule "+string(r.ID)+" does not exist"
	svc, rules := e.svc.SecurityGroups(), e.svc.SecurityGroupRules()
	for name, tc := range map[string]struct {
		err       error
		class     neutron.Class
		typ, part string
	}{
		"bob updates":          {second(e.updateGroup(bob, g.ID, model.SecurityGroup{Name: "x"}, "name")), neutron.ClassNotFound, "SecurityGroupNotFound", missing},
		"bob deletes":          {svc.Delete(e.ctx, bob, string(g.ID), nil), neutron.ClassNotFound, "SecurityGroupNotFound", missing},
		"bob adds a rule":      {second(e.rule(bob, aRule(g))), neutron.ClassNotFound, "SecurityGroupNotFound", missing},
		"bob deletes a rule":   {rules.Delete(e.ctx, bob, string(r.ID), nil), neutron.ClassNotFound, "SecurityGroupRuleNotFound", missingRule},
		"reader creates":       {second(e.group(auditor, model.SecurityGroup{})), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_security_group is"},
		"reader updates":       {second(e.updateGroup(auditor, g.ID, model.SecurityGroup{}, "name")), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:update_security_group is"},
		"reader deletes":       {svc.Delete(e.ctx, auditor, string(g.ID), nil), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:delete_security_group is"},
		"reader adds a rule":   {second(e.rule(auditor, aRule(g))), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_security_group_rule is"},
		"reader deletes rule":  {rules.Delete(e.ctx, auditor, string(r.ID), nil), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:delete_security_group_rule is"},
		"for another project":  {second(e.group(bob, model.SecurityGroup{Standard: model.Standard{ProjectID: "p-alice"}})), neutron.ClassBadRequest, "HTTPBadRequest", "admin privileges"},
		"template by a member": {second(e.svc.DefaultRules().Create(e.ctx, alice, nil)), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_default_security_group_rule"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, tc.err, tc.class, tc.typ, tc.part) })
	}
	// A rule that an administrator adds belongs to the administrator's project, and still is the group owner's to see and delete.
	theirs := aRule(g, tcp(1, 2))
	made := must(e.rule(admin, theirs))(t)
	if made.ProjectID != admin.ProjectID || !rules.Visible(e.st.Snapshot(), alice, made) || rules.Visible(e.st.Snapshot(), bob, made) {
		t.Errorf("rule of %s", made.ProjectID)
	}
	if err := rules.Delete(e.ctx, alice, string(made.ID), nil); err != nil {
		t.Error(err)
	}
	stale := int64(0)
	wantError(t, svc.Delete(e.ctx, alice, string(g.ID), &stale), neutron.ClassPrecondition, "RevisionNumberConstraintFailed", "")
	wantError(t, rules.Delete(e.ctx, alice, string(r.ID), new(int64(7))), neutron.ClassPrecondition, "RevisionNumberConstraintFailed", "")
}

// TestGroupRevisions: a group counts the changes of its rules.
func TestGroupRevisions(t *testing.T) {
	e := newEnv(t)
	g := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	if d := cmp.Diff([]string{"egress IPv4", "egress IPv6"}, rulesOf(g)); d != "" {
		t.Error(d)
	}
	list := must(e.rules(alice, aRule(g, tcp(80, 80)), aRule(g, tcp(443, 443))))(t)
	if err := e.svc.SecurityGroupRules().Delete(e.ctx, alice, string(list[0].ID), nil); err != nil {
		t.Fatal(err)
	}
	if g := e.groups(alice)["web"]; g.Revision != 4 || len(g.Rules) != 3 {
		t.Errorf("revision %d with %d rules, want 4 with 3", g.Revision, len(g.Rules))
	}
}

func TestDeleteGroup(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	web, db := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t), must(e.group(alice, model.SecurityGroup{Name: "db"}))(t)
	ref := must(e.rule(alice, aRule(db, tcp(3306, 3306), func(r *model.SecurityGroupRule) { r.RemoteGroupID = web.ID })))(t)
	before := e.groups(alice)["db"].Revision
	p := must(e.port(alice, model.Port{NetworkID: n.ID, SecurityGroups: []model.ID{web.ID}}, "security_groups"))(t)
	drop := func() error { return e.svc.SecurityGroups().Delete(e.ctx, alice, string(web.ID), nil) }
	wantError(t, drop(), neutron.ClassConflict, "SecurityGroupInUse", "Security Group "+string(web.ID)+" in use.")
	_, err := e.updateGroup(alice, web.ID, model.SecurityGroup{Stateful: false}, "stateful")
	wantError(t, err, neutron.ClassConflict, "SecurityGroupInUse", string(web.ID))
	must(e.updateGroup(alice, web.ID, model.SecurityGroup{Stateful: true}, "stateful"))(t) // no change
	if err := e.svc.Ports().Delete(e.ctx, alice, string(p.ID), nil); err != nil {
		t.Fatal(err)
	}
	if up := must(e.updateGroup(alice, web.ID, model.SecurityGroup{Stateful: false}, "stateful"))(t); up.Stateful {
		t.Error("group is still stateful")
	}
	if err := drop(); err != nil {
		t.Fatal(err)
	}
	r := e.st.Snapshot()
	if _, ok := store.Get(r, model.SecurityGroupRuleTable, string(ref.ID)); ok {
		t.Error("a rule refers to a group that is gone")
	}
	if n := store.Count(r, model.SecurityGroupRuleTable, "group", string(web.ID)); n != 0 {
		t.Errorf("%d rules of a group that is gone", n)
	}
	if g := e.groups(alice)["db"]; g.Revision != before+1 || len(g.Rules) != 2 {
		t.Errorf("group that referred to it: revision %d, %d rules", g.Revision, len(g.Rules))
	}
}

// TestGroupInUseRace: a group that a port gets at the same moment is either in use or not found, never gone from under the port.
func TestGroupInUseRace(t *testing.T) {
	e := newEnv(t, unlimited)
	n, _ := e.simple(alice, "10.0.0.0/24")
	for range 20 {
		g := must(e.group(alice, model.SecurityGroup{Name: "x"}))(t)
		errs := parallel(2, func(i int) error {
			if i == 0 {
				return e.svc.SecurityGroups().Delete(e.ctx, alice, string(g.ID), nil)
			}
			return second(e.port(alice, model.Port{NetworkID: n.ID, SecurityGroups: []model.ID{g.ID}}, "security_groups"))
		})
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("deleted: %v, used: %v", errs[0], errs[1])
		}
	}
}

func TestRuleErrors(t *testing.T) {
	e := newEnv(t)
	g, other := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t), must(e.group(bob, model.SecurityGroup{Name: "bob"}))(t)
	set := must(e.addressGroup(bob, "10.0.0.0/8"))(t)
	type edit = func(*model.SecurityGroupRule)
	proto := func(name string, low, high int) edit {
		return func(r *model.SecurityGroupRule) { r.Protocol, r.PortMin, r.PortMax = name, low, high }
	}
	bad := neutron.ClassBadRequest
	for name, tc := range map[string]struct {
		edit      edit
		class     neutron.Class
		typ, part string
	}{
		"reversed ports":      {proto("tcp", 9, 8), bad, "SecurityGroupInvalidPortRange", "port_range_min must be <= port_range_max"},
		"no end":              {proto("udp", 9, -1), bad, "SecurityGroupInvalidPortRange", ""},
		"no start":            {proto("sctp", -1, 9), bad, "SecurityGroupInvalidPortRange", ""},
		"port 0":              {proto("tcp", 0, 9), bad, "SecurityGroupInvalidPortValue", "Invalid value for port 0"},
		"port 0 by number":    {proto("136", 0, 0), bad, "SecurityGroupInvalidPortValue", ""},
		"ports alone":         {proto("", 80, 80), bad, "SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol"},
		"ports of ESP":        {proto("esp", 1, 2), bad, "SecurityGroupInvalidProtocolForPort", "Invalid protocol esp for port range"},
		"ports of 0":          {proto("0", 1, 2), bad, "SecurityGroupInvalidProtocolForPort", ""},
		"ICMP type":           {proto("icmp", 256, -1), bad, "SecurityGroupInvalidIcmpValue", "ICMP type (port_range_min) 256"},
		"ICMP code":           {proto("icmp", 8, 256), bad, "SecurityGroupInvalidIcmpValue", "ICMP code (port_range_max) 256"},
		"ICMP code, no type":  {proto("icmp", -1, 0), bad, "SecurityGroupMissingIcmpType", "ICMP code (port-range-max) 0 is provided"},
		"code of 1, no type":  {proto("1", -1, 3), bad, "SecurityGroupMissingIcmpType", ""},
		"ICMPv6 in IPv4":      {proto("ipv6-icmp", -1, -1), bad, "SecurityGroupEthertypeConflictWithProtocol", "Invalid ethertype IPv4 for protocol ipv6-icmp"},
		"58 in IPv4":          {proto("58", -1, -1), bad, "SecurityGroupEthertypeConflictWithProtocol", ""},
		"prefix and group":    {func(r *model.SecurityGroupRule) { r.RemotePrefix, r.RemoteGroupID = "10.0.0.0/8", g.ID }, bad, "SecurityGroupMultipleRemoteEntites", "Only one of"},
		"group and addresses": {func(r *model.SecurityGroupRule) { r.RemoteAddressGroupID, r.RemoteGroupID = set.ID, g.ID }, bad, "SecurityGroupMultipleRemoteEntites", ""},
		"IPv6 prefix in IPv4": {func(r *model.SecurityGroupRule) { r.RemotePrefix = "fd00::/8" }, bad, "SecurityGroupRuleParameterConflict", "ethertype IPv4 for CIDR fd00::/8"},
		"IPv4 prefix in IPv6": {func(r *model.SecurityGroupRule) { r.EtherType, r.RemotePrefix = "IPv6", "0.0.0.0/0" }, bad, "SecurityGroupRuleParameterConflict", ""},
		"no prefix":           {func(r *model.SecurityGroupRule) { r.RemotePrefix = "ten" }, bad, "InvalidCIDR", "Invalid CIDR ten given as IP prefix."},
		"unknown group":       {func(r *model.SecurityGroupRule) { r.SecurityGroupID = "nowhere" }, neutron.ClassNotFound, "SecurityGroupNotFound", "nowhere does not exist"},
		"another's group":     {func(r *model.SecurityGroupRule) { r.RemoteGroupID = other.ID }, neutron.ClassNotFound, "SecurityGroupNotFound", string(other.ID)},
		"another's addresses": {func(r *model.SecurityGroupRule) { r.RemoteAddressGroupID = set.ID }, neutron.ClassNotFound, "AddressGroupNotFound", string(set.ID)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.rules(alice, aRule(g, tcp(7, 7)), aRule(g, tc.edit))
			wantError(t, err, tc.class, tc.typ, tc.part)
		})
	}
	if n := len(e.groups(alice)["web"].Rules); n != 2 {
		t.Errorf("%d rules after refusals, want the first two", n)
	}
}

// TestSameRule: what counts as the same rule.
func TestSameRule(t *testing.T) {
	e := newEnv(t)
	g := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	remote := func(p string) func(*model.SecurityGroupRule) {
		return func(r *model.SecurityGroupRule) { r.RemotePrefix = p }
	}
	described := func(r *model.SecurityGroupRule) { r.Description = "other" }
	number := func(r *model.SecurityGroupRule) { r.Protocol = "6" }
	for name, tc := range map[string]struct {
		a, b []func(*model.SecurityGroupRule)
		same bool
	}{
		"description":     {nil, []func(*model.SecurityGroupRule){described}, true},
		"protocol number": {[]func(*model.SecurityGroupRule){tcp(1, 2)}, []func(*model.SecurityGroupRule){tcp(1, 2), number}, true},
		"any prefix":      {[]func(*model.SecurityGroupRule){tcp(3, 4)}, []func(*model.SecurityGroupRule){tcp(3, 4), remote("0.0.0.0/0")}, true},
		"host bits":       {[]func(*model.SecurityGroupRule){remote("10.0.0.0/8")}, []func(*model.SecurityGroupRule){remote("10.1.2.3/8")}, true},
		"ports":           {[]func(*model.SecurityGroupRule){tcp(5, 5)}, []func(*model.SecurityGroupRule){tcp(5, 6)}, false},
		"prefix":          {[]func(*model.SecurityGroupRule){remote("11.0.0.0/8")}, []func(*model.SecurityGroupRule){remote("11.0.0.0/9")}, false},
		"egress":          {[]func(*model.SecurityGroupRule){tcp(8, 8)}, []func(*model.SecurityGroupRule){tcp(8, 8), func(r *model.SecurityGroupRule) { r.Direction = "egress" }}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := aRule(g, tc.a...), aRule(g, tc.b...)
			_, err := e.rules(alice, a, b)
			if !tc.same {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, neutron.ClassConflict, "DuplicateSecurityGroupRuleInPost", "Duplicate Security Group Rule in POST.")
			made := must(e.rule(alice, a))(t)
			_, err = e.rule(alice, b)
			wantError(t, err, neutron.ClassConflict, "SecurityGroupRuleExists", "Security group rule already exists. Rule id is "+string(made.ID))
		})
	}
	shown := must(e.rule(alice, aRule(g, tcp(22, 22), remote("192.0.2.9/24"))))(t)
	if shown.RemotePrefix != "192.0.2.9/24" || shown.NormalizedPrefix.String() != "192.0.2.0/24" {
		t.Errorf("prefix %s, normalised %s", shown.RemotePrefix, shown.NormalizedPrefix)
	}
}

func TestGroupQuota(t *testing.T) {
	e := newEnv(t, func(c *neutron.Config) {
		c.DefaultQuota = map[string]int{"security_group": 4, "security_group_rule": 8}
	})
	must(e.network(alice, model.Network{}))(t) // default group with four rules
	over := func(err error, what string) {
		t.Helper()
		wantError(t, err, neutron.ClassConflict, "OverQuota", "Quota exceeded for resources: ["+what+"].")
	}
	g := must(e.group(alice, model.SecurityGroup{Name: "a"}))(t)
	over(second(e.rules(alice, aRule(g, tcp(1, 1)), aRule(g, tcp(2, 2)), aRule(g, tcp(3, 3)))), "'security_group_rule'")
	must(e.rule(alice, aRule(g, tcp(1, 1))))(t)
	over(second(e.group(alice, model.SecurityGroup{Name: "b"})), "'security_group_rule'")
	must(e.svc.SetQuota(e.ctx, admin, alice.ProjectID, map[string]int{"security_group_rule": -1}, false))(t)
	must(e.group(alice, model.SecurityGroup{Name: "b"}))(t)
	must(e.group(alice, model.SecurityGroup{Name: "c"}))(t)
	over(second(e.group(alice, model.SecurityGroup{Name: "d"})), "'security_group'")
	must(e.svc.SetQuota(e.ctx, admin, alice.ProjectID, map[string]int{"security_group_rule": 0, "security_group": 0}, false))(t)
	over(second(e.group(alice, model.SecurityGroup{Name: "d"})), "'security_group', 'security_group_rule'")
	// A project that may have no group at all still can have networks and ports.
	must(e.svc.SetQuota(e.ctx, admin, bob.ProjectID, map[string]int{"security_group_rule": 0, "security_group": 0}, false))(t)
	must(e.network(bob, model.Network{}))(t)
	usage := must(e.svc.QuotaUsage(e.ctx, alice, alice.ProjectID))(t)
	if u := usage["security_group_rule"]; u.Used != 4+3*2+1 || u.Reserved != 0 {
		t.Errorf("usage %+v", u)
	}
}

// TestGroupQuotaExact: groups made at once never exceed the quota of rules, which each of them uses twice.
func TestGroupQuotaExact(t *testing.T) {
	e := newEnv(t, func(c *neutron.Config) {
		c.DefaultQuota = map[string]int{"security_group": -1, "security_group_rule": 20}
	})
	good := 0
	for _, err := range parallel(16, func(i int) error {
		return second(e.group(alice, model.SecurityGroup{Name: strings.Repeat("x", i+1)}))
	}) {
		if err == nil {
			good++
		}
	}
	if good != 8 {
		t.Errorf("%d groups, want the 8 whose rules fit beside the default group's", good)
	}
}

func TestGroupTags(t *testing.T) {
	e := newEnv(t)
	g := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	must(e.svc.ReplaceTags(e.ctx, alice, "security-groups", string(g.ID), []string{"b", "a"}))(t)
	must(e.svc.AddTags(e.ctx, alice, "security-group-rules", string(g.Rules[0].ID), []string{"r"}))(t)
	if got := e.groups(alice)["web"]; !slices.Equal(got.Tags, []string{"a", "b"}) || got.Revision != 2 {
		t.Errorf("tags %v, revision %d", got.Tags, got.Revision)
	}
	_, err := e.svc.ReplaceTags(e.ctx, auditor, "security-groups", string(g.ID), nil)
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:update_security_groups_tags is disallowed")
	_, err = e.svc.TagsOf(e.ctx, bob, "security-groups", string(g.ID))
	wantError(t, err, neutron.ClassNotFound, "SecurityGroupNotFound", "")
}
