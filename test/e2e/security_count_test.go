package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"baryon/internal/agent/status"
)

// counters are what a node has dropped, by reason: br-int's by table and reason ("base_egress tagged"), and a port's at its Linux
// bridge by chain ("chain o drop": a DROP of its chain for what the guest sends; "fallback": no rule returned it).  Those of a port that
// br-int keeps ("port source") are there for the port that was asked for.
func (s *security) counters(p *sgPort) map[string]int {
	s.t.Helper()
	_, err := s.Run(s.ctx(), p.node, "ovs-appctl", "revalidator/wait") // the datapath hands its counters over from time to time
	s.must(err)
	text, err := s.Run(s.ctx(), p.node, "curl", "-sf", "--unix-socket", "/var/lib/baryon/agent.sock", "http://agent/drops")
	s.must(err)
	var d status.Drops
	s.must(json.Unmarshal([]byte(text), &d))
	out := map[string]int{}
	for _, r := range d.Reasons {
		out[r.Table+" "+r.Reason] += int(r.Packets)
	}
	for _, r := range d.Ports {
		if r.Port == p.ID {
			out["port "+r.Reason] += int(r.Packets)
		}
	}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		text, err := s.Run(s.ctx(), p.node, save, "-c", "-t", "filter")
		s.must(err)
		for _, m := range chainDrop.FindAllStringSubmatch(text, -1) {
			if m[3] != p.ID[:10] {
				continue
			}
			n, err := strconv.Atoi(m[1])
			s.must(err)
			what := "drop"
			if m[4] != "DROP" {
				what = "fallback"
			}
			out["chain "+m[2]+" "+what] += n
		}
	}
	return out
}

var chainDrop = regexp.MustCompile(`(?m)^\[(\d+):\d+\] -A neutron-openvswi-([ios])(\S{10}) .*-j (DROP|neutron-openvswi-sg-fallback)$`)

// counted requires that f has at least these packets dropped under these reasons at a port's node.  More may be counted: of what was
// dropped before, some is counted late.
func (s *security) counted(p *sgPort, want map[string]int, f func()) {
	s.t.Helper()
	before := s.counters(p)
	f()
	s.eventually("dropped packets are counted by reason", func() error {
		now := s.counters(p)
		for k, n := range want {
			if grown := now[k] - before[k]; grown < n {
				return fmt.Errorf("%s: counts %d of %d packets", k, grown, n)
			}
		}
		return nil
	})
}
