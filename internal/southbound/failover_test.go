package southbound

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"baryon/internal/model"
	"baryon/internal/pki"
	"baryon/internal/store"
	pb "baryon/proto/baryon/v1"
)

// TestNodeMovesToTheOtherServer: with two servers on one store, a node whose server stops goes on with the other, at the cost of what
// changed, and nobody calls it gone.
func TestNodeMovesToTheOtherServer(t *testing.T) {
	one := newCloud(t)
	one.seed("a", "b")
	one.heard()
	two := &cloud{t: t, st: one.st, ca: one.ca, nodes: one.nodes, addr: "127.0.0.1:0", beat: one.beat, log: one.log}
	two.start()
	t.Cleanup(two.halt)
	servers := []*cloud{one, two}

	a := one.join("a")
	a.halt()
	a.addresses = []string{one.addr, two.addr}
	a.updates = nil
	a.run(one)
	a.confirmed()
	for i := range 4 {
		at := 0
		if two.srv.Stats().Nodes == 1 {
			at = 1
		}
		servers[at].halt()
		p := portRow("port-b", "net", "b", 2)
		p.MAC[5] = byte(100 + i)
		one.update(func(tx store.Tx) { store.Put(tx, model.PortTable, p) })
		a.inSync(one, "a")
		servers[at].start()
	}
	one.nodes.mu.Lock()
	defer one.nodes.mu.Unlock()
	// Once: when the test itself stopped the client to give it the second address.
	if got := one.nodes.gone["a"]; got > 1 {
		t.Errorf("node called gone %d times", got)
	}
}

// TestClientRenewsItsCertificate: a certificate two thirds through is renewed over the connection and used for the next.
func TestClientRenewsItsCertificate(t *testing.T) {
	st := newCloud(t)
	a := st.join("a")
	a.confirmed()
	before, err := pki.LoadIdentity(IdentityDir(a.dir))
	if err != nil {
		t.Fatal(err)
	}
	// An authority whose clock is eight months behind makes certificates that are due now.
	st.halt()
	old, err := pki.Open(t.Context(), pki.Config{Store: st.st, Now: func() time.Time { return time.Now().Add(-250 * 24 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	due := st.issue(t, old, "a", before)
	a.halt()
	if err := due.Save(IdentityDir(a.dir)); err != nil {
		t.Fatal(err)
	}
	if !due.RenewalDue(time.Now()) {
		t.Fatal("the test's certificate is not due")
	}
	st.start()
	a.updates = nil
	a.run(st)
	a.confirmed()
	// The client renews right after it connects; the server's heartbeats wake the wait.
	st.nodes.wait(t, "a renewed certificate", func() bool {
		now, err := pki.LoadIdentity(IdentityDir(a.dir))
		return err == nil && !now.RenewalDue(time.Now())
	})
	a.halt()
	a.updates = nil
	a.run(st)
	a.confirmed()
}

// issue makes a certificate for an enrolled host by another authority object on the same store.
func (c *cloud) issue(t *testing.T, ca *pki.Authority, host string, old *pki.Identity) *pki.Identity {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.Request(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Renew(t.Context(), host, old.Certificate.Leaf.SerialNumber.Text(16), csr)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.NewIdentity(key, cert.Raw, ca.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestRenewGivesOnlyTheOwnName: the name in a request does not matter, the certificate's does.
func TestRenewGivesOnlyTheOwnName(t *testing.T) {
	c := newCloud(t)
	conn, err := dial(c.addr, credentials.NewTLS(c.enrolled(t, "a").ClientConfig()), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id, err := renewed(ctx, conn)
	if err != nil || id.Host != "a" {
		t.Fatalf("renewed as %+v: %v", id, err)
	}
	if _, err := pb.NewSouthboundClient(conn).Renew(ctx, &pb.RenewRequest{Csr: []byte("garbage")}); err == nil {
		t.Error("garbage was signed")
	}
}
