package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// clock is set by tests; signing reads it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t *testing.T, st *store.Store, now func() time.Time) *Authority {
	t.Helper()
	a, err := Open(t.Context(), Config{Store: st, Now: now, Names: []string{"ctl.example"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newAuthority(t *testing.T) (*Authority, *store.Store, *clock) {
	t.Helper()
	st := storetest.New(t, Tables()...)
	c := &clock{now: time.Now()}
	return open(t, st, c.Now), st, c
}

func request(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := Request(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func token(t *testing.T, a *Authority, req TokenRequest) Token {
	t.Helper()
	tok, err := a.NewToken(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseToken(" " + tok.String() + "\n")
	if err != nil || back != tok {
		t.Fatalf("token reads back as %v, %v", back, err)
	}
	return tok
}

func identity(t *testing.T, a *Authority, host string) *Identity {
	t.Helper()
	key, csr := request(t)
	cert, err := a.Enrol(t.Context(), token(t, a, TokenRequest{Host: host, Replace: true}), host, csr)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(key, cert.Raw, a.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// handshake joins two TLS sides over loopback and answers what each says, and the server's view of the client.  The client sends a
// byte and the server answers it, because in TLS 1.3 a client learns only then that the server has refused it.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := tls.Dial("tcp", lis.Addr().String(), client)
		if err == nil {
			_, err = conn.Write([]byte{1})
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			_ = conn.Close()
		}
		done <- err
	}()
	conn, err := lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := tls.Server(conn, server)
	if serverErr = s.HandshakeContext(t.Context()); serverErr == nil {
		b := make([]byte, 1)
		if _, serverErr = s.Read(b); serverErr == nil {
			_, serverErr = s.Write(b)
		}
	}
	_ = conn.Close()
	return s.ConnectionState(), serverErr, <-done
}

func TestServersShareOneAuthority(t *testing.T) {
	_, st, c := newAuthority(t)
	var wg sync.WaitGroup
	prints := make(chan [32]byte, 8)
	for range cap(prints) {
		wg.Go(func() {
			a, err := Open(t.Context(), Config{Store: st, Now: c.Now})
			if err != nil {
				t.Error(err)
				return
			}
			prints <- a.Fingerprint()
		})
	}
	wg.Wait()
	first := <-prints
	for len(prints) > 0 {
		if <-prints != first {
			t.Fatal("two servers on one store have two authorities")
		}
	}
}

func TestMutualTrust(t *testing.T) {
	a, _, c := newAuthority(t)
	id := identity(t, a, "node-1")
	state, serr, cerr := handshake(t, a.ServerConfig(), id.ClientConfig())
	if serr != nil || cerr != nil {
		t.Fatalf("server %v, client %v", serr, cerr)
	}
	host, serial, err := a.Identify(t.Context(), state)
	if err != nil || host != "node-1" || a.Accepted(host, serial) != nil {
		t.Fatalf("identified as %q: %v", host, err)
	}
	for _, cert := range state.PeerCertificates {
		if cert.IsCA {
			t.Error("a node's certificate can sign")
		}
	}

	t.Run("a node cannot play server", func(t *testing.T) {
		server := &tls.Config{Certificates: []tls.Certificate{id.Certificate}, MinVersion: tls.VersionTLS13}
		if _, _, cerr := handshake(t, server, id.ClientConfig()); cerr == nil {
			t.Error("a node's certificate passes for a server's")
		}
	})
	t.Run("a server of another authority", func(t *testing.T) {
		other, _, _ := newAuthority(t)
		if _, _, cerr := handshake(t, other.ServerConfig(), id.ClientConfig()); cerr == nil {
			t.Error("enrolled node accepts it")
		}
		if _, _, cerr := handshake(t, other.ServerConfig(), token(t, a, TokenRequest{}).ClientConfig()); cerr == nil {
			t.Error("holder of a token accepts it")
		}
		// Left to itself a client does not even show a certificate that the server did not ask for.
		foreign := identity(t, other, "node-1").Certificate
		forced := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }}
		if _, serr, _ := handshake(t, a.ServerConfig(), forced); serr == nil {
			t.Error("server accepts a node of another authority")
		}
	})
	t.Run("the holder of a token trusts the right server", func(t *testing.T) {
		state, serr, cerr := handshake(t, a.ServerConfig(), token(t, a, TokenRequest{}).ClientConfig())
		if serr != nil || cerr != nil {
			t.Fatalf("server %v, client %v", serr, cerr)
		}
		if _, _, err := a.Identify(t.Context(), state); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("a connection without a certificate is %v", err)
		}
	})
	t.Run("server certificates are remade in time", func(t *testing.T) {
		before, err := a.serverCertificate()
		if err != nil {
			t.Fatal(err)
		}
		c.add(serverLife / 2)
		same, _ := a.serverCertificate()
		c.add(serverLife / 2)
		after, _ := a.serverCertificate()
		if same != before || after == before {
			t.Errorf("kept %v, remade %v", same == before, after != before)
		}
		if !after.Leaf.IPAddresses[0].Equal(net.IPv4(192, 0, 2, 1)) || after.Leaf.VerifyHostname("ctl.example") != nil {
			t.Error("certificate lacks the configured names")
		}
	})
	t.Run("revoked", func(t *testing.T) {
		if err := a.RevokeHost(t.Context(), "node-1", "node deleted"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Identify(t.Context(), state); !errors.Is(err, ErrNotEnrolled) || !strings.Contains(err.Error(), "node deleted") {
			t.Errorf("a revoked certificate is %v", err)
		}
		_, csr := request(t)
		if _, err := a.Renew(t.Context(), host, serial, csr); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("a revoked certificate renews: %v", err)
		}
	})
}

func TestTokens(t *testing.T) {
	a, st, c := newAuthority(t)
	_, csr := request(t)
	_, other := request(t)
	enrol := func(tok Token, host string, csr []byte) error {
		_, err := a.Enrol(t.Context(), tok, host, csr)
		return err
	}
	single := token(t, a, TokenRequest{})
	if err := enrol(single, "a", csr); err != nil {
		t.Fatal(err)
	}
	if err := enrol(single, "a", csr); err != nil {
		t.Errorf("the same key again, as after a lost answer: %v", err)
	}
	if err := enrol(single, "b", other); !errors.Is(err, ErrBadToken) {
		t.Errorf("single-use token used twice: %v", err)
	}
	multi := token(t, a, TokenRequest{Multi: true})
	for _, h := range []string{"m1", "m2"} {
		_, csr := request(t)
		if err := enrol(multi, h, csr); err != nil {
			t.Errorf("multi-use token for %s: %v", h, err)
		}
	}
	if err := enrol(multi, "m1", other); !errors.Is(err, ErrEnrolled) {
		t.Errorf("taken name without replace: %v", err)
	}
	if err := enrol(token(t, a, TokenRequest{Host: "m1", Replace: true}), "m1", other); err != nil {
		t.Errorf("taken name with replace: %v", err)
	}
	c.add(DefaultTokenLife + time.Second)
	if err := enrol(multi, "m3", other); !errors.Is(err, ErrBadToken) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired token: %v", err)
	}
	for name, req := range map[string]TokenRequest{"too long": {Life: MaxTokenLife + 1}, "negative": {Life: -1}, "bad host": {Host: "a b"},
		"replace any": {Replace: true}} {
		if _, err := a.NewToken(t.Context(), req); err == nil {
			t.Errorf("token %s was made", name)
		}
	}
	if err := a.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := store.Count(st.Snapshot(), TokenTable, "", ""); n != 0 {
		t.Errorf("%d tokens left after the purge of expired ones", n)
	}
	if n := store.Count(st.Snapshot(), CertificateTable, "", ""); n == 0 {
		t.Error("the purge took live certificates")
	}
}

// TestOneWinnerPerToken: of many hosts with one single-use token, one enrols.
func TestOneWinnerPerToken(t *testing.T) {
	a, _, _ := newAuthority(t)
	tok := token(t, a, TokenRequest{})
	var wg sync.WaitGroup
	won := make(chan string, 16)
	for i := range cap(won) {
		_, csr := request(t)
		wg.Go(func() {
			host := "h" + string(rune('a'+i))
			if _, err := a.Enrol(t.Context(), tok, host, csr); err == nil {
				won <- host
			} else if !errors.Is(err, ErrBadToken) {
				t.Errorf("%s: %v", host, err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d hosts enrolled with a single-use token", len(won))
	}
}

func TestBadRequests(t *testing.T) {
	a, _, _ := newAuthority(t)
	tok := token(t, a, TokenRequest{})
	_, good := request(t)
	tampered := append([]byte(nil), good...)
	tampered[len(tampered)-1] ^= 1
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrongCurve, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	if err != nil {
		t.Fatal(err)
	}
	for name, csr := range map[string][]byte{"empty": nil, "garbage": []byte("csr"), "tampered": tampered, "other curve": wrongCurve,
		"huge": make([]byte, maxCSR+1)} {
		if _, err := a.Enrol(t.Context(), tok, "h", csr); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s request: %v", name, err)
		}
	}
}

func TestIdentityFiles(t *testing.T) {
	a, _, _ := newAuthority(t)
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := LoadIdentity(dir); !errors.Is(err, ErrNoIdentity) {
		t.Fatalf("no identity is %v", err)
	}
	key, err := PendingKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := PendingKey(dir); err != nil || !again.Equal(key) {
		t.Errorf("a repeated enrolment uses another key (%v)", err)
	}
	id := identity(t, a, "node-1")
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("directory holds %v, %v", entries, err)
	}
	path := filepath.Join(dir, identityFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	back, err := LoadIdentity(dir)
	if err != nil || back.Host != "node-1" || !back.Authority.Equal(id.Authority) {
		t.Fatalf("read back %+v, %v", back, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that others can read: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, _ := newAuthority(t)
	for name, b := range map[string][]byte{"empty": nil, "garbage": []byte("-----BEGIN"), "cut": whole[:len(whole)/2]} {
		if err := os.WriteFile(path, b, fileMode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, fileMode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentity(dir); err == nil {
			t.Errorf("%s identity was read", name)
		}
	}
	if _, err := NewIdentity(key, id.Certificate.Leaf.Raw, a.Certificate()); err == nil {
		t.Error("certificate of another key was taken")
	}
	if own, ok := id.Certificate.PrivateKey.(*ecdsa.PrivateKey); !ok {
		t.Error("key is not ECDSA")
	} else if _, err := NewIdentity(own, id.Certificate.Leaf.Raw, foreign.Certificate()); err == nil {
		t.Error("certificate of another authority was taken")
	}
}

func TestRenewal(t *testing.T) {
	a, _, c := newAuthority(t)
	id := identity(t, a, "node-1")
	if id.RenewalDue(c.Now()) {
		t.Error("a new certificate is due")
	}
	c.add(nodeLife / 4 * 3)
	if !id.RenewalDue(c.Now()) {
		t.Error("an old certificate is not due")
	}
	_, csr := request(t)
	cert, err := a.Renew(t.Context(), "node-1", serialText(id.Certificate.Leaf.SerialNumber), csr)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "node-1" || !cert.NotAfter.After(id.Certificate.Leaf.NotAfter) {
		t.Errorf("renewed for %s until %s", cert.Subject.CommonName, cert.NotAfter)
	}
	// The old one stays good until it ends.
	if err := a.Accepted("node-1", serialText(id.Certificate.Leaf.SerialNumber)); err != nil {
		t.Error(err)
	}
	if _, err := a.Renew(t.Context(), "node-2", serialText(cert.SerialNumber), csr); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("renewed in another's name: %v", err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("baryon1.AAAAAAAAAAA.AAAA.AAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		if back, err := ParseToken(tok.String()); err != nil || back != tok {
			t.Fatalf("%q reads as a token that does not read back", s)
		}
	})
}
