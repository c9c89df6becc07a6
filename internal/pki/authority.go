// Package pki is how nodes come to be trusted.  The control plane is its own certificate authority: its key lies in the store, so
// every server signs with it.  A host enrols with a join token, which carries the authority's fingerprint (so the host knows whom it
// talks to) and a secret (so the server knows that an operator wants the host); it gets a certificate for its host name, renews it
// over the connection that it secures, and loses it when it is revoked.
//
// The authority's private key is as safe as the store: who reads etcd can make nodes.  Tokens are stored as hashes only.
//
// Server side: Authority.  Node side: Identity and Token.  Keys are ECDSA P-256, connections TLS 1.3.
package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"sync"
	"time"

	"baryon/internal/resource"
	"baryon/internal/store"
)

// ServerName is the DNS name that every server certificate holds and every node asks for, whatever address it dialled: only servers
// get certificates with it.
const ServerName = "baryon-server"

// How long things last.  Certificates are renewed after two thirds of their time.  backdate allows for clocks that differ.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 30 * 24 * time.Hour
	nodeLife      = 365 * 24 * time.Hour
	backdate      = time.Hour
)

// CA is the authority's row: there is one.
type CA struct {
	Certificate []byte    `json:"certificate"` // DER
	Key         []byte    `json:"key"`         // DER, PKCS #8
	CreatedAt   time.Time `json:"created_at"`
}

const caKey = "ca"

// CATable keeps the authority.
var CATable = resource.NewTable("pki_ca", func(*CA) string { return caKey })

// Certificate is one certificate given to a node.  Rows stay until the certificate ends by itself; a certificate without a row is
// not accepted.
type Certificate struct {
	Serial    string    `json:"serial"` // hexadecimal
	Host      string    `json:"host"`
	KeyHash   string    `json:"key_hash"` // SHA-256 of the public key, hexadecimal
	NotAfter  time.Time `json:"not_after"`
	CreatedAt time.Time `json:"created_at"`
	Revoked   string    `json:"revoked,omitempty"` // why; empty: not
}

// CertificateTable keeps the certificates of nodes.
var CertificateTable = resource.NewTable("pki_certificate", func(c *Certificate) string { return c.Serial }).
	Index("host", func(c *Certificate) []string { return []string{c.Host} })

// Config is what an Authority is given.
type Config struct {
	Store *store.Store
	Now   func() time.Time // nil: time.Now
	// Names and Addresses go into server certificates beside ServerName, for people and for other clients.
	Names     []string
	Addresses []netip.Addr
}

// Authority signs and checks.  It is safe for concurrent use.
type Authority struct {
	st        *store.Store
	now       func() time.Time
	names     []string
	addresses []netip.Addr
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	pool      *x509.CertPool

	mu     sync.Mutex
	server *tls.Certificate // current, remade before it ends
}

// Open reads the authority from the store, or makes it: of servers that start at the same time, one wins and all use its key.
func Open(ctx context.Context, cfg Config) (*Authority, error) {
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	fresh, err := newCA(now())
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	row := fresh
	if _, err := cfg.Store.Update(ctx, func(tx store.Tx) error {
		if have, ok := store.Get(tx, CATable, caKey); ok {
			row = have
			return nil
		}
		row = fresh
		store.Put(tx, CATable, fresh)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	a := &Authority{st: cfg.Store, now: now, names: cfg.Names, addresses: cfg.Addresses}
	if err := a.load(row); err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	return a, nil
}

func newCA(now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Baryon CA " + serial.Text(16)[:8]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return &CA{Certificate: der, Key: keyDER, CreatedAt: now.UTC()}, nil
}

func (a *Authority) load(row *CA) error {
	cert, err := x509.ParseCertificate(row.Certificate)
	if err != nil {
		return fmt.Errorf("parse certificate: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(row.Key)
	if err != nil {
		return fmt.Errorf("parse key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || !ec.PublicKey.Equal(cert.PublicKey) {
		return errors.New("key and certificate do not belong together")
	}
	a.cert, a.key = cert, ec
	a.pool = x509.NewCertPool()
	a.pool.AddCert(cert)
	return nil
}

// Fingerprint is the SHA-256 of the authority's certificate: what a join token pins.
func (a *Authority) Fingerprint() [sha256.Size]byte { return sha256.Sum256(a.cert.Raw) }

// Certificate is the authority's certificate in DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// ServerConfig is the TLS side of a server: its own certificate, made here and remade in time, and nodes' certificates verified
// where one is given.  A connection without one may only enrol: Identify says who is on the other end.
func (a *Authority) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  a.pool,
		NextProtos: []string{"h2"},
		Time:       a.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.serverCertificate()
		},
	}
}

func (a *Authority) serverCertificate() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil && !RenewalDue(a.server.Leaf, a.now()) {
		return a.server, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate server key: %w", err)
	}
	now := a.now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: ServerName},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(serverLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    append([]string{ServerName}, a.names...),
	}
	for _, ip := range a.addresses {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	leaf, err := a.sign(template, &key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	// The authority's certificate goes along, so that a host with only its fingerprint can check it.
	a.server = &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
	return a.server, nil
}

func (a *Authority) sign(template *x509.Certificate, public *ecdsa.PublicKey) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse own certificate: %w", err)
	}
	return cert, nil
}

// newSerial is a random positive number of at most 127 bits with the top one set, so that its text has one length.
func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 126)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return n.Add(n, limit), nil
}

// RenewalDue tells whether two thirds of a certificate's time have passed.
func RenewalDue(c *x509.Certificate, now time.Time) bool {
	return !now.Before(renewAt(c))
}

func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

func serialText(n *big.Int) string { return n.Text(16) }

func hashText(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
