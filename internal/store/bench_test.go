package store_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baryon/internal/model"
	"baryon/internal/store"

	"net/netip"
	"sort"
)

// benchPort is a port as the API creates it: bound, with one address.
func benchPort(i int) *model.Port {
	id := fmt.Sprintf("%08x-1111-4222-8333-%012x", i*2654435761&0xffffffff, i)
	return &model.Port{
		Standard: model.Standard{
			ID: model.ID(id), ProjectID: "0123456789abcdef0123456789abcdef",
			CreatedAt: time.Unix(1700000000, 0).UTC(), UpdatedAt: time.Unix(1700000000, 0).UTC(),
		},
		Name: "port-" + id[:8], NetworkID: "11111111-2222-4333-8444-555555555555", AdminStateUp: true,
		MAC:      model.MAC{0xfa, 0x16, 0x3e, byte(i >> 16), byte(i >> 8), byte(i)},
		FixedIPs: []model.FixedIP{{SubnetID: "99999999-2222-4333-8444-555555555555", IPAddress: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}},
		DeviceID: id, DeviceOwner: "compute:nova", PortSecurityEnabled: true,
		Binding: model.Binding{Host: fmt.Sprintf("node-%d", i%100), VNICType: "normal", VIFType: "ovs",
			VIFDetails: map[string]any{"port_filter": true, "bridge_name": "br-int", "datapath_type": "system"}},
	}
}

func openBench(b *testing.B) *store.Store {
	b.Helper()
	s, err := store.Open(b.Context(), store.Options{Dir: b.TempDir(), Tables: model.AllTables()}) // with fsync
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// benchUpdate creates b.N ports with so many clients at once and reports the median and 99th percentile of their latency.
func benchUpdate(b *testing.B, clients int) {
	s := openBench(b)
	lat := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				start := time.Now()
				_, err := s.Update(b.Context(), func(tx store.Tx) error {
					p := benchPort(i)
					store.Get(tx, model.NetworkTable, string(p.NetworkID))
					for range store.Find(tx, model.SubnetTable, "network", string(p.NetworkID)) {
						continue
					}
					store.Put(tx, model.PortTable, p)
					return nil
				})
				if err != nil {
					b.Error(err)
					return
				}
				lat[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	sort.Slice(lat, func(i, j int) bool { return lat[i] < lat[j] })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
	b.ReportMetric(float64(lat[len(lat)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(lat[len(lat)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(s.Stats().Conflicts), "conflicts")
}

func BenchmarkUpdate1(b *testing.B)  { benchUpdate(b, 1) }
func BenchmarkUpdate32(b *testing.B) { benchUpdate(b, 32) }

// filled is a store with n ports on one network.
func filled(b *testing.B, n int) *store.Store {
	b.Helper()
	s := openBench(b)
	for i := 0; i < n; i += 500 {
		_, err := s.Update(b.Context(), func(tx store.Tx) error {
			for j := i; j < min(n, i+500); j++ {
				store.Put(tx, model.PortTable, benchPort(j))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func BenchmarkFindHost(b *testing.B) { // 100 of 10,000
	s := filled(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range store.Find(s.Snapshot(), model.PortTable, "host", "node-7") {
			n++
		}
		if n != 100 {
			b.Fatal(n)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := filled(b, 10_000)
	id := string(benchPort(4242).ID)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := store.Get(s.Snapshot(), model.PortTable, id); !ok {
			b.Fatal("gone")
		}
	}
}

func BenchmarkCount(b *testing.B) {
	s := filled(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if n := store.Count(s.Snapshot(), model.PortTable, "network", "11111111-2222-4333-8444-555555555555"); n != 10_000 {
			b.Fatal(n)
		}
	}
}

// BenchmarkMemory reports what 10,000 ports cost in heap: the replica and what etcd keeps in memory.  It measures once, however
// many iterations are asked for.
func BenchmarkMemory(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	s := openBench(b)
	before := heap()
	for i := range 10_000 {
		_, err := s.Update(b.Context(), func(tx store.Tx) error {
			store.Put(tx, model.PortTable, benchPort(i))
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	grown := heap() - before
	for b.Loop() {
		runtime.KeepAlive(s)
	}
	b.ReportMetric(grown, "heap-MB/10k-ports")
}
