package agent

import (
	"context"
	"errors"

	"baryon/internal/dataplane/ovsdb"
)

// applyBridges makes bridges, controllers and patch ports.
func (a *agent) applyBridges(ctx context.Context) error {
	var plan ovsdb.Plan
	for _, b := range a.bridges {
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

func (a *agent) transact(ctx context.Context, plan ovsdb.Plan) error {
	cfg, err := a.ovs.Apply(ctx, plan)
	if err != nil {
		return err
	}
	if cfg > 0 {
		a.askedCfg = cfg
		a.metrics.transactions.Inc()
	}
	return nil
}

// applyPorts brings the ports in line that may differ: adds, changes and tags, or, in the last step of a pass, removals.
func (a *agent) applyPorts(ctx context.Context, removals bool) error {
	if len(a.dirtyPorts) == 0 {
		return nil
	}
	plan := ovsdb.Plan{Tags: map[string]ovsdb.Tagging{}}
	var done []string
	for _, name := range sortedKeys(a.dirtyPorts) {
		have, there := a.ovs.Port(name)
		want, wanted := a.ports[name]
		if removals {
			if there && !wanted && have.Ours && (a.released || a.dropped[name]) {
				plan.Remove = append(plan.Remove, name)
			}
			done = append(done, name)
			continue
		}
		if _, ok := a.ovs.Bridge(want.Bridge); wanted && !ok {
			continue // the bridge's own event comes
		}
		if wanted && (!there || !have.Ours || !want.Equal(have.AsPort())) {
			plan.Ports = append(plan.Ports, want)
		}
		if tag, ok := a.tags[name]; ok && there && !tag.Equal(have.Tagging) {
			plan.Tags[name] = tag
		}
		if wanted || !there || !have.Ours {
			done = append(done, name) // nothing to remove later; what changes next marks it again
		}
	}
	if err := a.applySplit(ctx, plan); err != nil {
		return err
	}
	for _, name := range done {
		delete(a.dirtyPorts, name)
		delete(a.dropped, name)
	}
	return nil
}

// applySplit does a plan in one transaction, or, if that is refused, each port by itself, so that one bad port does not hold up the
// others.
func (a *agent) applySplit(ctx context.Context, plan ovsdb.Plan) error {
	err := a.transact(ctx, plan)
	if err == nil || errors.Is(err, ovsdb.ErrNotConnected) || len(plan.Ports)+len(plan.Tags)+len(plan.Remove) < 2 {
		return err
	}
	var errs []error
	for _, p := range plan.Ports {
		errs = append(errs, a.transact(ctx, ovsdb.Plan{Ports: []ovsdb.Port{p}}))
	}
	for _, name := range sortedKeys(plan.Tags) {
		errs = append(errs, a.transact(ctx, ovsdb.Plan{Tags: map[string]ovsdb.Tagging{name: plan.Tags[name]}}))
	}
	for _, name := range plan.Remove {
		errs = append(errs, a.transact(ctx, ovsdb.Plan{Remove: []string{name}}))
	}
	return errors.Join(errs...)
}
