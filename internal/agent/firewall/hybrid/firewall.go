package hybrid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"baryon/internal/dataplane/netfilter"
	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Firewall brings what an Engine wants into the kernel.
type Firewall struct {
	log       *slog.Logger
	path      string // file of the zones
	engine    *Engine
	tables    *netfilter.Tables
	sets      *netfilter.Sets
	bridges   bool // bridged packets are shown to iptables
	recalled  bool // zones of before have been taken in
	confirmed bool

	known    map[string]bool                      // device ids of ports that were shown in this process
	crossing map[netfilter.Chain]netfilter.Rules  // chains with rules of all ports, as the engine wants them
	waiting  map[netfilter.Chain]*netfilter.Rules // changes of chains from before that wait for the confirmation

	unready  map[string]bool   // ports with changes that are not in the kernel
	check    map[string]uint16 // ports whose connections are still to be checked
	ended    map[uint16]bool
	failures map[nodestate.Key]string
	told     string // the failure that was logged last
}

// Outcome is how far Apply got.
type Outcome struct {
	// Failures are records with something that could not be done, and what.
	Failures map[nodestate.Key]string
	// Retry asks for another Apply after this time although nothing changes; zero: no need.
	Retry time.Duration
	// Err is a failure that concerns more than single records; ports touched by it are not Ready.
	Err error
}

// Counts is what an Apply wrote, for metrics and tests.
type Counts struct{ Chains, Members, Connections int }

// retryDelay is how soon something that failed is tried again.
const retryDelay = 2 * time.Second

// owns tells our chains by name.
func owns(chain string) bool {
	return strings.HasPrefix(chain, names.ChainPrefix) || chain == names.FilterTop
}

// New makes a firewall that keeps its conntrack zones in the state directory.
func New(stateDir string, log *slog.Logger) *Firewall {
	return &Firewall{
		log: log, path: zonesPath(stateDir), engine: NewEngine(),
		tables: netfilter.NewTables(owns), sets: netfilter.NewSets(names.AddressSetPrefix),
		known: map[string]bool{}, crossing: map[netfilter.Chain]netfilter.Rules{}, waiting: map[netfilter.Chain]*netfilter.Rules{},
		unready: map[string]bool{}, check: map[string]uint16{}, ended: map[uint16]bool{}, failures: map[nodestate.Key]string{},
	}
}

// Record takes in a record.
func (w *Firewall) Record(r nodestate.Record) { w.engine.Record(r) }

// Forget drops a record.
func (w *Firewall) Forget(k nodestate.Key) { w.engine.Forget(k) }

// Plugged tells whether the port's OVS end of a Linux bridge (qvo…) is on br-int.
func (w *Firewall) Plugged(port string, yes bool) { w.engine.Plugged(port, yes) }

// Confirm says that a complete state of a server has been taken in: what is there and not wanted may go.
func (w *Firewall) Confirm() {
	if w.confirmed {
		return
	}
	w.confirmed = true
	w.tables.Release()
	w.sets.Release()
	w.engine.KeepZones()
	for c, r := range w.waiting {
		w.put(c, r)
	}
	clear(w.waiting)
	for c, r := range w.crossing {
		w.tables.Set(c, r)
	}
}

// Ready tells whether a port's rules are in the kernel, and why not.  A port that is not plugged through a bridge is none of ours.
func (w *Firewall) Ready(port string) (bool, string) {
	if other := w.engine.Clash(port); other != "" {
		return false, "its chains would have the names of those of port " + other
	}
	if e := w.engine; w.unready[port] || e.plugged.has(port) && e.ports[port] != nil && e.shown[port] == nil {
		why := "its firewall rules are not in place"
		if f := w.failures[nodestate.PortKey(port)]; f != "" {
			why += ": " + f
		} else if w.told != "" {
			why += ": " + w.told
		}
		return false, why
	}
	return true, ""
}

// Apply brings the kernel in line; full also reads back what is there.  Everything that lets a port pass more or less is done when it
// returns; rules of ports that leave stay until Finish.
func (w *Firewall) Apply(ctx context.Context, full bool) (Outcome, Counts) {
	counts, err := w.apply(ctx, full)
	if err != nil && ctx.Err() == nil {
		again, err2 := w.apply(ctx, false) // somebody else may just have changed the tables
		counts = Counts{counts.Chains + again.Chains, counts.Members + again.Members, counts.Connections + again.Connections}
		err = err2
	}
	out := Outcome{Err: err, Failures: w.failures}
	if err != nil || len(w.failures) > 0 {
		out.Retry = retryDelay
	}
	w.tell(err)
	return out, counts
}

// tell logs the first of a row of failures, and the end of the row.
func (w *Firewall) tell(err error) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	switch {
	case now != "" && now != w.told:
		w.log.Error("cannot bring the firewall in line, will retry; the ports concerned stay closed", "err", err)
	case now == "" && w.told != "":
		w.log.Info("the firewall is in line again")
	}
	w.told = now
}

func (w *Firewall) apply(ctx context.Context, full bool) (Counts, error) {
	var n Counts
	if !w.tables.Loaded() || full {
		if err := w.load(ctx); err != nil {
			w.collect()
			return n, err
		}
	}
	w.collect()
	if !w.bridges || full {
		changed, err := netfilter.FilterBridges()
		if w.bridges = err == nil; err != nil {
			w.unreadyAll()
			return n, err
		}
		if changed > 0 {
			w.log.Info("bridged packets are shown to iptables now", "settings", changed)
		}
	}
	var errs []error
	count := func(what *int, changed int, err error) {
		*what += changed
		if err != nil {
			errs = append(errs, err)
		}
	}
	changed, err := w.sets.Grow()
	count(&n.Members, changed, err)
	changed, err = w.tables.Apply(ctx)
	count(&n.Chains, changed, err)
	if err == nil && w.confirmed {
		changed, err = w.sets.Shrink()
		count(&n.Members, changed, err)
	}
	if len(errs) == 0 && w.confirmed {
		changed, err = w.endConnections()
		count(&n.Connections, changed, err)
	}
	w.judge(len(errs) == 0)
	return n, errors.Join(errs...)
}

// load reads what the kernel has; the first time it tells which zones ports have.
func (w *Firewall) load(ctx context.Context) error {
	before := w.tables.Loaded()
	if err := w.tables.Load(ctx); err != nil {
		return err
	}
	if err := w.sets.Load(); err != nil {
		return err
	}
	if n := w.tables.Pending(); before && n > 0 {
		w.log.Warn("firewall chains had been changed behind our back, putting them right", "chains", n)
	}
	if w.recalled {
		return nil
	}
	w.recalled = true
	for _, f := range netfilter.Families() {
		rules, _ := w.tables.Actual(wrapped(f, "raw", "PREROUTING"))
		for port, zone := range zonesOf(rules) {
			w.engine.RememberZone(port, zone)
		}
	}
	for port, zone := range w.loadZones() {
		w.engine.RememberZone(port, zone)
	}
	return nil
}

// collect carries over what the engine has to say.
func (w *Firewall) collect() {
	if !w.recalled {
		return // zones must not be given before those of before are known
	}
	d := w.engine.Flush()
	for c, r := range d.Chains {
		w.want(c, r)
	}
	for name, s := range d.Sets {
		if s == nil {
			w.sets.Unset(name)
		} else {
			w.sets.Set(*s)
		}
	}
	maps.Copy(w.check, d.Check)
	maps.Copy(w.ended, d.Ended)
	for _, id := range d.Touched {
		w.unready[id] = true
	}
	if d.Zones {
		w.saveZones()
	}
}

// want wants a chain as the engine does.  Before the confirmation, chains from an earlier run stay as they are: the cached state may
// be older than they.
func (w *Firewall) want(c netfilter.Chain, r *netfilter.Rules) {
	if r != nil && isCrossing(c) {
		w.crossing[c] = *r
		if !w.confirmed {
			merged := w.merge(c, *r)
			r = &merged
		}
		w.tables.Set(c, *r)
		return
	}
	if !w.confirmed {
		delete(w.waiting, c)
		_, there := w.tables.Actual(c)
		_, ours := w.tables.Wanted(c)
		if r != nil && there && !ours && strings.HasPrefix(c.Name, names.ChainPrefix) {
			w.waiting[c] = r
			return
		}
	}
	w.put(c, r)
}

func (w *Firewall) put(c netfilter.Chain, r *netfilter.Rules) {
	if r == nil {
		w.tables.Unset(c)
	} else {
		w.tables.Set(c, *r)
	}
}

func isCrossing(c netfilter.Chain) bool {
	switch strings.TrimPrefix(c.Name, names.ChainPrefix) {
	case "FORWARD", "INPUT", "PREROUTING", chainSG:
		return c.Name != strings.TrimPrefix(c.Name, names.ChainPrefix)
	}
	return false
}

var deviceRule = regexp.MustCompile(`(?:--physdev-(?:in|out)|-i) (?:tap|qvb)(\S+)`)

