package l2

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// A script is a state in lines, each one event; the order of lines must not matter:
//
//	network ID TYPE SEGMENT [PHYSICAL]
//	port ID NETWORK MAC ADDRESS/LEN,… [open|down|OWNER] [pair=MAC/PREFIX …] [egress=KBPS,BURST] [ingress=KBPS,BURST] [dscp=N]
//	peers NETWORK HOST ENDPOINT MAC=IP,IP;MAC=…
//	device NAME PORT OFPORT [tag=N] [changed] [metered] [shaped]
//	trunk ID PARENT TAG=PORT …
//	guest NAME TRUNK PORT
//	service PORT NAME MAC MTU [placed]
//	tunnel NAME OFPORT
//	patch TUN INT
//	map PHYSICAL:BRIDGE … [PHYSICAL!REASON]
//	join BRIDGE INT PHY [apart]
//	distributed
//	confirmed
type script []string

func parseScript(text string) script {
	var s script
	for _, l := range strings.Split(text, "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			s = append(s, l)
		}
	}
	return s
}

func mac(t *testing.T, s string) nodestate.MAC {
	t.Helper()
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		t.Fatalf("MAC %q", s)
	}
	return nodestate.MAC(hw)
}

func num(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// do gives one line to the engine.
func do(t *testing.T, e *Engine, line string) {
	t.Helper()
	f := strings.Fields(line)
	switch f[0] {
	case "network":
		n := &nodestate.Network{ID: f[1], Type: f[2], SegmentationID: uint32(num(t, f[3]))}
		if len(f) > 4 {
			n.PhysicalNetwork = f[4]
		}
		e.Record(n)
	case "map":
		mappings, unusable := map[string]string{}, map[string]string{}
		for _, x := range f[1:] {
			if p, bridge, ok := strings.Cut(x, ":"); ok {
				mappings[p] = bridge
			} else if p, why, ok := strings.Cut(x, "!"); ok {
				unusable[p] = why
			}
		}
		e.Map(mappings, unusable)
	case "join":
		e.Join(f[1], Link{num(t, f[2]), num(t, f[3]), len(f) == 4})
	case "distributed":
		e.Distribute(true)
	case "port":
		e.Record(scriptPort(t, f))
	case "peers":
		p := &nodestate.Peers{NetworkID: f[1], Host: f[2]}
		p.Endpoint, _ = netip.ParseAddr(f[3])
		for _, entry := range strings.Split(strings.Join(f[4:], ""), ";") {
			if entry == "" {
				continue
			}
			m, ips, _ := strings.Cut(entry, "=")
			peer := nodestate.Peer{MAC: mac(t, m)}
			for _, ip := range strings.FieldsFunc(ips, func(r rune) bool { return r == ',' }) {
				peer.IPs = append(peer.IPs, netip.MustParseAddr(ip))
			}
			p.Peers = append(p.Peers, peer)
		}
		e.Record(p)
	case "device":
		d := Device{Name: f[1], IfaceID: f[2], OFPort: num(t, f[3]), Tag: -1}
		for _, x := range f[4:] {
			switch {
			case x == "changed":
				d.Changed = true
			case x == "metered":
				d.Metered = true
			case x == "shaped":
				d.Shaped = true
			default:
				d.Tag = num(t, strings.TrimPrefix(x, "tag="))
			}
		}
		e.Device(d)
	case "trunk":
		tr := &nodestate.Trunk{ID: f[1], PortID: f[2], AdminUp: true}
		for _, x := range f[3:] {
			tag, port, _ := strings.Cut(x, "=")
			tr.SubPorts = append(tr.SubPorts, nodestate.SubPort{PortID: port, Tag: uint16(num(t, tag))})
		}
		e.Record(tr)
	case "guest":
		e.Guest(f[1], Guest{IfaceID: f[3], Bridge: names.TrunkBridge(f[2])})
	case "service":
		e.Service(ServicePort{ID: f[1], Name: f[2], MAC: mac(t, f[3]), MTU: num(t, f[4]), Placed: len(f) > 5})
	case "tunnel":
		e.Tunnel(f[1], num(t, f[2]))
	case "patch":
		e.Patch(num(t, f[1]), num(t, f[2]))
	case "confirmed":
		e.Confirm()
	default:
		t.Fatalf("what is %q?", line)
	}
}

func scriptPort(t *testing.T, f []string) *nodestate.Port {
	t.Helper()
	p := &nodestate.Port{ID: f[1], NetworkID: f[2], MAC: mac(t, f[3]), AdminUp: true, PortSecurity: true}
	for _, a := range strings.FieldsFunc(f[4], func(r rune) bool { return r == ',' || r == '-' }) {
		p.Addresses = append(p.Addresses, nodestate.Address{Prefix: netip.MustParsePrefix(a)})
	}
	for _, x := range f[5:] {
		switch {
		case x == "open":
			p.PortSecurity = false
		case x == "down":
			p.AdminUp = false
		case strings.HasPrefix(x, "egress="):
			p.QoS.Egress = scriptRate(t, strings.TrimPrefix(x, "egress="))
		case strings.HasPrefix(x, "ingress="):
			p.QoS.Ingress = scriptRate(t, strings.TrimPrefix(x, "ingress="))
		case strings.HasPrefix(x, "dscp="):
			p.QoS.Marked, p.QoS.DSCP = true, uint8(num(t, strings.TrimPrefix(x, "dscp=")))
		case strings.HasPrefix(x, "pair="):
			m, prefix, _ := strings.Cut(strings.TrimPrefix(x, "pair="), "/")
			p.AllowedPairs = append(p.AllowedPairs, nodestate.Pair{MAC: mac(t, m), Prefix: netip.MustParsePrefix(prefix)})
		default:
			p.DeviceOwner = x
		}
	}
	return p
}

// dump prints a wanted state for reading: table names, no cookies, sorted.
func dump(w Wanted) string {
	var b strings.Builder
	type bridge struct {
		name  string
		flows map[openflow.FlowKey]openflow.Flow
	}
	bridges := []bridge{{"br-int", w.Int}, {"br-tun", w.Tun}}
	for _, name := range slices.Sorted(maps.Keys(w.Provider)) {
		bridges = append(bridges, bridge{name, w.Provider[name]})
	}
	for _, br := range bridges {
		fmt.Fprintf(&b, "-- %s --\n", br.name)
		flows := slices.Collect(maps.Values(br.flows))
		openflow.SortFlows(flows)
		for _, f := range flows {
			rule, ok := pipeline.RuleOf(f.Cookie)
			if !ok || rule.Table.ID != f.Table || !rule.Table.On(br.name) {
				fmt.Fprintf(&b, "FLOW WITHOUT A RULE: ")
				rule = &pipeline.Rule{Table: &pipeline.Table{Name: "?"}}
			}
			f.Cookie, f.Table = 0, 0
			fmt.Fprintf(&b, "%s: %s\n", rule.Table.Name, strings.TrimPrefix(f.String(), "cookie=0x0, "))
		}
	}
	fmt.Fprintf(&b, "-- ports --\n%s-- tags --\n%s-- verdicts --\n%s", sorted(w.Ports), sorted(w.Tags), sorted(w.Verdicts))
	limits := maps.Clone(w.Limits)
	maps.DeleteFunc(limits, func(_ string, l ovsdb.Limits) bool { return l == ovsdb.Limits{} })
	if len(limits)+len(w.Meters) > 0 {
		fmt.Fprintf(&b, "-- limits --\n%s-- meters --\n%s", sorted(limits), sorted(w.Meters))
	}
	return b.String()
}

func scriptRate(t *testing.T, s string) nodestate.Rate {
	t.Helper()
	kbps, burst, _ := strings.Cut(s, ",")
	return nodestate.Rate{Kbps: num(t, kbps), Burst: num(t, burst)}
}

func sorted[K comparable, V any](m map[K]V) string {
	var lines []string
	for k, v := range m {
		lines = append(lines, fmt.Sprintf("%v: %+v\n", k, v))
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}
