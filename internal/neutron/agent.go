package neutron

import (
	"cmp"
	"context"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/names"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Agents are the rules of agents: rows that nodes bring and administrators may turn off, describe or forget.
func (s *Service) Agents() *Kind[model.Agent] {
	return &Kind[model.Agent]{
		Def:     model.Agents,
		Update:  s.updateAgent,
		Delete:  s.deleteAgent,
		Visible: func(_ store.Read, c *identity.Caller, _ *model.Agent) bool { return c.IsAdmin() },
		Present: s.presentAgent,
	}
}

func (s *Service) presentAgent(r store.Read, _ *identity.Caller, a *model.Agent) *model.Agent {
	shown := *a
	if h, ok := store.Get(r, model.HeartbeatTable, a.Host); ok {
		shown.HeartbeatAt = h.At
		shown.Alive = h.Alive && s.cfg.Now().Sub(h.At) < s.cfg.AgentDownTime
	}
	node, ok := store.Get(r, model.NodeTable, a.Host)
	if !ok {
		return &shown
	}
	shown.StartedAt = node.StartedAt
	switch a.Binary {
	case ovsBinary:
		shown.Configurations = ovsConfiguration(r, node)
	case dhcpBinary:
		shown.Configurations = dhcpConfiguration(r, node)
	default:
		shown.Configurations = map[string]any{"log_agent_heartbeats": false}
	}
	return &shown
}

// ovsConfiguration is what Neutron's Open vSwitch agent reports, as far as it means something here.
func ovsConfiguration(r store.Read, node *model.Node) map[string]any {
	tunnelIP := ""
	if node.TunnelIP.IsValid() {
		tunnelIP = node.TunnelIP.String()
	}
	mappings := map[string]any{}
	for physnet, bridge := range node.BridgeMappings {
		mappings[physnet] = bridge
	}
	types := make([]any, len(node.TunnelTypes))
	for i, t := range node.TunnelTypes {
		types[i] = t
	}
	return map[string]any{
		"arp_responder_enabled":      true,
		"bridge_mappings":            mappings,
		"datapath_type":              node.DatapathType,
		"devices":                    store.Count(r, model.PortTable, "host", node.Host),
		"enable_distributed_routing": false,
		"extensions":                 []any{},
		"in_distributed_mode":        false,
		"integration_bridge":         names.BrInt,
		"l2_population":              true,
		"log_agent_heartbeats":       false,
		"ovs_hybrid_plug":            node.HybridPlug,
		"tunnel_types":               types,
		"tunneling_ip":               tunnelIP,
		"version":                    node.Version,
	}
}

func dhcpConfiguration(r store.Read, node *model.Node) map[string]any {
	networks, subnets, ports := 0, 0, 0
	for b := range store.Find(r, model.DHCPBindingTable, "host", node.Host) {
		networks++
		subnets += store.Count(r, model.SubnetTable, "network", string(b.NetworkID))
		ports += store.Count(r, model.PortTable, "network", string(b.NetworkID))
	}
	return map[string]any{
		"dhcp_driver":          "baryon",
		"dhcp_lease_duration":  86400,
		"log_agent_heartbeats": false,
		"networks":             networks,
		"notifies_port_ready":  true,
		"ports":                ports,
		"subnets":              subnets,
	}
}

// getAgent reads an agent for an administrator; for others there are none.
func getAgent(r store.Read, c *identity.Caller, id string) (*model.Agent, error) {
	a, ok := store.Get(r, model.AgentTable, id)
	if !ok || !c.IsAdmin() {
		return nil, NotFound("AgentNotFound", "Agent %s could not be found.", id)
	}
	return a, nil
}

func (s *Service) updateAgent(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.Agent], _ *int64,
) (*model.Agent, error) {
	var out *model.Agent
	err := s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		old, err := getAgent(tx, c, id)
		if err != nil {
			return err
		}
		next := *old
		set(in.Has("admin_state_up"), &next.AdminStateUp, in.Value.AdminStateUp)
		set(in.Has("description"), &next.Description, in.Value.Description)
		store.Put(tx, model.AgentTable, &next)
		out = &next
		return nil
	})
	return one(s, c, out, s.presentAgent, err)
}

// deleteAgent forgets an agent.  Its node brings it back when it registers again; with the last of its agents the node goes too.
func (s *Service) deleteAgent(ctx context.Context, c *identity.Caller, id string, _ *int64) error {
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		a, err := getAgent(tx, c, id)
		if err != nil {
			return err
		}
		store.Delete(tx, model.AgentTable, id)
		for range store.Find(tx, model.AgentTable, "host", a.Host) {
			return nil
		}
		store.Delete(tx, model.NodeTable, a.Host)
		store.Delete(tx, model.HeartbeatTable, a.Host)
		return nil
	})
}

