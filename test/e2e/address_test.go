package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/lab"
)

// TestDHCPv4: real clients get what the API says; the leases file names them; a restart of the DHCP node's agent under traffic loses
// nothing, and renewals go on.
func TestDHCPv4(t *testing.T) {
	w := sharedLab(t)
	id := w.network(lab.Network{Name: "dhcp4", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.20.0.0/24"}}})
	for _, client := range []string{lab.ClientUDHCPC, lab.ClientDHClient} {
		name := "d4-" + client
		ip := w.guest(lab.Guest{Name: name, Node: "cmp2", Network: "dhcp4", Client: client})
		info := w.guestInfo(name)
		p, err := ports.Get(w.ctx(), w.api, info.PortID).Extract()
		w.must(err)
		if len(p.FixedIPs) != 1 || p.FixedIPs[0].IPAddress != ip {
			t.Errorf("%s got %s, its port has %v", client, ip, p.FixedIPs)
		}
		leases, err := w.Run(w.ctx(), "ctl", "cat", "/var/lib/baryon/dhcp/"+id+"/leases")
		w.must(err)
		if !strings.Contains(leases, " "+info.MAC+" "+ip+" host-"+strings.ReplaceAll(ip, ".", "-")+" ") {
			t.Errorf("the leases file does not name %s:\n%s", name, leases)
		}
		if code, err := w.GuestRun(w.ctx(), name, "curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/"); err != nil || code != "200" {
			t.Errorf("%s: the routes of its lease do not lead to the metadata service: %s, %v", client, code, err)
		}
		link, err := w.GuestRun(w.ctx(), name, "ip", "link", "show", "eth0")
		w.must(err)
		if !strings.Contains(link, "mtu 1450") {
			t.Errorf("%s: MTU is not the network's: %s", client, link)
		}
	}
	server := w.dhcpAddress(id, "10.20.")
	w.restartUnderPing("d4-udhcpc", server, "ctl", syscall.SIGTERM)
	w.restartUnderPing("d4-udhcpc", server, "ctl", syscall.SIGKILL)
	// A client that comes after the restart is served from the same tables.
	w.guest(lab.Guest{Name: "d4-late", Node: "cmp1", Network: "dhcp4"})
	w.names("d4-late", server)
}

// names asks the network's DNS for the guests' names.
func (w *world) names(guest, server string) {
	w.t.Helper()
	for _, g := range w.Guests() {
		if !strings.HasPrefix(g.Name, "d4-") {
			continue
		}
		p, err := ports.Get(w.ctx(), w.api, g.PortID).Extract()
		w.must(err)
		ip := p.FixedIPs[0].IPAddress
		name := "host-" + strings.ReplaceAll(ip, ".", "-") + ".openstacklocal"
		out, err := w.GuestRun(w.ctx(), guest, "dig", "+short", "+time=5", "@"+server, name)
		w.must(err)
		if strings.TrimSpace(out) != ip {
			w.t.Errorf("DNS says %s is %q, not %s", name, out, ip)
		}
		out, err = w.GuestRun(w.ctx(), guest, "dig", "+short", "+time=5", "@"+server, "-x", ip)
		w.must(err)
		if strings.TrimSpace(out) != name+"." {
			w.t.Errorf("DNS says %s is called %q, not %s", ip, out, name)
		}
	}
}

func (w *world) guestInfo(name string) lab.GuestInfo {
	w.t.Helper()
	list := w.Guests()
	i := slices.IndexFunc(list, func(g lab.GuestInfo) bool { return g.Name == name })
	if i < 0 {
		w.t.Fatalf("no guest %s", name)
	}
	return list[i]
}

// dhcpAddress is the address of the network's DHCP port that starts with prefix.
func (w *world) dhcpAddress(network, prefix string) string {
	w.t.Helper()
	pages, err := ports.List(w.api, ports.ListOpts{NetworkID: network, DeviceOwner: "network:dhcp"}).AllPages(w.ctx())
	w.must(err)
	list, err := ports.ExtractPorts(pages)
	w.must(err)
	for _, p := range list {
		for _, f := range p.FixedIPs {
			if strings.HasPrefix(f.IPAddress, prefix) {
				return f.IPAddress
			}
		}
	}
	w.t.Fatalf("the network has no DHCP port with an address %s…: %+v", prefix, list)
	return ""
}

// fixed is the port's address that starts with prefix.
func (w *world) fixed(guest, prefix string) string {
	w.t.Helper()
	p, err := ports.Get(w.ctx(), w.api, w.guestInfo(guest).PortID).Extract()
	w.must(err)
	for _, f := range p.FixedIPs {
		if strings.HasPrefix(f.IPAddress, prefix) {
			return f.IPAddress
		}
	}
	w.t.Fatalf("port of %s has no address %s…: %v", guest, prefix, p.FixedIPs)
	return ""
}

// hasAddress waits until the guest has the address, and duplicate address detection is over.
func (w *world) hasAddress(guest, ip string) {
	w.t.Helper()
	ctx := w.ctx()
	for {
		out, err := w.GuestRun(ctx, guest, "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "global", "-tentative")
		if err == nil && strings.Contains(out, " "+ip+"/") {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("%s never has %s: %v\n%s", guest, ip, err, out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestSLAAC: the kernel makes the address that the API shows, from router advertisements of the network's DHCP node.
func TestSLAAC(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "slaac", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "fd00:5:1::/64", IPv6: "slaac"}}})
	w.ipv6Pair("slaac", "fd00:5:1:", lab.ClientNone)
}

// TestDHCPv6Stateful: dhclient -6 gets the port's address.
func TestDHCPv6Stateful(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "v6full", Type: "gre", Subnets: []lab.Subnet{{CIDR: "fd00:5:2::/64", IPv6: "dhcpv6-stateful"}}})
	w.ipv6Pair("v6full", "fd00:5:2:", lab.ClientDHClient6)
	for _, g := range []string{"v6full-a", "v6full-b"} {
		lease, err := w.WaitLease(w.ctx(), g)
		w.must(err)
		if want := w.fixed(g, "fd00:5:2:"); lease != want {
			t.Errorf("%s leased %s, its port has %s", g, lease, want)
		}
	}
}

// TestDHCPv6Stateless: the address by SLAAC, the rest by DHCPv6.
func TestDHCPv6Stateless(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "v6less", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "fd00:5:3::/64", IPv6: "dhcpv6-stateless"}}})
	w.ipv6Pair("v6less", "fd00:5:3:", lab.ClientNone)
}

