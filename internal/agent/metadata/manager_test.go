package metadata

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/agent"
	"baryon/internal/dataplane/metadata"
	"baryon/internal/nodestate"
)

func testRecords() []nodestate.Record {
	return []nodestate.Record{
		&nodestate.DHCP{NetworkID: "net-of-no-namespace", MTU: 1450, Metadata: true, Subnets: []nodestate.DHCPSubnet{{
			ID: "s", CIDR: netip.MustParsePrefix("fd00::/64"), AddressMode: "slaac", EnableDHCP: true,
		}}},
		&nodestate.Port{ID: "dhcp", NetworkID: "net-of-no-namespace", DeviceOwner: dhcpOwner},
		&nodestate.Port{ID: "vm", NetworkID: "net-of-no-namespace", DeviceOwner: "compute:nova"},
		&nodestate.DHCPHost{
			PortID: "vm", NetworkID: "net-of-no-namespace", MAC: nodestate.MAC{2, 0, 0, 0, 0, 1}, Serve: true,
			Addresses: []nodestate.HostAddress{{SubnetID: "s", IP: netip.MustParseAddr("fd00::1"), Hostname: "h", FQDN: "h.x"}},
			Instance:  nodestate.Instance{ProjectID: "p", Name: "vm-1", UserData: []byte("u")},
		},
		&nodestate.DHCPHost{PortID: "gw", NetworkID: "net-of-no-namespace", MAC: nodestate.MAC{2, 0, 0, 0, 0, 2}},
	}
}

func TestWant(t *testing.T) {
	m, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	m.Update(nodestate.Update{Complete: true, Upserts: testRecords()})
	const id = "net-of-no-namespace"
	want := &metadata.Config{
		NetworkID: id, MTU: 1450,
		Subnets: []metadata.Subnet{{ID: "s", CIDR: netip.MustParsePrefix("fd00::/64"), EnableDHCP: true, Mode: "slaac"}},
		Ports: []metadata.Port{{
			ID: "vm", MAC: metadata.MAC{2, 0, 0, 0, 0, 1}, InstanceID: "vm", ProjectID: "p", Name: "vm-1", UserData: []byte("u"),
			Addresses: []metadata.Address{{IP: netip.MustParseAddr("fd00::1"), SubnetID: "s", Hostname: "h", FQDN: "h.x"}},
		}},
	}
	same := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if d := cmp.Diff(want, tableOf(m, id), same); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
	// Its namespace is not there: looked for again, ever less often; nothing is answered for.
	var last agent.Outcome
	for range 12 {
		out := m.Apply(context.Background(), agent.Input{})
		if out.Retry < last.Retry || out.Retry == 0 || len(out.Statuses) != 0 {
			t.Fatalf("outcome %+v after %+v", out, last)
		}
		last = out
	}
	if last.Retry != retryLast {
		t.Errorf("the last wait is %s", last.Retry)
	}
	// Without a DHCP port of its own the node serves nothing.
	m.Update(nodestate.Update{Deletes: []nodestate.Key{nodestate.PortKey("dhcp")}})
	if out := m.Apply(context.Background(), agent.Input{}); out.Retry != 0 || len(m.run) != 0 {
		t.Errorf("without a port: %+v", out)
	}
	m.Update(nodestate.Update{Complete: true})
	if len(m.dhcp)+len(m.hosts)+len(m.owner)+len(m.ports) != 0 {
		t.Error("a complete state without records leaves some")
	}
	if _, err := New(Config{NovaURL: "nova"}); err == nil {
		t.Error("a bad Nova address is taken")
	}
}

func tableOf(m *Manager, id string) *metadata.Config { return want(m.dhcp[id], m.hosts[id]) }
