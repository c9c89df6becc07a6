package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"baryon/internal/dataplane/ovsdb"
)

// Names of the services that every node runs.
const (
	ServiceDB     = "ovsdb-server"
	ServiceSwitch = "ovs-vswitchd"
	ServiceAgent  = "agent"
)

// The switch's database and the socket it is reached at, inside a node: where Debian's packages have them.
const (
	ovsDB     = "/etc/openvswitch/conf.db"
	ovsSocket = "unix:/run/openvswitch/db.sock"
)

// The datapath types that a lab's switches may have.
const (
	DatapathKernel = ovsdb.DatapathKernel // "system": the kernel's openvswitch module
	DatapathUser   = ovsdb.DatapathUser   // "netdev": in ovs-vswitchd itself
)

// chooseDatapath checks a datapath type against this host; "" is the best that there is.
func chooseDatapath(ctx context.Context, want string) (string, error) {
	switch want {
	case DatapathUser:
		return want, nil
	case "", DatapathKernel:
		have := ovsdb.DetectDatapath(ctx)
		if want == DatapathKernel && have != want {
			return "", errors.New("datapath system: this kernel has no module openvswitch; use netdev")
		}
		return have, nil
	}
	return "", fmt.Errorf("datapath %q: must be %s or %s", want, DatapathKernel, DatapathUser)
}

// startOVS brings a node's Open vSwitch up: database, switch, and the device that carries the tunnel address.  It is
// idempotent: what runs already is left alone, so the same call starts a switch that was killed.
func (l *Lab) startOVS(ctx context.Context, n *nodeState) error {
	if err := l.startSwitch(ctx, l.box(n)); err != nil {
		return err
	}
	return l.underlay(ctx, n)
}

// startSwitch starts database and switch in a box, as far as they do not run.
func (l *Lab) startSwitch(ctx context.Context, b *box) error {
	running, err := runningServices(ctx, b)
	if err != nil {
		return err
	}
	log := func(name string) string { return filepath.Join(b.dir, "log", name+".log") }
	if !running[ServiceDB] {
		if err := b.script(ctx, "test -e "+ovsDB+" || ovsdb-tool create "+ovsDB+" /usr/share/openvswitch/vswitch.ovsschema"); err != nil {
			return fmt.Errorf("make switch database: %w", err)
		}
		err := b.start(ctx, Service{Name: ServiceDB, Log: log(ServiceDB), Argv: []string{
			"ovsdb-server", ovsDB, "--remote=p" + ovsSocket, // the control socket gets its usual name, where ovs-appctl looks
			"--pidfile=/run/openvswitch/ovsdb-server.pid", "--no-chdir",
		}})
		if err != nil {
			return err
		}
		if _, err := b.run(ctx, "ovs-vsctl", "--retry", "--no-wait", "init", "--",
			"set", "Open_vSwitch", ".", "external_ids:system-id="+b.name, "external_ids:hostname="+b.name,
			"ovs_version="+l.ovsVersion); err != nil {
			return err
		}
	}
	if !running[ServiceSwitch] {
		err := b.start(ctx, Service{Name: ServiceSwitch, Log: log(ServiceSwitch), Argv: []string{
			"ovs-vswitchd", ovsSocket,
			"--pidfile=/run/openvswitch/ovs-vswitchd.pid", "--no-chdir",
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// underlay puts the node's tunnel address where the datapath looks for it.  Tunnels of the kernel's datapath are sockets of the
// node's own IP stack, so there it is the underlay device.  The userspace datapath sends and receives tunnel packets only through
// a bridge of its own, br-phy, which holds the underlay device; the switch makes br-phy anew when it starts, so the address
// has to be set each time.
func (l *Lab) underlay(ctx context.Context, n *nodeState) error {
	b := l.box(n)
	if l.state.Datapath == DatapathKernel {
		// Traffic goes on in the kernel while no switch runs, so nothing else shows that this one is up: ovs-vsctl returns when
		// it has taken this change in, and with it all bridges.
		return b.script(ctx, fmt.Sprintf(`
ip address replace %s/24 dev eth1
ovs-vsctl --timeout=20 set Open_vSwitch . external_ids:lab-started=$(date +%%s.%%N)
`, n.TunnelIP))
	}
	if _, err := b.run(ctx, "ovs-vsctl", "--timeout=20", "--may-exist", "add-br", "br-phy", "--",
		"set", "Bridge", "br-phy", "datapath_type=netdev", "--", "--may-exist", "add-port", "br-phy", "eth1"); err != nil {
		return err
	}
	// The kernel sees each packet of eth1 too.  It must not answer for br-phy's address there: of the two answers to a neighbour's ARP
	// request the one with eth1's MAC may win, and the datapath decapsulates only what is sent to br-phy's.
	if err := b.script(ctx, "sysctl -qw net.ipv4.conf.eth1.arp_ignore=8 net.ipv6.conf.eth1.disable_ipv6=1"); err != nil {
		return fmt.Errorf("keep the kernel quiet on eth1: %w", err)
	}
	// A switch that finds br-phy in its database makes the device when it gets to it, and ovs-vsctl had nothing to wait for.
	return b.script(ctx, fmt.Sprintf(`
n=0
until ip link show br-phy >/dev/null 2>&1; do
	n=$((n + 1))
	[ $n -lt 400 ]
	sleep 0.05
done
ip address replace %s/24 dev br-phy
ip link set br-phy up
`, n.TunnelIP))
}

// KillSwitch ends a node's ovs-vswitchd the hard way, and with db its ovsdb-server too.
func (l *Lab) KillSwitch(ctx context.Context, node string, db bool) error {
	n, err := l.node(node)
	if err != nil {
		return err
	}
	if err := l.box(n).stop(ctx, ServiceSwitch, syscall.SIGKILL); err != nil {
		return err
	}
	if db {
		return l.box(n).stop(ctx, ServiceDB, syscall.SIGKILL)
	}
	return nil
}

// StartSwitch starts what KillSwitch ended.
func (l *Lab) StartSwitch(ctx context.Context, node string) error {
	n, err := l.node(node)
	if err != nil {
		return err
	}
	return l.startOVS(ctx, n)
}

func runningServices(ctx context.Context, b *box) (map[string]bool, error) {
	list, err := b.services(ctx)
	if err != nil {
		return nil, err
	}
	running := map[string]bool{}
	for _, s := range list {
		running[s.Name] = s.Running
	}
	return running, nil
}

// ovsVersion is what the installed switch calls itself, "3.1.0".
func ovsVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := hostRun(ctx, "ovs-vswitchd", "--version")
	if err != nil {
		return "", fmt.Errorf("find Open vSwitch: %w", err)
	}
	fields := strings.Fields(strings.SplitN(out, "\n", 2)[0])
	return fields[len(fields)-1], nil
}
