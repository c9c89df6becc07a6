package neutron_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
)

func TestNetworkCreate(t *testing.T) {
	e := newEnv(t, func(c *neutron.Config) { c.VNIRanges = []neutron.TagRange{{First: 1000, Last: 1999}} })
	n := must(e.network(alice, model.Network{Name: "blue"}))(t)
	if n.ProjectID != alice.ProjectID || n.Segment.Type != model.TypeVXLAN || n.MTU != 1450 || n.Revision != 0 {
		t.Errorf("network %+v", n)
	}
	if id := n.Segment.SegmentationID; id < 1000 || id > 1999 {
		t.Errorf("segmentation id %d is out of the configured range", id)
	}
	if n.Subnets == nil {
		t.Error("subnets of a new network are null, want []")
	}
}

func TestNetworkSegments(t *testing.T) {
	e := newEnv(t)
	given := []string{"provider:network_type", "provider:segmentation_id"}
	for _, tc := range []struct {
		seg model.Segment
		mtu int
	}{
		{model.Segment{Type: model.TypeGRE, SegmentationID: 77}, 1458},
		{model.Segment{Type: model.TypeVXLAN, SegmentationID: 16777215}, 1450},
		{model.Segment{Type: model.TypeLocal}, 1500},
	} {
		n := must(e.network(admin, model.Network{Segment: tc.seg}, given...))(t)
		if n.Segment != tc.seg || n.MTU != tc.mtu {
			t.Errorf("network %+v MTU %d, want %+v %d", n.Segment, n.MTU, tc.seg, tc.mtu)
		}
	}
	for _, tc := range []struct {
		seg   model.Segment
		mtu   int
		class neutron.Class
		typ   string
		part  string
	}{
		{model.Segment{Type: model.TypeGRE, SegmentationID: 77}, 0, neutron.ClassConflict, "TunnelIdInUse", "tunnel ID 77 is in use"},
		{model.Segment{Type: model.TypeVXLAN, SegmentationID: 1 << 24}, 0, neutron.ClassBadRequest, "InvalidInput", "out of range"},
		{model.Segment{Type: "geneve", SegmentationID: 5}, 0, neutron.ClassBadRequest, "InvalidInput", "'geneve' is not supported"},
		{model.Segment{Type: model.TypeLocal, SegmentationID: 5}, 0, neutron.ClassBadRequest, "InvalidInput", "prohibited"},
		{model.Segment{Type: model.TypeGRE, PhysicalNetwork: "x"}, 0, neutron.ClassBadRequest, "InvalidInput", "physical_network"},
		{model.Segment{SegmentationID: 5}, 0, neutron.ClassBadRequest, "InvalidInput", "network_type required"},
		{model.Segment{}, 1451, neutron.ClassBadRequest, "InvalidInput", "Requested MTU is too big, maximum is 1450"},
		{model.Segment{}, 10, neutron.ClassBadRequest, "InvalidInput", "too small"},
	} {
		_, err := e.network(admin, model.Network{Segment: tc.seg, MTU: tc.mtu}, given...)
		wantError(t, err, tc.class, tc.typ, tc.part)
	}
}

// TestNoNetworkAvailable: with all ids taken the answer is 503, and one that is given back is used.
func TestNoNetworkAvailable(t *testing.T) {
	e := newEnv(t, func(c *neutron.Config) {
		c.TenantNetworkTypes = []string{"vxlan", "gre"}
		c.VNIRanges = []neutron.TagRange{{First: 5, Last: 6}}
		c.TunnelIDRanges = []neutron.TagRange{{First: 9, Last: 9}}
	})
	seen := map[string]model.ID{}
	for range 3 {
		n := must(e.network(alice, model.Network{}))(t)
		seen[n.Segment.Value()] = n.ID
	}
	if len(seen) != 3 {
		t.Fatalf("segments %v", seen)
	}
	_, err := e.network(alice, model.Network{})
	wantError(t, err, neutron.ClassUnavailable, "NoNetworkAvailable", "No tenant network is available for allocation")
	if err := e.svc.Networks().Delete(e.ctx, alice, string(seen["vxlan//6"]), nil); err != nil {
		t.Fatal(err)
	}
	if n := must(e.network(alice, model.Network{}))(t); n.Segment.SegmentationID != 6 {
		t.Errorf("segment %+v, want the one given back", n.Segment)
	}
}

