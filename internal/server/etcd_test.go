package server

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"baryon/internal/store/storetest"
)

// external makes a test's server one on an external cluster.
func external(t *testing.T, s *storetest.Secure) (Config, *logs) {
	t.Helper()
	cfg, l := testConfig(t)
	password := filepath.Join(t.TempDir(), "etcd-password")
	if err := os.WriteFile(password, []byte(s.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Etcd = EtcdConfig{Endpoints: []string{s.Endpoint}, CA: s.CA, Cert: s.Cert, Key: s.Key, Username: s.Username, PasswordFile: password}
	return cfg, l
}

func ports(network string, n int) obj {
	list := make([]obj, n)
	for i := range list {
		list[i] = obj{"network_id": network}
	}
	return obj{"ports": list}
}

// Two servers on one cluster with TLS, client certificates and a user; with the members' limits raised as docs/install.md says, a bulk
// create of any size that the API takes goes through.
func TestExternalEtcd(t *testing.T) {
	s := storetest.SecureEtcd(t, 65536)
	cfg, l := external(t, s)
	one := start(t, cfg, l)
	cfg2, l2 := external(t, s)
	two := start(t, cfg2, l2)
	net1 := one.network()
	s.ForgetLogins(t)
	two.call(201, "POST", "/v2.0/ports", ports(net1, 1000), nil)
	if got := one.call(200, "GET", "/v2.0/ports?fields=id", nil, nil); strings.Count(got, `"id"`) != 1000 {
		t.Errorf("the other server shows %d ports", strings.Count(got, `"id"`))
	}
	two.stop()
	one.call(201, "POST", "/v2.0/ports", obj{"port": obj{"network_id": net1}}, nil)
	one.stop()
	for _, text := range []string{l.String(), l2.String()} {
		if strings.Contains(text, "level=ERROR") || strings.Count(text, "level=WARN") > 1 { // identity none
			t.Errorf("logged %s", text)
		}
	}
}

// With etcd's default limits large calls are refused in words, to the client and to the operator, and nothing of them is kept.
func TestEtcdLimits(t *testing.T) {
	cfg, l := external(t, storetest.SecureEtcd(t, 0))
	r := start(t, cfg, l)
	net1 := r.network()
	r.call(201, "POST", "/v2.0/ports", ports(net1, 30), nil) // three conditions each, of 128, beside those of the whole call
	if got := r.call(503, "POST", "/v2.0/ports", ports(net1, 200), nil); !strings.Contains(got, "larger than the database of this cloud is set up for") {
		t.Errorf("answer: %s", got)
	}
	if text := l.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "start its members with --max-txn-ops=65536") {
		t.Errorf("logged %s", text)
	}
	if got := r.call(200, "GET", "/v2.0/ports?fields=id", nil, nil); strings.Count(got, `"id"`) != 30 {
		t.Errorf("%d ports, want 30", strings.Count(got, `"id"`))
	}
}

// Whatever keeps a server from its cluster is its last word, in one line, soon after the start.
func TestEtcdOutOfReach(t *testing.T) {
	s := storetest.SecureEtcd(t, 0)
	wrong := filepath.Join(t.TempDir(), "wrong-password")
	if err := os.WriteFile(wrong, []byte("guess"), 0o600); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, c := range map[string]struct {
		change func(e *EtcdConfig)
		want   string
	}{
		"wrong CA":       {func(e *EtcdConfig) { e.CA = s.OtherCA }, "certificate signed by unknown authority"},
		"wrong cert":     {func(e *EtcdConfig) { e.Cert, e.Key = s.OtherCert, s.OtherKey }, "certificate authority"},
		"no cert":        {func(e *EtcdConfig) { e.Cert, e.Key = "", "" }, "certificate required"},
		"wrong password": {func(e *EtcdConfig) { e.PasswordFile = wrong }, "invalid user ID or password"},
		"CA is a key":    {func(e *EtcdConfig) { e.CA = s.Key }, "holds no certificate"},
		"nobody":         {func(e *EtcdConfig) { e.Endpoints = []string{"https://" + freeAddr(t)} }, "connection refused"},
		"silence":        {func(e *EtcdConfig) { *e = EtcdConfig{Endpoints: []string{silent.Addr().String()}} }, "no answer within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := external(t, s)
			c.change(&cfg.Etcd)
			err := Run(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "etcd") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, c.want)
			}
		})
	}
}
