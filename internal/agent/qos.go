package agent

import (
	"context"
	"fmt"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/delta"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// Where a port's traffic is limited is told in docs/qos-trunk.md; package l2 decides it from what carries the port.

// metered says that a port's packets do not come in through a device of the kernel's datapath: only a meter can limit them.
func (a *agent) metered(v ovsdb.PortView) bool {
	br, _ := a.ovs.Bridge(v.Bridge)
	return v.Type != "" || br.DatapathType == ovsdb.DatapathUser
}

// shaped says that a port has a queueing discipline of the kernel: what a trunk's patch port sends to has none, and an internal port of the
// userspace datapath is written to past it.
func (a *agent) shaped(v ovsdb.PortView) bool {
	br, _ := a.ovs.Bridge(v.Bridge)
	return v.Type == "" || v.Type == "internal" && br.DatapathType != ovsdb.DatapathUser
}

// takeLimits carries over what devices are limited to.
func (a *agent) takeLimits(limits map[string]*ovsdb.Limits) {
	for name, l := range limits {
		if l == nil {
			delete(a.limits, name)
		} else {
			a.limits[name] = *l
		}
		a.dirtyPorts[name] = true
	}
}

// newMeters makes the book of a bridge's meters.
func newMeters(same func(x, y openflow.MeterConfig) bool) *delta.Map[uint32, openflow.MeterConfig] {
	return delta.NewMap[uint32](same, true)
}

// wantMeter sets or, with nil, drops a wanted meter.
func (b *bridge) wantMeter(id uint32, m *openflow.MeterConfig) {
	if m == nil {
		b.meters.Unset(id)
		return
	}
	b.meters.Set(id, *m)
}

// loadMeters reads those of the bridge's meters that are ours.
func (b *bridge) loadMeters(ctx context.Context) error {
	all, err := b.conn.DumpMeters(ctx, openflow.AllMeters)
	if err != nil {
		return fmt.Errorf("read meters of %s: %w", b.name, err)
	}
	have := map[uint32]openflow.MeterConfig{}
	for _, m := range all {
		if pipeline.OwnMeter(m.ID) {
			have[m.ID] = m
		}
	}
	b.meters.Load(have)
	return nil
}

// applyMeters adds and changes meters before the flows that use them, or, after the flows, removes those that none uses: Open vSwitch takes
// the flows of a meter away with it.  What the switch refuses is tried again in the next pass; the flow that needs the meter is refused too, and
// its port told so.
func (a *agent) applyMeters(ctx context.Context, b *bridge, removals bool) error {
	if b.meters.PendingLen() == 0 {
		return nil
	}
	var mods []openflow.MeterMod
	for id, op := range b.meters.Pending() {
		want, _ := b.meters.Wanted(id)
		switch {
		case op == delta.Remove && removals:
			mods = append(mods, openflow.MeterMod{Change: openflow.DeleteExisting, MeterConfig: openflow.MeterConfig{ID: id}})
		case op == delta.Add && !removals:
			mods = append(mods, openflow.MeterMod{Change: openflow.AddNew, MeterConfig: want})
		case op == delta.Change && !removals:
			mods = append(mods, openflow.MeterMod{Change: openflow.ModifyExisting, MeterConfig: want})
		}
	}
	for i := range mods {
		m := &mods[i]
		if err := b.conn.Send(ctx, m); err != nil {
			if !b.alive() {
				return fmt.Errorf("write meters of %s: %w", b.name, err)
			}
			a.log.Error("bridge refuses a meter", "bridge", b.name, "meter", m.ID, "err", err)
			continue
		}
		if m.Change == openflow.DeleteExisting {
			b.meters.Gone(m.ID)
		} else {
			b.meters.Seen(m.ID, m.MeterConfig)
		}
	}
	return nil
}
