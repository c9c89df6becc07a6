package dhcpd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	lib4 "github.com/insomniacslk/dhcp/dhcpv4"
	"pgregory.net/rapid"
)

var (
	serverMAC = MAC{0xfa, 0x16, 0x3e, 0, 0, 2}
	guestMAC  = MAC{0xfa, 0x16, 0x3e, 0, 0, 0x10}
	otherMAC  = MAC{0xfa, 0x16, 0x3e, 0, 0, 0x11}
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// testConfig has two IPv4 subnets (the second without a gateway) and guests on them.
func testConfig() *Config {
	return &Config{
		NetworkID: "n", MTU: 1450, Domain: "openstacklocal", Metadata: true,
		Subnets: []Subnet{
			{
				ID: "a", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Server: ip("10.0.0.2"), Servers: []netip.Addr{ip("10.0.0.2"), ip("10.0.0.3")},
				Gateway: ip("10.0.0.1"), EnableDHCP: true,
				Routes: []Route{{netip.MustParsePrefix("192.168.0.0/17"), ip("10.0.0.9")}},
			},
			{ID: "b", CIDR: netip.MustParsePrefix("10.5.0.0/25"), Server: ip("10.5.0.1"), EnableDHCP: true, Nameservers: []netip.Addr{ip("0.0.0.0")}},
			{ID: "off", CIDR: netip.MustParsePrefix("10.6.0.0/24"), Server: ip("10.6.0.1")},
		},
		Hosts: []Host{
			{PortID: "p1", MAC: guestMAC, Serve: true, Addresses: []HostAddress{
				{"a", ip("10.0.0.5"), "host-10-0-0-5", "host-10-0-0-5.openstacklocal"},
				{"b", ip("10.5.0.5"), "host-10-5-0-5", "host-10-5-0-5.openstacklocal"},
			}},
			{PortID: "p2", MAC: otherMAC, Serve: true, Addresses: []HostAddress{{"off", ip("10.6.0.5"), "x", "x.openstacklocal"}}},
			{PortID: "r", MAC: MAC{2, 0, 0, 0, 0, 9}, Addresses: []HostAddress{{"a", ip("10.0.0.1"), "gw", "gw.openstacklocal"}}},
		},
	}
}

func mustCompile(t testing.TB, cfg *Config) *table {
	t.Helper()
	tab, problems := compile(cfg, serverMAC)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	return tab
}

// ask sends a message that the library made, inside a real frame, and decodes the answer with the library.
func ask(t testing.TB, tab *table, src netip.Addr, eth MAC, m *lib4.DHCPv4) (reply *lib4.DHCPv4, p packet, ev *event, v Verdict) {
	t.Helper()
	in, ok := parseFrame(udpFrame(endpoint{eth, src, port4Client}, endpoint{broadcastMAC, limitedBcast4, port4Server}, m.ToBytes()))
	if !ok {
		t.Fatal("own frame is refused")
	}
	frame, ev, v := answer4(tab, &in)
	if frame == nil {
		return nil, p, ev, v
	}
	p, ok = parseFrame(frame)
	if !ok || checksum(frame) {
		t.Fatalf("bad frame %x", frame)
	}
	reply, err := lib4.FromBytes(p.payload)
	if err != nil {
		t.Fatalf("the library cannot read the reply: %v", err)
	}
	return reply, p, ev, v
}

// checksum tells whether a frame's checksums are wrong.
func checksum(frame []byte) bool {
	b := frame[14:]
	if b[0]>>4 == 4 {
		p, _ := parseFrame(frame)
		return fold(sum16(0, b[:20])) != 0xffff || transportSum(p.src, p.dst, protoUDP, b[20:]) != 0
	}
	p, _ := parseFrame(frame)
	return transportSum(p.src, p.dst, p.proto, b[40:]) != 0
}

func query(kind lib4.MessageType, mods ...lib4.Modifier) *lib4.DHCPv4 {
	m, err := lib4.New(append([]lib4.Modifier{
		lib4.WithMessageType(kind), lib4.WithHwAddr(net.HardwareAddr(guestMAC[:])), lib4.WithTransactionID(lib4.TransactionID{1, 2, 3, 4}),
	}, mods...)...)
	if err != nil {
		panic(err)
	}
	return m
}

func option(code byte, v ...byte) lib4.Modifier {
	return lib4.WithGeneric(lib4.GenericOptionCode(code), v)
}

func TestAnswer4(t *testing.T) {
	zero := ip("0.0.0.0")
	selecting := []lib4.Modifier{option(54, 10, 0, 0, 2), option(50, 10, 0, 0, 5)}
	for _, c := range []struct {
		name    string
		msg     *lib4.DHCPv4
		src     netip.Addr
		eth     MAC
		verdict Verdict
		want    string // type yiaddr eth-dst ip-dst:port
	}{
		{name: "discover", msg: query(lib4.MessageTypeDiscover), verdict: Answered4, want: "OFFER 10.0.0.5 fa:16:3e:00:00:10 10.0.0.5:68"},
		{
			name: "discover wants broadcast", msg: query(lib4.MessageTypeDiscover, lib4.WithBroadcast(true)), verdict: Answered4,
			want: "OFFER 10.0.0.5 ff:ff:ff:ff:ff:ff 255.255.255.255:68",
		},
		{
			name: "discover asks for the second address", msg: query(lib4.MessageTypeDiscover, option(50, 10, 5, 0, 5)), verdict: Answered4,
			want: "OFFER 10.5.0.5 fa:16:3e:00:00:10 10.5.0.5:68",
		},
		{
			name: "discover asks for a stranger's address", msg: query(lib4.MessageTypeDiscover, option(50, 10, 0, 0, 77)), verdict: Answered4,
			want: "OFFER 10.0.0.5 fa:16:3e:00:00:10 10.0.0.5:68",
		},
		{name: "selecting", msg: query(lib4.MessageTypeRequest, selecting...), verdict: Answered4, want: "ACK 10.0.0.5 fa:16:3e:00:00:10 10.0.0.5:68"},
		{
			name: "selecting another server", msg: query(lib4.MessageTypeRequest, option(54, 10, 0, 0, 3), option(50, 10, 0, 0, 5)),
			verdict: OtherServer,
		},
		{
			name: "selecting a wrong address", msg: query(lib4.MessageTypeRequest, option(54, 10, 0, 0, 2), option(50, 10, 0, 0, 6)),
			verdict: Refused4, want: "NAK 0.0.0.0 ff:ff:ff:ff:ff:ff 255.255.255.255:68",
		},
		{
			name: "init-reboot", msg: query(lib4.MessageTypeRequest, option(50, 10, 0, 0, 5)), verdict: Answered4,
			want: "ACK 10.0.0.5 fa:16:3e:00:00:10 10.0.0.5:68",
		},
		{
			name: "init-reboot from another network", msg: query(lib4.MessageTypeRequest, option(50, 192, 168, 7, 7)), verdict: Refused4,
			want: "NAK 0.0.0.0 ff:ff:ff:ff:ff:ff 255.255.255.255:68",
		},
		{
			name: "renewing", msg: query(lib4.MessageTypeRequest, lib4.WithClientIP(net.IPv4(10, 0, 0, 5))), src: ip("10.0.0.5"), verdict: Answered4,
			want: "ACK 10.0.0.5 fa:16:3e:00:00:10 10.0.0.5:68",
		},
		{
			name: "renewing what it lost", msg: query(lib4.MessageTypeRequest, lib4.WithClientIP(net.IPv4(10, 0, 0, 8))), src: ip("10.0.0.8"),
			verdict: Refused4, want: "NAK 0.0.0.0 ff:ff:ff:ff:ff:ff 255.255.255.255:68",
		},
		{name: "request for nothing", msg: query(lib4.MessageTypeRequest), verdict: Malformed},
		{
			name: "inform", msg: query(lib4.MessageTypeInform, lib4.WithClientIP(net.IPv4(10, 5, 0, 5))), src: ip("10.5.0.5"), verdict: Answered4,
			want: "ACK 0.0.0.0 fa:16:3e:00:00:10 10.5.0.5:68",
		},
		{
			name: "relayed", msg: query(lib4.MessageTypeDiscover, lib4.WithRelay(net.IPv4(10, 5, 0, 100))), eth: otherMAC, verdict: Answered4,
			want: "OFFER 10.5.0.5 fa:16:3e:00:00:11 10.5.0.100:67",
		},
		{name: "relayed from nowhere", msg: query(lib4.MessageTypeDiscover, lib4.WithRelay(net.IPv4(8, 8, 8, 8))), verdict: RelayRefused},
		{name: "relayed by ourselves", msg: query(lib4.MessageTypeDiscover, lib4.WithRelay(net.IPv4(10, 0, 0, 2))), verdict: RelayRefused},
		{name: "another's MAC", msg: query(lib4.MessageTypeDiscover), eth: otherMAC, verdict: Spoofed},
		{name: "stranger", msg: query(lib4.MessageTypeDiscover, lib4.WithHwAddr(net.HardwareAddr{2, 9, 9, 9, 9, 9})), eth: MAC{2, 9, 9, 9, 9, 9}, verdict: UnknownPort},
		{name: "router", msg: query(lib4.MessageTypeDiscover, lib4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 9})), eth: MAC{2, 0, 0, 0, 0, 9}, verdict: UnknownPort},
		{name: "subnet without DHCP", msg: query(lib4.MessageTypeDiscover, lib4.WithHwAddr(net.HardwareAddr(otherMAC[:]))), eth: otherMAC, verdict: NoAddress},
		{name: "release", msg: query(lib4.MessageTypeRelease, lib4.WithClientIP(net.IPv4(10, 0, 0, 5)), option(54, 10, 0, 0, 2)), verdict: Silent},
		{name: "decline", msg: query(lib4.MessageTypeDecline, option(50, 10, 0, 0, 5), option(54, 10, 0, 0, 2)), verdict: Silent},
		{name: "bootp", msg: bootp(), verdict: Unsupported},
		{name: "a server's message", msg: query(lib4.MessageTypeOffer), verdict: Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := mustCompile(t, testConfig())
			if !c.src.IsValid() {
				c.src = zero
			}
			if c.eth.isZero() {
				c.eth = guestMAC
			}
			r, p, _, v := ask(t, tab, c.src, c.eth, c.msg)
			if v != c.verdict {
				t.Fatalf("verdict %s, want %s", v, c.verdict)
			}
			got := ""
			if r != nil {
				frame, _ := ethOf(tab, c.src, c.eth, c.msg)
				got = r.MessageType().String() + " " + r.YourIPAddr.String() + " " + net.HardwareAddr(frame[:6]).String() + " " +
					netip.AddrPortFrom(p.dst, p.dstPort).String()
				if r.TransactionID != c.msg.TransactionID || r.OpCode != lib4.OpcodeBootReply || p.srcPort != 67 {
					t.Errorf("reply %v from port %d", r, p.srcPort)
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func bootp() *lib4.DHCPv4 {
	m := query(lib4.MessageTypeDiscover)
	m.Options.Del(lib4.OptionDHCPMessageType)
	return m
}

func ethOf(tab *table, src netip.Addr, eth MAC, m *lib4.DHCPv4) ([]byte, Verdict) {
	in, _ := parseFrame(udpFrame(endpoint{eth, src, port4Client}, endpoint{broadcastMAC, limitedBcast4, port4Server}, m.ToBytes()))
	frame, _, v := answer4(tab, &in)
	return frame, v
}

// What an offer carries when the client asks for everything, for some, and says nothing.
func TestOptions4(t *testing.T) {
	all := func(r *lib4.DHCPv4) string {
		var out []string
		for _, l := range strings.Split(r.Options.Summary(nil), "\n") {
			if l = strings.TrimSpace(l); l != "" {
				out = append(out, l)
			}
		}
		return strings.Join(out, "\n")
	}
	r, _, _, _ := ask(t, mustCompile(t, testConfig()), ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover, option(61, 1, 2, 3)))
	want := `Subnet Mask: ffffff00
Router: 10.0.0.1
Domain Name Server: 10.0.0.2, 10.0.0.3
Host Name: host-10-0-0-5
Domain Name: openstacklocal
Interface MTU: [5 170]
Broadcast Address: 10.0.0.255
IP Addresses Lease Time: 24h0m0s
DHCP Message Type: OFFER
Server Identifier: 10.0.0.2
Renew Time Value: 12h0m0s
Rebinding Time Value: 21h0m0s
Client identifier: [1 2 3]
Classless Static Route: route to 10.5.0.0/25 via 0.0.0.0; route to 10.6.0.0/24 via 0.0.0.0; route to 192.168.0.0/17 via 10.0.0.9; route to 169.254.169.254/32 via 10.0.0.2; route to 0.0.0.0/0 via 10.0.0.1`
	got := all(r)
	if i := strings.Index(got, "\nunknown (249)"); i > 0 {
		got = got[:i]
	}
	if !strings.HasPrefix(got, want) {
		t.Errorf("without a list of wishes (-want +got):\n%s", cmp.Diff(want, got))
	}
	if string(r.Options.Get(lib4.GenericOptionCode(249))) != string(r.Options.Get(lib4.GenericOptionCode(121))) {
		t.Error("249 is not 121")
	}
	r, _, _, _ = ask(t, mustCompile(t, testConfig()), ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover, option(55, 3)))
	var codes []byte
	for c := range 255 {
		if r.Options.Has(lib4.GenericOptionCode(c)) {
			codes = append(codes, byte(c))
		}
	}
	if d := cmp.Diff([]byte{1, 3, 26, 51, 53, 54, 58, 59}, codes); d != "" {
		t.Errorf("only the router was asked for (-want +got):\n%s", d)
	}
	// The subnet without gateway and name server.
	r, _, _, _ = ask(t, mustCompile(t, testConfig()), ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover, option(50, 10, 5, 0, 5)))
	if r.Options.Has(lib4.OptionRouter) || r.Options.Has(lib4.OptionDomainNameServer) {
		t.Errorf("router or name server on a subnet without: %s", all(r))
	}
}

func TestExtraOptions4(t *testing.T) {
	cfg := testConfig()
	cfg.Hosts[0].Options = []Option{
		{"bootfile-name", "pxelinux.0", 4}, {"tag:ipxe,67", "http://x/boot.ipxe", 4}, {"server-ip-address", "10.0.0.77", 4},
		{"tftp-server", "10.0.0.77", 4}, {"150", "10.0.0.78", 4}, {"option:ntp-server", "10.0.0.9,10.0.0.10", 4}, {"router", "", 4},
		{"mtu", "1300", 4}, {"tag:!ipxe,210", "/path/", 4}, {"domain-search", "a.example,b.example", 4}, {"lease-time", "2h", 4},
		{"client-id", "00:11:22", 4}, {"dns-server", "fd00::1", 6},
	}
	tab := mustCompile(t, cfg)
	r, _, _, _ := ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover))
	if r.BootFileName != "pxelinux.0" || r.ServerIPAddr.String() != "10.0.0.77" || r.ServerHostName != "10.0.0.77" {
		t.Errorf("header: file %q next %s name %q", r.BootFileName, r.ServerIPAddr, r.ServerHostName)
	}
	for code, want := range map[byte]string{
		67: "pxelinux.0", 150: "\x0a\x00\x00\x4e", 42: "\x0a\x00\x00\x09\x0a\x00\x00\x0a", 26: "\x05\x14", 210: "/path/",
		119: "\x01a\x07example\x00\x01b\x07example\x00", 51: "\x00\x00\x1c\x20", 58: "\x00\x00\x0e\x10",
	} {
		if got := string(r.Options.Get(lib4.GenericOptionCode(code))); got != want {
			t.Errorf("option %d = %q, want %q", code, got, want)
		}
	}
	if r.Options.Has(lib4.OptionRouter) {
		t.Error("an empty router option did not take the router away")
	}
	r, _, _, _ = ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover, option(175, 1)))
	if r.BootFileName != "http://x/boot.ipxe" || r.Options.Has(lib4.GenericOptionCode(210)) {
		t.Errorf("iPXE gets file %q", r.BootFileName)
	}
	// By client id from a MAC that is nobody's.
	unknown := MAC{2, 7, 7, 7, 7, 7}
	r, _, _, v := ask(t, tab, ip("0.0.0.0"), unknown, query(lib4.MessageTypeDiscover, lib4.WithHwAddr(unknown[:]), option(61, 0, 0x11, 0x22)))
	if v != Answered4 || r.YourIPAddr.String() != "10.0.0.5" {
		t.Errorf("by client id: %s", v)
	}
	// A bad one is skipped and named; the others stay.
	cfg.Hosts[0].Options = append(cfg.Hosts[0].Options, Option{"ntp-server", "not-an-address", 4}, Option{"nonsense", "1", 4})
	tab, problems := compile(cfg, serverMAC)
	if len(problems) != 2 || len(tab.byMAC[guestMAC].extra4) != 11 {
		t.Errorf("%d problems %q, %d options", len(problems), problems, len(tab.byMAC[guestMAC].extra4))
	}
}

