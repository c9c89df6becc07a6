package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/lab"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/testkit"
)

// machine is a virtual machine on a tap: a kernel of its own, no namespace of this host.
type machine struct {
	w     *world
	name  string
	port  lab.Port
	ip    string
	lines chan string // of its console
	said  []string    // that were not waited for
}

// TestMachines: two virtual machines, on taps that `baryon plug` has made, direct on one node and hybrid on another, get their leases and
// their metadata, reach each other and are reached, also while the agent restarts.
func TestMachines(t *testing.T) {
	image := os.Getenv("BARYON_GUEST")
	if image == "" && os.Getenv("BARYON_ROOT") != "required" {
		t.Skip("BARYON_GUEST names no directory with a guest's image; make e2e makes one")
	}
	testkit.NeedTool(t, "qemu-system-x86_64")
	w := sharedLab(t)
	w.network(lab.Network{Name: "machines", Type: "vxlan", Subnets: []lab.Subnet{{CIDR: "10.15.0.0/24"}}})
	direct, hybrid := w.plugMachine("vm-direct", "cmp2"), w.plugMachine("vm-hybrid", "cmp1")
	if direct.port.Hybrid || !hybrid.port.Hybrid {
		t.Fatalf("plugged hybrid: %v and %v", direct.port.Hybrid, hybrid.port.Hybrid)
	}
	direct.boot("cmp2", image, hybrid.ip)
	hybrid.boot("cmp1", image, direct.ip)
	w.guest(lab.Guest{Name: "vm-peer", Node: "cmp3", Network: "machines"})
	for _, m := range []*machine{direct, hybrid} {
		m.says("lease " + m.ip + " mtu 1450")
		m.says("metadata " + m.name + ".openstacklocal")
		w.must(lab.WaitPort(w.ctx(), w.api, m.port.ID, "ACTIVE"))
		w.reaches("vm-peer", m.ip)
	}
	direct.says("reaches " + hybrid.ip)
	hybrid.says("reaches " + direct.ip)
	w.restartUnderPing("vm-peer", hybrid.ip, "cmp1", syscall.SIGKILL)
}

// plugMachine makes a port of the network machines and a tap for it.
func (w *world) plugMachine(name, node string) *machine {
	w.t.Helper()
	var made struct {
		ports.Port
		portsbinding.PortsBindingExt
	}
	w.must(ports.Create(w.ctx(), w.api, portsbinding.CreateOptsExt{HostID: node, CreateOptsBuilder: ports.CreateOpts{
		NetworkID: w.networkID("machines"), Name: name, DeviceID: uuid.NewString(), DeviceOwner: "compute:nova",
	}}).ExtractInto(&made))
	hybrid, _ := made.VIFDetails["ovs_hybrid_plug"].(bool)
	m := &machine{w: w, name: name, ip: made.FixedIPs[0].IPAddress, port: lab.Port{ID: made.ID, MAC: made.MACAddress, MTU: 1450, Hybrid: hybrid}}
	instance, err := json.Marshal(nodestate.Instance{Name: name})
	w.must(err)
	argv := []string{
		os.Getenv("BARYON_BIN"), "plug", made.ID, "--mac", made.MACAddress, "--mtu", "1450",
		"--state-dir", "/var/lib/baryon", "--instance", string(instance), fmt.Sprintf("--hybrid=%v", hybrid),
	}
	_, err = w.Run(w.ctx(), node, argv...)
	w.must(err)
	w.cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := w.Run(ctx, node, os.Getenv("BARYON_BIN"), "unplug", made.ID, "--state-dir", "/var/lib/baryon"); err != nil {
			w.t.Errorf("clean up: %v", err)
		}
	})
	return m
}

// boot starts the machine on its tap.
func (m *machine) boot(node, image, peer string) {
	m.w.t.Helper()
	card := "virtio-net-pci,netdev=net,mac=" + m.port.MAC + ",romfile="
	if m.w.Datapath() == lab.DatapathUser {
		card += ",csum=off,gso=off" // the userspace datapath forwards frames as they are
	}
	pidfile := "/run/" + m.name + ".pid"
	// Emulated: a host that is itself a virtual machine has nothing better.
	cmd, err := m.w.Command(m.w.t.Context(), node, "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "160",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-pidfile", pidfile,
		"-kernel", filepath.Join(image, "vmlinuz"), "-initrd", filepath.Join(image, "guest"),
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off peer="+peer, "-serial", "stdio",
		"-netdev", "tap,id=net,script=no,downscript=no,ifname="+names.Tap(m.port.ID), "-device", card)
	m.w.must(err)
	out, err := cmd.StdoutPipe()
	m.w.must(err)
	cmd.Stderr = cmd.Stdout
	m.w.must(cmd.Start())
	m.lines = make(chan string, 1000)
	go func() {
		defer close(m.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			m.lines <- strings.TrimSpace(sc.Text())
		}
	}()
	m.w.cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := m.w.Run(ctx, node, "sh", "-c", "kill -KILL $(cat "+pidfile+")"); err != nil {
			m.w.t.Errorf("clean up: %v", err)
		}
		for range m.lines { //nolint:revive // read to its end
		}
		_ = cmd.Wait() // ended by the signal
	})
}

// says waits for a line of the machine.
func (m *machine) says(want string) {
	m.w.t.Helper()
	ctx, cancel := context.WithTimeout(m.w.t.Context(), 3*patience) // it is emulated, and boots first
	defer cancel()
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				m.w.t.Fatalf("%s ended before it said %q:\n%s", m.name, want, strings.Join(m.said, "\n"))
			}
			if line == "guest: "+want {
				return
			}
			m.said = append(m.said, line)
		case <-ctx.Done():
			m.w.t.Fatalf("%s has not said %q:\n%s", m.name, want, strings.Join(m.said, "\n"))
		}
	}
}
