package neutron

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// maxAddresses is how many addresses a group has at most; Neutron has no bound, but each server and each node holds them all.
const maxAddresses = 10000

// AddressGroups are the rules of address groups.
func (s *Service) AddressGroups() *Kind[model.AddressGroup] {
	return &Kind[model.AddressGroup]{
		Def:     model.AddressGroups,
		Create:  s.createAddressGroups,
		Update:  s.updateAddressGroup,
		Delete:  s.deleteAddressGroup,
		Visible: addressGroupVisible,
		Present: presentAddressGroup,
	}
}

func presentAddressGroup(_ store.Read, _ *identity.Caller, g *model.AddressGroup) *model.AddressGroup {
	return g
}

// addressGroupVisible: groups show to their project and to those with whom a policy shares them.
func addressGroupVisible(r store.Read, c *identity.Caller, g *model.AddressGroup) bool {
	return c.CanRead(g.ProjectID) || sharedWith(r, c, model.RBACAddressGroup, g.ID)
}

func getAddressGroup(r store.Read, c *identity.Caller, id model.ID) (*model.AddressGroup, error) {
	g, ok := store.Get(r, model.AddressGroupTable, string(id))
	if !ok || !addressGroupVisible(r, c, g) {
		return nil, NotFound("AddressGroupNotFound", "Address group %s could not be found.", id)
	}
	return g, nil
}

func (s *Service) createAddressGroups(
	ctx context.Context, c *identity.Caller, in []*resource.Input[model.AddressGroup],
) ([]*model.AddressGroup, error) {
	o := s.newOp(c)
	projects := make([]string, len(in))
	for i, input := range in {
		project, err := projectOf(c, input.Value.ProjectID)
		if err != nil {
			return nil, err
		}
		if err := newCheck("create_address_group", c.CanWrite(project)).err(); err != nil {
			return nil, err
		}
		projects[i] = project
	}
	o.claimAll(quotaAddressGroup, projects)
	var made []*model.AddressGroup
	err := o.run(ctx, nil, func(tx store.Tx) error {
		made = made[:0]
		if err := o.charge(tx); err != nil {
			return err
		}
		for i, input := range in {
			g := input.Value
			o.fresh(&g.Standard, projects[i])
			g.Addresses = slices.Clone(g.Addresses)
			slices.SortFunc(g.Addresses, model.ComparePrefixes)
			store.Put(tx, model.AddressGroupTable, &g)
			made = append(made, &g)
		}
		return nil
	})
	return presented(s, c, made, presentAddressGroup, err)
}

func (s *Service) updateAddressGroup(
	ctx context.Context, c *identity.Caller, id string, in *resource.Input[model.AddressGroup], ifMatch *int64,
) (*model.AddressGroup, error) {
	return s.changeAddressGroup(ctx, c, id, ifMatch, func(g *model.AddressGroup) error {
		set(in.Has("name"), &g.Name, in.Value.Name)
		set(in.Has("description"), &g.Description, in.Value.Description)
		return nil
	})
}

// changeAddressGroup applies a change to a copy of the group.
func (s *Service) changeAddressGroup(
	ctx context.Context, c *identity.Caller, id string, ifMatch *int64, change func(*model.AddressGroup) error,
) (*model.AddressGroup, error) {
	o := s.newOp(c)
	var out *model.AddressGroup
	err := o.run(ctx, nil, func(tx store.Tx) error {
		old, err := getAddressGroup(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("update_address_group", c.CanWrite(old.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&old.Standard, ifMatch); err != nil {
			return err
		}
		g := *old
		if err := change(&g); err != nil {
			return err
		}
		o.touch(&g.Standard)
		store.Put(tx, model.AddressGroupTable, &g)
		out = &g
		return nil
	})
	return one(s, c, out, presentAddressGroup, err)
}

// AddAddresses adds prefixes, masked and each once, to an address group.
func (s *Service) AddAddresses(ctx context.Context, c *identity.Caller, id string, add []netip.Prefix) (*model.AddressGroup, error) {
	return s.changeAddressGroup(ctx, c, id, nil, func(g *model.AddressGroup) error {
		if known := among(add, g.Addresses, true); known != nil {
			return BadRequest("AddressesAlreadyExist", "Addresses %s already exist in the address group %s.", prefixList(known), g.ID)
		}
		if len(g.Addresses)+len(add) > maxAddresses {
			return InvalidInput("The number of addresses exceeds the limit %d of one address group", maxAddresses)
		}
		g.Addresses = slices.Concat(g.Addresses, add)
		slices.SortFunc(g.Addresses, model.ComparePrefixes)
		return nil
	})
}

// RemoveAddresses takes prefixes out of an address group.
func (s *Service) RemoveAddresses(ctx context.Context, c *identity.Caller, id string, remove []netip.Prefix) (*model.AddressGroup, error) {
	return s.changeAddressGroup(ctx, c, id, nil, func(g *model.AddressGroup) error {
		if unknown := among(remove, g.Addresses, false); unknown != nil {
			return NotFound("AddressesNotFound", "Addresses %s not found in the address group %s.", prefixList(unknown), g.ID)
		}
		g.Addresses = among(g.Addresses, remove, false)
		return nil
	})
}

// among lists what of a is in b, or what is not.
func among(a, b []netip.Prefix, in bool) []netip.Prefix {
	set := make(map[netip.Prefix]bool, len(b))
	for _, p := range b {
		set[p] = true
	}
	var out []netip.Prefix
	for _, p := range a {
		if set[p] == in {
			out = append(out, p)
		}
	}
	return out
}

// prefixList prints prefixes as Python prints a list, cut to a length fit for a message.
func prefixList(ps []netip.Prefix) string {
	const most = 20
	names := make([]string, 0, most)
	for i, p := range ps {
		if i == most {
			return "[" + strings.Join(names, ", ") + ", ...]"
		}
		names = append(names, "'"+p.String()+"'")
	}
	return "[" + strings.Join(names, ", ") + "]"
}

func (s *Service) deleteAddressGroup(ctx context.Context, c *identity.Caller, id string, ifMatch *int64) error {
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		g, err := getAddressGroup(tx, c, model.ID(id))
		if err != nil {
			return err
		}
		if err := newCheck("delete_address_group", c.CanWrite(g.ProjectID)).err(); err != nil {
			return err
		}
		if err := matchRevision(&g.Standard, ifMatch); err != nil {
			return err
		}
		for range store.Find(tx, model.SecurityGroupRuleTable, "address_group", id) {
			return Conflict("AddressGroupInUse", "Address group %s is in use on one or more security group rules.", id)
		}
		store.Delete(tx, model.AddressGroupTable, id)
		forgetPolicies(tx, model.RBACAddressGroup, g.ID)
		return nil
	})
}
