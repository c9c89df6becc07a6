package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"baryon/internal/pki"
)

// adminSocket is the unix socket by which root on the server's host asks for what no API offers.
const adminSocket = "admin.sock"

// TokenOrder asks for a join token.
type TokenOrder struct {
	Host    string        `json:"host"`
	Life    time.Duration `json:"life"`
	Multi   bool          `json:"multi"`
	Replace bool          `json:"replace"`
}

// maxOrder bounds a request on the admin socket, in bytes.
const maxOrder = 4 << 10

func adminHandler(ca *pki.Authority) http.Handler {
	mux := http.NewServeMux()
	// Profiles of the running server, for root only: curl --unix-socket admin.sock http://server/debug/pprof/heap > heap
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /node-token", func(w http.ResponseWriter, r *http.Request) {
		var o TokenOrder
		if err := json.NewDecoder(io.LimitReader(r.Body, maxOrder)).Decode(&o); err != nil {
			http.Error(w, "read order: "+err.Error(), http.StatusBadRequest)
			return
		}
		t, err := ca.NewToken(r.Context(), pki.TokenRequest{Host: o.Host, Life: o.Life, Multi: o.Multi, Replace: o.Replace})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, t)
	})
	mux.HandleFunc("DELETE /nodes/{host}", func(w http.ResponseWriter, r *http.Request) {
		if err := ca.RevokeHost(r.Context(), r.PathValue("host"), "revoked by the administrator"); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return mux
}

// listenAdmin opens the admin socket for root only.
func listenAdmin(dataDir string) (net.Listener, error) {
	path := filepath.Join(dataDir, adminSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect admin socket: %w", err), l.Close())
	}
	return l, nil
}

// NodeToken asks the server that runs with the data directory on this host for a join token.
func NodeToken(ctx context.Context, dataDir string, o TokenOrder) (string, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	return askAdmin(ctx, dataDir, http.MethodPost, "/node-token", string(body))
}

// RevokeNode takes a node's certificate back; the node is cut off at once.
func RevokeNode(ctx context.Context, dataDir, host string) error {
	if err := pki.CheckHost(host); err != nil {
		return err
	}
	_, err := askAdmin(ctx, dataDir, http.MethodDelete, "/nodes/"+host, "")
	return err
}
