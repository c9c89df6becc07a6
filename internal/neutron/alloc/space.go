// Package alloc hands out numbers: which are free is known without a scan, whatever the size of the space.
//
// A Space is one dense range of ids.  A Ledger keeps many Spaces equal to the store (it is fed with what each store revision took
// and freed) and, beside that, what transactions in flight on this server have picked, so that parallel requests pick different
// values.  The store's unique keys remain the judge: a Ledger only makes good proposals.
package alloc

import (
	"container/heap"
	"math/bits"
	"math/rand/v2"
)

const (
	wordBits = 64
	// window is among how many of the lowest free ids a pick chooses, as Neutron does: low ids first, but not the very same for two
	// servers at once.
	window = 10
	// probes is how many random ids a spread pick tries before it takes a low one.
	probes = 8
)

// Space is the set of ids 0 … size-1, each used, held, both or free.  Time and memory depend on how many ids were ever taken, never
// on the size.  It is not safe for concurrent use.
type Space struct {
	size  uint64
	words map[uint64]*word // the words that differ from all-free, or that the frontier has passed
	open  wordHeap         // those of them that have a free id, lowest first
	next  uint64           // the frontier: words below it are all in words
}

// word is the state of 64 neighbouring ids.
type word struct {
	index      uint64
	used, held uint64
	pos        int // place in Space.open, -1: not there
}

// NewSpace makes a space of which all ids are free.
func NewSpace(size uint64) *Space {
	return &Space{size: size, words: make(map[uint64]*word)}
}

// Pick finds a free id and does not change its state.  It is one of the lowest free ones; with spread, one from anywhere, which is
// better when others pick from the same low ids; with first, the lowest.  False: none is free.
func (s *Space) Pick(r *rand.Rand, how Choice) (uint64, bool) {
	if s.size == 0 {
		return 0, false
	}
	if how == Spread {
		for range probes {
			if id := r.Uint64N(s.size); s.isFree(id) {
				return id, true
			}
		}
	}
	w := s.lowest()
	if w == nil {
		return 0, false
	}
	free := s.free(w)
	n := min(bits.OnesCount64(free), window)
	skip := 0
	if how != First {
		skip = r.IntN(n)
	}
	for range skip {
		free &= free - 1
	}
	return w.index*wordBits + uint64(bits.TrailingZeros64(free)), true
}

// Choice says which free id a pick prefers.
type Choice int

// The choices.
const (
	Near   Choice = iota // one of the lowest, by chance
	Spread               // any, by chance
	First                // the lowest
)

// Use marks an id as used; ids outside the space are ignored.
func (s *Space) Use(id uint64) { s.set(id, func(w *word, bit uint64) { w.used |= bit }) }

// Free marks an id as not used.
func (s *Space) Free(id uint64) { s.set(id, func(w *word, bit uint64) { w.used &^= bit }) }

// Hold marks an id as held.
func (s *Space) Hold(id uint64) { s.set(id, func(w *word, bit uint64) { w.held |= bit }) }

// Drop marks an id as not held.
func (s *Space) Drop(id uint64) { s.set(id, func(w *word, bit uint64) { w.held &^= bit }) }

func (s *Space) isFree(id uint64) bool {
	w, ok := s.words[id/wordBits]
	return !ok || (w.used|w.held)&(1<<(id%wordBits)) == 0
}

// free gives the free ids of a word as bits.
func (s *Space) free(w *word) uint64 {
	f := ^(w.used | w.held)
	if rest := s.size - w.index*wordBits; rest < wordBits {
		f &= 1<<rest - 1
	}
	return f
}

func (s *Space) set(id uint64, change func(*word, uint64)) {
	if id >= s.size {
		return
	}
	index := id / wordBits
	w, ok := s.words[index]
	if !ok {
		w = &word{index: index, pos: -1}
		s.words[index] = w
	}
	change(w, 1<<(id%wordBits))
	s.settle(w)
}

// settle puts a changed word where it belongs: open words into the heap, full ones out of it, and untouched ones above the frontier
// out of memory.
func (s *Space) settle(w *word) {
	if w.used|w.held == 0 && w.index >= s.next {
		delete(s.words, w.index)
		if w.pos >= 0 {
			heap.Remove(&s.open, w.pos)
		}
		return
	}
	switch open := s.free(w) != 0; {
	case open && w.pos < 0:
		heap.Push(&s.open, w)
	case !open && w.pos >= 0:
		heap.Remove(&s.open, w.pos)
	}
}

// lowest finds the lowest word with a free id, moving the frontier over words that were touched before it came by.
func (s *Space) lowest() *word {
	last := (s.size - 1) / wordBits
	for s.next <= last {
		if _, touched := s.words[s.next]; !touched {
			break
		}
		s.next++
	}
	if len(s.open) > 0 && (s.next > last || s.open[0].index < s.next) {
		return s.open[0]
	}
	if s.next > last {
		return nil
	}
	w := &word{index: s.next, pos: -1}
	s.words[w.index] = w
	s.next++
	s.settle(w)
	return w
}

// wordHeap is a container/heap of words by index.
type wordHeap []*word

func (h wordHeap) Len() int           { return len(h) }
func (h wordHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h wordHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

// Push appends a *word.
func (h *wordHeap) Push(x any) {
	w := x.(*word)
	w.pos = len(*h)
	*h = append(*h, w)
}

// Pop removes the last word.
func (h *wordHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	w.pos = -1
	*h = old[:len(old)-1]
	return w
}
