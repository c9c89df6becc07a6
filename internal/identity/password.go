package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
)

// Argon2id parameters: OWASP's recommendation of 2024 (19 MiB, 2 passes, 1 lane), RFC 9106 terms.  A stored hash carries its own,
// within maxMemory and maxTime, so these may grow without touching old rows.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	saltLen     = 16
	hashLen     = 32
	maxMemory   = 256 * 1024
	maxTime     = 16
)

// MaxPassword is the longest password, in bytes.
const MaxPassword = 1024

// maxWaiting bounds how many logins may wait for a hashing slot; each costs about 20 ms of one core.
const maxWaiting = 256

// ErrBusy means that too many logins are waiting; the client should come back.
var ErrBusy = errors.New("too many logins at once")

// hasher bounds the memory and the cores that password hashing may take: each running hash holds argonMemory.
type hasher struct {
	slots   chan struct{}
	waiting atomic.Int32
}

func newHasher() *hasher {
	return &hasher{slots: make(chan struct{}, min(4, max(1, runtime.GOMAXPROCS(0))))}
}

// run calls f in a slot.  It answers ErrBusy when the queue is full and the context's error when that ends first.
func (h *hasher) run(ctx context.Context, f func()) error {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return ErrBusy
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		f()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hashPassword makes "$argon2id$v=19$m=..,t=..,p=1$salt$hash", the PHC string format.
func hashPassword(password string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails: crypto/rand ends the program rather than return weak bytes
	sum := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, 1, hashLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, argonMemory, argonTime, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// verifyPassword compares in constant time.  An empty or unreadable hash costs the same time as a good one and never matches, so
// that an answer does not tell whether the user exists.
func verifyPassword(hash, password string) bool {
	m, t, salt, want, ok := parseArgon(hash)
	if !ok {
		m, t, salt, want = argonMemory, argonTime, make([]byte, saltLen), make([]byte, hashLen)
	}
	if len(password) > MaxPassword {
		ok, password = false, ""
	}
	got := argon2.IDKey([]byte(password), salt, t, m, 1, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && ok
}

func parseArgon(hash string) (memory, time uint32, salt, sum []byte, ok bool) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return 0, 0, nil, nil, false
	}
	var lanes uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); err != nil || lanes != 1 {
		return 0, 0, nil, nil, false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return 0, 0, nil, nil, false
	}
	sum, err = base64.RawStdEncoding.DecodeString(parts[5])
	ok = err == nil && memory >= 8 && memory <= maxMemory && time >= 1 && time <= maxTime && len(salt) >= 8 && len(sum) >= 16 && len(sum) <= 64
	return memory, time, salt, sum, ok
}

// fastPrefix marks the hash of a secret that this program drew itself.  Its 256 random bits need no slow hash.
const fastPrefix = "$sha256$"

// newSecret draws a secret of 256 random bits and its hash.
func newSecret() (secret, hash string) {
	b := make([]byte, 32)
	rand.Read(b)
	secret = base64.RawURLEncoding.EncodeToString(b)
	return secret, fastHash(secret)
}

func fastHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return fastPrefix + base64.RawStdEncoding.EncodeToString(sum[:])
}

func isFast(hash string) bool { return strings.HasPrefix(hash, fastPrefix) }

func verifyFast(hash, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(fastHash(secret))) == 1
}
