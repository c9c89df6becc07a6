package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/agent/status"
	"baryon/internal/names"
	"baryon/internal/nodestate"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// Drops counts what br-int has dropped since its flows came, by the counters of the flows that drop: by reason, and by port and stage.
func (p *provider) Drops(ctx context.Context) (status.Drops, error) {
	a := (*agent)(p)
	var conn *openflow.Conn
	owners := map[uint64]string{}
	if err := p.ask(ctx, func() {
		conn = a.br[names.BrInt].conn
		for hash, k := range a.owners {
			if k.Kind == nodestate.KindPort {
				owners[hash] = k.ID
			}
		}
	}); err != nil {
		return status.Drops{}, err
	}
	if conn == nil {
		return status.Drops{}, fmt.Errorf("count drops: %s cannot be reached", names.BrInt)
	}
	filter := openflow.AllFlows()
	filter.Cookie, filter.CookieMask = pipeline.MarkCookie()
	flows, err := conn.DumpFlows(ctx, filter)
	if err != nil {
		return status.Drops{}, fmt.Errorf("count drops: %w", err)
	}
	return countDrops(flows, owners), nil
}

// countDrops adds the counters up.  owners are ports by the hash in a cookie.
func countDrops(flows []openflow.FlowStats, owners map[uint64]string) status.Drops {
	reasons, ports := map[*pipeline.Rule]status.Dropped{}, map[status.Dropped]uint64{}
	for i := range flows {
		rule, ok := pipeline.RuleOf(flows[i].Cookie)
		if !ok || rule.Drop() == "" {
			continue
		}
		if rule.Table != pipeline.Dropped {
			d := reasons[rule]
			d.Table, d.Reason, d.Why = rule.Table.Name, rule.Drop(), rule.Why
			d.Packets += flows[i].Packets
			reasons[rule] = d
		} else if id := owners[pipeline.OwnerOf(flows[i].Cookie)]; id != "" {
			ports[status.Dropped{Port: id, Reason: rule.Drop(), Why: rule.Why}] += flows[i].Packets
		}
	}
	var out status.Drops
	for _, d := range reasons {
		out.Reasons = append(out.Reasons, d)
	}
	for d, n := range ports {
		d.Packets = n
		out.Ports = append(out.Ports, d)
	}
	order := func(x, y status.Dropped) int {
		return cmp.Or(cmp.Compare(x.Port, y.Port), cmp.Compare(x.Table, y.Table), cmp.Compare(x.Reason, y.Reason), cmp.Compare(x.Why, y.Why))
	}
	slices.SortFunc(out.Reasons, order)
	slices.SortFunc(out.Ports, order)
	return out
}

// dropCollector shows Drops as metrics, read when they are asked for.
type dropCollector struct {
	p               *provider
	reasons, byPort *prometheus.Desc
}

func newDropCollector(p *provider) *dropCollector {
	return &dropCollector{
		p: p,
		reasons: prometheus.NewDesc("baryon_firewall_drops_total", "Packets that br-int has dropped, by table and reason.",
			[]string{"table", "reason"}, nil),
		byPort: prometheus.NewDesc("baryon_firewall_port_drops_total",
			"Packets of a filtered port that br-int has dropped: at the check of their source, or by the rules of either direction.",
			[]string{"port", "stage"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *dropCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.reasons; ch <- c.byPort }

// dropTimeout bounds how long a scrape waits for the agent and the bridge.
const dropTimeout = 2 * time.Second

// Collect implements prometheus.Collector.  While the bridge cannot be asked there are no counters.
func (c *dropCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	d, err := c.p.Drops(ctx)
	if err != nil {
		c.p.log.Debug("cannot count drops", "err", err)
		return
	}
	counts := map[[2]string]uint64{}
	for _, r := range d.Reasons {
		counts[[2]string{r.Table, r.Reason}] += r.Packets // two flows of a table may share a reason
	}
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.reasons, prometheus.CounterValue, float64(n), k[0], k[1])
	}
	for _, p := range d.Ports {
		ch <- prometheus.MustNewConstMetric(c.byPort, prometheus.CounterValue, float64(p.Packets), p.Port, p.Reason)
	}
}
