package netns

import (
	"context"
	"fmt"
	"os"
	"testing"

	"baryon/internal/testkit"
)

func TestWatchDeletedTellsOfDeletions(t *testing.T) {
	testkit.NeedRoot(t)
	name := fmt.Sprintf("bwatch%d", os.Getpid())
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	ended := make(chan error, 1)
	if err := Ensure(name); err != nil { // makes the directory, too
		t.Fatal(err)
	}
	go func() {
		ended <- WatchDeleted(ctx, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	// The watch may begin after the first deletion; one of the next it sees.
	for seen := false; !seen; {
		if err := Delete(name); err != nil {
			t.Fatal(err)
		}
		if err := Ensure(name); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
			seen = true
		case err := <-ended:
			t.Fatalf("the watch ended: %v", err)
		default:
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := Delete(name); err != nil {
		t.Error(err)
	}
}

func TestEndedReadsAnyBytes(t *testing.T) {
	event := func(mask, size byte) []byte { return []byte{1, 0, 0, 0, 0, mask, 0, 0, 0, 0, 0, 0, size, 0, 0, 0} }
	deleted := append(event(0x02, 16), make([]byte, 16)...) // IN_DELETE of a name of 16 bytes
	for name, tc := range map[string]struct {
		in   []byte
		want bool
	}{
		"nothing":             {nil, false},
		"deletion":            {deleted, false},
		"deletion, then end":  {append(append([]byte{}, deleted...), event(0x80, 0)...), true}, // IN_IGNORED
		"cut in the header":   {event(0x80, 0)[:15], false},
		"name longer than it": {event(0x02, 200), false},
	} {
		if got := ended(tc.in); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
