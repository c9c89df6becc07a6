package neutron

import (
	"context"
	"maps"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/store"
)

// QuotaResources names what has a quota, in the order shown.
func (s *Service) QuotaResources() []string {
	return []string{quotaNetwork, quotaSubnet, quotaPort, quotaSecurityGroup, quotaSecurityGroupRule, quotaAddressGroup, quotaRBACPolicy, quotaTrunk}
}

// ListQuotas returns the quotas of projects that have values of their own.
func (s *Service) ListQuotas(ctx context.Context, c *identity.Caller) ([]model.Quota, error) {
	if err := newCheck("get_quota", c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	var out []model.Quota
	err := s.st.View(ctx, func(r store.Read) error {
		for q := range store.All(r, model.QuotaTable) {
			out = append(out, model.Quota{ProjectID: q.ProjectID, Limits: s.limitsOf(r, q.ProjectID)})
		}
		return nil
	})
	return out, err
}

// QuotaOf returns a project's limits.
func (s *Service) QuotaOf(ctx context.Context, c *identity.Caller, project string) (map[string]int, error) {
	if err := checkGetQuota(c, project); err != nil {
		return nil, err
	}
	var out map[string]int
	err := s.st.View(ctx, func(r store.Read) error {
		out = s.limitsOf(r, project)
		return nil
	})
	return out, err
}

func checkGetQuota(c *identity.Caller, project string) error {
	return newCheck("get_quota", c.CanRead(project)).err()
}

// DefaultQuota returns the limits of a project without values of its own.
func (s *Service) DefaultQuota(_ context.Context, c *identity.Caller, project string) (map[string]int, error) {
	return maps.Clone(s.limits), checkGetQuota(c, project)
}

// QuotaUsage returns limits with what is used, and what creations under way on this server have reserved.
func (s *Service) QuotaUsage(ctx context.Context, c *identity.Caller, project string) (map[string]model.QuotaUsage, error) {
	if err := checkGetQuota(c, project); err != nil {
		return nil, err
	}
	out := map[string]model.QuotaUsage{}
	err := s.st.View(ctx, func(r store.Read) error {
		for name, limit := range s.limitsOf(r, project) {
			k := quotaKey{project, name}
			out[name] = model.QuotaUsage{Limit: limit, Used: usage(r, k), Reserved: s.flight.get(k)}
		}
		return nil
	})
	return out, err
}

// SetQuota changes limits and returns all.  checkLimit refuses a limit below what is in use.
func (s *Service) SetQuota(
	ctx context.Context, c *identity.Caller, project string, limits map[string]int, checkLimit bool,
) (map[string]int, error) {
	if err := newCheck("update_quota", c.IsAdmin()).err(); err != nil {
		return nil, err
	}
	for name, n := range limits {
		if _, ok := s.limits[name]; !ok {
			return nil, BadRequest("HTTPBadRequest", "Unrecognized attribute(s) '%s'", name)
		}
		if n < -1 || n > maxQuota {
			return nil, BadRequest("HTTPBadRequest", "Invalid input for %s. Reason: '%d' is not in range [-1, %d].", name, n, maxQuota)
		}
	}
	var out map[string]int
	err := s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		next := model.Quota{ProjectID: project, Limits: map[string]int{}}
		if old, ok := store.Get(tx, model.QuotaTable, project); ok {
			maps.Copy(next.Limits, old.Limits)
		}
		for name, n := range limits {
			if used := usage(tx, quotaKey{project, name}); checkLimit && n >= 0 && n < used {
				return InvalidInput("Quota limit %d for %s is below its current usage of %d", n, name, used)
			}
		}
		maps.Copy(next.Limits, limits)
		store.Put(tx, model.QuotaTable, &next)
		out = s.limitsOf(tx, project)
		return nil
	})
	return out, err
}

// ResetQuota forgets a project's own values.
func (s *Service) ResetQuota(ctx context.Context, c *identity.Caller, project string) error {
	if err := newCheck("delete_quota", c.IsAdmin()).err(); err != nil {
		return err
	}
	return s.newOp(c).run(ctx, nil, func(tx store.Tx) error {
		if !store.Delete(tx, model.QuotaTable, project) {
			return NotFound("TenantQuotaNotFound", "Quota for tenant %s could not be found.", project)
		}
		return nil
	})
}
