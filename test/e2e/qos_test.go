package e2e

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/policies"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/lab"
)

// policy makes a QoS policy and deletes it when the test ends.
func (w *world) policy(name string) string {
	w.t.Helper()
	p, err := policies.Create(w.ctx(), w.api, policies.CreateOpts{Name: name}).Extract()
	w.must(err)
	w.cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := policies.Delete(ctx, w.api, p.ID).ExtractErr(); err != nil {
			w.t.Errorf("clean up: %v", err)
		}
	})
	return p.ID
}

// obey gives a guest's port a policy, or none.
func (w *world) obey(guest, policy string) {
	w.t.Helper()
	opts := policies.PortUpdateOptsExt{UpdateOptsBuilder: ports.UpdateOpts{}, QoSPolicyID: &policy}
	w.must(ports.Update(w.ctx(), w.api, w.guestInfo(guest).PortID, opts).Err)
}

// counted is how many bytes, Ethernet headers included, a guest has received by which of its node's seconds.
func (w *world) counted(guest string) (bytes, at float64) {
	w.t.Helper()
	out, err := w.GuestRun(w.ctx(), guest, "cat", "/sys/class/net/eth0/statistics/rx_bytes", "/proc/uptime")
	w.must(err)
	f := strings.Fields(out)
	bytes, err = strconv.ParseFloat(f[0], 64)
	w.must(err)
	at, err = strconv.ParseFloat(f[1], 64)
	w.must(err)
	return bytes, at
}

// flow is traffic of an iperf3 client between two guests until it is stopped.
func (w *world) flow(from, to, ip string, args ...string) (stop func()) {
	w.t.Helper()
	server, err := w.GuestCommand(w.ctx(), to, "iperf3", "-s", "-1", "--forceflush")
	w.must(err)
	w.must(server.Start())
	w.eventually("iperf3 listens in "+to, func() error {
		_, err := w.GuestRun(w.ctx(), to, "sh", "-c", "ss -Htln sport = 5201 | grep -q LISTEN")
		return err
	})
	client, err := w.GuestCommand(w.ctx(), from, append([]string{"iperf3", "-c", ip, "-t", "40"}, args...)...)
	w.must(err)
	w.must(client.Start())
	return func() {
		for _, g := range []string{from, to} {
			// Each guest is a namespace of its own, and so are the processes that iperf3 in it is looked for among.
			_, _ = w.GuestRun(w.ctx(), g, "sh", "-c", "kill $(ip netns pids "+g+" | while read p; do grep -qx iperf3 /proc/$p/comm && echo $p; done)")
		}
		_ = client.Wait() // ended from outside
		_ = server.Wait()
	}
}

// window is how long a rate is measured at least, and windows how often that is prolonged at most: by what a loaded machine disturbs.
const (
	window  = time.Second
	windows = 10
)

// limited requires that traffic from one guest to another comes to a rate, within ten percent; it is measured at the receiver, once the
// burst that a limit lets pass (80 % of a second's worth) is over, and on average: TCP goes up and down around a limit.
func (w *world) limited(what string, kbps int, from, to, ip string, args ...string) {
	w.t.Helper()
	start, _ := w.counted(to)
	stop := w.flow(from, to, ip, args...)
	defer stop()
	w.eventually("the burst is over: "+what, func() error {
		if b, _ := w.counted(to); (b-start)*8 < 1600*float64(kbps) {
			return fmt.Errorf("%.0f bytes", b-start)
		}
		return nil
	})
	var seen []string
	before, begin := w.counted(to)
	for range windows {
		time.Sleep(window) // the measurement itself
		after, end := w.counted(to)
		rate := (after - before) * 8 / 1000 / (end - begin)
		seen = append(seen, fmt.Sprintf("%.0f", rate))
		if math.Abs(rate/float64(kbps)-1) <= 0.1 {
			w.t.Logf("%s: on average %s kbit/s of %d", what, strings.Join(seen, ", "), kbps)
			return
		}
	}
	w.t.Errorf("%s: %s kbit/s, the limit is %d", what, strings.Join(seen, ", "), kbps)
}

// qosState is what a node has in Open vSwitch for limits.
func (w *world) qosState(node string) string {
	w.t.Helper()
	rows, err := w.Run(w.ctx(), node, "ovs-vsctl", "--columns=_uuid,type,other_config,queues,external_ids", "list", "QoS",
		"--", "--columns=_uuid,other_config,external_ids", "list", "Queue")
	w.must(err)
	meters, err := w.Run(w.ctx(), node, "ovs-ofctl", "-O", "OpenFlow13", "dump-meters", "br-int")
	w.must(err)
	_, meters, _ = strings.Cut(meters, "\n") // the first line names the exchange
	return rows + meters
}

