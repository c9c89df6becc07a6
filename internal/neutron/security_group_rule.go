package neutron

import (
	"context"
	"net/netip"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// SecurityGroupRules are the rules of security group rules, which are made and deleted but never changed.
func (s *Service) SecurityGroupRules() *Kind[model.SecurityGroupRule] {
	return &Kind[model.SecurityGroupRule]{
		Def:     model.SecurityGroupRules,
		Prepare: s.prepareGroups,
		Create:  s.createRules,
		Delete:  s.deleteRule,
		Visible: ruleVisible,
		Present: presentRule,
	}
}

// ruleVisible: rules show to their project and to that of their group.
func ruleVisible(r store.Read, c *identity.Caller, rule *model.SecurityGroupRule) bool {
	if c.CanRead(rule.ProjectID) {
		return true
	}
	g, ok := store.Get(r, model.SecurityGroupTable, string(rule.SecurityGroupID))
	return ok && groupVisible(r, c, g)
}

func presentRule(r store.Read, _ *identity.Caller, rule *model.SecurityGroupRule) *model.SecurityGroupRule {
	shown := *rule
	if g, ok := store.Get(r, model.SecurityGroupTable, string(rule.SecurityGroupID)); ok {
		shown.BelongsToDefault = g.Default
	}
	return &shown
}

func getRule(r store.Read, c *identity.Caller, id model.ID) (*model.SecurityGroupRule, error) {
	rule, ok := store.Get(r, model.SecurityGroupRuleTable, string(id))
	if !ok || !ruleVisible(r, c, rule) {
		return nil, NotFound("SecurityGroupRuleNotFound", "Security group rule %s does not exist", id)
	}
	return rule, nil
}

func (s *Service) createRules(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.SecurityGroupRule],
) ([]*model.SecurityGroupRule, error) {
	o := s.newOp(c)
	rules := make([]model.SecurityGroupRule, len(in))
	projects := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		rules[i], projects[i] = input.Value, project
	}
	o.claimAll(quotaSecurityGroupRule, projects)
	var made []*model.SecurityGroupRule
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		content := map[string]bool{}
		for i := range rules {
			rule := rules[i]
			if err := checkNewRule(tx, c, projects[i], &rule); err != nil {
				return err
			}
			if content[rule.Content()] {
				return Conflict("DuplicateSecurityGroupRuleInPost", "Duplicate Security Group Rule in POST.")
			}
			content[rule.Content()] = true
			made = append(made, &rule)
		}
		for _, rule := range made {
			for same := range store.Find(o.snap, model.SecurityGroupRuleTable, "content", rule.Content()) {
				return Conflict("SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", same.ID)
			}
		}
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, rule := range made {
			o.fresh(&rule.Standard, projects[i])
			store.Put(tx, model.SecurityGroupRuleTable, rule)
			o.bumpGroup(tx, rule.SecurityGroupID)
		}
		return nil
	})
	return presented(s, c, made, presentRule, err)
}

// checkNewRule checks rights and request, and completes the rule.
func checkNewRule(tx store.Tx, c *identity.Caller, project string, rule *model.SecurityGroupRule) error {
	g, err := getGroup(tx, c, rule.SecurityGroupID)
	if err != nil {
		return err
	}
	if err := newCheck("create_security_group_rule", c.CanWrite(project) && c.CanWrite(g.ProjectID)).err(); err != nil {
		return err
	}
	if err := completeRule(rule); err != nil {
		return err
	}
	if rule.RemoteGroupID != "" {
		if _, err := getGroup(tx, c, rule.RemoteGroupID); err != nil {
			return err
		}
	}
	if rule.RemoteAddressGroupID != "" {
		if _, err := getAddressGroup(tx, c, rule.RemoteAddressGroupID); err != nil {
			return err
		}
	}
	return nil
}

