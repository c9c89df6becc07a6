package agent

import (
	"context"
	"errors"
	"time"

	"baryon/internal/names"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// relisten is how soon a controller socket that failed is opened again.
const relisten = time.Second

// serveController accepts the bridges as their OpenFlow controller, so that `ovs-vsctl show` prints is_connected: true.  Nothing is
// programmed here, and packet-ins are dropped until something asks for them.
func (a *agent) serveController(ctx context.Context) {
	l := a.listener
	for {
		err := a.acceptSwitches(ctx, l)
		_ = l.Close() // may have closed itself
		if ctx.Err() != nil {
			return
		}
		a.log.Warn("controller socket failed, will open it again", "err", err)
		for {
			if !sleep(ctx, relisten) {
				return
			}
			if l, err = openflow.Listen("tcp", a.cfg.ControllerListen, openflow.Options{Log: a.log}); err == nil {
				break
			}
		}
	}
}

// acceptSwitches keeps what connects until ctx ends.  A switch that reconnects has given up its old connection.
func (a *agent) acceptSwitches(ctx context.Context, l *openflow.Listener) error {
	conns := map[uint64]*openflow.Conn{}
	defer func() {
		for _, c := range conns {
			_ = c.Close() // always succeeds
		}
	}()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			return err
		}
		if old := conns[c.DatapathID()]; old != nil {
			_ = old.Close()
		}
		conns[c.DatapathID()] = c
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// watch asks the bridge to tell when somebody else changes flows, and has everything compared then.  On br-tun only the first table is
// watched: whoever empties the bridge empties that, and the tables in which Open vSwitch learns by itself stay out of it.
func (a *agent) watch(ctx context.Context, b *bridge) error {
	req := openflow.MonitorRequest{Table: openflow.AllTables}
	if b.name == names.BrTun {
		req.Table = pipeline.TunClassify.ID
	}
	m, err := b.conn.MonitorFlows(ctx, req)
	if err != nil {
		return err
	}
	go func() {
		for u := range m.C {
			switch u.Event {
			case openflow.FlowAdded, openflow.FlowGone, openflow.FlowModified:
				a.loop.DirtyFull()
			}
		}
		if errors.Is(m.Err(), openflow.ErrMonitorOverrun) {
			b.unwatched.Store(true)
			a.loop.DirtyFull()
		}
	}()
	return nil
}
