package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// HolderSpec tells a holder what to be.  It is handed over as one JSON argument.
type HolderSpec struct {
	Hostname string            // "": the host's network and name are kept, only processes are held
	Control  string            // path of the unix socket on which the holder takes orders
	Binds    map[string]string // directory of the host -> where the node sees it
}

// Service is one process that a holder keeps.
type Service struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"` // added to the holder's
	Log  string   `json:"log"`           // file that standard output and error are appended to
}

// ServiceStatus is what a holder says of one process.
type ServiceStatus struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"` // in the node's own PID namespace
	Running bool      `json:"running"`
	Since   time.Time `json:"since"`
	Exit    string    `json:"exit,omitempty"` // how it ended, when it is not running
}

// Hold is a node's first process: it sits in fresh network, mount, UTS and PID namespaces, gives the node its own /run, /proc and
// /sys, and then starts, stops and reaps the node's services as its control socket says.  When it ends, the kernel ends
// everything in the node with it: that is how a node dies.
func Hold(ctx context.Context, spec HolderSpec) error {
	if err := mountBox(spec); err != nil {
		return err
	}
	if spec.Hostname != "" {
		if err := syscall.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("set host name %s: %w", spec.Hostname, err)
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			return fmt.Errorf("bring lo up: %w: %s", err, out)
		}
	}
	h := &holder{services: map[string]*service{}}
	chld := make(chan os.Signal, 16)
	signal.Notify(chld, syscall.SIGCHLD)
	go h.reap(chld)

	if err := os.Remove(spec.Control); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.Listen("unix", spec.Control)
	if err != nil {
		return fmt.Errorf("listen on control socket: %w", err)
	}
	srv := &http.Server{Handler: h.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close() // the process ends right after
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

func mountBox(spec HolderSpec) error {
	type mount struct {
		src, dst, typ string
		flags         uintptr
	}
	mounts := []mount{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
	}
	if spec.Hostname != "" {
		mounts = append(mounts, mount{"sysfs", "/sys", "sysfs", 0}, mount{"tmpfs", "/run", "tmpfs", 0})
	}
	for src, dst := range spec.Binds {
		mounts = append(mounts, mount{src, dst, "", syscall.MS_BIND})
	}
	for _, m := range mounts {
		if m.flags&syscall.MS_BIND != 0 {
			if err := os.MkdirAll(m.dst, 0o755); err != nil {
				return fmt.Errorf("make mount point: %w", err)
			}
		}
		if err := syscall.Mount(m.src, m.dst, m.typ, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.src, m.dst, err)
		}
	}
	if spec.Hostname == "" {
		return nil
	}
	for _, d := range []string{"/run/netns", "/run/openvswitch"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", d, err)
		}
	}
	return nil
}

type holder struct {
	mu       sync.Mutex
	services map[string]*service
}

type service struct {
	status ServiceStatus
	done   chan struct{} // closed when the process has been reaped
}

// reap collects every child, also those that daemons leave behind.  It is the only caller of wait in this process.
func (h *holder) reap(chld <-chan os.Signal) {
	for range chld {
		for {
			var ws syscall.WaitStatus
			// The lock spans wait and look-up, as it spans start and registration: a child that ends at once is not lost.
			h.mu.Lock()
			pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
			if err == nil && pid > 0 {
				h.ended(pid, ws)
			}
			h.mu.Unlock()
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}

func (h *holder) ended(pid int, ws syscall.WaitStatus) {
	for _, s := range h.services {
		if s.status.PID != pid || !s.status.Running {
			continue
		}
		s.status.Running = false
		if ws.Signaled() {
			s.status.Exit = "signal " + ws.Signal().String()
		} else {
			s.status.Exit = fmt.Sprintf("exit status %d", ws.ExitStatus())
		}
		close(s.done)
	}
}

func (h *holder) start(sv Service) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.services[sv.Name]; ok && s.status.Running {
		return fmt.Errorf("start %s: already runs as %d", sv.Name, s.status.PID)
	}
	path, err := exec.LookPath(sv.Argv[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", sv.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(sv.Log), 0o755); err != nil {
		return fmt.Errorf("start %s: %w", sv.Name, err)
	}
	log, err := os.OpenFile(sv.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", sv.Name, err)
	}
	defer log.Close() //nolint:errcheck // the child has its own copy
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("start %s: %w", sv.Name, err)
	}
	defer null.Close() //nolint:errcheck // the child has its own copy
	p, err := os.StartProcess(path, sv.Argv, &os.ProcAttr{
		Dir: "/", Env: append(os.Environ(), sv.Env...), Files: []*os.File{null, log, log},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", sv.Name, err)
	}
	h.services[sv.Name] = &service{
		status: ServiceStatus{Name: sv.Name, PID: p.Pid, Running: true, Since: time.Now()},
		done:   make(chan struct{}),
	}
	return p.Release()
}

// stop sends a signal and waits until the process is gone; after grace it is killed.
func (h *holder) stop(ctx context.Context, name string, sig syscall.Signal, grace time.Duration) error {
	h.mu.Lock()
	s, ok := h.services[name]
	running := ok && s.status.Running
	h.mu.Unlock()
	if !running {
		return nil
	}
	if err := syscall.Kill(s.status.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	}
	if err := syscall.Kill(s.status.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type stopOrder struct {
	Name   string         `json:"name"`
	Signal syscall.Signal `json:"signal"`
	Grace  time.Duration  `json:"grace"`
}

func (h *holder) handler() http.Handler {
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
		var sv Service
		err := json.NewDecoder(r.Body).Decode(&sv)
		if err == nil && len(sv.Argv) == 0 {
			err = errors.New("start: no command")
		}
		if err == nil {
			err = h.start(sv)
		}
		reply(w, err)
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		var o stopOrder
		err := json.NewDecoder(r.Body).Decode(&o)
		if err == nil {
			err = h.stop(r.Context(), o.Name, o.Signal, o.Grace)
		}
		reply(w, err)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		list := make([]ServiceStatus, 0, len(h.services))
		for _, s := range h.services {
			list = append(list, s.status)
		}
		h.mu.Unlock()
		if err := json.NewEncoder(w).Encode(list); err != nil {
			return // the client has gone
		}
	})
	return mux
}
