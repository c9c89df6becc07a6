// Package ipam is the arithmetic of addresses: pools, gateways, EUI-64.  All of it is pure; who has which address is kept by
// package alloc over the layout that a subnet's pools make (Pools).
package ipam

import (
	"encoding/binary"
	"math/big"
	"net/netip"
	"slices"

	"baryon/internal/model"
	"baryon/internal/neutron/alloc"
)

// maxPoolSize is how many addresses of one pool are ever picked from: more than anyone can use, few enough that the sum of all pools
// of a subnet fits 64 bits.
const maxPoolSize = 1 << 54

// Pools numbers the addresses of a subnet's allocation pools from 0.  It is an alloc.Layout.
type Pools struct {
	ranges []model.AddrRange
	base   []uint64 // number of a range's first address
	size   uint64
}

var _ alloc.Layout[netip.Addr] = (*Pools)(nil)

// NewPools makes the layout of pools that do not overlap; the order is the order of preference.
func NewPools(ranges []model.AddrRange) *Pools {
	p := &Pools{ranges: ranges, base: make([]uint64, len(ranges))}
	for i, r := range ranges {
		p.base[i] = p.size
		n, ok := distance(r.Start, r.End)
		if !ok {
			n = maxPoolSize - 1
		}
		p.size += n + 1
	}
	return p
}

// Size is how many addresses there are.
func (p *Pools) Size() uint64 { return p.size }

// ID gives an address its number; false: it is in no pool.
func (p *Pools) ID(a netip.Addr) (uint64, bool) {
	for i, r := range p.ranges {
		if Contains(r, a) {
			n, ok := distance(r.Start, a)
			return p.base[i] + n, ok
		}
	}
	return 0, false
}

// Value gives the address of a number below Size.
func (p *Pools) Value(id uint64) netip.Addr {
	i, ok := slices.BinarySearch(p.base, id)
	if !ok {
		i--
	}
	return Offset(p.ranges[i].Start, id-p.base[i])
}

// Equal tells whether two layouts number the same addresses alike.
func (p *Pools) Equal(o alloc.Layout[netip.Addr]) bool {
	q, ok := o.(*Pools)
	return ok && slices.Equal(p.ranges, q.ranges)
}

// Contains tells whether an address is in a range.
func Contains(r model.AddrRange, a netip.Addr) bool {
	return a.BitLen() == r.Start.BitLen() && r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0
}

// Overlap tells whether two ranges share an address.
func Overlap(a, b model.AddrRange) bool {
	return a.Start.Compare(b.End) <= 0 && b.Start.Compare(a.End) <= 0
}

// Offset gives the address n after a.
func Offset(a netip.Addr, n uint64) netip.Addr {
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	sum := lo + n
	if sum < lo {
		hi++
	}
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], sum)
	return netip.AddrFrom16(b)
}

// distance is how far b lies after a, false from maxPoolSize on.  Both are of one family and a <= b.
func distance(a, b netip.Addr) (uint64, bool) {
	if a.Is4() {
		x, y := a.As4(), b.As4()
		return uint64(binary.BigEndian.Uint32(y[:]) - binary.BigEndian.Uint32(x[:])), true
	}
	x, y := a.As16(), b.As16()
	hi := binary.BigEndian.Uint64(y[:8]) - binary.BigEndian.Uint64(x[:8])
	xl, yl := binary.BigEndian.Uint64(x[8:]), binary.BigEndian.Uint64(y[8:])
	if yl < xl {
		hi--
	}
	n := yl - xl
	return n, hi == 0 && n < maxPoolSize
}

// Count is how many addresses the ranges hold together.
func Count(ranges []model.AddrRange) *big.Int {
	sum := new(big.Int)
	for _, r := range ranges {
		first, last := new(big.Int).SetBytes(r.Start.AsSlice()), new(big.Int).SetBytes(r.End.AsSlice())
		sum.Add(sum, last.Sub(last, first)).Add(sum, big.NewInt(1))
	}
	return sum
}

// Last is the highest address of a prefix: IPv4's broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// DefaultGateway is the gateway of a subnet whose client named none: the address after the network's for IPv4 (outside a /32), the
// network address itself for IPv6 (the subnet-router anycast address).
func DefaultGateway(p netip.Prefix) netip.Addr {
	net := p.Masked().Addr()
	if net.Is6() {
		return net
	}
	return net.Next()
}

// DefaultPools is the whole prefix without network and broadcast address (IPv4 up to /30), without the network address (IPv6 up to
// /126), and without the gateway.
func DefaultPools(p netip.Prefix, gateway netip.Addr) []model.AddrRange {
	first, last := p.Masked().Addr(), Last(p)
	switch host := first.BitLen() - p.Bits(); {
	case host < 2:
	case first.Is4():
		first, last = first.Next(), last.Prev()
	default:
		first = first.Next()
	}
	all := model.AddrRange{Start: first, End: last}
	if !gateway.IsValid() || !Contains(all, gateway) {
		return []model.AddrRange{all}
	}
	var pools []model.AddrRange
	if first.Less(gateway) {
		pools = append(pools, model.AddrRange{Start: first, End: gateway.Prev()})
	}
	if gateway.Less(last) {
		pools = append(pools, model.AddrRange{Start: gateway.Next(), End: last})
	}
	return pools
}

// EUI64 is the address a guest makes for itself from its MAC on a /64 prefix (RFC 4291, appendix A).
func EUI64(p netip.Prefix, mac model.MAC) netip.Addr {
	b := p.Masked().Addr().As16()
	copy(b[8:11], mac[:3])
	b[8] ^= 2
	b[11], b[12] = 0xff, 0xfe
	copy(b[13:], mac[3:])
	return netip.AddrFrom16(b)
}
