package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"

	"baryon/internal/resource"
)

type thing struct {
	ID    string `json:"id"`
	Group string `json:"group"`
}

func things() *resource.Table[thing] {
	return resource.NewTable("thing", func(x *thing) string { return x.ID }).
		Index("group", func(x *thing) []string { return []string{x.Group} })
}

func openThings(t *testing.T, tab AnyTable) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), Tables: []AnyTable{tab}, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func guards(s *Store) string {
	var out []string
	s.cur.Load().guards.Ascend(func(g guard) bool {
		out = append(out, strings.TrimPrefix(g.key, guardPrefix))
		return true
	})
	return strings.Join(out, " ")
}

// Only sets that a transaction reads get a guard, and it goes when the set is empty.
func TestGuards(t *testing.T) {
	tab := things()
	s := openThings(t, tab)
	put := func(x thing, groups ...string) {
		t.Helper()
		_, err := s.Update(t.Context(), func(tx Tx) error {
			for _, g := range groups {
				for range Find(tx, tab, "group", g) {
					continue
				}
			}
			Put(tx, tab, &x)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(thing{ID: "a", Group: "x"})
	if got := guards(s); got != "" {
		t.Errorf("guards without a reader: %q", got)
	}
	put(thing{ID: "b", Group: "x"}, "x", "y")
	if got := guards(s); got != "thing/group/x thing/group/y" {
		t.Errorf("guards after a reader: %q", got)
	}
	if err := s.sweepGuards(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil { // the replica has caught up
		t.Fatal(err)
	}
	if got := guards(s); got != "thing/group/x" {
		t.Errorf("guards after the sweep: %q", got)
	}
	put(thing{ID: "c", Group: "y"}, "y")
	if got := guards(s); got != "thing/group/x thing/group/y" {
		t.Errorf("guards made anew: %q", got)
	}
}

func TestCompact(t *testing.T) {
	tab := things()
	s := openThings(t, tab)
	for i := range 5 {
		if _, err := s.Update(t.Context(), func(tx Tx) error { Put(tx, tab, &thing{ID: fmt.Sprint(i)}); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.compact(s.cur.Load().rev); err != nil {
		t.Fatal(err)
	}
	if err := s.resync(); err != nil {
		t.Fatal(err)
	}
	if n := Count(s.Snapshot(), tab, "", ""); n != 5 {
		t.Errorf("%d rows after compaction and resync", n)
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"a", "a/b", "", "/", "ä/"} {
		table, got, ok := splitRowKey(rowKey("port", key))
		if !ok || table != "port" || got != key {
			t.Errorf("row key of %q comes back as %q %q %v", key, table, got, ok)
		}
		table, index, value, ok := splitGuardKey(guardKey("port", "ip", key))
		if !ok || table != "port" || index != "ip" || value != key {
			t.Errorf("guard key of %q comes back as %q %q %q %v", key, table, index, value, ok)
		}
	}
	for _, k := range []string{"", "/baryon", "/baryon/", "/baryon-guard/a", "/baryon-format", "x"} {
		if _, _, ok := splitRowKey(k); ok {
			t.Errorf("%q is taken for a row's key", k)
		}
		if _, _, _, ok := splitGuardKey(k); ok {
			t.Errorf("%q is taken for a guard's key", k)
		}
	}
	for _, k := range []string{rowKey("a", ""), uniqueKey("a", "b", ""), guardKey("a", "", ""), formatKey} {
		if k < rangeFrom || k >= rangeEnd {
			t.Errorf("%q is outside of the watched range", k)
		}
	}
}

func TestZapToSlog(t *testing.T) {
	var out strings.Builder
	log := zapLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	log.Info("detail")
	log.With(zap.String("member", "m1")).Warn("slow", zap.Int("n", 3))
	log.Error("bad")
	got := out.String()
	if strings.Contains(got, "detail") || !strings.Contains(got, "level=WARN msg=slow part=etcd member=m1 n=3") || !strings.Contains(got, "level=ERROR msg=bad") {
		t.Errorf("logged %s", got)
	}
}

// A new data directory and its second start say nothing that an operator would wonder about; the same words with another cause stay.
func TestStartIsQuiet(t *testing.T) {
	var out strings.Builder
	quiet := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	dir := t.TempDir()
	for range 2 {
		s, err := Open(t.Context(), Options{Dir: dir, Log: quiet, UnsafeNoFsync: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != "" {
		t.Errorf("logged %s", out.String())
	}
	log := zapLogger(quiet)
	log.Error("failed to update storage version", zap.Error(errors.New("cannot detect storage schema version: missing term information")))
	if out.String() != "" {
		t.Errorf("logged %s", out.String())
	}
	log.Error("failed to update storage version", zap.Error(errors.New("disk is on fire")))
	if !strings.Contains(out.String(), "level=ERROR") {
		t.Errorf("logged %s", out.String())
	}
}

// A complete read takes as many pages as it needs and asks for as much at once as fits.
func TestLoadPages(t *testing.T) {
	dir, tab := t.TempDir(), things()
	const rows = 2*firstPage + 7
	open := func() *Store {
		s, err := Open(t.Context(), Options{Dir: dir, Tables: []AnyTable{tab}, UnsafeNoFsync: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if _, err := s.Update(t.Context(), func(tx Tx) error {
		for i := range rows {
			Put(tx, tab, &thing{ID: fmt.Sprint(i), Group: fmt.Sprint(i % 3)})
		}
		for range Find(tx, tab, "group", "1") { // a guard, between the rows and the keys of unique values
			break
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rev, had := s.Snapshot().Revision(), guards(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if n := Count(s.Snapshot(), tab, "", ""); n != rows || guards(s) != had || had == "" || s.Snapshot().Revision() < rev {
		t.Errorf("%d rows, guards %q at %d, want %d, %q at %d", n, guards(s), s.Snapshot().Revision(), rows, had, rev)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		keys, bytes int
		want        int64
	}{{1000, 400_000, 41943}, {1000, 1 << 30, pageLeast}, {10, 0, pageMost}, {1000, 1000, pageMost}} {
		if got := nextPage(c.keys, c.bytes); got != c.want {
			t.Errorf("after %d keys of %d bytes: %d, want %d", c.keys, c.bytes, got, c.want)
		}
	}
}
