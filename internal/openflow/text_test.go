package openflow

import (
	"strings"
	"testing"
)

// TestReadsWhatPeopleType reads forms that ovs-ofctl takes but does not print.
func TestReadsWhatPeopleType(t *testing.T) {
	for in, want := range map[string]string{
		" cookie=0x0, duration=5.1s, table=0, n_packets=3, n_bytes=180, idle_age=4, priority=1 actions=NORMAL":     "priority=1 actions=NORMAL",
		"table=5 priority=7 dl_vlan=3 action=mod_vlan_vid:9,output:2":                                              "table=5, priority=7,dl_vlan=3 actions=set_field:4105->vlan_vid,output:2",
		"dl_vlan=3,actions=strip_vlan,mod_vlan_vid:9":                                                              "dl_vlan=3 actions=pop_vlan,push_vlan:0x8100,set_field:4105->vlan_vid",
		"in_port=3,actions=mod_vlan_vid:9,mod_vlan_vid:10":                                                         "in_port=3 actions=push_vlan:0x8100,set_field:4105->vlan_vid,set_field:4106->vlan_vid",
		"dl_type=0x0800,nw_proto=17,tp_dst=53,actions=mod_dl_dst:00:00:00:00:00:01,mod_nw_tos:184,set_tunnel:0x64": "udp,tp_dst=53 actions=set_field:00:00:00:00:00:01->eth_dst,set_field:46->ip_dscp,set_field:0x64->tun_id",
		"dl_type=0x86dd,ip_proto=58,icmpv6_type=135,nd_target=fe80::1,actions=controller":                          "icmp6,icmp_type=135,nd_target=fe80::1 actions=CONTROLLER:65535",
		"udp,udp_dst=67,eth_src=0:1:2:3:4:5,actions=enqueue:3:4":                                                   "udp,dl_src=00:01:02:03:04:05,tp_dst=67 actions=set_queue:4,output:3,pop_queue",
		"arp,arp_op=1,arp_tpa=10.0.0.0/255.0.0.0 actions=flood":                                                    "arp,arp_tpa=10.0.0.0/8,arp_op=1 actions=FLOOD",
		"in_port=local, tunnel_id=5/0xf actions=in_port":                                                           "tun_id=0x5/0xf,in_port=LOCAL actions=IN_PORT",
		"in_port=65534 actions=65533":                                                                              "in_port=LOCAL actions=CONTROLLER:65535",
		"xreg0=0x100000002,xxreg1=0/0xff actions=drop":                                                             "reg0=0x1,reg1=0x2,reg7=0/0xff actions=drop",
		"vlan_tci=0 actions=":                   "vlan_tci=0x0000/0x1fff actions=drop",
		"dl_vlan=0xffff actions=drop":           "vlan_tci=0x0000/0x1fff actions=drop",
		"ct_state=-trk+new actions=ct(table=1)": "ct_state=+new-trk actions=ct(table=1)",
		"ip,ct_state=+trk actions=ct(commit,exec(nat(dst=10.0.0.1),set_field:5->ct_mark))":                          "ct_state=+trk,ip actions=ct(commit,nat(dst=10.0.0.1),exec(set_field:0x5->ct_mark))",
		"ip,nw_src=10.1.2.3/24 actions=resubmit(in_port,4),resubmit(,5)":                                            "ip,nw_src=10.1.2.0/24 actions=resubmit(,4),resubmit(,5)",
		"actions=learn(table=2,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0xffff->NXM_NX_REG0[0..15],output:in_port[])": "actions=learn(table=2,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0xffff->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
		"ipv6,ipv6_dst=2001:DB8::/32,nw_ttl=5,actions=write_metadata:7,goto_table:3":                                "ipv6,ipv6_dst=2001:db8::/32,nw_ttl=5 actions=write_metadata:0x7,goto_table:3",
	} {
		f, err := ParseFlow(in)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := f.String(); got != want {
			t.Errorf("%s\nreads as %s\n    want %s", in, got, want)
		}
	}
}

