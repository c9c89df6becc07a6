// Package agent is the composition root of a node: it feeds records and what Open vSwitch shows to the managers and carries out what
// they want, in one loop.
//
// # One pass
//
// The loop's pass is the only place that changes Open vSwitch, and its order is the contract:
//
//  1. take in: records, what services want, what Open vSwitch shows
//  2. bridges, controllers and patch ports are there; provider bridges have their NIC
//  3. links and tags: tunnel and service ports appear, devices get their local VLAN        (one OVSDB transaction)
//  4. conntrack zones of ports that have gone are emptied
//  5. flows: what is new comes before what is old goes                                     (one OpenFlow bundle per bridge)
//     patch ports to provider bridges are joined in the pass after the one that has put their drop flows in
//  6. connections that the flows now in force would not admit are ended
//  7. report filtered ports: br-int switches them by flows alone
//  8. filtered ports get their local VLAN; ports of ours that nothing points to any more, or whose device has gone, go (one OVSDB transaction)
//  9. report what else is in the dataplane, once ovs-vswitchd has done what it was asked
//
// Steps 3 to 8 write only differences; with nothing to do a pass costs microseconds.  A port's device may be tagged before its flows
// are there, because br-int takes nothing from a port without flows; but a port that the openvswitch firewall filters is tagged
// after them, so that no flood of its network reaches it unfiltered.
//
// # Flows
//
// The agent listens as the bridges' OpenFlow controller on 127.0.0.1:6633, so that operators see is_connected and packet-ins have a
// way, but programs flows through each bridge's management socket: it is there whenever ovs-vswitchd is, without the back-off of
// a switch that has lost its controller (docs/adr/agent-management-socket.md).
//
// # Restart
//
// Nothing that was there when the agent started is removed before a complete state confirmed by a server has been taken in, and local
// VLANs come from the ports' tags and the state directory.  Flows are read back and compared; equal ones are not touched.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"time"

	"baryon/internal/agent/l2"
	"baryon/internal/agent/status"
	"baryon/internal/dataplane/conntrack"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/reconcile"
)

// agent is one running agent.  Fields without a lock of their own belong to the loop.
type agent struct {
	cfg      Config
	log      *slog.Logger
	datapath string
	loop     *reconcile.Loop
	ovs      *ovsdb.Driver
	engine   *l2.Engine
	filter   *filter // nil: the firewall driver is noop
	guard    *guard  // nil: the firewall driver is not iptables_hybrid
	runners  []*runner
	tracker  *reconcile.Tracker[nodestate.Key, nodestate.State]
	listener *openflow.Listener
	metrics  *metrics

	inbox chan nodestate.Update

	// What the control plane said.
	revision  int64
	revisions map[nodestate.Key]int64
	owners    map[uint64]nodestate.Key // hash in a cookie → record
	confirmed bool

	// What is wanted of OVSDB, and the names at which wanted and actual may differ.
	bridges    []ovsdb.Bridge
	ports      map[string]ovsdb.Port
	tags       map[string]ovsdb.Tagging
	limits     map[string]ovsdb.Limits // of devices of which it is known what they are limited to
	dirtyPorts map[string]bool
	dropped    map[string]bool // ports of ours wanted earlier in this process
	released   bool            // ports of ours that nobody wants may go
	ovsUp      bool
	ovsSession int
	ovsMoves   int // grows whenever a port comes, changes or goes
	curCfg     int // what ovs-vswitchd has done
	askedCfg   int // what we have asked for

	br       map[string]*bridge
	physical physical

	// Reporting.
	verdicts  map[nodestate.Key]l2.Verdict
	unsettled map[nodestate.Key]bool // looked at since the last complete pass
	refused   map[string]string      // ports that Open vSwitch refused, and why
	settling  []settling
	plugs     map[string]string // port id → baryon-plug last read
	devices   map[string]string // port id → device
	claims    map[string]string // device → port id
	guests    map[string]string // device on the bridge of a trunk → port id
	changed   map[string]bool   // devices that were wired for another port than they claim
	hushed    map[string]bool   // devices whose IPv6 has been switched off

	// Internal ports and their devices.
	root       *rtnl.Namespace
	namespaces map[string]string // port id → where its device belongs
	losses     map[string]*loss  // by port id
	leaving    map[string]int    // removed ports → configuration number at which they are gone

	guardDropped bool // what an earlier iptables_hybrid firewall left has been removed

	savedVLANs map[l2.Segment]uint16 // from the state directory, until taken in
	recalled   bool                  // local VLANs of before have been taken in

	mu      sync.Mutex // for what follows
	asks    []func()   // questions that the loop answers
	lastErr error
	errAt   time.Time
	healthy bool
	reasons []string
}

// settling are records whose change is complete once ovs-vswitchd has reached cfg.
type settling struct {
	cfg  int
	keys map[nodestate.Key]bool
}

// inboxSize lets the source run ahead of the loop by this many updates before it has to wait.
const inboxSize = 64

