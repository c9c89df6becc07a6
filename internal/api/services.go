package api

import (
	"context"
	"net/netip"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
	"baryon/internal/store"
)

// Reader is what the API reads (a *store.Store).
type Reader interface {
	// View gives a snapshot that shows every write acknowledged before the call, on any server.
	View(ctx context.Context, f func(r store.Read) error) error
	// Snapshot gives the newest local snapshot; it shows every write that returned on this server.
	Snapshot() store.Read
}

// Services are the rules behind the routes.  Kinds serve collections; the interfaces serve what is no plain collection.  All of
// them answer refusals as *neutron.Error; any other error becomes 500 and is logged.
//
// What is nil is not served (404).
//
// The API has checked the form of what it passes on (types, ranges, lengths); who may do what is theirs to check, including
// hidden -> NotFound.  Ids come from the path unchecked: what is not found is NotFound.
type Services struct {
	Networks *neutron.Kind[model.Network]
	Segments *neutron.Kind[model.NetworkSegment]
	Subnets  *neutron.Kind[model.Subnet]
	Ports    *neutron.Kind[model.Port]
	Agents   *neutron.Kind[model.Agent] // registered by nodes, so Create is nil

	SegmentRanges *neutron.Kind[model.SegmentRange]
	RBACPolicies  *neutron.Kind[model.RBACPolicy]

	SecurityGroups     *neutron.Kind[model.SecurityGroup]
	SecurityGroupRules *neutron.Kind[model.SecurityGroupRule]
	AddressGroups      *neutron.Kind[model.AddressGroup]
	DefaultRules       *neutron.Kind[model.DefaultRule]

	QoSPolicies *neutron.Kind[model.QoSPolicy]
	Trunks      *neutron.Kind[model.Trunk]

	Addresses      Addresses
	QoSRules       QoSRules
	SubPorts       SubPorts
	Tags           Tags
	Quotas         Quotas
	DHCP           DHCPScheduling
	Bindings       Bindings
	IPAvailability IPAvailability
	Zones          Zones
}

// Addresses are the members of an address group.  Prefixes come masked, sorted and without duplicates.
type Addresses interface {
	// AddAddresses adds prefixes and returns the group; AddressesAlreadyExist if it has one of them.
	AddAddresses(ctx context.Context, c *identity.Caller, groupID string, add []netip.Prefix) (*model.AddressGroup, error)
	// RemoveAddresses takes prefixes out and returns the group; AddressesNotFound if it lacks one of them.
	RemoveAddresses(ctx context.Context, c *identity.Caller, groupID string, remove []netip.Prefix) (*model.AddressGroup, error)
}

// QoSRules are the rules of a QoS policy.  typ is a QoS constant of package model; an empty policyID stands for whichever policy has the
// rule.  QosPolicyNotFound, QosRuleNotFound, and QoSRulesConflict for a second rule of a type and direction.
type QoSRules interface {
	QoSRules(ctx context.Context, c *identity.Caller, policyID, typ string) ([]*model.QoSRule, error)
	QoSRule(ctx context.Context, c *identity.Caller, policyID, typ, id string) (*model.QoSRule, error)
	CreateQoSRule(ctx context.Context, c *identity.Caller, policyID, typ string, in *resource.Input[model.QoSRule]) (*model.QoSRule, error)
	UpdateQoSRule(ctx context.Context, c *identity.Caller, policyID, typ, id string, in *resource.Input[model.QoSRule]) (*model.QoSRule, error)
	DeleteQoSRule(ctx context.Context, c *identity.Caller, policyID, typ, id string) error
}

// SubPorts are what a trunk carries.  Lists come without duplicate ports; what of a segment is missing is theirs to refuse.
type SubPorts interface {
	SubPorts(ctx context.Context, c *identity.Caller, trunkID string) ([]model.SubPort, error)
	// AddSubPorts puts ports into a trunk and returns it, presented; DuplicateSubPort, PortInUseAsSubPort, PortInUseAsTrunkParent, ….
	AddSubPorts(ctx context.Context, c *identity.Caller, trunkID string, add []model.SubPort) (*model.Trunk, error)
	// RemoveSubPorts takes ports, of which only the id counts, out of a trunk and returns it, presented; SubPortNotFound.
	RemoveSubPorts(ctx context.Context, c *identity.Caller, trunkID string, remove []model.SubPort) (*model.Trunk, error)
}

