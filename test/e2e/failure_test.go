package e2e

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"go.etcd.io/etcd/server/v3/embed"

	"baryon/internal/lab"
)

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() error) {
	w.t.Helper()
	ctx := w.ctx()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("never came true: %s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func threeNodes() lab.Topology {
	return lab.Topology{Nodes: []lab.Node{
		{Name: "ctl", Roles: []string{"network"}},
		{Name: "ctl2", Roles: []string{"network"}},
		{Name: "cmp1", Roles: []string{"compute"}, Plug: lab.PlugHybrid},
		{Name: "cmp2", Roles: []string{"compute"}},
	}}
}

// TestFailures breaks one lab in turn: the switch, the server, nodes.
func TestFailures(t *testing.T) {
	w := ownLab(t, "fail", threeNodes(), 1, "--node-gone-grace=2s")
	w.network(lab.Network{Name: "net", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.50.0.0/24"}}})
	w.guest(lab.Guest{Name: "a", Node: "cmp1", Network: "net"})
	w.guest(lab.Guest{Name: "a2", Node: "cmp1", Network: "net"})
	w.guest(lab.Guest{Name: "b", Node: "cmp2", Network: "net"})
	b := w.fixed("b", "10.50.")
	w.reaches("a", b)

	t.Run("agent restarted, baseline", func(t *testing.T) {
		w := newWorld(t, w.Lab)
		w.restartUnderPing("a", b, "cmp1", syscall.SIGKILL)
	})
	t.Run("switch killed", func(t *testing.T) { newWorld(t, w.Lab).switchKilled(b, false) })
	t.Run("switch and its database killed", func(t *testing.T) { newWorld(t, w.Lab).switchKilled(b, true) })
	t.Run("switch of the DHCP node killed", func(t *testing.T) {
		w := newWorld(t, w.Lab)
		node := w.dhcpNode("net")
		w.must(w.KillSwitch(w.ctx(), node, false))
		w.must(w.StartSwitch(w.ctx(), node))
		w.guest(lab.Guest{Name: "after", Node: "cmp2", Network: "net"})
		w.restartUnderPing("after", w.dhcpAddress(w.networkID("net"), "10.50."), node, syscall.SIGKILL)
	})
	t.Run("server away", func(t *testing.T) { newWorld(t, w.Lab).serverAway(b) })
	t.Run("compute node dies and returns", func(t *testing.T) { newWorld(t, w.Lab).nodeDies() })
	t.Run("cold start without a server", func(t *testing.T) { newWorld(t, w.Lab).coldStart() })
	t.Run("DHCP node dies and returns", func(t *testing.T) { newWorld(t, w.Lab).dhcpNodeDies() })
}

func (w *world) switchKilled(to string, db bool) {
	before := w.flows("cmp1")
	w.must(w.KillSwitch(w.ctx(), "cmp1", db))
	w.must(w.StartSwitch(w.ctx(), "cmp1"))
	w.reaches("a", to)
	w.eventually("every flow is back", func() error {
		if after := w.flows("cmp1"); unnumbered(after) != unnumbered(before) {
			return fmt.Errorf("before\n%s\nafter\n%s", before, after)
		}
		return nil
	})
	w.restartUnderPing("a", to, "cmp1", syscall.SIGKILL)
}

var ofport = regexp.MustCompile(`(in_port=|output:)[0-9]+`)

// unnumbered is the dump without OpenFlow port numbers, which a new switch may give out anew.
func unnumbered(flows string) string {
	lines := strings.Split(ofport.ReplaceAllString(flows, "${1}N"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// serverAway: with the server gone traffic goes on; an agent that restarts meanwhile keeps its state; what changed is there after the
// server's return.
func (w *world) serverAway(to string) {
	ping := w.steadily("a", to)
	w.must(w.StopServer(w.ctx(), 0, syscall.SIGKILL))
	before := w.flows("cmp1")
	w.must(w.StopAgent(w.ctx(), "cmp1", syscall.SIGKILL))
	w.must(w.StartAgent(w.ctx(), "cmp1"))
	w.eventually("the agent runs from its own cache", func() error {
		_, err := w.Run(w.ctx(), "cmp1", "curl", "-sS", "--fail", "--unix-socket", "/var/lib/baryon/agent.sock", "http://agent/healthz")
		return err
	})
	if after := w.flows("cmp1"); after != before {
		w.t.Errorf("a restart without a server changed the flows:\nbefore\n%s\nafter\n%s", before, after)
	}
	w.must(w.StartServer(w.ctx(), 0))
	w.must(w.WaitSync(w.ctx(), "cmp1"))
	w.must(w.RestartAgent(w.ctx(), "cmp1", syscall.SIGKILL))
	ping.lossless("the server away, the agent restarted")
	w.guest(lab.Guest{Name: "late", Node: "cmp1", Network: "net"})
	w.reaches("late", to)
}

// nodeDies: a compute node loses power: the others go on; it boots with its disk and its guests are plugged anew into the same ports.
func (w *world) nodeDies() {
	info := w.guestInfo("b")
	ip := w.fixed("b", "10.50.")
	ping := w.steadily("a", w.fixed("a2", "10.50."))
	w.must(w.KillNode(w.ctx(), "cmp2"))
	w.must(w.RestartAgent(w.ctx(), "cmp1", syscall.SIGKILL))
	ping.lossless("another node died")
	w.cutOff("a", ip)
	w.must(w.BootNode(w.ctx(), "cmp2"))
	_, err := w.PlugGuest(w.ctx(), info.Guest, lab.Port{ID: info.PortID, MAC: info.MAC, MTU: info.MTU})
	w.must(err)
	w.must(w.WaitActive(w.ctx(), "b"))
	got, err := w.WaitLease(w.ctx(), "b")
	w.must(err)
	if got != ip {
		w.t.Errorf("after the reboot b has %s, before %s", got, ip)
	}
	w.reaches("a", ip)
	w.restartUnderPing("a", ip, "cmp2", syscall.SIGKILL)
}

// coldStart: a node boots while no server runs: its agent restores the last known state from its own cache, and its guests reach the
// others as before.
func (w *world) coldStart() {
	info := w.guestInfo("b")
	ip := w.fixed("b", "10.50.")
	a := w.fixed("a", "10.50.") // asked for while somebody answers
	ping := w.steadily("a", w.fixed("a2", "10.50."))
	w.must(w.StopServer(w.ctx(), 0, syscall.SIGKILL))
	w.must(w.KillNode(w.ctx(), "cmp2"))
	w.must(w.BootNode(w.ctx(), "cmp2"))
	_, err := w.PlugGuest(w.ctx(), info.Guest, lab.Port{ID: info.PortID, MAC: info.MAC, MTU: info.MTU})
	w.must(err)
	got, err := w.WaitLease(w.ctx(), "b")
	w.must(err)
	if got != ip {
		w.t.Errorf("without a server b has %s, before %s", got, ip)
	}
	w.reaches("a", ip)
	w.reaches("b", a)
	ping.lossless("another node booted without a server")
	w.must(w.StartServer(w.ctx(), 0))
	w.must(w.WaitSync(w.ctx(), "cmp2"))
	w.restartUnderPing("a", ip, "cmp2", syscall.SIGKILL)
}

// dhcpNode is the node that serves the network's DHCP.
func (w *world) dhcpNode(network string) string {
	w.t.Helper()
	var bound []struct {
		Host string `json:"binding:host_id"`
	}
	pages, err := ports.List(w.api, ports.ListOpts{NetworkID: w.networkID(network), DeviceOwner: "network:dhcp"}).AllPages(w.ctx())
	w.must(err)
	w.must(ports.ExtractPortsInto(pages, &bound))
	if len(bound) != 1 {
		w.t.Fatalf("%d DHCP ports", len(bound))
	}
	return bound[0].Host
}

// dhcpNodeDies: the network's DHCP moves to the other network node with its port and address, and does not move back when the first
// one returns.
func (w *world) dhcpNodeDies() {
	id := w.networkID("net")
	first, address := w.dhcpNode("net"), w.dhcpAddress(id, "10.50.")
	w.must(w.KillNode(w.ctx(), first))
	w.eventually("DHCP moves", func() error {
		if now := w.dhcpNode("net"); now == first {
			return fmt.Errorf("still on %s", now)
		}
		return nil
	})
	if now := w.dhcpAddress(id, "10.50."); now != address {
		w.t.Errorf("DHCP moved from %s to %s", address, now)
	}
	w.guest(lab.Guest{Name: "moved", Node: "cmp1", Network: "net"})
	w.reaches("moved", address)
	second := w.dhcpNode("net")
	w.must(w.BootNode(w.ctx(), first))
	w.must(w.WaitSync(w.ctx(), first))
	if now := w.dhcpNode("net"); now != second {
		w.t.Errorf("DHCP flapped back from %s to %s", second, now)
	}
	w.restartUnderPing("moved", address, second, syscall.SIGKILL)
}

// TestTwoServers: two servers on one external etcd both serve; a write through one is read through the other; the nodes go on with
// the one that is left.
func TestTwoServers(t *testing.T) {
	etcd := externalEtcd(t)
	w := ownLab(t, "two", lab.Topology{Nodes: []lab.Node{
		{Name: "ctl", Roles: []string{"network"}},
		{Name: "cmp1", Roles: []string{"compute"}},
		{Name: "cmp2", Roles: []string{"compute"}, Plug: lab.PlugHybrid},
	}}, 2, "--etcd-endpoints="+etcd)
	other := *w.api
	other.Endpoint = w.ServerURL(1) + "/"
	other.ResourceBase = other.Endpoint + "v2.0/"
	for i := range 20 {
		name := fmt.Sprintf("n%d", i)
		n, err := networks.Create(w.ctx(), w.api, networks.CreateOpts{Name: name}).Extract()
		w.must(err)
		if got, err := networks.Get(w.ctx(), &other, n.ID).Extract(); err != nil || got.Name != name {
			t.Fatalf("written through one server, read through the other: %+v, %v", got, err)
		}
		w.must(networks.Delete(w.ctx(), &other, n.ID).ExtractErr())
		if _, err := networks.Get(w.ctx(), w.api, n.ID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
			t.Fatalf("deleted through one server, still read through the other: %v", err)
		}
	}
	w.network(lab.Network{Name: "net", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.60.0.0/24"}}})
	w.guest(lab.Guest{Name: "a", Node: "cmp1", Network: "net"})
	b := w.guest(lab.Guest{Name: "b", Node: "cmp2", Network: "net"})
	w.reaches("a", b)
	ping := w.steadily("a", b)
	w.must(w.StopServer(w.ctx(), 1, syscall.SIGKILL))
	w.must(w.RestartAgent(w.ctx(), "cmp1", syscall.SIGKILL))
	w.must(w.RestartAgent(w.ctx(), "cmp2", syscall.SIGKILL))
	ping.lossless("one of two servers gone, both agents restarted")
	c := w.guest(lab.Guest{Name: "c", Node: "cmp2", Network: "net"})
	w.reaches("a", c)
	w.must(w.StartServer(w.ctx(), 1))
	if _, err := networks.Get(w.ctx(), &other, w.networkID("net")).Extract(); err != nil {
		t.Errorf("the returned server does not serve: %v", err)
	}
}

// externalEtcd is an etcd that no server owns, on the loopback address.
func externalEtcd(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(t.TempDir(), "etcd")
	cfg.LogLevel = "error"
	cfg.MaxTxnOps = 10000
	for _, list := range []*[]url.URL{&cfg.ListenClientUrls, &cfg.AdvertiseClientUrls, &cfg.ListenPeerUrls, &cfg.AdvertisePeerUrls} {
		*list = nil
	}
	client, peer := url.URL{Scheme: "http", Host: freePort()}, url.URL{Scheme: "http", Host: freePort()}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
	case <-ctx.Done():
		t.Fatal("etcd is not ready")
	}
	return strings.TrimSuffix(client.String(), "/")
}
