package neutron

import (
	"context"
	"iter"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// rbacKind is one kind of object that policies can share.  All of them are shared by the same rules, here; what differs is who owns an
// object, who uses it, and what follows.
type rbacKind struct {
	typ     string
	actions []string // sorted
	// owner is the project that owns an object that the caller may know of; the error is the object's NotFound.
	owner func(r store.Read, c *identity.Caller, id model.ID) (string, error)
	// users are the projects whose own things depend on the object by virtue of the action, in no order, perhaps several times; the
	// owner's may be among them.  An empty one stands for a project that cannot be told.
	users func(r store.Read, id model.ID, action string) iter.Seq[string]
	// follow brings the object in step with its policies; nil: nothing of it depends on them.
	follow func(o *op, tx store.Tx, id model.ID)
}

// rbacKinds are the kinds of shared objects.
func rbacKinds() []rbacKind {
	return []rbacKind{
		{model.RBACNetwork, []string{model.AccessExternal, model.AccessShared}, ownerOf(getNetwork, projectOfNetwork), networkUsers, (*op).followExternal},
		{model.RBACSecurityGroup, []string{model.AccessShared}, ownerOf(getGroup, projectOfGroup), groupUsers, nil},
		{model.RBACAddressGroup, []string{model.AccessShared}, ownerOf(getAddressGroup, projectOfAddressGroup), addressGroupUsers, nil},
		{model.RBACQoSPolicy, []string{model.AccessShared}, ownerOf(getQoSPolicy, projectOfQoSPolicy), qosUsers, nil},
	}
}

func projectOfNetwork(n *model.Network) string           { return n.ProjectID }
func projectOfGroup(g *model.SecurityGroup) string       { return g.ProjectID }
func projectOfAddressGroup(g *model.AddressGroup) string { return g.ProjectID }
func projectOfQoSPolicy(p *model.QoSPolicy) string       { return p.ProjectID }

// ownerOf makes rbacKind.owner from the function that reads the object.
func ownerOf[T any](
	get func(store.Read, *identity.Caller, model.ID) (*T, error), project func(*T) string,
) func(store.Read, *identity.Caller, model.ID) (string, error) {
	return func(r store.Read, c *identity.Caller, id model.ID) (string, error) {
		row, err := get(r, c, id)
		if err != nil {
			return "", err
		}
		return project(row), nil
	}
}

// kindOf finds the kind of objects that a policy names, which clients may write as they like.
func kindOf(typ string) (rbacKind, error) {
	normal := strings.ToLower(strings.TrimSpace(typ))
	for _, k := range rbacKinds() {
		if k.typ == normal {
			return k, nil
		}
	}
	return rbacKind{}, InvalidInput("'%s' is not a valid RBAC object type", typ)
}

// granted tells whether a policy lets a project do one of the actions with an object.  It is the one place that decides what is shared.
func granted(r store.Read, typ string, id model.ID, project string, actions ...string) bool {
	for p := range store.Find(r, model.RBACPolicyTable, "object", model.RBACObject(typ, id)) {
		if covers(p, project) && slices.Contains(actions, p.Action) {
			return true
		}
	}
	return false
}

// covers tells whether a policy is meant for a project.
func covers(p *model.RBACPolicy, project string) bool {
	return p.Target == model.EveryProject || project != "" && p.Target == project
}

// sharedWith tells whether an object is shared with the caller's project: its attribute shared, as this caller sees it.
func sharedWith(r store.Read, c *identity.Caller, typ string, id model.ID) bool {
	return granted(r, typ, id, c.ProjectID, model.AccessShared)
}

// RBACPolicies are the rules of RBAC policies.
func (s *Service) RBACPolicies() *Kind[model.RBACPolicy] {
	return &Kind[model.RBACPolicy]{
		Def:     model.RBACPolicies,
		Create:  s.createRBAC,
		Update:  s.updateRBAC,
		Delete:  s.deleteRBAC,
		Visible: func(_ store.Read, c *identity.Caller, p *model.RBACPolicy) bool { return c.CanRead(p.ProjectID) },
		Present: presentRBAC,
	}
}

func presentRBAC(_ store.Read, _ *identity.Caller, p *model.RBACPolicy) *model.RBACPolicy { return p }

func (s *Service) createRBAC(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.RBACPolicy],
) ([]*model.RBACPolicy, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		projects[i] = project
		if err := checkCreateRBAC(c, project, &input.Value); err != nil {
			return nil, err
		}
	}
	o.claimAll(quotaRBACPolicy, projects)
	var made []*model.RBACPolicy
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, input := range in {
			p := input.Value
			k, err := kindOf(p.ObjectType)
			if err != nil {
				return err
			}
			p.ObjectType = k.typ
			if err := o.checkObjectOwner(tx, k, p.ObjectID); err != nil {
				return err
			}
			o.fresh(&p.Standard, projects[i])
			o.askGrant(&p)
			store.Put(tx, model.RBACPolicyTable, &p)
			o.followPolicies(tx, k, p.ObjectID)
			made = append(made, &p)
		}
		return nil
	})
	return presented(s, c, made, presentRBAC, err)
}

