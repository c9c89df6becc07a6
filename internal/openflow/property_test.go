package openflow

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPrintThenParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFlow().Draw(t, "flow")
		g, err := ParseFlow(f.String())
		if err != nil {
			t.Fatal(err)
		}
		if !g.Equal(&f) {
			t.Fatalf("printed %s\nread    %s", f.String(), g.String())
		}
	})
}

func TestEncodeThenDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := FlowMod{Command: Command(rapid.IntRange(0, 4).Draw(t, "command")), Flow: genFlow().Draw(t, "flow"),
			CookieMask: rapid.Uint64().Draw(t, "mask"), OutPort: uint32(rapid.IntRange(0, 100).Draw(t, "out"))}
		if m.Command > ModifyStrict {
			m.Actions = nil
		}
		b, err := Encode(&m, V14, 7)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeFlowMod(b)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(&m.Flow) || got.Command != m.Command || got.CookieMask != m.CookieMask || got.OutPort != m.OutPort {
			t.Fatalf("sent %s\ngot  %s", m.String(), got.String())
		}
	})
}

// TestMatchIsCanonical builds one match from its items in any order, each perhaps twice.
func TestMatchIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMatch().Draw(t, "match")
		var items []MatchItem
		for _, f := range m.Fields() {
			items = append(items, Masked(f.Field, f.Value, f.Mask))
		}
		items = append(items, items[:rapid.IntRange(0, len(items)).Draw(t, "twice")]...)
		if got := MatchOf(rapid.Permutation(items).Draw(t, "order")...); got != m {
			t.Fatalf("built %s of the fields of %s", got, m)
		}
	})
}

// TestRandomFlowsThroughOpenVSwitch lets ovs-ofctl print what we made up.
func TestRandomFlowsThroughOpenVSwitch(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	want := map[FlowKey]Flow{}
	for seed := range 1000 {
		f := genFlow().Example(seed)
		want[f.Key()] = f
	}
	var printed []string
	for _, f := range want {
		m := AddFlow(f)
		if err := c.Apply(ctx, []FlowMod{m}); err != nil {
			t.Errorf("%v", err)
			continue
		}
		printed = append(printed, f.String())
	}
	compareLines(t, "random flows", b.dump(), printed)
	stats, err := c.DumpFlows(ctx, AllFlows())
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(want, StatsMap(stats)); d.Len() != 0 {
		for _, m := range d.All() {
			t.Errorf("dump differs: %s", m.String())
		}
	}
}

// namedPorts gives names numbers as they appear.
type namedPorts struct {
	numbers map[string]uint32
	names   []string
}

func (n *namedPorts) number(name string) (uint32, bool) {
	if v, ok := n.numbers[name]; ok {
		return v, true
	}
	n.names = append(n.names, name)
	n.numbers[name] = uint32(len(n.names))
	return n.numbers[name], true
}

func (n *namedPorts) name(port uint32) (string, bool) {
	if port == 0 || int(port) > len(n.names) {
		return "", false
	}
	return n.names[port-1], true
}

func TestNamedFlows(t *testing.T) {
	f, err := os.Open("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	ports := &namedPorts{numbers: map[string]uint32{}}
	parser, printer := Parser{PortNumber: ports.number}, Printer{PortName: ports.name}
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		lines++
		flow, err := parser.Flow(line)
		if err != nil {
			t.Error(err)
			continue
		}
		if d := cmp.Diff(line, printer.Flow(&flow)); d != "" {
			t.Error(d)
		}
		if err := flow.Err(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		got, err := DecodeFlowMod(seedBytes(flow))
		if err != nil || !got.Equal(&flow) {
			t.Errorf("%s came back as %s (%v)", line, got.Flow.String(), err)
		}
	}
	if lines < 100 {
		t.Errorf("only %d lines", lines)
	}
}

func TestDiffTurnsHaveIntoWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := rapid.SliceOfN(genFlow(), 0, 8).Draw(t, "flows")
		pick := func(label string) map[FlowKey]Flow {
			m := map[FlowKey]Flow{}
			for _, f := range pool {
				switch rapid.IntRange(0, 3).Draw(t, label) {
				case 0:
					continue
				case 1:
					f.Cookie = rapid.Uint64().Draw(t, "cookie")
				case 2:
					f.Actions = []Action{Output(uint32(rapid.IntRange(1, 3).Draw(t, "port")))}
				}
				m[f.Key()] = f
			}
			return m
		}
		want, have := pick("want"), pick("have")
		d := Diff(want, have)
		for _, m := range d.All() {
			k := m.Key()
			old, there := have[k]
			switch m.Command {
			case Add:
				have[k] = m.Flow
			case ModifyStrict:
				if !there {
					t.Fatalf("modify of a flow that is not there: %s", m.String())
				}
				old.Actions = m.Actions
				have[k] = old
			case DeleteStrict:
				delete(have, k)
			}
		}
		if again := Diff(want, have); again.Len() != 0 {
			t.Fatalf("after the changes %d more", again.Len())
		}
	})
}
