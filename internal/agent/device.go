package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"baryon/internal/dataplane/netns"
	"baryon/internal/dataplane/ovsdb"
	"baryon/internal/dataplane/rtnl"
	"baryon/internal/names"
)

// How long a missing device of an internal port is waited for before its row is made anew, and at most between two such attempts.
const (
	reviveFirst = 300 * time.Millisecond
	reviveMost  = 30 * time.Second
)

// loss is an internal port of ours whose device has gone.
type loss struct {
	since time.Time // when it was noticed, or when its row was made anew last
	wait  time.Duration
}

// revive makes the rows of those internal ports anew whose device has gone (its namespace was deleted by hand, or the device was), or
// that Open vSwitch could not open: it does not bring such a device back by itself, and may not even notice that it lost it.  Called
// only while ovs-vswitchd is known to have done what the database says.  A row is removed now and added again when ovs-vswitchd
// has done that: in one transaction it would see the same port and do nothing.
func (a *agent) revive(ctx context.Context, now time.Time) (retry time.Duration, err error) {
	for id, p := range a.engine.State().Services {
		v, ok := a.ovs.Port(p.Name)
		if !ok || !v.Ours || v.Type != "internal" || v.OFPort == 0 {
			continue // not made yet
		}
		if v.OFPort > 0 && (p.Placed || a.deviceThere(p.Name, a.namespaces[id])) {
			delete(a.losses, id)
			continue
		}
		l := a.losses[id]
		if l == nil {
			l = &loss{since: now, wait: reviveFirst}
			a.losses[id] = l
		}
		if left := l.wait - now.Sub(l.since); left > 0 {
			if retry == 0 || left < retry {
				retry = left
			}
			continue
		}
		if l.wait == reviveFirst {
			a.log.Warn("device of an internal port has gone, making it anew", "port", id, "device", p.Name, "err", v.Error)
		}
		l.since, l.wait = now, min(4*l.wait, reviveMost)
		if err := a.transact(ctx, ovsdb.Plan{Remove: []string{p.Name}}); err != nil {
			return 0, fmt.Errorf("remove port %s that lost its device: %w", p.Name, err)
		}
		a.leaving[p.Name] = a.askedCfg
		a.dirtyPorts[p.Name] = true
	}
	for id := range a.losses {
		if _, ok := a.engine.State().Services[id]; !ok {
			delete(a.losses, id)
		}
	}
	return retry, nil
}

// isLeaving says that ovs-vswitchd may not have taken a removed port away yet.
func (a *agent) isLeaving(name string) bool {
	cfg, ok := a.leaving[name]
	if ok && cfg <= a.curCfg {
		delete(a.leaving, name)
		return false
	}
	return ok
}

// deviceThere says that a device is in our namespace or in the named one, or that this cannot be found out.
func (a *agent) deviceThere(name, namespace string) bool {
	if index, err := a.root.Index(name); index != 0 || err != nil {
		return true
	}
	if namespace == "" {
		return false
	}
	ns, err := rtnl.Open(namespace)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer ns.Close()
	index, err := ns.Index(name)
	return index != 0 || err != nil
}

// hush switches IPv6 off on devices that have been given a local VLAN.  They are ends of cables, not hosts: an address there would let a
// guest talk to the host behind the switch's back (and its router advertisements configure the host, under the userspace
// datapath), and Open vSwitch looks all addresses up again after every change of any device, which is what makes many ports slow.
// Whoever made the device should have done it; hypervisors do not.
func (a *agent) hush(devices []string) {
	want := map[string]string{}
	for _, name := range devices {
		v, ok := a.ovs.Port(name)
		if !ok || v.Bridge != names.BrInt || v.Type != "" || a.hushed[name] || filepath.Base(name) != name || name == "all" || name == "default" {
			continue
		}
		a.hushed[name] = true
		want["ipv6/conf/"+name+"/disable_ipv6"] = "1"
	}
	if len(want) == 0 {
		return
	}
	if _, err := a.root.SetSysctls(want); err != nil {
		a.log.Warn("cannot switch IPv6 off on plugged devices", "err", err)
	}
}

// watchNamespaces tells the managers when a named namespace vanishes, so that they need not look often.
func (a *agent) watchNamespaces(ctx context.Context) {
	for first := true; ; first = false {
		err := netns.WatchDeleted(ctx, func() {
			for _, r := range a.runners {
				r.loop.Dirty()
			}
		})
		if ctx.Err() != nil {
			return
		}
		if first && !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("cannot watch network namespaces; a deleted one is noticed later", "err", err)
		}
		if !sleep(ctx, rewatch) {
			return
		}
	}
}

// rewatch is how soon the directory of the namespaces is looked for again.
const rewatch = 2 * time.Second
