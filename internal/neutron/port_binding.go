package neutron

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// maxInactive bounds the bindings that a port has beside its active one.
const maxInactive = 16

// ListBindings returns a port's bindings, the active one first.
func (s *Service) ListBindings(ctx context.Context, c *identity.Caller, portID string) ([]*model.PortBinding, error) {
	var out []*model.PortBinding
	err := s.st.View(ctx, func(r store.Read) error {
		p, err := portForBinding(r, c, portID, "get_port_binding")
		if err == nil {
			out = bindingsOf(p)
		}
		return err
	})
	return out, err
}

// ShowBinding returns one of a port's bindings.
func (s *Service) ShowBinding(ctx context.Context, c *identity.Caller, portID, host string) (*model.PortBinding, error) {
	list, err := s.ListBindings(ctx, c, portID)
	if err != nil {
		return nil, err
	}
	for _, b := range list {
		if b.Host == host {
			return b, nil
		}
	}
	return nil, bindingNotFound(portID, host)
}

func bindingNotFound(portID, host string) error {
	return NotFound("PortBindingNotFound", "Binding for port %s for host %s could not be found.", portID, host)
}

// portForBinding reads a port whose bindings the caller, an administrator or another service, may work on.
func portForBinding(r store.Read, c *identity.Caller, portID, action string) (*model.Port, error) {
	p, err := getPort(r, c, model.ID(portID))
	if err != nil {
		return nil, err
	}
	return p, newCheck(action, c.IsAdmin() || c.IsService()).err()
}

func bindingsOf(p *model.Port) []*model.PortBinding {
	out := []*model.PortBinding{}
	if p.Binding.Host != "" {
		out = append(out, &model.PortBinding{Binding: p.Binding, Status: model.BindingActive})
	}
	for _, b := range p.Inactive {
		out = append(out, &model.PortBinding{Binding: b, Status: model.BindingInactive})
	}
	return out
}

// changeBindings runs a change of a guest port's bindings and returns the binding of a host afterwards, nil if it has none.
func (s *Service) changeBindings(
	ctx context.Context, c *identity.Caller, portID, host, action string,
	change func(tx store.Tx, n *model.Network, p *model.Port) error,
) (*model.PortBinding, error) {
	o := s.newOp(c)
	var out *model.PortBinding
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := portForBinding(tx, c, portID, action)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(old.DeviceOwner, "compute:") {
			return BadRequest("BadRequest", "Bad port request: Invalid port %s. Operation only valid on compute ports.", portID)
		}
		n, ok := store.Get(tx, model.NetworkTable, string(old.NetworkID))
		if !ok {
			return NotFound("NetworkNotFound", "Network %s could not be found.", old.NetworkID)
		}
		p := *old
		p.Inactive = slices.Clone(old.Inactive)
		if err := change(tx, n, &p); err != nil {
			return err
		}
		if len(p.Inactive) == 0 {
			p.Inactive = nil
		}
		slices.SortFunc(p.Inactive, func(a, b model.Binding) int { return cmp.Compare(a.Host, b.Host) })
		if !reflect.DeepEqual(&p, old) {
			o.touch(&p.Standard)
			store.Put(tx, model.PortTable, &p)
			o.followParent(tx, &p)
		}
		out = nil
		for _, b := range bindingsOf(&p) {
			if b.Host == host {
				out = b
			}
		}
		return nil
	})
	return out, err
}

