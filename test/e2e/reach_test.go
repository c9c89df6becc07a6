package e2e

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/lab"
)

// TestSameSubnet: guests of one network reach each other, on one node and across nodes, plugged hybrid and direct, over VXLAN and
// GRE; and a restart of either end's agent, orderly or not, changes no flow and loses no packet.
func TestSameSubnet(t *testing.T) {
	for _, typ := range []string{"vxlan", "gre"} {
		t.Run(typ, func(t *testing.T) {
			w := sharedLab(t)
			w.network(lab.Network{Name: "same-" + typ, Type: typ, Subnets: []lab.Subnet{{CIDR: "10.10.0.0/24"}}})
			guests := []lab.Guest{
				{Name: "a-" + typ, Node: "cmp1", Plug: lab.PlugHybrid},
				{Name: "b-" + typ, Node: "cmp1", Plug: lab.PlugHybrid},
				{Name: "c-" + typ, Node: "cmp1", Plug: lab.PlugDirect},
				{Name: "d-" + typ, Node: "cmp2", Plug: lab.PlugDirect},
				{Name: "e-" + typ, Node: "cmp2", Plug: lab.PlugDirect},
				{Name: "f-" + typ, Node: "cmp3", Plug: lab.PlugHybrid},
			}
			ip := map[string]string{}
			for _, g := range guests {
				g.Network = "same-" + typ
				ip[g.Name] = w.guest(g)
			}
			for _, from := range guests {
				for _, to := range guests {
					if from.Name != to.Name {
						w.reaches(from.Name, ip[to.Name])
					}
				}
			}
			for _, pair := range []struct{ from, to, restart string }{
				{"a-", "b-", "cmp1"}, // one node, hybrid
				{"d-", "e-", "cmp2"}, // one node, direct
				{"a-", "d-", "cmp1"}, // across, at the sender, hybrid to direct
				{"a-", "d-", "cmp2"}, // across, at the receiver
				{"f-", "c-", "cmp1"}, // across, hybrid to direct on a hybrid node
			} {
				for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
					from, to := pair.from+typ, pair.to+typ
					w.restartUnderPing(from, ip[to], pair.restart, sig)
				}
			}
		})
	}
}

// restartUnderPing restarts a node's agent under a ping of 100 packets per second: no packet lost, no flow changed.
func (w *world) restartUnderPing(from, to, node string, sig syscall.Signal) {
	w.t.Helper()
	before := w.flows(node)
	ping := w.steadily(from, to)
	w.must(w.RestartAgent(w.ctx(), node, sig))
	what := fmt.Sprintf("restart (%s) of the agent on %s under a ping from %s to %s", sig, node, from, to)
	ping.lossless(what)
	if after := w.flows(node); after != before {
		w.t.Errorf("%s changed the flows:\nbefore\n%s\nafter\n%s", what, before, after)
	}
}

// TestTwinNetworks: two networks with the same addresses on the same nodes; a packet of one is never seen in the other, also while
// the agents restart.
func TestTwinNetworks(t *testing.T) {
	for _, types := range [][2]string{{"vxlan", "vxlan"}, {"gre", "gre"}, {"vxlan", "gre"}} {
		t.Run(types[0]+"-"+types[1], func(t *testing.T) {
			w := sharedLab(t)
			for i, typ := range types {
				w.network(lab.Network{Name: fmt.Sprintf("twin%d", i), Type: typ, Subnets: []lab.Subnet{
					{CIDR: "172.16.1.0/24", Gateway: "none", Pool: "172.16.1.100-172.16.1.200"},
				}})
			}
			for i := range types {
				for last, node := range map[int]string{1: "cmp1", 2: "cmp2", 3: "cmp1"} {
					ip := w.guest(lab.Guest{
						Name: fmt.Sprintf("t%d-%d", i, last), Node: node, Network: fmt.Sprintf("twin%d", i),
						FixedIP: fmt.Sprintf("172.16.1.%d", last),
					})
					if ip != fmt.Sprintf("172.16.1.%d", last) {
						t.Fatalf("guest t%d-%d got %s", i, last, ip)
					}
				}
			}
			// In turn each network sends; the other listens on the guest of the same address, on the sender's and the receiver's node.
			for i := range types {
				other := 1 - i
				near, far := w.capture(fmt.Sprintf("t%d-3", other)), w.capture(fmt.Sprintf("t%d-2", other))
				hit := w.capture(fmt.Sprintf("t%d-2", i))
				ping := w.steadily(fmt.Sprintf("t%d-1", i), "172.16.1.2")
				w.must(w.RestartAgent(w.ctx(), "cmp1", syscall.SIGKILL))
				w.must(w.RestartAgent(w.ctx(), "cmp2", syscall.SIGKILL))
				ping.lossless("restart of both agents")
				hit.await(ping.last)
				hit.stop()
				if n := near.stop() + far.stop(); n != 0 {
					t.Errorf("network %d saw %d pings of its twin", other, n)
				}
			}
		})
	}
}

