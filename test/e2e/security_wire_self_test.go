package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

// TestWire: frames go out as they are made, tokens are seen, and a kernel that speaks to them finds nothing wrong with them.
func TestWire(t *testing.T) {
	testkit.NeedRoot(t)
	ns := [2]string{fmt.Sprintf("wire-a-%d", os.Getpid()), fmt.Sprintf("wire-b-%d", os.Getpid())}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	for _, n := range ns {
		run("netns", "add", n)
		t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "ip", "netns", "delete", n).Run() }) // nothing to do about it
	}
	a, b := nodestate.MAC{2, 0, 0, 0, 0, 1}, nodestate.MAC{2, 0, 0, 0, 0, 2}
	run("-n", ns[0], "link", "add", "eth0", "address", a.String(), "type", "veth", "peer", "name", "eth0", "netns", ns[1], "address", b.String())
	for _, n := range ns {
		run("-n", n, "link", "set", "eth0", "up")
	}
	from4, to4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	from6, to6 := netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")
	run("-n", ns[1], "address", "add", "192.0.2.2/24", "dev", "eth0")
	run("-n", ns[1], "address", "add", "fd99::2/64", "dev", "eth0", "nodad")
	run("-n", ns[1], "neigh", "add", "192.0.2.1", "lladdr", a.String(), "dev", "eth0")
	run("-n", ns[1], "neigh", "add", "fd99::1", "lladdr", a.String(), "dev", "eth0")

	wires := [2]*wire{}
	for i, n := range ns {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if wires[i], err = startWire(exec.CommandContext(t.Context(), "ip", "netns", "exec", n, "env", wireDevice+"=eth0", exe)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(wires[i].close)
	}
	for i, c := range []struct {
		what     string
		src, dst netip.Addr
		proto    uint8
		body     func(token uint32) []byte
		answered bool
	}{
		{"echo", from4, to4, protoICMP, func(n uint32) []byte { return icmp(from4, to4, 8, 0, 1<<16|1, tokenBytes(n)) }, true},
		{"echo, IPv6", from6, to6, protoICMPv6, func(n uint32) []byte { return icmp(from6, to6, 128, 0, 1<<16|1, tokenBytes(n)) }, true},
		{"UDP to a closed port", from4, to4, protoUDP, func(n uint32) []byte { return udp(from4, to4, 1, 2, tokenBytes(n)) }, true},
		{"UDP to a closed port, IPv6", from6, to6, protoUDP, func(n uint32) []byte { return udp(from6, to6, 1, 2, tokenBytes(n)) }, true},
		{"UDP with a wrong sum", from4, to4, protoUDP, func(n uint32) []byte {
			d := udp(from4, to4, 1, 2, tokenBytes(n))
			d[6]++
			return d
		}, false},
	} {
		token, marker := uint32(2*i+1), uint32(2*i+2)
		frame := packet(b, a, c.src, c.dst, c.proto, c.body(token))
		after := packet(b, a, from4, to4, protoICMP, icmp(from4, to4, 8, 0, 1<<16|2, tokenBytes(marker)))
		if err := wires[0].send(frame, after); err != nil {
			t.Fatal(err)
		}
		if !wires[1].await(token, patience) || !wires[0].await(marker, patience) {
			t.Fatalf("%s: not seen at all", c.what)
		}
		if got := wires[0].arrived(token) > 0; got != c.answered {
			t.Errorf("%s: answered %v, want %v", c.what, got, c.answered)
		}
	}
}
