package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"baryon/internal/agent/firewall"
	"baryon/internal/agent/l2"
	"baryon/internal/dataplane/conntrack"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/pipeline"
)

// filter is the openvswitch firewall of a node: what it wants, and what is still to be done about connections.
type filter struct {
	engine  *firewall.Engine
	table   *conntrack.Table
	revise  map[string]bool   // ports whose connections have to be looked at once the flows are in force; true: the datapath has to settle before
	numbers map[int]bool      // OpenFlow numbers that ports have had in this process
	freed   map[int]bool      // zones that must be emptied
	lacking map[string]string // port id → why its filter is not complete
	notes   map[string]string // port id → which rules cannot be carried out
	failed  string            // why connections could not be looked at
}

func newFilter(table *conntrack.Table) *filter {
	return &filter{
		engine: firewall.New(), table: table, revise: map[string]bool{}, numbers: map[int]bool{}, freed: map[int]bool{},
		lacking: map[string]string{}, notes: map[string]string{},
	}
}

// takeFilter carries over to what is wanted of br-int what wired ports and their groups need.
func (a *agent) takeFilter(places map[string]*l2.Place) {
	f := a.filter
	if f == nil {
		return
	}
	for id, p := range places {
		if p == nil {
			f.engine.Unwire(id)
			delete(f.lacking, id)
			delete(f.notes, id)
		} else {
			f.engine.Wire(id, firewall.Place{OFPort: p.OFPort, VLAN: p.VLAN, Uplink: p.Uplink})
		}
	}
	f.engine.Patch(a.engine.State().PatchTun)
	d := f.engine.Flush()
	for k, fl := range d.Flows {
		a.br[names.BrInt].want(k, fl)
	}
	for _, id := range d.Revise {
		f.revise[id] = f.revise[id] || !a.newcomer(id)
	}
	for _, zone := range d.Freed {
		f.freed[zone] = true
	}
	for id, why := range d.Lacking {
		if f.lacking[id] != why || f.notes[id] != d.Notes[id] {
			a.settleAgain(nodestate.PortKey(id))
		}
		f.lacking[id], f.notes[id] = why, d.Notes[id]
	}
}

// wired tells whether a port is filtered by flows that are wanted now.  Nil filters nothing.
func (f *filter) wired(id string) bool {
	if f == nil {
		return false
	}
	_, ok := f.engine.Zone(id)
	return ok
}

// newcomer tells whether no port has ever been switched by this port's number: nothing that the datapath remembers can admit a
// connection of it.
func (a *agent) newcomer(id string) bool {
	f, br := a.filter, a.br[names.BrInt]
	zone, ok := f.engine.Zone(id)
	if !ok || f.numbers[zone] {
		return false
	}
	f.numbers[zone] = true
	_, before := br.flows.Actual(l2.EnterKey(zone))
	return br.loaded && !before
}

// freeZones empties the conntrack zones of ports that have gone, before others get them.
func (a *agent) freeZones(ctx context.Context) error {
	if a.filter == nil {
		return nil
	}
	for zone := range a.filter.freed {
		if err := a.filter.table.Flush(ctx, zone); err != nil {
			return err
		}
		delete(a.filter.freed, zone)
	}
	return nil
}

// few is up to how many ports are looked at zone by zone; more are picked out of the whole table.
const few = 4

// revoke ends the connections that the flows now in force would not admit, and no others.
func (a *agent) revoke(ctx context.Context) error {
	f := a.filter
	if f == nil || len(f.revise) == 0 {
		return nil
	}
	err := f.revoke(ctx, a)
	if f.failed = ""; err != nil {
		f.failed = err.Error()
		return fmt.Errorf("end revoked connections: %w", err)
	}
	clear(f.revise)
	return nil
}

