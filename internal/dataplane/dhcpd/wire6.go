package dhcpd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// DHCPv6 message types (RFC 8415 section 7.3).
const (
	solicit6   = 1
	advertise6 = 2
	request6   = 3
	confirm6   = 4
	renew6     = 5
	rebind6    = 6
	reply6     = 7
	release6   = 8
	decline6   = 9
	inform6    = 11
)

// DHCPv6 option codes that the server itself knows.
const (
	opt6ClientID  = 1
	opt6ServerID  = 2
	opt6IANA      = 3
	opt6IATA      = 4
	opt6Address   = 5
	opt6Requested = 6
	opt6Pref      = 7
	opt6Status    = 13
	opt6Rapid     = 14
	opt6UserClass = 15
	opt6DNS       = 23
	opt6Search    = 24
	opt6IAPD      = 25
	opt6Refresh   = 32
	opt6FQDN      = 39
)

// DHCPv6 status codes (RFC 8415 section 21.13).
const (
	status6OK        = 0
	status6NoAddrs   = 2
	status6NoBinding = 3
	status6NotOnLink = 4
	status6UseMulti  = 5
	status6NoPrefix  = 6
)

// option6 is one option, its value a part of the packet.
type option6 struct {
	code  uint16
	value []byte
}

// message6 is a DHCPv6 client's message.
type message6 struct {
	kind    byte
	xid     [3]byte
	options []option6
}

// maxOptions6 bounds how many options one message or identity association may hold.
const maxOptions6 = 128

func parse6(b []byte) (*message6, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	opts, err := parseOptions6(b[4:])
	if err != nil {
		return nil, err
	}
	return &message6{kind: b[0], xid: [3]byte(b[1:4]), options: opts}, nil
}

func parseOptions6(b []byte) ([]option6, error) {
	var out []option6
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: an option's header is cut off", errMessage)
		}
		code, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			return nil, fmt.Errorf("%w: option %d is cut off", errMessage, code)
		}
		if len(out) == maxOptions6 {
			return nil, fmt.Errorf("%w: more than %d options", errMessage, maxOptions6)
		}
		out = append(out, option6{code, b[4 : 4+n]})
		b = b[4+n:]
	}
	return out, nil
}

// get finds the first option of a code.
func (m *message6) get(code uint16) ([]byte, bool) {
	for _, o := range m.options {
		if o.code == code {
			return o.value, true
		}
	}
	return nil, false
}

// requested is the client's option request list.
func (m *message6) requested() map[uint16]bool {
	out := map[uint16]bool{}
	v, _ := m.get(opt6Requested)
	for ; len(v) >= 2; v = v[2:] {
		out[binary.BigEndian.Uint16(v)] = true
	}
	return out
}

// association is an identity association of non-temporary (or temporary) addresses in a client's message.
type association struct {
	code  uint16
	iaid  uint32
	addrs []netip.Addr
}

// associations reads all identity associations; one that is malformed makes the message invalid.
func (m *message6) associations() ([]association, error) {
	var out []association
	for _, o := range m.options {
		head := 0
		switch o.code {
		case opt6IANA, opt6IAPD:
			head = 12
		case opt6IATA:
			head = 4
		default:
			continue
		}
		if len(o.value) < head {
			return nil, fmt.Errorf("%w: identity association of %d bytes", errMessage, len(o.value))
		}
		ia := association{code: o.code, iaid: binary.BigEndian.Uint32(o.value)}
		inner, err := parseOptions6(o.value[head:])
		if err != nil {
			return nil, err
		}
		for _, i := range inner {
			if i.code == opt6Address && len(i.value) >= 24 {
				ia.addrs = append(ia.addrs, netip.AddrFrom16([16]byte(i.value[:16])))
			}
		}
		out = append(out, ia)
	}
	return out, nil
}

func appendOption6(b []byte, code uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func statusOption(code uint16, text string) []byte {
	return appendOption6(nil, opt6Status, append(binary.BigEndian.AppendUint16(nil, code), text...))
}