func newAgent(ctx context.Context, cfg Config) (*agent, error) {
	a := &agent{
		cfg: cfg, log: cfg.Log, datapath: cfg.DatapathType,
		inbox:     make(chan nodestate.Update, inboxSize),
		tracker:   reconcile.NewTracker[nodestate.Key, nodestate.State](),
		revisions: map[nodestate.Key]int64{}, owners: map[uint64]nodestate.Key{},
		ports: map[string]ovsdb.Port{}, tags: map[string]ovsdb.Tagging{}, limits: map[string]ovsdb.Limits{}, guests: map[string]string{}, dirtyPorts: map[string]bool{}, dropped: map[string]bool{},
		br: map[string]*bridge{}, verdicts: map[nodestate.Key]l2.Verdict{}, unsettled: map[nodestate.Key]bool{},
		refused: map[string]string{}, plugs: map[string]string{}, devices: map[string]string{}, claims: map[string]string{},
		changed: map[string]bool{}, hushed: map[string]bool{},
		namespaces: map[string]string{}, losses: map[string]*loss{}, leaving: map[string]int{},
	}
	if a.datapath == "" {
		a.datapath = ovsdb.DetectDatapath(ctx)
	}
	a.loop = reconcile.New(reconcile.Options{
		Run: a.pass, Failed: a.passFailed, Recovered: a.passRecovered, Resync: cfg.Resync, MaxBackoff: 2 * time.Second,
	})
	a.ovs = ovsdb.New("unix:"+filepath.Join(cfg.OVSRunDir, "db.sock"), a.loop.Dirty, cfg.Log)
	a.engine = l2.New(l2.Node{
		Host: cfg.Host, TunnelIP: cfg.TunnelIP, TunnelTypes: cfg.TunnelTypes, VXLANPort: cfg.VXLANPort, Checksum: cfg.TunnelChecksum,
		Filtered: cfg.Firewall != FirewallNone,
	})
	if cfg.Firewall != FirewallNone {
		a.filter = newFilter(conntrack.New(cfg.OVSRunDir, func() string { return a.datapath }))
	}
	if cfg.Firewall == FirewallHybrid {
		a.guard = newGuard(cfg)
		a.filter.engine.Record(bridgedGroup())
	}
	for _, m := range cfg.Managers {
		a.runners = append(a.runners, newRunner(m, a.loop.Dirty, func(err error, _ int) {
			a.log.Warn("service manager failed, will retry", "manager", m.Name(), "err", err)
		}))
	}
	a.declare()
	var err error
	if a.metrics, err = newMetrics(cfg.Metrics, newDropCollector((*provider)(a))); err != nil {
		return nil, err
	}
	if a.root, err = rtnl.Open(""); err != nil {
		return nil, err
	}
	if a.listener, err = openflow.Listen("tcp", cfg.ControllerListen, openflow.Options{Log: cfg.Log}); err != nil {
		a.root.Close()
		return nil, fmt.Errorf("OpenFlow controller: %w", err)
	}
	return a, nil
}

// declare fixes the bridges and patch ports of this node.
func (a *agent) declare() {
	patch := func(name, bridge, peer string) {
		a.ports[name] = ovsdb.Port{Name: name, Bridge: bridge, Type: "patch", Options: map[string]string{"peer": peer}}
		a.dirtyPorts[name] = true
	}
	a.bridges = []ovsdb.Bridge{a.ofBridge(names.BrInt)}
	if a.cfg.TunnelIP.IsValid() {
		a.bridges = append(a.bridges, a.ofBridge(names.BrTun))
		patch(names.PatchTun, names.BrInt, names.PatchInt)
		patch(names.PatchInt, names.BrTun, names.PatchTun)
	}
	for _, b := range a.bridges {
		a.br[b.Name] = newBridge(b.Name, filepath.Join(a.cfg.OVSRunDir, b.Name+".mgmt"), a.loop.Dirty, a.settleOwner)
	}
	a.adopt(a.cfg.Physical)
}

// ofBridge is a bridge whose controller is this agent.
func (a *agent) ofBridge(name string) ovsdb.Bridge {
	_, port, _ := net.SplitHostPort(a.cfg.ControllerListen)
	return ovsdb.Bridge{
		Name: name, DatapathType: a.datapath, FailMode: "secure",
		Protocols:   []string{"OpenFlow10", "OpenFlow13", "OpenFlow14"},
		OtherConfig: map[string]string{"disable-in-band": "true", "mac-table-size": "50000"},
		Controller:  "tcp:127.0.0.1:" + port, ProbeMS: 10000, MaxBackoffMS: 1000,
	}
}

