// Package identity answers who is calling: it issues and checks tokens (built-in users, a real Keystone, or none), and holds the
// policy that says what a role may do.
//
// Data flow: an HTTP request enters through an Authenticator and leaves as a Caller.  Builtin finds users, roles and revocations in
// the store (tables in rows.go); Keystone asks another cloud's identity service; None asks nobody.  Package identity/v3 puts the
// Identity API in front of Builtin.
//
// Invariants: a token is only a sealed claim, so every check compares it with the current rows: a user, project, domain, role or
// credential that is gone, disabled or changed never passes, on any server of the cluster.  Whatever cannot be decided is refused.
// Passwords and secrets are kept as hashes alone and appear in no error and no log line.
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
	System    bool   // system scope "all"
	DomainID  string // domain scope; empty for any other scope
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
