package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// Secure is an etcd that wants a client certificate and a login, as production has it.
type Secure struct {
	Endpoint  string // URL
	CA        string // PEM file of the authority
	Cert, Key string // PEM files of a client
	OtherCA   string // PEM file of an authority that nobody here has a certificate of
	OtherCert string // PEM files of a client of that one
	OtherKey  string
	Username  string // may read and write what the store keeps, and nothing else
	Password  string

	root *clientv3.Client
}

// SecureEtcd starts an etcd with TLS, client certificates and login.  It ends with the test.  maxTxnOps 0: etcd's default.
func SecureEtcd(t testing.TB, maxTxnOps uint) *Secure {
	t.Helper()
	dir := t.TempDir()
	ca, other := newAuthority(t), newAuthority(t)
	s := &Secure{Username: "baryon", Password: "s3cret"}
	s.CA, s.OtherCA = ca.write(t, dir, "ca"), other.write(t, dir, "other-ca")
	s.Cert, s.Key = ca.issue(t, dir, "client")
	s.OtherCert, s.OtherKey = other.issue(t, dir, "other-client")
	serverCert, serverKey := ca.issue(t, dir, "server")
	cfg := embed.NewConfig()
	cfg.ClientTLSInfo = transport.TLSInfo{CertFile: serverCert, KeyFile: serverKey, TrustedCAFile: s.CA, ClientCertAuth: true}
	if maxTxnOps > 0 {
		cfg.MaxTxnOps = maxTxnOps
	}
	s.Endpoint = "https://" + start(t, cfg, "https")
	s.enableLogin(t)
	return s
}

// enableLogin makes the users root and baryon and has the cluster ask who one is.
func (s *Secure) enableLogin(t testing.TB) {
	t.Helper()
	open := clientv3.Config{Endpoints: []string{s.Endpoint}, TLS: s.TLS(t)}
	c, err := clientv3.New(open)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	const rootPassword = "root"
	for _, do := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", rootPassword); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.RoleAdd(ctx, "baryon"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "baryon", "/baryon-", "/baryon0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserAdd(ctx, s.Username, s.Password); return err },
		func() error { _, err := c.UserGrantRole(ctx, s.Username, "baryon"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
		c.Close,
	} {
		if err := do(); err != nil {
			t.Fatalf("set up login: %v", err)
		}
	}
	open.Username, open.Password = "root", rootPassword
	if s.root, err = clientv3.New(open); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.root.Close() })
}

// ForgetLogins makes the tokens invalid that the user's clients have, as the passing of time does; the password stays.
func (s *Secure) ForgetLogins(t testing.TB) {
	t.Helper()
	if _, err := s.root.UserChangePassword(t.Context(), s.Username, s.Password); err != nil {
		t.Fatal(err)
	}
}

// TLS is what a client of the cluster uses.
func (s *Secure) TLS(t testing.TB) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

// authority signs certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = certificate(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

func (a *authority) write(t testing.TB, dir, name string) string {
	t.Helper()
	return writePEM(t, dir, name+".pem", "CERTIFICATE", a.cert.Raw)
}

// issue makes a certificate for 127.0.0.1, good for both sides of a connection.
func (a *authority) issue(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	cert, key := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, dir, name+".pem", "CERTIFICATE", cert.Raw), writePEM(t, dir, name+".key", "PRIVATE KEY", der)
}

func certificate(t testing.TB, tmpl *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{tmpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func writePEM(t testing.TB, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
