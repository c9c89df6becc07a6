package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"baryon/internal/neutron"
	"baryon/internal/pki"
	"baryon/internal/southbound"
)

// Everything that is wrong with a configuration is said at once, and nothing was touched.
func TestBadConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	err := Run(t.Context(), Config{
		DataDir: dir, APIListen: "9696", SouthboundListen: "nowhere", Identity: "ldap", APIURL: "ftp://x", IdentityURL: "keystone",
		TLSCert: "/nowhere/cert.pem", TLSKey: "/nowhere/key.pem",
		Etcd: EtcdConfig{Endpoints: []string{"http://e1:2379", "https://e2:2379", "e3"}, CA: "ca.pem", Cert: "c.pem", Username: "u"},
	})
	if err == nil {
		t.Fatal("it runs")
	}
	for _, want := range []string{
		`API address "9696"`, `southbound address "nowhere"`, `identity "ldap" is none of`, `public URL of API: "ftp://x"`, `public URL of identity: "keystone"`,
		"/nowhere/cert.pem", `etcd endpoint "e3"`, "partly http and partly https", "client certificate for etcd and its key", "a user of etcd and a file",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data directory: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no directory":     {func(c *Config) { c.DataDir = "" }, "no data directory"},
		"half of TLS":      {func(c *Config) { c.TLSKey = "k" }, "come together"},
		"keystone nowhere": {func(c *Config) { c.Identity = IdentityKeystone }, "needs the URL of Keystone"},
		"plain with CA":    {func(c *Config) { c.Etcd = EtcdConfig{Endpoints: []string{"http://e:1"}, CA: "x"} }, "do not use TLS"},
		"user of nothing":  {func(c *Config) { c.Etcd = EtcdConfig{Username: "u"} }, "without its endpoints"},
		"bad etcd scheme":  {func(c *Config) { c.Etcd = EtcdConfig{Endpoints: []string{"unix://e:1"}} }, "https://host:port"},
		"no CA file":       {func(c *Config) { c.Etcd = EtcdConfig{Endpoints: []string{"https://e:1"}, CA: "/nowhere/ca"} }, "/nowhere/ca"},
		"bad network":      {func(c *Config) { c.Network.VNIRanges = []neutron.TagRange{{First: 9, Last: 1}} }, "9"},
		"port taken":       {func(c *Config) { c.SouthboundListen = c.APIListen }, "address already in use"},
		"no keystone user": {func(c *Config) { c.Identity, c.IdentityURL = IdentityKeystone, "http://k:5000" }, "Keystone"},
	} {
		cfg, _ := testConfig(t)
		c.change(&cfg)
		if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", name, err, c.want)
		}
	}
}

// A server that has stopped holds no port, socket or lock, and what it stored is there when it starts again.
func TestStartStop(t *testing.T) {
	cfg, l := testConfig(t)
	id := ""
	for round := range 3 {
		r := start(t, cfg, l)
		if round == 0 {
			id = r.network()
		}
		r.call(200, "GET", "/v2.0/networks/"+id, nil, nil)
		r.stop()
		for _, addr := range []string{cfg.APIListen, cfg.SouthboundListen} {
			lis, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			lis.Close()
		}
		if _, err := os.Stat(filepath.Join(cfg.DataDir, adminSocket)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("round %d: the admin socket: %v", round, err)
		}
	}
	if text := l.String(); strings.Contains(text, "level=ERROR") || strings.Count(text, "level=WARN") != 3 { // identity none, each time
		t.Errorf("logged %s", text)
	}
}

