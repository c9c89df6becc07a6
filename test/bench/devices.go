package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"baryon/internal/names"
)

type apiPort struct {
	ID     string
	MAC    string `json:"mac_address"`
	Status string
	Fixed  []struct {
		IP string `json:"ip_address"`
	} `json:"fixed_ips"`
}

// createPorts makes ports by one call; without groups they get the project's default group.
func (c *cloud) createPorts(network, host, prefix string, n int, groups ...string) ([]apiPort, error) {
	ports := make([]obj, n)
	for i := range ports {
		ports[i] = obj{
			"network_id": network, "name": fmt.Sprintf("%s%d", prefix, i), "device_owner": "compute:nova",
			"device_id": "00000000-0000-4000-8000-000000000001", "binding:host_id": host,
		}
		if len(groups) > 0 {
			ports[i]["security_groups"] = groups
		}
	}
	var made struct{ Ports []apiPort }
	return made.Ports, c.s.call("POST", "/v2.0/ports", obj{"ports": ports}, &made)
}

// prepare makes the devices of ports on a node: for the first `guests` of them a namespace with an address behind a veth pair, for
// the others a bare pair.  hybrid puts a Linux bridge in between.  As with `baryon plug`, the host's ends have no IPv6 (ovs-vswitchd
// goes through all addresses of the host whenever one comes) and the bridge forgets where an address was.
func (c *cloud) prepare(ctx context.Context, node string, ports []apiPort, guests int, hybrid bool) ([]device, error) {
	var script strings.Builder
	script.WriteString("up() { for d; do echo 1 >/proc/sys/net/ipv6/conf/$d/disable_ipv6; ip link set $d up; done; }\n")
	list := make([]device, 0, len(ports))
	for i, p := range ports {
		tap := names.Tap(p.ID)
		switch {
		case i < guests:
			ns := "b" + p.ID[:8]
			fmt.Fprintf(&script, "ip netns add %s\nip link add %s type veth peer name eth0 netns %s address %s\n", ns, tap, ns, p.MAC)
			fmt.Fprintf(&script, "ip netns exec %s ethtool -K eth0 tx off >/dev/null\n", ns)
			fmt.Fprintf(&script, "ip -n %s link set eth0 mtu 1450 up\nip -n %s address add %s/16 dev eth0\nip -n %s link set lo up\n", ns, ns, p.Fixed[0].IP, ns)
		default:
			fmt.Fprintf(&script, "ip link add %s type veth peer name x%s\nup x%s\n", tap, p.ID[:11], p.ID[:11])
		}
		fmt.Fprintf(&script, "up %s\n", tap)
		dev := tap
		if hybrid {
			dev = names.Qvo(p.ID)
			qbr, qvb := names.Qbr(p.ID), names.Qvb(p.ID)
			fmt.Fprintf(&script, "ip link add %s type bridge ageing_time 0 mcast_snooping 0\nip link add %s type veth peer name %s\nup %s %s %s\n", qbr, qvb, dev, qbr, qvb, dev)
			fmt.Fprintf(&script, "ip link set %s master %s\nip link set %s master %s\n", tap, qbr, qvb, qbr)
		}
		list = append(list, device{dev, p.ID, p.MAC})
	}
	cmd, err := c.Command(ctx, node, "sh", "-e")
	if err != nil {
		return nil, err
	}
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("prepare devices on %s: %w: %s", node, err, out)
	}
	return list, nil
}

// activeEvery is how often the API is asked: seldom enough not to take a processor from what is measured.
const activeEvery = time.Millisecond

// plug plugs devices and returns how long it took until the API showed every port of the network ACTIVE.
func (c *cloud) plug(ctx context.Context, node string, ids map[string]bool, network string, devices []device) (time.Duration, error) {
	socket, err := c.socket(ctx, node)
	if err != nil {
		return 0, err
	}
	t := time.Now()
	if err := plugAll(socket, devices); err != nil {
		return 0, err
	}
	for {
		n, err := c.active(network, ids)
		if err != nil {
			return 0, err
		}
		if n == len(ids) {
			return time.Since(t), nil
		}
		if time.Since(t) > time.Minute {
			return 0, fmt.Errorf("only %d of %d ports are ACTIVE after a minute", n, len(ids))
		}
		time.Sleep(activeEvery)
	}
}

func (c *cloud) active(network string, ids map[string]bool) (int, error) {
	if len(ids) == 1 {
		for id := range ids {
			var got struct{ Port apiPort }
			err := c.s.call("GET", "/v2.0/ports/"+id+"?fields=id&fields=status", nil, &got)
			if got.Port.Status == "ACTIVE" {
				return 1, err
			}
			return 0, err
		}
	}
	var got struct{ Ports []apiPort }
	if err := c.s.call("GET", "/v2.0/ports?fields=id&fields=status&network_id="+network, nil, &got); err != nil {
		return 0, err
	}
	n := 0
	for _, p := range got.Ports {
		if ids[p.ID] && p.Status == "ACTIVE" {
			n++
		}
	}
	return n, nil
}

func idSet(ports []apiPort) map[string]bool {
	ids := map[string]bool{}
	for _, p := range ports {
		ids[p.ID] = true
	}
	return ids
}
