package identity

import (
	"context"
	"fmt"
	"time"

	"baryon/internal/store"
)

// Login is one request for a token.  Several proofs may be given; they must all be of one user.
type Login struct {
	Password *PasswordProof
	Token    *string
	App      *AppProof
	Scope    *ScopeRef // nil: the user's default project if it may use it, else none
	Remote   string    // the client's address, for counting failures
}

// PasswordProof is a user with a password.
type PasswordProof struct {
	User     UserRef
	Password string
}

// AppProof is an application credential, by id or by name and user, with its secret.
type AppProof struct {
	ID, Name string
	User     UserRef
	Secret   string
}

// TooManyError refuses a login because too many failed before.
type TooManyError struct{ Retry time.Duration }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("too many failed logins: retry after %s", e.Retry.Round(time.Second))
}

// proof is what a login has shown so far.
type proof struct {
	claim  claim
	hash   string // the password hash that was matched, so that a change meanwhile is noticed
	secret string // likewise of an application credential
	old    *claim // of the token that was given, checked again at the end
	end    time.Time
}

// Issue checks a login and makes its token.  Errors: one that wraps ErrUnauthorized, *TooManyError, ErrBusy, or the store's.
func (b *Builtin) Issue(ctx context.Context, l Login) (string, *Session, error) {
	now := b.Now()
	p := &proof{end: now.Add(b.opt.TokenLife)}
	if l.Password != nil {
		if err := b.byPassword(ctx, p, l); err != nil {
			return "", nil, err
		}
	}
	if l.App != nil {
		if err := b.byApp(ctx, p, l); err != nil {
			return "", nil, err
		}
	}
	if l.Token != nil {
		if err := b.byToken(ctx, p, *l.Token); err != nil {
			return "", nil, err
		}
	}
	if p.claim.userID == "" {
		return "", nil, refuse("no proof given")
	}
	p.claim.issued = now
	p.claim.audits = append([]string{newAuditID()}, p.claim.audits...)

	var token string
	var s *Session
	err := b.st.View(ctx, func(r store.Read) error {
		var err error
		token, s, err = b.grant(r, p, l.Scope, now)
		return err
	})
	return token, s, err
}

// grant chooses the scope and seals the token.
func (b *Builtin) grant(r store.Read, p *proof, want *ScopeRef, now time.Time) (string, *Session, error) {
	u, ok := store.Get(r, UserTable, p.claim.userID)
	if !ok || p.hash != "" && u.Password != p.hash {
		return "", nil, refuse("user has changed during login")
	}
	if p.old != nil {
		if _, err := check(r, p.old, now); err != nil {
			return "", nil, err
		}
	}
	p.claim.expires = p.end
	fallback := false
	switch {
	case p.claim.appID != "":
		app, ok := store.Get(r, AppCredentialTable, p.claim.appID)
		if !ok || p.secret != "" && app.Secret != p.secret {
			return "", nil, refuse("application credential has changed during login")
		}
		p.claim.scope = Scope{Kind: ScopeProject, ID: app.ProjectID}
		if want != nil {
			if s, ok := want.find(r); !ok || s != p.claim.scope {
				return "", nil, refuse("application credential is for another scope")
			}
		}
		if !app.ExpiresAt.IsZero() && app.ExpiresAt.Before(p.claim.expires) {
			p.claim.expires = app.ExpiresAt
		}
	case want != nil:
		if p.claim.scope, ok = want.find(r); !ok {
			return "", nil, refuse("no such scope")
		}
	case u.DefaultProjectID != "":
		p.claim.scope, fallback = Scope{Kind: ScopeProject, ID: u.DefaultProjectID}, true
	}
	s, epoch, err := join(r, &p.claim, now)
	if err != nil && fallback {
		p.claim.scope = Scope{}
		s, epoch, err = join(r, &p.claim, now)
	}
	if err != nil {
		return "", nil, err
	}
	p.claim.epoch = epoch
	key, ok := sealingKey(r, now)
	if !ok {
		return "", nil, fmt.Errorf("seal token: %w", errKey)
	}
	token, err := seal(key, &p.claim)
	if err != nil {
		return "", nil, fmt.Errorf("seal token: %w", err)
	}
	return token, s, nil
}

