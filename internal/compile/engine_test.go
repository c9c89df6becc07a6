package compile_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/compile"
	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

func encode(r nodestate.Record) []byte { return []byte(nodestate.Text(r)) }

var hosts = []string{"a", "b", "c", "d"}

// world makes random changes of a small cloud, so that rows meet often.
type world struct {
	*rapid.T
	st *store.Store
}

func (w world) pick(name string, n int) int { return rapid.IntRange(0, n-1).Draw(w.T, name) }

func (w world) flip(name string) bool { return rapid.Bool().Draw(w.T, name) }

// step is one transaction of a few random changes; changes that the store's unique values refuse are no change.
func (w world) step(*rapid.T) {
	n := 1 + w.pick("changes", 4)
	ops := make([]func(store.Tx), n)
	for i := range ops {
		ops[i] = w.op()
	}
	_, err := w.st.Update(context.Background(), func(tx store.Tx) error {
		for _, op := range ops {
			op(tx)
		}
		return nil
	})
	var taken *store.UniqueError
	if err != nil && !errors.As(err, &taken) {
		w.Fatal(err)
	}
}

func (w world) op() func(store.Tx) {
	switch w.pick("table", 17) {
	case 0:
		return w.network()
	case 1:
		return w.subnet()
	case 2:
		return w.node()
	case 3:
		return w.binding()
	case 4:
		return w.instance()
	case 5:
		return w.group()
	case 6, 7:
		return w.rule()
	case 8:
		return w.addressGroup()
	case 9:
		return w.policy()
	case 10, 11:
		return w.trunk()
	default:
		return w.port()
	}
}

func change[T any](w world, t *resource.Table[T], row *T) func(store.Tx) {
	if w.pick("delete", 4) == 0 {
		return func(tx store.Tx) { store.Delete(tx, t, t.Key(row)) }
	}
	return func(tx store.Tx) { store.Put(tx, t, row) }
}

func (w world) network() func(store.Tx) {
	n := w.pick("net", 3)
	typ := []string{model.TypeVXLAN, model.TypeGRE, model.TypeLocal}[w.pick("type", 3)]
	row := &model.Network{
		Standard: model.Standard{ID: netID(n)}, Name: fmt.Sprint("n", w.pick("name", 2)), AdminStateUp: w.pick("up", 4) > 0,
		MTU: 1450, Segment: model.Segment{Type: typ, SegmentationID: uint32(n + 1)}, QoSPolicyID: w.policyID(),
	}
	if w.pick("more", 3) == 0 {
		row.More = []model.Segment{{Type: model.TypeVLAN, PhysicalNetwork: "public", SegmentationID: uint32(n + 1)}}
		if w.flip("provider first") {
			row.Segment, row.More[0] = row.More[0], row.Segment
		}
	}
	return change(w, model.NetworkTable, row)
}

func (w world) subnet() func(store.Tx) {
	n := w.pick("subnet", 4)
	return change(w, model.SubnetTable, &model.Subnet{
		Standard: model.Standard{ID: subnetID(n)}, NetworkID: netID(n % 3), IPVersion: 4,
		CIDR:      netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 0}), 24-w.pick("bits", 2)),
		GatewayIP: address(n, 1), EnableDHCP: w.pick("dhcp", 4) > 0,
	})
}

func (w world) node() func(store.Tx) {
	h := w.pick("host", len(hosts))
	n := &model.Node{Host: hosts[h], AvailabilityZone: []string{"", "z"}[w.pick("zone", 2)]}
	if w.pick("tunnel", 4) > 0 {
		n.TunnelIP = netip.AddrFrom4([4]byte{192, 0, 2, byte(h)})
		n.TunnelTypes = [][]string{{model.TypeVXLAN, model.TypeGRE}, {model.TypeGRE, model.TypeVXLAN}, {model.TypeVXLAN}}[w.pick("types", 3)]
	}
	if w.pick("mapping", 3) == 0 {
		n.BridgeMappings = map[string]string{"public": []string{"br-ex", "br-two"}[w.pick("bridge", 2)]}
	}
	return change(w, model.NodeTable, n)
}

func (w world) binding() func(store.Tx) {
	return change(w, model.DHCPBindingTable, &model.DHCPBinding{
		NetworkID: netID(w.pick("net", 3)), Host: hosts[w.pick("host", len(hosts))], Manual: w.flip("manual"),
	})
}

func (w world) instance() func(store.Tx) {
	return change(w, model.InstanceTable, &model.Instance{PortID: portID(w.pick("port", 8)), Name: fmt.Sprint("i", w.pick("name", 2))})
}

