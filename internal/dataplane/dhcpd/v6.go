package dhcpd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// answer6 turns one DHCPv6 packet into the frame of its reply.  The port is known by the MAC of the frame, which the switch has
// checked, and not by the DUID: a machine uses one DUID on all its ports.
func answer6(t *table, p *packet) (frame []byte, ev *event, v Verdict) {
	m, err := parse6(p.payload)
	if err != nil {
		return nil, nil, Malformed
	}
	if m.kind < solicit6 || m.kind > inform6 || m.kind == advertise6 || m.kind == reply6 || m.kind == 10 {
		return nil, nil, Unsupported
	}
	if !p.src.IsLinkLocalUnicast() {
		return nil, nil, Spoofed
	}
	h := t.byMAC[p.eth]
	if h == nil {
		return nil, nil, UnknownPort
	}
	if !h.dhcp6() {
		return nil, nil, NoAddress
	}
	ias, err := m.associations()
	if err != nil {
		return nil, nil, Malformed
	}
	client, hasClient := m.get(opt6ClientID)
	server, hasServer := m.get(opt6ServerID)
	switch m.kind {
	case solicit6, confirm6, rebind6:
		if !hasClient || len(client) == 0 || hasServer {
			return nil, nil, Malformed
		}
	case request6, renew6, release6, decline6:
		if !hasClient || len(client) == 0 || !hasServer {
			return nil, nil, Malformed
		}
	}
	if hasServer && !bytes.Equal(server, t.duid) {
		return nil, nil, OtherServer
	}
	r := &reply6Builder{t: t, h: h, q: m, kind: reply6}
	r.option(opt6ServerID, t.duid)
	if hasClient {
		r.option(opt6ClientID, client)
	}
	if !p.dst.IsMulticast() && m.kind != inform6 {
		// Nobody was told that unicast is fine (RFC 8415 section 16).
		if !hasServer {
			return nil, nil, Malformed
		}
		r.body = append(r.body, statusOption(status6UseMulti, "use multicast")...)
	} else if ev, v = r.fill(ias); v != Answered6 {
		return nil, nil, v
	}
	if ev != nil {
		ev.clientID = slices.Clone(client)
	}
	out := append([]byte{r.kind, m.xid[0], m.xid[1], m.xid[2]}, r.body...)
	return udpFrame(endpoint{t.mac, t.local, port6Server}, endpoint{p.eth, p.src, port6Client}, out), ev, Answered6
}

// dhcp6 tells whether one of the port's subnets has DHCPv6.
func (h *host) dhcp6() bool {
	return slices.ContainsFunc(h.linked, func(s *subnet) bool { return s.dhcp6() })
}

// reply6Builder writes one reply.
type reply6Builder struct {
	t    *table
	h    *host
	q    *message6
	kind byte
	body []byte
}

func (r *reply6Builder) option(code uint16, v []byte) { r.body = appendOption6(r.body, code, v) }

func (r *reply6Builder) status(code uint16, text string) {
	r.body = append(r.body, statusOption(code, text)...)
}

// fill writes what the kind of message asks for (RFC 8415 section 18.3).
func (r *reply6Builder) fill(ias []association) (*event, Verdict) {
	switch r.q.kind {
	case solicit6:
		_, rapid := r.q.get(opt6Rapid)
		if rapid && len(r.h.v6) > 0 {
			r.option(opt6Rapid, nil)
			ev := r.assign(ias)
			r.settings()
			return ev, Answered6
		}
		r.kind = advertise6
		// All servers of a network answer the same, so nobody needs to wait for a better one.
		r.option(opt6Pref, []byte{255})
		r.assign(ias)
		r.settings()
		return nil, Answered6
	case request6, renew6, rebind6:
		ev := r.assign(ias)
		r.settings()
		return ev, Answered6
	case confirm6:
		named := false
		for _, ia := range ias {
			for _, a := range ia.addrs {
				named = true
				if r.find(a) < 0 {
					r.status(status6NotOnLink, "address is not this port's")
					return nil, Answered6
				}
			}
		}
		if !named {
			return nil, Silent
		}
		r.status(status6OK, "")
		return nil, Answered6
	case release6, decline6:
		return r.giveBack(ias), Answered6
	default: // information request
		r.settings()
		return nil, Answered6
	}
}

func (r *reply6Builder) find(a netip.Addr) int {
	return slices.IndexFunc(r.h.v6, func(s served) bool { return s.IP == a })
}

