package model

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"baryon/internal/resource"
)

// pools is a list of address ranges {start, end}.
func pools() resource.Codec[[]AddrRange] {
	return resource.Codec[[]AddrRange]{
		Kind: "list of {start, end}",
		Decode: func(v any) ([]AddrRange, error) {
			return objects(v, "IP pool", []string{"start", "end"}, func(m map[string]any) (r AddrRange, err error) {
				if len(m) != 2 {
					return r, wrong("Invalid data format for IP pool: '%s'", m)
				}
				if r.Start, err = parseAddr(m["start"]); err != nil {
					return r, err
				}
				r.End, err = parseAddr(m["end"])
				return r, err
			}, func(a, b AddrRange) bool { return a == b })
		},
		Append: func(dst []byte, rs []AddrRange) []byte {
			return resource.AppendList(dst, rs, func(dst []byte, r AddrRange) []byte {
				dst = appendAddr(append(dst, `{"start":`...), r.Start)
				dst = appendAddr(append(dst, `,"end":`...), r.End)
				return append(dst, '}')
			})
		},
	}
}

// nameservers is a list of distinct addresses of DNS servers.
func nameservers() resource.Codec[[]netip.Addr] {
	return resource.Codec[[]netip.Addr]{
		Kind: "list of IP addresses",
		Decode: func(v any) ([]netip.Addr, error) {
			list, err := asList(v, "nameserver")
			if err != nil {
				return nil, err
			}
			out := make([]netip.Addr, 0, len(list))
			for _, item := range list {
				a, err := parseAddr(item)
				if err != nil {
					return nil, fmt.Errorf("'%s' is not a valid nameserver. %w", resource.Show(item), err)
				}
				if slices.Contains(out, a) {
					return nil, wrong("Duplicate nameserver '%s'", item)
				}
				out = append(out, a)
			}
			return out, nil
		},
		Append: func(dst []byte, as []netip.Addr) []byte { return resource.AppendList(dst, as, appendAddr) },
	}
}

// hostRoutes is a list of distinct routes {destination, nexthop}; host bits of a destination are cleared.
func hostRoutes() resource.Codec[[]HostRoute] {
	return resource.Codec[[]HostRoute]{
		Kind: "list of {destination, nexthop}",
		Decode: func(v any) ([]HostRoute, error) {
			return objects(v, "hostroute", []string{"destination", "nexthop"}, func(m map[string]any) (r HostRoute, err error) {
				if len(m) != 2 {
					return r, wrong("Invalid data format for hostroute: '%s'", m)
				}
				if r.Destination, err = parsePrefix(m["destination"]); err != nil {
					return r, err
				}
				r.Destination = r.Destination.Masked()
				r.NextHop, err = parseAddr(m["nexthop"])
				return r, err
			}, func(a, b HostRoute) bool { return a == b })
		},
		Append: func(dst []byte, rs []HostRoute) []byte {
			return resource.AppendList(dst, rs, func(dst []byte, r HostRoute) []byte {
				dst = appendPrefix(append(dst, `{"destination":`...), r.Destination)
				dst = appendAddr(append(dst, `,"nexthop":`...), r.NextHop)
				return append(dst, '}')
			})
		},
	}
}

// addressPairs is a list of {ip_address, mac_address}.  An address may be a CIDR; a pair without a MAC gets the port's from the rules.
// Duplicates and the number of pairs are theirs too, for they have exception types of their own.
func addressPairs() resource.Codec[[]AddressPair] {
	return resource.Codec[[]AddressPair]{
		Kind: "list of {ip_address, mac_address}",
		Decode: func(v any) ([]AddressPair, error) {
			return objects(v, "allowed address pair", []string{"ip_address", "mac_address"}, decodePair,
				func(a, b AddressPair) bool { return false })
		},
		Append: func(dst []byte, ps []AddressPair) []byte { return resource.AppendList(dst, ps, appendPair) },
	}
}

func decodePair(m map[string]any) (p AddressPair, err error) {
	v, ok := m["ip_address"]
	if !ok || v == nil {
		return p, &resource.BadRequest{Type: "AllowedAddressPairsMissingIP", Message: "AllowedAddressPair must contain ip_address."}
	}
	if a, err := parseAddr(v); err == nil {
		p.IPAddress = netip.PrefixFrom(a, a.BitLen())
	} else if pre, perr := parsePrefix(v); perr == nil {
		p.IPAddress = pre.Masked()
	} else {
		return p, err
	}
	if mac := m["mac_address"]; mac != nil {
		p.MAC, err = hardwareAddr().Decode(mac)
	}
	return p, err
}

