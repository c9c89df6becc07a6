package hybrid

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baryon/internal/dataplane/netfilter"
	"baryon/internal/dataplane/netns"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

// inside runs the test in a network and mount namespace of its own: iptables works on the namespace of its process, and the tests
// must not touch the host's.  It reports true in there.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv("BARYON_INSIDE") != "" {
		return true
	}
	testkit.NeedRoot(t)
	testkit.NeedTool(t, "iptables-restore", "ip6tables-restore", "ip", "unshare")
	cmd := exec.Command("unshare", "--net", "--mount", "--propagation", "private", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "BARYON_INSIDE=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("in namespaces of its own: %v", err)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatal("the test did not run in there")
	}
	return false
}

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("bash", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// Guests a and b are plugged hybrid, c is somewhere else in the network; a Linux bridge stands for br-int.
const (
	portA = "aaaaaaaa-1111-4222-8333-444444444444"
	portB = "bbbbbbbb-1111-4222-8333-444444444444"
)

func topology(t *testing.T) {
	t.Helper()
	sh(t, `mount -t tmpfs none /run; mkdir -p /run/netns; mount -t sysfs none /sys 2>/dev/null || true
		ip link set lo up; ip link add far type bridge; ip link set far up`)
	for i, id := range []string{portA, portB} {
		guest := string("ab"[i])
		sh(t, fmt.Sprintf(`ip netns add %[1]s
			ip link add %[2]s type veth peer name eth0 address 02:00:00:00:00:0%[6]d netns %[1]s
			ip link add %[3]s type bridge ageing_time 0; ip link add %[4]s type veth peer name %[5]s
			for d in %[2]s %[3]s %[4]s %[5]s; do echo 1 > /proc/sys/net/ipv6/conf/$d/disable_ipv6; done
			ip link set %[2]s master %[3]s; ip link set %[4]s master %[3]s; ip link set %[5]s master far
			for d in %[2]s %[3]s %[4]s %[5]s; do ip link set $d up; done`,
			guest, names.Tap(id), names.Qbr(id), names.Qvb(id), names.Qvo(id), i+1))
	}
	sh(t, `ip netns add c; ip link add outc type veth peer name eth0 address 02:00:00:00:00:03 netns c; ip link set outc master far; ip link set outc up`)
	for i, guest := range []string{"a", "b", "c"} {
		sh(t, fmt.Sprintf(`ip netns exec %[1]s sysctl -qw net.ipv6.conf.all.dad_transmits=0 net.ipv6.conf.default.dad_transmits=0 net.ipv6.conf.eth0.dad_transmits=0
			ip -n %[1]s link set lo up; ip -n %[1]s link set eth0 up
			ip -n %[1]s addr add 10.9.0.%[2]d/24 dev eth0; ip -n %[1]s addr add fd09::%[2]d/64 dev eth0 nodad`, guest, i+1))
	}
}

func testPort(id string, n byte, groups ...string) *nodestate.Port {
	return &nodestate.Port{
		ID: id, NetworkID: "net", MAC: nodestate.MAC{2, 0, 0, 0, 0, n}, AdminUp: true, PortSecurity: true, Hybrid: true, Groups: groups,
		Addresses: []nodestate.Address{
			{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, n}), 24)},
			{Prefix: netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd09::%d", n)), 64)},
		},
	}
}

func anyRule(id string, egress, ipv6 bool) nodestate.Rule {
	return nodestate.Rule{ID: id, Egress: egress, IPv6: ipv6, Protocol: -1, PortMin: -1, PortMax: -1}
}

