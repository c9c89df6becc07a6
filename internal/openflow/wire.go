package openflow

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Version is an OpenFlow version as the header has it.
type Version uint8

// The versions that this package speaks.
const (
	V13 Version = 4
	V14 Version = 5
	V15 Version = 6
)

// String prints "OpenFlow14".
func (v Version) String() string { return fmt.Sprintf("OpenFlow1%d", int(v)-1) }

// msgType is the type of a message (OFPT).
type msgType uint8

const (
	typeHello            msgType = 0
	typeError            msgType = 1
	typeEchoRequest      msgType = 2
	typeEchoReply        msgType = 3
	typeExperimenter     msgType = 4
	typeFeaturesRequest  msgType = 5
	typeFeaturesReply    msgType = 6
	typeGetConfigRequest msgType = 7
	typeGetConfigReply   msgType = 8
	typeSetConfig        msgType = 9
	typePacketIn         msgType = 10
	typeFlowRemoved      msgType = 11
	typePortStatus       msgType = 12
	typePacketOut        msgType = 13
	typeFlowMod          msgType = 14
	typeGroupMod         msgType = 15
	typeMultipartRequest msgType = 18
	typeMultipartReply   msgType = 19
	typeBarrierRequest   msgType = 20
	typeBarrierReply     msgType = 21
	typeMeterMod         msgType = 29
	typeBundleControl    msgType = 33
	typeBundleAdd        msgType = 34
)

const headerLen = 8

// header is ofp_header.
type header struct {
	version Version
	typ     msgType
	length  int
	xid     uint32
}

func appendHeader(b []byte, v Version, t msgType, xid uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(v), byte(t), 0, 0), xid)
}

// finishMessage writes the length of the message that starts at b[start:].
func finishMessage(b []byte, start int) ([]byte, error) {
	n := len(b) - start
	if n > 0xffff {
		return b, fmt.Errorf("encode message: %d bytes do not fit in 65535", n)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	return b, nil
}

func decodeHeader(b []byte) header {
	return header{Version(b[0]), msgType(b[1]), int(binary.BigEndian.Uint16(b[2:])), binary.BigEndian.Uint32(b[4:])}
}

// readMessage reads one message into buf, growing it up to 64 KiB, and returns the whole message.
func readMessage(r io.Reader, buf []byte) ([]byte, error) {
	if cap(buf) < headerLen {
		buf = make([]byte, 4096)
	}
	buf = buf[:headerLen]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	n := decodeHeader(buf).length
	if n < headerLen {
		return nil, fmt.Errorf("read message: length %d is below that of a header", n)
	}
	if cap(buf) < n {
		grown := make([]byte, n, max(n, 2*cap(buf)))
		copy(grown, buf)
		buf = grown
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf[headerLen:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf, nil
}

// be16, be32 and be64 shorten the decoders; callers have checked the length.
func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

func put16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }
