package agent_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/agent/status"
	"baryon/internal/nodestate"
	"baryon/internal/pipeline"
)

// What is dropped is counted under its reason and for its port, in the status and in the metrics, and the flow's cookie leads to both.
func TestDropsAreCounted(t *testing.T) {
	f := newFilteredNode(t)
	f.stop()
	reg := prometheus.NewRegistry()
	f.cfg.Metrics = reg
	f.src.complete(false)
	f.start()
	f.up(group(groupA, egressAll(false)), group(groupB, egressAll(false)))
	f.must("ip", "-n", f.np, "address", "add", "10.0.0.77/24", "dev", "eth0")
	c := status.NewClient(f.cfg.StateDir)
	t.Cleanup(c.Close)
	grows := func(what string, send func(), table, reason, port, stage string) {
		t.Helper()
		before, err := c.Drops(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		send()
		f.Eventually(what+" is counted", func() bool {
			now, err := c.Drops(t.Context())
			return err == nil && dropped(now.Reasons, "", table, reason) > dropped(before.Reasons, "", table, reason) &&
				dropped(now.Ports, port, "", stage) > dropped(before.Ports, port, "", stage)
		})
	}
	ping := func(args ...string) func() {
		return func() {
			if exec.Command("ip", append([]string{"netns", "exec", f.np, "ping", "-c", "1", "-W", "1"}, args...)...).Run() == nil {
				t.Errorf("ping %v is answered", args)
			}
		}
	}
	grows("a ping that no rule admits", ping("10.0.0.2"), "rules_ingress", "no_ingress_rule", port2, "ingress")
	grows("a ping that no egress rule admits", ping("fd00::2"), "rules_egress", "no_egress_rule", port1, "egress")
	grows("another's address", ping("-I", "10.0.0.77", "10.0.0.2"), "base_egress", "spoofed_address", port1, "source")

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, fam := range families {
		if strings.HasPrefix(fam.GetName(), "baryon_firewall") {
			for _, m := range fam.Metric {
				text += fmt.Sprintln(fam.GetName(), m.GetLabel(), m.GetCounter().GetValue() > 0)
			}
		}
	}
	for _, want := range []string{"spoofed_address", port1, port2} {
		if !strings.Contains(text, want) {
			t.Errorf("no metric of %s:\n%s", want, text)
		}
	}
	cookie, err := c.Cookie(t.Context(), pipeline.DroppedSource.Cookie(nodestate.PortKey(port1).String()))
	if err != nil || cookie.Owner != "port/"+port1 || !strings.Contains(cookie.Why, "not its own") {
		t.Errorf("cookie of the port's drops: %+v, %v", cookie, err)
	}
}

func dropped(list []status.Dropped, port, table, reason string) uint64 {
	var n uint64
	for _, d := range list {
		if d.Port == port && d.Table == table && d.Reason == reason {
			n += d.Packets
		}
	}
	return n
}

// An ICMPv6 exchange whose rule has gone is over, questions and answers, and goes on when the rule comes back: Open vSwitch cannot
// remove it, and lives.
func TestRevokedPing6(t *testing.T) {
	f := newFilteredNode(t)
	echoes := group(groupB, nodestate.Rule{IPv6: true, Protocol: 58, PortMin: 128, PortMax: 0})
	f.up(group(groupA, egressAll(true)), echoes)
	ping := func(id string) bool {
		return exec.Command("ip", "netns", "exec", f.np, "ping", "-e", id, "-c", "1", "-W", "1", "fd00::2").Run() == nil
	}
	f.Eventually("an allowed ping passes", func() bool { return ping("77") && ping("78") })
	f.now(group(groupB))
	if ping("77") {
		t.Error("a ping passes after its rule has gone")
	}
	if n := strings.Count(f.zones(), "mark=6"); n < 2 {
		t.Errorf("%d exchanges are marked as revoked:\n%s", n, f.zones())
	}
	f.now(echoes)
	if !ping("77") {
		t.Error("a ping is lost after its rule has come back")
	}
	f.now(group(groupA))
	if ping("78") {
		t.Error("a ping passes after its egress rule has gone")
	}
}

// zones is the connection table.
func (f *filteredNode) zones() string {
	return f.must("ovs-appctl", "-t", f.RunDir+"/ovs-vswitchd.ctl", "dpctl/dump-conntrack", "netdev@ovs-netdev")
}
