package neutron

import (
	"context"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// DefaultRules are the rules of the template that new groups start from.  Everyone may read it, administrators may change it; groups that
// exist do not change with it.
func (s *Service) DefaultRules() *Kind[model.DefaultRule] {
	return &Kind[model.DefaultRule]{
		Def:     model.DefaultRules,
		Prepare: s.prepareTemplate,
		Create:  s.createDefaultRules,
		Delete:  s.deleteDefaultRule,
		Visible: func(store.Read, *identity.Caller, *model.DefaultRule) bool { return true },
		Present: func(_ store.Read, _ *identity.Caller, r *model.DefaultRule) *model.DefaultRule { return r },
	}
}

// firstTemplate is the template that a cloud starts with: everything may leave, the members of a default group may reach each other.
func firstTemplate() []*model.DefaultRule {
	var rules []*model.DefaultRule
	for _, ether := range []string{model.EtherIPv4, model.EtherIPv6} {
		rules = append(rules,
			&model.DefaultRule{Direction: model.DirectionEgress, EtherType: ether, PortMin: -1, PortMax: -1, InDefault: true, InOthers: true},
			&model.DefaultRule{Direction: model.DirectionIngress, EtherType: ether, PortMin: -1, PortMax: -1, RemoteGroupID: model.ParentGroup,
				InDefault: true})
	}
	return rules
}

// seededRule is one rule of the template on its way into a group.
type seededRule struct{ *model.DefaultRule }

// template lists the rules that new groups get.
func template(r store.Read) []seededRule {
	list := firstTemplate()
	if seeded(r) {
		list = slices.Collect(store.All(r, model.DefaultRuleTable))
	}
	out := make([]seededRule, len(list))
	for i, t := range list {
		out[i] = seededRule{t}
	}
	return out
}

// templateSize is how many rules a group gets that is no default group.
func templateSize(r store.Read) int {
	n := 0
	for _, t := range template(r) {
		if t.InOthers {
			n++
		}
	}
	return n
}

func seeded(r store.Read) bool {
	_, ok := store.Get(r, model.SeedTable, model.SeedDefaultRules)
	return ok
}

// rule makes the rule for a group; false if the group gets none, or what the rule refers to is gone.
func (t seededRule) rule(tx store.Tx, g *model.SecurityGroup) (*model.SecurityGroupRule, bool) {
	if g.Default && !t.InDefault || !g.Default && !t.InOthers {
		return nil, false
	}
	rule := t.asRule()
	rule.SecurityGroupID = g.ID
	if t.RemoteGroupID == model.ParentGroup {
		rule.RemoteGroupID = g.ID
	} else if rule.RemoteGroupID != "" {
		if _, ok := store.Get(tx, model.SecurityGroupTable, string(rule.RemoteGroupID)); !ok {
			return nil, false
		}
	}
	if rule.RemoteAddressGroupID != "" {
		if _, ok := store.Get(tx, model.AddressGroupTable, string(rule.RemoteAddressGroupID)); !ok {
			return nil, false
		}
	}
	return rule, completeRule(rule) == nil
}

// asRule is the rule as one of a group without id.
func (t seededRule) asRule() *model.SecurityGroupRule {
	rule := &model.SecurityGroupRule{
		Direction: t.Direction, EtherType: t.EtherType, Protocol: t.Protocol, PortMin: t.PortMin, PortMax: t.PortMax,
		RemotePrefix: t.RemotePrefix, RemoteGroupID: model.ID(t.RemoteGroupID), RemoteAddressGroupID: t.RemoteAddressGroupID,
	}
	rule.Description = t.Description
	return rule
}

// prepareTemplate writes the first template down before it is listed or changed.
func (s *Service) prepareTemplate(ctx context.Context, c *identity.Caller, _ []string) error {
	if seeded(s.st.Snapshot()) {
		return nil
	}
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		o.seedTemplate(tx)
		return nil
	})
}

func (o *op) seedTemplate(tx store.Tx) {
	if seeded(tx) {
		return
	}
	store.Put(tx, model.SeedTable, &model.Seed{Name: model.SeedDefaultRules})
	for _, t := range firstTemplate() {
		o.fresh(&t.Standard, "")
		t.Description = "Legacy default SG rule"
		store.Put(tx, model.DefaultRuleTable, t)
	}
}

func (s *Service) createDefaultRules(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.DefaultRule],
) ([]*model.DefaultRule, error) {
	if err := newCheck("create_default_security_group_rule", c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	o := s.newOp(c)
	var made []*model.DefaultRule
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		o.seedTemplate(tx)
		for _, input := range in {
			t := input.Value
			if err := checkDefaultRule(tx, c, &t); err != nil {
				return err
			}
			content := templateContent(&t)
			for _, other := range made {
				if templateContent(other) == content {
					return Conflict("DuplicateDefaultSgRuleInPost", "Duplicate Default Security Group Rule in POST.")
				}
			}
			for other := range store.All(tx, model.DefaultRuleTable) {
				if templateContent(other) == content {
					return Conflict("DefaultSecurityGroupRuleExists", "Default Security group rule already exists. Rule id is %s.", other.ID)
				}
			}
			made = append(made, &t)
		}
		if store.Count(tx, model.DefaultRuleTable, "", "")+len(made) > maxTemplate {
			return InvalidInput("The number of default security group rules exceeds the limit %d", maxTemplate)
		}
		for _, t := range made {
			o.fresh(&t.Standard, "")
			store.Put(tx, model.DefaultRuleTable, t)
		}
		return nil
	})
	return made, err
}

// maxTemplate bounds what the creation of one group writes.
const maxTemplate = 500

func checkDefaultRule(tx store.Tx, c *identity.Caller, t *model.DefaultRule) error {
	rule := seededRule{t}.asRule()
	if err := completeRule(rule); err != nil {
		return err
	}
	if t.RemoteGroupID != "" && t.RemoteGroupID != model.ParentGroup {
		if _, err := getGroup(tx, c, rule.RemoteGroupID); err != nil {
			return err
		}
	}
	if t.RemoteAddressGroupID != "" {
		if _, err := getAddressGroup(tx, c, t.RemoteAddressGroupID); err != nil {
			return err
		}
	}
	return nil
}

// templateContent is what makes two rules of the template the same.
func templateContent(t *model.DefaultRule) string {
	rule := seededRule{t}.asRule()
	if completeRule(rule) != nil {
		return string(t.ID)
	}
	text := rule.Content()
	for _, flag := range []bool{t.InDefault, t.InOthers} {
		if flag {
			text += "|yes"
		} else {
			text += "|no"
		}
	}
	return text
}

func (s *Service) deleteDefaultRule(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		t, ok := store.Get(tx, model.DefaultRuleTable, id)
		if !ok {
			return NotFound("DefaultSecurityGroupRuleNotFound", "Default Security Group rule %s does not exist", resource.Show(id))
		}
		if err := newCheck("delete_default_security_group_rule", c.IsAdmin()).err(); err != nil {
			return err
		}
		if err := matchRevision(&t.Standard, ifMatch); err != nil {
			return err
		}
		store.Delete(tx, model.DefaultRuleTable, id)
		return nil
	})
}
