package netfilter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// bridgeSysctls make the kernel show bridged packets to iptables.  Tagged frames and PPPoE are shown as the IP packets in them: otherwise
// a guest could carry IP past its rules in a frame with an empty VLAN tag.
var bridgeSysctls = []struct{ key, value string }{
	{"bridge-nf-call-iptables", "1"},
	{"bridge-nf-call-ip6tables", "1"},
	{"bridge-nf-call-arptables", "1"},
	{"bridge-nf-filter-vlan-tagged", "1"},
	{"bridge-nf-filter-pppoe-tagged", "1"},
}

const bridgeDir = "/proc/sys/net/bridge/"

// ErrNoBridgeFilter says that this kernel cannot filter bridged packets.
var ErrNoBridgeFilter = errors.New("the kernel cannot filter bridged packets: it has no br_netfilter module")

// FilterBridges makes iptables see bridged packets in the caller's network namespace and returns how many settings it changed.
func FilterBridges() (int, error) {
	if _, err := os.Stat(bridgeDir); errors.Is(err, fs.ErrNotExist) {
		if out, err := exec.Command("modprobe", "br_netfilter").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w (modprobe: %s)", ErrNoBridgeFilter, strings.TrimSpace(string(out)))
		}
	}
	n := 0
	for _, s := range bridgeSysctls {
		path := bridgeDir + s.key
		have, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return n, fmt.Errorf("%w: %s is missing", ErrNoBridgeFilter, path)
		}
		if err != nil {
			return n, fmt.Errorf("read %s: %w", path, err)
		}
		if strings.TrimSpace(string(have)) == s.value {
			continue
		}
		if err := os.WriteFile(path, []byte(s.value), 0o644); err != nil {
			return n, fmt.Errorf("set %s: %w", path, err)
		}
		n++
	}
	return n, nil
}
