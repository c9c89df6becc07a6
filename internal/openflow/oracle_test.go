package openflow

import (
	"errors"

	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// everyFlow has each kind of match and action in the text that ovs-ofctl prints.  The tests send it through our codec to Open vSwitch
// and back, and through ovs-ofctl to us.
var everyFlow = []string{
	"priority=0 actions=drop",
	"cookie=0xdeadbeef00000001, table=1, idle_timeout=50, hard_timeout=60, send_flow_rem importance=7, priority=5,ip actions=NORMAL",
	"table=1, no_packet_counts no_byte_counts priority=6,ip actions=NORMAL",
	"table=1, actions=drop",
	"table=1, priority=7 actions=output:1,output:65279,LOCAL,FLOOD,ALL,IN_PORT,CONTROLLER:65535,CONTROLLER:128",
	"table=2, priority=1,in_port=5,dl_vlan=7,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02 actions=pop_vlan,set_field:0x64->tun_id,output:9",
	"table=2, priority=1,in_port=LOCAL actions=push_vlan:0x8100,set_field:4103->vlan_vid,goto_table:60",
	"table=2, dl_dst=00:00:00:00:00:00/01:00:00:00:00:00 actions=resubmit(,20)",
	"table=2, dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=resubmit(4,22),resubmit:5",
	"table=2, vlan_tci=0x0000/0x1fff actions=drop",
	"table=2, vlan_tci=0x0fff/0x1fff actions=drop",
	"table=2, vlan_tci=0x1000/0x1000 actions=drop",
	"table=2, dl_vlan_pcp=3 actions=drop",
	"table=2, dl_vlan=4095,dl_vlan_pcp=0 actions=set_field:3->vlan_pcp,pop_vlan",
	"table=2, dl_vlan=0 actions=drop",
	"table=2, dl_type=0x1234 actions=drop",
	"table=2, rarp actions=drop",
	"table=3, priority=1,tun_id=0x64 actions=set_field:0x5->reg1,goto_table:10",
	"table=3, priority=1,tun_id=0 actions=set_field:0->reg1,set_field:0x12345678->metadata",
	"table=3, tun_id=0x5/0xff,metadata=0xff00/0xff00 actions=drop",
	"table=3, tun_src=192.0.2.1,tun_dst=192.0.2.0/24,tun_gbp_id=5,tun_gbp_flags=0x8,tun_flags=+oam actions=drop",
	"table=3, tun_ipv6_src=2001:db8::/32,tun_ipv6_dst=2001:db8::1,tun_flags=-oam actions=drop",
	"table=3, reg0=0,reg1=0x5/0xff,reg5=0xa,reg15=0xffffffff,in_port=3 actions=drop",
	"table=10, priority=1 actions=learn(table=20,hard_timeout=300,priority=1,cookie=0xb5,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],output:OXM_OF_IN_PORT[]),output:2",
	"table=10, priority=2,ip actions=learn(table=3,idle_timeout=5,fin_idle_timeout=1,fin_hard_timeout=2,send_flow_rem,delete_learned,eth_type=0x800,ip_src=192.0.2.1,NXM_NX_REG1[0..3]=0x5,NXM_OF_VLAN_TCI[12]=0x1,load:0x1234->NXM_NX_REG3[0..15],reg1=0x5,in_port=3,tun_id=0x7,eth_dst=fa:16:3e:00:00:01)",
	"table=20, arp,arp_spa=192.0.2.1,arp_tpa=192.0.2.0/24,arp_op=1,arp_sha=fa:16:3e:00:00:01,arp_tha=00:00:00:00:00:01/00:00:00:00:00:ff actions=set_field:2->arp_op,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],set_field:fa:16:3e:00:00:09->arp_sha,set_field:192.0.2.9->arp_spa,move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:fa:16:3e:00:00:09->eth_src,IN_PORT",
	"table=24, icmp6,icmp_type=136,nd_target=fe80::f816:3eff:fe00:1 actions=goto_table:60",
	"table=24, icmp6,icmp_type=135,icmp_code=0,nd_target=2001:db8::/64,nd_sll=fa:16:3e:00:00:01 actions=drop",
	"table=24, icmp6,icmp_type=136,nd_tll=fa:16:3e:00:00:01 actions=drop",
	"table=24, icmp,icmp_type=8,icmp_code=0 actions=drop",
	"table=24, ip,nw_src=192.0.2.1,nw_dst=198.51.100.0/24 actions=set_field:192.0.2.7->ip_dst,dec_ttl,dec_ttl(1,2),mod_nw_ttl:64",
	"table=24, ip,nw_src=192.0.2.0/255.0.255.0 actions=drop",
	"table=24, ip,nw_proto=99,nw_tos=184,nw_ecn=1,nw_ttl=64,nw_frag=later actions=set_field:46->ip_dscp,set_field:2->nw_ecn,set_field:9->nw_ttl",
	"table=24, ip,nw_frag=no actions=drop",
	"table=24, ip,nw_frag=yes actions=drop",
	"table=24, ip,nw_frag=first actions=drop",
	"table=24, ip,nw_frag=not_later actions=drop",
	"table=24, ip,nw_proto=2 actions=drop",
	"table=24, ipv6,ipv6_src=2001:db8::/32,ipv6_dst=::1/::1,ipv6_label=0x00005 actions=set_field:2001:db8::9->ipv6_src,set_field:0x5->ipv6_label",
	"table=24, ipv6,nw_proto=99 actions=drop",
	"table=24, tcp,tp_src=0x400/0xfc00,tp_dst=80,tcp_flags=+syn-ack actions=set_field:81->tcp_dst,fin_timeout(idle_timeout=5,hard_timeout=6),exit",
	"table=24, tcp,tcp_flags=syn|ack actions=drop",
	"table=24, tcp6,tp_dst=0x16/0xfffe,tcp_flags=0 actions=drop",
	"table=24, udp,tp_src=68,tp_dst=67 actions=drop",
	"table=24, udp6,tp_src=546,tp_dst=547 actions=drop",
	"table=24, sctp,tp_src=5 actions=set_field:6->sctp_dst",
	"table=24, sctp6 actions=drop",
	"table=24, mpls,mpls_label=5,mpls_tc=1,mpls_bos=1 actions=set_field:6->mpls_label,set_mpls_ttl(5),dec_mpls_ttl,pop_mpls:0x0800",
	"table=71, ct_state=+trk actions=ct_clear,resubmit(,71)",
	"table=71, ct_state=+est+trk,ip actions=resubmit(,9,ct)",
	"table=71, ct_state=+est-rel-rpl,ip,reg5=0x3 actions=ct(table=72,zone=NXM_NX_REG6[0..15])",
	"table=71, ct_state=new|trk,ct_zone=7,ct_mark=0x1,ct_label=0x1234/0xffff,ip actions=ct(commit,zone=NXM_NX_REG6[0..15],exec(set_field:0x1->ct_mark))",
	"table=71, ct_mark=0/0x1,pkt_mark=0x5/0xff,ip actions=ct(commit,force,table=3,zone=5),ct(),ct(commit,nat(src=192.0.2.1-192.0.2.9,persistent,hash),exec(set_field:0x1->ct_mark,load:0x5->NXM_NX_CT_LABEL[0..31]))",
	"table=71, ct_state=+est+trk,ct_nw_src=192.0.2.1,ct_nw_proto=6,ct_tp_dst=80,ip actions=drop",
	"table=71, tcp actions=ct(commit,nat(src=192.0.2.1-192.0.2.9:100-200,random)),ct(commit,nat(dst=192.0.2.1:80),alg=ftp),ct(table=4,zone=4,nat)",
	"table=71, tcp6 actions=ct(commit,nat(src=2001:db8::1-2001:db8::9)),ct(commit,nat(src=[2001:db8::1]:5-6)),ct(commit,nat(dst=[2001:db8::1]-[2001:db8::9]:5)),ct(commit,nat(src))",
	"table=72, priority=70,ip,reg6=0x1,nw_src=192.0.2.5 actions=conjunction(16,1/2),conjunction(17,1/2)",
	"table=72, priority=70,conj_id=16,ip,reg5=0x3 actions=set_field:0x10->reg7,resubmit(,73)",
	"table=73, actset_output=5 actions=note:01.02.03.00.00.00,note:61.62.63.64.65.66.67.00.00.00.00.00.00.00",
	"table=74, priority=1 actions=set_field:0x5/0xff->reg2,set_field:0->xreg3,set_field:0x5->xxreg1,load:0x12->NXM_NX_REG1[3..9],load:0->NXM_NX_REG1[],load:0xffffffffffffffff->NXM_NX_TUN_ID[]",
	"table=74, priority=2 actions=move:NXM_NX_REG0[3]->NXM_NX_REG1[4],move:OXM_OF_METADATA[0..31]->NXM_NX_REG1[],push:NXM_NX_REG0[],pop:NXM_NX_REG1[0..15]",
	"table=74, priority=3 actions=output:NXM_NX_REG1[],output(port=5,max_len=100),controller(max_len=3,id=5),controller(userdata=01.02.03),controller(reason=no_match,id=4,userdata=01.02.03,pause)",
	"table=74, priority=4 actions=set_queue:3,output:4,pop_queue,clone(output:3,set_field:0x5->reg1)",
	"table=74, priority=5 actions=set_field:192.0.2.1->tun_dst,set_field:2001:db8::1->tun_ipv6_dst,set_field:5->tun_gbp_id,set_field:0x5->pkt_mark,set_field:5->in_port",
	"table=74, priority=6 actions=output:3,clear_actions,write_actions(output:4),write_metadata:0x5/0xff,goto_table:75",
	"table=74, priority=7 actions=set_field:fa:16:3e:00:00:00/ff:ff:ff:00:00:00->eth_src,set_field:0x64->tun_id",
}

func TestWireThroughOpenVSwitch(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	var mods []FlowMod
	want := map[FlowKey]Flow{}
	for _, text := range everyFlow {
		f, err := ParseFlow(text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if _, dup := want[f.Key()]; dup {
			t.Fatalf("two flows with the key of %s", text)
		}
		want[f.Key()] = f
		mods = append(mods, AddFlow(f))
	}
	if err := c.Apply(ctx, mods); err != nil {
		t.Fatal(err)
	}
	printed := make([]string, 0, len(want))
	for _, f := range want {
		printed = append(printed, f.String())
	}
	compareLines(t, "ovs-ofctl against Flow.String", b.dump(), printed)

	stats, err := c.DumpFlows(ctx, AllFlows())
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(want, StatsMap(stats)); d.Len() != 0 {
		for _, m := range d.All() {
			t.Errorf("dump differs: %s", m.String())
			if h, ok := StatsMap(stats)[m.Key()]; ok {
				t.Errorf("         have: %s", h.String())
			}
		}
	}
}

func TestDecodeWhatOvsOfctlAdds(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	// Below OpenFlow 1.5 ovs-ofctl turns a set_field with a mask into a load, and a load of 128 bits into two, so these come back
	// otherwise than they were typed; ours is what it prints then.
	b.addFile(everyFlow)
	stats, err := c.DumpFlows(testContext(t), AllFlows())
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, len(stats))
	for i := range stats {
		got[i] = stats[i].String()
		back, err := ParseFlow(got[i])
		if err != nil {
			t.Errorf("%v", err)
		} else if !back.Equal(&stats[i].Flow) {
			t.Errorf("parse(print(f)) = %s, want %s", back.String(), got[i])
		}
	}
	compareLines(t, "ovs-ofctl against our decoding", b.dump(), got)
	if len(got) != len(everyFlow) {
		t.Errorf("%d flows came back of %d", len(got), len(everyFlow))
	}
}

func compareLines(t *testing.T, what string, want, got []string) {
	t.Helper()
	want, got = slices.Clone(want), slices.Clone(got)
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-ovs +ours):\n%s", what, d)
	}
}

