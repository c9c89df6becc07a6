package southbound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"baryon/internal/pki"
	pb "baryon/proto/baryon/v1"
)

// Pace of reconnecting.  The first try after a loss comes within 100 ms, so that a restarted server is found at once; then the wait
// doubles.  A stream that did not last does not start the count anew, so two hosts with one identity do not push each other out at
// full speed.
const (
	backoffFirst   = 60 * time.Millisecond
	backoffMost    = time.Second
	lasting        = 5 * time.Second
	dialTimeout    = 3 * time.Second  // of TCP: a host that is down
	connectTimeout = 15 * time.Second // with handshakes: a server that a thousand nodes find again at once takes its time
	planTimeout    = 15 * time.Second
	renewEvery     = time.Hour
	maxToNode      = 64 << 20 // bytes of a message from a server
)

// connectLoop keeps one stream up, trying the servers in turn.
func (c *Client) connectLoop(ctx context.Context) {
	var lost error // what was logged last; nil: connected
	tries := 0
	for at := rand.N(len(c.cfg.Addresses)); ctx.Err() == nil; at++ {
		address := c.cfg.Addresses[at%len(c.cfg.Addresses)]
		began := time.Now()
		err := c.session(ctx, address, func() {
			if lost != nil {
				c.log.Info("server is back", "server", address)
			} else {
				c.log.Info("connected to server", "server", address)
			}
			lost = nil
		})
		c.mu.Lock()
		c.synced = false
		c.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if lost == nil || status.Code(lost) != status.Code(err) {
			c.log.Warn("no server; going on with what is known", "server", address, "err", err)
			lost = err
		}
		if time.Since(began) > lasting {
			tries = 0
		}
		wait := min(backoffFirst<<min(tries/len(c.cfg.Addresses), 10), backoffMost)
		tries++
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
	}
}

// dial makes a connection that is used for one stream.
func (c *Client) dial(address string) (*grpc.ClientConn, error) {
	// Read again each time: the host may have been enrolled anew beside us.
	if id, err := pki.LoadIdentity(c.dir); err == nil {
		c.mu.Lock()
		if id.Host == c.id.Host {
			c.id = id
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	creds := credentials.NewTLS(c.id.ClientConfig())
	c.mu.Unlock()
	return dial(address, creds, c.cfg.Dial)
}

func dial(address string, creds credentials.TransportCredentials, dialer func(context.Context, string) (net.Conn, error)) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxToNode)),
		grpc.WithReadBufferSize(bufferSize), grpc.WithWriteBufferSize(bufferSize),
	}
	if dialer == nil {
		tcp := net.Dialer{Timeout: dialTimeout}
		dialer = func(ctx context.Context, address string) (net.Conn, error) {
			return tcp.DialContext(ctx, "tcp", address)
		}
	}
	opts = append(opts, grpc.WithContextDialer(dialer))
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}

// session is one stream of the client.
type session struct {
	c      *Client
	stream pb.Southbound_ConnectClient

	mu      sync.Mutex
	replies []*pb.FromNode // to a plan
	held    uint64         // update that is held
	told    uint64         // and acknowledged
	planned bool
}

// session lives as long as its stream.  up is called when the server has answered.
func (c *Client) session(ctx context.Context, address string, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.dial(address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // says only that it is closed already
	stream, err := pb.NewSouthboundClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	s := &session{c: c, stream: stream}
	if err := s.hello(); err != nil {
		return s.cause(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- s.receive()
		cancel()
	}()
	plan := time.NewTimer(planTimeout)
	defer plan.Stop()
	renew := time.NewTimer(0)
	defer renew.Stop()
	for {
		if err := s.send(); err != nil {
			cancel()
			return <-ended
		}
		select {
		case <-c.outgo:
			if up != nil && s.answered() {
				up()
				up = nil
				plan.Stop()
			}
		case <-plan.C:
			return status.Errorf(codes.DeadlineExceeded, "%s accepts but does not answer", address)
		case <-renew.C:
			c.renew(ctx, conn)
			renew.Reset(renewEvery)
		case err := <-ended:
			return err
		}
	}
}

// cause is why a send failed: the stream knows.
func (s *session) cause(err error) error {
	if _, rerr := s.stream.Recv(); rerr != nil {
		return rerr
	}
	return err
}

func (s *session) hello() error {
	digests, revision := s.c.digests()
	s.c.mu.Lock()
	s.c.out.restart()
	h := &pb.Hello{Digests: digests, Revision: revision}
	if s.c.out.info != nil {
		h.Info, s.c.out.infoNew = infoToProto(s.c.out.info), false
	}
	s.c.mu.Unlock()
	return s.stream.Send(&pb.FromNode{Message: &pb.FromNode_Hello{Hello: h}})
}

func (s *session) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.planned
}

// send sends everything there is to say now.
func (s *session) send() error {
	s.mu.Lock()
	out := s.replies
	s.replies = nil
	if s.held > s.told {
		s.told = s.held
		out = append(out, &pb.FromNode{Message: &pb.FromNode_Ack{Ack: &pb.Ack{Seq: s.held}}})
	}
	planned := s.planned
	s.mu.Unlock()
	for _, m := range out {
		if err := s.stream.Send(m); err != nil {
			return err
		}
	}
	if info := s.c.takeInfo(); info != nil {
		if err := s.stream.Send(&pb.FromNode{Message: &pb.FromNode_Info{Info: info}}); err != nil {
			return err
		}
	}
	for planned {
		m := s.c.takeReports()
		if m == nil {
			return nil
		}
		if err := s.stream.Send(&pb.FromNode{Message: &pb.FromNode_Reports{Reports: m}}); err != nil {
			return err
		}
	}
	return nil
}

// receive takes what the server says until the stream ends.
func (s *session) receive() error {
	var group []*pb.Update
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		switch v := m.GetMessage().(type) {
		case *pb.ToNode_Plan:
			s.plan(v.Plan.GetBuckets())
		case *pb.ToNode_Update:
			if group = append(group, v.Update); !v.Update.GetMore() {
				s.c.apply(group)
				group = nil
			}
			s.mu.Lock()
			s.held = v.Update.GetSeq()
			s.mu.Unlock()
		case *pb.ToNode_ReportAck:
			s.c.mu.Lock()
			s.c.out.stored(v.ReportAck.GetSeq())
			s.c.mu.Unlock()
		case *pb.ToNode_Notice:
			s.c.log.Warn("server says: "+v.Notice.GetText(), "node", s.c.Host())
		default:
			// A newer server says something that this node does not know.
		}
		kick(s.c.outgo)
	}
}

