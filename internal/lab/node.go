package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// box is one set of namespaces with a holder in it: a node, or the switch that joins the nodes.
type box struct {
	name string
	dir  string // of this box in the lab's directory
	pid  int    // of the holder, as the host sees it
}

func (b *box) control() string { return filepath.Join(b.dir, "control.sock") }

// newBox starts a holder in fresh namespaces and waits until it takes orders.  With network false the box keeps the host's
// network and name: it only holds processes.
func newBox(ctx context.Context, exe, name, dir string, network bool, binds map[string]string) (*box, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make box %s: %w", name, err)
	}
	b := &box{name: name, dir: dir}
	for src := range binds {
		if err := os.MkdirAll(src, 0o755); err != nil {
			return nil, fmt.Errorf("make box %s: %w", name, err)
		}
	}
	hs := HolderSpec{Control: b.control(), Binds: binds}
	flags := uintptr(syscall.CLONE_NEWNS | syscall.CLONE_NEWPID)
	if network {
		hs.Hostname = name
		flags |= syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS
	}
	spec, err := json.Marshal(hs)
	if err != nil {
		return nil, fmt.Errorf("make box %s: %w", name, err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "holder.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("make box %s: %w", name, err)
	}
	defer log.Close() //nolint:errcheck // the child has its own copy
	// The holder must outlive this command, so it is not bound to ctx.
	cmd := exec.Command(exe, "lab", "hold", string(spec))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: flags,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start holder of %s: %w", name, err)
	}
	b.pid = cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := b.services(ctx); err == nil {
			return b, nil
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log.Name()) //nolint:errcheck // only to say more
			return nil, fmt.Errorf("holder of %s ended: %w: %s", name, errors.Join(err, errors.New("not ready")), bytes.TrimSpace(text))
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for holder of %s: %w", name, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// alive tells whether the holder still runs.  The control socket proves that the process behind the pid is ours.
func (b *box) alive(ctx context.Context) bool {
	if b.pid == 0 || syscall.Kill(b.pid, 0) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := b.services(ctx)
	return err == nil
}

// kill ends the box and all in it, as a power cut would, and waits until it is gone.
func (b *box) kill(ctx context.Context) error {
	if !b.alive(ctx) {
		return nil
	}
	if err := syscall.Kill(b.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end %s: %w", b.name, err)
	}
	for {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid))
		// A zombie holds nothing any more; whoever started it collects it.
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of %s: %w", b.name, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// command makes a command that runs inside the box.
func (b *box) command(ctx context.Context, argv ...string) *exec.Cmd {
	args := append([]string{"--target", strconv.Itoa(b.pid), "--net", "--mount", "--uts", "--pid", "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Dir = "/"
	return cmd
}

// run runs a command inside the box and returns its standard output; what it wrote to standard error is in the error.
func (b *box) run(ctx context.Context, argv ...string) (string, error) {
	return output(b.command(ctx, argv...), b.name, argv)
}

// script runs a shell script inside the box; it stops at the first error.
func (b *box) script(ctx context.Context, text string) error {
	cmd := b.command(ctx, "sh", "-e")
	cmd.Stdin = strings.NewReader(text)
	_, err := output(cmd, b.name, []string{"sh"})
	return err
}

func output(cmd *exec.Cmd, where string, argv []string) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("on %s: %s: %w: %s", where, strings.Join(argv, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}

func (b *box) start(ctx context.Context, sv Service) error { return b.order(ctx, "start", sv) }

func (b *box) stop(ctx context.Context, name string, sig syscall.Signal) error {
	return b.order(ctx, "stop", stopOrder{Name: name, Signal: sig, Grace: 10 * time.Second})
}

func (b *box) services(ctx context.Context) ([]ServiceStatus, error) {
	resp, err := b.talk(ctx, http.MethodGet, "status", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	var list []ServiceStatus
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, fmt.Errorf("read status of %s: %w", b.name, err)
	}
	return list, nil
}

func (b *box) order(ctx context.Context, verb string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("order %s: %w", verb, err)
	}
	resp, err := b.talk(ctx, http.MethodPost, verb, bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // short and read whole
	if resp.StatusCode != http.StatusOK {
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) //nolint:errcheck // only to say more
		return fmt.Errorf("on %s: %s", b.name, bytes.TrimSpace(msg))
	}
	return nil
}

func (b *box) talk(ctx context.Context, method, verb string, body io.Reader) (*http.Response, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", b.control())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://holder/"+verb, body)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask holder of %s: %w", b.name, err)
	}
	return resp, nil
}
