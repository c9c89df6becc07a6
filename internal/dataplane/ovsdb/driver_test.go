package ovsdb_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/dataplane/ovsdb/ovstest"
)

type fixture struct {
	*ovstest.Node
	t    *testing.T
	d    *ovsdb.Driver
	last ovsdb.Changes
	seen map[string]bool
}

func start(t *testing.T) *fixture {
	n := ovstest.Start(t)
	f := &fixture{Node: n, t: t, seen: map[string]bool{}}
	f.d = ovsdb.New("unix:"+n.RunDir+"/db.sock", func() {}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	f.until("connected", func() bool { return f.last.Connected })
	return f
}

func (f *fixture) until(what string, ok func() bool) {
	f.t.Helper()
	f.Eventually(what, func() bool {
		f.last = f.d.Poll()
		for _, p := range f.last.Ports {
			f.seen[p] = true
		}
		return ok()
	})
}

func (f *fixture) apply(p ovsdb.Plan) {
	f.t.Helper()
	cfg, err := f.d.Apply(f.t.Context(), p)
	if err != nil {
		f.t.Fatal(err)
	}
	f.until("applied", func() bool { return f.last.CurCfg >= cfg })
}

func bridges() []ovsdb.Bridge {
	mk := func(name string) ovsdb.Bridge {
		return ovsdb.Bridge{
			Name: name, DatapathType: "netdev", FailMode: "secure", Protocols: []string{"OpenFlow10", "OpenFlow14"},
			OtherConfig: map[string]string{"disable-in-band": "true"}, Controller: "tcp:127.0.0.1:6633",
			ProbeMS: 10000, MaxBackoffMS: 1000,
		}
	}
	return []ovsdb.Bridge{mk("br-int"), mk("br-tun")}
}

func patches() []ovsdb.Port {
	return []ovsdb.Port{
		{Name: "patch-tun", Bridge: "br-int", Type: "patch", Options: map[string]string{"peer": "patch-int"}},
		{Name: "patch-int", Bridge: "br-tun", Type: "patch", Options: map[string]string{"peer": "patch-tun"}},
	}
}

func TestBuildTagRemove(t *testing.T) {
	f := start(t)
	tap := ovsdb.Port{
		Name: "tap1", Bridge: "br-int", Type: "internal", MTU: 1450, Dead: true,
		ExternalIDs: map[string]string{"iface-id": "p1", "attached-mac": "fa:16:3e:00:00:01"},
	}
	f.apply(ovsdb.Plan{Bridges: bridges(), Ports: append(patches(), tap)})
	f.until("tap1 has a port number", func() bool { v, _ := f.d.Port("tap1"); return v.OFPort > 0 })
	v, _ := f.d.Port("tap1")
	dead := ovsdb.Tagging{Tag: 4095, Mode: "trunk", Trunks: []int{4095}}
	if !v.Ours || v.Bridge != "br-int" || !dead.Equal(v.Tagging) || !tap.Equal(v.AsPort()) {
		t.Errorf("tap1 is %+v", v)
	}
	live := ovsdb.Tagging{Tag: 7, OtherConfig: map[string]string{"net_uuid": "n1", "tag": "7"}}
	f.apply(ovsdb.Plan{Tags: map[string]ovsdb.Tagging{"tap1": live, "absent": live}})
	f.until("tap1 is tagged", func() bool { v, _ := f.d.Port("tap1"); return live.Equal(v.Tagging) })
	if got := f.Ctl("get", "Port", "tap1", "tag", "vlan_mode", "trunks"); strings.Join(strings.Fields(got), " ") != "7 [] []" {
		t.Errorf("tag, vlan_mode, trunks: %q", got)
	}
	// A port that is not ours is tagged, never removed.
	f.Ctl("add-port", "br-int", "theirs", "--", "set", "Interface", "theirs", "type=internal")
	f.until("theirs is seen", func() bool { return f.seen["theirs"] })
	f.apply(ovsdb.Plan{Remove: []string{"theirs", "tap1", "nothing"}})
	f.until("tap1 has gone", func() bool { _, ok := f.d.Port("tap1"); return !ok })
	if _, ok := f.d.Port("theirs"); !ok {
		t.Error("a port of others was removed")
	}
}

func TestSecondApplyDoesNothing(t *testing.T) {
	f := start(t)
	plan := ovsdb.Plan{Bridges: bridges(), Ports: patches()}
	f.apply(plan)
	f.until("both patches seen", func() bool { return f.seen["patch-int"] && f.seen["patch-tun"] })
	for _, b := range bridges() {
		f.until(b.Name+" is complete", func() bool { return !f.d.NeedsBridge(b) })
	}
	if cfg, err := f.d.Apply(t.Context(), plan); cfg != 0 || err != nil {
		t.Errorf("second apply: cfg %d, %v", cfg, err)
	}
	// An operator's own setting stays, what we need is put back.
	f.Ctl("set", "Bridge", "br-int", "other_config:mine=1", "fail_mode=standalone", "protocols=OpenFlow15")
	f.until("change seen", func() bool { return f.d.NeedsBridge(bridges()[0]) })
	f.apply(plan)
	got := f.Ctl("get", "Bridge", "br-int", "other_config", "fail_mode", "protocols")
	want := "{disable-in-band=\"true\", mine=\"1\"}\nsecure\n[OpenFlow10, OpenFlow14, OpenFlow15]\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := strings.Count(f.Ctl("show"), "Controller"); got != 2 {
		t.Errorf("%d controllers", got)
	}
}

