package alloc_test

import (
	"iter"
	"maps"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"baryon/internal/neutron/alloc"
)

// numbers is the layout of 0 … size-1.
type numbers uint64

func (n numbers) Size() uint64                   { return uint64(n) }
func (n numbers) ID(v int) (uint64, bool)        { return uint64(v), v >= 0 && v < int(n) }
func (n numbers) Value(id uint64) int            { return int(id) }
func (n numbers) Equal(o alloc.Layout[int]) bool { return n == o.(numbers) }

// TestSpaceAgainstSet compares a Space with a plain set of taken ids over random changes: it never picks a taken id and finds a
// free one whenever there is one.
func TestSpaceAgainstSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]uint64{0, 1, 2, 63, 64, 65, 130, 300}).Draw(t, "size")
		s, r := alloc.NewSpace(size), rand.New(rand.NewPCG(1, 2))
		used, held := map[uint64]bool{}, map[uint64]bool{}
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			id := rapid.Uint64Range(0, 310).Draw(t, "id")
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0:
				s.Use(id)
				used[id] = true
			case 1:
				s.Free(id)
				delete(used, id)
			case 2:
				s.Hold(id)
				held[id] = true
			case 3:
				s.Drop(id)
				delete(held, id)
			default:
				got, ok := s.Pick(r, alloc.Choice(rapid.IntRange(0, 2).Draw(t, "how")))
				free := 0
				for i := range size {
					if !used[i] && !held[i] {
						free++
					}
				}
				if ok != (free > 0) {
					t.Fatalf("Pick = %d, %v with %d free", got, ok, free)
				}
				if ok && (used[got] || held[got] || got >= size) {
					t.Fatalf("picked %d, which is taken", got)
				}
				if ok {
					s.Use(got)
					used[got] = true
				}
			}
		}
	})
}

func TestSpaceFirst(t *testing.T) {
	s := alloc.NewSpace(1 << 60)
	s.Use(0)
	s.Use(1 << 59)
	if id, ok := s.Pick(nil, alloc.First); !ok || id != 1 {
		t.Errorf("Pick = %d, %v, want 1", id, ok)
	}
}

// machine drives a ledger as the service does: transactions hold values, commit or fail, and revisions arrive later, several at once.
type machine struct {
	l         *alloc.Ledger[int]
	committed map[int]bool // the truth
	seen      map[int]bool // what the ledger was told
	revision  int64
	changes   []change
}

type change struct {
	revision int64
	value    int
	taken    bool
}

func (m *machine) all(string) iter.Seq[int] { return maps.Keys(m.seen) }

func (m *machine) commit(v int, taken bool) {
	m.revision++
	if taken {
		m.committed[v] = true
	} else {
		delete(m.committed, v)
	}
	m.changes = append(m.changes, change{m.revision, v, taken})
}

// deliver tells the ledger of the n oldest changes at once.
func (m *machine) deliver(n int) {
	batch := m.changes[:n]
	m.changes = m.changes[n:]
	step := alloc.Step[int]{Revision: batch[n-1].revision, Used: func(it alloc.Item[int]) bool { return m.seen[it.Value] }}
	for _, c := range batch {
		step.Touched = append(step.Touched, alloc.Item[int]{Space: "s", Value: c.value})
	}
	m.l.Apply(step, func() {
		for _, c := range batch {
			if c.taken {
				m.seen[c.value] = true
			} else {
				delete(m.seen, c.value)
			}
		}
	})
}

