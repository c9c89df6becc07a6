package e2e

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/lab"
	"baryon/internal/names"
	"baryon/internal/testkit"
)

// TestKernelDatapath: a lab whose nodes forward in the kernel.  It needs the module openvswitch; BARYON_DATAPATH=system makes its
// absence a failure, as `make e2e-kernel` does in a virtual machine that has it.
func TestKernelDatapath(t *testing.T) {
	testkit.NeedRoot(t)
	if ovsdb.DetectDatapath(t.Context()) != lab.DatapathKernel {
		if os.Getenv("BARYON_DATAPATH") == lab.DatapathKernel {
			t.Fatal("this kernel has no module openvswitch")
		}
		t.Skip("this kernel has no module openvswitch; make e2e-kernel runs this test in a virtual machine")
	}
	w := ownLab(t, "dp", lab.Topology{Nodes: []lab.Node{
		{Name: "ctl", Roles: []string{"network"}},
		{Name: "cmp1", Roles: []string{"compute"}, Plug: lab.PlugHybrid},
		{Name: "cmp2", Roles: []string{"compute"}},
	}}, 1)
	if w.Datapath() != lab.DatapathKernel {
		t.Fatalf("the lab chose %s by itself", w.Datapath())
	}
	d := &datapathWorld{world: w, ip: map[string]string{}}
	step := func(name string, f func(d *datapathWorld)) {
		if !t.Failed() {
			t.Run(name, func(t *testing.T) { f(&datapathWorld{world: newWorld(t, w.Lab), ip: d.ip}) })
		}
	}
	// Both networks have the same addresses: whatever leaks from one into the other is answered by nobody, or seen by the wrong one.
	for name, typ := range map[string]string{"red": "vxlan", "blue": "gre"} {
		w.network(lab.Network{Name: name, Type: typ, Subnets: []lab.Subnet{{CIDR: "172.16.1.0/24"}}})
	}
	step("guests get leases", (*datapathWorld).plugAll)
	step("devices", (*datapathWorld).devices)
	step("reach", (*datapathWorld).reach)
	step("full size", (*datapathWorld).fullSize)
	step("metadata", (*datapathWorld).metadata)
	step("checksums are filled in", (*datapathWorld).bulk)
	step("the kernel forwards", (*datapathWorld).hits)
	step("twins", (*datapathWorld).twins)
	for _, node := range []string{"cmp1", "cmp2"} {
		step("agent of "+node+" killed", func(d *datapathWorld) { d.agentDies(node) })
	}
	step("switch killed", func(d *datapathWorld) { d.switchDies("cmp1", "r1", d.ip["r3"]) })
	step("switch and database killed", func(d *datapathWorld) {
		w.must(d.KillSwitch(d.ctx(), "cmp2", true))
		w.must(d.StartSwitch(d.ctx(), "cmp2"))
		d.reaches("r1", d.ip["r3"])
		d.reaches("b1", d.ip["b3"])
		d.must(d.WaitSync(d.ctx(), "cmp2"))
	})
	step("switch of the DHCP node killed", func(d *datapathWorld) {
		d.must(d.KillSwitch(d.ctx(), "ctl", false))
		d.must(d.StartSwitch(d.ctx(), "ctl"))
		late := lab.Guest{Name: "late", Node: "cmp2", Network: "red"}
		_, err := d.AddGuest(d.ctx(), late) // removed with the others
		d.must(err)
		_, err = d.WaitLease(d.ctx(), late.Name)
		d.must(err)
	})
	step("nothing is left", (*datapathWorld).leave)
}

type datapathWorld struct {
	*world
	ip map[string]string // guest -> address
}

// datapathGuests are the guests; the last digit is the place: 1 and 2 on cmp1, 3 on cmp2.
var datapathGuests = []lab.Guest{
	{Name: "r1", Node: "cmp1", Network: "red", Plug: lab.PlugHybrid, FixedIP: "172.16.1.11"},
	{Name: "r2", Node: "cmp1", Network: "red", Plug: lab.PlugDirect, FixedIP: "172.16.1.12"},
	{Name: "r3", Node: "cmp2", Network: "red", Plug: lab.PlugDirect, FixedIP: "172.16.1.13"},
	{Name: "b1", Node: "cmp1", Network: "blue", Plug: lab.PlugDirect, FixedIP: "172.16.1.11"},
	{Name: "b3", Node: "cmp2", Network: "blue", Plug: lab.PlugHybrid, FixedIP: "172.16.1.13"},
}