// merge adds the rules that are there for ports that no record has spoken of yet.
func (w *Firewall) merge(c netfilter.Chain, r netfilter.Rules) netfilter.Rules {
	for id := range w.engine.shown {
		w.known[deviceID(id)] = true
	}
	have, _ := w.tables.Actual(c)
	var out netfilter.Rules
	for _, x := range have {
		if m := deviceRule.FindStringSubmatch(x.Text); m != nil && !w.known[m[1]] {
			out = append(out, x)
		}
	}
	if len(out) == 0 {
		return r
	}
	return append(out, r...)
}

func deviceID(port string) string { return strings.TrimPrefix(names.Tap(port), "tap") }

// judge decides which ports are ready and which records have failed.
func (w *Firewall) judge(ok bool) {
	clear(w.failures)
	chains := map[string]string{} // chain → port
	for id, p := range w.engine.shown {
		if p.mode == filtered {
			for _, kind := range []byte("ios") {
				chains[names.PortChain(kind, id)] = id
			}
		}
	}
	for _, r := range w.tables.Refusals() {
		why := fmt.Sprintf("iptables refuses security group rule %s (%s): %s", r.Owner, r.Rule, r.Why)
		if id := chains[r.Chain.Name]; id != "" {
			w.fail(nodestate.PortKey(id), why)
		}
	}
	for name, why := range w.sets.Failures() {
		for id, users := range w.engine.users {
			if name != names.AddressSet(false, id) && name != names.AddressSet(true, id) {
				continue
			}
			w.fail(nodestate.MembersKey(id), why)
			for g := range users {
				w.fail(nodestate.GroupKey(g), why)
				for port := range w.engine.byGroup[g] {
					w.fail(nodestate.PortKey(port), why)
				}
			}
		}
	}
	if ok {
		clear(w.unready)
		return
	}
	for id := range w.check {
		w.unready[id] = true
	}
}

func (w *Firewall) fail(k nodestate.Key, why string) {
	if w.failures[k] == "" {
		w.failures[k] = why
		w.log.Error("firewall rule not applied", "record", k.String(), "err", why)
	}
}

func (w *Firewall) unreadyAll() {
	for id := range w.engine.shown {
		w.unready[id] = true
	}
}

// endConnections ends what the rules that are now in the kernel would not admit.
func (w *Firewall) endConnections() (int, error) {
	if len(w.check)+len(w.ended) == 0 {
		return 0, nil
	}
	zones := maps.Clone(w.ended)
	for _, z := range w.check {
		zones[z] = true
	}
	list, err := netfilter.Conntrack(zones)
	if err != nil {
		return 0, fmt.Errorf("end revoked connections: %w", err)
	}
	byZone := map[uint16][]netfilter.Entry{}
	for _, x := range list {
		byZone[x.Zone] = append(byZone[x.Zone], x)
	}
	var stale []netfilter.Entry
	for z := range w.ended {
		stale = append(stale, byZone[z]...)
	}
	for _, id := range slices.Sorted(maps.Keys(w.check)) {
		stale = append(stale, w.engine.Stale(id, byZone[w.check[id]])...)
	}
	for _, x := range stale {
		w.log.Debug("connection ended", "zone", x.Zone, "protocol", x.Protocol, "src", x.Src, "sport", x.SrcPort, "dst", x.Dst, "dport", x.DstPort)
	}
	n, err := netfilter.EndConnections(stale)
	if err != nil {
		return n, fmt.Errorf("end revoked connections: %w", err)
	}
	if n > 0 {
		w.log.Info("ended connections that are not admitted any more", "connections", n)
	}
	clear(w.check)
	clear(w.ended)
	return n, nil
}

// Finish removes the rules of ports that have left; the caller calls it when nothing passes those any more.
func (w *Firewall) Finish(ctx context.Context) (Outcome, Counts) {
	if !w.engine.Leaving() {
		return Outcome{Failures: w.failures}, Counts{}
	}
	w.engine.Finish()
	return w.Apply(ctx, false)
}

// Remove takes away all chains and sets with the names of this firewall, for a node that filters by other means.
func Remove(ctx context.Context) error {
	t, s := netfilter.NewTables(owns), netfilter.NewSets(names.AddressSetPrefix)
	if err := t.Load(ctx); err != nil {
		return fmt.Errorf("remove hybrid firewall: %w", err)
	}
	t.Release()
	if _, err := t.Apply(ctx); err != nil {
		return fmt.Errorf("remove hybrid firewall: %w", err)
	}
	if err := s.Load(); err != nil {
		return fmt.Errorf("remove hybrid firewall: %w", err)
	}
	s.Release()
	if _, err := s.Shrink(); err != nil {
		return fmt.Errorf("remove hybrid firewall: %w", err)
	}
	return nil
}
