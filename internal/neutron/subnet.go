package neutron

import (
	"context"
	"net/netip"
	"reflect"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron/ipam"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// portsPerTx is how many ports one transaction changes beside its main object.  A subnet that comes to or goes from a network with more
// automatic addresses than this is done in several.
const portsPerTx = 100

// Subnets are the rules of subnets.
func (s *Service) Subnets() *Kind[model.Subnet] {
	return &Kind[model.Subnet]{
		Def:     model.Subnets,
		Create:  s.createSubnets,
		Update:  s.updateSubnet,
		Delete:  s.deleteSubnet,
		Visible: subnetVisible,
		Present: presentSubnet,
	}
}

func presentSubnet(r store.Read, c *identity.Caller, sub *model.Subnet) *model.Subnet {
	shown := *sub
	shown.Shared = sharedWith(r, c, model.RBACNetwork, sub.NetworkID)
	if n, ok := store.Get(r, model.NetworkTable, string(sub.NetworkID)); ok {
		shown.External = n.External
	}
	return &shown
}

func (s *Service) createSubnets(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.Subnet],
) ([]*model.Subnet, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	gateNames := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		projects[i], gateNames[i] = project, addressGate(input.Value.NetworkID)
	}
	o.claimAll(quotaSubnet, projects)
	var made []*model.Subnet
	err := o.run(ctx, gateNames, func(tx store.Tx) error {
		made = made[:0]
		for i, input := range in {
			n, err := getNetwork(tx, c, input.Value.NetworkID)
			if err != nil {
				return err
			}
			allowed := c.CanWrite(projects[i]) && c.CanWrite(n.ProjectID)
			err = newCheck("create_subnet", allowed).attrs([]setAttr{{name: "segment_id", sent: input.Value.SegmentID != "", allowed: c.IsAdmin()}})
			if err != nil {
				return err
			}
		}
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, input := range in {
			sub, err := o.newSubnet(tx, projects[i], input)
			if err != nil {
				return err
			}
			made = append(made, sub)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, sub := range made {
		if err := s.addressAutoPorts(ctx, sub); err != nil {
			return nil, err
		}
	}
	return presented(s, c, made, presentSubnet, nil)
}

// newSubnet checks and stores a subnet, together with what its network's DHCP service needs.
func (o *op) newSubnet(tx store.Tx, project string, in *resource.Input[model.Subnet]) (*model.Subnet, error) {
	sub := in.Value
	o.fresh(&sub.Standard, project)
	if err := completeSubnet(&sub, in.Has); err != nil {
		return nil, err
	}
	for other := range store.Find(tx, model.SubnetTable, "network", string(sub.NetworkID)) {
		if other.CIDR.Overlaps(sub.CIDR) {
			return nil, InvalidInput("Requested subnet with cidr: %s for network: %s overlaps with another subnet", sub.CIDR, sub.NetworkID)
		}
	}
	n, ok := store.Get(tx, model.NetworkTable, string(sub.NetworkID))
	if !ok {
		return nil, NotFound("NetworkNotFound", "Network %s could not be found.", sub.NetworkID)
	}
	if err := checkSubnetSegment(tx, n, nil, &sub); err != nil {
		return nil, err
	}
	store.Put(tx, model.SubnetTable, &sub)
	o.bumpNetwork(tx, n)
	if err := o.ensureDHCP(tx, n, true); err != nil {
		return nil, err
	}
	return &sub, nil
}

// addressAutoPorts gives the ports of a network their address on a new automatic subnet.  Ports that come later take theirs when they
// are created.
func (s *Service) addressAutoPorts(ctx context.Context, sub *model.Subnet) error {
	if !sub.AutoAddress() {
		return nil
	}
	for more := true; more; {
		o := s.newOp(nil)
		err := o.run(ctx, nil, func(tx store.Tx) error {
			more = false
			n, ok := store.Get(tx, model.NetworkTable, string(sub.NetworkID))
			if _, still := store.Get(tx, model.SubnetTable, string(sub.ID)); !still || !ok {
				return nil
			}
			a := o.addressing(tx, n)
			done := 0
			for _, p := range slices.Collect(store.Find(tx, model.PortTable, "network", string(n.ID))) {
				if p.DeviceOwner == model.OwnerDHCP || routerPort(p) || hasSubnet(p, sub.ID) {
					continue
				}
				if more = done == portsPerTx; more {
					return nil
				}
				next := *p
				if a.place(&next, p.Binding.Host) != nil || a.deferred {
					continue // it has no address here at all
				}
				next.FixedIPs = a.withAuto(&next, slices.Clone(p.FixedIPs), true)
				o.touch(&next.Standard)
				store.Put(tx, model.PortTable, &next)
				done++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func hasSubnet(p *model.Port, id model.ID) bool {
	return slices.ContainsFunc(p.FixedIPs, func(f model.FixedIP) bool { return f.SubnetID == id })
}

func (s *Service) updateSubnet(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.Subnet], ifMatch *int64,
) (*model.Subnet, error) {
	o := s.newOp(c)
	gateNames, err := s.subnetGate(ctx, c, id)
	if err != nil {
		return nil, err
	}
	var out *model.Subnet
	err = o.run(ctx, gateNames, func(tx store.Tx) error {
		old, n, err := o.subnetToChange(tx, id, "update_subnet", ifMatch)
		if err != nil {
			return err
		}
		err = newCheck("update_subnet", true).attrs([]setAttr{{name: "segment_id", sent: in.Has("segment_id"), allowed: c.IsAdmin()}})
		if err != nil {
			return err
		}
		out, err = changedSubnet(old, in)
		if err != nil || out == old {
			return err
		}
		if err := checkSubnetSegment(tx, n, old, out); err != nil {
			return err
		}
		o.touch(&out.Standard)
		store.Put(tx, model.SubnetTable, out)
		o.bumpNetwork(tx, n)
		return o.ensureDHCP(tx, n, true)
	})
	return one(s, c, out, presentSubnet, err)
}

// subnetGate finds the gate of a subnet's addresses; its network never changes.
func (s *Service) subnetGate(ctx context.Context, c *identity.Caller, id string) (names []string, err error) {
	err = s.st.View(ctx, func(r store.Read) error {
		sub, err := getSubnet(r, c, model.ID(id))
		if err == nil {
			names = []string{addressGate(sub.NetworkID)}
		}
		return err
	})
	return names, err
}

// subnetToChange reads a subnet with its network and checks that the caller may change it.
func (o *op) subnetToChange(tx store.Tx, id, action string, ifMatch *int64) (*model.Subnet, *model.Network, error) {
	sub, err := getSubnet(tx, o.caller, model.ID(id))
	if err != nil {
		return nil, nil, err
	}
	n, ok := store.Get(tx, model.NetworkTable, string(sub.NetworkID))
	if !ok {
		return nil, nil, NotFound("NetworkNotFound", "Network %s could not be found.", sub.NetworkID)
	}
	if err := newCheck(action, o.caller.CanWrite(sub.ProjectID) || o.caller.CanWrite(n.ProjectID)).err(); err != nil {
		return nil, nil, err
	}
	return sub, n, matchRevision(&sub.Standard, ifMatch)
}

// changedSubnet gives the subnet as the update wants it, old itself if nothing differs.
func changedSubnet(old *model.Subnet, in *resource.Input[model.Subnet]) (*model.Subnet, error) {
	sub, v := *old, &in.Value
	set(in.Has("name"), &sub.Name, v.Name)
	set(in.Has("description"), &sub.Description, v.Description)
	set(in.Has("gateway_ip"), &sub.GatewayIP, v.GatewayIP)
	set(in.Has("allocation_pools"), &sub.AllocationPools, v.AllocationPools)
	set(in.Has("dns_nameservers"), &sub.DNSNameservers, v.DNSNameservers)
	set(in.Has("host_routes"), &sub.HostRoutes, v.HostRoutes)
	set(in.Has("enable_dhcp"), &sub.EnableDHCP, v.EnableDHCP)
	set(in.Has("dns_publish_fixed_ip"), &sub.DNSPublishFixedIP, v.DNSPublishFixedIP)
	set(in.Has("segment_id"), &sub.SegmentID, v.SegmentID)
	if err := checkSubnet(&sub); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(&sub, old) {
		return old, nil
	}
	return &sub, nil
}

func (s *Service) deleteSubnet(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	gateNames, err := s.subnetGate(ctx, c, id)
	if err != nil {
		return err
	}
	for more := true; more; {
		o := s.newOp(c)
		err := o.run(ctx, gateNames, func(tx store.Tx) error {
			more = false
			sub, n, err := o.subnetToChange(tx, id, "delete_subnet", ifMatch)
			if err != nil {
				return err
			}
			if more, err = o.vacate(tx, sub); more || err != nil {
				return err
			}
			store.Delete(tx, model.SubnetTable, id)
			o.bumpNetwork(tx, n)
			return o.ensureDHCP(tx, n, true)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// vacate takes the subnet's addresses from the ports that let them go: those of the network's own services, and on automatic subnets
// those of all ports but routers'.  more: there are further ports, for another transaction.
func (o *op) vacate(tx store.Tx, sub *model.Subnet) (more bool, err error) {
	ports := slices.Collect(store.Find(tx, model.PortTable, "subnet", string(sub.ID)))
	for _, p := range ports {
		if !autoDelete(p) && (!sub.AutoAddress() || routerPort(p)) {
			return false, Conflict("SubnetInUse", "Unable to complete operation on subnet %s: "+
				"One or more ports have an IP allocation from this subnet.", sub.ID)
		}
	}
	for i, p := range ports {
		if i == portsPerTx {
			return true, nil
		}
		next := *p
		next.FixedIPs = slices.DeleteFunc(slices.Clone(p.FixedIPs), func(f model.FixedIP) bool { return f.SubnetID == sub.ID })
		if len(next.FixedIPs) == 0 {
			next.FixedIPs = nil
		}
		o.touch(&next.Standard)
		store.Put(tx, model.PortTable, &next)
	}
	return false, nil
}

// completeSubnet fills in what the client left to the server, and checks the whole.
func completeSubnet(sub *model.Subnet, has func(string) bool) error {
	if !sub.CIDR.IsValid() {
		return BadRequest("BadRequest", "Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
	}
	sub.CIDR = netip.PrefixFrom(sub.CIDR.Addr().Unmap(), sub.CIDR.Bits()).Masked()
	if err := checkCIDR(sub); err != nil {
		return err
	}
	if !has("gateway_ip") {
		sub.GatewayIP = ipam.DefaultGateway(sub.CIDR)
	}
	if !has("allocation_pools") {
		sub.AllocationPools = ipam.DefaultPools(sub.CIDR, sub.GatewayIP)
	}
	return checkSubnet(sub)
}