func (w world) port() func(store.Tx) {
	n := w.pick("port", 8)
	s := n % 4
	owner := []string{"", "compute:nova", model.OwnerDHCP, "network:router_interface", "network:floatingip"}[w.pick("owner", 5)]
	p := &model.Port{
		Standard: model.Standard{ID: portID(n), ProjectID: "p"}, NetworkID: netID(s % 3), AdminStateUp: w.pick("up", 4) > 0,
		MAC: model.MAC{2, 0, 0, 0, 0, byte(n)}, DeviceOwner: owner, Name: []string{"", "x"}[w.pick("name", 2)], QoSPolicyID: w.policyID(),
	}
	ip := 10 + n
	if w.pick("gateway", 4) == 0 {
		ip = 1
	}
	if w.pick("addressed", 4) > 0 {
		p.FixedIPs = []model.FixedIP{{SubnetID: subnetID(s), IPAddress: address(s, ip)}}
	}
	if w.pick("bound", 4) > 0 {
		p.Binding = model.Binding{Host: hosts[w.pick("host", len(hosts))], VIFType: model.VIFOVS}
		if w.pick("failed", 5) == 0 {
			p.Binding.VIFType = model.VIFBindingFailed
		}
	}
	p.PortSecurityEnabled = w.pick("secure", 4) > 0
	for g := range 3 {
		if w.flip("in group") {
			p.SecurityGroups = append(p.SecurityGroups, groupID(g))
		}
	}
	if w.pick("pair", 3) == 0 {
		p.AllowedAddressPairs = []model.AddressPair{{IPAddress: netip.PrefixFrom(address(s, w.pick("pair ip", 3)), 31)}}
	}
	return change(w, model.PortTable, p)
}

func (w world) group() func(store.Tx) {
	return change(w, model.SecurityGroupTable, &model.SecurityGroup{Standard: model.Standard{ID: groupID(w.pick("group", 3))}, Stateful: w.flip("stateful")})
}

func (w world) rule() func(store.Tx) {
	n := w.pick("rule", 6)
	r := &model.SecurityGroupRule{Standard: model.Standard{ID: model.ID(fmt.Sprint("rule", n))}, SecurityGroupID: groupID(n % 3),
		Direction: model.DirectionIngress, EtherType: model.EtherIPv4, Protocol: []string{"", "tcp", "nonsense"}[w.pick("protocol", 3)],
		PortMin: -1, PortMax: n} // rules of one group must not be equal: that is unique
	switch w.pick("remote", 4) {
	case 0:
		r.RemoteGroupID = groupID(w.pick("remote group", 3))
	case 1:
		r.RemoteAddressGroupID = addressGroupID(w.pick("address group", 2))
	case 2:
		r.NormalizedPrefix = netip.PrefixFrom(address(0, 0), 8*w.pick("bits", 3))
	}
	return change(w, model.SecurityGroupRuleTable, r)
}

func (w world) addressGroup() func(store.Tx) {
	g := &model.AddressGroup{Standard: model.Standard{ID: addressGroupID(w.pick("address group", 2))}}
	for n := range w.pick("addresses", 3) {
		g.Addresses = append(g.Addresses, netip.PrefixFrom(address(n, 0), 24))
	}
	return change(w, model.AddressGroupTable, g)
}

func (w world) policyID() model.ID { return []model.ID{"", "policy0", "policy1"}[w.pick("policy", 3)] }

func (w world) policy() func(store.Tx) {
	p := &model.QoSPolicy{Standard: model.Standard{ID: []model.ID{"policy0", "policy1"}[w.pick("policy", 2)]}}
	for i, r := range []model.QoSRule{
		{Type: model.QoSBandwidthLimit, Direction: model.DirectionEgress, MaxKbps: 100 * w.pick("egress", 2), MaxBurstKbps: 7},
		{Type: model.QoSBandwidthLimit, Direction: model.DirectionIngress, MaxKbps: 200}, {Type: model.QoSDSCPMarking, DSCPMark: 8},
	} {
		if w.flip("rule") {
			r.ID = model.ID(fmt.Sprint("qos", i))
			p.Rules = append(p.Rules, r)
		}
	}
	return change(w, model.QoSPolicyTable, p)
}

func (w world) trunk() func(store.Tx) {
	n := w.pick("trunk", 2)
	t := &model.Trunk{Standard: model.Standard{ID: model.ID(fmt.Sprint("trunk", n))}, AdminStateUp: w.flip("up"), PortID: portID(4*n + w.pick("parent", 2))}
	for i := range w.pick("subports", 3) {
		t.SubPorts = append(t.SubPorts, model.SubPort{PortID: portID(4*n + 2 + i), SegmentationType: model.SegmentationVLAN, SegmentationID: 20 - i})
	}
	return change(w, model.TrunkTable, t)
}

