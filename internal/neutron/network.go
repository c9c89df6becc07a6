package neutron

import (
	"context"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Device owners whose ports go with their network or subnet, without a word.
var autoDeleteOwners = []string{model.OwnerDHCP, "network:distributed", "network:floatingip_agent_gateway"}

func autoDelete(p *model.Port) bool { return slices.Contains(autoDeleteOwners, p.DeviceOwner) }

// Networks are the rules of networks.
func (s *Service) Networks() *Kind[model.Network] {
	return &Kind[model.Network]{
		Def:     model.Networks,
		Create:  s.createNetworks,
		Update:  s.updateNetwork,
		Delete:  s.deleteNetwork,
		Visible: networkVisible,
		Present: presentNetwork,
	}
}

// presentNetwork computes what follows from other rows.  Of several segments none is the network's one, so they stand in a list instead.
func presentNetwork(r store.Read, c *identity.Caller, n *model.Network) *model.Network {
	shown := *n
	shown.Shared = sharedWith(r, c, model.RBACNetwork, n.ID)
	switch {
	case len(n.More) == 0:
		shown.Segments = nil
	case n.Segment != (model.Segment{}): // not yet presented
		shown.Segments, shown.Segment = n.AllSegments(), model.Segment{}
	}
	shown.L2Adjacency = true
	shown.Subnets = []model.ID{}
	for sub := range store.Find(r, model.SubnetTable, "network", string(n.ID)) {
		shown.Subnets = append(shown.Subnets, sub.ID)
		shown.L2Adjacency = shown.L2Adjacency && sub.SegmentID == ""
	}
	shown.AvailabilityZones = zonesOf(r, n.ID)
	return &shown
}

func (s *Service) createNetworks(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.Network],
) ([]*model.Network, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		projects[i] = project
		if err := checkCreateNetwork(c, project, input); err != nil {
			return nil, err
		}
	}
	o.claimAll(quotaNetwork, projects)
	var made []*model.Network
	err := o.run(ctx, s.types.segmentGates(), func(tx store.Tx) error {
		made = made[:0]
		if err := o.charge(tx); err != nil {
			return err
		}
		for _, project := range projects {
			o.defaultGroup(tx, project)
		}
		for i, input := range in {
			n, err := o.newNetwork(tx, input, projects[i])
			if err != nil {
				return err
			}
			made = append(made, n)
		}
		return nil
	})
	return presented(s, c, made, presentNetwork, err)
}

// newNetwork checks and stores a network, with its segments and the policies that share it.
func (o *op) newNetwork(tx store.Tx, in *resource.Input[model.Network], project string) (*model.Network, error) {
	n := in.Value
	o.fresh(&n.Standard, project)
	if err := checkZoneHints(tx, n.AvailabilityZoneHints); err != nil {
		return nil, err
	}
	if err := o.checkDefaultExternal(tx, &n); err != nil {
		return nil, err
	}
	segments, err := o.newSegments(tx, in, project)
	if err != nil {
		return nil, err
	}
	n.Segment, n.More, n.Segments = segments[0], segments[1:len(segments):len(segments)], nil
	if len(n.More) == 0 {
		n.More = nil
	}
	if n.MTU, err = o.s.types.checkMTU(segments, in.Value.MTU); err != nil {
		return nil, err
	}
	if err := o.networkQoS(tx, &n, in.Has("qos_policy_id")); err != nil {
		return nil, err
	}
	store.Put(tx, model.NetworkTable, &n)
	for _, seg := range segments {
		o.putSegment(tx, &model.NetworkSegment{NetworkID: n.ID, Segment: seg})
	}
	o.share(tx, model.RBACNetwork, n.ID, project, model.AccessShared, n.Shared)
	o.share(tx, model.RBACNetwork, n.ID, project, model.AccessExternal, n.External)
	return &n, nil
}

// checkDefaultExternal lets one external network at most be the default one.
func (o *op) checkDefaultExternal(tx store.Tx, n *model.Network) error {
	if !n.IsDefault {
		return nil
	}
	if !n.External {
		return InvalidInput("Only an external network can be the default one: is_default needs router:external")
	}
	for other := range store.Find(tx, model.NetworkTable, "default_external", model.DefaultExternal) {
		if other.ID != n.ID {
			return defaultExternalExists(other.ID)
		}
	}
	o.ask(model.NetworkTable.Name, "default_external", model.DefaultExternal, defaultExternalExists("made at the same time"))
	return nil
}

func defaultExternalExists(id model.ID) *Error {
	return Conflict("DefaultExternalNetworkExists", "A default external network already exists: %s.", id)
}

func checkCreateNetwork(c *identity.Caller, project string, in *resource.Input[model.Network]) error {
	admin, v := c.IsAdmin(), &in.Value
	return newCheck("create_network", c.CanWrite(project)).attrs([]setAttr{
		{name: "shared", sent: v.Shared, allowed: admin},
		{name: "router:external", sent: v.External, allowed: admin},
		{name: "is_default", sent: v.IsDefault, allowed: admin},
		{name: "provider:network_type", sent: in.Has("provider:network_type"), allowed: admin},
		{name: "provider:physical_network", sent: in.Has("provider:physical_network"), allowed: admin},
		{name: "provider:segmentation_id", sent: in.Has("provider:segmentation_id"), allowed: admin},
		{name: "segments", sent: in.Has("segments"), allowed: admin},
	})
}

