package openflow

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Actions reads a list of actions; "drop" and nothing at all are the empty list.
func (p Parser) Actions(s string) ([]Action, error) {
	if len(s) > maxText {
		return nil, fmt.Errorf("parse actions: %d characters are too long", len(s))
	}
	list, err := p.actions(s, 0)
	if err != nil {
		return nil, fmt.Errorf("parse actions %.200q: %w", s, err)
	}
	return list, nil
}

func (p Parser) actions(s string, depth int) ([]Action, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	var out []Action
	dropped := false
	for {
		word, rest, err, ok := nextWord(s)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		s = rest
		if word == "drop" {
			dropped = true
			continue
		}
		list, err := p.action(word, depth)
		if err != nil {
			return nil, fmt.Errorf("%.100s: %w", word, err)
		}
		for _, a := range list {
			switch a.(type) {
			case PushVLAN:
				p.tagged = true
			case Simple:
				p.tagged = p.tagged && a != PopVLAN
			}
		}
		out = append(out, list...)
	}
	if dropped && len(out) > 0 {
		return nil, fmt.Errorf("drop must stand alone")
	}
	return out, nil
}

// splitAction splits name, argument: NAME, NAME:ARG or NAME(ARG).
func splitAction(word string) (name, arg string, parens bool, err error) {
	i := strings.IndexAny(word, ":(=")
	if i < 0 {
		return word, "", false, nil
	}
	if word[i] != '(' {
		return word[:i], word[i+1:], false, nil
	}
	if !strings.HasSuffix(word, ")") || nestingEnd(word, i) != len(word)-1 {
		return "", "", true, fmt.Errorf("trailing characters")
	}
	return word[:i], word[i+1 : len(word)-1], true, nil
}

// nestingEnd finds the ) of the ( at start.
func nestingEnd(s string, start int) int {
	depth, quoted := 0, false
	for i := start; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

var simpleWords = map[string]Action{
	"pop_vlan": PopVLAN, "strip_vlan": PopVLAN, "pop_queue": PopQueue, "exit": Exit, "ct_clear": CTClear,
	"clear_actions": ClearActions, "dec_mpls_ttl": DecMPLSTTL, "copy_ttl_out": CopyTTLOut, "copy_ttl_in": CopyTTLIn,
}

func (p Parser) action(word string, depth int) ([]Action, error) {
	name, arg, parens, err := splitAction(word)
	if err != nil {
		return nil, err
	}
	one := func(a Action, err error) ([]Action, error) {
		if err != nil {
			return nil, err
		}
		return []Action{a}, nil
	}
	switch name {
	case "set_field":
		return one(p.setField(arg))
	case "load", "move":
		return one(p.copyBits(name, arg))
	case "mod_vlan_vid", "set_vlan_vid":
		v, err := parseUintMaskless(arg, 12)
		return ModVLANVid(uint16(v), p.tagged || name == "set_vlan_vid"), err
	case "enqueue":
		return p.enqueue(arg, parens)
	case "ct":
		return one(p.ct(arg, depth))
	case "nat":
		return one(parseNAT(arg))
	case "learn":
		return one(p.learn(arg))
	case "clone", "write_actions":
		list, err := p.actions(arg, depth+1)
		if name == "clone" {
			return one(Clone{list}, err)
		}
		return one(WriteActions{list}, err)
	case "resubmit":
		return one(p.resubmit(arg, parens))
	case "controller", "CONTROLLER":
		return one(parseController(arg, parens))
	case "output":
		return one(p.output(arg, parens))
	case "goto_table":
		t, err := p.table(arg)
		return one(Goto(t), err)
	}
	if field, bits, ok := oldSetters(name); ok {
		return one(p.oldSetter(field, bits, arg))
	}
	if a, ok, err := parseArgAction(name, arg); ok {
		return one(a, err)
	}
	if a, ok := simpleWords[name]; ok && arg == "" {
		return []Action{a}, nil
	}
	if arg == "" && !parens || strings.HasPrefix(word, `"`) {
		port, err := p.port(word)
		if err != nil {
			return nil, fmt.Errorf("unknown action")
		}
		return one(outputTo(port), nil)
	}
	return nil, fmt.Errorf("unknown action")
}

func outputTo(port uint32) Action {
	if port == PortController {
		return Controller(0xffff)
	}
	return Output(port)
}

// parseArgAction reads the actions whose argument is a number or bytes.
func parseArgAction(name, arg string) (a Action, ok bool, err error) {
	num := func(bits int) uint64 {
		var v uint64
		v, err = parseUintMaskless(arg, bits)
		return v
	}
	switch name {
	case "group":
		a = Group(num(32))
	case "meter":
		a = Meter(num(32))
	case "set_queue":
		a = SetQueue(num(32))
	case "push_vlan":
		a = PushVLAN(num(16))
	case "push_mpls":
		a = PushMPLS(num(16))
	case "pop_mpls":
		a = PopMPLS(num(16))
	case "set_mpls_ttl":
		a = SetMPLSTTL(num(8))
	case "mod_nw_ttl":
		a = SetNWTTL(num(8))
	case "push", "pop":
		var s Subfield
		s, err = parseSubfield(arg)
		a = Stack{name == "pop", s}
	case "note":
		a, err = parseNote(arg)
	case "raw":
		var b []byte
		b, err = hex.DecodeString(arg)
		a = RawAction{string(b)}
	case "dec_ttl":
		a, err = parseDecTTL(arg)
	case "fin_timeout":
		a, err = parseFinTimeout(arg)
	case "conjunction":
		a, err = parseConjunction(arg)
	case "write_metadata":
		var v, mask Value
		v, mask, err = parseUintMask(arg, Ones(64))
		a = WriteMetadata{v.Lo, mask.Lo}
	default:
		return nil, false, nil
	}
	return a, true, err
}

// oldSetters are the actions of OpenFlow 1.0 that are set_field now.
func oldSetters(name string) (f Field, bits int, ok bool) {
	switch name {
	case "mod_dl_src":
		return FieldEthSrc, 48, true
	case "mod_dl_dst":
		return FieldEthDst, 48, true
	case "mod_nw_src":
		return FieldIPv4Src, 32, true
	case "mod_nw_dst":
		return FieldIPv4Dst, 32, true
	case "mod_nw_tos":
		return FieldIPTOS, 8, true
	case "mod_nw_ecn":
		return FieldIPECN, 2, true
	case "mod_vlan_pcp":
		return FieldVLANPCP, 3, true
	case "set_tunnel", "set_tunnel64":
		return FieldTunID, 64, true
	case "set_mpls_label":
		return FieldMPLSLabel, 20, true
	case "set_mpls_tc":
		return FieldMPLSTC, 3, true
	}
	return FieldNone, 0, false
}

func (p Parser) oldSetter(f Field, bits int, arg string) (Action, error) {
	v, mask, err := p.fieldValue(f, arg)
	if err != nil {
		return nil, err
	}
	if mask != fieldMask(f) || v.BitLen() > bits {
		return nil, fmt.Errorf("%q is no value of %d bits", arg, bits)
	}
	if f == FieldIPTOS {
		if v.Lo&3 != 0 {
			return nil, fmt.Errorf("%q has bits in the ECN part", arg)
		}
		return SetDSCP(uint8(v.Lo >> 2)), nil
	}
	return SetField(f, v), nil
}

func (p Parser) setField(arg string) (Action, error) {
	value, name, ok := cutArrow(arg)
	if !ok {
		return nil, fmt.Errorf("no ->")
	}
	f, ok := FieldByName(name)
	if !ok || strings.Contains(name, "_OF_") || strings.Contains(name, "_NX_") {
		return nil, fmt.Errorf("unknown field %q", name)
	}
	v, mask, err := p.fieldValue(f, value)
	if err != nil {
		return nil, err
	}
	return SetFieldAction{f, v, mask}, nil
}

// cutArrow splits at the last ->, which no name contains.
func cutArrow(s string) (before, after string, ok bool) {
	i := strings.LastIndex(s, "->")
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+2:], true
}