// TestBandwidthLimit: what guests send and receive is limited, plugged direct and hybrid, whatever they speak; a change of the policy is
// followed, a restart of the agent changes nothing, and with the policy the limits go.
func TestBandwidthLimit(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "bw", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.77.0.0/24"}}})
	peer := w.guest(lab.Guest{Name: "bw-peer", Node: "cmp3", Network: "bw"})
	policy := w.policy("bw")
	up, err := rules.CreateBandwidthLimitRule(w.ctx(), w.api, policy, rules.CreateBandwidthLimitRuleOpts{MaxKBps: 20000, Direction: "egress"}).ExtractBandwidthLimitRule()
	w.must(err)
	_, err = rules.CreateBandwidthLimitRule(w.ctx(), w.api, policy, rules.CreateBandwidthLimitRuleOpts{MaxKBps: 30000, Direction: "ingress"}).ExtractBandwidthLimitRule()
	w.must(err)
	for guest, node := range map[string]string{"bw-hybrid": "cmp1", "bw-direct": "cmp2"} {
		before := w.qosState(node)
		ip := w.guest(lab.Guest{Name: guest, Node: node, Network: "bw"})
		w.reaches("bw-peer", ip)
		w.obey(guest, policy)
		w.eventually("the limits of "+guest+" are there", func() error {
			if s := w.qosState(node); !strings.Contains(s, "rate=20000") || !strings.Contains(s, `max-rate="30000000"`) {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		w.limited(guest+" sends UDP", 20000, guest, "bw-peer", peer, "-u", "-b", "60M")
		w.limited(guest+" receives UDP", 30000, "bw-peer", guest, ip, "-u", "-b", "90M")
		w.limited(guest+" sends TCP", 20000, guest, "bw-peer", peer)
		w.limited(guest+" receives TCP", 30000, "bw-peer", guest, ip)

		state := w.qosState(node)
		w.restartUnderPing(guest, peer, node, syscall.SIGKILL)
		if after := w.qosState(node); after != state {
			t.Errorf("a restart of the agent on %s changed the limits:\nbefore\n%s\nafter\n%s", node, state, after)
		}
		rate := 10000
		_, err = rules.UpdateBandwidthLimitRule(w.ctx(), w.api, policy, up.ID, rules.UpdateBandwidthLimitRuleOpts{MaxKBps: &rate}).ExtractBandwidthLimitRule()
		w.must(err)
		w.eventually("the new limit of "+guest+" is there", func() error {
			if s := w.qosState(node); !strings.Contains(s, "rate=10000 ") {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		w.obey(guest, "")
		w.eventually("the limits of "+guest+" have gone", func() error {
			if s := w.qosState(node); s != before {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		rate = 20000
		_, err = rules.UpdateBandwidthLimitRule(w.ctx(), w.api, policy, up.ID, rules.UpdateBandwidthLimitRuleOpts{MaxKBps: &rate}).ExtractBandwidthLimitRule()
		w.must(err)
	}
}

// TestDSCPMark: what guests send carries the mark of their policy when it arrives, on the same node and on another.
func TestDSCPMark(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "mark", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.78.0.0/24"}}})
	ip := map[string]string{}
	for guest, node := range map[string]string{"mk-hybrid": "cmp1", "mk-direct": "cmp2", "mk-far": "cmp3", "mk-near": "cmp2"} {
		ip[guest] = w.guest(lab.Guest{Name: guest, Node: node, Network: "mark"})
	}
	policy := w.policy("mark")
	_, err := rules.CreateDSCPMarkingRule(w.ctx(), w.api, policy, rules.CreateDSCPMarkingRuleOpts{DSCPMark: 26}).ExtractDSCPMarkingRule()
	w.must(err)
	for _, pair := range [][2]string{{"mk-hybrid", "mk-far"}, {"mk-direct", "mk-far"}, {"mk-direct", "mk-near"}} {
		from, to := pair[0], pair[1]
		w.reaches(from, ip[to])
		unmarked := w.captureFilter(to, "icmp[icmptype] = icmp-echo and ip[1] = 0")
		w.reaches(from, ip[to])
		unmarked.await(1)
		unmarked.stop()
		w.obey(from, policy)
		w.eventually("packets of "+from+" carry the mark", func() error {
			marked := w.captureFilter(to, fmt.Sprintf("icmp[icmptype] = icmp-echo and ip[1] = %d", 26<<2))
			w.reaches(from, ip[to])
			if marked.stop() == 0 {
				return fmt.Errorf("not yet")
			}
			return nil
		})
		w.obey(from, "")
	}
}
