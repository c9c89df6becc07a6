package firewall

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/nodestate"
)

var update = flag.Bool("update", false, "rewrite the lists of differences from Neutron")

// nodeOf is a node with filtered ports of the golden scenarios: MAC, address and groups of each.
func nodeOf(t *testing.T, groups []*nodestate.Group, members []*nodestate.Members, ports ...[]string) *State {
	s := NewState()
	s.PatchTun = 1
	for _, g := range groups {
		s.Groups[g.ID] = g
	}
	for _, m := range members {
		s.Members[m.ID] = m
	}
	for i, p := range ports {
		mac, err := net.ParseMAC(p[0])
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("port%d", i)
		s.Ports[id] = &nodestate.Port{ID: id, NetworkID: p[1], MAC: nodestate.MAC(mac), AdminUp: true, PortSecurity: len(p) > 2, Groups: p[2:],
			Addresses: []nodestate.Address{{Prefix: netip.MustParsePrefix(p[1])}}}
		s.Places[id] = Place{OFPort: i + 2, VLAN: uint16(netip.MustParsePrefix(p[1]).Addr().As4()[1])} //nolint:gosec // below 256
	}
	return s
}

// scenarioNodes are what node cmp2 (openvswitch) of two golden scenarios had.
func scenarioNodes(t *testing.T) map[string]*State {
	one := func(a string) *nodestate.Members {
		return &nodestate.Members{ID: a, Prefixes: []netip.Prefix{netip.MustParsePrefix(a)}}
	}
	common := &nodestate.Group{ID: "common", Rules: []nodestate.Rule{
		{ID: "1", Protocol: ProtoICMP, PortMin: -1, PortMax: -1}, {ID: "2", Protocol: ProtoTCP, PortMin: 22, PortMax: 22},
		{ID: "3", Egress: true, Protocol: -1, PortMin: -1, PortMax: -1}, {ID: "4", Egress: true, IPv6: true, Protocol: -1, PortMin: -1, PortMax: -1},
	}}
	web := &nodestate.Group{ID: "web", Rules: []nodestate.Rule{
		{ID: "5", Protocol: ProtoTCP, PortMin: 80, PortMax: 90, Members: "10.1.0.187/32"},
		{ID: "6", Protocol: ProtoICMP, PortMin: -1, PortMax: -1, Members: "10.1.0.206/32"},
		{ID: "7", Protocol: ProtoICMP, PortMin: 8, PortMax: 0, Remote: netip.MustParsePrefix("10.77.0.0/16")},
		{ID: "8", Protocol: 112, PortMin: -1, PortMax: -1}, {ID: "9", IPv6: true, Protocol: ProtoICMPv6, PortMin: -1, PortMax: -1},
		{ID: "10", Egress: true, Protocol: -1, PortMin: -1, PortMax: -1}, {ID: "11", Egress: true, IPv6: true, Protocol: -1, PortMin: -1, PortMax: -1},
		{ID: "12", Egress: true, Protocol: ProtoUDP, PortMin: 1000, PortMax: 1999, Remote: netip.MustParsePrefix("10.9.0.0/16")},
	}}
	return map[string]*State{
		// Five guests with the common group, and one without port security.
		"port-security": nodeOf(t, []*nodestate.Group{common}, nil,
			[]string{"fa:16:3e:5b:1b:b7", "10.1.0.52/24", "common"}, []string{"fa:16:3e:08:b5:4d", "10.2.0.41/24", "common"},
			[]string{"fa:16:3e:86:42:19", "10.3.0.79/24", "common"}, []string{"fa:16:3e:19:96:e7", "10.4.0.85/24", "common"},
			[]string{"fa:16:3e:82:8e:07", "10.1.0.27/24", "common"}, []string{"fa:16:3e:62:b7:8d", "10.1.0.183/24"}),
		// A guest whose group names remote groups, ports, a prefix and a protocol without ports.
		"remote-groups": nodeOf(t, []*nodestate.Group{web}, []*nodestate.Members{one("10.1.0.187/32"), one("10.1.0.206/32")},
			[]string{"fa:16:3e:62:b7:8d", "10.1.0.183/24", "web"}),
	}
}

var (
	flowLine = regexp.MustCompile(`^(?:cookie=\S+, )?(?:reset_counts )?(?:table=(\d+), )?(?:reset_counts )?priority=(\d+)(?:,(\S+))? actions=(.*)$`)
	// What is different for each port, network and peer, and what is a number of no meaning.
	particular = regexp.MustCompile(`\b(reg5|reg6|in_port|dl_src|dl_dst|nw_src|nw_dst|arp_spa|nd_target|ipv6_src|dl_vlan|ct_zone|conj_id)=[^,/]+(/[^,]+)?`)
	// What every flow has or lacks for reasons of its own: whose port it is for (ours are mostly for all), whose zone, which counter.
	port       = regexp.MustCompile(`\b(in_port|reg5)(=[^,]+)?(,|$)`)
	reasonCode = regexp.MustCompile(`set_field:\w+->reg9,`)
	actionText = strings.NewReplacer("goto_table:", "to ", "resubmit(,", "to (", "output:NXM_NX_REG5[]", "output", ",zone=NXM_NX_REG5[0..15]", "", ",zone=NXM_NX_REG6[0..15]", "")
	setPort    = regexp.MustCompile(`set_field:[^,]*->(reg[567])`)
	toTable    = regexp.MustCompile(`to \((\d+)\)`)
	outName    = regexp.MustCompile(`output:("[^"]*"|\d+)`)
	conjNumber = regexp.MustCompile(`conjunction\(\d+,`)
	vlanNumber = regexp.MustCompile(`set_field:\d+->vlan_vid`)
)

