package telemetry

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// checkTimeout bounds one check; a check that hangs is a failed one.
const checkTimeout = 5 * time.Second

// Health answers whether a process lives and whether it can serve.  Add checks before serving.
type Health struct {
	names  []string
	checks []func(context.Context) error
}

// Add adds a check by name.  It must honour its context.
func (h *Health) Add(name string, check func(context.Context) error) {
	h.names = append(h.names, name)
	h.checks = append(h.checks, check)
}

// Live answers 200 as long as the process can answer at all.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the client may be gone
	})
}

// Ready answers 200 when every check passes and 503 otherwise, with each check's word.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		words := make([]string, len(h.checks))
		var wg sync.WaitGroup
		for i, check := range h.checks {
			wg.Go(func() {
				words[i] = "ok"
				if err := check(ctx); err != nil {
					words[i] = err.Error()
				}
			})
		}
		wg.Wait()
		code, all := http.StatusOK, map[string]string{}
		for i, word := range words {
			all[h.names[i]] = word
			if word != "ok" {
				code = http.StatusServiceUnavailable
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(all) // the client may be gone
	})
}
