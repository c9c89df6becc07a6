package hybrid

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"baryon/internal/agent/firewall"
	"baryon/internal/dataplane/netfilter"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// world interprets the chains of one engine for packets at one port: a small iptables.
type world struct {
	chains map[netfilter.Chain]netfilter.Rules
	sets   map[string][]netip.Prefix
	unread map[string]bool // words that it does not understand
}

func newWorld() *world {
	return &world{chains: map[netfilter.Chain]netfilter.Rules{}, sets: map[string][]netip.Prefix{}, unread: map[string]bool{}}
}

func (w *world) take(d Delta) {
	for c, r := range d.Chains {
		if r == nil {
			delete(w.chains, c)
		} else {
			w.chains[c] = *r
		}
	}
	for n, s := range d.Sets {
		if s == nil {
			delete(w.sets, n)
		} else {
			w.sets[n] = s.Members
		}
	}
}

// verdict runs a packet that begins a connection through a chain; "" is falling off its end or RETURN.
func (w *world) verdict(f netfilter.Family, chain, dev string, p firewall.Packet) string {
	for _, r := range w.chains[netfilter.Chain{Family: f, Table: "filter", Name: chain}] {
		target, ok := w.match(r.Text, dev, p)
		if !ok {
			continue
		}
		switch target {
		case "ACCEPT", "DROP":
			return target
		case "RETURN":
			return ""
		}
		if v := w.verdict(f, target, dev, p); v != "" {
			return v
		}
	}
	return ""
}

func (w *world) match(text, dev string, p firewall.Packet) (target string, ok bool) {
	text, _, _ = cutComment(text)
	a := strings.Fields(text)
	ok = true
	for i := 0; i < len(a); i++ {
		arg := func() string { i++; return a[i] }
		switch a[i] {
		case "-s":
			ok = netip.MustParsePrefix(arg()).Contains(p.Src) && ok
		case "-d":
			ok = netip.MustParsePrefix(arg()).Contains(p.Dst) && ok
		case "-p":
			ok = arg() == netfilter.ProtocolName(int(p.Protocol)) && ok
		case "-m":
			arg()
		case "--sport":
			ok = arg() == strconv.Itoa(int(p.SrcPort)) && ok
		case "--dport":
			ok = arg() == strconv.Itoa(int(p.DstPort)) && ok
		case "--dports":
			lo, hi, isRange := strings.Cut(arg(), ":")
			if !isRange {
				hi = lo
			}
			from, _ := strconv.Atoi(lo)
			to, _ := strconv.Atoi(hi)
			ok = int(p.DstPort) >= from && int(p.DstPort) <= to && ok
		case "--icmp-type", "--icmpv6-type":
			typ, code, withCode := strings.Cut(arg(), "/")
			ok = typ == strconv.Itoa(int(p.SrcPort)) && (!withCode || code == strconv.Itoa(int(p.DstPort))) && ok
		case "--mac-source":
			ok = arg() == p.EthSrc.String() && ok
		case "--match-set":
			list, at := w.sets[arg()], p.Src
			if arg() == "dst" {
				at = p.Dst
			}
			ok = slices.ContainsFunc(list, func(x netip.Prefix) bool { return x.Contains(at) }) && ok
		case "--state":
			ok = slices.Contains(strings.Split(arg(), ","), "NEW") && ok // the model asks for first packets
		case "!":
			if a[i+1] != "--tcp-flags" {
				w.unread[text] = true
			}
			i += 3
			ok = false // a first packet is a SYN
		case "--physdev-in":
			ok = arg() == dev && p.Egress && ok
		case "--physdev-out":
			ok = arg() == dev && !p.Egress && ok
		case "--physdev-is-bridged":
		case "-j":
			target = arg()
		default:
			w.unread[text] = true
			return "", false
		}
	}
	return target, ok
}

func cutComment(s string) (string, string, bool) {
	i := strings.Index(s, `-m comment --comment "`)
	if i < 0 {
		return s, "", false
	}
	rest := s[i+len(`-m comment --comment "`):]
	j := strings.IndexByte(rest, '"')
	return s[:i] + rest[j+1:], rest[:j], true
}

var (
	hosts4 = []string{"10.0.0.1", "10.0.0.2", "10.0.1.7", "192.168.3.4", "255.255.255.255", "0.0.0.0", "224.0.0.1"}
	hosts6 = []string{"fd00::1", "fd00::2", "2001:db8::7", "fe80::200:ff:fe00:1", "fe80::5", "ff02::1", "::"}
	nets4  = []string{"10.0.0.0/24", "10.0.0.2/32", "0.0.0.0/0", "192.168.0.0/16", "10.0.1.7/32"}
	nets6  = []string{"fd00::/64", "fd00::2/128", "::/0", "2001:db8::/32"}
)