// Small packets drop extras, never what a client needs.
func TestRoom4(t *testing.T) {
	cfg := testConfig()
	cfg.Hosts[0].Options = []Option{{"root-path", strings.Repeat("x", 400), 4}}
	tab := mustCompile(t, cfg)
	r, p, _, _ := ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover))
	if len(p.payload) > 548 || r.Options.Has(lib4.OptionRootPath) || !r.Options.Has(lib4.OptionClasslessStaticRoute) {
		t.Errorf("%d bytes, %s", len(p.payload), r.Options)
	}
	r, _, _, _ = ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover, option(57, 0x05, 0xdc)))
	if got := len(r.Options.Get(lib4.OptionRootPath)); got != 400 {
		t.Errorf("root path of %d bytes in a large packet, want 400 in two pieces", got)
	}
}

func TestEvents4(t *testing.T) {
	tab := mustCompile(t, testConfig())
	_, _, ev, _ := ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover))
	if ev != nil {
		t.Error("an offer is a lease")
	}
	_, _, ev, _ = ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeRequest, option(50, 10, 0, 0, 5), option(61, 9, 9)))
	if ev == nil || ev.kind != leased || ev.lease != DefaultLease || string(ev.clientID) != "\x09\x09" || ev.addr.IP != ip("10.0.0.5") {
		t.Errorf("event %+v", ev)
	}
}

