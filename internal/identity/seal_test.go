package identity

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func genClaim(t *rapid.T) *claim {
	id := rapid.OneOf(rapid.StringMatching(`[0-9a-f]{32}`), rapid.Just("default"))
	at := rapid.Int64Range(0, 1<<52)
	c := &claim{
		methods: rapid.Byte().Draw(t, "methods"),
		userID:  rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "user"),
		issued:  time.UnixMicro(at.Draw(t, "issued")).UTC(),
		expires: time.UnixMicro(at.Draw(t, "expires")).UTC(),
		epoch:   rapid.Uint64().Draw(t, "epoch"),
		audits:  []string{newAuditID()},
		scope:   Scope{Kind: ScopeKind(rapid.IntRange(0, 3).Draw(t, "kind"))},
	}
	if c.scope.Kind == ScopeProject || c.scope.Kind == ScopeDomain {
		c.scope.ID = id.Draw(t, "scope")
	}
	if rapid.Bool().Draw(t, "app") {
		c.appID = rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "appID")
	}
	if rapid.Bool().Draw(t, "chained") {
		c.audits = append(c.audits, newAuditID())
	}
	return c
}

// A token gives back what was sealed, is short and fit for a header, and no change to it goes unseen.
func TestSealed(t *testing.T) {
	key := newTokenKey(time.Unix(0, 0))
	keys := func(id string) (*TokenKey, bool) { return key, id == key.ID }
	rapid.Check(t, func(t *rapid.T) {
		c := genClaim(t)
		token, err := seal(key, c)
		if err != nil {
			t.Fatal(err)
		}
		if len(token) > 255 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("token %q is unfit for a header", token)
		}
		got, err := unseal(token, keys)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, got, cmp.AllowUnexported(claim{})); d != "" {
			t.Fatal(d)
		}
		raw, _ := base64.RawURLEncoding.DecodeString(token)
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := unseal(base64.RawURLEncoding.EncodeToString(raw), keys); err == nil {
			t.Fatal("a changed token was opened")
		}
	})
}

func TestUnsealOtherKey(t *testing.T) {
	a, b := newTokenKey(time.Unix(0, 0)), newTokenKey(time.Unix(0, 0))
	b.ID = a.ID // even a key of the same name
	token, err := seal(a, &claim{userID: "u", audits: []string{newAuditID()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unseal(token, func(string) (*TokenKey, bool) { return b, true }); err == nil {
		t.Error("opened with another key")
	}
	if _, err := unseal(token, func(string) (*TokenKey, bool) { return nil, false }); err == nil {
		t.Error("opened without a key")
	}
}

func FuzzUnseal(f *testing.F) {
	key := newTokenKey(time.Unix(0, 0))
	token, err := seal(key, &claim{userID: "u", audits: []string{newAuditID()}})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "AQ", token, token[:60], token + "A", strings.Repeat("A", 300), "\n" + token} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := unseal(s, func(string) (*TokenKey, bool) { return key, true })
		if err == nil && (c.userID != "u" || strings.Trim(s, "\r\n") != token && !strings.ContainsAny(s, "\r\n")) {
			t.Fatalf("forged token %q was opened: %+v", s, c)
		}
	})
}

func FuzzClaim(f *testing.F) {
	b, err := (&claim{userID: "u", scope: Scope{Kind: ScopeProject, ID: "default"}, audits: []string{newAuditID()}}).marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := unmarshalClaim(b)
		if err != nil {
			return
		}
		again, err := c.marshal()
		if err != nil {
			t.Fatalf("claim %+v cannot be written again: %v", c, err)
		}
		back, err := unmarshalClaim(again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, back, cmp.AllowUnexported(claim{})); d != "" {
			t.Fatal(d)
		}
	})
}
