package dhcpd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	lib4 "github.com/insomniacslk/dhcp/dhcpv4"
	link "github.com/mdlayher/packet"

	"baryon/internal/dataplane/netns"
)

// Tables are swapped all the time while requests come in: each one is answered, and each answer is from one table.
func TestSwapUnderLoad(t *testing.T) {
	w := newWorld(t, "200.0.0.2/24")
	a, b := v4Config(w), v4Config(w)
	b.Domain = "other"
	b.Hosts[0].Addresses[0].Hostname = "other"
	s := w.start(a)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Apply([]*Config{a, b}[i%2])
			}
		}
	}()
	defer func() { close(stop); <-stopped }()

	g, err := netns.Open(w.guest)
	must(t, err)
	defer g.Close()
	var c *link.Conn
	must(t, g.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			c, err = link.Listen(ifi, link.Raw, 0x0800, nil)
		}
		return err
	}))
	defer c.Close() //nolint:errcheck // a test
	buf := make([]byte, 2048)
	for i := range 300 {
		m := query(lib4.MessageTypeDiscover, lib4.WithHwAddr(w.guestMAC))
		binary.BigEndian.PutUint32(m.TransactionID[:], uint32(i))
		frame := udpFrame(endpoint{MAC(w.guestMAC), netip.IPv4Unspecified(), 68}, endpoint{broadcastMAC, limitedBcast4, 67}, m.ToBytes())
		_, err := c.WriteTo(frame, &link.Addr{HardwareAddr: net.HardwareAddr(broadcastMAC[:])})
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				t.Fatalf("request %d has no answer: %v; %s", i, err, s.Stats())
			}
			p, ok := parseFrame(buf[:n])
			if !ok || p.dstPort != 68 {
				continue
			}
			r, err := lib4.FromBytes(p.payload)
			must(t, err)
			if binary.BigEndian.Uint32(r.TransactionID[:]) != uint32(i) {
				continue
			}
			if (r.DomainName() == "other") != (r.HostName() == "other") {
				t.Fatalf("answer from two tables: %s %s", r.HostName(), r.DomainName())
			}
			break
		}
	}
}

// Garbage on the wire changes nothing.
func TestGarbage(t *testing.T) {
	w := newWorld(t, "200.0.0.2/24")
	s := w.start(v4Config(w))
	g, err := netns.Open(w.guest)
	must(t, err)
	defer g.Close()
	var c *link.Conn
	must(t, g.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			c, err = link.Listen(ifi, link.Raw, 0, nil)
		}
		return err
	}))
	defer c.Close() //nolint:errcheck // a test
	good := udpFrame(endpoint{MAC(w.guestMAC), netip.IPv4Unspecified(), 68}, endpoint{broadcastMAC, limitedBcast4, 67}, query(lib4.MessageTypeDiscover).ToBytes())
	for i := 14; i < len(good); i += 3 {
		cut := append([]byte(nil), good[:i]...)
		_, err := c.WriteTo(cut, &link.Addr{HardwareAddr: net.HardwareAddr(broadcastMAC[:])})
		must(t, err)
		cut = append([]byte(nil), good...)
		cut[i] ^= 0xff
		_, err = c.WriteTo(cut, &link.Addr{HardwareAddr: net.HardwareAddr(broadcastMAC[:])})
		must(t, err)
	}
	w.udhcpc()
	if s.Stats().Get(Malformed) == 0 {
		t.Errorf("nothing was malformed: %s", s.Stats())
	}
}
