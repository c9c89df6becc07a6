package delta

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func same(a, b int) bool { return a == b }

func TestPlan(t *testing.T) {
	c := Plan(map[string]int{"a": 1, "b": 2, "c": 3}, map[string]int{"b": 2, "c": 4, "d": 5}, same)
	want := Changes[string, int]{
		Add: map[string]int{"a": 1}, Change: map[string]int{"c": 3}, Remove: map[string]int{"d": 5},
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if c.Empty() || !Plan(map[string]int{"a": 1}, map[string]int{"a": 1}, same).Empty() {
		t.Error("Empty is wrong")
	}
}

func pending(m *Map[int, int]) map[int]Op {
	p := map[int]Op{}
	for k, op := range m.Pending() {
		p[k] = op
	}
	return p
}

func TestHeldOrphansWaitForRelease(t *testing.T) {
	m := NewMap[int](same, true)
	m.Load(map[int]int{1: 1, 2: 2, 3: 3})
	m.Set(1, 1)
	if d := cmp.Diff(map[int]Op{}, pending(m)); d != "" {
		t.Errorf("held: %s", d)
	}
	m.Set(2, 2)
	m.Unset(2) // wanted once: no orphan any more
	if d := cmp.Diff(map[int]Op{2: Remove}, pending(m)); d != "" {
		t.Errorf("after unset: %s", d)
	}
	m.Release()
	if d := cmp.Diff(map[int]Op{2: Remove, 3: Remove}, pending(m)); d != "" {
		t.Errorf("released: %s", d)
	}
	m.Gone(3)
	m.Gone(2)
	if m.PendingLen() != 0 {
		t.Errorf("pending after work: %v", pending(m))
	}
}

func TestCondemnedOrphanGoesAtOnce(t *testing.T) {
	m := NewMap[int](same, true)
	m.Load(map[int]int{1: 1, 2: 2, 3: 3})
	m.Set(3, 3)
	for k := range m.Orphans() {
		if k == 2 {
			m.Condemn(k)
		}
	}
	m.Condemn(3) // wanted: no orphan
	m.Condemn(4) // not there
	if d := cmp.Diff(map[int]Op{2: Remove}, pending(m)); d != "" {
		t.Error(d)
	}
}

// Whatever the calls, pending is what Plan says of the two sides.
func TestMapEqualsPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMap[int](same, false)
		want, have := map[int]int{}, map[int]int{}
		key, val := rapid.IntRange(0, 7), rapid.IntRange(0, 2)
		t.Repeat(map[string]func(*rapid.T){
			"set":   func(t *rapid.T) { k, v := key.Draw(t, "k"), val.Draw(t, "v"); m.Set(k, v); want[k] = v },
			"unset": func(t *rapid.T) { k := key.Draw(t, "k"); m.Unset(k); delete(want, k) },
			"seen":  func(t *rapid.T) { k, v := key.Draw(t, "k"), val.Draw(t, "v"); m.Seen(k, v); have[k] = v },
			"gone":  func(t *rapid.T) { k := key.Draw(t, "k"); m.Gone(k); delete(have, k) },
			"load": func(t *rapid.T) {
				have = rapid.MapOf(key, val).Draw(t, "have")
				c := map[int]int{}
				for k, v := range have {
					c[k] = v
				}
				m.Load(c)
			},
			"": func(t *rapid.T) {
				exp := map[int]Op{}
				p := Plan(want, have, same)
				for k := range p.Add {
					exp[k] = Add
				}
				for k := range p.Change {
					exp[k] = Change
				}
				for k := range p.Remove {
					exp[k] = Remove
				}
				if d := cmp.Diff(exp, pending(m)); d != "" {
					t.Fatal(d)
				}
			},
		})
	})
}
