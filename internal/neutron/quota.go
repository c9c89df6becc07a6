package neutron

import (
	"maps"
	"slices"
	"sync"

	"baryon/internal/model"
	"baryon/internal/store"
)

// Names of the resources that have a quota here.
const (
	quotaNetwork = "network"
	quotaSubnet  = "subnet"
	quotaPort    = "port"

	quotaSecurityGroup     = "security_group"
	quotaSecurityGroupRule = "security_group_rule"
	quotaAddressGroup      = "address_group"
	quotaRBACPolicy        = "rbac_policy"
	quotaTrunk             = "trunk"
)

const (
	maxQuota = 1<<31 - 1
	// quotaMargin is how far below its limit a project's creations stop running side by side.  It exceeds the number of creations of one
	// project that other servers can have in flight; those of this server are counted.
	quotaMargin = 64
	// quotaBulk is the largest creation that runs side by side with others at all.
	quotaBulk = 8
)

// DefaultQuotas are Neutron's defaults for what is served here.
func DefaultQuotas() map[string]int {
	return map[string]int{
		quotaNetwork: 100, quotaSubnet: 100, quotaPort: 500, quotaSecurityGroup: 10, quotaSecurityGroupRule: 100, quotaAddressGroup: -1, quotaRBACPolicy: 10,
		quotaTrunk: -1,
	}
}

// quotaKey is one project's use of one resource.
type quotaKey struct{ project, resource string }

type claim struct {
	key quotaKey
	n   int
}

// inflight counts what creations on this server have claimed and not yet finished.
type inflight struct {
	mu sync.Mutex
	n  map[quotaKey]int
}

func (f *inflight) add(k quotaKey, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[quotaKey]int{}
	}
	if f.n[k] += n; f.n[k] == 0 {
		delete(f.n, k)
	}
}

func (f *inflight) get(k quotaKey) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n[k]
}

// claim announces creations, before the transaction; run ends it.
func (o *op) claim(project, resource string, n int) {
	k := quotaKey{project, resource}
	o.s.flight.add(k, n)
	o.claims = append(o.claims, claim{k, n})
}

func (o *op) unclaim() {
	for _, c := range o.claims {
		o.s.flight.add(c.key, -c.n)
	}
	o.claims = nil
}

// charge checks the op's claims against the limits, inside the transaction and before its writes.
//
// Far from the limit a creation only reads the project's guard.  Near it, it guards the whole set of the project's rows and writes the
// guard, so that it commits only if nobody, far or near, on any server, created something meanwhile.
func (o *op) charge(tx store.Tx) error {
	var over []string
	for _, c := range o.claims {
		limit := o.s.limit(tx, c.key.project, c.key.resource)
		if limit < 0 {
			continue
		}
		if n, ok := o.exact[c.key]; ok {
			c.n = n
		}
		used := usage(tx, c.key)
		guard, ok := store.Get(tx, model.QuotaGuardTable, model.QuotaGuardKey(c.key.project, c.key.resource))
		if c.n <= quotaBulk && used+o.s.flight.get(c.key)+quotaMargin <= limit {
			continue
		}
		if used+c.n > limit {
			over = append(over, c.key.resource)
			continue
		}
		guardUsage(tx, c.key)
		next := model.QuotaGuard{ProjectID: c.key.project, Resource: c.key.resource}
		if ok {
			next.Serial = guard.Serial + 1
		}
		store.Put(tx, model.QuotaGuardTable, &next)
	}
	if over != nil {
		return overQuota(over)
	}
	return nil
}

func overQuota(names []string) *Error {
	slices.Sort(names)
	list := ""
	for i, n := range slices.Compact(names) {
		if i > 0 {
			list += ", "
		}
		list += "'" + n + "'"
	}
	return Conflict("OverQuota", "Quota exceeded for resources: [%s].", list)
}

// limit is a project's limit of a resource, -1 for none.
func (s *Service) limit(r store.Read, project, resource string) int {
	if q, ok := store.Get(r, model.QuotaTable, project); ok {
		if n, ok := q.Limits[resource]; ok {
			return n
		}
	}
	return s.limits[resource]
}

// usage is how many of the resource the project has.
func usage(r store.Read, k quotaKey) int {
	switch k.resource {
	case quotaNetwork:
		return store.Count(r, model.NetworkTable, "project", k.project)
	case quotaSubnet:
		return store.Count(r, model.SubnetTable, "project", k.project)
	case quotaPort:
		return store.Count(r, model.PortTable, "project", k.project)
	case quotaSecurityGroup:
		return store.Count(r, model.SecurityGroupTable, "project", k.project)
	case quotaSecurityGroupRule:
		return store.Count(r, model.SecurityGroupRuleTable, "project", k.project)
	case quotaAddressGroup:
		return store.Count(r, model.AddressGroupTable, "project", k.project)
	case quotaRBACPolicy:
		return store.Count(r, model.RBACPolicyTable, "project", k.project)
	case quotaTrunk:
		return store.Count(r, model.TrunkTable, "project", k.project)
	}
	return 0
}

// guardUsage makes the transaction fail if the project's rows change before it commits.
func guardUsage(tx store.Tx, k quotaKey) {
	switch k.resource {
	case quotaNetwork:
		store.Guard(tx, model.NetworkTable, "project", k.project)
	case quotaSubnet:
		store.Guard(tx, model.SubnetTable, "project", k.project)
	case quotaPort:
		store.Guard(tx, model.PortTable, "project", k.project)
	case quotaSecurityGroup:
		store.Guard(tx, model.SecurityGroupTable, "project", k.project)
	case quotaSecurityGroupRule:
		store.Guard(tx, model.SecurityGroupRuleTable, "project", k.project)
	case quotaAddressGroup:
		store.Guard(tx, model.AddressGroupTable, "project", k.project)
	case quotaRBACPolicy:
		store.Guard(tx, model.RBACPolicyTable, "project", k.project)
	case quotaTrunk:
		store.Guard(tx, model.TrunkTable, "project", k.project)
	}
}

// limitsOf is all limits of a project: its own over the defaults.
func (s *Service) limitsOf(r store.Read, project string) map[string]int {
	limits := maps.Clone(s.limits)
	if q, ok := store.Get(r, model.QuotaTable, project); ok {
		maps.Copy(limits, q.Limits)
	}
	return limits
}
