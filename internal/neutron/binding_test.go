package neutron_test

import (
	"reflect"
	"strings"
	"testing"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

func onHost(host string) model.Port { return model.Port{Binding: model.Binding{Host: host}} }

func TestBinding(t *testing.T) {
	e := newEnv(t)
	info := nodeInfo("cmp1", model.RoleCompute)
	info.HybridPlug, info.DatapathType = true, "system"
	if err := e.svc.RegisterNode(e.ctx, info); err != nil {
		t.Fatal(err)
	}
	n, _ := e.simple(alice, "10.0.0.0/24")
	p := must(e.port(nova, model.Port{NetworkID: n.ID, Standard: model.Standard{ProjectID: alice.ProjectID}, Binding: model.Binding{Host: "cmp1"}}, "binding:host_id"))(t)
	want := map[string]any{
		"port_filter": true, "ovs_hybrid_plug": true, "datapath_type": "system", "connectivity": "l2", "bridge_name": "br-int",
		"bound_drivers": map[string]any{"0": "openvswitch"},
	}
	if p.Binding.VIFType != model.VIFOVS || !reflect.DeepEqual(p.Binding.VIFDetails, want) || p.ProjectID != alice.ProjectID {
		t.Errorf("binding %+v", p.Binding)
	}
	failed := must(e.updatePort(nova, p.ID, onHost("nowhere"), "binding:host_id"))(t)
	if failed.Binding.VIFType != model.VIFBindingFailed || failed.Binding.VIFDetails["reason"] != "no node nowhere has registered" || failed.Revision != 1 {
		t.Errorf("binding on an unknown host %+v", failed.Binding)
	}
	unbound := must(e.updatePort(nova, p.ID, onHost(""), "binding:host_id"))(t)
	if unbound.Binding.VIFType != model.VIFUnbound || unbound.Binding.Host != "" {
		t.Errorf("binding without host %+v", unbound.Binding)
	}
	_, err := e.updatePort(alice, p.ID, onHost("cmp1"), "binding:host_id")
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "(rule:update_port and rule:update_port:binding:host_id) is disallowed by policy")
}

// TestBindingFollowsTheFirewall: a node that changes its firewall driver keeps its ports, which learn how they are to be plugged.
func TestBindingFollowsTheFirewall(t *testing.T) {
	e := newEnv(t)
	info := nodeInfo("cmp1", model.RoleCompute)
	n, _ := e.simple(alice, "10.0.0.0/24")
	var id model.ID
	for _, driver := range []struct {
		name           string
		filter, hybrid bool
	}{{"openvswitch", true, false}, {"iptables_hybrid", true, true}, {"noop", false, false}, {"openvswitch", true, false}} {
		info.Firewall, info.HybridPlug = driver.name, driver.hybrid
		if err := e.svc.RegisterNode(e.ctx, info); err != nil {
			t.Fatal(err)
		}
		if id == "" {
			v := onHost("cmp1")
			v.NetworkID = n.ID
			id = must(e.port(admin, v, "binding:host_id"))(t).ID
		}
		e.reconcile()
		before := e.getPort(id)
		d := before.Binding.VIFDetails
		if before.Binding.VIFType != model.VIFOVS || d["port_filter"] != driver.filter || d["ovs_hybrid_plug"] != driver.hybrid {
			t.Errorf("%s: binding %+v", driver.name, before.Binding)
		}
		e.reconcile()
		if again := e.getPort(id); again.Revision != before.Revision {
			t.Errorf("%s: the port is changed again though nothing has", driver.name)
		}
	}
	info.Firewall = strings.Repeat("x", 65)
	if err := e.svc.RegisterNode(e.ctx, info); err == nil {
		t.Error("a firewall driver of 65 bytes is taken")
	}
}

