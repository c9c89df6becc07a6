package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Limits of the embedded etcd, and what an external cluster should be started with.
const (
	maxTxnOps       = 65536
	maxRequestBytes = 10 << 20 // etcd warns above
	quotaBytes      = 8 << 30  // etcd's recommended maximum
)

// Compaction of the embedded etcd: history is of no use but to a watch that fell behind, and that one reads everything anew.
const (
	compactEvery = 50_000 // revisions
	compactKeep  = 10_000 // revisions
)

// backend is an etcd to talk to: embedded or external.
type backend struct {
	client *clientv3.Client
	server *embed.Etcd // nil: external
	lock   *os.File    // on the data directory
}

// openEmbedded starts the one member of a private cluster.  It listens nowhere: only this process can reach it.
func openEmbedded(ctx context.Context, o Options) (*backend, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name = "baryon"
	cfg.Dir = filepath.Join(o.Dir, "etcd")
	cfg.ListenClientUrls, cfg.ListenPeerUrls = nil, nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100 // nobody to wait for: be leader at once
	cfg.MaxTxnOps, cfg.MaxRequestBytes = maxTxnOps, maxRequestBytes
	cfg.QuotaBackendBytes = quotaBytes
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 5000, 10 // nobody to catch up: keep little of the log in memory
	cfg.BackendBatchInterval = 100 * time.Millisecond
	cfg.WarningApplyDuration, cfg.WarningUnaryRequestDuration = time.Second, 2*time.Second
	cfg.EnableGRPCGateway = false
	cfg.AuthToken = "" // nobody can log in to what listens nowhere; with a kind of token etcd warns of it
	cfg.UnsafeNoFsync = o.UnsafeNoFsync
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(o.Log))
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded etcd in %s: %w", cfg.Dir, err), lock.Close())
	}
	b := &backend{server: e, lock: lock}
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return nil, errors.Join(fmt.Errorf("start embedded etcd in %s: it stopped", cfg.Dir), b.close())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("start embedded etcd in %s: %w", cfg.Dir, ctx.Err()), b.close())
	}
	b.client = v3client.New(e.Server)
	return b, nil
}

// lockDir keeps a second server from the same directory; etcd itself would wait for ever.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory %s: in use by another process: %w", dir, err), f.Close())
	}
	return f, nil
}

func (b *backend) close() error {
	var errs []error
	if b.client != nil {
		if err := b.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("close etcd client: %w", err))
		}
	}
	if b.server != nil {
		b.server.Close()
	}
	if b.lock != nil {
		if err := b.lock.Close(); err != nil {
			errs = append(errs, fmt.Errorf("unlock data directory: %w", err))
		}
	}
	return errors.Join(errs...)
}
