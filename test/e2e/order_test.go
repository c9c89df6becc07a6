package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"baryon/internal/lab"
)

// TestAnyOrder: network, port, binding, plug, agent start and server start in six orders end in the same state.  Objects can only be
// made while a server runs, so where the server starts late it is one that ran before, was stopped, and starts again.
func TestAnyOrder(t *testing.T) {
	w := ownLab(t, "order", lab.Topology{Nodes: []lab.Node{
		{Name: "ctl", Roles: []string{"network"}},
		{Name: "cmp1", Roles: []string{"compute"}, Plug: lab.PlugHybrid},
		{Name: "cmp2", Roles: []string{"compute"}},
	}}, 1)
	for i, order := range []string{
		"server network port binding plug agent",
		"agent server network port binding plug",
		"server network port plug binding agent",
		"network port plug agent server binding",
		"network port binding agent plug server",
		"network port plug agent binding server",
	} {
		t.Run(order, func(t *testing.T) {
			w := newWorld(t, w.Lab)
			o := &orderRun{w: w, n: i}
			o.run(strings.Fields(order))
			ip := w.fixed(o.guest(), "10.40.")
			got, err := w.WaitLease(w.ctx(), o.guest())
			w.must(err)
			if got != ip {
				t.Errorf("leased %s, the port has %s", got, ip)
			}
			w.reaches(o.guest(), w.fixed(o.peer(), "10.40."))
			ping := w.steadily(o.guest(), w.fixed(o.peer(), "10.40."))
			w.must(w.RestartAgent(w.ctx(), "cmp1", syscall.SIGKILL))
			ping.lossless("restart of the agent")
		})
	}
}

type orderRun struct {
	w    *world
	n    int
	net  string
	port lab.Port
}

func (o *orderRun) guest() string { return fmt.Sprintf("og%d", o.n) }
func (o *orderRun) peer() string  { return fmt.Sprintf("op%d", o.n) }

func (o *orderRun) run(steps []string) {
	w := o.w
	w.t.Helper()
	// What the order starts later is stopped first.
	w.must(w.StopAgent(w.ctx(), "cmp1", syscall.SIGTERM))
	serverStopped := false
	for i, step := range steps {
		switch step {
		case "server":
			if serverStopped {
				w.must(w.StartServer(w.ctx(), 0))
				serverStopped = false
			}
		case "network":
			o.makeNetwork()
		case "port":
			o.makePort()
		case "binding":
			if serverStopped {
				// The request comes while the server is away: it is made when it can be, as a client that retries does.
				w.must(w.StartServer(w.ctx(), 0))
				serverStopped = false
				o.bind()
				w.must(w.StopServer(w.ctx(), 0, syscall.SIGKILL))
				serverStopped = true
				continue
			}
			o.bind()
		case "plug":
			_, err := w.PlugGuest(w.ctx(), lab.Guest{Name: o.guest(), Node: "cmp1", Network: o.guest()}, o.port)
			w.must(err)
			w.t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := w.UnplugGuest(ctx, o.guest()); err != nil {
					w.t.Error(err)
				}
			})
		case "agent":
			w.must(w.StartAgent(w.ctx(), "cmp1"))
		}
		if !serverStopped && slices.Contains(steps[i+1:], "server") && !needsServer(steps[i+1:]) {
			w.must(w.StopServer(w.ctx(), 0, syscall.SIGKILL))
			serverStopped = true
		}
	}
	w.must(w.WaitActive(w.ctx(), o.guest()))
}

// needsServer tells whether an object is still to be made before the server starts.
func needsServer(rest []string) bool {
	for _, s := range rest {
		switch s {
		case "server":
			return false
		case "network", "port":
			return true
		}
	}
	return false
}

func (o *orderRun) makeNetwork() {
	w := o.w
	w.must(lab.CreateNetwork(w.ctx(), w.api, lab.Network{Name: o.guest(), Subnets: []lab.Subnet{{CIDR: "10.40.0.0/24"}}}))
	o.net = w.networkID(o.guest())
	w.t.Cleanup(func() { w.deleteNetwork(o.net) })
	// The other end is there from the start, on a node that is not touched.
	w.addGuest(lab.Guest{Name: o.peer(), Node: "cmp2", Network: o.guest()})
}

