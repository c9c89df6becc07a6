package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/dns"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/mtu"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/provider"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// fullNetwork is a network with every extension that gophercloud knows.
type fullNetwork struct {
	networks.Network
	provider.NetworkProviderExt
	external.NetworkExternalExt
	mtu.NetworkMTUExt
	portsecurity.PortSecurityExt
	dns.NetworkDNSExt
}

func TestNetworks(t *testing.T) {
	w := newWorld(t)
	up, off, yes := true, false, true
	var made fullNetwork
	err := networks.Create(w.ctx, w.ServiceClient, dns.NetworkCreateOptsExt{DNSDomain: "lab.example.org.",
		CreateOptsBuilder: portsecurity.NetworkCreateOptsExt{PortSecurityEnabled: &off,
			CreateOptsBuilder: mtu.CreateOptsExt{MTU: 1400,
				CreateOptsBuilder: external.CreateOptsExt{External: &yes,
					CreateOptsBuilder: provider.CreateOptsExt{Segments: []provider.Segment{{NetworkType: "gre", SegmentationID: 77}},
						CreateOptsBuilder: networks.CreateOpts{Name: "n", Description: "d", AdminStateUp: &up, Shared: &yes}}}}}}).ExtractInto(&made)
	if err != nil {
		t.Fatal(err)
	}
	if made.NetworkType != "gre" || made.SegmentationID != "77" || !made.Shared || !made.External {
		t.Errorf("made by a list of one segment: %+v", made)
	}
	if err := networks.Delete(w.ctx, w.ServiceClient, made.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	body := map[string]any{"network": map[string]any{"name": "n", "description": "d", "shared": true, "router:external": true, "mtu": 1400,
		"port_security_enabled": false, "dns_domain": "lab.example.org.", "provider:network_type": "gre", "provider:segmentation_id": 77}}
	var answer struct{ Network fullNetwork }
	if _, err := w.Post(w.ctx, w.ServiceURL("networks"), body, &answer, nil); err != nil {
		t.Fatal(err)
	}
	if err := networks.Get(w.ctx, w.ServiceClient, answer.Network.ID).ExtractInto(&made); err != nil {
		t.Fatal(err)
	}
	if made.Name != "n" || made.Description != "d" || !made.Shared || !made.External || made.MTU != 1400 || made.PortSecurityEnabled ||
		made.DNSDomain != "lab.example.org." || made.NetworkType != "gre" || made.SegmentationID != "77" || made.Status != "ACTIVE" ||
		made.ProjectID == "" || made.TenantID != made.ProjectID || made.CreatedAt.IsZero() || made.RevisionNumber != 0 {
		t.Errorf("shown: %+v", made)
	}
	name, revision := "m", 5
	_, err = networks.Update(w.ctx, w.ServiceClient, made.ID, networks.UpdateOpts{Name: &name, RevisionNumber: &revision}).Extract()
	w.refused(412, err)
	revision = 0
	changed := must[*networks.Network](t)(networks.Update(w.ctx, w.ServiceClient, made.ID, networks.UpdateOpts{Name: &name, RevisionNumber: &revision}).Extract())
	if changed.Name != "m" || changed.RevisionNumber != 1 || changed.Description != "d" {
		t.Errorf("changed: %+v", changed)
	}
	if err := networks.Delete(w.ctx, w.ServiceClient, made.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, networks.Get(w.ctx, w.ServiceClient, made.ID).Err)
	w.refused(404, networks.Delete(w.ctx, w.ServiceClient, made.ID).Err)
}

func TestListsFollowTheirLinks(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 7 {
		want = append(want, w.network(fmt.Sprintf("n%d", 6-i)).Name)
	}
	slices.Sort(want)
	for _, limit := range []int{0, 1, 3, 7, 100} {
		var got []string
		pages := networks.List(w.ServiceClient, networks.ListOpts{SortKey: "name", SortDir: "asc", Limit: limit})
		err := pages.EachPage(w.ctx, func(_ context.Context, p pagination.Page) (bool, error) {
			list, err := networks.ExtractNetworks(p)
			for _, n := range list {
				got = append(got, n.Name)
			}
			return true, err
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, %v", limit, got, err)
		}
	}
}

func TestProjectsSeeTheirOwn(t *testing.T) {
	w := newWorld(t)
	alice, bob, reader := w.as("alice", "member,reader"), w.as("bob", "member,reader"), w.as("alice", "reader")
	own := must[*networks.Network](t)(networks.Create(w.ctx, alice, networks.CreateOpts{Name: "own"}).Extract())
	w.refused(404, networks.Get(w.ctx, bob, own.ID).Err)
	w.refused(404, networks.Delete(w.ctx, bob, own.ID).Err)
	w.refused(403, networks.Delete(w.ctx, reader, own.ID).Err)
	_, err := networks.Create(w.ctx, bob, networks.CreateOpts{ProjectID: "alice"}).Extract()
	w.refused(400, err)
	yes := true
	_, err = networks.Create(w.ctx, bob, networks.CreateOpts{Shared: &yes}).Extract()
	w.refused(403, err)
	var seen fullNetwork
	if err := networks.Get(w.ctx, alice, own.ID).ExtractInto(&seen); err != nil || seen.NetworkType != "" {
		t.Errorf("a member sees provider attributes: %+v, %v", seen.NetworkProviderExt, err)
	}
}

func TestSubnets(t *testing.T) {
	w := newWorld(t)
	n := w.network("n")
	gateway, dhcp := "10.0.0.254", false
	s := must[*subnets.Subnet](t)(subnets.Create(w.ctx, w.ServiceClient, subnets.CreateOpts{
		NetworkID: n.ID, CIDR: "10.0.0.0/24", IPVersion: gophercloud.IPv4, Name: "s", GatewayIP: &gateway, EnableDHCP: &dhcp,
		DNSNameservers: []string{"8.8.8.8"}, AllocationPools: []subnets.AllocationPool{{Start: "10.0.0.10", End: "10.0.0.20"}},
		HostRoutes: []subnets.HostRoute{{DestinationCIDR: "10.9.0.0/16", NextHop: "10.0.0.9"}},
	}).Extract())
	if s.GatewayIP != gateway || s.EnableDHCP || s.DNSNameservers[0] != "8.8.8.8" || s.AllocationPools[0].End != "10.0.0.20" || s.HostRoutes[0].NextHop != "10.0.0.9" {
		t.Errorf("made: %+v", s)
	}
	none := ""
	s = must[*subnets.Subnet](t)(subnets.Update(w.ctx, w.ServiceClient, s.ID, subnets.UpdateOpts{GatewayIP: &none, DNSNameservers: &[]string{}}).Extract())
	if s.GatewayIP != "" || len(s.DNSNameservers) != 0 {
		t.Errorf("changed: %+v", s)
	}
	v6 := must[*subnets.Subnet](t)(subnets.Create(w.ctx, w.ServiceClient, subnets.CreateOpts{
		NetworkID: n.ID, CIDR: "fd00:a::/64", IPVersion: gophercloud.IPv6, IPv6RAMode: "slaac", IPv6AddressMode: "slaac",
	}).Extract())
	if v6.IPv6RAMode != "slaac" || v6.IPv6AddressMode != "slaac" {
		t.Errorf("IPv6: %+v", v6)
	}
	page := must[pagination.Page](t)(subnets.List(w.ServiceClient, subnets.ListOpts{NetworkID: n.ID, IPVersion: 6, IPv6RAMode: "slaac"}).AllPages(w.ctx))
	if list := must[[]subnets.Subnet](t)(subnets.ExtractSubnets(page)); len(list) != 1 || list[0].ID != v6.ID {
		t.Errorf("listed: %+v", list)
	}
	_, err := subnets.Create(w.ctx, w.ServiceClient, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.0.0.128/25", IPVersion: gophercloud.IPv4}).Extract()
	w.refused(400, err)
	shown := must[*networks.Network](t)(networks.Get(w.ctx, w.ServiceClient, n.ID).Extract())
	if len(shown.Subnets) != 2 {
		t.Errorf("subnets of the network: %v", shown.Subnets)
	}
	if err := subnets.Delete(w.ctx, w.ServiceClient, s.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if err := networks.Delete(w.ctx, w.ServiceClient, n.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	w.refused(404, subnets.Get(w.ctx, w.ServiceClient, v6.ID).Err)
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	n := w.network("n")
	w.network("other")
	tags := must[[]string](t)(attributestags.ReplaceAll(w.ctx, w.ServiceClient, "networks", n.ID, attributestags.ReplaceAllOpts{Tags: []string{"red", "blue"}}).Extract())
	slices.Sort(tags)
	if !slices.Equal(tags, []string{"blue", "red"}) {
		t.Errorf("replaced: %v", tags)
	}
	if err := attributestags.Add(w.ctx, w.ServiceClient, "networks", n.ID, "green").ExtractErr(); err != nil {
		t.Error(err)
	}
	if has, err := attributestags.Confirm(w.ctx, w.ServiceClient, "networks", n.ID, "green").Extract(); !has || err != nil {
		t.Errorf("green: %t, %v", has, err)
	}
	if err := attributestags.Delete(w.ctx, w.ServiceClient, "networks", n.ID, "red").ExtractErr(); err != nil {
		t.Error(err)
	}
	w.refused(404, attributestags.Delete(w.ctx, w.ServiceClient, "networks", n.ID, "red").Err)
	page := must[pagination.Page](t)(networks.List(w.ServiceClient, networks.ListOpts{Tags: "blue,green"}).AllPages(w.ctx))
	if list := must[[]networks.Network](t)(networks.ExtractNetworks(page)); len(list) != 1 || list[0].ID != n.ID {
		t.Errorf("by tags: %+v", list)
	}
	if err := attributestags.DeleteAll(w.ctx, w.ServiceClient, "networks", n.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	if left := must[[]string](t)(attributestags.List(w.ctx, w.ServiceClient, "networks", n.ID).Extract()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
