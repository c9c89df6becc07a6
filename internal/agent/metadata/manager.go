// Package metadata is the agent's manager of metadata in the namespaces of isolated networks: from the records of the networks that
// this node serves to HTTP servers in qdhcp-<network>.
//
// It owns nothing but the servers: the namespace and its device are the DHCP manager's, and this one waits until they are there.
// Records are read, never answered for: the DHCP manager does that.
package metadata

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/agent"
	"baryon/internal/dataplane/metadata"
	"baryon/internal/dataplane/netns"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Times of the manager: how soon it looks again for a namespace and device that are being made, at first and at last.
const (
	retryFirst = 10 * time.Millisecond
	retryLast  = time.Second
)

const dhcpOwner = "network:dhcp"

// Config is what a manager is told.
type Config struct {
	NovaURL string // a real Nova's metadata service, "http://127.0.0.1:8775"; "": answer from the ports' own data
	Secret  string // Nova's metadata_proxy_shared_secret
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: none
}

// Manager is the agent.Manager of metadata.
type Manager struct {
	log     *slog.Logger
	nova    *metadata.Nova
	stats   *metadata.Stats
	metrics prometheus.Registerer

	dhcp  map[string]*nodestate.DHCP
	ports map[string]*nodestate.Port // the node's own DHCP ports: where the namespaces are
	hosts map[string]map[string]*nodestate.DHCPHost
	owner map[string]string // port id of a host -> network
	dirty map[string]bool
	run   map[string]*running
}

type running struct {
	id     netns.ID
	server *metadata.Server
	wait   time.Duration
	failed bool
}

