package openflow

import "net/netip"

// SetEthSrc writes the source Ethernet address.
func SetEthSrc(m MAC) Action { return SetField(FieldEthSrc, MACValue(m)) }

// SetEthDst writes the destination Ethernet address.
func SetEthDst(m MAC) Action { return SetField(FieldEthDst, MACValue(m)) }

// SetVLAN writes the id of the outer VLAN tag, which must be there (PushVLAN first, or match a tag).
func SetVLAN(id uint16) Action { return SetField(FieldVLANVID, U64(uint64(id&0xfff)|0x1000)) }

// ModVLANVid is the old mod_vlan_vid: it tags an untagged packet.  OpenFlow 1.1 and later have no such action, so it is a list:
// pushed tells whether the packet is known to be tagged already.
func ModVLANVid(id uint16, tagged bool) []Action {
	if tagged {
		return []Action{SetVLAN(id)}
	}
	return []Action{PushVLAN(EthTypeVLAN), SetVLAN(id)}
}

// StripVLAN is the old name of PopVLAN.
const StripVLAN = PopVLAN

// SetTunnel writes the tunnel id: VXLAN's VNI, GRE's key.
func SetTunnel(id uint64) Action { return SetField(FieldTunID, U64(id)) }

// SetReg writes register n, 0 to 15.
func SetReg(n int, v uint32) Action { return SetField(RegField(n), U64(uint64(v))) }

// SetRegMasked writes the bits of register n where mask has ones.
func SetRegMasked(n int, v, mask uint32) Action {
	return SetFieldMasked(RegField(n), U64(uint64(v)), U64(uint64(mask)))
}

// SetARPOp writes the ARP operation: 1 request, 2 reply.
func SetARPOp(op uint16) Action { return SetField(FieldARPOp, U64(uint64(op))) }

// SetARPSHA writes the sender hardware address of an ARP packet.
func SetARPSHA(m MAC) Action { return SetField(FieldARPSHA, MACValue(m)) }

// SetARPTHA writes the target hardware address of an ARP packet.
func SetARPTHA(m MAC) Action { return SetField(FieldARPTHA, MACValue(m)) }

// SetARPSPA writes the sender address of an ARP packet.
func SetARPSPA(a netip.Addr) Action { return setAddr(FieldARPSPA, a) }

// SetARPTPA writes the target address of an ARP packet.
func SetARPTPA(a netip.Addr) Action { return setAddr(FieldARPTPA, a) }

// SetIPSrc writes the source of an IPv4 packet.
func SetIPSrc(a netip.Addr) Action { return setAddr(FieldIPv4Src, a) }

// SetIPDst writes the destination of an IPv4 packet.
func SetIPDst(a netip.Addr) Action { return setAddr(FieldIPv4Dst, a) }

// SetIPv6Src writes the source of an IPv6 packet.
func SetIPv6Src(a netip.Addr) Action { return setAddr(FieldIPv6Src, a) }

// SetIPv6Dst writes the destination of an IPv6 packet.
func SetIPv6Dst(a netip.Addr) Action { return setAddr(FieldIPv6Dst, a) }

// SetTunDst writes the outer destination for a tunnel port with remote_ip=flow.
func SetTunDst(a netip.Addr) Action {
	if a.Is6() {
		return setAddr(FieldTunIPv6Dst, a)
	}
	return setAddr(FieldTunDst, a)
}

// SetCTMark writes the connection mark; inside CT.Exec only.
func SetCTMark(v uint32) Action { return SetField(FieldCTMark, U64(uint64(v))) }

// SetPktMark writes the packet mark (Linux's skb mark).
func SetPktMark(v uint32) Action { return SetField(FieldPktMark, U64(uint64(v))) }

// SetDSCP writes the six DSCP bits of an IPv4 or IPv6 packet.
func SetDSCP(dscp uint8) Action { return SetField(FieldIPDSCP, U64(uint64(dscp))) }

// setAddr fails when encoded if the address is of the other family: its mask then is empty.
func setAddr(f Field, a netip.Addr) Action {
	if !a.IsValid() || a.BitLen() != f.Bits() {
		return SetFieldAction{Field: f}
	}
	return SetField(f, AddrValue(a))
}
