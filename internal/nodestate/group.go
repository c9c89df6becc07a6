package nodestate

import (
	"net/netip"
	"strings"
)

// Group is a security group that a port of this node has: its rules.  Every port of the group on every node shares it.
type Group struct {
	ID        string
	Stateless bool
	Rules     []Rule // sorted by ID
}

// Key is the group's.
func (g *Group) Key() Key { return GroupKey(g.ID) }

// GroupKey names a security group's record.
func GroupKey(id string) Key { return Key{KindGroup, id} }

// Rule lets one kind of packet pass.  What no rule of a port's groups lets pass is dropped.
type Rule struct {
	ID       string
	Egress   bool // from the port; otherwise to it
	IPv6     bool
	Protocol int // IP protocol number; -1: any.  icmp of an IPv6 rule is 58 here whatever the client wrote
	// PortMin and PortMax are the destination ports of tcp, udp, sctp, dccp and udplite; for ICMP the type and the code.  -1: any.
	PortMin, PortMax int
	Remote           netip.Prefix // of the other end; invalid: any.  Never set together with Members
	Members          string       // id of a Members record: the other end must be one of them; empty: any
}

// Members is a set of addresses that rules refer to: those of a remote security group's ports, or of an address group.
type Members struct {
	ID       string         // of the security group or address group
	Prefixes []netip.Prefix // masked, sorted, without duplicates; single addresses are /32 or /128
}

// Key is the set's.
func (m *Members) Key() Key { return MembersKey(m.ID) }

// MembersKey names the record of a set of addresses.
func MembersKey(id string) Key { return Key{KindMembers, id} }

// Filtered tells whether security groups apply to a port: port security is on and it is not one of the network's own.
func (p *Port) Filtered() bool {
	return p.PortSecurity && !strings.HasPrefix(p.DeviceOwner, "network:") && !strings.HasPrefix(p.DeviceOwner, "neutron:")
}
