package dhcp

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"baryon/internal/dataplane/dhcpd"
)

// maxUpstreams bounds how many servers a question may try.
const maxUpstreams = 6

// readResolvConf reads the node's own name servers again if their file has changed, and tells whether they are others now.
func (m *Manager) readResolvConf() bool {
	if m.cfg.ResolvConf == "" {
		return false
	}
	var at time.Time
	if st, err := os.Stat(m.cfg.ResolvConf); err == nil {
		at = st.ModTime()
	}
	if at.Equal(m.resolv) {
		return false
	}
	m.resolv = at
	list := slices.Clone(m.cfg.Upstreams)
	if f, err := os.Open(m.cfg.ResolvConf); err == nil {
		list = append(list, parseResolvConf(f)...)
		f.Close() //nolint:errcheck // only read
	} else {
		m.log.Warn("the node's name servers are unknown", "file", m.cfg.ResolvConf, "err", err)
	}
	if len(list) > maxUpstreams {
		list = list[:maxUpstreams]
	}
	changed := !slices.Equal(list, m.set.upstreams)
	m.set.upstreams = list
	return changed
}

// parseResolvConf finds the nameserver lines (resolv.conf(5)).  A server on this host's loopback is fine: it is asked from this host.
func parseResolvConf(r io.Reader) []netip.AddrPort {
	var out []netip.AddrPort
	sc := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}

// collector shows the servers' counters to Prometheus.
type collector struct{ stats *dhcpd.Stats }

func (c collector) desc() *prometheus.Desc {
	return prometheus.NewDesc("baryon_agent_dhcp_messages_total",
		"DHCP, RA and DNS messages by what became of them, all networks of the node.", []string{"result"}, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc() }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	d := c.desc()
	c.stats.Each(func(name string, n uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), name)
	})
}