// ipv6Pair puts two guests on two nodes, waits for the addresses that the API shows, and pings under restarts.
func (w *world) ipv6Pair(network, prefix, client string) {
	w.t.Helper()
	for node, g := range map[string]string{"cmp1": network + "-a", "cmp3": network + "-b"} {
		w.addGuest(lab.Guest{Name: g, Node: node, Network: network, Client: client})
	}
	a, b := network+"-a", network+"-b"
	w.must(w.WaitActive(w.ctx(), a))
	w.must(w.WaitActive(w.ctx(), b))
	w.hasAddress(a, w.fixed(a, prefix))
	w.hasAddress(b, w.fixed(b, prefix))
	w.reaches(a, w.fixed(b, prefix))
	for _, node := range []string{"cmp1", "cmp3", "ctl"} {
		w.restartUnderPing(a, w.fixed(b, prefix), node, syscall.SIGKILL)
	}
}

// TestMetadata: a guest reads its own data, by EC2's and OpenStack's layouts, over IPv4 and IPv6; another network's guest of the
// same address reads its own.
func TestMetadata(t *testing.T) {
	w := sharedLab(t)
	for _, n := range []string{"meta0", "meta1"} {
		w.network(lab.Network{Name: n, Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.30.0.0/24"}, {CIDR: "fd00:6::/64", IPv6: "slaac"}}})
	}
	w.guest(lab.Guest{Name: "m0", Node: "cmp1", Network: "meta0", FixedIP: "10.30.0.50"})
	w.guest(lab.Guest{Name: "m1", Node: "cmp2", Network: "meta1", FixedIP: "10.30.0.50"})
	for _, g := range []string{"m0", "m1"} {
		w.readsMetadata(g)
	}
	ping := w.steadily("m0", w.dhcpAddress(w.networkID("meta0"), "10.30."))
	w.must(w.RestartAgent(w.ctx(), "ctl", syscall.SIGKILL))
	ping.lossless("restart of the metadata node's agent")
	for _, g := range []string{"m0", "m1"} {
		w.readsMetadata(g)
	}
}

func (w *world) readsMetadata(guest string) {
	w.t.Helper()
	get := func(path string) string {
		w.t.Helper()
		out, err := w.GuestRun(w.ctx(), guest, "curl", "-sS", "--fail", "--retry", "5", "--retry-all-errors", "--retry-delay", "1", "-m", "10", "http://169.254.169.254/"+path)
		w.must(err)
		return out
	}
	p, err := ports.Get(w.ctx(), w.api, w.guestInfo(guest).PortID).Extract()
	w.must(err)
	if got := get("latest/meta-data/instance-id"); got == "" {
		w.t.Errorf("%s: no instance id", guest)
	}
	if got := get("2009-04-04/meta-data/local-ipv4"); got != "10.30.0.50" {
		w.t.Errorf("%s: local-ipv4 is %q", guest, got)
	}
	var meta struct{ UUID, Name, Hostname, Project_ID string }
	w.must(json.Unmarshal([]byte(get("openstack/latest/meta_data.json")), &meta))
	if meta.UUID != p.DeviceID || meta.Name != guest || meta.Project_ID != p.ProjectID {
		w.t.Errorf("%s reads %+v; its port has device %s, project %s", guest, meta, p.DeviceID, p.ProjectID)
	}
	out, err := w.GuestRun(w.ctx(), guest, "curl", "-sS", "--fail", "-g", "--retry", "10", "--retry-all-errors", "--retry-delay", "1", "-m", "10",
		"http://[fe80::a9fe:a9fe%25eth0]/openstack/latest/meta_data.json")
	w.must(err)
	if !strings.Contains(out, p.DeviceID) {
		w.t.Errorf("%s over IPv6 reads %s", guest, out)
	}
	if code, err := w.GuestRun(w.ctx(), guest, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X-Forwarded-For: 10.30.0.51",
		"http://169.254.169.254/latest/meta-data/local-ipv4"); err != nil || code != "200" {
		w.t.Errorf("%s with a forged X-Forwarded-For: %s, %v", guest, code, err)
	}
}

// TestUserData: what was given at plug is what the guest reads.
func TestUserData(t *testing.T) {
	w := sharedLab(t)
	w.network(lab.Network{Name: "udata", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.31.0.0/24"}}})
	w.guest(lab.Guest{Name: "ud", Node: "cmp1", Network: "udata"})
	dir := filepath.Join(w.Dir(), "nodes", "cmp1", "lib")
	w.must(os.WriteFile(filepath.Join(dir, "ud.txt"), []byte("#cloud-config\n{}\n"), 0o600))
	w.must(os.WriteFile(filepath.Join(dir, "ud.pub"), []byte("ssh-ed25519 AAAATEST me@here\n"), 0o600))
	info := w.guestInfo("ud")
	_, err := w.Run(w.ctx(), "cmp1", os.Getenv("BARYON_BIN"), "plug", info.PortID, "--netns", "ud", "--mac", info.MAC, "--mtu", "1450", "--hybrid",
		"--name", "renamed", "--user-data", "/var/lib/baryon/ud.txt", "--public-key", "/var/lib/baryon/ud.pub", "--wait")
	w.must(err)
	for path, want := range map[string]string{
		"latest/user-data": "#cloud-config\n{}\n", "latest/meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAATEST me@here",
	} {
		ctx := w.ctx()
		for {
			out, err := w.GuestRun(ctx, "ud", "curl", "-s", "-m", "5", "http://169.254.169.254/"+path)
			if err == nil && strings.TrimSpace(out) == strings.TrimSpace(want) {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s is %q (%v), want %q", path, out, err, want)
			}
		}
	}
}
