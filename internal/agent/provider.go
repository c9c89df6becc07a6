package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"baryon/internal/agent/status"
	"baryon/internal/nodestate"
	"baryon/internal/pipeline"
	"baryon/internal/reconcile"
)

// provider answers the status socket; what belongs to the loop is looked at by the loop.
type provider agent

// ask runs f in the loop.
func (p *provider) ask(ctx context.Context, f func()) error {
	done := make(chan struct{})
	p.mu.Lock()
	p.asks = append(p.asks, func() { defer close(done); f() })
	p.mu.Unlock()
	p.loop.Dirty()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer serves those who ask, at the end of each pass.
func (a *agent) answer() {
	a.mu.Lock()
	asks := a.asks
	a.asks = nil
	a.mu.Unlock()
	for _, f := range asks {
		f()
	}
}

// Status is everything.
func (p *provider) Status(ctx context.Context) (status.Report, error) {
	a := (*agent)(p)
	var r status.Report
	err := p.ask(ctx, func() {
		r = status.Report{
			Host: a.cfg.Host, Version: a.cfg.Version, OVSVersion: a.ovs.Version(), Datapath: a.datapath,
			Revision: a.revision, Confirmed: a.confirmed, Flows: map[string]int{}, LocalVLANs: map[string]uint16{},
		}
		for _, b := range a.br {
			r.Flows[b.name] = b.flows.WantLen()
		}
		for s, id := range a.engine.VLANs() {
			r.LocalVLANs[s.NetworkID] = id
		}
		for k := range a.revisions {
			r.Records = append(r.Records, a.record(k))
		}
		for _, d := range a.engine.State().Devices {
			if _, ok := a.revisions[nodestate.PortKey(d.IfaceID)]; !ok {
				r.Unknown = append(r.Unknown, status.Device{Name: d.Name, IfaceID: d.IfaceID})
			}
		}
	})
	if err != nil {
		return status.Report{}, err // the loop may still come to the question
	}
	slices.SortFunc(r.Records, func(x, y status.Record) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.ID, y.ID))
	})
	slices.SortFunc(r.Unknown, func(x, y status.Device) int { return cmp.Compare(x.Name, y.Name) })
	a.mu.Lock()
	defer a.mu.Unlock()
	r.Healthy, r.Reasons = a.healthy, a.reasons
	if a.lastErr != nil {
		at := a.errAt
		r.LastError, r.LastErrorAt = a.lastErr.Error(), &at
	}
	return r, nil
}

// record describes one record; in the loop.
func (a *agent) record(k nodestate.Key) status.Record {
	s, _ := a.tracker.Get(k)
	r := status.Record{
		Kind: string(k.Kind), ID: k.ID, Wanted: s.Wanted, Applied: s.Applied, State: string(s.State), Reason: s.Reason,
	}
	if r.State == "" {
		r.State, r.Reason = string(nodestate.Pending), "not applied yet"
	}
	st := a.engine.State()
	switch k.Kind {
	case nodestate.KindPort:
		r.Device = a.devices[k.ID]
		if d, ok := st.Devices[r.Device]; ok {
			r.OFPort = d.OFPort
		}
		if p := st.Ports[k.ID]; p != nil {
			r.LocalTag = a.engine.VLAN(p.NetworkID)
		}
	case nodestate.KindNetwork:
		r.LocalTag = a.engine.VLAN(k.ID)
	}
	return r
}

// Port is one port, at once or when its wanted revision has been applied or has failed.
func (p *provider) Port(ctx context.Context, id string, wait bool) (status.Record, error) {
	a := (*agent)(p)
	k := nodestate.PortKey(id)
	if wait {
		_, err := a.tracker.Wait(ctx, k, func(s reconcile.Status[nodestate.State], known bool) bool {
			return known && s.Applied >= s.Wanted && (s.State == nodestate.Done || s.State == nodestate.Failed)
		})
		if err != nil {
			return status.Record{}, fmt.Errorf("wait for port %s: %w", id, err)
		}
	}
	var r status.Record
	known := false
	if err := p.ask(ctx, func() {
		if _, known = a.revisions[k]; known {
			r = a.record(k)
		}
	}); err != nil {
		return status.Record{}, err
	}
	if !known {
		return r, fmt.Errorf("port %s: %w", id, status.ErrNotFound)
	}
	return r, nil
}

// Cookie says where a flow comes from.
func (p *provider) Cookie(ctx context.Context, cookie uint64) (status.Cookie, error) {
	a := (*agent)(p)
	c := status.Cookie{Cookie: fmt.Sprintf("0x%x", cookie)}
	rule, ok := pipeline.RuleOf(cookie)
	if !ok {
		return c, fmt.Errorf("cookie 0x%x is none of ours: %w", cookie, status.ErrNotFound)
	}
	c.Table, c.Why = rule.Table.Bridge+" "+rule.Table.Name, rule.Why
	err := p.ask(ctx, func() {
		if k, ok := a.owners[pipeline.OwnerOf(cookie)]; ok {
			c.Owner = k.String()
		}
	})
	if err != nil {
		return status.Cookie{}, err
	}
	return c, nil
}
