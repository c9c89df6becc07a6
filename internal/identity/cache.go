package identity

import "sync"

// cachedTokens is how many tokens one generation of a cache holds, about 1 kB each.
const cachedTokens = 4096

// cache remembers what is dear to find out again.  Two generations bound its size without a list of ages: what is not used while
// a generation fills up is forgotten with the next.
type cache[K comparable, V any] struct {
	mu        sync.Mutex
	cur, prev map[K]V
}

func newCache[K comparable, V any]() *cache[K, V] { return &cache[K, V]{cur: map[K]V{}} }

func (t *cache[K, V]) get(key K) (V, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.cur[key]
	if !ok {
		if v, ok = t.prev[key]; ok {
			t.add(key, v)
		}
	}
	return v, ok
}

func (t *cache[K, V]) put(key K, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(key, v)
}

func (t *cache[K, V]) add(key K, v V) {
	if _, have := t.cur[key]; !have && len(t.cur) >= cachedTokens {
		t.prev, t.cur = t.cur, make(map[K]V, cachedTokens)
	}
	t.cur[key] = v
}
