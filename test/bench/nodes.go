package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"baryon/internal/lab"
)

// cloud is a lab and a fast client of its API.
type cloud struct {
	*lab.Lab
	s *server // only its client side
}

func measureNodes(ctx context.Context, exe string, r *report) error {
	return inCloud(ctx, exe, []lab.Node{
		{Name: "ctl", Roles: []string{"network"}}, {Name: "cmp1", Roles: []string{"compute"}}, {Name: "cmp2", Roles: []string{"compute"}},
		{Name: "cmp3", Roles: []string{"compute"}, Plug: lab.PlugHybrid},
	}, func(c *cloud) error {
		for _, step := range []func(context.Context, *report) error{c.plugLatency, c.many, c.throughput} {
			if err := step(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// inCloud has f measure in a lab of some nodes.
func inCloud(ctx context.Context, exe string, nodes []lab.Node, f func(*cloud) error) error {
	l, err := lab.Up(ctx, lab.Config{
		Name: "bench", Dir: lab.DefaultDir("bench"), Exe: exe,
		Servers:  []lab.ServerAddr{{API: freePort(), Identity: freePort()}},
		Topology: lab.Topology{Nodes: nodes},
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := l.Down(context.WithoutCancel(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}()
	c, err := newCloud(ctx, l)
	if err != nil {
		return err
	}
	return f(c)
}

func newCloud(ctx context.Context, l *lab.Lab) (*cloud, error) {
	api, err := l.API(ctx)
	if err != nil {
		return nil, err
	}
	c := &cloud{Lab: l, s: &server{
		url: l.ServerURL(0), token: api.Token(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
	}}
	return c, c.s.unlimited()
}

// socket is a node's switch database, as the host sees it.
func (c *cloud) socket(ctx context.Context, node string) (string, error) {
	pid, err := c.HostPID(node)
	if err != nil {
		return "", err
	}
	return filepath.Join("/proc", strconv.Itoa(pid), "root/run/openvswitch/db.sock"), nil
}

// plugLatency: one port at a time, from its row in OVS to ACTIVE and to the first ping from another node; then the same with 10,000
// ports more in the store.
func (c *cloud) plugLatency(ctx context.Context, r *report) error {
	network, err := c.s.network("latency", "10.1.0.0/16")
	if err != nil {
		return err
	}
	far, err := c.createPorts(network, "cmp2", "far", 1)
	if err != nil {
		return err
	}
	devices, err := c.prepare(ctx, "cmp2", far, 1, false)
	if err != nil {
		return err
	}
	if _, err := c.plug(ctx, "cmp2", idSet(far), network, devices); err != nil {
		return err
	}
	const rounds = 20
	active, ping, err := c.oneByOne(ctx, network, far[0], rounds, "n")
	if err != nil {
		return err
	}
	r.add(figure{Name: "port row in OVS → ACTIVE, p50", Value: quantile(active, .5), Unit: "ms", Goal: "≤ 12 ms", Peers: "1,200 ms · 12 ms"})
	r.add(figure{Name: "port row in OVS → first ping from another node, p50", Value: quantile(ping, .5), Unit: "ms", Goal: "≤ 15 ms", Peers: "1,700 ms · 15 ms"})
	other, err := c.s.network("ballast", "10.2.0.0/16")
	if err != nil {
		return err
	}
	// They are other people's: had they the measured ports' group, each node would hold ten thousand members of it.
	strangers, err := c.s.group("ballast")
	if err != nil {
		return err
	}
	for range 100 {
		if _, err := c.createPorts(other, "", "ballast", 100, strangers); err != nil {
			return err
		}
	}
	// The DHCP node takes ten thousand new hosts in; what is measured is a cloud that has them.
	if err := c.WaitSync(ctx, "ctl"); err != nil {
		return err
	}
	active, ping, err = c.oneByOne(ctx, network, far[0], rounds, "m")
	if err != nil {
		return err
	}
	r.add(figure{Name: "the same → ACTIVE with 10,000 ports more in the store, p50", Value: quantile(active, .5), Unit: "ms", Goal: "unchanged", Peers: "– · 219 ms"})
	r.add(figure{Name: "the same → first ping with 10,000 ports more, p50", Value: quantile(ping, .5), Unit: "ms", Goal: "unchanged"})
	return nil
}

func (c *cloud) oneByOne(ctx context.Context, network string, far apiPort, rounds int, prefix string) (active, ping []time.Duration, err error) {
	for i := range rounds {
		ports, err := c.createPorts(network, "cmp1", fmt.Sprintf("%s%d-", prefix, i), 1)
		if err != nil {
			return nil, nil, err
		}
		devices, err := c.prepare(ctx, "cmp1", ports, 1, false)
		if err != nil {
			return nil, nil, err
		}
		first, err := c.firstPing(ctx, far, ports[0])
		if err != nil {
			return nil, nil, err
		}
		t := time.Now()
		d, err := c.plug(ctx, "cmp1", idSet(ports), network, devices)
		if err != nil {
			return nil, nil, err
		}
		active = append(active, d)
		select {
		case at := <-first:
			ping = append(ping, at.Sub(t))
		case <-time.After(20 * time.Second):
			return nil, nil, fmt.Errorf("no ping is answered")
		}
	}
	return active, ping, nil
}

// firstPing pings the port from the far guest every 2 ms and says when the first reply came.
func (c *cloud) firstPing(ctx context.Context, far, to apiPort) (<-chan time.Time, error) {
	ns := "b" + far.ID[:8]
	if _, err := c.Run(ctx, "cmp2", "ip", "-n", ns, "neigh", "replace", to.Fixed[0].IP, "lladdr", to.MAC, "dev", "eth0"); err != nil {
		return nil, err
	}
	cmd, err := c.Command(ctx, "cmp2", "ip", "netns", "exec", ns, "ping", "-n", "-i", "0.002", "-w", "15", to.Fixed[0].IP)
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	first := make(chan time.Time, 1)
	before, err := c.echoes(ctx, ns)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// ping says nothing before the first reply; the kernel counts what it sends.
	for {
		now, err := c.echoes(ctx, ns)
		if err != nil {
			return nil, err
		}
		if now > before {
			break
		}
	}
	sc := bufio.NewScanner(out)
	go func() {
		for sc.Scan() {
			if strings.Contains(sc.Text(), "bytes from") {
				first <- time.Now()
				break
			}
		}
		_ = cmd.Process.Signal(syscall.SIGKILL) // nsenter; what it started ends by -w
		_ = cmd.Wait()
	}()
	return first, nil
}

// echoes is how many echo requests a guest of cmp2 has sent.
func (c *cloud) echoes(ctx context.Context, ns string) (int, error) {
	out, err := c.Run(ctx, "cmp2", "ip", "netns", "exec", ns, "awk", "/^Icmp: [0-9]/ {print $(NF-5)}", "/proc/net/snmp")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// many: 100 ports at once, direct and hybrid; flows; agent restart and memory with 100 and 500 ports.
func (c *cloud) many(ctx context.Context, r *report) error {
	hybrid, err := c.s.network("hundred-hybrid", "10.3.0.0/16")
	if err != nil {
		return err
	}
	d, plugged, err := c.batch(ctx, hybrid, "cmp3", 100, true)
	if err != nil {
		return err
	}
	pair := [2]device{plugged[0], plugged[1]} // those with guests
	r.add(figure{Name: "100 ports at once → all ACTIVE, hybrid", Value: ms(d), Unit: "ms", Goal: "≤ 1,500 ms", Peers: "102,000 ms · –"})
	network, err := c.s.network("hundred", "10.4.0.0/16")
	if err != nil {
		return err
	}
	var times []time.Duration
	for range 3 {
		d, devices, err := c.batch(ctx, network, "cmp2", 100, false)
		if err != nil {
			return err
		}
		times = append(times, d)
		socket, err := c.socket(ctx, "cmp2")
		if err != nil {
			return err
		}
		if err := unplugAll(socket, devices); err != nil {
			return err
		}
	}
	r.add(figure{Name: "100 ports at once → all ACTIVE, direct", Value: quantile(times, .5), Unit: "ms", Goal: "≤ 140 ms", Peers: "35,000 ms · 142 ms"})

	// The restarts are measured on cmp3, whose ports stay: 100, then 500.
	if err := c.restart(ctx, r, 100, pair); err != nil {
		return err
	}
	if _, _, err := c.batch(ctx, hybrid, "cmp3", 400, false); err != nil {
		return err
	}
	return c.restart(ctx, r, 500, pair)
}

func (c *cloud) batch(ctx context.Context, network, node string, n int, hybrid bool) (time.Duration, []device, error) {
	var ports []apiPort
	for len(ports) < n {
		more, err := c.createPorts(network, node, "m", 100)
		if err != nil {
			return 0, nil, err
		}
		ports = append(ports, more...)
	}
	devices, err := c.prepare(ctx, node, ports, 2, hybrid)
	if err != nil {
		return 0, nil, err
	}
	d, err := c.plug(ctx, node, idSet(ports), network, devices)
	return d, devices, err
}

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// restart kills and starts the agent of cmp3 under a ping of 100 packets per second between two of its guests.
func (c *cloud) restart(ctx context.Context, r *report, ports int, pair [2]device) error {
	from := pair[0]
	var to struct{ Port apiPort }
	if err := c.s.call("GET", "/v2.0/ports/"+pair[1].portID, nil, &to); err != nil {
		return err
	}
	var in []time.Duration
	lost := 0.0
	for range 5 {
		cmd, err := c.Command(ctx, "cmp3", "ip", "netns", "exec", "b"+from.portID[:8], "ping", "-n", "-q", "-i", "0.01", "-c", "300", to.Port.Fixed[0].IP)
		if err != nil {
			return err
		}
		ended := make(chan string, 1)
		go func() {
			out, _ := cmd.CombinedOutput() //nolint:errcheck // judged by its summary
			ended <- string(out)
		}()
		if err := c.StopAgent(ctx, "cmp3", syscall.SIGKILL); err != nil {
			return err
		}
		t := time.Now()
		if err := c.StartAgent(ctx, "cmp3"); err != nil {
			return err
		}
		if err := c.WaitSync(ctx, "cmp3"); err != nil {
			return err
		}
		in = append(in, time.Since(t))
		m := pingSummary.FindStringSubmatch(<-ended)
		if m == nil {
			return fmt.Errorf("the ping printed no summary")
		}
		sent, _ := strconv.ParseFloat(m[1], 64) //nolint:errcheck // digits by the expression
		back, _ := strconv.ParseFloat(m[2], 64) //nolint:errcheck // digits by the expression
		lost += sent - back
	}
	goal, mem := "≤ 200 ms", "≤ 35 MB"
	peers, peerMem := "51,000–57,000 ms · 190 ms with 14 lost, or 2,100 ms with 0", "890 MB per node · 13 MB"
	if ports == 500 {
		goal, mem = "≤ 700 ms", "≤ 60 MB"
		peers, peerMem = "– · 2,400 ms with 228 lost, or 5,200 ms with 0", "– · 46 MB"
	}
	r.add(figure{Name: fmt.Sprintf("agent restart with %d ports, in sync, p50", ports), Value: quantile(in, .5), Unit: "ms", Goal: goal, Peers: peers})
	r.add(figure{Name: fmt.Sprintf("packets lost at 100/s in 5 restarts with %d ports", ports), Value: lost, Unit: "", Goal: "0"})
	rss, err := c.agentRSS(ctx, "cmp3")
	if err != nil {
		return err
	}
	r.add(figure{Name: fmt.Sprintf("memory: agent with %d ports", ports), Value: rss, Unit: "MB", Goal: mem, Peers: peerMem})
	return nil
}

func (c *cloud) agentRSS(ctx context.Context, node string) (float64, error) {
	for _, n := range c.Status(ctx) {
		for _, s := range n.Services {
			if n.Name != node || s.Name != lab.ServiceAgent {
				continue
			}
			out, err := c.Run(ctx, node, "grep", "VmRSS", fmt.Sprintf("/proc/%d/status", s.PID))
			if err != nil {
				return 0, err
			}
			var kb float64
			_, err = fmt.Sscanf(out, "VmRSS: %f kB", &kb)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("node %s runs no agent", node)
}
