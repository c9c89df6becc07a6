package server

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netns"
)

// listen opens a TCP listener, in the named network namespace if one is given.  A socket stays in the namespace it was made in, so
// the server itself never changes its own.
func listen(ctx context.Context, address, namespace string) (net.Listener, error) {
	var lc net.ListenConfig
	if namespace == "" {
		return lc.Listen(ctx, "tcp", address)
	}
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine, and with it its namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(namespace)
		if err == nil {
			err = netns.Set(ns)
			_ = ns.Close() // only a handle
		}
		if err != nil {
			done <- result{err: fmt.Errorf("enter network namespace %s: %w", namespace, err)}
			return
		}
		l, err := lc.Listen(ctx, "tcp", address)
		done <- result{l, err}
	}()
	r := <-done
	return r.l, r.err
}
