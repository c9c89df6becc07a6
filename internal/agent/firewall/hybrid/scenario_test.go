package hybrid

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/dataplane/netfilter"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// guest is a port of a golden scenario and its role: ports of one role have the same structure.
type guest struct {
	id, mac, ip, pair, role string
	groups                  []string
}

func (g guest) address(t *testing.T) nodestate.MAC {
	mac, err := net.ParseMAC(g.mac)
	if err != nil {
		t.Fatal(err)
	}
	return nodestate.MAC(mac)
}

// linkLocal is the address that RFC 4291 (appendix A) makes of a MAC.
func (g guest) linkLocal(t *testing.T) string {
	m := g.address(t)
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}).String()
}

// The groups of the scenarios, by the ids that Neutron gave them.
const (
	commonGroup = "de68219c-b433-42e3-b2d0-3d08c1a65941" // ping and SSH in, all out
	webGroup    = "32e09719-68a0-4089-86c0-f1e20d49921c" // remote groups, ports, a prefix, a protocol without ports
)

func commonRules() []nodestate.Rule {
	return []nodestate.Rule{
		{ID: "c1", Protocol: 1, PortMin: -1, PortMax: -1}, tcpRule("c2", 22), anyRule("c3", true, false), anyRule("c4", true, true),
	}
}

// scenario is what node cmp1 (iptables_hybrid) had in a golden dump.
type scenario struct {
	name    string
	guests  []guest
	members map[string][]string
	rules   map[string][]nodestate.Rule
}

func scenarios() []scenario {
	common := []string{commonGroup}
	first := []guest{
		{"126ec876-674e-4cd4-947d-eca1ffe89d9a", "fa:16:3e:97:4f:8f", "10.2.0.56", "", "guest", common},
		{"2867aab4-96ba-4b25-9c66-d0327ab91d9e", "fa:16:3e:a3:d9:89", "10.1.0.187", "", "guest", common},
		{"673d8c0b-28de-4fe3-987b-7f29fc9f3e26", "fa:16:3e:47:06:7a", "10.3.0.201", "", "guest", common},
		{"da9d2818-9ccc-4d6a-baab-17582f14bec2", "fa:16:3e:92:05:c8", "10.4.0.237", "", "guest", common},
	}
	return []scenario{
		{"mixed-firewalls", first, nil, map[string][]nodestate.Rule{commonGroup: commonRules()}},
		{"security-groups", append(slices.Clone(first),
			guest{"3625c273-5a2f-45f8-a50a-7d9400d03d72", "fa:16:3e:47:df:4b", "10.1.0.206", "10.1.0.240/32", "web", []string{webGroup}},
			guest{"8795bd66-53e6-471f-b65a-a0ccbd51a25d", "fa:16:3e:d6:12:b6", "10.5.0.81", "", "guest", common}),
			map[string][]string{
				commonGroup: {"10.1.0.27", "10.1.0.52", "10.1.0.187", "10.2.0.41", "10.2.0.56", "10.3.0.79", "10.3.0.201", "10.4.0.85", "10.4.0.237", "10.5.0.81"},
				webGroup:    {"10.1.0.206", "10.1.0.240"},
			},
			map[string][]nodestate.Rule{commonGroup: commonRules(), webGroup: {
				{ID: "w1", Protocol: 6, PortMin: 80, PortMax: 90, Members: commonGroup},
				{ID: "w2", Protocol: 1, PortMin: -1, PortMax: -1, Members: webGroup},
				{ID: "w3", Protocol: 1, PortMin: 8, PortMax: 0, Remote: netip.MustParsePrefix("10.77.0.0/16")},
				{ID: "w4", Protocol: 112, PortMin: -1, PortMax: -1},
				anyRule("w5", true, false), anyRule("w6", true, true), {ID: "w8", IPv6: true, Protocol: 58, PortMin: -1, PortMax: -1},
				{ID: "w7", Egress: true, Protocol: 17, PortMin: 1000, PortMax: 1999, Remote: netip.MustParsePrefix("10.9.0.0/16")},
			}}},
	}
}

