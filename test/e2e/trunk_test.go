package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/trunks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/lab"
	"baryon/internal/names"
)

// trunkGuest is a guest that speaks in VLANs: a namespace behind a little switch of its own (the kernel that tests run on need not know
// VLAN devices), whose uplink is plugged into the trunk's bridge.
type trunkGuest struct {
	w          *world
	name, node string
	parent     *ports.Port
	trunk      string
}

// member is one VLAN of a trunk: its port and a guest far away in the same network.
type member struct {
	vlan int // 0: untagged, the parent
	port *ports.Port
	far  string // address
}

// run runs a command on the guest's node.
func (g *trunkGuest) run(argv ...string) string {
	g.w.t.Helper()
	out, err := g.w.Run(g.w.ctx(), g.node, argv...)
	g.w.must(err)
	return out
}

func (g *trunkGuest) inside(argv ...string) []string {
	return append([]string{"ip", "netns", "exec", g.name}, argv...)
}

// plug makes the guest with its switch and plugs the switch's uplink into the parent port.
func (g *trunkGuest) plug() {
	g.w.t.Helper()
	up, down, sw := g.name+"up", g.name+"dn", g.name+"sw"
	g.run("ip", "netns", "add", g.name)
	g.run("ip", "link", "add", up, "mtu", "1450", "type", "veth", "peer", "name", down, "mtu", "1450")
	g.run("ip", "link", "set", up, "up")
	g.run("ovs-vsctl", "--no-wait", "add-br", sw, "--", "set", "Bridge", sw, "datapath_type=netdev", "--", "add-port", sw, up)
	g.run(os.Getenv("BARYON_BIN"), "plug", g.parent.ID, "--device", down, "--mac", g.parent.MACAddress, "--mtu", "1450",
		"--bridge", names.TrunkBridge(g.trunk), "--state-dir", "/var/lib/baryon")
}

// unplug takes all of it away again.
func (g *trunkGuest) unplug() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, argv := range [][]string{
		{os.Getenv("BARYON_BIN"), "unplug", g.parent.ID, "--state-dir", "/var/lib/baryon"},
		{"ovs-vsctl", "--no-wait", "--if-exists", "del-br", g.name + "sw"},
		{"ip", "link", "delete", g.name + "up"},
		{"ip", "netns", "delete", g.name},
	} {
		if _, err := g.w.Run(ctx, g.node, argv...); err != nil {
			g.w.t.Errorf("unplug: %v", err)
		}
	}
}

// join gives the guest a device in a VLAN, with the MAC and address of the port that stands for it.
func (g *trunkGuest) join(m member) {
	g.w.t.Helper()
	outer, dev := fmt.Sprintf("%s%d", g.name, m.vlan), fmt.Sprintf("v%d", m.vlan)
	g.run("ip", "link", "add", outer, "mtu", "1450", "type", "veth", "peer", "name", dev, "mtu", "1450", "address", m.port.MACAddress, "netns", g.name)
	g.run("ip", "link", "set", outer, "up")
	g.run(g.inside("ethtool", "-K", dev, "tx", "off")...)
	g.run(g.inside("ip", "link", "set", dev, "up")...)
	g.run(g.inside("ip", "address", "add", m.port.FixedIPs[0].IPAddress+"/24", "dev", dev)...)
	g.run("ovs-vsctl", "--no-wait", "add-port", g.name+"sw", outer, "tag="+strconv.Itoa(m.vlan), "vlan_mode=access")
}

func (g *trunkGuest) ping(to string) error {
	_, err := g.w.Run(g.w.ctx(), g.node, g.inside("ping", "-n", "-c", "1", "-W", "1", to)...)
	return err
}

func (g *trunkGuest) reaches(m member) {
	g.w.t.Helper()
	g.w.eventually(fmt.Sprintf("%s reaches %s in VLAN %d", g.name, m.far, m.vlan), func() error { return g.ping(m.far) })
}

// status waits for the trunk's status.
func (g *trunkGuest) status(want string) {
	g.w.t.Helper()
	g.w.eventually("trunk of "+g.name+" is "+want, func() error {
		tr, err := trunks.Get(g.w.ctx(), g.w.api, g.trunk).Extract()
		if err == nil && tr.Status != want {
			err = fmt.Errorf("it is %s", tr.Status)
		}
		return err
	})
}

// steadily is world's, of a ping from this guest.
func (g *trunkGuest) steadily(to string) *steady {
	g.w.t.Helper()
	return g.w.steadyOn(g.node, g.inside("ping", "-n", "-i", "0.01", "-W", "2", to)...)
}

// wiring is what the node has in Open vSwitch for ports: whatever a restart must not touch.
func (g *trunkGuest) wiring() string {
	g.w.t.Helper()
	return g.run("ovs-vsctl", "--columns=_uuid,name,tag,vlan_mode,external_ids,other_config", "list", "Port", "--",
		"--columns=_uuid,name,ofport,type,options", "list", "Interface", "--", "list-br")
}

