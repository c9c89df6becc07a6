package dhcp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"baryon/internal/agent"
	"baryon/internal/agent/metadata"
	"baryon/internal/dataplane/netns"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

const inner = "BARYON_DHCP_TEST_INNER"

// TestMain runs the tests, as root, in network and mount namespaces of their own with an empty /run/netns: the manager sweeps up whatever
// carries its mark, and must not find another agent's.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(inner) == "" {
		c := exec.Command("/proc/self/exe", os.Args[1:]...)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.Env = append(os.Environ(), inner+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if err := c.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	for _, f := range []func() error{
		func() error { return syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, "") },
		func() error { return os.MkdirAll(netns.Dir, 0o755) },
		func() error { return syscall.Mount("tmpfs", netns.Dir, "tmpfs", 0, "") },
	} {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "set up the tests' namespaces:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const (
	netID  = "459c374c-d347-4c3d-8dca-7dbb6b403f4f"
	portID = "e013286e-b7aa-4a7e-8d4e-111111111111"
)

func mac(last byte) nodestate.MAC { return nodestate.MAC{0xfa, 0x16, 0x3e, 0x45, 0, last} }

func testRecords() []nodestate.Record {
	ip := netip.MustParseAddr
	return []nodestate.Record{
		&nodestate.Network{ID: netID, Type: "vxlan", MTU: 1450, SegmentationID: 7},
		&nodestate.DHCP{NetworkID: netID, MTU: 1450, DNSDomain: "openstacklocal", Metadata: true, Subnets: []nodestate.DHCPSubnet{{
			ID: "s", CIDR: netip.MustParsePrefix("200.0.0.0/24"), Gateway: ip("200.0.0.1"), EnableDHCP: true, Servers: []netip.Addr{ip("200.0.0.2")},
		}}},
		&nodestate.Port{
			ID: portID, NetworkID: netID, MAC: mac(0xdc), AdminUp: true, DeviceOwner: DeviceOwner,
			Addresses: []nodestate.Address{{Prefix: netip.MustParsePrefix("200.0.0.2/24"), SubnetID: "s"}},
		},
		host("p1", 0x10, "200.0.0.16"),
		&nodestate.Port{ID: "vm", NetworkID: netID, MAC: mac(0x99), DeviceOwner: "compute:nova"}, // not ours to serve with
	}
}

func host(id string, last byte, addr string) *nodestate.DHCPHost {
	name := "host-" + strings.ReplaceAll(addr, ".", "-")
	return &nodestate.DHCPHost{
		PortID: id, NetworkID: netID, MAC: mac(last), Serve: true, Instance: nodestate.Instance{ID: "inst-" + id},
		Addresses: []nodestate.HostAddress{{SubnetID: "s", IP: netip.MustParseAddr(addr), Hostname: name, FQDN: name + ".openstacklocal"}},
	}
}

func TestWant(t *testing.T) {
	m := manager(t, t.TempDir(), time.Now)
	m.Update(nodestate.Update{Complete: true, Upserts: testRecords()})
	ports := m.Ports()
	want := []agent.InternalPort{{ID: portID, Name: "tape013286e-b7", MAC: mac(0xdc), MTU: 1450, Namespace: "qdhcp-" + netID}}
	if d := cmp.Diff(want, ports); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}
	s := m.wanted[netID]
	if got := fmt.Sprint(s.device.Addresses, s.device.Routes); got != "[200.0.0.2/24 169.254.169.254/32 fe80::a9fe:a9fe/128 fe80::f816:3eff:fe45:dc/64] [{0.0.0.0/0 200.0.0.1}]" {
		t.Errorf("device %s", got)
	}
	if n := s.config.Subnets[0]; n.Server != netip.MustParseAddr("200.0.0.2") || len(s.config.Hosts) != 2 {
		t.Errorf("server config %+v", s.config)
	}
	// Any order, and record by record, gives the same.
	other := manager(t, t.TempDir(), time.Now)
	list := testRecords()
	for i := len(list) - 1; i >= 0; i-- {
		other.Update(nodestate.Update{Upserts: list[i : i+1]})
	}
	if d := cmp.Diff(s.config, other.wanted[netID].config, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("another order (-first +second):\n%s", d)
	}
	// Each missing record is waited for by name.
	for _, k := range []nodestate.Key{nodestate.PortKey(portID), nodestate.DHCPKey(netID)} {
		other.Update(nodestate.Update{Deletes: []nodestate.Key{k}})
		if len(other.Ports()) != 0 || other.reason[netID] == nil {
			t.Errorf("without %s: %v", k, other.reason[netID])
		}
	}
	other.Update(nodestate.Update{Complete: true})
	if len(other.nets)+len(other.owner)+len(other.reason) != 0 {
		t.Errorf("something is left: %v %v", other.nets, other.owner)
	}
}

