package neutron_test

import (
	"sync/atomic"
	"testing"

	"baryon/internal/model"
	"baryon/internal/resource"
)

// BenchmarkPortCreate is a port's rules with the store's commit (fsync off): one client, and 32 at once on one subnet.
func BenchmarkPortCreate(b *testing.B) {
	for name, clients := range map[string]int{"clients=1": 1, "clients=32": 32} {
		b.Run(name, func(b *testing.B) {
			e := newEnv(b, unlimited)
			n, _ := e.simple(alice, "10.0.0.0/8")
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for _, err := range parallel(clients, func(int) error {
				for left.Add(-1) >= 0 {
					if _, err := e.port(alice, model.Port{NetworkID: n.ID}); err != nil {
						return err
					}
				}
				return nil
			}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPortBulk is 100 ports in one call.
func BenchmarkPortBulk(b *testing.B) {
	e := newEnv(b, unlimited)
	n, _ := e.simple(alice, "10.0.0.0/8")
	in := make([]*resource.Input[model.Port], 100)
	for i := range in {
		in[i] = resource.NewInput(model.Port{NetworkID: n.ID, AdminStateUp: true})
	}
	b.ResetTimer()
	for range b.N {
		if _, err := e.svc.Ports().Create(e.ctx, alice, in); err != nil {
			b.Fatal(err)
		}
	}
}
