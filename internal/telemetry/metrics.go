package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry makes a process's metrics: what Go and the kernel say of it, and which version it is.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "baryon_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler serves the metrics in Prometheus's format.
func Handler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Gauges registers values that are read when somebody asks, and Counters those that only grow.
func Gauges(r *prometheus.Registry, values map[string]func() float64) {
	for name, f := range values {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help[name]}, f))
	}
}

// Counters registers values that only grow.
func Counters(r *prometheus.Registry, values map[string]func() float64) {
	for name, f := range values {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help[name]}, f))
	}
}

// help is the text of every metric that is read from elsewhere: one list of what there is.
var help = map[string]string{
	"baryon_store_revision":           "Revision of the store that this server's memory is at.",
	"baryon_store_commits_total":      "Transactions committed by this server.",
	"baryon_store_conflicts_total":    "Commits lost against another writer and run again.",
	"baryon_store_resyncs_total":      "Complete reads of the store after a lost watch.",
	"baryon_southbound_nodes":         "Nodes connected to this server.",
	"baryon_southbound_records":       "Records compiled.",
	"baryon_southbound_updates_total": "Messages with records sent to nodes.",
	"baryon_southbound_records_total": "Records sent to nodes.",
	"baryon_southbound_bytes_total":   "Bytes of records sent to nodes.",
	"baryon_southbound_resyncs_total": "Nodes brought up to date after they connected.",
	"baryon_southbound_reports_total": "Statuses and instances taken from nodes.",
	"baryon_southbound_refused_total": "Statuses and instances refused: not the node's own.",
}
