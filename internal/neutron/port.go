package neutron

import (
	"context"
	"reflect"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Ports are the rules of ports.
func (s *Service) Ports() *Kind[model.Port] {
	return &Kind[model.Port]{
		Def:     model.Ports,
		Create:  s.createPorts,
		Update:  s.updatePort,
		Delete:  s.deletePort,
		Visible: portVisible,
		Present: s.presentPort,
	}
}

// presentPort computes status and names, and hides a name that DNS integration being off makes meaningless.
func (s *Service) presentPort(r store.Read, _ *identity.Caller, p *model.Port) *model.Port {
	shown := *p
	status, reason := portStatus(r, p)
	if shown.Status = status; p.Binding.VIFType == model.VIFBindingFailed {
		shown.Binding.VIFDetails = map[string]any{"reason": reason}
	}
	shown.DNSAssignment = s.dnsAssignment(p)
	if n, ok := store.Get(r, model.NetworkTable, string(p.NetworkID)); ok {
		shown.QoSNetworkPolicyID = n.QoSPolicyID
	}
	shown.TrunkDetails = trunkDetails(r, p.ID)
	return &shown
}

func (s *Service) createPorts(ctx context.Context, c *identity.Caller, in []*resource.Input[model.Port]) ([]*model.Port, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	names := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		projects[i], names[i] = project, addressGate(input.Value.NetworkID)
	}
	o.claimAll(quotaPort, projects)
	var made []*model.Port
	err := o.run(ctx, names, func(tx store.Tx) error {
		made = made[:0]
		nets := map[model.ID]*addressing{}
		// Rights and requests are checked before limits, so that who may not create does not learn of limits.
		for i, input := range in {
			a, ok := nets[input.Value.NetworkID]
			if !ok {
				n, err := getNetwork(tx, c, input.Value.NetworkID)
				if err != nil {
					return err
				}
				a = o.addressing(tx, n)
				nets[n.ID] = a
			}
			if err := checkCreatePort(c, a.network, projects[i], input); err != nil {
				return err
			}
		}
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, input := range in {
			p, err := o.newPort(tx, nets[input.Value.NetworkID], projects[i], input)
			if err != nil {
				return err
			}
			store.Put(tx, model.PortTable, p)
			made = append(made, p)
		}
		return nil
	})
	if err == nil {
		s.warnUnbound(made...)
	}
	return presented(s, c, made, s.presentPort, err)
}

// networkOwner tells whether the caller may do what only the owner of a port's network may.
func networkOwner(c *identity.Caller, n *model.Network) bool {
	return c.IsService() || c.CanWrite(n.ProjectID)
}

func checkCreatePort(c *identity.Caller, n *model.Network, project string, in *resource.Input[model.Port]) error {
	v, owner, operator := &in.Value, networkOwner(c, n), c.IsAdmin() || c.IsService()
	return newCheck("create_port", c.CanWrite(project) || c.IsService()).attrs([]setAttr{
		{name: "device_owner", sent: trustedOwner(v.DeviceOwner), allowed: owner},
		{name: "mac_address", sent: in.Has("mac_address") && !v.MAC.IsZero(), allowed: owner},
		fixedIPsAttr(in, owner),
		{name: "port_security_enabled", sent: in.Has("port_security_enabled"), allowed: owner},
		{name: "allowed_address_pairs", sent: len(v.AllowedAddressPairs) > 0, allowed: owner},
		{name: "binding:host_id", sent: in.Has("binding:host_id") && v.Binding.Host != "", allowed: operator},
		{name: "binding:profile", sent: in.Has("binding:profile") && len(v.Binding.Profile) > 0, allowed: operator},
	})
}

// fixedIPsAttr: everyone may say which subnet, only the network's owner which address.
func fixedIPsAttr(in *resource.Input[model.Port], owner bool) setAttr {
	a := setAttr{name: "fixed_ips", sent: in.Has("fixed_ips") && len(in.Value.FixedIPs) > 0, allowed: true}
	for _, f := range in.Value.FixedIPs {
		if f.SubnetID != "" {
			a.parts = append(a.parts, "subnet_id")
		}
		if f.IPAddress.IsValid() {
			a.parts = append(a.parts, "ip_address")
			a.allowed = owner
		}
	}
	return a
}

