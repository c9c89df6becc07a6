package reconcile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestManyMarksMakeOnePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes []Pass
		l := New(Options{Run: func(_ context.Context, p Pass) (time.Duration, error) {
			passes = append(passes, p)
			return 0, nil
		}})
		for range 100 {
			l.Dirty()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go l.Run(ctx)
		synctest.Wait()
		l.Dirty()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if d := cmp.Diff([]Pass{{Full: true}, {}}, passes); d != "" {
			t.Error(d)
		}
	})
}

func TestFailureIsRetriedWithGrowingDelayAndStaysFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		var passes []Pass
		recovered := 0
		l := New(Options{
			MinBackoff: 100 * time.Millisecond, MaxBackoff: 300 * time.Millisecond,
			Run: func(_ context.Context, p Pass) (time.Duration, error) {
				at = append(at, time.Since(start))
				passes = append(passes, p)
				if len(passes) < 4 {
					return 0, errors.New("no")
				}
				return 0, nil
			},
			Recovered: func(n int) { recovered = n },
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l.Run(ctx)
		want := []Pass{{Full: true}, {Full: true, Attempt: 1}, {Full: true, Attempt: 2}, {Full: true, Attempt: 3}}
		if d := cmp.Diff(want, passes); d != "" {
			t.Fatal(d)
		}
		for i, least := range []time.Duration{0, 75, 150, 225} {
			if i == 0 {
				continue
			}
			if gap := at[i] - at[i-1]; gap < least*time.Millisecond || gap > 300*time.Millisecond {
				t.Errorf("gap %d is %v", i, gap)
			}
		}
		if recovered != 3 {
			t.Errorf("recovered after %d failures", recovered)
		}
	})
}

func TestResyncAndRequestedRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, other := 0, 0
		l := New(Options{Resync: 10 * time.Second, Run: func(_ context.Context, p Pass) (time.Duration, error) {
			if p.Full {
				full++
				return 3 * time.Second, nil
			}
			other++
			return 0, nil
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		l.Run(ctx)
		if full != 4 || other != 4 {
			t.Errorf("%d full passes and %d others, want 4 and 4", full, other)
		}
	})
}

func TestTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := NewTracker[string, string]()
		tr.Set("unknown", 1, "done", "")
		tr.Want("a", 5)
		var got Status[string]
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err = tr.Wait(t.Context(), "a", func(s Status[string], _ bool) bool { return s.State == "done" && s.Applied >= s.Wanted })
		}()
		synctest.Wait()
		tr.Set("a", 4, "done", "")
		synctest.Wait()
		tr.Set("a", 5, "done", "")
		<-done
		want := Status[string]{Wanted: 5, Applied: 5, State: "done"}
		if err != nil || got != want {
			t.Errorf("Wait: %+v, %v", got, err)
		}
		if d := cmp.Diff(map[string]Status[string]{"a": want}, tr.Changed()); d != "" {
			t.Error(d)
		}
		tr.Set("a", 5, "done", "")
		if c := tr.Changed(); c != nil {
			t.Errorf("the same status again counts as changed: %v", c)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tr.Wait(ctx, "b", func(_ Status[string], known bool) bool { return known }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for the unknown: %v", err)
		}
		tr.Forget("a")
		if _, ok := tr.Get("a"); ok || len(tr.All()) != 0 {
			t.Error("forgotten object is still there")
		}
	})
}
