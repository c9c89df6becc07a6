package conformance_test

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/dns"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/extradhcpopts"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// fullPort is a port with every extension that gophercloud knows.
type fullPort struct {
	ports.Port
	portsbinding.PortsBindingExt
	portsecurity.PortSecurityExt
	extradhcpopts.ExtraDHCPOptsExt
	dns.PortDNSExt
}

func TestPorts(t *testing.T) {
	w := newWorld(t)
	w.node("cmp1", "192.0.2.1", "compute")
	n := w.network("n")
	s := w.subnet(n.ID, "10.0.0.0/24")
	var made fullPort
	err := ports.Create(w.ctx, w.ServiceClient, portsbinding.CreateOptsExt{HostID: "cmp1", Profile: map[string]any{"a": "b"},
		CreateOptsBuilder: extradhcpopts.CreateOptsExt{ExtraDHCPOpts: []extradhcpopts.CreateExtraDHCPOpt{{OptName: "bootfile-name", OptValue: "pxe.0"}},
			CreateOptsBuilder: dns.PortCreateOptsExt{DNSName: "web",
				CreateOptsBuilder: ports.CreateOpts{NetworkID: n.ID, Name: "p", DeviceOwner: "compute:nova", DeviceID: "vm1",
					FixedIPs:            []ports.IP{{SubnetID: s.ID, IPAddress: "10.0.0.50"}},
					AllowedAddressPairs: []ports.AddressPair{{IPAddress: "10.0.0.60"}}}}}}).ExtractInto(&made)
	if err != nil {
		t.Fatal(err)
	}
	if made.HostID != "cmp1" || made.VIFType != "ovs" || made.VIFDetails["bridge_name"] != "br-int" || made.Profile["a"] != "b" || made.VNICType != "normal" ||
		len(made.ExtraDHCPOpts) != 1 || made.ExtraDHCPOpts[0].IPVersion != 4 || made.DNSName != "web" || made.Status != "DOWN" ||
		made.FixedIPs[0].IPAddress != "10.0.0.50" || made.AllowedAddressPairs[0].MACAddress != made.MACAddress || !made.PortSecurityEnabled {
		t.Errorf("made: %+v", made)
	}
	if a := made.DNSAssignment; len(a) != 1 || a[0]["fqdn"] != "web.example.org." {
		t.Errorf("DNS assignment: %v", a)
	}
	_, err = ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{IPAddress: "10.0.0.50"}}}).Extract()
	w.refused(409, err)
	_, err = ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{IPAddress: "10.0.9.50"}}}).Extract()
	w.refused(400, err)
	_, err = ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: n.ID, MACAddress: made.MACAddress}).Extract()
	w.refused(409, err)
	_, err = ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: "00000000-0000-4000-8000-000000000000"}).Extract()
	w.refused(404, err)

	for name, opts := range map[string]ports.ListOpts{
		"address":   {FixedIPs: []ports.FixedIPOpts{{IPAddress: "10.0.0.50"}}},
		"substring": {FixedIPs: []ports.FixedIPOpts{{IPAddressSubstr: ".0.50"}}, NetworkID: n.ID},
		"subnet":    {FixedIPs: []ports.FixedIPOpts{{SubnetID: s.ID}}, DeviceID: "vm1"},
		"mac":       {MACAddress: made.MACAddress},
		"owner":     {DeviceOwner: "compute:nova", Status: "DOWN"},
	} {
		page := must[pagination.Page](t)(ports.List(w.ServiceClient, opts).AllPages(w.ctx))
		if list := must[[]ports.Port](t)(ports.ExtractPorts(page)); len(list) != 1 || list[0].ID != made.ID {
			t.Errorf("by %s: %+v", name, list)
		}
	}
	name, fixed, off, host := "q", []ports.IP{{SubnetID: s.ID}, {IPAddress: "10.0.0.51"}}, false, ""
	var changed fullPort
	err = ports.Update(w.ctx, w.ServiceClient, made.ID, portsbinding.UpdateOptsExt{HostID: &host,
		UpdateOptsBuilder: portsecurity.PortUpdateOptsExt{PortSecurityEnabled: &off,
			UpdateOptsBuilder: ports.UpdateOpts{Name: &name, FixedIPs: fixed, AllowedAddressPairs: &[]ports.AddressPair{}, SecurityGroups: &[]string{}}}}).ExtractInto(&changed)
	if err != nil {
		t.Fatal(err)
	}
	if changed.Name != "q" || len(changed.FixedIPs) != 2 || changed.VIFType != "unbound" || changed.PortSecurityEnabled || len(changed.AllowedAddressPairs) != 0 {
		t.Errorf("changed: %+v", changed)
	}
	if err := ports.Delete(w.ctx, w.ServiceClient, made.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, ports.Get(w.ctx, w.ServiceClient, made.ID).Err)
}

func TestPortsInBulk(t *testing.T) {
	w := newWorld(t)
	n := w.network("n")
	w.subnet(n.ID, "10.0.0.0/29") // room for five ports
	bulk := func(count int) error {
		list := make([]map[string]any, count)
		for i := range list {
			list[i] = map[string]any{"network_id": n.ID}
		}
		var answer struct{ Ports []ports.Port }
		_, err := w.Post(w.ctx, w.ServiceURL("ports"), map[string]any{"ports": list}, &answer, nil)
		if err == nil && len(answer.Ports) != count {
			t.Errorf("%d ports answered, want %d", len(answer.Ports), count)
		}
		return err
	}
	w.refused(409, bulk(6))
	if err := bulk(5); err != nil {
		t.Error(err)
	}
	page := must[pagination.Page](t)(ports.List(w.ServiceClient, ports.ListOpts{}).AllPages(w.ctx))
	seen := map[string]bool{}
	for _, p := range must[[]ports.Port](t)(ports.ExtractPorts(page)) {
		seen[p.FixedIPs[0].IPAddress] = true
	}
	if len(seen) != 5 {
		t.Errorf("addresses %v, want five", seen)
	}
}
