package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"baryon/internal/lab"
)

// physicalTopology is a lab with an outside: two physical networks, the second one on all nodes, the first one on all but cmp3.
func physicalTopology() lab.Topology {
	return lab.Topology{
		Nodes: []lab.Node{
			{Name: "ctl", Roles: []string{"network"}},
			{Name: "cmp1", Roles: []string{"compute"}, Firewall: lab.FirewallHybrid},
			{Name: "cmp2", Roles: []string{"compute"}, Firewall: lab.FirewallOVS},
			{Name: "cmp3", Roles: []string{"compute"}, Firewall: lab.FirewallNone},
		},
		PhysicalNetworks: []lab.PhysicalNetwork{
			{Name: "public", Bridge: "br-ex", Nodes: []string{"ctl", "cmp1", "cmp2"}, Outside: []lab.OutsideHost{
				{Name: "ext", Addresses: []string{"203.0.113.1/24"}},
				{Name: "v120", VLAN: 120, Addresses: []string{"10.120.0.1/24"}},
				{Name: "v121", VLAN: 121, Addresses: []string{"10.121.0.1/24"}},
				{Name: "v130", VLAN: 130, Addresses: []string{"10.120.0.1/24"}},
				{Name: "v140", VLAN: 140, Addresses: []string{"10.140.0.1/24"}},
			}},
			{Name: "rack", Bridge: "br-rack", Outside: []lab.OutsideHost{{Name: "rk", Addresses: []string{"10.50.0.1/24"}}}},
		},
	}
}

// provider is the lab of the provider networks.
type provider struct {
	*world
	ip map[string]string // of guests
}

// TestProviderNetworks drives one lab with an outside: what belongs together reaches each other whole, and nothing else does; then it is
// restarted, broken and changed.
func TestProviderNetworks(t *testing.T) {
	p := &provider{world: ownLab(t, "prov", physicalTopology(), 1, "--network-vlan-ranges=public:100:199"), ip: map[string]string{}}
	p.admitPings()
	subnet := func(cidr, gateway string) []lab.Subnet {
		a := netip.MustParsePrefix(cidr).Addr()
		b := strings.TrimSuffix(a.String(), "0")
		return []lab.Subnet{{CIDR: cidr, Gateway: gateway, Pool: b + "20-" + b + "100"}}
	}
	p.network(lab.Network{Name: "flat", Type: "flat", PhysicalNetwork: "public", External: true, Shared: true, Subnets: subnet("203.0.113.0/24", "")})
	p.network(lab.Network{Name: "blue", Type: "vlan", PhysicalNetwork: "public", SegmentationID: 120, Subnets: subnet("10.120.0.0/24", "none")})
	p.network(lab.Network{Name: "red", Type: "vlan", PhysicalNetwork: "public", SegmentationID: 121, Subnets: subnet("10.121.0.0/24", "none")})
	p.network(lab.Network{Name: "rack", Type: "flat", PhysicalNetwork: "rack", Subnets: subnet("10.50.0.0/24", "")})
	p.network(lab.Network{Name: "twin", Type: "vxlan", Subnets: subnet("10.120.0.0/24", "none")})
	for _, g := range []lab.Guest{
		{Name: "f1", Node: "cmp1", Network: "flat"}, {Name: "f2", Node: "cmp2", Network: "flat"},
		{Name: "b1", Node: "cmp1", Network: "blue"}, {Name: "b2", Node: "cmp2", Network: "blue"},
		{Name: "r1", Node: "cmp1", Network: "red"}, {Name: "k3", Node: "cmp3", Network: "rack"},
		{Name: "k2", Node: "cmp2", Network: "rack"}, {Name: "x1", Node: "cmp1", Network: "twin"}, {Name: "x2", Node: "cmp2", Network: "twin"},
		{Name: "x3", Node: "cmp2", Network: "twin"},
	} {
		p.ip[g.Name] = p.guest(g)
	}
	run := func(name string, test func(p *provider)) {
		t.Run(name, func(t *testing.T) { test(&provider{world: newWorld(t, p.Lab), ip: p.ip}) })
	}
	run("who reaches whom", (*provider).matrix)
	run("whole packets", (*provider).whole)
	run("metadata", (*provider).metadata)
	run("broadcast and multicast stay", (*provider).floods)
	run("foreign tags are dropped", (*provider).foreignTags)
	run("DHCP from outside", (*provider).foreignDHCP)
	run("a node without the mapping refuses", (*provider).refused)
	run("agents restarted", (*provider).restarts)
	run("switch killed", (*provider).switchKilled)
	run("mappings change", (*provider).mappings)
	run("troubleshooting", (*provider).troubleshooting)
}

