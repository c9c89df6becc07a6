// Package telemetry is how Baryon's processes show themselves: structured logs, Prometheus metrics, health.
//
// It knows nothing of what it shows; composition roots hand it checks and collectors.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger makes the logger of a process.  format is "text" or "json", level is debug, info, warn or error.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: must be debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("log format %q: must be text or json", format)
}