func (o *orderRun) makePort() {
	w := o.w
	p, err := ports.Create(w.ctx(), w.api, ports.CreateOpts{
		NetworkID: o.net, Name: o.guest(), DeviceID: uuid.NewString(), DeviceOwner: "compute:nova",
	}).Extract()
	w.must(err)
	o.port = lab.Port{ID: p.ID, MAC: p.MACAddress, MTU: 1450, Hybrid: true}
}

func (o *orderRun) bind() {
	w := o.w
	host := "cmp1"
	w.must(ports.Update(w.ctx(), w.api, o.port.ID, portsbinding.UpdateOptsExt{UpdateOptsBuilder: ports.UpdateOpts{}, HostID: &host}).Err)
}

// TestDeletedWhilePlugged: a port and then its network are deleted while guests are plugged: the guest is cut off, the others are not,
// and nothing of it is left on the nodes.
func TestDeletedWhilePlugged(t *testing.T) {
	w := sharedLab(t)
	id := w.network(lab.Network{Name: "gone", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.41.0.0/24"}}})
	a := w.guest(lab.Guest{Name: "gn-a", Node: "cmp1", Network: "gone"})
	b := w.guest(lab.Guest{Name: "gn-b", Node: "cmp2", Network: "gone"})
	c := w.guest(lab.Guest{Name: "gn-c", Node: "cmp3", Network: "gone"})
	w.reaches("gn-a", b)
	w.reaches("gn-a", c)
	w.must(ports.Delete(w.ctx(), w.api, w.guestInfo("gn-b").PortID).ExtractErr())
	w.cutOff("gn-a", b)
	w.reachesNot("gn-b", a)
	w.restartUnderPing("gn-a", c, "cmp1", syscall.SIGKILL)
	w.reachesNot("gn-b", a)

	for _, g := range []string{"gn-a", "gn-c"} {
		w.must(ports.Delete(w.ctx(), w.api, w.guestInfo(g).PortID).ExtractErr())
	}
	w.must(networks.Delete(w.ctx(), w.api, id).ExtractErr())
	w.cutOff("gn-a", c)
	w.eventually("the network leaves no namespace on ctl", func() error {
		out, err := w.Run(w.ctx(), "ctl", "ip", "netns", "list")
		if err == nil && strings.Contains(out, id) {
			err = fmt.Errorf("still there: %s", out)
		}
		return err
	})
	w.eventually("the network leaves no flow on cmp1", func() error {
		for _, mac := range []string{w.guestInfo("gn-b").MAC, w.guestInfo("gn-c").MAC} {
			if strings.Contains(w.flows("cmp1"), mac) {
				return fmt.Errorf("flows still name %s", mac)
			}
		}
		return nil
	})
}

// cutOff waits until pings are no longer answered.
func (w *world) cutOff(from, to string) {
	w.t.Helper()
	w.eventually(from+" no longer reaches "+to, func() error {
		if _, err := w.GuestRun(w.ctx(), from, "ping", "-n", "-c", "1", "-W", "1", to); err == nil {
			return fmt.Errorf("answered")
		}
		return nil
	})
}

// TestSubnetAddedWhilePlugged: a second subnet comes to a network in use; new ports get addresses of both versions and old ones keep
// theirs.
func TestSubnetAddedWhilePlugged(t *testing.T) {
	w := sharedLab(t)
	id := w.network(lab.Network{Name: "grow", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.42.0.0/24"}}})
	w.guest(lab.Guest{Name: "gr-a", Node: "cmp1", Network: "grow"})
	w.guest(lab.Guest{Name: "gr-b", Node: "cmp2", Network: "grow"})
	ping := w.steadily("gr-a", w.fixed("gr-b", "10.42."))
	w.must(subnets.Create(w.ctx(), w.api, subnets.CreateOpts{
		NetworkID: id, CIDR: "fd00:42::/64", IPVersion: 6, IPv6AddressMode: "slaac", IPv6RAMode: "slaac",
	}).Err)
	w.hasAddress("gr-a", w.fixed("gr-a", "fd00:42:"))
	w.hasAddress("gr-b", w.fixed("gr-b", "fd00:42:"))
	w.must(w.RestartAgent(w.ctx(), "cmp2", syscall.SIGTERM))
	ping.lossless("a subnet added and the agent restarted")
	w.reaches("gr-a", w.fixed("gr-b", "fd00:42:"))
}
