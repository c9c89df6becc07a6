package dhcpd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"baryon/internal/dataplane/netns"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/testkit"
)

// world is a server's namespace and a guest's, joined by a veth pair.
type world struct {
	t             testing.TB
	server, guest string
	ns            *netns.NS
	serverMAC     net.HardwareAddr
	guestMAC      net.HardwareAddr
	dir           string
}

func newWorld(t testing.TB, addresses ...string) *world {
	testkit.NeedRoot(t)
	tag := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	w := &world{
		t: t, server: "bt-srv-" + tag, guest: "bt-gst-" + tag, dir: t.TempDir(),
		serverMAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0x45, 0x00, 0xdc}, guestMAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0x17, 0x60, 0xc2},
	}
	for _, n := range []string{w.server, w.guest} {
		must(t, netns.Ensure(n))
		t.Cleanup(func() { must(t, netns.Delete(n)) })
	}
	var err error
	w.ns, err = netns.Open(w.server)
	must(t, err)
	t.Cleanup(w.ns.Close)
	h, err := w.ns.Handle()
	must(t, err)
	defer h.Close()
	g, err := netns.Open(w.guest)
	must(t, err)
	defer g.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "tap0", w.serverMAC
	must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: w.guestMAC, PeerNamespace: netlink.NsFd(g.FD())}))
	for name, dev := range map[string]rtnl.Device{
		w.server: {Name: "tap0", MTU: 1450, Addresses: prefixes(append(addresses, "169.254.169.254/32", "fe80::a9fe:a9fe/128")...), Sysctls: map[string]string{"ipv6/conf/tap0/accept_dad": "0"}},
		w.guest:  {Name: "eth0", MTU: 1450, Addresses: prefixes("fe80::f816:3eff:fe17:60c2/64"), Sysctls: map[string]string{"ipv6/conf/eth0/accept_dad": "0", "ipv6/conf/eth0/accept_ra": "0"}},
	} {
		d, err := rtnl.Open(name)
		must(t, err)
		_, err = d.Sync(context.Background(), dev)
		must(t, err)
		d.Close()
	}
	awaitUp(t, h, "tap0")
	gh, err := g.Handle()
	must(t, err)
	defer gh.Close()
	awaitUp(t, gh, "eth0")
	return w
}

// awaitUp waits until the kernel sends through the device: until it has noticed that the other end is there, it drops what is sent.
func awaitUp(t testing.TB, h *netlink.Handle, name string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		l, err := h.LinkByName(name)
		must(t, err)
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is %s", name, l.Attrs().OperState)
		}
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) start(cfg *Config) *Server {
	s, err := Start(Options{NS: w.ns, Device: "tap0", MAC: MAC(w.serverMAC), Dir: filepath.Join(w.dir, "net")}, cfg)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, s.Close()) })
	return s
}

// run runs a command in the guest's namespace and gives its output.
func (w *world) run(argv ...string) string {
	w.t.Helper()
	out, err := w.try(argv...)
	if err != nil {
		w.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return out
}

func (w *world) try(argv ...string) (string, error) {
	testkit.NeedTool(w.t, argv[0])
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", w.guest}, argv...)...)
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	return b.String(), err
}

// script is a client's hook that prints its environment when it has an address.
func (w *world) script() string {
	path := filepath.Join(w.dir, "hook")
	must(w.t, os.WriteFile(path, []byte(`#!/bin/sh
case "$1$reason" in
*REINIT*|deconfig*) ip link set "$interface" up;;
*) { echo "event=$1$reason"; env; } > `+w.dir+`/env.new; mv `+w.dir+`/env.new `+w.dir+`/env;;
esac
exit 0
`), 0o755))
	return path
}

func (w *world) env() map[string]string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "env"))
	must(w.t, err)
	out := map[string]string{}
	for _, l := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(l, "="); ok {
			out[k] = v
		}
	}
	return out
}

func (w *world) udhcpc(more ...string) string {
	w.t.Helper()
	args := append([]string{"udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-s", w.script()}, more...)
	return w.run(args...)
}