// CreateBinding binds a port to a further host: inactive if it has an active binding already.
func (s *Service) CreateBinding(
	ctx context.Context, c *identity.Caller, portID string, in *resource.Input[model.PortBinding],
) (*model.PortBinding, error) {
	host := in.Value.Host
	if host == "" {
		return nil, BadRequest("HTTPBadRequest", "Failed to parse request. Required attribute 'host' not specified")
	}
	return s.changeBindings(ctx, c, portID, host, "create_port_binding", func(tx store.Tx, n *model.Network, p *model.Port) error {
		if _, ok := inactive(p, host); ok || p.Binding.Host == host {
			return Conflict("PortBindingAlreadyExists", "Binding for port %s on host %s already exists.", portID, host)
		}
		if len(p.Inactive) >= maxInactive {
			return BadRequest("BadRequest", "Bad port request: port %s has more than %d bindings.", portID, maxInactive)
		}
		b := model.Binding{Host: host, VNICType: cmp.Or(in.Value.VNICType, model.VNICNormal), Profile: profile(in.Value.Profile)}
		if err := bindOrFail(tx, n, p.ID, &b); err != nil {
			return err
		}
		if p.Binding.Host == "" {
			p.Binding = b
		} else {
			p.Inactive = append(p.Inactive, b)
		}
		return nil
	})
}

// bindOrFail binds, and fails where a port's own binding would say binding_failed.
func bindOrFail(tx store.Tx, n *model.Network, port model.ID, b *model.Binding) error {
	bind(tx, n, b)
	if trunkBridge(tx, port, b); b.VIFType != model.VIFOVS {
		return Internal("PortBindingError", "Binding for port %s on host %s could not be created or updated.", port, b.Host)
	}
	return nil
}

// inactive finds a port's inactive binding on a host.
func inactive(p *model.Port, host string) (int, bool) {
	i := slices.IndexFunc(p.Inactive, func(b model.Binding) bool { return b.Host == host })
	return i, i >= 0
}

// UpdateBinding changes vnic_type or profile of a binding and binds anew.
func (s *Service) UpdateBinding(
	ctx context.Context, c *identity.Caller, portID, host string, in *resource.Input[model.PortBinding],
) (*model.PortBinding, error) {
	return s.changeBindings(ctx, c, portID, host, "update_port_binding", func(tx store.Tx, n *model.Network, p *model.Port) error {
		b := &p.Binding
		if i, ok := inactive(p, host); ok {
			b = &p.Inactive[i]
		} else if host == "" || p.Binding.Host != host {
			return bindingNotFound(portID, host)
		}
		set(in.Has("vnic_type"), &b.VNICType, in.Value.VNICType)
		set(in.Has("profile"), &b.Profile, profile(in.Value.Profile))
		return bindOrFail(tx, n, p.ID, b)
	})
}

// ActivateBinding makes the host's binding the active one; the former active one stays, inactive.  The port is DOWN until the host says it
// is wired.
func (s *Service) ActivateBinding(ctx context.Context, c *identity.Caller, portID, host string) (*model.PortBinding, error) {
	return s.changeBindings(ctx, c, portID, host, "activate", func(tx store.Tx, n *model.Network, p *model.Port) error {
		if host != "" && p.Binding.Host == host {
			return Conflict("PortBindingAlreadyActive", "Binding for port %s on host %s is already active.", portID, host)
		}
		i, ok := inactive(p, host)
		if !ok {
			return bindingNotFound(portID, host)
		}
		was, b := p.Binding, p.Inactive[i]
		p.Inactive = slices.Delete(p.Inactive, i, i+1)
		if err := bindOrFail(tx, n, p.ID, &b); err != nil {
			return err
		}
		if was.Host != "" {
			was.VIFType, was.VIFDetails = model.VIFUnbound, nil
			p.Inactive = append(p.Inactive, was)
		}
		p.Binding = b
		forgetPlug(tx, p, host)
		return nil
	})
}

// DeleteBinding ends the binding on a host.
func (s *Service) DeleteBinding(ctx context.Context, c *identity.Caller, portID, host string) error {
	_, err := s.changeBindings(ctx, c, portID, host, "delete_port_binding", func(tx store.Tx, _ *model.Network, p *model.Port) error {
		if i, ok := inactive(p, host); ok {
			p.Inactive = slices.Delete(p.Inactive, i, i+1)
			return nil
		}
		if host == "" || p.Binding.Host != host {
			return bindingNotFound(portID, host)
		}
		p.Binding = model.Binding{VNICType: p.Binding.VNICType, Profile: p.Binding.Profile, VIFType: model.VIFUnbound}
		forgetPlug(tx, p, "")
		return nil
	})
	return err
}