// TestNetworkBulkIsAtomic: a bulk request of which one fails leaves nothing.
func TestNetworkBulkIsAtomic(t *testing.T) {
	e := newEnv(t)
	seg := model.Segment{Type: model.TypeGRE, SegmentationID: 5}
	in := []*resource.Input[model.Network]{
		resource.NewInput(model.Network{Name: "a", Segment: seg}, "provider:network_type"),
		resource.NewInput(model.Network{Name: "b", Segment: seg}, "provider:network_type"),
	}
	_, err := e.svc.Networks().Create(e.ctx, admin, in)
	wantError(t, err, neutron.ClassConflict, "TunnelIdInUse", "tunnel ID 5")
	must(e.network(admin, model.Network{Segment: seg}, "provider:network_type"))(t)
}

func TestNetworkUpdate(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(alice, model.Network{Name: "a"}))(t)
	e.clock.add(90e9)
	up := must(e.svc.Networks().Update(e.ctx, alice, string(n.ID),
		resource.NewInput(model.Network{Name: "b", Standard: model.Standard{Description: "x"}, MTU: 1400}, "name", "description", "mtu"), nil))(t)
	if up.Name != "b" || up.Description != "x" || up.MTU != 1400 || up.Revision != 1 || !up.UpdatedAt.After(n.UpdatedAt) || !up.AdminStateUp {
		t.Errorf("updated network %+v", up)
	}
	reset := must(e.svc.Networks().Update(e.ctx, alice, string(n.ID), resource.NewInput(model.Network{}, "mtu"), nil))(t)
	if reset.MTU != 1450 {
		t.Errorf("MTU 0 gave %d, want the type's", reset.MTU)
	}
	_, err := e.svc.Networks().Update(e.ctx, alice, string(n.ID), resource.NewInput(model.Network{MTU: 1451}, "mtu"), nil)
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "maximum is 1450")
	_, err = e.svc.Networks().Update(e.ctx, admin, string(n.ID),
		resource.NewInput(model.Network{Segment: model.Segment{SegmentationID: 9}}, "provider:segmentation_id"), nil)
	wantError(t, err, neutron.ClassBadRequest, "InvalidInput", "does not support updating provider attributes")

	stale, current := int64(0), int64(2)
	_, err = e.svc.Networks().Update(e.ctx, alice, string(n.ID), resource.NewInput(model.Network{Name: "c"}, "name"), &stale)
	wantError(t, err, neutron.ClassPrecondition, "RevisionNumberConstraintFailed", "Constrained to 0, but current revision is 2")
	must(e.svc.Networks().Update(e.ctx, alice, string(n.ID), resource.NewInput(model.Network{Name: "c"}, "name"), &current))(t)
	wantError(t, e.svc.Networks().Delete(e.ctx, alice, string(n.ID), &current), neutron.ClassPrecondition,
		"RevisionNumberConstraintFailed", "Constrained to 2")
}

