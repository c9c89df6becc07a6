package conntrack

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	addr := netip.MustParseAddr
	for line, want := range map[string]Entry{
		"tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=40000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=40000),zone=3,mark=1,protoinfo=(state=ESTABLISHED)": {
			Zone: 3, Mark: 1, Protocol: 6, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), SrcPort: 40000, DstPort: 80},
		"icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=7,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=7,type=0,code=0),zone=65279": {
			Zone: 65279, Protocol: 1, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), ID: 7, Type: 8},
		"47,orig=(src=fd00::1,dst=fd00::2),reply=(src=fd00::2,dst=fd00::1),zone=1,mark=3": {
			Zone: 1, Mark: 3, Protocol: 47, Src: addr("fd00::1"), Dst: addr("fd00::2")},
	} {
		got, err := parse(line)
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s: %s", line, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{
		"", "tcp", "tcp,orig=(src=10.0.0.1", "what,orig=(src=10.0.0.1,dst=10.0.0.2)", "tcp,orig=(src=10.0.0.1)", "tcp,orig=(src=x,dst=10.0.0.2)",
		"udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=70000,dport=1)", "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=1),zone=70000", "300,orig=(src=1.1.1.1,dst=1.1.1.2)",
	} {
		if e, err := parse(line); err == nil {
			t.Errorf("%q is read as %s", line, e)
		}
	}
}

func TestTuple(t *testing.T) {
	addr := netip.MustParseAddr
	for want, e := range map[string]Entry{
		"ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=5,ct_tp_dst=53": {Protocol: 17, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), SrcPort: 5, DstPort: 53},
		"ct_ipv6_src=fd00::1,ct_ipv6_dst=fd00::2,ct_nw_proto=58,icmp_id=9,icmp_type=128,icmp_code=0": {
			Protocol: 58, Src: addr("fd00::1"), Dst: addr("fd00::2"), ID: 9, Type: 128},
	} {
		if got := tuple(e); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=2),reply=(),zone=3,mark=1,protoinfo=(state=A)")
	f.Fuzz(func(t *testing.T, line string) {
		if e, err := parse(line); err == nil && (!e.Src.IsValid() || !e.Dst.IsValid()) {
			t.Errorf("%q has no addresses", line)
		}
	})
}
