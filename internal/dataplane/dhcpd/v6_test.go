package dhcpd

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	lib6 "github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/mdlayher/ndp"
)

var (
	guestLL  = linkLocal(guestMAC)
	agents6  = ip("ff02::1:2")
	clientID = lib6.OptClientID(&lib6.DUIDUUID{UUID: [16]byte{7}})
	serverID = lib6.OptServerID(&lib6.DUIDLL{HWType: 1, LinkLayerAddr: net.HardwareAddr(serverMAC[:])})
)

func config6(mode string) *Config {
	return &Config{
		NetworkID: "n", MTU: 1450, Domain: "openstacklocal", Metadata: true,
		Subnets: []Subnet{{
			ID: "s", CIDR: netip.MustParsePrefix("2001:db8::/64"), Server: ip("2001:db8::2"), EnableDHCP: true, RAMode: mode, AddressMode: mode,
		}},
		Hosts: []Host{{PortID: "p", MAC: guestMAC, Serve: true, Addresses: []HostAddress{{"s", ip("2001:db8::10"), "h", "h.openstacklocal"}}}},
	}
}

func msg6(kind lib6.MessageType, opts ...lib6.Option) *lib6.Message {
	m := &lib6.Message{MessageType: kind, TransactionID: [3]byte{1, 2, 3}}
	for _, o := range opts {
		m.AddOption(o)
	}
	return m
}

func iana(addrs ...string) *lib6.OptIANA {
	o := &lib6.OptIANA{IaId: [4]byte{0, 0, 0, 9}}
	for _, a := range addrs {
		o.Options.Add(&lib6.OptIAAddress{IPv6Addr: net.ParseIP(a)})
	}
	return o
}

// ask6 sends a message made by the library and describes the answer as the library reads it.
func ask6(t testing.TB, tab *table, eth MAC, dst netip.Addr, m *lib6.Message) (string, *event, Verdict) {
	t.Helper()
	in, ok := parseFrame(udpFrame(endpoint{eth, guestLL, port6Client}, endpoint{MAC{0x33, 0x33, 0, 1, 0, 2}, dst, port6Server}, m.ToBytes()))
	if !ok {
		t.Fatal("own frame is refused")
	}
	frame, ev, v := answer6(tab, &in)
	if frame == nil {
		return "", ev, v
	}
	p, ok := parseFrame(frame)
	if !ok || checksum(frame) || p.src != linkLocal(serverMAC) || p.dst != guestLL || p.dstPort != port6Client || MAC(frame[:6]) != eth {
		t.Fatalf("bad frame %x", frame)
	}
	r, err := lib6.MessageFromBytes(p.payload)
	if err != nil {
		t.Fatalf("the library cannot read the reply: %v", err)
	}
	out := []string{r.MessageType.String()}
	for _, ia := range r.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			out = append(out, a.IPv6Addr.String()+"/"+a.ValidLifetime.String())
		}
		if s := ia.Options.Status(); s != nil {
			out = append(out, "ia:"+s.StatusCode.String())
		}
	}
	if s := r.Options.Status(); s != nil {
		out = append(out, s.StatusCode.String())
	}
	for _, d := range r.Options.DNS() {
		out = append(out, "dns="+d.String())
	}
	if l := r.Options.DomainSearchList(); l != nil {
		out = append(out, "search="+strings.Join(l.Labels, ","))
	}
	if r.GetOneOption(lib6.OptionRapidCommit) != nil {
		out = append(out, "rapid")
	}
	if r.TransactionID != m.TransactionID || r.Options.ServerID() == nil {
		t.Errorf("reply without server id or of another transaction: %s", r.Summary())
	}
	return strings.Join(out, " "), ev, v
}

