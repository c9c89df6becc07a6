package firewall

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
)

// conj names a conjunction: the rules of a group, in one direction, that speak of the same set of members (none: any address, or
// one that the rule itself names).
type conj struct {
	group   string
	egress  bool
	members string
}

func compareConjs(a, b conj) int {
	dir := func(c conj) int {
		if c.egress {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(dir(a), dir(b)), cmp.Compare(a.members, b.members))
}

// clauses is how many clauses the conjunction has: port, rule and, if there are any, members.
func (c conj) clauses() uint8 {
	if c.members == "" {
		return 2
	}
	return 3
}

// conjIDs gives ids to conjunctions.  An id is a hash of the name, so it is the same after every restart; of names that hash alike the
// smallest keeps the id and the others try the next hash.  Ids depend on the set of names only, never on the order of arrival.
type conjIDs struct {
	hash  func(c conj, try int) uint32
	ids   map[conj]uint32
	owner map[uint32]conj
	moved bool // some name does not have its first hash
}

func newConjIDs() *conjIDs {
	return &conjIDs{hash: hashConj, ids: map[conj]uint32{}, owner: map[uint32]conj{}}
}

func hashConj(c conj, try int) uint32 {
	text := c.group + "\x00" + strconv.FormatBool(c.egress) + "\x00" + c.members + "\x00" + strconv.Itoa(try)
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint32(sum[:])
}

// update adds and removes names and returns those whose id changed that were there and stay.
func (x *conjIDs) update(add, remove []conj) []conj {
	clash := x.moved
	for _, c := range remove {
		if id, ok := x.ids[c]; ok {
			delete(x.ids, c)
			delete(x.owner, id)
		}
	}
	var fresh []conj
	for _, c := range add {
		if _, ok := x.ids[c]; ok {
			continue
		}
		fresh = append(fresh, c)
		id := x.hash(c, 0)
		_, taken := x.owner[id]
		clash = clash || taken || id == 0
		x.ids[c], x.owner[id] = id, c
	}
	if !clash {
		return nil
	}
	return x.rebuild(fresh)
}

func (x *conjIDs) rebuild(fresh []conj) []conj {
	old := maps.Clone(x.ids)
	clear(x.owner)
	x.moved = false
	for _, c := range slices.SortedFunc(maps.Keys(x.ids), compareConjs) {
		for try := 0; ; try++ {
			id := x.hash(c, try)
			if _, taken := x.owner[id]; !taken && id != 0 {
				x.ids[c], x.owner[id] = id, c
				break
			}
			x.moved = true
		}
	}
	var changed []conj
	for c, id := range x.ids {
		if old[c] != id && !slices.Contains(fresh, c) {
			changed = append(changed, c)
		}
	}
	return changed
}
