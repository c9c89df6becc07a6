package neutron_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/nodestate"
	"baryon/internal/resource"
	"baryon/internal/store"
)

func (e *env) onlyDHCPPort(n *model.Network) *model.Port {
	e.t.Helper()
	ports := e.dhcpPorts(n)
	if len(ports) != 1 {
		e.t.Fatalf("DHCP ports on %v, want one", slices.Sorted(maps.Keys(ports)))
	}
	for _, p := range ports {
		return p
	}
	return nil
}

// TestDHCPPortComesWithTheSubnet: the subnet's transaction makes it, as Neutron's agent would.
func TestDHCPPortComesWithTheSubnet(t *testing.T) {
	e := newEnv(t)
	e.node("ctl.example.org", model.RoleNetwork)
	n, s := e.simple(alice, "10.3.0.0/24")
	p := e.onlyDHCPPort(n)
	switch {
	case p.DeviceOwner != "network:dhcp" || p.Name != "" || p.ProjectID != alice.ProjectID || p.PortSecurityEnabled:
		t.Errorf("port %+v", p)
	case !slices.Equal(addresses(p), []string{"10.3.0.2"}):
		t.Errorf("addresses %v, want the first of the pool", addresses(p))
	case p.Binding.Host != "ctl.example.org" || !p.Bound():
		t.Errorf("binding %+v", p.Binding)
	// uuid5(NAMESPACE_DNS, "ctl"), as in the golden dumps of a real Neutron.
	case p.DeviceID != "dhcpc47b6c48-a620-52a0-9f83-b828d5a7b1ec-"+string(n.ID):
		t.Errorf("device_id %s", p.DeviceID)
	}
	auto := must(e.subnet(alice, slaac(n, "fd00::/64")))(t)
	noDHCP := v4(n, "10.4.0.0/24")
	noDHCP.EnableDHCP = false
	must(e.subnet(alice, noDHCP))(t)
	more := e.onlyDHCPPort(n)
	if len(more.FixedIPs) != 2 || more.FixedIPs[0] != p.FixedIPs[0] || more.FixedIPs[1].SubnetID != auto.ID || more.ID != p.ID {
		t.Errorf("addresses %v", addresses(more))
	}
	off := func(s *model.Subnet, on bool) {
		must(e.svc.Subnets().Update(e.ctx, alice, string(s.ID), resource.NewInput(model.Subnet{EnableDHCP: on}, "enable_dhcp"), nil))(t)
	}
	off(s, false)
	if got := e.onlyDHCPPort(n); len(got.FixedIPs) != 1 || got.FixedIPs[0].SubnetID != auto.ID {
		t.Errorf("addresses %v after DHCP was turned off on one subnet", addresses(got))
	}
	if err := e.svc.Subnets().Delete(e.ctx, alice, string(auto.ID), nil); err != nil {
		t.Fatal(err)
	}
	if ports := e.dhcpPorts(n); len(ports) != 0 {
		t.Errorf("DHCP ports %v without a subnet that has DHCP", ports)
	}
	off(s, true)
	e.onlyDHCPPort(n)
}

// TestDHCPWaitsForANode: networks that had no node get their service when one comes.
func TestDHCPWaitsForANode(t *testing.T) {
	e := newEnv(t)
	e.node("cmp1", model.RoleCompute)
	n, _ := e.simple(alice, "10.0.0.0/24")
	if len(e.dhcpPorts(n)) != 0 {
		t.Fatal("a compute node serves DHCP")
	}
	e.reconcile()
	e.node("net1", model.RoleNetwork)
	e.reconcile()
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net1" || len(p.FixedIPs) != 1 {
		t.Errorf("DHCP port %+v", p)
	}
}

