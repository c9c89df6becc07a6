package identity

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of failed logins within throttleWindow: for one user from one address, and for one address whatever the user.
const (
	throttleWindow  = time.Minute
	maxUserFailures = 10
	maxAddrFailures = 200
	maxThrottled    = 8192 // counters kept; the oldest window is forgotten as a whole
)

// throttle counts failed logins in two windows, the running one and the one before, which bounds its memory and its age.
// The counters are this server's own: a cluster of n servers grants at most n times the limits.
type throttle struct {
	mu        sync.Mutex
	cur, prev map[string]int
	started   time.Time
}

func newThrottle() *throttle { return &throttle{cur: map[string]int{}, prev: map[string]int{}} }

// userKey has a fixed size, whatever a client sends as a name.
func userKey(user, addr string) string {
	sum := sha256.Sum256([]byte(user))
	return "u" + string(sum[:]) + addr
}

func addrKey(addr string) string { return "a" + addr }

// clientAddr is the address that failures are counted for: of IPv6 the /64, which is what one customer has.
func clientAddr(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// turn starts a new window when the running one is over or full.
func (t *throttle) turn(now time.Time) {
	age := now.Sub(t.started)
	switch {
	case age >= 2*throttleWindow || age < 0:
		t.cur, t.prev, t.started = map[string]int{}, map[string]int{}, now
	case age >= throttleWindow || len(t.cur) >= maxThrottled:
		t.cur, t.prev, t.started = map[string]int{}, t.cur, now
	}
}

// allowed tells whether the user may try from the address; if not, after how long again.
func (t *throttle) allowed(user, addr string, now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	u, a := userKey(user, addr), addrKey(addr)
	if t.cur[u]+t.prev[u] < maxUserFailures && t.cur[a]+t.prev[a] < maxAddrFailures {
		return 0, true
	}
	return 2*throttleWindow - now.Sub(t.started), false
}

// failed counts a failed login.
func (t *throttle) failed(user, addr string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	t.cur[userKey(user, addr)]++
	t.cur[addrKey(addr)]++
}

// succeeded forgets the user's failures from the address.
func (t *throttle) succeeded(user, addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.cur, userKey(user, addr))
	delete(t.prev, userKey(user, addr))
}
