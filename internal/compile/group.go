package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Group compiles a security group with its rules.
func Group(r store.Read, g *model.SecurityGroup) *nodestate.Group {
	rec := &nodestate.Group{ID: string(g.ID), Stateless: !g.Stateful}
	for row := range store.Find(r, model.SecurityGroupRuleTable, "group", string(g.ID)) {
		if rule, ok := ruleOf(row); ok {
			rec.Rules = append(rec.Rules, rule)
		}
	}
	slices.SortFunc(rec.Rules, func(a, b nodestate.Rule) int { return strings.Compare(a.ID, b.ID) })
	return rec
}

// ruleOf is a rule in numbers.  A rule that no node could carry out as it stands is left out: it lets nothing pass.
func ruleOf(row *model.SecurityGroupRule) (nodestate.Rule, bool) {
	rule := nodestate.Rule{
		ID: string(row.ID), Egress: row.Direction == model.DirectionEgress, IPv6: row.EtherType == model.EtherIPv6,
		Protocol: model.ProtocolNumber(row.Protocol, row.EtherType), PortMin: row.PortMin, PortMax: row.PortMax,
		Members: string(cmp.Or(row.RemoteGroupID, row.RemoteAddressGroupID)),
	}
	if p := row.NormalizedPrefix; p.IsValid() && p.Bits() > 0 {
		rule.Remote = p.Masked()
		if p.Addr().Is6() != rule.IPv6 || rule.Members != "" {
			return rule, false
		}
	}
	return rule, rule.Protocol >= -1
}

// references are the ids of the Members records that a group's rules name, each once.
func references(g *nodestate.Group) map[model.ID]struct{} {
	out := make(map[model.ID]struct{})
	for i := range g.Rules {
		if m := g.Rules[i].Members; m != "" {
			out[model.ID(m)] = struct{}{}
		}
	}
	return out
}

// Members compiles the addresses that rules mean by the id of a security group, those that its ports have or may use wherever they
// are, or of an address group.
func Members(r store.Read, id model.ID) *nodestate.Members {
	rec := &nodestate.Members{ID: string(id)}
	add := func(p netip.Prefix) {
		if p.IsValid() {
			rec.Prefixes = append(rec.Prefixes, p.Masked())
		}
	}
	if g, ok := store.Get(r, model.AddressGroupTable, string(id)); ok {
		for _, p := range g.Addresses {
			add(p)
		}
	} else {
		for p := range store.Find(r, model.PortTable, "group", string(id)) {
			for _, f := range p.FixedIPs {
				add(netip.PrefixFrom(f.IPAddress, f.IPAddress.BitLen()))
			}
			for _, a := range p.AllowedAddressPairs {
				add(a.IPAddress)
			}
		}
	}
	slices.SortFunc(rec.Prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	rec.Prefixes = slices.Compact(rec.Prefixes)
	return rec
}

// groupsOf are the groups that filter a port, sorted: none if no node carries it or it is not filtered at all.
func groupsOf(p *model.Port) []model.ID {
	if boundHost(p) == "" || !p.PortSecurityEnabled || !(&nodestate.Port{PortSecurity: true, DeviceOwner: p.DeviceOwner}).Filtered() {
		return nil
	}
	ids := slices.Sorted(slices.Values(p.SecurityGroups))
	return slices.Compact(ids)
}

// groupRecords compiles groups and what their rules refer to.
func groupRecords(r store.Read, ids map[model.ID]bool) []nodestate.Record {
	var out []nodestate.Record
	members := make(map[model.ID]struct{})
	for id := range ids {
		row, ok := store.Get(r, model.SecurityGroupTable, string(id))
		if !ok {
			continue
		}
		g := Group(r, row)
		out = append(out, g)
		for m := range references(g) {
			members[m] = struct{}{}
		}
	}
	for m := range members {
		out = append(out, Members(r, m))
	}
	return out
}