// is records whose proof it was; a second proof must be of the same user.
func (p *proof) is(userID string, method byte) error {
	if p.claim.userID != "" && p.claim.userID != userID {
		return refuse("proofs of different users")
	}
	p.claim.userID = userID
	p.claim.methods |= method
	return nil
}

func (b *Builtin) byPassword(ctx context.Context, p *proof, l Login) error {
	u, err := b.CheckPassword(ctx, l.Password.User, l.Password.Password, l.Remote)
	if err != nil {
		return err
	}
	p.hash = u.Password
	return p.is(u.ID, methodPassword)
}

// CheckPassword finds the user whose password it is.  The answer and its time are the same for a wrong password and for a user that
// does not exist; the user may still be disabled.  Failures count against the user and the remote address.  Errors as of Issue.
func (b *Builtin) CheckPassword(ctx context.Context, ref UserRef, password, remote string) (*User, error) {
	var u *User
	err := b.st.View(ctx, func(r store.Read) error {
		u, _ = ref.find(r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look user up: %w", err)
	}
	hash := ""
	if u != nil {
		hash = u.Password
	}
	if err := b.verify(ctx, ref.key(), remote, hash, password); err != nil {
		return nil, err
	}
	return u, nil
}

func (b *Builtin) byApp(ctx context.Context, p *proof, l Login) error {
	var app *AppCredential
	err := b.st.View(ctx, func(r store.Read) error {
		if l.App.ID != "" {
			app, _ = store.Get(r, AppCredentialTable, l.App.ID)
			return nil
		}
		if u, ok := l.App.User.find(r); ok {
			app, _ = first(r, AppCredentialTable, "name_of_user", pair(u.ID, l.App.Name))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look application credential up: %w", err)
	}
	hash := ""
	if app != nil {
		hash = app.Secret
	}
	who := "app\x00" + l.App.ID + "\x00" + l.App.Name + "\x00" + l.App.User.key()
	if err := b.verify(ctx, who, l.Remote, hash, l.App.Secret); err != nil {
		return err
	}
	p.claim.appID, p.secret = app.ID, app.Secret
	return p.is(app.UserID, methodAppCredential)
}

// byToken takes over what an older token proved: its end, its methods, its chain and its credential.
func (b *Builtin) byToken(ctx context.Context, p *proof, token string) error {
	s, err := b.Check(ctx, token, false)
	if err != nil {
		return err
	}
	old := s.claim
	p.old = old
	if p.claim.appID != "" && old.appID != "" && p.claim.appID != old.appID {
		return refuse("proofs of different application credentials")
	}
	if old.appID != "" {
		p.claim.appID = old.appID
	}
	if old.expires.Before(p.end) {
		p.end = old.expires
	}
	p.claim.methods |= old.methods
	p.claim.audits = old.audits[len(old.audits)-1:]
	return p.is(s.UserID, methodToken)
}

// verify compares a secret with its hash, slowly enough and not too often.  An empty hash costs the same and never matches.
func (b *Builtin) verify(ctx context.Context, who, remote, hash, secret string) error {
	addr := clientAddr(remote)
	if wait, ok := b.failures.allowed(who, addr, b.Now()); !ok {
		return &TooManyError{Retry: wait}
	}
	match := isFast(hash) && verifyFast(hash, secret)
	if !match {
		var late error
		err := b.hash.run(ctx, func() {
			// Asked again in the slot: of many guesses that came together only as many run as there are slots.
			if wait, ok := b.failures.allowed(who, addr, b.Now()); !ok {
				late = &TooManyError{Retry: wait}
				return
			}
			if isFast(hash) {
				hash = ""
			}
			if match = verifyPassword(hash, secret); !match {
				b.failures.failed(who, addr, b.Now())
			}
		})
		if err != nil {
			return err
		}
		if late != nil {
			return late
		}
	}
	if !match {
		return refuse("wrong user or secret")
	}
	b.failures.succeeded(who, addr)
	return nil
}
