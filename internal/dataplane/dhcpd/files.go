package dhcpd

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// writeFiles writes what Neutron's DHCP agent would have given dnsmasq, for operators' eyes: nothing reads these files.  Formats are
// those of host, addn_hosts, opts and interface as Stein and later write them.
func writeFiles(dir, device string, t *table) error {
	return errors.Join(
		writeFile(dir, "interface", []byte(device)),
		writeFile(dir, "host", hostFile(t)),
		writeFile(dir, "addn_hosts", addnHostsFile(t)),
		writeFile(dir, "opts", optsFile(t)),
	)
}

// writeFile replaces a file at once; nobody sees half of it.  One that has the content already is left alone.
func writeFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
		return nil
	}
	tmp := filepath.Join(dir, "."+name+".new")
	if err := os.WriteFile(tmp, content, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeLeases(dir string, b *leaseBook, t *table) error {
	var out bytes.Buffer
	b.write(&out, t)
	return writeFile(dir, "leases", out.Bytes())
}

// hostFile: "<mac>[,id:<client id>],<fqdn>.,<ip>[,set:port-<id>]", IPv6 "<mac>,tag:dhcpv6,<fqdn>.,[<ip>]".
func hostFile(t *table) []byte {
	var out bytes.Buffer
	for _, h := range t.cfg.Hosts {
		if h.Server || h.MAC.isZero() {
			continue
		}
		set, id := "", ""
		for _, o := range h.Options {
			if o.Name == "client-id" || o.Name == "61" {
				id = ",id:" + oneLine(o.Value)
			} else {
				set = ",set:port-" + h.PortID
			}
		}
		stateless := set != ""
		for _, a := range h.Addresses {
			s := t.subnets[a.SubnetID]
			if s == nil || !s.EnableDHCP {
				continue
			}
			switch {
			case a.IP.Is4():
				fmt.Fprintf(&out, "%s%s,%s,%s%s\n", macText(h.MAC), id, dotted(a), a.IP, set)
			case s.stateful():
				fmt.Fprintf(&out, "%s,tag:dhcpv6,%s,[%s]%s\n", macText(h.MAC), dotted(a), a.IP, set)
			case stateless && s.dhcp6():
				fmt.Fprintf(&out, "%s,tag:dhcpv6%s\n", macText(h.MAC), set)
				stateless = false
			}
		}
	}
	return out.Bytes()
}

func dotted(a HostAddress) string { return strings.TrimSuffix(cmp.Or(a.FQDN, a.Hostname), ".") + "." }

// oneLine keeps a value that a user gave from making lines of its own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, s)
}

// addnHostsFile: "<ip>\t<fqdn>. <hostname>" of every address.
func addnHostsFile(t *table) []byte {
	var out bytes.Buffer
	for _, h := range t.cfg.Hosts {
		if h.Server {
			continue
		}
		for _, a := range h.Addresses {
			fmt.Fprintf(&out, "%s\t%s %s\n", a.IP, dotted(a), a.Hostname)
		}
	}
	return out.Bytes()
}

// optsFile: "tag:subnet-<id>,option:<name>,<values>", then the ports' own options under "tag:port-<id>".
func optsFile(t *table) []byte {
	var lines []string
	for i := range t.cfg.Subnets {
		s := t.subnets[t.cfg.Subnets[i].ID]
		if s == nil || !s.EnableDHCP || s.CIDR.Addr().Is6() && !s.dhcp6() {
			continue
		}
		lines = append(lines, s.lines(t)...)
	}
	for _, h := range t.cfg.Hosts {
		for _, o := range h.Options {
			if o.Name == "client-id" || o.Name == "61" {
				continue
			}
			if _, err := parseExtra(o); err != nil {
				continue
			}
			prefix, name := "option", o.Name
			if o.IPVersion == 6 {
				prefix = "option6"
			}
			tags := ""
			for strings.HasPrefix(name, "tag:") {
				t, rest, _ := strings.Cut(name, ",")
				tags, name = tags+","+t, rest
			}
			lines = append(lines, fmt.Sprintf("tag:port-%s%s,%s:%s,%s", h.PortID, oneLine(tags), prefix, oneLine(name), oneLine(o.Value)))
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

func (s *subnet) lines(t *table) []string {
	var out []string
	line := func(parts ...string) {
		out = append(out, "tag:subnet-"+s.ID+","+strings.Join(parts, ","))
	}
	option, show := "option:", func(a netip.Addr) string { return a.String() }
	if s.CIDR.Addr().Is6() {
		option, show = "option6:", func(a netip.Addr) string { return "[" + a.String() + "]" }
	}
	if dns := s.nameservers(); len(s.Nameservers) > 0 && len(dns) == 0 {
		line(option + "dns-server")
	} else if len(s.Nameservers) > 0 || len(s.Servers) > 1 {
		parts := []string{option + "dns-server"}
		for _, a := range dns {
			parts = append(parts, show(a))
		}
		line(parts...)
	}
	if s.CIDR.Addr().Is6() {
		if t.cfg.Domain != "" {
			line("option6:domain-search", strings.TrimSuffix(t.cfg.Domain, ".")+".")
		}
		return out
	}
	if routes := s.classlessRoutes(t.cfg); len(routes) > 0 {
		parts := make([]string, 0, 2*len(routes))
		for _, r := range routes {
			parts = append(parts, r.Destination.Masked().String(), r.NextHop.String())
		}
		line(append([]string{"option:classless-static-route"}, parts...)...)
		line(append([]string{"249"}, parts...)...)
	}
	if gw := s.gateway(); gw.IsValid() {
		line("option:router", gw.String())
	} else {
		line("option:router")
	}
	return out
}
