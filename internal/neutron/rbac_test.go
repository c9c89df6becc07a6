package neutron_test

import (
	"errors"
	"testing"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
)

var (
	carol     = &identity.Caller{ProjectID: "p-carol", Roles: []string{"member", "reader"}}
	bobReader = &identity.Caller{ProjectID: "p-bob", Roles: []string{"reader"}}
)

func (e *env) grant(c *identity.Caller, typ string, id model.ID, action, target string) (*model.RBACPolicy, error) {
	v := model.RBACPolicy{ObjectType: typ, ObjectID: id, Action: action, Target: target}
	return first(e.svc.RBACPolicies().Create(e.ctx, c, []*resource.Input[model.RBACPolicy]{
		resource.NewInput(v, "object_type", "object_id", "action", "target_tenant")}))
}

func (e *env) retarget(c *identity.Caller, id model.ID, target string) (*model.RBACPolicy, error) {
	return e.svc.RBACPolicies().Update(e.ctx, c, string(id), resource.NewInput(model.RBACPolicy{Target: target}, "target_tenant"), nil)
}

func (e *env) revoke(c *identity.Caller, id model.ID) error {
	return e.svc.RBACPolicies().Delete(e.ctx, c, string(id), nil)
}

// verdict is what came of an operation: "" yes, "403", "404" or whatever else.
func verdict(err error) string {
	var refused *neutron.Error
	switch {
	case err == nil:
		return "yes"
	case !errors.As(err, &refused):
		return err.Error()
	case refused.Class == neutron.ClassNotFound:
		return "404"
	case refused.Class == neutron.ClassForbidden:
		return "403"
	}
	return refused.Type
}

// TestVisibilityOfNetworks walks who (owner, other, stranger, admin, readers) × how (private, shared, external, shared and external with one
// project, shared with everyone by a policy) × what (list and show, use, make a subnet, update, delete): the network is alice's, policies
// for one project are bob's.
func TestVisibilityOfNetworks(t *testing.T) {
	type answers struct{ show, use, subnet, update, remove string }
	all := answers{"yes", "yes", "yes", "yes", "yes"}
	none := answers{"404", "404", "404", "404", "404"}
	guest := answers{"yes", "yes", "403", "403", "403"}
	look := answers{"yes", "403", "403", "403", "403"}
	callers := map[string]*identity.Caller{
		"owner": alice, "other": bob, "stranger": carol, "admin": admin, "owner's reader": auditor, "other's reader": bobReader, "service": nova,
	}
	policy := func(action, target string) func(*env, *model.Network) {
		return func(e *env, n *model.Network) {
			must(e.grant(admin, model.RBACNetwork, n.ID, action, target))(e.t)
		}
	}
	attribute := func(v model.Network, name string) func(*env, *model.Network) {
		return func(e *env, n *model.Network) {
			must(e.svc.Networks().Update(e.ctx, admin, string(n.ID), resource.NewInput(v, name), nil))(e.t)
		}
	}
	toAll := map[string]answers{"other": guest, "stranger": guest, "other's reader": look}
	toBob := map[string]answers{"other": guest, "stranger": none, "other's reader": look}
	for name, tc := range map[string]struct {
		share func(*env, *model.Network)
		want  map[string]answers // of those who differ from how
	}{
		"private":          {func(*env, *model.Network) {}, map[string]answers{"other": none, "stranger": none, "other's reader": none}},
		"shared":           {attribute(model.Network{Shared: true}, "shared"), toAll},
		"external":         {attribute(model.Network{External: true}, "router:external"), toAll},
		"shared with one":  {policy(model.AccessShared, bob.ProjectID), toBob},
		"external for one": {policy(model.AccessExternal, bob.ProjectID), toBob},
		"shared with all":  {policy(model.AccessShared, model.EveryProject), toAll},
		"external for all": {policy(model.AccessExternal, model.EveryProject), toAll},
	} {
		t.Run(name, func(t *testing.T) {
			for who, c := range callers {
				e := newEnv(t)
				n := must(e.network(alice, model.Network{Name: "n"}))(t)
				tc.share(e, n)
				want, given := tc.want[who]
				switch {
				case given:
				case who == "owner's reader":
					want = look
				case who == "service": // Nova makes ports for others, and changes no networks
					want = answers{"yes", "yes", "403", "403", "403"}
				default:
					want = all
				}
				got := answers{
					show: e.show(c, n), use: verdict(second(e.port(c, model.Port{NetworkID: n.ID}))),
					subnet: verdict(second(e.subnet(c, v4(n, "10.0.0.0/24")))), update: verdict(e.update(c, n.ID)),
				}
				for p := range store.Find(e.st.Snapshot(), model.PortTable, "network", string(n.ID)) {
					if err := e.svc.Ports().Delete(e.ctx, admin, string(p.ID), nil); err != nil {
						t.Fatal(err)
					}
				}
				got.remove = verdict(e.svc.Networks().Delete(e.ctx, c, string(n.ID), nil))
				if got != want {
					t.Errorf("%s: %+v, want %+v", who, got, want)
				}
			}
		})
	}
}