func TestErrorsChangeNothing(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges(), Ports: patches()})
	bad := ovsdb.Port{Name: "patch-tun", Bridge: "br-tun", Type: "internal"}
	good := ovsdb.Port{Name: "good", Bridge: "br-int", Type: "internal"}
	_, err := f.d.Apply(t.Context(), ovsdb.Plan{Ports: []ovsdb.Port{good, bad}})
	if err == nil || !strings.Contains(err.Error(), "patch-tun") {
		t.Errorf("error: %v", err)
	}
	if strings.Contains(f.Ctl("list-ports", "br-int"), "good") {
		t.Error("half of a failed plan was done")
	}
}

func TestDatabaseRestart(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges(), Ports: patches()})
	session := f.last.Session
	f.KillDB()
	f.until("loss is noticed", func() bool { return !f.last.Connected })
	if _, err := f.d.Apply(t.Context(), ovsdb.Plan{Remove: []string{"patch-tun"}}); err == nil {
		t.Error("apply without a session succeeds")
	}
	f.StartDB()
	f.Ctl("--no-wait", "del-port", "br-int", "patch-tun") // changed before we are back
	clear(f.seen)
	f.until("a new session", func() bool { return f.last.Connected && f.last.Session > session })
	if !f.seen["patch-tun"] || !f.seen["patch-int"] {
		t.Errorf("the new session does not tell of everything: %v", f.seen)
	}
	f.until("patch-tun is gone", func() bool { _, ok := f.d.Port("patch-tun"); return !ok })
}

// A port may be unplugged while its tag is on its way: nothing is wrong then, and the rest of the plan is done.
func TestUnpluggedMeanwhile(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges(), Ports: patches()})
	f.Ctl("add-port", "br-int", "stays", "--", "set", "Interface", "stays", "type=internal")
	f.Ctl("add-port", "br-int", "goes", "--", "set", "Interface", "goes", "type=internal")
	f.until("both seen", func() bool { return f.seen["stays"] && f.seen["goes"] })
	session := f.last.Session
	f.Ctl("del-port", "br-int", "goes") // not polled
	tag := ovsdb.Tagging{Tag: 7, OtherConfig: map[string]string{"tag": "7"}}
	plan := ovsdb.Plan{Tags: map[string]ovsdb.Tagging{"goes": tag, "stays": tag}}
	if cfg, err := f.d.Apply(t.Context(), plan); !errors.Is(err, ovsdb.ErrStale) || cfg == 0 {
		t.Fatalf("apply: %d, %v", cfg, err)
	}
	f.until("the port is known to be gone", func() bool { _, ok := f.d.Port("goes"); return !ok })
	if v, _ := f.d.Port("stays"); !tag.Equal(v.Tagging) {
		t.Errorf("the other port is %+v", v)
	}
	if cfg, err := f.d.Apply(t.Context(), plan); cfg != 0 || err != nil {
		t.Errorf("apply again: %d, %v", cfg, err)
	}
	if f.last.Session != session {
		t.Error("the session was dropped")
	}
}

// Keys that others write into other_config stay, whenever they come.
func TestOtherConfigIsShared(t *testing.T) {
	f := start(t)
	f.apply(ovsdb.Plan{Bridges: bridges()})
	f.Ctl("add-port", "br-int", "p", "--", "set", "Interface", "p", "type=internal")
	f.until("p is seen", func() bool { return f.seen["p"] })
	f.Ctl("set", "Port", "p", "other_config:theirs=1") // not polled
	plan := ovsdb.Plan{Tags: map[string]ovsdb.Tagging{"p": {Tag: 7, OtherConfig: map[string]string{"tag": "7"}}}}
	if _, err := f.d.Apply(t.Context(), plan); !errors.Is(err, ovsdb.ErrStale) {
		t.Fatalf("apply on an old picture: %v", err)
	}
	f.until("their key is seen", func() bool { v, _ := f.d.Port("p"); return v.Tagging.OtherConfig["theirs"] == "1" })
	f.apply(plan)
	plan.Tags["p"] = ovsdb.Tagging{Tag: 8, OtherConfig: map[string]string{"tag": "8"}}
	f.apply(plan)
	if v, _ := f.d.Port("p"); v.Tagging.Tag != 8 || !maps.Equal(v.Tagging.OtherConfig, map[string]string{"theirs": "1", "tag": "8"}) {
		t.Errorf("%+v", v.Tagging)
	}
}
