package netfilter

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Set is a wanted ipset of type hash:net.
type Set struct {
	Name    string // at most 29 characters
	Family  Family
	Members []netip.Prefix // of the family, masked; /0 is written as its two halves
}

// Sets keeps the ipsets whose names begin with a prefix.
type Sets struct {
	prefix string
	want   map[string]Set
	have   map[string]*actualSet
	dirty  map[string]bool
	failed map[string]string // set → why
	loaded bool
	free   bool // sets that nobody wants may go
	mine   map[string]bool
}

// actualSet is a set as it is in the kernel.
type actualSet struct {
	family  Family
	room    uint32 // how many members it takes
	typ     string
	members map[netip.Prefix]bool
}

// The kernel's default room of a set, and the room of a set that outgrew it.
const (
	defaultRoom = 65536
	largeRoom   = 1 << 20
)

// hashNetRevisions are the revisions of hash:net, best first (kernel 5.4 has the first, any kernel the last).
var hashNetRevisions = []uint8{7, 6, 0}

// suffix marks the set that replaces one that is too small; a crash may leave one.
const suffix = "-n"

// NewSets makes a driver.  Sets that are there already and not wanted stay until Release.
func NewSets(prefix string) *Sets {
	return &Sets{
		prefix: prefix, want: map[string]Set{}, have: map[string]*actualSet{}, dirty: map[string]bool{}, failed: map[string]string{},
		mine: map[string]bool{},
	}
}

// Set wants a set.
func (s *Sets) Set(w Set) {
	w.Members = halves(w.Members)
	s.want[w.Name] = w
	s.mine[w.Name] = true
	s.dirty[w.Name] = true
}

// Unset wants a set no more.
func (s *Sets) Unset(name string) {
	delete(s.want, name)
	s.dirty[name] = true
}

// Release says that what is wanted is complete: sets of ours that nobody wants may go.
func (s *Sets) Release() {
	s.free = true
	for name := range s.have {
		s.dirty[name] = true
	}
}

// Failures are the sets that could not be brought in line, and why.
func (s *Sets) Failures() map[string]string { return maps.Clone(s.failed) }

// halves splits prefixes of length 0, which hash:net does not take.
func halves(list []netip.Prefix) []netip.Prefix {
	if !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		return list
	}
	out := make([]netip.Prefix, 0, len(list)+1)
	for _, p := range list {
		if p.Bits() != 0 {
			out = append(out, p)
			continue
		}
		upper := netip.MustParseAddr("8000::")
		if p.Addr().Is4() {
			upper = netip.AddrFrom4([4]byte{128})
		}
		out = append(out, netip.PrefixFrom(p.Addr(), 1), netip.PrefixFrom(upper, 1))
	}
	return out
}

// Load reads what is there.
func (s *Sets) Load() error {
	have, err := listSets(s.prefix)
	if err != nil {
		return fmt.Errorf("list ipsets: %w", err)
	}
	s.have = have
	for name := range have {
		s.dirty[name] = true
	}
	for name := range s.want {
		s.dirty[name] = true
	}
	clear(s.failed)
	s.loaded = true
	return nil
}

// Grow makes missing sets and adds missing members.  It is called before chains are written.  A set that fails does not stop the
// others; it stays pending and is named by Failures.  It returns the number of changes.
func (s *Sets) Grow() (int, error) {
	if !s.loaded {
		if err := s.Load(); err != nil {
			return 0, err
		}
	}
	n := 0
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.dirty)) {
		w, ok := s.want[name]
		if !ok {
			continue
		}
		changed, err := s.grow(w)
		n += changed
		delete(s.failed, name)
		if err != nil {
			err = fmt.Errorf("fill ipset %s: %w", name, err)
			s.failed[name] = err.Error()
			errs = append(errs, err)
		}
	}
	return n, errors.Join(errs...)
}

