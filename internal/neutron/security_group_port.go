package neutron

import (
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/store"
)

// Owners whose ports belong to the network itself.
var trustedOwners = []string{"network:", "neutron:"}

// trustedOwner tells whether an owner's ports are not filtered; only the network's owner may give a port such an owner.
func trustedOwner(owner string) bool {
	return slices.ContainsFunc(trustedOwners, func(prefix string) bool { return strings.HasPrefix(owner, prefix) })
}

// newPortGroups gives the security groups of a port that is made: those asked for (nil: not asked), or its project's default group.
func (o *op) newPortGroups(tx store.Tx, p *model.Port, asked []model.ID) ([]model.ID, error) {
	switch {
	case trusted(p):
		return nil, nil
	case !p.PortSecurityEnabled && len(asked) > 0:
		return nil, errGroupsNeedSecurity()
	case !p.PortSecurityEnabled:
		return nil, nil
	case asked == nil:
		return []model.ID{o.defaultGroup(tx, p.ProjectID).ID}, nil
	}
	return o.checkPortGroups(tx, p, asked)
}

// changedPortGroups gives the security groups of a port that is changed to p, which still has the old ones.
func (o *op) changedPortGroups(tx store.Tx, p *model.Port, sent bool, asked []model.ID) ([]model.ID, error) {
	switch {
	case trusted(p):
		return nil, nil
	case !p.PortSecurityEnabled && sent && len(asked) > 0:
		return nil, errGroupsNeedSecurity()
	case !p.PortSecurityEnabled && !sent && len(p.SecurityGroups) > 0:
		return nil, Conflict("PortSecurityPortHasSecurityGroup", "Port has security group associated. "+
			"Cannot disable port security or IP address until security group is removed.")
	case sent:
		return o.checkPortGroups(tx, p, asked)
	}
	return p.SecurityGroups, nil
}

func errGroupsNeedSecurity() error {
	return BadRequest("PortSecurityAndIPRequiredForSecurityGroups",
		"Port security must be enabled and port must have an IP address in order to use security groups.")
}

// checkPortGroups lets a port have groups of its project or shared with it, all of them stateful or none; administrators may give it any group.
func (o *op) checkPortGroups(tx store.Tx, p *model.Port, asked []model.ID) ([]model.ID, error) {
	ids := slices.Compact(slices.Sorted(slices.Values(asked)))
	var missing []string
	stateful := 0
	for _, id := range ids {
		g, ok := store.Get(tx, model.SecurityGroupTable, string(id))
		switch {
		case !ok || g.ProjectID != p.ProjectID && !o.caller.IsAdmin() &&
			!granted(tx, model.RBACSecurityGroup, id, p.ProjectID, model.AccessShared):
			missing = append(missing, string(id))
		case g.Stateful:
			stateful++
		}
	}
	if missing != nil {
		return nil, groupNotFound(strings.Join(missing, ", "))
	}
	if stateful != 0 && stateful != len(ids) {
		return nil, Conflict("SecurityGroupConflict", "Error Cannot apply both stateful and stateless security groups on the same port "+
			"while attempting the operation.")
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return ids, nil
}
