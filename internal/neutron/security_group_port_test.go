package neutron_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
)

func TestPortGroups(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	web, plain := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t), must(e.group(alice, model.SecurityGroup{Name: "plain", Stateful: true}))(t)
	theirs := must(e.group(bob, model.SecurityGroup{Name: "bob"}))(t)
	def := e.groups(alice)["default"].ID
	ids := func(list ...model.ID) []model.ID { return list }
	for name, tc := range map[string]struct {
		caller *identity.Caller
		port   model.Port
		given  []string
		want   []model.ID
	}{
		"none asked":      {alice, model.Port{}, nil, ids(def)},
		"null":            {alice, model.Port{}, []string{"security_groups"}, ids(def)},
		"empty":           {alice, model.Port{SecurityGroups: []model.ID{}}, []string{"security_groups"}, nil},
		"one":             {alice, model.Port{SecurityGroups: ids(web.ID)}, []string{"security_groups"}, ids(web.ID)},
		"twice the same":  {alice, model.Port{SecurityGroups: ids(web.ID, web.ID)}, []string{"security_groups"}, ids(web.ID)},
		"administrator's": {admin, model.Port{SecurityGroups: ids(theirs.ID), Standard: model.Standard{ProjectID: "p-alice"}}, []string{"security_groups"}, ids(theirs.ID)},
		"for a project":   {admin, model.Port{Standard: model.Standard{ProjectID: "p-alice"}}, nil, ids(def)},
		"network's own":   {alice, model.Port{DeviceOwner: "network:x", SecurityGroups: ids(web.ID)}, []string{"security_groups"}, nil},
		"neutron's own":   {alice, model.Port{DeviceOwner: "neutron:x"}, nil, nil},
		"no security":     {alice, model.Port{}, []string{"port_security_enabled"}, nil},
		"no security, []": {alice, model.Port{SecurityGroups: []model.ID{}}, []string{"port_security_enabled", "security_groups"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc.port.NetworkID = n.ID
			p := must(e.port(tc.caller, tc.port, tc.given...))(t)
			if !slices.Equal(p.SecurityGroups, tc.want) {
				t.Errorf("groups %v, want %v", p.SecurityGroups, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct {
		port      model.Port
		given     []string
		class     neutron.Class
		typ, part string
	}{
		"unknown": {model.Port{SecurityGroups: ids(web.ID, "zz", "yy")}, nil, neutron.ClassNotFound, "SecurityGroupNotFound", "Security group yy, zz does not exist"},
		"foreign": {model.Port{SecurityGroups: ids(theirs.ID)}, nil, neutron.ClassNotFound, "SecurityGroupNotFound", string(theirs.ID)},
		"mixed":   {model.Port{SecurityGroups: ids(web.ID, plain.ID)}, nil, neutron.ClassConflict, "SecurityGroupConflict", "both stateful and stateless"},
		"no security": {model.Port{SecurityGroups: ids(web.ID)}, []string{"port_security_enabled"}, neutron.ClassBadRequest,
			"PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled"},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			tc.port.NetworkID = n.ID
			_, err := e.port(alice, tc.port, append(tc.given, "security_groups")...)
			wantError(t, err, tc.class, tc.typ, tc.part)
		})
	}
}

func TestUpdatePortGroups(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	web, plain := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t), must(e.group(alice, model.SecurityGroup{Name: "plain", Stateful: true}))(t)
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	def := p.SecurityGroups
	groups := func(ids ...model.ID) model.Port { return model.Port{SecurityGroups: ids, PortSecurityEnabled: true} }
	off := func(v model.Port) model.Port { v.PortSecurityEnabled = false; return v }
	for _, step := range []struct {
		name  string
		v     model.Port
		given []string
		want  []model.ID
		typ   string // of the refusal
		class neutron.Class
	}{
		{name: "rename", v: model.Port{Name: "x"}, given: []string{"name"}, want: def},
		{name: "set", v: groups(web.ID), given: []string{"security_groups"}, want: []model.ID{web.ID}},
		{name: "mix", v: groups(web.ID, plain.ID), given: []string{"security_groups"}, typ: "SecurityGroupConflict", class: neutron.ClassConflict},
		{name: "unknown", v: groups("nowhere"), given: []string{"security_groups"}, typ: "SecurityGroupNotFound", class: neutron.ClassNotFound},
		{name: "off, groups left", v: off(model.Port{}), given: []string{"port_security_enabled"}, typ: "PortSecurityPortHasSecurityGroup", class: neutron.ClassConflict},
		{name: "off, groups given", v: off(groups(web.ID)), given: []string{"port_security_enabled", "security_groups"},
			typ: "PortSecurityAndIPRequiredForSecurityGroups", class: neutron.ClassBadRequest},
		{name: "off, cleared", v: off(groups()), given: []string{"port_security_enabled", "security_groups"}},
		{name: "groups while off", v: groups(web.ID), given: []string{"security_groups"}, typ: "PortSecurityAndIPRequiredForSecurityGroups", class: neutron.ClassBadRequest},
		{name: "on", v: groups(), given: []string{"port_security_enabled"}},
		{name: "stateless", v: groups(plain.ID), given: []string{"security_groups"}, want: []model.ID{plain.ID}},
		{name: "null", v: model.Port{}, given: []string{"security_groups"}},
		{name: "set again", v: groups(web.ID), given: []string{"security_groups"}, want: []model.ID{web.ID}},
		{name: "becomes the network's", v: model.Port{DeviceOwner: "network:router_interface"}, given: []string{"device_owner"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			before := e.getPort(p.ID)
			up, err := e.updatePort(alice, p.ID, step.v, step.given...)
			if step.typ != "" {
				wantError(t, err, step.class, step.typ, "")
				if after := e.getPort(p.ID); after.Revision != before.Revision {
					t.Error("a refused update left traces")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(up.SecurityGroups, step.want) {
				t.Errorf("groups %v, want %v", up.SecurityGroups, step.want)
			}
		})
	}
}

// TestTrustedOwnerNeedsTheNetwork: on another's network nobody takes his port out of the firewall by calling it the network's.
func TestTrustedOwnerNeedsTheNetwork(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(admin, model.Network{Shared: true}))(t)
	for _, owner := range []string{"network:dhcp", "neutron:x"} {
		_, err := e.port(bob, model.Port{NetworkID: n.ID, DeviceOwner: owner}, "device_owner")
		wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_port:device_owner")
		p := must(e.port(bob, model.Port{NetworkID: n.ID}))(t)
		_, err = e.updatePort(bob, p.ID, model.Port{DeviceOwner: owner}, "device_owner")
		wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:update_port:device_owner")
	}
}

// TestBulkPortsOfNewProject: a bulk request of a project without a group makes it once.
func TestBulkPortsOfNewProject(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(admin, model.Network{Shared: true}))(t)
	var in []*resource.Input[model.Port]
	for i := range 5 {
		in = append(in, resource.NewInput(model.Port{NetworkID: n.ID, Name: fmt.Sprint(i)}))
	}
	for _, p := range must(e.svc.Ports().Create(e.ctx, bob, in))(t) {
		if !slices.Equal(p.SecurityGroups, []model.ID{e.groups(bob)["default"].ID}) {
			t.Errorf("groups %v", p.SecurityGroups)
		}
	}
}

func (e *env) addressGroup(c *identity.Caller, list ...string) (*model.AddressGroup, error) {
	v := model.AddressGroup{Name: "set", Addresses: prefixes(list...)}
	return first(e.svc.AddressGroups().Create(e.ctx, c, []*resource.Input[model.AddressGroup]{resource.NewInput(v)}))
}

func prefixes(list ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestAddressGroups(t *testing.T) {
	e := newEnv(t)
	set := must(e.addressGroup(alice, "fd00::/8", "10.0.0.0/8"))(t)
	if !slices.Equal(set.Addresses, prefixes("10.0.0.0/8", "fd00::/8")) {
		t.Errorf("addresses %v", set.Addresses)
	}
	id := string(set.ID)
	add := func(c *identity.Caller, list ...string) (*model.AddressGroup, error) {
		return e.svc.AddAddresses(e.ctx, c, id, prefixes(list...))
	}
	remove := func(list ...string) (*model.AddressGroup, error) {
		return e.svc.RemoveAddresses(e.ctx, alice, id, prefixes(list...))
	}
	if up := must(add(alice, "9.9.9.9/32"))(t); up.Revision != 1 || !slices.Equal(up.Addresses, prefixes("9.9.9.9/32", "10.0.0.0/8", "fd00::/8")) {
		t.Errorf("group %+v", up)
	}
	_, err := add(alice, "8.8.8.8/32", "9.9.9.9/32")
	wantError(t, err, neutron.ClassBadRequest, "AddressesAlreadyExist", "Addresses ['9.9.9.9/32'] already exist in the address group "+id+".")
	_, err = remove("10.0.0.0/8", "10.0.0.0/9")
	wantError(t, err, neutron.ClassNotFound, "AddressesNotFound", "Addresses ['10.0.0.0/9'] not found in the address group "+id+".")
	if up := must(remove("10.0.0.0/8"))(t); len(up.Addresses) != 2 {
		t.Errorf("addresses %v", up.Addresses)
	}
	_, err = add(bob, "1.0.0.0/8")
	wantError(t, err, neutron.ClassNotFound, "AddressGroupNotFound", "Address group "+id+" could not be found.")
	_, err = add(auditor, "1.0.0.0/8")
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:update_address_group")
	var many []string
	for i := range 10000 {
		many = append(many, fmt.Sprintf("11.0.%d.%d/32", i/256, i%256))
	}
	_, err = add(alice, many...)
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "exceeds the limit 10000")

	g := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	r := must(e.rule(alice, aRule(g, func(r *model.SecurityGroupRule) { r.RemoteAddressGroupID = set.ID })))(t)
	drop := func() error { return e.svc.AddressGroups().Delete(e.ctx, alice, id, nil) }
	wantError(t, drop(), neutron.ClassConflict, "AddressGroupInUse", "Address group "+id+" is in use on one or more security group rules.")
	if err := e.svc.SecurityGroupRules().Delete(e.ctx, alice, string(r.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := drop(); err != nil {
		t.Error(err)
	}
	wantError(t, drop(), neutron.ClassNotFound, "AddressGroupNotFound", "")
}

func TestTemplate(t *testing.T) {
	e := newEnv(t)
	kind := e.svc.DefaultRules()
	create := func(list ...model.DefaultRule) ([]*model.DefaultRule, error) {
		var in []*resource.Input[model.DefaultRule]
		for _, r := range list {
			in = append(in, resource.NewInput(r))
		}
		return kind.Create(e.ctx, admin, in)
	}
	ssh := model.DefaultRule{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 22, PortMax: 22, InOthers: true}
	made := must(create(ssh))(t)[0]
	_, err := create(ssh)
	wantError(t, err, neutron.ClassConflict, "DefaultSecurityGroupRuleExists", "Rule id is "+string(made.ID))
	web := ssh
	web.PortMin, web.PortMax = 80, 80
	_, err = create(web, web)
	wantError(t, err, neutron.ClassConflict, "DuplicateDefaultSgRuleInPost", "Duplicate")
	web.PortMax = 79
	_, err = create(web)
	wantError(t, err, neutron.ClassBadRequest, "SecurityGroupInvalidPortRange", "")
	web.PortMax, web.RemoteGroupID = 80, "nowhere"
	_, err = create(web)
	wantError(t, err, neutron.ClassNotFound, "SecurityGroupNotFound", "")
	g := must(e.group(alice, model.SecurityGroup{Name: "web"}))(t)
	if want := []string{"egress IPv4", "egress IPv6", "ingress IPv4 tcp"}; !slices.Equal(rulesOf(g), want) {
		t.Errorf("rules %v, want %v", rulesOf(g), want)
	}
	if n := len(e.groups(alice)["default"].Rules); n != 4 {
		t.Errorf("default group has %d rules, want four", n)
	}
	// What is deleted stays deleted, down to the last rule.
	if err := kind.Prepare(e.ctx, admin, nil); err != nil {
		t.Fatal(err)
	}
	for r := range store.All(e.st.Snapshot(), model.DefaultRuleTable) {
		wantError(t, kind.Delete(e.ctx, alice, string(r.ID), nil), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:delete_default_security_group_rule")
		if err := kind.Delete(e.ctx, admin, string(r.ID), nil); err != nil {
			t.Error(err)
		}
	}
	wantError(t, kind.Delete(e.ctx, admin, string(made.ID), nil), neutron.ClassNotFound, "DefaultSecurityGroupRuleNotFound", "does not exist")
	if err := kind.Prepare(e.ctx, admin, nil); err != nil {
		t.Fatal(err)
	}
	if g := must(e.group(bob, model.SecurityGroup{Name: "bare"}))(t); len(g.Rules) != 0 || len(e.groups(bob)["default"].Rules) != 0 {
		t.Errorf("rules from an empty template: %v", rulesOf(g))
	}
}
