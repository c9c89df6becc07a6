package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"baryon/internal/store"
)

const (
	// DefaultTokenLife is how long a token is good.
	DefaultTokenLife = time.Hour
	// ExpiredWindow is how long after its end a token is still accepted beside a service token (Keystone's allow_expired_window).
	ExpiredWindow = 48 * time.Hour
	// keyLife is how long a key seals new tokens.
	keyLife = 24 * time.Hour
	// keyDelay is how long before its first use a key is published to the other servers.
	keyDelay = time.Minute
	// upkeep is how often Run looks for old keys and revocations.
	upkeep = 10 * time.Minute
)

// Options say how Builtin works; the zero value is good.
type Options struct {
	URI       string        // public URL of the Identity API, named in 401 answers
	TokenLife time.Duration // 0: DefaultTokenLife
	Now       func() time.Time
	Log       *slog.Logger
}

// Builtin is the identity service of Baryon itself: users, roles and keys in the store, tokens sealed by the keys.
type Builtin struct {
	st       *store.Store
	opt      Options
	hash     *hasher
	failures *throttle
	cache    *cache[string, opened]
}

var _ Authenticator = (*Builtin)(nil)

// opened is a token with what it was worth at one revision of the store.  Another revision makes the worth void, not the opening.
type opened struct {
	claim *claim
	s     *Session
	rev   int64
}