func (s *Sets) grow(w Set) (int, error) {
	have := s.have[w.Name]
	n := 0
	if have != nil && (have.family != w.Family || have.typ != "hash:net" || int(have.room) < len(w.Members)) {
		if err := s.replace(w); err != nil {
			return n, err
		}
		return n + 1, nil
	}
	if have == nil {
		a, err := create(w.Name, w)
		if err != nil {
			return n, err
		}
		s.have[w.Name], have = a, a
		n++
	}
	for _, p := range w.Members {
		if !have.members[p] {
			if err := change(w.Name, p, netlink.IpsetAdd); err != nil {
				return n, err
			}
			have.members[p] = true
			n++
		}
	}
	return n, nil
}

// replace puts a new set in the place of one that does not fit.
func (s *Sets) replace(w Set) error {
	tmp := w.Name + suffix
	if err := destroy(tmp); err != nil {
		return err
	}
	a, err := create(tmp, w)
	if err != nil {
		return err
	}
	for _, p := range w.Members {
		if err := change(tmp, p, netlink.IpsetAdd); err != nil {
			return err
		}
		a.members[p] = true
	}
	if err := guard(func() error { return netlink.IpsetSwap(tmp, w.Name) }); err != nil {
		return fmt.Errorf("swap with %s: %w", tmp, err)
	}
	s.have[w.Name] = a
	delete(s.have, tmp)
	return destroy(tmp)
}

// Shrink removes members and, if the sets were released or wanted before, sets that are not wanted.  It is called after chains have
// been written.
func (s *Sets) Shrink() (int, error) {
	n := 0
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.dirty)) {
		changed, err := s.shrink(name)
		n += changed
		if err != nil {
			err = fmt.Errorf("shrink ipset %s: %w", name, err)
			s.failed[name] = err.Error()
			errs = append(errs, err)
		} else if s.failed[name] == "" {
			delete(s.dirty, name)
		}
	}
	return n, errors.Join(errs...)
}

func (s *Sets) shrink(name string) (int, error) {
	have := s.have[name]
	if have == nil {
		return 0, nil
	}
	w, ok := s.want[name]
	if !ok {
		if !s.free && !s.mine[name] {
			return 0, nil // from before: not known yet to be unwanted
		}
		if err := destroy(name); err != nil {
			return 0, err
		}
		delete(s.have, name)
		delete(s.mine, name)
		return 1, nil
	}
	n := 0
	keep := make(map[netip.Prefix]bool, len(w.Members))
	for _, p := range w.Members {
		keep[p] = true
	}
	for p := range have.members {
		if !keep[p] {
			if err := change(name, p, netlink.IpsetDel); err != nil {
				return n, err
			}
			delete(have.members, p)
			n++
		}
	}
	return n, nil
}

func create(name string, w Set) (*actualSet, error) {
	a := &actualSet{family: w.Family, room: defaultRoom, typ: "hash:net", members: map[netip.Prefix]bool{}}
	opt := netlink.IpsetCreateOptions{Family: unix.AF_INET}
	if w.Family == IPv6 {
		opt.Family = unix.AF_INET6
	}
	if len(w.Members) > defaultRoom {
		a.room = largeRoom
	}
	opt.MaxElements = a.room
	var err error
	for _, opt.Revision = range hashNetRevisions {
		if err = guard(func() error { return netlink.IpsetCreate(name, a.typ, opt) }); err == nil {
			return a, nil
		}
	}
	return nil, fmt.Errorf("create: %w", err)
}

// change adds or deletes a member; that it is so already is success.
func change(name string, p netip.Prefix, do func(string, *netlink.IPSetEntry) error) error {
	// Replace leaves out the flag by which the kernel would complain of a member that is there, or not there, already.
	e := &netlink.IPSetEntry{IP: p.Addr().AsSlice(), CIDR: uint8(p.Bits()), Replace: true} //nolint:gosec // a prefix length is below 129
	if err := guard(func() error { return do(name, e) }); err != nil {
		return fmt.Errorf("member %s: %w", p, err)
	}
	return nil
}

func destroy(name string) error {
	err := guard(func() error { return netlink.IpsetDestroy(name) })
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("destroy %s: %w", name, err)
}

// guard turns a panic of the netlink package, which takes every error of a socket for a number, into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("ipset: %v", r)
		}
	}()
	return f()
}
