package neutron

import (
	"fmt"
	"strings"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/store"
)

// check collects what a request needs a right for and words the refusal as Neutron's policy engine does:
// "(rule:create_network and rule:create_network:shared) is disallowed by policy".
type check struct {
	action string // "create_network"
	rule   string
	denied bool
}

func newCheck(action string, allowed bool) *check {
	return &check{action: action, rule: "rule:" + action, denied: !allowed}
}

// attr adds an attribute that the client sets, with the keys of its parts if those have rules of their own.
func (c *check) attr(name string, allowed bool, parts ...string) *check {
	rule := "rule:" + c.action + ":" + name
	if len(parts) > 0 {
		sub := make([]string, len(parts))
		for i, p := range parts {
			sub[i] = rule + ":" + p
		}
		rule = "(" + rule + " and (" + strings.Join(sub, " and ") + "))"
	}
	c.rule = "(" + c.rule + " and " + rule + ")"
	c.denied = c.denied || !allowed
	return c
}

func (c *check) err() error {
	if !c.denied {
		return nil
	}
	return Forbidden("PolicyNotAuthorized", "%s is disallowed by policy", c.rule)
}

// setAttr is an attribute that only some may set: whether the client sends it (on create: with another value than the default).
type setAttr struct {
	name    string
	sent    bool
	allowed bool
	parts   []string
}

func (c *check) attrs(list []setAttr) error {
	for _, a := range list {
		if a.sent {
			c.attr(a.name, a.allowed, a.parts...)
		}
	}
	return c.err()
}

// projectOf decides who owns what is created: the caller's project, or for an administrator whichever the body names.
func projectOf(c *identity.Caller, asked string) (string, error) {
	switch {
	case asked == "" && c.ProjectID == "":
		return "", BadRequest("HTTPBadRequest", "Running without a project requires that project_id is specified")
	case asked == "" || asked == c.ProjectID:
		return c.ProjectID, nil
	case !c.IsAdmin() && !c.IsService():
		return "", BadRequest("HTTPBadRequest",
			"Specifying 'project_id' other than the authenticated project in request requires admin privileges")
	}
	return asked, nil
}

// subnetVisible: subnets of shared and external networks show to everyone, others to their project and the network's.
func subnetVisible(r store.Read, c *identity.Caller, s *model.Subnet) bool {
	if c.CanRead(s.ProjectID) {
		return true
	}
	n, ok := store.Get(r, model.NetworkTable, string(s.NetworkID))
	return ok && networkVisible(r, c, n)
}

// portVisible: ports show to their project and to the network's.
func portVisible(r store.Read, c *identity.Caller, p *model.Port) bool {
	if c.CanRead(p.ProjectID) {
		return true
	}
	n, ok := store.Get(r, model.NetworkTable, string(p.NetworkID))
	return ok && c.CanRead(n.ProjectID)
}

// getNetwork reads a network that the caller may know of.
func getNetwork(r store.Read, c *identity.Caller, id model.ID) (*model.Network, error) {
	n, ok := store.Get(r, model.NetworkTable, string(id))
	if !ok || !networkVisible(r, c, n) {
		return nil, NotFound("NetworkNotFound", "Network %s could not be found.", id)
	}
	return n, nil
}

func getSubnet(r store.Read, c *identity.Caller, id model.ID) (*model.Subnet, error) {
	s, ok := store.Get(r, model.SubnetTable, string(id))
	if !ok || !subnetVisible(r, c, s) {
		return nil, NotFound("SubnetNotFound", "Subnet %s could not be found.", id)
	}
	return s, nil
}

func getPort(r store.Read, c *identity.Caller, id model.ID) (*model.Port, error) {
	p, ok := store.Get(r, model.PortTable, string(id))
	if !ok || !portVisible(r, c, p) {
		return nil, NotFound("PortNotFound", "Port %s could not be found.", id)
	}
	return p, nil
}

// matchRevision holds a change to the revision that the client demands.
func matchRevision(st *model.Standard, ifMatch *int64) error {
	if ifMatch != nil && *ifMatch != st.Revision {
		return &Error{Class: ClassPrecondition, Type: "RevisionNumberConstraintFailed",
			Message: fmt.Sprintf("Constrained to %d, but current revision is %d", *ifMatch, st.Revision)}
	}
	return nil
}