func TestRefusesBadText(t *testing.T) {
	for in, reason := range map[string]string{
		"":                            "no actions=",
		"priority=1":                  "no actions=",
		"priority=65536 actions=drop": "does not fit in 16 bits",
		"table=256 actions=drop":      "does not fit in 8 bits",
		"cookie=0x1ffffffffffffffff actions=drop":     "64 bits",
		"foo actions=drop":                            "unknown word",
		"foo=1 actions=drop":                          "unknown field",
		"in_port=nosuch actions=drop":                 "unknown port",
		`in_port="half actions=drop`:                  "no actions=",
		"dl_vlan=4096 actions=drop":                   "above 4095",
		"vlan_tci=0x2000/0x2000 actions=drop":         "splits the priority",
		"nw_src=1.2.3.4,ipv6 actions=drop":            "two things at once",
		"tp_dst=80 actions=drop":                      "needs its protocol",
		"tcp,icmp_type=3 actions=drop":                "needs its protocol",
		"tcp_dst=80 actions=drop":                     "needs its protocol",
		"icmp6,nd_target=::1 actions=drop":            "needs its protocol",
		"nw_proto=6 actions=drop":                     "needs its protocol",
		"tcp,udp actions=drop":                        "two things at once",
		"ip,nw_src=1.2.3 actions=drop":                "no address",
		"ip,nw_src=1.2.3.4/33 actions=drop":           "no prefix",
		"ipv6,ipv6_src=fe80::1%eth0 actions=drop":     "no address",
		"dl_src=00:00:00:00:00 actions=drop":          "no Ethernet address",
		"ip,nw_tos=3 actions=drop":                    "ECN",
		"reg0=0x1ffffffff actions=drop":               "does not fit in 32 bits",
		"reg16=0 actions=drop":                        "unknown field",
		"conj_id=1/1 actions=drop":                    "cannot be masked",
		"ct_state=+foo actions=drop":                  "unknown flag",
		"ct_state=+new-new actions=drop":              "given twice",
		"ip,nw_frag=maybe actions=drop":               "kind of fragment",
		"actions=nosuch":                              "unknown action",
		"actions=output:":                             "unknown port",
		"actions=drop,output:1":                       "stand alone",
		"actions=output:1)":                           "unmatched",
		"actions=ct(commit":                           "unclosed",
		"actions=ct(table=255)":                       "no table 255",
		"actions=ct(force)":                           "force needs commit",
		"actions=ct(nat(src=1.2.3.4-::1))":            "two families",
		"actions=ct(nat(src=1.2.3.4:9-3))":            "no range of ports",
		"actions=ct(nat(src,dst))":                    "src and dst",
		"actions=conjunction(1,3/2)":                  "K/N",
		"actions=load:5->NXM_NX_REG0[0..1]":           "does not fit in 2 bits",
		"actions=load:5->NXM_NX_REG0[3..40]":          "no run of bits",
		"actions=move:NXM_NX_REG0[]->NXM_NX_XXREG0[]": "cannot become",
		"actions=set_field:5->nosuch":                 "unknown field",
		"actions=set_field:5":                         "no ->",
		"actions=learn(nosuch=3)":                     "unknown field",
		"actions=learn(NXM_NX_REG0[0..3]=0x10)":       "does not fit",
		"actions=resubmit(,)":                         "wants a port",
		"actions=note:0g":                             "hexadecimal",
		"oxm=zz actions=drop":                         "TLVs",
		"actions=" + strings.Repeat("clone(", 30) + "drop" + strings.Repeat(")", 30): "nested deeper",
		strings.Repeat("x", maxText+1): "too long",
	} {
		f, err := ParseFlow(in)
		if err == nil {
			t.Errorf("%.100s: read as %s", in, f.String())
		} else if !strings.Contains(err.Error(), reason) {
			t.Errorf("%.100s: error %.300v, want one with %q", in, err, reason)
		}
	}
}