// TestFloodStaysInNetwork: a frame for an address that no port has is flooded in its own network only, and there only to ports that
// take what is not theirs: a filtered port does not see it.
func TestFloodStaysInNetwork(t *testing.T) {
	w := sharedLab(t)
	for _, n := range []string{"flood0", "flood1"} {
		w.network(lab.Network{Name: n, Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "172.16.9.0/24", Gateway: "none"}}})
	}
	w.guest(lab.Guest{Name: "fl0", Node: "cmp1", Network: "flood0"})
	w.guest(lab.Guest{Name: "fl1", Node: "cmp2", Network: "flood0"})
	w.guest(lab.Guest{Name: "fl2", Node: "cmp2", Network: "flood0"})
	w.guest(lab.Guest{Name: "fl3", Node: "cmp2", Network: "flood1"})
	_, err := w.GuestRun(w.ctx(), "fl0", "ip", "neigh", "replace", "172.16.9.200", "lladdr", "fa:16:3e:12:34:56", "dev", "eth0")
	w.must(err)
	w.unfilter("fl1")
	w.unfilter("fl3")
	in, filtered, out := w.capture("fl1"), w.capture("fl2"), w.capture("fl3")
	w.eventually("an unknown address is flooded in its network", func() error {
		_, _ = w.GuestRun(w.ctx(), "fl0", "ping", "-n", "-c", "1", "-W", "1", "172.16.9.200") // nobody answers
		if in.count.Load() == 0 {
			return errors.New("not seen")
		}
		return nil
	})
	w.reachesNot("fl0", "172.16.9.200")
	if n := filtered.stop(); n != 0 {
		t.Errorf("a filtered port saw %d frames for an address that is not its own", n)
	}
	if n := out.stop(); n != 0 {
		t.Errorf("%d frames were flooded into another network", n)
	}
	in.stop()
}

// unfilter turns port security of a guest's port off.
func (w *world) unfilter(guest string) {
	w.t.Helper()
	off := false
	w.must(ports.Update(w.ctx(), w.api, w.guestInfo(guest).PortID, portsecurity.PortUpdateOptsExt{
		UpdateOptsBuilder: ports.UpdateOpts{SecurityGroups: &[]string{}}, PortSecurityEnabled: &off,
	}).Err)
	w.must(w.WaitActive(w.ctx(), guest))
}

// TestAntiSpoof: a port with port security sends only from its own MAC and, in ARP, its own address; the legal twin passes.
func TestAntiSpoof(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "spoof", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.66.0.0/24"}}})
	w.guest(lab.Guest{Name: "sp-a", Node: "cmp1", Network: "spoof"})
	victim := w.guest(lab.Guest{Name: "sp-b", Node: "cmp2", Network: "spoof"})
	w.reaches("sp-a", victim)
	run := func(argv ...string) string {
		t.Helper()
		out, err := w.GuestRun(w.ctx(), "sp-a", argv...)
		w.must(err)
		return out
	}
	c := w.captureFilter("sp-b", "arp and arp[14:4] = 0x0a4200c8") // sender address 10.66.0.200
	run("ip", "address", "add", "10.66.0.200/24", "dev", "eth0")
	if _, err := w.GuestRun(w.ctx(), "sp-a", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-I", "10.66.0.200", "10.66.0.77"); err == nil {
		t.Error("an address that nobody has answers")
	}
	if n := c.stop(); n != 0 {
		t.Errorf("%d ARP packets with a foreign sender address came through", n)
	}
	run("ip", "address", "del", "10.66.0.200/24", "dev", "eth0")
	mac := strings.TrimSpace(run("cat", "/sys/class/net/eth0/address"))
	run("ip", "link", "set", "eth0", "address", "fa:16:3e:00:00:66")
	w.reachesNot("sp-a", victim)
	run("ip", "link", "set", "eth0", "address", mac)
	w.reaches("sp-a", victim)
}

// TestLocalNetwork: a network of type local joins guests of one node and nobody else.
func TestLocalNetwork(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "loc", Type: "local", Subnets: []lab.Subnet{{CIDR: "10.12.0.0/24", Gateway: "none", Pool: "10.12.0.100-10.12.0.200"}}})
	for last, node := range map[int]string{1: "cmp2", 2: "cmp2", 3: "cmp3"} {
		name, ip := fmt.Sprintf("lo%d", last), fmt.Sprintf("10.12.0.%d", last)
		w.guest(lab.Guest{Name: name, Node: node, Network: "loc", FixedIP: ip, Client: lab.ClientNone})
		// No DHCP service reaches another node here, so the address is set by hand.
		_, err := w.GuestRun(w.ctx(), name, "ip", "address", "add", ip+"/24", "dev", "eth0")
		w.must(err)
	}
	w.reaches("lo1", "10.12.0.2")
	w.reachesNot("lo1", "10.12.0.3")
	w.restartUnderPing("lo1", "10.12.0.2", "cmp2", syscall.SIGKILL)
	w.reachesNot("lo1", "10.12.0.3")
}
