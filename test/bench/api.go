package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// server is a server of our own, with fsync, that nobody else talks to.
type server struct {
	cmd    *exec.Cmd
	exe    string
	args   []string
	dir    string
	url    string
	south  string // address for nodes
	token  string
	client *http.Client
}

func startServer(ctx context.Context, exe string, flags ...string) (*server, error) {
	dir, err := os.MkdirTemp("", "baryon-bench")
	if err != nil {
		return nil, err
	}
	api, id := freePort(), freePort()
	s := &server{exe: exe, dir: dir, url: "http://" + api, south: freePort(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	s.args = append([]string{
		"server", "--data-dir", dir, "--api-listen", api, "--identity-listen", id, "--southbound-listen", s.south, "--log-level", "warn",
	}, flags...)
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, s.login("http://"+id, filepath.Join(dir, "openrc"))
}

// start starts the process and waits until it serves.
func (s *server) start(ctx context.Context) error {
	s.cmd = exec.CommandContext(ctx, s.exe, s.args...)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for {
		resp, err := s.client.Get(s.url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// restart kills the process and starts it anew.
func (s *server) restart(ctx context.Context) error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait() // killed
	return s.start(ctx)
}

func (s *server) login(identity, openrc string) error {
	text, err := os.ReadFile(openrc)
	if err != nil {
		return err
	}
	password := ""
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "export OS_PASSWORD="); ok {
			password = strings.Trim(v, `'"`)
		}
	}
	body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":{"id":"default"},"password":%q}}},`+
		`"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}}`, password)
	resp, err := s.client.Post(identity+"/v3/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only the header is wanted
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("log in: %s", resp.Status)
	}
	s.token = resp.Header.Get("X-Subject-Token")
	return nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

func (s *server) call(method, path string, body, into any) error {
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, s.url+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()                          //nolint:errcheck // read to its end
	text := make([]byte, max(0, resp.ContentLength)) // of a known size, so that what the client costs is not measured
	if _, err := io.ReadFull(resp.Body, text); err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if into != nil {
		return json.Unmarshal(text, into)
	}
	return nil
}

// network makes a network with one subnet and returns its id.
func (s *server) network(name, cidr string) (string, error) {
	var n struct{ Network struct{ ID string } }
	if err := s.call("POST", "/v2.0/networks", obj{"network": obj{"name": name}}, &n); err != nil {
		return "", err
	}
	sub := obj{"network_id": n.Network.ID, "cidr": cidr, "ip_version": 4}
	return n.Network.ID, s.call("POST", "/v2.0/subnets", obj{"subnet": sub}, nil)
}

type obj = map[string]any

func (s *server) unlimited() error {
	var t struct {
		Tenant struct {
			ID string `json:"tenant_id"`
		}
	}
	if err := s.call("GET", "/v2.0/quotas/tenant", nil, &t); err != nil {
		return err
	}
	q := obj{"quota": obj{"port": -1, "network": -1, "subnet": -1, "security_group": -1, "security_group_rule": -1}}
	return s.call("PUT", "/v2.0/quotas/"+t.Tenant.ID, q, nil)
}

func measureAPI(ctx context.Context, exe string, r *report) error {
	s, err := startServer(ctx, exe)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.unlimited(); err != nil {
		return err
	}
	net1, err := s.network("bench", "10.0.0.0/8")
	if err != nil {
		return err
	}
	port := obj{"port": obj{"network_id": net1}}
	var single []time.Duration
	for range 600 {
		t := time.Now()
		if err := s.call("POST", "/v2.0/ports", port, nil); err != nil {
			return err
		}
		single = append(single, time.Since(t))
	}
	r.add(figure{Name: "port create, one client, p50", Value: quantile(single[100:], .5), Unit: "ms", Goal: "≤ 1.5 ms", Peers: "145 ms · bare row 0.4–3 ms"})
	r.add(figure{Name: "port create, one client, p99", Value: quantile(single[100:], .99), Unit: "ms"})
	rate, err := parallel(32, 9000, func() error { return s.call("POST", "/v2.0/ports", port, nil) })
	if err != nil {
		return err
	}
	r.add(figure{Name: "port create, 32 clients", Value: rate, Unit: "/s", Higher: true, Goal: "≥ 3,000/s", Peers: "7.4/s · bare rows 300–2,700/s"})

	bulkNet, err := s.network("bulk", "10.0.0.0/16")
	if err != nil {
		return err
	}
	var bulk, list []time.Duration
	for range 9 {
		ports := make([]obj, 100)
		for i := range ports {
			ports[i] = obj{"network_id": bulkNet, "name": fmt.Sprintf("p%d", i)}
		}
		t := time.Now()
		if err := s.call("POST", "/v2.0/ports", obj{"ports": ports}, nil); err != nil {
			return err
		}
		bulk = append(bulk, time.Since(t))
	}
	r.add(figure{Name: "100 ports in one call", Value: quantile(bulk, .5), Unit: "ms", Goal: "≤ 40 ms", Peers: "14,200 ms · 2–17 ms"})
	for range 15 {
		var got struct{ Ports []json.RawMessage }
		t := time.Now()
		if err := s.call("GET", "/v2.0/ports?limit=1000&network_id="+net1, nil, nil); err != nil {
			return err
		}
		list = append(list, time.Since(t))
		if err := s.call("GET", "/v2.0/ports?limit=1000&network_id="+net1, nil, &got); err != nil || len(got.Ports) != 1000 {
			return fmt.Errorf("the list has %d ports: %w", len(got.Ports), err)
		}
	}
	r.add(figure{Name: "list of 1,000 ports, all fields (10,000 in the store)", Value: quantile(list, .5), Unit: "ms", Goal: "≤ 8 ms", Peers: "396 ms · –"})
	rss, err := rssMB(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.add(figure{Name: "memory: server with 10,000 ports", Value: rss, Unit: "MB", Goal: "≤ 150 MB", Peers: "563 MB with few ports · 350 MB"})
	return nil
}

// parallel runs total calls by n workers and returns calls per second.
func parallel(n, total int, call func() error) (float64, error) {
	var (
		wg    sync.WaitGroup
		left  atomic.Int64
		fails atomic.Pointer[error]
	)
	left.Store(int64(total))
	t := time.Now()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 && fails.Load() == nil {
				if err := call(); err != nil {
					fails.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := fails.Load(); err != nil {
		return 0, *err
	}
	return float64(total) / time.Since(t).Seconds(), nil
}

// rssMB is the resident memory of a process in MB (2^20 bytes).
func rssMB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb float64
			_, err := fmt.Sscan(v, &kb)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d shows no VmRSS", pid)
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // the loopback address has no free port: nothing here can work
	}
	defer l.Close() //nolint:errcheck // only the number is wanted
	return l.Addr().String()
}
