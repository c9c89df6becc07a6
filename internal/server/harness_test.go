package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come; only a failure takes that long.
const patience = time.Minute

// logs keeps what a server says.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// testConfig is a server of its own on free ports without authentication.
func testConfig(t testing.TB) (Config, *logs) {
	t.Helper()
	var l logs
	return Config{
		DataDir: t.TempDir(), APIListen: freeAddr(t), IdentityListen: freeAddr(t), SouthboundListen: freeAddr(t), Identity: IdentityNone,
		Region: "RegionOne", Version: "test", Log: slog.New(slog.NewTextHandler(&l, nil)),
	}, &l
}

// running is a server that runs in this process.
type running struct {
	t      testing.TB
	cfg    Config
	logs   *logs
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended
	token  string
	http   http.Client
}

func start(t testing.TB, cfg Config, l *logs) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cfg: cfg, logs: l, cancel: cancel, ended: make(chan struct{}), http: http.Client{Transport: &http.Transport{}}}
	go func() {
		defer close(r.ended)
		r.err = Run(ctx, cfg)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.ended
	})
	r.ready()
	return r
}

// ready waits until the server serves.
func (r *running) ready() {
	r.t.Helper()
	late := time.After(patience)
	for {
		if resp, err := r.http.Get("http://" + r.cfg.APIListen + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-r.ended:
			r.t.Fatalf("the server has ended: %v\n%s", r.err, r.logs)
		case <-late:
			r.t.Fatalf("the server does not become ready\n%s", r.logs)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the server as SIGTERM does and waits for it.
func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	<-r.ended
	if r.err != nil {
		r.t.Fatalf("Run: %v", r.err)
	}
	r.http.CloseIdleConnections()
}

type obj = map[string]any

// call makes a request and reads its answer into into, if the code is the wanted one.
func (r *running) call(want int, method, path string, body any, into any) string {
	r.t.Helper()
	code, text, err := r.try(method, path, body)
	if err != nil || code != want {
		r.t.Fatalf("%s %s: %d %s %v, want %d\n%s", method, path, code, text, err, want, r.logs)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			r.t.Fatal(err)
		}
	}
	return string(text)
}

func (r *running) try(method, path string, body any) (code int, text []byte, err error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+r.cfg.APIListen+path, in)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Auth-Token", r.token)
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// network makes a network with a subnet and no limit on its ports.
func (r *running) network() (id string) {
	r.t.Helper()
	var tenant struct {
		Tenant struct {
			ID string `json:"tenant_id"`
		}
	}
	r.call(200, "GET", "/v2.0/quotas/tenant", nil, &tenant)
	r.call(200, "PUT", "/v2.0/quotas/"+tenant.Tenant.ID, obj{"quota": obj{"port": -1}}, nil)
	var n struct{ Network struct{ ID string } }
	r.call(201, "POST", "/v2.0/networks", obj{"network": obj{"name": "net"}}, &n)
	r.call(201, "POST", "/v2.0/subnets", obj{"subnet": obj{"network_id": n.Network.ID, "cidr": "10.0.0.0/8", "ip_version": 4}}, nil)
	return n.Network.ID
}

// logIn gets a token from a built-in identity for the user that openrc names.
func logIn(t testing.TB, identity, dataDir string) string {
	t.Helper()
	return logInAs(t, identity, adminPassword(t, dataDir))
}

func adminPassword(t testing.TB, dataDir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dataDir, "openrc"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "export OS_PASSWORD="); ok {
			return strings.Trim(v, `'"`)
		}
	}
	t.Fatalf("openrc names no password:\n%s", text)
	return ""
}

func logInAs(t testing.TB, identity, password string) string {
	t.Helper()
	body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":{"id":"default"},"password":%q}}},`+
		`"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}}`, password)
	resp, err := http.Post("http://"+identity+"/v3/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("log in: %s", resp.Status)
	}
	return resp.Header.Get("X-Subject-Token")
}