// checkCreateRBAC checks what does not depend on the object.
func checkCreateRBAC(c *identity.Caller, project string, p *model.RBACPolicy) error {
	k, err := kindOf(p.ObjectType)
	if err != nil {
		return err
	}
	if !slices.Contains(k.actions, p.Action) {
		return BadRequest("InvalidActionForType", "Invalid action '%s' for object type '%s'. Valid actions: %s",
			p.Action, k.typ, strings.Join(k.actions, ","))
	}
	return rbacRights("create_rbac_policy", c, c.CanWrite(project), p)
}

// rbacRights: only administrators share with everyone, and only they lend external networks, as only they make them.
func rbacRights(action string, c *identity.Caller, allowed bool, p *model.RBACPolicy) error {
	err := newCheck(action, allowed).attrs([]setAttr{
		{name: "target_tenant", sent: p.Target == model.EveryProject, allowed: c.IsAdmin()},
		{name: "action", sent: p.Action == model.AccessExternal, allowed: c.IsAdmin()},
	})
	if err == nil && strings.TrimSpace(p.Target) == "" {
		err = BadRequest("HTTPBadRequest", "Invalid input for target_tenant. Reason: '%s' Blank strings are not permitted.", p.Target)
	}
	return err
}

// checkObjectOwner lets the owner of an object, and administrators, decide who shares it.
func (o *op) checkObjectOwner(tx store.Tx, k rbacKind, id model.ID) error {
	owner, err := k.owner(tx, o.caller, id)
	if err != nil {
		return err
	}
	if !o.caller.CanWrite(owner) {
		return InvalidInput("Only admins can manipulate policies on objects they do not own")
	}
	return nil
}

func (o *op) askGrant(p *model.RBACPolicy) {
	o.ask(model.RBACPolicyTable.Name, "grant", model.RBACGrant(p.ObjectType, p.ObjectID, p.Action, p.Target),
		Conflict("DuplicateRbacPolicy", "An RBAC policy already exists with those values."))
}

func (o *op) followPolicies(tx store.Tx, k rbacKind, id model.ID) {
	if k.follow != nil {
		k.follow(o, tx, id)
	}
}

// policyToChange reads a policy and checks that the caller may change it.
func (o *op) policyToChange(tx store.Tx, id, action string, ifMatch *int64) (*model.RBACPolicy, rbacKind, error) {
	p, ok := store.Get(tx, model.RBACPolicyTable, id)
	if !ok || !o.caller.CanRead(p.ProjectID) {
		return nil, rbacKind{}, NotFound("RbacPolicyNotFound", "RBAC policy of type unknown with ID %s not found", id)
	}
	if err := newCheck(action, o.caller.CanWrite(p.ProjectID)).err(); err != nil {
		return nil, rbacKind{}, err
	}
	k, err := kindOf(p.ObjectType)
	if err != nil {
		return nil, k, err
	}
	return p, k, matchRevision(&p.Standard, ifMatch)
}

func (s *Service) updateRBAC(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.RBACPolicy], ifMatch *int64,
) (*model.RBACPolicy, error) {
	o := s.newOp(c)
	var out *model.RBACPolicy
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, k, err := o.policyToChange(tx, id, "update_rbac_policy", ifMatch)
		if err != nil {
			return err
		}
		p := *old
		set(in.Has("target_tenant"), &p.Target, in.Value.Target)
		if out = old; p.Target == old.Target {
			return nil
		}
		if err := rbacRights("update_rbac_policy", c, true, &p); err != nil {
			return err
		}
		if err := checkRevocable(tx, k, old, &p); err != nil {
			return err
		}
		o.askGrant(&p)
		o.touch(&p.Standard)
		store.Put(tx, model.RBACPolicyTable, &p)
		o.followPolicies(tx, k, p.ObjectID)
		out = &p
		return nil
	})
	return one(s, c, out, presentRBAC, err)
}

