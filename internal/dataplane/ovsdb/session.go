package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	rfc7047 "github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// ErrNotConnected is returned while there is no session.
var ErrNotConnected = errors.New("no connection to ovsdb-server")

// Timeouts of a session and of one transaction.
const (
	connectTimeout = 5 * time.Second
	transTimeout   = 10 * time.Second
	minRedial      = 20 * time.Millisecond
	maxRedial      = time.Second
)

// Driver is the connection to one database.
type Driver struct {
	endpoint string // unix:/run/openvswitch/db.sock
	notify   func()
	log      *slog.Logger

	mu      sync.Mutex
	client  client.Client // nil: no session
	session int
	fresh   bool
	dirty   map[rowID]struct{}

	pic   picture // Poll's; only its caller touches it
	stale int     // stale transactions in a row
}

type rowID struct{ table, uuid string }

// New makes a driver for a database endpoint in OVSDB's form ("unix:/run/openvswitch/db.sock").  Notify is called, from any
// goroutine and possibly often, when Poll has something new to say; it must not block.
func New(endpoint string, notify func(), log *slog.Logger) *Driver {
	return &Driver{endpoint: endpoint, notify: notify, log: log, dirty: map[rowID]struct{}{}, pic: newPicture()}
}

// Run keeps a session open until ctx ends.
func (d *Driver) Run(ctx context.Context) {
	delay, failures := minRedial, 0
	for ctx.Err() == nil {
		err := d.runSession(ctx, func() {
			if failures > 0 {
				d.log.Info("connected to ovsdb-server again", "endpoint", d.endpoint, "attempts", failures)
			}
			delay, failures = minRedial, 0
		})
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == 1 {
			d.log.Warn("no session with ovsdb-server, will retry", "endpoint", d.endpoint, "err", err)
		}
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		delay = min(delay*2, maxRedial)
	}
}

// runSession holds one session and returns why it ended.
func (d *Driver) runSession(ctx context.Context, connected func()) error {
	dbModel, err := model.NewClientDBModel("Open_vSwitch", map[string]model.Model{
		tableRoot: &rootRow{}, tableBridge: &bridgeRow{}, tablePort: &portRow{},
		tableInterface: &interfaceRow{}, tableController: &controllerRow{}, tableQoS: &qosRow{}, tableQueue: &queueRow{},
	})
	if err != nil {
		return fmt.Errorf("build database model: %w", err)
	}
	c, err := client.NewOVSDBClient(dbModel, client.WithEndpoint(d.endpoint))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	// The library tells of a disconnect only to a receiver that is already waiting.
	lost := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-c.DisconnectNotify():
			close(lost)
		case <-stop:
		}
	}()
	cctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := c.Connect(cctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	c.Cache().AddEventHandler(handler{d})
	if err := monitor(cctx, c); err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	connected()
	d.begin(c)
	defer d.end()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-lost:
		return errors.New("connection lost")
	}
}

// monitor asks for the columns of our rows.  The conditional method is used because the library answers an inconsistent cache by
// dropping the session only there, and a new session is our way to a fresh picture.
func monitor(ctx context.Context, c client.Client) error {
	root, br, port, ifc, ctl, qos, queue := &rootRow{}, &bridgeRow{}, &portRow{}, &interfaceRow{}, &controllerRow{}, &qosRow{}, &queueRow{}
	m := c.NewMonitor(
		client.WithTable(root, &root.Bridges, &root.CurCfg, &root.NextCfg, &root.Version),
		client.WithTable(br, &br.Name, &br.DatapathType, &br.FailMode, &br.Protocols, &br.OtherConfig, &br.ExternalIDs, &br.Ports,
			&br.Controller),
		client.WithTable(port, &port.Name, &port.Interfaces, &port.Tag, &port.VLANMode, &port.Trunks, &port.OtherConfig,
			&port.ExternalIDs, &port.QoS),
		client.WithTable(ifc, &ifc.Name, &ifc.Type, &ifc.Options, &ifc.ExternalIDs, &ifc.MTURequest, &ifc.OFPort, &ifc.MACInUse,
			&ifc.LinkState, &ifc.Error, &ifc.PolicingRate, &ifc.PolicingBurst),
		client.WithTable(ctl, &ctl.Target, &ctl.IsConnected, &ctl.InactivityProbe, &ctl.MaxBackoff, &ctl.ConnectionMode),
		client.WithTable(qos, &qos.Type, &qos.OtherConfig, &qos.Queues, &qos.ExternalIDs),
		client.WithTable(queue, &queue.OtherConfig, &queue.ExternalIDs),
	)
	m.Method = rfc7047.ConditionalMonitorRPC
	_, err := c.Monitor(ctx, m)
	return err
}

func (d *Driver) begin(c client.Client) {
	d.mu.Lock()
	d.client, d.fresh = c, true
	d.session++
	clear(d.dirty)
	d.mu.Unlock()
	d.notify()
}

func (d *Driver) end() {
	d.mu.Lock()
	d.client = nil
	clear(d.dirty)
	d.mu.Unlock()
	d.notify()
}

// mark notes that a row has changed.
func (d *Driver) mark(table string, m model.Model) {
	id := rowID{table: table}
	switch r := m.(type) {
	case *rootRow:
		id.uuid = r.UUID
	case *bridgeRow:
		id.uuid = r.UUID
	case *portRow:
		id.uuid = r.UUID
	case *interfaceRow:
		id.uuid = r.UUID
	case *controllerRow:
		id.uuid = r.UUID
	case *qosRow:
		id.uuid = r.UUID
	case *queueRow:
		id.uuid = r.UUID
	}
	d.mu.Lock()
	d.dirty[id] = struct{}{}
	d.mu.Unlock()
	d.notify()
}

// handler forwards cache events as marks.
type handler struct{ d *Driver }

func (h handler) OnAdd(table string, m model.Model)       { h.d.mark(table, m) }
func (h handler) OnUpdate(table string, _, n model.Model) { h.d.mark(table, n) }
func (h handler) OnDelete(table string, m model.Model)    { h.d.mark(table, m) }

// take hands over the session and its marks.  For a fresh session every row is marked.
func (d *Driver) take() (c client.Client, session int, fresh bool, dirty map[rowID]struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirty = d.dirty
	d.dirty = map[rowID]struct{}{}
	fresh, d.fresh = d.fresh, false
	return d.client, d.session, fresh, dirty
}

// more hands over the marks that have come since take, if that was of the session that is still there.
func (d *Driver) more(session int) map[rowID]struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil || d.session != session || d.fresh || len(d.dirty) == 0 {
		return nil
	}
	dirty := d.dirty
	d.dirty = map[rowID]struct{}{}
	return dirty
}

// tables returns the cache of a session, or nil when it has just ended (the library drops it then).
func tables(c client.Client) *cache.TableCache {
	if c == nil {
		return nil
	}
	return c.Cache()
}
