package southbound

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"baryon/internal/nodestate"
)

func TestDecodeUndoesEncode(t *testing.T) {
	opts := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord().Draw(t, "record")
		b := Encode(r)
		back, err := Decode(b)
		if err != nil {
			t.Fatalf("decode of %s: %v", nodestate.Text(r), err)
		}
		if diff := cmp.Diff(r, back, opts); diff != "" {
			t.Fatalf("-sent +received:\n%s", diff)
		}
		if !nodestate.Equal(r, back) {
			t.Fatalf("%s\nis not equal to\n%s", nodestate.Text(r), nodestate.Text(back))
		}
		if !bytes.Equal(b, Encode(back)) {
			t.Fatalf("%s encodes in two ways", nodestate.Text(r))
		}
	})
}

// TestTextTellsRecordsApart: records with different bytes print differently, so that dumps and Equal hide nothing.
func TestTextTellsRecordsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRecord().Draw(t, "a"), genRecord().Draw(t, "b")
		if same := bytes.Equal(Encode(a), Encode(b)); same != nodestate.Equal(a, b) {
			t.Fatalf("equal bytes %v, but\n%s\n%s", same, nodestate.Text(a), nodestate.Text(b))
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(&nodestate.Port{ID: "p", NetworkID: "n"}))
	f.Add(Encode(&nodestate.DHCP{NetworkID: "n", Subnets: []nodestate.DHCPSubnet{{ID: "s", CIDR: netip.MustParsePrefix("10.0.0.0/24")}}}))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		// Whatever is accepted is a record like any other.
		again, err := Decode(Encode(r))
		if err != nil || !nodestate.Equal(r, again) {
			t.Fatalf("accepted %s, then %v %s", nodestate.Text(r), err, nodestate.Text(again))
		}
	})
}
