// Package ovstest runs a private Open vSwitch (userspace datapath) for tests: its own network namespace, run directory, database
// and processes, all gone when the test ends.  Tests that use it need root.
package ovstest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"baryon/internal/testkit"
)

const schema = "/usr/share/openvswitch/vswitch.ovsschema"

// patience bounds every wait; reaching it fails the test.
const patience = 20 * time.Second

// Node is a network namespace with an Open vSwitch of its own.
type Node struct {
	t      testing.TB
	NS     string // network namespace, by its name under /run/netns
	RunDir string // db.sock and <bridge>.mgmt are here
	db, vs *process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	out  *bytes.Buffer
}

// counter numbers the namespaces of one test process; names must differ, nothing else depends on it.
var counter atomic.Int32

// Start makes a namespace with loopback up and runs Open vSwitch in it.
func Start(t testing.TB) *Node {
	t.Helper()
	testkit.NeedRoot(t)
	for _, tool := range []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("find %s: %v", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "ovs") // short: socket paths have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{t: t, NS: fmt.Sprintf("bt%d-%d", os.Getpid(), counter.Add(1)), RunDir: dir}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n.must("ip", "netns", "add", n.NS)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", n.NS).CombinedOutput(); err != nil {
			t.Errorf("delete namespace: %v: %s", err, out)
		}
	})
	n.Exec("ip", "link", "set", "lo", "up")
	n.must("ovsdb-tool", "create", filepath.Join(dir, "conf.db"), schema)
	n.StartDB()
	n.Ctl("--no-wait", "init")
	n.StartSwitch()
	t.Cleanup(func() {
		n.KillSwitch()
		n.KillDB()
	})
	return n
}

func (n *Node) must(name string, args ...string) string {
	n.t.Helper()
	out, err := n.command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *Node) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+n.RunDir, "OVS_DBDIR="+n.RunDir, "OVS_LOGDIR="+n.RunDir)
	return cmd
}

// Command is a command in the namespace, not started yet.
func (n *Node) Command(args ...string) *exec.Cmd {
	return n.command("ip", append([]string{"netns", "exec", n.NS}, args...)...)
}

// Exec runs a command in the namespace, which must succeed, and returns its output.
func (n *Node) Exec(args ...string) string {
	n.t.Helper()
	return n.must("ip", append([]string{"netns", "exec", n.NS}, args...)...)
}

// Ctl runs ovs-vsctl.
func (n *Node) Ctl(args ...string) string {
	n.t.Helper()
	return n.must("ovs-vsctl", append([]string{"--timeout=20", "--db=unix:" + n.RunDir + "/db.sock"}, args...)...)
}

// OFCtl runs ovs-ofctl; a bridge is found by its name.
func (n *Node) OFCtl(args ...string) string {
	n.t.Helper()
	return n.must("ovs-ofctl", append([]string{"--timeout=20"}, args...)...)
}

func (n *Node) start(args ...string) *process {
	n.t.Helper()
	p := &process{cmd: n.Command(args...), done: make(chan struct{}), out: &bytes.Buffer{}}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The death signal comes with the end of the thread, not of the process: the thread must live as long as its child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // ended by a signal as a rule
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (n *Node) stop(p **process) {
	if *p == nil {
		return
	}
	_ = (*p).cmd.Process.Kill() // may have ended by itself
	<-(*p).done
	*p = nil
}

// StartDB starts ovsdb-server and waits for its socket.
func (n *Node) StartDB() {
	n.t.Helper()
	sock := filepath.Join(n.RunDir, "db.sock")
	n.db = n.start("ovsdb-server", filepath.Join(n.RunDir, "conf.db"), "--remote=punix:"+sock, "--unixctl="+n.RunDir+"/db.ctl",
		"--pidfile="+n.RunDir+"/db.pid", "--no-chdir", "--verbose=off")
	n.Eventually("ovsdb-server listens", func() bool {
		return n.command("ovs-vsctl", "--timeout=1", "--no-wait", "--db=unix:"+sock, "show").Run() == nil
	})
}

// StartSwitch starts ovs-vswitchd and waits until it has read its configuration.
func (n *Node) StartSwitch() {
	n.t.Helper()
	n.vs = n.start("ovs-vswitchd", "unix:"+n.RunDir+"/db.sock", "--unixctl="+n.RunDir+"/ovs-vswitchd.ctl", "--pidfile="+n.RunDir+"/vs.pid",
		"--no-chdir", "--disable-system", "--verbose=off")
	n.Ctl("set", "Open_vSwitch", ".", "external_ids:ovstest=1") // waits for ovs-vswitchd
}

// KillSwitch ends ovs-vswitchd as a crash would.
func (n *Node) KillSwitch() { n.stop(&n.vs) }

// PauseSwitch has ovs-vswitchd do nothing until resume is called, which may be done more than once.
func (n *Node) PauseSwitch() (resume func()) {
	n.t.Helper()
	p := n.vs.cmd.Process // ip(8) has become ovs-vswitchd
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	return func() {
		if err := p.Signal(syscall.SIGCONT); err != nil {
			n.t.Error(err)
		}
	}
}

// KillDB ends ovsdb-server as a crash would.
func (n *Node) KillDB() { n.stop(&n.db) }

// Eventually waits for a condition and fails the test when it does not come true.
func (n *Node) Eventually(what string, ok func() bool) {
	n.t.Helper()
	Eventually(n.t, what, ok)
}

// Eventually waits for a condition and fails the test when it does not come true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