func (w *world) dhclient(more ...string) string {
	w.t.Helper()
	conf := filepath.Join(w.dir, "dhclient.conf")
	must(w.t, os.WriteFile(conf, []byte(`option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name, interface-mtu, rfc3442-classless-static-routes,
  dhcp6.name-servers, dhcp6.domain-search, dhcp6.bootfile-url;
timeout 20;
`), 0o644))
	args := append([]string{
		"dhclient", "-v", "-1", "-cf", conf, "-lf", filepath.Join(w.dir, "dhclient.leases"), "-pf", filepath.Join(w.dir, "dhclient.pid"),
		"-sf", w.script(),
	}, more...)
	out := w.run(args...)
	w.t.Cleanup(func() { w.try(append(args[:len(args):len(args)], "-x")...) }) //nolint:errcheck // it may have ended
	return out
}

func (w *world) waitFile(name string, want func(string) bool) string {
	w.t.Helper()
	path := filepath.Join(w.dir, "net", name)
	end := time.Now().Add(20 * time.Second)
	for {
		b, _ := os.ReadFile(path)
		if want(string(b)) {
			return string(b)
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s did not become as wanted:\n%s", name, b)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func v4Config(w *world) *Config {
	return &Config{
		NetworkID: "net", MTU: 1450, Domain: "openstacklocal", Metadata: true,
		Subnets: []Subnet{{
			ID: "sub4", CIDR: netip.MustParsePrefix("200.0.0.0/24"), Server: netip.MustParseAddr("200.0.0.2"),
			Servers: []netip.Addr{netip.MustParseAddr("200.0.0.2")}, Gateway: netip.MustParseAddr("200.0.0.1"), EnableDHCP: true,
		}},
		Hosts: []Host{
			{PortID: "p1", MAC: MAC(w.guestMAC), Serve: true, Addresses: []HostAddress{
				{SubnetID: "sub4", IP: netip.MustParseAddr("200.0.0.16"), Hostname: "host-200-0-0-16", FQDN: "host-200-0-0-16.openstacklocal"},
			}},
			{PortID: "p2", MAC: MAC{0xfa, 0x16, 0x3e, 0x53, 0xd5, 0x50}, Serve: true, Addresses: []HostAddress{
				{SubnetID: "sub4", IP: netip.MustParseAddr("200.0.0.224"), Hostname: "host-200-0-0-224", FQDN: "host-200-0-0-224.openstacklocal"},
			}},
			{PortID: "own", MAC: MAC(w.serverMAC), Server: true, Addresses: []HostAddress{
				{SubnetID: "sub4", IP: netip.MustParseAddr("200.0.0.2"), Hostname: "host-200-0-0-2", FQDN: "host-200-0-0-2"},
			}},
		},
	}
}

func TestUdhcpc(t *testing.T) {
	w := newWorld(t, "200.0.0.2/24")
	s := w.start(v4Config(w))
	out := w.udhcpc("-O", "121", "-O", "26", "-x", "hostname:guest")
	if !strings.Contains(out, "200.0.0.16 obtained") {
		t.Fatalf("no lease:\n%s", out)
	}
	env := w.env()
	for k, v := range map[string]string{
		"ip": "200.0.0.16", "subnet": "255.255.255.0", "router": "200.0.0.1", "dns": "200.0.0.2", "domain": "openstacklocal",
		"hostname": "host-200-0-0-16", "mtu": "1450", "lease": "86400", "serverid": "200.0.0.2", "broadcast": "200.0.0.255",
		"staticroutes": "169.254.169.254/32 200.0.0.2 0.0.0.0/0 200.0.0.1",
	} {
		if env[k] != v {
			t.Errorf("%s = %q, want %q", k, env[k], v)
		}
	}
	leases := w.waitFile("leases", func(s string) bool { return strings.Contains(s, "01:fa:16:3e:17:60:c2") })
	want := regexp.MustCompile(`^\d{10} fa:16:3e:17:60:c2 200\.0\.0\.16 host-200-0-0-16 01:fa:16:3e:17:60:c2
\d{10} fa:16:3e:53:d5:50 200\.0\.0\.224 host-200-0-0-224 \*
\d{10} fa:16:3e:45:00:dc 200\.0\.0\.2 host-200-0-0-2 \*
$`)
	if !want.MatchString(leases) {
		t.Errorf("leases:\n%s", leases)
	}
	// A restart keeps what it knew, and answers from the start.
	must(t, s.Close())
	w.start(v4Config(w))
	w.udhcpc()
	if again := w.waitFile("leases", want.MatchString); !want.MatchString(again) {
		t.Errorf("leases after restart:\n%s", again)
	}
}

func TestDhclient4(t *testing.T) {
	w := newWorld(t, "200.0.0.2/24")
	w.start(v4Config(w))
	out := w.dhclient("-4", "eth0")
	if !strings.Contains(out, "bound to 200.0.0.16") {
		t.Fatalf("not bound:\n%s", out)
	}
	env := w.env()
	for k, v := range map[string]string{
		"new_ip_address": "200.0.0.16", "new_interface_mtu": "1450", "new_domain_name_servers": "200.0.0.2",
		"new_rfc3442_classless_static_routes": "32 169 254 169 254 200 0 0 2 0 200 0 0 1",
	} {
		if env[k] != v {
			t.Errorf("%s = %q, want %q", k, env[k], v)
		}
	}
}

func v6Config(w *world, ra, address string) *Config {
	guest := netip.MustParseAddr("fd00:a::10")
	if address != Stateful {
		guest = netip.MustParseAddr("fd00:a::f816:3eff:fe17:60c2")
	}
	return &Config{
		NetworkID: "net", MTU: 1450, Domain: "openstacklocal", Metadata: true,
		Subnets: []Subnet{{
			ID: "sub6", CIDR: netip.MustParsePrefix("fd00:a::/64"), Server: netip.MustParseAddr("fd00:a::2"), EnableDHCP: true,
			RAMode: ra, AddressMode: address, Nameservers: []netip.Addr{netip.MustParseAddr("fd00:a::53")},
		}},
		Hosts: []Host{{
			PortID: "p1", MAC: MAC(w.guestMAC), Serve: true,
			Addresses: []HostAddress{{SubnetID: "sub6", IP: guest, Hostname: "g6", FQDN: "g6.openstacklocal"}},
			Options:   []Option{{"bootfile-url", "tftp://[fd00:a::2]/x", 6}},
		}},
	}
}

func TestDhclient6(t *testing.T) {
	w := newWorld(t, "fd00:a::2/64")
	s := w.start(v6Config(w, Stateful, Stateful))
	w.dhclient("-6", "eth0")
	env := w.env()
	for k, v := range map[string]string{
		"new_ip6_address": "fd00:a::10", "new_dhcp6_name_servers": "fd00:a::53", "new_dhcp6_domain_search": "openstacklocal.",
		"new_max_life": "86400", "new_dhcp6_bootfile_url": "tftp://[fd00:a::2]/x",
	} {
		if env[k] != v {
			t.Errorf("%s = %q, want %q; %s", k, env[k], v, s.Stats())
		}
	}
	leases := w.waitFile("leases", func(s string) bool { return strings.Contains(s, "fd00:a::10") })
	if !regexp.MustCompile(`^duid 00:03:00:01:fa:16:3e:45:00:dc\n\d{10} \d+ fd00:a::10 g6 [0-9a-f:]+\n$`).MatchString(leases) {
		t.Errorf("leases:\n%s", leases)
	}
}

func TestDhclient6Stateless(t *testing.T) {
	w := newWorld(t, "fd00:a::2/64")
	s := w.start(v6Config(w, Stateless, Stateless))
	w.dhclient("-6", "-S", "eth0")
	env := w.env()
	if env["new_dhcp6_name_servers"] != "fd00:a::53" || env["new_ip6_address"] != "" {
		t.Errorf("name servers %q, address %q; %s", env["new_dhcp6_name_servers"], env["new_ip6_address"], s.Stats())
	}
}

// The guest's kernel takes its address by SLAAC, its MTU, and no default route.
func TestKernelSLAAC(t *testing.T) {
	w := newWorld(t, "fd00:a::2/64")
	w.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=2", "net.ipv6.conf.eth0.router_solicitation_delay=0",
		"net.ipv6.conf.eth0.accept_ra_rt_info_max_plen=128", "net.ipv6.conf.eth0.addr_gen_mode=0")
	cfg := v6Config(w, SLAAC, SLAAC)
	cfg.MTU = 1400
	s := w.start(cfg)
	// The kernel solicits when the link comes up.
	w.run("ip", "link", "set", "eth0", "down")
	w.run("ip", "link", "set", "eth0", "up")
	end := time.Now().Add(20 * time.Second)
	for {
		out := w.run("ip", "-6", "address", "show", "dev", "eth0", "scope", "global")
		if strings.Contains(out, "fd00:a::f816:3eff:fe17:60c2/64") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no address: %s; %s", out, s.Stats())
		}
		time.Sleep(10 * time.Millisecond)
	}
	routes := w.run("ip", "-6", "route", "show", "dev", "eth0")
	if strings.Contains(routes, "default") {
		t.Errorf("a default route was taken:\n%s", routes)
	}
	if !strings.Contains(routes, "fe80::a9fe:a9fe via fe80::f816:3eff:fe45:dc") {
		t.Errorf("no route to metadata:\n%s", routes)
	}
	if mtu := strings.TrimSpace(w.run("cat", "/proc/sys/net/ipv6/conf/eth0/mtu")); mtu != "1400" {
		t.Errorf("IPv6 mtu %s, want 1400", mtu)
	}
	// The prefix is taken back when the subnet goes: addresses become deprecated.
	s.Apply(&Config{NetworkID: "net", Hosts: cfg.Hosts})
	end = time.Now().Add(20 * time.Second)
	for !strings.Contains(w.run("ip", "-6", "address", "show", "dev", "eth0", "scope", "global"), "deprecated") {
		if time.Now().After(end) {
			t.Fatal("the address is still preferred")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestDig(t *testing.T) {
	w := newWorld(t, "200.0.0.2/24", "fd00:a::2/64")
	upstream := fakeUpstream(t)
	cfg := v4Config(w)
	cfg.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), upstream}
	s := w.start(cfg)
	w.run("ip", "address", "add", "200.0.0.16/24", "dev", "eth0")
	w.run("ip", "address", "add", "fd00:a::10/64", "dev", "eth0", "nodad")
	w.run("ip", "route", "add", "169.254.169.254", "dev", "eth0")
	dig := func(args ...string) string {
		return strings.TrimSpace(w.run(append([]string{"dig", "+short", "+tries=2", "+time=5"}, args...)...))
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"@200.0.0.2 host-200-0-0-224.openstacklocal A", "200.0.0.224"},
		{"@200.0.0.2 HOST-200-0-0-224 A", "200.0.0.224"},
		{"@200.0.0.2 +tcp host-200-0-0-224.openstacklocal A", "200.0.0.224"},
		{"@169.254.169.254 host-200-0-0-224.openstacklocal A", "200.0.0.224"},
		{"@fe80::a9fe:a9fe%eth0 host-200-0-0-224.openstacklocal A", "200.0.0.224"},
		{"@200.0.0.2 -x 200.0.0.224", "host-200-0-0-224.openstacklocal."},
		{"@200.0.0.2 www.example.com A", "192.0.2.7"},
		{"@200.0.0.2 +tcp www.example.com A", "192.0.2.7"},
	} {
		if got := dig(strings.Fields(c.args)...); got != c.want {
			t.Errorf("dig %s = %q, want %q; %s", c.args, got, c.want, s.Stats())
		}
	}
	for q, code := range map[string]string{
		"nobody.openstacklocal": "NXDOMAIN", "nobody": "NXDOMAIN", "9.0.0.200.in-addr.arpa": "NXDOMAIN",
	} {
		if out := w.run("dig", "@200.0.0.2", q); !strings.Contains(out, "status: "+code) {
			t.Errorf("%s: want %s:\n%s", q, code, out)
		}
	}
	if out := w.run("dig", "@200.0.0.2", "+norecurse", "www.example.com"); !strings.Contains(out, "status: REFUSED") {
		t.Errorf("a question without recursion was forwarded:\n%s", out)
	}
}

// fakeUpstream answers every A question with 192.0.2.7, in the test's own namespace.
func fakeUpstream(t *testing.T) netip.AddrPort {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	l, err := net.Listen("tcp4", pc.LocalAddr().String())
	must(t, err)
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		r.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 7),
		}}
		w.WriteMsg(r) //nolint:errcheck // a test
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go s.ActivateAndServe() //nolint:errcheck // ends with the test
		<-up
		t.Cleanup(func() { s.Shutdown() }) //nolint:errcheck // a test
	}
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}
