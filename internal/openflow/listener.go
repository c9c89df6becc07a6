package openflow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Listener is where switches dial their controller.
type Listener struct {
	ln     net.Listener
	opts   Options
	ready  chan *Conn
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// maxHandshakes bounds the switches that Accept has not handed out yet; further ones wait in the socket's queue.
const maxHandshakes = 32

const acceptRetry = 100 * time.Millisecond

// Listen accepts switches on an address, usually ("tcp", "127.0.0.1:6633").  Connections are made ready in the background and
// handed out by Accept; one that fails its handshake is logged and closed.
func Listen(network, addr string, opts Options) (*Listener, error) {
	ln, err := net.Listen(network, addr)
	if err != nil {
		return nil, fmt.Errorf("listen for switches: %w", err)
	}
	return NewListener(ln, opts), nil
}

// NewListener accepts switches on ln, which it takes over.
func NewListener(ln net.Listener, opts Options) *Listener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{ln: ln, opts: opts.withDefaults(), ready: make(chan *Conn), ctx: ctx, cancel: cancel}
	l.wg.Add(1)
	go l.acceptLoop()
	return l
}

// Addr is the address listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Accept returns the next switch that finished its handshake.  The caller must close it.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close stops listening and drops connections that Accept has not handed out.
func (l *Listener) Close() error {
	l.cancel()
	err := l.ln.Close()
	l.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

func (l *Listener) acceptLoop() {
	defer l.wg.Done()
	slots := make(chan struct{}, maxHandshakes)
	for {
		select {
		case slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		nc, err := l.ln.Accept()
		if err != nil {
			<-slots
			if errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil {
				l.cancel() // Accept tells its caller
				return
			}
			l.opts.Log.Warn("cannot accept a switch; will retry", "err", err) // out of descriptors, perhaps
			select {
			case <-time.After(acceptRetry):
			case <-l.ctx.Done():
			}
			continue
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer func() { <-slots }()
			c, err := NewConn(l.ctx, nc, l.opts)
			if err != nil {
				if l.ctx.Err() == nil {
					l.opts.Log.Warn("switch did not get through its handshake", "err", err)
				}
				return
			}
			select {
			case l.ready <- c:
			case <-c.Done():
			case <-l.ctx.Done():
				_ = c.Close()
			}
		}()
	}
}
