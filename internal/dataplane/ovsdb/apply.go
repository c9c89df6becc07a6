package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/ovn-kubernetes/libovsdb/client"
	rfc7047 "github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// RefusedError says that the database was reached and does not accept the change.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// ErrStale says that a row went, or was changed by somebody else, while our change was on its way: that is what unplugging looks like.
// All else of the plan was done; the next Poll shows what is left.
var ErrStale = errors.New("a row has gone or changed meanwhile")

// maxStale is how many transactions in a row may be stale before the picture itself is in doubt.
const maxStale = 5

// NeedsBridge reports that Apply of b would change something.
func (d *Driver) NeedsBridge(b Bridge) bool {
	t := &transaction{pic: &d.pic}
	t.bridge(b)
	return len(t.ops) > 0
}

// Apply does p in one transaction and returns the configuration number that ovs-vswitchd reaches (Changes.CurCfg) when it has done
// it.  Nothing to do is success with number 0.  ErrStale comes with a number, too; any other error means that nothing was changed.
func (d *Driver) Apply(ctx context.Context, p Plan) (cfg int, err error) {
	d.mu.Lock()
	c := d.client
	d.mu.Unlock()
	if c == nil || d.pic.root == nil {
		return 0, ErrNotConnected
	}
	t := &transaction{pic: &d.pic, tags: p.Tags}
	for _, b := range p.Bridges {
		t.bridge(b)
	}
	for _, port := range p.Ports {
		t.port(port)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Tags)) {
		t.tag(name, p.Tags[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.Limits)) {
		t.limit(name, p.Limits[name])
	}
	for _, name := range p.Claim {
		t.claim(name)
	}
	for _, name := range p.Remove {
		t.remove(name)
	}
	for _, b := range p.Release {
		t.release(b)
	}
	for _, name := range p.Raze {
		t.removeBridge(name)
	}
	if p.Sweep {
		t.sweep()
	}
	if t.err != nil {
		return 0, t.err
	}
	if len(t.ops) == 0 {
		return 0, nil
	}
	return d.commit(ctx, c, t)
}

// Reach bumps the configuration number without changing anything: once CurCfg has reached the returned number, ovs-vswitchd is
// running and what the database says of port numbers is of now.
func (d *Driver) Reach(ctx context.Context) (cfg int, err error) {
	d.mu.Lock()
	c := d.client
	d.mu.Unlock()
	if c == nil || d.pic.root == nil {
		return 0, ErrNotConnected
	}
	return d.commit(ctx, c, &transaction{pic: &d.pic})
}

// transaction collects operations.
type transaction struct {
	pic   *picture
	ops   []rfc7047.Operation
	named int
	tags  map[string]Tagging
	fresh map[string]string // bridges made in this transaction: name -> named uuid
	err   error             // why the plan cannot be carried out
}

// commit carries t out and marks the rows it touched: ovsdb-server tells of a change before it answers the transaction, so the next
// Poll sees them as they are now, and a second Apply does not repeat the first.
func (d *Driver) commit(ctx context.Context, c client.Client, t *transaction) (int, error) {
	root := t.pic.root.UUID
	ops := append(t.ops,
		rfc7047.Operation{
			Op: rfc7047.OperationMutate, Table: tableRoot, Where: byUUID(root),
			Mutations: []rfc7047.Mutation{{Column: "next_cfg", Mutator: rfc7047.MutateOperationAdd, Value: 1}},
		},
		rfc7047.Operation{Op: rfc7047.OperationSelect, Table: tableRoot, Where: byUUID(root), Columns: []string{"next_cfg"}},
	)
	ctx, cancel := context.WithTimeout(ctx, transTimeout)
	defer cancel()
	res, err := c.Transact(ctx, ops...)
	if err != nil {
		return 0, fmt.Errorf("transact with ovsdb-server: %w", err)
	}
	if _, err := rfc7047.CheckOperationResults(res, ops); err != nil {
		return 0, &RefusedError{fmt.Errorf("change Open vSwitch configuration: %w%s", err, details(res))}
	}
	stale := ""
	for i := range t.ops {
		if o := ops[i].Op; (o == rfc7047.OperationUpdate || o == rfc7047.OperationMutate) && res[i].Count == 0 {
			stale = ops[i].Table
		}
	}
	if stale == "" {
		d.stale = 0
	} else if d.stale++; d.stale >= maxStale {
		d.stale = 0
		c.Disconnect() // our picture is wrong; a new session paints a new one
	}
	d.mu.Lock()
	for i, op := range t.ops {
		id := rowID{op.Table, res[i].UUID.GoUUID}
		if op.Op != rfc7047.OperationInsert {
			id.uuid = op.Where[0].Value.(rfc7047.UUID).GoUUID
		}
		d.dirty[id] = struct{}{}
	}
	d.dirty[rowID{tableRoot, root}] = struct{}{}
	d.mu.Unlock()
	last := res[len(ops)-1]
	if len(last.Rows) != 1 {
		return 0, fmt.Errorf("read next_cfg: %d rows", len(last.Rows))
	}
	cfg := 0
	switch n := last.Rows[0]["next_cfg"].(type) {
	case float64:
		cfg = int(n)
	case int:
		cfg = n
	default:
		return 0, fmt.Errorf("read next_cfg: %T", n)
	}
	if stale != "" {
		return cfg, fmt.Errorf("change Open vSwitch configuration: %s: %w", stale, ErrStale)
	}
	return cfg, nil
}

