package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const outsideText = `
nodes: [{name: a}, {name: b}]
physical_networks:
- {name: public, bridge: br-ex, nodes: [a], outside: [{name: ext, addresses: [203.0.113.1/24]}, {name: v9, vlan: 9}]}
- {name: rack, bridge: br-rack}
`

func TestPhysicalNetworks(t *testing.T) {
	top, err := ReadTopology(strings.NewReader(outsideText))
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{state: state{Physical: top.PhysicalNetworks}}
	for node, want := range map[string]Mappings{
		"a": {Bridges: map[string]string{"public": "br-ex", "rack": "br-rack"}, NICs: map[string]string{"br-ex": "eth2", "br-rack": "eth3"}},
		"b": {Bridges: map[string]string{"rack": "br-rack"}, NICs: map[string]string{"br-rack": "eth3"}},
	} {
		if d := cmp.Diff(want, l.NodeMappings(node)); d != "" {
			t.Errorf("%s: %s", node, d)
		}
	}
	for change, why := range map[string]string{
		"nodes: [a]->nodes: [c]":             `no node "c"`,
		"name: rack->name: public":           "stands twice",
		"bridge: br-rack->bridge: ''":        "no bridge",
		"vlan: 9->vlan: 4095":                "not in 0 to 4094",
		"name: v9->name: ext":                "no other like it",
		"203.0.113.1/24->203.0.113.1":        "address",
		"name: b}->name: outside}":           "none of switch, server, outside",
		"name: rack,->name: 'a:b',":          "a colon",
		"name: ext,->name: far-too-long-it,": "12 at most",
	} {
		old, now, _ := strings.Cut(change, "->")
		text := strings.Replace(outsideText, old, now, 1)
		if text == outsideText {
			t.Fatalf("%q changes nothing", change)
		}
		if _, err := ReadTopology(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", change, err, why)
		}
	}
}
