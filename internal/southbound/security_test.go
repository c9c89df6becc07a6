package southbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/pki"
	"baryon/internal/store"
	pb "baryon/proto/baryon/v1"
)

// rawStream opens a stream by hand, to say what no client says.
func (c *cloud) rawStream(t *testing.T, creds *tls.Config) pb.Southbound_ConnectClient {
	t.Helper()
	conn, err := dial(c.addr, credentials.NewTLS(creds), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(func() {
		cancel()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	stream, err := pb.NewSouthboundClient(conn).Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// enrolled is the identity of a host without a client.
func (c *cloud) enrolled(t *testing.T, host string) *pki.Identity {
	t.Helper()
	id, err := Enrol(t.Context(), []string{c.addr}, t.TempDir(), host, c.token(pki.TokenRequest{Host: host}))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// refusal is how a server ends a stream after the given messages.
func refusal(t *testing.T, stream pb.Southbound_ConnectClient, msgs ...*pb.FromNode) error {
	t.Helper()
	for _, m := range msgs {
		_ = stream.Send(m) // fails when the server has already ended the stream: Recv says why
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

func hello(host string) *pb.FromNode {
	return &pb.FromNode{Message: &pb.FromNode_Hello{Hello: &pb.Hello{Info: &pb.NodeInfo{Host: host}}}}
}

func TestStreamRefusesMalformedMessages(t *testing.T) {
	c := newCloud(t)
	id := c.enrolled(t, "a")
	many := make([]string, maxInfoList+1)
	reports := func(seq uint64, st *pb.Status) *pb.FromNode {
		return &pb.FromNode{Message: &pb.FromNode_Reports{Reports: &pb.Reports{Seq: seq, Statuses: []*pb.Status{st}}}}
	}
	good := &pb.Status{Kind: "port", Id: "x", State: "done"}
	cases := []struct {
		name string
		msgs []*pb.FromNode
		code codes.Code
	}{
		{"another's name", []*pb.FromNode{hello("b")}, codes.PermissionDenied},
		{"no hello", []*pb.FromNode{{Message: &pb.FromNode_Ack{Ack: &pb.Ack{}}}}, codes.InvalidArgument},
		{"empty message", []*pb.FromNode{{}}, codes.InvalidArgument},
		{"two hellos", []*pb.FromNode{hello("a"), hello("a")}, codes.InvalidArgument},
		{"odd digests", []*pb.FromNode{{Message: &pb.FromNode_Hello{Hello: &pb.Hello{Digests: []uint64{1}}}}}, codes.InvalidArgument},
		{"bad tunnel address", []*pb.FromNode{{Message: &pb.FromNode_Hello{Hello: &pb.Hello{
			Info: &pb.NodeInfo{Host: "a", TunnelIp: []byte{1, 2, 3}}}}}}, codes.InvalidArgument},
		{"too many roles", []*pb.FromNode{{Message: &pb.FromNode_Hello{Hello: &pb.Hello{
			Info: &pb.NodeInfo{Host: "a", Roles: many}}}}}, codes.InvalidArgument},
		{"long text", []*pb.FromNode{{Message: &pb.FromNode_Hello{Hello: &pb.Hello{
			Info: &pb.NodeInfo{Host: "a", Version: strings.Repeat("v", maxInfoText+1)}}}}}, codes.InvalidArgument},
		{"unasked summary", []*pb.FromNode{hello("a"), {Message: &pb.FromNode_Summary{Summary: &pb.Summary{}}}}, codes.InvalidArgument},
		{"ack of the future", []*pb.FromNode{hello("a"), {Message: &pb.FromNode_Ack{Ack: &pb.Ack{Seq: 99}}}}, codes.InvalidArgument},
		{"report without number", []*pb.FromNode{hello("a"), reports(0, good)}, codes.InvalidArgument},
		{"report twice", []*pb.FromNode{hello("a"), reports(1, good), reports(1, good)}, codes.InvalidArgument},
		{"unknown state", []*pb.FromNode{hello("a"), reports(1, &pb.Status{State: "great"})}, codes.InvalidArgument},
		{"negative revision", []*pb.FromNode{hello("a"), reports(1, &pb.Status{State: "done", Revision: -1})}, codes.InvalidArgument},
		{"renamed while connected", []*pb.FromNode{hello("a"), {Message: &pb.FromNode_Info{Info: &pb.NodeInfo{Host: "b"}}}}, codes.PermissionDenied},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			err := refusal(t, c.rawStream(t, id.ClientConfig()), tc.msgs...)
			if status.Code(err) != tc.code {
				t.Errorf("stream ended with %v, want %s", err, tc.code)
			}
		})
	}
	if n := len(c.nodes.nodes); n > 1 {
		t.Errorf("%d nodes registered, only a may be", n)
	}
}

func TestForgedReportsAreRefused(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	c.update(func(tx store.Tx) {
		store.Put(tx, model.DHCPBindingTable, &model.DHCPBinding{NetworkID: "net", Host: "b"})
	})
	stream := c.rawStream(t, c.enrolled(t, "a").ClientConfig())
	msgs := []*pb.FromNode{hello("a"), {Message: &pb.FromNode_Reports{Reports: &pb.Reports{Seq: 1,
		Statuses: []*pb.Status{
			{Kind: "port", Id: "port-b", State: "done", Revision: 1},
			{Kind: "dhcp", Id: "net", State: "done", Revision: 1},
			{Kind: "peers", Id: "net@a", State: "done", Revision: 1},
			{Kind: "port", Id: "no-such", State: "done", Revision: 1},
			{Kind: "port", Id: "port-a", State: "done", Revision: 1},
		},
		Instances: []*pb.InstanceReport{
			{PortId: "port-b", Instance: &pb.Instance{Name: "forged"}},
			{PortId: "port-a", Instance: &pb.Instance{UserData: make([]byte, maxInstance+1)}},
			{}, // empty
		},
	}}}}
	for _, m := range msgs {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for acked := false; !acked; {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		acked = m.GetReportAck().GetSeq() == 1
	}
	c.nodes.mu.Lock()
	defer c.nodes.mu.Unlock()
	if got := c.nodes.statuses["a"]; len(got) != 1 || got[nodestate.PortKey("port-a")].State != nodestate.Done {
		t.Errorf("statuses taken from a: %v, want its own port's alone", got)
	}
	if len(c.nodes.instances) != 0 {
		t.Errorf("instances taken from a: %v", c.nodes.instances)
	}
	if got := c.srv.Stats().Refused; got != 6 {
		t.Errorf("counted %d refusals, want 6", got)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	c := newCloud(t)
	other := newCloud(t)
	foreign := other.enrolled(t, "a")
	trusting := foreign.ClientConfig()
	trusting.InsecureSkipVerify = true // the question is whom the server takes
	trusting.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign.Certificate, nil }

	t.Run("certificate of another authority", func(t *testing.T) {
		conn, err := dial(c.addr, credentials.NewTLS(trusting), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := pb.NewSouthboundClient(conn).Renew(t.Context(), &pb.RenewRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("the server talks to a node of another authority: %v", err)
		}
	})
	t.Run("server of another authority", func(t *testing.T) {
		conn, err := dial(c.addr, credentials.NewTLS(foreign.ClientConfig()), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := pb.NewSouthboundClient(conn).Renew(t.Context(), &pb.RenewRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("the client talks to a server of another authority: %v", err)
		}
	})
	t.Run("no certificate", func(t *testing.T) {
		tok, err := pki.ParseToken(c.token(pki.TokenRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := refusal(t, c.rawStream(t, tok.ClientConfig()), hello("a")); status.Code(err) != codes.Unauthenticated {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("signed, but unknown to the store", func(t *testing.T) {
		id := c.enrolled(t, "forgotten")
		c.update(func(tx store.Tx) {
			for row := range store.Find(tx, pki.CertificateTable, "host", "forgotten") {
				store.Delete(tx, pki.CertificateTable, row.Serial)
			}
		})
		if err := refusal(t, c.rawStream(t, id.ClientConfig()), hello("forgotten")); status.Code(err) != codes.Unauthenticated {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("revoked while connected", func(t *testing.T) {
		stream := c.rawStream(t, c.enrolled(t, "r").ClientConfig())
		if err := stream.Send(hello("r")); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := c.ca.RevokeHost(t.Context(), "r", "node deleted"); err != nil {
			t.Fatal(err)
		}
		if err := refusal(t, stream); status.Code(err) != codes.Unauthenticated {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestEnrolRefusals(t *testing.T) {
	c := newCloud(t)
	c.enrolled(t, "taken")
	used := c.token(pki.TokenRequest{})
	if _, err := Enrol(t.Context(), []string{c.addr}, t.TempDir(), "first", used); err != nil {
		t.Fatal(err)
	}
	expired := c.token(pki.TokenRequest{Life: time.Nanosecond})
	fine := c.token(pki.TokenRequest{})
	other := newCloud(t).token(pki.TokenRequest{})
	parts := strings.Split(fine, ".")
	forged := strings.Join([]string{parts[0], parts[1], strings.Split(used, ".")[2], parts[3]}, ".")
	cases := []struct {
		name, host, token string
		code              codes.Code
		text              string
	}{
		{"expired", "h", expired, codes.PermissionDenied, "expired"},
		{"used", "h", used, codes.PermissionDenied, "has been used"},
		{"another host's", "h", c.token(pki.TokenRequest{Host: "g"}), codes.PermissionDenied, "is for host g"},
		{"forged secret", "h", forged, codes.PermissionDenied, "unknown"},
		{"other cloud's", "h", other, codes.Unavailable, "not of the authority"},
		{"taken name", "taken", c.token(pki.TokenRequest{}), codes.AlreadyExists, "--replace"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Enrol(t.Context(), []string{c.addr}, t.TempDir(), tc.host, tc.token)
			if status.Code(errors.Unwrap(err)) != tc.code || !strings.Contains(fmt.Sprint(err), tc.text) {
				t.Errorf("answer %v, want %s with %q", err, tc.code, tc.text)
			}
		})
	}
	for _, garbage := range []string{"", "baryon1", "baryon1...", fine[:len(fine)-3], strings.Repeat("x", 1<<20), "baryon1.\x00.\x00.\x00"} {
		if _, err := Enrol(t.Context(), []string{c.addr}, t.TempDir(), "h", garbage); !errors.Is(err, pki.ErrBadToken) {
			t.Errorf("garbled token of %d bytes: %v", len(garbage), err)
		}
	}
	for _, host := range []string{"", "../x", "-a", "a b", "a/b", strings.Repeat("h", 254), "ü"} {
		if _, err := Enrol(t.Context(), []string{c.addr}, t.TempDir(), host, fine); !errors.Is(err, pki.ErrBadHost) {
			t.Errorf("host %.20q: %v", host, err)
		}
	}
	// After all that, the good token is still good.
	if _, err := Enrol(t.Context(), []string{c.addr}, t.TempDir(), "h", fine); err != nil {
		t.Error(err)
	}
}

func TestReplacedHostPushesTheOldOneOut(t *testing.T) {
	c := newCloud(t)
	old := c.rawStream(t, c.enrolled(t, "a").ClientConfig())
	if err := old.Send(hello("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Recv(); err != nil {
		t.Fatal(err)
	}
	token := c.token(pki.TokenRequest{Host: "a", Replace: true})
	dir := t.TempDir()
	if _, err := Enrol(t.Context(), []string{c.addr}, dir, "a", token); err != nil {
		t.Fatal(err)
	}
	if err := refusal(t, old); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the replaced host's stream ended with %v", err)
	}
}

func TestSecondStreamOfANodeEndsTheFirst(t *testing.T) {
	c := newCloud(t)
	id := c.enrolled(t, "a")
	first := c.rawStream(t, id.ClientConfig())
	if err := first.Send(hello("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	second := c.rawStream(t, id.ClientConfig())
	if err := second.Send(hello("a")); err != nil {
		t.Fatal(err)
	}
	if err := refusal(t, first); status.Code(err) != codes.Aborted {
		t.Errorf("first stream ended with %v", err)
	}
	if _, err := second.Recv(); err != nil {
		t.Errorf("second stream: %v", err)
	}
}

func TestSlowNodeHoldsNobodyUp(t *testing.T) {
	c := newCloud(t)
	c.seed("slow", "fast")
	slow := c.rawStream(t, c.enrolled(t, "slow").ClientConfig())
	if err := slow.Send(hello("slow")); err != nil {
		t.Fatal(err)
	}
	fast := c.join("fast")
	fast.confirmed()
	// Each change concerns both; slow reads nothing and acknowledges nothing.
	for i := range 60 {
		c.update(func(tx store.Tx) {
			n := netRow("net", 1)
			n.Name = strings.Repeat("x", 1000) + fmt.Sprint(i)
			store.Put(tx, model.NetworkTable, n)
			p := portRow("port-slow", "net", "slow", 1)
			p.Name = n.Name
			store.Put(tx, model.PortTable, p)
		})
		fast.inSync(c, "fast")
	}
	c.nodes.wait(t, "changes to wait for the slow node", func() bool {
		for _, n := range c.srv.Nodes() {
			if n.Host == "slow" {
				return n.Sent == maxUnacked && n.Pending == 2 && n.Acked == 0
			}
		}
		return false
	})
	// When it wakes up it gets the latest, once.
	var got *pb.Update
	for n := uint64(0); n <= maxUnacked; {
		m, err := slow.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if u := m.GetUpdate(); u != nil {
			got, n = u, u.GetSeq()
			if err := slow.Send(&pb.FromNode{Message: &pb.FromNode_Ack{Ack: &pb.Ack{Seq: n}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(got.GetUpserts()) != 2 {
		t.Fatalf("the late update holds %d records, want 2", len(got.GetUpserts()))
	}
	for _, b := range got.GetUpserts() {
		r, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(nodestate.Text(r), "x59") {
			t.Errorf("not the latest: %s", nodestate.Text(r))
		}
	}
}
