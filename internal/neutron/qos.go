package neutron

import (
	"context"
	"iter"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// QoSPolicies are the rules of QoS policies.
func (s *Service) QoSPolicies() *Kind[model.QoSPolicy] {
	return &Kind[model.QoSPolicy]{
		Def:     model.QoSPolicies,
		Create:  s.createQoSPolicies,
		Update:  s.updateQoSPolicy,
		Delete:  s.deleteQoSPolicy,
		Visible: qosVisible,
		Present: presentQoSPolicy,
	}
}

func presentQoSPolicy(r store.Read, c *identity.Caller, p *model.QoSPolicy) *model.QoSPolicy {
	shown := *p
	shown.Shared = sharedWith(r, c, model.RBACQoSPolicy, p.ID)
	return &shown
}

// qosVisible: policies show to their project and to those that they are shared with.
func qosVisible(r store.Read, c *identity.Caller, p *model.QoSPolicy) bool {
	return c.CanRead(p.ProjectID) || sharedWith(r, c, model.RBACQoSPolicy, p.ID)
}

// qosUsers are the projects of the networks and ports that have a policy.
func qosUsers(r store.Read, id model.ID, _ string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n := range store.Find(r, model.NetworkTable, "qos_policy", string(id)) {
			if !yield(n.ProjectID) {
				return
			}
		}
		for p := range store.Find(r, model.PortTable, "qos_policy", string(id)) {
			if !yield(p.ProjectID) {
				return
			}
		}
	}
}

func getQoSPolicy(r store.Read, c *identity.Caller, id model.ID) (*model.QoSPolicy, error) {
	p, ok := store.Get(r, model.QoSPolicyTable, string(id))
	if !ok || !qosVisible(r, c, p) {
		return nil, NotFound("QosPolicyNotFound", "QoS policy %s could not be found.", id)
	}
	return p, nil
}

func (s *Service) createQoSPolicies(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.QoSPolicy],
) ([]*model.QoSPolicy, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		if err := newCheck("create_policy", c.IsAdmin()).err(); err != nil {
			return nil, err
		}
		projects[i] = project
	}
	var made []*model.QoSPolicy
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		for i, input := range in {
			p := input.Value
			o.fresh(&p.Standard, projects[i])
			if err := o.checkDefaultQoS(tx, &p); err != nil {
				return err
			}
			store.Put(tx, model.QoSPolicyTable, &p)
			o.share(tx, model.RBACQoSPolicy, p.ID, p.ProjectID, model.AccessShared, p.Shared)
			made = append(made, &p)
		}
		return nil
	})
	return presented(s, c, made, presentQoSPolicy, err)
}

// checkDefaultQoS lets a project have one default policy.
func (o *op) checkDefaultQoS(tx store.Tx, p *model.QoSPolicy) error {
	if !p.IsDefault {
		return nil
	}
	taken := Conflict("QoSPolicyDefaultAlreadyExists", "A default QoS policy exists for project %s.", p.ProjectID)
	o.ask(model.QoSPolicyTable.Name, "project_default", p.ProjectID, taken)
	for other := range store.Find(tx, model.QoSPolicyTable, "project_default", p.ProjectID) {
		if other.ID != p.ID {
			return taken
		}
	}
	return nil
}

func (s *Service) updateQoSPolicy(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.QoSPolicy], ifMatch *int64,
) (*model.QoSPolicy, error) {
	o := s.newOp(c)
	out, err := o.changeQoSPolicy(ctx, id, "update_policy", ifMatch, func(tx store.Tx, p *model.QoSPolicy) error {
		model.QoSPolicies.Apply(p, in)
		if in.Has("shared") {
			if err := o.shareQoS(tx, p); err != nil {
				return err
			}
		}
		return o.checkDefaultQoS(tx, p)
	})
	return one(s, c, out, presentQoSPolicy, err)
}

// shareQoS follows the attribute shared of an update.
func (o *op) shareQoS(tx store.Tx, p *model.QoSPolicy) error {
	if by := wildcard(tx, model.RBACQoSPolicy, p.ID, model.AccessShared); by != nil && !p.Shared {
		k, err := kindOf(model.RBACQoSPolicy)
		if err != nil {
			return err
		}
		if err := checkRevocable(tx, k, by, nil); err != nil {
			return err
		}
	}
	o.share(tx, model.RBACQoSPolicy, p.ID, p.ProjectID, model.AccessShared, p.Shared)
	return nil
}

// changeQoSPolicy applies a change to a copy of the policy, whose rules the change may replace but not write to.
func (o *op) changeQoSPolicy(
	ctx context.Context, id, action string, ifMatch *int64, change func(tx store.Tx, p *model.QoSPolicy) error,
) (*model.QoSPolicy, error) {
	var out *model.QoSPolicy
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := getQoSPolicy(tx, o.caller, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck(action, o.caller.IsAdmin()).err(); err != nil {
			return err
		}
		if err := matchRevision(&old.Standard, ifMatch); err != nil {
			return err
		}
		p := *old
		if err := change(tx, &p); err != nil {
			return err
		}
		o.touch(&p.Standard)
		store.Put(tx, model.QoSPolicyTable, &p)
		out = &p
		return nil
	})
	return out, err
}

func (s *Service) deleteQoSPolicy(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		p, err := getQoSPolicy(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("delete_policy", c.IsAdmin()).err(); err != nil {
			return err
		}
		if err := matchRevision(&p.Standard, ifMatch); err != nil {
			return err
		}
		if kind, user, used := qosUser(tx, p.ID); used {
			return Conflict("QosPolicyInUse", "QoS Policy %s is used by %s %s.", id, kind, user)
		}
		forgetPolicies(tx, model.RBACQoSPolicy, p.ID)
		store.Delete(tx, model.QoSPolicyTable, id)
		return nil
	})
}

// qosUser names one network or port that has a policy.
func qosUser(r store.Read, id model.ID) (kind string, user model.ID, used bool) {
	for n := range store.Find(r, model.NetworkTable, "qos_policy", string(id)) {
		return "network", n.ID, true
	}
	for p := range store.Find(r, model.PortTable, "qos_policy", string(id)) {
		return "port", p.ID, true
	}
	return "", "", false
}

// takeQoS checks that the caller may give an object the policy that the client asks for, in place of the one that it has.
func (o *op) takeQoS(tx store.Tx, was, is model.ID) error {
	if was == is {
		return nil
	}
	if was != "" {
		if old, ok := store.Get(tx, model.QoSPolicyTable, string(was)); ok && !qosVisible(tx, o.caller, old) {
			return Forbidden("PolicyRemoveAuthorizationError", "Failed to remove provided policy %s because you are not authorized.", was)
		}
	}
	if is == "" {
		return nil
	}
	_, err := getQoSPolicy(tx, o.caller, is)
	return err
}

// networkQoS decides which policy a new network has: the one asked for, or its project's default.
func (o *op) networkQoS(tx store.Tx, n *model.Network, asked bool) error {
	if asked {
		return o.takeQoS(tx, "", n.QoSPolicyID)
	}
	for p := range store.Find(tx, model.QoSPolicyTable, "project_default", n.ProjectID) {
		n.QoSPolicyID = p.ID
	}
	return nil
}
