package openflow

import (
	"fmt"
	"net/netip"
	"strings"
)

func (p Parser) ct(arg string, depth int) (Action, error) {
	var c CT
	var nat []Action
	err := args(arg, func(key, value string) (err error) {
		switch key {
		case "commit":
			c.Commit = true
		case "force":
			c.Force = true
		case "table":
			c.Recirc = true
			if c.Table, err = p.table(value); err == nil && c.Table == ctNoRecirc {
				err = fmt.Errorf("no table 255")
			}
		case "zone":
			if c.Zone, err = parse16(value); err != nil {
				c.ZoneFrom, err = parseSubfield(value)
			}
		case "nat":
			var n Action
			n, err = parseNAT(value)
			nat = []Action{n}
		case "exec":
			var list []Action
			list, err = p.actions(value, depth+1)
			c.Exec = append(c.Exec, list...)
		case "alg":
			switch value {
			case "ftp":
				c.ALG = algFTP
			case "tftp":
				c.ALG = algTFTP
			default:
				c.ALG, err = parse16(value)
			}
		default:
			err = fmt.Errorf("unknown argument %q", key)
		}
		return err
	})
	if nat != nil {
		c.Exec = append(nat, c.Exec...)
	}
	if err == nil && c.Force && !c.Commit {
		err = fmt.Errorf("force needs commit")
	}
	return c, err
}

func parseNAT(arg string) (Action, error) {
	var n NAT
	err := args(arg, func(key, value string) error {
		switch key {
		case "src", "dst":
			if n.Src || n.Dst {
				return fmt.Errorf("nat has src and dst")
			}
			n.Src, n.Dst = key == "src", key == "dst"
			if value != "" {
				return n.parseRange(value)
			}
		case "persistent":
			n.Persistent = true
		case "hash":
			n.Hash = true
		case "random":
			n.Random = true
		default:
			return fmt.Errorf("unknown argument %q", key)
		}
		return nil
	})
	return n, err
}

// parseRange reads ADDR[-ADDR][:PORT[-PORT]], where an IPv6 address before a port stands in brackets.
func (n *NAT) parseRange(s string) error {
	take := func() (netip.Addr, error) {
		var text string
		if strings.HasPrefix(s, "[") {
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return netip.Addr{}, fmt.Errorf("no ] in %q", s)
			}
			text, s = s[1:end], s[end+1:]
		} else {
			end := strings.IndexByte(s, '-')
			if colon := strings.IndexByte(s, ':'); strings.Count(s, ":") == 1 && (end < 0 || colon < end) {
				end = colon
			}
			if end < 0 {
				end = len(s)
			}
			text, s = s[:end], s[end:]
		}
		a, err := netip.ParseAddr(text)
		if err == nil && a.Zone() != "" {
			err = fmt.Errorf("%q has a zone", text)
		}
		return a, err
	}
	lo, err := take()
	if err != nil {
		return err
	}
	n.Family = NATIPv6
	if lo.Is4() {
		n.Family = NATIPv4
	}
	putNATAddr(&n.MinAddr, lo)
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		s = rest
		hi, err := take()
		if err != nil {
			return err
		}
		if hi.Is4() != lo.Is4() {
			return fmt.Errorf("range of two families")
		}
		n.HasMaxAddr = true
		putNATAddr(&n.MaxAddr, hi)
	}
	if s == "" {
		return nil
	}
	ports, ok := strings.CutPrefix(s, ":")
	if !ok {
		return fmt.Errorf("garbage %q behind the addresses", s)
	}
	first, last, isRange := strings.Cut(ports, "-")
	if n.MinPort, err = parse16(first); err == nil && isRange {
		n.MaxPort, err = parse16(last)
	}
	if err == nil && (n.MinPort == 0 || isRange && n.MaxPort < n.MinPort) {
		err = fmt.Errorf("%q is no range of ports", ports)
	}
	return err
}

func putNATAddr(dst *[16]byte, a netip.Addr) { copy(dst[:], a.AsSlice()) }

func (p Parser) learn(arg string) (Action, error) {
	l := Learn{Priority: DefaultPriority, Table: 1} // table 1 is ovs-ofctl's default
	for {
		word, rest, err, ok := nextWord(arg)
		if err != nil {
			return nil, err
		}
		if !ok {
			return l, nil
		}
		arg = rest
		key, value, hasValue := strings.Cut(word, "=")
		switch {
		case word == "send_flow_rem":
			l.SendFlowRem = true
		case word == "delete_learned":
			l.DeleteLearned = true
		case hasValue && key == "table":
			l.Table, err = p.table(value)
		case hasValue && key == "priority":
			l.Priority, err = parse16(value)
		case hasValue && key == "idle_timeout":
			l.IdleTimeout, err = parse16(value)
		case hasValue && key == "hard_timeout":
			l.HardTimeout, err = parse16(value)
		case hasValue && key == "fin_idle_timeout":
			l.FinIdleTimeout, err = parse16(value)
		case hasValue && key == "fin_hard_timeout":
			l.FinHardTimeout, err = parse16(value)
		case hasValue && key == "cookie":
			l.Cookie, err = parseUintMaskless(value, 64)
		default:
			var s LearnSpec
			s, err = p.learnSpec(word, key, value, hasValue)
			l.Specs = append(l.Specs, s)
		}
		if err != nil {
			return nil, fmt.Errorf("learn: %.100s: %w", word, err)
		}
	}
}

func (p Parser) learnSpec(word, key, value string, hasValue bool) (LearnSpec, error) {
	if src, ok := strings.CutPrefix(word, "output:"); ok {
		s, err := parseSubfield(src)
		return OutputTo(s), err
	}
	if rest, ok := strings.CutPrefix(word, "load:"); ok {
		from, to, ok := cutArrow(rest)
		if !ok {
			return LearnSpec{}, fmt.Errorf("no ->")
		}
		dst, err := parseSubfield(to)
		if err != nil {
			return LearnSpec{}, err
		}
		if src, err := parseSubfield(from); err == nil {
			if src.Bits != dst.Bits {
				return LearnSpec{}, fmt.Errorf("%d bits cannot become %d", src.Bits, dst.Bits)
			}
			return LoadFrom(dst, src), nil
		}
		v, err := parseUint(from)
		if err == nil && v.BitLen() > int(dst.Bits) {
			err = fmt.Errorf("%q does not fit in %d bits", from, dst.Bits)
		}
		return LoadImm(dst, v), err
	}
	dst, err := parseSubfield(key)
	if err != nil {
		return LearnSpec{}, err
	}
	if !hasValue {
		return MatchSame(dst), nil
	}
	if src, err := parseSubfield(value); err == nil {
		if src.Bits != dst.Bits {
			return LearnSpec{}, fmt.Errorf("%d bits cannot become %d", src.Bits, dst.Bits)
		}
		return MatchFrom(dst, src), nil
	}
	var v Value
	if dst == Whole(dst.Field) {
		mask := Value{}
		if v, mask, err = p.fieldValue(dst.Field, value); err == nil && mask != fieldMask(dst.Field) {
			err = fmt.Errorf("%q has a mask", value)
		}
	} else if v, err = parseUint(value); err == nil && v.BitLen() > int(dst.Bits) {
		err = fmt.Errorf("%q does not fit in %d bits", value, dst.Bits)
	}
	return MatchImm(dst, v), err
}
