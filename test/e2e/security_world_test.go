package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"

	"baryon/internal/agent/firewall"
	"baryon/internal/agent/status"
	"baryon/internal/lab"
	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

var securityLab struct {
	once sync.Once
	lab  *lab.Lab
	err  error
}

// drivers are the firewall drivers with the nodes of the security lab that run them, and the two drivers together.
var drivers = []struct {
	name  string
	nodes [2]string
}{
	{lab.FirewallOVS, [2]string{"ovs1", "ovs2"}},
	{lab.FirewallHybrid, [2]string{"hyb1", "hyb2"}},
	{"both", [2]string{"ovs1", "hyb1"}},
}

// eachDriver runs a test on the lab that the security tests share, with ports on nodes of one driver and of both.
func eachDriver(t *testing.T, test func(s *security)) {
	testkit.NeedRoot(t)
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) { test(newSecurity(t, d.nodes)) })
	}
}

// security is a network with guests that speak through wires, and what the test has asked of the API about them.
type security struct {
	*world
	nodes     [2]string
	net       string
	name      string
	ports     []*sgPort
	groups    map[string]*nodestate.Group
	addresses map[string][]netip.Prefix // address groups
	token     uint32
	flow      uint16   // source ports and ICMP ids in use, so that every probe is a connection of its own
	forbidden []*probe // that did not arrive in time, and must never
}

// sgPort is a guest's port.
type sgPort struct {
	nodestate.Port
	name, node string
	v4, v6     netip.Addr
	*wire
}

var securityNetworks int // numbers the networks of a run

func newSecurity(t *testing.T, nodes [2]string) *security {
	t.Helper()
	testkit.NeedRoot(t)
	securityLab.once.Do(func() {
		securityLab.lab, securityLab.err = bringUp(context.Background(), "sg", lab.Topology{Nodes: []lab.Node{
			{Name: "ctl", Roles: []string{"network"}},
			{Name: "ovs1", Roles: []string{"compute"}, Firewall: lab.FirewallOVS},
			{Name: "ovs2", Roles: []string{"compute"}, Firewall: lab.FirewallOVS},
			{Name: "hyb1", Roles: []string{"compute"}, Firewall: lab.FirewallHybrid},
			{Name: "hyb2", Roles: []string{"compute"}, Firewall: lab.FirewallHybrid},
		}}, 1)
	})
	if securityLab.err != nil {
		t.Fatal(securityLab.err)
	}
	return securityOn(newWorld(t, securityLab.lab), nodes)
}

// securityOn makes the network; it goes when the test ends, with the ports first and the groups last.
func securityOn(w *world, nodes [2]string) *security {
	w.t.Helper()
	securityNetworks++
	s := &security{
		world: w, nodes: nodes, name: fmt.Sprint("sg", securityNetworks), flow: firstFlow,
		groups: map[string]*nodestate.Group{}, addresses: map[string][]netip.Prefix{},
	}
	s.unlimited()
	w.t.Cleanup(func() {
		for id := range s.groups {
			s.clean("security-groups/" + id)
		}
		for id := range s.addresses {
			s.clean("address-groups/" + id)
		}
	})
	s.net = w.network(lab.Network{Name: s.name, Type: "vxlan", Subnets: []lab.Subnet{
		{CIDR: "10.77.0.0/24", Gateway: "none"}, {CIDR: "fd77::/64", Gateway: "none"},
	}})
	return s
}

// unlimited lifts the project's quotas: ten groups are soon used up.
func (s *security) unlimited() {
	s.t.Helper()
	var own struct {
		Project struct {
			ID string `json:"project_id"`
		} `json:"project"`
	}
	_, err := s.api.Get(s.ctx(), s.api.ServiceURL("quotas/project"), &own, nil)
	s.must(err)
	s.put("quotas/"+own.Project.ID, "quota", map[string]any{"security_group": -1, "security_group_rule": -1})
}

