package rtnl

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sysctlRoot is where the network's settings are; the kernel shows the ones of the reading thread's network namespace.
const sysctlRoot = "/proc/sys/net"

// SetSysctls writes the settings that differ: names below net/ with slashes.  A setting that this kernel lacks (IPv6 switched off)
// is skipped.
func (n *Namespace) SetSysctls(want map[string]string) (changed int, err error) {
	return n.syncSysctls(want)
}

func (n *Namespace) syncSysctls(want map[string]string) (int, error) {
	if len(want) == 0 {
		return 0, nil
	}
	changed := 0
	err := n.ns.Do(func() error {
		var errs []error
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if strings.Contains(name, "..") {
				errs = append(errs, fmt.Errorf("set %s: not a setting's name", name))
				continue
			}
			path := filepath.Join(sysctlRoot, name)
			have, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(have)) == want[name] {
				continue
			}
			if err == nil {
				err = os.WriteFile(path, []byte(want[name]), 0o644)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("set %s to %s: %w", name, want[name], err))
				continue
			}
			changed++
		}
		return errors.Join(errs...)
	})
	return changed, err
}
