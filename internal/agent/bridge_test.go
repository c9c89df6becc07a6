package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

func floodOf(vlan uint16, segment uint64, outs ...openflow.Output) openflow.Flow {
	actions := []openflow.Action{openflow.PopVLAN, openflow.SetTunnel(segment)}
	for _, o := range outs {
		actions = append(actions, o)
	}
	return pipeline.FloodNetwork.Flow("network/n", openflow.MatchOf(openflow.VLAN(vlan)), actions...)
}

func TestFloodListsOnlyGrowUntilConfirmed(t *testing.T) {
	for _, tc := range []struct {
		name       string
		have, want openflow.Flow
		confirmed  bool
		mods       []openflow.Flow
	}{
		{"shrinks: held", floodOf(1, 7, 2, 3), floodOf(1, 7, 2), false, nil},
		{"shrinks and grows: grows", floodOf(1, 7, 2, 3), floodOf(1, 7, 2, 4), false, []openflow.Flow{floodOf(1, 7, 2, 3, 4)}},
		{"another segment: replaced", floodOf(1, 7, 2, 3), floodOf(1, 8, 2), false, []openflow.Flow{floodOf(1, 8, 2)}},
		{"confirmed: shrinks", floodOf(1, 7, 2, 3), floodOf(1, 7, 2), true, []openflow.Flow{floodOf(1, 7, 2)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBridge("br-tun", "", func() {}, func(uint64) {})
			b.flows.Load(map[openflow.FlowKey]openflow.Flow{tc.have.Key(): tc.have})
			b.want(tc.want.Key(), &tc.want)
			var got []string
			for _, m := range b.plan(time.Time{}, tc.confirmed) {
				got = append(got, m.Flow.String())
			}
			var want []string
			for _, f := range tc.mods {
				want = append(want, f.String())
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRefusedFlowRests(t *testing.T) {
	b := newBridge("br-int", "", func() {}, func(uint64) {})
	f, g := floodOf(1, 7, 2), floodOf(2, 8, 2)
	b.want(f.Key(), &f)
	b.want(g.Key(), &g)
	now := time.Unix(1000, 0)
	b.bad[f.Key()] = badFlow{again: now.Add(badDelay)}
	if mods := b.plan(now, true); len(mods) != 1 || mods[0].Key() != g.Key() {
		t.Errorf("plan is %v", mods)
	}
	if mods := b.plan(now.Add(badDelay), true); len(mods) != 2 {
		t.Errorf("the refused flow is not tried again: %v", mods)
	}
	b.want(f.Key(), &f) // wanted anew: tried at once
	if mods := b.plan(now, true); len(mods) != 2 {
		t.Errorf("the flow wanted anew is not tried: %v", mods)
	}
}
