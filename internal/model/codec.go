package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/resource"
)

// Bounds of lists in request bodies.  They keep a hostile body from costing more than its own size; the rules of a resource set the
// narrower limits that clients know (5 name servers, 20 routes, 10 address pairs).
const maxList = 1000

// maxName is the length of names, descriptions, ids of projects and devices in characters.
const maxName = 255

// wrong is a reason why a value is refused, as Neutron words it.
func wrong(format string, vs ...any) error {
	for i, v := range vs {
		vs[i] = resource.Show(v)
	}
	return fmt.Errorf(format, vs...)
}

// parseAddr reads an address as the API has it: no zone, and an IPv4-mapped IPv6 address is refused, for it would be a
// second spelling of an IPv4 one.
func parseAddr(v any) (netip.Addr, error) {
	s, ok := v.(string)
	if !ok {
		return netip.Addr{}, wrong("'%s' is not a valid IP address", v)
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, wrong("'%s' is not a valid IP address", v)
	}
	return a, nil
}

// parsePrefix reads a CIDR; host bits are kept.
func parsePrefix(v any) (netip.Prefix, error) {
	s, ok := v.(string)
	if !ok {
		return netip.Prefix{}, wrong("'%s' is not a valid IP subnet", v)
	}
	if a, err := parseAddr(s); err == nil {
		return netip.Prefix{}, fmt.Errorf("'%s' isn't a recognized IP subnet cidr, '%s/%d' is recommended", s, a, a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, wrong("'%s' is not a valid IP subnet", v)
	}
	return p, nil
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(dst, "null"...)
	}
	return append(a.AppendTo(append(dst, '"')), '"')
}

func appendPrefix(dst []byte, p netip.Prefix) []byte {
	if !p.IsValid() {
		return append(dst, "null"...)
	}
	return append(p.AppendTo(append(dst, '"')), '"')
}

// matchAddr compares addresses, not spellings; what is no address equals none.  The empty value and only it matches "no address".
func matchAddr(values []string) (func(netip.Addr) bool, error) {
	set := map[netip.Addr]bool{}
	for _, s := range values {
		if s == "" {
			set[netip.Addr{}] = true
		} else if a, err := netip.ParseAddr(s); err == nil {
			set[a] = true
		}
	}
	return func(a netip.Addr) bool { return set[a] }, nil
}

// addrOrNull is an IP address; null is no address.
func addrOrNull() resource.Codec[netip.Addr] {
	return resource.Codec[netip.Addr]{
		Kind: "IP address, or null",
		Decode: func(v any) (netip.Addr, error) {
			if v == nil {
				return netip.Addr{}, nil
			}
			return parseAddr(v)
		},
		Append:  appendAddr,
		Match:   matchAddr,
		Compare: netip.Addr.Compare,
	}
}

// cidr is an IP prefix; its host bits are cleared.
func cidr() resource.Codec[netip.Prefix] {
	return resource.Codec[netip.Prefix]{
		Kind: "CIDR",
		Decode: func(v any) (netip.Prefix, error) {
			p, err := parsePrefix(v)
			return p.Masked(), err
		},
		Append: appendPrefix,
		Match: func(values []string) (func(netip.Prefix) bool, error) {
			return func(p netip.Prefix) bool { return slices.Contains(values, p.String()) }, nil
		},
		Compare: ComparePrefixes,
	}
}

// hardwareAddr is an Ethernet address; null asks for a new one.
func hardwareAddr() resource.Codec[MAC] {
	return resource.Codec[MAC]{
		Kind: "MAC address",
		Decode: func(v any) (MAC, error) {
			if v == nil {
				return MAC{}, nil
			}
			s, _ := v.(string)
			m, err := ParseMAC(s)
			if err != nil || !m.IsUnicast() {
				return MAC{}, wrong("'%s' is not a valid MAC address", v)
			}
			return m, nil
		},
		Append: appendMAC,
		Match: func(values []string) (func(MAC) bool, error) {
			set := map[MAC]bool{}
			for _, s := range values {
				if m, err := ParseMAC(s); err == nil {
					set[m] = true
				}
			}
			return func(m MAC) bool { return set[m] }, nil
		},
		Compare: func(a, b MAC) int { return slices.Compare(a[:], b[:]) },
	}
}

func appendMAC(dst []byte, m MAC) []byte { return resource.AppendString(dst, m.String()) }

// asList reads a list of bounded length.
func asList(v any, what string) ([]any, error) {
	list, ok := v.([]any)
	if !ok || len(list) > maxList {
		return nil, wrong("Invalid data format for %s: '%s'", what, v)
	}
	return list, nil
}

