package neutron

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"

	"baryon/internal/model"
	"baryon/internal/store"
)

// worklist is what Reconcile has to look at again: networks whose DHCP service may not be what it should, and hosts that ports may be
// waiting for.  The follower fills it from the store's changes, whoever made them.
type worklist struct {
	mu       sync.Mutex
	networks map[model.ID]bool
	hosts    map[string]bool
	every    bool // all networks
	wake     chan struct{}
}

// newWorklist makes one that holds everything, for a service that starts on a filled store.
func newWorklist() *worklist {
	w := &worklist{networks: map[model.ID]bool{}, hosts: map[string]bool{}, every: true, wake: make(chan struct{}, 1)}
	w.wake <- struct{}{}
	return w
}

func (w *worklist) network(id model.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.networks[id] = true
}

// host is one whose liveness or nature has changed; only one with DHCP matters to networks.
func (w *worklist) host(name string, networks bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[name] = true
	w.every = w.every || networks
}

// publish tells Run that there may be work.
func (w *worklist) publish() {
	w.mu.Lock()
	idle := !w.every && len(w.networks) == 0 && len(w.hosts) == 0
	w.mu.Unlock()
	if idle {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worklist) take() (networks map[model.ID]bool, hosts map[string]bool, every bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	networks, hosts, every = w.networks, w.hosts, w.every
	w.networks, w.hosts, w.every = map[model.ID]bool{}, map[string]bool{}, false
	return networks, hosts, every
}

// putBack returns what could not be done.
func (w *worklist) putBack(networks map[model.ID]bool, hosts map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.networks, networks)
	maps.Copy(w.hosts, hosts)
}

func (w *worklist) portChanged(was, is *model.Port) {
	p := is
	if p == nil {
		p = was
	}
	if p == nil {
		return
	}
	if p.DeviceOwner == model.OwnerDHCP {
		w.network(p.NetworkID)
	}
	if is != nil && is.Binding.Host != "" && !is.Bound() {
		w.host(is.Binding.Host, false)
	}
}

// networkChanged: on other segments other nodes can carry the network, so ports that waited may find their host able now.
func (w *worklist) networkChanged(r store.Read, was, is *model.Network) {
	if was == nil || is == nil || slices.Equal(was.AllSegments(), is.AllSegments()) {
		return
	}
	w.network(is.ID)
	for p := range store.Find(r, model.PortTable, "network", string(is.ID)) {
		if p.Binding.Host != "" && !p.Bound() {
			w.host(p.Binding.Host, false)
		}
	}
}

func (w *worklist) subnetChanged(was, is *model.Subnet) {
	if was != nil {
		w.network(was.NetworkID)
	}
	if is != nil {
		w.network(is.NetworkID)
	}
}

func (w *worklist) bindingChanged(was, is *model.DHCPBinding) {
	if was != nil {
		w.network(was.NetworkID)
	}
	if is != nil {
		w.network(is.NetworkID)
	}
}

func (w *worklist) nodeChanged(was, is *model.Node) {
	for _, n := range []*model.Node{was, is} {
		if n != nil {
			w.host(n.Host, slices.Contains(n.Roles, model.RoleNetwork))
		}
	}
}

func (w *worklist) heartbeatChanged(r store.Read, was, is *model.Heartbeat) {
	h := is
	if h == nil {
		h = was
	}
	if h == nil || was != nil && is != nil && was.Alive == is.Alive {
		return
	}
	node, ok := store.Get(r, model.NodeTable, h.Host)
	w.host(h.Host, !ok || slices.Contains(node.Roles, model.RoleNetwork))
}

func (w *worklist) agentChanged(was, is *model.Agent) {
	for _, a := range []*model.Agent{was, is} {
		if a != nil && (was == nil || is == nil || was.AdminStateUp != is.AdminStateUp) {
			w.host(a.Host, a.Binary == dhcpBinary)
		}
	}
}