// memberOf makes a network with a guest far away and a port for the trunk.
func (w *world) memberOf(name string, vlan int, far string) member {
	w.t.Helper()
	net := w.network(lab.Network{Name: name, Type: "vxlan", Subnets: []lab.Subnet{{CIDR: fmt.Sprintf("10.90.%d.0/24", vlan)}}})
	m := member{vlan: vlan, far: w.guest(lab.Guest{Name: "far-" + name, Node: far, Network: name})}
	p, err := ports.Create(w.ctx(), w.api, ports.CreateOpts{NetworkID: net, Name: name}).Extract()
	w.must(err)
	m.port = p
	return m
}

// onHost binds a port to a node, or to none.
func (w *world) onHost(port, host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return ports.Update(ctx, w.api, port, portsbinding.UpdateOptsExt{UpdateOptsBuilder: ports.UpdateOpts{}, HostID: &host}).Err
}

func sub(m member) trunks.Subport {
	return trunks.Subport{PortID: m.port.ID, SegmentationType: "vlan", SegmentationID: m.vlan}
}

// TestTrunk: a guest reaches each network of its trunk through its VLAN, and no other; subports come and go while the others' traffic
// goes on; a restart of the agent touches nothing; and with the trunk its bridge goes.  On nodes of both firewall drivers.
func TestTrunk(t *testing.T) {
	for node, far := range map[string]string{"cmp1": "cmp2", "cmp2": "cmp3"} {
		t.Run(node, func(t *testing.T) { trunk(sharedLab(t), node, far) })
	}
}

func trunk(w *world, node, far string) {
	t := w.t
	g := &trunkGuest{w: w, name: "tk" + node[3:], node: node}
	var all []member // the parent and three subports
	for _, vlan := range []int{0, 10, 20, 30} {
		all = append(all, w.memberOf(fmt.Sprintf("%s-%d", g.name, vlan), vlan, far))
	}
	g.parent = all[0].port
	tr, err := trunks.Create(w.ctx(), w.api, trunks.CreateOpts{PortID: g.parent.ID, Name: g.name, Subports: []trunks.Subport{sub(all[1]), sub(all[2])}}).Extract()
	w.must(err)
	g.trunk = tr.ID
	w.cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.onHost(g.parent.ID, ""); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if err := trunks.Delete(ctx, w.api, g.trunk).ExtractErr(); err != nil && !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			t.Errorf("clean up: %v", err)
		}
	})
	w.must(w.onHost(g.parent.ID, node))
	g.status("DOWN") // nothing is plugged
	g.plug()
	w.cleanup(g.unplug)
	for _, m := range all {
		g.join(m)
	}
	g.status("ACTIVE")
	for _, m := range all[:3] {
		w.must(lab.WaitPort(w.ctx(), w.api, m.port.ID, "ACTIVE"))
		g.reaches(m)
	}
	if g.ping(all[3].far) == nil {
		t.Error("a VLAN without a subport leads somewhere")
	}
	if err := trunks.Delete(w.ctx(), w.api, g.trunk).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusConflict) {
		t.Errorf("delete a trunk in use: %v", err)
	}

	// A subport is added under the traffic of the others, and the agent restarted.
	ping := g.steadily(all[1].far)
	_, err = trunks.AddSubports(w.ctx(), w.api, g.trunk, trunks.AddSubportsOpts{Subports: []trunks.Subport{sub(all[3])}}).Extract()
	w.must(err)
	g.reaches(all[3])
	g.status("ACTIVE")
	before, flows := g.wiring(), w.flows(node)
	w.must(w.RestartAgent(w.ctx(), node, syscall.SIGKILL))
	ping.lossless("a subport added, and the agent restarted")
	if after := g.wiring(); after != before {
		t.Errorf("the restart changed ports:\nbefore\n%s\nafter\n%s", before, after)
	}
	if after := w.flows(node); after != flows {
		t.Errorf("the restart changed flows:\nbefore\n%s\nafter\n%s", flows, after)
	}

	// A subport is removed: its VLAN leads nowhere, the others go on.
	ping = g.steadily(all[1].far)
	_, err = trunks.RemoveSubports(w.ctx(), w.api, g.trunk, trunks.RemoveSubportsOpts{Subports: []trunks.RemoveSubport{{PortID: all[2].port.ID}}}).Extract()
	w.must(err)
	w.must(lab.WaitPort(w.ctx(), w.api, all[2].port.ID, "DOWN"))
	w.eventually("the removed subport's patch has gone", func() error {
		if strings.Contains(g.run("ovs-vsctl", "list-ports", "br-int"), names.SubPortInt(all[2].port.ID)) {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	if g.ping(all[2].far) == nil {
		t.Error("a removed subport still leads somewhere")
	}
	ping.lossless("a subport removed")
	g.reaches(all[3])

	// The guest goes, and then the trunk: nothing is left of it.
	g.run(os.Getenv("BARYON_BIN"), "unplug", g.parent.ID, "--state-dir", "/var/lib/baryon")
	g.status("DOWN")
	w.must(w.onHost(g.parent.ID, ""))
	w.must(trunks.Delete(w.ctx(), w.api, g.trunk).ExtractErr())
	w.eventually("the trunk's bridge has gone", func() error {
		if list := strings.Fields(g.run("ovs-vsctl", "list-br")); slices.Contains(list, names.TrunkBridge(g.trunk)) {
			return fmt.Errorf("%v", list)
		}
		return nil
	})
}