func drawAddr(t *rapid.T, v6 bool, label string) netip.Addr {
	list := hosts4
	if v6 {
		list = hosts6
	}
	return netip.MustParseAddr(rapid.SampledFrom(list).Draw(t, label))
}

func drawNet(t *rapid.T, v6 bool, label string) netip.Prefix {
	list := nets4
	if v6 {
		list = nets6
	}
	return netip.MustParsePrefix(rapid.SampledFrom(list).Draw(t, label))
}

var protocolsDrawn = []int{-1, 1, 6, 17, 58, 47, 132, 136, 33, 112, 200}

func drawRule(t *rapid.T, n int) nodestate.Rule {
	r := nodestate.Rule{
		ID: fmt.Sprintf("rule-%d", n), Egress: rapid.Bool().Draw(t, "egress"), IPv6: rapid.Bool().Draw(t, "v6"),
		Protocol: rapid.SampledFrom(protocolsDrawn).Draw(t, "proto"), PortMin: -1, PortMax: -1,
	}
	switch r.Protocol {
	case 1, 58:
		if r.Protocol = 1; r.IPv6 {
			r.Protocol = 58
		}
		if rapid.Bool().Draw(t, "typed") {
			r.PortMin = rapid.SampledFrom([]int{0, 8, 128, 130, 134, 136}).Draw(t, "type")
			r.PortMax = rapid.SampledFrom([]int{-1, 0, 3}).Draw(t, "code")
		}
	case 6, 17, 132, 136, 33:
		if rapid.Bool().Draw(t, "ports") {
			r.PortMin = rapid.SampledFrom([]int{1, 22, 67, 68, 80}).Draw(t, "min")
			r.PortMax = r.PortMin + rapid.SampledFrom([]int{0, 1, 500}).Draw(t, "more")
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "remote") {
	case 1:
		r.Remote = drawNet(t, r.IPv6, "remote")
	case 2:
		r.Members = rapid.SampledFrom([]string{"m-1", "m-2", "m-none"}).Draw(t, "members")
	}
	return r
}

func drawPort(t *rapid.T, id string) *nodestate.Port {
	p := &nodestate.Port{ID: id, MAC: nodestate.MAC{2, 0, 0, 0, 0, 1}, PortSecurity: true, AdminUp: true}
	for _, v6 := range []bool{false, true} {
		if rapid.Bool().Draw(t, "address") {
			a := netip.MustParseAddr("10.0.0.1")
			if v6 {
				a = netip.MustParseAddr("fd00::1")
			}
			p.Addresses = append(p.Addresses, nodestate.Address{Prefix: netip.PrefixFrom(a, 24)})
		}
		if rapid.Bool().Draw(t, "pair") {
			p.AllowedPairs = append(p.AllowedPairs, nodestate.Pair{
				MAC: rapid.SampledFrom([]nodestate.MAC{{}, {2, 0, 0, 0, 0, 9}}).Draw(t, "mac"), Prefix: drawNet(t, v6, "pair"),
			})
		}
	}
	p.Groups = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"g-1", "g-2", "g-none"}), 0, 3, rapid.ID[string]).Draw(t, "groups")
	slices.Sort(p.Groups)
	return p
}

func drawPacket(t *rapid.T, p *nodestate.Port) firewall.Packet {
	v6 := rapid.Bool().Draw(t, "v6")
	k := firewall.Packet{
		Egress: rapid.Bool().Draw(t, "egress"), EthType: firewall.EthIPv4, EthSrc: rapid.SampledFrom(firewall.MACs(p)).Draw(t, "mac"),
		Src: drawAddr(t, v6, "src"), Dst: drawAddr(t, v6, "dst"),
		Protocol: uint8(rapid.SampledFrom([]int{1, 6, 17, 17, 58, 58, 47, 132, 136, 33, 112, 200}).Draw(t, "proto")),
	}
	ports := []uint16{22, 23, 80, 579}
	if v6 {
		k.EthType = firewall.EthIPv6
	}
	switch k.Protocol {
	case 1, 58:
		if k.Protocol = 1; v6 {
			k.Protocol = 58
		}
		k.SrcPort = rapid.SampledFrom([]uint16{0, 8, 128, 130, 131, 133, 134, 135, 136, 143}).Draw(t, "type")
		k.DstPort = rapid.SampledFrom([]uint16{0, 3}).Draw(t, "code")
		k.Target = k.Src
	case 17:
		ports = append(ports, 67, 68, 546, 547)
		fallthrough
	case 6, 132, 136, 33:
		k.SrcPort, k.DstPort = rapid.SampledFrom(ports).Draw(t, "sport"), rapid.SampledFrom(ports).Draw(t, "dport")
	}
	return k
}