// TestBindingNeedsTheType: a node without an endpoint or the tunnel type cannot carry the network.
func TestBindingNeedsTheType(t *testing.T) {
	e := newEnv(t)
	bare := nodeInfo("bare", model.RoleCompute)
	bare.TunnelIP = bare.TunnelIP.Prev().Next() // same value, another way
	bare.TunnelTypes = []string{"gre"}
	if err := e.svc.RegisterNode(e.ctx, bare); err != nil {
		t.Fatal(err)
	}
	for typ, want := range map[string]string{"vxlan": model.VIFBindingFailed, "gre": model.VIFOVS, "local": model.VIFOVS} {
		n := must(e.network(admin, model.Network{Segment: model.Segment{Type: typ}}, "provider:network_type"))(t)
		v := onHost("bare")
		v.NetworkID = n.ID
		if p := must(e.port(admin, v, "binding:host_id"))(t); p.Binding.VIFType != want {
			t.Errorf("%s port is %s, want %s", typ, p.Binding.VIFType, want)
		}
	}
}

// TestBindingInAnyOrder: a port that names a host before its node is there is bound when the node comes.
func TestBindingInAnyOrder(t *testing.T) {
	e := newEnv(t)
	n, _ := e.simple(alice, "10.0.0.0/24")
	v := onHost("cmp1")
	v.NetworkID = n.ID
	p := must(e.port(admin, v, "binding:host_id"))(t)
	if p.Binding.VIFType != model.VIFBindingFailed {
		t.Fatalf("binding %+v", p.Binding)
	}
	e.reconcile()
	e.node("cmp1", model.RoleCompute)
	e.reconcile()
	if got := e.getPort(p.ID); !got.Bound() || got.Revision != 1 {
		t.Errorf("binding %+v revision %d after the node came", got.Binding, got.Revision)
	}
	before := e.st.Snapshot().Revision()
	if err := e.svc.Reconcile(e.ctx); err != nil || e.st.Snapshot().Revision() != before {
		t.Errorf("a second reconcile wrote something (err %v)", err)
	}
}

func TestPortBindings(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", model.RoleCompute)
	e.node("cmp2", model.RoleCompute)
	n, _ := e.simple(alice, "10.0.0.0/24")
	v := onHost("cmp1")
	v.NetworkID, v.DeviceOwner = n.ID, "compute:nova"
	p := must(e.port(admin, v, "binding:host_id"))(t)
	id := string(p.ID)
	create := func(host string) (*model.PortBinding, error) {
		in := model.PortBinding{Binding: model.Binding{Host: host, VNICType: "normal"}}
		return e.svc.CreateBinding(e.ctx, nova, id, resource.NewInput(in, "host"))
	}
	report(t, e, "cmp1", nodestate.Status{Key: nodestate.PortKey(id), State: nodestate.Done})
	b := must(create("cmp2"))(t)
	if b.Status != model.BindingInactive || b.VIFType != model.VIFOVS {
		t.Errorf("second binding %+v", b)
	}
	_, err := create("cmp2")
	wantError(t, err, neutron.ClassConflict, "PortBindingAlreadyExists", "on host cmp2 already exists")
	_, err = create("nowhere")
	wantError(t, err, neutron.ClassInternal, "PortBindingError", "could not be created or updated")
	_, err = e.svc.ActivateBinding(e.ctx, nova, id, "cmp1")
	wantError(t, err, neutron.ClassConflict, "PortBindingAlreadyActive", "is already active")
	_, err = e.svc.ActivateBinding(e.ctx, nova, id, "nowhere")
	wantError(t, err, neutron.ClassNotFound, "PortBindingNotFound", "for host nowhere could not be found")
	if got := must(e.svc.ActivateBinding(e.ctx, nova, id, "cmp2"))(t); got.Status != model.BindingActive || got.Host != "cmp2" {
		t.Errorf("activated %+v", got)
	}
	if got := e.getPort(p.ID); got.Binding.Host != "cmp2" || got.Status != model.StatusDown {
		t.Errorf("port on %s is %s", got.Binding.Host, got.Status)
	}
	list := must(e.svc.ListBindings(e.ctx, admin, id))(t)
	if len(list) != 2 || list[0].Host != "cmp2" || list[1].Host != "cmp1" || list[1].VIFType != model.VIFUnbound {
		t.Errorf("bindings %+v", list)
	}
	in := model.PortBinding{Binding: model.Binding{Profile: map[string]any{"a": "b"}}}
	up := must(e.svc.UpdateBinding(e.ctx, nova, id, "cmp1", resource.NewInput(in, "profile")))(t)
	if up.Profile["a"] != "b" || up.VIFType != model.VIFOVS {
		t.Errorf("updated %+v", up)
	}
	if got := must(e.svc.ShowBinding(e.ctx, admin, id, "cmp1"))(t); got.Profile["a"] != "b" {
		t.Errorf("shown %+v", got)
	}
	for _, host := range []string{"cmp1", "cmp2"} {
		if err := e.svc.DeleteBinding(e.ctx, nova, id, host); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, e.svc.DeleteBinding(e.ctx, nova, id, "cmp1"), neutron.ClassNotFound, "PortBindingNotFound", "cmp1")
	if got := e.getPort(p.ID); got.Binding.VIFType != model.VIFUnbound || got.Binding.Host != "" {
		t.Errorf("binding %+v after all were deleted", got.Binding)
	}
	if b := must(create("cmp1"))(t); b.Status != model.BindingActive {
		t.Errorf("first binding is %s", b.Status)
	}
	_, err = e.svc.ListBindings(e.ctx, alice, id)
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:get_port_binding")
	_, err = e.svc.ListBindings(e.ctx, bob, id)
	wantError(t, err, neutron.ClassNotFound, "PortNotFound", id)
	plain := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	_, err = e.svc.CreateBinding(e.ctx, nova, string(plain.ID), resource.NewInput(model.PortBinding{Binding: model.Binding{Host: "cmp1"}}, "host"))
	wantError(t, err, neutron.ClassBadRequest, "BadRequest", "Operation only valid on compute ports")
}

