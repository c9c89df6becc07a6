package store

import (
	"context"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger lets etcd, which logs through zap, log through slog.  What etcd calls information is detail to us.
func zapLogger(log *slog.Logger) *zap.Logger {
	return zap.New(&slogCore{log: log.With("part", "etcd")})
}

// clientLogger is for a client of etcd: all detail.  It warns of each try of each request; what comes of them in the end is returned
// to us, and we say it once.
func clientLogger(log *slog.Logger) *zap.Logger {
	return zap.New(&slogCore{log: log.With("part", "etcd"), detail: true})
}

// slogCore is a zap core that writes to slog.
type slogCore struct {
	log    *slog.Logger
	detail bool // everything is logged as debug
}

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// harmless are messages of the embedded etcd (3.6) that it calls warnings or errors, that come with starts and stops, and that ask
// nothing of anybody.  Everything else keeps its level.  A message counts only with the cause given here.
var harmless = []struct{ message, cause string }{
	// Of its HTTP port: ours has no port at all.  No setting but a second listener silences it.
	{message: "Running http and grpc server on single port. This is not recommended for production."},
	// The storage version is looked for before the first commit of a new data directory is on disk; etcd looks again after 5 s.
	{message: "Failed to detect schema version", cause: "missing term information"},
	{message: "failed to update storage version", cause: "missing term information"},
	// Of a restart: it refuses its own message until it has begun to read its log again, and tries anew at once, hundreds of times.
	{message: "failed to publish local member to cluster through raft", cause: "too many requests"},
	// We closed it while it was about to look at versions.
	{message: "server has stopped; skipping GoAttach"},
}

// level is the level that a message is logged at.
func (c *slogCore) level(e zapcore.Entry, fields []zapcore.Field) slog.Level {
	l := slogLevel(e.Level)
	if l == slog.LevelDebug || c.detail {
		return slog.LevelDebug
	}
	for _, h := range harmless {
		if h.message == e.Message && (h.cause == "" || hasCause(fields, h.cause)) {
			return slog.LevelDebug
		}
	}
	return l
}

func hasCause(fields []zapcore.Field, cause string) bool {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && strings.Contains(err.Error(), cause) {
			return true
		}
	}
	return false
}

func (c *slogCore) Enabled(l zapcore.Level) bool {
	if c.detail {
		l = zapcore.DebugLevel
	}
	return c.log.Enabled(context.Background(), slogLevel(l))
}

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log.With(attrs(fields)...), detail: c.detail}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), c.level(e, fields), e.Message, attrs(fields)...)
	return nil
}

func (c *slogCore) Sync() error { return nil }

// attrs turns zap's fields into slog's arguments.
func attrs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	out := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		clear(enc.Fields)
		f.AddTo(enc)
		for k, v := range enc.Fields {
			out = append(out, k, v)
		}
	}
	return out
}
