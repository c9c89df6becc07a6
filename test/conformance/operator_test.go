package conformance_test

import (
	"slices"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/common/extensions"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/agents"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/networkipavailabilities"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func TestExtensions(t *testing.T) {
	w := newWorld(t)
	page := must[pagination.Page](t)(extensions.List(w.ServiceClient).AllPages(w.ctx))
	list := must[[]extensions.Extension](t)(extensions.ExtractExtensions(page))
	if !slices.ContainsFunc(list, func(e extensions.Extension) bool {
		return e.Alias == "dns-integration" && e.Name != "" && e.Updated != ""
	}) {
		t.Errorf("listed: %+v", list)
	}
	if e := must[*extensions.Extension](t)(extensions.Get(w.ctx, w.ServiceClient, "quotas").Extract()); e.Alias != "quotas" {
		t.Errorf("shown: %+v", e)
	}
	w.refused(404, extensions.Get(w.ctx, w.ServiceClient, "router").Err)
}

func TestQuotas(t *testing.T) {
	w := newWorld(t)
	one := 1
	q := must[*quotas.Quota](t)(quotas.Update(w.ctx, w.ServiceClient, "alice", quotas.UpdateOpts{Network: &one}).Extract())
	if q.Network != 1 || q.Port != 500 {
		t.Errorf("set: %+v", q)
	}
	alice := w.as("alice", "member,reader")
	must[*networks.Network](t)(networks.Create(w.ctx, alice, networks.CreateOpts{}).Extract())
	_, err := networks.Create(w.ctx, alice, networks.CreateOpts{}).Extract()
	w.refused(409, err)
	d := must[*quotas.QuotaDetailSet](t)(quotas.GetDetail(w.ctx, alice, "alice").Extract())
	if d.Network != (quotas.QuotaDetail{Used: 1, Limit: 1}) {
		t.Errorf("details: %+v", d)
	}
	_, err = quotas.Update(w.ctx, alice, "alice", quotas.UpdateOpts{Network: &one}).Extract()
	w.refused(403, err)
	if err := quotas.Delete(w.ctx, w.ServiceClient, "alice").ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if q := must[*quotas.Quota](t)(quotas.Get(w.ctx, w.ServiceClient, "alice").Extract()); q.Network != 100 {
		t.Errorf("reset: %+v", q)
	}
}

func TestAgents(t *testing.T) {
	w := newWorld(t)
	w.node("cmp1", "192.0.2.1", "compute")
	w.node("net1", "192.0.2.2", "network")
	find := func(opts agents.ListOpts) []agents.Agent {
		t.Helper()
		page := must[pagination.Page](t)(agents.List(w.ServiceClient, opts).AllPages(w.ctx))
		return must[[]agents.Agent](t)(agents.ExtractAgents(page))
	}
	all := find(agents.ListOpts{})
	alive := true
	dhcp := find(agents.ListOpts{AgentType: "DHCP agent", Alive: &alive})
	if len(all) < 3 || len(dhcp) != 1 || dhcp[0].Host != "net1" || dhcp[0].HeartbeatTimestamp.IsZero() || dhcp[0].Binary != "neutron-dhcp-agent" {
		t.Fatalf("all %+v\nDHCP %+v", all, dhcp)
	}
	id := dhcp[0].ID
	n := w.network("n")
	w.subnet(n.ID, "10.0.0.0/24")
	hosted := must[[]networks.Network](t)(agents.ListDHCPNetworks(w.ctx, w.ServiceClient, id).Extract())
	if len(hosted) != 1 || hosted[0].ID != n.ID {
		t.Errorf("scheduled by itself: %+v", hosted)
	}
	w.refused(409, agents.ScheduleDHCPNetwork(w.ctx, w.ServiceClient, id, agents.ScheduleDHCPNetworkOpts{NetworkID: n.ID}).Err)
	if err := agents.RemoveDHCPNetwork(w.ctx, w.ServiceClient, id, n.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := agents.ScheduleDHCPNetwork(w.ctx, w.ServiceClient, id, agents.ScheduleDHCPNetworkOpts{NetworkID: n.ID}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	up, text := false, "for repair"
	a := must[*agents.Agent](t)(agents.Update(w.ctx, w.ServiceClient, id, agents.UpdateOpts{AdminStateUp: &up, Description: &text}).Extract())
	if a.AdminStateUp || a.Description != text {
		t.Errorf("changed: %+v", a)
	}
	member := w.as("alice", "member,reader")
	w.refused(404, agents.Get(w.ctx, member, id).Err)
	page := must[pagination.Page](t)(agents.List(member, agents.ListOpts{}).AllPages(w.ctx))
	if list := must[[]agents.Agent](t)(agents.ExtractAgents(page)); len(list) != 0 {
		t.Errorf("a member sees %+v", list)
	}
}

func TestIPAvailability(t *testing.T) {
	w := newWorld(t)
	n := w.network("n")
	w.subnet(n.ID, "10.0.0.0/24")
	w.subnet(n.ID, "fd00::/64")
	a := must[*networkipavailabilities.NetworkIPAvailability](t)(networkipavailabilities.Get(w.ctx, w.ServiceClient, n.ID).Extract())
	if a.NetworkName != "n" || len(a.SubnetIPAvailabilities) != 2 || a.UsedIPs != "0" {
		t.Errorf("shown: %+v", a)
	}
	page := must[pagination.Page](t)(networkipavailabilities.List(w.ServiceClient, networkipavailabilities.ListOpts{NetworkName: "n", IPVersion: "4"}).AllPages(w.ctx))
	list := must[[]networkipavailabilities.NetworkIPAvailability](t)(networkipavailabilities.ExtractNetworkIPAvailabilities(page))
	if len(list) != 1 || list[0].TotalIPs != "253" {
		t.Errorf("listed: %+v", list)
	}
}