func (s *security) clean(path string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := s.api.Delete(ctx, s.api.ServiceURL(path), nil); err != nil && !gophercloud.ResponseCodeIs(err, 404) {
		s.t.Errorf("clean up %s: %v", path, err)
	}
}

func (s *security) post(path, envelope string, body map[string]any) map[string]any {
	s.t.Helper()
	return s.call(path, envelope, body, s.api.Post)
}

func (s *security) put(path, envelope string, body map[string]any) map[string]any {
	s.t.Helper()
	return s.call(path, envelope, body, s.api.Put)
}

func (s *security) call(path, envelope string, body map[string]any,
	do func(context.Context, string, any, any, *gophercloud.RequestOpts) (*http.Response, error),
) map[string]any {
	s.t.Helper()
	var answer map[string]map[string]any
	_, err := do(s.ctx(), s.api.ServiceURL(path), map[string]any{envelope: body}, &answer, &gophercloud.RequestOpts{OkCodes: []int{200, 201}})
	s.must(err)
	return answer[envelope]
}

func text(s *security, m map[string]any, key string) string {
	s.t.Helper()
	v, ok := m[key].(string)
	if !ok {
		s.t.Fatalf("the API answers no %s: %v", key, m)
	}
	return v
}

// group makes a group without rules.
func (s *security) group() string {
	s.t.Helper()
	made := s.post("security-groups", "security_group", map[string]any{"name": fmt.Sprint(s.name, "-", len(s.groups))})
	id := text(s, made, "id")
	s.groups[id] = &nodestate.Group{ID: id}
	rules, ok := made["security_group_rules"].([]any)
	if !ok {
		s.t.Fatalf("group without its rules: %v", made)
	}
	for _, r := range rules {
		r, ok := r.(map[string]any)
		if !ok {
			s.t.Fatalf("bad rule: %v", r)
		}
		_, err := s.api.Delete(s.ctx(), s.api.ServiceURL("security-group-rules", text(s, r, "id")), nil)
		s.must(err)
	}
	return id
}

// anything is a rule that lets all of a direction and family pass; a test narrows it.
func anything(egress, ipv6 bool) nodestate.Rule {
	return nodestate.Rule{Egress: egress, IPv6: ipv6, Protocol: -1, PortMin: -1, PortMax: -1}
}

func (s *security) rule(group string, r nodestate.Rule) string {
	s.t.Helper()
	body := map[string]any{"security_group_id": group, "direction": "ingress", "ethertype": "IPv4"}
	if r.Egress {
		body["direction"] = "egress"
	}
	if r.IPv6 {
		body["ethertype"] = "IPv6"
	}
	if r.Protocol >= 0 {
		body["protocol"] = strconv.Itoa(r.Protocol)
	}
	if r.PortMin >= 0 {
		body["port_range_min"] = r.PortMin
	}
	if r.PortMax >= 0 {
		body["port_range_max"] = r.PortMax
	}
	if r.Remote.IsValid() {
		body["remote_ip_prefix"] = r.Remote.String()
	}
	if _, ok := s.addresses[r.Members]; ok {
		body["remote_address_group_id"] = r.Members
	} else if r.Members != "" {
		body["remote_group_id"] = r.Members
	}
	r.ID = text(s, s.post("security-group-rules", "security_group_rule", body), "id")
	s.groups[group].Rules = append(s.groups[group].Rules, r)
	return r.ID
}

func (s *security) deleteRule(group, rule string) {
	s.t.Helper()
	_, err := s.api.Delete(s.ctx(), s.api.ServiceURL("security-group-rules", rule), nil)
	s.must(err)
	g := s.groups[group]
	g.Rules = slices.DeleteFunc(g.Rules, func(r nodestate.Rule) bool { return r.ID == rule })
}