// TestLedgerNeverGivesTaken: under any interleaving of picks, commits, failures, deletes and late deliveries, what is picked is neither
// committed nor held by another, and once all is delivered exactly the committed values are taken.
func TestLedgerNeverGivesTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layout := numbers(rapid.IntRange(1, 80).Draw(t, "size"))
		m := &machine{committed: map[int]bool{}, seen: map[int]bool{}}
		m.l = alloc.NewLedger(0, m.all)
		r := rand.New(rand.NewPCG(3, 4))
		var flight []int
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
			case op <= 1:
				v, ok := m.l.Hold("s", layout, r, alloc.Choice(rapid.IntRange(0, 2).Draw(t, "how")))
				if !ok {
					continue
				}
				if m.committed[v] {
					t.Fatalf("gave %d, which is committed", v)
				}
				for _, f := range flight {
					if f == v {
						t.Fatalf("gave %d twice", v)
					}
				}
				flight = append(flight, v)
			case op == 2 && len(flight) > 0: // commit
				v := flight[0]
				flight = flight[1:]
				m.commit(v, true)
				m.l.Release(m.revision, []alloc.Item[int]{{Space: "s", Value: v}})
			case op == 3 && len(flight) > 0: // fail
				m.l.Release(0, []alloc.Item[int]{{Space: "s", Value: flight[0]}})
				flight = flight[1:]
			case op == 4 && len(m.changes) > 0:
				m.deliver(rapid.IntRange(1, len(m.changes)).Draw(t, "batch"))
			case op == 5 && len(m.committed) > 0: // delete
				for v := range layout {
					if m.committed[int(v)] {
						m.commit(int(v), false)
						break
					}
				}
			}
		}
		if len(m.changes) > 0 {
			m.deliver(len(m.changes))
		}
		for _, v := range flight {
			m.l.Release(0, []alloc.Item[int]{{Space: "s", Value: v}})
		}
		left := drain(m.l, layout, r)
		rebuilt := drain(alloc.NewLedger(m.revision, m.all), layout, r)
		if len(left) != int(layout)-len(m.committed) || !maps.Equal(left, rebuilt) {
			t.Fatalf("free at the end: %v, rebuilt %v, committed %v", left, rebuilt, m.committed)
		}
	})
}

func drain(l *alloc.Ledger[int], layout numbers, r *rand.Rand) map[int]bool {
	got := map[int]bool{}
	for {
		v, ok := l.Hold("s", layout, r, alloc.Near)
		if !ok {
			return got
		}
		got[v] = true
	}
}

func TestLedgerNewLayout(t *testing.T) {
	l := alloc.NewLedger(0, func(string) iter.Seq[int] { return func(yield func(int) bool) { yield(0) } })
	r := rand.New(rand.NewPCG(5, 6))
	if v, ok := l.Hold("s", numbers(2), r, alloc.First); !ok || v != 1 {
		t.Fatalf("Hold = %d, %v, want 1", v, ok)
	}
	if _, ok := l.Hold("s", numbers(2), r, alloc.First); ok {
		t.Fatal("Hold in a full space succeeded")
	}
	if v, ok := l.Hold("s", numbers(3), r, alloc.First); !ok || v != 2 {
		t.Fatalf("Hold after growing = %d, %v, want 2: 0 is used, 1 still held", v, ok)
	}
}

// TestLedgerLayouts: callers that pick from different parts of one space see what the others hold and take, whether their layout is kept
// or was built anew.
func TestLedgerLayouts(t *testing.T) {
	for _, keep := range []int{1, 2} {
		taken := map[int]bool{0: true}
		l := alloc.NewLedger(0, func(string) iter.Seq[int] { return maps.Keys(taken) })
		l.KeepLayouts(keep)
		r := rand.New(rand.NewPCG(7, 8))
		pick := func(layout numbers) int {
			t.Helper()
			v, ok := l.Hold("s", layout, r, alloc.First)
			if !ok {
				t.Fatalf("nothing free among %d", layout)
			}
			return v
		}
		for i, layout := range []numbers{10, 20, 10, 20} {
			if v := pick(layout); v != i+1 {
				t.Errorf("keeping %d: pick %d is %d, want %d", keep, i, v, i+1)
			}
		}
		l.Release(1, []alloc.Item[int]{{Space: "s", Value: 1}, {Space: "s", Value: 2}})
		l.Apply(alloc.Step[int]{
			Revision: 1, Touched: []alloc.Item[int]{{Space: "s", Value: 1}}, Used: func(it alloc.Item[int]) bool { return taken[it.Value] },
		}, func() { taken[1] = true })
		if a, b := pick(20), pick(10); a != 2 || b != 5 {
			t.Errorf("keeping %d: after one was taken and one given back %d and %d, want 2 and 5", keep, a, b)
		}
	}
}
