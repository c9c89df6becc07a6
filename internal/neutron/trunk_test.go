package neutron_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

func (e *env) trunk(c *identity.Caller, parent model.ID, subs ...model.SubPort) (*model.Trunk, error) {
	v := model.Trunk{PortID: parent, AdminStateUp: true, SubPorts: subs}
	return first(e.svc.Trunks().Create(e.ctx, c, []*resource.Input[model.Trunk]{resource.NewInput(v, "port_id", "sub_ports")}))
}

func vlanSub(p *model.Port, id int) model.SubPort {
	return model.SubPort{PortID: p.ID, SegmentationType: model.SegmentationVLAN, SegmentationID: id}
}

func TestTrunkLife(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", "compute")
	n := must(e.network(alice, model.Network{}))(t)
	port := func() *model.Port { return must(e.port(alice, model.Port{NetworkID: n.ID}))(t) }
	parent, a, b := port(), port(), port()
	tr := must(e.trunk(alice, parent.ID, vlanSub(a, 10)))(t)
	if tr.Status != model.StatusDown {
		t.Errorf("a new trunk is %s", tr.Status)
	}
	must(e.updatePort(admin, parent.ID, model.Port{Binding: model.Binding{Host: "cmp1"}}, "binding:host_id"))(t)
	want := "tbr-" + string(tr.ID)[:10]
	if got := e.getPort(parent.ID).Binding; got.VIFType != model.VIFOVS || got.VIFDetails["bridge_name"] != want {
		t.Errorf("parent is bound %+v, want bridge %s", got, want)
	}
	for _, id := range []model.ID{a.ID} {
		if p := e.getPort(id); p.Binding.Host != "cmp1" || !p.Bound() || p.DeviceOwner != model.OwnerSubPort {
			t.Errorf("subport does not follow its parent: %+v", p.Binding)
		}
	}
	// What has not changed about the node changes nothing about the bridge.
	before := e.getPort(parent.ID).Revision
	e.reconcile()
	if after := e.getPort(parent.ID); after.Revision != before {
		t.Errorf("reconciliation changed the parent: %+v", after.Binding)
	}
	tr = must(e.svc.AddSubPorts(e.ctx, alice, string(tr.ID), []model.SubPort{vlanSub(b, 20)}))(t)
	if p := e.getPort(b.ID); p.Binding.Host != "cmp1" || p.DeviceOwner != model.OwnerSubPort {
		t.Errorf("a subport added later is not bound: %+v", p.Binding)
	}
	details := must(e.svc.Ports().Update(e.ctx, alice, string(parent.ID), resource.NewInput(model.Port{Name: "p"}, "name"), nil))(t).TrunkDetails
	if d := cmp.Diff(&model.TrunkDetails{TrunkID: tr.ID, SubPorts: tr.SubPorts, MACs: []model.MAC{a.MAC, b.MAC}}, details); d != "" {
		t.Errorf("trunk details (-want +got):\n%s", d)
	}

	report := func(host string, state nodestate.State) string {
		err := e.svc.ApplyReports(e.ctx, host, []nodestate.Status{{Key: nodestate.TrunkKey(string(tr.ID)), Revision: 1, State: state, Reason: "r"}})
		if err != nil {
			t.Fatal(err)
		}
		row, _ := store.Get(e.st.Snapshot(), model.TrunkTable, string(tr.ID))
		return e.svc.Trunks().Present(e.st.Snapshot(), alice, row).Status
	}
	for _, step := range []struct {
		host  string
		state nodestate.State
		want  string
	}{
		{"cmp2", nodestate.Done, model.StatusDown}, {"cmp1", nodestate.Pending, model.StatusBuild}, {"cmp1", nodestate.Done, model.StatusActive},
		{"cmp1", nodestate.Failed, model.StatusDegraded}, {"cmp1", nodestate.Absent, model.StatusDown},
	} {
		if got := report(step.host, step.state); got != step.want {
			t.Errorf("%s says %s: trunk is %s, want %s", step.host, step.state, got, step.want)
		}
	}

	remove := func() error { return e.svc.Trunks().Delete(e.ctx, alice, string(tr.ID), nil) }
	wantError(t, remove(), neutron.ClassConflict, "TrunkInUse", string(tr.ID))
	wantError(t, e.svc.Ports().Delete(e.ctx, alice, string(parent.ID), nil), neutron.ClassConflict, "PortInUseAsTrunkParent", string(tr.ID))
	wantError(t, e.svc.Ports().Delete(e.ctx, alice, string(a.ID), nil), neutron.ClassConflict, "PortInUseAsSubPort", string(tr.ID))
	must(e.svc.RemoveSubPorts(e.ctx, alice, string(tr.ID), []model.SubPort{{PortID: a.ID}}))(t)
	if p := e.getPort(a.ID); p.Binding.Host != "" || p.DeviceOwner != "" {
		t.Errorf("a removed subport stays bound: %+v", p.Binding)
	}
	must(e.updatePort(admin, parent.ID, model.Port{}, "binding:host_id"))(t)
	if p := e.getPort(b.ID); p.Binding.Host != "" {
		t.Errorf("subport stays where its parent was: %+v", p.Binding)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if err := e.svc.Ports().Delete(e.ctx, alice, string(parent.ID), nil); err != nil {
		t.Error(err)
	}
}

func TestTrunkRefusals(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", "compute")
	n := must(e.network(alice, model.Network{}))(t)
	small := must(e.network(alice, model.Network{MTU: 1000}))(t)
	on := func(n *model.Network, host string) *model.Port {
		return must(e.port(admin, model.Port{Standard: model.Standard{ProjectID: alice.ProjectID}, NetworkID: n.ID, Binding: model.Binding{Host: host}}, "binding:host_id"))(t)
	}
	parent, low, free, bound := on(n, ""), on(small, ""), on(n, ""), on(n, "cmp1")
	tr := must(e.trunk(alice, parent.ID, vlanSub(on(n, ""), 10)))(t)
	add := func(subs ...model.SubPort) error {
		_, err := e.svc.AddSubPorts(e.ctx, alice, string(tr.ID), subs)
		return err
	}
	create := func(c *identity.Caller, parent *model.Port, subs ...model.SubPort) error {
		_, err := e.trunk(c, parent.ID, subs...)
		return err
	}
	sub := must(e.svc.SubPorts(e.ctx, alice, string(tr.ID)))(t)[0]
	for _, c := range []struct {
		name  string
		err   error
		class neutron.Class
		typ   string
	}{
		{"parent bound", create(alice, bound), neutron.ClassConflict, "ParentPortInUse"},
		{"parent twice", create(alice, parent), neutron.ClassConflict, "PortInUseAsTrunkParent"},
		{"subport as parent", create(alice, e.getPort(sub.PortID)), neutron.ClassConflict, "PortInUseAsSubPort"},
		{"own subport", create(alice, free, vlanSub(free, 5)), neutron.ClassConflict, "ParentPortInUse"},
		{"port of others", create(bob, free), neutron.ClassNotFound, "PortNotFound"},
		{"reader", create(auditor, free), neutron.ClassForbidden, "PolicyNotAuthorized"},
		{"larger MTU", create(alice, low, vlanSub(free, 5)), neutron.ClassConflict, "SubPortMtuGreaterThanTrunkPortMtu"},
		{"taken VLAN", add(vlanSub(free, 10)), neutron.ClassConflict, "DuplicateSubPort"},
		{"two of one VLAN", add(vlanSub(free, 11), vlanSub(low, 11)), neutron.ClassConflict, "DuplicateSubPort"},
		{"taken port", add(model.SubPort{PortID: sub.PortID, SegmentationType: "vlan", SegmentationID: 12}), neutron.ClassConflict, "PortInUseAsSubPort"},
		{"a parent inside", add(vlanSub(parent, 12)), neutron.ClassConflict, "ParentPortInUse"},
		{"bound elsewhere", add(vlanSub(bound, 12)), neutron.ClassConflict, "PortInUse"},
		{"no segment", add(model.SubPort{PortID: free.ID}), neutron.ClassBadRequest, "InvalidInput"},
		{"nothing to inherit", add(model.SubPort{PortID: free.ID, SegmentationType: "inherit"}), neutron.ClassBadRequest, "InvalidInput"},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, c.err, c.class, c.typ, "") })
	}
	_, err := e.svc.RemoveSubPorts(e.ctx, alice, string(tr.ID), []model.SubPort{{PortID: free.ID}})
	wantError(t, err, neutron.ClassNotFound, "SubPortNotFound", string(free.ID))
	_, err = e.svc.SubPorts(e.ctx, bob, string(tr.ID))
	wantError(t, err, neutron.ClassNotFound, "TrunkNotFound", string(tr.ID))
	must(e.svc.Trunks().Update(e.ctx, alice, string(tr.ID), resource.NewInput(model.Trunk{}, "admin_state_up"), nil))(t)
	wantError(t, add(vlanSub(free, 12)), neutron.ClassConflict, "TrunkDisabled", string(tr.ID))
	if got := must(e.svc.SubPorts(e.ctx, alice, string(tr.ID)))(t); len(got) != 1 {
		t.Errorf("refused changes left %v", got)
	}
	if p := e.getPort(free.ID); p.DeviceOwner != "" {
		t.Errorf("a refused change left owner %s", p.DeviceOwner)
	}
}