func (s *Service) deleteRBAC(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		p, k, err := o.policyToChange(tx, id, "delete_rbac_policy", ifMatch)
		if err != nil {
			return err
		}
		if err := checkRevocable(tx, k, p, nil); err != nil {
			return err
		}
		store.Delete(tx, model.RBACPolicyTable, id)
		o.followPolicies(tx, k, p.ObjectID)
		return nil
	})
}

// checkRevocable refuses to take back a policy on which a project depends that no other policy, and not instead, covers.
func checkRevocable(tx store.Tx, k rbacKind, p, instead *model.RBACPolicy) error {
	if project, used := dependsOn(tx, k, p, instead); used {
		return Conflict("RbacPolicyInUse", "RBAC policy on object %s cannot be removed because other objects depend on it.\n"+
			"Details: the %s is in use by project %s", p.ObjectID, strings.ReplaceAll(k.typ, "_", " "), project)
	}
	return nil
}

// dependsOn finds a project that uses an object by virtue of the policy p alone.
func dependsOn(tx store.Tx, k rbacKind, p, instead *model.RBACPolicy) (string, bool) {
	var left []*model.RBACPolicy
	for other := range store.Find(tx, model.RBACPolicyTable, "object", model.RBACObject(p.ObjectType, p.ObjectID)) {
		if other.ID != p.ID && other.Action == p.Action {
			left = append(left, other)
		}
	}
	if instead != nil {
		left = append(left, instead)
	}
	owner := objectOwner(tx, k, p.ObjectID)
	for user := range k.users(tx, p.ObjectID, p.Action) {
		by := func(p *model.RBACPolicy) bool { return covers(p, user) }
		if (user == "" || user != owner && covers(p, user)) && !slices.ContainsFunc(left, by) {
			return user, true
		}
	}
	return "", false
}

// objectOwner is the project of a shared object, whoever asks.
func objectOwner(r store.Read, k rbacKind, id model.ID) string {
	owner, err := k.owner(r, &identity.Caller{Roles: []string{identity.RoleAdmin}}, id)
	if err != nil {
		return ""
	}
	return owner
}

// share makes or takes back the policy that shares an object with everyone, as the attributes shared and router:external ask for it.
func (o *op) share(tx store.Tx, typ string, id model.ID, project, action string, want bool) {
	p := wildcard(tx, typ, id, action)
	switch {
	case want && p == nil:
		p = &model.RBACPolicy{ObjectType: typ, ObjectID: id, Action: action, Target: model.EveryProject}
		o.fresh(&p.Standard, project)
		store.Put(tx, model.RBACPolicyTable, p)
	case !want && p != nil:
		store.Delete(tx, model.RBACPolicyTable, string(p.ID))
	}
}

// wildcard is the policy that lets everyone do the action with an object, nil if there is none.
func wildcard(r store.Read, typ string, id model.ID, action string) *model.RBACPolicy {
	for p := range store.Find(r, model.RBACPolicyTable, "grant", model.RBACGrant(typ, id, action, model.EveryProject)) {
		return p
	}
	return nil
}

// forgetPolicies goes with the deletion of an object.
func forgetPolicies(tx store.Tx, typ string, id model.ID) {
	for p := range store.Find(tx, model.RBACPolicyTable, "object", model.RBACObject(typ, id)) {
		store.Delete(tx, model.RBACPolicyTable, string(p.ID))
	}
}

// groupUsers are the projects of the ports that have a security group.
func groupUsers(r store.Read, id model.ID, _ string) iter.Seq[string] {
	return projectsOf(store.Find(r, model.PortTable, "group", string(id)), func(p *model.Port) string { return p.ProjectID })
}

// addressGroupUsers are the projects of the rules that name an address group.
func addressGroupUsers(r store.Read, id model.ID, _ string) iter.Seq[string] {
	return projectsOf(store.Find(r, model.SecurityGroupRuleTable, "address_group", string(id)),
		func(rule *model.SecurityGroupRule) string { return rule.ProjectID })
}

func projectsOf[T any](rows iter.Seq[*T], project func(*T) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for row := range rows {
			if !yield(project(row)) {
				return
			}
		}
	}
}
