package dhcpd

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// lease is one line of the leases file: what a client was told last.
type lease struct {
	ip      netip.Addr
	mac     MAC       // IPv4
	expires time.Time // zero: never
	client  []byte    // DHCPv4's client id, DHCPv6's DUID
	iaid    uint32    // IPv6
}

// leaseBook keeps the leases of one network by address.  It is a record for people: answers never depend on it.
type leaseBook struct {
	m map[netip.Addr]lease
}

// maxLeaseFile bounds what is read back at start.
const maxLeaseFile = 16 << 20

// note records what a message means.
func (b *leaseBook) note(ev *event, now time.Time) {
	if ev.kind != leased {
		delete(b.m, ev.addr.IP)
		return
	}
	b.m[ev.addr.IP] = lease{
		ip: ev.addr.IP, mac: ev.host.MAC, expires: leaseEnd(now, ev.lease), client: ev.clientID, iaid: ev.iaid,
	}
}

// seed forgets leases of addresses that no port has, and lists every port's IPv4 address that has none, ending one lease from now: as
// Neutron seeds dnsmasq's file.
func (b *leaseBook) seed(t *table, now time.Time) {
	known := make(map[netip.Addr]bool, len(b.m))
	for i := range t.cfg.Hosts {
		h := &t.cfg.Hosts[i]
		for _, a := range h.Addresses {
			s := t.subnets[a.SubnetID]
			if s == nil || !s.EnableDHCP || h.MAC.isZero() {
				continue
			}
			known[a.IP] = true
			if l, ok := b.m[a.IP]; a.IP.Is4() && (!ok || l.mac != h.MAC) {
				b.m[a.IP] = lease{ip: a.IP, mac: h.MAC, expires: leaseEnd(now, t.lease)}
			}
		}
	}
	for ip := range b.m {
		if !known[ip] {
			delete(b.m, ip)
		}
	}
}

// write prints the file as dnsmasq does: "<expiry> <mac> <ip> <hostname> <client id>" for IPv4 (client id "*": not asked for by DHCP),
// this server's own addresses last, then the server's DUID and "<expiry> <iaid> <ip> <hostname> <duid>" for IPv6.
func (b *leaseBook) write(w io.Writer, t *table) {
	var v4, own, v6 []string
	for i := range t.cfg.Hosts {
		h := &t.cfg.Hosts[i]
		for _, a := range h.Addresses {
			l, ok := b.m[a.IP]
			name := cmp.Or(a.Hostname, "*")
			switch {
			case !ok || a.IP.Is4() && l.mac != h.MAC:
			case a.IP.Is6():
				v6 = append(v6, fmt.Sprintf("%d %d %s %s %s", epoch(l.expires), l.iaid, a.IP, name, colons(l.client)))
			default:
				line := fmt.Sprintf("%d %s %s %s %s", epoch(l.expires), macText(h.MAC), a.IP, name, colons(l.client))
				if h.Server {
					own = append(own, line)
				} else {
					v4 = append(v4, line)
				}
			}
		}
	}
	v4 = append(v4, own...)
	if t.v6 {
		v4 = append(v4, "duid "+colons(t.duid))
	}
	for _, l := range append(v4, v6...) {
		fmt.Fprintln(w, l) //nolint:errcheck // into memory
	}
}

// readLeases reads a leases file back.  Lines that make no sense are skipped: the file is for people, and may have been edited by one.
func readLeases(r io.Reader) *leaseBook {
	b := &leaseBook{m: map[netip.Addr]lease{}}
	sc := bufio.NewScanner(io.LimitReader(r, maxLeaseFile))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) != 5 {
			continue
		}
		end, err := strconv.ParseInt(f[0], 10, 64)
		ip, err2 := netip.ParseAddr(f[2])
		if err != nil || err2 != nil || end < 0 {
			continue
		}
		l := lease{ip: ip}
		if end > 0 {
			l.expires = time.Unix(end, 0)
		}
		if f[4] == "*" {
			f[4] = ""
		}
		if l.client, err = hex.DecodeString(strings.ReplaceAll(f[4], ":", "")); err != nil {
			continue
		}
		if ip.Is4() {
			m, err := hex.DecodeString(strings.ReplaceAll(f[1], ":", ""))
			if err != nil || len(m) != 6 {
				continue
			}
			l.mac = MAC(m)
		} else {
			n, err := strconv.ParseUint(f[1], 10, 32)
			if err != nil {
				continue
			}
			l.iaid = uint32(n)
		}
		b.m[ip] = l
	}
	return b
}

func epoch(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func macText(m MAC) string { return colons(m[:]) }

// colons prints bytes as 01:fa:16:3e; none as "*".
func colons(b []byte) string {
	if len(b) == 0 {
		return "*"
	}
	var out bytes.Buffer
	for i, c := range b {
		if i > 0 {
			out.WriteByte(':')
		}
		fmt.Fprintf(&out, "%02x", c)
	}
	return out.String()
}