// run runs everything until ctx ends or the status socket cannot be had.
func (a *agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(f func()) {
		wg.Add(1)
		go func() { defer wg.Done(); f() }()
	}
	a.loadVLANs()
	a.cfg.Source.SetInfo(a.info())
	start(func() { a.ovs.Run(ctx) })
	start(func() { a.receive(ctx) })
	start(func() { a.serveController(ctx) })
	start(func() { a.watchNamespaces(ctx) })
	start(func() {
		if err := status.Serve(ctx, a.cfg.StateDir, (*provider)(a), a.log); err != nil {
			cancel(err)
		}
	})
	for _, r := range a.runners {
		start(func() {
			if err := r.run(ctx); err != nil {
				a.log.Warn("close service manager", "manager", r.m.Name(), "err", err)
			}
		})
	}
	a.log.Info("agent runs", "node", a.cfg.Host, "datapath", a.datapath, "tunnel_ip", a.cfg.TunnelIP.String())
	a.loop.Run(ctx)
	a.root.Close()
	for _, b := range a.br {
		b.close()
	}
	if a.filter != nil {
		a.filter.table.Close()
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (a *agent) info() nodestate.NodeInfo {
	return nodestate.NodeInfo{
		Host: a.cfg.Host, Roles: a.cfg.Roles, TunnelIP: a.cfg.TunnelIP, TunnelTypes: a.cfg.TunnelTypes,
		DatapathType: a.datapath, HybridPlug: a.cfg.Firewall == FirewallHybrid, Firewall: a.cfg.Firewall,
		Version: a.cfg.Version, AvailabilityZone: a.cfg.AvailabilityZone, BridgeMappings: maps.Clone(a.cfg.Physical.Mappings),
	}
}

// receive moves updates into the loop's inbox; when that is full the source waits.
func (a *agent) receive(ctx context.Context) {
	updates := a.cfg.Source.Updates()
	for {
		select {
		case <-ctx.Done():
			return
		case u, ok := <-updates:
			if !ok {
				return
			}
			select {
			case a.inbox <- u:
				a.loop.Dirty()
			case <-ctx.Done():
				return
			}
		}
	}
}

// reconnectDelay is how soon a bridge whose socket is not there yet is tried again, refusedDelay how soon refused things are.
const (
	reconnectDelay = 25 * time.Millisecond
	refusedDelay   = 2 * time.Second
)

// pass is one round of the loop; see the package comment for the order.
func (a *agent) pass(ctx context.Context, p reconcile.Pass) (time.Duration, error) {
	began := time.Now()
	defer func() { a.metrics.passes.Observe(time.Since(began).Seconds()) }()
	a.takeUpdates()
	a.takeServices()
	a.takePorts(p.Full)
	defer a.answer()
	defer a.report()
	if !a.ovsUp {
		a.setHealth("no connection to ovsdb-server")
		return 0, nil // the driver calls when it is
	}
	if err := a.applyBridges(ctx); err != nil {
		return 0, err
	}
	if err := a.applyPhysical(ctx); err != nil {
		return 0, err
	}
	a.applyGuard(ctx, p.Full)
	wanted := a.engine.Flush()
	a.takeWanted(wanted)
	a.takeFilter(wanted.Places)
	var errs []error
	if err := a.applyPorts(ctx, false); err != nil {
		errs = append(errs, err)
	}
	if err := a.freeZones(ctx); err != nil {
		errs = append(errs, err)
	}
	missing := ""
	for _, name := range append([]string{names.BrInt, names.BrTun}, a.usable()...) {
		b := a.br[name]
		if b == nil {
			continue
		}
		ready, err := a.applyFlows(ctx, b, p.Full)
		if err != nil {
			errs = append(errs, err)
		}
		if !ready && missing == "" {
			missing = "flows of " + name + " are not in place"
		}
	}
	if len(errs) == 0 && missing == "" {
		retry, err := a.revive(ctx, began)
		if err = errors.Join(err, a.revoke(ctx)); err == nil {
			a.settleFiltered()
			a.report()
		}
		if err := errors.Join(err, a.applyPorts(ctx, true)); err != nil {
			a.settleFailed()
			return 0, err
		}
		if again := a.finishGuard(ctx); again > 0 && (retry == 0 || again < retry) {
			retry = again
		}
		a.join()
		a.dropGuard(ctx)
		a.settle()
		a.setHealth(a.refusals())
		if a.hasRefusals() && (retry == 0 || retry > refusedDelay) {
			retry = refusedDelay
		}
		return retry, nil
	}
	a.settleFailed()
	a.setHealth(missing)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	return reconnectDelay, nil
}

func (a *agent) hasRefusals() bool {
	for _, b := range a.br {
		if len(b.bad) > 0 {
			return true
		}
	}
	return len(a.refused) > 0 || len(a.physical.unusable) > 0
}

func (a *agent) refusals() string {
	if why := a.unusable(); why != "" {
		return why
	}
	if a.hasRefusals() {
		return "Open vSwitch refuses some ports or flows; their records say which"
	}
	return ""
}

func (a *agent) passFailed(err error, attempt int) {
	a.metrics.failures.Inc()
	a.mu.Lock()
	a.lastErr, a.errAt = err, time.Now()
	a.mu.Unlock()
	if attempt == 1 {
		a.log.Warn("cannot bring Open vSwitch in line, will retry", "err", err)
	}
}

func (a *agent) passRecovered(failures int) {
	a.log.Info("Open vSwitch is in line again", "attempts", failures)
}

func (a *agent) setHealth(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.healthy, a.reasons = reason == "", nil
	if reason != "" {
		a.reasons = []string{reason}
	}
}
