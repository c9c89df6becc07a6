package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/server"
	"baryon/internal/telemetry"
)

const serverHelp = `The control plane in one process: Networking API v2.0, Identity API v3, the store, and the nodes' southbound connection.

The store is embedded by default (--data-dir).  Several servers share an external etcd cluster (--etcd-endpoints); then all serve reads
and writes.  The first start creates the user admin and writes openrc and clouds.yaml into the data directory.`

func serverCommand() *cobra.Command {
	var (
		cfg              server.Config
		vni, keys        string
		flat, vlans      string
		mtus             string
		baseMAC, types   string
		logLevel, logFmt string
		passwordFile     string
	)
	cmd := &cobra.Command{
		Use: "server", Short: "Run the control plane", Long: serverHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := telemetry.NewLogger(os.Stderr, logFmt, logLevel)
			if err != nil {
				return err
			}
			cfg.Log, cfg.Version = log, version
			cfg.Network.TenantNetworkTypes = splitList(types)
			cfg.Network.FlatNetworks = append([]string{}, splitList(flat)...)
			if cfg.Network.VLANRanges, err = vlanRanges(vlans); err != nil {
				return fmt.Errorf("--network-vlan-ranges: %w", err)
			}
			if cfg.Network.PhysicalNetworkMTUs, err = physicalMTUs(mtus); err != nil {
				return fmt.Errorf("--physical-network-mtus: %w", err)
			}
			if cfg.Network.VNIRanges, err = tagRanges(vni); err != nil {
				return fmt.Errorf("--vni-ranges: %w", err)
			}
			if cfg.Network.TunnelIDRanges, err = tagRanges(keys); err != nil {
				return fmt.Errorf("--gre-key-ranges: %w", err)
			}
			if cfg.Network.BaseMAC, err = model.ParseMAC(baseMAC); err != nil {
				return fmt.Errorf("--base-mac: %w", err)
			}
			if passwordFile != "" {
				text, err := os.ReadFile(passwordFile)
				if err != nil {
					return fmt.Errorf("--admin-password-file: %w", err)
				}
				cfg.AdminPassword = strings.TrimRight(string(text), "\r\n")
			}
			return server.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.DataDir, "data-dir", "/var/lib/baryon-server", "embedded store, admin socket, openrc and clouds.yaml")
	f.StringVar(&cfg.APIListen, "api-listen", ":9696", "address of the networking API")
	f.StringVar(&cfg.APIURL, "api-url", "", "its public URL, for the catalog (default: from the address)")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM certificate: serve the APIs with TLS")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "PEM key of --tls-cert")

	f.StringVar(&cfg.Identity, "identity", server.IdentityBuiltin, "who checks tokens: builtin, keystone, or none (everybody is admin: for a lab only)")
	f.StringVar(&cfg.IdentityListen, "identity-listen", ":5000", "address of the built-in identity API")
	f.StringVar(&cfg.IdentityURL, "identity-url", "", "public URL of the identity API (default: from the address); with --identity keystone, where it is")
	f.StringVar(&passwordFile, "admin-password-file", "", "file with the password of admin for the first start (default: drawn at random)")
	f.BoolVar(&cfg.Recover, "recover-admin", false, "give the user admin its rights and the password of --admin-password-file back")
	f.StringVar(&cfg.Region, "region", "RegionOne", "region of the catalog")
	f.StringVar(&cfg.Keystone.Username, "keystone-username", "neutron", "service user that validates tokens")
	f.StringVar(&cfg.Keystone.PasswordFile, "keystone-password-file", "", "file with its password")
	f.StringVar(&cfg.Keystone.Project, "keystone-project", "service", "its project")
	f.StringVar(&cfg.Keystone.UserDomain, "keystone-user-domain", "Default", "its domain")
	f.StringVar(&cfg.Keystone.ProjectDomain, "keystone-project-domain", "Default", "its project's domain")

	f.StringSliceVar(&cfg.Etcd.Endpoints, "etcd-endpoints", nil, "external etcd cluster, URLs; without it the store is embedded")
	f.StringVar(&cfg.Etcd.CA, "etcd-ca", "", "PEM file of the cluster's authority")
	f.StringVar(&cfg.Etcd.Cert, "etcd-cert", "", "PEM client certificate")
	f.StringVar(&cfg.Etcd.Key, "etcd-key", "", "PEM key of it")
	f.StringVar(&cfg.Etcd.Username, "etcd-username", "", "user of the cluster")
	f.StringVar(&cfg.Etcd.PasswordFile, "etcd-password-file", "", "file with the user's password")

	f.StringVar(&cfg.SouthboundListen, "southbound-listen", ":6610", "address that nodes connect to (gRPC, mutual TLS)")
	f.StringVar(&cfg.SouthboundNetns, "southbound-netns", "", "network namespace that this address is opened in")
	f.StringSliceVar(&cfg.SouthboundNames, "southbound-name", nil, "name of this server in its certificate")

	n := &cfg.Network
	f.StringVar(&types, "tenant-network-types", "vxlan,gre,local", "types tried in order for a network without provider attributes: vxlan, gre, vlan, local")
	f.StringVar(&flat, "flat-networks", neutron.AnyPhysicalNetwork, "physical networks on which flat networks may be made, * for any, empty for none")
	f.StringVar(&vlans, "network-vlan-ranges", "", "physical networks on which VLANs may be made, PHYSNET[:FIRST:LAST],…; networks without an id of their own get one of FIRST to LAST")
	f.StringVar(&mtus, "physical-network-mtus", "", "MTU of physical networks where less than --global-physnet-mtu, PHYSNET:MTU,…")
	f.StringVar(&vni, "vni-ranges", "1:65536", "VXLAN network identifiers")
	f.StringVar(&keys, "gre-key-ranges", "1:65536", "GRE keys")
	f.IntVar(&n.GlobalPhysnetMTU, "global-physnet-mtu", 1500, "MTU of the underlay in bytes")
	f.IntVar(&n.PathMTU, "path-mtu", 0, "the largest packet that passes between nodes, 0: as --global-physnet-mtu")
	f.IntVar(&n.OverlayIPVersion, "overlay-ip-version", 4, "IP version of tunnel endpoints, 4 or 6, for the MTU")
	f.StringVar(&n.DNSDomain, "dns-domain", "openstacklocal", "domain of guests; any other value turns DNS integration on")
	f.StringVar(&baseMAC, "base-mac", "fa:16:3e:00:00:00", "first octets of generated MACs")
	f.IntVar(&n.DHCPAgents, "dhcp-agents-per-network", 1, "network-role nodes that serve each network")
	f.DurationVar(&n.AgentDownTime, "agent-down-time", 75*time.Second, "a node unheard of for so long is dead")
	f.DurationVar(&n.GoneGrace, "node-gone-grace", 10*time.Second, "how long a node that lost its connection may take before its DHCP moves")

	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&logFmt, "log-format", "text", "text or json")
	return cmd
}

