package firewall

import "baryon/internal/openflow"

// Want computes all flows from a state at once.  It is the oracle for Engine's increments.
func Want(s *State) map[openflow.FlowKey]openflow.Flow {
	return wantWith(New(), s)
}

func wantWith(e *Engine, s *State) map[openflow.FlowKey]openflow.Flow {
	for _, r := range s.Ports {
		e.Record(r)
	}
	for _, r := range s.Groups {
		e.Record(r)
	}
	for _, r := range s.Members {
		e.Record(r)
	}
	for id, p := range s.Places {
		e.Wire(id, p)
	}
	e.Patch(s.PatchTun)
	flows := map[openflow.FlowKey]openflow.Flow{}
	Carry(flows, e.Flush().Flows)
	return flows
}

// Carry carries a change of flows out.
func Carry(flows map[openflow.FlowKey]openflow.Flow, change map[openflow.FlowKey]*openflow.Flow) {
	for k, f := range change {
		if f == nil {
			delete(flows, k)
		} else {
			flows[k] = *f
		}
	}
}