// DHCPNetworks returns the networks that a DHCP agent serves.
func (s *Service) DHCPNetworks(ctx context.Context, c *identity.Caller, id string) ([]*model.Network, error) {
	if err := newCheck("get_dhcp-networks", c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	out := []*model.Network{}
	err := s.st.View(ctx, func(r store.Read) error {
		a, err := getAgent(r, c, id)
		if err != nil || a.Binary != dhcpBinary {
			return err
		}
		for b := range store.Find(r, model.DHCPBindingTable, "host", a.Host) {
			if n, ok := store.Get(r, model.NetworkTable, string(b.NetworkID)); ok {
				out = append(out, presentNetwork(r, c, n))
			}
		}
		return nil
	})
	slices.SortFunc(out, func(x, y *model.Network) int { return cmp.Compare(x.ID, y.ID) })
	return out, err
}

// DHCPAgents returns the DHCP agents that serve a network.
func (s *Service) DHCPAgents(ctx context.Context, c *identity.Caller, networkID string) ([]*model.Agent, error) {
	out := []*model.Agent{}
	err := s.st.View(ctx, func(r store.Read) error {
		if _, err := getNetwork(r, c, model.ID(networkID)); err != nil {
			return err
		}
		if err := newCheck("get_dhcp-agents", c.IsAdmin()).err(); err != nil {
			return err
		}
		for b := range store.Find(r, model.DHCPBindingTable, "network", networkID) {
			if a, ok := store.Get(r, model.AgentTable, string(agentID(b.Host, dhcpBinary))); ok {
				out = append(out, s.presentAgent(r, c, a))
			}
		}
		return nil
	})
	slices.SortFunc(out, func(x, y *model.Agent) int { return cmp.Compare(x.ID, y.ID) })
	return out, err
}

// AddDHCPNetwork makes an agent serve a network, beside those that do.
func (s *Service) AddDHCPNetwork(ctx context.Context, c *identity.Caller, id, networkID string) error {
	return s.scheduleDHCP(ctx, c, id, networkID, "create_dhcp-network", func(tx store.Tx, d *dhcpPlan, a *model.Agent, has bool) error {
		if has {
			return Conflict("NetworkHostedByDHCPAgent", "The network %s has been already hosted by the DHCP Agent %s.", networkID, id)
		}
		if _, ok := hostSegment(tx, d.network, a.Host); !ok {
			return Conflict("InvalidDHCPAgent", "Agent %s is not a valid DHCP Agent or has been disabled: its node does not carry network %s.",
				id, networkID)
		}
		store.Put(tx, model.DHCPBindingTable, &model.DHCPBinding{NetworkID: d.network.ID, Host: a.Host, Manual: true})
		return d.o.ensureDHCP(tx, d.network, false)
	})
}

// RemoveDHCPNetwork takes a network from an agent.  Its port is kept for the next one, which an administrator or the next change of the
// network's subnets chooses.
func (s *Service) RemoveDHCPNetwork(ctx context.Context, c *identity.Caller, id, networkID string) error {
	return s.scheduleDHCP(ctx, c, id, networkID, "delete_dhcp-network", func(_ store.Tx, d *dhcpPlan, a *model.Agent, has bool) error {
		if !has {
			return Conflict("NetworkNotHostedByDhcpAgent", "The network %s is not hosted by the DHCP agent %s.", networkID, id)
		}
		d.vacate(&model.DHCPBinding{NetworkID: d.network.ID, Host: a.Host})
		return nil
	})
}

func (s *Service) scheduleDHCP(
	ctx context.Context, c *identity.Caller, id, networkID, action string,
	change func(tx store.Tx, d *dhcpPlan, a *model.Agent, has bool) error,
) error {
	if err := newCheck(action, c.IsAdmin()).err(); err != nil {
		return err
	}
	o := s.newOp(c)
	return o.run(ctx, []string{addressGate(model.ID(networkID))}, func(tx store.Tx) error {
		a, err := getAgent(tx, c, id)
		if err != nil {
			return err
		}
		if a.Binary != dhcpBinary {
			return NotFound("InvalidDHCPAgent", "Agent %s is not a valid DHCP Agent or has been disabled.", id)
		}
		n, err := getNetwork(tx, c, model.ID(networkID))
		if err != nil {
			return err
		}
		b := model.DHCPBinding{NetworkID: n.ID, Host: a.Host}
		_, has := store.Get(tx, model.DHCPBindingTable, model.DHCPBindingTable.Key(&b))
		return change(tx, &dhcpPlan{o: o, tx: tx, network: n}, a, has)
	})
}