func TestAnswer6(t *testing.T) {
	rapidCommit := &lib6.OptionGeneric{OptionCode: lib6.OptionRapidCommit}
	const settings = " dns=2001:db8::2 search=openstacklocal"
	for _, c := range []struct {
		name, mode string
		msg        *lib6.Message
		eth        MAC
		dst        netip.Addr
		verdict    Verdict
		want       string
		lease      eventKind
	}{
		{name: "solicit", msg: msg6(lib6.MessageTypeSolicit, clientID, iana()), verdict: Answered6, want: "ADVERTISE 2001:db8::10/24h0m0s" + settings},
		{
			name: "rapid commit", msg: msg6(lib6.MessageTypeSolicit, clientID, iana(), rapidCommit), verdict: Answered6,
			want: "REPLY 2001:db8::10/24h0m0s" + settings + " rapid", lease: leased,
		},
		{name: "none/none is stateful", mode: "none", msg: msg6(lib6.MessageTypeSolicit, clientID, iana()), verdict: Answered6, want: "ADVERTISE 2001:db8::10/24h0m0s" + settings},
		{name: "solicit, stateless", mode: Stateless, msg: msg6(lib6.MessageTypeSolicit, clientID, iana()), verdict: Answered6, want: "ADVERTISE ia:NoAddrsAvail NoAddrsAvail" + settings},
		{name: "solicit, slaac", mode: SLAAC, msg: msg6(lib6.MessageTypeSolicit, clientID, iana()), verdict: NoAddress},
		{name: "request", msg: msg6(lib6.MessageTypeRequest, clientID, serverID, iana("2001:db8::10")), verdict: Answered6, want: "REPLY 2001:db8::10/24h0m0s" + settings, lease: leased},
		{
			name: "renew with an address lost", msg: msg6(lib6.MessageTypeRenew, clientID, serverID, iana("2001:db8::99")), verdict: Answered6,
			want: "REPLY 2001:db8::10/24h0m0s 2001:db8::99/0s" + settings, lease: leased,
		},
		{name: "rebind", msg: msg6(lib6.MessageTypeRebind, clientID, iana("2001:db8::10")), verdict: Answered6, want: "REPLY 2001:db8::10/24h0m0s" + settings, lease: leased},
		{name: "confirm", msg: msg6(lib6.MessageTypeConfirm, clientID, iana("2001:db8::10")), verdict: Answered6, want: "REPLY Success"},
		{name: "confirm elsewhere", msg: msg6(lib6.MessageTypeConfirm, clientID, iana("2001:db9::10")), verdict: Answered6, want: "REPLY NotOnLink"},
		{name: "confirm nothing", msg: msg6(lib6.MessageTypeConfirm, clientID, iana()), verdict: Silent},
		{name: "release", msg: msg6(lib6.MessageTypeRelease, clientID, serverID, iana("2001:db8::10")), verdict: Answered6, want: "REPLY Success", lease: released},
		{name: "release of a stranger's", msg: msg6(lib6.MessageTypeRelease, clientID, serverID, iana("2001:db8::77")), verdict: Answered6, want: "REPLY ia:NoBinding Success"},
		{name: "decline", msg: msg6(lib6.MessageTypeDecline, clientID, serverID, iana("2001:db8::10")), verdict: Answered6, want: "REPLY Success", lease: declined},
		{name: "information", msg: msg6(lib6.MessageTypeInformationRequest, clientID), mode: Stateless, verdict: Answered6, want: "REPLY" + settings},
		{
			name: "information, name servers only", msg: msg6(lib6.MessageTypeInformationRequest, lib6.OptRequestedOption(lib6.OptionDNSRecursiveNameServer)),
			mode: Stateless, verdict: Answered6, want: "REPLY dns=2001:db8::2",
		},
		{name: "unicast", msg: msg6(lib6.MessageTypeRenew, clientID, serverID, iana()), dst: linkLocal(serverMAC), verdict: Answered6, want: "REPLY UseMulticast"},
		{name: "another server", msg: msg6(lib6.MessageTypeRequest, clientID, lib6.OptServerID(&lib6.DUIDUUID{}), iana()), verdict: OtherServer},
		{name: "request without server", msg: msg6(lib6.MessageTypeRequest, clientID, iana()), verdict: Malformed},
		{name: "solicit without client", msg: msg6(lib6.MessageTypeSolicit, iana()), verdict: Malformed},
		{name: "stranger", msg: msg6(lib6.MessageTypeSolicit, clientID, iana()), eth: otherMAC, verdict: UnknownPort},
		{name: "relay", msg: msg6(lib6.MessageTypeRelayForward), verdict: Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mode == "" {
				c.mode = Stateful
			}
			if c.mode == "none" {
				c.mode = ""
			}
			if c.eth.isZero() {
				c.eth = guestMAC
			}
			if !c.dst.IsValid() {
				c.dst = agents6
			}
			got, ev, v := ask6(t, mustCompile(t, config6(c.mode)), c.eth, c.dst, c.msg)
			if v != c.verdict || got != c.want {
				t.Errorf("got  %s %q\nwant %s %q", v, got, c.verdict, c.want)
			}
			kind := eventKind(0)
			if ev != nil {
				kind = ev.kind
			}
			if kind != c.lease {
				t.Errorf("lease event %d, want %d", kind, c.lease)
			}
		})
	}
}

