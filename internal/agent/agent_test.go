package agent_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/dataplane/ovsdb/ovstest"
	"baryon/internal/nodestate"
)

const (
	netA  = "aaaaaaaa-0000-4000-8000-000000000001"
	netB  = "bbbbbbbb-0000-4000-8000-000000000002"
	port1 = "11111111-0000-4000-8000-000000000001"
	port2 = "22222222-0000-4000-8000-000000000002"
	port3 = "33333333-0000-4000-8000-000000000003"
	port4 = "44444444-0000-4000-8000-000000000004"
)

func TestPortBecomesDone(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	p := port(port1, net, 1)
	n.src.complete(false)
	n.start()
	n.src.put(net, p)
	n.src.until(t, p.Key(), "absent", func(s nodestate.Status) bool { return s.State == nodestate.Absent })
	n.guest(p, 1400)
	n.plug(p)
	n.src.done(t, p.Key(), 2)
	if got := n.Ctl("get", "Port", device(p), "tag"); strings.TrimSpace(got) == "[]" {
		t.Error("done without a tag")
	}
	show := n.Ctl("show")
	for _, want := range []string{"Bridge br-int", "Bridge br-tun", "fail_mode: secure", `Controller "tcp:127.0.0.1:6633"`, "peer=patch-int", "peer=patch-tun"} {
		if !strings.Contains(show, want) {
			t.Errorf("ovs-vsctl show lacks %q: %s", want, show)
		}
	}
	ovstest.Eventually(t, "both bridges have their controller", func() bool {
		return strings.Count(n.Ctl("show"), "is_connected: true") == 2
	})
	n.Ctl("del-port", "br-int", device(p))
	n.src.until(t, p.Key(), "absent again", func(s nodestate.Status) bool { return s.State == nodestate.Absent })
	if f := n.flows("br-int"); strings.Contains(f, "10.0.0.1") {
		t.Errorf("flows of an unplugged port stay: %s", f)
	}
}

func TestRestartChangesNothing(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net, other := network(netA, "vxlan", 7), network(netB, "gre", 8)
	ports := []*nodestate.Port{port(port1, net, 1), port(port2, net, 2), port(port3, other, 3)}
	far := &node{name: "n2", ip: n.ip.Next()}
	n.src.put(net, other, ports[0], ports[1], ports[2], peersOf(far, net, port(port4, net, 4)))
	<-n.src.updates
	n.src.complete(false)
	n.start()
	for _, p := range ports {
		n.guest(p, 1400)
		n.src.until(t, p.Key(), "absent", func(s nodestate.Status) bool { return s.State == nodestate.Absent })
		n.plug(p)
		n.src.done(t, p.Key(), 2)
	}
	n.src.done(t, nodestate.PeersKey(netA, "n2"), 2)
	before := map[string]map[string]float64{"br-int": n.ages("br-int"), "br-tun": n.ages("br-tun")}
	show := n.Ctl("show")
	for _, cached := range []bool{false, true} {
		n.stop()
		n.src.complete(cached)
		n.start()
		for _, p := range ports {
			n.src.done(t, p.Key(), n.src.rev)
		}
		for br, flows := range before {
			now := n.ages(br)
			for f, s := range flows {
				age, ok := now[f]
				if !ok || age < s {
					t.Errorf("%s: flow gone or made anew (age %g, was %g): %s", br, age, s, f)
				}
			}
			if len(now) != len(flows) {
				t.Errorf("%s: %d flows, had %d", br, len(now), len(flows))
			}
		}
	}
	if d := cmp.Diff(strip(show), strip(n.Ctl("show"))); d != "" {
		t.Error(d)
	}
}

// strip leaves out what comes and goes with the controller's connection.
func strip(show string) string {
	return strings.ReplaceAll(show, "            is_connected: true\n", "")
}
