package ovsdb

import (
	"maps"
	"slices"
	"strconv"

	rfc7047 "github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// Rate is a bandwidth; the zero value is no limit.
type Rate struct {
	Kbps  int // kilobits (1000 bits) per second
	Burst int // kilobits
}

// Limits are what a port's device is limited to, whoever made the port.
type Limits struct {
	// In is what the device sends into the bridge: Interface.ingress_policing_rate and _burst.  Only the kernel's datapath keeps it.
	In Rate
	// Out is what the bridge sends to the device: a QoS row of type linux-htb with one queue.  The kernel's queueing discipline keeps it,
	// under both datapaths, for devices of the kernel.
	Out Rate
}

// keyPolicing in Interface.external_ids says that the policing there is ours; the values of others are left alone.
const keyPolicing = "baryon-policing"

// linkRate is the rate of the class above the queue, bits per second: more than any device has, so that the queue alone limits
// (Neutron's value, 2^35 - 1).
const linkRate = "34359738367"

const (
	qosType  = "linux-htb"
	queueNum = 0 // the queue that packets go to unless a flow says otherwise
)

// limitsOf is what stands at a port now.  Of a QoS row that is ours but not as we write it a rate comes out that nobody wants.
func (p *picture) limitsOf(port *portRow, i *interfaceRow) Limits {
	var l Limits
	if i.ExternalIDs[keyPolicing] != "" {
		l.In = Rate{i.PolicingRate, i.PolicingBurst}
	}
	q := p.qosOf(port)
	if q == nil {
		return l
	}
	l.Out = Rate{Kbps: -1}
	queue := p.queues[q.Queues[queueNum]]
	if queue == nil || len(q.Queues) != 1 || q.Type != qosType || q.OtherConfig["max-rate"] != linkRate || len(queue.OtherConfig) != 2 {
		return l
	}
	rate, err := strconv.Atoi(queue.OtherConfig["max-rate"])
	burst, berr := strconv.Atoi(queue.OtherConfig["burst"])
	if err == nil && berr == nil && rate%1000 == 0 && burst%1000 == 0 {
		l.Out = Rate{rate / 1000, burst / 1000}
	}
	return l
}

// qosOf is the port's QoS row if it is ours.
func (p *picture) qosOf(port *portRow) *qosRow {
	q := p.qos[value(port.QoS)]
	if q == nil || q.ExternalIDs[OwnerKey] != OwnerValue {
		return nil
	}
	return q
}

func queueConfig(r Rate) map[string]string {
	return map[string]string{"max-rate": strconv.Itoa(r.Kbps * 1000), "burst": strconv.Itoa(r.Burst * 1000)}
}

// limit brings a port's limits in line.
func (t *transaction) limit(name string, want Limits) {
	uuid, ok := t.pic.portNames[name]
	if !ok {
		return
	}
	port := t.pic.ports[uuid]
	if len(port.Interfaces) != 1 {
		return
	}
	i := t.pic.interfaces[port.Interfaces[0]]
	if i == nil {
		return
	}
	have := t.pic.limitsOf(port, i)
	if have.In != want.In {
		t.police(i, want.In)
	}
	if have.Out != want.Out {
		t.shape(name, port, want.Out)
	}
}

func (t *transaction) police(i *interfaceRow, want Rate) {
	t.update(tableInterface, i.UUID, rfc7047.Row{"ingress_policing_rate": want.Kbps, "ingress_policing_burst": want.Burst})
	if want == (Rate{}) {
		t.mutate(tableInterface, i.UUID, rfc7047.Mutation{
			Column: "external_ids", Mutator: rfc7047.MutateOperationDelete, Value: setOf(keyPolicing)})
		return
	}
	t.mutate(tableInterface, i.UUID, merge("external_ids", i.ExternalIDs, map[string]string{keyPolicing: OwnerValue})...)
}

func (t *transaction) shape(name string, port *portRow, want Rate) {
	q := t.pic.qosOf(port)
	if q != nil && want != (Rate{}) {
		if queue := t.pic.queues[q.Queues[queueNum]]; queue != nil && len(q.Queues) == 1 {
			t.update(tableQoS, q.UUID, rfc7047.Row{"type": qosType, "other_config": mapOf(map[string]string{"max-rate": linkRate})})
			t.update(tableQueue, queue.UUID, rfc7047.Row{"other_config": mapOf(queueConfig(want))})
			return
		}
	}
	if q != nil {
		t.dropQoS(q)
	}
	if want == (Rate{}) {
		t.update(tablePort, port.UUID, rfc7047.Row{"qos": setOf[string]()})
		return
	}
	queue := t.insert(tableQueue, rfc7047.Row{
		"other_config": mapOf(queueConfig(want)),
		"external_ids": mapOf(map[string]string{
			OwnerKey: OwnerValue, "port": name, "queue-num": strconv.Itoa(queueNum), "type": "bandwidth_limit",
		}),
	})
	row := t.insert(tableQoS, rfc7047.Row{
		"type": qosType, "other_config": mapOf(map[string]string{"max-rate": linkRate}),
		"queues":       rfc7047.OvsMap{GoMap: map[any]any{queueNum: queue}},
		"external_ids": mapOf(map[string]string{OwnerKey: OwnerValue, "id": name, "_type": "bandwidth_limit"}),
	})
	t.update(tablePort, port.UUID, rfc7047.Row{"qos": setOf(row)})
}

// dropQoS removes a row of ours with its queues.
func (t *transaction) dropQoS(q *qosRow) {
	t.drop(tableQoS, q.UUID)
	for _, n := range slices.Sorted(maps.Keys(q.Queues)) {
		if queue := t.pic.queues[q.Queues[n]]; queue != nil && queue.ExternalIDs[OwnerKey] == OwnerValue {
			t.drop(tableQueue, queue.UUID)
		}
	}
}

func (t *transaction) drop(table, uuid string) {
	t.ops = append(t.ops, rfc7047.Operation{Op: rfc7047.OperationDelete, Table: table, Where: byUUID(uuid)})
}

// sweep removes the QoS and Queue rows of ours that no port and no QoS row names: those of ports that somebody else has deleted.
func (t *transaction) sweep() {
	used := map[string]bool{}
	for _, p := range t.pic.ports {
		used[value(p.QoS)] = true
	}
	queued := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(t.pic.qos)) {
		q := t.pic.qos[id]
		for _, queue := range q.Queues {
			queued[queue] = true
		}
		if !used[id] && q.ExternalIDs[OwnerKey] == OwnerValue {
			t.dropQoS(q)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.pic.queues)) {
		if !queued[id] && t.pic.queues[id].ExternalIDs[OwnerKey] == OwnerValue {
			t.drop(tableQueue, id)
		}
	}
}

// StaleQoS reports that there are rows that Plan.Sweep would remove.
func (d *Driver) StaleQoS() bool {
	t := &transaction{pic: &d.pic}
	t.sweep()
	return len(t.ops) > 0
}

// noteQoS marks the ports whose limits a QoS or Queue row says.
func (p *picture) noteQoS(id string, changed map[string]bool) {
	for qos, q := range p.qos {
		if qos == id {
			continue
		}
		for _, queue := range q.Queues {
			if queue == id {
				p.noteQoS(qos, changed)
			}
		}
	}
	for _, port := range p.ports {
		if value(port.QoS) == id && id != "" {
			changed[port.Name] = true
		}
	}
}
