package dhcpd

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/mdlayher/ndp"
)

// Times of router advertisements: RFC 4861 section 6.2.1's defaults, and radvd's lifetimes of prefixes.
const (
	raMin         = 200 * time.Second
	raMax         = 600 * time.Second
	raInitial     = 16 * time.Second // at most, between the first three
	raInitialN    = 3
	raLife        = 3 * raMax
	prefixValid   = 86400 * time.Second
	prefixPrefer  = 14400 * time.Second
	prefixGoodbye = 2 * time.Hour // RFC 4862 section 5.5.3: a host does not believe less
	hopLimitND    = 255

	routerSolicitation = 133 // ICMPv6 type
)

// advertisement writes the network's router advertisement to one receiver; nil when no subnet needs one.
//
// It makes no router of this server: its lifetime is zero, so nobody takes a default route from it.  It is there because a network
// without a router would otherwise have no SLAAC, no word on DHCPv6, no MTU and no name server.  gone are prefixes that were
// advertised before and are not wanted any more.
func advertisement(t *table, to endpoint, gone []netip.Prefix) ([]byte, error) {
	if len(t.ra) == 0 && len(gone) == 0 {
		return nil, nil
	}
	m := &ndp.RouterAdvertisement{CurrentHopLimit: 64}
	var prefixes, rest []ndp.Option
	var dns []netip.Addr
	for _, s := range t.ra {
		m.ManagedConfiguration = m.ManagedConfiguration || s.RAMode == Stateful
		m.OtherConfiguration = m.OtherConfiguration || s.RAMode == Stateless
		prefixes = append(prefixes, &ndp.PrefixInformation{
			PrefixLength: uint8(s.CIDR.Bits()), OnLink: true,
			// A prefix other than /64 cannot be joined with an interface id (RFC 4862 section 5.5.3).
			AutonomousAddressConfiguration: s.RAMode != Stateful && s.CIDR.Bits() == 64,
			ValidLifetime:                  prefixValid, PreferredLifetime: prefixPrefer, Prefix: s.CIDR.Masked().Addr(),
		})
		dns = append(dns, s.nameservers()...)
	}
	for _, p := range gone {
		prefixes = append(prefixes, &ndp.PrefixInformation{
			PrefixLength: uint8(p.Bits()), OnLink: true, AutonomousAddressConfiguration: p.Bits() == 64,
			ValidLifetime: prefixGoodbye, Prefix: p.Addr(),
		})
	}
	if t.cfg.MTU >= 1280 {
		rest = append(rest, ndp.NewMTU(uint32(t.cfg.MTU)))
	}
	if len(t.ra) > 0 && t.cfg.Metadata {
		rest = append(rest, &ndp.RouteInformation{PrefixLength: 128, RouteLifetime: raLife, Prefix: metadata6})
	}
	if len(dns) > 0 {
		rest = append(rest, &ndp.RecursiveDNSServer{Lifetime: raLife, Servers: dns})
	}
	if d := strings.TrimSuffix(t.cfg.Domain, "."); d != "" && len(t.ra) > 0 {
		rest = append(rest, &ndp.DNSSearchList{Lifetime: raLife, DomainNames: []string{d}})
	}
	m.Options = append([]ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(t.mac[:])}}, append(prefixes, rest...)...)
	body, err := ndp.MarshalMessageChecksum(m, t.local, to.ip)
	if err != nil {
		return nil, fmt.Errorf("write router advertisement: %w", err)
	}
	return ipFrame(endpoint{mac: t.mac, ip: t.local}, to, protoICMP, hopLimitND, body), nil
}

// answerRS turns a router solicitation into an advertisement for its sender.  It goes to that guest alone and at once: RFC 4861's
// random delay keeps many routers from answering a multicast together, and a booting guest waits for it.
func answerRS(t *table, p *packet, gone []netip.Prefix) ([]byte, Verdict) {
	if p.hops != hopLimitND || p.payload[1] != 0 || transportSum(p.src, p.dst, protoICMP, p.payload) != 0 {
		return nil, Malformed
	}
	if _, err := ndp.ParseMessage(p.payload); err != nil {
		return nil, Malformed
	}
	if t.byMAC[p.eth] == nil {
		return nil, UnknownPort
	}
	to := endpoint{mac: p.eth, ip: p.src}
	switch {
	case p.src.IsUnspecified():
		to.ip = allNodes // the group's address in a frame for one station (RFC 6085)
	case !p.src.IsLinkLocalUnicast():
		return nil, Malformed
	}
	frame, err := advertisement(t, to, gone)
	switch {
	case err != nil:
		return nil, SendFailed
	case frame == nil:
		return nil, Silent
	}
	return frame, Advertised
}
