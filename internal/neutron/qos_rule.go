package neutron

import (
	"context"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// QoSRules returns a policy's rules of one type, in the order in which they were made.
func (s *Service) QoSRules(ctx context.Context, c *identity.Caller, policyID, typ string) ([]*model.QoSRule, error) {
	var out []*model.QoSRule
	err := s.st.View(ctx, func(r store.Read) error {
		p, err := getQoSPolicy(r, c, model.ID(policyID))
		if err != nil {
			return err
		}
		for i := range p.Rules {
			if p.Rules[i].Type == typ {
				out = append(out, &p.Rules[i])
			}
		}
		return nil
	})
	return out, err
}

// QoSRule returns one rule of a policy; of whichever policy has it if policyID is empty.
func (s *Service) QoSRule(ctx context.Context, c *identity.Caller, policyID, typ, id string) (*model.QoSRule, error) {
	var out *model.QoSRule
	err := s.st.View(ctx, func(r store.Read) error {
		p, err := qosPolicyOf(r, c, policyID, typ, id)
		if err != nil {
			return err
		}
		i, err := qosRuleIn(p, typ, id)
		if err == nil {
			out = &p.Rules[i]
		}
		return err
	})
	return out, err
}

// qosPolicyOf finds the policy of a rule that is named with or without it.
func qosPolicyOf(r store.Read, c *identity.Caller, policyID, typ, id string) (*model.QoSPolicy, error) {
	if policyID != "" {
		return getQoSPolicy(r, c, model.ID(policyID))
	}
	for p := range store.Find(r, model.QoSPolicyTable, "rule", id) {
		if _, err := qosRuleIn(p, typ, id); err == nil && qosVisible(r, c, p) {
			return p, nil
		}
	}
	return nil, NotFound("QosRuleNotFound", "QoS rule %s for policy None could not be found.", resource.Show(id))
}

func qosRuleIn(p *model.QoSPolicy, typ, id string) (int, error) {
	i := slices.IndexFunc(p.Rules, func(r model.QoSRule) bool { return string(r.ID) == id && r.Type == typ })
	if i < 0 {
		return 0, NotFound("QosRuleNotFound", "QoS rule %s for policy %s could not be found.", resource.Show(id), p.ID)
	}
	return i, nil
}

// checkQoSRule lets a policy have one rule of a type and direction.
func checkQoSRule(p *model.QoSPolicy, rule *model.QoSRule) error {
	for i := range p.Rules {
		if o := &p.Rules[i]; o.ID != rule.ID && o.Type == rule.Type && o.Direction == rule.Direction {
			return Conflict("QoSRulesConflict", "Rule %s conflicts with rule %s which already exists in QoS Policy %s.", rule.Type, o.ID, p.ID)
		}
	}
	return nil
}

// CreateQoSRule adds a rule of a type to a policy.
func (s *Service) CreateQoSRule(
	ctx context.Context, c *identity.Caller, policyID, typ string, in *resource.Input[model.QoSRule],
) (*model.QoSRule, error) {
	o := s.newOp(c)
	var made model.QoSRule
	_, err := o.changeQoSPolicy(ctx, policyID, "create_policy_"+typ+"_rule", nil, func(_ store.Tx, p *model.QoSPolicy) error {
		made = in.Value
		made.ID, made.Type = o.id(), typ
		if err := checkQoSRule(p, &made); err != nil {
			return err
		}
		p.Rules = append(slices.Clone(p.Rules), made)
		return nil
	})
	return &made, err
}

// UpdateQoSRule changes a rule of a policy, or, if policyID is empty, of whichever has it.
func (s *Service) UpdateQoSRule(
	ctx context.Context, c *identity.Caller, policyID, typ, id string, in *resource.Input[model.QoSRule],
) (*model.QoSRule, error) {
	var out model.QoSRule
	err := s.changeQoSRule(ctx, c, policyID, "update_policy_"+typ+"_rule", typ, id, func(p *model.QoSPolicy, i int) error {
		out = p.Rules[i]
		set(in.Has("max_kbps"), &out.MaxKbps, in.Value.MaxKbps)
		set(in.Has("max_burst_kbps"), &out.MaxBurstKbps, in.Value.MaxBurstKbps)
		set(in.Has("direction"), &out.Direction, in.Value.Direction)
		set(in.Has("dscp_mark"), &out.DSCPMark, in.Value.DSCPMark)
		p.Rules = slices.Clone(p.Rules)
		p.Rules[i] = out
		return checkQoSRule(p, &out)
	})
	return &out, err
}

// DeleteQoSRule takes a rule out of a policy, or, if policyID is empty, of whichever has it.
func (s *Service) DeleteQoSRule(ctx context.Context, c *identity.Caller, policyID, typ, id string) error {
	return s.changeQoSRule(ctx, c, policyID, "delete_policy_"+typ+"_rule", typ, id, func(p *model.QoSPolicy, i int) error {
		p.Rules = slices.Delete(slices.Clone(p.Rules), i, i+1)
		if len(p.Rules) == 0 {
			p.Rules = nil
		}
		return nil
	})
}

func (s *Service) changeQoSRule(
	ctx context.Context, c *identity.Caller, policyID, action, typ, id string, change func(p *model.QoSPolicy, i int) error,
) error {
	if policyID == "" {
		err := s.st.View(ctx, func(r store.Read) error {
			p, err := qosPolicyOf(r, c, "", typ, id)
			if err == nil {
				policyID = string(p.ID) // a rule stays with its policy
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := s.newOp(c).changeQoSPolicy(ctx, policyID, action, nil, func(_ store.Tx, p *model.QoSPolicy) error {
		i, err := qosRuleIn(p, typ, id)
		if err != nil {
			return err
		}
		return change(p, i)
	})
	return err
}
