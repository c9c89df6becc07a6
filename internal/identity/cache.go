package identity

import "sync"

// cachedTokens is how many tokens one generation of the cache holds, about 1 kB each.
const cachedTokens = 4096

// tokenCache remembers opened tokens and what they were worth at one revision of the store.  A change of revision makes the worth
// void but not the opening.  Two generations bound its size without a list of ages.
type tokenCache struct {
	mu        sync.Mutex
	cur, prev map[string]cached
}

type cached struct {
	claim *claim
	s     *Session
	rev   int64
}

func newTokenCache() *tokenCache { return &tokenCache{cur: map[string]cached{}} }

func (t *tokenCache) get(token string) (*claim, *Session, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.cur[token]
	if !ok {
		if e, ok = t.prev[token]; ok {
			t.add(token, e)
		}
	}
	return e.claim, e.s, e.rev
}

func (t *tokenCache) put(token string, c *claim, s *Session, rev int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(token, cached{c, s, rev})
}

func (t *tokenCache) add(token string, e cached) {
	if len(t.cur) >= cachedTokens {
		t.prev, t.cur = t.cur, make(map[string]cached, cachedTokens)
	}
	t.cur[token] = e
}
