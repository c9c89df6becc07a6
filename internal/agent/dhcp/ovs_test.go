package dhcp

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"baryon/internal/dataplane/netns"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

// vswitch is a private Open vSwitch with a userspace datapath.
type vswitch struct {
	t   *testing.T
	dir string
}

func newVswitch(t *testing.T) *vswitch {
	t.Helper()
	v := &vswitch{t: t, dir: t.TempDir()}
	testkit.NeedTool(t, "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovsdb-tool")
	v.run("ovsdb-tool", "create", v.path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	v.run("ovsdb-server", v.path("conf.db"), "--remote=punix:"+v.path("db.sock"), "--pidfile="+v.path("db.pid"), "--detach",
		"--unixctl="+v.path("db.ctl"), "--log-file="+v.path("db.log"))
	t.Cleanup(func() { v.kill("db.pid") })
	v.vsctl("--no-wait", "init")
	v.start()
	t.Cleanup(func() { v.kill("vs.pid") })
	v.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev")
	return v
}

func (v *vswitch) path(name string) string { return filepath.Join(v.dir, name) }

func (v *vswitch) run(argv ...string) string {
	v.t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "OVS_RUNDIR="+v.dir, "OVS_LOGDIR="+v.dir, "OVS_DBDIR="+v.dir)
	out, err := c.Output()
	if err != nil {
		v.t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return string(out)
}

func (v *vswitch) vsctl(args ...string) string {
	v.t.Helper()
	return v.run(append([]string{"ovs-vsctl", "--timeout=20", "--db=unix:" + v.path("db.sock")}, args...)...)
}

func (v *vswitch) start() {
	v.t.Helper()
	v.run("ovs-vswitchd", "unix:"+v.path("db.sock"), "--pidfile="+v.path("vs.pid"), "--detach", "--unixctl="+v.path("vs.ctl"),
		"--log-file="+v.path("vs.log"), "-vconsole:off")
}

// kill ends one of our daemons the hard way and waits for its end.
func (v *vswitch) kill(pidfile string) {
	b, err := os.ReadFile(v.path(pidfile))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return
	}
	syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
	for syscall.Kill(pid, 0) == nil {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	os.Remove(v.path(pidfile)) //nolint:errcheck // it may be gone
}

// The device is a real internal port: a guest is served through the switch, and again after the switch was killed and started.
func TestThroughOpenVSwitch(t *testing.T) {
	testkit.NeedRoot(t)
	v := newVswitch(t)
	if err := netns.Ensure("guest"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Delete("guest") }) //nolint:errcheck // clean up
	n := &node{t: t, dir: t.TempDir(), ready: map[string]bool{portID: true}}
	m := mac(0x10)
	n.ip("link", "add", "g0", "type", "veth", "peer", "name", "eth0", "address", m.String(), "netns", "guest")
	n.ip("link", "set", "g0", "up")
	n.ip("-n", "guest", "link", "set", "eth0", "up")
	n.ip("netns", "exec", "guest", "ethtool", "-K", "eth0", "tx", "off")
	tap := names.Tap(portID)
	v.vsctl("add-port", "br-int", "g0", "--", "add-port", "br-int", tap, "--", "set", "interface", tap, "type=internal")
	n.start()
	defer n.stop()
	n.update(nodestate.Update{Complete: true, Upserts: testRecords()})
	n.until(func() bool { return len(n.apply(true).Placed) == 1 })
	n.guest("200.0.0.16", "inst-p1")

	v.kill("vs.pid")
	n.until(func() bool { return strings.Contains(states(n.apply(true)), "pending") })
	v.start()
	n.until(func() bool { return !strings.Contains(states(n.apply(true)), "pending") })
	n.guest("200.0.0.16", "inst-p1")

	n.update(nodestate.Update{Complete: true})
	v.vsctl("del-port", tap)
	n.skew.Store(int64(time.Minute)) // a corpse is not taken away by the switch
	n.apply(true)
	n.apply(true)
	if _, err := netns.Open(names.DHCPNamespace(netID)); err == nil {
		t.Error("the namespace is still there")
	}
}

func (n *node) until(done func() bool) {
	n.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("did not happen: %+v", n.apply(true))
		}
	}
}