// New makes the identity service over a store that has Tables.  It writes the first token key if there is none.
func New(ctx context.Context, st *store.Store, o Options) (*Builtin, error) {
	if o.TokenLife <= 0 {
		o.TokenLife = DefaultTokenLife
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Builtin{st: st, opt: o, hash: newHasher(), failures: newThrottle(), cache: newCache[string, opened]()}
	if err := b.maintain(ctx); err != nil {
		return nil, fmt.Errorf("prepare token keys: %w", err)
	}
	return b, nil
}

// Store is where the rows are.
func (b *Builtin) Store() *store.Store { return b.st }

// Now is the service's clock, in microseconds, which is what tokens carry.
func (b *Builtin) Now() time.Time { return b.opt.Now().UTC().Truncate(time.Microsecond) }

// URI is the public URL of the Identity API, or empty.
func (b *Builtin) URI() string { return b.opt.URI }

// Authenticate checks X-Auth-Token.  With a valid X-Service-Token of a caller with the service role, a user token that expired less
// than ExpiredWindow ago still passes, so that a long operation of another service can end; an invalid one refuses the request.
func (b *Builtin) Authenticate(ctx context.Context, r *http.Request) (*Caller, error) {
	stripIdentity(r.Header)
	late := false
	if t := r.Header.Get("X-Service-Token"); t != "" {
		s, err := b.Check(ctx, t, false)
		if err != nil {
			return nil, b.unauthorized(err)
		}
		late = s.IsService()
	}
	t := r.Header.Get("X-Auth-Token")
	if t == "" {
		return nil, b.unauthorized(refuse("no X-Auth-Token"))
	}
	s, err := b.Check(ctx, t, late)
	if err != nil {
		return nil, b.unauthorized(err)
	}
	c := s.Caller
	return &c, nil
}

func (b *Builtin) unauthorized(err error) error {
	if errors.Is(err, ErrUnauthorized) {
		return &UnauthorizedError{URI: b.opt.URI, Reason: err.Error()}
	}
	return err
}

// Check opens a token and compares it with the newest local snapshot.  With late, a token that expired less than ExpiredWindow ago
// passes.  The error wraps ErrUnauthorized, or is the store's.
//
// A genuine token that the local snapshot refuses is looked up once more in a linearizable one: what it names may have been
// written on another server a moment ago.
func (b *Builtin) Check(ctx context.Context, token string, late bool) (*Session, error) {
	now := b.opt.Now()
	r := b.st.Snapshot()
	o, _ := b.cache.get(token)
	c, s := o.claim, o.s
	if c == nil {
		var err error
		if c, err = unseal(token, func(id string) (*TokenKey, bool) { return store.Get(r, TokenKeyTable, id) }); err != nil {
			return nil, refuse(err.Error())
		}
	}
	end := c.expires
	if late {
		end = end.Add(ExpiredWindow)
	}
	if !now.Before(end) {
		return nil, refuse("token has expired")
	}
	// An application credential may end before the snapshot changes, so its tokens are always joined anew.
	if s != nil && o.rev == r.Revision() && c.appID == "" {
		return s, nil
	}
	s, err := check(r, c, now)
	if err != nil {
		verr := b.st.View(ctx, func(v store.Read) error {
			r = v
			s, err = check(v, c, now)
			return nil
		})
		if verr != nil {
			return nil, fmt.Errorf("look token up: %w", verr)
		}
		if err != nil {
			return nil, err
		}
	}
	b.cache.put(token, opened{c, s, r.Revision()})
	return s, nil
}

// Revoke refuses one token from now on, on every server.
func (b *Builtin) Revoke(ctx context.Context, s *Session) error {
	row := &Revocation{AuditID: s.AuditIDs[0], Until: s.ExpiresAt.Add(ExpiredWindow)}
	_, err := b.st.Update(ctx, func(tx store.Tx) error {
		store.Put(tx, RevocationTable, row)
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// HashPassword makes the hash of a password to be stored.  It waits for a slot and may answer ErrBusy.
func (b *Builtin) HashPassword(ctx context.Context, password string) (string, error) {
	var hash string
	err := b.hash.run(ctx, func() { hash = hashPassword(password) })
	return hash, err
}

// NewSecret draws the secret of an application credential and its hash.
func (b *Builtin) NewSecret() (secret, hash string) { return newSecret() }

// Run rotates keys and forgets old revocations until the context ends.  One server doing so is enough; more do no harm.
func (b *Builtin) Run(ctx context.Context) error {
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := b.maintain(ctx); err != nil && ctx.Err() == nil {
			b.opt.Log.Warn("identity upkeep failed, will retry", "err", err)
		}
	}
}

// maintain writes the next token key when the newest grows old, and removes keys and revocations that no token can need.
func (b *Builtin) maintain(ctx context.Context) error {
	now := b.Now()
	var stale []string
	for row := range store.All(b.st.Snapshot(), RevocationTable) {
		if now.After(row.Until) && len(stale) < 1000 {
			stale = append(stale, row.AuditID)
		}
	}
	fresh := newTokenKey(now.Add(keyDelay))
	_, err := b.st.Update(ctx, func(tx store.Tx) error {
		for _, id := range stale {
			store.Delete(tx, RevocationTable, id)
		}
		rotate(tx, fresh, now, b.opt.TokenLife)
		return nil
	})
	return err
}

// rotate adds the fresh key when the newest one is old or there is none, and deletes keys whose tokens are all past use.
func rotate(tx store.Tx, fresh *TokenKey, now time.Time, life time.Duration) {
	var keys []*TokenKey
	for k := range store.Find(tx, TokenKeyTable, "all", "1") {
		keys = append(keys, k)
	}
	var newest time.Time
	for _, k := range keys {
		if k.ActiveFrom.After(newest) {
			newest = k.ActiveFrom
		}
		// Superseded at the start of some later key, after which no token is sealed with it.
		for _, next := range keys {
			if next.ActiveFrom.After(k.ActiveFrom) && now.After(next.ActiveFrom.Add(keyDelay+life+ExpiredWindow)) {
				store.Delete(tx, TokenKeyTable, k.ID)
				break
			}
		}
	}
	switch {
	case len(keys) == 0: // nobody else can be waiting for it
		first := *fresh
		first.ActiveFrom = now
		store.Put(tx, TokenKeyTable, &first)
	case now.Sub(newest) > keyLife:
		store.Put(tx, TokenKeyTable, fresh)
	}
}

// sealingKey is the newest key already in use; before any is, the first.
func sealingKey(r store.Read, now time.Time) (*TokenKey, bool) {
	var active, first *TokenKey
	for k := range store.All(r, TokenKeyTable) {
		if first == nil || k.ActiveFrom.Before(first.ActiveFrom) {
			first = k
		}
		if !k.ActiveFrom.After(now) && (active == nil || k.ActiveFrom.After(active.ActiveFrom)) {
			active = k
		}
	}
	if active == nil {
		active = first
	}
	return active, active != nil
}
