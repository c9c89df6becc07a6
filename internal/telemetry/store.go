package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CommitSeconds registers the histogram of the store's commits and returns what observes one (store.OnCommit takes it).
func CommitSeconds(r *prometheus.Registry) func(time.Duration) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "baryon_store_commit_duration_seconds",
		Help:    "Time from the start of a store transaction until this server shows its commit, all runs included.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5},
	})
	r.MustRegister(h)
	return func(d time.Duration) { h.Observe(d.Seconds()) }
}

// Rows registers the number of rows of each table, read when somebody asks.
func Rows(r *prometheus.Registry, read func() map[string]int) { r.MustRegister(rows{read}) }

// rows is a collector of one gauge per table.
type rows struct{ read func() map[string]int }

func (rows) desc() *prometheus.Desc {
	return prometheus.NewDesc("baryon_store_rows", "Rows that this server's memory holds.", []string{"table"}, nil)
}

// Describe implements prometheus.Collector.
func (c rows) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc() }

// Collect implements prometheus.Collector.
func (c rows) Collect(ch chan<- prometheus.Metric) {
	d := c.desc()
	for table, n := range c.read() {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), table)
	}
}
