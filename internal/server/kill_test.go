package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// killConfig, set in the environment, makes the test binary a server that is killed: data directory, API and southbound address.
const killConfig = "BARYON_SERVER_KILL_CONFIG"

func TestMain(m *testing.M) {
	text := os.Getenv(killConfig)
	if text == "" {
		os.Exit(m.Run())
	}
	at := strings.Split(text, " ")
	cfg := Config{DataDir: at[0], APIListen: at[1], SouthboundListen: at[2], Identity: IdentityNone}
	if err := Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// made is a port as a client was told of it.
type made struct {
	ID       string
	MAC      string `json:"mac_address"`
	FixedIPs []struct {
		IP string `json:"ip_address"`
	} `json:"fixed_ips"`
}

// A server process that is killed while 16 clients create ports, one by one and in bulk, has lost nothing that it answered, gives
// no address twice afterwards, and did every call wholly or not at all.
func TestKillLosesNothing(t *testing.T) {
	cfg, l := testConfig(t)
	kept := map[string]made{}
	network := ""
	for round := range 3 {
		p := spawn(t, cfg, l)
		if network == "" {
			network = p.network()
		}
		killed := p.createUntilKilled(network, 100+round*250)
		p.reap()
		for _, port := range killed {
			kept[port.ID] = port
		}
		r := start(t, cfg, l)
		var got struct {
			Ports []struct {
				made
				Name string
			}
		}
		r.call(200, "GET", "/v2.0/ports", nil, &got)
		byIP, byMAC, byID, bulks := map[string]string{}, map[string]string{}, map[string]made{}, map[string]int{}
		for _, port := range got.Ports {
			byID[port.ID] = port.made
			byMAC[port.MAC] += port.ID
			for _, ip := range port.FixedIPs {
				byIP[ip.IP] += port.ID
			}
			if port.Name != "" {
				bulks[port.Name]++
			}
		}
		for id, want := range kept {
			if port, ok := byID[id]; !ok || port.MAC != want.MAC || fmt.Sprint(port.FixedIPs) != fmt.Sprint(want.FixedIPs) {
				t.Errorf("round %d: %+v was answered, %+v is left", round, want, port)
			}
		}
		if len(byIP) != len(got.Ports) || len(byMAC) != len(got.Ports) {
			t.Errorf("round %d: %d ports have %d addresses and %d MACs", round, len(got.Ports), len(byIP), len(byMAC))
		}
		for name, n := range bulks {
			if n != bulkSize {
				t.Errorf("round %d: %d ports of call %s, want all %d or none", round, n, name, bulkSize)
			}
		}
		r.call(201, "POST", "/v2.0/ports", obj{"port": obj{"network_id": network}}, nil)
		r.stop()
	}
}

const bulkSize = 20

// process is a server of its own.
type process struct {
	*running
	cmd *exec.Cmd
}

func spawn(t *testing.T, cfg Config, l *logs) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), killConfig+"="+strings.Join([]string{cfg.DataDir, cfg.APIListen, cfg.SouthboundListen}, " "))
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.running = &running{t: t, cfg: cfg, logs: l, ended: make(chan struct{}), http: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(l, lines.Text())
		}
	}()
	p.ready()
	return p
}

// reap waits for the end of a killed process.
func (p *process) reap() {
	<-p.ended
	_ = p.cmd.Wait() // says that it was killed
	p.http.CloseIdleConnections()
}

// createUntilKilled kills the server once n ports have been answered and returns all that were.
func (p *process) createUntilKilled(network string, n int) []made {
	var (
		mu    sync.Mutex
		all   []made
		wg    sync.WaitGroup
		first = p.cmd.Process.Pid
	)
	take := func(ports ...made) {
		mu.Lock()
		defer mu.Unlock()
		if before := len(all); before < n && before+len(ports) >= n {
			if err := p.cmd.Process.Kill(); err != nil {
				p.t.Error(err)
			}
		}
		all = append(all, ports...)
	}
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				one := obj{"network_id": network}
				body := obj{"port": one}
				if w%4 == 0 {
					many := make([]obj, bulkSize)
					for j := range many {
						many[j] = obj{"network_id": network, "name": fmt.Sprintf("%d-%d-%d", first, w, i)}
					}
					body = obj{"ports": many}
				}
				code, text, err := p.try("POST", "/v2.0/ports", body)
				if err != nil {
					return // killed
				}
				var got struct {
					Port  *made
					Ports []made
				}
				if err := json.Unmarshal(text, &got); err != nil || code != http.StatusCreated {
					if !strings.Contains(string(text), "NeutronError") {
						return // cut in the middle
					}
					p.t.Errorf("%d %s %v", code, text, err)
					return
				}
				if got.Port != nil {
					got.Ports = append(got.Ports, *got.Port)
				}
				take(got.Ports...)
			}
		})
	}
	wg.Wait()
	if len(all) < n {
		p.t.Fatalf("the server has ended after %d ports\n%s", len(all), p.logs)
	}
	return all
}