// Run keeps what no API call waits for in order until ctx ends: DHCP services, ports that wait for their node, dead nodes.  Each server
// runs it; two that do the same thing at once do it once.
func (s *Service) Run(ctx context.Context) error {
	if err := s.ShowDefaultRanges(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("show the configured ranges of segmentation ids", "err", err)
	}
	tick := newTicker(s.cfg.AgentDownTime, s.cfg.GoneGrace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := s.NodesDown(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("look for dead nodes", "err", err)
			}
			s.work.publish() // what failed before
		case <-s.work.wake:
			if err := s.Reconcile(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("reconcile networks; will retry", "err", err)
			}
		}
	}
}

// Reconcile does once what Run does on a change.  What fails stays to be done; errors are joined.
func (s *Service) Reconcile(ctx context.Context) error {
	networks, hosts, every := s.work.take()
	r := s.st.Snapshot()
	if every {
		for n := range store.All(r, model.NetworkTable) {
			networks[n.ID] = true
		}
		for n := range store.All(r, model.NodeTable) {
			hosts[n.Host] = true
		}
	}
	var errs []error
	left, leftHosts := map[model.ID]bool{}, map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(networks)) {
		if err := s.reconcileNetwork(ctx, id); err != nil {
			left[id] = true
			errs = append(errs, err)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		if err := s.bindWaiting(ctx, host); err != nil {
			leftHosts[host] = true
			errs = append(errs, err)
		}
	}
	s.work.putBack(left, leftHosts)
	return errors.Join(errs...)
}

func (s *Service) reconcileNetwork(ctx context.Context, id model.ID) error {
	r := s.st.Snapshot()
	if n, ok := store.Get(r, model.NetworkTable, string(id)); ok && s.dhcpSettled(r, n) {
		return nil // what makes it unsettled after this snapshot puts it on the list again
	}
	o := s.newOp(nil)
	return o.run(ctx, []string{addressGate(id)}, func(tx store.Tx) error {
		n, ok := store.Get(tx, model.NetworkTable, string(id))
		if !ok {
			return nil
		}
		return o.ensureDHCP(tx, n, false)
	})
}

// bindWaiting binds the ports that wait for a node which now serves.  Ports that are bound there learn how the node wants them plugged
// since it has another firewall or datapath: they stay up, and follow when they are plugged again.
func (s *Service) bindWaiting(ctx context.Context, host string) error {
	node, ok := store.Get(s.st.Snapshot(), model.NodeTable, host)
	if !ok || !serving(s.st.Snapshot(), host, ovsBinary) {
		return nil
	}
	var ids []model.ID
	for p := range store.Find(s.st.Snapshot(), model.PortTable, "host", host) {
		if !p.Bound() || !reflect.DeepEqual(p.Binding.VIFDetails, plugDetails(s.st.Snapshot(), node, p.ID)) {
			ids = append(ids, p.ID)
		}
	}
	for chunk := range slices.Chunk(ids, portsPerTx) {
		o := s.newOp(nil)
		err := o.run(ctx, nil, func(tx store.Tx) error {
			for _, id := range chunk {
				o.bindPort(tx, id, host)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *op) bindPort(tx store.Tx, id model.ID, host string) {
	p, ok := store.Get(tx, model.PortTable, string(id))
	if !ok || p.Binding.Host != host {
		return
	}
	next := *p
	if node, ok := store.Get(tx, model.NodeTable, host); ok && p.Bound() {
		if next.Binding.VIFDetails = plugDetails(tx, node, id); !reflect.DeepEqual(next.Binding, p.Binding) {
			o.touch(&next.Standard)
			store.Put(tx, model.PortTable, &next)
		}
		return
	}
	n, ok := store.Get(tx, model.NetworkTable, string(p.NetworkID))
	if !ok {
		return
	}
	if bind(tx, n, &next.Binding); next.Binding.VIFType == p.Binding.VIFType {
		return
	}
	trunkBridge(tx, id, &next.Binding)
	o.touch(&next.Standard)
	store.Put(tx, model.PortTable, &next)
}
