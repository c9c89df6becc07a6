package identity

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// A token is base64url(version ‖ key id ‖ nonce ‖ XChaCha20-Poly1305(claim)), with version and key id authenticated too.  It holds
// ids and times only: what they are worth is looked up at each use.
const (
	tokenVersion = 1
	keyIDLen     = 4
	auditLen     = 16
	headLen      = 1 + keyIDLen
	// maxToken is the longest token in characters, as Keystone's clients and databases expect.
	maxToken = 255
)

// Bits of claim.methods.
const (
	methodPassword byte = 1 << iota
	methodToken
	methodAppCredential
)

var methodNames = []struct {
	bit  byte
	name string
}{
	{methodPassword, "password"}, {methodToken, "token"}, {methodAppCredential, "application_credential"},
}

// claim is what a token says.
type claim struct {
	methods byte
	scope   Scope
	userID  string
	appID   string // application credential, or empty
	issued  time.Time
	expires time.Time
	epoch   uint64   // sum of the epochs of user, project and domains at issue; none of them ever shrinks
	audits  []string // own, then that of the first token of the chain
}

var (
	errToken  = errors.New("malformed or forged token")
	errKey    = errors.New("token is sealed with an unknown key")
	errSizing = errors.New("token would be too long")
)

// newAuditID draws 16 random bytes as 22 base64url characters.
func newAuditID() string {
	b := make([]byte, auditLen)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (c *claim) marshal() ([]byte, error) {
	b := []byte{c.methods, byte(c.scope.Kind)}
	for _, id := range []string{c.userID, c.scope.ID, c.appID} {
		b = appendID(b, id)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(c.issued.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(c.expires.UnixMicro()))
	b = binary.AppendUvarint(b, c.epoch)
	b = append(b, byte(len(c.audits)))
	for _, a := range c.audits {
		raw, err := base64.RawURLEncoding.DecodeString(a)
		if err != nil || len(raw) != auditLen {
			return nil, errToken
		}
		b = append(b, raw...)
	}
	return b, nil
}

// appendID writes an id: length and text, or 0xff and 16 bytes for the usual 32 hex characters.
func appendID(b []byte, id string) []byte {
	if len(id) == 32 {
		if raw, err := hex.DecodeString(id); err == nil && hex.EncodeToString(raw) == id {
			return append(append(b, 0xff), raw...)
		}
	}
	return append(append(b, byte(min(len(id), 254))), id[:min(len(id), 254)]...)
}

// reader takes a claim apart; bad is set at the first missing byte and then everything reads as zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) id() string {
	n := r.take(1)[0]
	if n == 0xff {
		return hex.EncodeToString(r.take(16))
	}
	return string(r.take(int(n)))
}

func unmarshalClaim(b []byte) (*claim, error) {
	r := &reader{b: b}
	c := &claim{methods: r.take(1)[0]}
	c.scope.Kind = ScopeKind(r.take(1)[0])
	c.userID, c.scope.ID, c.appID = r.id(), r.id(), r.id()
	c.issued = time.UnixMicro(int64(binary.BigEndian.Uint64(r.take(8)))).UTC()
	c.expires = time.UnixMicro(int64(binary.BigEndian.Uint64(r.take(8)))).UTC()
	epoch, n := binary.Uvarint(r.b)
	if n <= 0 {
		return nil, errToken
	}
	c.epoch, r.b = epoch, r.b[n:]
	for range r.take(1)[0] {
		if r.bad {
			break
		}
		c.audits = append(c.audits, base64.RawURLEncoding.EncodeToString(r.take(auditLen)))
	}
	if r.bad || len(r.b) != 0 || len(c.audits) == 0 || c.scope.Kind > ScopeSystem || c.userID == "" {
		return nil, errToken
	}
	return c, nil
}

// seal makes the token of a claim.
func seal(k *TokenKey, c *claim) (string, error) {
	aead, err := k.aead()
	if err != nil {
		return "", err
	}
	id, err := hex.DecodeString(k.ID)
	if err != nil || len(id) != keyIDLen {
		return "", errKey
	}
	plain, err := c.marshal()
	if err != nil {
		return "", err
	}
	out := make([]byte, headLen+chacha20poly1305.NonceSizeX, headLen+chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	out[0] = tokenVersion
	copy(out[1:], id)
	rand.Read(out[headLen:])
	out = aead.Seal(out, out[headLen:], plain, out[:headLen])
	token := base64.RawURLEncoding.EncodeToString(out)
	if len(token) > maxToken {
		return "", errSizing
	}
	return token, nil
}

// unseal opens a token; key finds a key by id.  Any text is safe to give.
func unseal(token string, key func(id string) (*TokenKey, bool)) (*claim, error) {
	if len(token) > maxToken {
		return nil, errToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < headLen+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead || raw[0] != tokenVersion {
		return nil, errToken
	}
	k, ok := key(hex.EncodeToString(raw[1:headLen]))
	if !ok {
		return nil, errKey
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, raw[headLen:headLen+chacha20poly1305.NonceSizeX], raw[headLen+chacha20poly1305.NonceSizeX:], raw[:headLen])
	if err != nil {
		return nil, errToken
	}
	return unmarshalClaim(plain)
}

func (k *TokenKey) aead() (cipher.AEAD, error) { return chacha20poly1305.NewX(k.Secret) }

// newTokenKey draws a key that is used from the given time on.
func newTokenKey(from time.Time) *TokenKey {
	id, secret := make([]byte, keyIDLen), make([]byte, chacha20poly1305.KeySize)
	rand.Read(id)
	rand.Read(secret)
	return &TokenKey{ID: hex.EncodeToString(id), Secret: secret, ActiveFrom: from}
}
