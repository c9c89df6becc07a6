// Package e2e drives whole labs as a user does: real nodes, real clients, real packets.  It is run by `make e2e`.
//
// Most tests share one lab (sharedLab) and keep apart by networks of their own; those that break nodes bring their own lab up.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/lab"
	"baryon/internal/testkit"
)

// patience bounds every wait.  It is no measurement: a test that reaches it fails.
const patience = 60 * time.Second

var shared struct {
	once sync.Once
	lab  *lab.Lab
	err  error
}

func TestMain(m *testing.M) {
	if device := os.Getenv(wireDevice); device != "" {
		if err := runWire(device, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, l := range []*lab.Lab{shared.lab, securityLab.lab} {
		if l == nil {
			continue
		}
		if err := l.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// world is a lab as a test sees it.
type world struct {
	*lab.Lab
	t      *testing.T
	api    *gophercloud.ServiceClient
	dumped bool
}

// sharedLab is the lab of the tests that break nothing: ctl of role network, cmp1 plugging hybrid, cmp2 and cmp3 plugging direct.
func sharedLab(t *testing.T) *world {
	t.Helper()
	testkit.NeedRoot(t)
	shared.once.Do(func() {
		shared.lab, shared.err = bringUp(context.Background(), "e2e", lab.Topology{Nodes: []lab.Node{
			{Name: "ctl", Roles: []string{"network"}},
			{Name: "cmp1", Roles: []string{"compute"}, Plug: lab.PlugHybrid},
			{Name: "cmp2", Roles: []string{"compute"}},
			{Name: "cmp3", Roles: []string{"compute"}},
		}}, 1)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return newWorld(t, shared.lab)
}

// ownLab is a lab that the test may break.
func ownLab(t *testing.T, name string, top lab.Topology, servers int, serverFlags ...string) *world {
	t.Helper()
	testkit.NeedRoot(t)
	l, err := bringUp(t.Context(), name, top, servers, serverFlags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	return newWorld(t, l)
}

func newWorld(t *testing.T, l *lab.Lab) *world {
	t.Helper()
	w := &world{Lab: l, t: t}
	api, err := l.API(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.api = api
	w.cleanup(func() {})
	return w
}

// cleanup runs f when the test ends.  What a person would look at is written before the first of them takes it away.
func (w *world) cleanup(f func()) {
	w.t.Cleanup(func() {
		if w.t.Failed() && !w.dumped {
			w.dumped = true
			w.dump()
		}
		f()
	})
}

func bringUp(ctx context.Context, name string, top lab.Topology, servers int, serverFlags ...string) (*lab.Lab, error) {
	exe := os.Getenv("BARYON_BIN")
	if exe == "" {
		return nil, fmt.Errorf("BARYON_BIN names no binary; run: make e2e")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	addrs := make([]lab.ServerAddr, servers)
	for i := range addrs {
		addrs[i] = lab.ServerAddr{API: freePort(), Identity: freePort()}
	}
	dir := lab.DefaultDir(name)
	if err := clearAbandoned(ctx, dir); err != nil {
		return nil, err
	}
	l, err := lab.Up(ctx, lab.Config{
		Name: name, Dir: dir, Exe: exe, Servers: addrs, Datapath: os.Getenv("BARYON_DATAPATH"),
		Topology: top, ServerFlags: serverFlags,
	})
	if err != nil {
		return nil, err
	}
	return l, os.WriteFile(ownerFile(dir), []byte(strconv.Itoa(os.Getpid())), 0o600)
}

// ownerFile holds the process id of the tests that brought a lab up.
func ownerFile(dir string) string { return filepath.Join(dir, "owner") }

// clearAbandoned takes down a lab whose tests were killed.
func clearAbandoned(ctx context.Context, dir string) error {
	text, err := os.ReadFile(ownerFile(dir))
	if err != nil {
		return nil // no lab, or not of a test: Up has the right words
	}
	if pid, err := strconv.Atoi(string(text)); err != nil || syscall.Kill(pid, 0) == nil {
		return nil
	}
	l, err := lab.Open(ctx, dir)
	if err != nil {
		return err
	}
	return l.Down(ctx)
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // the loopback address has no free port: nothing here can work
	}
	defer l.Close() //nolint:errcheck // only the number is wanted
	return l.Addr().String()
}

// ctx is a context that ends with the test or after patience.
func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// network makes a network with subnets and removes both, with all ports, when the test ends.
func (w *world) network(n lab.Network) string {
	w.t.Helper()
	w.must(lab.CreateNetwork(w.ctx(), w.api, n))
	id := w.networkID(n.Name)
	w.cleanup(func() { w.deleteNetwork(id) })
	return id
}

func (w *world) networkID(name string) string {
	w.t.Helper()
	pages, err := networks.List(w.api, networks.ListOpts{Name: name}).AllPages(w.ctx())
	w.must(err)
	list, err := networks.ExtractNetworks(pages)
	w.must(err)
	if len(list) != 1 {
		w.t.Fatalf("%d networks are named %s", len(list), name)
	}
	return list[0].ID
}

func (w *world) deleteNetwork(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pages, err := ports.List(w.api, ports.ListOpts{NetworkID: id}).AllPages(ctx)
	if err != nil {
		w.t.Errorf("clean up: %v", err)
		return
	}
	list, err := ports.ExtractPorts(pages)
	if err != nil {
		w.t.Errorf("clean up: %v", err)
		return
	}
	for _, p := range list {
		if p.DeviceOwner == "network:dhcp" {
			continue // goes with the network
		}
		if err := ports.Delete(ctx, w.api, p.ID).ExtractErr(); err != nil && !gophercloud.ResponseCodeIs(err, 404) {
			w.t.Errorf("clean up: delete port: %v", err)
		}
	}
	if err := networks.Delete(ctx, w.api, id).ExtractErr(); err != nil && !gophercloud.ResponseCodeIs(err, 404) {
		w.t.Errorf("clean up: delete network: %v", err)
	}
}

// guest plugs a guest and waits until its port is ACTIVE and, if it runs a DHCP client, has its lease; it returns the address.
func (w *world) guest(g lab.Guest) string {
	w.t.Helper()
	w.addGuest(g)
	w.must(w.WaitActive(w.ctx(), g.Name))
	if g.Client == lab.ClientNone {
		return ""
	}
	ip, err := w.WaitLease(w.ctx(), g.Name)
	w.must(err)
	return ip
}

// addGuest plugs a guest and does not wait.
func (w *world) addGuest(g lab.Guest) lab.GuestInfo {
	w.t.Helper()
	info, err := w.AddGuest(w.ctx(), g)
	w.must(err)
	w.cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if slices.ContainsFunc(w.Guests(), func(i lab.GuestInfo) bool { return i.Name == g.Name }) {
			if err := w.RemoveGuest(ctx, g.Name); err != nil {
				w.t.Errorf("clean up: %v", err)
			}
		}
	})
	return info
}

// reaches waits until a ping from the guest to the address is answered.
func (w *world) reaches(from, to string) {
	w.t.Helper()
	if err := w.ping(from, to); err != nil {
		w.t.Fatalf("%s does not reach %s: %v", from, to, err)
	}
}

func (w *world) ping(from, to string) error {
	ctx := w.ctx()
	for {
		_, err := w.GuestRun(ctx, from, "ping", "-n", "-c", "1", "-W", "1", to)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// reachesNot sends a few pings that nobody may answer.
func (w *world) reachesNot(from, to string) {
	w.t.Helper()
	if out, err := w.GuestRun(w.ctx(), from, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", to); err == nil {
		w.t.Errorf("%s reaches %s:\n%s", from, to, out)
	}
}

// steady is a ping of 100 packets per second that runs until it is stopped.
type steady struct {
	w    *world
	node string
	cmd  *exec.Cmd
	pid  string // in the node
	seqs chan int
	seen map[int]bool // sequence numbers that were answered
	text bytes.Buffer // what else the ping said; complete when seqs is closed

	first, last int // the lowest and the highest of seen
}

var reply = regexp.MustCompile(`bytes from .* icmp_seq=(\d+) `)

// steadily starts a ping and returns after the first replies.
func (w *world) steadily(from, to string) *steady {
	w.t.Helper()
	return w.steadyOn(w.guestInfo(from).Node, "ip", "netns", "exec", from, "ping", "-n", "-i", "0.01", "-W", "2", to)
}

// steadyOn is steadily for a ping by a command of a node.
func (w *world) steadyOn(node string, argv ...string) *steady {
	w.t.Helper()
	// The shell says its process id in the node, by which the ping can be ended, and then becomes ping.
	cmd, err := w.Command(w.t.Context(), node, append([]string{"sh", "-c", `echo $$; exec "$@"`, "sh"}, argv...)...)
	w.must(err)
	out, err := cmd.StdoutPipe()
	w.must(err)
	cmd.Stderr = cmd.Stdout
	w.must(cmd.Start())
	s := &steady{w: w, node: node, cmd: cmd, seqs: make(chan int, 1024), seen: map[int]bool{}}
	sc := bufio.NewScanner(out)
	if sc.Scan() {
		s.pid = sc.Text()
	}
	w.cleanup(func() {
		if s.cmd.ProcessState == nil { // the test failed before stop
			_, _ = w.Run(context.Background(), node, "kill", "-KILL", s.pid)
		}
	})
	go func() {
		defer close(s.seqs)
		for sc.Scan() {
			m := reply.FindStringSubmatch(sc.Text())
			if m == nil {
				s.text.WriteString(sc.Text() + "\n")
				continue
			}
			seq, _ := strconv.Atoi(m[1]) //nolint:errcheck // digits by the expression
			s.seqs <- seq
		}
	}()
	s.more(20)
	return s
}

// more reads until n more replies have come.
func (s *steady) more(n int) {
	s.w.t.Helper()
	for want := len(s.seen) + n; len(s.seen) < want; {
		select {
		case seq, ok := <-s.seqs:
			if !ok {
				s.w.t.Fatalf("the ping ended after %d replies:\n%s", len(s.seen), s.text.String())
			}
			s.take(seq)
		case <-s.w.ctx().Done():
			s.w.t.Fatalf("the ping got %d replies, the last to packet %d", len(s.seen), s.last)
		}
	}
}

func (s *steady) take(seq int) {
	s.seen[seq] = true
	s.last = max(s.last, seq)
	if s.first == 0 || seq < s.first {
		s.first = seq
	}
}

// lossless requires that every packet sent from the first reply until now, and some more, are answered.
func (s *steady) lossless(during string) {
	s.w.t.Helper()
	if lost := s.stop(during); len(lost) != 0 {
		s.w.t.Errorf("%s: %d of %d packets lost: %v", during, len(lost), s.last, lost[:min(len(lost), 20)])
	}
}

// stop ends the ping after some more replies and lists the packets between the first and the last answered one that were lost.
func (s *steady) stop(during string) []int {
	s.w.t.Helper()
	for drained := false; !drained; {
		select {
		case seq, ok := <-s.seqs:
			if !ok {
				s.w.t.Fatalf("the ping ended before %s was over:\n%s", during, s.text.String())
			}
			s.take(seq)
		default:
			drained = true
		}
	}
	s.more(100)
	_, err := s.w.Run(s.w.ctx(), s.node, "kill", "-KILL", s.pid)
	s.w.must(err)
	for seq := range s.seqs {
		s.take(seq)
	}
	_ = s.cmd.Wait() // killed, as asked
	var lost []int
	for seq := s.first; seq <= s.last; seq++ {
		if !s.seen[seq] {
			lost = append(lost, seq)
		}
	}
	return lost
}

// flows is a node's flow tables, sorted, with cookies and without counters.  Entries that OVS learnt itself are left out.
func (w *world) flows(node string) string {
	w.t.Helper()
	var all []string
	for _, br := range []string{"br-int", "br-tun"} {
		out, err := w.Run(w.ctx(), node, "ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "dump-flows", br)
		w.must(err)
		for line := range strings.Lines(out) {
			if strings.Contains(line, "hard_timeout=300") && !strings.Contains(line, "learn(") {
				continue
			}
			all = append(all, br+" "+strings.TrimSpace(line))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// dump writes what a person would look at first when a test has failed.
func (w *world) dump() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range w.Nodes() {
		for _, argv := range [][]string{
			{"ovs-vsctl", "show"},
			{"ovs-ofctl", "--names", "-O", "OpenFlow14", "dump-flows", "br-int"},
			{"ovs-ofctl", "--names", "-O", "OpenFlow14", "dump-flows", "br-tun"},
			{"ovs-appctl", "dpctl/dump-flows", "-m"},
			{"ovs-appctl", "fdb/show", "br-int"},
			{"ovs-appctl", "tnl/neigh/show"},
			{"ovs-appctl", "tnl/ports/show", "-v"},
			{"ovs-appctl", "ovs/route/show"},
			{"ip", "-s", "link"},
			{"ip", "-all", "netns", "exec", "ip", "-s", "address"},
		} {
			out, err := w.Run(ctx, n.Name, argv...)
			w.t.Logf("%s: %s (%v)\n%s", n.Name, strings.Join(argv, " "), err, out)
		}
		w.logTail(filepath.Join(w.LogDir(n.Name), "agent.log"))
		w.logTail(filepath.Join(w.LogDir(n.Name), "ovs-vswitchd.log"))
	}
	w.logTail(w.ServerLog(0))
}

func (w *world) logTail(path string) {
	text, err := os.ReadFile(path)
	lines := strings.Split(string(text), "\n")
	w.t.Logf("%s (%v)\n%s", path, err, strings.Join(lines[max(0, len(lines)-200):], "\n"))
}
