package dhcpd

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// form is how an option's text becomes bytes.
type form uint8

const (
	formAny    form = iota // inferred from the text, as dnsmasq does for plain numbers
	formAddrs              // addresses of the option's family, comma-separated
	formText               // bytes of the text
	formDec1               // decimal in one byte
	formDec2               // … two
	formDec4               // … four
	formTime               // seconds in four bytes; s m h d w, "infinite"
	formLabels             // domain names in DNS form, comma-separated
	formRoutes             // prefix,gateway pairs (RFC 3442)
	formCStr               // strings with a 16-bit length each (DHCPv6)
	formSIP                // RFC 3361: addresses, or names, told apart by a first byte
	formNTP6               // RFC 5908: addresses and names as sub-options
	formDenied             // set by the server itself or part of the protocol
)

// maxOptionValue bounds one option's bytes; longer values cannot be in a packet that fits an Ethernet frame.
const maxOptionValue = 1200

var errValue = errors.New("bad value")

// encodeValue turns an option's text into bytes.  An empty text is an empty option, as dnsmasq has it.
func encodeValue(f form, text string, v6 bool) ([]byte, error) {
	text = strings.TrimSpace(text)
	var out []byte
	var err error
	switch f {
	case formDenied:
		return nil, fmt.Errorf("%w: the server sets this option itself", errValue)
	case formAddrs:
		out, err = encodeAddrs(text, v6)
	case formText:
		out = []byte(unquote(text))
	case formDec1, formDec2, formDec4:
		out, err = encodeNumber(text, map[form]int{formDec1: 1, formDec2: 2, formDec4: 4}[f])
	case formTime:
		out, err = encodeTime(text)
	case formLabels:
		out, err = encodeLabels(strings.Split(text, ","))
	case formRoutes:
		out, err = encodeRouteText(text)
	case formSIP:
		out, err = encodeSIP(text)
	case formNTP6:
		out, err = encodeNTP6(strings.Split(text, ","))
	case formCStr:
		out = encodeCStrings(strings.Split(text, ","))
	default:
		out, err = encodeAny(text, v6)
	}
	if err != nil {
		return nil, err
	}
	if len(out) > maxOptionValue {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errValue, len(out), maxOptionValue)
	}
	return out, nil
}

func encodeAddrs(text string, v6 bool) ([]byte, error) {
	if text == "" {
		return []byte{}, nil
	}
	var out []byte
	for _, s := range strings.Split(text, ",") {
		s = strings.TrimSpace(s)
		s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
		a, err := netip.ParseAddr(s)
		if err != nil || a.Is4() == v6 || a.Zone() != "" {
			return nil, fmt.Errorf("%w: %q is not an address of this version", errValue, s)
		}
		out = append(out, a.AsSlice()...)
	}
	return out, nil
}

func encodeNumber(text string, size int) ([]byte, error) {
	n, err := strconv.ParseUint(text, 0, size*8)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not a number of %d bits", errValue, text, size*8)
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return append([]byte(nil), b[8-size:]...), nil
}

