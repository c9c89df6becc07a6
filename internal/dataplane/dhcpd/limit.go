package dhcpd

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a token bucket per client.  It forgets everybody when it is full: then a flood of forged sources costs no memory, and
// the bound on questions in flight still holds.
type limiter struct {
	mu    sync.Mutex
	m     map[netip.Addr]bucket
	rate  float64 // tokens per second
	burst float64
	size  int
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(rate, burst float64, size int) *limiter {
	return &limiter{m: map[netip.Addr]bucket{}, rate: rate, burst: burst, size: size}
}

func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.m[a]
	if !ok {
		if len(l.m) >= l.size {
			clear(l.m)
		}
		b = bucket{tokens: l.burst, at: now}
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(l.burst, b.tokens+d.Seconds()*l.rate)
		b.at = now
	}
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.m[a] = b
	return allowed
}
