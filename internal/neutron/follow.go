package neutron

import (
	"iter"
	"net/netip"

	"baryon/internal/model"
	"baryon/internal/neutron/alloc"
	"baryon/internal/store"
)

// follower keeps what the Service has in memory equal to the store: the ledgers of addresses and segmentation ids, and the worklist.
type follower struct {
	s     *Service
	addrs store.Read // what the address ledger was last brought to; guarded by the ledger's lock
	tags  store.Read
}

func newFollower(s *Service, first store.Read) *follower {
	f := &follower{s: s, addrs: first, tags: first}
	s.addrs = alloc.NewLedger(first.Revision(), func(subnet string) iter.Seq[netip.Addr] {
		return func(yield func(netip.Addr) bool) {
			for p := range store.Find(f.addrs, model.PortTable, "subnet", subnet) {
				for _, ip := range p.FixedIPs {
					if string(ip.SubnetID) == subnet && !yield(ip.IPAddress) {
						return
					}
				}
			}
		}
	})
	s.tags = alloc.NewLedger(first.Revision(), func(typ string) iter.Seq[uint32] {
		return func(yield func(uint32) bool) {
			for n := range store.All(f.tags, model.NetworkTable) {
				if n.Segment.Type == typ && !yield(n.Segment.SegmentationID) {
					return
				}
			}
		}
	})
	return f
}

func (f *follower) run(batches <-chan store.Batch) {
	for b := range batches {
		f.apply(b)
	}
}

func (f *follower) apply(b store.Batch) {
	addrs := alloc.Step[netip.Addr]{Revision: b.Revision}
	tags := alloc.Step[uint32]{Revision: b.Revision}
	for _, c := range b.Changes {
		switch c.Table {
		case model.PortTable.Name:
			was, is := rows[model.Port](c)
			addrs.Freed = append(addrs.Freed, addressItems(was)...)
			addrs.Taken = append(addrs.Taken, addressItems(is)...)
			f.s.work.portChanged(was, is)
		case model.SubnetTable.Name:
			was, is := rows[model.Subnet](c)
			if is == nil && was != nil {
				addrs.Gone = append(addrs.Gone, string(was.ID))
			}
			f.s.work.subnetChanged(was, is)
		case model.NetworkTable.Name:
			was, is := rows[model.Network](c)
			tags.Freed = append(tags.Freed, tagItems(was)...)
			tags.Taken = append(tags.Taken, tagItems(is)...)
		case model.DHCPBindingTable.Name:
			was, is := rows[model.DHCPBinding](c)
			f.s.work.bindingChanged(was, is)
		case model.NodeTable.Name:
			was, is := rows[model.Node](c)
			f.s.work.nodeChanged(was, is)
		case model.HeartbeatTable.Name:
			was, is := rows[model.Heartbeat](c)
			f.s.work.heartbeatChanged(was, is)
		case model.AgentTable.Name:
			was, is := rows[model.Agent](c)
			f.s.work.agentChanged(was, is)
		}
	}
	f.s.addrs.Apply(addrs, func() { f.addrs = b.After })
	f.s.tags.Apply(tags, func() { f.tags = b.After })
	f.s.work.publish()
}

// rows gives a change's rows their type; nil where there is none.
func rows[T any](c store.Change) (was, is *T) {
	was, _ = c.Old.(*T)
	is, _ = c.New.(*T)
	return was, is
}

func addressItems(p *model.Port) []alloc.Item[netip.Addr] {
	if p == nil {
		return nil
	}
	items := make([]alloc.Item[netip.Addr], len(p.FixedIPs))
	for i, ip := range p.FixedIPs {
		items[i] = alloc.Item[netip.Addr]{Space: string(ip.SubnetID), Value: ip.IPAddress}
	}
	return items
}

func tagItems(n *model.Network) []alloc.Item[uint32] {
	if n == nil || n.Segment.SegmentationID == 0 {
		return nil
	}
	return []alloc.Item[uint32]{{Space: n.Segment.Type, Value: n.Segment.SegmentationID}}
}