func TestEncodeValue(t *testing.T) {
	for _, c := range []struct {
		name, value string
		v6          bool
		want        string
		bad         bool
	}{
		{name: "ntp-server", value: "1.2.3.4, 5.6.7.8", want: "\x01\x02\x03\x04\x05\x06\x07\x08"},
		{name: "42", value: "1.2.3.4", want: "\x01\x02\x03\x04"},
		{name: "time-offset", value: "3600", want: "\x00\x00\x0e\x10"},
		{name: "default-ttl", value: "64", want: "\x40"},
		{name: "default-ttl", value: "640", bad: true},
		{name: "T1", value: "1h", want: "\x00\x00\x0e\x10"},
		{name: "T1", value: "infinite", want: "\xff\xff\xff\xff"},
		{name: "T1", value: "soon", bad: true},
		{name: "static-route", value: "10.0.0.0,10.0.0.1", want: "\x0a\x00\x00\x00\x0a\x00\x00\x01"},
		{name: "classless-static-route", value: "10.2.0.0/16,10.0.0.1", want: "\x10\x0a\x02\x0a\x00\x00\x01"},
		{name: "249", value: "0.0.0.0/0,10.0.0.1", want: "\x00\x0a\x00\x00\x01"},
		{name: "classless-static-route", value: "10.2.0.0/16", bad: true},
		{name: "sip-server", value: "1.2.3.4", want: "\x01\x01\x02\x03\x04"},
		{name: "sip-server", value: "sip.example", want: "\x00\x03sip\x07example\x00"},
		{name: "200", value: "7", want: "\x07"},
		{name: "200", value: "70000", want: "\x00\x01\x11\x70"},
		{name: "200", value: "7s", want: "\x00\x07"},
		{name: "200", value: "01:02:ff", want: "\x01\x02\xff"},
		{name: "200", value: "0x0a0b", want: "\x0a\x0b"},
		{name: "200", value: `"7"`, want: "7"},
		{name: "200", value: "some text, with a comma", want: "some text, with a comma"},
		{name: "message-type", value: "1", bad: true},
		{name: "0", value: "1", bad: true},
		{name: "256", value: "1", bad: true},
		{name: "domain-search", value: strings.Repeat("a", 64) + ".example", bad: true},
		{name: "bootfile-name", value: strings.Repeat("a", 2000), bad: true},
		{name: "dns-server", value: "[fd00::1]", v6: true, want: "\xfd" + strings.Repeat("\x00", 14) + "\x01"},
		{name: "dns-server", value: "1.2.3.4", v6: true, bad: true},
		{name: "bootfile-url", value: "http://[::1]/x", v6: true, want: "http://[::1]/x"},
		{name: "bootfile-param", value: "ab,c", v6: true, want: "\x00\x02ab\x00\x01c"},
		{name: "ntp-server", value: "fd00::1", v6: true, want: "\x00\x01\x00\x10\xfd" + strings.Repeat("\x00", 14) + "\x01"},
		{name: "ia-na", value: "1", v6: true, bad: true},
	} {
		o := Option{Name: c.name, Value: c.value, IPVersion: 4}
		if c.v6 {
			o.IPVersion = 6
		}
		e, err := parseExtra(o)
		if (err != nil) != c.bad || err == nil && string(e.value) != c.want {
			t.Errorf("%s %q = %q, %v; want %q, bad %v", c.name, c.value, e.value, err, c.want, c.bad)
		}
	}
}