// entry reads one object of a list that may have only the named keys.
func entry(v any, what string, keys ...string) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, wrong("Invalid data format for %s: '%s'", what, v)
	}
	for k := range m {
		if !slices.Contains(keys, k) {
			return nil, wrong("Invalid data format for %s: '%s'", what, v)
		}
	}
	return m, nil
}

// objects decodes a list of objects with known keys, each by one, and refuses those that same tells equal.
func objects[V any](v any, what string, keys []string, one func(m map[string]any) (V, error), same func(a, b V) bool) ([]V, error) {
	list, err := asList(v, what)
	if err != nil {
		return nil, err
	}
	out := make([]V, 0, len(list))
	for _, item := range list {
		m, err := entry(item, what, keys...)
		if err != nil {
			return nil, err
		}
		value, err := one(m)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o V) bool { return same(o, value) }) {
			return nil, wrong("Duplicate %s '%s'", what, item)
		}
		out = append(out, value)
	}
	return out, nil
}

// orNull makes null the empty value of a kind.
func orNull[V any](c resource.Codec[V]) resource.Codec[V] {
	inner := c.Decode
	c.Kind += ", or null"
	c.Decode = func(v any) (V, error) {
		if v == nil {
			var none V
			return none, nil
		}
		return inner(v)
	}
	return c
}

// fixedIPs is the list of a port's addresses: {subnet_id}, {ip_address} or both.
func fixedIPs() resource.Codec[[]FixedIP] {
	return resource.Codec[[]FixedIP]{
		Kind: "list of {subnet_id, ip_address}",
		Decode: func(v any) ([]FixedIP, error) {
			return objects(v, "fixed IP", []string{"subnet_id", "ip_address"}, decodeFixedIP, func(a, b FixedIP) bool {
				return a.IPAddress.IsValid() && a.IPAddress == b.IPAddress && (a.SubnetID == b.SubnetID || a.SubnetID == "" || b.SubnetID == "")
			})
		},
		Append: func(dst []byte, ips []FixedIP) []byte { return resource.AppendList(dst, ips, appendFixedIP) },
		Match:  matchFixedIPs,
	}
}

func decodeFixedIP(m map[string]any) (f FixedIP, err error) {
	if v, ok := m["ip_address"]; ok {
		if f.IPAddress, err = parseAddr(v); err != nil {
			return f, err
		}
	}
	if v, ok := m["subnet_id"]; ok {
		f.SubnetID, err = resource.UUID[ID]().Decode(v)
	}
	if len(m) == 0 {
		err = wrong("Invalid data format for fixed IP: '%s'", m)
	}
	return f, err
}

func appendFixedIP(dst []byte, f FixedIP) []byte {
	dst = resource.AppendString(append(dst, `{"subnet_id":`...), f.SubnetID)
	dst = appendAddr(append(dst, `,"ip_address":`...), f.IPAddress)
	return append(dst, '}')
}

// fixedIPFilter splits the values of a fixed_ips parameter, key=value each, by key.
func fixedIPFilter(values []string) (map[string][]string, error) {
	by := map[string][]string{}
	for _, kv := range values {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k != "subnet_id" && k != "ip_address" && k != "ip_address_substr" {
			return nil, wrong("'%s' is not of the form <key>=[value]", kv)
		}
		by[k] = append(by[k], v)
	}
	return by, nil
}

// matchFixedIPs finds ports with an address for which every given key has one of its values.
func matchFixedIPs(values []string) (func([]FixedIP) bool, error) {
	by, err := fixedIPFilter(values)
	if err != nil {
		return nil, err
	}
	var checks []func(FixedIP) bool
	if ids := by["subnet_id"]; ids != nil {
		checks = append(checks, func(f FixedIP) bool { return slices.Contains(ids, string(f.SubnetID)) })
	}
	if ips := by["ip_address"]; ips != nil {
		match, err := matchAddr(ips)
		if err != nil {
			return nil, err
		}
		checks = append(checks, func(f FixedIP) bool { return match(f.IPAddress) })
	}
	if parts := by["ip_address_substr"]; parts != nil {
		checks = append(checks, func(f FixedIP) bool {
			s := f.IPAddress.String()
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
		})
	}
	return func(ips []FixedIP) bool {
		return slices.ContainsFunc(ips, func(f FixedIP) bool {
			for _, ok := range checks {
				if !ok(f) {
					return false
				}
			}
			return true
		})
	}, nil
}

// probeSubnets are the subnets that a fixed_ips filter names.
func probeSubnets(values []string) []string {
	by, err := fixedIPFilter(values)
	if err != nil || slices.Contains(by["subnet_id"], "") {
		return nil
	}
	return by["subnet_id"]
}
