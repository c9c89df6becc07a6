package dhcpd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baryon/internal/dataplane/netns"
)

// maxFrame is the longest frame read: DHCP messages and solicitations are short, longer ones are cut and then refused.
const maxFrame = 4096

// openRaw opens the packet socket of a device, with a filter that passes DHCP requests and router solicitations only.
func openRaw(ns *netns.NS, device string) (*os.File, int, error) {
	var f *os.File
	var index int
	err := ns.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		index = ifi.Index
		// Protocol 0 at first: nothing is received before the filter is there.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if err := setUpRaw(fd, index); err != nil {
			unix.Close(fd) //nolint:errcheck // the first error counts
			return err
		}
		f = os.NewFile(uintptr(fd), "packet:"+device)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open packet socket on %s in %q: %w", device, ns.Name(), err)
	}
	return f, index, nil
}

func setUpRaw(fd, index int) error {
	if err := attach(fd, requestFilter()); err != nil {
		return err
	}
	// Solicitations and DHCPv6 are multicast; a device with a hardware filter must pass them although no socket joined.
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI}); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: index}) // ETH_P_ALL in network order
}

func attach(fd int, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// requestFilter passes unfragmented IPv4 to UDP port 67, IPv6 to UDP port 547, and ICMPv6 router solicitations.
func requestFilter() []bpf.Instruction {
	const accept, refuse = 17, 18
	to := func(from, target int) uint8 { return uint8(target - from - 1) }
	return []bpf.Instruction{
		0:      bpf.LoadAbsolute{Off: 12, Size: 2},
		1:      bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipFalse: to(1, 9)},
		2:      bpf.LoadAbsolute{Off: 23, Size: 1},
		3:      bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoUDP, SkipFalse: to(3, refuse)},
		4:      bpf.LoadAbsolute{Off: 20, Size: 2},
		5:      bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: to(5, refuse)},
		6:      bpf.LoadMemShift{Off: 14},
		7:      bpf.LoadIndirect{Off: 16, Size: 2},
		8:      bpf.JumpIf{Cond: bpf.JumpEqual, Val: port4Server, SkipTrue: to(8, accept), SkipFalse: to(8, refuse)},
		9:      bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv6, SkipFalse: to(9, refuse)},
		10:     bpf.LoadAbsolute{Off: 20, Size: 1},
		11:     bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoUDP, SkipFalse: to(11, 14)},
		12:     bpf.LoadAbsolute{Off: 56, Size: 2},
		13:     bpf.JumpIf{Cond: bpf.JumpEqual, Val: port6Server, SkipTrue: to(13, accept), SkipFalse: to(13, refuse)},
		14:     bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoICMP, SkipFalse: to(14, refuse)},
		15:     bpf.LoadAbsolute{Off: 54, Size: 1},
		16:     bpf.JumpIf{Cond: bpf.JumpEqual, Val: routerSolicitation, SkipFalse: to(16, refuse)},
		accept: bpf.RetConstant{Val: maxFrame},
		refuse: bpf.RetConstant{Val: 0},
	}
}

// openSilent holds a UDP port with a socket that takes nothing: so the kernel does not answer unicast requests, which the packet
// socket serves, with "port unreachable", and `ss` shows who serves here.
func openSilent(ns *netns.NS, device, network string, port int) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: bound(device, func(fd int) error {
		return attach(fd, []bpf.Instruction{bpf.RetConstant{Val: 0}})
	})}
	return listenPacket(ns, lc, network, fmt.Sprintf(":%d", port))
}

// sendRaw writes a frame; a full queue or a device that is down loses it, as a wire would.
func sendRaw(f *os.File, frame []byte) error {
	if _, err := f.Write(frame); err != nil && !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("send reply: %w", err)
	}
	return nil
}