// assign answers identity associations: the first one of addresses gets all that the port has by DHCPv6, so that the answer needs
// no memory.  Addresses that the client believes in and does not have are taken back with zero lifetimes.
func (r *reply6Builder) assign(ias []association) *event {
	var ev *event
	given, asked := false, false
	for _, ia := range ias {
		body := binary.BigEndian.AppendUint32(nil, ia.iaid)
		if ia.code == opt6IAPD {
			body = append(append(body, make([]byte, 8)...), statusOption(status6NoPrefix, "no prefixes here")...)
			r.option(ia.code, body)
			continue
		}
		asked = true
		mine := ia.code == opt6IANA && !given && len(r.h.v6) > 0
		if ia.code == opt6IANA {
			t1, t2 := r.times(mine)
			body = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(body, t1), t2)
		}
		if mine {
			given = true
			for _, s := range r.h.v6 {
				body = appendOption6(body, opt6Address, r.address(s.IP, seconds(r.t.lease)))
			}
			ev = &event{kind: leased, host: r.h, addr: r.h.v6[0].HostAddress, lease: r.t.lease, iaid: ia.iaid}
		}
		if r.q.kind != solicit6 {
			for _, a := range ia.addrs {
				if !mine || r.find(a) < 0 {
					body = appendOption6(body, opt6Address, r.address(a, 0))
				}
			}
		}
		if !mine {
			if r.q.kind == renew6 || r.q.kind == rebind6 {
				body = append(body, statusOption(status6NoBinding, "no address here")...)
			} else {
				body = append(body, statusOption(status6NoAddrs, "no address here")...)
			}
		}
		r.option(ia.code, body)
	}
	if asked && !given && r.q.kind == solicit6 {
		r.status(status6NoAddrs, "no address for this port")
	}
	return ev
}

// times are T1 and T2 of an association: half and seven eighths of the lease.
func (r *reply6Builder) times(mine bool) (t1, t2 uint32) {
	s := seconds(r.t.lease)
	switch {
	case !mine:
		return 0, 0
	case s == 0xffffffff:
		return s, s
	default:
		return s / 2, uint32(uint64(s) * 7 / 8)
	}
}

func (r *reply6Builder) address(a netip.Addr, lifetime uint32) []byte {
	b := a.As16()
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b[:], lifetime), lifetime)
}

func (r *reply6Builder) giveBack(ias []association) *event {
	ev := &event{kind: released, host: r.h}
	if r.q.kind == decline6 {
		ev.kind = declined
	}
	known := false
	for _, ia := range ias {
		mine := false
		for _, a := range ia.addrs {
			if i := r.find(a); i >= 0 {
				mine, known = true, true
				ev.addr, ev.iaid = r.h.v6[i].HostAddress, ia.iaid
			}
		}
		if !mine && ia.code == opt6IANA {
			body := binary.BigEndian.AppendUint32(nil, ia.iaid)
			body = append(append(body, make([]byte, 8)...), statusOption(status6NoBinding, "no such binding")...)
			r.option(ia.code, body)
		}
	}
	r.status(status6OK, "")
	if !known {
		return nil
	}
	return ev
}

// settings writes name servers, search list, the client's name and the port's own options: those asked for, or all when the client
// does not say.
func (r *reply6Builder) settings() {
	list := r.q.requested()
	wanted := func(code uint16) bool { return len(list) == 0 || list[code] }
	values := map[uint16][]byte{}
	var codes []uint16
	put := func(code uint16, v []byte) {
		if !wanted(code) {
			return
		}
		if _, ok := values[code]; !ok {
			codes = append(codes, code)
		}
		values[code] = v
	}
	for _, s := range r.h.linked {
		if s.dhcp6() && len(s.dns) > 0 {
			if _, ok := values[opt6DNS]; !ok {
				put(opt6DNS, s.dns)
			}
		}
	}
	if search, err := encodeLabels([]string{r.t.cfg.Domain}); err == nil && len(search) > 0 {
		put(opt6Search, search)
	}
	_, sentName := r.q.get(opt6FQDN)
	if len(r.h.v6) > 0 && (sentName || list[opt6FQDN]) {
		if name, err := encodeLabels([]string{r.h.v6[0].FQDN}); err == nil {
			codes, values[opt6FQDN] = append(codes, opt6FQDN), append([]byte{0}, name...)
		}
	}
	tags := r.tags()
	for _, e := range r.h.extra6 {
		if e.holds(tags) {
			put(e.code, e.value)
		}
	}
	for _, c := range codes {
		if len(values[c]) > 0 { // an empty value takes the option away
			r.option(c, values[c])
		}
	}
}

func (r *reply6Builder) tags() map[string]bool {
	out := map[string]bool{"dhcpv6": true}
	if v, ok := r.q.get(opt6UserClass); ok && strings.Contains(string(v), "iPXE") {
		out["ipxe6"] = true
	}
	return out
}

// leaseEnd is when a lease ends; the zero time is never.
func leaseEnd(now time.Time, lease time.Duration) time.Time {
	if lease < 0 {
		return time.Time{}
	}
	return now.Add(lease)
}
