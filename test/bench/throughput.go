package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// throughput: TCP between two guests of one node through br-int, against two of the same on a bridge of one NORMAL flow.
func (c *cloud) throughput(ctx context.Context, r *report) error {
	const node = "cmp1"
	network, err := c.s.network("speed", "10.5.0.0/16")
	if err != nil {
		return err
	}
	ports, err := c.createPorts(network, node, "s", 2)
	if err != nil {
		return err
	}
	devices, err := c.prepare(ctx, node, ports, 2, false)
	if err != nil {
		return err
	}
	if _, err := c.plug(ctx, node, idSet(ports), network, devices); err != nil {
		return err
	}
	if err := c.plainBridge(ctx, node); err != nil {
		return err
	}
	var ratios []time.Duration // thousandths, to share quantile
	for range 5 {
		ours, err := c.iperf(ctx, node, "b"+ports[0].ID[:8], "b"+ports[1].ID[:8], ports[1].Fixed[0].IP)
		if err != nil {
			return err
		}
		theirs, err := c.iperf(ctx, node, "plain1", "plain2", "10.9.0.2")
		if err != nil {
			return err
		}
		ratios = append(ratios, time.Duration(ours/theirs*float64(time.Millisecond)))
	}
	r.add(figure{Name: "TCP throughput, direct plug, against a plain NORMAL bridge", Value: 100 * quantile(ratios, .5), Unit: "%", Higher: true, Goal: "≥ 95 %"})
	return nil
}

// plainBridge makes a bridge of one NORMAL flow with two guests, plain1 and plain2.
func (c *cloud) plainBridge(ctx context.Context, node string) error {
	const script = `
ovs-vsctl --may-exist add-br br-plain -- set Bridge br-plain datapath_type=netdev
for i in 1 2; do
	ip netns add plain$i
	ip link add plain$i type veth peer name eth0 netns plain$i
	ip netns exec plain$i ethtool -K eth0 tx off >/dev/null
	ip -n plain$i link set eth0 mtu 1450 up
	ip -n plain$i address add 10.9.0.$i/24 dev eth0
	ip link set plain$i up
	ovs-vsctl add-port br-plain plain$i
done
`
	cmd, err := c.Command(ctx, node, "sh", "-e")
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make plain bridge: %w: %s", err, out)
	}
	return nil
}

// iperf is the speed of one TCP connection between two guests of a node, in bits per second.
func (c *cloud) iperf(ctx context.Context, node, from, to, ip string) (float64, error) {
	server, err := c.Command(ctx, node, "ip", "netns", "exec", to, "iperf3", "-s", "-1")
	if err != nil {
		return 0, err
	}
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer server.Wait() //nolint:errcheck // it ends after one client
	for {
		out, err := c.Run(ctx, node, "ip", "netns", "exec", from, "iperf3", "-J", "-t", "2", "-c", ip)
		var got struct {
			Error string
			End   struct {
				Received struct {
					BPS float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if jerr := json.Unmarshal([]byte(out), &got); jerr == nil && got.Error == "" && err == nil {
			return got.End.Received.BPS, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		time.Sleep(50 * time.Millisecond) // the server is not listening yet
	}
}

// speeds: TCP between two guests of one node, with each firewall driver in turn, against two of the same node on a plain bridge.
func speeds(ctx context.Context, r *report, nodes []*firewalled) error {
	const rounds = 3
	pairs := make([][]apiPort, len(nodes))
	for i, f := range nodes {
		if err := f.plainBridge(ctx, f.node); err != nil {
			return err
		}
		network, err := f.s.network("speed-"+f.driver, fmt.Sprintf("10.%d.0.0/16", 140+i))
		if err != nil {
			return err
		}
		if pairs[i], err = f.createPorts(network, f.node, "s", 2); err != nil {
			return err
		}
		devices, err := f.prepare(ctx, f.node, pairs[i], 2, f.hybrid)
		if err != nil {
			return err
		}
		if _, err := f.plug(ctx, f.node, idSet(pairs[i]), network, devices); err != nil {
			return err
		}
	}
	speeds := make([][]float64, len(nodes))
	for range rounds {
		for i, f := range nodes {
			a, b := guestOf(f.node, pairs[i][0]), guestOf(f.node, pairs[i][1])
			got, err := f.iperf(ctx, f.node, a.ns, b.ns, b.ip)
			if err != nil {
				return err
			}
			plain, err := f.iperf(ctx, f.node, "plain1", "plain2", "10.9.0.2")
			if err != nil {
				return err
			}
			speeds[i] = append(speeds[i], 100*got/plain)
		}
	}
	for i, f := range nodes {
		slices.Sort(speeds[i])
		r.add(figure{Name: "TCP throughput, " + f.driver + ", against a plain NORMAL bridge in the same run", Value: speeds[i][rounds/2], Unit: "%", Higher: true})
	}
	return nil
}
