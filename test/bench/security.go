package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"baryon/internal/lab"
)

// firewalled is a node with one of the firewall drivers, and a guest elsewhere that sends to it.
type firewalled struct {
	*cloud
	driver, node string
	hybrid       bool
}

// farNode has no firewall, so that only the measured node's filters.
const farNode = "far"

// measureSecurity measures what security groups cost with each firewall driver.
func measureSecurity(ctx context.Context, exe string, r *report) error {
	drivers := []struct{ node, driver string }{{"cmp1", lab.FirewallOVS}, {"cmp2", lab.FirewallHybrid}, {farNode, lab.FirewallNone}}
	nodes := []lab.Node{{Name: "ctl", Roles: []string{"network"}}}
	for _, d := range drivers {
		nodes = append(nodes, lab.Node{Name: d.node, Roles: []string{"compute"}, Firewall: d.driver})
	}
	return inCloud(ctx, exe, nodes, func(c *cloud) error {
		var all []*firewalled
		for i, d := range drivers {
			f := &firewalled{cloud: c, driver: d.driver, node: d.node, hybrid: d.driver == lab.FirewallHybrid}
			all = append(all, f)
			steps := []func(context.Context, *report, int) error{f.hundred}
			if d.driver != lab.FirewallNone {
				steps = append(steps, f.manyRules, f.manyMembers)
			}
			for n, step := range steps {
				if err := step(ctx, r, 10*i+n); err != nil {
					return fmt.Errorf("%s: %w", d.driver, err)
				}
			}
		}
		return speeds(ctx, r, all)
	})
}

// place is a network with guests: the first on the measured node, and one far away that sends to it.
type place struct {
	network string
	near    []apiPort
	far     apiPort
	devices []device
	took    time.Duration
}

// probePort is the UDP port whose rule comes and goes.
const probePort = 7000

// settle makes a network, n ports with a group on the measured node, and a guest elsewhere.
func (f *firewalled) settle(ctx context.Context, name string, number, n int, group string) (*place, error) {
	p := &place{}
	var err error
	if p.network, err = f.s.network(name, fmt.Sprintf("10.%d.0.0/16", 100+number)); err != nil {
		return nil, err
	}
	if p.near, err = f.createPorts(p.network, f.node, "near", n, group); err != nil {
		return nil, err
	}
	if p.devices, err = f.prepare(ctx, f.node, p.near, 2, f.hybrid); err != nil {
		return nil, err
	}
	if p.took, err = f.plug(ctx, f.node, idSet(p.near), p.network, p.devices); err != nil {
		return nil, err
	}
	far, err := f.createPorts(p.network, farNode, "far", 1)
	if err != nil {
		return nil, err
	}
	p.far = far[0]
	devices, err := f.prepare(ctx, farNode, far, 1, false)
	if err != nil {
		return nil, err
	}
	_, err = f.plug(ctx, farNode, idSet(far), p.network, devices)
	return p, err
}

func (f *firewalled) watchNear(ctx context.Context, p *place, port int) (*probe, error) {
	return f.watch(ctx, guestOf(farNode, p.far), guestOf(f.node, p.near[0]), port)
}

// group makes a security group with rules; it has the two of every new group too, which let all out.
func (s *server) group(name string, rules ...obj) (string, error) {
	var g struct {
		Group struct{ ID string } `json:"security_group"`
	}
	if err := s.call("POST", "/v2.0/security-groups", obj{"security_group": obj{"name": name}}, &g); err != nil {
		return "", err
	}
	_, err := s.rules(g.Group.ID, rules...)
	return g.Group.ID, err
}

// rules adds ingress rules by one call.  A remote_group_id "" means the group itself.
func (s *server) rules(group string, rules ...obj) ([]string, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	for _, r := range rules {
		r["security_group_id"], r["direction"] = group, "ingress"
		if r["remote_group_id"] == "" {
			r["remote_group_id"] = group
		}
	}
	var out struct {
		Rules []struct{ ID string } `json:"security_group_rules"`
	}
	if err := s.call("POST", "/v2.0/security-group-rules", obj{"security_group_rules": rules}, &out); err != nil {
		return nil, err
	}
	var ids []string
	for _, x := range out.Rules {
		ids = append(ids, x.ID)
	}
	return ids, nil
}

