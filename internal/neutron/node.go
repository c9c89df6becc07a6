package neutron

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Binaries, as the agents of Neutron call themselves; clients look for them.
const (
	ovsBinary      = "neutron-openvswitch-agent"
	dhcpBinary     = "neutron-dhcp-agent"
	metadataBinary = "neutron-metadata-agent"
)

// heartbeatEvery is how old a stored heartbeat may be before another one is worth a write: Neutron's report_interval of 30 s, less what
// a report may be late.
const heartbeatEvery = 25 * time.Second

// Bounds of what a node may say of itself.
const (
	maxHostName = 255
	maxMappings = 256
)

// agentID is the id of a service of a host: name-based, so that it is the same after everything was reinstalled.
func agentID(host, binary string) model.ID {
	space := uuid.NewSHA1(uuid.NameSpaceDNS, []byte("agent.baryon"))
	return model.ID(uuid.NewSHA1(space, []byte(host+"/"+binary)).String())
}

// agentKinds are the services that nodes show as agents, by the role that brings them; an empty role is every node's.
var agentKinds = []struct{ role, typ, binary, topic string }{
	{"", "Open vSwitch agent", ovsBinary, "N/A"},
	{model.RoleNetwork, "DHCP agent", dhcpBinary, "dhcp_agent"},
	{model.RoleNetwork, "Metadata agent", metadataBinary, "N/A"},
}

// RegisterNode stores what a node says of itself when it connects or changes, and that it is alive.  Ports that wait for it are bound
// by Run.
func (s *Service) RegisterNode(ctx context.Context, info nodestate.NodeInfo) error {
	if err := checkNode(info); err != nil {
		return err
	}
	s.gone.back(info.Host)
	o := s.newOp(nil)
	at := s.cfg.Now().UTC()
	err := o.run(ctx, nil, func(tx store.Tx) error {
		node := nodeOf(info)
		old, known := store.Get(tx, model.NodeTable, info.Host)
		beat, beats := store.Get(tx, model.HeartbeatTable, info.Host)
		node.CreatedAt, node.StartedAt = o.now, o.now
		if known {
			node.CreatedAt = old.CreatedAt
			if beats && beat.Alive {
				node.StartedAt = old.StartedAt
			}
		}
		if node.TunnelIP.IsValid() {
			o.ask(model.NodeTable.Name, "tunnel_ip", node.TunnelIP.String(), Conflict("TunnelEndpointInUse",
				"Node %s cannot have tunnel address %s, another node has it.", info.Host, node.TunnelIP))
		}
		if !known || !reflect.DeepEqual(&node, old) {
			store.Put(tx, model.NodeTable, &node)
		}
		store.Put(tx, model.HeartbeatTable, &model.Heartbeat{Host: info.Host, At: at, Alive: true})
		o.ensureAgents(tx, &node)
		return nil
	})
	return err
}

// ensureAgents keeps one row per service of the node; what an administrator set in them stays.
func (o *op) ensureAgents(tx store.Tx, node *model.Node) {
	for _, k := range agentKinds {
		id := agentID(node.Host, k.binary)
		old, ok := store.Get(tx, model.AgentTable, string(id))
		if k.role != "" && !slices.Contains(node.Roles, k.role) {
			if ok {
				store.Delete(tx, model.AgentTable, string(id))
			}
			continue
		}
		a := model.Agent{ID: id, Type: k.typ, Binary: k.binary, Topic: k.topic, Host: node.Host, AdminStateUp: true, CreatedAt: o.now}
		if k.binary == dhcpBinary {
			a.AvailabilityZone = node.AvailabilityZone
		}
		if ok {
			a.AdminStateUp, a.Description, a.CreatedAt = old.AdminStateUp, old.Description, old.CreatedAt
		}
		if !ok || !reflect.DeepEqual(&a, old) {
			store.Put(tx, model.AgentTable, &a)
		}
	}
}

func nodeOf(info nodestate.NodeInfo) model.Node {
	n := model.Node{
		Host: info.Host, Roles: slices.Sorted(slices.Values(info.Roles)),
		TunnelIP: info.TunnelIP.Unmap(), TunnelTypes: slices.Clone(info.TunnelTypes),
		DatapathType: info.DatapathType, HybridPlug: info.HybridPlug, Firewall: info.Firewall, Version: info.Version, AvailabilityZone: info.AvailabilityZone,
	}
	if len(info.BridgeMappings) > 0 {
		n.BridgeMappings = maps.Clone(info.BridgeMappings)
	}
	if len(n.TunnelTypes) == 0 {
		n.TunnelTypes = nil
	}
	if n.AvailabilityZone == "" {
		n.AvailabilityZone = defaultZone
	}
	return n
}

// defaultZone is Neutron's default availability zone.
const defaultZone = "nova"

// maxFirewall is more than the name of any firewall driver.
const maxFirewall = 64