func TestBadNetworkID(t *testing.T) {
	m := manager(t, t.TempDir(), time.Now)
	m.Update(nodestate.Update{Complete: true, Upserts: []nodestate.Record{
		&nodestate.DHCP{NetworkID: "../../etc"}, &nodestate.Port{ID: "x", NetworkID: "../../etc", DeviceOwner: DeviceOwner},
	}})
	out := m.Apply(context.Background(), agent.Input{})
	if len(out.Statuses) != 1 || out.Statuses[0].State != nodestate.Failed || len(m.Ports()) != 0 {
		t.Errorf("outcome %+v", out)
	}
}

func TestParseResolvConf(t *testing.T) {
	got := parseResolvConf(strings.NewReader("# c\nnameserver 127.0.0.53\nsearch x\nnameserver fd00::1\nnameserver junk\nnameserver\n"))
	if fmt.Sprint(got) != "[127.0.0.53:53 [fd00::1]:53]" {
		t.Errorf("got %v", got)
	}
}

func manager(t *testing.T, dir string, now func() time.Time) *Manager {
	t.Helper()
	m, err := New(Config{StateDir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() }) //nolint:errcheck // closing twice is fine
	return m
}

// node plays the agent around the two managers.
type node struct {
	t     *testing.T
	dir   string
	skew  atomic.Int64 // nanoseconds that its clock is ahead
	dhcp  *Manager
	meta  *metadata.Manager
	ready map[string]bool
}

func (n *node) now() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }

func (n *node) start() {
	n.t.Helper()
	n.dhcp = manager(n.t, n.dir, n.now)
	var err error
	if n.meta, err = metadata.New(metadata.Config{}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) update(u nodestate.Update) {
	n.dhcp.Update(u)
	n.meta.Update(u)
}

func (n *node) apply(mayRemove bool) agent.Outcome {
	in := agent.Input{Ready: n.ready, MayRemove: mayRemove}
	out := n.dhcp.Apply(context.Background(), in)
	n.meta.Apply(context.Background(), in)
	return out
}

func (n *node) stop() {
	n.t.Helper()
	if err := n.meta.Close(); err != nil {
		n.t.Error(err)
	}
	if err := n.dhcp.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) ip(args ...string) string {
	n.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}

// device plays Open vSwitch: the device appears in the agent's namespace, its other end is the guest.
func (n *node) device() {
	n.t.Helper()
	g, err := netns.Open("guest")
	if err != nil {
		n.t.Fatal(err)
	}
	defer g.Close()
	m := mac(0x10)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = names.Tap(portID)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: m[:], PeerNamespace: netlink.NsFd(g.FD())}); err != nil {
		n.t.Fatal(err)
	}
	n.ip("-n", "guest", "link", "set", "eth0", "up")
}

