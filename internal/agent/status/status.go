// Package status is the local window into a running agent: JSON over HTTP on a unix socket, <state dir>/agent.sock.
//
//	GET /healthz            200 when the agent runs and Open vSwitch is programmed, 503 with the reason otherwise
//	GET /status             everything: Report
//	GET /ports/<id>         one port: Record
//	GET /ports/<id>?wait=1  the same, answered when the wanted revision is applied (done), failed, or the client gives up
//	GET /cookie/0x…         what a flow's cookie stands for: Cookie
//	GET /drops              what br-int has dropped, by reason and by port: Drops
//	POST /reload            reads the configuration file again; 409 with the reason when nothing was changed
//
// The socket is mode 0600: only root asks.  `baryon agent status` and `baryon plug --wait` are its clients.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// SocketName is the socket's file name in the agent's state directory.
const SocketName = "agent.sock"

// ErrNotFound is returned for a port that the agent knows nothing of.
var ErrNotFound = errors.New("not known to this agent")

// Report is the whole state.
type Report struct {
	Host        string            `json:"host"`
	Version     string            `json:"version,omitempty"`
	OVSVersion  string            `json:"ovs_version,omitempty"`
	Datapath    string            `json:"datapath"`
	Healthy     bool              `json:"healthy"`
	Reasons     []string          `json:"reasons,omitempty"` // why not healthy
	Revision    int64             `json:"revision"`          // of the last update taken in
	Confirmed   bool              `json:"confirmed"`         // a server has confirmed the state since the agent started
	Flows       map[string]int    `json:"flows"`             // wanted flows per bridge
	LocalVLANs  map[string]uint16 `json:"local_vlans"`       // network id → local VLAN
	Records     []Record          `json:"records"`           // sorted by kind and id
	Unknown     []Device          `json:"unknown_devices,omitempty"`
	LastError   string            `json:"last_error,omitempty"`
	LastErrorAt *time.Time        `json:"last_error_at,omitempty"`
}

// Record is how far one record is.
type Record struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Wanted   int64  `json:"wanted"`  // revision that is wanted
	Applied  int64  `json:"applied"` // revision that State speaks of
	State    string `json:"state"`   // done, absent, pending, failed
	Reason   string `json:"reason,omitempty"`
	Device   string `json:"device,omitempty"`    // a port's device on br-int
	OFPort   int    `json:"ofport,omitempty"`    // its OpenFlow port
	LocalTag uint16 `json:"local_tag,omitempty"` // its local VLAN, or the network's
}

// InSync reports that the wanted revision is in the dataplane.
func (r Record) InSync() bool { return r.State == "done" && r.Applied >= r.Wanted }

// Device is a plugged device that no record speaks of.
type Device struct {
	Name    string `json:"name"`
	IfaceID string `json:"iface_id"`
}

// Cookie is where a flow comes from.
type Cookie struct {
	Cookie string `json:"cookie"`
	Table  string `json:"table"`
	Owner  string `json:"owner,omitempty"` // record key; empty if nothing known has this mark
	Why    string `json:"why"`
}

// Drops are counters of dropped packets.  A packet that a filtered port's tables drop is counted twice: by its reason, and by its port.
type Drops struct {
	Reasons []Dropped `json:"reasons"` // of all ports together
	Ports   []Dropped `json:"ports"`   // of each port, by stage: source, egress or ingress
}

// Dropped is one counter.
type Dropped struct {
	Port    string `json:"port,omitempty"`  // port id
	Table   string `json:"table,omitempty"` // name of the table of br-int that dropped
	Reason  string `json:"reason"`
	Why     string `json:"why"`
	Packets uint64 `json:"packets"`
}

// Provider is what a running agent answers with.  All methods may be called from any goroutine.
type Provider interface {
	Status(ctx context.Context) (Report, error)
	Port(ctx context.Context, id string, wait bool) (Record, error)
	Cookie(ctx context.Context, cookie uint64) (Cookie, error)
	Drops(ctx context.Context) (Drops, error)
	Reload(ctx context.Context) error
}

// Serve answers on the socket of stateDir until ctx ends.
func Serve(ctx context.Context, stateDir string, p Provider, log *slog.Logger) error {
	l, err := listen(filepath.Join(stateDir, SocketName))
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: Handler(p), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	defer func() { <-stopped }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(stopped)
		<-ctx.Done()
		_ = srv.Close() // closes the listener, which removes the socket
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve status: %w", err)
	}
	return nil
}

// listen takes the socket over from an agent that is gone, but not from one that answers.
func listen(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		if c, derr := net.DialTimeout("unix", path, time.Second); derr == nil {
			c.Close()
			return nil, fmt.Errorf("listen on %s: another agent is running with this state directory", path)
		}
		if rerr := os.Remove(path); rerr != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
		if l, err = net.Listen("unix", path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect %s: %w", path, err)
	}
	return l, nil
}

// Handler is the HTTP side.
func Handler(p Provider) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		s, err := p.Status(r.Context())
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case !s.Healthy:
			http.Error(w, fmt.Sprint(s.Reasons), http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "ok\n")
		}
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		s, err := p.Status(r.Context())
		answer(w, s, err)
	})
	mux.HandleFunc("GET /ports/{id}", func(w http.ResponseWriter, r *http.Request) {
		rec, err := p.Port(r.Context(), r.PathValue("id"), r.URL.Query().Has("wait"))
		answer(w, rec, err)
	})
	mux.HandleFunc("GET /cookie/{cookie}", func(w http.ResponseWriter, r *http.Request) {
		var n uint64
		if _, err := fmt.Sscanf(r.PathValue("cookie"), "0x%x", &n); err != nil {
			http.Error(w, "cookie must look like 0x1234", http.StatusBadRequest)
			return
		}
		c, err := p.Cookie(r.Context(), n)
		answer(w, c, err)
	})
	mux.HandleFunc("GET /drops", func(w http.ResponseWriter, r *http.Request) {
		d, err := p.Drops(r.Context())
		answer(w, d, err)
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		if err := p.Reload(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_, _ = io.WriteString(w, "ok\n") // the client has gone if this fails
	})
	return mux
}

func answer(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client has gone if this fails
	}
}
