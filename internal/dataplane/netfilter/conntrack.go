package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Entry is a tracked connection by the packet that began it.
type Entry struct {
	Family           Family
	Zone             uint16
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16 // of ICMP: type and code

	tuple []byte // CTA_TUPLE_ORIG as the kernel sent it
	id    []byte // CTA_ID: a new entry of the same tuple has another
}

// Attributes of linux/netfilter/nfnetlink_conntrack.h that netlink/nl does not name.
const (
	ctaProtoICMPType   = 5
	ctaProtoICMPCode   = 6
	ctaProtoICMPv6Type = 8
	ctaProtoICMPv6Code = 9
)

// Conntrack lists the entries of some zones.  A single zone is found by the kernel (6.8 and later; before, all entries are read).
func Conntrack(zones map[uint16]bool) ([]Entry, error) {
	var out []Entry
	if len(zones) == 0 {
		return nil, nil
	}
	// One reading for both families: the kernel goes through its whole table for each.
	req := conntrackRequest(unix.AF_UNSPEC, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	if len(zones) == 1 {
		for z := range zones {
			req.AddData(nl.NewRtAttr(nl.CTA_ZONE, binary.BigEndian.AppendUint16(nil, z)))
		}
	}
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		if e, ok := parseEntry(msg); ok && zones[e.Zone] {
			out = append(out, e)
		}
		return true
	})
	// A table that changed while it was read may show an entry twice or miss one that came meanwhile: those were judged by present rules.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return out, nil
}

// EndConnections deletes entries and returns how many were there.  An entry that has gone is no error.
func EndConnections(entries []Entry) (int, error) {
	n := 0
	var errs []error
	for _, e := range entries {
		req := conntrackRequest(e.Family.number(), nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		req.AddData(nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, e.tuple))
		req.AddData(nl.NewRtAttr(nl.CTA_ZONE, binary.BigEndian.AppendUint16(nil, e.Zone)))
		if e.id != nil {
			req.AddData(nl.NewRtAttr(nl.CTA_ID, e.id))
		}
		_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, unix.ENOENT):
			errs = append(errs, fmt.Errorf("end connection %s to %s in zone %d: %w", e.Src, e.Dst, e.Zone, err))
		}
	}
	return n, errors.Join(errs...)
}

// number is the kernel's for a family.
func (f Family) number() uint8 {
	if f == IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func conntrackRequest(family uint8, operation, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return req
}

// nfgenSize is the size of the header before the attributes.
const nfgenSize = 4

func parseEntry(msg []byte) (Entry, bool) {
	e := Entry{Family: IPv4}
	if len(msg) < nfgenSize {
		return e, false
	}
	if msg[0] == unix.AF_INET6 {
		e.Family = IPv6
	}
	each(msg[nfgenSize:], func(typ uint16, v []byte) {
		switch typ {
		case nl.CTA_TUPLE_ORIG:
			e.tuple = append([]byte(nil), v...)
			e.parseTuple(v)
		case nl.CTA_ZONE:
			if len(v) == 2 {
				e.Zone = binary.BigEndian.Uint16(v)
			}
		case nl.CTA_ID:
			e.id = append([]byte(nil), v...)
		}
	})
	return e, e.Src.IsValid() && e.Dst.IsValid()
}

func (e *Entry) parseTuple(b []byte) {
	each(b, func(typ uint16, v []byte) {
		switch typ {
		case nl.CTA_TUPLE_IP:
			each(v, func(typ uint16, v []byte) {
				a, ok := netip.AddrFromSlice(v)
				switch {
				case ok && (typ == nl.CTA_IP_V4_SRC || typ == nl.CTA_IP_V6_SRC):
					e.Src = a
				case ok && (typ == nl.CTA_IP_V4_DST || typ == nl.CTA_IP_V6_DST):
					e.Dst = a
				}
			})
		case nl.CTA_TUPLE_PROTO:
			each(v, e.protoAttr)
		}
	})
}

func (e *Entry) protoAttr(typ uint16, v []byte) {
	switch {
	case typ == nl.CTA_PROTO_NUM && len(v) == 1:
		e.Protocol = v[0]
	case typ == nl.CTA_PROTO_SRC_PORT && len(v) == 2:
		e.SrcPort = binary.BigEndian.Uint16(v)
	case typ == nl.CTA_PROTO_DST_PORT && len(v) == 2:
		e.DstPort = binary.BigEndian.Uint16(v)
	case (typ == ctaProtoICMPType || typ == ctaProtoICMPv6Type) && len(v) == 1:
		e.SrcPort = uint16(v[0])
	case (typ == ctaProtoICMPCode || typ == ctaProtoICMPv6Code) && len(v) == 1:
		e.DstPort = uint16(v[0])
	}
}

// each calls f for the netlink attributes in b, without the flags in their types.  It stops at a malformed one.
func each(b []byte, f func(typ uint16, v []byte)) {
	const header = 4
	for len(b) >= header {
		size := int(binary.NativeEndian.Uint16(b))
		if size < header || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[header:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
