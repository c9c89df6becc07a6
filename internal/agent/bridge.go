package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"baryon/internal/agent/l2"
	"baryon/internal/delta"
	"baryon/internal/openflow"
	"baryon/internal/pipeline"
)

// bridge is the flow side of one bridge: the connection to its management socket, and wanted and actual flows.
type bridge struct {
	name   string
	path   string
	notify func()
	eased  func(cookie uint64) // a refused flow is wanted otherwise or no more

	conn   *openflow.Conn
	gate   int  // configuration number that ovs-vswitchd must have reached before this connection is used
	judged int  // value of agent.ovsMoves at which orphans were judged last
	loaded bool // the actual flows have been read over this connection
	told   bool // the present failure to connect has been logged

	unwatched atomic.Bool // the monitor of foreign changes must be started anew
	flows     *delta.Map[openflow.FlowKey, openflow.Flow]
	forget    []openflow.FlowMod           // learned flows that must go
	bad       map[openflow.FlowKey]badFlow // flows that were refused
	meters    *delta.Map[uint32, openflow.MeterConfig]
}

// badFlow is a flow that the switch refused.
type badFlow struct {
	again  time.Time // when it may be tried again
	cookie uint64
	why    string
}

// flowTimeout bounds one exchange with a bridge; badDelay is how long a refused flow rests.
const (
	flowTimeout = 10 * time.Second
	badDelay    = 30 * time.Second
)

func newBridge(name, path string, notify func(), eased func(cookie uint64)) *bridge {
	return &bridge{
		name: name, path: path, notify: notify, eased: eased, meters: newMeters(l2.SameMeter), bad: map[openflow.FlowKey]badFlow{},
		flows: delta.NewMap[openflow.FlowKey](func(a, b openflow.Flow) bool { return a.Equal(&b) }, true),
	}
}

// want sets or, with nil, drops a wanted flow.
func (b *bridge) want(k openflow.FlowKey, f *openflow.Flow) {
	if bad, was := b.bad[k]; was {
		delete(b.bad, k)
		b.eased(bad.cookie)
	}
	if f == nil {
		b.flows.Unset(k)
		return
	}
	b.flows.Set(k, *f)
}

func (b *bridge) close() {
	if b.conn != nil {
		_ = b.conn.Close() // always succeeds
		b.conn = nil
	}
	b.loaded = false
}

func (b *bridge) alive() bool {
	if b.conn == nil {
		return false
	}
	select {
	case <-b.conn.Done():
		return false
	default:
		return true
	}
}

// applyFlows brings a bridge's flows in line.  ready is false while the bridge cannot be reached yet, which is no error: it comes up
// when ovs-vswitchd does.
func (a *agent) applyFlows(ctx context.Context, b *bridge, full bool) (ready bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, flowTimeout)
	defer cancel()
	if !b.alive() {
		if ok, err := a.connect(ctx, b); !ok || err != nil {
			return false, err
		}
	}
	if a.curCfg < b.gate {
		return false, nil // CurCfg's event wakes us
	}
	if b.unwatched.Load() {
		if err := a.watch(ctx, b); err != nil {
			b.close()
			return false, fmt.Errorf("watch flows of %s: %w", b.name, err)
		}
		b.unwatched.Store(false)
	}
	if !b.loaded || full {
		if err := a.load(ctx, b); err != nil {
			b.close()
			return false, err
		}
	}
	a.condemn(b)
	if err := a.applyMeters(ctx, b, false); err != nil {
		return true, err
	}
	if mods := b.plan(time.Now(), a.confirmed); len(mods) > 0 {
		if err := a.push(ctx, b, mods); err != nil {
			return true, err
		}
	}
	return true, a.applyMeters(ctx, b, true)
}

// connect dials the management socket.  Port numbers in the database may be those of an ovs-vswitchd that has gone, so the connection
// is used only after the present one has acknowledged a change.
func (a *agent) connect(ctx context.Context, b *bridge) (bool, error) {
	b.close()
	conn, err := openflow.DialUnix(ctx, b.path, openflow.Options{Log: a.log})
	if err != nil {
		if !b.told {
			b.told = true
			a.log.Info("waiting for the bridge's management socket", "bridge", b.name, "err", err)
		}
		return false, nil
	}
	b.told = false
	if b.gate, err = a.ovs.Reach(ctx); err != nil {
		_ = conn.Close()
		return false, fmt.Errorf("wait for ovs-vswitchd: %w", err)
	}
	a.askedCfg = max(a.askedCfg, b.gate)
	b.conn = conn
	b.unwatched.Store(true)
	go func() {
		<-conn.Done()
		b.notify()
	}()
	a.log.Info("connected to bridge", "bridge", b.name)
	return true, nil
}