func (p Parser) copyBits(name, arg string) (Action, error) {
	from, to, ok := cutArrow(arg)
	if !ok {
		return nil, fmt.Errorf("no ->")
	}
	dst, err := parseSubfield(to)
	if err != nil {
		return nil, err
	}
	if name == "move" {
		src, err := parseSubfield(from)
		if err == nil && src.Bits != dst.Bits {
			err = fmt.Errorf("%d bits cannot become %d", src.Bits, dst.Bits)
		}
		return MoveAction{src, dst}, err
	}
	v, err := parseUintMaskless(from, min(64, int(dst.Bits)))
	return LoadAction{v, dst}, err
}

// args splits a list of KEY=VALUE, KEY:VALUE, KEY(VALUE) and KEY.
func args(s string, each func(key, value string) error) error {
	for {
		word, rest, err, ok := nextWord(s)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		s = rest
		key, value, parens, err := splitAction(word)
		if err != nil {
			return err
		}
		if !parens {
			key, value, _ = strings.Cut(word, "=")
		}
		if err := each(key, value); err != nil {
			return err
		}
	}
}

func (p Parser) enqueue(arg string, parens bool) ([]Action, error) {
	port, queue, ok := strings.Cut(arg, ":")
	if parens {
		port, queue, ok = strings.Cut(arg, ",")
	}
	if !ok {
		return nil, fmt.Errorf("enqueue wants PORT:QUEUE")
	}
	n, err := p.port(strings.TrimPrefix(port, "port="))
	if err != nil {
		return nil, err
	}
	q, err := parseUintMaskless(strings.TrimPrefix(queue, "queue="), 32)
	return []Action{SetQueue(q), Output(n), PopQueue}, err
}

