package bridgenic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"baryon/internal/dataplane/ovsdb/ovstest"
)

// host is a namespace with an Open vSwitch and a NIC behind which a gateway lives.
type host struct {
	*ovstest.Node
	t   *testing.T
	gw  string // namespace
	cfg Config
}

func newHost(t *testing.T) *host {
	h := &host{Node: ovstest.Start(t), t: t}
	h.gw = h.NS + "-gw"
	h.run("ip", "netns", "add", h.gw)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", h.gw).Run() })
	h.Exec("ip", "link", "add", "eth1", "mtu", "1400", "type", "veth", "peer", "name", "eth0", "netns", h.gw, "mtu", "1400")
	h.run("ip", "netns", "exec", h.gw, "ethtool", "-K", "eth0", "tx", "off")
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		h.run("ip", "-n", h.gw, "addr", "add", a, "dev", "eth0", "nodad")
	}
	h.run("ip", "-n", h.gw, "link", "set", "eth0", "up")
	h.run("ip", "-n", h.gw, "link", "set", "lo", "up")
	h.run("ip", "-n", h.gw, "addr", "add", "198.51.100.1/32", "dev", "lo")
	h.Exec("ip", "link", "set", "eth1", "up")
	h.Exec("ip", "addr", "add", "192.0.2.10/24", "dev", "eth1")
	h.Exec("ip", "addr", "add", "2001:db8::10/64", "dev", "eth1", "nodad")
	h.Exec("ip", "route", "add", "default", "via", "192.0.2.1", "metric", "50")
	h.Exec("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
	h.Exec("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.1", "src", "192.0.2.10")
	h.Exec("ip", "route", "add", "10.77.0.0/16", "via", "192.0.2.1", "table", "77")
	h.cfg = Config{
		StateDir: t.TempDir(), OVSRunDir: h.RunDir, Datapath: "netdev", Confirm: 5 * time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	return h
}

func (h *host) run(name string, args ...string) {
	h.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// inside runs f in the host's namespace.
func (h *host) inside(f func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not given back: the thread ends with the goroutine
		ns, err := netns.GetFromName(h.NS)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		ended <- err
	}()
	return <-ended
}

func (h *host) take() error {
	return h.inside(func() error { return Take(context.Background(), h.cfg, "br-ex", "eth1") })
}

// life is everything that makes the host reachable, with the device's name taken out.
func (h *host) life(dev string) string {
	h.t.Helper()
	var out []string
	for _, args := range [][]string{
		{"-4", "-o", "addr", "show", "dev", dev}, {"-6", "-o", "addr", "show", "dev", dev, "scope", "global"},
		{"route", "show", "dev", dev}, {"-6", "route", "show", "dev", dev}, {"route", "show", "table", "77", "dev", dev},
	} {
		// Table 77 does not exist while it is empty.
		text, _ := h.Command(append([]string{"ip"}, args...)...).Output() //nolint:errcheck // an empty table is an error
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(strings.ReplaceAll(line, dev, "DEV"))
			if len(f) == 0 || strings.Contains(line, "fe80::") || strings.Contains(line, "ff00::") {
				continue
			}
			if strings.HasSuffix(f[0], ":") {
				f = f[2:4] // family and address
			}
			out = append(out, strings.Join(f, " "))
		}
	}
	return strings.Join(out, "\n")
}

func (h *host) alive(when string) {
	h.t.Helper()
	for _, to := range []string{"192.0.2.1", "2001:db8::1", "198.51.100.1"} {
		h.Eventually(fmt.Sprintf("%s, %s is reached", when, to), func() bool {
			return h.Command("ping", "-c", "1", "-W", "1", to).Run() == nil
		})
	}
}

