package model

import "baryon/internal/resource"

// Quota is a project's own limits; what is missing follows the defaults.
type Quota struct {
	ProjectID string         `json:"project_id"`
	Limits    map[string]int `json:"limits"` // resource name -> limit, -1 unlimited
}

// QuotaTable keeps quotas by project.
var QuotaTable = resource.NewTable("quota", func(q *Quota) string { return q.ProjectID })