// TestDHCPSpreads: networks go to the node with fewest, and each to as many nodes as configured.
func TestDHCPSpreads(t *testing.T) {
	e := newEnv(t, func(c *neutron.Config) { c.DHCPAgents = 2 })
	for _, h := range []string{"net1", "net2", "net3"} {
		e.node(h, model.RoleNetwork, model.RoleCompute)
	}
	load := map[string]int{}
	for range 6 {
		n, s := e.simple(alice, "10.0.0.0/24")
		ports := e.dhcpPorts(n)
		if len(ports) != 2 {
			t.Fatalf("%d DHCP ports, want 2", len(ports))
		}
		for host, p := range ports {
			load[host]++
			if p.FixedIPs[0].SubnetID != s.ID {
				t.Errorf("DHCP port has %v", addresses(p))
			}
		}
	}
	if d := cmp.Diff(map[string]int{"net1": 4, "net2": 4, "net3": 4}, load); d != "" {
		t.Error(d)
	}
}

// TestDHCPMovesFromADeadNode: the next node takes port, MAC and address over; the first one gets nothing back.
func TestDHCPMovesFromADeadNode(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	n, _ := e.simple(alice, "10.0.0.0/24")
	was := e.onlyDHCPPort(n)
	e.clock.add(74 * time.Second)
	e.down()
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net1" {
		t.Fatalf("moved after 74 s, to %s", p.Binding.Host)
	}
	e.clock.add(time.Second)
	e.down() // dead, but there is no other node
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net1" || p.DeviceID != was.DeviceID {
		t.Fatalf("port %+v, want it left where it was", p)
	}
	e.node("net2", model.RoleNetwork)
	e.reconcile()
	moved := e.onlyDHCPPort(n)
	if moved.Binding.Host != "net2" || !moved.Bound() || moved.ID != was.ID || moved.MAC != was.MAC ||
		!slices.Equal(moved.FixedIPs, was.FixedIPs) || moved.DeviceID == was.DeviceID {
		t.Errorf("moved %+v, was %+v", moved, was)
	}
	if err := e.svc.Heartbeat(e.ctx, "net1"); err != nil {
		t.Fatal(err)
	}
	e.node("net1", model.RoleNetwork)
	e.reconcile()
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net2" {
		t.Errorf("moved back to %s", p.Binding.Host)
	}
}

// down looks for dead nodes and does what follows.
func (e *env) down() {
	e.t.Helper()
	if err := e.svc.NodesDown(e.ctx); err != nil {
		e.t.Fatal(err)
	}
	e.reconcile()
}

// TestLostStream: a node whose stream is lost has 10 s to come back, to whichever server.
func TestLostStream(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	n, _ := e.simple(alice, "10.0.0.0/24")
	e.clock.add(time.Second)
	e.node("net2", model.RoleNetwork)
	lost := func(host string) {
		t.Helper()
		if err := e.svc.NodeGone(e.ctx, host); err != nil {
			t.Fatal(err)
		}
	}
	lost("net1")
	e.clock.add(9 * time.Second)
	e.down()
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net1" {
		t.Fatalf("moved after 9 s")
	}
	other := envOn(t, e.st, func(c *neutron.Config) { c.Now = e.clock.now })
	other.node("net1", model.RoleNetwork)
	e.clock.add(5 * time.Second)
	e.down()
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net1" {
		t.Fatalf("moved although the node is connected to another server")
	}
	lost("net1")
	e.clock.add(10 * time.Second)
	e.down()
	if p := e.onlyDHCPPort(n); p.Binding.Host != "net2" {
		t.Fatalf("not moved 10 s after the stream was lost")
	}
	dead := shownAgent(t, e, "net1")
	if dead.Alive {
		t.Error("agent of the dead node is alive")
	}
}

func shownAgent(t testing.TB, e *env, host string) *model.Agent {
	t.Helper()
	for a := range store.Find(e.st.Snapshot(), model.AgentTable, "host", host) {
		if a.Binary == "neutron-dhcp-agent" {
			return e.svc.Agents().Present(e.st.Snapshot(), admin, a)
		}
	}
	t.Fatalf("no DHCP agent on %s", host)
	return nil
}

// TestServerStartSparesNodes: a server that was away for long does not take all nodes for dead.
func TestServerStartSparesNodes(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	e.clock.add(time.Hour)
	again := envOn(t, e.st, func(c *neutron.Config) { c.Now = e.clock.now })
	if err := again.svc.NodesDown(e.ctx); err != nil {
		t.Fatal(err)
	}
	if h, ok := store.Get(e.st.Snapshot(), model.HeartbeatTable, "net1"); !ok || !h.Alive {
		t.Error("declared dead at once")
	}
	e.clock.add(75 * time.Second)
	if err := again.svc.NodesDown(e.ctx); err != nil {
		t.Fatal(err)
	}
	if h, _ := store.Get(e.st.Snapshot(), model.HeartbeatTable, "net1"); h.Alive {
		t.Error("alive 75 s later")
	}
}