func TestOperatorPages(t *testing.T) {
	cfg, l := testConfig(t)
	r := start(t, cfg, l)
	r.network()
	if got := r.call(200, "GET", "/healthz", nil, nil); got != "ok\n" {
		t.Errorf("/healthz: %q", got)
	}
	var ready map[string]string
	r.call(200, "GET", "/readyz", nil, &ready)
	if ready["store"] != "ok" || ready["southbound"] != "ok" || len(ready) != 2 {
		t.Errorf("/readyz: %v", ready)
	}
	metrics := r.call(200, "GET", "/metrics", nil, nil)
	for _, want := range []string{
		`baryon_build_info{version="test"} 1`, `baryon_store_rows{table="network"} 1`, "baryon_southbound_nodes 0", "baryon_store_commits_total ",
		`baryon_api_request_duration_seconds_count{code="201",method="POST",route="/v2.0/networks"} 1`, "baryon_store_commit_duration_seconds_bucket",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q in /metrics", want)
		}
	}
	for _, c := range []struct{ method, path string }{{"POST", "/healthz"}, {"GET", "/metrics/"}, {"GET", "/readyz/x"}} {
		if code, _, err := r.try(c.method, c.path, nil); err != nil || code != http.StatusNotFound {
			t.Errorf("%s %s: %d %v", c.method, c.path, code, err)
		}
	}
}

