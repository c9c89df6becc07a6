package model

import (
	"net/netip"
	"strconv"
	"strings"

	"baryon/internal/resource"
)

// Directions and ethertypes of rules.
const (
	DirectionIngress = "ingress"
	DirectionEgress  = "egress"
	EtherIPv4        = "IPv4"
	EtherIPv6        = "IPv6"
)

// DefaultGroup is the name of the group that every project has.
const DefaultGroup = "default"

// SecurityGroup is a set of rules that ports of a project can have.
type SecurityGroup struct {
	Standard
	Name     string `json:"name"`
	Stateful bool   `json:"stateful"`
	Default  bool   `json:"default,omitempty"` // the project's default group

	Rules  []*SecurityGroupRule `json:"-"` // computed when shown
	Shared bool                 `json:"-"` // computed when shown
}

// SecurityGroupTable keeps security groups.  A project has one default group.
var SecurityGroupTable = resource.NewTable("security_group", func(g *SecurityGroup) string { return string(g.ID) }).
	Index("project", func(g *SecurityGroup) []string { return []string{g.ProjectID} }).
	Index("name", func(g *SecurityGroup) []string { return []string{g.Name} }).
	Unique("project_default", func(g *SecurityGroup) []string {
		if !g.Default {
			return nil
		}
		return []string{g.ProjectID}
	})

// SecurityGroupRule lets one kind of packet pass.  Rules are never changed, only made and deleted.
type SecurityGroupRule struct {
	Standard
	SecurityGroupID      ID           `json:"security_group_id"`
	Direction            string       `json:"direction"`
	EtherType            string       `json:"ethertype"`
	Protocol             string       `json:"protocol,omitempty"`         // as the client gave it; empty: any
	PortMin              int          `json:"port_range_min"`             // -1: none
	PortMax              int          `json:"port_range_max"`             // -1: none
	RemotePrefix         string       `json:"remote_ip_prefix,omitempty"` // as the client gave it
	NormalizedPrefix     netip.Prefix `json:"normalized_cidr"`            // masked; invalid: none
	RemoteGroupID        ID           `json:"remote_group_id,omitempty"`
	RemoteAddressGroupID ID           `json:"remote_address_group_id,omitempty"`

	BelongsToDefault bool `json:"-"` // computed when shown
}

// SecurityGroupRuleTable keeps rules.  Of equal rules a group has one (SecurityGroupRuleExists).
var SecurityGroupRuleTable = resource.NewTable("security_group_rule", func(r *SecurityGroupRule) string { return string(r.ID) }).
	Index("project", func(r *SecurityGroupRule) []string { return []string{r.ProjectID} }).
	Index("group", func(r *SecurityGroupRule) []string { return []string{string(r.SecurityGroupID)} }).
	Index("remote_group", func(r *SecurityGroupRule) []string {
		if r.RemoteGroupID == "" {
			return nil
		}
		return []string{string(r.RemoteGroupID)}
	}).
	Index("address_group", func(r *SecurityGroupRule) []string {
		if r.RemoteAddressGroupID == "" {
			return nil
		}
		return []string{string(r.RemoteAddressGroupID)}
	}).
	Unique("content", func(r *SecurityGroupRule) []string { return []string{r.Content()} })

// Content is what makes two rules of one group the same: everything but id, owner and description.  Protocol must be normalised
// before rules are compared, see ProtocolNumber.
func (r *SecurityGroupRule) Content() string {
	prefix := ""
	if r.NormalizedPrefix.IsValid() && r.NormalizedPrefix.Bits() > 0 {
		prefix = r.NormalizedPrefix.String()
	}
	return strings.Join([]string{
		string(r.SecurityGroupID), r.Direction, r.EtherType, strconv.Itoa(ProtocolNumber(r.Protocol, r.EtherType)), strconv.Itoa(r.PortMin),
		strconv.Itoa(r.PortMax), prefix, string(r.RemoteGroupID), string(r.RemoteAddressGroupID),
	}, "|")
}

// AddressGroup is a named set of prefixes that rules can refer to.
type AddressGroup struct {
	Standard
	Name      string         `json:"name"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// AddressGroupTable keeps address groups.
var AddressGroupTable = resource.NewTable("address_group", func(g *AddressGroup) string { return string(g.ID) }).
	Index("project", func(g *AddressGroup) []string { return []string{g.ProjectID} }).
	Index("name", func(g *AddressGroup) []string { return []string{g.Name} })

// DefaultRule is one rule of the template that new groups start from (default-security-group-rules).
type DefaultRule struct {
	Standard
	Direction            string `json:"direction"`
	EtherType            string `json:"ethertype"`
	Protocol             string `json:"protocol,omitempty"`
	PortMin              int    `json:"port_range_min"`
	PortMax              int    `json:"port_range_max"`
	RemotePrefix         string `json:"remote_ip_prefix,omitempty"`
	RemoteGroupID        string `json:"remote_group_id,omitempty"` // a group's id, or PARENT: the group itself
	RemoteAddressGroupID ID     `json:"remote_address_group_id,omitempty"`
	InDefault            bool   `json:"used_in_default_sg"`
	InOthers             bool   `json:"used_in_non_default_sg"`
}

// DefaultRuleTable keeps the template.  Until SeedTable says that it holds the rules that every cloud starts with, those count.
var DefaultRuleTable = resource.NewTable("default_rule", func(r *DefaultRule) string { return string(r.ID) })

// Seed marks that rows which every cloud starts with have been written once, so that they stay deleted when somebody deletes them.
type Seed struct {
	Name string `json:"name"`
}

// SeedDefaultRules names the seed of DefaultRuleTable.
const SeedDefaultRules = "default_rules"

// SeedTable keeps what has been seeded.
var SeedTable = resource.NewTable("seed", func(s *Seed) string { return s.Name })

// What ProtocolNumber says of texts that name no single protocol.
const (
	anyProtocol = -1
	noProtocol  = -2
)

// ProtocolNumber is the IP protocol that a rule's protocol means: -1 for any, -2 for a text that is none.  An IPv6 rule's icmp is
// ICMPv6 (58).  Names are those of Neutron's reference, numbers 0 to 255 in decimal; "any" and whatever is 0 (ip, hopopt) mean any as well.
func ProtocolNumber(protocol, ethertype string) int {
	if protocol == "" || protocol == "any" {
		return anyProtocol
	}
	n, known := protocolNumbers[protocol]
	if !known {
		v, err := strconv.ParseUint(protocol, 10, 8)
		if err != nil {
			return noProtocol
		}
		n = int(v)
	}
	if n == 0 {
		return anyProtocol
	}
	if ethertype == EtherIPv6 && n == 1 {
		return 58
	}
	return n
}

// protocolNumbers are IANA's, by the names that the Networking API takes.
var protocolNumbers = map[string]int{
	"ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "hopopt": 0, "icmp": 1, "icmpv6": 58, "igmp": 2, "ip": 0, "ipip": 4,
	"ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43, "ospf": 89, "pgm": 113,
	"rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}
