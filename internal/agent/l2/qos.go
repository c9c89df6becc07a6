package l2

import (
	"slices"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// How a port's traffic is limited depends on what carries it.
//
//	from the guest   a meter of br-int, in table 0 before everything else; for devices of the kernel's datapath the policing of the
//	                 interface instead, which that datapath does in hardware where it can
//	to the guest     a linux-htb queue of the device; what has no queue (a patch of a trunk) is not limited, and says so
//
// The userspace datapath reads a device past the kernel's policing (packet sockets see a packet before the ingress hook), so that
// policing is not even asked for there.

// defaultBurst is the burst of a limit that names none, in percent of what passes in one second (Neutron's).
const defaultBurst = 80

// rateOf is a limit as drivers take it.
func rateOf(r nodestate.Rate) ovsdb.Rate {
	if r.Kbps <= 0 {
		return ovsdb.Rate{}
	}
	burst := r.Burst
	if burst <= 0 {
		burst = max(r.Kbps/100*defaultBurst+r.Kbps%100*defaultBurst/100, 1)
	}
	return ovsdb.Rate{Kbps: r.Kbps, Burst: burst}
}

// meterOf is the meter that drops what exceeds a rate, for the port with an OpenFlow number.
func meterOf(ofport int, r ovsdb.Rate) openflow.MeterConfig {
	return openflow.MeterConfig{
		ID: pipeline.MeterBase + uint32(ofport), Flags: openflow.MeterKbps | openflow.MeterBurst,
		Bands: []openflow.MeterBand{{Rate: uint32(r.Kbps), Burst: uint32(r.Burst)}},
	}
}

// SameMeter tells whether two meters do the same.
func SameMeter(a, b openflow.MeterConfig) bool {
	return a.ID == b.ID && a.Flags&^openflow.MeterStats == b.Flags&^openflow.MeterStats && slices.Equal(a.Bands, b.Bands)
}

// limit decides what a wired device is limited to and returns the flows that do their part of it.
func (e *Engine) limit(rec *nodestate.Port, d Device) []openflow.Flow {
	from, to := rateOf(rec.QoS.Egress), rateOf(rec.QoS.Ingress)
	var l ovsdb.Limits
	if d.Shaped {
		l.Out = to
	}
	metered := d.Metered && from != (ovsdb.Rate{})
	if !d.Metered {
		l.In = from
	}
	e.limits(d.Name, &l)
	if metered {
		m := meterOf(d.OFPort, from)
		e.meters.set(d.Name, &m)
	} else {
		e.meters.set(d.Name, nil)
	}
	return qosFlows(rec, d.OFPort, metered)
}

// unlimited is what a wired port has to say of a limit that its device cannot keep.
func unlimited(rec *nodestate.Port, d Device) string {
	if d.Shaped || rateOf(rec.QoS.Ingress) == (ovsdb.Rate{}) {
		return ""
	}
	return "what the port receives is not limited: " + d.Name + " has no queues"
}

// limits says what a device is limited to; nil: nothing is known of it, what it has stays.
func (e *Engine) limits(device string, l *ovsdb.Limits) {
	have, decided := e.limited[device]
	switch {
	case l == nil && decided:
		delete(e.limited, device)
		e.out.Limits[device] = nil
	case l != nil && (!decided || have != *l):
		e.limited[device] = *l
		e.out.Limits[device] = l
	}
}

// unlimit ends what limit began: the device is not wired.  known says that this is so for sure.
func (e *Engine) unlimit(device string, known bool) {
	e.meters.set(device, nil)
	if known {
		e.limits(device, &ovsdb.Limits{})
	} else {
		e.limits(device, nil)
	}
}

// qosFlows send a port's packets through its meter and mark them, before they are classified.
func qosFlows(rec *nodestate.Port, ofport int, metered bool) []openflow.Flow {
	var begin []openflow.Action
	if metered {
		begin = append(begin, openflow.Meter(pipeline.MeterBase+uint32(ofport)))
	}
	begin = append(begin, openflow.SetReg(pipeline.RegQoS, 1))
	again := openflow.ResubmitTable(pipeline.Classify.ID)
	owner := rec.Key().String()
	first := openflow.MatchOf(openflow.InPort(uint32(ofport)), openflow.Reg(pipeline.RegQoS, 0, ^uint32(0)))
	var flows []openflow.Flow
	if rec.QoS.Marked {
		for _, family := range []openflow.MatchItem{openflow.IP(), openflow.IPv6()} {
			actions := append(slices.Clone(begin), openflow.SetDSCP(rec.QoS.DSCP), again)
			flows = append(flows, pipeline.QoSMark.Flow(owner, first.With(family), actions...))
		}
	}
	if metered {
		flows = append(flows, pipeline.QoSLimit.Flow(owner, first, append(slices.Clone(begin), again)...))
	}
	return flows
}

// meterBook keeps the wanted meters of one bridge by the device that needs them.  Two devices may want one number for a moment, while one
// takes the place of the other; the smaller name counts, whatever came first.
type meterBook struct {
	of    map[string]openflow.MeterConfig            // by device
	by    map[uint32]map[string]openflow.MeterConfig // by number, then device
	dirty map[uint32]struct{}
}

func newMeterBook() *meterBook {
	return &meterBook{of: map[string]openflow.MeterConfig{}, by: map[uint32]map[string]openflow.MeterConfig{}, dirty: map[uint32]struct{}{}}
}

func (b *meterBook) set(device string, m *openflow.MeterConfig) {
	if old, had := b.of[device]; had {
		if m != nil && SameMeter(old, *m) {
			return
		}
		delete(b.of, device)
		delete(b.by[old.ID], device)
		if len(b.by[old.ID]) == 0 {
			delete(b.by, old.ID)
		}
		b.dirty[old.ID] = struct{}{}
	}
	if m == nil {
		return
	}
	b.of[device] = *m
	if b.by[m.ID] == nil {
		b.by[m.ID] = map[string]openflow.MeterConfig{}
	}
	b.by[m.ID][device] = *m
	b.dirty[m.ID] = struct{}{}
}

// take returns the meters that changed since the last take; nil means wanted no more.
func (b *meterBook) take() map[uint32]*openflow.MeterConfig {
	if len(b.dirty) == 0 {
		return nil
	}
	out := make(map[uint32]*openflow.MeterConfig, len(b.dirty))
	for id := range b.dirty {
		var best string
		for device := range b.by[id] {
			if best == "" || device < best {
				best = device
			}
		}
		if out[id] = nil; best != "" {
			m := b.by[id][best]
			out[id] = &m
		}
	}
	clear(b.dirty)
	return out
}