func (h *host) journals() []string {
	list, err := filepath.Glob(filepath.Join(h.cfg.StateDir, "bridge-nic", "*.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func TestTakeAndUndo(t *testing.T) {
	h := newHost(t)
	before := h.life("eth1")
	if !strings.Contains(before, "default via 192.0.2.1") || !strings.Contains(before, "10.77.0.0/16") {
		t.Fatalf("the host is %s", before)
	}
	mac := h.Exec("cat", "/sys/class/net/eth1/address")
	if err := h.take(); err != nil {
		t.Fatal(err)
	}
	if got := h.life("br-ex"); got != before {
		t.Errorf("the bridge has\n%s\nthe NIC had\n%s", got, before)
	}
	if got := h.life("eth1"); got != "" {
		t.Errorf("the NIC still has %s", got)
	}
	h.alive("with the NIC in the bridge")
	if got := h.Exec("ip", "-o", "link", "show", "br-ex"); !strings.Contains(got, strings.TrimSpace(mac)) || !strings.Contains(got, "mtu 1400") {
		t.Errorf("MAC %s, and the bridge is %s", mac, got)
	}
	if err := h.take(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	// What changes meanwhile comes back, too.
	h.Exec("ip", "addr", "add", "192.0.2.11/24", "dev", "br-ex")
	if err := h.inside(func() error { return Undo(context.Background(), h.cfg, "br-ex") }); err != nil {
		t.Fatal(err)
	}
	h.Exec("ip", "addr", "del", "192.0.2.11/24", "dev", "eth1")
	if got := h.life("eth1"); got != before {
		t.Errorf("the NIC has\n%s\nit had\n%s", got, before)
	}
	if br := h.Ctl("list-br"); strings.TrimSpace(br) != "" {
		t.Errorf("bridges are left: %s", br)
	}
	h.alive("with the NIC given back")
	if len(h.journals()) != 0 {
		t.Error("a journal is left")
	}
	if err := h.inside(func() error { return Undo(context.Background(), h.cfg, "br-ex") }); err == nil {
		t.Error("there is nothing to undo, and that is no error")
	}
}

// A bridge that passes nothing cuts the host off: everything is put back.
func TestTakeIsPutBackWhenNobodyAnswers(t *testing.T) {
	h := newHost(t)
	before := h.life("eth1")
	h.Ctl("add-br", "br-ex", "--", "set", "Bridge", "br-ex", "datapath_type=netdev", "fail_mode=secure")
	h.cfg.Confirm = time.Second
	if err := h.take(); !errors.Is(err, ErrRolledBack) {
		t.Fatalf("%v", err)
	}
	if got := h.life("eth1"); got != before {
		t.Errorf("the NIC has\n%s\nit had\n%s", got, before)
	}
	h.alive("put back")
	if got := h.life("br-ex"); got != "" {
		t.Errorf("the bridge has %s", got)
	}
}

// Wherever the process dies, the next one puts everything back.
func TestCrashIsRepaired(t *testing.T) {
	for _, step := range []string{"journal", "port", "give"} {
		t.Run(step, func(t *testing.T) {
			h := newHost(t)
			before := h.life("eth1")
			h.cfg.crash = func(s string) error {
				if s == step {
					return errCrash
				}
				return nil
			}
			if err := h.take(); !errors.Is(err, errCrash) {
				t.Fatalf("%v", err)
			}
			h.cfg.crash = nil
			if err := h.inside(func() error { return Repair(context.Background(), h.cfg, true) }); err != nil {
				t.Fatal(err)
			}
			if got := h.life("eth1"); got != before {
				t.Errorf("the NIC has\n%s\nit had\n%s", got, before)
			}
			h.alive("repaired")
			if len(h.journals()) != 0 {
				t.Error("a journal is left")
			}
		})
	}
}

// After a reboot the bridge is in the database with its NIC, and the addresses are on the NIC, where the host's own configuration puts them.
func TestRebootTakesAgain(t *testing.T) {
	h := newHost(t)
	before := h.life("eth1")
	if err := h.take(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"-4", "-6"} {
		h.Exec("ip", f, "addr", "flush", "dev", "br-ex", "scope", "global")
	}
	h.Exec("ip", "addr", "add", "192.0.2.10/24", "dev", "eth1")
	if err := h.inside(func() error { return Repair(context.Background(), h.cfg, true) }); err != nil {
		t.Fatal(err)
	}
	if got := h.life("br-ex"); got != before {
		t.Errorf("the bridge has\n%s\nthe NIC had\n%s", got, before)
	}
	h.alive("taken again")
}

func TestTakeRefuses(t *testing.T) {
	h := newHost(t)
	before := h.life("eth1")
	h.Ctl("add-br", "br-two", "--", "set", "Bridge", "br-two", "datapath_type=netdev")
	for _, tc := range []struct{ bridge, nic, why string }{
		{"br-int", "eth1", "the agent's own"},
		{"br-a-name-too-long", "eth1", "longer than 15"},
		{"eth1", "eth1", "not a bridge of Open vSwitch"},
		{"br-ex", "eth9", "does not exist"},
		{"br-ex", "lo", "no NIC"},
		{"br-ex", "br-two", "is a bridge"},
		{"br-ex", "../x", "has a character"},
	} {
		err := h.inside(func() error { return Take(context.Background(), h.cfg, tc.bridge, tc.nic) })
		if err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s into %s: %v, want %q", tc.nic, tc.bridge, err, tc.why)
		}
	}
	// Nobody can confirm: the gateway is silent.
	h.run("ip", "-n", h.gw, "link", "set", "eth0", "down")
	h.Exec("ip", "neigh", "flush", "all")
	if err := h.take(); err == nil || !strings.Contains(err.Error(), "nobody could confirm") {
		t.Errorf("with a silent gateway: %v", err)
	}
	h.run("ip", "-n", h.gw, "link", "set", "eth0", "up")
	lock, err := (Config{StateDir: h.cfg.StateDir}).open()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.take(); !errors.Is(err, ErrBusy) {
		t.Errorf("two at once: %v", err)
	}
	lock.close()
	if err := os.WriteFile(filepath.Join(h.cfg.StateDir, "bridge-nic", "br-ex.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.take(); err == nil || !strings.Contains(err.Error(), "read journal") {
		t.Errorf("with a broken journal: %v", err)
	}
	h.Eventually("nothing was touched", func() bool { return strings.Contains(h.life("eth1"), strings.SplitN(before, "\n", 2)[0]) })
}
