package l2

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Whatever has happened, in whatever batches: the increments add up to what Want computes at once from the state that is left.
func TestIncrementsEqualWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, w := New(testNode()), NewWanted()
		id := func(kind string, n int) string { return fmt.Sprintf("%s%d", kind, rapid.IntRange(1, n).Draw(t, kind)) }
		live := map[nodestate.Key]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"network": func(t *rapid.T) {
				r := &nodestate.Network{
					ID: id("net", 3), Type: rapid.SampledFrom([]string{"vxlan", "gre", "local", "flat", "vlan"}).Draw(t, "type"),
					SegmentationID: rapid.Uint32Range(1, 2).Draw(t, "segment"),
				}
				if r.Type == "flat" || r.Type == "vlan" {
					r.PhysicalNetwork = id("phys", 2)
				}
				if rapid.Bool().Draw(t, "more") {
					r.More = append(r.More, nodestate.Segment{Type: "flat", PhysicalNetwork: id("phys", 3)})
				}
				live[r.Key()] = true
				e.Record(r)
			},
			"port": func(t *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(t, "port")
				r := &nodestate.Port{
					ID: fmt.Sprintf("port%d", n), NetworkID: id("net", 3), MAC: nodestate.MAC{2, 0, 0, 0, 0, byte(n)},
					AdminUp: rapid.Bool().Draw(t, "up"), PortSecurity: rapid.Bool().Draw(t, "security"),
					Addresses: []nodestate.Address{{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", n))}},
					QoS: nodestate.QoS{Egress: nodestate.Rate{Kbps: rapid.IntRange(0, 2).Draw(t, "egress")},
						Ingress: nodestate.Rate{Kbps: rapid.IntRange(0, 1).Draw(t, "ingress"), Burst: 5}, Marked: rapid.Bool().Draw(t, "marked"), DSCP: 8},
				}
				live[r.Key()] = true
				e.Record(r)
			},
			"trunk": func(t *rapid.T) {
				r := &nodestate.Trunk{ID: id("trunk", 2), PortID: id("port", 2), AdminUp: true}
				for tag := range rapid.IntRange(0, 2).Draw(t, "subports") {
					r.SubPorts = append(r.SubPorts, nodestate.SubPort{PortID: fmt.Sprintf("port%d", 3+tag), Tag: uint16(10 + tag)})
				}
				for other := range live { // a port is part of one trunk: the store sees to that
					if other.Kind == nodestate.KindTrunk && other != r.Key() {
						e.Forget(other)
						delete(live, other)
						delete(w.Verdicts, other)
					}
				}
				live[r.Key()] = true
				e.Record(r)
			},
			"guest": func(t *rapid.T) {
				e.Guest(id("dev", 4), Guest{IfaceID: id("port", 3), Bridge: names.TrunkBridge(id("trunk", 2))})
			},
			"noguest": func(t *rapid.T) { e.NoGuest(id("dev", 4)) },
			"peers": func(t *rapid.T) {
				n := rapid.IntRange(1, 3).Draw(t, "host")
				r := &nodestate.Peers{
					NetworkID: id("net", 3), Host: fmt.Sprintf("h%d", n), Endpoint: netip.AddrFrom4([4]byte{192, 168, 20, byte(19 + n/2)}),
					Peers: []nodestate.Peer{{MAC: nodestate.MAC{2, 0, 0, 0, 1, byte(rapid.IntRange(1, 2).Draw(t, "mac"))},
						IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + n)})}}},
				}
				live[r.Key()] = true
				e.Record(r)
			},
			"forget": func(t *rapid.T) {
				for k := range live {
					if rapid.Bool().Draw(t, k.String()) {
						e.Forget(k)
						delete(live, k)
						delete(w.Verdicts, k)
						return
					}
				}
			},
			"patch port": func(t *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(t, "n")
				port := fmt.Sprintf("port%d", n)
				name := names.SubPortInt(port)
				if rapid.Bool().Draw(t, "parent") {
					name = names.TrunkParentInt(port)
				}
				e.Device(Device{Name: name, IfaceID: port, OFPort: rapid.IntRange(0, 6).Draw(t, "ofport"), Tag: -1, Metered: true})
			},
			"device": func(t *rapid.T) {
				e.Device(Device{
					Name: id("dev", 4), IfaceID: id("port", 5), OFPort: rapid.IntRange(-1, 5).Draw(t, "ofport"),
					Tag: rapid.IntRange(-1, 1).Draw(t, "tag"), Changed: rapid.Bool().Draw(t, "changed"),
					Metered: rapid.Bool().Draw(t, "metered"), Shaped: rapid.Bool().Draw(t, "shaped"),
				})
			},
			"unplug": func(t *rapid.T) { e.Unplug(id("dev", 4)) },
			"service": func(t *rapid.T) {
				p := id("port", 2)
				e.Service(ServicePort{ID: p, Name: "dev" + p[4:], Placed: rapid.Bool().Draw(t, "placed")})
			},
			"noservice": func(t *rapid.T) { e.NoService(id("port", 2)) },
			"tunnel": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"vxlan-c0a81413", "vxlan-c0a81414", "gre-c0a81413", "gre-c0a81414"}).Draw(t, "name")
				e.Tunnel(name, rapid.IntRange(0, 3).Draw(t, "ofport"))
			},
			"map": func(t *rapid.T) {
				mappings, unusable := map[string]string{}, map[string]string{}
				for i := range rapid.IntRange(0, 3).Draw(t, "mapped") {
					phys := fmt.Sprintf("phys%d", i+1)
					mappings[phys] = fmt.Sprintf("br%d", (i+rapid.IntRange(0, 2).Draw(t, "bridge"))%3)
					if rapid.IntRange(0, 3).Draw(t, "fault") == 0 {
						unusable[phys] = "no NIC"
					}
				}
				e.Map(mappings, unusable)
			},
			"join": func(t *rapid.T) {
				e.Join(fmt.Sprintf("br%d", rapid.IntRange(0, 2).Draw(t, "bridge")),
					Link{rapid.IntRange(0, 3).Draw(t, "int") * 10, rapid.IntRange(0, 2).Draw(t, "phy"), rapid.Bool().Draw(t, "joined")})
			},
			"distribute": func(t *rapid.T) { e.Distribute(rapid.Bool().Draw(t, "yes")) },
			"patch":      func(t *rapid.T) { e.Patch(rapid.IntRange(0, 2).Draw(t, "tun"), rapid.IntRange(0, 2).Draw(t, "int")) },
			"confirm":    func(*rapid.T) { e.Confirm() },
			"flush": func(*rapid.T) {
				d := e.Flush()
				for k := range d.Verdicts {
					if !live[k] {
						t.Fatalf("a verdict on %s, which is not there", k)
					}
				}
				w.Apply(d)
			},
		})
		d := e.Flush()
		w.Apply(d)
		w.VLANs = maps.Clone(e.VLANs())
		s := *e.State()
		s.VLANs = w.VLANs
		full := Want(&s)
		if diff := cmp.Diff(dump(full), dump(w)); diff != "" {
			t.Fatalf("increments differ from the whole: %s", diff)
		}
		if diff := cmp.Diff(full.Places, w.Places); diff != "" {
			t.Fatalf("places of ports: %s", diff)
		}
		if diff := cmp.Diff(full.Limits, w.Limits); diff != "" {
			t.Fatalf("limits: %s", diff)
		}
		if diff := cmp.Diff(full.Meters, w.Meters); diff != "" {
			t.Fatalf("meters: %s", diff)
		}
		if diff := cmp.Diff(full.VLANs, w.VLANs); diff != "" {
			t.Fatalf("local VLANs: %s", diff)
		}
		seen := map[uint16]bool{}
		for _, id := range w.VLANs {
			if id < minVLAN || id > maxVLAN || seen[id] {
				t.Fatalf("local VLANs are not distinct: %v", w.VLANs)
			}
			seen[id] = true
		}
	})
}

func TestVLANsAreRememberedAndRunOut(t *testing.T) {
	v := newVLANs()
	a, b := Segment{"a", "vxlan", 1}, Segment{"b", "vxlan", 2}
	v.remember(a, 17)
	v.remember(b, 17) // taken
	v.remember(b, 4095)
	v.remember(b, 0)
	if got := v.get(a); got != 17 {
		t.Errorf("a has %d, remembered 17", got)
	}
	if got := v.get(b); got == 17 || got == 0 {
		t.Errorf("b has %d", got)
	}
	first := v.get(b)
	v.release(b)
	if got := v.get(b); got != first {
		t.Errorf("b came back with %d, had %d", got, first)
	}
	seen := map[uint16]bool{}
	for i := range 5000 {
		seen[v.get(Segment{"net", "vxlan", uint32(i)})] = true
	}
	if len(seen) != maxVLAN-1 || !seen[0] { // all but a's and b's, and none for those who came too late
		t.Errorf("%d different answers", len(seen))
	}
}