func details(res []rfc7047.OperationResult) string {
	for _, r := range res {
		if r.Error != "" && r.Details != "" {
			return " (" + r.Details + ")"
		}
	}
	return ""
}

func byUUID(id string) []rfc7047.Condition {
	return []rfc7047.Condition{{Column: "_uuid", Function: rfc7047.ConditionEqual, Value: rfc7047.UUID{GoUUID: id}}}
}

func (t *transaction) newName() string {
	t.named++
	return "baryon" + strconv.Itoa(t.named)
}

func (t *transaction) insert(table string, row rfc7047.Row) rfc7047.UUID {
	name := t.newName()
	t.ops = append(t.ops, rfc7047.Operation{Op: rfc7047.OperationInsert, Table: table, Row: row, UUIDName: name})
	return rfc7047.UUID{GoUUID: name}
}

func (t *transaction) update(table, uuid string, row rfc7047.Row) {
	if len(row) > 0 {
		t.ops = append(t.ops, rfc7047.Operation{Op: rfc7047.OperationUpdate, Table: table, Where: byUUID(uuid), Row: row})
	}
}

func (t *transaction) mutate(table, uuid string, m ...rfc7047.Mutation) {
	if len(m) > 0 {
		t.ops = append(t.ops, rfc7047.Operation{Op: rfc7047.OperationMutate, Table: table, Where: byUUID(uuid), Mutations: m})
	}
}

// merge makes the wanted pairs part of a map column.
func merge(column string, have, want map[string]string) []rfc7047.Mutation {
	if contains(have, want) {
		return nil
	}
	var other []any // keys that have another value now: insert leaves those as they are
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if h, ok := have[k]; ok && h != want[k] {
			other = append(other, k)
		}
	}
	var m []rfc7047.Mutation
	if len(other) > 0 {
		m = append(m, rfc7047.Mutation{Column: column, Mutator: rfc7047.MutateOperationDelete, Value: rfc7047.OvsSet{GoSet: other}})
	}
	return append(m, rfc7047.Mutation{Column: column, Mutator: rfc7047.MutateOperationInsert, Value: mapOf(want)})
}

