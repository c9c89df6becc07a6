package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"baryon/internal/store"
)

// crashDir, set in the environment, makes the test binary the process that is killed.
const crashDir = "BARYON_STORE_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled prints the key of each row after its Update has returned.
func writeUntilKilled(dir string) {
	p, c := parents(), children()
	s, err := store.Open(context.Background(), store.Options{Dir: dir, Tables: []store.AnyTable{p, c}})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	base := s.Snapshot().Revision()
	var wg sync.WaitGroup
	var out sync.Mutex
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", base, w, i)
				_, err := s.Update(context.Background(), func(tx store.Tx) error {
					store.Put(tx, p, &parent{ID: id, Name: "written", Number: i})
					store.Put(tx, c, &child{ID: id, Parent: id, Addrs: []string{"1"}})
					return nil
				})
				out.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println("done", id)
				}
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

// Killed at any moment, the store has everything it acknowledged, and every transaction wholly or not at all.
func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 4 {
		killAfter(t, dir, 50+round*137, acked)
		p, c := parents(), children()
		s, err := store.Open(t.Context(), store.Options{Dir: dir, Tables: []store.AnyTable{p, c}})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		r := s.Snapshot()
		for id := range acked {
			if _, ok := store.Get(r, p, id); !ok {
				t.Errorf("round %d: acknowledged row %s is lost", round, id)
			}
		}
		for row := range store.All(r, p) {
			if got := childIDs(r, c, "addr", row.ID+"/1"); got != row.ID {
				t.Errorf("round %d: half a transaction: %s has child %q", round, row.ID, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// killAfter runs the writer, kills it once it has acknowledged n rows and notes all that it acknowledged.
func killAfter(t *testing.T, dir string, n int, acked map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for got := 0; lines.Scan(); {
		what, id, _ := strings.Cut(lines.Text(), " ")
		if what != "done" {
			t.Errorf("writer says: %s", lines.Text())
			continue
		}
		acked[id] = true
		if got++; got == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
}

// Opening a directory that another server uses is refused at once.
func TestDirInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Dir: dir, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(t.Context(), store.Options{Dir: dir, UnsafeNoFsync: true}); err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
