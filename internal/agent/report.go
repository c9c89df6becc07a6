package agent

import (
	"slices"

	"baryon/internal/agent/l2"
	"baryon/internal/nodestate"
	"baryon/internal/pipeline"
)

// settle ends a pass in which everything was written: the records it looked at are in the dataplane once ovs-vswitchd has done what
// we asked of it.
func (a *agent) settle() {
	keys := a.unsettled
	a.unsettled = map[nodestate.Key]bool{}
	for k := range keys {
		if a.opening(k) {
			delete(keys, k)
			a.unsettled[k] = true
		}
	}
	a.settleAt(a.askedCfg, keys)
}

// opening tells whether a record is that of a port whose device Open vSwitch is about to open.  It will have more to say in a moment;
// to say so now would cost the server a transaction for each port that is plugged.
func (a *agent) opening(k nodestate.Key) bool {
	name, ok := a.devices[k.ID]
	if !ok || k.Kind != nodestate.KindPort {
		return false
	}
	v, ok := a.ovs.Port(name)
	return ok && v.OFPort == 0 && v.Error == ""
}

// settleFiltered ends the pass for filtered ports whose flows are in force and whose revoked connections are ended.  All that br-int
// sends to them or takes from them goes by these flows, so they need not wait for what ovs-vswitchd makes of their tags.
func (a *agent) settleFiltered() {
	ready := map[nodestate.Key]bool{}
	for k := range a.unsettled {
		if k.Kind == nodestate.KindPort && a.filter.wired(k.ID) && a.verdicts[k].State == nodestate.Done {
			ready[k] = true
			delete(a.unsettled, k)
		}
	}
	a.settleAt(0, ready)
}

// settleAt has records decided once ovs-vswitchd has reached cfg; 0: now.  What was waited for them before does not count any more.
func (a *agent) settleAt(cfg int, keys map[nodestate.Key]bool) {
	if len(keys) == 0 {
		return
	}
	for _, s := range a.settling {
		for k := range keys {
			delete(s.keys, k)
		}
	}
	a.settling = append(a.settling, settling{cfg: cfg, keys: keys})
}

// settleFailed ends a pass in which something could not be written.  Records whose own flows were refused are told so; the
// others stay unsettled until a pass succeeds.
func (a *agent) settleFailed() {
	for k, why := range a.failures() {
		if a.unsettled[k] {
			a.tracker.Set(k, a.revisions[k], nodestate.Failed, why)
		}
	}
}

// settleAgain has the status of a record decided anew, if it is known.
func (a *agent) settleAgain(k nodestate.Key) {
	if _, ok := a.revisions[k]; ok {
		a.unsettled[k] = true
	}
}

// settleOwner has the status of a flow's owner decided anew, and those of the ports on which it bears.
func (a *agent) settleOwner(cookie uint64) {
	k, ok := a.owners[pipeline.OwnerOf(cookie)]
	if !ok {
		return
	}
	a.settleAgain(k)
	if a.filter != nil {
		for _, id := range a.filter.engine.Users(k) {
			a.settleAgain(nodestate.PortKey(id))
		}
	}
}

// failures are the records for which Open vSwitch refuses something now.
func (a *agent) failures() map[nodestate.Key]string {
	out := map[nodestate.Key]string{}
	for _, b := range a.br {
		for _, bad := range b.bad {
			if k, ok := a.owners[pipeline.OwnerOf(bad.cookie)]; ok {
				out[k] = bad.why
			}
		}
	}
	for name, why := range a.refused {
		if id, ok := a.claims[name]; ok {
			out[nodestate.PortKey(id)] = why
		}
	}
	a.filterFailures(out)
	a.guardFailures(out)
	return out
}

// report closes what ovs-vswitchd has reached and hands changed statuses to the source.
func (a *agent) report() {
	failures := a.failures()
	a.settling = slices.DeleteFunc(a.settling, func(s settling) bool {
		if s.cfg > a.curCfg {
			return false
		}
		for k := range s.keys {
			a.decide(k, failures[k])
		}
		return true
	})
	changed := a.tracker.Changed()
	if len(changed) == 0 {
		return
	}
	out := make([]nodestate.Status, 0, len(changed))
	for k, s := range changed {
		out = append(out, nodestate.Status{Key: k, Revision: s.Applied, State: s.State, Reason: s.Reason})
	}
	a.cfg.Source.Report(out)
}

// decide sets the status of a record from the engine's verdict on it and from what Open vSwitch refused of it.
func (a *agent) decide(k nodestate.Key, refused string) {
	rev, ok := a.revisions[k]
	if !ok || a.unsettled[k] { // gone, or changed again since
		return
	}
	v, ok := a.verdicts[k]
	if !ok {
		v = l2.Verdict{State: nodestate.Pending, Reason: "not looked at yet"}
	}
	v = a.filterVerdict(k, v)
	if refused != "" {
		v = l2.Verdict{State: nodestate.Failed, Reason: refused}
	}
	a.tracker.Set(k, rev, v.State, v.Reason)
}
