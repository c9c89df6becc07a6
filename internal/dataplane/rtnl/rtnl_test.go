package rtnl

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"baryon/internal/dataplane/netns"
	"baryon/internal/testkit"
)

func open(t *testing.T, name string) *Namespace {
	t.Helper()
	if err := netns.Ensure(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Delete(name) }) //nolint:errcheck // clean up
	n, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func show(t *testing.T, ns string, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"-n", ns}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestSync(t *testing.T) {
	testkit.NeedRoot(t)
	name, other := fmt.Sprintf("bt-rt%d", os.Getpid()), fmt.Sprintf("bt-ro%d", os.Getpid())
	n, from := open(t, name), open(t, other)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "tap0"
	if err := from.h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
		t.Fatal(err)
	}
	// A corpse of the same name gives way.
	if err := n.h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
		t.Fatal(err)
	}
	if moved, err := n.Adopt(from, "tap0"); err != nil || !moved {
		t.Fatalf("adopt: %v %v", moved, err)
	}
	if moved, err := n.Adopt(from, "tap0"); err != nil || moved {
		t.Fatalf("adopt again: %v %v", moved, err)
	}
	if i, err := from.Index("tap0"); err != nil || i != 0 {
		t.Fatalf("still at the old place: %d %v", i, err)
	}
	mac := net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 2}
	p := netip.MustParsePrefix
	want := Device{
		Name: "tap0", MAC: mac, MTU: 1450,
		Addresses: []netip.Prefix{p("10.0.0.2/24"), p("169.254.169.254/32"), p("fd00::2/64"), p("fe80::a9fe:a9fe/128"), netip.PrefixFrom(LinkLocal(mac), 64)},
		Routes: []Route{
			{Destination: p("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.7.0.1")}, {Destination: p("10.7.0.1/32")},
			{Destination: p("::/0"), Gateway: netip.MustParseAddr("fd00::1")},
		},
		Sysctls: map[string]string{"ipv6/conf/tap0/accept_ra": "0", "ipv6/conf/tap0/accept_dad": "0", "ipv4/ip_nonlocal_bind": "1", "no/such/thing": "1"},
	}
	ctx := context.Background()
	if _, err := n.Sync(ctx, want); err != nil {
		t.Fatal(err)
	}
	// Somebody else's route stays.
	show(t, name, "route", "add", "10.99.0.0/16", "via", "10.0.0.77", "proto", "static")
	again, err := n.Sync(ctx, want)
	if err != nil || again.Total() != 0 {
		t.Errorf("second sync wrote %+v, %v", again, err)
	}
	routes := show(t, name, "route")
	for _, w := range []string{"default via 10.7.0.1 dev tap0 proto 66", "10.7.0.1 dev tap0 proto 66 scope link", "10.99.0.0/16 via 10.0.0.77"} {
		if !strings.Contains(routes, w) {
			t.Errorf("no %q in:\n%s", w, routes)
		}
	}
	addrs := show(t, name, "address", "show", "dev", "tap0")
	for _, w := range []string{"mtu 1450", "fa:16:3e:00:00:02", "10.0.0.2/24 brd 10.0.0.255", "169.254.169.254/32", "fd00::2/64", "fe80::a9fe:a9fe/128", "fe80::f816:3eff:fe00:2/64"} {
		if !strings.Contains(addrs, w) {
			t.Errorf("no %q in:\n%s", w, addrs)
		}
	}
	if strings.Contains(addrs, "tentative") {
		t.Errorf("a tentative address:\n%s", addrs)
	}
	// Change and shrink.
	want.Addresses = want.Addresses[:1]
	want.Routes = []Route{{Destination: p("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1")}}
	if _, err := n.Sync(ctx, want); err != nil {
		t.Fatal(err)
	}
	all := show(t, name, "address") + show(t, name, "route") + show(t, name, "-6", "route")
	for _, w := range []string{"169.254.169.254", "fd00::", "10.7.0.1", "default via 10.7"} {
		if strings.Contains(all, w) {
			t.Errorf("%q is still there:\n%s", w, all)
		}
	}
	if !strings.Contains(all, "default via 10.0.0.1") || !strings.Contains(all, "10.99.0.0/16") || !strings.Contains(all, "fe80::f816:3eff:fe00:2/64") {
		t.Errorf("something is missing:\n%s", all)
	}
	if again, err := n.Sync(ctx, want); err != nil || again.Total() != 0 {
		t.Errorf("sync after the change wrote %+v, %v", again, err)
	}
	if _, err := n.Sync(ctx, Device{Name: "none"}); err == nil {
		t.Error("a missing device is fine")
	}
}