// plugAll plugs all guests and then waits for their leases; they are removed by the last step.
func (d *datapathWorld) plugAll() {
	for _, g := range datapathGuests {
		_, err := d.AddGuest(d.ctx(), g)
		d.must(err)
	}
	for _, g := range datapathGuests {
		d.must(d.WaitActive(d.ctx(), g.Name))
		ip, err := d.WaitLease(d.ctx(), g.Name)
		d.must(err)
		if ip != g.FixedIP {
			d.t.Errorf("%s got %s, its port has %s", g.Name, ip, g.FixedIP)
		}
		d.ip[g.Name] = ip
	}
}

// devices: the bridges are the kernel's, tunnels are the kernel's devices, and no userspace underlay is made.
func (d *datapathWorld) devices() {
	for _, n := range d.Nodes() {
		for _, br := range []string{"br-int", "br-tun"} {
			out, err := d.Run(d.ctx(), n.Name, "ovs-vsctl", "get", "Bridge", br, "datapath_type")
			d.must(err)
			if strings.TrimSpace(out) != "system" {
				d.t.Errorf("%s: %s has datapath_type %s", n.Name, br, out)
			}
		}
		links, err := d.Run(d.ctx(), n.Name, "ip", "-o", "link")
		d.must(err)
		for _, want := range []string{" ovs-system: ", " br-int: ", " br-tun: ", " vxlan_sys_4789: ", " gre_sys@"} {
			if !strings.Contains(links, want) {
				d.t.Errorf("%s has no device%s:\n%s", n.Name, want, links)
			}
		}
		if strings.Contains(links, "br-phy") {
			d.t.Errorf("%s has a br-phy:\n%s", n.Name, links)
		}
		addr, err := d.Run(d.ctx(), n.Name, "ip", "-4", "-o", "address", "show", "dev", "eth1")
		d.must(err)
		if !strings.Contains(addr, "192.168.20.") {
			d.t.Errorf("%s: the tunnel address is not on eth1: %q", n.Name, addr)
		}
		ports, err := d.Run(d.ctx(), n.Name, "ovs-vsctl", "-f", "csv", "--no-headings", "--columns=name,error,ofport", "list", "Interface")
		d.must(err)
		for line := range strings.Lines(ports) {
			if !strings.Contains(line, ",[],") || strings.Contains(line, ",-1") {
				d.t.Errorf("%s: port in error: %s", n.Name, line)
			}
		}
	}
	for guest, mtu := range map[string]string{"r1": "1450", "r3": "1450", "b1": "1458", "b3": "1458"} {
		out, err := d.GuestRun(d.ctx(), guest, "cat", "/sys/class/net/eth0/mtu")
		d.must(err)
		if strings.TrimSpace(out) != mtu {
			d.t.Errorf("%s has MTU %s, its network %s", guest, out, mtu)
		}
	}
	for _, n := range []struct{ network, mtu string }{{"red", "1450"}, {"blue", "1458"}} {
		id := d.networkID(n.network)
		out, err := d.Run(d.ctx(), "ctl", "ip", "netns", "exec", names.DHCPNamespace(id), "ip", "-o", "link")
		d.must(err)
		if !regexp.MustCompile(`(?m)^\d+: tap\S+: .*mtu ` + n.mtu + ` `).MatchString(out) {
			d.t.Errorf("the DHCP device of %s has another MTU than %s:\n%s", n.network, n.mtu, out)
		}
	}
}

func (d *datapathWorld) reach() {
	for _, from := range datapathGuests {
		for _, to := range datapathGuests {
			if from.Name != to.Name && from.Network == to.Network {
				d.reaches(from.Name, d.ip[to.Name])
			}
		}
	}
	d.reaches("r3", d.dhcpAddress(d.networkID("red"), "172.16."))
	d.reaches("b1", d.dhcpAddress(d.networkID("blue"), "172.16."))
}

