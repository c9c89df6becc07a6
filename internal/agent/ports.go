package agent

import (
	"context"
	"errors"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/nodestate"
)

// applyBridges makes bridges, controllers and patch ports.
func (a *agent) applyBridges(ctx context.Context) error {
	var plan ovsdb.Plan
	var there []ovsdb.BridgeView
	for _, b := range a.bridges { // br-int comes first
		if have, ok := a.ovs.Bridge(b.Name); ok {
			there = append(there, have)
		}
	}
	a.tellDatapath(ovsdb.ChooseDatapath(a.cfg.DatapathType, a.datapath, there))
	for _, b := range a.bridges {
		b.DatapathType = a.datapath
		if have, ok := a.ovs.Bridge(b.Name); ok && a.cfg.DatapathType == "" {
			b.DatapathType = have.DatapathType // somebody has chosen; changing it would take all ports down
		}
		if a.ovs.NeedsBridge(b) {
			plan.Bridges = append(plan.Bridges, b)
		}
	}
	if plan.Empty() {
		return nil
	}
	// A new bridge comes with its patch port, so that it is whole from the start.
	for _, name := range []string{"patch-tun", "patch-int"} {
		if p, ok := a.ports[name]; ok {
			if _, there := a.ovs.Port(name); !there {
				plan.Ports = append(plan.Ports, p)
				delete(a.dirtyPorts, name)
			}
		}
	}
	return a.transact(ctx, plan)
}

// tellDatapath tells the server when the bridges have another datapath than we would have chosen.
func (a *agent) tellDatapath(typ string) {
	if typ != a.datapath {
		a.datapath = typ
		a.cfg.Source.SetInfo(a.info())
	}
}

func (a *agent) transact(ctx context.Context, plan ovsdb.Plan) error {
	cfg, err := a.ovs.Apply(ctx, plan)
	if errors.Is(err, ovsdb.ErrStale) {
		a.loop.Dirty() // somebody unplugs at this moment; the next pass sees what is left to do
	} else if err != nil {
		return err
	}
	if cfg > 0 {
		a.askedCfg = cfg
		a.metrics.transactions.Inc()
	}
	return nil
}

// applyPorts brings the ports in line that may differ: adds, changes and tags, or, after the flows, removals and
// the tags that must be late.
func (a *agent) applyPorts(ctx context.Context, removals bool) error {
	if len(a.dirtyPorts) == 0 {
		return nil
	}
	plan := ovsdb.Plan{Tags: map[string]ovsdb.Tagging{}, Limits: map[string]ovsdb.Limits{}}
	var done []string
	for _, name := range sortedKeys(a.dirtyPorts) {
		if a.isLeaving(name) {
			continue // CurCfg's event wakes us
		}
		have, there := a.ovs.Port(name)
		want, wanted := a.wantedPort(name)
		if !there && !wanted {
			delete(a.refused, name)
		}
		tag, tagged := a.tags[name]
		fresh := tagged && wanted && !there && !want.Dead
		tagged = tagged && there && !tag.Equal(have.Tagging)
		if l, ok := a.limits[name]; ok && there && l != have.Limits {
			plan.Limits[name] = l
		}
		if removals {
			if tagged && (!a.late(name, tag) || a.filter.wired(a.claims[name])) {
				plan.Tags[name] = tag // of what is not wired yet, the port's number wakes us
			}
			if there && !wanted && have.Ours && (a.released || a.dropped[name]) {
				plan.Remove = append(plan.Remove, name)
			}
			if there || !wanted { // what waits for its bridge goes on waiting
				done = append(done, name)
			}
			continue
		}
		if _, ok := a.ovs.Bridge(want.Bridge); wanted && !ok {
			continue // the bridge's own event comes
		}
		if bridge := a.physical.patches[name]; wanted && bridge != "" && !a.joinable(bridge) {
			continue // comes with the bridge
		}
		if wanted && (!there || !have.Ours || !want.Equal(have.AsPort())) {
			plan.Ports = append(plan.Ports, want)
			a.claimBridge(&plan, want.Bridge)
		}
		if fresh {
			plan.Tags[name] = tag
		}
		if tagged && a.late(name, tag) {
			continue
		}
		if tagged {
			plan.Tags[name] = tag
		}
		if wanted || !there || !have.Ours {
			done = append(done, name) // nothing to remove later; what changes next marks it again
		}
	}
	if removals {
		a.abandon(&plan)
	}
	if err := a.applySplit(ctx, plan); err != nil {
		return err
	}
	for _, name := range done {
		if a.refused[name] == "" {
			delete(a.dirtyPorts, name)
			delete(a.dropped, name)
		}
	}
	return nil
}

// applySplit does a plan in one transaction, or, if that is refused, each port by itself, so that one bad port does not hold up the
// others.  What stays refused is kept with its reason and tried again later.
func (a *agent) applySplit(ctx context.Context, plan ovsdb.Plan) error {
	err := a.transact(ctx, plan)
	if err == nil {
		a.accepted(plan)
	}
	var refused *ovsdb.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	single := func(p ovsdb.Plan, name string) error {
		err := a.transact(ctx, p)
		if err == nil {
			a.accepted(p)
		} else if errors.As(err, &refused) {
			if a.refused[name] == "" {
				a.log.Error("Open vSwitch refuses a port, will retry", "device", name, "err", err)
			}
			a.refused[name] = err.Error()
			a.dirtyPorts[name] = true
			a.settleAgain(nodestate.PortKey(a.claims[name]))
			return nil
		}
		return err
	}
	for _, p := range plan.Ports {
		one := ovsdb.Plan{Ports: []ovsdb.Port{p}}
		if tag, ok := plan.Tags[p.Name]; ok {
			one.Tags = map[string]ovsdb.Tagging{p.Name: tag}
		}
		if err := single(one, p.Name); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(plan.Limits) {
		if err := single(ovsdb.Plan{Limits: map[string]ovsdb.Limits{name: plan.Limits[name]}}, name); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(plan.Tags) {
		if err := single(ovsdb.Plan{Tags: map[string]ovsdb.Tagging{name: plan.Tags[name]}}, name); err != nil {
			return err
		}
	}
	for _, name := range plan.Remove {
		if err := single(ovsdb.Plan{Remove: []string{name}}, name); err != nil {
			return err
		}
	}
	return nil
}

// accepted ends the refusals of a plan's ports.
func (a *agent) accepted(plan ovsdb.Plan) {
	for _, p := range plan.Ports {
		a.acceptedPort(p.Name)
	}
	for name := range plan.Tags {
		a.acceptedPort(name)
	}
	for _, name := range plan.Remove {
		a.acceptedPort(name)
	}
}

func (a *agent) acceptedPort(name string) {
	if _, was := a.refused[name]; was {
		delete(a.refused, name)
		a.settleAgain(nodestate.PortKey(a.claims[name]))
	}
}