func TestDHCPScheduling(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	n, _ := e.simple(alice, "10.0.0.0/24")
	one := string(shownAgent(t, e, "net1").ID)
	port := e.onlyDHCPPort(n)
	agents := must(e.svc.DHCPAgents(e.ctx, admin, string(n.ID)))(t)
	if len(agents) != 1 || string(agents[0].ID) != one || !agents[0].Alive {
		t.Errorf("agents %+v", agents)
	}
	if nets := must(e.svc.DHCPNetworks(e.ctx, admin, one))(t); len(nets) != 1 || nets[0].ID != n.ID {
		t.Errorf("networks %+v", nets)
	}
	wantError(t, e.svc.AddDHCPNetwork(e.ctx, admin, one, string(n.ID)), neutron.ClassConflict, "NetworkHostedByDHCPAgent", "has been already hosted")
	if err := e.svc.RemoveDHCPNetwork(e.ctx, admin, one, string(n.ID)); err != nil {
		t.Fatal(err)
	}
	e.reconcile()
	if p := e.onlyDHCPPort(n); p.DeviceID != model.ReservedDHCPPort || p.Binding.Host != "" {
		t.Errorf("port %+v, want it reserved and not scheduled again", p)
	}
	wantError(t, e.svc.RemoveDHCPNetwork(e.ctx, admin, one, string(n.ID)), neutron.ClassConflict, "NetworkNotHostedByDhcpAgent", "is not hosted")
	if err := e.svc.AddDHCPNetwork(e.ctx, admin, one, string(n.ID)); err != nil {
		t.Fatal(err)
	}
	if p := e.onlyDHCPPort(n); p.ID != port.ID || p.DeviceID != port.DeviceID || !p.Bound() {
		t.Errorf("port %+v, want the reserved one taken over", p)
	}
	wantError(t, e.svc.AddDHCPNetwork(e.ctx, alice, one, string(n.ID)), neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_dhcp-network")
	wantError(t, e.svc.AddDHCPNetwork(e.ctx, admin, "x", string(n.ID)), neutron.ClassNotFound, "AgentNotFound", "Agent x")
	wantError(t, e.svc.AddDHCPNetwork(e.ctx, admin, one, "x"), neutron.ClassNotFound, "NetworkNotFound", "Network x")
	_, err := e.svc.DHCPAgents(e.ctx, alice, string(n.ID))
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "")
	if err := e.svc.Ports().Delete(e.ctx, admin, string(port.ID), nil); err != nil {
		t.Fatal(err)
	}
	e.reconcile()
	e.onlyDHCPPort(n) // made anew
}

