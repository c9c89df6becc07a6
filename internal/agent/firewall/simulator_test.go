package firewall

import (
	"slices"

	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// simulator carries packets through flow tables as Open vSwitch does, as far as our flows go: conjunctions, resubmit, goto, registers,
// ct (every packet has the state that the test gives it) and output.
type simulator struct {
	t       failer
	tables  map[uint8][]openflow.Flow // highest priority first
	state   uint64                    // ct_state that a lookup finds
	mark    uint64                    // ct_mark that it finds
	dropped []pipeline.Rule           // whose flows counted it in the table of those that are dropped
	out     []int                     // ports that got the packet
	steps   int
}

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

type fields map[openflow.Field]openflow.Value

func newSimulator(t failer, flows map[openflow.FlowKey]openflow.Flow) *simulator {
	s := &simulator{t: t, tables: map[uint8][]openflow.Flow{}, state: openflow.CTNew | openflow.CTTrk}
	for _, f := range flows {
		s.tables[f.Table] = append(s.tables[f.Table], f)
	}
	for _, list := range s.tables {
		slices.SortFunc(list, func(a, b openflow.Flow) int { return int(b.Priority) - int(a.Priority) })
	}
	return s
}

// run sends a packet into a table and returns the ports that it leaves by, sorted.
func (s *simulator) run(table uint8, p fields) []int {
	s.out, s.dropped, s.steps = nil, nil, 0
	s.table(table, p)
	slices.Sort(s.out)
	return s.out
}

func (p fields) meets(m openflow.Match) bool {
	for _, f := range m.Fields() {
		if p[f.Field].And(f.Mask) != f.Value {
			return false
		}
	}
	return true
}

// lookup finds the flow for a packet, by the rules of conjunctive matches of ovs-fields(7) and as classifier_lookup__ of Open vSwitch
// carries them out: once a conjunction is complete, its packet takes the best flow of the whole table that is no clause, of whatever
// priority; clauses of lower priority have no say any more.
func (s *simulator) lookup(table uint8, p fields) *openflow.Flow {
	list := s.tables[table]
	for i := 0; i < len(list); {
		prio := list[i].Priority
		var hard *openflow.Flow
		clauses := map[uint32]map[uint8]bool{}
		dims := map[uint32]uint8{}
		for ; i < len(list) && list[i].Priority == prio; i++ {
			f := &list[i]
			if !p.meets(f.Match) {
				continue
			}
			soft := false
			for _, a := range f.Actions {
				if c, ok := a.(openflow.ConjunctionAction); ok {
					soft = true
					if clauses[c.ID] == nil {
						clauses[c.ID] = map[uint8]bool{}
					}
					clauses[c.ID][c.Clause], dims[c.ID] = true, c.N
				}
			}
			if !soft {
				if hard != nil && !openflow.ActionsEqual(hard.Actions, f.Actions) {
					s.t.Fatalf("two flows of one priority match: %s and %s", hard, f)
				}
				hard = f
			}
		}
		for id, met := range clauses {
			if len(met) < int(dims[id]) {
				continue
			}
			q := fields{}
			for k, v := range p {
				q[k] = v
			}
			q[openflow.FieldConjID] = openflow.U64(uint64(id))
			for j := range list {
				if q.meets(list[j].Match) && !isClause(&list[j]) {
					return &list[j]
				}
			}
		}
		if hard != nil {
			return hard
		}
	}
	return nil
}

func isClause(f *openflow.Flow) bool {
	for _, a := range f.Actions {
		if _, ok := a.(openflow.ConjunctionAction); ok {
			return true
		}
	}
	return false
}

func (s *simulator) table(id uint8, p fields) {
	if s.steps++; s.steps > 200 {
		s.t.Fatal("the packet goes round in circles")
	}
	if f := s.lookup(id, p); f != nil {
		if id == pipeline.Dropped.ID {
			rule, _ := pipeline.RuleOf(f.Cookie)
			s.dropped = append(s.dropped, *rule)
		}
		s.act(f.Actions, p)
	}
}

func (s *simulator) act(list []openflow.Action, p fields) {
	for _, a := range list {
		switch a := a.(type) {
		case openflow.Goto:
			s.table(uint8(a), p)
		case openflow.ResubmitAction:
			s.table(a.Table, p)
		case openflow.SetFieldAction:
			p[a.Field] = p[a.Field].AndNot(a.Mask).Or(a.Value.And(a.Mask))
		case openflow.CT:
			if a.Recirc {
				q := fields{}
				for k, v := range p {
					q[k] = v
				}
				q[openflow.FieldCTState], q[openflow.FieldCTMark] = openflow.U64(s.state), openflow.U64(s.mark)
				s.table(a.Table, q)
			}
		case openflow.OutputReg:
			s.output(int(p[a.Src.Field].Lo), p)
		case openflow.Output:
			s.output(int(a), p)
		case openflow.PushVLAN:
			p[openflow.FieldVLANVID] = openflow.U64(0x1000)
		case openflow.Simple:
			switch a {
			case openflow.PopVLAN:
				p[openflow.FieldVLANVID] = openflow.Value{}
			case openflow.CTClear:
				p[openflow.FieldCTState] = openflow.Value{}
			default:
				s.t.Fatalf("unknown action %s", a)
			}
		default:
			s.t.Fatalf("unknown action %s", a)
		}
	}
}

func (s *simulator) output(port int, p fields) {
	if uint64(port) != p[openflow.FieldInPort].Lo {
		s.out = append(s.out, port)
	}
}

// wire is the packet as it comes in by a port, tagged with a local VLAN unless that is 0.
func (pkt Packet) wire(inPort int, vlan uint16) fields {
	u := func(v uint64) openflow.Value { return openflow.U64(v) }
	p := fields{
		openflow.FieldInPort: u(uint64(inPort)), openflow.FieldEthType: u(uint64(pkt.EthType)),
		openflow.FieldEthSrc: openflow.MACValue(openflow.MAC(pkt.EthSrc)), openflow.FieldEthDst: openflow.MACValue(openflow.MAC(pkt.EthDst)),
	}
	if vlan != 0 {
		p[openflow.FieldVLANVID] = u(uint64(vlan) | 0x1000)
	}
	switch pkt.EthType {
	case EthARP:
		p[openflow.FieldARPSPA], p[openflow.FieldARPTPA] = openflow.AddrValue(pkt.Src), openflow.AddrValue(pkt.Dst)
		return p
	case EthIPv4:
		p[openflow.FieldIPv4Src], p[openflow.FieldIPv4Dst] = openflow.AddrValue(pkt.Src), openflow.AddrValue(pkt.Dst)
	case EthIPv6:
		p[openflow.FieldIPv6Src], p[openflow.FieldIPv6Dst] = openflow.AddrValue(pkt.Src), openflow.AddrValue(pkt.Dst)
	default:
		return p
	}
	p[openflow.FieldIPProto] = u(uint64(pkt.Protocol))
	if pkt.Later {
		p[openflow.FieldIPFrag] = u(3)
		return p
	}
	src, dst := u(uint64(pkt.SrcPort)), u(uint64(pkt.DstPort))
	switch pkt.Protocol {
	case ProtoTCP:
		p[openflow.FieldTCPFlags] = u(2) // SYN
		p[openflow.FieldTCPSrc], p[openflow.FieldTCPDst] = src, dst
	case ProtoUDP:
		p[openflow.FieldUDPSrc], p[openflow.FieldUDPDst] = src, dst
	case ProtoSCTP:
		p[openflow.FieldSCTPSrc], p[openflow.FieldSCTPDst] = src, dst
	case ProtoICMP:
		p[openflow.FieldICMPType], p[openflow.FieldICMPCode] = src, dst
	case ProtoICMPv6:
		p[openflow.FieldICMPv6Type], p[openflow.FieldICMPv6Code] = src, dst
		if pkt.Target.IsValid() && (pkt.SrcPort == 135 || pkt.SrcPort == 136) {
			p[openflow.FieldNDTarget] = openflow.AddrValue(pkt.Target)
		}
	}
	return p
}
