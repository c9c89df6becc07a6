package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"baryon/internal/store"
)

// Errors of signing and checking.
var (
	ErrBadRequest  = errors.New("bad certificate request")
	ErrEnrolled    = errors.New("host name is enrolled already")
	ErrNotEnrolled = errors.New("certificate is not accepted")
)

// maxCSR is more than a request with a P-256 key and a host name needs, in bytes.
const maxCSR = 4096

// Enrol signs the key of a host that holds a join token.  A host name with a live certificate of another key needs a token made with
// Replace, which revokes the old one.  The same key may use the same token again: its first answer may have been lost.
func (a *Authority) Enrol(ctx context.Context, token Token, host string, csr []byte) (*x509.Certificate, error) {
	if err := CheckHost(host); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	public, keyHash, err := parseCSR(csr)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", host, err)
	}
	// Checked before signing, so that garbage costs no signature, and again in the transaction.
	now := a.now()
	if err := a.st.View(ctx, func(r store.Read) error {
		_, err := token.check(r, host, keyHash, now)
		return err
	}); err != nil {
		return nil, fmt.Errorf("enrol %s: %w", host, err)
	}
	cert, row, err := a.issue(host, public, keyHash, now)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", host, err)
	}
	if _, err := a.st.Update(ctx, func(tx store.Tx) error {
		t, err := token.check(tx, host, keyHash, now)
		if err != nil {
			return err
		}
		if err := supersede(tx, t, host, keyHash, now); err != nil {
			return err
		}
		if !t.Multi && t.UsedBy == "" {
			used := *t
			used.UsedBy = keyHash
			store.Put(tx, TokenTable, &used)
		}
		store.Put(tx, CertificateTable, row)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("enrol %s: %w", host, err)
	}
	return cert, nil
}

// supersede makes room for a new certificate of a host.
func supersede(tx store.Tx, t *TokenRow, host, keyHash string, now time.Time) error {
	for old := range store.Find(tx, CertificateTable, "host", host) {
		if old.Revoked != "" || now.After(old.NotAfter) || old.KeyHash == keyHash {
			continue
		}
		if !t.Replace {
			return fmt.Errorf("%w: %s; if the old host is gone, make a token with --replace", ErrEnrolled, host)
		}
		revoked := *old
		revoked.Revoked = "replaced by a new enrolment"
		store.Put(tx, CertificateTable, &revoked)
	}
	return nil
}

// Renew signs a new key for the host that proved itself with the certificate of the given serial.  The old certificate stays good
// until it ends, so that a lost answer costs nothing.
func (a *Authority) Renew(ctx context.Context, host, serial string, csr []byte) (*x509.Certificate, error) {
	public, keyHash, err := parseCSR(csr)
	if err != nil {
		return nil, fmt.Errorf("renew certificate of %s: %w", host, err)
	}
	now := a.now()
	cert, row, err := a.issue(host, public, keyHash, now)
	if err != nil {
		return nil, fmt.Errorf("renew certificate of %s: %w", host, err)
	}
	if _, err := a.st.Update(ctx, func(tx store.Tx) error {
		if err := accepted(tx, host, serial, now); err != nil {
			return err
		}
		store.Put(tx, CertificateTable, row)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("renew certificate of %s: %w", host, err)
	}
	return cert, nil
}

// RevokeHost revokes all certificates of a host, as when its node is deleted.  A host without any is no error.
func (a *Authority) RevokeHost(ctx context.Context, host, reason string) error {
	if reason == "" {
		reason = "revoked"
	}
	if _, err := a.st.Update(ctx, func(tx store.Tx) error {
		for c := range store.Find(tx, CertificateTable, "host", host) {
			if c.Revoked == "" {
				revoked := *c
				revoked.Revoked = reason
				store.Put(tx, CertificateTable, &revoked)
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("revoke certificates of %s: %w", host, err)
	}
	return nil
}

// Purge deletes the rows of tokens and certificates that have ended by themselves.
func (a *Authority) Purge(ctx context.Context) error {
	now := a.now()
	if _, err := a.st.Update(ctx, func(tx store.Tx) error {
		for t := range store.All(a.st.Snapshot(), TokenTable) {
			if now.After(t.Expires) {
				store.Delete(tx, TokenTable, t.ID)
			}
		}
		for c := range store.All(a.st.Snapshot(), CertificateTable) {
			if now.After(c.NotAfter) {
				store.Delete(tx, CertificateTable, c.Serial)
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("purge tokens and certificates: %w", err)
	}
	return nil
}

// Identify tells which node is on the other end of a connection, and by which certificate.  It refuses connections without a
// certificate and certificates that are revoked or unknown to the store.
func (a *Authority) Identify(ctx context.Context, state tls.ConnectionState) (host, serial string, err error) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return "", "", fmt.Errorf("%w: the connection has none", ErrNotEnrolled)
	}
	leaf := state.PeerCertificates[0]
	host, serial = leaf.Subject.CommonName, serialText(leaf.SerialNumber)
	if err := CheckHost(host); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrNotEnrolled, err)
	}
	now := a.now()
	if err := accepted(a.st.Snapshot(), host, serial, now); err == nil {
		return host, serial, nil
	}
	// The local snapshot may not have a row that another server has just written.
	if err := a.st.View(ctx, func(r store.Read) error { return accepted(r, host, serial, now) }); err != nil {
		return "", "", err
	}
	return host, serial, nil
}

// Accepted tells whether a certificate is good by the local snapshot: what a long-lived connection asks when rows change.
func (a *Authority) Accepted(host, serial string) error {
	return accepted(a.st.Snapshot(), host, serial, a.now())
}

func accepted(r store.Read, host, serial string, now time.Time) error {
	row, ok := store.Get(r, CertificateTable, serial)
	switch {
	case !ok || row.Host != host:
		return fmt.Errorf("%w: unknown; enrol the host again", ErrNotEnrolled)
	case row.Revoked != "":
		return fmt.Errorf("%w: %s; enrol the host again", ErrNotEnrolled, row.Revoked)
	case now.After(row.NotAfter):
		return fmt.Errorf("%w: it ended at %s; enrol the host again", ErrNotEnrolled, row.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// issue makes a node's certificate and its row; nothing is stored yet.
func (a *Authority) issue(host string, public *ecdsa.PublicKey, keyHash string, now time.Time) (*x509.Certificate, *Certificate, error) {
	cert, err := a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: host},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(nodeLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, public)
	if err != nil {
		return nil, nil, err
	}
	return cert, &Certificate{
		Serial: serialText(cert.SerialNumber), Host: host, KeyHash: keyHash, NotAfter: cert.NotAfter.UTC(), CreatedAt: now.UTC(),
	}, nil
}

// parseCSR takes only the key from a request: who gets which name is never the requester's word.
func parseCSR(der []byte) (*ecdsa.PublicKey, string, error) {
	if len(der) > maxCSR {
		return nil, "", fmt.Errorf("%w: %d bytes", ErrBadRequest, len(der))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	public, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, "", fmt.Errorf("%w: the key is not ECDSA P-256", ErrBadRequest)
	}
	return public, hashText(csr.RawSubjectPublicKeyInfo), nil
}
