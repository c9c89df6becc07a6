package pki

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"baryon/internal/resource"
	"baryon/internal/store"
)

// DefaultTokenLife is how long a join token is good when nothing else is asked; MaxTokenLife is the longest that may be asked.
const (
	DefaultTokenLife = 30 * time.Minute
	MaxTokenLife     = 7 * 24 * time.Hour
)

// Sizes of a token's parts in bytes.
const (
	tokenIDSize     = 8
	tokenSecretSize = 32
)

// tokenPrefix starts a token's text; the digit is the version of its form.
const tokenPrefix = "baryon1"

// maxTokenText is longer than any token.
const maxTokenText = 256

// ErrBadToken is the answer to a token that is unknown, forged, garbled, used up, too old, or for another host.  The text around it
// says which only where the holder of the secret asks.
var ErrBadToken = errors.New("join token refused")

// TokenRow is a join token as the store keeps it: without its secret.
type TokenRow struct {
	ID        string    `json:"id"`
	Hash      string    `json:"hash"`           // SHA-256 of the secret, hexadecimal
	Host      string    `json:"host,omitempty"` // empty: any host
	Multi     bool      `json:"multi,omitempty"`
	Replace   bool      `json:"replace,omitempty"` // may take over the name of a host that has a live certificate
	UsedBy    string    `json:"used_by,omitempty"` // hash of the public key that used a single-use token
	Expires   time.Time `json:"expires"`
	CreatedAt time.Time `json:"created_at"`
}

// TokenTable keeps join tokens.
var TokenTable = resource.NewTable("pki_token", func(t *TokenRow) string { return t.ID })

// TokenRequest is what an operator asks of a new token.
type TokenRequest struct {
	Host    string        // host name that it is good for; empty: any
	Life    time.Duration // zero: DefaultTokenLife
	Multi   bool          // good for more than one host, until it expires
	Replace bool          // good for a host name that is enrolled already; the old certificate is revoked
}

// NewToken makes a join token.  Its text is shown once and cannot be read back.
func (a *Authority) NewToken(ctx context.Context, req TokenRequest) (Token, error) {
	life := req.Life
	if life == 0 {
		life = DefaultTokenLife
	}
	if life < 0 || life > MaxTokenLife {
		return Token{}, fmt.Errorf("make join token: life %s is not between 0 and %s", life, MaxTokenLife)
	}
	if req.Host != "" {
		if err := CheckHost(req.Host); err != nil {
			return Token{}, fmt.Errorf("make join token: %w", err)
		}
	}
	if req.Replace && req.Host == "" {
		return Token{}, errors.New("make join token: a token that replaces a node must name its host")
	}
	t := Token{authority: a.Fingerprint()}
	if _, err := rand.Read(t.id[:]); err != nil {
		return Token{}, fmt.Errorf("make join token: %w", err)
	}
	if _, err := rand.Read(t.secret[:]); err != nil {
		return Token{}, fmt.Errorf("make join token: %w", err)
	}
	now := a.now().UTC()
	row := &TokenRow{
		ID: hex.EncodeToString(t.id[:]), Hash: hashText(t.secret[:]), Host: req.Host, Multi: req.Multi, Replace: req.Replace,
		Expires: now.Add(life), CreatedAt: now,
	}
	if _, err := a.st.Update(ctx, func(tx store.Tx) error {
		store.Put(tx, TokenTable, row)
		return nil
	}); err != nil {
		return Token{}, fmt.Errorf("make join token: %w", err)
	}
	return t, nil
}

// Token is a join token in the hands of its holder.
type Token struct {
	id        [tokenIDSize]byte
	secret    [tokenSecretSize]byte
	authority [sha256.Size]byte
}

// String is what is handed from the operator to the host: "baryon1.<id>.<secret>.<fingerprint>".  It is a secret.
func (t Token) String() string {
	enc := base64.RawURLEncoding.EncodeToString
	return strings.Join([]string{tokenPrefix, enc(t.id[:]), enc(t.secret[:]), enc(t.authority[:])}, ".")
}

// ParseToken reads what String printed; white space around it does not matter.
func ParseToken(s string) (Token, error) {
	var t Token
	s = strings.TrimSpace(s)
	parts := strings.Split(s, ".")
	if len(s) > maxTokenText || len(parts) != 4 || parts[0] != tokenPrefix {
		return t, fmt.Errorf("%w: not of the form %s.<id>.<secret>.<fingerprint>", ErrBadToken, tokenPrefix)
	}
	for i, dst := range [][]byte{t.id[:], t.secret[:], t.authority[:]} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i+1])
		if err != nil || len(b) != len(dst) {
			return Token{}, fmt.Errorf("%w: part %d is cut or garbled", ErrBadToken, i+2)
		}
		copy(dst, b)
	}
	return t, nil
}

// check tells why a token's row does not allow a key to enrol for a host now.
func (t Token) check(r store.Read, host, keyHash string, now time.Time) (*TokenRow, error) {
	row, ok := store.Get(r, TokenTable, hex.EncodeToString(t.id[:]))
	// The comparison is made either way, so that the time it takes does not tell which ids exist.
	want := hashText(nil)
	if ok {
		want = row.Hash
	}
	same := subtle.ConstantTimeCompare([]byte(want), []byte(hashText(t.secret[:]))) == 1
	switch {
	case !ok || !same:
		return nil, fmt.Errorf("%w: unknown", ErrBadToken)
	case now.After(row.Expires):
		return nil, fmt.Errorf("%w: it expired at %s; make a new one with baryon node token", ErrBadToken, row.Expires.Format(time.RFC3339))
	case row.Host != "" && row.Host != host:
		return nil, fmt.Errorf("%w: it is for host %s, not %s", ErrBadToken, row.Host, host)
	case !row.Multi && row.UsedBy != "" && row.UsedBy != keyHash:
		return nil, fmt.Errorf("%w: it has been used; make a new one with baryon node token", ErrBadToken)
	}
	return row, nil
}

// ErrBadHost is the answer to a name that cannot be a host's.
var ErrBadHost = errors.New("bad host name")

// maxHost is the longest DNS name.
const maxHost = 253

// CheckHost tells whether a name can be a node's: 1 to 253 letters, digits, dots, dashes and underscores, beginning with a letter
// or digit.
func CheckHost(host string) error {
	if host == "" || len(host) > maxHost {
		return fmt.Errorf("%w: %d characters", ErrBadHost, len(host))
	}
	for i := 0; i < len(host); i++ {
		c := host[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("%w: %.60q", ErrBadHost, host)
		}
	}
	return nil
}
