package neutron

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRangeArithmetic compares union and without with plain sets, at the edges of the numbers too.
func TestRangeArithmetic(t *testing.T) {
	const top = 1<<32 - 1
	ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) TagRange {
		base := rapid.SampledFrom([]uint32{1, top - 40}).Draw(t, "base")
		a, b := rapid.Uint32Range(0, 40).Draw(t, "a"), rapid.Uint32Range(0, 40).Draw(t, "b")
		return TagRange{base + min(a, b), base + max(a, b)}
	}), 0, 5)
	set := func(list []TagRange) map[uint32]bool {
		out := map[uint32]bool{}
		for _, r := range list {
			for id := uint64(r.First); id <= uint64(r.Last); id++ {
				out[uint32(id)] = true
			}
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := ranges.Draw(t, "a"), ranges.Draw(t, "b")
		left := without(union(a), union(b))
		want := set(a)
		for id := range set(b) {
			delete(want, id)
		}
		layout := numbered(left)
		if layout.Size() != uint64(len(want)) {
			t.Fatalf("%v without %v is %v", a, b, left)
		}
		for n := range layout.Size() {
			id := layout.Value(n)
			if back, ok := layout.ID(id); !want[id] || !ok || back != n {
				t.Fatalf("number %d is %d, which is %d again, in %v", n, id, back, left)
			}
		}
		if !slices.IsSortedFunc(left, compareRanges) {
			t.Fatalf("%v is not in order", left)
		}
	})
}
