package store_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"baryon/internal/store"
	"baryon/internal/store/storetest"
)

// A cluster as production has it: TLS, client certificates, a user who may touch nothing but our keys, logins that end.
func TestSecureEtcd(t *testing.T) {
	s := storetest.SecureEtcd(t, 0)
	p, c := parents(), children()
	st, err := store.Open(t.Context(), store.Options{Endpoints: []string{s.Endpoint}, TLS: s.TLS(t), Username: s.Username, Password: s.Password,
		Tables: []store.AnyTable{p, c}})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, batches := st.Watch(t.Context())
	for i := range 3 {
		k := kit{st, p, c}
		id := fmt.Sprint("n", i)
		rev := k.must(t, func(tx store.Tx) error {
			store.Put(tx, p, &parent{ID: id, Name: "x"})
			for range store.Find(tx, p, "name", "x") { // a guard, whose key is ours as well
				continue
			}
			return nil
		})
		for b := range batches {
			if b.Revision >= rev {
				break
			}
		}
		s.ForgetLogins(t)
		if i == 1 { // a read is the first to find out
			if err := st.View(t.Context(), func(r store.Read) error {
				if store.Count(r, p, "", "") != 2 {
					return errors.New("rows are missing")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	}
	if err := st.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whatever is wrong with the way to the cluster is said in one line that names it, and soon.
func TestUnreachableEtcd(t *testing.T) {
	s := storetest.SecureEtcd(t, 0)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	free.Close()
	text, err := os.ReadFile(s.OtherCA)
	if err != nil {
		t.Fatal(err)
	}
	wrongCA := s.TLS(t)
	wrongCA.RootCAs = x509.NewCertPool()
	wrongCA.RootCAs.AppendCertsFromPEM(text)
	wrongCert := s.TLS(t)
	pair, err := tls.LoadX509KeyPair(s.OtherCert, s.OtherKey)
	if err != nil {
		t.Fatal(err)
	}
	wrongCert.Certificates = []tls.Certificate{pair}
	noCert := s.TLS(t)
	noCert.Certificates = nil
	for name, tc := range map[string]struct {
		o    store.Options
		want string
	}{
		"two, none there": {store.Options{Endpoints: []string{nobody, "https://" + nobody}, Username: "u", Password: "p"}, "connection refused"},
		"no name":         {store.Options{Endpoints: []string{"http://etcd.invalid:2379"}}, "etcd.invalid"},
		"wrong CA":        {store.Options{Endpoints: []string{s.Endpoint}, TLS: wrongCA, Username: s.Username, Password: s.Password}, "certificate signed by unknown authority"},
		"no CA":           {store.Options{Endpoints: []string{s.Endpoint}}, "certificate signed by unknown authority"},
		"wrong cert":      {store.Options{Endpoints: []string{s.Endpoint}, TLS: wrongCert}, "unknown certificate authority"},
		"no cert":         {store.Options{Endpoints: []string{s.Endpoint}, TLS: noCert}, "certificate required"},
		"wrong password":  {store.Options{Endpoints: []string{s.Endpoint}, TLS: s.TLS(t), Username: s.Username, Password: "guess"}, "invalid user ID or password"},
		"no login":        {store.Options{Endpoints: []string{s.Endpoint}, TLS: s.TLS(t)}, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, err := store.Open(t.Context(), tc.o)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opens"), st.Close()))
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "etcd") {
				t.Errorf("%v, want one line with %q", err, tc.want)
			}
		})
	}
}