func (f *filter) revoke(ctx context.Context, a *agent) error {
	ports := map[int]string{}
	for id := range f.revise {
		if zone, ok := f.engine.Zone(id); ok {
			ports[zone] = id
		}
	}
	if len(ports) == 0 {
		return nil
	}
	for _, used := range f.revise {
		if !used {
			continue
		}
		if err := f.table.Settle(ctx); err != nil {
			return err
		}
		break
	}
	zones := []int{conntrack.All}
	if len(ports) <= few {
		zones = zones[:0]
		for zone := range ports {
			zones = append(zones, zone)
		}
	}
	ended := 0
	var errs []error
	for _, zone := range zones {
		entries, err := f.table.List(ctx, zone)
		if err != nil {
			return err
		}
		for _, e := range entries {
			id, ok := ports[int(e.Zone)]
			if !ok || e.Mark&pipeline.MarkRevoked != 0 || !f.stale(id, e) {
				continue
			}
			if err := a.end(ctx, e); err != nil {
				errs = append(errs, err)
				continue
			}
			ended++
			a.log.Debug("connection ended", "port", id, "connection", e.String())
		}
	}
	if ended > 0 {
		a.metrics.revoked.Add(float64(ended))
		a.log.Info("ended connections that are not admitted any more", "connections", ended, "ports", len(ports))
	}
	return errors.Join(errs...)
}

// end ends a connection.  One that cannot be removed is marked: its answers are dropped, and its questions asked of the rules again.
func (a *agent) end(ctx context.Context, e conntrack.Entry) error {
	err := a.filter.table.Delete(ctx, e)
	if !errors.Is(err, conntrack.ErrStays) {
		return err
	}
	return a.br[names.BrInt].conn.PacketOut(ctx, conntrack.Mark(e, pipeline.MarkRevoked, pipeline.MarkRevoked))
}

// stale asks the rules again for each direction that admitted the connection.
func (f *filter) stale(id string, e conntrack.Entry) bool {
	c := firewall.Connection{Src: e.Src, Dst: e.Dst, Protocol: e.Protocol, SrcPort: e.SrcPort, DstPort: e.DstPort}
	if e.Protocol == firewall.ProtoICMP || e.Protocol == firewall.ProtoICMPv6 {
		c.SrcPort, c.DstPort = uint16(e.Type), uint16(e.Code)
	}
	c.AnyPort = e.Protocol == firewall.ProtoSCTP && e.SrcPort == 0 && e.DstPort == 0 // the userspace datapath does not track them
	mark := e.Mark & (pipeline.MarkEgress | pipeline.MarkIngress)
	if mark == 0 { // not made by our flows
		if mark = pipeline.MarkIngress; firewall.OwnsAddress(f.engine.State().Ports[id], e.Src) {
			mark = pipeline.MarkEgress
		}
	}
	for _, bit := range []uint32{pipeline.MarkEgress, pipeline.MarkIngress} {
		c.Egress = bit == pipeline.MarkEgress
		if mark&bit != 0 && f.engine.Stale(id, c) {
			return true
		}
	}
	return false
}

// late tells whether a device gets its local VLAN only when its flows are in force: with the VLAN alone, NORMAL would send it the
// floods of its network past its filter.
func (a *agent) late(device string, tag ovsdb.Tagging) bool {
	if a.filter == nil || tag.Tag == ovsdb.DeadTag {
		return false
	}
	p := a.engine.State().Ports[a.claims[device]]
	return p != nil && p.Filtered()
}

// filterVerdict is what the firewall adds to a port's verdict.
func (a *agent) filterVerdict(k nodestate.Key, v l2.Verdict) l2.Verdict {
	f := a.filter
	if f == nil || k.Kind != nodestate.KindPort || v.State != nodestate.Done {
		return v
	}
	switch {
	case f.lacking[k.ID] != "":
		return l2.Verdict{State: nodestate.Pending, Reason: f.lacking[k.ID]}
	case f.notes[k.ID] != "":
		v.Reason = f.notes[k.ID]
	}
	return v
}

// filterFailures adds to the failures those of ports whose groups' flows were refused, and of ports whose revoked connections could
// not be ended.
func (a *agent) filterFailures(out map[nodestate.Key]string) {
	f := a.filter
	if f == nil {
		return
	}
	for _, k := range slices.Collect(maps.Keys(out)) {
		if k.Kind != nodestate.KindGroup && k.Kind != nodestate.KindMembers {
			continue
		}
		for _, id := range f.engine.Users(k) {
			if out[nodestate.PortKey(id)] == "" {
				out[nodestate.PortKey(id)] = k.String() + ": " + out[k]
			}
		}
	}
	if f.failed != "" {
		for id := range f.revise {
			out[nodestate.PortKey(id)] = "cannot end revoked connections: " + f.failed
		}
	}
}