// Whatever a user puts into options: the reply can be read back, its options are what was encoded, and it has room.
func TestExtraProperty(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		cfg := testConfig()
		n := rapid.IntRange(0, 6).Draw(r, "n")
		for range n {
			cfg.Hosts[0].Options = append(cfg.Hosts[0].Options, Option{
				Name:      rapid.OneOf(rapid.StringMatching(`[0-9]{1,3}`), rapid.SampledFrom([]string{"mtu", "router", "tag:a,67", "log-server"}), rapid.String()).Draw(r, "name"),
				Value:     rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9.,:]{0,40}`)).Draw(r, "value"),
				IPVersion: rapid.SampledFrom([]int{4, 6}).Draw(r, "version"),
			})
		}
		tab, _ := compile(cfg, serverMAC)
		reply, p, _, v := ask(t, tab, ip("0.0.0.0"), guestMAC, query(lib4.MessageTypeDiscover))
		if v != Answered4 || len(p.payload) > 548 {
			r.Fatalf("%s, %d bytes", v, len(p.payload))
		}
		for _, e := range tab.byMAC[guestMAC].extra4 {
			got := reply.Options.Get(lib4.GenericOptionCode(e.code))
			if len(got) == 0 || len(e.tags) > 0 || e.code == 51 || e.code == 1 || e.code == 58 || e.code == 59 {
				continue
			}
			found := false
			for _, o := range tab.byMAC[guestMAC].extra4 {
				found = found || o.code == e.code && string(o.value) == string(got)
			}
			if !found {
				r.Fatalf("option %d is %x", e.code, got)
			}
		}
	})
}

func FuzzAnswer4(f *testing.F) {
	tab, _ := compile(testConfig(), serverMAC)
	for _, k := range []lib4.MessageType{lib4.MessageTypeDiscover, lib4.MessageTypeRequest, lib4.MessageTypeInform, lib4.MessageTypeDecline} {
		m := query(k, option(50, 10, 0, 0, 5), option(52, 3), option(57, 1, 1))
		f.Add(udpFrame(endpoint{guestMAC, ip("0.0.0.0"), 68}, endpoint{broadcastMAC, limitedBcast4, 67}, m.ToBytes()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseFrame(b)
		if !ok || p.proto != protoUDP || !p.src.Is4() {
			return
		}
		frame, _, _ := answer4(tab, &p)
		if frame == nil {
			return
		}
		out, ok := parseFrame(frame)
		if !ok || checksum(frame) {
			t.Fatalf("bad frame %x", frame)
		}
		if _, err := parse4(out.payload); err != nil || binary.BigEndian.Uint32(out.payload[4:]) != binary.BigEndian.Uint32(p.payload[4:]) {
			t.Fatalf("bad reply: %v", err)
		}
	})
}