// completeRule checks what a rule says by itself and fills in its normalised prefix.
func completeRule(r *model.SecurityGroupRule) error {
	if r.EtherType == model.EtherIPv4 && model.OnlyIPv6(r.Protocol) {
		return invalid("SecurityGroupEthertypeConflictWithProtocol", "Invalid ethertype %s for protocol %s.", r.EtherType, r.Protocol)
	}
	if err := checkRulePorts(r); err != nil {
		return err
	}
	remotes := 0
	for _, given := range []bool{r.RemotePrefix != "", r.RemoteGroupID != "", r.RemoteAddressGroupID != ""} {
		if given {
			remotes++
		}
	}
	if remotes > 1 {
		return invalid("SecurityGroupMultipleRemoteEntites", "Only one of remote_ip_prefix or remote_group_id or "+
			"remote_address_group_id may be provided.")
	}
	r.NormalizedPrefix = netip.Prefix{}
	if r.RemotePrefix == "" {
		return nil
	}
	p, err := netip.ParsePrefix(r.RemotePrefix)
	if err != nil {
		return BadRequest("InvalidCIDR", "Invalid CIDR %s given as IP prefix.", resource.Show(r.RemotePrefix))
	}
	if p.Addr().Is4() != (r.EtherType == model.EtherIPv4) {
		return invalid("SecurityGroupRuleParameterConflict", "Conflicting value ethertype %s for CIDR %s", r.EtherType, r.RemotePrefix)
	}
	r.NormalizedPrefix = p.Masked()
	return nil
}

// Protocols with ports, and those whose ports are type and code.
var (
	portProtocols = []int{6, 17, 33, 132, 136} // tcp, udp, dccp, sctp, udplite
	icmpProtocols = []int{1, 58}
)

func checkRulePorts(r *model.SecurityGroupRule) error {
	if r.PortMin < 0 && r.PortMax < 0 {
		return nil
	}
	if r.Protocol == "" {
		return invalid("SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	}
	number := model.ProtocolNumber(r.Protocol, r.EtherType)
	switch {
	case slices.Contains(portProtocols, number):
		if r.PortMin == 0 || r.PortMax == 0 {
			return invalid("SecurityGroupInvalidPortValue", "Invalid value for port 0")
		}
		if r.PortMin < 0 || r.PortMax < r.PortMin {
			return invalid("SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
		}
	case slices.Contains(icmpProtocols, number):
		const most = 255
		for _, f := range []struct {
			name, attr string
			value      int
		}{{"type", "port_range_min", r.PortMin}, {"code", "port_range_max", r.PortMax}} {
			if f.value > most {
				return invalid("SecurityGroupInvalidIcmpValue", "Invalid value for ICMP %s (%s) %d. It must be 0 to %d.", f.name, f.attr, f.value, most)
			}
		}
		if r.PortMin < 0 {
			return invalid("SecurityGroupMissingIcmpType",
				"ICMP code (port-range-max) %d is provided but ICMP type (port-range-min) is missing.", r.PortMax)
		}
	default:
		return invalid("SecurityGroupInvalidProtocolForPort", "Invalid protocol %s for port range, only supported for "+
			"TCP, UDP, UDPLITE, SCTP and DCCP.", r.Protocol)
	}
	return nil
}

// invalid is a refusal of a kind of its own; its message stands for itself.
func invalid(typ, format string, a ...any) *Error { return BadRequest(typ, format, a...) }

func (s *Service) deleteRule(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		rule, err := getRule(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		g, ok := store.Get(tx, model.SecurityGroupTable, string(rule.SecurityGroupID))
		may := c.CanWrite(rule.ProjectID) || ok && c.CanWrite(g.ProjectID)
		if err := newCheck("delete_security_group_rule", may).err(); err != nil {
			return err
		}
		if err := matchRevision(&rule.Standard, ifMatch); err != nil {
			return err
		}
		store.Delete(tx, model.SecurityGroupRuleTable, id)
		o.bumpGroup(tx, rule.SecurityGroupID)
		return nil
	})
}

// removeRules deletes the rules that stand under an index's value, which is a group's id.
func (o *op) removeRules(tx store.Tx, index string, group model.ID) {
	for _, rule := range slices.Collect(store.Find(tx, model.SecurityGroupRuleTable, index, string(group))) {
		store.Delete(tx, model.SecurityGroupRuleTable, string(rule.ID))
		o.bumpGroup(tx, rule.SecurityGroupID)
	}
}

// bumpGroup raises the revision of a group whose rules change.
func (o *op) bumpGroup(tx store.Tx, id model.ID) {
	g, ok := store.Get(tx, model.SecurityGroupTable, string(id))
	if !ok {
		return
	}
	next := *g
	o.touch(&next.Standard)
	store.Put(tx, model.SecurityGroupTable, &next)
}
