package neutron_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
)

func (e *env) segment(c *identity.Caller, n *model.Network, seg model.Segment) (*model.NetworkSegment, error) {
	return first(e.svc.Segments().Create(e.ctx, c, []*resource.Input[model.NetworkSegment]{
		resource.NewInput(model.NetworkSegment{NetworkID: n.ID, Segment: seg}, "network_id", "network_type")}))
}

// segments are the rows of a network's segments, by value.
func (e *env) segments(n *model.Network) map[string]*model.NetworkSegment {
	out := map[string]*model.NetworkSegment{}
	for seg := range store.Find(e.st.Snapshot(), model.SegmentTable, "network", string(n.ID)) {
		out[seg.Value()] = seg
	}
	return out
}

func TestMultiProvider(t *testing.T) {
	e := newEnv(t, physical)
	asked := []model.Segment{{Type: model.TypeVXLAN, SegmentationID: 7}, vlan("public", 5), flat("public")}
	n := must(e.network(admin, model.Network{Segments: asked}, "segments"))(t)
	if d := cmp.Diff(asked, n.Segments); d != "" || n.Segment != (model.Segment{}) || n.MTU != 1400 || len(e.segments(n)) != 3 {
		t.Errorf("network %+v: %s", n, d)
	}
	bad := neutron.ClassBadRequest
	for _, tc := range []struct {
		v     model.Network
		class neutron.Class
		typ   string
		part  string
	}{
		{model.Network{Segments: asked[:1]}, neutron.ClassConflict, "TunnelIdInUse", "7"},
		{model.Network{Segments: []model.Segment{vlan("public", 9), flat("public")}}, neutron.ClassConflict, "FlatNetworkInUse", "public"},
		{model.Network{Segments: []model.Segment{vlan("public", 9), vlan("public", 9)}}, bad, "SegmentsContainDuplicateEntry", "Duplicate segment entry"},
		{model.Network{Segments: []model.Segment{{PhysicalNetwork: "public"}}}, bad, "InvalidInput", "network_type required"},
		{model.Network{Segments: asked[:1], Segment: vlan("public", 9)}, bad, "SegmentsSetInConjunctionWithProviders", "cannot both be set"},
	} {
		_, err := e.network(admin, tc.v, "segments")
		wantError(t, err, tc.class, tc.typ, tc.part)
	}
	must(e.network(admin, model.Network{Segment: vlan("public", 9)}, provider...))(t) // what was refused has taken nothing
	_, err := e.svc.Networks().Update(e.ctx, admin, string(n.ID), resource.NewInput(model.Network{Segments: asked[:1]}, "segments"), nil)
	wantError(t, err, bad, "InvalidInput", "does not support updating provider attributes")
	if err := e.svc.Networks().Delete(e.ctx, admin, string(n.ID), nil); err != nil || len(e.segments(n)) != 0 {
		t.Errorf("segments left behind: %v, %v", e.segments(n), err)
	}
	must(e.network(admin, model.Network{Segments: asked}, "segments"))(t)
}

