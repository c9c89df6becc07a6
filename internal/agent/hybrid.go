package agent

import (
	"context"
	"strconv"
	"time"

	"baryon/internal/agent/firewall/hybrid"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// guard is the iptables_hybrid firewall of a node.  Its rules are in the kernel before br-int lets a port's packets through, and stay
// until it does no more.  Ports of such a node that are plugged without a Linux bridge are filtered by br-int; of the others br-int
// checks only whether their addresses are theirs.
type guard struct {
	fw       *hybrid.Firewall
	plugged  map[string]string // qvo device → port
	bridged  map[string]bool   // ports in plugged
	failures map[nodestate.Key]string
	retry    time.Duration
}

func newGuard(cfg Config) *guard {
	return &guard{fw: hybrid.New(cfg.StateDir, cfg.Log), plugged: map[string]string{}, bridged: map[string]bool{}}
}

// bridgedID is the group that ports behind a Linux bridge have at br-int.
const bridgedID = "iptables"

// bridgedGroup lets everything pass without tracking it: the security groups of those ports are kept at their bridges.
func bridgedGroup() *nodestate.Group {
	g := &nodestate.Group{ID: bridgedID, Stateless: true}
	for i, egress := range []bool{true, true, false, false} {
		g.Rules = append(g.Rules, nodestate.Rule{
			ID: "iptables-" + strconv.Itoa(i), Egress: egress, IPv6: i%2 == 1, Protocol: -1, PortMin: -1, PortMax: -1,
		})
	}
	return g
}

// filterRecord is a record as br-int's filter has to see it.
func (a *agent) filterRecord(r nodestate.Record) nodestate.Record {
	p, ok := r.(*nodestate.Port)
	if !ok || a.guard == nil || !a.guard.bridged[p.ID] || !p.Filtered() {
		return r
	}
	q := *p
	q.Groups = []string{bridgedID}
	return &q
}

// refilter shows br-int's filter a port anew after it has been plugged another way.
func (a *agent) refilter(port string) {
	if p := a.engine.State().Ports[port]; p != nil {
		a.filter.engine.Record(a.filterRecord(p))
	}
}

// guardRecord shows the firewall a record.
func (a *agent) guardRecord(r nodestate.Record) {
	if a.guard == nil {
		return
	}
	a.guard.fw.Record(r)
}

// guardDevice tells the firewall of a device that claims to be a port; port is empty when it does so no more.
func (a *agent) guardDevice(device, port string) {
	g := a.guard
	if g == nil {
		return
	}
	if old := g.plugged[device]; old != "" && old != port {
		delete(g.plugged, device)
		delete(g.bridged, old)
		g.fw.Plugged(old, false)
		a.engine.Hold(old, "")
		a.refilter(old)
	}
	if port != "" && device == names.Qvo(port) && g.plugged[device] != port {
		g.plugged[device], g.bridged[port] = port, true
		g.fw.Plugged(port, true)
		a.refilter(port)
	}
}

// applyGuard brings the firewall in line and holds back the ports whose rules are not in the kernel.
func (a *agent) applyGuard(ctx context.Context, full bool) {
	g := a.guard
	if g == nil {
		return
	}
	out, _ := g.fw.Apply(ctx, full)
	a.tookGuard(out)
	for _, port := range g.plugged {
		_, why := g.fw.Ready(port)
		a.engine.Hold(port, why)
	}
}

// tookGuard has the records decided anew whose failures have come or gone.
func (a *agent) tookGuard(out hybrid.Outcome) {
	g := a.guard
	for k := range g.failures {
		if out.Failures[k] == "" {
			a.settleAgain(k)
		}
	}
	failures := make(map[nodestate.Key]string, len(out.Failures))
	for k, why := range out.Failures {
		if g.failures[k] != why {
			a.settleAgain(k)
		}
		failures[k] = why
	}
	g.failures, g.retry = failures, out.Retry
}

// finishGuard takes away the rules of ports that br-int has closed.
func (a *agent) finishGuard(ctx context.Context) time.Duration {
	if a.guard == nil {
		return 0
	}
	out, _ := a.guard.fw.Finish(ctx)
	a.tookGuard(out)
	return a.guard.retry
}

// guardFailures adds to the failures those of the firewall.
func (a *agent) guardFailures(out map[nodestate.Key]string) {
	if a.guard != nil {
		for k, why := range a.guard.failures {
			out[k] = why
		}
	}
}

// dropGuard removes, once, what an iptables_hybrid firewall has left on a node that filters otherwise now.
func (a *agent) dropGuard(ctx context.Context) {
	if a.guardDropped || !a.confirmed || a.cfg.Firewall == FirewallHybrid {
		return
	}
	a.guardDropped = true
	if err := hybrid.Remove(ctx); err != nil {
		a.log.Debug("cannot look for iptables rules of an earlier firewall driver", "err", err)
	}
}