func (s *security) addressGroup(list ...netip.Prefix) string {
	s.t.Helper()
	id := text(s, s.post("address-groups", "address_group", map[string]any{"name": s.name, "addresses": prefixes(list)}), "id")
	s.addresses[id] = list
	return id
}

// changeAddressGroup does "add_addresses" or "remove_addresses".
func (s *security) changeAddressGroup(id, action string, p netip.Prefix) {
	s.t.Helper()
	s.put("address-groups/"+id+"/"+action, "address_group", map[string]any{"addresses": prefixes([]netip.Prefix{p})})
	s.addresses[id] = slices.DeleteFunc(slices.Clone(s.addresses[id]), func(q netip.Prefix) bool { return p == q })
	if action == "add_addresses" {
		s.addresses[id] = append(s.addresses[id], p)
	}
}

func prefixes(list []netip.Prefix) []string {
	out := []string{}
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

func pairs(list []nodestate.Pair) []map[string]string {
	out := []map[string]string{}
	for _, p := range list {
		pair := map[string]string{"ip_address": p.Prefix.String()}
		if p.MAC != (nodestate.MAC{}) {
			pair["mac_address"] = p.MAC.String()
		}
		out = append(out, pair)
	}
	return out
}

// port makes a port and a guest that is plugged into it, and waits until it is ACTIVE.
func (s *security) port(node string, groups ...string) *sgPort {
	s.t.Helper()
	p := s.reserve(node, groups...)
	s.plug(p)
	return p
}

// reserve makes a port that nothing is plugged into.
func (s *security) reserve(node string, groups ...string) *sgPort {
	s.t.Helper()
	n := len(s.ports) + 10
	p := &sgPort{
		name: fmt.Sprintf("%s-%d", s.name, n), node: node,
		v4: netip.AddrFrom4([4]byte{10, 77, 0, byte(n)}), v6: netip.MustParseAddr(fmt.Sprintf("fd77::%x", n)),
	}
	if groups == nil {
		groups = []string{}
	}
	made := s.post("ports", "port", map[string]any{
		"network_id": s.net, "name": p.name, "device_id": uuid.NewString(), "device_owner": "compute:nova", "binding:host_id": node,
		"fixed_ips":       []map[string]string{{"ip_address": p.v4.String()}, {"ip_address": p.v6.String()}},
		"security_groups": groups,
	})
	p.Port = nodestate.Port{
		ID: text(s, made, "id"), NetworkID: s.net, AdminUp: true, PortSecurity: true, DeviceOwner: "compute:nova", Groups: slices.Sorted(slices.Values(groups)),
		Addresses: []nodestate.Address{{Prefix: netip.PrefixFrom(p.v4, 24)}, {Prefix: netip.PrefixFrom(p.v6, 64)}},
	}
	if _, err := fmt.Sscanf(text(s, made, "mac_address"), "%02x:%02x:%02x:%02x:%02x:%02x",
		&p.MAC[0], &p.MAC[1], &p.MAC[2], &p.MAC[3], &p.MAC[4], &p.MAC[5]); err != nil {
		s.t.Fatal(err)
	}
	s.ports = append(s.ports, p)
	return p
}

// plug plugs a guest into the port as its binding says, and starts its wire.  The guest itself says nothing.
func (s *security) plug(p *sgPort) {
	s.t.Helper()
	s.plugIn(p)
	s.must(s.WaitActive(s.ctx(), p.name))
}

func (s *security) plugIn(p *sgPort) {
	s.t.Helper()
	var shown struct {
		Port struct {
			Details map[string]any `json:"binding:vif_details"`
		} `json:"port"`
	}
	_, err := s.api.Get(s.ctx(), s.api.ServiceURL("ports", p.ID), &shown, nil)
	s.must(err)
	p.Hybrid, _ = shown.Port.Details["ovs_hybrid_plug"].(bool)
	_, err = s.PlugGuest(s.ctx(), lab.Guest{Name: p.name, Node: p.node, Network: s.name, Client: lab.ClientNone},
		lab.Port{ID: p.ID, MAC: p.MAC.String(), MTU: 1450, Hybrid: p.Hybrid})
	s.must(err)
	s.t.Cleanup(func() { s.unplug(p) })
	_, err = s.GuestRun(s.ctx(), p.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
	s.must(err)
	p.wire = s.wireIn(p.name)
}

// unplug takes the guest away, if it is there; its port stays.
func (s *security) unplug(p *sgPort) {
	if !slices.ContainsFunc(s.Guests(), func(g lab.GuestInfo) bool { return g.Name == p.name }) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if p.wire != nil {
		p.close()
	}
	if err := s.UnplugGuest(ctx, p.name); err != nil {
		s.t.Errorf("unplug %s: %v", p.name, err)
	}
}

// set changes what a port may do.
func (s *security) set(p *sgPort, change func(*nodestate.Port)) {
	s.t.Helper()
	change(&p.Port)
	slices.Sort(p.Groups)
	groups := p.Groups
	if groups == nil {
		groups = []string{}
	}
	s.put("ports/"+p.ID, "port", map[string]any{
		"port_security_enabled": p.PortSecurity, "security_groups": groups, "allowed_address_pairs": pairs(p.AllowedPairs),
	})
}

// members are what rules mean by the ids of groups and address groups.
func (s *security) members() map[string]*nodestate.Members {
	out := map[string]*nodestate.Members{}
	for id, list := range s.addresses {
		out[id] = &nodestate.Members{ID: id, Prefixes: list}
	}
	for id := range s.groups {
		out[id] = &nodestate.Members{ID: id}
	}
	for _, p := range s.ports {
		for _, g := range p.Groups {
			m := out[g]
			for _, a := range p.Addresses {
				m.Prefixes = append(m.Prefixes, netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen()))
			}
			for _, a := range p.AllowedPairs {
				m.Prefixes = append(m.Prefixes, a.Prefix)
			}
		}
	}
	return out
}

// sends and takes are the model's word on a new packet at its sender and at its receiver.
func (s *security) sends(p *sgPort, k firewall.Packet) bool {
	k.Egress = true
	return !p.Filtered() || firewall.Admits(&p.Port, s.groups, s.members(), k)
}

func (s *security) takes(p *sgPort, k firewall.Packet) bool {
	k.Egress = false
	return !p.Filtered() || firewall.Admits(&p.Port, s.groups, s.members(), k)
}

// probe is a frame with a token, and whether it must arrive.
type probe struct {
	what     string
	from, to *sgPort
	frame    []byte
	token    uint32
	want     bool
}

func (p *probe) String() string {
	verdict := "must not arrive"
	if p.want {
		verdict = "must arrive"
	}
	return fmt.Sprintf("%s from %s (%s) to %s (%s), %s", p.what, p.from.name, p.from.node, p.to.name, p.to.node, verdict)
}

func (s *security) next() uint32 { s.token++; return s.token }

// nextFlow is a source port or ICMP id that no other probe has.
func (s *security) nextFlow() uint16 {
	if s.flow++; s.flow < firstFlow {
		s.flow = firstFlow // after the last comes the first again, long forgotten
	}
	return s.flow
}

const firstFlow = 20000

// markerPatience is how long a marker may take, late how long a packet may come after its marker: two queues are two queues.
const (
	markerPatience = 10 * time.Second
	late           = 2 * time.Second
)

// try sends probes and returns those whose fate is not what it must be.  Behind the last probe of each pair goes a marker that every
// port may send and receive; when it has arrived, what was sent before it has arrived or never will.
func (s *security) try(probes ...*probe) []*probe {
	s.t.Helper()
	type pair struct{ from, to *sgPort }
	markers := map[pair]uint32{}
	var order []pair
	for _, p := range probes {
		s.must(p.from.send(p.frame))
		at := pair{p.from, p.to}
		if markers[at] == 0 {
			markers[at] = s.next()
			order = append(order, at)
		}
	}
	for _, at := range order {
		s.must(at.from.send(s.marker(at.from, at.to, markers[at])))
	}
	for _, at := range order {
		s.follows(at.from, at.to, markers[at])
	}
	var bad []*probe
	for _, p := range probes {
		if p.want && !p.to.await(p.token, late) || !p.want && p.to.arrived(p.token) > 0 {
			bad = append(bad, p)
		} else if !p.want {
			s.forbidden = append(s.forbidden, p)
		}
	}
	return bad
}

// follows waits until a marker that was sent has arrived.  It is sent again: Open vSwitch's own tunnels drop packets while they
// look for the other end.
func (s *security) follows(from, to *sgPort, token uint32) {
	s.t.Helper()
	for over := time.Now().Add(markerPatience); !to.await(token, markerPatience/50); {
		if time.Now().After(over) {
			s.mute(from, to)
		}
		s.must(from.send(s.marker(from, to, token)))
	}
}

// warm has every guest reach every other once, so that the nodes know the ends of their tunnels.
func (s *security) warm() {
	s.t.Helper()
	for _, from := range s.ports {
		for _, to := range s.ports {
			if from != to && from.wire != nil && to.wire != nil {
				token := s.next()
				s.must(from.send(s.marker(from, to, token)))
				s.follows(from, to, token)
			}
		}
	}
}

// mute ends the test because a marker did not arrive; it shows the nodes as they are, before the guests are taken away.
func (s *security) mute(from, to *sgPort) {
	s.t.Helper()
	s.dump()
	s.t.Fatalf("nothing passes from %s (%s, %s) to %s (%s, %s), not even ARP", from.name, from.ID, from.node, to.name, to.ID, to.node)
}

func (s *security) marker(from, to *sgPort, token uint32) []byte {
	return ether(to.MAC, from.MAC, ethARP, arp(2, from.MAC, from.v4, to.MAC, to.v4, token))
}

// hold requires that the probes' fates are right at once.
func (s *security) hold(when string, probes ...*probe) {
	s.t.Helper()
	for _, p := range s.try(probes...) {
		s.t.Errorf("%s: %s, and %d did", when, p, p.to.arrived(p.token))
	}
}

// sync waits until both nodes do what the API was asked before.  Each gets the record of a new port that nobody plugs; when its agent
// says so of it, what came with it or before it is in force.
func (s *security) sync() {
	s.t.Helper()
	for _, node := range s.nodes {
		made := s.post("ports", "port", map[string]any{"network_id": s.net, "fixed_ips": []any{}, "security_groups": []any{}, "binding:host_id": node})
		id := text(s, made, "id")
		s.eventually("the agent on "+node+" has heard of everything", func() error {
			out, err := s.Run(s.ctx(), node, "curl", "-sf", "--unix-socket", "/var/lib/baryon/agent.sock", "http://agent/ports/"+id)
			if err != nil {
				return err
			}
			var r status.Record
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				return err
			}
			if r.State != string(nodestate.Absent) {
				return fmt.Errorf("port is %s", r.State)
			}
			return nil
		})
		_, err := s.api.Delete(s.ctx(), s.api.ServiceURL("ports", id), nil)
		s.must(err)
	}
	s.warm()
}

// converge waits until all fates are right, with new probes each time: a change takes its way through the servers to the nodes.
func (s *security) converge(when string, probes func() []*probe) {
	s.t.Helper()
	s.eventually(when, func() error {
		if bad := s.try(probes()...); len(bad) > 0 {
			return fmt.Errorf("%d probes, the first: %s", len(bad), bad[0])
		}
		return nil
	})
}

// never requires that nothing forbidden has come late either.
func (s *security) never() {
	s.t.Helper()
	for _, p := range s.forbidden {
		if p.to.arrived(p.token) > 0 {
			s.t.Errorf("late: %s", p)
		}
	}
}
