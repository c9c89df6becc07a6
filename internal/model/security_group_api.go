package model

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"baryon/internal/resource"
)

// Names of protocols that only IPv6 has; as rules of IPv4 they are refused.
var ipv6Protocols = []string{"ipv6-encap", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route"}

// OnlyIPv6 tells whether a rule's protocol exists in IPv6 alone, by name or by number.
func OnlyIPv6(protocol string) bool {
	return slices.ContainsFunc(ipv6Protocols, func(name string) bool {
		return protocol == name || protocol == strconv.Itoa(protocolNumbers[name])
	})
}

// SecurityGroupRules defines the resource security_group_rule.
var SecurityGroupRules = resource.Define(SecurityGroupRuleTable, "security_group_rule", "security_group_rules",
	identity(func(r *SecurityGroupRule) *Standard { return &r.Standard }),
	resource.Attr("security_group_id", func(r *SecurityGroupRule) *ID { return &r.SecurityGroupID }, resource.UUID[ID](),
		resource.CreateOnly, resource.Required, resource.RefTo("security_group"), resource.Filter, resource.Sort, resource.Indexed("group"),
		resource.Policy("project of the group"), resource.Ext("security-group")),
	resource.Attr("direction", func(r *SecurityGroupRule) *string { return &r.Direction }, resource.Enum(DirectionIngress, DirectionEgress),
		resource.CreateOnly, resource.Required, resource.Filter, resource.Sort, resource.Ext("security-group")),
	resource.Attr("ethertype", func(r *SecurityGroupRule) *string { return &r.EtherType }, etherType(),
		resource.CreateOnly, resource.Default(EtherIPv4), resource.Filter, resource.Sort, resource.Ext("security-group")),
	resource.Attr("protocol", func(r *SecurityGroupRule) *string { return &r.Protocol }, protocol(),
		resource.CreateOnly, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("security-group")),
	resource.Attr("port_range_min", func(r *SecurityGroupRule) *int { return &r.PortMin }, rulePort(),
		resource.CreateOnly, resource.Default(-1), resource.Filter, resource.Sort, resource.Ext("security-group")),
	resource.Attr("port_range_max", func(r *SecurityGroupRule) *int { return &r.PortMax }, rulePort(),
		resource.CreateOnly, resource.Default(-1), resource.Filter, resource.Sort, resource.Ext("security-group")),
	resource.Attr("remote_group_id", func(r *SecurityGroupRule) *ID { return &r.RemoteGroupID }, idOrNull(),
		resource.CreateOnly, resource.Default(ID("")), resource.RefTo("security_group"), resource.Filter, resource.Sort,
		resource.Indexed("remote_group"), resource.Ext("security-group")),
	resource.Attr("remote_ip_prefix", func(r *SecurityGroupRule) *string { return &r.RemotePrefix }, rulePrefix(),
		resource.CreateOnly, resource.Default(""), resource.Filter, resource.Sort, resource.Ext("security-group")),
	resource.Attr("normalized_cidr", func(r *SecurityGroupRule) *netip.Prefix { return &r.NormalizedPrefix }, cidr(),
		resource.Filter, resource.Sort, resource.Ext("security-groups-normalized-cidr")),
	resource.Attr("remote_address_group_id", func(r *SecurityGroupRule) *ID { return &r.RemoteAddressGroupID }, idOrNull(),
		resource.CreateOnly, resource.Default(ID("")), resource.RefTo("address_group"), resource.Filter, resource.Sort,
		resource.Indexed("address_group"), resource.Ext("security-groups-remote-address-group")),
	resource.Attr("belongs_to_default_sg", func(r *SecurityGroupRule) *bool { return &r.BelongsToDefault }, resource.Bool(),
		resource.Presented, resource.Filter, resource.Ext("security-groups-rules-belongs-to-default-sg")),
	standard(func(r *SecurityGroupRule) *Standard { return &r.Standard }),
)

// SecurityGroups defines the resource security_group.
var SecurityGroups = resource.Define(SecurityGroupTable, "security_group", "security_groups",
	identity(func(g *SecurityGroup) *Standard { return &g.Standard }),
	resource.Attr("name", func(g *SecurityGroup) *string { return &g.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name"), resource.Ext("security-group")),
	resource.Attr("stateful", func(g *SecurityGroup) *bool { return &g.Stateful }, resource.Bool(),
		resource.Writable, resource.Default(true), resource.Filter, resource.Ext("stateful-security-group")),
	resource.Attr("shared", func(g *SecurityGroup) *bool { return &g.Shared }, resource.Bool(), resource.Presented, resource.Filter, resource.Ext("rbac-security-groups")),
	resource.Attr("security_group_rules", func(g *SecurityGroup) *[]*SecurityGroupRule { return &g.Rules },
		resource.List("list of security group rules", SecurityGroupRules.Encoder(nil, false).Append),
		resource.Presented, resource.Ext("security-group")),
	standard(func(g *SecurityGroup) *Standard { return &g.Standard }),
)

// refuse makes a refusal that has an exception type, and a message, of its own.
func refuse(typ, format string, vs ...any) error {
	return &resource.BadRequest{Type: typ, Message: wrong(format, vs...).Error()}
}

// etherType is IPv4 or IPv6, in any case of letters.
func etherType() resource.Codec[string] {
	c := resource.Enum(EtherIPv4, EtherIPv6)
	c.Decode = func(v any) (string, error) {
		s, _ := v.(string)
		for _, known := range []string{EtherIPv4, EtherIPv6} {
			if strings.EqualFold(s, known) {
				return known, nil
			}
		}
		return "", refuse("SecurityGroupRuleInvalidEtherType",
			"Security group rule for ethertype '%s' not supported. Allowed values are ['IPv4', 'IPv6'].", v)
	}
	return c
}

// protocol is a name of an IP protocol, a number from 0 to 255, or null for any.  It is kept as it was given, but for letters' case and
// for icmpv6, an older name of ipv6-icmp.
func protocol() resource.Codec[string] {
	c := resource.NullString(maxName)
	c.Kind = "name of an IP protocol, 0 to 255, or null"
	c.Decode = func(v any) (string, error) {
		var s string
		switch t := v.(type) {
		case nil:
			return "", nil
		case string:
			s = strings.ToLower(t)
		case json.Number:
			s = t.String()
		}
		switch {
		case s == "any":
			return "", nil
		case s == "icmpv6":
			return "ipv6-icmp", nil
		case s == "" || ProtocolNumber(s, EtherIPv4) == noProtocol:
			return "", refuse("SecurityGroupRuleInvalidProtocol", "Security group rule protocol %s not supported. Only protocol values "+
				"%s and integer representations [0 to 255] are supported.", v, protocolNames())
		}
		return s, nil
	}
	return c
}

// protocolNames lists the names for a message.
func protocolNames() string {
	names := make([]string, 0, len(protocolNumbers))
	for name := range protocolNumbers {
		names = append(names, "'"+name+"'")
	}
	slices.Sort(names)
	return "[" + strings.Join(names, ", ") + "]"
}

// rulePort is a port, an ICMP type or an ICMP code; null is none and kept as -1.  Which of the values make sense together is the rules' to
// check.
func rulePort() resource.Codec[int] {
	const most = 65535
	return resource.Codec[int]{
		Kind: "integer, 0 to 65535, or null",
		Decode: func(v any) (int, error) {
			if v == nil {
				return -1, nil
			}
			n, err := resource.ParseInt(v)
			if err != nil || n < 0 || n > most {
				return -1, refuse("SecurityGroupInvalidPortValue", "Invalid value for port %s", v)
			}
			return int(n), nil
		},
		Append: func(dst []byte, n int) []byte {
			if n < 0 {
				return append(dst, "null"...)
			}
			return strconv.AppendInt(dst, int64(n), 10)
		},
		Match: func(values []string) (func(int) bool, error) {
			return func(n int) bool { return n >= 0 && slices.Contains(values, strconv.Itoa(n)) }, nil
		},
		Compare: cmp.Compare[int],
	}
}

// rulePrefix is a prefix as the client gave it, host bits included; a single address gets its full length.  Null and the empty text are
// none.
func rulePrefix() resource.Codec[string] {
	c := resource.NullString(maxName)
	c.Kind = "CIDR, or null"
	c.Decode = func(v any) (string, error) {
		if v == nil || v == "" {
			return "", nil
		}
		if a, err := parseAddr(v); err == nil {
			return netip.PrefixFrom(a, a.BitLen()).String(), nil
		}
		p, err := parsePrefix(v)
		if err != nil {
			return "", refuse("InvalidCIDR", "Invalid CIDR %s given as IP prefix.", v)
		}
		return p.String(), nil
	}
	return c
}

// idOrNull is a UUID; null is none.
func idOrNull() resource.Codec[ID] {
	c := orNull(resource.UUID[ID]())
	c.Append = func(dst []byte, id ID) []byte {
		if id == "" {
			return append(dst, "null"...)
		}
		return resource.AppendString(dst, id)
	}
	return c
}

// groupIDs is the list of a port's security groups: sorted, each once.  Null is nil, which the rules tell from the empty list.
func groupIDs() resource.Codec[[]ID] {
	return resource.Codec[[]ID]{
		Kind: "list of UUIDs, or null",
		Decode: func(v any) ([]ID, error) {
			if v == nil {
				return nil, nil
			}
			list, err := asList(v, "security groups")
			if err != nil {
				return nil, err
			}
			ids := make([]ID, 0, len(list))
			for _, item := range list {
				id, err := resource.UUID[ID]().Decode(item)
				if err != nil {
					return nil, refuse("InvalidInput", "Invalid input for operation: '%s' is not an integer or uuid.", item)
				}
				ids = append(ids, id)
			}
			slices.Sort(ids)
			return slices.Compact(ids), nil
		},
		Append: func(dst []byte, ids []ID) []byte { return resource.AppendList(dst, ids, resource.AppendString[ID]) },
		Match: func(values []string) (func([]ID) bool, error) {
			return func(ids []ID) bool {
				return slices.ContainsFunc(ids, func(id ID) bool { return slices.Contains(values, string(id)) })
			}, nil
		},
	}
}