func (p Parser) resubmit(arg string, parens bool) (Action, error) {
	r := ResubmitAction{Port: portInPort16, Table: 255}
	if !parens {
		port, err := p.port16(arg)
		r.Port = port
		return r, err
	}
	parts := strings.Split(arg, ",")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" && parts[1] == "" && len(parts) == 2 {
		return nil, fmt.Errorf("resubmit wants a port, a table or both")
	}
	var err error
	if parts[0] != "" {
		if r.Port, err = p.port16(parts[0]); err != nil {
			return nil, err
		}
	}
	if parts[1] != "" {
		if r.Table, err = p.table(parts[1]); err != nil {
			return nil, err
		}
	}
	if len(parts) == 3 {
		if parts[2] != "ct" {
			return nil, fmt.Errorf("unknown flag %q", parts[2])
		}
		r.CT = true
	}
	return r, nil
}

func (p Parser) port16(s string) (uint16, error) {
	n, err := p.port(s)
	if err == nil && n > 0xffff && n < PortMax {
		err = fmt.Errorf("port %d does not fit in 16 bits", n)
	}
	return uint16(n), err
}

func (p Parser) output(arg string, parens bool) (Action, error) {
	if !parens {
		if port, err := p.port(arg); err == nil {
			return outputTo(port), nil
		} else if s, subErr := parseSubfield(arg); subErr == nil && strings.Contains(arg, "[") {
			return OutputReg{Src: s, MaxLen: 0xffff}, nil
		} else {
			return nil, err
		}
	}
	var o OutputTrunc
	err := args(arg, func(key, value string) (err error) {
		switch key {
		case "port":
			o.Port, err = p.port16(value)
		case "max_len":
			var v uint64
			v, err = parseUintMaskless(value, 32)
			o.MaxLen = uint32(v)
		default:
			err = fmt.Errorf("unknown argument %q", key)
		}
		return err
	})
	return o, err
}

func parseController(arg string, parens bool) (Action, error) {
	if !parens {
		if arg == "" {
			return Controller(0xffff), nil
		}
		n, err := parse16(arg)
		return Controller(n), err
	}
	c := SendToController{MaxLen: 0xffff, Reason: reasonAction}
	err := args(arg, func(key, value string) (err error) {
		switch key {
		case "max_len":
			c.MaxLen, err = parse16(value)
		case "id":
			c.ID, err = parse16(value)
		case "reason":
			for i, n := range reasonNames {
				if n == value {
					c.Reason = uint8(i)
					return nil
				}
			}
			var v uint64
			v, err = parseUintMaskless(value, 8)
			c.Reason = uint8(v)
		case "userdata":
			c.UserData, err = parseDotted(value)
		case "pause":
			c.Pause = true
		case "meter_id":
			var v uint64
			v, err = parseUintMaskless(value, 32)
			c.MeterID = uint32(v)
		default:
			err = fmt.Errorf("unknown argument %q", key)
		}
		return err
	})
	if err == nil && c == (SendToController{MaxLen: c.MaxLen, Reason: reasonAction}) {
		return Controller(c.MaxLen), nil
	}
	return c, err
}

// parseDotted reads pairs of hexadecimal digits, with dots or without.
func parseDotted(s string) (string, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ".", ""))
	if err != nil {
		return "", fmt.Errorf("%.60q is no list of hexadecimal bytes", s)
	}
	return string(b), nil
}

func parseNote(arg string) (Action, error) {
	data, err := parseDotted(arg)
	return Note(data), err
}

func parseDecTTL(arg string) (Action, error) {
	if arg == "" {
		return DecTTL, nil
	}
	var ids []byte
	for _, part := range strings.Split(arg, ",") {
		id, err := parse16(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		ids = put16(ids, id)
	}
	return DecTTLTo{string(ids)}, nil
}

func parseFinTimeout(arg string) (Action, error) {
	var f FinTimeout
	err := args(arg, func(key, value string) (err error) {
		switch key {
		case "idle_timeout":
			f.Idle, err = parse16(value)
		case "hard_timeout":
			f.Hard, err = parse16(value)
		default:
			err = fmt.Errorf("unknown argument %q", key)
		}
		return err
	})
	return f, err
}

func parseConjunction(arg string) (Action, error) {
	id, clauses, ok1 := strings.Cut(arg, ",")
	k, n, ok2 := strings.Cut(clauses, "/")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("conjunction wants ID,K/N")
	}
	v, err1 := parseUintMaskless(strings.TrimSpace(id), 32)
	a, err2 := strconv.ParseUint(strings.TrimSpace(k), 10, 8)
	b, err3 := strconv.ParseUint(strings.TrimSpace(n), 10, 8)
	if err1 != nil || err2 != nil || err3 != nil || b < 2 || b > 64 || a < 1 || a > b {
		return nil, fmt.Errorf("conjunction wants ID,K/N with K from 1 to N, and N from 2 to 64")
	}
	return ConjunctionAction{uint32(v), uint8(a), uint8(b)}, nil
}
