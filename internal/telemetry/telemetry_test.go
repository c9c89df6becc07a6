package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/telemetry"
)

func get(h http.Handler) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	return w.Code, w.Body.String()
}

func TestHealth(t *testing.T) {
	h := &telemetry.Health{}
	if code, _ := get(h.Ready()); code != http.StatusOK {
		t.Errorf("without checks: %d", code)
	}
	var broken error
	h.Add("store", func(context.Context) error { return nil })
	h.Add("nodes", func(context.Context) error { return broken })
	for _, c := range []struct {
		err  error
		code int
		word string
	}{{nil, http.StatusOK, "ok"}, {errors.New("no port"), http.StatusServiceUnavailable, "no port"}} {
		broken = c.err
		code, body := get(h.Ready())
		var words map[string]string
		if err := json.Unmarshal([]byte(body), &words); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"store": "ok", "nodes": c.word}, words); code != c.code || diff != "" {
			t.Errorf("%v: %d\n%s", c.err, code, diff)
		}
		if code, _ := get(h.Live()); code != http.StatusOK {
			t.Errorf("%v: alive answers %d", c.err, code)
		}
	}
}

// A check that hangs until its context ends is a failed one; it does not hide the others.
func TestHealthHangs(t *testing.T) {
	h := &telemetry.Health{}
	h.Add("hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	h.Add("well", func(context.Context) error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.Ready().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, "context canceled") || !strings.Contains(body, `"well":"ok"`) {
		t.Errorf("%d %s", w.Code, body)
	}
}

func TestMetrics(t *testing.T) {
	r := telemetry.NewRegistry("1.2.3")
	commit := telemetry.CommitSeconds(r)
	commit(3 * time.Millisecond)
	telemetry.Rows(r, func() map[string]int { return map[string]int{"port": 3} })
	telemetry.Gauges(r, map[string]func() float64{"baryon_store_revision": func() float64 { return 7 }})
	telemetry.Counters(r, map[string]func() float64{"baryon_store_commits_total": func() float64 { return 4 }})
	code, body := get(telemetry.Handler(r))
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for _, line := range []string{
		`baryon_build_info{version="1.2.3"} 1`,
		"# TYPE baryon_store_revision gauge", "baryon_store_revision 7",
		"# TYPE baryon_store_commits_total counter", "baryon_store_commits_total 4",
		`baryon_store_rows{table="port"} 3`,
		`baryon_store_commit_duration_seconds_bucket{le="0.002"} 0`,
		`baryon_store_commit_duration_seconds_bucket{le="0.005"} 1`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no %q in\n%s", line, body)
		}
	}
}

func TestNewLogger(t *testing.T) {
	for format, want := range map[string]string{"json": `"level":"WARN","msg":"loud","port":"p1"`, "text": "level=WARN msg=loud port=p1"} {
		var out strings.Builder
		log, err := telemetry.NewLogger(&out, format, "warn")
		if err != nil {
			t.Fatal(err)
		}
		log.Info("quiet")
		log.Warn("loud", "port", "p1")
		if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, want) {
			t.Errorf("%s: logged %s", format, got)
		}
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}} {
		if _, err := telemetry.NewLogger(nil, bad[0], bad[1]); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