func report(t testing.TB, e *env, host string, list ...nodestate.Status) {
	t.Helper()
	if err := e.svc.ApplyReports(e.ctx, host, list); err != nil {
		t.Fatal(err)
	}
}

func TestPortStatus(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", model.RoleCompute)
	e.node("cmp2", model.RoleCompute)
	e.node("net1", model.RoleNetwork)
	n, _ := e.simple(alice, "10.0.0.0/24")
	v := onHost("cmp1")
	v.NetworkID, v.DeviceOwner = n.ID, "compute:nova"
	p := must(e.port(admin, v, "binding:host_id"))(t)
	key, host := nodestate.PortKey(string(p.ID)), nodestate.DHCPHostKey(string(p.ID))
	want := func(status string) {
		t.Helper()
		if got := e.getPort(p.ID); got.Status != status {
			t.Errorf("status %s, want %s", got.Status, status)
		}
	}
	want(model.StatusDown)
	report(t, e, "cmp1", nodestate.Status{Key: key, State: nodestate.Pending})
	want(model.StatusBuild)
	report(t, e, "cmp2", nodestate.Status{Key: key, State: nodestate.Done})  // not its port
	report(t, e, "cmp1", nodestate.Status{Key: host, State: nodestate.Done}) // not its network
	want(model.StatusBuild)
	report(t, e, "cmp1", nodestate.Status{Key: key, State: nodestate.Done, Revision: 5})
	want(model.StatusBuild) // DHCP does not know it yet
	report(t, e, "net1", nodestate.Status{Key: host, State: nodestate.Pending})
	want(model.StatusBuild)
	report(t, e, "net1", nodestate.Status{Key: host, State: nodestate.Done})
	want(model.StatusActive)
	must(e.updatePort(admin, p.ID, model.Port{AdminStateUp: false}, "admin_state_up"))(t)
	want(model.StatusDown)
	must(e.updatePort(admin, p.ID, model.Port{AdminStateUp: true}, "admin_state_up"))(t)
	want(model.StatusActive)
	report(t, e, "cmp1", nodestate.Status{Key: key, State: nodestate.Failed, Reason: "no such device"})
	want(model.StatusError)
	report(t, e, "cmp1", nodestate.Status{Key: key, State: nodestate.Absent})
	want(model.StatusDown)
	must(e.updatePort(nova, p.ID, onHost("cmp2"), "binding:host_id"))(t)
	report(t, e, "cmp1", nodestate.Status{Key: key, State: nodestate.Done}) // too late
	want(model.StatusDown)
	report(t, e, "cmp2", nodestate.Status{Key: key, State: nodestate.Done},
		nodestate.Status{Key: nodestate.PortKey("gone"), State: nodestate.Done}, nodestate.Status{Key: nodestate.NetworkKey(string(n.ID)), State: nodestate.Done})
	want(model.StatusActive)
	before := e.st.Snapshot().Revision()
	report(t, e, "cmp2", nodestate.Status{Key: key, State: nodestate.Done})
	if e.st.Snapshot().Revision() != before {
		t.Error("the same report again wrote something")
	}
	for _, dhcp := range e.dhcpPorts(n) {
		report(t, e, "net1", nodestate.Status{Key: nodestate.PortKey(string(dhcp.ID)), State: nodestate.Done})
		if got := e.getPort(dhcp.ID); got.Status != model.StatusActive {
			t.Errorf("DHCP port is %s", got.Status)
		}
	}
}

