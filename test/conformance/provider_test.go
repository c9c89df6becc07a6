package conformance_test

import (
	"net/netip"
	"testing"

	"baryon/internal/neutron"
	"baryon/internal/nodestate"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/provider"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/rbacpolicies"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/segments"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// publicVLANs gives a server the physical network public with ids to choose from.
func publicVLANs(c *neutron.Config) {
	c.VLANRanges = map[string][]neutron.TagRange{"public": {{First: 100, Last: 199}}}
}

// providerNetwork is a network with what the extensions add.
type providerNetwork struct {
	networks.Network
	provider.NetworkProviderExt
	external.NetworkExternalExt
	Segments    []provider.Segment `json:"segments"`
	L2Adjacency bool               `json:"l2_adjacency"`
	MTU         int                `json:"mtu"`
}

func (w *world) providerNetwork(opts networks.CreateOptsBuilder) (n providerNetwork, err error) {
	w.t.Helper()
	err = networks.Create(w.ctx, w.ServiceClient, opts).ExtractInto(&n)
	return n, err
}

func segmentsOpts(name string, list ...provider.Segment) networks.CreateOptsBuilder {
	return provider.CreateOptsExt{CreateOptsBuilder: networks.CreateOpts{Name: name}, Segments: list}
}

func TestProviderNetworks(t *testing.T) {
	w := newWorld(t, publicVLANs)
	flat := provider.Segment{NetworkType: "flat", PhysicalNetwork: "public"}
	vlan := provider.Segment{NetworkType: "vlan", PhysicalNetwork: "public", SegmentationID: 101}
	one := must[providerNetwork](t)(w.providerNetwork(segmentsOpts("flat", flat)))
	if one.NetworkType != "flat" || one.PhysicalNetwork != "public" || one.SegmentationID != "" || one.MTU != 1500 || !one.L2Adjacency {
		t.Errorf("flat: %+v", one)
	}
	both := must[providerNetwork](t)(w.providerNetwork(segmentsOpts("both", vlan, provider.Segment{NetworkType: "vxlan", SegmentationID: 7})))
	if len(both.Segments) != 2 || both.Segments[0] != vlan || both.Segments[1].SegmentationID != 7 || both.NetworkType != "" {
		t.Errorf("of two segments: %+v", both)
	}
	for code, list := range map[int][]provider.Segment{
		409: {flat}, 400: {{NetworkType: "vlan", PhysicalNetwork: "nowhere", SegmentationID: 5}},
	} {
		_, err := w.providerNetwork(segmentsOpts("x", list...))
		w.refused(code, err)
	}
	for _, attr := range []string{"vlan_transparent", "qinq"} {
		body := map[string]any{"network": map[string]any{"name": "x", attr: true}}
		_, err := w.Post(w.ctx, w.ServiceURL("networks"), body, nil, nil)
		w.refused(400, err)
	}
	page := must[pagination.Page](t)(segments.List(w.ServiceClient, segments.ListOpts{NetworkID: both.ID, NetworkType: "vlan"}).AllPages(w.ctx))
	list := must[[]segments.Segment](t)(segments.ExtractSegments(page))
	if len(list) != 1 || list[0].SegmentationID != 101 || list[0].PhysicalNetwork != "public" {
		t.Errorf("segments: %+v", list)
	}
}

func TestSegments(t *testing.T) {
	w := newWorld(t, publicVLANs)
	n := w.network("n")
	opts := segments.CreateOpts{NetworkID: n.ID, NetworkType: "vlan", PhysicalNetwork: "public", SegmentationID: 150, Name: "rack1", Description: "d"}
	seg := must[*segments.Segment](t)(segments.Create(w.ctx, w.ServiceClient, opts).Extract())
	if seg.Name != "rack1" || seg.Description != "d" || seg.NetworkID != n.ID || seg.SegmentationID != 150 || seg.CreatedAt.IsZero() {
		t.Errorf("made: %+v", seg)
	}
	name := "rack2"
	if up := must[*segments.Segment](t)(segments.Update(w.ctx, w.ServiceClient, seg.ID, segments.UpdateOpts{Name: &name}).Extract()); up.Name != name {
		t.Errorf("changed: %+v", up)
	}
	w.refused(404, segments.Get(w.ctx, w.as("alice", "member,reader"), seg.ID).Err)
	_, err := segments.Create(w.ctx, w.as("alice", "member,reader"), opts).Extract()
	w.refused(403, err)
	sub := must[*subnets.Subnet](t)(subnets.Create(w.ctx, w.ServiceClient, subnets.CreateOpts{
		NetworkID: n.ID, CIDR: "10.1.0.0/24", IPVersion: gophercloud.IPv4, SegmentID: seg.ID}).Extract())
	if sub.SegmentID != seg.ID {
		t.Errorf("subnet: %+v", sub)
	}
	w.refused(409, segments.Delete(w.ctx, w.ServiceClient, seg.ID).ExtractErr())
	if err := subnets.Delete(w.ctx, w.ServiceClient, sub.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := segments.Delete(w.ctx, w.ServiceClient, seg.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, segments.Get(w.ctx, w.ServiceClient, seg.ID).Err)
}

// TestProviderPort: what a person is told of a port whose host lacks the physical network.
func TestProviderPort(t *testing.T) {
	w := newWorld(t, publicVLANs)
	w.node("cmp1", "192.0.2.1", "compute")
	n := must[providerNetwork](t)(w.providerNetwork(segmentsOpts("flat", provider.Segment{NetworkType: "flat", PhysicalNetwork: "public"})))
	type bound struct {
		ports.Port
		portsbinding.PortsBindingExt
	}
	var p bound
	err := ports.Create(w.ctx, w.ServiceClient, portsbinding.CreateOptsExt{
		CreateOptsBuilder: ports.CreateOpts{NetworkID: n.ID}, HostID: "cmp1"}).ExtractInto(&p)
	if err != nil {
		t.Fatal(err)
	}
	if p.VIFType != "binding_failed" || p.VIFDetails["reason"] != "node cmp1: no bridge mapping for physical network public" || p.Status != "DOWN" {
		t.Errorf("port: %+v", p)
	}
	err = w.rules.RegisterNode(w.ctx, nodestate.NodeInfo{Host: "cmp1", Roles: []string{"compute"}, TunnelIP: netip.MustParseAddr("192.0.2.1"),
		BridgeMappings: map[string]string{"public": "br-ex"}, DatapathType: "netdev"})
	if err == nil {
		err = w.rules.Reconcile(w.ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = ports.Create(w.ctx, w.ServiceClient, portsbinding.CreateOptsExt{
		CreateOptsBuilder: ports.CreateOpts{NetworkID: n.ID}, HostID: "cmp1"}).ExtractInto(&p)
	if err != nil || p.VIFType != "ovs" {
		t.Errorf("with the mapping: %+v, %v", p, err)
	}
}

func TestRBACPolicies(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.as("alice", "member,reader"), w.as("bob", "member,reader")
	n := must[*networks.Network](t)(networks.Create(w.ctx, alice, networks.CreateOpts{Name: "n"}).Extract())
	opts := rbacpolicies.CreateOpts{Action: rbacpolicies.ActionAccessShared, ObjectType: "network", TargetTenant: "bob", ObjectID: n.ID}
	w.refused(404, networks.Get(w.ctx, bob, n.ID).Err)
	p := must[*rbacpolicies.RBACPolicy](t)(rbacpolicies.Create(w.ctx, alice, opts).Extract())
	if p.ProjectID != "alice" || p.TargetTenant != "bob" || p.Action != rbacpolicies.ActionAccessShared || p.ObjectID != n.ID || p.ObjectType != "network" {
		t.Errorf("made: %+v", p)
	}
	_, err := rbacpolicies.Create(w.ctx, alice, opts).Extract()
	w.refused(409, err)
	if seen := must[*networks.Network](t)(networks.Get(w.ctx, bob, n.ID).Extract()); !seen.Shared {
		t.Errorf("as bob sees it: %+v", seen)
	}
	port := must[*ports.Port](t)(ports.Create(w.ctx, bob, ports.CreateOpts{NetworkID: n.ID}).Extract())
	w.refused(409, rbacpolicies.Delete(w.ctx, alice, p.ID).ExtractErr())
	if err := ports.Delete(w.ctx, bob, port.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, rbacpolicies.Get(w.ctx, bob, p.ID).Err)
	up := must[*rbacpolicies.RBACPolicy](t)(rbacpolicies.Update(w.ctx, alice, p.ID, rbacpolicies.UpdateOpts{TargetTenant: "carol"}).Extract())
	if up.TargetTenant != "carol" {
		t.Errorf("changed: %+v", up)
	}
	w.refused(404, networks.Get(w.ctx, bob, n.ID).Err)
	page := must[pagination.Page](t)(rbacpolicies.List(alice, rbacpolicies.ListOpts{ObjectType: "network", TargetTenant: "carol"}).AllPages(w.ctx))
	if list := must[[]rbacpolicies.RBACPolicy](t)(rbacpolicies.ExtractRBACPolicies(page)); len(list) != 1 || list[0].ID != p.ID {
		t.Errorf("listed: %+v", list)
	}
	if err := rbacpolicies.Delete(w.ctx, alice, p.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	for code, bad := range map[int]rbacpolicies.CreateOpts{
		400: {Action: rbacpolicies.ActionAccessShared, ObjectType: "router", TargetTenant: "bob", ObjectID: n.ID},
		403: {Action: rbacpolicies.ActionAccessShared, ObjectType: "network", TargetTenant: "*", ObjectID: n.ID},
		404: {Action: rbacpolicies.ActionAccessShared, ObjectType: "network", TargetTenant: "bob", ObjectID: p.ID},
	} {
		_, err := rbacpolicies.Create(w.ctx, alice, bad).Extract()
		w.refused(code, err)
	}
}
