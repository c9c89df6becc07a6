package dhcpd

import (
	"fmt"
	"strconv"
	"strings"
)

// optionDef is one line of dnsmasq's table of names (dnsmasq --help dhcp, --help dhcp6).
type optionDef struct {
	code uint16
	form form
}

// serverAddress is dnsmasq's pseudo option "server-ip-address": it becomes siaddr of the header, the next server.
const serverAddress = 255

// names4 are the names of DHCPv4 options: dnsmasq's, and RFC 2132's for what dnsmasq keeps to itself.
var names4 = map[string]optionDef{
	"netmask": {1, formAddrs}, "time-offset": {2, formDec4}, "router": {3, formAddrs}, "dns-server": {6, formAddrs},
	"log-server": {7, formAddrs}, "lpr-server": {9, formAddrs}, "hostname": {12, formText}, "boot-file-size": {13, formDec2},
	"domain-name": {15, formText}, "swap-server": {16, formAddrs}, "root-path": {17, formText}, "extension-path": {18, formText},
	"ip-forward-enable": {19, formDec1}, "non-local-source-routing": {20, formDec1}, "policy-filter": {21, formAddrs},
	"max-datagram-reassembly": {22, formDec2}, "default-ttl": {23, formDec1}, "mtu": {26, formDec2},
	"all-subnets-local": {27, formDec1}, "broadcast": {28, formAddrs}, "router-discovery": {31, formDec1},
	"router-solicitation": {32, formAddrs}, "static-route": {33, formAddrs}, "trailer-encapsulation": {34, formDec1},
	"arp-timeout": {35, formDec4}, "ethernet-encap": {36, formDec1}, "tcp-ttl": {37, formDec1}, "tcp-keepalive": {38, formDec4},
	"nis-domain": {40, formText}, "nis-server": {41, formAddrs}, "ntp-server": {42, formAddrs}, "vendor-encap": {43, formAny},
	"netbios-ns": {44, formAddrs}, "netbios-dd": {45, formAddrs}, "netbios-nodetype": {46, formDec1}, "netbios-scope": {47, formText},
	"x-windows-fs": {48, formAddrs}, "x-windows-dm": {49, formAddrs}, "requested-address": {50, formDenied},
	"lease-time": {51, formTime}, "option-overload": {52, formDenied}, "message-type": {53, formDenied},
	"server-identifier": {54, formDenied}, "parameter-request": {55, formDenied}, "message": {56, formDenied},
	"max-message-size": {57, formDenied}, "T1": {58, formTime}, "T2": {59, formTime}, "vendor-class": {60, formText},
	"client-id": {61, formAny}, "nis+-domain": {64, formText}, "nis+-server": {65, formAddrs}, "tftp-server": {66, formText},
	"bootfile-name": {67, formText}, "mobile-ip-home": {68, formAddrs}, "smtp-server": {69, formAddrs},
	"pop3-server": {70, formAddrs}, "nntp-server": {71, formAddrs}, "irc-server": {74, formAddrs}, "user-class": {77, formAny},
	"rapid-commit": {80, formDenied}, "FQDN": {81, formDenied}, "agent-id": {82, formDenied}, "client-arch": {93, formDec2},
	"client-interface-id": {94, formAny}, "client-machine-id": {97, formAny}, "posix-timezone": {100, formText},
	"tzdb-timezone": {101, formText}, "ipv6-only": {108, formDec4}, "captive-portal": {114, formText}, "subnet-select": {118, formDenied},
	"domain-search": {119, formLabels}, "sip-server": {120, formSIP}, "classless-static-route": {121, formRoutes},
	"vendor-id-encap": {125, formAny}, "tftp-server-address": {150, formAddrs}, "server-ip-address": {serverAddress, formAddrs},
}

