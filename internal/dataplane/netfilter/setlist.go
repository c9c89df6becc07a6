package netfilter

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// listSets reads the ipsets whose names begin with a prefix.  Package netlink can list sets too, but prints a line to the standard log
// for each attribute that its version does not know yet.
func listSets(prefix string) (map[string]*actualSet, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_IPSET<<8|nl.IPSET_CMD_LIST, nl.GetIpsetFlags(nl.IPSET_CMD_LIST))
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	out := map[string]*actualSet{}
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		if len(msg) >= nfgenSize {
			readSet(out, prefix, msg[nfgenSize:])
		}
		return true
	})
	return out, err
}

// readSet takes in one message.  A large set comes in several, of which only the first says what it is.
func readSet(out map[string]*actualSet, prefix string, b []byte) {
	name := ""
	each(b, func(typ uint16, v []byte) {
		if typ == nl.IPSET_ATTR_SETNAME {
			name = string(bytes.TrimRight(v, "\x00"))
		}
	})
	if name == "" || !strings.HasPrefix(name, prefix) {
		return
	}
	a := out[name]
	if a == nil {
		a = &actualSet{family: IPv4, members: map[netip.Prefix]bool{}}
		out[name] = a
	}
	each(b, func(typ uint16, v []byte) {
		switch typ {
		case nl.IPSET_ATTR_TYPENAME:
			a.typ = string(bytes.TrimRight(v, "\x00"))
		case nl.IPSET_ATTR_FAMILY:
			if len(v) == 1 && v[0] == unix.AF_INET6 {
				a.family = IPv6
			}
		case nl.IPSET_ATTR_DATA:
			each(v, func(typ uint16, v []byte) {
				if typ == nl.IPSET_ATTR_MAXELEM && len(v) == 4 {
					a.room = binary.BigEndian.Uint32(v)
				}
			})
		case nl.IPSET_ATTR_ADT:
			each(v, func(_ uint16, v []byte) {
				if p, ok := readMember(v); ok {
					a.members[p] = true
				}
			})
		}
	})
}

func readMember(b []byte) (netip.Prefix, bool) {
	var ip netip.Addr
	bits := -1
	each(b, func(typ uint16, v []byte) {
		switch typ {
		case nl.IPSET_ATTR_IP:
			each(v, func(_ uint16, v []byte) {
				if a, ok := netip.AddrFromSlice(v); ok {
					ip = a
				}
			})
		case nl.IPSET_ATTR_CIDR:
			if len(v) == 1 {
				bits = int(v[0])
			}
		}
	})
	if !ip.IsValid() {
		return netip.Prefix{}, false
	}
	if bits < 0 {
		bits = ip.BitLen()
	}
	return netip.PrefixFrom(ip, bits), true
}