func portRule(protocol string, port int) obj {
	return obj{"protocol": protocol, "port_range_min": port, "port_range_max": port}
}

// tenRules is a group of ten rules: all out, its own members and ping in, and five TCP ports.
func (s *server) tenRules(name string) (string, error) {
	rules := []obj{{"remote_group_id": ""}, {"remote_group_id": "", "ethertype": "IPv6"}, {"protocol": "icmp"}}
	for i := range 5 {
		rules = append(rules, portRule("tcp", 1000+i))
	}
	return s.group(name, rules...)
}

// goals of a rule's way into the data plane.
func (f *firewalled) ruleGoal() string {
	if f.hybrid {
		return "≤ 30 ms"
	}
	return "≤ 5 ms"
}

// hundred: 100 ports with a group of ten rules, at once; then a rule of that group comes and goes.
func (f *firewalled) hundred(ctx context.Context, r *report, number int) error {
	group, err := f.s.tenRules("ten-" + f.driver)
	if err != nil {
		return err
	}
	p, err := f.settle(ctx, "hundred-"+f.driver, number, 100, group)
	if err != nil {
		return err
	}
	times := []time.Duration{p.took}
	for range 2 {
		socket, err := f.socket(ctx, f.node)
		if err != nil {
			return err
		}
		if err := unplugAll(socket, p.devices); err != nil {
			return err
		}
		if err := f.down(ctx, p.network, idSet(p.near)); err != nil {
			return err
		}
		d, err := f.plug(ctx, f.node, idSet(p.near), p.network, p.devices)
		if err != nil {
			return err
		}
		times = append(times, d)
	}
	goal, peers := "≤ 140 ms", "35,000 ms · 142 ms"
	if f.hybrid {
		goal, peers = "≤ 1,500 ms", "102,000 ms · –"
	}
	r.add(figure{Name: "100 ports with a ten-rule group at once → all ACTIVE, " + f.driver, Value: quantile(times, .5), Unit: "ms", Goal: goal, Peers: peers})
	flows, err := f.lines(ctx, "ovs-ofctl", "dump-flows", "--no-stats", "br-int")
	if err != nil {
		return err
	}
	r.add(figure{Name: "br-int flows, 100 ports with a ten-rule group, " + f.driver, Value: float64(len(flows)), Goal: "≤ 1,500", Peers: "5,827 · 6,519"})
	if f.hybrid {
		rules, err := f.lines(ctx, "sh", "-c", "iptables-save; ip6tables-save")
		if err != nil {
			return err
		}
		rules = slices.DeleteFunc(rules, func(s string) bool { return !strings.HasPrefix(s, "-A ") })
		r.add(figure{Name: "chain lines of both families, 100 ports with a ten-rule group, " + f.driver, Value: float64(len(rules))})
	}
	if f.driver == lab.FirewallNone {
		return nil
	}
	return f.comeAndGo(ctx, r, p, group, 20, "with 100 ports in the group")
}

// down waits until none of the ports is ACTIVE.
func (f *firewalled) down(ctx context.Context, network string, ids map[string]bool) error {
	return poll(ctx, "all ports to be DOWN", func() (bool, error) {
		n, err := f.active(network, ids)
		return n == 0, err
	})
}

// lines is what a command on the node prints.
func (f *firewalled) lines(ctx context.Context, argv ...string) ([]string, error) {
	out, err := f.Run(ctx, f.node, argv...)
	return strings.Split(strings.TrimSpace(out), "\n"), err
}

// comeAndGo adds and deletes a rule under a stream of packets that only it lets pass.
func (f *firewalled) comeAndGo(ctx context.Context, r *report, p *place, group string, rounds int, how string) error {
	w, err := f.watchNear(ctx, p, probePort)
	if err != nil {
		return err
	}
	defer w.close()
	var added, deleted []time.Duration
	for range rounds {
		var rule []string
		d, err := w.opened(func() (err error) { rule, err = f.s.rules(group, portRule("udp", probePort)); return err })
		if err != nil {
			return err
		}
		added = append(added, d)
		d, err = w.cut(func() error { return f.s.call("DELETE", "/v2.0/security-group-rules/"+rule[0], nil, nil) })
		if err != nil {
			return err
		}
		deleted = append(deleted, d)
	}
	r.add(figure{Name: fmt.Sprintf("rule added → enforced, %s, %s, p50", f.driver, how), Value: quantile(added, .5), Unit: "ms", Goal: f.ruleGoal(), Peers: "1,050 ms · 4.7 ms"})
	r.add(figure{Name: fmt.Sprintf("rule deleted → live flow cut, %s, %s, p50", f.driver, how), Value: quantile(deleted, .5), Unit: "ms", Goal: f.ruleGoal(), Peers: "200–500 ms · 3.6 ms"})
	return nil
}

