package dhcpd

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Limits of the DNS side, per network.
const (
	dnsTimeout    = 10 * time.Second // a TCP client's silence
	dnsTries      = 2 * time.Second  // one upstream server
	dnsInFlight   = 128              // questions waiting for an upstream server
	dnsRate       = 100              // forwarded questions per second and client
	dnsBurst      = 200
	dnsClients    = 4096 // clients whose rate is remembered
	dnsTCPQueries = 64   // questions on one TCP connection
	dnsTCPConns   = 64   // TCP connections of one network
	dnsUDPSize    = 1232 // DNS flag day 2020
)

// answerDNS answers a question about the network's own names.  Mine is false when the question is about something else and may go
// upstream.  Names of the network's domain, single labels and reverse names of its subnets are always its own: they never leave.
func answerDNS(t *table, q *dns.Msg) (r *dns.Msg, mine bool) {
	r = new(dns.Msg)
	r.SetReply(q)
	r.RecursionAvailable = len(t.cfg.Upstreams) > 0
	r.Authoritative = true
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	if question.Qclass != dns.ClassINET {
		r.Rcode = dns.RcodeRefused
		return r, true
	}
	if addr, ok := reverseName(name); ok {
		if host, ok := t.byAddr[addr]; ok {
			if question.Qtype == dns.TypePTR || question.Qtype == dns.TypeANY {
				r.Answer = append(r.Answer, &dns.PTR{
					Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET}, Ptr: dns.Fqdn(host),
				})
			}
			return r, true
		}
		if t.inside(addr) {
			r.Rcode = dns.RcodeNameError
			return r, true
		}
		return r, false
	}
	addrs, known := t.byName[name]
	if !known {
		if name == "" || strings.Contains(name, ".") && !t.ownDomain(name) {
			return r, false
		}
		if name != t.domain {
			r.Rcode = dns.RcodeNameError
		}
		return r, true
	}
	for _, a := range addrs {
		// Lifetime zero, as dnsmasq: a port's name may move at any time.
		switch {
		case a.Is4() && (question.Qtype == dns.TypeA || question.Qtype == dns.TypeANY):
			r.Answer = append(r.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: a.AsSlice(),
			})
		case a.Is6() && (question.Qtype == dns.TypeAAAA || question.Qtype == dns.TypeANY):
			r.Answer = append(r.Answer, &dns.AAAA{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET}, AAAA: a.AsSlice(),
			})
		}
	}
	return r, true
}

func (t *table) ownDomain(name string) bool {
	return t.domain != "" && (name == t.domain || strings.HasSuffix(name, "."+t.domain))
}

func (t *table) inside(a netip.Addr) bool {
	for _, s := range t.subnets {
		if s.CIDR.Contains(a) {
			return true
		}
	}
	return a == metadata4 || a.IsLinkLocalUnicast()
}

// reverseName reads 5.0.0.10.in-addr.arpa and the nibbles of ip6.arpa.
func reverseName(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(rest, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		if i > 0 && rest[2*i-1] != '.' {
			return netip.Addr{}, false
		}
		d := strings.IndexByte("0123456789abcdef", rest[2*i])
		if d < 0 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(d) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}

// ServeDNS answers one question of a guest; dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	t := s.table.Load()
	client := clientOf(w.RemoteAddr())
	if t == nil || !client.IsValid() {
		return
	}
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	if q.Response {
		s.stats.add(Malformed) // answering answers would make a loop
		return
	}
	r := new(dns.Msg)
	switch {
	case q.Opcode != dns.OpcodeQuery:
		r.SetRcode(q, dns.RcodeNotImplemented)
		s.stats.add(RefusedDNS)
	case len(q.Question) != 1:
		r.SetRcode(q, dns.RcodeFormatError)
		s.stats.add(Malformed)
	case !t.onLink(client):
		r.SetRcode(q, dns.RcodeRefused)
		s.stats.add(RefusedDNS)
	default:
		var mine bool
		if r, mine = answerDNS(t, q); mine {
			s.stats.add(AnsweredDNS)
		} else if r = s.forward(t, client, q, tcp); r == nil {
			return
		}
	}
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = min(max(size, int(o.UDPSize())), dnsUDPSize)
		if r.IsEdns0() == nil {
			r.SetEdns0(dnsUDPSize, false)
		}
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	r.Truncate(size)
	if err := w.WriteMsg(r); err != nil {
		s.stats.add(SendFailed)
	}
}

// onLink tells whether a client is on the network: one of its subnets, or the link itself.
func (t *table) onLink(client netip.Addr) bool {
	return t.inside(client)
}

func clientOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	default:
		return netip.Addr{}
	}
}

// forward asks the upstream servers, one after the other, over sockets of the node's own namespace.  Nil means: say nothing.
func (s *Server) forward(t *table, client netip.Addr, q *dns.Msg, tcp bool) *dns.Msg {
	refuse := func(code int, v Verdict) *dns.Msg {
		s.stats.add(v)
		r := new(dns.Msg)
		r.SetRcode(q, code)
		return r
	}
	kind := q.Question[0].Qtype
	switch {
	case len(t.cfg.Upstreams) == 0, !q.RecursionDesired, kind == dns.TypeAXFR, kind == dns.TypeIXFR:
		return refuse(dns.RcodeRefused, RefusedDNS)
	case !s.limit.allow(client, s.now()):
		s.stats.add(LimitedDNS)
		return nil
	}
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		s.stats.add(LimitedDNS)
		return nil
	}
	ask := q.Copy()
	ask.Id = dns.Id()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	c := &dns.Client{Net: network, Timeout: dnsTries, UDPSize: dnsUDPSize}
	for _, up := range t.cfg.Upstreams {
		ctx, cancel := context.WithTimeout(s.ctx, dnsTries)
		r, _, err := c.ExchangeContext(ctx, ask, up.String())
		cancel()
		if err != nil || r == nil || len(r.Question) != 1 || !strings.EqualFold(r.Question[0].Name, q.Question[0].Name) ||
			r.Question[0].Qtype != kind {
			continue
		}
		s.stats.add(ForwardedDNS)
		r.Id = q.Id
		r.Question = q.Question
		r.Authoritative = false
		return r
	}
	return refuse(dns.RcodeServerFailure, UpstreamFails)
}