// checkNode refuses what no agent says.
func checkNode(info nodestate.NodeInfo) error {
	bad := func(format string, a ...any) error { return InvalidInput("Node "+format, a...) }
	if info.Host == "" || len(info.Host) > maxHostName {
		return bad("name must have 1 to %d bytes", maxHostName)
	}
	for _, r := range info.Roles {
		if r != model.RoleCompute && r != model.RoleNetwork {
			return bad("%s has unknown role '%s'", info.Host, r)
		}
	}
	for _, t := range info.TunnelTypes {
		if t != model.TypeVXLAN && t != model.TypeGRE {
			return bad("%s has unknown tunnel type '%s'", info.Host, t)
		}
	}
	ip := info.TunnelIP
	switch {
	case len(info.Roles) > 2 || len(info.TunnelTypes) > 2 || len(info.BridgeMappings) > maxMappings:
		return bad("%s lists too much", info.Host)
	case ip.IsValid() && (ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != ""):
		return bad("%s has tunnel address %s, which is no unicast address", info.Host, ip)
	case len(info.Firewall) > maxFirewall:
		return bad("%s has a firewall driver with a name of more than %d bytes", info.Host, maxFirewall)
	case info.DatapathType != "system" && info.DatapathType != "netdev":
		return bad("%s has unknown datapath type '%s'", info.Host, info.DatapathType)
	case len(info.Version) > maxHostName || len(info.AvailabilityZone) > maxHostName:
		return bad("%s has an overlong version or availability zone", info.Host)
	}
	return nil
}

// Heartbeat notes that a node is alive.  It may be called often: it writes only when the last write is getting old or the node was
// taken for dead.
func (s *Service) Heartbeat(ctx context.Context, host string) error {
	s.gone.back(host)
	now := s.cfg.Now().UTC()
	if h, ok := store.Get(s.st.Snapshot(), model.HeartbeatTable, host); ok && h.Alive && now.Sub(h.At) < heartbeatEvery {
		return nil
	}
	return s.newOp(nil).run(ctx, nil, func(tx store.Tx) error {
		if _, ok := store.Get(tx, model.NodeTable, host); !ok {
			return NotFound("NodeNotFound", "Node %s could not be found.", host)
		}
		store.Put(tx, model.HeartbeatTable, &model.Heartbeat{Host: host, At: now, Alive: true})
		return nil
	})
}

// goneNodes are the nodes whose stream to this server was lost, and when.
type goneNodes struct {
	mu    sync.Mutex
	since map[string]time.Time
}

func (g *goneNodes) lost(host string, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since == nil {
		g.since = map[string]time.Time{}
	}
	if _, ok := g.since[host]; !ok {
		g.since[host] = at
	}
}

func (g *goneNodes) back(host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.since, host)
}

func (g *goneNodes) get(host string) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.since[host]
	return at, ok
}

// NodeGone notes that the stream of a node was lost.  The node is dead unless it is heard of within GoneGrace, by any server.
func (s *Service) NodeGone(_ context.Context, host string) error {
	s.gone.lost(host, s.cfg.Now().UTC())
	return nil
}

// NodesDown declares dead the nodes that were not heard of for AgentDownTime, or for GoneGrace after their stream was lost.  A server that
// has just started gives all nodes the full time.  Run calls it.
func (s *Service) NodesDown(ctx context.Context) error {
	now := s.cfg.Now().UTC()
	var errs []error
	for h := range store.All(s.st.Snapshot(), model.HeartbeatTable) {
		if !h.Alive {
			continue
		}
		last := h.At
		if s.started.After(last) {
			last = s.started
		}
		gone, lost := s.gone.get(h.Host)
		if lost && h.At.After(gone) { // another server has it
			s.gone.back(h.Host)
			lost = false
		}
		if now.Sub(last) < s.cfg.AgentDownTime && (!lost || now.Sub(gone) < s.cfg.GoneGrace) {
			continue
		}
		errs = append(errs, s.declareDead(ctx, h))
	}
	return errors.Join(errs...)
}

func (s *Service) declareDead(ctx context.Context, seen *model.Heartbeat) error {
	declared := false
	err := s.newOp(nil).run(ctx, nil, func(tx store.Tx) error {
		h, ok := store.Get(tx, model.HeartbeatTable, seen.Host)
		if declared = ok && h.Alive && h.At.Equal(seen.At); declared {
			store.Put(tx, model.HeartbeatTable, &model.Heartbeat{Host: h.Host, At: h.At})
		}
		return nil
	})
	if err == nil && declared {
		s.gone.back(seen.Host)
		s.log.Warn("node is dead; its DHCP services move", "node", seen.Host, "last_heard", seen.At)
	}
	return err
}

// newTicker paces the search for dead nodes: often enough that a lost one is found little later than its grace ends.
func newTicker(down, grace time.Duration) *time.Ticker {
	return time.NewTicker(max(min(down/5, grace/4), 100*time.Millisecond))
}
