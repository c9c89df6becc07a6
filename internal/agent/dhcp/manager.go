package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/agent"
	"baryon/internal/dataplane/dhcpd"
	"baryon/internal/dataplane/netns"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Times of the manager.
const (
	retrySoon  = 25 * time.Millisecond // a device that Open vSwitch has announced but the kernel does not show yet
	retryLater = 2 * time.Second       // something failed
	recheck    = 30 * time.Second      // how old a look at the kernel may be
	lastWords  = 2 * time.Second       // how long a namespace waits for Open vSwitch to take its device away
)

// Config is what a manager is told.
type Config struct {
	StateDir   string           // files go to <StateDir>/dhcp/<network>
	Lease      time.Duration    // 0: a day; negative: infinite
	Upstreams  []netip.AddrPort // DNS servers for other names
	ResolvConf string           // a file to take more upstream servers from, read again when it changes; "": none
	Log        *slog.Logger
	Now        func() time.Time      // nil: time.Now
	Metrics    prometheus.Registerer // nil: none
}

// Manager is the agent.Manager of DHCP.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	now   func() time.Time
	stats *dhcpd.Stats
	root  *rtnl.Namespace

	nets   map[string]*records
	owner  map[nodestate.Key]string // which network a record was filed under
	dirty  map[string]bool
	wanted map[string]*service
	reason map[string]error // why a network is not in wanted
	run    map[string]*running
	swept  bool // what was not wanted at the first confirmed state is gone
	set    settings
	resolv time.Time
}

// running is what runs for one network.
type running struct {
	ns       *rtnl.Namespace
	server   *dhcpd.Server
	config   *dhcpd.Config // what the server has
	device   rtnl.Device   // what the device was brought to
	checked  time.Time
	placed   bool
	wait     time.Duration // until the next look for what is missing
	err      error
	leaving  time.Time // when its end was decided; zero: it stays
	statuses []nodestate.Status
}

// New makes a manager; it touches nothing yet.
func New(cfg Config) (*Manager, error) {
	m := &Manager{
		cfg: cfg, log: cfg.Log, now: cfg.Now, stats: new(dhcpd.Stats),
		nets: map[string]*records{}, owner: map[nodestate.Key]string{}, dirty: map[string]bool{}, wanted: map[string]*service{},
		reason: map[string]error{}, run: map[string]*running{}, set: settings{lease: cfg.Lease, upstreams: cfg.Upstreams},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.now == nil {
		m.now = time.Now
	}
	if cfg.StateDir == "" {
		return nil, errors.New("start DHCP manager: no state directory")
	}
	root, err := rtnl.Open("")
	if err != nil {
		return nil, fmt.Errorf("start DHCP manager: %w", err)
	}
	m.root = root
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(collector{m.stats}); err != nil {
			root.Close()
			return nil, fmt.Errorf("start DHCP manager: %w", err)
		}
	}
	m.readResolvConf()
	return m, nil
}

// Name is "dhcp".
func (m *Manager) Name() string { return "dhcp" }

// Kinds are the records that the manager reads.
func (m *Manager) Kinds() []nodestate.Kind {
	return []nodestate.Kind{nodestate.KindNetwork, nodestate.KindPort, nodestate.KindDHCP, nodestate.KindDHCPHost}
}

// Stats are the counters of all servers together.
func (m *Manager) Stats() *dhcpd.Stats { return m.stats }

// Update files records under their networks and marks those dirty.
func (m *Manager) Update(u nodestate.Update) {
	if u.Complete {
		seen := make(map[nodestate.Key]bool, len(u.Upserts))
		for _, r := range u.Upserts {
			seen[r.Key()] = true
		}
		for k := range m.owner {
			if !seen[k] {
				m.drop(k)
			}
		}
	}
	for _, r := range u.Upserts {
		m.file(r)
	}
	for _, k := range u.Deletes {
		m.drop(k)
	}
	m.rewant()
}

func (m *Manager) file(r nodestate.Record) {
	key := r.Key()
	var id string
	switch r := r.(type) {
	case *nodestate.Network:
		id = r.ID
	case *nodestate.DHCP:
		id = r.NetworkID
	case *nodestate.DHCPHost:
		id = r.NetworkID
	case *nodestate.Port:
		if id = r.NetworkID; r.DeviceOwner != DeviceOwner {
			m.drop(key)
			return
		}
	default:
		return
	}
	if old, ok := m.owner[key]; ok && old != id {
		m.drop(key)
	}
	n := m.nets[id]
	if n == nil {
		n = &records{ports: map[string]*nodestate.Port{}, hosts: map[string]*nodestate.DHCPHost{}}
		m.nets[id] = n
	}
	switch r := r.(type) {
	case *nodestate.Network:
		n.network = r
	case *nodestate.DHCP:
		n.dhcp = r
	case *nodestate.DHCPHost:
		n.hosts[r.PortID] = r
	case *nodestate.Port:
		n.ports[r.ID] = r
	}
	m.owner[key] = id
	m.dirty[id] = true
}

