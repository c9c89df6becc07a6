package compile_test

import (
	"fmt"
	"net/netip"
	"testing"

	"baryon/internal/compile"
	"baryon/internal/model"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// benchCloud is 1,000 nodes with 50 ports each; a network spans 20 nodes.
func benchCloud(b *testing.B) *store.Store {
	st := storetest.New(b, model.AllTables()...)
	for i := range 1000 {
		_, err := st.Update(b.Context(), func(tx store.Tx) error {
			net := model.ID(fmt.Sprint("net", i))
			store.Put(tx, model.NetworkTable, &model.Network{Standard: model.Standard{ID: net}, AdminStateUp: true,
				Segment: model.Segment{Type: model.TypeVXLAN, SegmentationID: uint32(i + 1)}})
			store.Put(tx, model.NodeTable, &model.Node{Host: fmt.Sprint("host", i), TunnelTypes: []string{model.TypeVXLAN},
				TunnelIP: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})})
			for j := range 50 {
				store.Put(tx, model.PortTable, benchPort(i, j))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return st
}

func benchPort(node, j int) *model.Port {
	n := node*50 + j
	return &model.Port{Standard: model.Standard{ID: model.ID(fmt.Sprint("port", n))}, AdminStateUp: true,
		NetworkID: model.ID(fmt.Sprint("net", node/20*20+j%20)), MAC: model.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)},
		Binding: model.Binding{Host: fmt.Sprint("host", node), VIFType: model.VIFOVS}}
}

// BenchmarkReset compiles 50,000 ports on 1,000 nodes from scratch, without the wire encoding: what a server does when it starts.
func BenchmarkReset(b *testing.B) {
	st := benchCloud(b)
	for b.Loop() {
		e := compile.NewEngine(compile.Config{}, encode)
		e.Reset(st.Snapshot())
	}
}

// BenchmarkApply follows the change of one of 50,000 ports on a network of 20 nodes.
func BenchmarkApply(b *testing.B) {
	st := benchCloud(b)
	e := compile.NewEngine(compile.Config{}, encode)
	e.Reset(st.Snapshot())
	// One row, changed to and fro: the engine reads the row from the snapshot, so both states must be real snapshots.
	flip := func(mac byte) store.Batch {
		p := benchPort(500, 7)
		old := *p
		p.MAC[1] = mac
		if _, err := st.Update(b.Context(), func(tx store.Tx) error { store.Put(tx, model.PortTable, p); return nil }); err != nil {
			b.Fatal(err)
		}
		r := st.Snapshot()
		return store.Batch{Revision: r.Revision(), After: r,
			Changes: []store.Change{{Table: model.PortTable.Name, Key: string(p.ID), Old: &old, New: p}}}
	}
	batches := []store.Batch{flip(1), flip(2)}
	i := 0
	for b.Loop() {
		d := e.Apply(batches[i%2])
		if len(d.Nodes) != 20 {
			b.Fatalf("%d nodes hear of it, want 20", len(d.Nodes))
		}
		i++
	}
}

// BenchmarkMemberJoins follows a port that joins a group of 1,000 on 100 nodes, whose rules name it.
func BenchmarkMemberJoins(b *testing.B) {
	st := storetest.New(b, model.AllTables()...)
	member := func(n int) *model.Port {
		return &model.Port{Standard: model.Standard{ID: model.ID(fmt.Sprint("port", n))}, AdminStateUp: true, NetworkID: "net",
			PortSecurityEnabled: true, SecurityGroups: []model.ID{"group"}, MAC: model.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)},
			FixedIPs: []model.FixedIP{{SubnetID: "sub", IPAddress: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}},
			Binding:  model.Binding{Host: fmt.Sprint("host", n%100), VIFType: model.VIFOVS}}
	}
	_, err := st.Update(b.Context(), func(tx store.Tx) error {
		store.Put(tx, model.SecurityGroupTable, &model.SecurityGroup{Standard: model.Standard{ID: "group"}, Stateful: true})
		store.Put(tx, model.SecurityGroupRuleTable, &model.SecurityGroupRule{Standard: model.Standard{ID: "rule"}, SecurityGroupID: "group",
			Direction: model.DirectionIngress, EtherType: model.EtherIPv4, PortMin: -1, PortMax: -1, RemoteGroupID: "group"})
		for n := range 999 {
			store.Put(tx, model.PortTable, member(n))
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	e := compile.NewEngine(compile.Config{}, encode)
	without := st.Snapshot()
	e.Reset(without)
	last := member(999)
	if _, err := st.Update(b.Context(), func(tx store.Tx) error { store.Put(tx, model.PortTable, last); return nil }); err != nil {
		b.Fatal(err)
	}
	with := st.Snapshot()
	for b.Loop() {
		d := e.Apply(store.Batch{Revision: with.Revision(), After: with, Changes: []store.Change{{Table: model.PortTable.Name, Key: string(last.ID), New: last}}})
		if len(d.Nodes) != 100 {
			b.Fatalf("%d nodes hear of it, want 100", len(d.Nodes))
		}
		e.Apply(store.Batch{Revision: without.Revision(), After: without, Changes: []store.Change{{Table: model.PortTable.Name, Key: string(last.ID), Old: last}}})
	}
}