// load reads the bridge's flows.  Flows of others and learned ones are left out: the first are none of our business (one that has
// the key of a wanted flow is overwritten), the second come and go with traffic.
func (a *agent) load(ctx context.Context, b *bridge) error {
	stats, err := b.conn.DumpFlows(ctx, openflow.AllFlows())
	if err != nil {
		return fmt.Errorf("read flows of %s: %w", b.name, err)
	}
	have := make(map[openflow.FlowKey]openflow.Flow, len(stats))
	for i := range stats {
		if f := stats[i].Flow; pipeline.Ours(f.Cookie) && !pipeline.Learned(f.Cookie) {
			have[f.Key()] = f
		}
	}
	if err := b.loadMeters(ctx); err != nil {
		return err
	}
	b.flows.Load(have)
	clear(b.bad)
	if n := b.flows.PendingLen(); b.loaded && n > 0 {
		a.log.Warn("flows had been changed behind our back, putting them right", "bridge", b.name, "flows", n)
	}
	b.loaded, b.judged = true, -1
	a.metrics.flows.WithLabelValues(b.name).Set(float64(b.flows.WantLen()))
	for _, r := range a.runners {
		r.loop.Dirty() // Open vSwitch may have restarted and lost the devices
	}
	return nil
}

// plan lists the mods for what is pending: what is wanted comes before what is not.  Until the state is confirmed, a flood list only
// grows: the cached state may be older than the flows.
func (b *bridge) plan(now time.Time, confirmed bool) []openflow.FlowMod {
	if b.flows.PendingLen() == 0 && len(b.forget) == 0 {
		return nil
	}
	want, have := map[openflow.FlowKey]openflow.Flow{}, map[openflow.FlowKey]openflow.Flow{}
	for k := range b.flows.Pending() {
		if bad, ok := b.bad[k]; ok && now.Before(bad.again) {
			continue
		}
		w, wanted := b.flows.Wanted(k)
		h, there := b.flows.Actual(k)
		if wanted && there && !confirmed {
			if rule, ok := pipeline.RuleOf(w.Cookie); ok && rule == pipeline.FloodNetwork {
				w = widen(w, h)
			}
		}
		if wanted {
			want[k] = w
		}
		if there {
			have[k] = h
		}
	}
	c := openflow.Diff(want, have)
	return append(c.All(), b.forget...)
}

// widen is flood flow w with the outputs of h that it lacks, if both are for the same segment.
func widen(w, h openflow.Flow) openflow.Flow {
	outputs := func(f openflow.Flow) (head []openflow.Action, outs []openflow.Output) {
		for i, act := range f.Actions {
			if o, ok := act.(openflow.Output); ok {
				outs = append(outs, o)
			} else {
				head = f.Actions[:i+1]
			}
		}
		return head, outs
	}
	head, outs := outputs(w)
	oldHead, oldOuts := outputs(h)
	if !openflow.ActionsEqual(head, oldHead) {
		return w
	}
	for _, o := range oldOuts {
		if !slices.Contains(outs, o) {
			outs = append(outs, o)
		}
	}
	slices.Sort(outs)
	w.Actions = slices.Clone(head)
	for _, o := range outs {
		w.Actions = append(w.Actions, o)
	}
	return w
}

// push sends mods as one bundle.  A flow that the switch refuses is set aside, its owner gets the reason, and the others go on.
func (a *agent) push(ctx context.Context, b *bridge, mods []openflow.FlowMod) error {
	var refused []error
	for len(mods) > 0 {
		err := b.conn.Apply(ctx, mods)
		if err == nil {
			break
		}
		var fe *openflow.FlowError
		if !errors.As(err, &fe) || fe.Index < 0 || fe.Index >= len(mods) {
			b.close() // how much the switch has done is not known: read it again
			return fmt.Errorf("write flows of %s: %w", b.name, err)
		}
		m := mods[fe.Index]
		b.bad[m.Key()] = badFlow{time.Now().Add(badDelay), m.Cookie, fe.Error()}
		a.settleOwner(m.Cookie)
		refused = append(refused, err)
		mods = slices.Delete(mods, fe.Index, fe.Index+1)
	}
	for i := range mods {
		switch m := &mods[i]; m.Command {
		case openflow.DeleteStrict:
			b.flows.Gone(m.Key())
		case openflow.Add, openflow.ModifyStrict:
			b.flows.Seen(m.Key(), m.Flow)
			if _, was := b.bad[m.Key()]; was {
				delete(b.bad, m.Key())
				a.settleOwner(m.Cookie)
			}
		}
	}
	b.forget = nil
	a.metrics.flowMods.WithLabelValues(b.name).Add(float64(len(mods)))
	a.metrics.flows.WithLabelValues(b.name).Set(float64(b.flows.WantLen()))
	if len(refused) > 0 {
		a.log.Error("bridge refused flows", "bridge", b.name, "flows", len(refused), "err", refused[0])
	}
	return nil
}
