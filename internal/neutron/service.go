package neutron

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"baryon/internal/model"
	"baryon/internal/neutron/alloc"
	"baryon/internal/store"
)

// Config is what a Service is built from.  Only Store is required; the zero value of everything else means Neutron's default.
type Config struct {
	Store *store.Store
	Log   *slog.Logger

	Now   func() time.Time // time.Now
	NewID func() model.ID  // random UUIDs
	Rand  func() uint64    // seeds for MACs and addresses; must be safe for concurrent use

	TenantNetworkTypes []string // types tried in order for a network without provider attributes: vxlan, gre, vlan, local
	FlatNetworks       []string // physical networks on which flat networks may be made, AnyPhysicalNetwork for any (nil: that); empty: none
	// VLANRanges are the physical networks on which VLANs may be made, each with the ids that networks without one of their own get.
	VLANRanges          map[string][]TagRange
	PhysicalNetworkMTUs map[string]int // bytes, where less than GlobalPhysnetMTU
	VNIRanges           []TagRange     // vxlan: 1:65536
	TunnelIDRanges      []TagRange     // gre: 1:65536
	GlobalPhysnetMTU    int            // bytes, 1500
	PathMTU             int            // bytes of the underlay, 0: as GlobalPhysnetMTU
	OverlayIPVersion    int            // 4 (default) or 6: version of tunnel endpoints, for the MTU
	DNSDomain           string         // "openstacklocal"; any other value turns DNS integration on
	BaseMAC             model.MAC      // fa:16:3e:00:00:00; zero octets at the end are random
	DHCPAgents          int            // dhcp_agents_per_network, 1
	AgentDownTime       time.Duration  // a node unheard of for so long is dead, 75 s
	GoneGrace           time.Duration  // how long a node whose stream was lost may take to come back, 10 s
	DefaultQuota        map[string]int // overrides of DefaultQuotas
}

// TagRange is an inclusive range of segmentation ids.
type TagRange struct{ First, Last uint32 }

// ErrConfig is wrapped by what New says about a wrong Config.
var ErrConfig = errors.New("invalid network configuration")

// Service holds the rules of the Networking API over one store.  Several Services may work on one store, in one process or in many.
// All methods are safe for concurrent use.
type Service struct {
	cfg    Config
	st     *store.Store
	log    *slog.Logger
	types  typeDrivers
	limits map[string]int

	addrs   *alloc.Ledger[netip.Addr] // spaces are subnet ids
	tags    *alloc.Ledger[uint32]     // spaces are network types with a physical network
	gates   gates
	flight  inflight
	gone    goneNodes
	work    *worklist
	started time.Time
	seen    atomic.Int64 // revision that the follower has reached

	stop context.CancelFunc
	done sync.WaitGroup
}

// New builds a Service and starts following the store.  Close ends that.
func New(cfg Config) (*Service, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	types, err := newTypeDrivers(&cfg)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, st: cfg.Store, log: cfg.Log, types: types, limits: cfg.DefaultQuota,
		gates: newGates(), work: newWorklist(), started: cfg.Now(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	first, batches := s.st.Watch(ctx)
	f := newFollower(s, first)
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		f.run(batches)
	}()
	return s, nil
}

// Revision is the store's revision that what the Service keeps in memory has reached, for metrics: how far it is behind.
func (s *Service) Revision() int64 { return s.seen.Load() }

// Close stops following the store.  Calls under way end as their contexts do.
func (s *Service) Close() {
	s.stop()
	s.done.Wait()
}

// complete fills defaults in and checks.
func (c *Config) complete() error {
	if c.Store == nil {
		return fmt.Errorf("%w: no store", ErrConfig)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = func() model.ID { return model.ID(uuid.NewString()) }
	}
	if c.Rand == nil {
		c.Rand = rand.Uint64
	}
	if len(c.TenantNetworkTypes) == 0 {
		c.TenantNetworkTypes = []string{model.TypeVXLAN, model.TypeGRE, model.TypeLocal}
	}
	if c.FlatNetworks == nil {
		c.FlatNetworks = []string{AnyPhysicalNetwork}
	}
	if c.VNIRanges == nil {
		c.VNIRanges = []TagRange{{1, 65536}}
	}
	if c.TunnelIDRanges == nil {
		c.TunnelIDRanges = []TagRange{{1, 65536}}
	}
	setDefault(&c.GlobalPhysnetMTU, 1500)
	setDefault(&c.OverlayIPVersion, 4)
	setDefault(&c.DNSDomain, defaultDNSDomain)
	setDefault(&c.BaseMAC, model.MAC{0xfa, 0x16, 0x3e})
	setDefault(&c.DHCPAgents, 1)
	setDefault(&c.AgentDownTime, 75*time.Second)
	setDefault(&c.GoneGrace, 10*time.Second)
	limits := DefaultQuotas()
	for name, n := range c.DefaultQuota {
		if _, ok := limits[name]; !ok || n < -1 || n > maxQuota {
			return fmt.Errorf("%w: default quota %s=%d", ErrConfig, name, n)
		}
		limits[name] = n
	}
	c.DefaultQuota = limits
	c.DNSDomain = strings.TrimSuffix(c.DNSDomain, ".")
	switch {
	case !c.BaseMAC.IsUnicast() || c.BaseMAC[5] != 0:
		return fmt.Errorf("%w: base MAC %s must be unicast and end in zero octets", ErrConfig, c.BaseMAC)
	case c.OverlayIPVersion != 4 && c.OverlayIPVersion != 6:
		return fmt.Errorf("%w: overlay IP version %d", ErrConfig, c.OverlayIPVersion)
	case c.DHCPAgents < 0 || c.GlobalPhysnetMTU < minMTU || c.PathMTU < 0 || c.AgentDownTime < 0 || c.GoneGrace < 0:
		return fmt.Errorf("%w: negative number or MTU below %d", ErrConfig, minMTU)
	}
	return c.checkPhysicalNetworks()
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// now is the time as objects carry it.  The API shows whole seconds; the rest keeps objects in the order they were made.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Round(0) }
