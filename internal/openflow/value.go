package openflow

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// MAC is a 48-bit Ethernet address in transmission order.
type MAC [6]byte

// String prints lower-case hexadecimal pairs with colons.
func (m MAC) String() string { return string(appendMAC(nil, m)) }

// Broadcast is ff:ff:ff:ff:ff:ff.
func Broadcast() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// Value is an unsigned integer of up to 128 bits: the content of a field, or its mask.  Addresses are in network order, that is,
// the first byte on the wire is the most significant one.
type Value struct{ Hi, Lo uint64 }

// U64 makes a Value of an integer.
func U64(v uint64) Value { return Value{Lo: v} }

// MACValue makes a Value of an Ethernet address.
func MACValue(m MAC) Value {
	return Value{Lo: uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])}
}

// AddrValue makes a Value of an IP address: 32 bits of an IPv4 address, 128 bits of an IPv6 one, zero of the invalid address.
func AddrValue(a netip.Addr) Value {
	switch {
	case a.Is4():
		b := a.As4()
		return Value{Lo: uint64(binary.BigEndian.Uint32(b[:]))}
	case a.Is6():
		b := a.As16()
		return Value{Hi: binary.BigEndian.Uint64(b[:8]), Lo: binary.BigEndian.Uint64(b[8:])}
	}
	return Value{}
}

// Ones is a Value whose n lowest bits are set, 0 <= n <= 128.
func Ones(n int) Value {
	switch {
	case n <= 0:
		return Value{}
	case n < 64:
		return Value{Lo: 1<<uint(n) - 1}
	case n == 64:
		return Value{Lo: ^uint64(0)}
	case n < 128:
		return Value{Hi: 1<<uint(n-64) - 1, Lo: ^uint64(0)}
	}
	return Value{Hi: ^uint64(0), Lo: ^uint64(0)}
}

// IsZero reports whether no bit is set.
func (v Value) IsZero() bool { return v.Hi == 0 && v.Lo == 0 }

// And is the bitwise and.
func (v Value) And(w Value) Value { return Value{v.Hi & w.Hi, v.Lo & w.Lo} }

// Or is the bitwise or.
func (v Value) Or(w Value) Value { return Value{v.Hi | w.Hi, v.Lo | w.Lo} }

// AndNot clears the bits of w.
func (v Value) AndNot(w Value) Value { return Value{v.Hi &^ w.Hi, v.Lo &^ w.Lo} }

// Shl shifts left by n bits, 0 <= n <= 128.
func (v Value) Shl(n int) Value {
	switch {
	case n <= 0:
		return v
	case n >= 128:
		return Value{}
	case n >= 64:
		return Value{Hi: v.Lo << uint(n-64)}
	}
	return Value{Hi: v.Hi<<uint(n) | v.Lo>>uint(64-n), Lo: v.Lo << uint(n)}
}

// Shr shifts right by n bits, 0 <= n <= 128.
func (v Value) Shr(n int) Value {
	switch {
	case n <= 0:
		return v
	case n >= 128:
		return Value{}
	case n >= 64:
		return Value{Lo: v.Hi >> uint(n-64)}
	}
	return Value{Hi: v.Hi >> uint(n), Lo: v.Lo>>uint(n) | v.Hi<<uint(64-n)}
}

// BitLen is the number of bits needed to hold v.
func (v Value) BitLen() int {
	if v.Hi != 0 {
		return 64 + bits.Len64(v.Hi)
	}
	return bits.Len64(v.Lo)
}

// Addr4 reads v as an IPv4 address.
func (v Value) Addr4() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(v.Lo))
	return netip.AddrFrom4(b)
}

// Addr6 reads v as an IPv6 address.
func (v Value) Addr6() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], v.Hi)
	binary.BigEndian.PutUint64(b[8:], v.Lo)
	return netip.AddrFrom16(b)
}

// MAC reads v as an Ethernet address.
func (v Value) MAC() MAC {
	return MAC{byte(v.Lo >> 40), byte(v.Lo >> 32), byte(v.Lo >> 24), byte(v.Lo >> 16), byte(v.Lo >> 8), byte(v.Lo)}
}

// appendBytes appends the n lowest bytes of v, most significant first, 0 <= n <= 16.
func (v Value) appendBytes(b []byte, n int) []byte {
	for i := n - 1; i >= 0; i-- {
		if i >= 8 {
			b = append(b, byte(v.Hi>>uint(8*(i-8))))
		} else {
			b = append(b, byte(v.Lo>>uint(8*i)))
		}
	}
	return b
}

// valueOf reads up to 16 bytes, most significant first; the caller has checked the length.
func valueOf(b []byte) Value {
	var v Value
	for _, c := range b {
		v = Value{Hi: v.Hi<<8 | v.Lo>>56, Lo: v.Lo<<8 | uint64(c)}
	}
	return v
}

// prefixLen returns n when v is a mask of n ones on top of width bits.
func (v Value) prefixLen(width int) (int, bool) {
	for n := 0; n <= width; n++ {
		if v == prefixMask(n, width) {
			return n, true
		}
	}
	return 0, false
}

// prefixMask has n ones on top of width bits.
func prefixMask(n, width int) Value { return Ones(width).AndNot(Ones(width - n)) }