func (s *session) plan(asked uint64) {
	var replies []*pb.FromNode
	if asked != 0 {
		for _, m := range s.c.summaries(asked) {
			replies = append(replies, &pb.FromNode{Message: &pb.FromNode_Summary{Summary: m}})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.planned = true
	s.replies = append(s.replies, replies...)
}

// renew gets a new certificate when the present one is two thirds through.  It is used from the next connection on.
func (c *Client) renew(ctx context.Context, conn *grpc.ClientConn) {
	c.mu.Lock()
	id := c.id
	c.mu.Unlock()
	if !id.RenewalDue(time.Now()) {
		return
	}
	fresh, err := renewed(ctx, conn)
	if err == nil {
		err = fresh.Save(c.dir)
	}
	if err != nil {
		c.log.Warn("cannot renew the node's certificate; will try again", "ends", id.Certificate.Leaf.NotAfter, "err", err)
		return
	}
	c.mu.Lock()
	c.id = fresh
	c.mu.Unlock()
	c.log.Info("node certificate renewed", "ends", fresh.Certificate.Leaf.NotAfter)
}

func renewed(ctx context.Context, conn *grpc.ClientConn) (*pki.Identity, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.Request(key)
	if err != nil {
		return nil, err
	}
	answer, err := pb.NewSouthboundClient(conn).Renew(ctx, &pb.RenewRequest{Csr: csr})
	if err != nil {
		return nil, fmt.Errorf("ask for a new certificate: %w", err)
	}
	return pki.NewIdentity(key, answer.GetCertificate(), answer.GetCa())
}

// Enrol makes a host a node: it proves itself by a join token and keeps the certificate under its state directory.  host is the
// node's name in the cloud.  Servers are tried in turn; the first answer that is not silence counts.
func Enrol(ctx context.Context, addresses []string, stateDir, host, token string) (*pki.Identity, error) {
	t, err := pki.ParseToken(token)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if err := pki.CheckHost(host); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	dir := IdentityDir(stateDir)
	key, err := pki.PendingKey(dir)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", host, err)
	}
	csr, err := pki.Request(key)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", host, err)
	}
	err = errors.New("no server address")
	for _, address := range addresses {
		var answer *pb.Certificate
		answer, err = enrolAt(ctx, address, t, &pb.EnrolRequest{Token: token, Host: host, Csr: csr})
		if status.Code(err) == codes.Unavailable {
			continue
		}
		if err != nil {
			break
		}
		id, err := pki.NewIdentity(key, answer.GetCertificate(), answer.GetCa())
		if err != nil {
			return nil, fmt.Errorf("enrol %s: %w", host, err)
		}
		if err := id.Save(dir); err != nil {
			return nil, fmt.Errorf("enrol %s: %w", host, err)
		}
		return id, nil
	}
	return nil, fmt.Errorf("enrol %s: %w", host, err)
}

func enrolAt(ctx context.Context, address string, t pki.Token, req *pb.EnrolRequest) (*pb.Certificate, error) {
	conn, err := dial(address, credentials.NewTLS(t.ClientConfig()), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	return pb.NewEnrolmentClient(conn).Enrol(ctx, req)
}
