package neutron

import (
	"context"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// SecurityGroups are the rules of security groups.
func (s *Service) SecurityGroups() *Kind[model.SecurityGroup] {
	return &Kind[model.SecurityGroup]{
		Def:     model.SecurityGroups,
		Prepare: s.prepareGroups,
		Create:  s.createGroups,
		Update:  s.updateGroup,
		Delete:  s.deleteGroup,
		Visible: groupVisible,
		Present: presentGroup,
	}
}

func presentGroup(r store.Read, c *identity.Caller, g *model.SecurityGroup) *model.SecurityGroup {
	shown := *g
	shown.Shared = sharedWith(r, c, model.RBACSecurityGroup, g.ID)
	shown.Rules = []*model.SecurityGroupRule{}
	for rule := range store.Find(r, model.SecurityGroupRuleTable, "group", string(g.ID)) {
		shown.Rules = append(shown.Rules, presentRule(r, c, rule))
	}
	return &shown
}

// groupVisible: groups show to their project and to those with whom a policy shares them.
func groupVisible(r store.Read, c *identity.Caller, g *model.SecurityGroup) bool {
	return c.CanRead(g.ProjectID) || sharedWith(r, c, model.RBACSecurityGroup, g.ID)
}

func getGroup(r store.Read, c *identity.Caller, id model.ID) (*model.SecurityGroup, error) {
	g, ok := store.Get(r, model.SecurityGroupTable, string(id))
	if !ok || !groupVisible(r, c, g) {
		return nil, groupNotFound(string(id))
	}
	return g, nil
}

func groupNotFound(id string) *Error {
	return NotFound("SecurityGroupNotFound", "Security group %s does not exist", id)
}

// prepareGroups gives the caller's project its default group before groups are listed; an administrator who asks for other projects gives
// it to those.
func (s *Service) prepareGroups(ctx context.Context, c *identity.Caller, projects []string) error {
	want := []string{c.ProjectID}
	if c.IsAdmin() && len(projects) > 0 {
		want = projects
	}
	var lacking []string
	r := s.st.Snapshot()
	for _, p := range want {
		if p != "" && c.CanRead(p) && defaultGroupOf(r, p) == "" {
			lacking = append(lacking, p)
		}
	}
	if lacking == nil {
		return nil
	}
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		for _, p := range lacking {
			o.defaultGroup(tx, p)
		}
		return nil
	})
}

// defaultGroupOf is the id of a project's default group, empty if it has none yet.
func defaultGroupOf(r store.Read, project string) model.ID {
	for g := range store.Find(r, model.SecurityGroupTable, "project_default", project) {
		return g.ID
	}
	return ""
}

// defaultGroup is the project's default group.  The first to need it makes it; no quota stands in its way, for without it the project could
// not have a port.
func (o *op) defaultGroup(tx store.Tx, project string) *model.SecurityGroup {
	id, ok := o.defaults[project]
	if !ok {
		id = defaultGroupOf(o.snap, project)
	}
	if id != "" {
		if g, ok := store.Get(tx, model.SecurityGroupTable, string(id)); ok {
			return g
		}
	}
	g := &model.SecurityGroup{Name: model.DefaultGroup, Default: true, Stateful: true}
	g.Description = "Default security group"
	o.putGroup(tx, g, project)
	o.defaults[project] = g.ID
	return g
}

// putGroup makes a group with the rules that the template has for it.
func (o *op) putGroup(tx store.Tx, g *model.SecurityGroup, project string) {
	o.fresh(&g.Standard, project)
	g.Revision = 1 // of a group with its rules, as Neutron counts
	store.Put(tx, model.SecurityGroupTable, g)
	seen := map[string]bool{}
	for _, t := range template(tx) {
		rule, ok := t.rule(tx, g)
		if !ok || seen[rule.Content()] {
			continue
		}
		seen[rule.Content()] = true
		o.fresh(&rule.Standard, project)
		store.Put(tx, model.SecurityGroupRuleTable, rule)
	}
}

