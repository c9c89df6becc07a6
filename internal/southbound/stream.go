package southbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"baryon/internal/nodestate"
	"baryon/internal/pki"
	pb "baryon/proto/baryon/v1"
)

// southbound answers enrolled nodes.
type southbound struct {
	pb.UnimplementedSouthboundServer
	s *Server
}

// identify is who is on the other end of a call, by its certificate.
func (s *Server) identify(ctx context.Context) (host, serial, remote string, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", "", "", status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", "", "", status.Error(codes.Unauthenticated, "no TLS")
	}
	host, serial, err = s.cfg.Authority.Identify(ctx, info.State)
	switch {
	case errors.Is(err, pki.ErrNotEnrolled):
		s.log.Warn("node refused", "remote", p.Addr.String(), "node", host, "err", err)
		return "", "", "", status.Error(codes.Unauthenticated, err.Error())
	case err != nil:
		return "", "", "", status.Error(codes.Unavailable, "the store does not answer")
	}
	return host, serial, p.Addr.String(), nil
}

// Connect is a node's stream.
func (sb southbound) Connect(stream grpc.BidiStreamingServer[pb.FromNode, pb.ToNode]) error {
	s := sb.s
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	host, serial, remote, err := s.identify(ctx)
	if err != nil {
		return err
	}
	select {
	case <-s.ready:
	case <-time.After(helloTimeout):
		return status.Error(codes.Unavailable, "server is not ready")
	case <-ctx.Done():
		return ctx.Err()
	}
	c := &conn{
		s: s, host: host, serial: serial, remote: remote, session: uuid.NewString(), since: s.now(), ctx: ctx, stream: stream,
		wake: make(chan struct{}, 1), pending: make(map[nodestate.Key]struct{}),
	}
	// Receiving has its own goroutine because only returning from here ends it; it ends the sending in turn.
	ended := make(chan error, 1)
	hello := make(chan *pb.Hello, 1)
	attached := make(chan struct{})
	go func() {
		err := c.greeted(hello)
		if err == nil {
			// What follows the greeting is judged by what attach decides.
			select {
			case <-attached:
				err = c.receive()
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		ended <- err
		c.kick()
		cancel()
	}()
	select {
	case h := <-hello:
		s.attach(c, h)
		close(attached)
	case err := <-ended:
		return err
	case <-time.After(helloTimeout):
		return status.Error(codes.DeadlineExceeded, "no hello")
	}
	defer s.detach(c)
	if err := c.run(); !errors.Is(err, context.Canceled) {
		return err
	}
	select {
	case err := <-ended:
		return err
	default:
		return ctx.Err()
	}
}

// greeted takes the first message and hands it over once it is found good.
func (c *conn) greeted(hello chan<- *pb.Hello) error {
	m, err := c.stream.Recv()
	if err != nil {
		return err
	}
	h := m.GetHello()
	if h == nil {
		return status.Error(codes.InvalidArgument, "the first message is not hello")
	}
	if n := len(h.GetDigests()); n != 0 && n != buckets {
		return status.Errorf(codes.InvalidArgument, "%d digests", n)
	}
	if h.GetInfo() != nil {
		if err := c.introduced(h.GetInfo()); err != nil {
			return err
		}
	}
	hello <- h
	return nil
}

// attach makes the stream the node's one and finds out what to send.
func (s *Server) attach(c *conn, h *pb.Hello) {
	s.mu.Lock()
	old := s.conns[c.host]
	s.conns[c.host] = c
	c.start(h.GetDigests())
	s.mu.Unlock()
	if old != nil {
		old.close(errSuperseded)
		if hostOf(old.remote) != hostOf(c.remote) {
			s.log.Warn("a node has connected from another address while connected: two hosts with one name, or it has moved",
				"node", c.host, "remote", c.remote, "before", old.remote)
		}
	}
	s.log.Info("node connected", "node", c.host, "remote", c.remote, "rev", h.GetRevision())
	s.begin(c)
}

func hostOf(remote string) string {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return ap.Addr().String()
	}
	return remote
}

func (s *Server) detach(c *conn) {
	s.mu.Lock()
	current := s.conns[c.host] == c
	if current {
		delete(s.conns, c.host)
	}
	s.mu.Unlock()
	c.mu.Lock()
	why := c.closed
	if c.closed == nil {
		c.closed = context.Canceled
	}
	c.mu.Unlock()
	if !current {
		return
	}
	s.log.Info("node disconnected", "node", c.host, "remote", c.remote, "reason", fmt.Sprint(why))
	if !errors.Is(why, errStopping) && !errors.Is(why, errResync) {
		go s.gone(c)
	}
}

// Bounds of what a node may say of itself.
const (
	maxInfoList = 64
	maxInfoText = 255
)

// introduced takes what a node says of itself; it is registered apart, so that records never wait for the store.
func (c *conn) introduced(m *pb.NodeInfo) error {
	info, err := infoFromProto(m)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "node information: %v", err)
	}
	if info.Host != c.host {
		c.s.stats.refused.Add(1)
		c.s.log.Warn("node refused: it calls itself by another name than its certificate's", "node", c.host, "claimed", info.Host)
		return status.Errorf(codes.PermissionDenied, "the certificate is of host %s, not %.60q", c.host, info.Host)
	}
	if err := checkInfo(&info); err != nil {
		return status.Errorf(codes.InvalidArgument, "node information: %v", err)
	}
	c.mu.Lock()
	c.info = &info
	c.mu.Unlock()
	c.s.keep(c)
	return nil
}

