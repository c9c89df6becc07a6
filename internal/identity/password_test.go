package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPassword(t *testing.T) {
	h := hashPassword("correct horse")
	if !strings.HasPrefix(h, "$argon2id$v=19$m=19456,t=2,p=1$") || h == hashPassword("correct horse") {
		t.Errorf("hash %q: wrong form or no salt", h)
	}
	secret, fast := newSecret()
	for _, tc := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"right", h, "correct horse", true},
		{"wrong", h, "correct horsf", false},
		{"empty password", h, "", false},
		{"no hash", "", "", false},
		{"no hash, some password", "", "x", false},
		{"garbage", "$argon2id$v=19$m=19456,t=2,p=1$x", "x", false},
		{"hash asks for too much memory", "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "x", false},
		{"other algorithm", "$2b$12$abcdefghijklmnopqrstuv", "x", false},
		{"absurd password", h, strings.Repeat("x", MaxPassword+1), false},
		{"a fast hash is no password hash", fast, secret, false},
	} {
		if got := verifyPassword(tc.hash, tc.password); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	if !verifyFast(fast, secret) || verifyFast(fast, secret+"x") || verifyFast(h, "correct horse") {
		t.Error("verifyFast is wrong")
	}
}

func TestHasherBounds(t *testing.T) {
	h := newHasher()
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.run(ctx, func() { t.Error("ran without a slot") }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
	h.waiting.Store(maxWaiting)
	if err := h.run(context.Background(), func() { t.Error("ran without a slot") }); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	if n := h.waiting.Load(); n != maxWaiting {
		t.Errorf("%d waiting, want %d", n, maxWaiting)
	}
}

func TestThrottle(t *testing.T) {
	th, now := newThrottle(), time.Unix(1e9, 0)
	try := func(user, addr string, want bool) {
		t.Helper()
		if wait, ok := th.allowed(user, addr, now); ok != want || !ok && wait <= 0 {
			t.Fatalf("%s from %s: allowed %v (wait %s), want %v", user, addr, ok, wait, want)
		}
	}
	for range maxUserFailures {
		try("jo", "a", true)
		th.failed("jo", "a", now)
	}
	try("jo", "a", false)
	try("jo", "b", true) // nobody locks another's user out
	try("al", "a", true)
	now = now.Add(throttleWindow)
	try("jo", "a", false)
	now = now.Add(throttleWindow)
	try("jo", "a", true)

	for range maxUserFailures - 1 {
		th.failed("jo", "a", now)
	}
	th.succeeded("jo", "a")
	th.failed("jo", "a", now)
	try("jo", "a", true)

	for i := range maxAddrFailures {
		th.failed(fmt.Sprint("user", i), "c", now)
	}
	try("another", "c", false)
	for i := range 10 * maxThrottled {
		th.failed("x", fmt.Sprint("addr", i), now)
	}
	if n := len(th.cur) + len(th.prev); n > 2*(maxThrottled+2) {
		t.Errorf("%d counters are kept", n)
	}
}

func TestClientAddr(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:1234": "192.0.2.1", "[2001:db8:1:2:3::4]:9": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:1": "192.0.2.1",
		"": "unknown", "garbage": "unknown", "192.0.2.1": "192.0.2.1", "[fe80::1%eth0]:5": "fe80::/64",
	} {
		if got := clientAddr(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int, int]()
	for i := range 5 * cachedTokens {
		c.put(i, i)
		if v, ok := c.get(0); ok && v != 0 {
			t.Fatal("wrong value")
		}
	}
	if n := len(c.cur) + len(c.prev); n > 2*cachedTokens {
		t.Errorf("%d entries are kept", n)
	}
	if _, ok := c.get(0); !ok {
		t.Error("an entry in constant use was forgotten")
	}
	if _, ok := c.get(1); ok {
		t.Error("an entry out of use was kept")
	}
}
