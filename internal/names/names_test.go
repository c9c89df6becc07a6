package names

import (
	"net/netip"
	"strings"
	"testing"
)

// The expected names are those of the reference and of what a real Neutron printed.
func TestNames(t *testing.T) {
	const port = "1a2b3c4d-5e6f-4000-8000-000000000001"
	for _, c := range []struct{ got, want string }{
		{Tap(port), "tap1a2b3c4d-5e"},
		{Qbr(port), "qbr1a2b3c4d-5e"},
		{Qvb(port), "qvb1a2b3c4d-5e"},
		{Qvo(port), "qvo1a2b3c4d-5e"},
		{Tap("short"), "tapshort"},
		{DHCPNamespace("459c374c-d347-4c3d-8dca-7dbb6b403f4f"), "qdhcp-459c374c-d347-4c3d-8dca-7dbb6b403f4f"},
		{TunnelPort("vxlan", netip.MustParseAddr("192.168.20.12")), "vxlan-c0a8140c"},
		{TunnelPort("gre", netip.MustParseAddr("10.0.0.2")), "gre-0a000002"},
		{TunnelPort("gre", netip.MustParseAddr("::ffff:10.0.0.2")), "gre-0a000002"},
		{IntPatch("br-ex"), "int-br-ex"},
		{PhyPatch("br-ex"), "phy-br-ex"},
		{IntPatch("br-provider"), "int-br-provider"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestLongNamesFitAndDiffer(t *testing.T) {
	a, b := IntPatch("br-very-long-name-1"), IntPatch("br-very-long-name-2")
	v6a, v6b := TunnelPort("vxlan", netip.MustParseAddr("2001:db8::1")), TunnelPort("vxlan", netip.MustParseAddr("2001:db8::2"))
	for _, n := range []string{a, b, v6a, v6b} {
		if len(n) != maxDevice {
			t.Errorf("%q has %d characters, not %d", n, len(n), maxDevice)
		}
	}
	if a == b || !strings.HasPrefix(a, "int-br-ve") {
		t.Errorf("patch names of two bridges: %s, %s", a, b)
	}
	if v6a == v6b || !strings.HasPrefix(v6a, "vxlan-") {
		t.Errorf("tunnel names of two addresses: %s, %s", v6a, v6b)
	}
}
