package store

import (
	"encoding/json"
	"fmt"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// cond is a condition of a transaction: the key was last written at revision mod, or is absent if mod is 0.
type cond struct {
	key string
	mod int64
}

func compares(conds []cond) []clientv3.Cmp {
	out := make([]clientv3.Cmp, len(conds))
	for i, c := range conds {
		out[i] = clientv3.Compare(clientv3.ModRevision(c.key), "=", c.mod)
	}
	return out
}

// plan is a transaction ready for etcd.
type plan struct {
	base   int64 // revision of the snapshot that the conditions come from
	conds  []cond
	ops    []clientv3.Op
	absent []string        // guards that the transaction needs and that do not exist yet
	sent   map[string]sent // rows by etcd key
	landed atomic.Int64    // set by the replica: the revision at which a sent row came back
	taken  *UniqueError    // a unique value that the snapshot shows as held by another row
}

// plan turns what the transaction read and wrote into conditions and operations.
func (x *tx) plan() (*plan, error) {
	p := &plan{base: x.base.rev, sent: make(map[string]sent, len(x.writes))}
	pl := &planner{x: x, p: p, uniques: map[uniqueRef]string{}, touched: map[string]struct{}{}}
	for i := range x.writes {
		if err := pl.row(&x.writes[i]); err != nil {
			return nil, err
		}
	}
	for i := range x.writes {
		if err := pl.claims(&x.writes[i]); err != nil {
			return nil, err
		}
	}
	pl.uniqueOps()
	pl.reads()
	return p, nil
}

// planner builds a plan.
type planner struct {
	x       *tx
	p       *plan
	uniques map[uniqueRef]string // what a unique value's key shall hold; "" is deleted
	order   []uniqueRef
	touched map[string]struct{} // guards that are written or required absent
}

type uniqueRef struct {
	def   *tableDef
	index int
	value string
}

// row plans the row itself.  From here on the transaction's row is what its JSON says, as every other server will see it.
func (pl *planner) row(w *write) error {
	k := rowKey(w.def.name, w.key)
	var mod int64
	if w.old != nil {
		mod = w.old.mod
	}
	pl.p.conds = append(pl.p.conds, cond{k, mod})
	if w.val == nil {
		if w.old != nil {
			pl.p.ops = append(pl.p.ops, clientv3.OpDelete(k))
		}
	} else {
		raw, err := json.Marshal(w.val)
		if err != nil {
			return fmt.Errorf("encode row %s: %w", k, err)
		}
		if w.val, err = decodeRow(w.def, w.key, raw); err != nil {
			return err
		}
		pl.p.sent[k] = sent{raw: raw, val: w.val, landed: &pl.p.landed}
		pl.p.ops = append(pl.p.ops, clientv3.OpPut(k, string(raw)))
	}
	if w.val == nil && w.old == nil {
		return nil
	}
	return pl.indexes(w)
}

// indexes touches the guards of every set that the row stands in or leaves, and gives up its unique values.
func (pl *planner) indexes(w *write) error {
	pl.touch(guardKey(w.def.name, "", ""))
	for i, ix := range w.def.indexes {
		if w.old != nil {
			for _, v := range ix.values(w.old.val) {
				if ix.unique {
					pl.setUnique(uniqueRef{w.def, i, v}, "")
				} else {
					pl.touch(guardKey(w.def.name, ix.name, v))
				}
			}
		}
		if w.val == nil {
			continue
		}
		for _, v := range ix.values(w.val) {
			if err := checkKey("value of index "+w.def.name+"."+ix.name, v); err != nil {
				return err
			}
			if !ix.unique {
				pl.touch(guardKey(w.def.name, ix.name, v))
			}
		}
	}
	return nil
}

// touch makes the commit show to everyone who has read the set behind a guard: a guard that exists is written, one that does not
// exist must still not exist.
func (pl *planner) touch(k string) {
	if _, done := pl.touched[k]; done {
		return
	}
	pl.touched[k] = struct{}{}
	if pl.x.base.guardMod(k) == 0 {
		pl.p.conds = append(pl.p.conds, cond{k, 0})
		return
	}
	pl.p.ops = append(pl.p.ops, clientv3.OpPut(k, ""))
}

func (pl *planner) setUnique(u uniqueRef, key string) {
	if _, ok := pl.uniques[u]; !ok {
		pl.order = append(pl.order, u)
	}
	pl.uniques[u] = key
}

// claims takes the row's unique values, after all rows have given up theirs.
func (pl *planner) claims(w *write) error {
	if w.val == nil {
		return nil
	}
	for i, ix := range w.def.indexes {
		if !ix.unique {
			continue
		}
		for _, v := range ix.values(w.val) {
			u := uniqueRef{w.def, i, v}
			owner, known := pl.uniques[u]
			if !known {
				if h := pl.x.base.holder(w.def, i, v); h != nil {
					owner = h.key
				}
			}
			if owner != "" && owner != w.key {
				pl.taken(&UniqueError{Table: w.def.name, Index: ix.name, Value: v, Key: owner})
				continue
			}
			pl.setUnique(u, w.key)
		}
	}
	return nil
}

func (pl *planner) taken(e *UniqueError) {
	if pl.p.taken == nil {
		pl.p.taken = e
	}
}

// uniqueOps writes the keys of the unique values that change hands.  A value that nobody held must still be free; one that was
// held belongs to a row of this transaction, whose revision is a condition already.
func (pl *planner) uniqueOps() {
	for _, u := range pl.order {
		k := uniqueKey(u.def.name, u.def.indexes[u.index].name, u.value)
		key := pl.uniques[u]
		held := ""
		if h := pl.x.base.holder(u.def, u.index, u.value); h != nil {
			held = h.key
		}
		switch {
		case key == held:
		case key == "":
			pl.p.ops = append(pl.p.ops, clientv3.OpDelete(k))
		default:
			if held == "" {
				pl.p.conds = append(pl.p.conds, cond{k, 0})
			}
			pl.p.ops = append(pl.p.ops, clientv3.OpPut(k, key))
		}
	}
}

// reads plans the conditions for what was only read.
func (pl *planner) reads() {
	x := pl.x
	for r, mod := range x.reads {
		if _, written := x.byRef[r]; !written {
			pl.p.conds = append(pl.p.conds, cond{rowKey(x.base.schema.defs[r.ord].name, r.key), mod})
		}
	}
	for f := range x.finds {
		d := x.base.schema.defs[f.ord]
		if f.index >= 0 && d.indexes[f.index].unique {
			pl.readUnique(d, f)
			continue
		}
		name := ""
		if f.index >= 0 {
			name = d.indexes[f.index].name
		}
		k := guardKey(d.name, name, f.value)
		mod := x.base.guardMod(k)
		if mod == 0 {
			pl.p.absent = append(pl.p.absent, k)
			continue
		}
		pl.p.conds = append(pl.p.conds, cond{k, mod})
	}
}

// readUnique: the row that held the value must be unchanged, or the value still free.
func (pl *planner) readUnique(d *tableDef, f findRef) {
	h := pl.x.base.holder(d, f.index, f.value)
	if h == nil {
		u := uniqueRef{d, f.index, f.value}
		if pl.uniques[u] == "" {
			pl.p.conds = append(pl.p.conds, cond{uniqueKey(d.name, d.indexes[f.index].name, f.value), 0})
		}
		return
	}
	r := ref{d.ord, h.key}
	if _, written := pl.x.byRef[r]; written {
		return
	}
	if _, read := pl.x.reads[r]; !read {
		pl.p.conds = append(pl.p.conds, cond{rowKey(d.name, h.key), h.mod})
	}
}