func (o *op) newPort(tx store.Tx, a *addressing, project string, in *resource.Input[model.Port]) (*model.Port, error) {
	p := in.Value
	o.fresh(&p.Standard, project)
	ownMAC := p.MAC.IsZero()
	var err error
	if ownMAC {
		p.MAC, err = o.mac(p.NetworkID)
	} else {
		err = o.askMAC(&p)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case trusted(&p):
		p.PortSecurityEnabled = false
	case !in.Has("port_security_enabled"):
		p.PortSecurityEnabled = a.network.PortSecurityEnabled
	}
	if err := checkPairs(&p); err != nil {
		return nil, err
	}
	if p.DNSName, err = o.s.dnsName(p.DNSName); err != nil {
		return nil, err
	}
	if err := o.takeQoS(tx, "", p.QoSPolicyID); err != nil {
		return nil, err
	}
	if p.SecurityGroups, err = o.newPortGroups(tx, &p, in.Value.SecurityGroups); err != nil {
		return nil, err
	}
	p.ExtraDHCPOpts = mergeDHCPOpts(nil, p.ExtraDHCPOpts)
	p.FixedIPs, err = a.create(&p, wanted{sent: in.Has("fixed_ips"), ips: in.Value.FixedIPs, ownMAC: ownMAC, host: p.Binding.Host})
	if err != nil {
		return nil, err
	}
	p.Inactive = nil
	p.Binding = model.Binding{Host: p.Binding.Host, VNICType: p.Binding.VNICType, Profile: profile(p.Binding.Profile), VIFType: model.VIFUnbound}
	if p.Binding.VNICType == "" {
		p.Binding.VNICType = model.VNICNormal
	}
	bind(tx, a.network, &p.Binding)
	return &p, nil
}

// askMAC takes a MAC that the client chose.
func (o *op) askMAC(p *model.Port) error {
	if !p.MAC.IsUnicast() {
		return BadRequest("HTTPBadRequest", "Invalid input for mac_address. Reason: '%s' is not a valid unicast MAC address.", p.MAC)
	}
	o.ask(model.PortTable.Name, "network_mac", model.NetworkMAC(p.NetworkID, p.MAC), Conflict("MacAddressInUse",
		"Unable to complete operation for network %s. The mac address %s is in use.", p.NetworkID, p.MAC))
	return nil
}

// trusted ports belong to the network itself; they never have port security.
func trusted(p *model.Port) bool { return trustedOwner(p.DeviceOwner) }

