package dhcpd

import (
	"fmt"
	"net/netip"
	"testing"

	lib4 "github.com/insomniacslk/dhcp/dhcpv4"
)

func BenchmarkAnswer4(b *testing.B) {
	tab := mustCompile(b, testConfig())
	in, _ := parseFrame(udpFrame(endpoint{guestMAC, ip("0.0.0.0"), 68}, endpoint{broadcastMAC, limitedBcast4, 67}, query(lib4.MessageTypeDiscover).ToBytes()))
	b.ReportAllocs()
	for b.Loop() {
		if frame, _, _ := answer4(tab, &in); frame == nil {
			b.Fatal("no answer")
		}
	}
}

// One change in a network of 1,000 ports makes the table anew.
func BenchmarkCompile1000(b *testing.B) {
	cfg := testConfig()
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		name := fmt.Sprintf("host-%d", i)
		cfg.Hosts = append(cfg.Hosts, Host{PortID: name, MAC: MAC{2, 1, 0, 0, byte(i >> 8), byte(i)}, Serve: true, Addresses: []HostAddress{{"a", a, name, name + ".openstacklocal"}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		compile(cfg, serverMAC)
	}
}
