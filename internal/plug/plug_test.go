package plug

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

const portID = "1a2b3c4d-5e6f-4000-8000-000000000001"

func TestCheck(t *testing.T) {
	good := Spec{PortID: portID, MAC: "fa:16:3e:00:00:01", MTU: 1450}
	if err := good.Check(); err != nil {
		t.Fatalf("a good spec: %v", err)
	}
	for name, change := range map[string]func(*Spec){
		"port":      func(s *Spec) { s.PortID = "web-1" },
		"port case": func(s *Spec) { s.PortID = strings.ToUpper(portID) },
		"mac":       func(s *Spec) { s.MAC = "fa:16" },
		"group mac": func(s *Spec) { s.MAC = "01:00:5e:00:00:01" },
		"mtu":       func(s *Spec) { s.MTU = 67 },
		"mtu high":  func(s *Spec) { s.MTU = 65536 },
		"device":    func(s *Spec) { s.Device = "a b" },
		"long name": func(s *Spec) { s.Device = "abcdefghijklmnop" },
		"namespace": func(s *Spec) { s.NetNS = "../etc" },
		"missing":   func(s *Spec) { s.NetNS = "no-such-namespace" },
	} {
		s := good
		change(&s)
		if s.Check() == nil {
			t.Errorf("%s: %+v passes", name, s)
		}
	}
}

// world is a fresh network namespace for this test's thread, a switch database, and a guest's namespace.
func world(t *testing.T) (guest string) {
	t.Helper()
	testkit.NeedRoot(t)
	runtime.LockOSThread() // never unlocked: the thread keeps the namespace and ends with the test's goroutine
	guest = "plugtest-" + filepath.Base(t.TempDir())
	host, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netns.NewNamed(guest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.DeleteNamed(guest); err != nil {
			t.Error(err)
		}
		host.Close() //nolint:errcheck // only read
	})
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("OVS_RUNDIR", dir)
	db := filepath.Join(dir, "conf.db")
	if out, err := exec.Command("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := exec.Command("ovsdb-server", db, "--remote=punix:"+filepath.Join(dir, "db.sock"),
		"--unixctl="+filepath.Join(dir, "ctl"), "--no-chdir", "--log-file=/dev/null")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ovs-vsctl", "--retry", "--no-wait", "init", "--", "add-br", "br-int").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return guest
}

func column(t *testing.T, args ...string) string {
	t.Helper()
	out, err := vsctlGet(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func linkNames(t *testing.T) string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, l := range links {
		if l.Attrs().Name != "lo" && l.Attrs().Name != "tunl0" && l.Attrs().Name != "sit0" && l.Attrs().Name != "ip6tnl0" {
			list = append(list, l.Attrs().Name)
		}
	}
	return strings.Join(list, " ")
}

func TestAttachNamespace(t *testing.T) {
	for _, hybrid := range []bool{false, true} {
		name := map[bool]string{false: "direct", true: "hybrid"}[hybrid]
		t.Run(name, func(t *testing.T) {
			guest := world(t)
			state := t.TempDir()
			spec := Spec{
				PortID: portID, MAC: "fa:16:3e:00:00:01", MTU: 1450, Hybrid: hybrid, NetNS: guest, StateDir: state,
				Instance: &nodestate.Instance{Name: "vm1", UserData: []byte("secret")},
			}
			want := "tap1a2b3c4d-5e"
			if hybrid {
				want = "qvo1a2b3c4d-5e"
			}
			// The second call stands for a plugger that is not sure whether the first one worked.
			for round := range 2 {
				if err := Attach(t.Context(), spec); err != nil {
					t.Fatalf("attach, round %d: %v", round, err)
				}
				if round == 0 { // the agent wires the port
					column(t, "set", "Port", want, "tag=7", "--", "clear", "Port", want, "vlan_mode", "trunks")
				}
			}
			if got := column(t, "list-ports", "br-int"); got != want {
				t.Errorf("ports on br-int: %q, want %q", got, want)
			}
			if got := column(t, "get", "Port", want, "tag"); got != "7" {
				t.Errorf("the second call changed the tag to %s", got)
			}
			ids := column(t, "get", "Interface", want, "external_ids")
			for _, id := range []string{`iface-id="` + portID + `"`, `attached-mac="fa:16:3e:00:00:01"`, "iface-status=active", "baryon-plug="} {
				if !strings.Contains(ids, id) {
					t.Errorf("external_ids %s lack %s", ids, id)
				}
			}
			if fi, err := os.Stat(instancePath(state, portID)); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("instance file: %v, %v", fi, err)
			}
			h, err := netns.GetFromName(guest)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close() //nolint:errcheck // only read
			in, err := netlink.NewHandleAt(h)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			eth0, err := in.LinkByName("eth0")
			if err != nil || eth0.Attrs().HardwareAddr.String() != spec.MAC || eth0.Attrs().MTU != 1450 {
				t.Errorf("guest's device: %+v, %v", eth0, err)
			}
			if err := Detach(t.Context(), portID, state); err != nil {
				t.Fatal(err)
			}
			if err := Detach(t.Context(), portID, state); err != nil {
				t.Errorf("detach of what is not there: %v", err)
			}
			if got := column(t, "list-ports", "br-int"); got != "" {
				t.Errorf("ports left: %q", got)
			}
			if got := linkNames(t); got != "" {
				t.Errorf("devices left: %q", got)
			}
		})
	}
}

func TestNewPortIsDead(t *testing.T) {
	guest := world(t)
	if err := Attach(t.Context(), Spec{PortID: portID, MAC: "fa:16:3e:00:00:01", MTU: 1450, NetNS: guest}); err != nil {
		t.Fatal(err)
	}
	if got := column(t, "get", "Port", "tap1a2b3c4d-5e", "tag", "vlan_mode", "trunks"); got != "4095\ntrunk\n[4095]" {
		t.Errorf("a new port is %q", got)
	}
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	guest := world(t)
	spec := Spec{PortID: portID, MAC: "fa:16:3e:00:00:01", MTU: 1450, Hybrid: true, NetNS: guest, Bridge: "no-such-bridge"}
	if err := Attach(t.Context(), spec); err == nil {
		t.Fatal("attach to a bridge that is not there works")
	}
	if got := linkNames(t); got != "" {
		t.Errorf("devices left: %q", got)
	}
	spec.Bridge = ""
	if err := Attach(t.Context(), spec); err != nil {
		t.Errorf("attach after the failure: %v", err)
	}
}

// TestChecksums: only the userspace datapath needs guests that fill in their checksums themselves.
func TestChecksums(t *testing.T) {
	for datapath, want := range map[string]string{"netdev": "off", "system": "on", "": "on"} {
		t.Run(datapath, func(t *testing.T) {
			guest := world(t)
			column(t, "set", "Bridge", "br-int", `datapath_type="`+datapath+`"`)
			if err := Attach(t.Context(), Spec{PortID: portID, MAC: "fa:16:3e:00:00:01", MTU: 1450, NetNS: guest}); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("ip", "netns", "exec", guest, "ethtool", "-k", "eth0").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "\ntx-checksumming: "+want+"\n") {
				t.Errorf("transmit checksum offload is not %s: %v\n%s", want, err, out)
			}
		})
	}
}
