package neutron

import (
	"iter"
	"slices"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/store"
)

// Owners of the ports by which routers use an external network.
var externalOwners = []string{"network:router_gateway", "network:floatingip"}

// networkVisible: a network shows to its project, and to those with whom a policy shares it or who may use it as an external network.
func networkVisible(r store.Read, c *identity.Caller, n *model.Network) bool {
	return c.CanRead(n.ProjectID) || granted(r, model.RBACNetwork, n.ID, c.ProjectID, model.AccessShared, model.AccessExternal)
}

// networkUsers are the projects that use a network: shared, those of its subnets and guests' ports; external, those of its gateways and
// floating addresses, whose ports belong to no project.
func networkUsers(r store.Read, id model.ID, action string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if action == model.AccessExternal {
			for _, owner := range externalOwners {
				for p := range store.Find(r, model.PortTable, "network_owner", model.NetworkOwner(id, owner)) {
					if !yield(p.ProjectID) {
						return
					}
				}
			}
			return
		}
		for sub := range store.Find(r, model.SubnetTable, "network", string(id)) {
			if !yield(sub.ProjectID) {
				return
			}
		}
		for p := range store.Find(r, model.PortTable, "network", string(id)) {
			if !strings.HasPrefix(p.DeviceOwner, "network:") && !yield(p.ProjectID) {
				return
			}
		}
	}
}

// setShared follows the attribute shared of an update.
func (o *op) setShared(tx store.Tx, n *model.Network, want bool) error {
	if p := wildcard(tx, model.RBACNetwork, n.ID, model.AccessShared); !want && p != nil {
		k, err := kindOf(model.RBACNetwork)
		if err != nil {
			return err
		}
		if _, used := dependsOn(tx, k, p, nil); used {
			return Conflict("InvalidSharedSetting",
				"Unable to reconfigure sharing settings for network %s. Multiple tenants are using it.", n.Name)
		}
	}
	o.share(tx, model.RBACNetwork, n.ID, n.ProjectID, model.AccessShared, want)
	return nil
}

// setExternal follows the attribute router:external of an update.  One that is no longer external is so for nobody.
func (o *op) setExternal(tx store.Tx, n *model.Network, want bool) error {
	switch {
	case want && !n.External:
		o.share(tx, model.RBACNetwork, n.ID, n.ProjectID, model.AccessExternal, true)
	case !want && n.External:
		for range networkUsers(tx, n.ID, model.AccessExternal) {
			return Conflict("ExternalNetworkInUse",
				"External network %s cannot be updated to be made non-external, since it has existing gateway ports.", n.ID)
		}
		for p := range store.Find(tx, model.RBACPolicyTable, "object", model.RBACObject(model.RBACNetwork, n.ID)) {
			if p.Action == model.AccessExternal {
				store.Delete(tx, model.RBACPolicyTable, string(p.ID))
			}
		}
	}
	n.External = want
	return nil
}

// followExternal makes a network external with its first policy that says so, and ends that with the last.
func (o *op) followExternal(tx store.Tx, id model.ID) {
	n, ok := store.Get(tx, model.NetworkTable, string(id))
	if !ok {
		return
	}
	policies := slices.Collect(store.Find(tx, model.RBACPolicyTable, "object", model.RBACObject(model.RBACNetwork, id)))
	external := slices.ContainsFunc(policies, func(p *model.RBACPolicy) bool { return p.Action == model.AccessExternal })
	if n.External == external {
		return
	}
	next := *n
	next.External, next.IsDefault = external, n.IsDefault && external
	o.touch(&next.Standard)
	store.Put(tx, model.NetworkTable, &next)
}
