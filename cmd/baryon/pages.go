package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Half of what an agent would hold in memory otherwise are pages of this binary: those that only its start has touched, those of the
// server, and the neighbours of both that the kernel maps along.

// releaseBinary takes the pages of the running binary's code and constants out of the process's memory.  They stay in the page
// cache, and those that are used again come back at the cost of a minor fault.
func releaseBinary() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	areas, err := untouched(f, exe)
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	var errs []error
	for _, a := range areas {
		// The kernel's own word for where a mapping of this process begins; Go's memory is not in it.
		b := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), a.from)), a.to-a.from)
		if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
			errs = append(errs, fmt.Errorf("release pages of own binary: %w", err))
		}
	}
	return errors.Join(errs...)
}

// area is a range of addresses.
type area struct{ from, to uintptr }

// untouched lists the mappings of a file, as proc_pid_smaps(5) shows them, that cannot be written to and hold nothing but what the
// file holds: no page that was written before the mapping became read-only, and no debugger's breakpoint.
func untouched(smaps io.Reader, file string) ([]area, error) {
	var out []area
	var cur area
	candidate := false
	sc := bufio.NewScanner(smaps)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") { // a mapping's head
			candidate = len(fields) == 6 && fields[5] == file && (fields[1] == "r--p" || fields[1] == "r-xp")
			if !candidate {
				continue
			}
			from, to, _ := strings.Cut(fields[0], "-")
			lo, err1 := strconv.ParseUint(from, 16, 64)
			hi, err2 := strconv.ParseUint(to, 16, 64)
			if err := errors.Join(err1, err2); err != nil || hi <= lo {
				return nil, fmt.Errorf("mapping %q: %w", fields[0], err)
			}
			cur = area{uintptr(lo), uintptr(hi)}
			continue
		}
		if candidate && fields[0] == "Anonymous:" && len(fields) > 1 && fields[1] == "0" {
			out = append(out, cur)
		}
	}
	return out, sc.Err()
}
