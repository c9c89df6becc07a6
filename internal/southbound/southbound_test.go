package southbound

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/compile"
	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// want is what a node must hold, straight from the store.
func (c *cloud) want(host string) string {
	set := map[nodestate.Key]nodestate.Record{}
	for _, r := range compile.Node(c.st.Snapshot(), compile.Config{}, host) {
		set[r.Key()] = r
	}
	return dump(set)
}

// inSync waits until the node holds what it must.
func (n *node) inSync(c *cloud, host string) {
	n.t.Helper()
	n.wait(n.t, "node "+host+" to be in sync", func() bool { return dump(n.set) == c.want(host) })
}

func TestCompleteThenIncremental(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	a := c.join("a")
	a.confirmed()
	a.mu.Lock()
	first := a.updates[0]
	a.mu.Unlock()
	if !first.Complete || !first.Cached || len(first.Upserts) != 0 {
		t.Errorf("first update of a new node is %+v, want an empty cached complete state", first)
	}
	if diff := cmp.Diff(c.want("a"), a.dump()); diff != "" {
		t.Fatalf("complete state (-want +got):\n%s", diff)
	}
	sent := c.srv.Stats().Sent
	rev := c.update(func(tx store.Tx) { store.Put(tx, model.PortTable, portRow("new", "net", "b", 9)) })
	a.inSync(c, "a")
	if got := c.srv.Stats().Sent - sent; got != 1 {
		t.Errorf("a port on another node cost %d records, want its peers alone", got)
	}
	a.mu.Lock()
	last := a.updates[len(a.updates)-1]
	a.mu.Unlock()
	if last.Complete || last.Revision < rev || len(last.Upserts) != 1 || last.Upserts[0].Key() != nodestate.PeersKey("net", "b") {
		t.Errorf("update after the bind at %d is %+v", rev, last)
	}
	c.update(func(tx store.Tx) { store.Delete(tx, model.PortTable, "port-a") })
	a.inSync(c, "a")
	if a.dump() != "" {
		t.Errorf("a node without ports holds\n%s", a.dump())
	}
}