func TestEveryFlowTextRoundTrip(t *testing.T) {
	for _, text := range everyFlow {
		f, err := ParseFlow(text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if f.String() == text {
			continue
		}
		// Some lines are written for reading; what they print as must be stable.
		g, err := ParseFlow(f.String())
		if err != nil || !g.Equal(&f) {
			t.Errorf("%s\nprints %s\nreads  %s (%v)", text, f.String(), g.String(), err)
		}
	}
}

func TestBundleIsAllOrNothing(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	good := Flow{Table: 1, Priority: 1, Match: MatchOf(InPort(1)), Actions: []Action{Normal}}
	for name, bad := range map[string]Flow{
		"refused when it is added to the bundle": {Table: 2, Priority: 2, Match: MatchOf(InPort(2)), Actions: []Action{SetIPDst(MustAddr("192.0.2.1"))}},
		"refused when it is committed":           {Table: 1, Priority: 1, Match: MatchOf(IP()), Flags: CheckOverlap},
	} {
		err := c.Apply(ctx, []FlowMod{AddFlow(good), AddFlow(bad), AddFlow(Flow{Table: 3, Actions: []Action{Normal}})})
		var fe *FlowError
		if !errors.As(err, &fe) {
			t.Errorf("%s: error %v is no FlowError", name, err)
			continue
		}
		var e *Error
		if fe.Index != 1 || !errors.As(err, &e) || !strings.Contains(err.Error(), bad.Match.String()) {
			t.Errorf("%s: error %v does not name the flow", name, err)
		}
		if lines := b.dump(); len(lines) != 0 {
			t.Errorf("%s: flows stayed: %q", name, lines)
		}
	}
	if err := c.Apply(ctx, []FlowMod{AddFlow(good)}); err != nil {
		t.Errorf("connection is of no use after refusals: %v", err)
	}
}

func TestUnencodableFlowIsNotSent(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	for _, f := range []Flow{
		{Match: MatchOf(IPSrc(MustPrefix("2001:db8::/32")))},
		{Match: MatchOf(TCP(), UDP())},
		{Match: MatchOf(TPDst(80, 0xffff))},
		{Actions: []Action{Goto(3), Normal}},
		{Actions: []Action{Normal, Meter(3)}},
		{Actions: []Action{Load(5, FieldReg1, 0, 2)}},
		{Actions: []Action{Move(Sub(FieldReg0, 0, 4), Sub(FieldReg1, 0, 5))}},
		{Actions: []Action{SetField(FieldEthType, U64(5))}},
		{Actions: []Action{SetIPSrc(MustAddr("::1"))}},
		{Actions: []Action{nil}},
		{Actions: []Action{Conjunction(5, 3, 2)}},
		{Actions: []Action{Output(0)}},
		{Table: AllTables},
	} {
		err := c.Apply(ctx, []FlowMod{AddFlow(Flow{Table: 9}), AddFlow(f)})
		var fe *FlowError
		if !errors.As(err, &fe) || fe.Index != 1 {
			t.Errorf("%s: error %v", f.String(), err)
		}
	}
	if lines := b.dump(); len(lines) != 0 {
		t.Errorf("flows were sent: %q", lines)
	}
}

func TestManyFlows(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	const n = 10000
	want := manyFlows(n)
	mods := make([]FlowMod, n)
	for i := range want {
		mods[i] = AddFlow(want[i])
	}
	if err := c.Apply(ctx, mods); err != nil {
		t.Fatal(err)
	}
	stats, err := c.DumpFlows(ctx, AllFlows())
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(FlowMap(want), StatsMap(stats)); d.Len() != 0 || len(stats) != n {
		t.Errorf("%d flows came back, %d differ", len(stats), d.Len())
	}
	one, err := c.DumpFlows(ctx, FlowFilter{Table: 20, Match: MatchOf(VLAN(3))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range one {
		if v, _, _ := one[i].Match.Get(FieldVLANVID); v.Lo != 0x1003 {
			t.Errorf("filter let %s through", one[i].String())
		}
	}
	if len(one) == 0 {
		t.Error("filter let nothing through")
	}
	if err := c.Apply(ctx, []FlowMod{DeleteMatching(AllTables, Match{}, 0xb0<<56, 0xff<<56)}); err != nil {
		t.Fatal(err)
	}
	if lines := b.dump(); len(lines) != 0 {
		t.Errorf("%d flows stayed", len(lines))
	}
}

// manyFlows are flows as br-tun has them, each with its own key.
func manyFlows(n int) []Flow {
	out := make([]Flow, n)
	for i := range out {
		mac := MAC{0xfa, 0x16, 0x3e, byte(i >> 16), byte(i >> 8), byte(i)}
		out[i] = Flow{Table: 20, Priority: 2, Cookie: 0xb0<<56 | uint64(i), Match: MatchOf(VLAN(uint16(1+i%4000)), EthDst(mac)),
			Actions: []Action{PopVLAN, SetTunnel(uint64(i)), Output(uint32(1 + i%50))}}
	}
	return out
}

func TestModifyKeepsCounters(t *testing.T) {
	b := newBridge(t)
	c := b.dial(Options{})
	ctx := testContext(t)
	f := Flow{Table: 0, Priority: 5, Cookie: 1, Match: MatchOf(InPort(PortLocal)), Actions: []Action{Goto(1)}}
	if err := c.Apply(ctx, []FlowMod{AddFlow(f)}); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 60)
	packet[12], packet[13] = 0x12, 0x34
	out := PacketOut{InPort: PortLocal, Actions: []Action{OutTable}, Data: packet}
	for range 3 {
		if err := c.PacketOut(ctx, out); err != nil {
			t.Fatal(err)
		}
	}
	changes := []Flow{f, f}
	changes[0].Actions = []Action{Goto(2)}
	changes[1].Actions, changes[1].Cookie = []Action{Goto(3)}, 2
	for i, kind := range []Command{ModifyStrict, Add} {
		stats, err := c.DumpFlows(ctx, AllFlows())
		if err != nil {
			t.Fatal(err)
		}
		d := Diff(FlowMap(changes[i:i+1]), StatsMap(stats))
		if len(d.Mods) != 1 || d.Len() != 1 || d.Mods[0].Command != kind {
			t.Fatalf("plan %d is %+v", i, d)
		}
		if err := c.Apply(ctx, d.All()); err != nil {
			t.Fatal(err)
		}
		if stats, err = c.DumpFlows(ctx, AllFlows()); err != nil {
			t.Fatal(err)
		}
		if len(stats) != 1 || !stats[0].Equal(&changes[i]) || stats[0].Packets != 3 {
			t.Errorf("after %s: %d packets, %s", kind, stats[0].Packets, stats[0].String())
		}
	}
}

func TestOpenFlow13And15(t *testing.T) {
	for _, v := range []Version{V13, V15} {
		b := newBridge(t)
		c := b.dial(Options{Versions: []Version{v}})
		if c.Version() != v {
			t.Fatalf("agreed on %s", c.Version())
		}
		ctx := testContext(t)
		want := map[FlowKey]Flow{}
		for _, text := range everyFlow {
			f, err := ParseFlow(text)
			if err != nil {
				t.Fatal(err)
			}
			if v == V13 {
				f.Importance = 0
			}
			if v == V15 && hasLoad(f.Actions) { // OpenFlow 1.5 turns it into a set_field
				continue
			}
			mod := AddFlow(f)
			if err := c.Send(ctx, &mod); err != nil {
				t.Errorf("%s: %v", v, err)
				continue
			}
			want[f.Key()] = f
		}
		stats, err := c.DumpFlows(ctx, AllFlows())
		if err != nil {
			t.Fatal(err)
		}
		have := StatsMap(stats)
		d := Diff(want, have)
		for _, m := range d.All() {
			h := have[m.Key()]
			t.Errorf("%s: %s\n  have %s", v, m.String(), h.String())
		}
	}
}

func hasLoad(list []Action) bool {
	return slices.ContainsFunc(list, func(a Action) bool {
		switch x := a.(type) {
		case LoadAction:
			return true
		case CT:
			return hasLoad(x.Exec)
		}
		return false
	})
}

func TestGroupsAndMeters(t *testing.T) {
	for _, v := range []Version{V14, V15} {
		b := newBridge(t)
		c := b.dial(Options{Versions: []Version{v}})
		ctx := testContext(t)
		groups := []GroupDesc{
			{ID: 1, Type: GroupAll, Buckets: []Bucket{{Actions: []Action{Output(1)}}, {Actions: []Action{PopVLAN, Output(2)}}}},
			{ID: 2, Type: GroupSelect, Buckets: []Bucket{{Weight: 5, Actions: []Action{Output(1)}}, {Weight: 7, Actions: []Action{Output(2)}}}},
			{ID: 3, Type: GroupFastFailover, Buckets: []Bucket{{WatchPort: 1, Actions: []Action{Output(1)}}}},
		}
		var msgs []Message
		for _, g := range groups {
			msgs = append(msgs, &GroupMod{AddNew, g})
		}
		flow := AddFlow(Flow{Table: 1, Actions: []Action{Group(2)}})
		if err := c.ApplyAll(ctx, append(msgs, &flow)); err != nil {
			t.Fatal(err)
		}
		got, err := c.DumpGroups(ctx, AllGroups)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b GroupDesc) int { return int(a.ID) - int(b.ID) })
		if d := cmp.Diff(groups, got); d != "" {
			t.Errorf("%s groups (-want +got):\n%s", v, d)
		}
		meter := MeterConfig{ID: 9, Flags: MeterKbps | MeterBurst | MeterStats, Bands: []MeterBand{{Rate: 1000, Burst: 100}}}
		if err := c.Send(ctx, &MeterMod{AddNew, meter}); err != nil {
			t.Fatal(err)
		}
		meters, err := c.DumpMeters(ctx, AllMeters)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]MeterConfig{meter}, meters); d != "" {
			t.Errorf("%s meters (-want +got):\n%s", v, d)
		}
		out, _ := b.ofctl("dump-meters")
		if !strings.Contains(strings.Join(strings.Fields(out), " "), meter.String()) {
			t.Errorf("ovs-ofctl prints %q, we %q", out, meter.String())
		}
		useMeter := AddFlow(Flow{Table: 2, Actions: []Action{Meter(9), Goto(3)}})
		if err := c.Apply(ctx, []FlowMod{useMeter}); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(ctx, &MeterMod{DeleteExisting, MeterConfig{ID: 9}}, &GroupMod{DeleteExisting, GroupDesc{ID: AllGroups}}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.DumpGroups(ctx, AllGroups); err != nil || len(got) != 0 {
			t.Errorf("groups stayed: %v %v", got, err)
		}
		err = c.Send(ctx, &GroupMod{ModifyExisting, groups[0]})
		if err == nil || !strings.Contains(err.Error(), "OFPGMFC_UNKNOWN_GROUP") {
			t.Errorf("modifying an absent group: %v", err)
		}
	}
}
