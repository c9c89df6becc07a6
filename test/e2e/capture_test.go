package e2e

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
)

// capture counts packets in a guest.
type capture struct {
	w     *world
	cmd   *exec.Cmd
	pid   string
	guest string
	count atomic.Int64
	done  chan struct{}
}

// capture counts the echo requests that a guest sees.
func (w *world) capture(guest string) *capture {
	w.t.Helper()
	return w.captureFilter(guest, "icmp[icmptype] = icmp-echo")
}

// captureFilter counts what a guest sees of a filter; it returns when the capture has begun.
func (w *world) captureFilter(guest, filter string) *capture {
	w.t.Helper()
	// The shell says its process id in the node, by which the capture can be ended, and then becomes tcpdump.
	cmd, err := w.GuestCommand(w.ctx(), guest, "sh", "-c", "echo $$; exec tcpdump --immediate-mode -l -n -i eth0 '"+filter+"' 2>&1")
	w.must(err)
	out, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	c := &capture{w: w, cmd: cmd, guest: guest, done: make(chan struct{})}
	sc := bufio.NewScanner(out)
	if sc.Scan() {
		c.pid = strings.TrimSpace(sc.Text())
	}
	var said []string
	for {
		if !sc.Scan() {
			w.t.Fatalf("the capture in %s did not begin: %s", guest, strings.Join(said, "; "))
		}
		said = append(said, sc.Text())
		if strings.Contains(sc.Text(), "listening on") {
			break
		}
	}
	go func() {
		defer close(c.done)
		for sc.Scan() {
			if line := sc.Text(); strings.Contains(line, " > ") || strings.Contains(line, "ARP") {
				c.count.Add(1)
			}
		}
	}()
	w.t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Process.Signal(syscall.SIGKILL) // the test failed before stop
			_ = c.cmd.Wait()
		}
	})
	return c
}

// await waits until the capture has seen n packets: tcpdump prints them a little after the guest has them.
func (c *capture) await(n int) {
	c.w.t.Helper()
	c.w.eventually(fmt.Sprintf("%s sees %d packets", c.guest, n), func() error {
		if have := c.count.Load(); have < int64(n) {
			return fmt.Errorf("%d so far", have)
		}
		return nil
	})
}

// stop ends the capture and returns the count.  tcpdump is interrupted, so that it prints what it still holds.
func (c *capture) stop() int {
	c.w.t.Helper()
	if _, err := c.w.GuestRun(c.w.ctx(), c.guest, "kill", "-INT", c.pid); err != nil {
		c.w.t.Fatal(fmt.Errorf("end capture: %w", err))
	}
	<-c.done
	_ = c.cmd.Wait() // interrupted, as asked
	return int(c.count.Load())
}