// elsewhere tells of what is not the chains' to decide: br-int holds neighbour advertisements' targets and the MAC of packets without a
// source against the port, and answers of a DHCP server are let in only to addresses that a client listens on.
func elsewhere(p *nodestate.Port, k firewall.Packet) bool {
	if k.Egress {
		return k.Protocol == 58 && k.SrcPort == 136 && !firewall.Owns(p, k.EthSrc, k.Target)
	}
	server := k.Protocol == 17 && (k.SrcPort == 67 && k.DstPort == 68 || k.SrcPort == 547 && k.DstPort == 546)
	return server && !slices.ContainsFunc(p.Addresses, func(a nodestate.Address) bool { return a.Prefix.Addr() == k.Dst }) &&
		k.Dst != netip.MustParseAddr("255.255.255.255") && !netip.MustParsePrefix("fe80::/64").Contains(k.Dst)
}

const modelPort = "1a2b3c4d-5e6f-4000-8000-000000000001"

func TestChainsMeanTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, w := NewEngine(), newWorld()
		groups, members := map[string]*nodestate.Group{}, map[string]*nodestate.Members{}
		var p *nodestate.Port
		e.Plugged(modelPort, true)
		n := 0
		for range rapid.IntRange(1, 4).Draw(t, "updates") {
			// Any of the records may change between packets; the first round draws all.
			if p == nil || rapid.Bool().Draw(t, "new port") {
				p = drawPort(t, modelPort)
				e.Record(p)
			}
			for _, id := range []string{"g-1", "g-2"} {
				if groups[id] == nil || rapid.Bool().Draw(t, "new group") {
					g := &nodestate.Group{ID: id}
					for range rapid.IntRange(0, 5).Draw(t, "rules") {
						n++
						g.Rules = append(g.Rules, drawRule(t, n))
					}
					groups[id] = g
					e.Record(g)
				}
			}
			for _, id := range []string{"m-1", "m-2"} {
				if members[id] == nil || rapid.Bool().Draw(t, "new members") {
					m := &nodestate.Members{ID: id}
					for range rapid.IntRange(0, 3).Draw(t, "addresses") {
						m.Prefixes = append(m.Prefixes, drawNet(t, rapid.Bool().Draw(t, "v6"), "member"))
					}
					members[id] = m
					e.Record(m)
				}
			}
			w.take(e.Flush())
			if d := e.Flush(); len(d.Chains)+len(d.Sets)+len(d.Touched) != 0 {
				t.Fatalf("a second flush wants %v", d)
			}
			for range 150 {
				k := drawPacket(t, p)
				if elsewhere(p, k) {
					continue
				}
				f := netfilter.IPv4
				if k.EthType == firewall.EthIPv6 {
					f = netfilter.IPv6
				}
				got := w.verdict(f, "FORWARD", names.Tap(modelPort), k) == "ACCEPT"
				if want := firewall.Admits(p, groups, members, k); got != want {
					var b strings.Builder
					netfilter.Print(&b, f, w.chains)
					t.Fatalf("chains pass %v, the model %v: %+v\nport %+v\nsets %v\n%s", got, want, k, p, w.sets, b.String())
				}
			}
			if len(w.unread) > 0 {
				t.Fatalf("not understood: %v", w.unread)
			}
		}
		// From scratch it is the same.
		whole := NewEngine()
		for _, g := range groups {
			whole.Record(g)
		}
		for _, m := range members {
			whole.Record(m)
		}
		whole.Record(p)
		whole.Plugged(modelPort, true)
		w2 := newWorld()
		w2.take(whole.Flush())
		for c, r := range w2.chains {
			if !w.chains[c].Equal(r) {
				t.Fatalf("increments make %v of %s, the whole %v", w.chains[c], c, r)
			}
		}
		if len(w.chains) != len(w2.chains) || len(w.sets) != len(w2.sets) {
			t.Fatalf("increments: %d chains, %d sets; the whole: %d and %d", len(w.chains), len(w.sets), len(w2.chains), len(w2.sets))
		}
		// What is printed reads back as the same.
		for _, f := range netfilter.Families() {
			var b strings.Builder
			netfilter.Print(&b, f, w.chains)
			have, err := netfilter.Parse(f, []byte(b.String()), owns)
			if err != nil {
				t.Fatal(err)
			}
			for c, r := range w.chains {
				if c.Family == f && !have[c].Equal(r) {
					t.Fatalf("%s reads back as %v, is %v", c, have[c], r)
				}
			}
		}
		// And it can go without a trace.
		e.Forget(p.Key())
		w.take(e.Flush())
		e.Finish()
		w.take(e.Flush())
		for c, r := range w.chains {
			for _, x := range r {
				if strings.Contains(c.Name+x.Text, "1a2b3c4d-5") {
					t.Fatalf("left over: %s %s", c, x.Text)
				}
			}
		}
		if len(w.sets) != 0 {
			t.Fatalf("sets left over: %v", w.sets)
		}
	})
}