// show tells whether a list and a show have the network; the same function decides both in the API.
func (e *env) show(c *identity.Caller, n *model.Network) string {
	row, ok := store.Get(e.st.Snapshot(), model.NetworkTable, string(n.ID))
	if !ok || !e.svc.Networks().Visible(e.st.Snapshot(), c, row) {
		return "404"
	}
	return "yes"
}

// shared is the attribute as the caller sees it.
func (e *env) shared(c *identity.Caller, id model.ID) bool {
	e.t.Helper()
	r := e.st.Snapshot()
	row, ok := store.Get(r, model.NetworkTable, string(id))
	if !ok {
		e.t.Fatalf("network %s is not there", id)
	}
	return e.svc.Networks().Present(r, c, row).Shared
}

// TestSharedAsSeen: shared is true for those with whom the network is shared, and its subnets and ports follow.
func TestSharedAsSeen(t *testing.T) {
	e := newEnv(t)
	n, sub := e.simple(alice, "10.0.0.0/24")
	p := must(e.grant(alice, model.RBACNetwork, n.ID, model.AccessShared, bob.ProjectID))(t)
	if p.ProjectID != alice.ProjectID || !e.shared(bob, n.ID) || e.shared(alice, n.ID) || e.shared(admin, n.ID) || e.shared(carol, n.ID) {
		t.Errorf("policy %+v: bob sees %v, alice %v, admin %v", p, e.shared(bob, n.ID), e.shared(alice, n.ID), e.shared(admin, n.ID))
	}
	r := e.st.Snapshot()
	if !e.svc.Subnets().Visible(r, bob, sub) || e.svc.Subnets().Visible(r, carol, sub) || !e.svc.Subnets().Present(r, bob, sub).Shared {
		t.Error("the subnet does not follow its network")
	}
	port := must(e.port(bob, model.Port{NetworkID: n.ID}))(t)
	r = e.st.Snapshot()
	visible := e.svc.Ports().Visible
	if !visible(r, bob, port) || !visible(r, alice, port) || visible(r, carol, port) {
		t.Error("bob's port shows to bob and to the network's owner")
	}
	must(e.grant(admin, model.RBACNetwork, n.ID, model.AccessShared, model.EveryProject))(t)
	for _, c := range []*identity.Caller{alice, bob, carol, admin} {
		if !e.shared(c, n.ID) {
			t.Errorf("shared with everyone, but not as %s sees it", c.ProjectID)
		}
	}
}

