package dhcpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// DHCPv4 message types (RFC 2132 section 9.6).
const (
	discover4 = 1
	offer4    = 2
	request4  = 3
	decline4  = 4
	ack4      = 5
	nak4      = 6
	release4  = 7
	inform4   = 8
)

// DHCPv4 option codes that the server itself knows.
const (
	opt4Mask      = 1
	opt4Router    = 3
	opt4DNS       = 6
	opt4Hostname  = 12
	opt4Domain    = 15
	opt4MTU       = 26
	opt4Broadcast = 28
	opt4Requested = 50
	opt4Lease     = 51
	opt4Overload  = 52
	opt4Type      = 53
	opt4Server    = 54
	opt4Params    = 55
	opt4Message   = 56
	opt4MaxSize   = 57
	opt4T1        = 58
	opt4T2        = 59
	opt4Vendor    = 60
	opt4ClientID  = 61
	opt4TFTP      = 66
	opt4Bootfile  = 67
	opt4Rapid     = 80
	opt4Agent     = 82
	opt4Routes    = 121
	opt4Ether     = 175 // iPXE's own options: who sends it is iPXE
	opt4RoutesMS  = 249
)

const (
	header4  = 236 // bytes before the cookie
	minimum4 = 300 // what RFC 951 calls a whole message; some clients drop less
	cookie4  = 0x63825363
)

// message4 is a DHCPv4 message: what the server needs of it.
type message4 struct {
	op, hops  byte
	xid       uint32
	secs      uint16
	broadcast bool
	ciaddr    netip.Addr
	yiaddr    netip.Addr
	siaddr    netip.Addr
	giaddr    netip.Addr
	chaddr    MAC
	sname     string
	file      string
	options   map[byte][]byte
}

var errMessage = errors.New("not a valid message")

// parse4 reads a request.  Options split over several instances are joined (RFC 3396); overloaded fields are read; what does not
// fit Ethernet is refused.
func parse4(b []byte) (*message4, error) {
	if len(b) < header4+4 || binary.BigEndian.Uint32(b[header4:]) != cookie4 {
		return nil, fmt.Errorf("%w: too short or without DHCP's cookie", errMessage)
	}
	if b[1] != 1 || b[2] != 6 {
		return nil, fmt.Errorf("%w: hardware type %d with %d bytes is not Ethernet", errMessage, b[1], b[2])
	}
	m := &message4{
		op: b[0], hops: b[3], xid: binary.BigEndian.Uint32(b[4:]), secs: binary.BigEndian.Uint16(b[8:]),
		broadcast: b[10]&0x80 != 0,
		ciaddr:    addr4(b[12:]), yiaddr: addr4(b[16:]), siaddr: addr4(b[20:]), giaddr: addr4(b[24:]),
		chaddr:  MAC(b[28:34]),
		options: map[byte][]byte{},
	}
	if err := m.readOptions(b[header4+4:]); err != nil {
		return nil, err
	}
	if o := m.options[opt4Overload]; len(o) == 1 {
		if o[0]&1 != 0 {
			if err := m.readOptions(b[108:236]); err != nil {
				return nil, err
			}
		}
		if o[0]&2 != 0 {
			if err := m.readOptions(b[44:108]); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

func (m *message4) readOptions(b []byte) error {
	for len(b) > 0 {
		switch code := b[0]; code {
		case 0:
			b = b[1:]
		case 255:
			return nil
		default:
			if len(b) < 2 || len(b) < 2+int(b[1]) {
				return fmt.Errorf("%w: option %d is cut off", errMessage, code)
			}
			m.options[code] = append(m.options[code], b[2:2+int(b[1])]...)
			if m.options[code] == nil {
				m.options[code] = []byte{}
			}
			b = b[2+int(b[1]):]
		}
	}
	return nil // an end option is missing in some clients' messages
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

// kind is the message type, 0 for BOOTP.
func (m *message4) kind() byte {
	if o := m.options[opt4Type]; len(o) == 1 {
		return o[0]
	}
	return 0
}

// address reads an option of one address; an absent or malformed one is invalid.
func (m *message4) address(code byte) netip.Addr {
	if o := m.options[code]; len(o) == 4 {
		return addr4(o)
	}
	return netip.Addr{}
}

// bytes writes the message: message type and server id first, the rest by code, long options split, padded to 300 bytes.  room
// bounds the whole in bytes; options that do not fit are left out, those named in order first, and their codes are returned.
func (m *message4) bytes(order []byte, room int) (out []byte, left []byte) {
	b := make([]byte, header4+4, 548)
	b[0], b[1], b[2], b[3] = m.op, 1, 6, m.hops
	binary.BigEndian.PutUint32(b[4:], m.xid)
	binary.BigEndian.PutUint16(b[8:], m.secs)
	if m.broadcast {
		b[10] = 0x80
	}
	for i, a := range []netip.Addr{m.ciaddr, m.yiaddr, m.siaddr, m.giaddr} {
		if a.Is4() {
			v := a.As4()
			copy(b[12+4*i:], v[:])
		}
	}
	copy(b[28:], m.chaddr[:])
	copy(b[44:107], m.sname) // the last byte stays zero
	copy(b[108:235], m.file)
	binary.BigEndian.PutUint32(b[header4:], cookie4)
	for _, code := range order {
		v, ok := m.options[code]
		if !ok {
			continue
		}
		need := len(v) + 2*max(1, (len(v)+254)/255)
		if len(b)+need+1 > room {
			left = append(left, code)
			continue
		}
		for first := true; first || len(v) > 0; first = false {
			n := min(len(v), 255)
			b = append(append(b, code, byte(n)), v[:n]...)
			v = v[n:]
		}
	}
	b = append(b, 255)
	if len(b) < minimum4 {
		b = append(b, make([]byte, minimum4-len(b))...)
	}
	return b, left
}

// optionOrder puts what a client cannot do without first, so that only extras fall out of a small packet.
func (m *message4) optionOrder() []byte {
	first := []byte{
		opt4Type, opt4Server, opt4Lease, opt4T1, opt4T2, opt4Mask, opt4Router, opt4DNS, opt4MTU, opt4Routes, opt4RoutesMS,
		opt4Broadcast, opt4Domain, opt4Hostname, opt4Message, opt4Bootfile, opt4TFTP,
	}
	rest := make([]byte, 0, len(m.options))
	for c := range m.options {
		// Option 82 goes last (RFC 3046 section 2.2).
		if !slices.Contains(first, c) && c != opt4Agent {
			rest = append(rest, c)
		}
	}
	slices.Sort(rest)
	return append(append(first, rest...), opt4Agent)
}