func splitList(s string) []string {
	var list []string
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// tagRanges reads "1:1000,5000:6000".
func tagRanges(s string) ([]neutron.TagRange, error) {
	var list []neutron.TagRange
	for _, part := range splitList(s) {
		first, last, ok := strings.Cut(part, ":")
		lo, err1 := strconv.ParseUint(first, 10, 32)
		hi, err2 := strconv.ParseUint(last, 10, 32)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%q is not of the form FIRST:LAST", part)
		}
		list = append(list, neutron.TagRange{First: uint32(lo), Last: uint32(hi)})
	}
	return list, nil
}

// vlanRanges reads "public:100:199,public:300:399,storage".
func vlanRanges(s string) (map[string][]neutron.TagRange, error) {
	out := map[string][]neutron.TagRange{}
	for _, part := range splitList(s) {
		name, tags, ranged := strings.Cut(part, ":")
		if !ranged {
			out[name] = append(out[name], nil...)
			continue
		}
		ranges, err := tagRanges(tags)
		if err != nil || len(ranges) != 1 {
			return nil, fmt.Errorf("%q is not of the form PHYSNET or PHYSNET:FIRST:LAST", part)
		}
		out[name] = append(out[name], ranges...)
	}
	return out, nil
}

// physicalMTUs reads "public:1500,storage:9000".
func physicalMTUs(s string) (map[string]int, error) {
	out := map[string]int{}
	for _, part := range splitList(s) {
		name, text, _ := strings.Cut(part, ":")
		mtu, err := strconv.Atoi(text)
		if _, twice := out[name]; err != nil || twice {
			return nil, fmt.Errorf("%q is not of the form PHYSNET:MTU, or names a physical network twice", part)
		}
		out[name] = mtu
	}
	return out, nil
}

func nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Join and remove nodes (on the server's host)"}
	var dataDir string
	cmd.PersistentFlags().StringVar(&dataDir, "data-dir", "/var/lib/baryon-server", "data directory of the server on this host")
	var o server.TokenOrder
	token := &cobra.Command{
		Use: "token", Short: "Print a short-lived token with which a host joins as a node", Args: cobra.NoArgs,
		Example: "  baryon node token --host cmp1 > join-token",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := server.NodeToken(cmd.Context(), dataDir, o)
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), t)
			return nil
		},
	}
	f := token.Flags()
	f.StringVar(&o.Host, "host", "", "name of the node; empty: any")
	f.DurationVar(&o.Life, "life", 30*time.Minute, "how long the token is good")
	f.BoolVar(&o.Multi, "multi", false, "good for more than one node")
	f.BoolVar(&o.Replace, "replace", false, "good for a name that has joined already; the old certificate is revoked")
	revoke := &cobra.Command{
		Use: "revoke HOST", Short: "Take a node's certificate back: it is cut off at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return server.RevokeNode(cmd.Context(), dataDir, args[0])
		},
	}
	cmd.AddCommand(token, revoke)
	return cmd
}
