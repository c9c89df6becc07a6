package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Files of a node's identity in its directory.  One file holds key and certificates, so that they cannot come apart.
const (
	identityFile = "identity.pem"
	pendingFile  = "pending.pem" // the key of an enrolment whose answer has not come
)

// Modes: nobody but the agent's user reads a node's key.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// PEM block types.
const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// ErrNoIdentity is the answer of LoadIdentity on a host that has not enrolled.
var ErrNoIdentity = errors.New("host is not enrolled")

// Identity is what a node proves itself with.
type Identity struct {
	Host        string // the certificate's common name
	Certificate tls.Certificate
	Authority   *x509.Certificate
}

// LoadIdentity reads a node's identity from its directory.
func LoadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no %s", ErrNoIdentity, path)
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	id, err := parseIdentity(b)
	if err != nil {
		return nil, fmt.Errorf("load identity %s: %w", path, err)
	}
	return id, nil
}

func parseIdentity(b []byte) (*Identity, error) {
	var key *ecdsa.PrivateKey
	var certs []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemKey:
			k, err := parseKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			key = k
		case pemCertificate:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse certificate: %w", err)
			}
			certs = append(certs, c)
		}
	}
	if key == nil || len(certs) != 2 {
		return nil, fmt.Errorf("want a key and two certificates, found key %t and %d", key != nil, len(certs))
	}
	return newIdentity(key, certs[0], certs[1])
}

// newIdentity checks that the parts belong together.
func newIdentity(key *ecdsa.PrivateKey, cert, authority *x509.Certificate) (*Identity, error) {
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the certificate is of another key")
	}
	if err := cert.CheckSignatureFrom(authority); err != nil {
		return nil, fmt.Errorf("the certificate is of another authority: %w", err)
	}
	if err := CheckHost(cert.Subject.CommonName); err != nil {
		return nil, err
	}
	return &Identity{
		Host:        cert.Subject.CommonName,
		Certificate: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
		Authority:   authority,
	}, nil
}

// NewIdentity puts a key and what a server answered to its request together.
func NewIdentity(key *ecdsa.PrivateKey, certificate, authority []byte) (*Identity, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	ca, err := x509.ParseCertificate(authority)
	if err != nil {
		return nil, fmt.Errorf("parse authority's certificate: %w", err)
	}
	return newIdentity(key, cert, ca)
}

// Save writes the identity into the directory, in one step: at any moment the old or the new one is whole.
func (id *Identity) Save(dir string) error {
	der, err := x509.MarshalPKCS8PrivateKey(id.Certificate.PrivateKey)
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: id.Certificate.Leaf.Raw})...)
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: id.Authority.Raw})...)
	if err := writePrivate(dir, identityFile, b); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, pendingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
}

// RenewalDue tells whether the node should ask for a new certificate.
func (id *Identity) RenewalDue(now time.Time) bool { return RenewalDue(id.Certificate.Leaf, now) }

// ClientConfig is the TLS side of an enrolled node.
func (id *Identity) ClientConfig() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(id.Authority)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      pool,
		ServerName:   ServerName,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{id.Certificate},
	}
}

// ClientConfig is the TLS side of a host that has only a token: it accepts the server that can show a certificate of the authority
// whose fingerprint the token carries, and no other.
func (t Token) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ServerName,
		NextProtos: []string{"h2"},
		// The usual verification needs the authority, which comes only with this handshake; VerifyConnection does it all.
		InsecureSkipVerify: true,
		VerifyConnection:   t.verify,
	}
}

func (t Token) verify(state tls.ConnectionState) error {
	for _, c := range state.PeerCertificates {
		if sha256.Sum256(c.Raw) != t.authority {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(c)
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: pool, DNSName: ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return fmt.Errorf("verify server: %w", err)
		}
		return nil
	}
	return errors.New("verify server: it is not of the authority that the join token names")
}

// PendingKey is the key of an enrolment: the one that an earlier try left, or a new one, kept until Save.  So a try whose answer was
// lost can be repeated with the same token.
func PendingKey(dir string) (*ecdsa.PrivateKey, error) {
	if b, err := readPrivate(filepath.Join(dir, pendingFile)); err == nil {
		if block, _ := pem.Decode(b); block != nil && block.Type == pemKey {
			if key, err := parseKey(block.Bytes); err == nil {
				return key, nil
			}
		}
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	if err := writePrivate(dir, pendingFile, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})); err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	return key, nil
}

// NewKey makes a key as the authority takes it.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// Request is a certificate request for a key, in DER.  It names nobody: the server knows who asks by token or certificate.
func Request(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("parse key: not an ECDSA key")
	}
	return ec, nil
}

// readPrivate reads a file that must be readable by its owner only.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&^fileMode != 0 {
		return nil, fmt.Errorf("%s holds a key but has mode %04o: make it 0600", path, info.Mode().Perm())
	}
	if info.Size() > maxIdentity {
		return nil, fmt.Errorf("%s has %d bytes: not an identity", path, info.Size())
	}
	return os.ReadFile(path)
}

// maxIdentity is far more than a key and two certificates take, in bytes.
const maxIdentity = 64 << 10

// writePrivate replaces a file atomically and waits for the disk.
func writePrivate(dir, name string, b []byte) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
