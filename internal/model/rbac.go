package model

import "baryon/internal/resource"

// Kinds of objects that policies share, and what they let projects do.
const (
	RBACNetwork       = "network"
	RBACSecurityGroup = "security_group"
	RBACAddressGroup  = "address_group"
	RBACQoSPolicy     = "qos_policy"

	AccessShared   = "access_as_shared"
	AccessExternal = "access_as_external"

	// EveryProject is the target of a policy that shares with everyone.
	EveryProject = "*"
)

// RBACPolicy shares one object with one project, or with everyone.
type RBACPolicy struct {
	Standard          // ProjectID: whose the policy is
	ObjectType string `json:"object_type"`
	ObjectID   ID     `json:"object_id"`
	Action     string `json:"action"`
	Target     string `json:"target_project"` // a project, or EveryProject
}

// RBACObject names a shared object in RBACPolicyTable's index object.
func RBACObject(typ string, id ID) string { return typ + "/" + string(id) }

// RBACGrant names what a policy grants, in RBACPolicyTable's unique index grant.
func RBACGrant(typ string, id ID, action, target string) string {
	return RBACObject(typ, id) + "/" + action + "/" + target
}

// RBACPolicyTable keeps policies.  The same is granted once.
var RBACPolicyTable = resource.NewTable("rbac_policy", func(p *RBACPolicy) string { return string(p.ID) }).
	Index("project", func(p *RBACPolicy) []string { return []string{p.ProjectID} }).
	Index("object", func(p *RBACPolicy) []string { return []string{RBACObject(p.ObjectType, p.ObjectID)} }).
	Index("object_id", func(p *RBACPolicy) []string { return []string{string(p.ObjectID)} }).
	Unique("grant", func(p *RBACPolicy) []string { return []string{RBACGrant(p.ObjectType, p.ObjectID, p.Action, p.Target)} })

// RBACPolicies defines the resource rbac_policy.
var RBACPolicies = resource.Define(RBACPolicyTable, "rbac_policy", "rbac_policies",
	identity(func(p *RBACPolicy) *Standard { return &p.Standard }),
	resource.Attr("object_type", func(p *RBACPolicy) *string { return &p.ObjectType }, resource.String(maxName),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Ext("rbac-policies")),
	resource.Attr("object_id", func(p *RBACPolicy) *ID { return &p.ObjectID }, resource.UUID[ID](),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Indexed("object_id"), resource.Ext("rbac-policies")),
	resource.Attr("target_tenant", func(p *RBACPolicy) *string { return &p.Target }, resource.String(maxName),
		resource.Writable, resource.Required, resource.Alias("target_project"), resource.Filter, resource.Sort,
		resource.Policy("'*': admin"), resource.Ext("rbac-policies")),
	resource.Attr("action", func(p *RBACPolicy) *string { return &p.Action }, resource.String(maxName),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Policy("access_as_external: admin"),
		resource.Ext("rbac-policies")),
)
