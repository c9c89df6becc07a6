package dhcpd

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxHops bounds relaying (RFC 1542 section 4.1.1).
const maxHops = 16

// event is what a message means for the lease file.
type event struct {
	kind     eventKind
	host     *host
	addr     HostAddress
	lease    time.Duration // negative: infinite
	clientID []byte        // DHCPv4's client id or DHCPv6's DUID
	iaid     uint32
}

type eventKind uint8

const (
	leased eventKind = iota + 1
	released
	declined
)

// answer4 turns one DHCPv4 packet into the frame of its reply.  A nil frame means silence; the verdict says why.
func answer4(t *table, p *packet) (frame []byte, ev *event, v Verdict) {
	m, err := parse4(p.payload)
	if err != nil || m.op != 1 {
		return nil, nil, Malformed
	}
	relayed := !m.giaddr.IsUnspecified()
	switch {
	case m.kind() == 0:
		return nil, nil, Unsupported
	case relayed && !t.saneRelay(m):
		return nil, nil, RelayRefused
	case !relayed && p.eth != m.chaddr:
		return nil, nil, Spoofed
	}
	h := t.find4(m)
	if h == nil {
		return nil, nil, UnknownPort
	}
	if len(h.v4) == 0 {
		return nil, nil, NoAddress
	}
	switch m.kind() {
	case discover4:
		a := h.choose4(m)
		return t.frame4(p, m, t.reply4(m, h, a, offer4)), nil, Answered4
	case request4:
		return t.request(p, m, h)
	case inform4:
		if m.ciaddr.IsUnspecified() {
			return nil, nil, Malformed
		}
		a := h.choose4(m)
		return t.frame4(p, m, t.reply4(m, h, a, inform4)), nil, Answered4
	case release4, decline4:
		if id := m.address(opt4Server); id.IsValid() && !t.own[id] {
			return nil, nil, OtherServer
		}
		ev := &event{kind: released, host: h}
		ip := m.ciaddr
		if m.kind() == decline4 {
			ev.kind, ip = declined, m.address(opt4Requested)
		}
		i := slices.IndexFunc(h.v4, func(s served) bool { return s.IP == ip })
		if i < 0 {
			return nil, nil, NoAddress
		}
		ev.addr = h.v4[i].HostAddress
		return nil, ev, Silent
	default:
		return nil, nil, Unsupported
	}
}

// saneRelay tells whether a relay's address is one that a relay of this network can have: on one of its subnets and not ours.
func (t *table) saneRelay(m *message4) bool {
	if m.hops > maxHops || t.own[m.giaddr] {
		return false
	}
	for _, s := range t.subnets {
		if s.EnableDHCP && s.CIDR.Contains(m.giaddr) {
			return true
		}
	}
	return false
}

// find4 finds the port by MAC; a port with a configured client id is also found by it, from a MAC that is no port's.
func (t *table) find4(m *message4) *host {
	if h := t.byMAC[m.chaddr]; h != nil {
		return h
	}
	return t.byClient[string(m.options[opt4ClientID])]
}

// choose4 picks among a port's addresses: the one asked for, else one on the relay's subnet, else the first.
func (h *host) choose4(m *message4) served {
	for _, ip := range []netip.Addr{m.address(opt4Requested), m.ciaddr} {
		for _, s := range h.v4 {
			if s.IP == ip {
				return s
			}
		}
	}
	for _, s := range h.v4 {
		if !m.giaddr.IsUnspecified() && s.net.CIDR.Contains(m.giaddr) {
			return s
		}
	}
	return h.v4[0]
}

// request is DHCPREQUEST in all states of a client (RFC 2131 section 4.3.2).
func (t *table) request(p *packet, m *message4, h *host) ([]byte, *event, Verdict) {
	id, ip := m.address(opt4Server), m.address(opt4Requested)
	switch {
	case id.IsValid() && !t.own[id]:
		return nil, nil, OtherServer // SELECTING, another server
	case ip.IsValid(): // SELECTING or INIT-REBOOT
	case !m.ciaddr.IsUnspecified():
		ip = m.ciaddr // RENEWING or REBINDING
	default:
		return nil, nil, Malformed
	}
	i := slices.IndexFunc(h.v4, func(s served) bool { return s.IP == ip })
	if i < 0 {
		return t.frame4(p, m, t.nak(m, h)), nil, Refused4
	}
	a := h.v4[i]
	r := t.reply4(m, h, a, ack4)
	ev := &event{kind: leased, host: h, addr: a.HostAddress, clientID: slices.Clone(m.options[opt4ClientID]), lease: -1}
	if s := binary.BigEndian.Uint32(r.options[opt4Lease]); s != 0xffffffff {
		ev.lease = time.Duration(s) * time.Second
	}
	return t.frame4(p, m, r), ev, Answered4
}

func (t *table) nak(m *message4, h *host) *message4 {
	server := h.choose4(m).net.Server
	r := &message4{
		op: 2, xid: m.xid, chaddr: m.chaddr, giaddr: m.giaddr, broadcast: true,
		options: map[byte][]byte{
			opt4Type: {nak4}, opt4Server: server.AsSlice(), opt4Message: []byte("address not available"),
		},
	}
	r.echo(m)
	return r
}

// echo returns what a server must return as it came: the client id (RFC 6842) and a relay's options (RFC 3046).
func (m *message4) echo(q *message4) {
	for _, c := range []byte{opt4ClientID, opt4Agent} {
		if v, ok := q.options[c]; ok && (c != opt4Agent || !q.giaddr.IsUnspecified()) {
			m.options[c] = v
		}
	}
}