// admitPings lets everybody ping the guests: those outside are in no group.
func (p *provider) admitPings() {
	p.t.Helper()
	var groups struct {
		List []struct {
			ID string `json:"id"`
		} `json:"security_groups"`
	}
	_, err := p.api.Get(p.ctx(), p.api.ServiceURL("security-groups?name=default"), &groups, nil)
	p.must(err)
	for _, g := range groups.List {
		_, err := p.api.Post(p.ctx(), p.api.ServiceURL("security-group-rules"), map[string]any{"security_group_rule": map[string]any{
			"security_group_id": g.ID, "direction": "ingress", "ethertype": "IPv4", "protocol": "icmp",
		}}, nil, nil)
		p.must(err)
	}
}

// out runs a command in a host outside.
func (p *provider) out(host string, argv ...string) (string, error) {
	p.t.Helper()
	cmd, err := p.OutsideCommand(p.ctx(), host, argv...)
	p.must(err)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (p *provider) outReaches(host, to string) {
	p.t.Helper()
	p.eventually(host+" outside reaches "+to, func() error {
		text, err := p.out(host, "ping", "-n", "-c", "1", "-W", "1", to)
		if err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		return nil
	})
}

func (p *provider) outReachesNot(host, to string) {
	p.t.Helper()
	if text, err := p.out(host, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", to); err == nil {
		p.t.Errorf("%s outside reaches %s:\n%s", host, to, text)
	}
}

func (p *provider) matrix() {
	for guest, gateway := range map[string]string{
		"f1": "203.0.113.1", "f2": "203.0.113.1", "b1": "10.120.0.1", "b2": "10.120.0.1", "r1": "10.121.0.1", "k3": "10.50.0.1", "k2": "10.50.0.1",
	} {
		p.reaches(guest, gateway)
	}
	for host, guests := range map[string][]string{"ext": {"f1", "f2"}, "v120": {"b1", "b2"}, "v121": {"r1"}, "rk": {"k2", "k3"}} {
		for _, g := range guests {
			p.outReaches(host, p.ip[g])
		}
	}
	for _, pair := range [][2]string{{"f1", "f2"}, {"b1", "b2"}, {"k2", "k3"}, {"x1", "x2"}} {
		p.reaches(pair[0], p.ip[pair[1]])
	}
	// The twin has the addresses of the VLAN network, on the same nodes.
	heard := p.capture("x2")
	_, _ = p.GuestRun(p.ctx(), "b1", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", p.ip["x2"]) //nolint:errcheck // another guest of its own network may have the address
	if n := heard.stop(); n != 0 {
		p.t.Errorf("x2 heard %d pings of b1, which is in another network", n)
	}
	p.reachesNot("x1", "10.120.0.1")
	p.reachesNot("b1", "10.121.0.1")
	p.outReachesNot("v130", p.ip["b1"])
	p.outReachesNot("rk", p.ip["f1"])
}

// whole packets of 1500 bytes pass unbroken, both ways.
func (p *provider) whole() {
	for guest, gateway := range map[string]string{"f1": "203.0.113.1", "f2": "203.0.113.1", "b1": "10.120.0.1", "b2": "10.120.0.1"} {
		text, err := p.GuestRun(p.ctx(), guest, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1472", gateway)
		if err != nil {
			p.t.Errorf("1500 bytes from %s: %v: %s", guest, err, text)
		}
		host := map[string]string{"203.0.113.1": "ext", "10.120.0.1": "v120"}[gateway]
		if text, err := p.out(host, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1472", p.ip[guest]); err != nil {
			p.t.Errorf("1500 bytes to %s: %v: %s", guest, err, text)
		}
	}
}

// metadata is served on a network that no router of ours is on.
func (p *provider) metadata() {
	for _, guest := range []string{"f1", "b2", "k3"} {
		p.eventually(guest+" is told who it is", func() error {
			text, err := p.GuestRun(p.ctx(), guest, "curl", "-sS", "--fail", "--max-time", "2", "http://169.254.169.254/latest/meta-data/instance-id")
			if err != nil || text == "" {
				return fmt.Errorf("%q, %w", text, err)
			}
			return nil
		})
	}
}

// outWire speaks Ethernet in a host outside.
func (p *provider) outWire(host string) *wire {
	p.t.Helper()
	exe, err := os.Executable()
	p.must(err)
	cmd, err := p.OutsideCommand(p.t.Context(), host, "env", wireDevice+"=eth0", exe)
	p.must(err)
	l, err := startWire(cmd)
	p.must(err)
	p.t.Cleanup(l.close)
	return l
}

// question is an ARP question that carries a token, to many, with an 802.1Q tag if vlan is not 0.
func question(mac net.HardwareAddr, ip, dst string, vlan uint16, token uint32) []byte {
	to, err := net.ParseMAC(dst)
	if err != nil {
		panic(err) // a constant of this file
	}
	frame := append(slices.Clone(to), mac...)
	if vlan != 0 {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x81, 0x00), vlan)
	}
	frame = append(frame, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	src := netip.MustParseAddr(ip).As4()
	frame = append(append(append(frame, mac...), src[:]...), 0, 0, 0, 0, 0, 0)
	frame = append(append(frame, src[0], src[1], src[2], 250), tokenBytes(token)...)
	return append(frame, make([]byte, 60)...)
}

const (
	toAll  = "ff:ff:ff:ff:ff:ff"
	toMany = "01:00:5e:00:00:42"
)

func (p *provider) mac(guest string) net.HardwareAddr {
	p.t.Helper()
	for _, g := range p.Guests() {
		if g.Name == guest {
			mac, err := net.ParseMAC(g.MAC)
			p.must(err)
			return mac
		}
	}
	p.t.Fatalf("no guest %s", guest)
	return nil
}

var stranger = net.HardwareAddr{2, 0, 0, 0x99, 0, 1}

// floods: what is for many is heard in its own network, inside and outside, and nowhere else.
func (p *provider) floods() {
	wires := map[string]*wire{}
	inside := []string{"f1", "f2", "b1", "b2", "r1", "k2", "x1", "x2"}
	for _, g := range inside {
		wires[g] = p.wireIn(g)
	}
	for _, h := range []string{"ext", "v120", "v121", "rk"} {
		wires[h] = p.outWire(h)
	}
	token := uint32(1000)
	for _, net := range [][]string{{"f1", "f2", "ext"}, {"b1", "b2", "v120"}, {"r1", "v121"}, {"k2", "rk"}, {"x1", "x2"}} {
		for _, from := range net {
			for _, dst := range []string{toAll, toMany} {
				token++
				mac, ip := stranger, "198.51.100.1"
				if _, ours := p.ip[from]; ours {
					mac, ip = p.mac(from), p.ip[from]
				}
				heard := func(who string, limit time.Duration) bool { return wires[who].await(token, limit) }
				p.must(wires[from].send(question(mac, ip, dst, 0, token)))
				for who := range wires {
					if who != from && slices.Contains(net, who) && !heard(who, patience) {
						p.t.Errorf("%s does not hear %s (to %s)", who, from, dst)
					}
				}
				for who := range wires {
					if !slices.Contains(net, who) && wires[who].arrived(token) > 0 {
						p.t.Errorf("%s hears %s (to %s)", who, from, dst)
					}
				}
			}
		}
	}
	for who, l := range wires { // what came late
		for t := uint32(1001); t <= token; t++ {
			if l.arrived(t) > 1 {
				p.t.Errorf("%s heard question %d %d times", who, t, l.arrived(t))
			}
		}
	}
}

// foreignTags: a guest cannot reach a VLAN by tagging, and a VLAN that is no network of the node reaches no guest.
func (p *provider) foreignTags() {
	guest, hybrid, ext := p.wireIn("f2"), p.wireIn("f1"), p.outWire("ext")
	blue, alien := p.outWire("v120"), p.outWire("v130")
	b2 := p.wireIn("b2")
	token := uint32(2000)
	for name, l := range map[string]*wire{"f2": guest, "f1": hybrid} {
		for _, vlan := range []uint16{120, 130} {
			token++
			p.must(l.send(question(p.mac(name), p.ip[name], toAll, vlan, token)))
		}
	}
	tagged := token
	p.must(alien.send(question(stranger, "198.51.100.1", toAll, 0, token+1))) // leaves the access port with tag 130
	// What is legal arrives, and it was sent after the rest.
	p.must(guest.send(question(p.mac("f2"), p.ip["f2"], toAll, 0, token+2)))
	p.must(hybrid.send(question(p.mac("f1"), p.ip["f1"], toAll, 0, token+3)))
	p.must(blue.send(question(stranger, "198.51.100.1", toAll, 0, token+4)))
	for l, want := range map[*wire][]uint32{ext: {token + 2, token + 3}, b2: {token + 4}, hybrid: {token + 2}} {
		for _, n := range want {
			if !l.await(n, patience) {
				p.t.Fatalf("question %d, which is legal, did not arrive", n)
			}
		}
	}
	for who, l := range map[string]*wire{"ext": ext, "v120": blue, "v130": alien, "f1": hybrid, "f2": guest, "b2": b2} {
		for n := uint32(2001); n <= tagged; n++ {
			if l.arrived(n) > 0 {
				p.t.Errorf("%s hears the tagged question %d of a guest", who, n)
			}
		}
		if l.arrived(token+1) > 0 {
			p.t.Errorf("%s hears a VLAN that is none of its own", who)
		}
	}
	for _, node := range []string{"cmp1", "cmp2"} {
		text, err := p.Run(p.ctx(), node, "ovs-ofctl", "-O", "OpenFlow14", "--names", "dump-flows", "br-int")
		p.must(err)
		for line := range strings.Lines(text) {
			if strings.Contains(line, `priority=2,in_port="int-br-ex"`) && strings.Contains(line, "n_packets=0,") {
				p.t.Errorf("%s has dropped nothing from outside: %s", node, line)
			}
		}
	}
}

// foreignDHCP: on a network without our DHCP, guests get their addresses from a server outside.
func (p *provider) foreignDHCP() {
	p.network(lab.Network{Name: "leased", Type: "vlan", PhysicalNetwork: "public", SegmentationID: 140, Subnets: []lab.Subnet{
		{CIDR: "10.140.0.0/24", Gateway: "10.140.0.1", NoDHCP: true},
	}})
	dir := p.t.TempDir()
	conf := filepath.Join(dir, "udhcpd.conf")
	text := fmt.Sprintf("start 10.140.0.50\nend 10.140.0.50\ninterface eth0\nlease_file %s/leases\npidfile %s/pid\noption subnet 255.255.255.0\noption lease 600\n", dir, dir)
	p.must(os.WriteFile(conf, []byte(text), 0o600))
	p.must(os.WriteFile(filepath.Join(dir, "leases"), nil, 0o600))
	server, err := p.OutsideCommand(p.t.Context(), "v140", "busybox", "udhcpd", "-f", conf)
	p.must(err)
	p.must(server.Start())
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait() // killed
	}()
	if got := p.guest(lab.Guest{Name: "leased", Node: "cmp2", Network: "leased", FixedIP: "10.140.0.50"}); got != "10.140.0.50" {
		p.t.Errorf("the guest leased %s", got)
	}
	p.reaches("leased", "10.140.0.1")
}

// refused: a port cannot be bound to a node that does not map its physical network, and the reason is said.
func (p *provider) refused() {
	vif := func(host string) string {
		var answer struct {
			Port struct {
				ID      string `json:"id"`
				VIFType string `json:"binding:vif_type"`
			} `json:"port"`
		}
		_, err := p.api.Post(p.ctx(), p.api.ServiceURL("ports"), map[string]any{"port": map[string]any{
			"network_id": p.networkID("flat"), "binding:host_id": host,
		}}, &answer, nil)
		p.must(err)
		_, err = p.api.Delete(p.ctx(), p.api.ServiceURL("ports", answer.Port.ID), nil)
		p.must(err)
		return answer.Port.VIFType
	}
	if got := vif("cmp3"); got != "binding_failed" {
		p.t.Errorf("on cmp3, which does not map public: vif_type %s", got)
	}
	if got := vif("cmp2"); got != "ovs" {
		p.t.Errorf("on cmp2: vif_type %s", got)
	}
	log, err := os.ReadFile(p.ServerLog(0))
	p.must(err)
	if !strings.Contains(string(log), "no bridge mapping for physical network public") {
		p.t.Error("the server's log does not name the missing mapping")
	}
}

// physicalFlows are a node's flows, those of its provider bridges included.
func (p *provider) physicalFlows(node string) string {
	p.t.Helper()
	all := []string{p.flows(node)}
	bridges, err := p.Run(p.ctx(), node, "ovs-vsctl", "list-br")
	p.must(err)
	for _, br := range strings.Fields(bridges) {
		if br == "br-ex" || br == "br-rack" || br == "br-new" {
			text, err := p.Run(p.ctx(), node, "ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "dump-flows", br)
			p.must(err)
			lines := strings.Split(strings.TrimSpace(text), "\n")
			slices.Sort(lines)
			for _, l := range lines {
				all = append(all, br+" "+strings.TrimSpace(l))
			}
		}
	}
	return strings.Join(all, "\n")
}

func (p *provider) restarts() {
	for _, x := range []struct {
		guest, to, node string
		sig             syscall.Signal
	}{
		{"f1", "203.0.113.1", "cmp1", syscall.SIGTERM}, {"f1", "203.0.113.1", "cmp1", syscall.SIGKILL},
		{"f2", "203.0.113.1", "cmp2", syscall.SIGKILL}, {"b1", p.ip["b2"], "cmp2", syscall.SIGKILL}, {"k3", "10.50.0.1", "cmp3", syscall.SIGKILL},
	} {
		p.reaches(x.guest, x.to)
		before := p.physicalFlows(x.node)
		ping := p.steadily(x.guest, x.to)
		p.must(p.RestartAgent(p.ctx(), x.node, x.sig))
		ping.lossless(fmt.Sprintf("restart (%s) of the agent on %s", x.sig, x.node))
		if after := p.physicalFlows(x.node); after != before {
			p.t.Errorf("a restart changed the flows of %s:\nbefore\n%s\nafter\n%s", x.node, before, after)
		}
	}
}

func (p *provider) switchKilled() {
	for _, db := range []bool{false, true} {
		before := p.physicalFlows("cmp2")
		ping := p.steadily("f2", "203.0.113.1")
		p.must(p.KillSwitch(p.ctx(), "cmp2", db))
		p.must(p.StartSwitch(p.ctx(), "cmp2"))
		p.reaches("f2", "203.0.113.1")
		p.reaches("b2", "10.120.0.1")
		p.eventually("every flow is back", func() error {
			if after := p.physicalFlows("cmp2"); unnumbered(after) != unnumbered(before) {
				return fmt.Errorf("before\n%s\nafter\n%s", before, after)
			}
			return nil
		})
		p.t.Logf("switch killed (its database too: %t): %d packets lost", db, len(ping.stop("the kill")))
	}
}