func TestAgents(t *testing.T) {
	e := newEnv(t)
	e.node("net1", model.RoleNetwork)
	n, _ := e.simple(alice, "10.0.0.0/24")
	kinds := map[string]*model.Agent{}
	for a := range store.All(e.st.Snapshot(), model.AgentTable) {
		kinds[a.Binary] = e.svc.Agents().Present(e.st.Snapshot(), admin, a)
	}
	if len(kinds) != 3 {
		t.Fatalf("agents %v", kinds)
	}
	ovs, dhcp := kinds["neutron-openvswitch-agent"], kinds["neutron-dhcp-agent"]
	if ovs.Type != "Open vSwitch agent" || ovs.Configurations["tunneling_ip"] == "" || ovs.Configurations["devices"] != 1 || !ovs.Alive {
		t.Errorf("agent %+v", ovs)
	}
	if dhcp.Configurations["networks"] != 1 || dhcp.Configurations["subnets"] != 1 || dhcp.AvailabilityZone != "nova" || dhcp.Topic != "dhcp_agent" {
		t.Errorf("agent %+v", dhcp)
	}
	if v := e.svc.Agents().Visible; v(e.st.Snapshot(), alice, ovs) || !v(e.st.Snapshot(), admin, ovs) {
		t.Error("agents are not for administrators only")
	}
	// Turned off, the agent gets no new network and keeps what it has; a new registration does not turn it on.
	up := must(e.svc.Agents().Update(e.ctx, admin, string(dhcp.ID), resource.NewInput(model.Agent{Description: "x"}, "admin_state_up", "description"), nil))(t)
	if up.AdminStateUp || up.Description != "x" {
		t.Errorf("agent %+v", up)
	}
	e.node("net1", model.RoleNetwork)
	other, _ := e.simple(alice, "10.0.0.0/24")
	if len(e.dhcpPorts(other)) != 0 {
		t.Error("an agent that is turned off got a network")
	}
	e.reconcile()
	e.onlyDHCPPort(n)
	wantError(t, second(e.svc.Agents().Update(e.ctx, alice, string(dhcp.ID), resource.NewInput(model.Agent{}), nil)),
		neutron.ClassNotFound, "AgentNotFound", "")
	for _, a := range kinds {
		if err := e.svc.Agents().Delete(e.ctx, admin, string(a.ID), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := store.Get(e.st.Snapshot(), model.NodeTable, "net1"); ok {
		t.Error("node stays without agents")
	}
	wantError(t, e.svc.Heartbeat(e.ctx, "net1"), neutron.ClassNotFound, "NodeNotFound", "net1")
	e.node("net1", model.RoleNetwork)
	e.reconcile()
	e.onlyDHCPPort(other)
}

func TestRegisterNode(t *testing.T) {
	e := newEnv(t)
	e.node("a", model.RoleCompute, model.RoleNetwork)
	before := shownAgent(t, e, "a")
	e.clock.add(26 * time.Second)
	if err := e.svc.Heartbeat(e.ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if after := shownAgent(t, e, "a"); !after.HeartbeatAt.After(before.HeartbeatAt) || after.ID != before.ID {
		t.Errorf("heartbeat %s, was %s", after.HeartbeatAt, before.HeartbeatAt)
	}
	rev := e.st.Snapshot().Revision()
	if err := e.svc.Heartbeat(e.ctx, "a"); err != nil || e.st.Snapshot().Revision() != rev {
		t.Errorf("a heartbeat right after another wrote (err %v)", err)
	}
	twin := nodeInfo("b", model.RoleCompute)
	twin.TunnelIP = nodeInfo("a").TunnelIP
	wantError(t, e.svc.RegisterNode(e.ctx, twin), neutron.ClassConflict, "TunnelEndpointInUse", "another node has it")
	for name, edit := range map[string]func(*nodestate.NodeInfo){
		"name":       func(i *nodestate.NodeInfo) { i.Host = "" },
		"long name":  func(i *nodestate.NodeInfo) { i.Host = strings.Repeat("x", 256) },
		"role":       func(i *nodestate.NodeInfo) { i.Roles = []string{"king"} },
		"type":       func(i *nodestate.NodeInfo) { i.TunnelTypes = []string{"stt"} },
		"roles":      func(i *nodestate.NodeInfo) { i.Roles = []string{"compute", "compute", "compute"} },
		"endpoint":   func(i *nodestate.NodeInfo) { i.TunnelIP = ip("224.0.0.1") },
		"datapath":   func(i *nodestate.NodeInfo) { i.DatapathType = "magic" },
		"version":    func(i *nodestate.NodeInfo) { i.Version = strings.Repeat("x", 256) },
		"zone of ip": func(i *nodestate.NodeInfo) { i.TunnelIP = ip("fe80::1%eth0") },
	} {
		info := nodeInfo("c", model.RoleCompute)
		edit(&info)
		t.Run(name, func(t *testing.T) {
			wantError(t, e.svc.RegisterNode(e.ctx, info), neutron.ClassBadRequest, "InvalidInput", "Node")
		})
	}
	e.node("a", model.RoleCompute)
	for a := range store.Find(e.st.Snapshot(), model.AgentTable, "host", "a") {
		if a.Binary != "neutron-openvswitch-agent" {
			t.Errorf("%s stays after the node lost its role", a.Binary)
		}
	}
}
