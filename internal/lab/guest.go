package lab

import (
	"context"
	_ "embed" // the clients' scripts
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"baryon/internal/nodestate"
)

// The scripts that the guests' DHCP clients run on events, and dhclient's configuration.
var (
	//go:embed udhcpc.sh
	udhcpcScript []byte
	//go:embed dhclient.sh
	dhclientScript []byte
	//go:embed dhclient.conf
	dhclientConf []byte
)

type guestState struct {
	Guest
	PortID string
	MAC    string
	MTU    int
}

// GuestInfo is what is known of a guest.
type GuestInfo struct {
	Guest
	PortID string
	MAC    string
	MTU    int
}

// AddGuest makes a port for the guest, bound to its node, plugs a namespace of the guest's name into it and starts its DHCP client.
// WaitActive and WaitLease wait for what follows.
func (l *Lab) AddGuest(ctx context.Context, g Guest) (GuestInfo, error) {
	if err := g.check(); err != nil {
		return GuestInfo{}, err
	}
	if _, err := l.node(g.Node); err != nil {
		return GuestInfo{}, err
	}
	if _, err := l.guest(g.Name); err == nil {
		return GuestInfo{}, fmt.Errorf("guest %s exists", g.Name)
	}
	api, err := l.API(ctx)
	if err != nil {
		return GuestInfo{}, err
	}
	port, err := l.createPort(ctx, api, g)
	if err != nil {
		return GuestInfo{}, err
	}
	return l.PlugGuest(ctx, g, port)
}

// Port is what plugging needs to know of a port.
type Port struct {
	ID     string
	MAC    string
	MTU    int
	Hybrid bool
}

// PlugGuest plugs a guest into a port that exists (or will) and starts its DHCP client.
func (l *Lab) PlugGuest(ctx context.Context, g Guest, p Port) (GuestInfo, error) {
	n, err := l.node(g.Node)
	if err != nil {
		return GuestInfo{}, err
	}
	b := l.box(n)
	gs := &guestState{Guest: g, PortID: p.ID, MAC: p.MAC, MTU: p.MTU}
	l.mu.Lock()
	l.state.Guests = append(l.state.Guests, gs)
	l.mu.Unlock()
	if err := l.save(); err != nil {
		return GuestInfo{}, err
	}
	instance, err := json.Marshal(nodestate.Instance{Name: g.Name})
	if err != nil {
		return GuestInfo{}, err
	}
	if _, err := b.run(ctx, "ip", "netns", "add", g.Name); err != nil {
		return GuestInfo{}, err
	}
	argv := []string{
		l.state.Exe, "plug", p.ID, "--netns", g.Name, "--device", "eth0", "--mac", p.MAC, "--mtu", fmt.Sprint(p.MTU),
		"--state-dir", "/var/lib/baryon", "--instance", string(instance),
	}
	if g.Plug == PlugHybrid || g.Plug == "" && p.Hybrid {
		argv = append(argv, "--hybrid")
	}
	if _, err := b.run(ctx, argv...); err != nil {
		return GuestInfo{}, err
	}
	if err := l.startClient(ctx, b, g); err != nil {
		return GuestInfo{}, err
	}
	return GuestInfo(*gs), nil
}

func (l *Lab) startClient(ctx context.Context, b *box, g Guest) error {
	dir := l.guestDir(g)
	etc := filepath.Join(b.dir, "netns", g.Name)
	for _, d := range []string{dir, etc} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("start client of %s: %w", g.Name, err)
		}
	}
	for name, text := range map[string][]byte{
		"udhcpc.sh": udhcpcScript, "dhclient.sh": dhclientScript, "dhclient.conf": dhclientConf,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			return fmt.Errorf("start client of %s: %w", g.Name, err)
		}
	}
	// ip netns exec shows the guest this file as /etc/resolv.conf; the client's script rewrites it in place.
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), nil, 0o644); err != nil {
		return fmt.Errorf("start client of %s: %w", g.Name, err)
	}
	argv := []string{"ip", "netns", "exec", g.Name}
	lease := "LAB_LEASE=" + filepath.Join(dir, "lease")
	switch g.Client {
	case "", ClientUDHCPC:
		argv = append(argv, "busybox", "udhcpc", "-f", "-i", "eth0", "-t", "100", "-T", "1", "-A", "1", "-s", filepath.Join(dir, "udhcpc.sh"),
			"-x", "hostname:"+g.Name, "-O", "mtu", "-O", "staticroutes")
	case ClientDHClient, ClientDHClient6:
		version := "-4"
		if g.Client == ClientDHClient6 {
			version = "-6"
		}
		// dhclient gives its script a clean environment but for what -e names.
		argv = append(argv, "dhclient", version, "-d", "-e", lease, "-sf", filepath.Join(dir, "dhclient.sh"),
			"-cf", filepath.Join(dir, "dhclient.conf"), "-lf", filepath.Join(dir, "dhclient.leases"),
			"-pf", filepath.Join(dir, "dhclient.pid"), "eth0")
	case ClientNone:
		return nil
	}
	return b.start(ctx, Service{
		Name: "client-" + g.Name, Argv: argv, Log: filepath.Join(b.dir, "log", "client-"+g.Name+".log"), Env: []string{lease},
	})
}

