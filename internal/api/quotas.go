package api

import (
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"baryon/internal/model"
	"baryon/internal/resource"
)

// quotaRoutes are /quotas and what is below it.
func (s *server) quotaRoutes() []route {
	if s.Services.Quotas == nil {
		return nil
	}
	get := func(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
	return []route{
		on("/quotas", get(s.listQuotas)),
		on("/quotas/tenant", get(func(q *request) error { return ownProject(q, "tenant") })),
		on("/quotas/project", get(func(q *request) error { return ownProject(q, "project") })),
		on("/quotas/{}", map[string]handler{http.MethodGet: s.showQuota, http.MethodPut: s.setQuota, http.MethodDelete: s.resetQuota}),
		on("/quotas/{}/default", get(s.defaultQuota)),
		on("/quotas/{}/details", get(s.quotaDetails)),
	}
}

// ownProject tells a client which project its token is for: {"tenant": {"tenant_id": id}}.
func ownProject(q *request, name string) error {
	return sendOne(q, http.StatusOK, name, func(b []byte, id string) []byte {
		b = resource.AppendString(append(b, '{'), name+"_id")
		return append(resource.AppendString(append(b, ':'), id), '}')
	}, q.caller.ProjectID)
}

func (s *server) listQuotas(q *request) error {
	quotas, err := s.Services.Quotas.ListQuotas(q.Context(), q.caller)
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, "quotas", func(b []byte, quotas []model.Quota) []byte {
		return resource.AppendList(b, quotas, func(b []byte, quota model.Quota) []byte {
			b = s.appendLimits(b, quota.Limits)
			b = append(b[:len(b)-1], ',')
			b = resource.AppendString(append(b, `"project_id":`...), quota.ProjectID)
			b = resource.AppendString(append(b, `,"tenant_id":`...), quota.ProjectID)
			return append(b, '}')
		})
	}, quotas)
}

func (s *server) showQuota(q *request) error {
	limits, err := s.Services.Quotas.QuotaOf(q.Context(), q.caller, q.args[0])
	return s.sendQuota(q, limits, err)
}

func (s *server) defaultQuota(q *request) error {
	limits, err := s.Services.Quotas.DefaultQuota(q.Context(), q.caller, q.args[0])
	return s.sendQuota(q, limits, err)
}

func (s *server) resetQuota(q *request) error {
	if err := s.Services.Quotas.ResetQuota(q.Context(), q.caller, q.args[0]); err != nil {
		return err
	}
	return q.sendEmpty(http.StatusNoContent)
}

func (s *server) setQuota(q *request) error {
	m, err := q.object("quota")
	if err != nil {
		return err
	}
	limits, check, err := s.readLimits(m)
	if err != nil {
		return err
	}
	limits, err = s.Services.Quotas.SetQuota(q.Context(), q.caller, q.args[0], limits, check)
	return s.sendQuota(q, limits, err)
}

// readLimits reads a quota: limits by resource, and whether to check them against what is in use.  "force" is what the openstack
// client sends to say that they shall not be checked, which is the default.
func (s *server) readLimits(m map[string]any) (limits map[string]int, check bool, err error) {
	known := s.Services.Quotas.QuotaResources()
	number := resource.Int[int](-1, math.MaxInt32)
	limits = map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		v := m[name]
		var reason error
		switch {
		case name == "check_limit":
			check, reason = resource.ParseBool(v)
		case name == "force":
			_, reason = resource.ParseBool(v)
		case name == "tenant_id" || name == "project_id": // older clients repeat what the path says
		case slices.Contains(known, name):
			limits[name], reason = number.Decode(v)
		default:
			return nil, false, badRequest("Unrecognized attribute(s) '%s'", resource.Show(name))
		}
		if reason != nil {
			return nil, false, badRequest("Invalid input for %s. Reason: %s.", name, strings.TrimSuffix(reason.Error(), "."))
		}
	}
	return limits, check, nil
}

func (s *server) sendQuota(q *request, limits map[string]int, err error) error {
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, "quota", s.appendLimits, limits)
}

func (s *server) quotaDetails(q *request) error {
	usage, err := s.Services.Quotas.QuotaUsage(q.Context(), q.caller, q.args[0])
	if err != nil {
		return err
	}
	return sendOne(q, http.StatusOK, "quota", func(b []byte, usage map[string]model.QuotaUsage) []byte {
		return s.appendByResource(b, func(b []byte, name string) []byte {
			u := usage[name]
			b = strconv.AppendInt(append(b, `{"limit":`...), int64(u.Limit), 10)
			b = strconv.AppendInt(append(b, `,"used":`...), int64(u.Used), 10)
			b = strconv.AppendInt(append(b, `,"reserved":`...), int64(u.Reserved), 10)
			return append(b, '}')
		})
	}, usage)
}

func (s *server) appendLimits(b []byte, limits map[string]int) []byte {
	return s.appendByResource(b, func(b []byte, name string) []byte { return strconv.AppendInt(b, int64(limits[name]), 10) })
}

// appendByResource appends an object with one member per resource that has a quota.
func (s *server) appendByResource(b []byte, value func(b []byte, name string) []byte) []byte {
	b = append(b, '{')
	for i, name := range s.Services.Quotas.QuotaResources() {
		if i > 0 {
			b = append(b, ',')
		}
		b = value(append(resource.AppendString(b, name), ':'), name)
	}
	return append(b, '}')
}
