package southbound

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/pki"
	"baryon/internal/store"
	pb "baryon/proto/baryon/v1"
)

// The cloud of BenchmarkScale: DESIGN.md's row of 1,000 nodes and 50,000 ports.  A network spans 20 nodes.
const (
	scaleNodes    = 1000
	scalePorts    = 50 // per node
	scaleNets     = 1000
	scaleChanges  = 300
	scaleTx       = 500 // rows per transaction of the setup
	scaleSpanning = 20  // nodes of one network
)

// simNode is the wire side of a node: what a Client holds, without its disk and its agent.
type simNode struct {
	host    string
	creds   credentials.TransportCredentials
	held    map[uint64]uint64 // key hash -> content hash
	bytes   int
	changed func(host string, u *pb.Update)
}

func (n *simNode) run(ctx context.Context, addr string, synced func()) error {
	conn, err := dial(addr, n.creds, nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stream, err := pb.NewSouthboundClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	h := &pb.Hello{}
	if len(n.held) > 0 {
		h.Digests = make([]uint64, buckets)
		for k, v := range n.held {
			h.Digests[bucketOf(k)] ^= mix(k, v)
		}
	}
	if err := stream.Send(&pb.FromNode{Message: &pb.FromNode_Hello{Hello: h}}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		var answer *pb.FromNode
		if asked := m.GetPlan().GetBuckets(); asked != 0 {
			s := &pb.Summary{}
			for k, v := range n.held {
				if asked&(1<<bucketOf(k)) != 0 {
					s.Hashes = append(s.Hashes, k, v)
				}
			}
			answer = &pb.FromNode{Message: &pb.FromNode_Summary{Summary: s}}
		} else if u := m.GetUpdate(); u != nil {
			for _, b := range u.GetUpserts() {
				r, err := Decode(b)
				if err != nil {
					return err
				}
				n.held[nodestate.HashKey(r.Key())] = nodestate.HashContent(b)
				n.bytes += len(b)
			}
			for _, k := range u.GetDeletes() {
				delete(n.held, k)
			}
			if u.GetSynced() {
				synced()
			} else {
				n.changed(n.host, u)
			}
			answer = &pb.FromNode{Message: &pb.FromNode_Ack{Ack: &pb.Ack{Seq: u.GetSeq()}}}
		}
		if answer != nil {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
	}
}

func scaleHost(i int) string { return fmt.Sprintf("node-%04d", i) }

// scaleNet spreads ports such that each network spans scaleSpanning nodes.
func scaleNet(node, port int) string {
	group := node / scaleSpanning
	return fmt.Sprintf("net-%04d", (group*scaleSpanning+port%scaleSpanning)%scaleNets)
}

func scaleCloud(b *testing.B) *cloud {
	c := newCloud(b)
	c.beat = defaultHeartbeat
	c.log = slog.New(slog.DiscardHandler)
	var rows []func(store.Tx)
	put := func(f func(store.Tx)) {
		if rows = append(rows, f); len(rows) == scaleTx {
			c.update(func(tx store.Tx) {
				for _, f := range rows {
					f(tx)
				}
			})
			rows = nil
		}
	}
	for i := range scaleNets {
		net := fmt.Sprintf("net-%04d", i)
		put(func(tx store.Tx) {
			store.Put(tx, model.NetworkTable, netRow(net, uint32(i+1)))
			store.Put(tx, model.SubnetTable, &model.Subnet{Standard: model.Standard{ID: model.ID("sub-" + net)}, NetworkID: model.ID(net),
				CIDR: netip.MustParsePrefix("10.0.0.0/16"), EnableDHCP: true})
		})
	}
	for i := range scaleNodes {
		put(func(tx store.Tx) { store.Put(tx, model.NodeTable, nodeRow(scaleHost(i), i+1)) })
		for j := range scalePorts {
			p := scalePort(i, j)
			put(func(tx store.Tx) {
				store.Put(tx, model.PortTable, p)
				store.Put(tx, model.PortStatusTable, &model.PortStatus{PortID: p.ID, Host: p.Binding.Host, State: string(nodestate.Done)})
			})
		}
	}
	c.update(func(tx store.Tx) {
		for _, f := range rows {
			f(tx)
		}
	})
	return c
}

func scalePort(node, port int) *model.Port {
	n := node*scalePorts + port
	net := scaleNet(node, port)
	p := portRow(fmt.Sprintf("port-%08d-0000-0000-0000-000000000000", n), net, scaleHost(node), n)
	p.FixedIPs = []model.FixedIP{{SubnetID: model.ID("sub-" + net), IPAddress: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}}
	return p
}

// BenchmarkScale measures, with 1,000 nodes connected over TLS and 50,000 ports in the store: the first complete state of all nodes;
// the time from the call that changes a port until the last of the 20 nodes concerned has it, commit included; and the resume of all
// nodes after the server has been restarted.  Nodes and server share the machine.  One run takes most of a minute: -benchtime=1x.
func BenchmarkScale(b *testing.B) {
	c := scaleCloud(b)
	arrivals := make(chan int64, scaleNodes)
	sims := make([]*simNode, scaleNodes)
	for i := range sims {
		sims[i] = &simNode{host: scaleHost(i), creds: credentials.NewTLS(scaleIdentity(b, c, scaleHost(i)).ClientConfig()),
			held: map[uint64]uint64{}, changed: func(_ string, u *pb.Update) { arrivals <- u.GetRevision() }}
	}
	for b.Loop() {
		for _, n := range sims {
			clear(n.held)
		}
		c.restart()
		<-c.srv.Ready()
		stop, took := connectAll(b, c, sims)
		b.ReportMetric(float64(took.Milliseconds()), "ms/complete")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys>>20), "MB/everything")

		var latencies []time.Duration
		for i := range scaleChanges {
			p := scalePort(rand.N(scaleNodes), i%scalePorts)
			p.MAC = model.MAC{6, byte(i), byte(i >> 8), p.MAC[3], p.MAC[4], p.MAC[5]}
			began := time.Now()
			rev := c.update(func(tx store.Tx) { store.Put(tx, model.PortTable, p) })
			for range scaleSpanning {
				select {
				case got := <-arrivals:
					if got < rev {
						b.Fatalf("update of %d after the commit of %d", got, rev)
					}
				case <-time.After(patience):
					b.Fatalf("change %d of port %s has not reached all its nodes", i, p.ID)
				}
			}
			latencies = append(latencies, time.Since(began))
		}
		slices.Sort(latencies)
		b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds())/1000, "ms/change-p50")
		b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds())/1000, "ms/change-p99")
		stop()

		began := time.Now()
		c.restart()
		stop, _ = connectAll(b, c, sims)
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/resume")
		b.ReportMetric(float64(c.srv.Stats().Sent), "records/resume")
		stop()
	}
}

