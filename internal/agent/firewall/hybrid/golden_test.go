package hybrid

import (
	"flag"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"baryon/internal/dataplane/netfilter"
	"baryon/internal/nodestate"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// neutronPort is the guest of golden scenario 05 on cmp1 with the most rules, and what its groups said there.
func neutronPort() (*nodestate.Port, []nodestate.Record) {
	const web, near = "de68219c-b433-42e3-b2d0-000000000000", "32e09719-68a0-4089-86c0-000000000000"
	remote := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	p := &nodestate.Port{
		ID: "3625c273-5a2f-45f8-a50a-7d9400d03d72", MAC: nodestate.MAC{0xfa, 0x16, 0x3e, 0x47, 0xdf, 0x4b}, AdminUp: true, PortSecurity: true, Hybrid: true,
		Addresses: []nodestate.Address{
			{Prefix: remote("10.1.0.206/24")}, {Prefix: remote("fd00:a::f816:3eff:fe47:df4b/64")},
		},
		AllowedPairs: []nodestate.Pair{{Prefix: remote("10.1.0.240/32")}},
		Groups:       []string{"group"},
	}
	g := &nodestate.Group{ID: "group", Rules: []nodestate.Rule{
		{ID: "1", Protocol: 6, PortMin: 80, PortMax: 90, Members: web},
		{ID: "2", Protocol: 1, PortMin: -1, PortMax: -1, Members: near},
		{ID: "3", Protocol: 1, PortMin: 8, PortMax: 0, Remote: remote("10.77.0.0/16")},
		{ID: "4", Protocol: 112, PortMin: -1, PortMax: -1},
		anyRule("5", true, false), anyRule("6", true, true),
		{ID: "8", IPv6: true, Protocol: 58, PortMin: -1, PortMax: -1},
		{ID: "7", Egress: true, Protocol: 17, PortMin: 1000, PortMax: 1999, Remote: remote("10.9.0.0/16")},
	}}
	return p, []nodestate.Record{p, g}
}

// TestLikeNeutron compares with what a real Neutron had for the same port.  testdata/differences.txt is all that differs, and
// docs/firewall.md says why.
func TestLikeNeutron(t *testing.T) {
	p, records := neutronPort()
	e, w := NewEngine(), newWorld()
	e.RememberZone(p.ID, 4102)
	for _, r := range records {
		e.Record(r)
	}
	e.Plugged(p.ID, true)
	w.take(e.Flush())
	var got strings.Builder
	for _, f := range netfilter.Families() {
		file := "testdata/neutron-iptables.txt"
		if f == netfilter.IPv6 {
			file = "testdata/neutron-ip6tables.txt"
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := netfilter.Parse(f, text, owns)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("# " + f.String() + "\n")
		differences(&got, theirs, ofFamily(w.chains, f))
	}
	golden(t, "testdata/differences.txt", got.String())
	if _, ok := w.sets["NIPv4de68219c-b433-42e3-b2d0-"]; !ok {
		t.Errorf("sets are %v", w.sets)
	}
}

func ofFamily(all map[netfilter.Chain]netfilter.Rules, f netfilter.Family) map[netfilter.Chain]netfilter.Rules {
	out := map[netfilter.Chain]netfilter.Rules{}
	for c, r := range all {
		if c.Family == f {
			out[c] = r
		}
	}
	return out
}

// differences lists, chain by chain, what only one side has ("-" theirs, "+" ours) and whether the rest stands in another order.
func differences(b *strings.Builder, theirs, ours map[netfilter.Chain]netfilter.Rules) {
	var chains []netfilter.Chain
	for _, m := range []map[netfilter.Chain]netfilter.Rules{theirs, ours} {
		for c := range m {
			if !slices.Contains(chains, c) {
				chains = append(chains, c)
			}
		}
	}
	slices.SortFunc(chains, func(a, b netfilter.Chain) int { return strings.Compare(a.String(), b.String()) })
	for _, c := range chains {
		t, inT := theirs[c]
		o, inO := ours[c]
		if inT != inO {
			b.WriteString(map[bool]string{true: "- chain ", false: "+ chain "}[inT] + c.String() + "\n")
		}
		only := func(sign string, a, other netfilter.Rules) (rest []string) {
			for _, r := range a {
				if slices.ContainsFunc(other, func(x netfilter.Rule) bool { return x.Text == r.Text }) {
					rest = append(rest, r.Text)
				} else {
					b.WriteString(sign + " " + c.Table + " -A " + c.Name + " " + r.Text + "\n")
				}
			}
			return rest
		}
		if !slices.Equal(only("-", t, o), only("+", o, t)) {
			b.WriteString("~ " + c.Table + " " + c.Name + ": the others stand in another order\n")
		}
	}
}
