package netfilter

import (
	"slices"
	"strconv"
)

// edit turns one chain into another rule by rule.
type edit struct {
	remove []Rule // by what they say, so that no other rule can be hit
	insert []placed
}

// placed is a rule and its position, from 1, once all that is before it is there.
type placed struct {
	at   int
	rule Rule
}

// lines is how long the edit is.
func (e edit) lines() int { return len(e.remove) + len(e.insert) }

// editOf finds the shortest edit that turns have into want.  ok is false if a rule is there twice: then a rule does not say which of
// the two is meant.
func editOf(have, want Rules) (e edit, ok bool) {
	at := make(map[string]int, len(have))
	for i, r := range have {
		if _, twice := at[r.Text]; twice {
			return edit{}, false
		}
		at[r.Text] = i
	}
	stays := make([]bool, len(have))
	seen := make(map[string]bool, len(want))
	var from []int // for each rule of want that is there: where
	for _, r := range want {
		if seen[r.Text] {
			return edit{}, false
		}
		seen[r.Text] = true
		if i, there := at[r.Text]; there {
			from = append(from, i)
		}
	}
	for _, i := range longestRise(from) {
		stays[i] = true
	}
	for i, r := range have {
		if !stays[i] {
			e.remove = append(e.remove, r)
		}
	}
	for n, r := range want {
		if i, there := at[r.Text]; !there || !stays[i] {
			e.insert = append(e.insert, placed{n + 1, r})
		}
	}
	return e, true
}

// longestRise is the longest rising subsequence of distinct numbers: the rules that can stay where they are.
func longestRise(list []int) []int {
	tails := make([]int, 0, len(list)) // index in list of the smallest last number of a rise of each length
	before := make([]int, len(list))
	for i, x := range list {
		n, _ := slices.BinarySearchFunc(tails, x, func(t, x int) int { return list[t] - x })
		before[i] = -1
		if n > 0 {
			before[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	out := make([]int, len(tails))
	if len(tails) == 0 {
		return out
	}
	for i, n := tails[len(tails)-1], len(tails)-1; n >= 0; i, n = before[i], n-1 {
		out[n] = list[i]
	}
	return out
}

// editable returns the edit of a chain that is better changed rule by rule than written anew: what is there must be known, and most of it
// must stay.
func (t *Tables) editable(c Chain) (edit, bool) {
	have, there := t.chains.Actual(c)
	want, wanted := t.chains.Wanted(c)
	if !there || !wanted || t.whole || t.partial[c] {
		return edit{}, false
	}
	e, ok := editOf(have, want)
	return e, ok && e.lines() < len(want)/2+1
}

// put writes the edit of a chain.  tell is called with each inserted rule once its line has been put.
func (e edit) put(chain string, put func(...string), tell func(Rule)) {
	for _, r := range e.remove {
		put("-D ", chain, " ", numbered(r.Text))
	}
	for _, p := range e.insert {
		put("-I ", chain, " ", strconv.Itoa(p.at), " ", numbered(p.rule.Text))
		tell(p.rule)
	}
}