// kept are the constant addresses that say what a flow is about.
var kept = map[string]bool{"nw_src=0.0.0.0": true, "nw_dst=255.255.255.255": true, "ipv6_src=::": true}

// structureOf is what a flow looks like when it does not matter which port, network or peer it is for, whose conntrack zone is meant,
// and whether it goes on by goto_table or resubmit.  It is empty for the tables of others.
func structureOf(t *testing.T, line string) string {
	m := flowLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("not a flow: %q", line)
	}
	if !slices.Contains([]string{"60", "71", "72", "73", "81", "82", "91", "92", "93", "94"}, m[1]) {
		return ""
	}
	match := particular.ReplaceAllStringFunc(m[3], func(s string) string {
		if kept[s] {
			return s
		}
		name, _, _ := strings.Cut(s, "=")
		return name
	})
	fields := strings.Split(strings.TrimSuffix(port.ReplaceAllString(match, ""), ","), ",")
	slices.Sort(fields)
	acts := conjNumber.ReplaceAllString(setPort.ReplaceAllString(actionText.Replace(reasonCode.ReplaceAllString(m[4], "")), "set $1"), "conjunction(")
	acts = vlanNumber.ReplaceAllString(outName.ReplaceAllString(toTable.ReplaceAllString(acts, "to $1"), "output"), "set vlan_vid")
	return fmt.Sprintf("%s %3s %s → %s", m[1], m[2], strings.Join(fields, ","), acts)
}

func structures(t *testing.T, lines []string) []string {
	var out []string
	for _, l := range lines {
		if x := structureOf(t, l); x != "" {
			out = append(out, x)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// reasons are why flows differ; the first that fits a line counts.  docs/firewall.md says more about each.
var reasons = []struct {
	why   string
	lines *regexp.Regexp
}{
	{"established connections are not asked again; what is revoked is ended, not marked", regexp.MustCompile(
		`^- 7[12] +40 |^- 82 +40 |^- [78]2 +50 ct_|^\+ [78]2 +9[023] `)},
	{"what begins no connection is told from the rest before the rules", regexp.MustCompile(`^\+ [78]2 +(89|49|50) `)},
	{"rules are shared by conjunctions of one priority and asked for new connections only", regexp.MustCompile(`^- [78]2 +7[0-7] |^\+ [78]2 +(70|69) `)},
	{"what a filter admits is committed in one place and marked by who admitted it", regexp.MustCompile(`^- (73 +90|91 +1) |^\+ 9[12] `)},
	{"every drop is counted by port and reason", regexp.MustCompile(`^- (71|72|73|81|82) +0 |^- 71 +10 |^\+ (60|71|72|81|82) +0 |^\+ 71 +10 |^\+ 93 `)},
	{"the source MAC is looked at first, so that its drops are counted apart", regexp.MustCompile(`^\+ 71 +(99|100) `)},
	{"a guest's frames are untagged", regexp.MustCompile(`^\+ (71 +105|73 +120) `)},
	{"table 71 asks whose address it is, table 72 what is always allowed", regexp.MustCompile(`^- 71 +(80|95) |^\+ 71 +(80|9[45]) |^\+ 72 +(9[5-7]) `)},
	{"one way for ports' and tunnels' frames: a local MAC is looked up in 73, whatever the network", regexp.MustCompile(`^[-+] 60 |^[-+] 73 +100 `)},
	{"floods and unknown unicast pass the filter of each port", regexp.MustCompile(`^\+ 94 `)},
	{"router advertisements go to ports with an IPv6 address only", regexp.MustCompile(`^[-+] 81 +100 icmp6,icmp_type=134`)},
	{"ports of stateless groups are not tracked, and what comes to 81 is looked up anew", regexp.MustCompile(`^[-+] 81 +(80|90|92) `)},
}

// explained sorts differences by their reasons; what has none is an error.
func explained(t *testing.T, differences []string) string {
	var b strings.Builder
	for _, r := range reasons {
		first := true
		differences = slices.DeleteFunc(differences, func(d string) bool {
			if !r.lines.MatchString(d) {
				return false
			}
			if first {
				fmt.Fprintf(&b, "# %s\n", r.why)
				first = false
			}
			b.WriteString(d + "\n")
			return true
		})
	}
	for _, d := range differences {
		t.Errorf("a difference from Neutron without a reason: %s", d)
	}
	return b.String()
}

// TestLikeNeutron compares the flows of two nodes with those of a real Neutron for the same ports.  testdata/NODE.txt is the structure of
// Neutron's flows; testdata/NODE-differences.txt is all that differs ("-" theirs, "+" ours), by reasons.
func TestLikeNeutron(t *testing.T) {
	for name, s := range scenarioNodes(t) {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			theirs := strings.Split(strings.TrimSpace(string(text)), "\n")
			var lines []string
			for _, f := range Want(s) {
				lines = append(lines, f.String())
			}
			ours := structures(t, lines)
			var differences []string
			only := func(sign string, a, b []string) {
				for _, x := range a {
					if !slices.Contains(b, x) {
						differences = append(differences, sign+" "+x)
					}
				}
			}
			only("-", theirs, ours)
			only("+", ours, theirs)
			got := explained(t, differences)
			file := "testdata/" + name + "-differences.txt"
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
		})
	}
}