func tcpRule(id string, port int) nodestate.Rule {
	return nodestate.Rule{ID: id, Protocol: 6, PortMin: port, PortMax: port}
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func apply(t *testing.T, w *Firewall) Counts {
	t.Helper()
	out, n := w.Apply(context.Background(), false)
	if out.Err != nil || len(out.Failures) > 0 {
		t.Fatalf("apply: %v %v", out.Err, out.Failures)
	}
	return n
}

// guestDo runs f in a guest's namespace.
func guestDo(t *testing.T, guest string, f func() error) error {
	t.Helper()
	ns, err := netns.Open(guest)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	return ns.Do(f)
}

// serve echoes on a TCP port of a guest.
func serve(t *testing.T, guest, addr string) {
	t.Helper()
	var l net.Listener
	err := guestDo(t, guest, func() (err error) { l, err = net.Listen("tcp", addr); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 100)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

func dial(t *testing.T, guest, addr string) (net.Conn, error) {
	t.Helper()
	var c net.Conn
	err := guestDo(t, guest, func() (err error) { c, err = net.DialTimeout("tcp", addr, 1500*time.Millisecond); return err })
	return c, err
}

// echo sends over a connection and waits for the answer.
func echo(c net.Conn, wait time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 10))
	return err
}

func mustDial(t *testing.T, guest, addr string) net.Conn {
	t.Helper()
	c, err := dial(t, guest, addr)
	if err != nil {
		t.Fatalf("%s to %s: %v\n%s", guest, addr, err, sh(t, "iptables-save -c; conntrack -L 2>/dev/null || true"))
	}
	t.Cleanup(func() { c.Close() })
	if err := echo(c, 2*time.Second); err != nil {
		t.Fatalf("%s to %s: %v", guest, addr, err)
	}
	return c
}

func mustNotDial(t *testing.T, guest, addr string) {
	t.Helper()
	c, err := dial(t, guest, addr)
	if err == nil {
		c.Close()
		t.Fatalf("%s reached %s\n%s", guest, addr, sh(t, "iptables-save -c"))
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("%s to %s: %v, want a timeout", guest, addr, err)
	}
}

func TestKernel(t *testing.T) {
	if !inside(t) {
		return
	}
	topology(t)
	dir := t.TempDir()
	sg := &nodestate.Group{ID: "11111111-2222-4333-8444-555555555555", Rules: []nodestate.Rule{
		anyRule("r1", true, false), anyRule("r2", true, true), tcpRule("r3", 80),
		{ID: "r4", Protocol: 6, PortMin: 90, PortMax: 99, Members: "99999999-2222-4333-8444-555555555555"},
		{ID: "r5", IPv6: true, Protocol: 58, PortMin: -1, PortMax: -1},
	}}
	members := &nodestate.Members{ID: "99999999-2222-4333-8444-555555555555", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.9.0.3/32")}}
	pa, pb := testPort(portA, 1, sg.ID), testPort(portB, 2, sg.ID)
	w := New(dir, quiet())
	for _, r := range []nodestate.Record{sg, members, pa, pb} {
		w.Record(r)
	}
	w.Plugged(portA, true)
	w.Plugged(portB, true)
	if ok, _ := w.Ready(portA); !ok {
		t.Log("not applied yet: not ready is decided by the caller's first Apply")
	}
	w.Confirm()
	apply(t, w)

	for _, addr := range []string{"10.9.0.1:80", "10.9.0.1:81", "10.9.0.1:95", "[fd09::1]:80"} {
		serve(t, "a", addr)
	}
	serve(t, "c", "10.9.0.3:7")
	serve(t, "b", "10.9.0.2:80")
	mustDial(t, "a", "10.9.0.3:7")
	live := mustDial(t, "c", "10.9.0.1:80")
	mustDial(t, "b", "10.9.0.1:80")
	mustNotDial(t, "c", "10.9.0.1:81")
	mustNotDial(t, "c", "[fd09::1]:80")
	member := mustDial(t, "c", "10.9.0.1:95")
	mustNotDial(t, "b", "10.9.0.1:95")
	sh(t, "ip netns exec c ping -6 -c1 -W2 fd09::1; ip netns exec a ping -6 -c1 -W2 fd09::3; ip netns exec a ping -c1 -W2 10.9.0.3")
	spoofs(t)

	// Equal again: nothing to write, also after reading back, also for a new process.
	if n := apply(t, w); n != (Counts{}) {
		t.Errorf("second apply wrote %+v", n)
	}
	if out, n := w.Apply(context.Background(), true); out.Err != nil || n != (Counts{}) {
		t.Errorf("apply after reading back wrote %+v, %v\n%s", n, out.Err, sh(t, "iptables-save"))
	}
	before := dump(t)
	w = New(dir, quiet())
	if out, n := w.Apply(context.Background(), false); out.Err != nil || n.Members+n.Connections != 0 {
		t.Errorf("a restarted process that knows nothing yet wrote %+v, %v", n, out.Err)
	}
	for _, r := range []nodestate.Record{pb, pa, members, sg} {
		w.Record(r)
	}
	w.Plugged(portB, true)
	w.Plugged(portA, true)
	n := apply(t, w)
	w.Confirm()
	n2 := apply(t, w)
	if n != (Counts{}) || n2.Chains+n2.Members != 0 { // connections of before the rules may end
		t.Errorf("restart wrote %+v and %+v", n, n2)
	}
	if after := dump(t); after != before {
		t.Errorf("restart changed chains:\n%s\n%s", before, after)
	}
	for _, c := range []net.Conn{live, member} {
		if err := echo(c, 2*time.Second); err != nil {
			t.Errorf("connection after restart: %v", err)
		}
	}

	// A foreign rule stays; what is done to ours is undone.
	sh(t, `iptables -A INPUT -p tcp --dport 9999 -j DROP; iptables -D FORWARD -j neutron-openvswi-FORWARD; iptables -F `+names.PortChain('i', portA))
	if out, n := w.Apply(context.Background(), true); out.Err != nil || n.Chains != 2 {
		t.Errorf("undoing foreign changes wrote %+v, %v", n, out.Err)
	}
	if now := dump(t); !strings.Contains(now, "--dport 9999") || strings.ReplaceAll(now, "-A INPUT -p tcp -m tcp --dport 9999 -j DROP\n", "") != before {
		t.Errorf("after undoing:\n%s\nwant\n%s", now, before)
	}

	// A member goes: its connection ends, the other stays.
	w.Record(&nodestate.Members{ID: members.ID})
	if n := apply(t, w); n != (Counts{Members: 1, Connections: 1}) {
		t.Errorf("removing a member: %+v", n)
	}
	if err := echo(member, time.Second); err == nil {
		t.Error("the connection of a removed member goes on")
	}
	if err := echo(live, 2*time.Second); err != nil {
		t.Errorf("another connection was ended: %v", err)
	}
	// A rule goes; the server cannot talk its way out either.
	less := *sg
	less.Rules = sg.Rules[:2]
	w.Record(&less)
	apply(t, w)
	if err := echo(live, time.Second); err == nil {
		t.Error("the connection of a removed rule goes on")
	}
	w.Record(sg)
	apply(t, w)
	mustDial(t, "c", "10.9.0.1:80")

	// A port leaves: its rules stay until nothing passes it, then nothing of it is left but what is foreign.
	w.Forget(pa.Key())
	apply(t, w)
	if !strings.Contains(dump(t), names.PortChain('i', portA)) {
		t.Error("rules went before the port was closed")
	}
	if out, _ := w.Finish(context.Background()); out.Err != nil {
		t.Error(out.Err)
	}
	if now := dump(t); strings.Contains(now, "aaaaaaaa") || !strings.Contains(now, "bbbbbbbb") {
		t.Errorf("after leaving:\n%s", now)
	}
	if out := sh(t, "conntrack -L -w 4097 2>/dev/null || true"); strings.TrimSpace(out) != "" {
		t.Errorf("connections of a port that is no more: %s", out)
	}
	if err := Remove(context.Background()); err != nil {
		t.Error(err)
	}
	if now := dump(t); strings.Contains(now, "neutron-") || strings.Contains(sh(t, "ipset list -n"), "NIP") || !strings.Contains(now, "9999") {
		t.Errorf("after removal:\n%s", now)
	}
}

// dump is what iptables-save says without counters and dates.
func dump(t *testing.T) string {
	t.Helper()
	var out []string
	for _, line := range strings.Split(sh(t, "iptables-save; ip6tables-save"), "\n") {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":PRE") && !strings.HasPrefix(line, ":OUT") && !strings.HasPrefix(line, ":IN") && !strings.HasPrefix(line, ":FOR") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// spoofs sends what must not come through and looks for it at c.
func spoofs(t *testing.T) {
	t.Helper()
	sh(t, `ip -n a addr add 10.9.0.77/24 dev eth0; ip -n a addr add fd09::77/64 dev eth0 nodad`)
	for _, ping := range []string{"ping -c1 -W1 -I 10.9.0.77 10.9.0.3", "ping -6 -c1 -W1 -I fd09::77 fd09::3"} {
		if out, err := exec.Command("ip", append([]string{"netns", "exec", "a"}, strings.Fields(ping)...)...).CombinedOutput(); err == nil {
			t.Errorf("a spoofed source got an answer: %s", out)
		}
	}
	sh(t, `ip -n a addr del 10.9.0.77/24 dev eth0; ip -n a addr del fd09::77/64 dev eth0`)
	// IP in a frame with an empty VLAN tag, or in PPPoE, must be judged like IP: port 81 of a is closed.
	judged := func() string {
		return sh(t, "iptables-save -c | grep -- '-A "+names.PortChain('i', portA)+" -m comment'")
	}
	for name, shim := range map[string][]byte{
		"VLAN": {0x81, 0, 0, 0, 0x08, 0}, "PPPoE": {0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21}, "plain": {0x08, 0},
	} {
		was := judged()
		frame(t, "c", shim)
		if judged() == was {
			t.Errorf("a packet in a %s frame was not judged", name)
		}
	}
}

// frame sends a SYN to port 81 of a, in an Ethernet frame with the given bytes for its type and what comes before IP.
func frame(t *testing.T, guest string, shim []byte) {
	t.Helper()
	ip := []byte{0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 3, 10, 9, 0, 1}
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	tcp := []byte{0x30, 0x39, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0}
	pseudo := append(append(append([]byte(nil), ip[12:20]...), 0, 6, 0, 20), tcp...)
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo))
	b := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3}, shim...)
	b = append(append(b, ip...), tcp...)
	err := guestDo(t, guest, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func TestRefusedRule(t *testing.T) {
	if !inside(t) {
		return
	}
	topology(t)
	sg := &nodestate.Group{ID: "11111111-2222-4333-8444-555555555555", Rules: []nodestate.Rule{anyRule("r1", true, false), tcpRule("r3", 80)}}
	var logged bytes.Buffer
	w := New(t.TempDir(), slog.New(slog.NewTextHandler(&logged, nil)))
	w.Record(sg)
	w.Record(testPort(portA, 1, sg.ID))
	w.Plugged(portA, true)
	w.Confirm()
	apply(t, w)
	// A chain that iptables cannot take as it is: the rule alone is left out.
	c := portChain(netfilter.IPv4, 'i', portA)
	rules, _ := w.tables.Wanted(c)
	bad := append(netfilter.Rules{{Text: "-p tcp -m tcp --dport 65536 -j RETURN", Owner: "rX"}}, rules...)
	w.tables.Set(c, bad)
	out, _ := w.Apply(context.Background(), false)
	if out.Err != nil || !strings.Contains(out.Failures[nodestate.PortKey(portA)], "rule rX") {
		t.Errorf("a refused rule: %v %v", out.Err, out.Failures)
	}
	if !strings.Contains(dump(t), "-A "+c.Name+" -p tcp -m tcp --dport 80 -j RETURN") || !strings.Contains(logged.String(), "rX") {
		t.Errorf("the others are not there, or no log line:\n%s\n%s", dump(t), logged.String())
	}
	// Without iptables nothing is ready that has changed.
	t.Setenv("PATH", t.TempDir())
	w.Record(&nodestate.Group{ID: sg.ID, Rules: sg.Rules[:1]})
	if out, _ := w.Apply(context.Background(), false); out.Err == nil || out.Retry == 0 {
		t.Errorf("without iptables: %+v", out)
	}
	if ok, why := w.Ready(portA); ok || !strings.Contains(why, "iptables") {
		t.Errorf("a port whose rules could not be written is ready: %s", why)
	}
}
