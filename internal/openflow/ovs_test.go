package openflow

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"baryon/internal/testkit"
)

// A private Open vSwitch with the dummy datapath: it forwards nothing, touches no kernel state, and its OpenFlow is the real one.
type vswitch struct {
	dir   string
	env   []string
	procs []*exec.Cmd
}

var (
	theSwitch   = sync.OnceValues(startVSwitch)
	bridgeCount atomic.Int32
	started     atomic.Pointer[vswitch]
)

func TestMain(m *testing.M) {
	code := m.Run()
	if s := started.Load(); s != nil {
		s.stop()
	}
	os.Exit(code)
}

func startVSwitch() (*vswitch, error) {
	dir, err := os.MkdirTemp("", "openflow-ovs-")
	if err != nil {
		return nil, err
	}
	s := &vswitch{dir: dir}
	s.env = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_DBDIR="+dir, "OVS_LOGDIR="+dir, "OVS_SYSCONFDIR="+dir)
	started.Store(s)
	db := filepath.Join(dir, "conf.db")
	if out, err := s.run("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return s, fmt.Errorf("%w: %s", err, out)
	}
	sock := "unix:" + filepath.Join(dir, "db.sock")
	if err := s.spawn("ovsdb-server", db, "--remote=p"+sock, "--unixctl="+filepath.Join(dir, "ovsdb.ctl"), "--log-file"); err != nil {
		return s, err
	}
	if out, err := s.run("ovs-vsctl", "--db="+sock, "--retry", "--timeout=20", "--no-wait", "init"); err != nil {
		return s, fmt.Errorf("%w: %s", err, out)
	}
	return s, s.spawn("ovs-vswitchd", sock, "--enable-dummy", "--disable-system", "--unixctl="+filepath.Join(dir, "vswitchd.ctl"), "--log-file")
}

// spawn starts a daemon that dies with this process.  The kernel ties that to the thread, so the thread stays.
func (s *vswitch) spawn(name string, args ...string) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		cmd := exec.Command(name, args...)
		cmd.Env, cmd.Dir = s.env, s.dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		if err == nil {
			s.procs = append(s.procs, cmd)
		}
		result <- err
		if err == nil {
			_ = cmd.Wait()
		}
		select {}
	}()
	return <-result
}

func (s *vswitch) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil // a success may have warnings on stderr
}

func (s *vswitch) stop() {
	for _, p := range s.procs {
		_ = p.Process.Kill()
	}
	_ = os.RemoveAll(s.dir)
}

// bridge is one bridge of the private switch.
type bridge struct {
	t    testing.TB
	s    *vswitch
	name string
}

func newBridge(t testing.TB) *bridge {
	t.Helper()
	testkit.NeedTool(t, "ovs-vswitchd", "ovsdb-server", "ovs-ofctl", "ovs-vsctl")
	s, err := theSwitch()
	if err != nil {
		t.Fatal(err)
	}
	b := &bridge{t, s, fmt.Sprintf("br%d", bridgeCount.Add(1))}
	b.vsctl("add-br", b.name, "--", "set", "bridge", b.name, "datapath_type=dummy", "fail_mode=secure",
		"other_config:disable-in-band=true")
	t.Cleanup(func() { b.vsctl("del-br", b.name) })
	return b
}

func (b *bridge) vsctl(args ...string) string {
	b.t.Helper()
	out, err := b.s.run("ovs-vsctl", append([]string{"--db=unix:" + filepath.Join(b.s.dir, "db.sock"), "--timeout=20"}, args...)...)
	if err != nil {
		b.t.Fatalf("ovs-vsctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// ofctl runs ovs-ofctl COMMAND BRIDGE ARGS.
func (b *bridge) ofctl(command string, args ...string) (string, error) {
	return b.s.run("ovs-ofctl", append([]string{"-O", "OpenFlow14", "--no-names", "--no-stats", command,
		"unix:" + filepath.Join(b.s.dir, b.name+".mgmt")}, args...)...)
}

// dump is what ovs-ofctl dump-flows prints, by line, without the leading blank.
func (b *bridge) dump() []string {
	b.t.Helper()
	out, err := b.ofctl("dump-flows")
	if err != nil {
		b.t.Fatalf("dump-flows: %v: %s", err, out)
	}
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

func (b *bridge) dial(opts Options) *Conn {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := DialBridge(ctx, b.s.dir, b.name, opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// addFile installs flows given as text, one a line, in one bundle.
func (b *bridge) addFile(flows []string) {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "flows")
	var buf bytes.Buffer
	for _, f := range flows {
		buf.WriteString(f + "\n")
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if out, err := b.s.run("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "add-flows", "unix:"+filepath.Join(b.s.dir, b.name+".mgmt"), path); err != nil {
		b.t.Fatalf("add-flows: %v: %s", err, out)
	}
}

// MustAddr and MustPrefix shorten the tests' tables.
func MustAddr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func MustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