// fullSize: a packet of exactly the network's MTU crosses the underlay in one piece, one byte more does not leave the guest.
func (d *datapathWorld) fullSize() {
	for _, p := range []struct {
		from, to string
		mtu      int
	}{{"r1", "r3", 1450}, {"r3", "r2", 1450}, {"b1", "b3", 1458}} {
		payload := p.mtu - 28 // IPv4 and ICMP headers
		if _, err := d.GuestRun(d.ctx(), p.from, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", "-M", "do", "-s", strconv.Itoa(payload), d.ip[p.to]); err != nil {
			d.t.Errorf("a packet of %d bytes: %v", p.mtu, err)
		}
		if _, err := d.GuestRun(d.ctx(), p.from, "ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", strconv.Itoa(payload+1), d.ip[p.to]); err == nil {
			d.t.Errorf("a packet of %d bytes leaves %s", p.mtu+1, p.from)
		}
	}
}

func (d *datapathWorld) metadata() {
	for _, g := range []string{"r1", "r3", "b1", "b3"} {
		out, err := d.GuestRun(d.ctx(), g, "curl", "-sS", "--fail", "--retry", "5", "--retry-all-errors", "--retry-delay", "1", "-m", "10",
			"http://169.254.169.254/openstack/latest/meta_data.json")
		d.must(err)
		if !strings.Contains(out, `"name": "`+g+`"`) && !strings.Contains(out, `"name":"`+g+`"`) {
			d.t.Errorf("%s reads of itself %s", g, out)
		}
	}
}

// bulk: guests keep their checksum offload, and what they send in bulk over TCP arrives as it was, through every kind of path.
func (d *datapathWorld) bulk() {
	for _, p := range [][2]string{{"r1", "r2"}, {"r1", "r3"}, {"r3", "r1"}, {"b1", "b3"}, {"b3", "b1"}} {
		from, to := p[0], p[1]
		out, err := d.GuestRun(d.ctx(), from, "ethtool", "-k", "eth0")
		d.must(err)
		if !strings.Contains(out, "\ntx-checksumming: on\n") {
			d.t.Errorf("%s has no transmit checksum offload:\n%s", from, out)
		}
		if sent, got := d.transfer(from, to); got != sent {
			d.t.Errorf("from %s to %s: sent %s, got %s", from, to, sent, got)
		}
	}
}

// transfer moves some megabytes over HTTP; it returns their digests at both ends.
func (d *datapathWorld) transfer(from, to string) (sent, got string) {
	d.t.Helper()
	const script = "mkdir -p /run/bulk && cd /run/bulk && head -c 4000000 /dev/urandom >file && sha256sum file && echo $$ && exec busybox httpd -f -p 5001"
	cmd, err := d.GuestCommand(d.ctx(), from, "sh", "-c", script)
	d.must(err)
	pipe, err := cmd.StdoutPipe()
	d.must(err)
	d.must(cmd.Start())
	lines := bufio.NewScanner(pipe)
	line := func() string {
		if !lines.Scan() {
			d.t.Fatalf("%s serves nothing", from)
		}
		return lines.Text()
	}
	sent, _, _ = strings.Cut(line(), " ")
	pid := line()
	out, err := d.GuestRun(d.ctx(), to, "sh", "-c",
		"curl -sS --fail --retry 20 --retry-connrefused --retry-delay 1 -m 50 http://"+d.ip[from]+":5001/file | sha256sum")
	if err != nil {
		d.t.Error(err)
	}
	_, err = d.GuestRun(d.ctx(), from, "kill", pid)
	d.must(err)
	_ = cmd.Wait() // ended by the signal
	got, _, _ = strings.Cut(out, " ")
	return sent, got
}

var lookups = regexp.MustCompile(`lookups: hit:(\d+) missed:(\d+)`)

// hits: the kernel's flow table answered for most packets; ovs-vswitchd saw only the first of each flow.
func (d *datapathWorld) hits() {
	for _, node := range []string{"cmp1", "cmp2"} {
		out, err := d.Run(d.ctx(), node, "ovs-dpctl", "show", "ovs-system")
		d.must(err)
		m := lookups.FindStringSubmatch(out)
		if m == nil {
			d.t.Fatalf("%s: no counters in\n%s", node, out)
		}
		hit, _ := strconv.Atoi(m[1])    //nolint:errcheck // digits by the expression
		missed, _ := strconv.Atoi(m[2]) //nolint:errcheck // digits by the expression
		if hit < 200 || 3*missed > hit {
			d.t.Errorf("%s: %d lookups hit, %d missed", node, hit, missed)
		}
	}
}

