package conntrack

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/dataplane/ovsdb/ovstest"
	"baryon/internal/openflow"
	"baryon/internal/testkit"
)

// testbed is an Open vSwitch whose connection table is filled by packets that its controller sends.
type testbed struct {
	t     *testing.T
	node  *ovstest.Node
	conn  *openflow.Conn
	table *Table
}

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	testkit.NeedRoot(t)
	n := ovstest.Start(t)
	n.Ctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	conn, err := openflow.DialUnix(ctx, filepath.Join(n.RunDir, "br0.mgmt"), openflow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table := New(n.RunDir, func() string { return "netdev" })
	t.Cleanup(func() { _ = conn.Close(); table.Close() })
	return &testbed{t, n, conn, table}
}

// commit has a packet of the connection pass.
func (b *testbed) commit(e Entry) {
	b.t.Helper()
	set := openflow.SetFieldMasked(openflow.FieldCTMark, openflow.U64(uint64(e.Mark)), openflow.U64(0xffffffff))
	err := b.conn.PacketOut(b.t.Context(), openflow.PacketOut{
		InPort: openflow.PortController, Data: frame(e),
		Actions: []openflow.Action{openflow.CT{Commit: true, Zone: e.Zone, Exec: []openflow.Action{set}}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *testbed) list(zone int) []Entry {
	b.t.Helper()
	out, err := b.table.List(b.t.Context(), zone)
	if err != nil {
		b.t.Fatal(err)
	}
	slices.SortFunc(out, func(x, y Entry) int { return strings.Compare(x.String(), y.String()) })
	return out
}

// frame is a first packet of a connection, with checksums left out where that is allowed.
func frame(e Entry) []byte {
	if e.Protocol == 58 {
		return echo(e)
	}
	l4 := make([]byte, 20)
	put := func(at int, v uint16) { l4[at], l4[at+1] = byte(v>>8), byte(v) }
	put(0, e.SrcPort)
	put(2, e.DstPort)
	pseudo := true
	sumAt := -1
	switch e.Protocol {
	case 1:
		l4 = l4[:8]
		l4[0], l4[1] = e.Type, e.Code
		put(2, 0)
		put(4, e.ID)
		pseudo, sumAt = false, 2
	case 6:
		l4[12], l4[13] = 5<<4, 2
		sumAt = 16
	case 17:
		l4 = l4[:8]
		put(4, 8) // no checksum
	case 132:
		l4[12], l4[15] = 1, 8 // an INIT chunk; its checksum is not looked at
	}
	s, d := e.Src.As4(), e.Dst.As4()
	ip := append([]byte{0x45, 0, 0, byte(20 + len(l4)), 0, 0, 0, 0, 64, e.Protocol, 0, 0}, append(s[:], d[:]...)...)
	if sumAt >= 0 {
		var head []byte
		if pseudo {
			head = append(append(append(head, s[:]...), d[:]...), 0, e.Protocol, 0, byte(len(l4)))
		}
		put(sumAt, sum(append(head, l4...)))
	}
	v := sum(ip)
	ip[10], ip[11] = byte(v>>8), byte(v)
	return append(append([]byte{0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 8, 0}, ip...), l4...)
}

func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

func pair(four bool) (netip.Addr, netip.Addr) {
	if four {
		return netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	}
	return netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
}

// Each kind of connection is listed as it began, and removed alone; what cannot be removed is marked, and Open vSwitch lives on.
func TestDeleteEndsOneConnection(t *testing.T) {
	b := newTestbed(t)
	four, four2 := pair(true)
	six, six2 := pair(false)
	kinds := []Entry{
		{Zone: 7, Mark: 1, Protocol: 6, Src: four, Dst: four2, SrcPort: 4000, DstPort: 80},
		{Zone: 7, Mark: 2, Protocol: 17, Src: four, Dst: four2, SrcPort: 4000, DstPort: 53},
		{Zone: 7, Mark: 1, Protocol: 1, Src: four, Dst: four2, ID: 9, Type: 8},
		{Zone: 7, Mark: 1, Protocol: 47, Src: four, Dst: four2},
		{Zone: 7, Mark: 1, Protocol: 132, Src: four, Dst: four2}, // by its addresses only
		{Zone: 7, Mark: 2, Protocol: 58, Src: six, Dst: six2, ID: 9, Type: 128},
	}
	for _, e := range kinds {
		other := e
		other.Zone = 8
		b.commit(e)
		b.commit(other)
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	byText := func(list []Entry) []Entry {
		list = slices.Clone(list)
		slices.SortFunc(list, func(x, y Entry) int { return strings.Compare(x.String(), y.String()) })
		return list
	}
	left := byText(kinds)
	if d := cmp.Diff(left, b.list(7), same); d != "" {
		t.Fatalf("listed otherwise than begun: %s", d)
	}
	for _, e := range kinds {
		err := b.table.Delete(t.Context(), e)
		if e.Protocol == 58 {
			if !errors.Is(err, ErrStays) {
				t.Fatalf("%s: %v", e, err)
			}
			if err := b.conn.PacketOut(t.Context(), Mark(e, 4, 4)); err != nil {
				t.Fatal(err)
			}
			for i := range left {
				if left[i] == e {
					left[i].Mark |= 4
				}
			}
		} else {
			if err != nil {
				t.Fatal(err)
			}
			left = slices.DeleteFunc(left, func(x Entry) bool { return x == e })
		}
		if d := cmp.Diff(left, b.list(7), same); d != "" {
			t.Errorf("%s ended: %s", e, d)
		}
		if err := b.table.Delete(t.Context(), e); err != nil && !errors.Is(err, ErrStays) {
			t.Errorf("%s ended twice: %v", e, err)
		}
	}
	if got := b.list(8); len(got) != len(kinds) {
		t.Errorf("the other zone has %d of %d connections left: %v", len(got), len(kinds), got)
	}
	if err := b.table.Flush(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	if got := b.list(All); len(got) != 1 || got[0].Mark != 6 {
		t.Errorf("after the other zone was emptied: %v", got)
	}
	// A restarted switch is found again.
	b.node.KillSwitch()
	if _, err := b.table.List(t.Context(), 7); err == nil {
		t.Error("a switch that has gone answers")
	}
	b.node.StartSwitch()
	b.node.Eventually("the new switch answers", func() bool {
		_, err := b.table.List(t.Context(), 7)
		return err == nil
	})
	if got := b.list(All); len(got) != 0 {
		t.Errorf("a new switch knows %v", got)
	}
}

// A zone with very many connections is listed and picked from without a word lost.
func TestManyConnections(t *testing.T) {
	b := newTestbed(t)
	const n = 2000
	four, four2 := pair(true)
	for i := range n {
		b.commit(Entry{Zone: 3, Mark: uint32(1 + i%2), Protocol: 17, Src: four, Dst: four2, SrcPort: uint16(1000 + i), DstPort: 53})
	}
	list := b.list(3)
	if len(list) != n {
		t.Fatalf("%d of %d connections listed", len(list), n)
	}
	ended := 0
	for _, e := range list {
		if e.Mark == 2 {
			if err := b.table.Delete(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			ended++
		}
	}
	left := b.list(3)
	if len(left) != n-ended || ended != n/2 {
		t.Errorf("%d ended, %d left", ended, len(left))
	}
	for _, e := range left {
		if e.Mark != 1 {
			t.Errorf("%s stayed", e)
		}
	}
}
