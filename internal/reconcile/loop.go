// Package reconcile runs the loops that keep the world as it is wanted, and keeps the books on how far they are.
//
// Loop calls one function whenever something may have changed, never twice at once: events only mark the loop dirty, many marks
// make one pass, a failed pass is tried again with growing delays, and from time to time a full pass compares everything.
// Tracker holds per object what revision is wanted, what has been applied and why not, and lets others wait for it.
package reconcile

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Pass says why the loop runs its function.
type Pass struct {
	Full    bool // compare everything, do not trust what was remembered
	Attempt int  // 0, or how many passes in a row have failed before this one
}

// Options set a loop up.  Zero durations take the defaults named.
type Options struct {
	// Run does one pass.  An error asks for another pass after a delay.  retry > 0 asks for a pass after that time without
	// calling it a failure.
	Run func(ctx context.Context, p Pass) (retry time.Duration, err error)
	// Failed hears of every failed pass, Recovered of the first good one after failures.  Either may be nil.
	Failed    func(err error, attempt int)
	Recovered func(failures int)

	MinBackoff time.Duration // delay after the first failure, default 20 ms; doubles with each further one
	MaxBackoff time.Duration // default 5 s
	Resync     time.Duration // a full pass at least this often; 0: never
	Throttle   time.Duration // least time between the ends and starts of passes; 0: none
}

// Loop is one reconciliation loop.
type Loop struct {
	o     Options
	dirty chan struct{} // holds one mark

	mu   sync.Mutex
	full bool
}

// New makes a loop; the first pass is a full one.
func New(o Options) *Loop {
	if o.MinBackoff <= 0 {
		o.MinBackoff = 20 * time.Millisecond
	}
	if o.MaxBackoff < o.MinBackoff {
		o.MaxBackoff = max(o.MinBackoff, 5*time.Second)
	}
	l := &Loop{o: o, dirty: make(chan struct{}, 1), full: true}
	l.dirty <- struct{}{}
	return l
}

// Dirty asks for a pass.  It never blocks and may be called from anywhere, also from within a pass.
func (l *Loop) Dirty() {
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// DirtyFull asks for a full pass.
func (l *Loop) DirtyFull() {
	l.mu.Lock()
	l.full = true
	l.mu.Unlock()
	l.Dirty()
}

func (l *Loop) takeFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.full
	l.full = false
	return f
}

// Run runs passes until ctx ends.
func (l *Loop) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	lastFull := time.Now()
	failures := 0
	var again time.Duration // after a failure or by request; 0: none
	for {
		wait, isResync := again, false
		if l.o.Resync > 0 {
			if left := max(time.Until(lastFull.Add(l.o.Resync)), 0); wait == 0 || left < wait {
				wait, isResync = max(left, 1), true
			}
		}
		if wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-l.dirty:
		case <-timer.C:
			if isResync {
				l.DirtyFull()
			}
		}
		p := Pass{Full: l.takeFull(), Attempt: failures}
		if p.Full {
			lastFull = time.Now()
		}
		retry, err := l.o.Run(ctx, p)
		if ctx.Err() != nil {
			return
		}
		again = retry
		if err != nil {
			failures++
			if p.Full { // it did not come to an end: the next one is full again
				l.mu.Lock()
				l.full = true
				l.mu.Unlock()
			}
			if l.o.Failed != nil {
				l.o.Failed(err, failures)
			}
			again = l.backoff(failures)
		} else if failures > 0 {
			if l.o.Recovered != nil {
				l.o.Recovered(failures)
			}
			failures = 0
		}
		if l.o.Throttle > 0 && !sleep(ctx, l.o.Throttle) {
			return
		}
	}
}

func (l *Loop) backoff(failures int) time.Duration {
	d := l.o.MinBackoff << min(failures-1, 16)
	if d <= 0 || d > l.o.MaxBackoff {
		d = l.o.MaxBackoff
	}
	return d - d/4 + rand.N(d/4+1) // a little jitter, so that nodes that failed together do not come back together
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
