package conntrack

import (
	"encoding/binary"
	"slices"

	"baryon/internal/openflow"
)

// Mark is a packet-out that writes the bits of mask in the mark of a tracked ICMPv6 exchange (echo: others are not tracked): Open
// vSwitch changes marks only when a packet of the connection passes.  The packet goes nowhere else.  If the entry has expired meanwhile,
// one with that mark comes into being.
func Mark(e Entry, value, mask uint32) openflow.PacketOut {
	set := openflow.SetFieldMasked(openflow.FieldCTMark, openflow.U64(uint64(value)), openflow.U64(uint64(mask)))
	return openflow.PacketOut{
		InPort: openflow.PortController, Data: echo(e),
		Actions: []openflow.Action{openflow.CT{Commit: true, Zone: e.Zone, Exec: []openflow.Action{set}}},
	}
}

// echo is a frame with an ICMPv6 message of the entry's type, code and identifier, without data (RFC 4443).
func echo(e Entry) []byte {
	const frame, header, message = 14, 40, 8
	src, dst := e.Src.As16(), e.Dst.As16()
	b := make([]byte, frame+header+message)
	b[6] = 2 // source MAC: any local one
	binary.BigEndian.PutUint16(b[12:], 0x86dd)
	ip := b[frame:]
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], message)
	ip[6], ip[7] = e.Protocol, 255
	copy(ip[8:], src[:])
	copy(ip[24:], dst[:])
	icmp := ip[header:]
	icmp[0], icmp[1] = e.Type, e.Code
	binary.BigEndian.PutUint16(icmp[4:], e.ID)
	var sum uint32
	for w := range slices.Chunk(slices.Concat(src[:], dst[:], []byte{0, message, 0, e.Protocol}, icmp), 2) {
		sum += uint32(binary.BigEndian.Uint16(w))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	return b
}
