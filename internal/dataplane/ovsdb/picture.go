package ovsdb

import (
	"maps"
	"slices"

	"github.com/ovn-kubernetes/libovsdb/cache"
)

// picture is the joined view of the rows: which interface belongs to which port, which port to which bridge.
type picture struct {
	root        *rootRow
	bridges     map[string]*bridgeRow // by uuid
	ports       map[string]*portRow
	interfaces  map[string]*interfaceRow
	controllers map[string]*controllerRow
	qos         map[string]*qosRow
	queues      map[string]*queueRow

	bridgeNames map[string]string // name -> uuid
	portNames   map[string]string
	portBridge  map[string]string // port uuid -> bridge uuid
	ifacePort   map[string]string // interface uuid -> port uuid
}

func newPicture() picture {
	return picture{
		bridges: map[string]*bridgeRow{}, ports: map[string]*portRow{}, interfaces: map[string]*interfaceRow{},
		controllers: map[string]*controllerRow{}, qos: map[string]*qosRow{}, queues: map[string]*queueRow{}, bridgeNames: map[string]string{}, portNames: map[string]string{},
		portBridge: map[string]string{}, ifacePort: map[string]string{},
	}
}

// maxRounds bounds how often one Poll looks for more.
const maxRounds = 10

// Poll re-reads what has changed and says what.
func (d *Driver) Poll() Changes {
	c, session, fresh, dirty := d.take()
	tc := tables(c)
	if tc == nil {
		return Changes{Session: session}
	}
	ch := Changes{Connected: true, Session: session, Fresh: fresh}
	changed := map[string]bool{}
	if fresh {
		for name := range d.pic.portNames {
			changed[name] = true
		}
		d.pic = newPicture()
		ch.Bridges = true
		for _, t := range []string{tableRoot, tableController, tableQueue, tableQoS, tableInterface, tablePort, tableBridge} {
			for uuid, row := range tc.Table(t).Rows() {
				d.pic.put(t, uuid, row, changed)
			}
		}
	}
	// The cache tells of one row after another, and reading it waits while it takes a change in: what has come meanwhile belongs to
	// the same change as a rule, and is better seen now than in a pass of its own.
	for round := 0; len(dirty) > 0 && round < maxRounds; round++ {
		for id := range dirty {
			ch.Bridges = ch.Bridges || id.table == tableBridge || id.table == tableController
			d.pic.reread(tc, id, changed)
		}
		dirty = d.more(session)
	}
	ch.Ports = slices.Sorted(maps.Keys(changed))
	if d.pic.root != nil {
		ch.CurCfg = d.pic.root.CurCfg
	}
	return ch
}

func (p *picture) reread(tc *cache.TableCache, id rowID, changed map[string]bool) {
	if id.uuid == "" {
		return
	}
	row := tc.Table(id.table).Row(id.uuid)
	if row == nil {
		p.drop(id, changed)
		return
	}
	p.put(id.table, id.uuid, row, changed)
}

// put takes a row in and notes the names of the ports that look different now.
func (p *picture) put(_, uuid string, row any, changed map[string]bool) {
	switch r := row.(type) {
	case *rootRow:
		p.root = r
	case *controllerRow:
		p.controllers[uuid] = r
	case *qosRow:
		p.qos[uuid] = r
		p.noteQoS(uuid, changed)
	case *queueRow:
		p.queues[uuid] = r
		p.noteQoS(uuid, changed)
	case *interfaceRow:
		p.interfaces[uuid] = r
		p.noteIface(uuid, changed)
	case *portRow:
		if old := p.ports[uuid]; old != nil {
			p.forgetPort(uuid, old)
		}
		p.ports[uuid] = r
		p.portNames[r.Name] = uuid
		for _, i := range r.Interfaces {
			p.ifacePort[i] = uuid
		}
		changed[r.Name] = true
	case *bridgeRow:
		p.putBridge(uuid, r, changed)
	}
}

func (p *picture) putBridge(uuid string, r *bridgeRow, changed map[string]bool) {
	var before map[string]bool
	if old := p.bridges[uuid]; old != nil {
		before = make(map[string]bool, len(old.Ports))
		for _, id := range old.Ports {
			before[id] = true
		}
	}
	p.bridges[uuid] = r
	p.bridgeNames[r.Name] = uuid
	for _, id := range r.Ports {
		if before[id] {
			delete(before, id)
			continue
		}
		p.portBridge[id] = uuid
		p.notePort(id, changed)
	}
	for id := range before {
		if p.portBridge[id] == uuid {
			delete(p.portBridge, id)
		}
		p.notePort(id, changed)
	}
}

