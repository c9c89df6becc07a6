package l2

import (
	"maps"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
)

// Wanted is the whole wanted state of the node's switching.
type Wanted struct {
	Int, Tun map[openflow.FlowKey]openflow.Flow
	Provider map[string]map[openflow.FlowKey]openflow.Flow // by provider bridge
	Ports    map[string]ovsdb.Port
	Tags     map[string]ovsdb.Tagging
	Verdicts map[nodestate.Key]Verdict
	VLANs    map[Segment]uint16
	Places   map[string]Place
	Limits   map[string]ovsdb.Limits
	Meters   map[uint32]openflow.MeterConfig
}

// Want computes everything from a state at once.  It is the oracle for Engine's increments.
func Want(s *State) Wanted {
	e := newEngine(NewState(s.Node))
	for seg, id := range s.VLANs {
		e.Remember(seg, id)
	}
	for _, r := range s.Networks {
		e.Record(r)
	}
	for _, r := range s.Ports {
		e.Record(r)
	}
	for _, r := range s.Peers {
		e.Record(r)
	}
	for _, r := range s.Trunks {
		e.Record(r)
	}
	for device, g := range s.Guests {
		e.Guest(device, g)
	}
	for id, why := range s.Held {
		e.Hold(id, why)
	}
	for _, p := range s.Services {
		e.Service(p)
	}
	for _, d := range s.Devices {
		e.Device(d)
	}
	for name, ofport := range s.Tunnels {
		e.Tunnel(name, ofport)
	}
	e.Map(s.Mappings, s.Unusable)
	for bridge, l := range s.Links {
		e.Join(bridge, l)
	}
	e.Distribute(s.Distributed)
	e.Patch(s.PatchTun, s.PatchInt)
	e.s.Confirmed = s.Confirmed
	w := NewWanted()
	w.Apply(e.Flush())
	w.VLANs = maps.Clone(e.VLANs())
	return w
}

// NewWanted makes an empty one.
func NewWanted() Wanted {
	return Wanted{
		Int: map[openflow.FlowKey]openflow.Flow{}, Tun: map[openflow.FlowKey]openflow.Flow{},
		Provider: map[string]map[openflow.FlowKey]openflow.Flow{},
		Ports:    map[string]ovsdb.Port{}, Tags: map[string]ovsdb.Tagging{},
		Verdicts: map[nodestate.Key]Verdict{}, VLANs: map[Segment]uint16{},
		Places: map[string]Place{}, Limits: map[string]ovsdb.Limits{}, Meters: map[uint32]openflow.MeterConfig{},
	}
}

// Apply carries a change out on w.
func (w *Wanted) Apply(d Delta) {
	carry(w.Int, d.Int)
	carry(w.Tun, d.Tun)
	for _, bridge := range d.NoBridge {
		delete(w.Provider, bridge)
	}
	for bridge, flows := range d.Provider {
		if w.Provider[bridge] == nil {
			w.Provider[bridge] = map[openflow.FlowKey]openflow.Flow{}
		}
		carry(w.Provider[bridge], flows)
	}
	carry(w.Ports, d.Ports)
	carry(w.Tags, d.Tags)
	carry(w.Places, d.Places)
	carry(w.Limits, d.Limits)
	carry(w.Meters, d.Meters)
	for k, v := range d.Verdicts {
		w.Verdicts[k] = v
	}
}

func carry[K comparable, V any](to map[K]V, change map[K]*V) {
	for k, v := range change {
		if v == nil {
			delete(to, k)
		} else {
			to[k] = *v
		}
	}
}
