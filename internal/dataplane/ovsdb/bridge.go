package ovsdb

import (
	"slices"

	rfc7047 "github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// claim marks a bridge as ours.
func (t *transaction) claim(name string) {
	if uuid, ok := t.pic.bridgeNames[name]; ok {
		have := t.pic.bridges[uuid]
		t.mutate(tableBridge, uuid, merge("external_ids", have.ExternalIDs, map[string]string{OwnerKey: OwnerValue})...)
	}
}

// removeBridge removes a bridge of ours on which nothing of others is plugged any more.
func (t *transaction) removeBridge(name string) {
	uuid, ok := t.pic.bridgeNames[name]
	if !ok || !t.pic.empty(uuid) {
		return
	}
	t.mutate(tableRoot, t.pic.root.UUID, rfc7047.Mutation{
		Column: "bridges", Mutator: rfc7047.MutateOperationDelete, Value: setOf(rfc7047.UUID{GoUUID: uuid}),
	})
}

// empty tells whether a bridge is ours and carries nothing but its own and our ports.
func (p *picture) empty(uuid string) bool {
	br := p.bridges[uuid]
	if br == nil || br.ExternalIDs[OwnerKey] != OwnerValue {
		return false
	}
	for _, id := range br.Ports {
		if r := p.ports[id]; r == nil || r.Name != br.Name && r.ExternalIDs[OwnerKey] != OwnerValue {
			return false
		}
	}
	return true
}

// Abandoned lists the bridges of ours whose names begin with the prefix and that carry nothing but their own and our ports.
func (d *Driver) Abandoned(prefix string) []string {
	var out []string
	for name, uuid := range d.pic.bridgeNames {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix && d.pic.empty(uuid) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