// connectAll brings all nodes up to date and answers how long that took.
func connectAll(b *testing.B, c *cloud, sims []*simNode) (stop func(), took time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg, ready sync.WaitGroup
	began := time.Now()
	for _, n := range sims {
		ready.Add(1)
		wg.Go(func() {
			var once sync.Once
			for ctx.Err() == nil { // as a Client does
				if err := n.run(ctx, c.addr, func() { once.Do(ready.Done) }); ctx.Err() == nil {
					b.Logf("%s: %v", n.host, err)
				}
			}
		})
	}
	ready.Wait()
	return func() { cancel(); wg.Wait() }, time.Since(began)
}

func scaleIdentity(b *testing.B, c *cloud, host string) *pki.Identity {
	b.Helper()
	key, err := pki.NewKey()
	if err != nil {
		b.Fatal(err)
	}
	csr, err := pki.Request(key)
	if err != nil {
		b.Fatal(err)
	}
	tok, err := pki.ParseToken(c.token(pki.TokenRequest{Host: host}))
	if err != nil {
		b.Fatal(err)
	}
	cert, err := c.ca.Enrol(b.Context(), tok, host, csr)
	if err != nil {
		b.Fatal(err)
	}
	id, err := pki.NewIdentity(key, cert.Raw, c.ca.Certificate())
	if err != nil {
		b.Fatal(err)
	}
	return id
}
