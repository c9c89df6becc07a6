package agent_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/agent"
)

func TestParseMappings(t *testing.T) {
	got, err := agent.ParseMappings([]string{"public:br-ex", " rack:br-rack"})
	if d := cmp.Diff(map[string]string{"public": "br-ex", "rack": "br-rack"}, got); err != nil || d != "" {
		t.Errorf("%v: %s", err, d)
	}
	for _, bad := range [][]string{{"public"}, {":br-ex"}, {"public:"}, {"a:b", "a:c"}, {""}} {
		if got, err := agent.ParseMappings(bad); err == nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
	if got, err := agent.ParseNICs([]string{"br-ex=eth1"}); err != nil || got["br-ex"] != "eth1" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPhysicalCheck(t *testing.T) {
	for _, tc := range []struct {
		p   agent.Physical
		why string // "": nothing is wrong
	}{
		{agent.Physical{}, ""},
		{agent.Physical{Mappings: map[string]string{"a": "br-a", "b": "br-b"}, NICs: map[string]string{"br-a": "eth1"}}, ""},
		{agent.Physical{Mappings: map[string]string{"a": "br-ex", "b": "br-ex"}}, "both mapped to bridge br-ex"},
		{agent.Physical{Mappings: map[string]string{"a": "br-int"}}, "br-int is the agent's own"},
		{agent.Physical{Mappings: map[string]string{"a": "br-tun"}}, "br-tun is the agent's own"},
		{agent.Physical{Mappings: map[string]string{"a": "tbr-0123456789"}}, "the agent's own"},
		{agent.Physical{Mappings: map[string]string{"a": "sixteen-letters-"}}, "longer than 15"},
		{agent.Physical{Mappings: map[string]string{"a": ""}}, "no device name"},
		{agent.Physical{Mappings: map[string]string{"a": "../br"}}, "has a character"},
		{agent.Physical{Mappings: map[string]string{"a b": "br-ex"}}, "physical network \"a b\""},
		{agent.Physical{Mappings: map[string]string{"": "br-ex"}}, "physical network \"\""},
		{agent.Physical{NICs: map[string]string{"br-ex": "eth1"}}, "no physical network is mapped"},
		{agent.Physical{Mappings: map[string]string{"a": "br-a", "b": "br-b"}, NICs: map[string]string{"br-a": "eth1", "br-b": "eth1"}}, "cannot be in bridges"},
		{agent.Physical{Mappings: map[string]string{"a": "br-a", "b": "br-b"}, NICs: map[string]string{"br-a": "br-b"}}, "cannot be a bridge and the NIC"},
	} {
		err := tc.p.Check()
		if (err == nil) != (tc.why == "") || err != nil && !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%+v: %v, want %q", tc.p, err, tc.why)
		}
	}
}