func mapOf(m map[string]string) rfc7047.OvsMap {
	out := make(map[any]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return rfc7047.OvsMap{GoMap: out}
}

func setOf[T any](v ...T) rfc7047.OvsSet {
	out := make([]any, len(v))
	for i, x := range v {
		out[i] = x
	}
	return rfc7047.OvsSet{GoSet: out}
}

func (t *transaction) bridge(b Bridge) {
	uuid, ok := t.pic.bridgeNames[b.Name]
	if !ok {
		t.newBridge(b)
		return
	}
	have := t.pic.bridges[uuid]
	row := rfc7047.Row{}
	if b.DatapathType != "" && have.DatapathType != b.DatapathType {
		row["datapath_type"] = b.DatapathType
	}
	if b.FailMode != "" && value(have.FailMode) != b.FailMode {
		row["fail_mode"] = b.FailMode
	}
	t.update(tableBridge, uuid, row)
	var m []rfc7047.Mutation
	if add := missing(have.Protocols, b.Protocols); len(add) > 0 {
		m = append(m, rfc7047.Mutation{Column: "protocols", Mutator: rfc7047.MutateOperationInsert, Value: setOf(add...)})
	}
	m = append(m, merge("other_config", have.OtherConfig, b.OtherConfig)...)
	m = append(m, merge("external_ids", have.ExternalIDs, b.ExternalIDs)...)
	if b.Controller != "" {
		m = append(m, t.controller(b, have)...)
	}
	t.mutate(tableBridge, uuid, m...)
}

// controller completes the bridge's row for our controller, or makes one.
func (t *transaction) controller(b Bridge, have *bridgeRow) []rfc7047.Mutation {
	for _, id := range have.Controller {
		c := t.pic.controllers[id]
		if c == nil || c.Target != b.Controller {
			continue
		}
		row := rfc7047.Row{}
		if value(c.InactivityProbe) != b.ProbeMS {
			row["inactivity_probe"] = b.ProbeMS
		}
		if value(c.MaxBackoff) != b.MaxBackoffMS {
			row["max_backoff"] = b.MaxBackoffMS
		}
		if value(c.ConnectionMode) != "out-of-band" {
			row["connection_mode"] = "out-of-band"
		}
		t.update(tableController, id, row)
		return nil
	}
	return []rfc7047.Mutation{{
		Column: "controller", Mutator: rfc7047.MutateOperationInsert, Value: setOf(t.insert(tableController, controllerOf(b))),
	}}
}

func controllerOf(b Bridge) rfc7047.Row {
	return rfc7047.Row{
		"target": b.Controller, "inactivity_probe": b.ProbeMS, "max_backoff": b.MaxBackoffMS, "connection_mode": "out-of-band",
	}
}

func (t *transaction) newBridge(b Bridge) {
	iface := t.insert(tableInterface, rfc7047.Row{"name": b.Name, "type": "internal"})
	port := t.insert(tablePort, rfc7047.Row{"name": b.Name, "interfaces": setOf(iface)})
	ids := map[string]string{OwnerKey: OwnerValue}
	maps.Copy(ids, b.ExternalIDs)
	row := rfc7047.Row{
		"name": b.Name, "datapath_type": b.DatapathType, "ports": setOf(port), "protocols": setOf(b.Protocols...),
		"other_config": mapOf(b.OtherConfig), "external_ids": mapOf(ids),
	}
	if b.FailMode != "" {
		row["fail_mode"] = b.FailMode
	}
	if b.Controller != "" {
		row["controller"] = setOf(t.insert(tableController, controllerOf(b)))
	}
	br := t.insert(tableBridge, row)
	t.mutate(tableRoot, t.pic.root.UUID, rfc7047.Mutation{
		Column: "bridges", Mutator: rfc7047.MutateOperationInsert, Value: setOf(br),
	})
	if t.fresh == nil {
		t.fresh = map[string]string{}
	}
	t.fresh[b.Name] = br.GoUUID
}

func missing(have, want []string) []string {
	var out []string
	for _, w := range want {
		if !slices.Contains(have, w) {
			out = append(out, w)
		}
	}
	return out
}

func (t *transaction) port(p Port) {
	uuid, ok := t.pic.portNames[p.Name]
	if !ok {
		t.newPort(p)
		return
	}
	have := t.pic.ports[uuid]
	if br := t.pic.bridges[t.pic.portBridge[uuid]]; br == nil || br.Name != p.Bridge || len(have.Interfaces) != 1 {
		// On another bridge, or half known: ask for it anyway, so that the database itself names the conflict.
		t.newPort(p)
		return
	}
	t.mutate(tablePort, uuid, merge("external_ids", have.ExternalIDs, map[string]string{OwnerKey: OwnerValue})...)
	i := t.pic.interfaces[have.Interfaces[0]]
	if i == nil {
		return
	}
	row := rfc7047.Row{}
	if i.Type != p.Type {
		row["type"] = p.Type
	}
	if !maps.Equal(i.Options, p.Options) {
		row["options"] = mapOf(p.Options)
	}
	if p.MTU != 0 && value(i.MTURequest) != p.MTU {
		row["mtu_request"] = p.MTU
	}
	t.update(tableInterface, i.UUID, row)
	t.mutate(tableInterface, i.UUID, merge("external_ids", i.ExternalIDs, p.ExternalIDs)...)
}

func (t *transaction) newPort(p Port) {
	row := rfc7047.Row{"name": p.Name, "type": p.Type, "options": mapOf(p.Options), "external_ids": mapOf(p.ExternalIDs)}
	if p.MTU != 0 {
		row["mtu_request"] = p.MTU
	}
	iface := t.insert(tableInterface, row)
	prow := rfc7047.Row{
		"name": p.Name, "interfaces": setOf(iface), "external_ids": mapOf(map[string]string{OwnerKey: OwnerValue}),
	}
	if tag, ok := t.tags[p.Name]; ok {
		tag.first(prow)
	} else if p.Dead {
		prow["tag"], prow["vlan_mode"], prow["trunks"] = DeadTag, "trunk", setOf(DeadTag)
	}
	port := t.insert(tablePort, prow)
	m := rfc7047.Mutation{Column: "ports", Mutator: rfc7047.MutateOperationInsert, Value: setOf(port)}
	if uuid, ok := t.pic.bridgeNames[p.Bridge]; ok {
		t.mutate(tableBridge, uuid, m)
		return
	}
	name, ok := t.fresh[p.Bridge]
	if !ok {
		t.err = &RefusedError{fmt.Errorf("add port %s: no bridge %s", p.Name, p.Bridge)}
		return
	}
	t.mutate(tableBridge, name, m) // made in this transaction, found by its name
}

// first fills in the row of a new port.
func (g Tagging) first(row rfc7047.Row) {
	if g.Tag != NoTag {
		row["tag"] = g.Tag
	}
	if g.Mode != "" {
		row["vlan_mode"] = g.Mode
	}
	row["trunks"], row["other_config"] = setOf(g.Trunks...), mapOf(g.OtherConfig)
}

func (t *transaction) tag(name string, want Tagging) {
	uuid, ok := t.pic.portNames[name]
	if !ok {
		return
	}
	r := t.pic.ports[uuid]
	row := rfc7047.Row{}
	if have := r.Tag; want.Tag == NoTag {
		if have != nil {
			row["tag"] = setOf[int]()
		}
	} else if have == nil || *have != want.Tag {
		row["tag"] = want.Tag
	}
	if value(r.VLANMode) != want.Mode {
		row["vlan_mode"] = setOf[string]()
		if want.Mode != "" {
			row["vlan_mode"] = want.Mode
		}
	}
	if !slices.Equal(r.Trunks, want.Trunks) {
		row["trunks"] = setOf(want.Trunks...)
	}
	if len(r.OtherConfig) == 0 && len(want.OtherConfig) > 0 {
		// A port that has just been plugged: one operation instead of two, which counts when many come at once.  The
		// condition keeps what somebody else may be writing there.
		row["other_config"] = mapOf(want.OtherConfig)
		where := append(byUUID(uuid), rfc7047.Condition{
			Column: "other_config", Function: rfc7047.ConditionEqual, Value: mapOf(nil),
		})
		t.ops = append(t.ops, rfc7047.Operation{Op: rfc7047.OperationUpdate, Table: tablePort, Where: where, Row: row})
		return
	}
	t.update(tablePort, uuid, row)
	t.mutate(tablePort, uuid, merge("other_config", r.OtherConfig, want.OtherConfig)...)
}

func (t *transaction) remove(name string) {
	uuid, ok := t.pic.portNames[name]
	if !ok || t.pic.ports[uuid].ExternalIDs[OwnerKey] != OwnerValue {
		return
	}
	br, ok := t.pic.portBridge[uuid]
	if !ok {
		return
	}
	t.mutate(tableBridge, br, rfc7047.Mutation{
		Column: "ports", Mutator: rfc7047.MutateOperationDelete, Value: setOf(rfc7047.UUID{GoUUID: uuid}),
	})
}