func (p *picture) drop(id rowID, changed map[string]bool) {
	switch id.table {
	case tableController:
		delete(p.controllers, id.uuid)
	case tableQoS:
		p.noteQoS(id.uuid, changed)
		delete(p.qos, id.uuid)
	case tableQueue:
		p.noteQoS(id.uuid, changed)
		delete(p.queues, id.uuid)
	case tableInterface:
		p.noteIface(id.uuid, changed)
		delete(p.interfaces, id.uuid)
		delete(p.ifacePort, id.uuid)
	case tablePort:
		if r := p.ports[id.uuid]; r != nil {
			changed[r.Name] = true
			p.forgetPort(id.uuid, r)
			delete(p.ports, id.uuid)
			delete(p.portBridge, id.uuid)
		}
	case tableBridge:
		if r := p.bridges[id.uuid]; r != nil {
			p.putBridge(id.uuid, &bridgeRow{UUID: id.uuid, Name: r.Name}, changed)
			delete(p.bridges, id.uuid)
			if p.bridgeNames[r.Name] == id.uuid {
				delete(p.bridgeNames, r.Name)
			}
		}
	}
}

func (p *picture) forgetPort(uuid string, r *portRow) {
	if p.portNames[r.Name] == uuid { // a port deleted and made anew under its name may have come first
		delete(p.portNames, r.Name)
	}
	for _, i := range r.Interfaces {
		if p.ifacePort[i] == uuid {
			delete(p.ifacePort, i)
		}
	}
}

func (p *picture) noteIface(uuid string, changed map[string]bool) {
	if port, ok := p.ifacePort[uuid]; ok {
		p.notePort(port, changed)
	}
}

func (p *picture) notePort(uuid string, changed map[string]bool) {
	if r := p.ports[uuid]; r != nil {
		changed[r.Name] = true
	}
}

// Port is the port of a name as Poll last saw it.  A port is there when its Port, Interface and Bridge rows are.
func (d *Driver) Port(name string) (PortView, bool) {
	p := &d.pic
	uuid, ok := p.portNames[name]
	if !ok {
		return PortView{}, false
	}
	r := p.ports[uuid]
	br := p.bridges[p.portBridge[uuid]]
	if br == nil || len(r.Interfaces) != 1 { // bonds are not ours to switch
		return PortView{}, false
	}
	i := p.interfaces[r.Interfaces[0]]
	if i == nil {
		return PortView{}, false
	}
	v := PortView{
		Name: name, Bridge: br.Name, Ours: r.ExternalIDs[OwnerKey] == OwnerValue,
		Type: i.Type, Options: i.Options, ExternalIDs: i.ExternalIDs, OFPort: value(i.OFPort), Error: value(i.Error),
		MTURequest: value(i.MTURequest), MAC: value(i.MACInUse), LinkUp: value(i.LinkState) == "up",
		Tagging: Tagging{Tag: NoTag, Mode: value(r.VLANMode), Trunks: r.Trunks, OtherConfig: r.OtherConfig},
	}
	if r.Tag != nil {
		v.Tagging.Tag = *r.Tag
	}
	v.Limits = p.limitsOf(r, i)
	return v, true
}

// PortNames lists all ports of all bridges.
func (d *Driver) PortNames() []string { return slices.Sorted(maps.Keys(d.pic.portNames)) }

// Bridge is the bridge of a name as Poll last saw it.
func (d *Driver) Bridge(name string) (BridgeView, bool) {
	r := d.pic.bridges[d.pic.bridgeNames[name]]
	if r == nil {
		return BridgeView{}, false
	}
	v := BridgeView{
		Name: name, DatapathType: r.DatapathType, FailMode: value(r.FailMode), Protocols: r.Protocols, OtherConfig: r.OtherConfig, ExternalIDs: r.ExternalIDs,
		Ours: r.ExternalIDs[OwnerKey] == OwnerValue,
	}
	for _, id := range r.Controller {
		if c := d.pic.controllers[id]; c != nil && c.IsConnected {
			v.Connected = true
		}
	}
	return v, true
}

// Version is Open vSwitch's version, "" while unknown.
func (d *Driver) Version() string {
	if d.pic.root == nil {
		return ""
	}
	return value(d.pic.root.Version)
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
