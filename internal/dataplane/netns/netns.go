// Package netns makes, finds and enters named network namespaces: the ones that `ip netns` shows, under /run/netns.
//
// Ours are told from others by a mark inside the namespace itself, the alias of its loopback device (Mark, seen with
// `ip -n NAME link show lo`): it lives exactly as long as the namespace and needs no file that could disagree.  Delete refuses what
// does not carry it.
//
// Data flow: managers call Ensure and Delete from the agent's loop; servers call NS.Do to open sockets inside.  A socket keeps its
// namespace alive, so servers are closed before their namespace is deleted.  Everything is safe for concurrent use.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where named namespaces live (ip-netns(8)).
const Dir = "/run/netns"

// Mark is the alias of the loopback device in every namespace that Baryon made.
const Mark = "baryon"

// maxName bounds a namespace's name: that of a file.
const maxName = 255

// ErrForeign is returned for a namespace that Baryon did not make.
var ErrForeign = errors.New("not made by baryon")

// NS is an open network namespace.  It stays usable after its name is gone; Close it.
type NS struct {
	name string
	h    vns.NsHandle
	id   ID
}

// ID tells namespaces apart, also two that had the same name one after the other.
type ID struct{ Dev, Ino uint64 }

// Open opens the namespace with that name; "" is the one of the caller's thread.  A missing one gives fs.ErrNotExist.
func Open(name string) (*NS, error) {
	var h vns.NsHandle
	var err error
	if name == "" {
		h, err = vns.Get()
	} else if err = check(name); err == nil {
		h, err = vns.GetFromPath(filepath.Join(Dir, name))
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", name, err)
	}
	n := &NS{name: name, h: h}
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		n.Close()
		return nil, fmt.Errorf("open network namespace %q: %w", name, err)
	}
	n.id = ID{uint64(st.Dev), st.Ino}
	var fsStat unix.Statfs_t
	if err := unix.Fstatfs(int(h), &fsStat); err != nil || fsStat.Type != unix.NSFS_MAGIC {
		n.Close()
		// The name is a file that nothing is mounted on: left over from a host that went down.
		return nil, fmt.Errorf("open network namespace %q: %w: no namespace is mounted there", name, fs.ErrNotExist)
	}
	return n, nil
}

// Name is the name it was opened by.
func (n *NS) Name() string { return n.name }

// ID identifies the namespace.
func (n *NS) ID() ID { return n.id }

// FD is the file descriptor, valid until Close.
func (n *NS) FD() int { return int(n.h) }

// Close lets go of the namespace.
func (n *NS) Close() {
	if n.h.IsOpen() {
		n.h.Close() //nolint:errcheck // a read-only descriptor
	}
}

// Handle gives netlink inside the namespace.  Close it with Delete or Close of the handle.
func (n *NS) Handle() (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(n.h, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink in namespace %q: %w", n.name, err)
	}
	return h, nil
}

// Do runs f on a thread inside the namespace and waits for it.  What f starts in other goroutines runs outside.
func (n *NS) Do(f func() error) error {
	return onThread(func() error {
		if err := vns.Set(n.h); err != nil {
			return fmt.Errorf("enter network namespace %q: %w", n.name, err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own kind of life: when the thread cannot be brought back to the namespace it came from, it
// ends with its goroutine instead of serving others from the wrong place.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := vns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("remember network namespace: %w", err)
			return
		}
		defer back.Close() //nolint:errcheck // a read-only descriptor
		finished := false
		defer func() {
			// A panic of f must not leave the thread where it is; re-raised by the runtime after this.
			if vns.Set(back) == nil {
				runtime.UnlockOSThread()
			}
			if !finished {
				done <- errors.New("run in network namespace: the function did not return")
			}
		}()
		err = f()
		finished = true
		done <- err
	}()
	return <-done
}

// Ensure makes the namespace if it is missing, marks it and brings its loopback up.  One with that name that is not ours is
// ErrForeign.  A name whose mount is gone (after a host's restart) is made anew.
func Ensure(name string) error {
	if err := check(name); err != nil {
		return fmt.Errorf("make network namespace %q: %w", name, err)
	}
	n, err := Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(name); err != nil {
			return fmt.Errorf("make network namespace %q: %w", name, err)
		}
		if n, err = Open(name); err == nil {
			defer n.Close()
			return n.mark()
		}
	}
	if err != nil {
		return err
	}
	defer n.Close()
	h, err := n.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in namespace %q: %w", name, err)
	}
	if lo.Attrs().Alias != Mark {
		// A crash between making and marking leaves an empty namespace: nobody else's, since it has no device and no name of theirs.
		links, err := h.LinkList()
		if err != nil || len(links) > 1 || lo.Attrs().Alias != "" || lo.Attrs().Flags&1 != 0 {
			return fmt.Errorf("take network namespace %q: %w", name, ErrForeign)
		}
		return n.mark()
	}
	return nil
}

func (n *NS) mark() error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in namespace %q: %w", n.name, err)
	}
	if err := h.LinkSetAlias(lo, Mark); err != nil {
		return fmt.Errorf("mark namespace %q: %w", n.name, err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up in namespace %q: %w", n.name, err)
	}
	return nil
}

// create mounts a new namespace on its name, as ip-netns(8) does, so that `ip netns` and others find it.
func create(name string) error {
	if err := shareDir(); err != nil {
		return err
	}
	path := filepath.Join(Dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return err
	}
	f.Close() //nolint:errcheck // nothing was written
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		os.Remove(path) //nolint:errcheck // the first error counts
	}
	return err
}

// shareDir makes Dir a shared mount point, so that a namespace deleted here is gone in other mount namespaces too.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(Dir, Dir, "", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", Dir, err)
	}
	return nil
}

// Delete removes the namespace's name; the namespace itself goes with its last user.  Deleting the absent is success, deleting
// somebody else's is ErrForeign.
func Delete(name string) error {
	if err := check(name); err != nil {
		return fmt.Errorf("delete network namespace %q: %w", name, err)
	}
	ours, err := Ours(name)
	if errors.Is(err, fs.ErrNotExist) {
		return unlink(name)
	}
	if err != nil {
		return err
	}
	if !ours {
		return fmt.Errorf("delete network namespace %q: %w", name, ErrForeign)
	}
	return unlink(name)
}

func unlink(name string) error {
	path := filepath.Join(Dir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete network namespace %q: %w", name, err)
	}
	return nil
}

// Ours tells whether Baryon made the namespace.
func Ours(name string) (bool, error) {
	n, err := Open(name)
	if err != nil {
		return false, err
	}
	defer n.Close()
	h, err := n.Handle()
	if err != nil {
		return false, err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return false, fmt.Errorf("find lo in namespace %q: %w", name, err)
	}
	return lo.Attrs().Alias == Mark, nil
}

// List names our namespaces that start with prefix, sorted.  One that vanishes meanwhile is left out.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var out []string
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		ours, err := Ours(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case ours:
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, errors.Join(errs...)
}

func check(name string) error {
	if name == "" || len(name) > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return errors.New("not a namespace's name")
	}
	return nil
}
