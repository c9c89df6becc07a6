package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"baryon/internal/agent"
	"baryon/internal/agent/dhcp"
	"baryon/internal/agent/metadata"
	"baryon/internal/bridgenic"
	"baryon/internal/southbound"
	"baryon/internal/telemetry"
)

const agentHelp = `One process per node: switching and tunnels on Open vSwitch, and on nodes of role network DHCP, DNS, router advertisements and
metadata.

A host joins with a token from "baryon node token", given in a file; afterwards it has its own certificate and the file is no
longer needed.`

type agentFlags struct {
	agent     agent.Config
	servers   []string
	tunnelIP  string
	tokenFile string
	dnsServer []string
	resolv    string
	lease     time.Duration
	nova      metadata.Config
	metrics   string
	logLevel  string
	logFormat string
	mappings  []string
	nics      []string
	config    string
}

func agentCommand() *cobra.Command {
	var a agentFlags
	cmd := &cobra.Command{
		Use: "agent", Short: "Run a node", Long: agentHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context()) },
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	f := cmd.Flags()
	f.StringVar(&a.agent.Host, "host", host, "name of the node, unique in the cloud")
	f.StringSliceVar(&a.agent.Roles, "roles", []string{"compute"}, "compute, network, or both")
	f.StringSliceVar(&a.servers, "server", []string{"127.0.0.1:6610"}, "addresses of the servers' southbound")
	f.StringVar(&a.tokenFile, "join-token-file", "", "file with the token that this host joins with")
	f.StringVar(&a.tunnelIP, "tunnel-ip", "", "local end of the tunnels; empty: the node makes none")
	f.StringSliceVar(&a.agent.TunnelTypes, "tunnel-types", []string{"vxlan", "gre"}, "tunnel types that the node speaks")
	f.StringVar(&a.agent.StateDir, "state-dir", "/var/lib/baryon", "what must survive a reboot")
	f.StringVar(&a.agent.OVSRunDir, "ovs-run-dir", "/run/openvswitch", "where Open vSwitch keeps its sockets")
	f.StringVar(&a.agent.DatapathType, "datapath-type", "", "system or netdev (default: system where the kernel module is there)")
	f.StringVar(&a.agent.Firewall, "firewall-driver", agent.FirewallOVS,
		"who enforces security groups: openvswitch, iptables_hybrid (ports are plugged through a Linux bridge), or noop (nobody)")
	f.Uint16Var(&a.agent.VXLANPort, "vxlan-port", 4789, "UDP port of VXLAN")
	f.BoolVar(&a.agent.TunnelChecksum, "tunnel-csum", false, "checksum tunnel packets")
	f.StringVar(&a.agent.AvailabilityZone, "availability-zone", "nova", "availability zone that the node reports")
	f.StringSliceVar(&a.dnsServer, "dns-server", nil, "address[:port] that guests' questions for other names go to")
	f.StringVar(&a.resolv, "dns-resolv-conf", "", "file to take more of them from, e.g. /etc/resolv.conf")
	f.StringSliceVar(&a.mappings, "bridge-mappings", nil, "physical networks of this node and their bridges, e.g. public:br-ex,rack:br-rack")
	f.StringSliceVar(&a.nics, "bridge-nic", nil, "NIC that a bridge is made with, if it is not there yet, e.g. br-ex=eth1")
	f.StringVar(&a.config, "config", "", "YAML file with bridge_mappings and bridge_nics, read again on SIGHUP and by \"baryon agent reload\"")
	f.DurationVar(&a.lease, "dhcp-lease", 24*time.Hour, "DHCP lease time; negative: for ever")
	f.StringVar(&a.nova.NovaURL, "nova-metadata-url", "", "pass metadata requests on to a real Nova, e.g. http://127.0.0.1:8775")
	secretFile := f.String("nova-metadata-secret-file", "", "file with Nova's metadata_proxy_shared_secret")
	f.StringVar(&a.metrics, "metrics-listen", "", "host:port for Prometheus; empty: none")
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "text or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *secretFile == "" {
			return nil
		}
		text, err := os.ReadFile(*secretFile)
		if err != nil {
			return fmt.Errorf("--nova-metadata-secret-file: %w", err)
		}
		a.nova.Secret = strings.TrimRight(string(text), "\r\n")
		return nil
	}
	cmd.AddCommand(agentStatus(), agentCookie(), agentDrops(), agentReload(), agentBridgeNIC())
	return cmd
}

