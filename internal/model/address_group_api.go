package model

import (
	"net/netip"
	"slices"

	"baryon/internal/resource"
)

// maxLongText is the length of the description of an address group, which is longer than others'.
const maxLongText = 1024

// AddressGroups defines the resource address_group.
var AddressGroups = resource.Define(AddressGroupTable, "address_group", "address_groups",
	identity(func(g *AddressGroup) *Standard { return &g.Standard }),
	resource.Attr("name", func(g *AddressGroup) *string { return &g.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name"), resource.Ext("address-group")),
	resource.Attr("addresses", func(g *AddressGroup) *[]netip.Prefix { return &g.Addresses }, prefixes(),
		resource.CreateOnly, resource.Allocated, resource.Filter, resource.Ext("address-group")),
	resource.Derived("shared", func(*AddressGroup) bool { return false }, resource.Bool(), resource.Ext("address-group")),
	describedBy(func(g *AddressGroup) *Standard { return &g.Standard }, maxLongText),
)

// DefaultRules defines the resource default_security_group_rule.
var DefaultRules = resource.Define(DefaultRuleTable, "default_security_group_rule", "default_security_group_rules",
	resource.Attr("id", func(r *DefaultRule) *ID { return &r.ID }, resource.UUID[ID](),
		resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex), resource.Ext("security-groups-default-rules")),
	resource.Attr("direction", func(r *DefaultRule) *string { return &r.Direction }, resource.Enum(DirectionIngress, DirectionEgress),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("ethertype", func(r *DefaultRule) *string { return &r.EtherType }, etherType(),
		resource.CreateOnly, resource.Default(EtherIPv4), resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("protocol", func(r *DefaultRule) *string { return &r.Protocol }, protocol(),
		resource.CreateOnly, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("port_range_min", func(r *DefaultRule) *int { return &r.PortMin }, rulePort(),
		resource.CreateOnly, resource.Default(-1), resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("port_range_max", func(r *DefaultRule) *int { return &r.PortMax }, rulePort(),
		resource.CreateOnly, resource.Default(-1), resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("remote_group_id", func(r *DefaultRule) *string { return &r.RemoteGroupID }, parentOrID(),
		resource.CreateOnly, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("remote_ip_prefix", func(r *DefaultRule) *string { return &r.RemotePrefix }, rulePrefix(),
		resource.CreateOnly, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("security-groups-default-rules")),
	resource.Attr("remote_address_group_id", func(r *DefaultRule) *ID { return &r.RemoteAddressGroupID }, idOrNull(),
		resource.CreateOnly, resource.Default(ID("")), resource.RefTo("address_group"), resource.Filter, resource.Sort,
		resource.Ext("security-groups-default-rules")),
	resource.Attr("used_in_default_sg", func(r *DefaultRule) *bool { return &r.InDefault }, resource.Bool(),
		resource.CreateOnly, resource.Default(false), resource.Filter, resource.Ext("security-groups-default-rules")),
	resource.Attr("used_in_non_default_sg", func(r *DefaultRule) *bool { return &r.InOthers }, resource.Bool(),
		resource.CreateOnly, resource.Default(true), resource.Filter, resource.Ext("security-groups-default-rules")),
	standard(func(r *DefaultRule) *Standard { return &r.Standard }),
)

// ParentGroup is the remote group of a default rule that stands for the group that the rule is put into.
const ParentGroup = "PARENT"

// parentOrID is the id of a group, or PARENT; null is none.
func parentOrID() resource.Codec[string] {
	c := resource.NullString(maxName)
	c.Kind = "UUID, PARENT, or null"
	c.Decode = func(v any) (string, error) {
		switch v {
		case nil:
			return "", nil
		case ParentGroup:
			return ParentGroup, nil
		}
		return resource.UUID[string]().Decode(v)
	}
	return c
}

// prefixes is a list of CIDRs; host bits are refused, as Neutron refuses them.
func prefixes() resource.Codec[[]netip.Prefix] {
	return resource.Codec[[]netip.Prefix]{
		Kind: "list of CIDRs",
		Decode: func(v any) ([]netip.Prefix, error) {
			list, err := asList(v, "addresses")
			if err != nil {
				return nil, err
			}
			out := make([]netip.Prefix, 0, len(list))
			for _, item := range list {
				p, err := parsePrefix(item)
				switch {
				case err != nil:
					return nil, err
				case p != p.Masked():
					return nil, wrong("'%s' isn't a recognized IP subnet cidr, '%s' is recommended", p.String(), p.Masked().String())
				case slices.Contains(out, p):
					return nil, wrong("Duplicate items in the list: '%s'", item)
				}
				out = append(out, p)
			}
			return out, nil
		},
		Append: func(dst []byte, ps []netip.Prefix) []byte { return resource.AppendList(dst, ps, appendPrefix) },
		Match: func(values []string) (func([]netip.Prefix) bool, error) {
			return func(ps []netip.Prefix) bool {
				return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return slices.Contains(values, p.String()) })
			}, nil
		},
	}
}

// ParseAddresses reads the addresses of a change to an address group, which are less strict than those of its creation: a single address
// is a prefix of full length, host bits are cleared, what is given twice counts once.
func ParseAddresses(v any) ([]netip.Prefix, error) {
	list, ok := v.([]any)
	if !ok || len(list) > maxList {
		return nil, refuse("InvalidInput", "Invalid input for operation: '%s' is not a list of at most 1000 addresses.", v)
	}
	out := make([]netip.Prefix, 0, len(list))
	for _, item := range list {
		p, err := parsePrefix(item)
		if a, aerr := parseAddr(item); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, refuse("InvalidInput", "Invalid input for operation: '%s' is not a valid IP subnet.", item)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, ComparePrefixes)
	return slices.Compact(out), nil
}

// ComparePrefixes orders prefixes by address, IPv4 first, then by length.
func ComparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