// reply4 writes an offer or an acknowledgement (kind inform4: the one of an inform, without an address and times).
//
// Message type, server, times, mask and MTU are always sent; the rest as the client asked, or all of it when it did not say what
// it wants: dnsmasq's rule.  The port's own options replace the server's; an empty one takes it away.
func (t *table) reply4(q *message4, h *host, a served, kind byte) *message4 {
	s := a.net
	r := &message4{
		op: 2, xid: q.xid, broadcast: q.broadcast, chaddr: q.chaddr, giaddr: q.giaddr, siaddr: s.Server,
		options: map[byte][]byte{},
	}
	wanted := func(code byte) bool {
		list, ok := q.options[opt4Params]
		return !ok || slices.Contains(list, code)
	}
	put := func(code byte, v []byte) {
		if len(v) > 0 && wanted(code) {
			r.options[code] = v
		}
	}
	put(opt4Router, s.router)
	put(opt4DNS, s.dns)
	put(opt4Broadcast, s.broadcast)
	put(opt4Domain, []byte(strings.TrimSuffix(t.cfg.Domain, ".")))
	put(opt4Hostname, []byte(a.Hostname))
	put(opt4Routes, s.routes)
	put(opt4RoutesMS, s.routes)
	lease := t.lease
	for _, e := range h.extra4 {
		if !e.holds(q.tags()) {
			continue
		}
		switch {
		case e.code == serverAddress:
			if len(e.value) == 4 {
				r.siaddr = addr4(e.value)
			}
		case e.code == opt4Lease && len(e.value) == 4:
			lease = leaseTime(binary.BigEndian.Uint32(e.value))
		case len(e.value) == 0:
			delete(r.options, byte(e.code))
		default:
			put(byte(e.code), e.value)
		}
		// Boot clients read the header's fields too (RFC 2131 section 2).
		if e.code == opt4Bootfile && len(e.value) < 128 {
			r.file = string(e.value)
		}
		if e.code == opt4TFTP && len(e.value) < 64 {
			r.sname = string(e.value)
		}
	}
	r.options[opt4Mask] = s.mask
	if _, set := r.options[opt4MTU]; !set && t.cfg.MTU > 0 {
		r.options[opt4MTU] = binary.BigEndian.AppendUint16(nil, uint16(min(t.cfg.MTU, 0xffff)))
	}
	r.options[opt4Server] = s.Server.AsSlice()
	if kind == inform4 {
		r.ciaddr = q.ciaddr
		r.options[opt4Type] = []byte{ack4}
		delete(r.options, opt4T1)
		delete(r.options, opt4T2)
	} else {
		r.ciaddr, r.yiaddr = q.ciaddr, a.IP
		if kind == offer4 {
			r.ciaddr = netip.Addr{}
		}
		r.options[opt4Type] = []byte{kind}
		r.setTimes(h, lease)
	}
	r.echo(q)
	return r
}

// setTimes writes the lease time, and with a finite one the renewal times (RFC 2131 section 4.4.5) unless the port has its own.
func (m *message4) setTimes(h *host, lease time.Duration) {
	s := seconds(lease)
	m.options[opt4Lease] = binary.BigEndian.AppendUint32(nil, s)
	if s == 0xffffffff {
		return
	}
	for code, v := range map[uint16]uint32{opt4T1: s / 2, opt4T2: uint32(uint64(s) * 7 / 8)} {
		i := slices.IndexFunc(h.extra4, func(e extra) bool { return e.code == code && len(e.value) == 4 })
		if i >= 0 {
			v = binary.BigEndian.Uint32(h.extra4[i].value)
		}
		m.options[byte(code)] = binary.BigEndian.AppendUint32(nil, v)
	}
}

func leaseTime(s uint32) time.Duration {
	if s == 0xffffffff {
		return -1
	}
	return time.Duration(s) * time.Second
}

// tags are what the client shows of itself, under the names that Neutron gives dnsmasq.
func (m *message4) tags() map[string]bool {
	out := map[string]bool{}
	if _, ok := m.options[opt4Ether]; ok {
		out["ipxe"] = true
	}
	if strings.HasPrefix(string(m.options[opt4Vendor]), "PXEClient") {
		out["pxe"] = true
	}
	return out
}

// frame4 addresses the reply (RFC 2131 section 4.1): to the relay, to the client's address, to everybody, or to the address it is
// about to get, which no kernel could send to.
func (t *table) frame4(p *packet, q, r *message4) []byte {
	from := endpoint{t.mac, addr4(r.options[opt4Server]), port4Server}
	var to endpoint
	switch nak := r.options[opt4Type][0] == nak4; {
	case !q.giaddr.IsUnspecified():
		to = endpoint{p.eth, q.giaddr, port4Server}
	case !nak && !q.ciaddr.IsUnspecified():
		to = endpoint{p.eth, q.ciaddr, port4Client}
	case nak || q.broadcast || !r.yiaddr.IsValid():
		to = endpoint{broadcastMAC, limitedBcast4, port4Client}
	default:
		to = endpoint{q.chaddr, r.yiaddr, port4Client}
	}
	room := 576
	if v := q.options[opt4MaxSize]; len(v) == 2 {
		room = max(room, int(binary.BigEndian.Uint16(v)))
	}
	if t.cfg.MTU >= 576 {
		room = min(room, t.cfg.MTU)
	} else {
		room = min(room, 1500)
	}
	body, _ := r.bytes(r.optionOrder(), room-ipv4Header-udpHeader)
	return udpFrame(from, to, body)
}