func (a *agentFlags) run(ctx context.Context) error {
	log, err := telemetry.NewLogger(os.Stderr, a.logFormat, a.logLevel)
	if err != nil {
		return err
	}
	if a.tunnelIP != "" {
		if a.agent.TunnelIP, err = netip.ParseAddr(a.tunnelIP); err != nil {
			return fmt.Errorf("--tunnel-ip: %w", err)
		}
	}
	if err := a.physical(); err != nil {
		return err
	}
	upstreams, err := dnsServers(a.dnsServer)
	if err != nil {
		return fmt.Errorf("--dns-server: %w", err)
	}
	if err := a.join(ctx, log); err != nil {
		return err
	}
	client, err := southbound.NewClient(southbound.ClientConfig{
		Addresses: a.servers, StateDir: a.agent.StateDir, Log: log.With("part", "southbound"),
	})
	if err != nil {
		return err
	}
	registry := telemetry.NewRegistry(version)
	c := &a.agent
	c.Source, c.Log, c.Version, c.Metrics = client, log, version, registry
	leases, err := dhcp.New(dhcp.Config{
		StateDir: c.StateDir, Lease: a.lease, Upstreams: upstreams, ResolvConf: a.resolv, Log: log.With("part", "dhcp"), Metrics: registry,
	})
	if err != nil {
		return err
	}
	a.nova.Log, a.nova.Metrics = log.With("part", "metadata"), registry
	instances, err := metadata.New(a.nova)
	if err != nil {
		return err
	}
	c.Managers = []agent.Manager{leases, instances}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return client.Run(ctx) })
	g.Go(func() error { return agent.Run(ctx, *c) })
	g.Go(func() error {
		repairNICs(ctx, bridgenic.Config{
			StateDir: c.StateDir, OVSRunDir: c.OVSRunDir, Datapath: c.DatapathType, Log: log.With("part", "bridge-nic"),
		}, log)
		return nil
	})
	if c.Reload != nil {
		g.Go(func() error { return reloadOnHangup(ctx, c.StateDir, log) })
	}
	g.Go(func() error { return settleDown(ctx, client, log) })
	if a.metrics != "" {
		srv := &http.Server{Addr: a.metrics, Handler: telemetry.Handler(registry), ReadHeaderTimeout: 10 * time.Second}
		g.Go(func() error {
			if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve metrics: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			return srv.Close()
		})
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// settleDelay is how long after the first complete state the work of starting is over.
const settleDelay = 2 * time.Second

// settleDown gives back what only the start has needed.
func settleDown(ctx context.Context, client *southbound.Client, log *slog.Logger) error {
	select {
	case <-client.Confirmed():
	case <-ctx.Done():
		return nil
	}
	select {
	case <-time.After(settleDelay):
	case <-ctx.Done():
		return nil
	}
	debug.FreeOSMemory()
	if err := releaseBinary(); err != nil {
		log.Debug("cannot give memory back", "err", err)
	}
	return nil
}

// join makes the host a node if it is none yet.  A server that does not answer is waited for: the agent may be up first.
func (a *agentFlags) join(ctx context.Context, log *slog.Logger) error {
	if southbound.Enrolled(a.agent.StateDir) || a.tokenFile == "" {
		return nil
	}
	text, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return fmt.Errorf("read join token: %w", err)
	}
	for first := true; ; first = false {
		_, err := southbound.Enrol(ctx, a.servers, a.agent.StateDir, a.agent.Host, strings.TrimSpace(string(text)))
		if err == nil || !southbound.Unreachable(err) {
			return err
		}
		if first {
			log.Warn("join: no server answers; will retry", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// dnsServers reads addresses with or without a port.
func dnsServers(list []string) ([]netip.AddrPort, error) {
	const dns = 53
	var out []netip.AddrPort
	for _, s := range list {
		if ip, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(ip, dns))
			continue
		}
		host, _, err := net.SplitHostPort(s)
		if err != nil {
			return nil, err
		}
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return nil, fmt.Errorf("%q: an address is wanted, not a name: %w", host, err)
		}
		out = append(out, ap)
	}
	return out, nil
}