// TestSharedIsAPolicy: the attributes and the wildcard policies are the same thing, whichever is written.
func TestSharedIsAPolicy(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(admin, model.Network{Shared: true, External: true}))(t)
	list := func() map[string]*model.RBACPolicy {
		out := map[string]*model.RBACPolicy{}
		for p := range store.Find(e.st.Snapshot(), model.RBACPolicyTable, "object", model.RBACObject(model.RBACNetwork, n.ID)) {
			out[p.Action+" "+p.Target] = p
		}
		return out
	}
	set := func(v model.Network, name string) *model.Network {
		t.Helper()
		return must(e.svc.Networks().Update(e.ctx, admin, string(n.ID), resource.NewInput(v, name), nil))(t)
	}
	both := list()
	if len(both) != 2 || both["access_as_shared *"] == nil || both["access_as_external *"] == nil {
		t.Fatalf("policies %v", both)
	}
	_, err := e.grant(admin, model.RBACNetwork, n.ID, model.AccessShared, "*")
	wantError(t, err, neutron.ClassConflict, "DuplicateRbacPolicy", "An RBAC policy already exists with those values.")
	if got := set(model.Network{}, "shared"); got.Shared || len(list()) != 1 {
		t.Errorf("not shared any more: %v, policies %v", got.Shared, list())
	}
	if err := e.revoke(admin, both["access_as_external *"].ID); err != nil {
		t.Fatal(err)
	}
	row, _ := store.Get(e.st.Snapshot(), model.NetworkTable, string(n.ID))
	if row.External || len(list()) != 0 {
		t.Errorf("without its policy the network is external: %v", row.External)
	}
	one := must(e.grant(admin, model.RBACNetwork, n.ID, model.AccessExternal, bob.ProjectID))(t)
	if row, _ = store.Get(e.st.Snapshot(), model.NetworkTable, string(n.ID)); !row.External {
		t.Error("with a policy for one project the network is not external")
	}
	if got := set(model.Network{External: true, IsDefault: true}, "is_default"); !got.IsDefault || len(list()) != 1 {
		t.Errorf("default external network: %v, policies %v", got.IsDefault, list())
	}
	if got := set(model.Network{}, "router:external"); got.External || got.IsDefault || len(list()) != 0 {
		t.Errorf("not external any more: %+v, policies %v", got, list())
	}
	wantError(t, e.revoke(admin, one.ID), neutron.ClassNotFound, "RbacPolicyNotFound", "not found")
	must(e.grant(admin, model.RBACNetwork, n.ID, model.AccessShared, "p-x"))(t)
	if err := e.svc.Networks().Delete(e.ctx, admin, string(n.ID), nil); err != nil || store.Count(e.st.Snapshot(), model.RBACPolicyTable, "", "") != 0 {
		t.Errorf("policies left behind: %v, %v", list(), err)
	}
}