func TestNetworkPolicy(t *testing.T) {
	e := newEnv(t)
	mine := must(e.network(alice, model.Network{}))(t)
	shared := must(e.network(admin, model.Network{Shared: true}))(t)
	for _, tc := range []struct {
		name string
		err  error
		typ  string
		part string
	}{
		{"shared", second(e.network(alice, model.Network{Shared: true})), "PolicyNotAuthorized",
			"(rule:create_network and rule:create_network:shared) is disallowed by policy"},
		{"shared and external", second(e.network(alice, model.Network{Shared: true, External: true})), "PolicyNotAuthorized",
			"((rule:create_network and rule:create_network:shared) and rule:create_network:router:external) is disallowed by policy"},
		{"provider", second(e.network(alice, model.Network{Segment: model.Segment{Type: "gre"}}, "provider:network_type")),
			"PolicyNotAuthorized", "rule:create_network:provider:network_type"},
		{"reader", second(e.network(auditor, model.Network{})), "PolicyNotAuthorized", "rule:create_network is disallowed by policy"},
		{"change the shared", e.update(alice, shared.ID), "PolicyNotAuthorized", "rule:update_network is disallowed by policy"},
		{"delete the shared", e.svc.Networks().Delete(e.ctx, bob, string(shared.ID), nil), "PolicyNotAuthorized", "rule:delete_network"},
	} {
		t.Run(tc.name, func(t *testing.T) { wantError(t, tc.err, neutron.ClassForbidden, tc.typ, tc.part) })
	}
	_, err := e.network(alice, model.Network{Standard: model.Standard{ProjectID: "other"}})
	wantError(t, err, neutron.ClassBadRequest, "HTTPBadRequest", "requires admin privileges")
	wantError(t, e.update(bob, mine.ID), neutron.ClassNotFound, "NetworkNotFound", "could not be found")
	wantError(t, e.svc.Networks().Delete(e.ctx, bob, string(mine.ID), nil), neutron.ClassNotFound, "NetworkNotFound", string(mine.ID))
	if err := e.update(admin, mine.ID); err != nil {
		t.Errorf("administrator cannot change: %v", err)
	}
	external := must(e.network(admin, model.Network{External: true}))(t)
	visible := e.svc.Networks().Visible
	for _, tc := range []struct {
		ok   bool
		want bool
	}{
		{visible(e.st.Snapshot(), bob, mine), false},
		{visible(e.st.Snapshot(), auditor, mine), true},
		{visible(e.st.Snapshot(), nova, mine), true},
		{visible(e.st.Snapshot(), bob, shared), true},
		{visible(e.st.Snapshot(), bob, external), true},
	} {
		if tc.ok != tc.want {
			t.Errorf("visible = %v, want %v", tc.ok, tc.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// update renames a network.
func (e *env) update(c *identity.Caller, id model.ID) error {
	return second(e.svc.Networks().Update(e.ctx, c, string(id), resource.NewInput(model.Network{Name: "x"}, "name"), nil))
}

func TestNetworkUnshare(t *testing.T) {
	e := newEnv(t)
	n := must(e.network(admin, model.Network{Name: "s", Shared: true}))(t)
	must(e.subnet(admin, v4(n, "10.0.0.0/24")))(t)
	unshare := func() error {
		return second(e.svc.Networks().Update(e.ctx, admin, string(n.ID), resource.NewInput(model.Network{}, "shared"), nil))
	}
	p := must(e.port(bob, model.Port{NetworkID: n.ID}))(t)
	wantError(t, unshare(), neutron.ClassConflict, "InvalidSharedSetting", "Unable to reconfigure sharing settings for network s")
	if err := e.svc.Ports().Delete(e.ctx, bob, string(p.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := unshare(); err != nil {
		t.Fatal(err)
	}
	_, err := e.port(bob, model.Port{NetworkID: n.ID})
	wantError(t, err, neutron.ClassNotFound, "NetworkNotFound", string(n.ID))
}

func TestNetworkDelete(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	n, sub := e.simple(alice, "10.0.0.0/24")
	if len(e.dhcpPorts(n)) != 1 {
		t.Fatalf("DHCP ports %v, want one", e.dhcpPorts(n))
	}
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	err := e.svc.Networks().Delete(e.ctx, alice, string(n.ID), nil)
	wantError(t, err, neutron.ClassConflict, "NetworkInUse", "There are one or more ports still in use on the network")
	if err := e.svc.Ports().Delete(e.ctx, alice, string(p.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.svc.Networks().Delete(e.ctx, alice, string(n.ID), nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, e.svc.Networks().Delete(e.ctx, alice, string(n.ID), nil), neutron.ClassNotFound, "NetworkNotFound", "")
	wantError(t, e.svc.Subnets().Delete(e.ctx, alice, string(sub.ID), nil), neutron.ClassNotFound, "SubnetNotFound", "")
	if d := cmp.Diff(map[string]int{}, e.leftovers()); d != "" {
		t.Errorf("rows left behind: %s", d)
	}
}
