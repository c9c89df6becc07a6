package openflow

import "testing"

func BenchmarkMatchOf(b *testing.B) {
	mac := MAC{0xfa, 0x16, 0x3e, 0, 0, 1}
	b.ReportAllocs()
	for b.Loop() {
		if MatchOf(VLAN(7), EthDst(mac)).IsZero() {
			b.Fatal("empty")
		}
	}
}

func BenchmarkEncodeFlowMod(b *testing.B) {
	m := AddFlow(manyFlows(1)[0])
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.appendBody(buf, V14); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFlowMod(b *testing.B) {
	msg := seedBytes(manyFlows(1)[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeFlowMod(msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrint(b *testing.B) {
	f := manyFlows(1)[0]
	b.ReportAllocs()
	for b.Loop() {
		_ = f.String()
	}
}

func BenchmarkParse(b *testing.B) {
	flow := manyFlows(1)[0]
	text := flow.String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseFlow(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDiff10k compares 10,000 flows with 10,000, of which 1 in 100 differs.
func BenchmarkDiff10k(b *testing.B) {
	have := manyFlows(10000)
	want := manyFlows(10000)
	for i := 0; i < len(want); i += 100 {
		want[i].Actions = []Action{Normal}
	}
	wm, hm := FlowMap(want), FlowMap(have)
	b.ReportAllocs()
	for b.Loop() {
		if d := Diff(wm, hm); len(d.Mods) != 100 {
			b.Fatal(d.Len())
		}
	}
}

// BenchmarkApplyOne is one flow in its bundle, to Open vSwitch and back.
func BenchmarkApplyOne(b *testing.B) {
	br := newBridge(b)
	c := br.dial(Options{})
	ctx := testContext(b)
	mods := []FlowMod{AddFlow(manyFlows(1)[0])}
	for b.Loop() {
		if err := c.Apply(ctx, mods); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply1k is a bundle of 1,000 flows.
func BenchmarkApply1k(b *testing.B) {
	br := newBridge(b)
	c := br.dial(Options{})
	ctx := testContext(b)
	var mods []FlowMod
	for _, f := range manyFlows(1000) {
		mods = append(mods, AddFlow(f))
	}
	for b.Loop() {
		if err := c.Apply(ctx, mods); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDump10k reads 10,000 flows from Open vSwitch.
func BenchmarkDump10k(b *testing.B) {
	br := newBridge(b)
	c := br.dial(Options{})
	ctx := testContext(b)
	var mods []FlowMod
	for _, f := range manyFlows(10000) {
		mods = append(mods, AddFlow(f))
	}
	if err := c.Apply(ctx, mods); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		stats, err := c.DumpFlows(ctx, AllFlows())
		if err != nil || len(stats) != 10000 {
			b.Fatal(len(stats), err)
		}
	}
}
