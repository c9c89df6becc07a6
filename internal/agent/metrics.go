package agent

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the agent's counters.
type metrics struct {
	passes       prometheus.Histogram
	failures     prometheus.Counter
	transactions prometheus.Counter
	flowMods     *prometheus.CounterVec
	flows        *prometheus.GaugeVec
	revoked      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, more ...prometheus.Collector) (*metrics, error) {
	m := &metrics{
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "baryon_agent_pass_seconds", Help: "Duration of reconciliation passes.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "baryon_agent_pass_failures_total", Help: "Reconciliation passes that failed.",
		}),
		transactions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "baryon_agent_ovsdb_transactions_total", Help: "OVSDB transactions committed.",
		}),
		flowMods: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "baryon_agent_flow_mods_total", Help: "Flows added, changed and removed.",
		}, []string{"bridge"}),
		flows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "baryon_agent_flows", Help: "Flows wanted.",
		}, []string{"bridge"}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "baryon_agent_connections_ended_total", Help: "Connections ended because no rule admits them any more.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range append(more, m.passes, m.failures, m.transactions, m.flowMods, m.flows, m.revoked) {
		if err := reg.Register(c); err != nil {
			var twice prometheus.AlreadyRegisteredError
			if errors.As(err, &twice) {
				return nil, fmt.Errorf("register metrics: another agent uses this registry: %w", err)
			}
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