func TestAdvertisement(t *testing.T) {
	read := func(t *testing.T, cfg *Config, gone ...netip.Prefix) *ndp.RouterAdvertisement {
		t.Helper()
		frame, err := advertisement(mustCompile(t, cfg), endpoint{mac: allNodesMAC, ip: allNodes}, gone)
		if err != nil {
			t.Fatal(err)
		}
		if frame == nil {
			return nil
		}
		p, ok := parseFrame(frame)
		if !ok || checksum(frame) || p.hops != 255 {
			t.Fatalf("bad frame %x", frame)
		}
		m, err := ndp.ParseMessage(p.payload)
		if err != nil {
			t.Fatal(err)
		}
		return m.(*ndp.RouterAdvertisement)
	}
	for mode, want := range map[string][3]bool{SLAAC: {false, false, true}, Stateless: {false, true, true}, Stateful: {true, false, false}} {
		ra := read(t, config6(mode))
		var auto bool
		kinds := map[byte]int{}
		for _, o := range ra.Options {
			kinds[o.Code()]++
			if p, ok := o.(*ndp.PrefixInformation); ok {
				auto = p.AutonomousAddressConfiguration
			}
		}
		if got := [3]bool{ra.ManagedConfiguration, ra.OtherConfiguration, auto}; got != want {
			t.Errorf("%s: M, O, A = %v, want %v", mode, got, want)
		}
		if ra.RouterLifetime != 0 {
			t.Errorf("%s: a default router for %s", mode, ra.RouterLifetime)
		}
		// Source address, prefix, MTU, route to metadata, name server, search list.
		if d := cmp.Diff(map[byte]int{1: 1, 3: 1, 5: 1, 24: 1, 25: 1, 31: 1}, kinds); d != "" {
			t.Errorf("%s: options (-want +got):\n%s", mode, d)
		}
	}
	routed := config6(SLAAC)
	routed.Subnets[0].Routed = true
	if ra := read(t, routed); ra != nil {
		t.Error("a subnet with a router is advertised")
	}
	if ra := read(t, config6("")); ra != nil {
		t.Error("a subnet without a mode is advertised")
	}
	ra := read(t, config6(""), netip.MustParsePrefix("2001:db8::/64"))
	if p, ok := ra.Options[1].(*ndp.PrefixInformation); !ok || p.PreferredLifetime != 0 || p.ValidLifetime != prefixGoodbye {
		t.Errorf("taking a prefix back: %+v", ra.Options)
	}
}

func solicitation(t testing.TB, src netip.Addr) []byte {
	b, err := ndp.MarshalMessageChecksum(&ndp.RouterSolicitation{}, src, ip("ff02::2"))
	if err != nil {
		t.Fatal(err)
	}
	return ipFrame(endpoint{mac: guestMAC, ip: src}, endpoint{mac: MAC{0x33, 0x33, 0, 0, 0, 2}, ip: ip("ff02::2")}, protoICMP, 255, b)
}

func TestAnswerRS(t *testing.T) {
	tab := mustCompile(t, config6(SLAAC))
	for src, dst := range map[string]string{guestLL.String(): guestLL.String(), "::": "ff02::1"} {
		p, ok := parseFrame(solicitation(t, ip(src)))
		if !ok {
			t.Fatal("own frame is refused")
		}
		frame, v := answerRS(tab, &p, nil)
		if v != Advertised {
			t.Fatalf("from %s: %s", src, v)
		}
		out, _ := parseFrame(frame)
		if out.dst != ip(dst) || MAC(frame[:6]) != guestMAC {
			t.Errorf("from %s answered to %s", src, out.dst)
		}
	}
	bad := solicitation(t, guestLL)
	bad[14+7] = 64
	p, _ := parseFrame(bad)
	if _, v := answerRS(tab, &p, nil); v != Malformed {
		t.Errorf("hop limit 64: %s", v)
	}
}

func FuzzAnswer6(f *testing.F) {
	tab, _ := compile(config6(Stateful), serverMAC)
	for _, m := range []*lib6.Message{
		msg6(lib6.MessageTypeSolicit, clientID, iana()), msg6(lib6.MessageTypeRenew, clientID, serverID, iana("2001:db8::10", "::1")),
		msg6(lib6.MessageTypeConfirm, clientID, iana("::1")), msg6(lib6.MessageTypeInformationRequest),
	} {
		f.Add(udpFrame(endpoint{guestMAC, guestLL, port6Client}, endpoint{MAC{0x33, 0x33, 0, 1, 0, 2}, agents6, port6Server}, m.ToBytes()))
	}
	f.Add(solicitation(f, guestLL))
	long, _ := hex.DecodeString("fa163e000002fa163e00001086dd6000000000041140fe80")
	f.Add(long)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseFrame(b)
		if !ok || p.src.Is4() {
			return
		}
		var frame []byte
		if p.proto == protoICMP {
			frame, _ = answerRS(tab, &p, nil)
		} else {
			frame, _, _ = answer6(tab, &p)
		}
		if frame == nil {
			return
		}
		out, ok := parseFrame(frame)
		if !ok || checksum(frame) {
			t.Fatalf("bad frame %x", frame)
		}
		if p.proto == protoUDP {
			if _, err := lib6.MessageFromBytes(out.payload); err != nil {
				t.Fatalf("the library cannot read the reply: %v", err)
			}
		}
	})
}
