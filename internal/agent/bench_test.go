package agent_test

import (
	"fmt"
	"testing"
	"time"

	"baryon/internal/nodestate"
)

// manyPorts makes n ports of one network whose devices are internal ports of br-int: they cost no namespace each.
func manyPorts(net *nodestate.Network, n int) []*nodestate.Port {
	var out []*nodestate.Port
	for i := range n {
		p := port(fmt.Sprintf("%08x-0000-4000-8000-000000000001", i), net, 1)
		p.MAC[4], p.MAC[5] = byte(i>>8), byte(i)
		out = append(out, p)
	}
	return out
}

func (n *node) plugAll(ports []*nodestate.Port) {
	n.bridgeUp()
	args := []string{"--no-wait"}
	for _, p := range ports {
		args = append(args, "--", "add-port", "br-int", device(p), "--", "set", "Interface", device(p), "type=internal",
			"external_ids:iface-id="+p.ID, `external_ids:attached-mac="`+p.MAC.String()+`"`)
	}
	n.Ctl(args...)
}

// TestScale is what the benchmarks of the numbers in DESIGN.md measure, as a plain check that nothing grows out of hand.
func TestScale(t *testing.T) {
	n := newNode(t, "n1", "192.168.20.11")
	net := network(netA, "vxlan", 7)
	ports := manyPorts(net, 100)
	var rs []nodestate.Record
	rs = append(rs, net)
	for _, p := range ports {
		rs = append(rs, p)
	}
	n.src.complete(false)
	n.start()
	n.src.put(rs...)
	n.src.until(t, ports[99].Key(), "absent", func(s nodestate.Status) bool { return s.State == nodestate.Absent })
	n.plugAll(ports[:1])
	n.src.done(t, ports[0].Key(), 2)
	for _, p := range ports[1:5] {
		n.Ctl("--no-wait", "add-port", "br-int", device(p), "--", "set", "Interface", device(p), "type=internal")
		start := time.Now()
		n.Ctl("--no-wait", "set", "Interface", device(p), "external_ids:iface-id="+p.ID)
		ctl := time.Since(start)
		n.src.done(t, p.Key(), 2)
		t.Logf("port that Open vSwitch has opened: ovs-vsctl took %v, done %v after its start", ctl, time.Since(start))
	}
	start := time.Now()
	n.plugAll(ports[5:])
	t.Logf("ovs-vsctl with 95 ports took %v", time.Since(start))
	for _, p := range ports {
		n.src.done(t, p.Key(), 2)
	}
	t.Logf("95 ports at once: all done after %v", time.Since(start))
	n.stop()
	n.src.complete(false)
	start = time.Now()
	n.start()
	for _, p := range ports {
		n.src.done(t, p.Key(), 3)
	}
	t.Logf("restart with 100 ports: in sync after %v", time.Since(start))
}