func TestSegments(t *testing.T) {
	e := newEnv(t, physical)
	n := must(e.network(admin, model.Network{Segment: vlan("public", 5)}, provider...))(t)
	seg := must(e.segment(admin, n, vlan("storage", 6)))(t)
	r := e.st.Snapshot()
	if visible := e.svc.Segments().Visible; !visible(r, admin, seg) || visible(r, alice, seg) {
		t.Error("segments show to administrators")
	}
	row, _ := store.Get(r, model.NetworkTable, string(n.ID))
	if d := cmp.Diff([]model.Segment{vlan("public", 5), vlan("storage", 6)}, row.AllSegments()); d != "" {
		t.Error(d)
	}
	_, err := e.segment(admin, n, vlan("storage", 6))
	wantError(t, err, neutron.ClassConflict, "VlanIdInUse", "The VLAN 6 on physical network storage is in use")
	_, err = e.segment(alice, n, vlan("storage", 7))
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_segment")
	_, err = e.segment(admin, &model.Network{Standard: model.Standard{ID: "nope"}}, vlan("storage", 7))
	wantError(t, err, neutron.ClassNotFound, "NetworkNotFound", "nope")
	up := must(e.svc.Segments().Update(e.ctx, admin, string(seg.ID), resource.NewInput(model.NetworkSegment{Name: "rack2"}, "name"), nil))(t)
	if up.Name != "rack2" || up.Revision != 1 {
		t.Errorf("updated segment %+v", up)
	}
	wantError(t, e.svc.Segments().Delete(e.ctx, alice, string(seg.ID), nil), neutron.ClassNotFound, "SegmentNotFound", string(seg.ID))

	if err := e.svc.RegisterNode(e.ctx, mapped("cmp1", map[string]string{"storage": "br-st"}, model.RoleCompute)); err != nil {
		t.Fatal(err)
	}
	v := onHost("cmp1")
	v.NetworkID = n.ID
	p := must(e.port(admin, v, "binding:host_id"))(t)
	if !p.Bound() {
		t.Errorf("a port is not bound by the second segment: %+v", p.Binding)
	}
	remove := func(id model.ID) error { return e.svc.Segments().Delete(e.ctx, admin, string(id), nil) }
	wantError(t, remove(seg.ID), neutron.ClassConflict, "SegmentInUse", "The segment is still bound with port(s) "+string(p.ID))
	if err := e.svc.Ports().Delete(e.ctx, admin, string(p.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := remove(e.segments(n)["vlan/public/5"].ID); err != nil {
		t.Fatal(err)
	}
	if row, _ = store.Get(e.st.Snapshot(), model.NetworkTable, string(n.ID)); row.Segment != vlan("storage", 6) || row.More != nil {
		t.Errorf("segments left %+v", row.AllSegments())
	}
	wantError(t, remove(seg.ID), neutron.ClassConflict, "SegmentInUse", "only segment")
	must(e.network(admin, model.Network{Segment: vlan("public", 5)}, provider...))(t)
}

// TestSegmentAddedLater: a port that no segment reached is bound when one is added that its host carries.
func TestSegmentAddedLater(t *testing.T) {
	e := newEnv(t, physical)
	if err := e.svc.RegisterNode(e.ctx, mapped("cmp1", map[string]string{"storage": "br-st"}, model.RoleCompute)); err != nil {
		t.Fatal(err)
	}
	n := must(e.network(admin, model.Network{Segment: vlan("public", 5)}, provider...))(t)
	v := onHost("cmp1")
	v.NetworkID = n.ID
	p := must(e.port(admin, v, "binding:host_id"))(t)
	if p.Bound() {
		t.Fatalf("bound without a segment: %+v", p.Binding)
	}
	must(e.segment(admin, n, vlan("storage", 6)))(t)
	e.reconcile()
	if got := e.getPort(p.ID); !got.Bound() {
		t.Errorf("not bound by the added segment: %+v", got.Binding)
	}
}

// TestRoutedNetwork: a network with one subnet per segment.  A port has addresses of the segment that its host carries, and each segment is
// served by a node of its own.
func TestRoutedNetwork(t *testing.T) {
	e := newEnv(t, physical)
	for host, physnet := range map[string]string{"rack1": "public", "rack2": "storage", "nowhere": "other"} {
		info := mapped(host, map[string]string{physnet: "br-ex"}, model.RoleCompute, model.RoleNetwork)
		if err := e.svc.RegisterNode(e.ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	n := must(e.network(admin, model.Network{Segments: []model.Segment{vlan("public", 5), vlan("storage", 6)}, Shared: true}, "segments"))(t)
	one, two := e.segments(n)["vlan/public/5"], e.segments(n)["vlan/storage/6"]
	tied := func(seg *model.NetworkSegment, cidr string) model.Subnet {
		v := v4(n, cidr)
		v.SegmentID = seg.ID
		return v
	}
	first := must(e.subnet(admin, tied(one, "10.1.0.0/24"), "segment_id"))(t)
	last := must(e.subnet(admin, tied(two, "10.2.0.0/24"), "segment_id"))(t)
	if row, _ := store.Get(e.st.Snapshot(), model.NetworkTable, string(n.ID)); e.svc.Networks().Present(e.st.Snapshot(), admin, row).L2Adjacency {
		t.Error("a routed network claims to be one broadcast domain")
	}
	_, err := e.subnet(admin, v4(n, "10.3.0.0/24"))
	wantError(t, err, neutron.ClassBadRequest, "SubnetsNotAllAssociatedWithSegments", "must either all be associated")
	_, err = e.subnet(alice, tied(one, "10.3.0.0/24"), "segment_id")
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_subnet:segment_id")
	wantError(t, e.svc.Segments().Delete(e.ctx, admin, string(one.ID), nil), neutron.ClassConflict, "SegmentInUse", "associated with subnet(s)")

	served := map[string]string{}
	for host, p := range e.dhcpPorts(n) {
		served[host] = string(p.FixedIPs[0].SubnetID)
	}
	if d := cmp.Diff(map[string]string{"rack1": string(first.ID), "rack2": string(last.ID)}, served); d != "" {
		t.Errorf("DHCP: %s", d)
	}

	on := func(host string) model.Port {
		v := onHost(host)
		v.NetworkID = n.ID
		return v
	}
	p := must(e.port(admin, on("rack2"), "binding:host_id"))(t)
	if len(p.FixedIPs) != 1 || p.FixedIPs[0].SubnetID != last.ID || !p.Bound() {
		t.Errorf("port on rack2 %+v", p)
	}
	_, err = e.port(admin, on("nowhere"), "binding:host_id")
	wantError(t, err, neutron.ClassConflict, "HostNotConnectedToAnySegment", "Host nowhere is not connected to any segments")
	_, err = e.updatePort(admin, p.ID, onHost("rack1"), "binding:host_id")
	wantError(t, err, neutron.ClassConflict, "HostNotCompatibleWithFixedIps", "Host rack1 is not connected to a segment")
	both := model.Port{NetworkID: n.ID, FixedIPs: []model.FixedIP{{SubnetID: first.ID}, {SubnetID: last.ID}}}
	_, err = e.port(admin, both, "fixed_ips")
	wantError(t, err, neutron.ClassBadRequest, "FixedIpsSubnetsNotOnSameSegment", "different segments")

	late := must(e.port(alice, model.Port{NetworkID: n.ID}))(t)
	if len(late.FixedIPs) != 0 || !late.Deferred {
		t.Errorf("a port that could be anywhere %+v", late)
	}
	late = must(e.updatePort(nova, late.ID, onHost("rack1"), "binding:host_id"))(t)
	if len(late.FixedIPs) != 1 || late.FixedIPs[0].SubnetID != first.ID || late.Deferred || !late.Bound() {
		t.Errorf("a port that got its host %+v", late)
	}
}

func TestSubnetSegmentLater(t *testing.T) {
	e := newEnv(t, physical)
	n := must(e.network(admin, model.Network{Segment: vlan("public", 5)}, provider...))(t)
	sub := must(e.subnet(admin, v4(n, "10.1.0.0/24")))(t)
	other := must(e.network(admin, model.Network{Segment: vlan("public", 6)}, provider...))(t)
	tie := func(id model.ID) error {
		return second(e.svc.Subnets().Update(e.ctx, admin, string(sub.ID), resource.NewInput(model.Subnet{SegmentID: id}, "segment_id"), nil))
	}
	wantError(t, tie("nope"), neutron.ClassNotFound, "SegmentNotFound", "nope")
	wantError(t, tie(e.segments(other)["vlan/public/6"].ID), neutron.ClassBadRequest, "NetworkIdsDontMatch", "doesn't match the network_id")
	seg := must(e.segment(admin, n, vlan("storage", 6)))(t)
	wantError(t, tie(seg.ID), neutron.ClassBadRequest, "NoUpdateSubnetWhenMultipleSegmentsOnNetwork", "has multiple segments")
	if err := e.svc.Segments().Delete(e.ctx, admin, string(seg.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := tie(e.segments(n)["vlan/public/5"].ID); err != nil {
		t.Fatal(err)
	}
	wantError(t, tie(""), neutron.ClassBadRequest, "SubnetSegmentAssociationChangeNotAllowed", "cannot have its segment association changed")
}

func (e *env) tagRange(v model.SegmentRange) (*model.SegmentRange, error) {
	return first(e.svc.SegmentRanges().Create(e.ctx, admin, []*resource.Input[model.SegmentRange]{resource.NewInput(v, "minimum", "maximum")}))
}

// TestSegmentRanges: networks get ids of their project's own ranges first, then of those of all, and never another project's.
func TestSegmentRanges(t *testing.T) {
	e := newEnv(t, unlimited, physical, func(c *neutron.Config) { c.TenantNetworkTypes = []string{"vlan"} }) // public 100-102
	own := must(e.tagRange(model.SegmentRange{
		Name: "alice's", Standard: model.Standard{ProjectID: alice.ProjectID}, NetworkType: model.TypeVLAN, PhysicalNetwork: "public", Minimum: 102, Maximum: 103}))(t)
	must(e.tagRange(model.SegmentRange{Shared: true, NetworkType: model.TypeVLAN, PhysicalNetwork: "storage", Minimum: 4094, Maximum: 4094}))(t)
	take := func(c *identity.Caller) string {
		t.Helper()
		n, err := e.network(c, model.Network{})
		if err != nil {
			wantError(t, err, neutron.ClassUnavailable, "NoNetworkAvailable", "")
			return ""
		}
		return n.Segment.Value()
	}
	got := map[string]bool{}
	for range 2 {
		got[take(alice)] = true
	}
	if d := cmp.Diff(map[string]bool{"vlan/public/102": true, "vlan/public/103": true}, got); d != "" {
		t.Errorf("alice's: %s", d)
	}
	clear(got)
	for range 4 {
		got[take(bob)] = true
	}
	if d := cmp.Diff(map[string]bool{"vlan/public/100": true, "vlan/public/101": true, "vlan/storage/4094": true, "": true}, got); d != "" {
		t.Errorf("bob's: %s", d)
	}
	shown := e.svc.SegmentRanges().Present(e.st.Snapshot(), admin, own)
	if d := cmp.Diff(map[string]any{"102": alice.ProjectID, "103": alice.ProjectID}, shown.Used); d != "" || len(shown.Available) != 0 {
		t.Errorf("used: %s, available %v", d, shown.Available)
	}
	change := func(lo, hi uint32) error {
		return second(e.svc.SegmentRanges().Update(e.ctx, admin, string(own.ID),
			resource.NewInput(model.SegmentRange{Minimum: lo, Maximum: hi}, "minimum", "maximum"), nil))
	}
	const used = "NetworkSegmentRangeReferencedByProject"
	wantError(t, e.svc.SegmentRanges().Delete(e.ctx, admin, string(own.ID), nil), neutron.ClassConflict, used, "referenced by one or more tenant networks")
	wantError(t, change(103, 110), neutron.ClassConflict, used, "")
	wantError(t, change(110, 102), neutron.ClassBadRequest, "InvalidInput", "110:102 is not valid")
	if err := change(102, 110); err != nil {
		t.Fatal(err)
	}
	if id := take(alice); id < "vlan/public/104" || id > "vlan/public/110" {
		t.Errorf("from the longer range: %s", id)
	}
}

func TestSegmentRangeErrors(t *testing.T) {
	e := newEnv(t, physical)
	must(e.tagRange(model.SegmentRange{Shared: true, NetworkType: model.TypeVXLAN, Minimum: 5, Maximum: 9}))(t)
	for _, tc := range []struct {
		v     model.SegmentRange
		class neutron.Class
		typ   string
		part  string
	}{
		{model.SegmentRange{Shared: true, NetworkType: model.TypeVXLAN, Minimum: 9, Maximum: 10}, neutron.ClassConflict, "NetworkSegmentRangeOverlaps", "overlaps"},
		{model.SegmentRange{Shared: true, NetworkType: "geneve", Minimum: 9, Maximum: 10}, 0, "NetworkSegmentRangeNetTypeNotSupported", "geneve"},
		{model.SegmentRange{Shared: true, NetworkType: model.TypeVXLAN, Minimum: 9, Maximum: 1 << 24}, 0, "InvalidInput", "1 to 16777215"},
		{model.SegmentRange{Shared: true, NetworkType: model.TypeVXLAN, PhysicalNetwork: "public", Minimum: 1, Maximum: 2}, 0, "InvalidInput", "physical_network"},
		{model.SegmentRange{Shared: true, NetworkType: model.TypeVLAN, Minimum: 1, Maximum: 2}, 0, "InvalidInput", "physical_network is required"},
		{model.SegmentRange{Shared: true, NetworkType: model.TypeVLAN, PhysicalNetwork: "x", Minimum: 1, Maximum: 2}, 0, "InvalidInput", "'x' unknown"},
		{model.SegmentRange{Shared: true, NetworkType: model.TypeVLAN, PhysicalNetwork: "public", Minimum: 1, Maximum: 4095}, 0, "InvalidInput", "1 to 4094"},
		{model.SegmentRange{NetworkType: model.TypeVXLAN, Minimum: 20, Maximum: 21}, 0, "InvalidInput", "project_id is required"},
	} {
		_, err := e.tagRange(tc.v)
		wantError(t, err, tc.class, tc.typ, tc.part)
	}
	_, err := e.svc.SegmentRanges().Create(e.ctx, alice, []*resource.Input[model.SegmentRange]{resource.NewInput(model.SegmentRange{})})
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "create_network_segment_range")
}

// TestDefaultRanges: the configuration's ranges show as default ones that cannot be changed, and an older configuration's go.
func TestDefaultRanges(t *testing.T) {
	e := newEnv(t, physical)
	show := func(e *env) map[string]model.ID {
		t.Helper()
		if err := e.svc.ShowDefaultRanges(e.ctx); err != nil {
			t.Fatal(err)
		}
		out := map[string]model.ID{}
		for r := range store.All(e.st.Snapshot(), model.SegmentRangeTable) {
			if !r.Default || !r.Shared {
				t.Errorf("range %+v", r)
			}
			out[model.SegmentValue(model.Segment{Type: r.NetworkType, PhysicalNetwork: r.PhysicalNetwork}.Space(), r.Minimum)] = r.ID
		}
		return out
	}
	was := show(e)
	if len(was) != 3 || was["vlan/public/100"] == "" || was["vxlan//1"] == "" || was["gre//1"] == "" {
		t.Errorf("default ranges %v", was)
	}
	id := string(was["vlan/public/100"])
	const typ = "NetworkSegmentRangeDefaultReadOnly"
	wantError(t, e.svc.SegmentRanges().Delete(e.ctx, admin, id, nil), neutron.ClassBadRequest, typ, "default segment range")
	wantError(t, second(e.svc.SegmentRanges().Update(e.ctx, admin, id, resource.NewInput(model.SegmentRange{}), nil)), neutron.ClassBadRequest, typ, "")
	is := show(envOn(t, e.st, func(c *neutron.Config) { c.VNIRanges = []neutron.TagRange{{First: 7, Last: 8}} }))
	if len(is) != 2 || is["vxlan//7"] == "" || is["gre//1"] != was["gre//1"] {
		t.Errorf("default ranges %v after %v", is, was)
	}
}
