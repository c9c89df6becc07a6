package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"baryon/internal/neutron"
)

// Identity sources.
const (
	IdentityBuiltin  = "builtin"  // our own, on IdentityListen
	IdentityKeystone = "keystone" // a real Keystone
	IdentityNone     = "none"     // no authentication: everybody is admin.  For a lab on a loopback address.
)

// Config is everything a server is told.
type Config struct {
	DataDir string // embedded store, admin socket, openrc and clouds.yaml; made if missing
	Etcd    EtcdConfig

	APIListen string // host:port of the networking API
	APIURL    string // public URL of it without version, for the catalog; empty: from APIListen
	TLSCert   string // PEM files: serve both APIs with TLS
	TLSKey    string

	Identity       string // one of the Identity constants
	IdentityListen string // host:port, builtin only
	IdentityURL    string // public URL of the identity API without version; Keystone: where it is
	AdminPassword  string // of the first start; empty: drawn at random
	Recover        bool   // give the user admin its rights and AdminPassword back
	Region         string
	Keystone       KeystoneConfig

	SouthboundListen string // host:port
	SouthboundNetns  string // name of the network namespace that SouthboundListen is opened in; empty: the server's own
	SouthboundNames  []string

	Network neutron.Config // Store and Log are filled in

	Version string
	Log     *slog.Logger

	pair *tls.Certificate // of TLSCert and TLSKey
}

// EtcdConfig names an external cluster; without endpoints the store is embedded.
type EtcdConfig struct {
	Endpoints    []string
	CA           string // PEM file of the cluster's authority; with https endpoints empty means the system's
	Cert, Key    string // PEM files of a client certificate
	Username     string
	PasswordFile string
}

// KeystoneConfig is the service user by which tokens are validated.
type KeystoneConfig struct {
	Username, PasswordFile, Project, UserDomain, ProjectDomain string
}

// check tells all that is wrong, and fills in what follows from the rest.
func (c *Config) check() error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("server configuration: "+format, a...)) }
	if c.DataDir == "" {
		bad("no data directory")
	}
	c.checkAddress(bad, "API", c.APIListen)
	c.checkAddress(bad, "southbound", c.SouthboundListen)
	scheme := "http"
	switch {
	case c.TLSCert != "" && c.TLSKey != "":
		scheme = "https"
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			bad("TLS certificate: %w", err)
		}
		c.pair = &pair
	case c.TLSCert != "" || c.TLSKey != "":
		bad("a TLS certificate and its key come together")
	}
	c.checkIdentity(bad, scheme)
	if c.APIURL == "" {
		c.APIURL = publicURL(scheme, c.APIListen)
	}
	c.checkURL(bad, "API", c.APIURL)
	c.checkURL(bad, "identity", c.IdentityURL)
	c.Etcd.check(bad)
	return errors.Join(errs...)
}

type complain = func(format string, a ...any)

func (c *Config) checkAddress(bad complain, name, address string) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		bad("%s address %q: %w", name, address, err)
	}
}

func (c *Config) checkURL(bad complain, name, u string) {
	if p, err := url.Parse(u); u != "" && (err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Host == "") {
		bad("public URL of %s: %q is no http or https URL", name, u)
	}
}

func (c *Config) checkIdentity(bad complain, scheme string) {
	switch c.Identity {
	case IdentityBuiltin:
		c.checkAddress(bad, "identity", c.IdentityListen)
		if c.IdentityURL == "" {
			c.IdentityURL = publicURL(scheme, c.IdentityListen)
		}
	case IdentityKeystone:
		if c.IdentityURL == "" {
			bad("identity %s needs the URL of Keystone", c.Identity)
		}
	case IdentityNone:
	default:
		bad("identity %q is none of %s, %s, %s", c.Identity, IdentityBuiltin, IdentityKeystone, IdentityNone)
	}
}

// check looks at what would otherwise be ignored: etcd's client drops TLS without a word when an endpoint says http.
func (e *EtcdConfig) check(bad complain) {
	if len(e.Endpoints) == 0 {
		if e.CA != "" || e.Cert != "" || e.Key != "" || e.Username != "" || e.PasswordFile != "" {
			bad("certificates and users of etcd are of no use without its endpoints")
		}
		return
	}
	var plain, secure bool
	for _, u := range e.Endpoints {
		scheme, host, ok := strings.Cut(u, "://")
		if !ok {
			scheme, host = "", u
		}
		plain, secure = plain || scheme == "http", secure || scheme == "https"
		if _, _, err := net.SplitHostPort(host); err != nil || scheme != "" && scheme != "http" && scheme != "https" {
			bad("etcd endpoint %q is not of the form https://host:port", u)
		}
	}
	switch {
	case plain && secure:
		bad("etcd endpoints are partly http and partly https")
	case plain && (e.CA != "" || e.Cert != ""):
		bad("etcd endpoints with http do not use TLS, but certificates are given")
	}
	if (e.Cert == "") != (e.Key == "") {
		bad("a client certificate for etcd and its key come together")
	}
	if (e.Username == "") != (e.PasswordFile == "") {
		bad("a user of etcd and a file with the password come together")
	}
}

// publicURL is what clients on this host use when nothing else was said.
func publicURL(scheme, listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// clientTLS is the TLS setting towards an external cluster, nil without TLS.
func (e *EtcdConfig) clientTLS() (*tls.Config, error) {
	secure := e.CA != "" || e.Cert != ""
	for _, u := range e.Endpoints {
		secure = secure || strings.HasPrefix(u, "https://")
	}
	if !secure {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CA != "" {
		text, err := os.ReadFile(e.CA)
		if err != nil {
			return nil, fmt.Errorf("read etcd's authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read etcd's authority: %s holds no certificate", e.CA)
		}
	}
	if e.Cert != "" || e.Key != "" {
		pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate for etcd: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func secret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read password file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// Limits of the HTTP servers.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	writeTimeout      = 5 * time.Minute // a list of everything to a slow client
	idleTimeout       = 2 * time.Minute
	answerTimeout     = 30 * time.Second // of a call whose store does not answer: 503 then
	stopGrace         = 10 * time.Second
)