// TestRevokeInUse: what another project uses by virtue of a policy is not taken from it, unless another policy covers it.
func TestRevokeInUse(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	one := must(e.grant(alice, model.RBACNetwork, n.ID, model.AccessShared, bob.ProjectID))(t)
	port := must(e.port(bob, model.Port{NetworkID: n.ID}))(t)
	inUse := func(err error) {
		t.Helper()
		wantError(t, err, neutron.ClassConflict, "RbacPolicyInUse", "RBAC policy on object "+string(n.ID)+" cannot be removed because other objects")
	}
	inUse(e.revoke(alice, one.ID))
	inUse(second(e.retarget(alice, one.ID, carol.ProjectID)))
	every := must(e.grant(admin, model.RBACNetwork, n.ID, model.AccessShared, "*"))(t)
	if err := e.revoke(alice, one.ID); err != nil {
		t.Fatal(err)
	}
	inUse(e.revoke(admin, every.ID))
	_, err := e.svc.Networks().Update(e.ctx, admin, string(n.ID), resource.NewInput(model.Network{}, "shared"), nil)
	wantError(t, err, neutron.ClassConflict, "InvalidSharedSetting", "Unable to reconfigure sharing settings")
	if got := must(e.retarget(admin, every.ID, bob.ProjectID))(t); got.Target != bob.ProjectID || e.shared(carol, n.ID) {
		t.Errorf("policy %+v", got)
	}
	if err := e.svc.Ports().Delete(e.ctx, bob, string(port.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.revoke(admin, every.ID); err != nil {
		t.Fatal(err)
	}
	// A gateway belongs to no project: it could be anyone's.
	out := must(e.network(admin, model.Network{External: true}))(t)
	gw := must(e.port(admin, model.Port{NetworkID: out.ID, DeviceOwner: "network:router_gateway"}))(t)
	_, err = e.svc.Networks().Update(e.ctx, admin, string(out.ID), resource.NewInput(model.Network{}, "router:external"), nil)
	wantError(t, err, neutron.ClassConflict, "ExternalNetworkInUse", "has existing gateway ports")
	if err := e.svc.Ports().Delete(e.ctx, admin, string(gw.ID), nil); err != nil {
		t.Fatal(err)
	}
	must(e.svc.Networks().Update(e.ctx, admin, string(out.ID), resource.NewInput(model.Network{}, "router:external"), nil))(t)
}

// TestRevokeAgainstUse: of a policy's end and a port by virtue of it at once, at most one happens.
func TestRevokeAgainstUse(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(alice, model.Network{}))(t)
	for range 20 {
		p := must(e.grant(alice, model.RBACNetwork, n.ID, model.AccessShared, bob.ProjectID))(t)
		errs := parallel(4, func(i int) error {
			if i == 0 {
				return e.revoke(alice, p.ID)
			}
			return second(e.port(bob, model.Port{NetworkID: n.ID}))
		})
		ports := store.Count(e.st.Snapshot(), model.PortTable, "project", bob.ProjectID)
		if (errs[0] == nil) == (ports > 0) {
			t.Fatalf("revoked: %v, with %d ports", errs[0] == nil, ports)
		}
		for port := range store.Find(e.st.Snapshot(), model.PortTable, "project", bob.ProjectID) {
			if err := e.svc.Ports().Delete(e.ctx, bob, string(port.ID), nil); err != nil {
				t.Fatal(err)
			}
		}
		if errs[0] != nil {
			if err := e.revoke(alice, p.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPolicyRights(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(alice, model.Network{}))(t)
	shared := must(e.network(admin, model.Network{Shared: true}))(t)
	mine := must(e.grant(alice, model.RBACNetwork, n.ID, model.AccessShared, bob.ProjectID))(t)
	create := func(c *identity.Caller, typ string, id model.ID, action, target string) error {
		return second(e.grant(c, typ, id, action, target))
	}
	for _, tc := range []struct {
		name  string
		err   error
		class neutron.Class
		typ   string
		part  string
	}{
		{"type", create(alice, "router", n.ID, model.AccessShared, "x"), neutron.ClassBadRequest, "InvalidInput", "'router' is not a valid RBAC object type"},
		{"action", create(alice, "network", n.ID, "access_as_owner", "x"), neutron.ClassBadRequest, "InvalidActionForType",
			"Invalid action 'access_as_owner' for object type 'network'. Valid actions: access_as_external,access_as_shared"},
		{"action of groups", create(admin, "security_group", n.ID, model.AccessExternal, "x"), neutron.ClassBadRequest, "InvalidActionForType", "security_group"},
		{"no target", create(alice, "network", n.ID, model.AccessShared, " "), neutron.ClassBadRequest, "HTTPBadRequest", "Blank strings"},
		{"everyone", create(alice, "network", n.ID, model.AccessShared, "*"), neutron.ClassForbidden, "PolicyNotAuthorized", "create_rbac_policy:target_tenant"},
		{"external", create(alice, "network", n.ID, model.AccessExternal, "x"), neutron.ClassForbidden, "PolicyNotAuthorized", "create_rbac_policy"},
		{"reader", create(auditor, "network", n.ID, model.AccessShared, "x"), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_rbac_policy"},
		{"hidden object", create(carol, "network", n.ID, model.AccessShared, "x"), neutron.ClassNotFound, "NetworkNotFound", string(n.ID)},
		{"no object", create(admin, "network", "nope", model.AccessShared, "x"), neutron.ClassNotFound, "NetworkNotFound", "nope"},
		{"another's object", create(bob, "network", shared.ID, model.AccessShared, "x"), neutron.ClassBadRequest, "InvalidInput",
			"Only admins can manipulate policies on objects they do not own"},
		{"twice", create(alice, "Network ", n.ID, model.AccessShared, bob.ProjectID), neutron.ClassConflict, "DuplicateRbacPolicy", ""},
		{"another's policy", e.revoke(bob, mine.ID), neutron.ClassNotFound, "RbacPolicyNotFound", string(mine.ID)},
		{"reader deletes", e.revoke(auditor, mine.ID), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:delete_rbac_policy"},
		{"to everyone", second(e.retarget(alice, mine.ID, "*")), neutron.ClassForbidden, "PolicyNotAuthorized", "update_rbac_policy:target_tenant"},
	} {
		t.Run(tc.name, func(t *testing.T) { wantError(t, tc.err, tc.class, tc.typ, tc.part) })
	}
	if visible := e.svc.RBACPolicies().Visible; visible(e.st.Snapshot(), bob, mine) || !visible(e.st.Snapshot(), auditor, mine) {
		t.Error("a policy shows to its project")
	}
	must(e.svc.SetQuota(e.ctx, admin, alice.ProjectID, map[string]int{"rbac_policy": 1}, false))(t)
	wantError(t, create(alice, "network", n.ID, model.AccessShared, carol.ProjectID), neutron.ClassConflict, "OverQuota", "['rbac_policy']")
}

// TestSharedGroups: a security group and an address group can be lent; what uses them keeps them.
func TestSharedGroups(t *testing.T) {
	e := newEnv(t)
	g := must(first(e.svc.SecurityGroups().Create(e.ctx, alice, []*resource.Input[model.SecurityGroup]{resource.NewInput(model.SecurityGroup{Name: "web"}, "name")})))(t)
	n := must(e.network(bob, model.Network{}))(t)
	with := func() (*model.Port, error) {
		return e.port(bob, model.Port{NetworkID: n.ID, PortSecurityEnabled: true, SecurityGroups: []model.ID{g.ID}}, "security_groups")
	}
	_, err := with()
	wantError(t, err, neutron.ClassNotFound, "SecurityGroupNotFound", string(g.ID))
	p := must(e.grant(alice, model.RBACSecurityGroup, g.ID, model.AccessShared, bob.ProjectID))(t)
	r := e.st.Snapshot()
	row, _ := store.Get(r, model.SecurityGroupTable, string(g.ID))
	kind := e.svc.SecurityGroups()
	if !kind.Visible(r, bob, row) || kind.Visible(r, carol, row) || !kind.Present(r, bob, row).Shared || kind.Present(r, alice, row).Shared {
		t.Error("the group does not show to those with whom it is shared")
	}
	for _, rule := range kind.Present(r, bob, row).Rules {
		if !e.svc.SecurityGroupRules().Visible(r, bob, rule) || e.svc.SecurityGroupRules().Visible(r, carol, rule) {
			t.Error("the rules do not follow their group")
		}
	}
	port := must(with())(t)
	wantError(t, e.revoke(alice, p.ID), neutron.ClassConflict, "RbacPolicyInUse", "the security group is in use by project p-bob")
	wantError(t, kind.Delete(e.ctx, bob, string(g.ID), nil), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:delete_security_group")
	if err := e.svc.Ports().Delete(e.ctx, bob, string(port.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.revoke(alice, p.ID); err != nil {
		t.Fatal(err)
	}

	ag := must(first(e.svc.AddressGroups().Create(e.ctx, alice, []*resource.Input[model.AddressGroup]{resource.NewInput(model.AddressGroup{Name: "a"}, "name")})))(t)
	lent := must(e.grant(alice, model.RBACAddressGroup, ag.ID, model.AccessShared, bob.ProjectID))(t)
	own := must(first(kind.Create(e.ctx, bob, []*resource.Input[model.SecurityGroup]{resource.NewInput(model.SecurityGroup{Name: "own"}, "name")})))(t)
	must(e.svc.SecurityGroupRules().Create(e.ctx, bob, []*resource.Input[model.SecurityGroupRule]{resource.NewInput(model.SecurityGroupRule{
		SecurityGroupID: own.ID, Direction: model.DirectionIngress, EtherType: model.EtherIPv4, PortMin: -1, PortMax: -1, RemoteAddressGroupID: ag.ID,
	}, "security_group_id", "direction", "remote_address_group_id")}))(t)
	wantError(t, e.revoke(alice, lent.ID), neutron.ClassConflict, "RbacPolicyInUse", "the address group is in use by project p-bob")
	if err := kind.Delete(e.ctx, bob, string(own.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.svc.AddressGroups().Delete(e.ctx, alice, string(ag.ID), nil); err != nil || store.Count(e.st.Snapshot(), model.RBACPolicyTable, "", "") != 0 {
		t.Errorf("policies left behind: %v", err)
	}
}
