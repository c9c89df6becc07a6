package nodestate_test

import (
	"net/netip"
	"testing"

	"baryon/internal/nodestate"
)

func TestCarried(t *testing.T) {
	tunnels := nodestate.Carrier{TunnelIP: netip.MustParseAddr("192.0.2.1"), TunnelTypes: []string{"vxlan"}}
	mapped := nodestate.Carrier{BridgeMappings: map[string]string{"public": "br-ex"}}
	vxlan, gre := nodestate.Segment{Type: "vxlan", SegmentationID: 5}, nodestate.Segment{Type: "gre", SegmentationID: 6}
	vlan, flat := nodestate.Segment{Type: "vlan", PhysicalNetwork: "public", SegmentationID: 7}, nodestate.Segment{Type: "flat", PhysicalNetwork: "other"}
	for _, tc := range []struct {
		name     string
		node     nodestate.Carrier
		segments []nodestate.Segment
		want     int
		missing  string
	}{
		{"tunnel", tunnels, []nodestate.Segment{vxlan}, 0, ""},
		{"another tunnel", tunnels, []nodestate.Segment{gre}, -1, "no tunnels of type gre"},
		{"no tunnels", mapped, []nodestate.Segment{vxlan}, -1, "no tunnel address for vxlan"},
		{"types without an address", nodestate.Carrier{TunnelTypes: []string{"vxlan"}}, []nodestate.Segment{vxlan}, -1, "no tunnel address for vxlan"},
		{"mapped", mapped, []nodestate.Segment{vlan}, 0, ""},
		{"not mapped", mapped, []nodestate.Segment{flat}, -1, "no bridge mapping for physical network other"},
		{"the first that it can", mapped, []nodestate.Segment{vxlan, flat, vlan}, 2, ""},
		{"none of several", mapped, []nodestate.Segment{gre, flat}, -1, "no tunnel address for gre; no bridge mapping for physical network other"},
		{"local", nodestate.Carrier{}, []nodestate.Segment{{Type: "local"}}, 0, ""},
		{"of no type", tunnels, []nodestate.Segment{{}}, -1, "no tunnels of type "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.node.First(tc.segments); got != tc.want {
				t.Errorf("First = %d, want %d", got, tc.want)
			}
			first := tc.segments[0]
			n := &nodestate.Network{Type: first.Type, PhysicalNetwork: first.PhysicalNetwork, SegmentationID: first.SegmentationID, More: tc.segments[1:]}
			seg, ok := tc.node.Carried(n)
			if ok != (tc.want >= 0) || ok && seg != tc.segments[tc.want] {
				t.Errorf("Carried = %v, %v", seg, ok)
			}
			if tc.want < 0 {
				if got := tc.node.Missing(tc.segments); got != tc.missing {
					t.Errorf("Missing = %q, want %q", got, tc.missing)
				}
			}
		})
	}
}