func (s *Service) updateNetwork(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.Network], ifMatch *int64,
) (*model.Network, error) {
	o := s.newOp(c)
	var out *model.Network
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := getNetwork(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		admin := c.IsAdmin()
		err = newCheck("update_network", c.CanWrite(old.ProjectID)).attrs([]setAttr{
			{name: "shared", sent: in.Has("shared"), allowed: admin},
			{name: "router:external", sent: in.Has("router:external"), allowed: admin},
			{name: "is_default", sent: in.Has("is_default"), allowed: admin},
			{name: "provider:network_type", sent: in.Has("provider:network_type"), allowed: admin},
			{name: "provider:physical_network", sent: in.Has("provider:physical_network"), allowed: admin},
			{name: "provider:segmentation_id", sent: in.Has("provider:segmentation_id"), allowed: admin},
			{name: "segments", sent: in.Has("segments"), allowed: admin},
		})
		if err != nil {
			return err
		}
		if err := matchRevision(&old.Standard, ifMatch); err != nil {
			return err
		}
		out, err = o.changedNetwork(tx, old, in)
		if err == nil {
			store.Put(tx, model.NetworkTable, out)
		}
		return err
	})
	return one(s, c, out, presentNetwork, err)
}

func (o *op) changedNetwork(tx store.Tx, old *model.Network, in *resource.Input[model.Network]) (*model.Network, error) {
	n, v := *old, &in.Value
	set(in.Has("name"), &n.Name, v.Name)
	set(in.Has("description"), &n.Description, v.Description)
	set(in.Has("admin_state_up"), &n.AdminStateUp, v.AdminStateUp)
	if in.Has("shared") {
		if err := o.setShared(tx, &n, v.Shared); err != nil {
			return nil, err
		}
	}
	if in.Has("router:external") {
		if err := o.setExternal(tx, &n, v.External); err != nil {
			return nil, err
		}
	}
	if err := o.changedSegment(tx, &n, in); err != nil {
		return nil, err
	}
	n.IsDefault = n.IsDefault && n.External
	set(in.Has("is_default"), &n.IsDefault, v.IsDefault)
	if err := o.checkDefaultExternal(tx, &n); err != nil {
		return nil, err
	}
	set(in.Has("port_security_enabled"), &n.PortSecurityEnabled, v.PortSecurityEnabled)
	set(in.Has("qos_policy_id"), &n.QoSPolicyID, v.QoSPolicyID)
	if err := o.takeQoS(tx, old.QoSPolicyID, n.QoSPolicyID); err != nil {
		return nil, err
	}
	set(in.Has("dns_domain"), &n.DNSDomain, v.DNSDomain)
	if in.Has("mtu") {
		mtu, err := o.s.types.checkMTU(n.AllSegments(), v.MTU)
		if err != nil {
			return nil, err
		}
		n.MTU = mtu
	}
	o.touch(&n.Standard)
	return &n, nil
}

func (s *Service) deleteNetwork(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		n, err := getNetwork(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("delete_network", c.CanWrite(n.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&n.Standard, ifMatch); err != nil {
			return err
		}
		ports := slices.Collect(store.Find(tx, model.PortTable, "network", id))
		for _, p := range ports {
			if !autoDelete(p) {
				return Conflict("NetworkInUse", "Unable to complete operation on network %s. "+
					"There are one or more ports still in use on the network, id for these ports is %s.", id, p.ID)
			}
		}
		for _, p := range ports {
			removePort(tx, p)
		}
		for _, sub := range slices.Collect(store.Find(tx, model.SubnetTable, "network", id)) {
			store.Delete(tx, model.SubnetTable, string(sub.ID))
		}
		for _, b := range slices.Collect(store.Find(tx, model.DHCPBindingTable, "network", id)) {
			store.Delete(tx, model.DHCPBindingTable, model.DHCPBindingTable.Key(b))
		}
		for seg := range store.Find(tx, model.SegmentTable, "network", id) {
			store.Delete(tx, model.SegmentTable, string(seg.ID))
		}
		forgetPolicies(tx, model.RBACNetwork, n.ID)
		store.Delete(tx, model.NetworkTable, id)
		return nil
	})
}

// set changes a field that the client sent.
func set[T any](sent bool, field *T, v T) {
	if sent {
		*field = v
	}
}

// bumpNetwork raises the revision of a network of which a part has changed.
func (o *op) bumpNetwork(tx store.Tx, n *model.Network) {
	next := *n
	o.touch(&next.Standard)
	store.Put(tx, model.NetworkTable, &next)
}

// claimAll claims one of the resource for each entry of projects.
func (o *op) claimAll(resourceName string, projects []string) {
	count := map[string]int{}
	for _, p := range projects {
		count[p]++
	}
	for p, n := range count {
		o.claim(p, resourceName, n)
	}
}

// presented makes an answer of changed rows.
func presented[T any](
	s *Service, c *identity.Caller, list []*T, present func(store.Read, *identity.Caller, *T) *T, err error,
) ([]*T, error) {
	if err != nil {
		return nil, err
	}
	r := s.st.Snapshot()
	for i, row := range list {
		list[i] = present(r, c, row)
	}
	return list, nil
}

// one is presented for a single row.
func one[T any](s *Service, c *identity.Caller, row *T, present func(store.Read, *identity.Caller, *T) *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return present(s.st.Snapshot(), c, row), nil
}