func TestResumeCostsWhatChanged(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	c.update(func(tx store.Tx) {
		for i := range 200 {
			store.Put(tx, model.PortTable, portRow(fmt.Sprintf("p%03d", i), "net", "a", 100+i))
		}
	})
	c.heard()
	a := c.join("a")
	a.confirmed()
	a.inSync(c, "a")

	t.Run("server restarted, nothing changed", func(t *testing.T) {
		c.restart()
		c.resynced(t)
		if s := c.srv.Stats(); s.Sent != 0 {
			t.Errorf("sent %d records", s.Sent)
		}
	})
	t.Run("server away while one port changes and one goes", func(t *testing.T) {
		c.halt()
		c.update(func(tx store.Tx) {
			p := portRow("p007", "net", "a", 107)
			p.Name = "renamed"
			store.Put(tx, model.PortTable, p)
			store.Delete(tx, model.PortTable, "p008")
		})
		c.start()
		a.inSync(c, "a")
		if s := c.srv.Stats(); s.Sent != 1 {
			t.Errorf("sent %d records, want the renamed port", s.Sent)
		}
		a.mu.Lock()
		last := a.updates[len(a.updates)-1]
		a.mu.Unlock()
		if last.Complete || len(last.Deletes) != 1 || len(last.Upserts) != 1 {
			t.Errorf("resumed with %d upserts and %d deletes, complete %v", len(last.Upserts), len(last.Deletes), last.Complete)
		}
	})
	t.Run("agent restarted, nothing changed", func(t *testing.T) {
		sent := c.srv.Stats().Sent
		a.halt()
		a.updates, a.set = nil, map[nodestate.Key]nodestate.Record{}
		a.run(c)
		a.confirmed()
		if got := c.srv.Stats().Sent - sent; got != 0 {
			t.Errorf("sent %d records", got)
		}
		if !a.updates[0].Cached || len(a.updates[0].Upserts) == 0 {
			t.Errorf("the cached state did not come first")
		}
		if diff := cmp.Diff(c.want("a"), a.dump()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("agent started without a server", func(t *testing.T) {
		a.halt()
		want := c.want("a")
		c.halt()
		a.updates, a.set = nil, map[nodestate.Key]nodestate.Record{}
		a.run(c)
		a.wait(t, "the cached state", func() bool { return dump(a.set) == want })
		if u := a.updates[0]; !u.Complete || !u.Cached {
			t.Errorf("state without a server is complete %v, cached %v", u.Complete, u.Cached)
		}
		if a.client.Synced() {
			t.Error("synced without a server")
		}
		c.start()
		a.confirmed()
	})
}

// resynced waits until the server has brought a node up to date; its heartbeats wake the wait.
func (c *cloud) resynced(t *testing.T) {
	t.Helper()
	c.nodes.wait(t, "a node to resume", func() bool { return c.srv.Stats().Resyncs > 0 })
}

func TestReportsReachTheStore(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	a := c.join("a")
	a.confirmed()
	info := nodestate.NodeInfo{Host: "a", Roles: []string{"compute"}, Version: "1"}
	a.client.SetInfo(info)
	c.nodes.wait(t, "registration", func() bool { return c.nodes.nodes["a"].Version == "1" })
	c.nodes.wait(t, "heartbeats", func() bool { return c.nodes.beats["a"] > 2 })

	own := nodestate.Status{Key: nodestate.PortKey("port-a"), Revision: 7, State: nodestate.Done}
	a.client.Report([]nodestate.Status{own})
	c.nodes.wait(t, "status", func() bool { return c.nodes.statuses["a"][own.Key] == own })

	c.nodes.change(func() { c.nodes.fail = errors.New("store is away") })
	own.State, own.Reason = nodestate.Failed, "bad \xff byte"
	a.client.Report([]nodestate.Status{own})
	c.restart() // while the report is not stored
	c.nodes.change(func() { c.nodes.fail = nil })
	c.nodes.wait(t, "status after the failure", func() bool { return c.nodes.statuses["a"][own.Key].State == nodestate.Failed })
	if got := c.nodes.statuses["a"][own.Key].Reason; got != "bad ? byte" {
		t.Errorf("reason %q", got)
	}
}

func TestInstanceWaitsForItsPort(t *testing.T) {
	c := newCloud(t)
	c.seed("a")
	a := c.join("a")
	a.confirmed()
	in := nodestate.Instance{ID: "i-1", Name: "vm", UserData: []byte("#!"), Meta: map[string]string{"k": "v"}}
	a.client.ReportInstance("later", &in)
	a.client.ReportInstance("port-a", &nodestate.Instance{Name: "other"})
	c.nodes.wait(t, "the instance of a bound port", func() bool { return c.nodes.instances["a/port-a"].Name == "other" })
	c.nodes.mu.Lock()
	_, early := c.nodes.instances["a/later"]
	c.nodes.mu.Unlock()
	if early {
		t.Error("an instance came before its port was bound")
	}
	c.update(func(tx store.Tx) { store.Put(tx, model.PortTable, portRow("later", "net", "a", 50)) })
	c.nodes.wait(t, "the instance after the bind", func() bool {
		return cmp.Equal(c.nodes.instances["a/later"], in)
	})
}

func TestNodeGoneOnlyWhenItIs(t *testing.T) {
	c := newCloud(t)
	a := c.join("a")
	a.confirmed()
	a.halt()
	c.nodes.wait(t, "the lost stream to be told", func() bool { return c.nodes.gone["a"] == 1 })
	a.run(c)
	a.confirmed()
	c.restart() // a server that stops takes no node with it
	c.resynced(t)
	c.nodes.mu.Lock()
	defer c.nodes.mu.Unlock()
	if got := c.nodes.gone["a"]; got != 1 {
		t.Errorf("node called gone %d times, want once", got)
	}
}

// TestStatusThatWasForgottenIsAskedForAgain: a node that never saw its port unbound must still report on it after it was bound again.
func TestStatusThatWasForgottenIsAskedForAgain(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	c.heard()
	a := c.join("a")
	a.confirmed()
	again := func() func() bool {
		a.mu.Lock()
		seen := len(a.updates)
		a.mu.Unlock()
		return func() bool {
			for _, u := range a.updates[seen:] {
				for _, r := range u.Upserts {
					if r.Key() == nodestate.PortKey("port-a") && !u.Complete {
						return true
					}
				}
			}
			return false
		}
	}
	forget := func() {
		c.update(func(tx store.Tx) { store.Delete(tx, model.PortStatusTable, "port-a") })
	}
	live := again()
	forget()
	a.wait(t, "the port to be sent again", live)
	c.heard()

	away := again()
	c.halt()
	forget()
	c.start()
	a.wait(t, "the port to be sent again after the reconnect", away)
	if got := c.srv.Stats().Sent; got != 1 {
		t.Errorf("reconnect cost %d records, want the port alone", got)
	}
}

// TestMovedPortGoesFromNodeToNode: the record of a port that moves is the same on both nodes; both must hear.
func TestMovedPortGoesFromNodeToNode(t *testing.T) {
	c := newCloud(t)
	c.seed("a", "b")
	a, b := c.join("a"), c.join("b")
	a.confirmed()
	b.confirmed()
	for i := range 6 {
		host := []string{"b", "a"}[i%2]
		c.update(func(tx store.Tx) { store.Put(tx, model.PortTable, portRow("port-a", "net", host, 1)) })
		a.inSync(c, "a")
		b.inSync(c, "b")
	}
}
