package e2e

import (
	"syscall"
	"testing"

	"baryon/internal/lab"
)

// TestTopologyFile: the example file brings up what it declares, and its guests reach their own network's others.
func TestTopologyFile(t *testing.T) {
	top, err := lab.LoadTopology("../../docs/examples/two-twins.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := ownLab(t, "topo", top, 1)
	ip := map[string]string{}
	for _, g := range w.Guests() {
		lease, err := w.WaitLease(w.ctx(), g.Name)
		w.must(err)
		ip[g.Name] = lease
	}
	for _, pair := range [][2]string{{"red1", "red2"}, {"red2", "red1"}, {"blue1", "blue2"}, {"blue2", "blue1"}} {
		w.reaches(pair[0], ip[pair[1]])
	}
	w.hasAddress("blue2", w.fixed("blue2", "fd00:1:"))
	w.reaches("blue1", w.fixed("blue2", "fd00:1:"))
	w.restartUnderPing("red1", ip["red2"], "cmp1", syscall.SIGTERM)
}
