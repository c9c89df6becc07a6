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

// tagLayouts is how many different parts of a type's ids are kept ready: what all projects share, and what single ones own.
const tagLayouts = 16

func newFollower(s *Service, first store.Read) *follower {
	f := &follower{s: s, addrs: first, tags: first}
	s.addrs = alloc.NewLedger(first.Revision(), func(subnet string) iter.Seq[netip.Addr] { return usedAddresses(f.addrs, subnet) })
	s.tags = alloc.NewLedger(first.Revision(), func(space string) iter.Seq[uint32] { return usedTags(f.tags, space) })
	s.tags.KeepLayouts(tagLayouts)
	return f
}

// usedAddresses lists the addresses that ports have on a subnet.
func usedAddresses(r store.Read, subnet string) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for p := range store.Find(r, model.PortTable, "subnet", subnet) {
			for _, ip := range p.FixedIPs {
				if string(ip.SubnetID) == subnet && !yield(ip.IPAddress) {
					return
				}
			}
		}
	}
}

// usedTags lists the segmentation ids that segments of a type and physical network have.
func usedTags(r store.Read, space string) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for seg := range store.Find(r, model.SegmentTable, "space", space) {
			if !yield(seg.SegmentationID) {
				return
			}
		}
	}
}

func (f *follower) run(batches <-chan store.Batch) {
	for b := range batches {
		f.apply(b)
	}
}

func (f *follower) apply(b store.Batch) {
	addrs := alloc.Step[netip.Addr]{Revision: b.Revision, Used: func(it alloc.Item[netip.Addr]) bool {
		return addressUsed(b.After, it)
	}}
	tags := alloc.Step[uint32]{Revision: b.Revision, Used: func(it alloc.Item[uint32]) bool { return tagUsed(b.After, it) }}
	for _, c := range b.Changes {
		switch c.Table {
		case model.PortTable.Name:
			was, is := rows[model.Port](c)
			addrs.Touched = append(append(addrs.Touched, addressItems(was)...), addressItems(is)...)
			f.s.work.portChanged(was, is)
		case model.SubnetTable.Name:
			was, is := rows[model.Subnet](c)
			if is == nil && was != nil {
				addrs.Gone = append(addrs.Gone, string(was.ID))
			}
			f.s.work.subnetChanged(was, is)
		case model.NetworkTable.Name:
			was, is := rows[model.Network](c)
			f.s.work.networkChanged(b.After, was, is)
		case model.SegmentTable.Name:
			was, is := rows[model.NetworkSegment](c)
			tags.Touched = append(append(tags.Touched, tagItems(was)...), tagItems(is)...)
		case model.DHCPBindingTable.Name:
			was, is := rows[model.DHCPBinding](c)
			f.s.work.bindingChanged(was, is)
		case model.NodeTable.Name:
			was, is := rows[model.Node](c)
			f.s.work.nodeChanged(was, is)
		case model.HeartbeatTable.Name:
			was, is := rows[model.Heartbeat](c)
			f.s.work.heartbeatChanged(b.After, was, is)
		case model.AgentTable.Name:
			was, is := rows[model.Agent](c)
			f.s.work.agentChanged(was, is)
		}
	}
	f.s.addrs.Apply(addrs, func() { f.addrs = b.After })
	f.s.tags.Apply(tags, func() { f.tags = b.After })
	f.s.seen.Store(b.Revision)
	f.s.work.publish()
}

// rows gives a change's rows their type; nil where there is none.
func rows[T any](c store.Change) (was, is *T) {
	was, _ = c.Old.(*T)
	is, _ = c.New.(*T)
	return was, is
}

func addressUsed(r store.Read, it alloc.Item[netip.Addr]) bool {
	return store.Count(r, model.PortTable, "subnet_ip", model.SubnetIP(model.ID(it.Space), it.Value)) > 0
}

func tagUsed(r store.Read, it alloc.Item[uint32]) bool {
	return store.Count(r, model.SegmentTable, "segment", model.SegmentValue(it.Space, it.Value)) > 0
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

func tagItems(seg *model.NetworkSegment) []alloc.Item[uint32] {
	if seg == nil || seg.SegmentationID == 0 {
		return nil
	}
	return []alloc.Item[uint32]{{Space: seg.Space(), Value: seg.SegmentationID}}
}
