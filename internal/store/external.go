package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of reaching an external cluster when the store is opened.  Who starts a server waits for it and wants to be told.
const (
	reachTimeout = 5 * time.Second // until the first answer
	probeTimeout = 2 * time.Second // of asking one endpoint why it does not answer
)

// openExternal connects to a cluster and waits for its first answer, so that wrong addresses, certificates and passwords show here.
func openExternal(ctx context.Context, o Options) (*backend, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := reach(ctx, o); err != nil {
		return nil, fmt.Errorf("reach etcd: %w", err)
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            o.Endpoints,
		TLS:                  o.TLS,
		Username:             o.Username,
		Password:             o.Password,
		DialTimeout:          reachTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		PermitWithoutStream:  true,
		MaxCallSendMsgSize:   2 * maxRequestBytes,
		MaxCallRecvMsgSize:   math.MaxInt32,
		Logger:               clientLogger(o.Log),
	})
	if err == nil {
		if _, err = c.Get(ctx, formatKey, clientv3.WithKeysOnly()); err == nil {
			return &backend{client: c}, nil
		}
		_ = c.Close() // it never was of use
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("connected, but no answer within %s: has the cluster a leader?", reachTimeout)
	}
	return nil, fmt.Errorf("reach etcd at %s: %w", strings.Join(o.Endpoints, ", "), err)
}

// reach waits until one endpoint takes a connection.  etcd's client would do the same, but keep the cause to itself when none does.
// A cluster that is about to start is waited for; one that refuses our certificates, or shows the wrong one, is not.
func reach(ctx context.Context, o Options) error {
	for {
		errs := make([]error, len(o.Endpoints))
		var wg sync.WaitGroup
		for i, e := range o.Endpoints {
			wg.Go(func() { errs[i] = probe(ctx, e, o.TLS) })
		}
		wg.Wait()
		var text []string
		wait := false
		for i, err := range errs {
			if err == nil {
				return nil
			}
			var dial *net.OpError
			wait = wait || errors.As(err, &dial) && dial.Op == "dial"
			text = append(text, o.Endpoints[i]+": "+err.Error())
		}
		err := errors.New(strings.Join(text, "; "))
		if !wait {
			return err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return err
		}
	}
}

// probe connects to one endpoint and tells what is wrong.
func probe(ctx context.Context, endpoint string, cfg *tls.Config) error {
	scheme, host, ok := strings.Cut(endpoint, "://")
	if !ok {
		scheme, host = "", endpoint
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout) // the last try says why
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing was written that counts
	if scheme == "http" || cfg == nil && scheme != "https" {
		return nil
	}
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(host)
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	// With TLS 1.3 the server looks at our certificate after our side of the handshake has ended, and HTTP/2 servers speak first.
	deadline, _ := ctx.Deadline()
	_ = t.SetReadDeadline(deadline) // a connection without deadlines does not exist here
	_, err = t.Read(make([]byte, 1))
	return err
}