// guest gets a lease by udhcpc and its instance id from metadata.
func (n *node) guest(wantIP, wantID string) {
	n.t.Helper()
	testkit.NeedTool(n.t, "udhcpc", "curl")
	hook := filepath.Join(n.t.TempDir(), "hook")
	if err := os.WriteFile(hook, []byte(`#!/bin/sh
[ "$1" = bound ] || exit 0
ip -4 address flush dev $interface
ip address add $ip/24 dev $interface
set -- $staticroutes
ip route replace $1 via $2
`), 0o755); err != nil {
		n.t.Fatal(err)
	}
	out := n.ip("netns", "exec", "guest", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-O", "121", "-s", hook)
	if !strings.Contains(out, wantIP+" obtained") {
		n.t.Fatalf("no lease of %s:\n%s", wantIP, out)
	}
	id := n.ip("netns", "exec", "guest", "curl", "-s", "-m", "10", "http://169.254.169.254/2009-04-04/meta-data/instance-id")
	if id != wantID {
		n.t.Fatalf("instance id %q, want %q", id, wantID)
	}
}

func states(out agent.Outcome) string {
	got := map[string]string{}
	for _, s := range out.Statuses {
		got[s.Key.String()] = string(s.State)
	}
	return fmt.Sprint(got)
}

// The whole life of a network's service: device late, guest, change, restart, a device made anew, removal.
func TestLife(t *testing.T) {
	testkit.NeedRoot(t)
	if err := netns.Ensure("guest"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Delete("guest") }) //nolint:errcheck // clean up
	n := &node{t: t, dir: t.TempDir(), ready: map[string]bool{}}
	space := names.DHCPNamespace(netID)
	leftover := names.DHCPNamespace("old")
	if err := netns.Ensure(leftover); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.update(nodestate.Update{Complete: true, Cached: true, Upserts: testRecords()})

	out := n.apply(false)
	if got := states(out); got != "map[dhcp-host/p1:pending dhcp/"+netID+":pending]" || len(out.Placed) != 0 {
		t.Fatalf("before the device: %s, placed %v", got, out.Placed)
	}
	n.device()
	n.ready[portID] = true
	out = n.apply(false)
	if got := states(out); got != "map[dhcp-host/p1:done dhcp/"+netID+":done]" || len(out.Placed) != 1 {
		t.Fatalf("with the device: %s, placed %v", got, out.Placed)
	}
	n.guest("200.0.0.16", "inst-p1")
	if ok, err := netns.Ours(leftover); err != nil || !ok {
		t.Errorf("removed before a confirmed state: %v %v", ok, err)
	}
	n.apply(true)
	if _, err := netns.Ours(leftover); err == nil {
		t.Error("the leftover is still there after a confirmed state")
	}

	// The port gets another address: the next request has it.
	changed := host("p1", 0x10, "200.0.0.17")
	changed.Instance.ID = "new"
	n.update(nodestate.Update{Upserts: []nodestate.Record{changed}})
	n.apply(true)
	n.guest("200.0.0.17", "new")

	// Restart: nothing changes in the kernel, and requests are answered after the first Apply.
	look := func() string {
		return n.ip("-n", space, "-d", "address") + n.ip("-n", space, "route", "show", "table", "all") + n.ip("-n", space, "-6", "route", "show", "table", "all")
	}
	before := look()
	n.stop()
	n.start()
	records := append(testRecords(), changed)
	n.update(nodestate.Update{Complete: true, Cached: true, Upserts: records})
	n.apply(false)
	if d := cmp.Diff(before, look()); d != "" {
		t.Errorf("a restart changed the kernel (-before +after):\n%s", d)
	}
	n.guest("200.0.0.17", "new")
	leases, err := os.ReadFile(filepath.Join(n.dir, "dhcp", netID, "leases"))
	if err != nil || !strings.Contains(string(leases), " fa:16:3e:45:00:dc 200.0.0.2 host-200-0-0-2 *\n") {
		t.Errorf("leases: %v\n%s", err, leases)
	}

	// Open vSwitch restarts: the device is made anew in the agent's namespace, the old one is a corpse in ours.
	n.ip("-n", "guest", "link", "set", "eth0", "down") // nobody at the other end
	if out := n.apply(true); out.Retry == 0 || !strings.Contains(states(out), "pending") {
		t.Errorf("without a carrier: %+v", out)
	}
	n.ip("-n", space, "link", "del", names.Tap(portID))
	if out := n.apply(true); out.Retry == 0 || len(out.Placed) != 0 {
		t.Errorf("without the device: %+v", out)
	}
	n.device()
	if out := n.apply(true); len(out.Placed) != 1 {
		t.Errorf("with the new device: %+v", out)
	}
	n.guest("200.0.0.17", "new")

	// Somebody deletes the namespace (and with it the device).
	n.ip("netns", "del", space)
	n.apply(true)
	for end := time.Now().Add(20 * time.Second); exec.Command("ip", "-n", "guest", "link", "show", "eth0").Run() == nil; {
		if time.Now().After(end) {
			t.Fatal("the deleted namespace lives on: somebody holds it")
		}
		time.Sleep(5 * time.Millisecond) // the kernel takes it down in the background
	}
	n.device()
	n.apply(true)
	n.apply(true)
	n.guest("200.0.0.17", "new")

	// The network goes.
	n.update(nodestate.Update{Deletes: []nodestate.Key{
		nodestate.DHCPKey(netID), nodestate.PortKey(portID), nodestate.DHCPHostKey("p1"), nodestate.NetworkKey(netID),
	}})
	if len(n.dhcp.Ports()) != 0 {
		t.Error("the device is still wanted")
	}
	if out := n.apply(true); out.Retry == 0 {
		t.Error("the namespace does not wait for its device to be taken away")
	}
	n.skew.Store(int64(time.Minute))
	n.apply(true)
	if _, err := netns.Open(space); err == nil {
		t.Error("the namespace is still there")
	}
	if _, err := os.Stat(filepath.Join(n.dir, "dhcp", netID)); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	n.stop()
}