// twins: networks with the same addresses; what one sends is never seen in the other.
func (d *datapathWorld) twins() {
	for i, sender := range []string{"r1", "b1"} {
		receiver, other := []string{"r3", "b3"}[i], []string{"b3", "r3"}[i]
		hit, miss := d.capture(receiver), d.capture(other)
		if _, err := d.GuestRun(d.ctx(), sender, "ping", "-n", "-c", "10", "-i", "0.1", "-W", "5", "172.16.1.13"); err != nil {
			d.t.Errorf("%s does not reach %s: %v", sender, receiver, err)
		}
		hit.await(10)
		if n := hit.stop(); n != 10 {
			d.t.Errorf("%s saw %d of 10 pings", receiver, n)
		}
		if n := miss.stop(); n != 0 {
			d.t.Errorf("%s saw %d pings of its twin", other, n)
		}
	}
}

// agentDies: an agent that is killed and comes back changes no flow and loses no packet of either network.
func (d *datapathWorld) agentDies(node string) {
	d.t.Helper()
	before := d.flows(node)
	red, blue := d.steadily("r1", d.ip["r3"]), d.steadily("b1", d.ip["b3"])
	d.must(d.RestartAgent(d.ctx(), node, syscall.SIGKILL))
	red.lossless("agent of " + node + " killed, VXLAN")
	blue.lossless("agent of " + node + " killed, GRE")
	if after := d.flows(node); after != before {
		d.t.Errorf("the restart changed the flows: before\n%s\nafter\n%s", before, after)
	}
}

// tunnelDevice is a line of a device that Open vSwitch makes anew whenever it starts.
var tunnelDevice = regexp.MustCompile(`(?m)^\d+: (vxlan|gre)_sys.*\n`)

// switchDies: without ovs-vswitchd flows that the kernel knows go on, and the devices stay; the next one finds everything as it was.
func (d *datapathWorld) switchDies(node, from, to string) {
	d.t.Helper()
	devices := func() string {
		out, err := d.Run(d.ctx(), node, "sh", "-c", `ip -o link | sed 's/<.*//'; for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -o link | sed 's/<.*//'; done`)
		d.must(err)
		return tunnelDevice.ReplaceAllString(out, "")
	}
	flows, links := d.flows(node), devices()
	ping := d.steadily(from, to)
	d.must(d.KillSwitch(d.ctx(), node, false))
	ping.more(30)
	ping.lossless("ovs-vswitchd of " + node + " gone")
	d.must(d.StartSwitch(d.ctx(), node))
	d.eventually("every flow is back", func() error {
		if after := d.flows(node); unnumbered(after) != unnumbered(flows) {
			return fmt.Errorf("before\n%s\nafter\n%s", flows, after)
		}
		return nil
	})
	d.reaches(from, to)
	d.must(d.WaitSync(d.ctx(), node))
	if after := devices(); after != links {
		d.t.Errorf("%s has other devices after its switch died: before\n%s\nafter\n%s", node, links, after)
	}
}

// leave: with guests and networks gone, so are their devices, ports and namespaces.
func (d *datapathWorld) leave() {
	guests := d.Guests()
	removed := make(chan error, len(guests))
	for _, g := range guests {
		go func() { removed <- d.RemoveGuest(d.t.Context(), g.Name) }()
	}
	for range guests {
		d.must(<-removed)
	}
	for _, n := range []string{"red", "blue"} {
		d.deleteNetwork(d.networkID(n))
	}
	for _, n := range d.Nodes() {
		d.eventually(n.Name+" is clean", func() error {
			out, err := d.Run(d.ctx(), n.Name, "sh", "-c", "ip -o link; ip netns list; ovs-vsctl list-ports br-int")
			if err != nil {
				return err
			}
			if m := regexp.MustCompile(`\b(tap|qbr|qvo|qvb|qdhcp-)[0-9a-f]`).FindString(out); m != "" {
				return fmt.Errorf("%s… is left:\n%s", m, out)
			}
			return nil
		})
	}
}
