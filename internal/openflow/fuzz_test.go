package openflow

import (
	"bytes"
	"testing"
)

// FuzzWire feeds every decoder: none may panic, and what decodes and encodes again must decode to the same.
func FuzzWire(f *testing.F) {
	for _, text := range everyFlow {
		if flow, err := ParseFlow(text); err == nil {
			f.Add(seedBytes(flow))
		}
	}
	for seed := range 50 {
		f.Add(seedBytes(genFlow().Example(seed)))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) < headerLen {
			return
		}
		h, body := decodeHeader(msg), msg[headerLen:]
		for _, v := range []Version{V13, V14, V15} {
			_, _ = decodeFlowStats(nil, body, v)
			_, _ = decodeGroups(nil, body, v)
			_, _ = decodeFlowUpdates(body, v)
			_, _, _ = decodePort(body, v)
			_, _ = decodeEvent(h, body, v)
			_, _ = decodeFlowRemoved(body, v)
			checkFlowMod(t, body, v)
		}
		_, _ = decodeMeters(nil, body)
		_, _ = decodePacketIn(body)
		_, _ = decodeError(h, body)
		_, _ = decodeFeatures(body)
		_ = helloVersions(h, body)
		_, _ = readMessage(bytes.NewReader(msg), nil)
	})
}

func checkFlowMod(t *testing.T, body []byte, v Version) {
	m, err := decodeFlowMod(body, v)
	if err != nil {
		return
	}
	_ = m.String()
	again, err := m.appendBody(nil, v)
	if err != nil {
		return // a switch may send what we would not
	}
	n, err := decodeFlowMod(again, v)
	if err != nil {
		t.Fatalf("%s does not decode again: %v", m.String(), err)
	}
	if v == V15 {
		return // load comes back as set_field
	}
	if m.Command > ModifyStrict {
		m.Actions = nil
	}
	if !n.Equal(&m.Flow) {
		t.Fatalf("%s\nencodes to %s", m.String(), n.String())
	}
}

// FuzzParseFlow reads any text: no panic, and what reads must print as something that reads the same.
func FuzzParseFlow(f *testing.F) {
	for _, text := range everyFlow {
		f.Add(text)
	}
	for seed := range 50 {
		flow := genFlow().Example(seed)
		f.Add(flow.String())
	}
	f.Add(`in_port="tap\"x",reg0=5 actions=output:"a b"`)
	f.Add("table=1,vlan_tci=0x1123/0xf000,oxm=ffff0804000000000001 actions=enqueue:3:4,mod_vlan_vid:5,raw(ffff001000002320006300000000000000)")
	f.Fuzz(func(t *testing.T, text string) {
		flow, err := ParseFlow(text)
		if err != nil {
			return
		}
		printed := flow.String()
		again, err := ParseFlow(printed)
		if err != nil {
			t.Fatalf("%q prints %q: %v", text, printed, err)
		}
		if !again.Equal(&flow) {
			t.Fatalf("%q prints %q and reads as %q", text, printed, again.String())
		}
		m := AddFlow(flow)
		if b, err := Encode(&m, V14, 1); err == nil {
			if n, err := DecodeFlowMod(b); err != nil || !n.Equal(&flow) {
				t.Fatalf("%q comes off the wire as %q: %v", printed, n.Flow.String(), err)
			}
		}
	})
}
