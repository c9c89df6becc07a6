package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/spf13/cobra"

	"baryon/internal/nodestate"
	"baryon/internal/plug"
)

const plugHelp = `Attach a network namespace, a tap device or an existing device to a port.

The port is named by its id or, with API credentials in the environment (OS_CLOUD or OS_AUTH_URL …), by its name; then its MAC,
its MTU and how it is plugged come from the API, and the port is bound to this host.  Without credentials give --mac and --mtu.`

type plugFlags struct {
	spec      plug.Spec
	host      string
	wait      bool
	timeout   time.Duration
	name      string
	userData  string
	keys      []string
	instance  string
	hybridSet bool
	bridgeSet bool
}

func plugCommand() *cobra.Command {
	var f plugFlags
	cmd := &cobra.Command{
		Use: "plug PORT", Short: "Attach a namespace, a tap or a device to a port", Long: plugHelp, Args: cobra.ExactArgs(1),
		Example: `  baryon plug web-1 --netns web-1 --wait                   # a container's namespace
  baryon plug 1a2b3c4d-5e6f-4000-8000-000000000001         # a tap for QEMU
  baryon plug db-1 --device vnet0 --name db-1 --public-key ~/.ssh/id_ed25519.pub --user-data cloud.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.hybridSet, f.bridgeSet = cmd.Flags().Changed("hybrid"), cmd.Flags().Changed("bridge")
			return f.run(cmd.Context(), args[0])
		},
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	fl := cmd.Flags()
	fl.StringVar(&f.spec.NetNS, "netns", "", "network namespace (a name in /run/netns) that gets the port's device")
	fl.StringVar(&f.spec.Device, "device", "", "with --netns: the device's name in there (default eth0); without: an existing device to attach")
	fl.StringVar(&f.spec.MAC, "mac", "", "MAC of the port")
	fl.IntVar(&f.spec.MTU, "mtu", 0, "MTU of the network in bytes")
	fl.BoolVar(&f.spec.Hybrid, "hybrid", false, "put a Linux bridge in between (tap, qbr, qvb, qvo)")
	fl.StringVar(&f.spec.Bridge, "bridge", "br-int", "bridge that the device is put into (default: what the port's binding says)")
	fl.StringVar(&f.spec.StateDir, "state-dir", "/var/lib/baryon", "state directory of this host's agent")
	fl.StringVar(&f.host, "host", host, "name of this node, to which the port is bound")
	fl.BoolVar(&f.wait, "wait", false, "wait until the port is ACTIVE")
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait")
	fl.StringVar(&f.name, "name", "", "host name that the guest's metadata shows (default: the port's name)")
	fl.StringVar(&f.userData, "user-data", "", "file that the guest's metadata shows as user-data")
	fl.StringArrayVar(&f.keys, "public-key", nil, "file with a public SSH key for the guest's metadata (repeatable)")
	fl.StringVar(&f.instance, "instance", "", "the guest's metadata as JSON, in place of the three flags above")
	return cmd
}

func (f *plugFlags) run(ctx context.Context, port string) error {
	if f.wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	in, err := f.metadata()
	if err != nil {
		return err
	}
	f.spec.Instance = in
	f.spec.PortID = port
	var api *gophercloud.ServiceClient
	if f.spec.MAC == "" || f.spec.MTU == 0 || plug.CheckPortID(port) != nil {
		if api, err = networkClient(ctx); err != nil {
			return fmt.Errorf("the port's MAC and MTU must come from the API or from --mac and --mtu: %w", err)
		}
		if err := f.ask(ctx, api, port); err != nil {
			return err
		}
	}
	if err := plug.Attach(ctx, f.spec); err != nil {
		return fmt.Errorf("plug port %s: %w", f.spec.PortID, err)
	}
	if !f.wait {
		return nil
	}
	if api != nil {
		return waitActive(ctx, api, f.spec.PortID)
	}
	return waitWired(ctx, f.spec.StateDir, f.spec.PortID)
}

func (f *plugFlags) metadata() (*nodestate.Instance, error) {
	in := &nodestate.Instance{Name: f.name}
	if f.instance != "" {
		if err := json.Unmarshal([]byte(f.instance), in); err != nil {
			return nil, fmt.Errorf("read --instance: %w", err)
		}
		return in, nil
	}
	if f.userData != "" {
		text, err := os.ReadFile(f.userData)
		if err != nil {
			return nil, fmt.Errorf("read user data: %w", err)
		}
		in.UserData = text
	}
	for _, path := range f.keys {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		key := strings.TrimSpace(string(text))
		fields := strings.Fields(key)
		if len(fields) < 2 {
			return nil, fmt.Errorf("read public key: %s holds none", path)
		}
		name := "key"
		if len(fields) > 2 {
			name = fields[2]
		}
		if in.PublicKeys == nil {
			in.PublicKeys = map[string]string{}
		}
		in.PublicKeys[name] = key
	}
	return in, nil
}

// apiPort is what the API shows of a port, as far as plugging needs it.
type apiPort struct {
	ports.Port
	portsbinding.PortsBindingExt
}

// ask fills the spec from the API and binds the port to this host if it is bound nowhere.
func (f *plugFlags) ask(ctx context.Context, api *gophercloud.ServiceClient, port string) error {
	p, err := findPort(ctx, api, port)
	if err != nil {
		return err
	}
	if p.HostID == "" || p.VIFType == "binding_failed" {
		body := portsbinding.UpdateOptsExt{UpdateOptsBuilder: ports.UpdateOpts{}, HostID: &f.host}
		if err := ports.Update(ctx, api, p.ID, body).ExtractInto(p); err != nil {
			return fmt.Errorf("bind port %s to %s: %w", p.ID, f.host, err)
		}
	}
	if p.HostID != f.host {
		return fmt.Errorf("port %s is bound to %s, not to this node (%s)", p.ID, p.HostID, f.host)
	}
	if p.VIFType != "ovs" {
		return fmt.Errorf("port %s could not be bound to %s (%s): does the node's agent run, with a tunnel type of the network?", p.ID, f.host, p.VIFType)
	}
	var net struct {
		MTU int `json:"mtu"`
	}
	if err := networks.Get(ctx, api, p.NetworkID).ExtractInto(&net); err != nil {
		return fmt.Errorf("find network of port %s: %w", p.ID, err)
	}
	f.spec.PortID, f.spec.Owner = p.ID, p.DeviceID
	if f.spec.MAC == "" {
		f.spec.MAC = p.MACAddress
	}
	if f.spec.MTU == 0 {
		f.spec.MTU = net.MTU
	}
	if hybrid, ok := p.VIFDetails["ovs_hybrid_plug"].(bool); ok && !f.hybridSet {
		f.spec.Hybrid = hybrid
	}
	if bridge, ok := p.VIFDetails["bridge_name"].(string); ok && !f.bridgeSet {
		f.spec.Bridge = bridge
	}
	if f.spec.Instance.Name == "" {
		f.spec.Instance.Name = p.Name
	}
	return nil
}

func findPort(ctx context.Context, api *gophercloud.ServiceClient, port string) (*apiPort, error) {
	var p apiPort
	if plug.CheckPortID(port) == nil {
		if err := ports.Get(ctx, api, port).ExtractInto(&p); err != nil {
			return nil, fmt.Errorf("find port %s: %w", port, err)
		}
		return &p, nil
	}
	pages, err := ports.List(api, ports.ListOpts{Name: port}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("find port %s: %w", port, err)
	}
	var list []apiPort
	if err := ports.ExtractPortsInto(pages, &list); err != nil {
		return nil, fmt.Errorf("find port %s: %w", port, err)
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("find port: %d ports are named %q", len(list), port)
	}
	return &list[0], nil
}

func waitActive(ctx context.Context, api *gophercloud.ServiceClient, id string) error {
	status := "unknown"
	for {
		p, err := ports.Get(ctx, api, id).Extract()
		if err == nil {
			if status = p.Status; status == "ACTIVE" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("port %s is plugged but %s, not ACTIVE: %w", id, status, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// networkClient logs in with what the environment says (OS_CLOUD and clouds.yaml, or OS_AUTH_URL …).
func networkClient(ctx context.Context) (*gophercloud.ServiceClient, error) {
	var (
		ao  gophercloud.AuthOptions
		eo  gophercloud.EndpointOpts
		err error
	)
	if os.Getenv("OS_CLOUD") != "" {
		ao, eo, _, err = clouds.Parse()
	} else {
		ao, err = openstack.AuthOptionsFromEnv()
		eo.Region = os.Getenv("OS_REGION_NAME")
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	p, err := config.NewProviderClient(ctx, ao)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	return openstack.NewNetworkV2(p, eo)
}

func unplugCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use: "unplug PORT", Short: "Detach a port's devices from this host", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if plug.CheckPortID(id) != nil {
				api, err := networkClient(cmd.Context())
				if err != nil {
					return err
				}
				p, err := findPort(cmd.Context(), api, id)
				if err != nil {
					return err
				}
				id = p.ID
			}
			return plug.Detach(cmd.Context(), id, stateDir)
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/baryon", "state directory of this host's agent")
	return cmd
}