func (s *Service) updatePort(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.Port], ifMatch *int64,
) (*model.Port, error) {
	o := s.newOp(c)
	var names []string
	if in.Has("fixed_ips") || in.Has("binding:host_id") {
		if err := s.st.View(ctx, func(r store.Read) error {
			p, err := getPort(r, c, model.ID(id))
			if err == nil {
				names = []string{addressGate(p.NetworkID)} // never changes
			}
			return err
		}); err != nil {
			return nil, err
		}
	}
	var out *model.Port
	err := o.run(ctx, names, func(tx store.Tx) error {
		old, err := getPort(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		n, ok := store.Get(tx, model.NetworkTable, string(old.NetworkID))
		if !ok {
			return NotFound("NetworkNotFound", "Network %s could not be found.", old.NetworkID)
		}
		if err := checkUpdatePort(c, n, old, in); err != nil {
			return err
		}
		if err := matchRevision(&old.Standard, ifMatch); err != nil {
			return err
		}
		out, err = o.changedPort(tx, n, old, in)
		if err != nil || out == old {
			return err
		}
		store.Put(tx, model.PortTable, out)
		o.followParent(tx, out)
		return nil
	})
	if err == nil && in.Has("binding:host_id") {
		s.warnUnbound(out)
	}
	return one(s, c, out, s.presentPort, err)
}

func checkUpdatePort(c *identity.Caller, n *model.Network, old *model.Port, in *resource.Input[model.Port]) error {
	v, owner, operator := &in.Value, networkOwner(c, n), c.IsAdmin() || c.IsService()
	sentOwner := in.Has("device_owner") && v.DeviceOwner != old.DeviceOwner && trustedOwner(v.DeviceOwner)
	return newCheck("update_port", c.CanWrite(old.ProjectID) || c.IsService()).attrs([]setAttr{
		{name: "device_owner", sent: sentOwner, allowed: owner},
		{name: "mac_address", sent: in.Has("mac_address"), allowed: owner},
		fixedIPsAttr(in, owner),
		{name: "port_security_enabled", sent: in.Has("port_security_enabled"), allowed: owner},
		{name: "allowed_address_pairs", sent: in.Has("allowed_address_pairs"), allowed: owner},
		{name: "binding:host_id", sent: in.Has("binding:host_id"), allowed: operator},
		{name: "binding:profile", sent: in.Has("binding:profile"), allowed: operator},
	})
}

// changedPort gives the port as the update wants it, old itself if nothing differs.
func (o *op) changedPort(tx store.Tx, n *model.Network, old *model.Port, in *resource.Input[model.Port]) (*model.Port, error) {
	p, v := *old, &in.Value
	set(in.Has("name"), &p.Name, v.Name)
	set(in.Has("description"), &p.Description, v.Description)
	set(in.Has("admin_state_up"), &p.AdminStateUp, v.AdminStateUp)
	set(in.Has("device_id"), &p.DeviceID, v.DeviceID)
	set(in.Has("device_owner"), &p.DeviceOwner, v.DeviceOwner)
	set(in.Has("dns_domain"), &p.DNSDomain, v.DNSDomain)
	set(in.Has("port_security_enabled"), &p.PortSecurityEnabled, v.PortSecurityEnabled)
	set(in.Has("qos_policy_id"), &p.QoSPolicyID, v.QoSPolicyID)
	if err := o.takeQoS(tx, old.QoSPolicyID, p.QoSPolicyID); err != nil {
		return nil, err
	}
	if trusted(&p) {
		p.PortSecurityEnabled = false
	}
	if in.Has("dns_name") {
		name, err := o.s.dnsName(v.DNSName)
		if err != nil {
			return nil, err
		}
		p.DNSName = name
	}
	if in.Has("extra_dhcp_opts") {
		p.ExtraDHCPOpts = mergeDHCPOpts(old.ExtraDHCPOpts, v.ExtraDHCPOpts)
	}
	ownMAC, err := o.changeMAC(&p, in)
	if err != nil {
		return nil, err
	}
	if in.Has("allowed_address_pairs") {
		p.AllowedAddressPairs = slices.Clone(v.AllowedAddressPairs)
	}
	if err := checkPairs(&p); err != nil {
		return nil, err
	}
	if p.SecurityGroups, err = o.changedPortGroups(tx, &p, in.Has("security_groups"), v.SecurityGroups); err != nil {
		return nil, err
	}
	moved := in.Has("binding:host_id") && v.Binding.Host != old.Binding.Host
	if in.Has("fixed_ips") || p.MAC != old.MAC || moved {
		w := wanted{sent: in.Has("fixed_ips"), ips: v.FixedIPs, ownMAC: ownMAC, host: p.Binding.Host}
		set(moved, &w.host, v.Binding.Host)
		if p.FixedIPs, err = o.addressing(tx, n).update(&p, w); err != nil {
			return nil, err
		}
	}
	if err := rebind(tx, n, &p, in); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(&p, old) {
		return old, nil
	}
	o.touch(&p.Standard)
	return &p, nil
}

// changeMAC gives a port another MAC, one of its own choice if the client sent null.  A port that is plugged somewhere keeps its MAC.
func (o *op) changeMAC(p *model.Port, in *resource.Input[model.Port]) (own bool, err error) {
	if !in.Has("mac_address") || in.Value.MAC == p.MAC {
		return false, nil
	}
	was := p.MAC
	if own = in.Value.MAC.IsZero(); own {
		p.MAC, err = o.mac(p.NetworkID)
	} else {
		p.MAC = in.Value.MAC
		err = o.askMAC(p)
	}
	if err == nil && p.Bound() {
		err = Conflict("PortBound", "Unable to complete operation on port %s, port is already bound, port type: %s, old_mac %s, new_mac %s.",
			p.ID, p.Binding.VIFType, was, p.MAC)
	}
	return own, err
}

func (s *Service) deletePort(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		p, err := getPort(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		n, ok := store.Get(tx, model.NetworkTable, string(p.NetworkID))
		if err := newCheck("delete_port", c.CanWrite(p.ProjectID) || ok && networkOwner(c, n)).err(); err != nil {
			return err
		}
		if err := matchRevision(&p.Standard, ifMatch); err != nil {
			return err
		}
		if err := checkUntrunked(tx, p.ID); err != nil {
			return err
		}
		removePort(tx, p)
		return nil
	})
}

// removePort deletes a port with all that is kept beside it.
func removePort(tx store.Tx, p *model.Port) {
	store.Delete(tx, model.PortTable, string(p.ID))
	store.Delete(tx, model.PortStatusTable, string(p.ID))
	store.Delete(tx, model.InstanceTable, string(p.ID))
}