// New makes a manager.
func New(cfg Config) (*Manager, error) {
	m := &Manager{
		log: cfg.Log, stats: new(metadata.Stats), metrics: cfg.Metrics,
		dhcp: map[string]*nodestate.DHCP{}, ports: map[string]*nodestate.Port{}, hosts: map[string]map[string]*nodestate.DHCPHost{},
		owner: map[string]string{}, dirty: map[string]bool{}, run: map[string]*running{},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if cfg.NovaURL != "" {
		nova, err := metadata.NewNova(cfg.NovaURL, cfg.Secret)
		if err != nil {
			return nil, fmt.Errorf("start metadata manager: %w", err)
		}
		m.nova = nova
	}
	if m.metrics != nil {
		if err := m.metrics.Register(collector{m.stats}); err != nil {
			return nil, fmt.Errorf("start metadata manager: %w", err)
		}
	}
	return m, nil
}

// Name is "metadata".
func (m *Manager) Name() string { return "metadata" }

// Kinds are the records that the manager reads.
func (m *Manager) Kinds() []nodestate.Kind {
	return []nodestate.Kind{nodestate.KindPort, nodestate.KindDHCP, nodestate.KindDHCPHost}
}

// Update keeps the records and marks networks dirty.
func (m *Manager) Update(u nodestate.Update) {
	if u.Complete {
		seen := make(map[nodestate.Key]bool, len(u.Upserts))
		for _, r := range u.Upserts {
			seen[r.Key()] = true
		}
		for _, k := range m.keys() {
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
}

func (m *Manager) keys() []nodestate.Key {
	var out []nodestate.Key
	for id := range m.dhcp {
		out = append(out, nodestate.DHCPKey(id))
	}
	for id := range m.ports {
		out = append(out, nodestate.PortKey(id))
	}
	for id := range m.owner {
		out = append(out, nodestate.DHCPHostKey(id))
	}
	return out
}

func (m *Manager) file(r nodestate.Record) {
	switch r := r.(type) {
	case *nodestate.DHCP:
		m.dhcp[r.NetworkID] = r
		m.dirty[r.NetworkID] = true
	case *nodestate.Port:
		m.drop(r.Key())
		if r.DeviceOwner == dhcpOwner {
			m.ports[r.ID] = r
			m.dirty[r.NetworkID] = true
		}
	case *nodestate.DHCPHost:
		if m.owner[r.PortID] != r.NetworkID {
			m.drop(r.Key())
		}
		if m.hosts[r.NetworkID] == nil {
			m.hosts[r.NetworkID] = map[string]*nodestate.DHCPHost{}
		}
		m.hosts[r.NetworkID][r.PortID] = r
		m.owner[r.PortID] = r.NetworkID
		m.dirty[r.NetworkID] = true
	}
}

func (m *Manager) drop(k nodestate.Key) {
	switch k.Kind {
	case nodestate.KindDHCP:
		if m.dhcp[k.ID] != nil {
			m.dirty[k.ID] = true
		}
		delete(m.dhcp, k.ID)
	case nodestate.KindPort:
		if p := m.ports[k.ID]; p != nil {
			m.dirty[p.NetworkID] = true
		}
		delete(m.ports, k.ID)
	case nodestate.KindDHCPHost:
		n, ok := m.owner[k.ID]
		if !ok {
			return
		}
		m.dirty[n] = true
		delete(m.owner, k.ID)
		if delete(m.hosts[n], k.ID); len(m.hosts[n]) == 0 {
			delete(m.hosts, n)
		}
	}
}

// Ports is empty: the DHCP manager's device serves.
func (m *Manager) Ports() []agent.InternalPort { return nil }

// local tells whether this node has a DHCP port on the network, and so its namespace (soon).
func (m *Manager) local(network string) bool {
	for _, p := range m.ports {
		if p.NetworkID == network {
			return true
		}
	}
	return false
}

// served tells whether this node has to serve the network's metadata.
func (m *Manager) served(network string) bool {
	d := m.dhcp[network]
	return d != nil && d.Metadata && m.local(network)
}

// Apply starts, updates and stops servers.
func (m *Manager) Apply(ctx context.Context, _ agent.Input) agent.Outcome {
	var out agent.Outcome
	for _, id := range slices.Sorted(maps.Keys(m.dhcp)) {
		if !m.served(id) || ctx.Err() != nil {
			continue
		}
		r := m.run[id]
		if r == nil {
			r = &running{wait: retryFirst}
			m.run[id] = r
		}
		err := m.serve(id, r)
		if err == nil {
			r.wait = retryFirst
			if r.failed {
				m.log.Info("metadata is served again", "network", id)
			}
			r.failed = false
			delete(m.dirty, id)
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) && !r.failed {
			m.log.Warn("metadata is not served, trying again", "network", id, "err", err)
			r.failed = true
		}
		if out.Retry == 0 || r.wait < out.Retry {
			out.Retry = r.wait
		}
		r.wait = min(2*r.wait, retryLast)
	}
	for id, r := range m.run {
		if !m.served(id) {
			m.stop(r)
			delete(m.run, id)
		}
	}
	for id := range m.dirty {
		if m.run[id] == nil {
			delete(m.dirty, id)
		}
	}
	return out
}

// serve looks whether the server is in the right namespace and has the newest table.
func (m *Manager) serve(id string, r *running) error {
	ns, err := netns.Open(names.DHCPNamespace(id))
	if err != nil {
		m.stop(r)
		return err
	}
	defer ns.Close()
	if r.server != nil && r.id != ns.ID() {
		m.stop(r)
	}
	if r.server == nil {
		r.server, err = metadata.Start(metadata.Options{NS: ns, Nova: m.nova, Log: m.log, Stats: m.stats}, want(m.dhcp[id], m.hosts[id]))
		if err != nil {
			r.server = nil
			return err
		}
		r.id = ns.ID()
		m.log.Info("metadata served", "network", id, "proxied", m.nova != nil)
		return nil
	}
	if m.dirty[id] {
		r.server.Apply(want(m.dhcp[id], m.hosts[id]))
	}
	return nil
}

func (m *Manager) stop(r *running) {
	if r.server == nil {
		return
	}
	if err := r.server.Close(); err != nil {
		m.log.Warn("metadata server did not stop cleanly", "err", err)
	}
	r.server = nil
}

// Close stops the servers.
func (m *Manager) Close() error {
	for _, r := range m.run {
		m.stop(r)
	}
	if m.metrics != nil {
		m.metrics.Unregister(collector{m.stats})
	}
	return nil
}

// want is the table of a network's server.
func want(d *nodestate.DHCP, hosts map[string]*nodestate.DHCPHost) *metadata.Config {
	c := &metadata.Config{NetworkID: d.NetworkID, MTU: d.MTU}
	for _, s := range d.Subnets {
		n := metadata.Subnet{
			ID: s.ID, CIDR: s.CIDR, Gateway: s.Gateway, EnableDHCP: s.EnableDHCP, Mode: cmp.Or(s.AddressMode, s.RAMode),
			Nameservers: s.DNSNameservers,
		}
		for _, r := range s.HostRoutes {
			n.Routes = append(n.Routes, metadata.Route(r))
		}
		c.Subnets = append(c.Subnets, n)
	}
	for _, id := range slices.Sorted(maps.Keys(hosts)) {
		h := hosts[id]
		if !h.Serve {
			continue // a router's interface has no guest behind it
		}
		in := &h.Instance
		p := metadata.Port{
			ID: h.PortID, MAC: metadata.MAC(h.MAC), InstanceID: cmp.Or(in.ID, h.PortID), ProjectID: in.ProjectID, Name: in.Name,
			PublicKeys: in.PublicKeys, UserData: in.UserData, Meta: in.Meta, Zone: in.Zone,
		}
		for _, a := range h.Addresses {
			p.Addresses = append(p.Addresses, metadata.Address{IP: a.IP, SubnetID: a.SubnetID, Hostname: a.Hostname, FQDN: a.FQDN})
		}
		c.Ports = append(c.Ports, p)
	}
	return c
}

// collector shows the servers' counters to Prometheus.
type collector struct{ stats *metadata.Stats }

func (c collector) desc() *prometheus.Desc {
	return prometheus.NewDesc("baryon_agent_metadata_requests_total",
		"Metadata requests by what became of them, all networks of the node.", []string{"result"}, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc() }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	d := c.desc()
	for name, n := range map[string]uint64{
		"answered": c.stats.Answered.Load(), "not_found": c.stats.NotFound.Load(), "unknown_source": c.stats.Unknown.Load(),
		"failed": c.stats.Failed.Load(), "limited": c.stats.Limited.Load(),
	} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), name)
	}
}
