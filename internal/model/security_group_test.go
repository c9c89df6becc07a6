package model

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRuleAttributes(t *testing.T) {
	const id = "00000000-0000-4000-8000-00000000000a"
	const fill = `"security_group_id":"` + id + `","direction":"ingress",`
	for _, c := range []struct{ attr, value, want string }{
		{"ethertype", `"ipV6"`, `"IPv6"`},
		{"protocol", `null`, "null"},
		{"protocol", `"any"`, "null"},
		{"protocol", `"TCP"`, `"tcp"`},
		{"protocol", `"icmpv6"`, `"ipv6-icmp"`},
		{"protocol", `"6"`, `"6"`},
		{"protocol", `6`, `"6"`},
		{"protocol", `0`, `"0"`},
		{"protocol", `"hopopt"`, `"hopopt"`},
		{"port_range_min", `null`, "null"},
		{"port_range_min", `0`, "0"},
		{"port_range_max", `"65535"`, "65535"},
		{"port_range_max", `1.5`, "SecurityGroupInvalidPortValue: Invalid value for port 1.5"},
		{"remote_ip_prefix", `""`, "null"},
		{"remote_ip_prefix", `"10.0.0.5"`, `"10.0.0.5/32"`},
		{"remote_ip_prefix", `"fd00::1"`, `"fd00::1/128"`},
		{"remote_ip_prefix", `"10.0.0.5/8"`, `"10.0.0.5/8"`},
		{"remote_ip_prefix", `"0.0.0.0/0"`, `"0.0.0.0/0"`},
		{"remote_ip_prefix", `"fe80::1%eth0"`, "InvalidCIDR: Invalid CIDR fe80::1%eth0 given as IP prefix."},
		{"remote_group_id", `null`, "null"},
		{"remote_group_id", `"` + id + `"`, `"` + id + `"`},
		{"remote_group_id", `"web"`, "error: 'web' is not a valid UUID."},
	} {
		decodes(t, SecurityGroupRules, fill, c.attr, c.value, c.want)
	}
	decodes(t, Ports, `"network_id":"`+id+`",`, "security_groups", `["`+id+`","00000000000040008000000000000009","`+id+`"]`,
		`["00000000-0000-4000-8000-000000000009","`+id+`"]`)
	decodes(t, DefaultRules, `"direction":"egress",`, "remote_group_id", `"PARENT"`, `"PARENT"`)
	decodes(t, AddressGroups, "", "addresses", `["10.0.0.0/8","10.0.0.0/8"]`, "error: Duplicate items in the list: '10.0.0.0/8'.")
}

func TestProtocolNumber(t *testing.T) {
	for _, c := range []struct {
		protocol, ethertype string
		want                int
	}{
		{"", EtherIPv4, anyProtocol}, {"any", EtherIPv4, anyProtocol}, {"0", EtherIPv6, anyProtocol}, {"ip", EtherIPv4, anyProtocol},
		{"tcp", EtherIPv6, 6}, {"icmp", EtherIPv4, 1}, {"icmp", EtherIPv6, 58}, {"1", EtherIPv6, 58}, {"icmpv6", EtherIPv6, 58},
		{"255", EtherIPv4, 255}, {"256", EtherIPv4, noProtocol}, {"-1", EtherIPv4, noProtocol}, {"pizza", EtherIPv4, noProtocol},
	} {
		if got := ProtocolNumber(c.protocol, c.ethertype); got != c.want {
			t.Errorf("%s of %s is %d, want %d", c.protocol, c.ethertype, got, c.want)
		}
	}
}

func TestParseAddresses(t *testing.T) {
	got, err := ParseAddresses([]any{"fd00::1/8", "10.0.0.1", "9.0.0.0/8", "10.0.0.1/32"})
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, s := range []string{"9.0.0.0/8", "10.0.0.1/32", "fd00::/8"} {
		want = append(want, netip.MustParsePrefix(s))
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
	for _, bad := range []any{nil, "10.0.0.0/8", []any{7}, []any{"::ffff:1.2.3.4"}, []any{"10.0.0.0/33"}, make([]any, 1001)} {
		if _, err := ParseAddresses(bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
