// Package identity answers who is calling: it issues and checks tokens (built-in users, a real Keystone, or none), and holds the
// policy that says what a role may do.
package identity

// Role names, each implying the next: admin, manager, member, reader.  service stands beside them.
const (
	RoleAdmin   = "admin"
	RoleManager = "manager"
	RoleMember  = "member"
	RoleReader  = "reader"
	RoleService = "service"
)

// Caller is an authenticated user in one scope.  Roles are already expanded (admin also lists member and reader).
type Caller struct {
	UserID    string
	UserName  string
	ProjectID string // empty: domain, system or no scope
	Roles     []string
	System    bool // system scope "all"
	RequestID string
}

// Has tells whether the caller holds the role.
func (c *Caller) Has(role string) bool {
	for _, r := range c.Roles {
		if r == role {
			return true
		}
	}
	return false
}

// IsAdmin tells whether the caller may see and change everything.
func (c *Caller) IsAdmin() bool { return c.Has(RoleAdmin) }

// IsService tells whether the caller is another service of the cloud (Nova), which may write bindings.
func (c *Caller) IsService() bool { return c.Has(RoleService) }

// Owns tells whether the caller is scoped to the project.
func (c *Caller) Owns(projectID string) bool { return c.ProjectID != "" && c.ProjectID == projectID }

// CanWrite tells whether the caller may change things of the project: an admin, or a member of it.
func (c *Caller) CanWrite(projectID string) bool {
	return c.IsAdmin() || c.Has(RoleMember) && c.Owns(projectID)
}

// CanRead tells whether the caller may see things of the project: an admin, another service, or a reader of it.
func (c *Caller) CanRead(projectID string) bool {
	return c.IsAdmin() || c.IsService() || c.Has(RoleReader) && c.Owns(projectID)
}