// manyRules: a port gets 500 rules by one call; then one more comes and goes.
func (f *firewalled) manyRules(ctx context.Context, r *report, number int) error {
	group, err := f.s.group("rules-" + f.driver)
	if err != nil {
		return err
	}
	p, err := f.settle(ctx, "rules-"+f.driver, number, 1, group)
	if err != nil {
		return err
	}
	const last = 8499
	w, err := f.watchNear(ctx, p, last)
	if err != nil {
		return err
	}
	var rules []obj
	for port := 8000; port <= last; port++ {
		rules = append(rules, portRule("udp", port))
	}
	d, err := w.opened(func() error { _, err := f.s.rules(group, rules...); return err })
	w.close()
	if err != nil {
		return err
	}
	r.add(figure{Name: "500 rules for a port by one call → all enforced, " + f.driver, Value: ms(d), Unit: "ms"})
	return f.comeAndGo(ctx, r, p, group, 10, "with 500 rules on the port")
}

// manyMembers: a rule names a group of 1,000 ports; one more joins and leaves.
func (f *firewalled) manyMembers(ctx context.Context, r *report, number int) error {
	crowd, err := f.s.group("crowd-" + f.driver)
	if err != nil {
		return err
	}
	group, err := f.s.group("members-"+f.driver, obj{"protocol": "udp", "remote_group_id": crowd})
	if err != nil {
		return err
	}
	p, err := f.settle(ctx, "members-"+f.driver, number, 1, group)
	if err != nil {
		return err
	}
	for range 10 {
		if _, err := f.createPorts(p.network, "", "crowd", 100, crowd); err != nil {
			return err
		}
	}
	if err := f.WaitSync(ctx, f.node); err != nil {
		return err
	}
	w, err := f.watchNear(ctx, p, probePort)
	if err != nil {
		return err
	}
	defer w.close()
	join := func(groups ...string) func() error {
		return func() error {
			return f.s.call("PUT", "/v2.0/ports/"+p.far.ID, obj{"port": obj{"security_groups": groups}}, nil)
		}
	}
	if err := join([]string{}...)(); err != nil {
		return err
	}
	var joined, left []time.Duration
	touched := 0
	for range 10 {
		before, err := f.entries(ctx)
		if err != nil {
			return err
		}
		d, err := w.opened(join(crowd))
		if err != nil {
			return err
		}
		joined = append(joined, d)
		after, err := f.entries(ctx)
		if err != nil {
			return err
		}
		touched = difference(before, after)
		if d, err = w.cut(join([]string{}...)); err != nil {
			return err
		}
		left = append(left, d)
	}
	r.add(figure{Name: "a port joins a group of 1,000 → enforced, " + f.driver + ", p50", Value: quantile(joined, .5), Unit: "ms", Goal: f.ruleGoal()})
	r.add(figure{Name: "a port leaves a group of 1,000 → live flow cut, " + f.driver + ", p50", Value: quantile(left, .5), Unit: "ms", Goal: f.ruleGoal()})
	r.add(figure{Name: "flows, chain lines and set members that the joining changes, " + f.driver, Value: float64(touched), Goal: "1"})
	return nil
}

// entries are the flows of br-int, and on a hybrid node the chain lines and set members.
func (f *firewalled) entries(ctx context.Context) ([]string, error) {
	script := "ovs-ofctl dump-flows --no-stats br-int"
	if f.hybrid {
		script += "; iptables-save; ip6tables-save; ipset save"
	}
	list, err := f.lines(ctx, "sh", "-c", script)
	return slices.DeleteFunc(list, func(s string) bool { return strings.HasPrefix(s, "#") || strings.HasPrefix(s, ":") }), err
}

// difference is how many lines only one of the two has.
func difference(a, b []string) int {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	n := 0
	for _, c := range count {
		n += max(c, -c)
	}
	return n
}
