package conformance_test

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/trunk_details"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/trunks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func TestTrunks(t *testing.T) {
	w := newWorld(t)
	w.node("cmp1", "192.0.2.1", "compute")
	n := w.network("n")
	port := func() string {
		t.Helper()
		return must[*ports.Port](t)(ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: n.ID}).Extract()).ID
	}
	parent, a, b := port(), port(), port()
	sub := func(id string, vlan int) trunks.Subport {
		return trunks.Subport{PortID: id, SegmentationType: "vlan", SegmentationID: vlan}
	}
	up := true
	tr := must[*trunks.Trunk](t)(trunks.Create(w.ctx, w.ServiceClient, trunks.CreateOpts{
		PortID: parent, Name: "t", AdminStateUp: &up, Subports: []trunks.Subport{sub(a, 10)}}).Extract())
	if tr.Status != "DOWN" || tr.PortID != parent || len(tr.Subports) != 1 {
		t.Errorf("created: %+v", tr)
	}
	tr = must[*trunks.Trunk](t)(trunks.AddSubports(w.ctx, w.ServiceClient, tr.ID, trunks.AddSubportsOpts{Subports: []trunks.Subport{sub(b, 20)}}).Extract())
	if subs := must[[]trunks.Subport](t)(trunks.GetSubports(w.ctx, w.ServiceClient, tr.ID).Extract()); len(subs) != 2 || subs[1] != sub(b, 20) {
		t.Errorf("subports: %+v", subs)
	}
	_, err := trunks.AddSubports(w.ctx, w.ServiceClient, tr.ID, trunks.AddSubportsOpts{Subports: []trunks.Subport{sub(port(), 20)}}).Extract()
	w.refused(409, err)
	_, err = trunks.Create(w.ctx, w.ServiceClient, trunks.CreateOpts{PortID: b}).Extract()
	w.refused(409, err)
	w.refused(409, ports.Delete(w.ctx, w.ServiceClient, a).ExtractErr())

	host := "cmp1"
	var shown struct {
		ports.Port
		portsbinding.PortsBindingExt
		trunk_details.TrunkDetailsExt
	}
	opts := portsbinding.UpdateOptsExt{UpdateOptsBuilder: ports.UpdateOpts{}, HostID: &host}
	if err := ports.Update(w.ctx, w.ServiceClient, parent, opts).ExtractInto(&shown); err != nil {
		t.Fatal(err)
	}
	if shown.VIFDetails["bridge_name"] != "tbr-"+tr.ID[:10] || shown.TrunkID != tr.ID || len(shown.SubPorts) != 2 || shown.SubPorts[0].MACAddress == "" {
		t.Errorf("parent: %+v", shown)
	}
	if err := ports.Get(w.ctx, w.ServiceClient, b).ExtractInto(&shown); err != nil || shown.HostID != host || shown.DeviceOwner != "trunk:subport" {
		t.Errorf("subport: %+v, %v", shown, err)
	}
	w.refused(409, trunks.Delete(w.ctx, w.ServiceClient, tr.ID).ExtractErr())
	must[*trunks.Trunk](t)(trunks.RemoveSubports(w.ctx, w.ServiceClient, tr.ID,
		trunks.RemoveSubportsOpts{Subports: []trunks.RemoveSubport{{PortID: a}}}).Extract())
	_, err = trunks.RemoveSubports(w.ctx, w.ServiceClient, tr.ID, trunks.RemoveSubportsOpts{Subports: []trunks.RemoveSubport{{PortID: a}}}).Extract()
	w.refused(404, err)
	name, down := "renamed", false
	if tr = must[*trunks.Trunk](t)(trunks.Update(w.ctx, w.ServiceClient, tr.ID, trunks.UpdateOpts{Name: &name, AdminStateUp: &down}).Extract()); tr.Name != name || tr.AdminStateUp {
		t.Errorf("updated: %+v", tr)
	}
	list := must[[]trunks.Trunk](t)(trunks.ExtractTrunks(must[pagination.Page](t)(trunks.List(w.ServiceClient, trunks.ListOpts{PortID: parent}).AllPages(w.ctx))))
	if len(list) != 1 || list[0].ID != tr.ID {
		t.Errorf("listed: %+v", list)
	}
	none := ""
	w.refused(409, trunks.Delete(w.ctx, w.ServiceClient, tr.ID).ExtractErr())
	if err := ports.Update(w.ctx, w.ServiceClient, parent, portsbinding.UpdateOptsExt{UpdateOptsBuilder: ports.UpdateOpts{}, HostID: &none}).Err; err != nil {
		t.Fatal(err)
	}
	if err := trunks.Delete(w.ctx, w.ServiceClient, tr.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, trunks.Get(w.ctx, w.ServiceClient, tr.ID).Err)
}

