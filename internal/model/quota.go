package model

import "baryon/internal/resource"

// Quota is a project's own limits; what is missing follows the defaults.
type Quota struct {
	ProjectID string         `json:"project_id"`
	Limits    map[string]int `json:"limits"` // resource name -> limit, -1 unlimited
}

// QuotaTable keeps quotas by project.
var QuotaTable = resource.NewTable("quota", func(q *Quota) string { return q.ProjectID })

// QuotaGuard is written by every creation that comes near a project's limit, and read by those that do not, so that on all servers
// together the limit is exact.
type QuotaGuard struct {
	ProjectID string `json:"project_id"`
	Resource  string `json:"resource"`
	Serial    int64  `json:"serial"`
}

// QuotaGuardKey names a guard row.
func QuotaGuardKey(project, resource string) string { return resource + "/" + project }

// QuotaGuardTable keeps guards.
var QuotaGuardTable = resource.NewTable("quota_guard", func(g *QuotaGuard) string { return QuotaGuardKey(g.ProjectID, g.Resource) })

// QuotaUsage is a project's limit for a resource, what it uses of it and what requests under way have reserved.
type QuotaUsage struct {
	Limit, Used, Reserved int
}
