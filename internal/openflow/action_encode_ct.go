package openflow

import "fmt"

const (
	ctCommit   = 1
	ctForce    = 2
	ctNoRecirc = 255

	natSrc        = 1
	natDst        = 2
	natPersistent = 4
	natHash       = 8
	natRandom     = 16

	natV4Min   = 1
	natV4Max   = 2
	natV6Min   = 4
	natV6Max   = 8
	natPortMin = 16
	natPortMax = 32

	learnSendFlowRem   = 1
	learnDeleteLearned = 2
)

func (c CT) encode(b []byte, v Version) ([]byte, error) {
	if c.Force && !c.Commit || c.Recirc && c.Table == ctNoRecirc {
		return b, fmt.Errorf("%s: force needs commit, and there is no table 255", c)
	}
	start := len(b)
	var flags uint16
	if c.Commit {
		flags |= ctCommit
	}
	if c.Force {
		flags |= ctForce
	}
	b = put16(nx(b, nxCT), flags)
	if c.ZoneFrom.Field == FieldNone {
		b = put16(put32(b, 0), c.Zone)
	} else {
		if err := checkSubfield(c.ZoneFrom, false); err != nil || c.ZoneFrom.Bits != 16 {
			return b, fmt.Errorf("ct zone needs 16 bits of a field: %s", c)
		}
		b = put16(put32(b, c.ZoneFrom.header()), ofsNBits(c.ZoneFrom))
	}
	table := uint8(ctNoRecirc)
	if c.Recirc {
		table = c.Table
	}
	b = put16(append(b, table, 0, 0, 0), c.ALG)
	b, err := appendActions(b, c.Exec, v)
	if err != nil {
		return b, err
	}
	return closeTLV(b, start)
}

func (n NAT) encode(b []byte, _ Version) ([]byte, error) {
	if n.Src && n.Dst {
		return b, fmt.Errorf("nat cannot be src and dst at once")
	}
	if !n.Src && !n.Dst && n != (NAT{}) {
		return b, fmt.Errorf("nat has a range or flags but neither src nor dst")
	}
	var flags, present uint16
	for _, f := range [...]struct {
		on  bool
		bit uint16
	}{{n.Src, natSrc}, {n.Dst, natDst}, {n.Persistent, natPersistent}, {n.Hash, natHash}, {n.Random, natRandom}} {
		if f.on {
			flags |= f.bit
		}
	}
	var body []byte
	addrLen, minBit, maxBit := 0, uint16(0), uint16(0)
	switch n.Family {
	case NATIPv4:
		addrLen, minBit, maxBit = 4, natV4Min, natV4Max
	case NATIPv6:
		addrLen, minBit, maxBit = 16, natV6Min, natV6Max
	}
	if addrLen > 0 {
		present |= minBit
		body = append(body, n.MinAddr[:addrLen]...)
		if n.HasMaxAddr {
			present |= maxBit
			body = append(body, n.MaxAddr[:addrLen]...)
		}
	} else if n.HasMaxAddr || n.MinPort != 0 {
		return b, fmt.Errorf("nat has a range without a first address")
	}
	if n.MinPort != 0 {
		present |= natPortMin
		body = put16(body, n.MinPort)
		if n.MaxPort != 0 {
			present |= natPortMax
			body = put16(body, n.MaxPort)
		}
	} else if n.MaxPort != 0 {
		return b, fmt.Errorf("nat has a last port without a first")
	}
	start := len(b)
	b = put16(put16(append(nx(b, nxNAT), 0, 0), flags), present)
	return closeTLV(append(b, body...), start)
}

func (l Learn) encode(b []byte, _ Version) ([]byte, error) {
	if l.Table == AllTables {
		return b, fmt.Errorf("learn: no table %d", l.Table)
	}
	start := len(b)
	var flags uint16
	if l.SendFlowRem {
		flags |= learnSendFlowRem
	}
	if l.DeleteLearned {
		flags |= learnDeleteLearned
	}
	b = put16(put16(put16(nx(b, nxLearn), l.IdleTimeout), l.HardTimeout), l.Priority)
	b = append(put16(put64(b, l.Cookie), flags), l.Table, 0)
	b = put16(put16(b, l.FinIdleTimeout), l.FinHardTimeout)
	var err error
	for i := range l.Specs {
		if b, err = l.Specs[i].append(b); err != nil {
			return b, fmt.Errorf("learn: %w", err)
		}
	}
	return closeTLV(b, start)
}

func (s *LearnSpec) append(b []byte) ([]byte, error) {
	n := s.bits()
	imm := s.Src.Field == FieldNone
	if s.Kind > LearnOutput || s.Kind == LearnOutput && (imm || s.Dst != (Subfield{})) {
		return b, fmt.Errorf("malformed spec of kind %d", s.Kind)
	}
	if s.Kind != LearnOutput {
		if err := checkSubfield(s.Dst, s.Kind == LearnLoad); err != nil {
			return b, err
		}
	}
	h := uint16(s.Kind)<<11 | uint16(n)
	if imm {
		fits := Ones(n)
		if s.Dst == Whole(s.Dst.Field) {
			fits = fieldMask(s.Dst.Field) // vlan_vid counts 12 bits and holds 13
		}
		if len(s.Imm) != (n+7)/8 || !valueOf([]byte(s.Imm)).AndNot(fits).IsZero() {
			return b, fmt.Errorf("constant does not fit in %d bits", n)
		}
		b = put16(b, h|1<<13)
		if len(s.Imm)%2 != 0 {
			b = append(b, 0)
		}
		b = append(b, s.Imm...)
	} else {
		if err := checkSubfield(s.Src, false); err != nil {
			return b, err
		}
		if int(s.Src.Bits) != n {
			return b, fmt.Errorf("%d bits cannot become %d", s.Src.Bits, n)
		}
		b = put16(b, h)
		b = put16(put32(b, s.Src.header()), uint16(s.Src.Ofs))
	}
	if s.Kind != LearnOutput {
		b = put16(put32(b, s.Dst.header()), uint16(s.Dst.Ofs))
	}
	return b, nil
}