// names6 are the names of DHCPv6 options.
var names6 = map[string]optionDef{
	"client-id": {1, formDenied}, "server-id": {2, formDenied}, "ia-na": {3, formDenied}, "ia-ta": {4, formDenied},
	"iaaddr": {5, formDenied}, "oro": {6, formDenied}, "preference": {7, formDec1}, "unicast": {12, formDenied}, "status": {13, formDenied},
	"rapid-commit": {14, formDenied}, "user-class": {15, formAny}, "vendor-class": {16, formAny}, "vendor-opts": {17, formAny},
	"sip-server-domain": {21, formLabels}, "sip-server": {22, formAddrs}, "dns-server": {23, formAddrs},
	"domain-search": {24, formLabels}, "nis-server": {27, formAddrs}, "nis+-server": {28, formAddrs}, "nis-domain": {29, formLabels},
	"nis+-domain": {30, formLabels}, "sntp-server": {31, formAddrs}, "information-refresh-time": {32, formTime}, "FQDN": {39, formDenied},
	"posix-timezone": {41, formText}, "tzdb-timezone": {42, formText}, "ntp-server": {56, formNTP6}, "bootfile-url": {59, formText},
	"bootfile-param": {60, formCStr}, "captive-portal": {103, formText},
}

// forms4 and forms6 give the form of a plain number that the tables know.
var (
	forms4 = byCode(names4)
	forms6 = byCode(names6)
)

func byCode(names map[string]optionDef) map[uint16]form {
	out := make(map[uint16]form, len(names)+1)
	for _, d := range names {
		out[d.code] = d.form
	}
	return out
}

// Lookup finds an option by dnsmasq's name or by number.
func lookupOption(name string, v6 bool) (optionDef, error) {
	names, forms, limit := names4, forms4, uint64(254)
	if v6 {
		names, forms, limit = names6, forms6, 65535
	}
	if d, ok := names[name]; ok {
		return d, nil
	}
	for n, d := range names {
		if strings.EqualFold(n, name) {
			return d, nil
		}
	}
	n, err := strconv.ParseUint(name, 10, 16)
	if err != nil || n == 0 || n > limit && !(n == serverAddress && !v6) {
		return optionDef{}, fmt.Errorf("%w: no option %q", errValue, name)
	}
	code := uint16(n)
	if !v6 && code == 249 {
		return optionDef{code, formRoutes}, nil // Microsoft's classless routes
	}
	return optionDef{code, forms[code]}, nil
}

// extra is a port's own option, ready to send.
type extra struct {
	code  uint16
	value []byte
	tags  []tag // all must hold
}

type tag struct {
	name string
	not  bool
}

// parseExtra reads an extra_dhcp_opts entry.  The name may carry dnsmasq's prefixes: "tag:ipxe,", "tag:!ipxe,", "option:", "option6:".
func parseExtra(o Option) (extra, error) {
	var e extra
	name := strings.TrimSpace(o.Name)
	for {
		rest, ok := strings.CutPrefix(name, "tag:")
		if !ok {
			break
		}
		t, after, found := strings.Cut(rest, ",")
		if !found {
			return e, fmt.Errorf("%w: %q names no option after its tags", errValue, o.Name)
		}
		t, not := strings.CutPrefix(t, "!")
		e.tags = append(e.tags, tag{t, not})
		name = strings.TrimSpace(after)
	}
	v6 := o.IPVersion == 6
	for _, p := range []string{"option6:", "option:"} {
		name = strings.TrimPrefix(name, p)
	}
	d, err := lookupOption(name, v6)
	if err != nil {
		return e, err
	}
	e.code = d.code
	e.value, err = encodeValue(d.form, o.Value, v6)
	if err != nil {
		return e, fmt.Errorf("option %s: %w", name, err)
	}
	return e, nil
}

// holds tells whether the client's own tags fit: ipxe (it sent option 175), ipxe6 (its user class is iPXE), pxe (its vendor class
// begins with PXEClient).  An unknown tag is one that is not set.
func (e extra) holds(set map[string]bool) bool {
	for _, t := range e.tags {
		if set[t.name] == t.not {
			return false
		}
	}
	return true
}
