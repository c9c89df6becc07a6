package ovsdb

import (
	"maps"
	"slices"

	rfc7047 "github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// KeyProvider in a bridge's external_ids names the physical network for which the bridge is ours to program, whoever made it.
const KeyProvider = "baryon-provider"

// BridgeNames lists all bridges.
func (d *Driver) BridgeNames() []string { return slices.Sorted(maps.Keys(d.pic.bridgeNames)) }

// release gives a bridge back: without our controller and with the fail mode that is Open vSwitch's own, it is an ordinary switch at once,
// because Open vSwitch drops all flows of a bridge that loses its last controller.
func (t *transaction) release(b Bridge) {
	uuid, ok := t.pic.bridgeNames[b.Name]
	if !ok {
		return
	}
	have := t.pic.bridges[uuid]
	t.update(tableBridge, uuid, rfc7047.Row{"fail_mode": setOf[string]()})
	m := []rfc7047.Mutation{{Column: "external_ids", Mutator: rfc7047.MutateOperationDelete, Value: setOf(KeyProvider)}}
	for _, id := range have.Controller {
		if c := t.pic.controllers[id]; c != nil && c.Target == b.Controller {
			m = append(m, rfc7047.Mutation{
				Column: "controller", Mutator: rfc7047.MutateOperationDelete, Value: setOf(rfc7047.UUID{GoUUID: id}),
			})
		}
	}
	t.mutate(tableBridge, uuid, m...)
}
