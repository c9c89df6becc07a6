package ipam_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/model"
	"baryon/internal/neutron/ipam"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func rng(a, b string) model.AddrRange { return model.AddrRange{Start: addr(a), End: addr(b)} }

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestDefaults(t *testing.T) {
	for _, tc := range []struct {
		cidr, gateway string // gateway "-": the default one
		want          []model.AddrRange
		wantGateway   string
	}{
		{"10.0.0.0/24", "-", []model.AddrRange{rng("10.0.0.2", "10.0.0.254")}, "10.0.0.1"},
		{"10.0.0.0/24", "", []model.AddrRange{rng("10.0.0.1", "10.0.0.254")}, "10.0.0.1"},
		{"10.0.0.0/24", "10.0.0.254", []model.AddrRange{rng("10.0.0.1", "10.0.0.253")}, "10.0.0.1"},
		{"10.0.0.0/24", "10.0.0.9", []model.AddrRange{rng("10.0.0.1", "10.0.0.8"), rng("10.0.0.10", "10.0.0.254")}, "10.0.0.1"},
		{"10.0.0.0/24", "192.0.2.1", []model.AddrRange{rng("10.0.0.1", "10.0.0.254")}, "10.0.0.1"},
		{"10.0.0.0/30", "-", []model.AddrRange{rng("10.0.0.2", "10.0.0.2")}, "10.0.0.1"},
		{"10.0.0.0/31", "", []model.AddrRange{rng("10.0.0.0", "10.0.0.1")}, "10.0.0.1"},
		{"10.0.0.7/32", "", []model.AddrRange{rng("10.0.0.7", "10.0.0.7")}, "10.0.0.8"},
		{"10.0.0.7/32", "-", []model.AddrRange{rng("10.0.0.7", "10.0.0.7")}, "10.0.0.8"},
		{"fd00:a::/64", "-", []model.AddrRange{rng("fd00:a::1", "fd00:a::ffff:ffff:ffff:ffff")}, "fd00:a::"},
		{"fd00:a::/64", "fd00:a::1", []model.AddrRange{rng("fd00:a::2", "fd00:a::ffff:ffff:ffff:ffff")}, "fd00:a::"},
	} {
		p := netip.MustParsePrefix(tc.cidr)
		if got := ipam.DefaultGateway(p); got != addr(tc.wantGateway) {
			t.Errorf("gateway of %s = %s, want %s", p, got, tc.wantGateway)
		}
		gw := ipam.DefaultGateway(p)
		if tc.gateway != "-" {
			gw = addr(tc.gateway)
		}
		if d := cmp.Diff(tc.want, ipam.DefaultPools(p, gw), cmpAddr); d != "" {
			t.Errorf("pools of %s, gateway %s: %s", p, gw, d)
		}
	}
}

func TestEUI64(t *testing.T) {
	got := ipam.EUI64(netip.MustParsePrefix("fd00:a::/64"), model.MAC{0xfa, 0x16, 0x3e, 0x01, 0x02, 0x03})
	if got != addr("fd00:a::f816:3eff:fe01:203") {
		t.Errorf("EUI64 = %s", got)
	}
}

func TestCount(t *testing.T) {
	for _, tc := range []struct {
		in   model.AddrRange
		want string
	}{
		{rng("10.0.0.2", "10.0.0.254"), "253"},
		{rng("::1", "::ffff:ffff:ffff:ffff"), "18446744073709551615"},
		{rng("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"), "79228162514264337593543950336"},
	} {
		if got := ipam.Count([]model.AddrRange{tc.in}).String(); got != tc.want {
			t.Errorf("Count(%v) = %s, want %s", tc.in, got, tc.want)
		}
	}
}

// TestPoolsNumberEveryAddressOnce: ID and Value are each other's inverse, for many pools of both families, small and huge.
func TestPoolsNumberEveryAddressOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := addr(rapid.SampledFrom([]string{"10.0.0.0", "10.255.255.0", "fd00::", "fd00::ffff:ffff:ffff:fff0"}).Draw(t, "start"))
		var ranges []model.AddrRange
		for range rapid.IntRange(1, 5).Draw(t, "pools") {
			n := uint64(rapid.IntRange(0, 300).Draw(t, "len"))
			if start.Is6() && rapid.Bool().Draw(t, "huge") {
				n = 1 << 60
			}
			ranges = append(ranges, model.AddrRange{Start: start, End: ipam.Offset(start, n)})
			start = ipam.Offset(start, n+1+uint64(rapid.IntRange(0, 3).Draw(t, "gap")))
		}
		p := ipam.NewPools(ranges)
		id := rapid.Uint64Range(0, p.Size()-1).Draw(t, "id")
		a := p.Value(id)
		if back, ok := p.ID(a); !ok || back != id {
			t.Fatalf("ID(Value(%d) = %s) = %d, %v", id, a, back, ok)
		}
	})
}