func TestMatchErrors(t *testing.T) {
	for want, m := range map[string]Match{
		"unknown field":      MatchOf(Is(FieldNone, U64(1))),
		"no such bits":       MatchOf(VLANPCP(9)),
		"above 4095":         MatchOf(VLAN(4096)),
		"cannot be":          MatchOf(ARPSPA(MustPrefix("::/0"))),
		"two things":         MatchOf(InPort(1), InPort(2)),
		"needs its protocol": MatchOf(IPSrc(MustPrefix("0.0.0.0/0")), TPSrc(1, 1)),
		"ct_state":           MatchOf(CTState("trk+new")),
		"kind of fragment":   MatchOf(IP(), IPFrag("some")),
		"tag":                MatchOf(VLANTCI(0xe000, 0xf000)),
		"vlan_pcp needs":     MatchOf(VLANPCP(3)),
		"tcp_flags wants":    MatchOf(TCP(), TCPFlags("syn")),
	} {
		if m.Err() == nil || !strings.Contains(m.Err().Error(), want) {
			t.Errorf("error %v, want one with %q", m.Err(), want)
		}
		if more := m.With(InPort(3)); more.Err() == nil {
			t.Errorf("%v: healed by With", m.Err())
		}
		f := Flow{Match: m}
		if f.Err() == nil {
			t.Errorf("%s: flow is good", f.String())
		}
	}
	a, b := MatchOf(TCP(), IPSrc(MustPrefix("0.0.0.0/0"))), MatchOf(TCP())
	if a != b {
		t.Errorf("%s differs from %s", a, b)
	}
	if (Match{}).With(ARP(), ARPOp(1)) != MatchOf(ARPOp(1)) || MatchOf(Reg(0, 1, 0)) != (Match{}) {
		t.Error("what is implied or does not count changes the match")
	}
}

func TestPrinterUsesNames(t *testing.T) {
	p := Printer{
		PortName: func(n uint32) (string, bool) {
			names := map[uint32]string{1: "patch-tun", 2: "eth0", 3: "local", 4: `a"b`}
			return names[n], names[n] != ""
		},
		TableName: func(n uint8) (string, bool) { return "spoof", n == 24 },
	}
	f := Flow{Table: 24, Priority: 3, Match: MatchOf(InPort(1)), Actions: []Action{Output(2), Output(3), Output(4), Output(5), Resubmit(1, 24), Goto(24)}}
	want := `table=spoof, priority=3,in_port="patch-tun" actions=output:eth0,output:"local",output:"a\"b",output:5,resubmit("patch-tun",spoof),goto_table:spoof`
	if got := p.Flow(&f); got != want {
		t.Errorf("printed %s\nwant    %s", got, want)
	}
	parser := Parser{
		PortNumber: func(s string) (uint32, bool) {
			n := map[string]uint32{"patch-tun": 1, "eth0": 2, "local": 3, `a"b`: 4}[s]
			return n, n != 0
		},
		TableNumber: func(s string) (uint8, bool) { return 24, s == "spoof" },
	}
	g, err := parser.Flow(want)
	if err == nil && !g.Equal(&f) {
		t.Errorf("read as %s", g.String())
	}
	if err != nil {
		t.Error(err)
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*Error{
		"OFPBMC_BAD_PREREQ (type 4 code 9)":         {Type: 4, Code: 9},
		"OFPBFC_MSG_FAILED (type 17 code 13)":       {Type: 17, Code: 13},
		"OFPBAC_? (type 2 code 99)":                 {Type: 2, Code: 99},
		"error (type 99 code 1)":                    {Type: 99, Code: 1},
		`OFPHFC_INCOMPATIBLE (type 0 code 0): "no"`: {Data: []byte("no")},
		"experimenter 0x2320 error 7":               {Type: 0xffff, Code: 7, Experimenter: nxVendor},
	} {
		if got := e.Error(); !strings.HasSuffix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSortFlows(t *testing.T) {
	flows := []Flow{{Table: 2}, {Table: 1, Priority: 5, Match: MatchOf(InPort(9))}, {Table: 1, Priority: 9}, {Table: 1, Priority: 5, Match: MatchOf(InPort(10))}}
	SortFlows(flows)
	var got []string
	for i := range flows {
		got = append(got, flows[i].String())
	}
	want := "table=1, priority=9 actions=drop|table=1, priority=5,in_port=10 actions=drop|table=1, priority=5,in_port=9 actions=drop|table=2, priority=0 actions=drop"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("sorted %s", s)
	}
}