// WaitLease waits until the guest's DHCP client has an address.
func (l *Lab) WaitLease(ctx context.Context, name string) (string, error) {
	g, err := l.guest(name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(l.guestDir(g.Guest), "lease")
	for {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			return string(text[:len(text)-1]), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the lease of %s: %w\n%s", name, ctx.Err(),
				tail(filepath.Join(l.LogDir(g.Node), "client-"+name+".log"), 8))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// RemoveGuest ends the guest's client, unplugs it, removes its namespace and deletes its port.
func (l *Lab) RemoveGuest(ctx context.Context, name string) error {
	g, err := l.guest(name)
	if err != nil {
		return err
	}
	if err := l.UnplugGuest(ctx, name); err != nil {
		return err
	}
	api, err := l.API(ctx)
	if err != nil {
		return err
	}
	if err := ports.Delete(ctx, api, g.PortID).ExtractErr(); err != nil && !gophercloud.ResponseCodeIs(err, 404) {
		return fmt.Errorf("delete port of %s: %w", name, err)
	}
	return nil
}

// UnplugGuest ends the guest's client, unplugs it and removes its namespace; its port stays.
func (l *Lab) UnplugGuest(ctx context.Context, name string) error {
	g, err := l.guest(name)
	if err != nil {
		return err
	}
	n, err := l.node(g.Node)
	if err != nil {
		return err
	}
	b := l.box(n)
	var errs []error
	errs = append(errs, b.stop(ctx, "client-"+name, syscall.SIGTERM))
	_, err = b.run(ctx, l.state.Exe, "unplug", g.PortID, "--state-dir", "/var/lib/baryon")
	errs = append(errs, err)
	_, err = b.run(ctx, "ip", "netns", "delete", name)
	errs = append(errs, err, os.RemoveAll(l.guestDir(g.Guest)), os.RemoveAll(filepath.Join(b.dir, "netns", name)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	l.mu.Lock()
	l.state.Guests = slices.DeleteFunc(l.state.Guests, func(s *guestState) bool { return s.Name == name })
	l.mu.Unlock()
	return l.save()
}

// Guests lists the guests.
func (l *Lab) Guests() []GuestInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]GuestInfo, 0, len(l.state.Guests))
	for _, g := range l.state.Guests {
		list = append(list, GuestInfo(*g))
	}
	return list
}

// GuestCommand makes a command that runs in a guest.
func (l *Lab) GuestCommand(ctx context.Context, name string, argv ...string) (*exec.Cmd, error) {
	g, err := l.guest(name)
	if err != nil {
		return nil, err
	}
	return l.Command(ctx, g.Node, append([]string{"ip", "netns", "exec", name}, argv...)...)
}

// GuestRun runs a command in a guest and returns what it printed.
func (l *Lab) GuestRun(ctx context.Context, name string, argv ...string) (string, error) {
	cmd, err := l.GuestCommand(ctx, name, argv...)
	if err != nil {
		return "", err
	}
	return output(cmd, name, argv)
}

func (l *Lab) guestDir(g Guest) string { return filepath.Join(l.nodeDir(g.Node), "guests", g.Name) }

func (l *Lab) guest(name string) (*guestState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.state.Guests {
		if g.Name == name {
			return g, nil
		}
	}
	return nil, fmt.Errorf("the lab has no guest %q", name)
}

// createPort makes the guest's port as Nova would: bound to the node, owned by a compute instance.
func (l *Lab) createPort(ctx context.Context, api *gophercloud.ServiceClient, g Guest) (Port, error) {
	var p Port
	pages, err := networks.List(api, networks.ListOpts{Name: g.Network}).AllPages(ctx)
	if err != nil {
		return p, fmt.Errorf("find network %s: %w", g.Network, err)
	}
	var nets []struct {
		ID  string `json:"id"`
		MTU int    `json:"mtu"`
	}
	if err := networks.ExtractNetworksInto(pages, &nets); err != nil {
		return p, fmt.Errorf("find network %s: %w", g.Network, err)
	}
	if len(nets) != 1 {
		return p, fmt.Errorf("%d networks are named %s", len(nets), g.Network)
	}
	opts := ports.CreateOpts{
		NetworkID: nets[0].ID, Name: g.Name, DeviceID: uuid.NewString(), DeviceOwner: "compute:nova",
	}
	if g.FixedIP != "" {
		opts.FixedIPs = []ports.IP{{IPAddress: g.FixedIP}}
	}
	var made struct {
		ports.Port
		portsbinding.PortsBindingExt
	}
	err = ports.Create(ctx, api, portsbinding.CreateOptsExt{CreateOptsBuilder: opts, HostID: g.Node}).ExtractInto(&made)
	if err != nil {
		return p, fmt.Errorf("create port of %s: %w", g.Name, err)
	}
	hybrid, _ := made.VIFDetails["ovs_hybrid_plug"].(bool)
	return Port{ID: made.ID, MAC: made.MACAddress, MTU: nets[0].MTU, Hybrid: hybrid}, nil
}

// WaitActive waits until the API shows the guest's port ACTIVE.
func (l *Lab) WaitActive(ctx context.Context, name string) error {
	g, err := l.guest(name)
	if err != nil {
		return err
	}
	api, err := l.API(ctx)
	if err != nil {
		return err
	}
	return WaitPort(ctx, api, g.PortID, "ACTIVE")
}

// WaitPort waits until the API shows the port in the status.
func WaitPort(ctx context.Context, api *gophercloud.ServiceClient, id, status string) error {
	last := ""
	for {
		p, err := ports.Get(ctx, api, id).Extract()
		if err == nil {
			last = p.Status
		}
		if err == nil && p.Status == status {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for port %s to be %s (is %s): %w", id, status, last, errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// populate makes the topology's networks and guests.
func (l *Lab) populate(ctx context.Context, t Topology) error {
	if len(t.Networks) == 0 {
		return nil
	}
	api, err := l.API(ctx)
	if err != nil {
		return err
	}
	for _, n := range t.Networks {
		l.say("network %s", n.Name)
		if err := CreateNetwork(ctx, api, n); err != nil {
			return err
		}
	}
	for _, g := range t.Guests {
		l.say("guest %s on %s in %s", g.Name, g.Node, g.Network)
		if _, err := l.AddGuest(ctx, g); err != nil {
			return err
		}
	}
	for _, g := range t.Guests {
		if err := l.WaitActive(ctx, g.Name); err != nil {
			return err
		}
	}
	return nil
}

// networkOpts adds what gophercloud offers elsewhere or only as a list of segments: how the network appears on the wire, and to whom.
type networkOpts struct {
	networks.CreateOpts
	network Network
}

// ToNetworkCreateMap makes the request's body.
func (o networkOpts) ToNetworkCreateMap() (map[string]any, error) {
	body, err := o.CreateOpts.ToNetworkCreateMap()
	if err != nil {
		return body, err
	}
	net, ok := body["network"].(map[string]any)
	if !ok {
		return nil, errors.New("make network body: no envelope")
	}
	for name, attr := range map[string]struct {
		given bool
		value any
	}{
		"provider:network_type":     {o.network.Type != "", o.network.Type},
		"provider:physical_network": {o.network.PhysicalNetwork != "", o.network.PhysicalNetwork},
		"provider:segmentation_id":  {o.network.SegmentationID != 0, o.network.SegmentationID},
		"router:external":           {o.network.External, true},
		"shared":                    {o.network.Shared, true},
		"mtu":                       {o.network.MTU != 0, o.network.MTU},
	} {
		if attr.given {
			net[name] = attr.value
		}
	}
	return body, nil
}

// CreateNetwork makes a network with its subnets.
func CreateNetwork(ctx context.Context, api *gophercloud.ServiceClient, n Network) error {
	net, err := networks.Create(ctx, api, networkOpts{CreateOpts: networks.CreateOpts{Name: n.Name}, network: n}).Extract()
	if err != nil {
		return fmt.Errorf("create network %s: %w", n.Name, err)
	}
	for _, s := range n.Subnets {
		if err := createSubnet(ctx, api, net.ID, s); err != nil {
			return fmt.Errorf("create subnet %s of network %s: %w", s.CIDR, n.Name, err)
		}
	}
	return nil
}