func checkInfo(info *nodestate.NodeInfo) error {
	if len(info.Roles) > maxInfoList || len(info.TunnelTypes) > maxInfoList || len(info.BridgeMappings) > maxInfoList {
		return errors.New("list too long")
	}
	texts := append([]string{info.DatapathType, info.Version, info.AvailabilityZone}, info.Roles...)
	texts = append(texts, info.TunnelTypes...)
	for k, v := range info.BridgeMappings {
		texts = append(texts, k, v)
	}
	for _, t := range texts {
		if len(t) > maxInfoText {
			return errors.New("text too long")
		}
	}
	return nil
}

// Renew signs a new key for an enrolled node.
func (sb southbound) Renew(ctx context.Context, req *pb.RenewRequest) (*pb.Certificate, error) {
	host, serial, _, err := sb.s.identify(ctx)
	if err != nil {
		return nil, err
	}
	cert, err := sb.s.cfg.Authority.Renew(ctx, host, serial, req.GetCsr())
	if err != nil {
		return nil, enrolError(err)
	}
	sb.s.log.Info("node certificate renewed", "node", host)
	return &pb.Certificate{Certificate: cert.Raw, Ca: sb.s.cfg.Authority.Certificate()}, nil
}

// enrolment answers hosts with a join token.
type enrolment struct {
	pb.UnimplementedEnrolmentServer
	s *Server
}

// Enrol gives a certificate for a token.  Few run at a time: signing is the dearest thing that a stranger can ask for.
func (e enrolment) Enrol(ctx context.Context, req *pb.EnrolRequest) (*pb.Certificate, error) {
	select {
	case e.s.enrolments <- struct{}{}:
		defer func() { <-e.s.enrolments }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	token, err := pki.ParseToken(req.GetToken())
	if err != nil {
		e.s.log.Warn("enrolment refused", "remote", remote, "err", err)
		return nil, enrolError(err)
	}
	cert, err := e.s.cfg.Authority.Enrol(ctx, token, req.GetHost(), req.GetCsr())
	if err != nil {
		e.s.log.Warn("enrolment refused", "remote", remote, "err", err)
		return nil, enrolError(err)
	}
	e.s.log.Info("node enrolled", "node", req.GetHost(), "remote", remote)
	return &pb.Certificate{Certificate: cert.Raw, Ca: e.s.cfg.Authority.Certificate()}, nil
}

// enrolError is what a host is told; what is not an answer of the authority is not told.
func enrolError(err error) error {
	code := codes.Unavailable
	switch {
	case errors.Is(err, pki.ErrBadToken):
		code = codes.PermissionDenied
	case errors.Is(err, pki.ErrEnrolled):
		code = codes.AlreadyExists
	case errors.Is(err, pki.ErrBadHost), errors.Is(err, pki.ErrBadRequest):
		code = codes.InvalidArgument
	case errors.Is(err, pki.ErrNotEnrolled):
		code = codes.Unauthenticated
	default:
		return status.Error(code, "the store does not answer; try again")
	}
	return status.Error(code, err.Error())
}
