package openflow

import (
	"fmt"
	"time"
)

// Features is a switch's answer to a features request.
type Features struct {
	DatapathID   uint64
	Buffers      uint32
	Tables       uint8
	AuxiliaryID  uint8
	Capabilities uint32
}

func decodeFeatures(b []byte) (Features, error) {
	if len(b) < 24 {
		return Features{}, fmt.Errorf("decode features: %w", errShort)
	}
	return Features{be64(b), be32(b[8:]), b[12], b[13], be32(b[16:])}, nil
}

// appendHello offers versions, by the highest in the header and by a bitmap.
func appendHello(b []byte, versions []Version) []byte {
	var highest Version
	var bitmap uint32
	for _, v := range versions {
		highest = max(highest, v)
		bitmap |= 1 << v
	}
	start := len(b)
	b = appendHeader(b, highest, typeHello, 0)
	b = put32(put16(put16(b, 1), 8), bitmap)
	b, _ = finishMessage(b, start) // 16 bytes
	return b
}

// helloVersions reads the bitmap of a hello; without one, the header's version and all before it are meant.
func helloVersions(h header, body []byte) uint32 {
	for len(body) >= 4 {
		typ, n := be16(body), int(be16(body[2:]))
		if n < 4 || n > len(body) {
			break
		}
		if typ == 1 && n >= 8 {
			return be32(body[4:])
		}
		body = body[min(len(body), n+pad8(n)):]
	}
	if h.version >= 31 {
		return ^uint32(0)
	}
	return 1<<(h.version+1) - 1
}

func negotiate(ours []Version, theirs uint32) (Version, bool) {
	var best Version
	for _, v := range ours {
		if v < 32 && theirs>>v&1 != 0 {
			best = max(best, v)
		}
	}
	return best, best != 0
}

// handshake runs before the read loop starts, on the caller's goroutine.
func (c *Conn) handshake() error {
	for _, v := range c.opts.Versions {
		if v < V13 || v > V15 {
			return fmt.Errorf("%s is not supported", v)
		}
	}
	if err := c.nc.SetDeadline(time.Now().Add(c.opts.Handshake)); err != nil {
		return err
	}
	if _, err := c.nc.Write(appendHello(nil, c.opts.Versions)); err != nil {
		return err
	}
	msg, err := readMessage(c.br, nil)
	if err != nil {
		return err
	}
	h := decodeHeader(msg)
	if h.typ == typeError {
		e, err := decodeError(h, msg[headerLen:])
		if err != nil {
			return err
		}
		return e
	}
	if h.typ != typeHello {
		return fmt.Errorf("message of type %d where hello was due", h.typ)
	}
	version, ok := negotiate(c.opts.Versions, helloVersions(h, msg[headerLen:]))
	if !ok {
		text := "no common version"
		b := append(put16(put16(appendHeader(nil, max(V13, min(h.version, V15)), typeError, h.xid), 0), 0), text...)
		if b, err := finishMessage(b, 0); err == nil {
			_, _ = c.nc.Write(b)
		}
		return fmt.Errorf("no common version: we offer %v, the switch %#x", c.opts.Versions, helloVersions(h, msg[headerLen:]))
	}
	c.version = version
	if err := c.readFeatures(); err != nil {
		return err
	}
	return c.nc.SetDeadline(time.Time{})
}

// handshakeMessages bounds what a switch may say before it answers the features request.
const handshakeMessages = 1000

func (c *Conn) readFeatures() error {
	const xid = 0xfffffff0 // begin never reaches it
	req, _ := finishMessage(appendHeader(nil, c.version, typeFeaturesRequest, xid), 0)
	if _, err := c.nc.Write(req); err != nil {
		return err
	}
	for range handshakeMessages {
		msg, err := readMessage(c.br, nil)
		if err != nil {
			return err
		}
		h := decodeHeader(msg)
		switch h.typ {
		case typeEchoRequest:
			reply, err := finishMessage(append(appendHeader(nil, c.version, typeEchoReply, h.xid), msg[headerLen:]...), 0)
			if err != nil {
				return err
			}
			if _, err := c.nc.Write(reply); err != nil {
				return err
			}
		case typeError:
			e, err := decodeError(h, msg[headerLen:])
			if err != nil {
				return err
			}
			return e
		case typeFeaturesReply:
			if h.version != c.version {
				return fmt.Errorf("answer in version %d after agreeing on %s", h.version, c.version)
			}
			c.features, err = decodeFeatures(msg[headerLen:])
			return err
		}
	}
	return fmt.Errorf("no features after %d messages", handshakeMessages)
}