// TestBadTrunkInput: Neutron's errors over the bare protocol.
func TestBadTrunkInput(t *testing.T) {
	w := newWorld(t)
	alice := w.as("alice", "member,reader")
	own := must[*networks.Network](t)(networks.Create(w.ctx, alice, networks.CreateOpts{}).Extract())
	n := must[*ports.Port](t)(ports.Create(w.ctx, alice, ports.CreateOpts{NetworkID: own.ID}).Extract())
	foreign := must[*ports.Port](t)(ports.Create(w.ctx, w.ServiceClient, ports.CreateOpts{NetworkID: w.network("n").ID}).Extract())
	for _, c := range []struct {
		method, path, body string
		code               int
		typ                string
	}{
		{"POST", "trunks", `{"trunk":{}}`, 400, "HTTPBadRequest"},
		{"POST", "trunks", `{"trunk":{"port_id":"none"}}`, 400, "HTTPBadRequest"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + foreign.ID + `"}}`, 404, "PortNotFound"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + n.ID + `","status":"ACTIVE"}}`, 400, "HTTPBadRequest"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + n.ID + `","sub_ports":[{}]}}`, 400, "HTTPBadRequest"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + n.ID + `","sub_ports":[{"port_id":"` + n.ID + `"}]}}`, 409, "ParentPortInUse"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + n.ID + `","sub_ports":[{"port_id":"` + foreign.ID + `","segmentation_type":"vlan","segmentation_id":1}]}}`, 404, "PortNotFound"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + n.ID + `","sub_ports":[{"port_id":"` + n.ID + `","segmentation_type":"vlan","segmentation_id":4095}]}}`, 400, "HTTPBadRequest"},
		{"POST", "trunks", `{"trunk":{"port_id":"` + n.ID + `","sub_ports":[{"port_id":"` + n.ID + `","segmentation_type":"vxlan","segmentation_id":1}]}}`, 400, "HTTPBadRequest"},
		{"PUT", "trunks/none/add_subports", `{"sub_ports":[]}`, 404, "TrunkNotFound"},
		{"PUT", "trunks/none/add_subports", `{}`, 400, "HTTPBadRequest"},
		{"PUT", "trunks/none/add_subports", `{"sub_ports":7}`, 400, "InvalidInput"},
		{"GET", "trunks/none/get_subports", "", 404, "TrunkNotFound"},
	} {
		if code, typ, message := w.call(c.method, c.path, c.body); code != c.code || typ != c.typ {
			t.Errorf("%s %s %s: %d %s %q, want %d %s", c.method, c.path, c.body, code, typ, message, c.code, c.typ)
		}
	}
}

// typeTrunks types the commands of trunks.
func typeTrunks(t *testing.T, c *cloud) {
	o := c.osc(t)
	o.do("network create trunk-net")
	for _, p := range []string{"parent", "one", "two"} {
		o.do("port create --network trunk-net trunk-%s", p)
	}
	tr := o.one("network trunk create --parent-port trunk-parent --subport port=trunk-one,segmentation-type=vlan,segmentation-id=10 --description d trunk-t")
	o.want(tr, "name", "trunk-t", "status", "DOWN", "description", "d")
	o.do("network trunk set --subport port=trunk-two,segmentation-type=vlan,segmentation-id=20 --name trunk-u trunk-t")
	o.equal("subports", o.column("Segmentation ID", "network subport list --trunk trunk-u"), "10 20")
	o.equal("trunks", o.column("Name", "network trunk list"), "trunk-u")
	o.refused("currently a parent port", "port delete trunk-parent")
	o.refused("currently a subport", "port delete trunk-one")
	o.do("network trunk unset --subport trunk-one trunk-u")
	o.equal("subports", o.column("Segmentation ID", "network subport list --trunk trunk-u"), "20")
	o.do("network trunk set --disable trunk-u")
	o.refused("currently disabled", "network trunk unset --subport trunk-two trunk-u")
	o.do("network trunk delete trunk-u")
	o.do("port delete trunk-parent trunk-one trunk-two")
	o.do("network delete trunk-net")
}
