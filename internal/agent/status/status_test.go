package status_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/agent/status"
)

// fake answers from what it holds.
type fake struct {
	report status.Report
	ports  map[string]status.Record
	err    error
}

func (f *fake) Status(context.Context) (status.Report, error) { return f.report, f.err }

func (f *fake) Port(ctx context.Context, id string, wait bool) (status.Record, error) {
	if r, ok := f.ports[id]; ok {
		return r, nil
	}
	if wait {
		<-ctx.Done()
		return status.Record{}, ctx.Err()
	}
	return status.Record{}, fmt.Errorf("port %s: %w", id, status.ErrNotFound)
}

func (f *fake) Reload(context.Context) error { return errors.New("no configuration file") }

func (f *fake) Cookie(_ context.Context, c uint64) (status.Cookie, error) {
	return status.Cookie{Cookie: fmt.Sprint(c)}, nil
}

func (f *fake) Drops(context.Context) (status.Drops, error) {
	return status.Drops{Ports: []status.Dropped{{Port: "p", Reason: "source", Packets: 3}}}, f.err
}

func serve(t *testing.T, dir string, p status.Provider) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- status.Serve(ctx, dir, p, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for {
		if c, err := net.Dial("unix", filepath.Join(dir, status.SocketName)); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("does not serve: %v", err)
		default:
		}
	}
}

func TestClientAndServer(t *testing.T) {
	dir := t.TempDir()
	// A socket that a dead agent left must not be in the way.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, status.SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	rec := status.Record{Kind: "port", ID: "p/../1", State: "done", Wanted: 3, Applied: 3}
	f := &fake{report: status.Report{Host: "n1", Healthy: true, Records: []status.Record{rec}}, ports: map[string]status.Record{"p/../1": rec}}
	serve(t, dir, f)
	c := status.NewClient(dir)
	defer c.Close()
	if r, err := c.Status(t.Context()); err != nil || !cmp.Equal(r, f.report) {
		t.Errorf("Status: %+v, %v", r, err)
	}
	// It answers now, so it has the mode that it keeps.
	if st, err := os.Stat(filepath.Join(dir, status.SocketName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	if r, err := c.Port(t.Context(), rec.ID); err != nil || r != rec || !r.InSync() {
		t.Errorf("Port: %+v, %v", r, err)
	}
	if _, err := c.Port(t.Context(), "other"); !errors.Is(err, status.ErrNotFound) {
		t.Errorf("unknown port: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.WaitPort(ctx, "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("wait given up: %v", err)
	}
	if d, err := c.Drops(t.Context()); err != nil || len(d.Ports) != 1 || d.Ports[0].Packets != 3 {
		t.Errorf("Drops: %+v, %v", d, err)
	}
	if err := c.Reload(t.Context()); err == nil || err.Error() != "no configuration file" {
		t.Errorf("reload: %v", err)
	}
	if r, err := c.Cookie(t.Context(), 0xba51); err != nil || r.Cookie != "47697" {
		t.Errorf("Cookie: %+v, %v", r, err)
	}
	// Two agents with one state directory: the second must not take over.
	if err := status.Serve(t.Context(), dir, f, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("second agent: %v", err)
	}
}

func TestHandlerCodes(t *testing.T) {
	f := &fake{report: status.Report{Reasons: []string{"no bridge"}}, ports: map[string]status.Record{}}
	for path, want := range map[string]int{
		"/healthz": 503, "/status": 200, "/ports/x": 404, "/cookie/12": 400, "/cookie/0xzz": 400, "/cookie/0x1": 200, "/nothing": 404,
	} {
		w := httptest.NewRecorder()
		status.Handler(f).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
	w := httptest.NewRecorder()
	status.Handler(f).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/status", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	f.report.Healthy = true
	w = httptest.NewRecorder()
	status.Handler(f).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("healthy: %d", w.Code)
	}
	f.err = errors.New("busy")
	w = httptest.NewRecorder()
	status.Handler(f).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("error: %d", w.Code)
	}
}
