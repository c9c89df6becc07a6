package metadata

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Nova is a real metadata service that requests are passed on to.
type Nova struct {
	base   *url.URL
	secret []byte
	client *http.Client
}

const (
	novaTimeout = 60 * time.Second
	maxBody     = 1 << 20  // of a request
	maxReply    = 64 << 20 // of an answer
)

// NewNova makes a proxy to the service at address (http://host:8775) with the shared secret of Nova's metadata_proxy_shared_secret.
// One Nova serves all networks of a node and keeps the connections.
func NewNova(address, secret string) (*Nova, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("use nova metadata url %q: not an http address", address)
	}
	return &Nova{
		base: u, secret: []byte(secret),
		client: &http.Client{
			Timeout: novaTimeout,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 32, MaxConnsPerHost: 256, IdleConnTimeout: 30 * time.Second,
				MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Sign is the instance's signature as Nova checks it: HMAC-SHA256 of the instance id, in hex.
func (n *Nova) Sign(instanceID string) string {
	m := hmac.New(sha256.New, n.secret)
	m.Write([]byte(instanceID))
	return hex.EncodeToString(m.Sum(nil))
}

// serve passes a guest's request on with these headers and no others, and maps the answer as Neutron's metadata agent does.
func (n *Nova) serve(w http.ResponseWriter, r *http.Request, p *Port, source netip.Addr) error {
	u := *n.base
	u.Path, u.RawPath = "", ""
	u.RawQuery = r.URL.RawQuery
	target := strings.TrimSuffix(n.base.String(), "/") + r.URL.EscapedPath()
	if u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	q, err := http.NewRequestWithContext(r.Context(), r.Method, target, http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return nil //nolint:nilerr // the guest's mistake
	}
	if r.ContentLength == 0 {
		q.Body = http.NoBody
	}
	q.ContentLength = r.ContentLength
	q.Header = http.Header{
		"User-Agent":      {""}, // Go would add its own
		"X-Forwarded-For": {source.Unmap().WithZone("").String()},
		"X-Instance-ID":   {p.InstanceID},
		"X-Tenant-ID":     {p.ProjectID},
		// Keys are written as they stand here, in Nova's own spelling.
		"X-Instance-ID-Signature": {n.Sign(p.InstanceID)},
	}
	resp, err := n.client.Do(q)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
			return nil
		}
		http.Error(w, "metadata service unavailable", http.StatusServiceUnavailable)
		return fmt.Errorf("ask nova for metadata: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	switch resp.StatusCode {
	case http.StatusOK:
		if t := resp.Header.Get("Content-Type"); t != "" {
			w.Header().Set("Content-Type", t)
		}
		if resp.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(resp.ContentLength))
		}
		w.WriteHeader(http.StatusOK)
		if _, err := io.Copy(w, io.LimitReader(resp.Body, maxReply)); err != nil {
			return fmt.Errorf("pass nova's answer on: %w", err)
		}
		return nil
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		http.Error(w, http.StatusText(resp.StatusCode), resp.StatusCode)
	default:
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
	return fmt.Errorf("ask nova for metadata of port %s: status %d", p.ID, resp.StatusCode)
}