func encodeTime(text string) ([]byte, error) {
	if text == "infinite" {
		return []byte{0xff, 0xff, 0xff, 0xff}, nil
	}
	factor := uint64(1)
	if text != "" {
		switch text[len(text)-1] {
		case 'w', 'W':
			factor = 7 * 86400
		case 'd', 'D':
			factor = 86400
		case 'h', 'H':
			factor = 3600
		case 'm', 'M':
			factor = 60
		}
		text = strings.TrimRight(text, "wWdDhHmMsS")
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n*factor > 0xffffffff {
		return nil, fmt.Errorf("%w: %q is not a time", errValue, text)
	}
	return binary.BigEndian.AppendUint32(nil, uint32(n*factor)), nil
}

// encodeLabels writes domain names in DNS form without compression (RFC 3397 allows, RFC 8415 demands that).
func encodeLabels(names []string) ([]byte, error) {
	var out []byte
	for _, name := range names {
		name = strings.TrimSuffix(strings.TrimSpace(name), ".")
		if name == "" {
			continue
		}
		if len(name) > 253 {
			return nil, fmt.Errorf("%w: domain name longer than 253 bytes", errValue)
		}
		for _, label := range strings.Split(name, ".") {
			if label == "" || len(label) > 63 {
				return nil, fmt.Errorf("%w: %q is not a domain name", errValue, name)
			}
			out = append(append(out, byte(len(label))), label...)
		}
		out = append(out, 0)
	}
	return out, nil
}

func encodeRouteText(text string) ([]byte, error) {
	parts := strings.Split(text, ",")
	if len(parts)%2 != 0 {
		return nil, fmt.Errorf("%w: routes are pairs of prefix,gateway", errValue)
	}
	var routes []Route
	for i := 0; i < len(parts); i += 2 {
		p, err := netip.ParsePrefix(strings.TrimSpace(parts[i]))
		if err != nil || !p.Addr().Is4() {
			return nil, fmt.Errorf("%w: %q is not an IPv4 prefix", errValue, parts[i])
		}
		g, err := netip.ParseAddr(strings.TrimSpace(parts[i+1]))
		if err != nil || !g.Is4() {
			return nil, fmt.Errorf("%w: %q is not an IPv4 address", errValue, parts[i+1])
		}
		routes = append(routes, Route{p, g})
	}
	return encodeRoutes(routes), nil
}

// encodeRoutes is the body of option 121 (RFC 3442): prefix length, its significant bytes, gateway.
func encodeRoutes(routes []Route) []byte {
	var out []byte
	for _, r := range routes {
		a := r.Destination.Masked().Addr().As4()
		gw := r.NextHop.As4()
		out = append(out, byte(r.Destination.Bits()))
		out = append(out, a[:(r.Destination.Bits()+7)/8]...)
		out = append(out, gw[:]...)
	}
	return out
}

func encodeSIP(text string) ([]byte, error) {
	if addrs, err := encodeAddrs(text, false); err == nil {
		return append([]byte{1}, addrs...), nil
	}
	names, err := encodeLabels(strings.Split(text, ","))
	return append([]byte{0}, names...), err
}

func encodeNTP6(list []string) ([]byte, error) {
	var out []byte
	for _, s := range list {
		code, body := uint16(1), []byte(nil)
		body, err := encodeAddrs(strings.TrimSpace(s), true)
		if err != nil {
			code = 3
			if body, err = encodeLabels([]string{s}); err != nil {
				return nil, err
			}
		}
		out = appendOption6(out, code, body)
	}
	return out, nil
}

func encodeCStrings(list []string) []byte {
	var out []byte
	for _, s := range list {
		out = binary.BigEndian.AppendUint16(out, uint16(len(s)))
		out = append(out, s...)
	}
	return out
}

// encodeAny guesses, in dnsmasq's order: quoted text; addresses; bytes in hex with colons or after 0x; a decimal number in the
// smallest of 1, 2 or 4 bytes (suffix b, s or i says which); text.
func encodeAny(text string, v6 bool) ([]byte, error) {
	if q := unquote(text); q != text {
		return []byte(q), nil
	}
	if text == "" {
		return []byte{}, nil
	}
	if b, err := encodeAddrs(text, v6); err == nil {
		return b, nil
	}
	if b, ok := hexBytes(text); ok {
		return b, nil
	}
	digits, size := text, 0
	if i := strings.IndexByte("bsi", text[len(text)-1]); i >= 0 && len(text) > 1 {
		digits, size = text[:len(text)-1], []int{1, 2, 4}[i]
	}
	if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
		switch {
		case size != 0:
		case n <= 0xff:
			size = 1
		case n <= 0xffff:
			size = 2
		default:
			size = 4
		}
		return encodeNumber(digits, size)
	}
	return []byte(text), nil
}

func hexBytes(text string) ([]byte, bool) {
	if rest, ok := strings.CutPrefix(text, "0x"); ok {
		b, err := hex.DecodeString(rest)
		return b, err == nil && len(b) > 0
	}
	parts := strings.Split(text, ":")
	if len(parts) < 2 {
		return nil, false
	}
	out := make([]byte, 0, len(parts))
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) > 2 {
			return nil, false
		}
		out = append(out, byte(n))
	}
	return out, true
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