// Tags are the tags of objects.  collection is the plural as paths have it: "ports", "security-groups".  Each change bumps the
// object's revision when it changes something.  A tag has at most 255 characters (checked); an object has at most 50 tags (theirs
// to check: InvalidInput).  Lists come back without duplicates, sorted.
type Tags interface {
	// TagsOf returns the object's tags.
	TagsOf(ctx context.Context, c *identity.Caller, collection, id string) ([]string, error)
	// ReplaceTags sets the object's tags and returns them.
	ReplaceTags(ctx context.Context, c *identity.Caller, collection, id string, tags []string) ([]string, error)
	// AddTags adds to the object's tags, keeping those it has, and returns all.
	AddTags(ctx context.Context, c *identity.Caller, collection, id string, tags []string) ([]string, error)
	// RemoveTag removes one tag; TagNotFound if the object lacks it.
	RemoveTag(ctx context.Context, c *identity.Caller, collection, id, tag string) error
}

// Quotas are the limits of projects.  Limits are -1 (unlimited) to 2147483647.
type Quotas interface {
	// QuotaResources names what has a quota, in the order shown ("network", "subnet", "port", ...).
	QuotaResources() []string
	// ListQuotas returns the quotas of projects that have values of their own, each with all resources.  Administrators only.
	ListQuotas(ctx context.Context, c *identity.Caller) ([]model.Quota, error)
	// QuotaOf returns a project's limits for every resource.
	QuotaOf(ctx context.Context, c *identity.Caller, project string) (map[string]int, error)
	// DefaultQuota returns the limits of a project without values of its own.
	DefaultQuota(ctx context.Context, c *identity.Caller, project string) (map[string]int, error)
	// QuotaUsage returns limit, use and reservations of a project for every resource.
	QuotaUsage(ctx context.Context, c *identity.Caller, project string) (map[string]model.QuotaUsage, error)
	// SetQuota changes the given limits and returns all.  checkLimit refuses (400) a limit below what is in use.
	SetQuota(ctx context.Context, c *identity.Caller, project string, limits map[string]int, checkLimit bool) (map[string]int, error)
	// ResetQuota forgets a project's own values.
	ResetQuota(ctx context.Context, c *identity.Caller, project string) error
}

// DHCPScheduling is which DHCP agent serves which network (extension dhcp_agent_scheduler).  Administrators only.
type DHCPScheduling interface {
	// DHCPNetworks returns the networks an agent serves, presented, by id.
	DHCPNetworks(ctx context.Context, c *identity.Caller, agentID string) ([]*model.Network, error)
	// DHCPAgents returns the agents that serve a network, presented, by id.
	DHCPAgents(ctx context.Context, c *identity.Caller, networkID string) ([]*model.Agent, error)
	// AddDHCPNetwork makes an agent serve a network; 409 NetworkHostedByDHCPAgent if it does.
	AddDHCPNetwork(ctx context.Context, c *identity.Caller, agentID, networkID string) error
	// RemoveDHCPNetwork ends that; 409 NetworkNotHostedByDhcpAgent if it does not.
	RemoveDHCPNetwork(ctx context.Context, c *identity.Caller, agentID, networkID string) error
}

// Bindings are the bindings of a port (extension binding-extended): one ACTIVE, others INACTIVE.  Administrators and services only.
type Bindings interface {
	ListBindings(ctx context.Context, c *identity.Caller, portID string) ([]*model.PortBinding, error)
	ShowBinding(ctx context.Context, c *identity.Caller, portID, host string) (*model.PortBinding, error)
	CreateBinding(ctx context.Context, c *identity.Caller, portID string, in *resource.Input[model.PortBinding]) (*model.PortBinding, error)
	UpdateBinding(ctx context.Context, c *identity.Caller, portID, host string, in *resource.Input[model.PortBinding]) (*model.PortBinding, error)
	// ActivateBinding makes the host's binding the active one and returns it.
	ActivateBinding(ctx context.Context, c *identity.Caller, portID, host string) (*model.PortBinding, error)
	DeleteBinding(ctx context.Context, c *identity.Caller, portID, host string) error
}

// Zones are the availability zones of agents (extension availability_zone).
type Zones interface {
	// Zones returns every zone, by name.
	Zones(r store.Read) []*model.AvailabilityZone
}

// IPAvailability counts the addresses of networks (extension network-ip-availability).
type IPAvailability interface {
	// IPAvailabilities returns the counts of every network that the caller may ask about (none unless an administrator), by id.
	IPAvailabilities(r store.Read, c *identity.Caller) []*model.IPAvailability
	// IPAvailabilityOf returns the counts of one network; false if it is not there or not for the caller.
	IPAvailabilityOf(r store.Read, c *identity.Caller, networkID string) (*model.IPAvailability, bool)
}
