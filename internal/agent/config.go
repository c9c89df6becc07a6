package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/nodestate"
)

// Config is everything an agent is told.
type Config struct {
	Host             string     // name of the node, unique in the cloud
	Roles            []string   // compute, network
	TunnelIP         netip.Addr // local end of the tunnels; invalid: no tunnels
	TunnelTypes      []string   // vxlan, gre; empty with a valid TunnelIP means both
	StateDir         string     // persistent state, created if missing, default /var/lib/baryon
	OVSRunDir        string     // where Open vSwitch keeps db.sock and <bridge>.mgmt, default /run/openvswitch
	DatapathType     string     // system, netdev; empty: found out
	HybridPlug       bool       // ports are plugged through a Linux bridge (reported to the server)
	ControllerListen string     // OpenFlow controller address, default 127.0.0.1:6633
	VXLANPort        uint16     // UDP port of VXLAN, default 4789
	TunnelChecksum   bool       // options:csum=true on tunnel ports
	Version          string
	AvailabilityZone string
	Resync           time.Duration // how often everything is read back and compared, default 1 minute

	Source   nodestate.Source
	Managers []Manager
	Log      *slog.Logger          // nil: slog.Default()
	Metrics  prometheus.Registerer // nil: no metrics
}

// Run is the agent: it returns when ctx ends (nil) or when it cannot start at all (a configuration error).  Everything that can
// come and go while a node lives (Open vSwitch, the server, a namespace) is retried inside and never ends Run.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	a, err := newAgent(cfg)
	if err != nil {
		return err
	}
	return a.run(ctx)
}
