package nodestate

import (
	"crypto/sha256"
	"encoding/binary"
)

// HashKey is the first eight bytes, big endian, of the SHA-256 of the key's text ("port/<id>").  Both sides of the southbound
// protocol name records by it.
func HashKey(k Key) uint64 {
	var buf [128]byte
	b := append(buf[:0], k.Kind...)
	b = append(b, '/')
	return HashContent(append(b, k.ID...))
}

// HashContent is the first eight bytes, big endian, of the SHA-256 of an encoded record.  SHA-256 because tenants choose part of
// the content: nobody can make a change that a reconnecting node does not see.
func HashContent(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}
