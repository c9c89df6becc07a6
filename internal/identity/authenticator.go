package identity

import (
	"context"
	"net/http"
	"strings"
)

// Authenticator turns a request into its caller.  It also removes every identity header that a client may have put there itself
// (X-User-Id, X-Roles, ...), so that nothing behind it can mistake them for facts.
//
// The error is an *UnauthorizedError when the request proves nobody (answer 401); anything else means that it could not be decided
// (answer 503) and must never be taken for a yes.  Safe for concurrent use; the Caller belongs to the request.
type Authenticator interface {
	Authenticate(ctx context.Context, r *http.Request) (*Caller, error)
}

// UnauthorizedError says that a request carries no valid token.
type UnauthorizedError struct {
	URI    string // the identity service, for WWW-Authenticate; empty when there is none
	Reason string // for logs; the client learns nothing but 401
}

func (e *UnauthorizedError) Error() string { return "authenticate request: " + e.Reason }

// Challenge is the value of the WWW-Authenticate header of the answer.
func (e *UnauthorizedError) Challenge() string { return Challenge(e.URI) }

// Challenge is the WWW-Authenticate value that sends a client to the identity service at uri (keystonemiddleware's form).
func Challenge(uri string) string { return `Keystone uri="` + uri + `"` }

// identityHeaders are the headers that keystonemiddleware gives to services; from a client they are forgeries.
var identityHeaders = []string{
	"X-Identity-Status", "X-User-Id", "X-User-Name", "X-User-Domain-Id", "X-User-Domain-Name",
	"X-Project-Id", "X-Project-Name", "X-Project-Domain-Id", "X-Project-Domain-Name", "X-Domain-Id", "X-Domain-Name",
	"X-Roles", "X-Role", "X-Is-Admin-Project", "X-Service-Catalog", "X-Tenant-Id", "X-Tenant-Name", "X-Tenant", "X-User",
	"Openstack-System-Scope", "X-Service-Identity-Status", "X-Service-User-Id", "X-Service-User-Name",
	"X-Service-User-Domain-Id", "X-Service-User-Domain-Name", "X-Service-Project-Id", "X-Service-Project-Name",
	"X-Service-Project-Domain-Id", "X-Service-Project-Domain-Name", "X-Service-Roles",
}

// stripIdentity removes forged identity headers.  Underscore spellings go too: a WSGI or CGI hop would merge them.
func stripIdentity(h http.Header) {
	for _, name := range identityHeaders {
		delete(h, name)
	}
	for name := range h {
		if strings.ContainsRune(name, '_') {
			for _, bad := range identityHeaders {
				if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), bad) {
					delete(h, name)
				}
			}
		}
	}
}

// NoneProjectID is the project of every caller when authentication is off and the request names no other.
const NoneProjectID = "00000000000000000000000000000001"

// None is the absence of authentication, for a lab on one machine: EVERYBODY WHO REACHES THE PORT IS ADMIN.  A client may play
// somebody else by X-Project-Id, X-User-Id and X-Roles (comma separated), which lets a test see the API as a member does.
type None struct{}

// Authenticate never fails.
func (None) Authenticate(_ context.Context, r *http.Request) (*Caller, error) {
	c := &Caller{UserID: "admin", UserName: "admin", ProjectID: NoneProjectID, Roles: []string{RoleAdmin}}
	if p := headerText(r, "X-Project-Id"); p != "" {
		c.ProjectID = p
	} else if p := headerText(r, "X-Tenant-Id"); p != "" {
		c.ProjectID = p
	}
	if u := headerText(r, "X-User-Id"); u != "" {
		c.UserID, c.UserName = u, u
	}
	if roles := headerText(r, "X-Roles"); roles != "" {
		c.Roles = nil
		for name := range strings.SplitSeq(roles, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !c.Has(name) {
				c.Roles = append(c.Roles, name)
			}
		}
	}
	c.Roles = expandNames(c.Roles)
	stripIdentity(r.Header)
	return c, nil
}

// headerText is a header's value when it is short printable text, else empty.
func headerText(r *http.Request, name string) string {
	v := strings.TrimSpace(r.Header.Get(name))
	if len(v) > 255 {
		return ""
	}
	for _, c := range v {
		if c < ' ' || c == 0x7f {
			return ""
		}
	}
	return v
}

// expandNames adds the roles that the standard ones imply, for identities without role rows of their own.
func expandNames(names []string) []string {
	chain := []string{RoleAdmin, RoleManager, RoleMember, RoleReader}
	c := Caller{Roles: names}
	held := false
	for _, name := range chain {
		if c.Has(name) {
			held = true
		} else if held {
			c.Roles = append(c.Roles, name)
		}
	}
	return c.Roles
}
