package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/nodestate"
)

// Firewall drivers.
const (
	FirewallOVS    = "openvswitch"     // flows of br-int
	FirewallHybrid = "iptables_hybrid" // chains at a Linux bridge per port (tap, qbr, qvb, qvo)
	FirewallNone   = "noop"            // nothing is filtered but spoofed addresses
)

// Config is everything an agent is told.
type Config struct {
	Host             string     // name of the node, unique in the cloud
	Roles            []string   // compute, network
	TunnelIP         netip.Addr // local end of the tunnels; invalid: no tunnels
	TunnelTypes      []string   // vxlan, gre; empty means both, and without TunnelIP it means nothing
	StateDir         string     // persistent state, created if missing, default /var/lib/baryon
	OVSRunDir        string     // where Open vSwitch keeps db.sock and <bridge>.mgmt, default /run/openvswitch
	DatapathType     string     // system, netdev; empty: found out
	Firewall         string     // who enforces security groups: a Firewall constant, default openvswitch (reported to the server)
	ControllerListen string     // OpenFlow controller address, default 127.0.0.1:6633
	VXLANPort        uint16     // UDP port of VXLAN, default 4789
	TunnelChecksum   bool       // options:csum=true on tunnel ports
	Version          string
	AvailabilityZone string
	Physical         Physical      // which physical networks the node is attached to, and how
	Resync           time.Duration // how often everything is read back and compared, default 1 minute

	// Reload reads Physical again; nil: it never changes.
	Reload func(ctx context.Context) (Physical, error)

	Source   nodestate.Source
	Managers []Manager
	Log      *slog.Logger          // nil: slog.Default()
	Metrics  prometheus.Registerer // nil: no metrics
}

// Run is the agent: it returns when ctx ends (nil) or when it cannot start at all (a configuration error, a second agent with the
// same state directory).  Everything that can come and go while a node lives (Open vSwitch, the server, a namespace) is retried
// inside and never ends Run.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	a, err := newAgent(ctx, cfg)
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	return a.run(ctx)
}

func (c Config) withDefaults() (Config, error) {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.StateDir, "/var/lib/baryon")
	def(&c.OVSRunDir, "/run/openvswitch")
	def(&c.ControllerListen, "127.0.0.1:6633")
	def(&c.Firewall, FirewallOVS)
	if c.VXLANPort == 0 {
		c.VXLANPort = 4789
	}
	if c.Resync <= 0 {
		c.Resync = time.Minute
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if !c.TunnelIP.IsValid() {
		c.TunnelTypes = nil // nothing to make them with
	} else if len(c.TunnelTypes) == 0 {
		c.TunnelTypes = []string{"vxlan", "gre"}
	}
	return c, c.check()
}

func (c Config) check() error {
	switch {
	case c.Host == "" || len(c.Host) > 255 || strings.ContainsAny(c.Host, "@/ \t\n"):
		return fmt.Errorf("host %q: must be a name of 1 to 255 characters without @, / and blanks", c.Host)
	case c.Source == nil:
		return errors.New("no source of records")
	case c.DatapathType != "" && c.DatapathType != "system" && c.DatapathType != "netdev":
		return fmt.Errorf("datapath type %q: must be system or netdev", c.DatapathType)
	case !slices.Contains([]string{FirewallOVS, FirewallHybrid, FirewallNone}, c.Firewall):
		return fmt.Errorf("firewall driver %q: must be openvswitch, iptables_hybrid or noop", c.Firewall)
	case !filepath.IsAbs(c.StateDir) || !filepath.IsAbs(c.OVSRunDir):
		return errors.New("state directory and Open vSwitch run directory must be absolute paths")
	case c.TunnelIP.IsValid() && (c.TunnelIP.IsUnspecified() || c.TunnelIP.IsMulticast()):
		return fmt.Errorf("tunnel IP %s: must be an address of this node", c.TunnelIP)
	}
	for _, t := range c.TunnelTypes {
		if t != "vxlan" && t != "gre" {
			return fmt.Errorf("tunnel type %q: must be vxlan or gre", t)
		}
	}
	for _, r := range c.Roles {
		if !slices.Contains([]string{"compute", "network"}, r) {
			return fmt.Errorf("role %q: must be compute or network", r)
		}
	}
	if err := c.Physical.Check(); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.ControllerListen); err != nil {
		return fmt.Errorf("controller address: %w", err)
	}
	if err := os.MkdirAll(c.StateDir, 0o750); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return nil
}