func appendPair(dst []byte, p AddressPair) []byte {
	dst = append(dst, `{"ip_address":`...)
	if p.IPAddress.IsSingleIP() {
		dst = appendAddr(dst, p.IPAddress.Addr())
	} else {
		dst = appendPrefix(dst, p.IPAddress)
	}
	dst = appendMAC(append(dst, `,"mac_address":`...), p.MAC)
	return append(dst, '}')
}

// maxDHCPOpt is the length of the value of a DHCP option: what one option of DHCPv4 can carry (RFC 2132 §2).
const maxDHCPOpt = 255

// dhcpOpts is a list of {opt_name, opt_value, ip_version}; ip_version defaults to 4, and opt_value null deletes the option.
func dhcpOpts() resource.Codec[[]ExtraDHCPOpt] {
	return resource.Codec[[]ExtraDHCPOpt]{
		Kind: "list of {opt_name, opt_value, ip_version}",
		Decode: func(v any) ([]ExtraDHCPOpt, error) {
			return objects(v, "extra DHCP option", []string{"opt_name", "opt_value", "ip_version"}, decodeDHCPOpt,
				func(a, b ExtraDHCPOpt) bool { return a.Name == b.Name && a.IPVersion == b.IPVersion })
		},
		Append: func(dst []byte, os []ExtraDHCPOpt) []byte { return resource.AppendList(dst, os, appendDHCPOpt) },
	}
}

func decodeDHCPOpt(m map[string]any) (ExtraDHCPOpt, error) {
	o := ExtraDHCPOpt{IPVersion: 4}
	var err error
	if o.Name, err = optText(m["opt_name"], 64); err != nil {
		return o, err
	}
	v, ok := m["opt_value"]
	switch {
	case !ok:
		return o, wrong("Invalid data format for extra DHCP option: '%s'", m)
	case v == nil:
		o.Remove = true
	default:
		if o.Value, err = optText(v, maxDHCPOpt); err != nil {
			return o, err
		}
	}
	if v := m["ip_version"]; v != nil {
		o.IPVersion, err = resource.OneOf(4, 6).Decode(v)
	}
	return o, err
}

// optText reads text that is not blank and holds no control characters, which would end a line in a leases or options file.
func optText(v any, most int) (string, error) {
	s, err := resource.String(most).Decode(v)
	switch {
	case err != nil:
		return "", err
	case strings.TrimSpace(s) == "":
		return "", wrong("'%s' Blank strings are not permitted", v)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errors.New("control characters are not permitted")
	}
	return s, nil
}

func appendDHCPOpt(dst []byte, o ExtraDHCPOpt) []byte {
	dst = resource.AppendString(append(dst, `{"opt_name":`...), o.Name)
	dst = resource.AppendString(append(dst, `,"opt_value":`...), o.Value)
	dst = append(dst, `,"ip_version":`...)
	return append(strconv.AppendInt(dst, int64(o.IPVersion), 10), '}')
}

func appendDNSAssignment(dst []byte, a DNSAssignment) []byte {
	dst = appendAddr(append(dst, `{"ip_address":`...), a.IPAddress)
	dst = resource.AppendString(append(dst, `,"hostname":`...), a.Hostname)
	dst = resource.AppendString(append(dst, `,"fqdn":`...), a.FQDN)
	return append(dst, '}')
}

// checkDNS tells why a name is no partially or fully qualified domain name (RFC 1123 §2.1); nil if it is one.
func checkDNS(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("'%s' exceeds the %d character FQDN limit", resource.Show(s), maxName)
	}
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	for _, l := range labels {
		if !validLabel(l) {
			return fmt.Errorf("'%s' not a valid PQDN or FQDN. Reason: Name '%s' must be 1-63 characters long, each of which can only be alphanumeric or a hyphen", resource.Show(s), l)
		}
	}
	if last := labels[len(labels)-1]; len(labels) > 1 && strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("'%s' not a valid PQDN or FQDN. Reason: TLD '%s' must not be all numeric", resource.Show(s), last)
	}
	return nil
}

func validLabel(l string) bool {
	if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	return strings.IndexFunc(l, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}

// dnsName is a host name, kept in lower case; empty is none.
func dnsName() resource.Codec[string] {
	c := resource.String(maxName)
	c.Kind = "host name or fully qualified domain name"
	c.Decode = func(v any) (string, error) {
		s, err := resource.String(maxName).Decode(v)
		if err != nil || s == "" {
			return "", err
		}
		return strings.ToLower(s), checkDNS(s)
	}
	return c
}

// dnsDomain is a domain name that ends in a dot, kept in lower case; empty is none.
func dnsDomain() resource.Codec[string] {
	c := dnsName()
	c.Kind = "domain name ending in a dot"
	name := c.Decode
	c.Decode = func(v any) (string, error) {
		s, err := name(v)
		if err == nil && s != "" && !strings.HasSuffix(s, ".") {
			return "", wrong("'%s' is not a FQDN", v)
		}
		return s, err
	}
	return c
}