func groupID(n int) model.ID        { return model.ID(fmt.Sprint("group", n)) }
func addressGroupID(n int) model.ID { return model.ID(fmt.Sprint("addresses", n)) }

func netID(n int) model.ID    { return model.ID(fmt.Sprint("net", n)) }
func subnetID(n int) model.ID { return model.ID(fmt.Sprint("sub", n)) }
func portID(n int) model.ID   { return model.ID(fmt.Sprint("port", n)) }

func address(subnet, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(subnet), 0, byte(n)}) }

// TestIncrementalEqualsFull: after every batch of a random history, the engine's records, and what nodes make of its deltas, are
// what Node compiles from scratch.
func TestIncrementalEqualsFull(t *testing.T) {
	st := storetest.New(t, model.AllTables()...)
	rapid.Check(t, func(rt *rapid.T) {
		clearAll(rt, st)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		snapshot, batches := st.Watch(ctx)
		engine := compile.NewEngine(compile.Config{}, encode)
		engine.Reset(snapshot)
		nodes := make(map[string]map[nodestate.Key]string)
		for _, h := range hosts {
			nodes[h] = map[nodestate.Key]string{}
		}
		w := world{rt, st}
		rt.Repeat(map[string]func(*rapid.T){
			"step": w.step,
			"": func(rt *rapid.T) {
				for engine.Revision() < st.Snapshot().Revision() {
					b := <-batches
					follow(engine, engine.Apply(b), nodes)
					compare(rt, b.After, engine, nodes)
				}
				restarted := compile.NewEngine(compile.Config{}, encode)
				restarted.Reset(st.Snapshot())
				compare(rt, st.Snapshot(), restarted, nodes)
			},
		})
		// Nothing is left of a cloud that is gone.
		clearAll(rt, st)
		for engine.Revision() < st.Snapshot().Revision() {
			follow(engine, engine.Apply(<-batches), nodes)
		}
		if engine.Len() != 0 || len(engine.Hosts()) != 0 {
			rt.Fatalf("empty store leaves %d records, hosts %v", engine.Len(), engine.Hosts())
		}
	})
}

// follow does what connected nodes do with a delta.
func follow(e *compile.Engine, d compile.Delta, nodes map[string]map[nodestate.Key]string) {
	for host, keys := range d.Nodes {
		for _, k := range keys {
			if ent, ok := e.Get(host, k); ok {
				nodes[host][k] = string(ent.Bytes)
			} else {
				delete(nodes[host], k)
			}
		}
	}
}

func compare(t *rapid.T, r store.Read, e *compile.Engine, nodes map[string]map[nodestate.Key]string) {
	t.Helper()
	total := make(map[nodestate.Key]bool)
	for _, h := range hosts {
		want := make(map[nodestate.Key]string)
		for _, rec := range compile.Node(r, compile.Config{}, h) {
			want[rec.Key()] = nodestate.Text(rec)
			total[rec.Key()] = true
		}
		have := make(map[nodestate.Key]string)
		for ent := range e.Records(h) {
			have[ent.Key] = string(ent.Bytes)
			if _, ok := e.Get(h, ent.Key); !ok {
				t.Fatalf("node %s: Get does not know %s, which Records lists", h, ent.Key)
			}
			if ent.KeyHash != nodestate.HashKey(ent.Key) || ent.Hash != nodestate.HashContent(ent.Bytes) {
				t.Fatalf("node %s: stale hash of %s", h, ent.Key)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("engine's records of node %s (-full +incremental):\n%s", h, diff)
		}
		if diff := cmp.Diff(want, nodes[h]); diff != "" {
			t.Fatalf("node %s after the deltas (-full +followed):\n%s", h, diff)
		}
	}
	if e.Len() < len(total) {
		t.Fatalf("engine counts %d records, nodes need %d", e.Len(), len(total))
	}
}

func clearAll(t *rapid.T, st *store.Store) {
	_, err := st.Update(context.Background(), func(tx store.Tx) error {
		wipe(tx, model.NetworkTable)
		wipe(tx, model.SubnetTable)
		wipe(tx, model.PortTable)
		wipe(tx, model.NodeTable)
		wipe(tx, model.DHCPBindingTable)
		wipe(tx, model.InstanceTable)
		wipe(tx, model.SecurityGroupTable)
		wipe(tx, model.SecurityGroupRuleTable)
		wipe(tx, model.AddressGroupTable)
		wipe(tx, model.QoSPolicyTable)
		wipe(tx, model.TrunkTable)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wipe[T any](tx store.Tx, t *resource.Table[T]) {
	var keys []string
	for row := range store.All(tx, t) {
		keys = append(keys, t.Key(row))
	}
	for _, k := range keys {
		store.Delete(tx, t, k)
	}
}