// TestPortStatusWithoutDHCP: guests without DHCP, and ports that are no guests', wait for their wiring only.
func TestPortStatusWithoutDHCP(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", model.RoleCompute)
	for _, tc := range []struct {
		dhcp  bool
		owner string
	}{{false, "compute:nova"}, {true, "baremetal:x"}, {true, "compute:nova"}} { // the last: no node serves DHCP
		n := must(e.network(alice, model.Network{}))(t)
		s := v4(n, "10.0.0.0/24")
		s.EnableDHCP = tc.dhcp
		must(e.subnet(alice, s))(t)
		v := onHost("cmp1")
		v.NetworkID, v.DeviceOwner = n.ID, tc.owner
		p := must(e.port(admin, v, "binding:host_id"))(t)
		report(t, e, "cmp1", nodestate.Status{Key: nodestate.PortKey(string(p.ID)), State: nodestate.Done})
		if got := e.getPort(p.ID); got.Status != model.StatusActive {
			t.Errorf("%+v: status %s", tc, got.Status)
		}
	}
}

func TestSetInstance(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", model.RoleCompute)
	e.node("cmp2", model.RoleCompute)
	n, _ := e.simple(alice, "10.0.0.0/24")
	p := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	id := string(p.ID)
	in := nodestate.Instance{ID: "i", Name: "web", UserData: []byte("#!/bin/sh"), PublicKeys: map[string]string{"k": "ssh-rsa x"}}
	if err := e.svc.SetInstance(e.ctx, "cmp1", id, in); err != nil {
		t.Fatal(err) // plugged before bound
	}
	must(e.updatePort(nova, p.ID, onHost("cmp1"), "binding:host_id"))(t)
	row, ok := store.Get(e.st.Snapshot(), model.InstanceTable, id)
	if !ok || row.Name != "web" || row.Host != "cmp1" || string(row.UserData) != "#!/bin/sh" {
		t.Errorf("instance %+v, %v", row, ok)
	}
	wantError(t, e.svc.SetInstance(e.ctx, "cmp2", id, in), neutron.ClassForbidden, "PolicyNotAuthorized", "is not on node cmp2")
	wantError(t, e.svc.SetInstance(e.ctx, "cmp1", "gone", in), neutron.ClassNotFound, "PortNotFound", "gone")
	in.UserData = make([]byte, 65<<10)
	wantError(t, e.svc.SetInstance(e.ctx, "cmp1", id, in), neutron.ClassBadRequest, "InvalidInput", "user data")
	must(e.updatePort(nova, p.ID, onHost("cmp2"), "binding:host_id"))(t)
	if _, ok := store.Get(e.st.Snapshot(), model.InstanceTable, id); ok {
		t.Error("the instance of the former host stays")
	}
}
