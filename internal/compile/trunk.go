package compile

import (
	"cmp"
	"slices"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Trunk compiles a trunk for the node that carries its parent port.
func Trunk(t *model.Trunk) *nodestate.Trunk {
	rec := &nodestate.Trunk{ID: string(t.ID), PortID: string(t.PortID), AdminUp: t.AdminStateUp}
	for _, s := range t.SubPorts {
		rec.SubPorts = append(rec.SubPorts, nodestate.SubPort{PortID: string(s.PortID), Tag: uint16(s.SegmentationID)})
	}
	slices.SortFunc(rec.SubPorts, func(a, b nodestate.SubPort) int { return cmp.Compare(a.Tag, b.Tag) })
	return rec
}

// trunksOf are the trunks (one at most) whose parent a port is.
func trunksOf(r store.Read, parent model.ID) []*model.Trunk {
	return slices.Collect(store.Find(r, model.TrunkTable, "parent", string(parent)))
}

// compileTrunk brings a trunk's record up to date and tells the node that carries it and the one that did.
func (b *batch) compileTrunk(k nodestate.Key) {
	id := model.ID(k.ID)
	var rec nodestate.Record
	on := ""
	if t, ok := store.Get(b.after, model.TrunkTable, k.ID); ok {
		if p, ok := store.Get(b.after, model.PortTable, string(t.PortID)); ok {
			on = boundHost(p)
		}
		if on != "" {
			rec = Trunk(t)
		}
	}
	was := b.e.trunks[id]
	if was != on {
		if h := b.e.hosts[was]; h != nil {
			delete(h.trunks, id)
		}
		if was != "" {
			b.tell(was, k)
		}
		delete(b.e.trunks, id)
		if on != "" {
			b.e.trunks[id] = on
			b.e.host(on).trunks[id] = struct{}{}
		}
	}
	if changed := b.e.put(k, rec, "", b.revision); on != "" && (changed || was != on) {
		b.tell(on, k)
	}
}