func (m *Manager) drop(k nodestate.Key) {
	id, ok := m.owner[k]
	if !ok {
		return
	}
	delete(m.owner, k)
	n := m.nets[id]
	switch k.Kind {
	case nodestate.KindNetwork:
		n.network = nil
	case nodestate.KindDHCP:
		n.dhcp = nil
	case nodestate.KindDHCPHost:
		delete(n.hosts, k.ID)
	case nodestate.KindPort:
		delete(n.ports, k.ID)
	}
	if n.empty() {
		delete(m.nets, id)
	}
	m.dirty[id] = true
}

// rewant computes what dirty networks need.
func (m *Manager) rewant() {
	for id := range m.dirty {
		delete(m.wanted, id)
		delete(m.reason, id)
		n := m.nets[id]
		if n == nil {
			continue
		}
		s, err := want(id, n, m.set)
		if err != nil {
			m.reason[id] = err
			continue
		}
		m.wanted[id] = s
	}
}

// Ports are the devices that the agent has to make, by id.
func (m *Manager) Ports() []agent.InternalPort {
	out := make([]agent.InternalPort, 0, len(m.wanted))
	for _, s := range m.wanted {
		out = append(out, s.port)
	}
	slices.SortFunc(out, func(a, b agent.InternalPort) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Apply brings every network to what it needs: at once where something changed, after a short look where nothing did.
func (m *Manager) Apply(ctx context.Context, in agent.Input) agent.Outcome {
	if m.readResolvConf() {
		for id := range m.nets {
			m.dirty[id] = true
		}
		m.rewant()
	}
	var out agent.Outcome
	for _, id := range slices.Sorted(maps.Keys(m.wanted)) {
		if ctx.Err() != nil {
			break
		}
		s := m.wanted[id]
		r := m.run[id]
		if r == nil {
			r = &running{}
			m.run[id] = r
		}
		r.leaving = time.Time{}
		ready := in.Ready[s.port.ID]
		err := m.serve(ctx, id, s, r, ready)
		m.logChange(id, r, err)
		if m.dirty[id] || r.statuses == nil || fmt.Sprint(err) != fmt.Sprint(r.err) {
			r.statuses = statuses(m.nets[id], err)
		}
		r.err = err
		switch {
		case err == nil:
			r.wait = 0
		case !errors.Is(err, errWait):
			soonest(&out.Retry, retryLater)
		case ready:
			r.wait = min(max(2*r.wait, retrySoon), retryLater)
			soonest(&out.Retry, r.wait)
		}
		if ready && r.placed {
			out.Placed = append(out.Placed, s.port.ID)
		}
		out.Statuses = append(out.Statuses, r.statuses...)
	}
	for id, err := range m.reason {
		out.Statuses = append(out.Statuses, statuses(m.nets[id], err)...)
	}
	m.remove(in, &out)
	clear(m.dirty)
	slices.Sort(out.Placed)
	return out
}

func soonest(have *time.Duration, d time.Duration) {
	if *have == 0 || d < *have {
		*have = d
	}
}

// logChange logs a network's first failure and its recovery.
func (m *Manager) logChange(id string, r *running, err error) {
	failed := func(e error) bool { return e != nil && !errors.Is(e, errWait) }
	switch {
	case failed(err) && (!failed(r.err) || r.err.Error() != err.Error()):
		m.log.Warn("network is not served, trying again", "network", id, "err", err)
	case err == nil && failed(r.err):
		m.log.Info("network is served again", "network", id)
	}
}

// serve brings one network there: namespace, device, server.
func (m *Manager) serve(ctx context.Context, id string, s *service, r *running, ready bool) error {
	if err := m.enter(s, r); err != nil {
		return err
	}
	moved, err := r.ns.Adopt(m.root, s.device.Name)
	if err != nil {
		r.placed = false
		return err
	}
	index, err := r.ns.Index(s.device.Name)
	if err != nil {
		r.placed = false
		return err
	}
	if index == 0 {
		r.placed = false
		m.stop(r)
		if ready {
			return fmt.Errorf("%w for device %s", errWait, s.device.Name)
		}
		return fmt.Errorf("%w for Open vSwitch to make %s", errWait, s.device.Name)
	}
	now := m.now()
	if moved || !r.placed || r.err != nil || now.Sub(r.checked) >= recheck || !reflect.DeepEqual(r.device, s.device) {
		changes, err := r.ns.Sync(ctx, s.device)
		if err != nil {
			r.placed = false
			return err
		}
		if n := changes.Total(); n > 0 {
			m.log.Info("DHCP device set up", "network", id, "device", s.device.Name, "changes", n)
		}
		r.device, r.checked, r.placed = s.device, now, true
	}
	if r.server != nil && r.server.Index() != index {
		m.stop(r)
	}
	if r.server == nil {
		r.server, err = dhcpd.Start(dhcpd.Options{
			NS: r.ns.NS(), Device: s.device.Name, MAC: dhcpd.MAC(s.port.MAC), Dir: m.dir(id), Log: m.log, Now: m.cfg.Now, Stats: m.stats,
		}, &s.config)
		if err != nil {
			r.server = nil
			return err
		}
		r.config = &s.config
		m.log.Info("DHCP, DNS and RA served", "network", id, "namespace", s.namespace)
	} else if r.config != &s.config {
		r.server.Apply(&s.config)
		r.config = &s.config
	}
	if up, err := r.ns.Carrier(s.device.Name); err != nil || !up {
		// A tap that its Open vSwitch has died on; the next one makes another in our own namespace.
		return errors.Join(err, fmt.Errorf("%w for Open vSwitch to take up %s", errWait, s.device.Name))
	}
	return nil
}

// enter opens the network's namespace, making it if needed; one that was deleted and made again by somebody is entered anew.
func (m *Manager) enter(s *service, r *running) error {
	if r.ns != nil {
		if ns, err := netns.Open(s.namespace); err == nil {
			same := ns.ID() == r.ns.NS().ID()
			ns.Close()
			if same {
				return nil
			}
		}
		m.leave(r)
	}
	if err := netns.Ensure(s.namespace); err != nil {
		return err
	}
	ns, err := rtnl.Open(s.namespace)
	if err != nil {
		return err
	}
	if _, err := ns.SetSysctls(s.base); err != nil {
		ns.Close()
		return fmt.Errorf("set up namespace %s: %w", s.namespace, err)
	}
	r.ns = ns
	return nil
}

func (m *Manager) stop(r *running) {
	if r.server == nil {
		return
	}
	if err := r.server.Close(); err != nil {
		m.log.Warn("DHCP server did not stop cleanly", "err", err)
	}
	r.server, r.config = nil, nil
}

// leave lets go of a network's namespace without deleting it.
func (m *Manager) leave(r *running) {
	m.stop(r)
	if r.ns != nil {
		r.ns.Close()
	}
	r.ns, r.placed, r.device = nil, false, rtnl.Device{}
}

func (m *Manager) dir(id string) string { return filepath.Join(m.cfg.StateDir, "dhcp", id) }

// remove ends networks that are served no more, and once after the first confirmed state whatever an earlier life left behind.
func (m *Manager) remove(in agent.Input, out *agent.Outcome) {
	now := m.now()
	for id, r := range m.run {
		if m.wanted[id] != nil {
			continue
		}
		m.stop(r)
		if !in.MayRemove {
			continue
		}
		if r.leaving.IsZero() {
			r.leaving = now
		}
		if r.ns != nil && r.device.Name != "" && now.Sub(r.leaving) < lastWords {
			// Open vSwitch takes its device away itself; with the namespace gone first it would complain about a lost one.
			if index, err := r.ns.Index(r.device.Name); err == nil && index != 0 {
				soonest(&out.Retry, retrySoon)
				continue
			}
		}
		m.leave(r)
		if err := m.erase(id); err != nil {
			m.log.Warn("network's service is not cleaned up, trying again", "network", id, "err", err)
			soonest(&out.Retry, retryLater)
			continue
		}
		delete(m.run, id)
		m.log.Info("DHCP service removed", "network", id)
	}
	if in.MayRemove && !m.swept {
		if err := m.sweep(); err != nil {
			m.log.Warn("leftovers of DHCP services are not cleaned up, trying again", "err", err)
			soonest(&out.Retry, retryLater)
			return
		}
		m.swept = true
	}
}

func (m *Manager) erase(id string) error {
	return errors.Join(netns.Delete(names.DHCPNamespace(id)), os.RemoveAll(m.dir(id)))
}

// sweep removes our namespaces and directories of networks that are not served here.
func (m *Manager) sweep() error {
	prefix := names.DHCPNamespace("")
	list, err := netns.List(prefix)
	errs := []error{err}
	for _, name := range list {
		id := strings.TrimPrefix(name, prefix)
		if m.wanted[id] == nil && m.run[id] == nil {
			m.log.Info("removing leftover namespace", "namespace", name)
			errs = append(errs, netns.Delete(name))
		}
	}
	dirs, err := os.ReadDir(filepath.Join(m.cfg.StateDir, "dhcp"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, d := range dirs {
		if id := d.Name(); d.IsDir() && m.wanted[id] == nil && m.run[id] == nil {
			errs = append(errs, os.RemoveAll(m.dir(id)))
		}
	}
	return errors.Join(errs...)
}

// statuses says of a network's records how far they are.
func statuses(n *records, err error) []nodestate.Status {
	if n == nil {
		return nil
	}
	state, reason := nodestate.Done, ""
	switch {
	case errors.Is(err, errWait):
		state, reason = nodestate.Pending, err.Error()
	case err != nil:
		state, reason = nodestate.Failed, err.Error()
	}
	out := make([]nodestate.Status, 0, len(n.hosts)+1)
	if n.dhcp != nil {
		out = append(out, nodestate.Status{Key: n.dhcp.Key(), State: state, Reason: reason})
	}
	for _, h := range n.hosts {
		out = append(out, nodestate.Status{Key: h.Key(), State: state, Reason: reason})
	}
	return out
}

// Close stops the servers; all else stays for the next start.
func (m *Manager) Close() error {
	for _, r := range m.run {
		m.leave(r)
	}
	m.root.Close()
	if m.cfg.Metrics != nil {
		m.cfg.Metrics.Unregister(collector{m.stats})
	}
	return nil
}