func (s *Service) createGroups(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.SecurityGroup],
) ([]*model.SecurityGroup, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	count := map[string]int{}
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		if err := newCheck("create_security_group", c.CanWrite(project)).err(); err != nil {
			return nil, err
		}
		if isDefaultName(input.Value.Name) {
			return nil, errDefaultExists()
		}
		projects[i] = project
		count[project]++
	}
	o.claimAll(quotaSecurityGroup, projects)
	each := templateSize(s.st.Snapshot())
	for project, n := range count {
		o.claim(project, quotaSecurityGroupRule, n*each)
	}
	var made []*model.SecurityGroup
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		each := templateSize(tx)
		for project, n := range count {
			o.exact[quotaKey{project, quotaSecurityGroupRule}] = n * each
		}
		for _, project := range projects { // in the order of the request: ids are given out on the way
			o.defaultGroup(tx, project)
		}
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, input := range in {
			g := input.Value
			g.Default = false
			o.putGroup(tx, &g, projects[i])
			made = append(made, &g)
		}
		return nil
	})
	return presented(s, c, made, presentGroup, err)
}

// isDefaultName: the name of the default group is taken in every project.
func isDefaultName(name string) bool { return strings.EqualFold(name, model.DefaultGroup) }

func errDefaultExists() error {
	return Conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
}

func (s *Service) updateGroup(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.SecurityGroup], ifMatch *int64,
) (*model.SecurityGroup, error) {
	o := s.newOp(c)
	var out *model.SecurityGroup
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := getGroup(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("update_security_group", c.CanWrite(old.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&old.Standard, ifMatch); err != nil {
			return err
		}
		if out, err = o.changedGroup(tx, old, in); err == nil {
			store.Put(tx, model.SecurityGroupTable, out)
		}
		return err
	})
	return one(s, c, out, presentGroup, err)
}

func (o *op) changedGroup(
	tx store.Tx, old *model.SecurityGroup, in *resource.Input[model.SecurityGroup],
) (*model.SecurityGroup, error) {
	g, v := *old, &in.Value
	switch {
	case in.Has("name") && isDefaultName(v.Name):
		return nil, errDefaultExists()
	case in.Has("name") && old.Default && !o.caller.IsAdmin():
		return nil, Conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
	case in.Has("stateful") && v.Stateful != old.Stateful && groupInUse(tx, old.ID):
		return nil, errGroupInUse(old.ID)
	}
	set(in.Has("name"), &g.Name, v.Name)
	set(in.Has("description"), &g.Description, v.Description)
	set(in.Has("stateful"), &g.Stateful, v.Stateful)
	o.touch(&g.Standard)
	return &g, nil
}

// groupInUse tells whether a port has the group; no port gets it before the transaction commits.
func groupInUse(tx store.Tx, id model.ID) bool {
	for range store.Find(tx, model.PortTable, "group", string(id)) {
		return true
	}
	return false
}

func errGroupInUse(id model.ID) error {
	return Conflict("SecurityGroupInUse", "Security Group %s in use.", id)
}

func (s *Service) deleteGroup(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	o := s.newOp(c)
	return o.run(ctx, nil, func(tx store.Tx) error {
		g, err := getGroup(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("delete_security_group", c.CanWrite(g.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&g.Standard, ifMatch); err != nil {
			return err
		}
		switch {
		case groupInUse(tx, g.ID):
			return errGroupInUse(g.ID)
		case g.Default && !c.IsAdmin():
			return Conflict("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
		}
		o.removeRules(tx, "group", g.ID)
		o.removeRules(tx, "remote_group", g.ID)
		store.Delete(tx, model.SecurityGroupTable, id)
		forgetPolicies(tx, model.RBACSecurityGroup, g.ID)
		return nil
	})
}
