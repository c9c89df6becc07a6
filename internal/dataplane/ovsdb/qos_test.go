package ovsdb_test

import (
	"strings"
	"testing"

	"baryon/internal/dataplane/ovsdb"
)

// rows counts the rows of a table.
func (f *fixture) rows(table string) int {
	f.t.Helper()
	return len(strings.Fields(f.Ctl("--bare", "--columns=_uuid", "list", table)))
}

// TestLimits: what is wanted of a port comes, changes and goes with its rows; what others set stays.
func TestLimits(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges()})
	f.Ctl("add-port", "br-int", "guest", "--", "set", "Interface", "guest", "type=internal")
	f.Ctl("--", "--id=@q", "create", "QoS", "type=linux-htb", "external_ids:mine=yes")
	until := func(want ovsdb.Limits) {
		t.Helper()
		f.until("limits are as wanted", func() bool { v, ok := f.d.Port("guest"); return ok && v.Limits == want })
	}
	until(ovsdb.Limits{})
	for _, want := range []ovsdb.Limits{
		{In: ovsdb.Rate{Kbps: 5000, Burst: 4000}},
		{In: ovsdb.Rate{Kbps: 6000, Burst: 4000}, Out: ovsdb.Rate{Kbps: 8000, Burst: 8000}},
		{Out: ovsdb.Rate{Kbps: 9000, Burst: 7200}},
	} {
		plan := ovsdb.Plan{Limits: map[string]ovsdb.Limits{"guest": want, "absent": want}}
		f.apply(plan)
		until(want)
		if cfg, err := f.d.Apply(t.Context(), plan); cfg != 0 || err != nil {
			t.Errorf("second apply of %+v: cfg %d, %v", want, cfg, err)
		}
	}
	if got := strings.Fields(f.Ctl("get", "Interface", "guest", "ingress_policing_rate", "ingress_policing_burst", "external_ids")); strings.Join(got, " ") != "0 0 {}" {
		t.Errorf("policing after it was taken away: %v", got)
	}
	// A row changed by somebody is put right, and one queue is all there is.
	f.Ctl("set", "QoS", f.rowOf("guest"), "other_config:max-rate=5")
	f.until("the change is seen", func() bool { v, _ := f.d.Port("guest"); return v.Limits.Out.Kbps < 0 })
	last := ovsdb.Limits{Out: ovsdb.Rate{Kbps: 9000, Burst: 7200}}
	f.apply(ovsdb.Plan{Limits: map[string]ovsdb.Limits{"guest": last}})
	until(last)
	if f.rows("Queue") != 1 || f.rows("QoS") != 2 {
		t.Errorf("%d queues, %d QoS rows", f.rows("Queue"), f.rows("QoS"))
	}
	// Its port deleted by others, the row is left behind, and swept.
	f.Ctl("del-port", "guest")
	f.until("rows are stale", f.d.StaleQoS)
	f.apply(ovsdb.Plan{Sweep: true})
	f.until("nothing is stale", func() bool { return !f.d.StaleQoS() })
	if f.rows("Queue") != 0 || f.rows("QoS") != 1 {
		t.Errorf("after the sweep %d queues, %d QoS rows; one QoS row is of others", f.rows("Queue"), f.rows("QoS"))
	}
}

func (f *fixture) rowOf(port string) string {
	f.t.Helper()
	return strings.TrimSpace(f.Ctl("get", "Port", port, "qos"))
}

// TestPolicingOfOthersStays: a limit that an operator has set is none of ours until we want one.
func TestPolicingOfOthersStays(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges()})
	f.Ctl("add-port", "br-int", "guest", "--", "set", "Interface", "guest", "type=internal", "ingress_policing_rate=1000")
	f.until("guest is seen", func() bool { _, ok := f.d.Port("guest"); return ok })
	if v, _ := f.d.Port("guest"); v.Limits != (ovsdb.Limits{}) {
		t.Errorf("limits of others count as ours: %+v", v.Limits)
	}
	if cfg, err := f.d.Apply(t.Context(), ovsdb.Plan{Limits: map[string]ovsdb.Limits{"guest": {}}}); cfg != 0 || err != nil {
		t.Errorf("no limits wanted: cfg %d, %v", cfg, err)
	}
}

// TestBridgesOfTrunks: a bridge made by a plugger becomes ours when it is claimed, and is removed only when nobody's port is on it.
func TestBridgesOfTrunks(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges()})
	f.Ctl("add-br", "tbr-1", "--", "set", "Bridge", "tbr-1", "datapath_type=netdev", "--", "add-port", "tbr-1", "guest",
		"--", "set", "Interface", "guest", "type=internal")
	f.until("the guest is seen", func() bool { v, ok := f.d.Port("guest"); return ok && v.Bridge == "tbr-1" })
	patch := ovsdb.Port{Name: "tpt", Bridge: "tbr-1", Type: "patch", Options: map[string]string{"peer": "tpi"}}
	f.apply(ovsdb.Plan{Claim: []string{"tbr-1", "absent"}, Ports: []ovsdb.Port{patch}, Raze: []string{"tbr-1"}})
	if got := f.d.Abandoned("tbr-"); got != nil {
		t.Errorf("abandoned with a guest: %v", got)
	}
	f.apply(ovsdb.Plan{Raze: []string{"tbr-1", "br-tun"}})
	if _, ok := f.d.Bridge("tbr-1"); !ok {
		t.Fatal("a bridge with a guest was removed")
	}
	f.Ctl("del-port", "guest")
	f.until("it is abandoned", func() bool { return len(f.d.Abandoned("tbr-")) == 1 })
	f.apply(ovsdb.Plan{Raze: []string{"tbr-1"}})
	f.until("it has gone", func() bool { _, ok := f.d.Bridge("tbr-1"); return !ok })
}