// engine makes what is wanted of the scenario's node.
func (s scenario) engine(t *testing.T) *world {
	e, w := NewEngine(), newWorld()
	for id, rules := range s.rules {
		e.Record(&nodestate.Group{ID: id, Rules: rules})
	}
	for id, list := range s.members {
		m := &nodestate.Members{ID: id}
		for _, a := range list {
			m.Prefixes = append(m.Prefixes, netip.MustParsePrefix(a+"/32"))
		}
		e.Record(m)
	}
	for _, g := range s.guests {
		p := &nodestate.Port{ID: g.id, MAC: g.address(t), AdminUp: true, PortSecurity: true, Hybrid: true, Groups: g.groups,
			Addresses: []nodestate.Address{{Prefix: netip.MustParsePrefix(g.ip + "/24")}}}
		if g.pair != "" {
			p.AllowedPairs = []nodestate.Pair{{Prefix: netip.MustParsePrefix(g.pair)}}
		}
		e.Record(p)
		e.Plugged(g.id, true)
	}
	w.take(e.Flush())
	return w
}

var (
	comments  = regexp.MustCompile(` ?-m comment --comment "[^"]*"`)
	strangers = regexp.MustCompile(`\btap[0-9a-f]{8}-[0-9a-f]{2}\b`) // taps of ports that are no guests: routers'
)

// structure is what chains look like when it does not matter which port it is: names of a port are its role, its own addresses ADDRESS,
// LINK-LOCAL and mac, comments are gone, and a line that ports of one role share is there once.
func (s scenario) structure(t *testing.T, chains map[netfilter.Chain]netfilter.Rules) map[netfilter.Chain]netfilter.Rules {
	t.Helper()
	var pairs []string
	zones := map[string]string{}
	for _, g := range s.guests {
		for _, kind := range []byte("ios") {
			pairs = append(pairs, names.PortChain(kind, g.id), "our-"+string(kind)+"-"+g.role)
		}
		pairs = append(pairs, names.Tap(g.id), "tap-"+g.role, names.Qvb(g.id), "qvb-"+g.role, g.ip+"/32", "ADDRESS", g.mac, "mac", g.linkLocal(t)+"/128", "LINK-LOCAL")
	}
	role := strings.NewReplacer(append(pairs, names.ChainPrefix, "our-")...)
	out := map[netfilter.Chain]netfilter.Rules{}
	for c, rules := range chains {
		now := netfilter.Rules{}
		for _, r := range rules {
			if m := zoneRule.FindStringSubmatch(r.Text); m != nil {
				if owner := zones[m[2]]; owner != "" && owner != m[1] {
					t.Errorf("ports %s and %s have conntrack zone %s", owner, m[1], m[2])
				}
				zones[m[2]] = m[1]
			}
			text := zoneNumber.ReplaceAllString(comments.ReplaceAllString(r.Text, ""), "--zone ZONE")
			text = strings.TrimSpace(strangers.ReplaceAllString(role.Replace(text), "tap-router"))
			if x := (netfilter.Rule{Text: text}); !slices.Contains(now, x) {
				now = append(now, x)
			}
		}
		c.Name = role.Replace(c.Name)
		if old, twice := out[c]; twice && !old.Equal(now) {
			t.Errorf("ports of one role differ in %s: %s", c, cmp.Diff(old, now))
		}
		out[c] = now
	}
	return out
}

// TestLikeNeutronsNodes compares whole nodes with what a real Neutron had for the same ports.  testdata/SCENARIO.txt is the structure of
// Neutron's chains and sets; testdata/SCENARIO-differences.txt is all that differs, and docs/firewall.md says why.
func TestLikeNeutronsNodes(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := s.engine(t)
			text, err := os.ReadFile("testdata/" + s.name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(string(text), "# ")
			sections := map[string]string{}
			for _, p := range parts[1:] {
				head, body, _ := strings.Cut(p, "\n")
				sections[head] = body
			}
			var got strings.Builder
			for _, f := range netfilter.Families() {
				theirs, err := netfilter.Parse(f, []byte(sections[f.String()]), func(name string) bool { return true })
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString("# " + f.String() + "\n")
				differences(&got, theirs, s.structure(t, ofFamily(w.chains, f)))
			}
			got.WriteString("# sets\n")
			var sets []string
			for name, members := range w.sets {
				sets = append(sets, fmt.Sprintf("%s %d", name, len(members)))
			}
			listDifferences(&got, strings.Split(strings.TrimSpace(sections["sets"]), "\n"), sets)
			golden(t, "testdata/"+s.name+"-differences.txt", got.String())
		})
	}
}

func listDifferences(b *strings.Builder, theirs, ours []string) {
	slices.Sort(ours)
	for _, x := range theirs {
		if x != "" && !slices.Contains(ours, x) {
			fmt.Fprintf(b, "- %s\n", x)
		}
	}
	for _, x := range ours {
		if !slices.Contains(theirs, x) {
			fmt.Fprintf(b, "+ %s\n", x)
		}
	}
}

// golden compares with a file, or with -update rewrites it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-update rewrites it): %s", file, d)
	}
}
