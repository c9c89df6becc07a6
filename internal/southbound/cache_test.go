package southbound

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"baryon/internal/nodestate"
	pb "baryon/proto/baryon/v1"
)

func names(records map[uint64]held) map[string]string {
	out := make(map[string]string, len(records))
	for _, h := range records {
		out[h.key.String()] = string(h.bytes)
	}
	return out
}

// TestCacheKeepsTheState: whatever was appended or rewritten, what is loaded is what was last written; of a journal cut anywhere,
// what is loaded is a state that was once written.
func TestCacheKeepsTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "cache")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		c := newCache(dir, "host", "ca")
		defer c.drop()
		state := map[uint64]held{}
		history := []map[string]string{{}}
		for rev := range int64(rapid.IntRange(1, 6).Draw(t, "changes")) {
			u := &pb.Update{Revision: rev + 1}
			for _, r := range rapid.SliceOfN(genRecord(), 1, 4).Draw(t, "records") {
				b, k := Encode(r), nodestate.HashKey(r.Key())
				state[k] = held{key: r.Key(), bytes: b}
				u.Upserts = append(u.Upserts, b)
			}
			if c.due() || rapid.Bool().Draw(t, "rewrite") {
				u.Upserts = nil
				for _, h := range state {
					u.Upserts = append(u.Upserts, h.bytes)
				}
				history = []map[string]string{{}}
				err = c.rewrite([]*pb.Update{u})
			} else {
				err = c.append([]*pb.Update{u})
			}
			if err != nil {
				t.Fatal(err)
			}
			history = append(history, names(state))
		}
		got, _, err := newCache(dir, "host", "ca").load()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(names(state), names(got)); diff != "" {
			t.Fatalf("-written +loaded:\n%s", diff)
		}
		raw, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		cut := rapid.IntRange(0, len(raw)-1).Draw(t, "cut")
		if err := os.WriteFile(c.path, raw[:cut], cacheFileMode); err != nil {
			t.Fatal(err)
		}
		got, _, _ = newCache(dir, "host", "ca").load()
		for _, was := range history {
			if maps.Equal(was, names(got)) {
				return
			}
		}
		t.Fatalf("cut at %d of %d gives a state that never was", cut, len(raw))
	})
}

func TestDamagedCacheIsLeftBehind(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	a := c.join("a")
	a.confirmed()
	a.halt()
	path := filepath.Join(a.dir, cacheName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	huge := append([]byte(newCacheHeader(a)), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	for name, content := range map[string][]byte{
		"empty": {}, "cut in the header": whole[:10], "cut in the last frame": whole[:len(whole)-1], "a bit flipped": flipped,
		"garbage": []byte(strings.Repeat("garbage\n", 100)), "huge frame": huge,
		"another host's": bytes.Replace(whole, []byte(" a "), []byte(" b "), 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, content, cacheFileMode); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			client, err := NewClient(ClientConfig{Addresses: []string{c.addr}, StateDir: a.dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if err := client.lock.Close(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "last known state is damaged") {
				t.Errorf("log says %q", log.String())
			}
			a.updates, a.set = nil, map[nodestate.Key]nodestate.Record{}
			a.run(c)
			a.confirmed()
			a.halt()
			if diff := cmp.Diff(c.want("a"), a.dump()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func newCacheHeader(n *node) string { return n.client.cache.header }

func TestOneAgentPerStateDirectory(t *testing.T) {
	c := newCloud(t)
	a := c.join("a")
	_, err := NewClient(ClientConfig{Addresses: []string{c.addr}, StateDir: a.dir})
	if err == nil || !strings.Contains(fmt.Sprint(err), "another agent uses it") {
		t.Errorf("second client on one directory: %v", err)
	}
}

func FuzzReadCache(f *testing.F) {
	const header = "h\n"
	good, err := frames([]byte(header), []*pb.Update{{Revision: 1, Upserts: [][]byte{Encode(&nodestate.Network{ID: "n"})}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, b []byte) {
		records := map[uint64]held{}
		if _, err := readCache(bufio.NewReader(bytes.NewReader(b)), header, records); err != nil {
			return
		}
		for k, h := range records {
			if k != nodestate.HashKey(h.key) || h.hash != nodestate.HashContent(h.bytes) {
				t.Fatalf("record %s under a wrong hash", h.key)
			}
		}
	})
}
