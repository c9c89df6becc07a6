package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"baryon/internal/testkit"
)

func TestLife(t *testing.T) {
	testkit.NeedRoot(t)
	prefix := fmt.Sprintf("bt-ns%d-", os.Getpid())
	ours, theirs := prefix+"ours", prefix+"theirs"
	t.Cleanup(func() {
		exec.Command("ip", "netns", "del", theirs).Run() //nolint:errcheck // clean up
		exec.Command("ip", "netns", "del", ours).Run()   //nolint:errcheck // clean up
	})
	if _, err := Open(ours); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open a missing one: %v", err)
	}
	for range 2 {
		if err := Ensure(ours); err != nil {
			t.Fatal(err)
		}
	}
	// Somebody else's, in use: it has its loopback up.
	for _, c := range [][]string{{"netns", "add", theirs}, {"-n", theirs, "link", "set", "lo", "up"}} {
		if out, err := exec.Command("ip", c...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := Ensure(theirs); !errors.Is(err, ErrForeign) {
		t.Errorf("take somebody else's: %v", err)
	}
	if err := Delete(theirs); !errors.Is(err, ErrForeign) {
		t.Errorf("delete somebody else's: %v", err)
	}
	list, err := List(prefix)
	if err != nil || !slices.Equal(list, []string{ours}) {
		t.Errorf("list = %v, %v", list, err)
	}
	n, err := Open(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var inside []net.Interface
	if err := n.Do(func() (err error) { inside, err = net.Interfaces(); return err }); err != nil {
		t.Fatal(err)
	}
	if len(inside) != 1 || inside[0].Name != "lo" || inside[0].Flags&net.FlagUp == 0 {
		t.Errorf("inside are %+v", inside)
	}
	outside, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if outside.ID() == n.ID() {
		t.Error("the caller's thread was left inside")
	}
	for range 2 {
		if err := Delete(ours); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(Dir, ours)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its name is still there: %v", err)
	}
	// A name without a namespace, as a host's restart leaves it, is made anew.
	if err := os.WriteFile(filepath.Join(Dir, ours), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(ours); err != nil {
		t.Fatal(err)
	}
	if err := Delete(ours); err != nil {
		t.Fatal(err)
	}
}

func TestBadNames(t *testing.T) {
	for _, n := range []string{"", ".", "..", "a/b", "a\x00b"} {
		if Ensure(n) == nil || Delete(n) == nil {
			t.Errorf("%q is taken for a name", n)
		}
	}
}

// A function that panics or fails must not leave its thread inside: the error comes back.
func TestDoError(t *testing.T) {
	testkit.NeedRoot(t)
	n, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	boom := errors.New("boom")
	if err := n.Do(func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
}