// A request that has begun is answered although the server was told to stop; new connections are not taken.
func TestStopAnswersWhatHasBegun(t *testing.T) {
	cfg, l := testConfig(t)
	r := start(t, cfg, l)
	c, err := net.Dial("tcp", cfg.APIListen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := `{"network":{"name":"late"}}`
	fmt.Fprintf(c, "POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100") { // the handler is reading
		t.Fatalf("%q %v", line, err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r.cancel()
	for { // the listener closes first
		probe, err := net.Dial("tcp", cfg.APIListen)
		if err != nil {
			break
		}
		probe.Close()
	}
	if _, err := io.WriteString(c, body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%+v %v", resp, err)
	}
	resp.Body.Close()
	r.stop()
	again := start(t, cfg, l)
	if got := again.call(200, "GET", "/v2.0/networks?fields=name", nil, nil); !strings.Contains(got, "late") {
		t.Errorf("networks: %s", got)
	}
}

func TestDataDirInUse(t *testing.T) {
	cfg, l := testConfig(t)
	r := start(t, cfg, l)
	other, _ := testConfig(t)
	other.DataDir = cfg.DataDir
	err := Run(t.Context(), other)
	if err == nil || !strings.Contains(err.Error(), "another server runs with "+cfg.DataDir) {
		t.Errorf("second server: %v", err)
	}
	r.ready() // undisturbed
	if _, err := NodeToken(t.Context(), cfg.DataDir, TokenOrder{Host: "cmp1"}); err != nil {
		t.Errorf("the first one's socket: %v", err)
	}
}

// The admin socket is root's alone; its tokens join nodes, and it takes certificates back.
func TestAdminSocket(t *testing.T) {
	cfg, l := testConfig(t)
	start(t, cfg, l)
	info, err := os.Stat(filepath.Join(cfg.DataDir, adminSocket))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("admin socket: %v %v", info.Mode(), err)
	}
	ctx := t.Context()
	if _, err := NodeToken(ctx, cfg.DataDir, TokenOrder{Host: "not a host"}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("token for a bad name: %v", err)
	}
	token, err := NodeToken(ctx, cfg.DataDir, TokenOrder{Host: "cmp1"})
	if err != nil {
		t.Fatal(err)
	}
	token = strings.TrimSpace(token)
	south := []string{cfg.SouthboundListen}
	if _, err := southbound.Enrol(ctx, south, t.TempDir(), "cmp2", token); err == nil {
		t.Error("another host joins with the token")
	}
	if _, err := southbound.Enrol(ctx, south, t.TempDir(), "cmp1", token); err != nil {
		t.Errorf("join: %v", err)
	}
	again, err := NodeToken(ctx, cfg.DataDir, TokenOrder{Host: "cmp1"})
	if err == nil {
		_, err = southbound.Enrol(ctx, south, t.TempDir(), "cmp1", strings.TrimSpace(again))
	}
	if err == nil {
		t.Error("a name that has joined is given away")
	}
	if err := RevokeNode(ctx, cfg.DataDir, "cmp1"); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if err := RevokeNode(ctx, cfg.DataDir, "../x"); err == nil || !errors.Is(err, pki.ErrBadHost) {
		t.Errorf("revoke of no host: %v", err)
	}
	if got, err := askAdmin(ctx, cfg.DataDir, "GET", "/debug/pprof/cmdline", ""); err == nil {
		t.Errorf("a page that is not offered: %q", got)
	}
	if _, err := askAdmin(ctx, cfg.DataDir, "GET", "/debug/pprof/goroutine", ""); err != nil {
		t.Errorf("profile: %v", err)
	}
	if _, err := askAdmin(ctx, cfg.DataDir, "POST", "/node-token", strings.Repeat(" ", 2*maxOrder)); err == nil {
		t.Error("an endless order is taken")
	}
	if _, err := NodeToken(ctx, t.TempDir(), TokenOrder{}); err == nil || !strings.Contains(err.Error(), "ask the server with data directory") {
		t.Errorf("no server: %v", err)
	}
}

// Who checks tokens: nobody, the built-in identity, or a Keystone, here the built-in identity of another server.
func TestIdentitySources(t *testing.T) {
	none, l := testConfig(t)
	r := start(t, none, l)
	r.call(200, "GET", "/v2.0/networks", nil, nil)
	if _, err := net.Dial("tcp", none.IdentityListen); err == nil {
		t.Error("identity none listens")
	}
	if !strings.Contains(l.String(), "every request is an administrator's") {
		t.Error("identity none does not warn")
	}

	builtin, l := testConfig(t)
	builtin.Identity = IdentityBuiltin
	b := start(t, builtin, l)
	b.call(401, "GET", "/v2.0/networks", nil, nil)
	b.token = logIn(t, builtin.IdentityListen, builtin.DataDir)
	b.call(200, "GET", "/v2.0/networks", nil, nil)
	if text := l.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
		t.Errorf("the first start is not quiet:\n%s", text)
	}

	keystone, l := testConfig(t)
	keystone.Identity, keystone.IdentityURL = IdentityKeystone, "http://"+builtin.IdentityListen
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(adminPassword(t, builtin.DataDir)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keystone.Keystone = KeystoneConfig{Username: "admin", PasswordFile: password, Project: "admin", UserDomain: "Default", ProjectDomain: "Default"}
	k := start(t, keystone, l)
	k.call(401, "GET", "/v2.0/networks", nil, nil)
	k.token = "forged"
	k.call(401, "GET", "/v2.0/networks", nil, nil)
	k.token = b.token
	k.call(201, "POST", "/v2.0/networks", obj{"network": obj{"name": "x"}}, nil)
	b.stop()
	k.call(200, "GET", "/v2.0/networks", nil, nil) // the answer is remembered
	k.token = "unknown"
	k.call(503, "GET", "/v2.0/networks", nil, nil)
}

// What publicURL guesses must be something that a client can use.
func TestPublicURL(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	for listen, want := range map[string]string{
		":9696": "http://" + host + ":9696", "0.0.0.0:9696": "http://" + host + ":9696", "[::]:9696": "http://" + host + ":9696",
		"192.0.2.1:9696": "http://192.0.2.1:9696", "[2001:db8::1]:9696": "http://[2001:db8::1]:9696", "nonsense": "",
	} {
		if got := publicURL("http", listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

// A call that the store keeps waiting ends.
func TestBounded(t *testing.T) {
	var had bool
	h := bounded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, had = r.Context().Deadline() }))
	req, err := http.NewRequestWithContext(context.Background(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(nil, req)
	if !had {
		t.Error("no deadline")
	}
	if slices.Max([]int64{int64(answerTimeout), int64(writeTimeout)}) != int64(writeTimeout) {
		t.Error("an answer must be possible within the time to write it")
	}
}
