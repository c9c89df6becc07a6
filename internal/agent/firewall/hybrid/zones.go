package hybrid

import (
	"regexp"
	"strconv"

	"baryon/internal/dataplane/netfilter"
)

// Conntrack zones of ports: Neutron's range.
const (
	firstZone = 4097
	lastZone  = 65535
)

// zones gives each port a conntrack zone of its own.
type zones struct {
	of   map[string]uint16
	used map[uint16]string
	next int
}

func newZones() *zones {
	return &zones{of: map[string]uint16{}, used: map[uint16]string{}, next: firstZone}
}

// remember tells of a zone that a port had before.  What was remembered first counts.
func (z *zones) remember(port string, zone uint16) {
	if _, ok := z.of[port]; ok || zone < firstZone || z.used[zone] != "" {
		return
	}
	z.of[port], z.used[zone] = zone, port
	z.next = max(z.next, int(zone)+1)
}

// get is the port's zone: the one it has, the one after the largest, or the first that is free.  0: none is.
func (z *zones) get(port string) (zone uint16, fresh bool) {
	if have, ok := z.of[port]; ok {
		return have, false
	}
	n := z.next
	if n > lastZone {
		for n = firstZone; n <= lastZone && z.used[uint16(n)] != ""; n++ { //nolint:gosec // at most lastZone
		}
		if n > lastZone {
			return 0, false
		}
	} else {
		z.next = n + 1
	}
	z.of[port], z.used[uint16(n)] = uint16(n), port //nolint:gosec // at most lastZone
	return uint16(n), true                          //nolint:gosec // at most lastZone
}

func (z *zones) drop(port string) {
	if n, ok := z.of[port]; ok {
		delete(z.of, port)
		delete(z.used, n)
	}
}

var zoneRule = regexp.MustCompile(zoneNote + `([0-9a-f-]{36})"` + zoneArg + `([0-9]+)$`)

// zonesOf reads the zones that rules give.
func zonesOf(r netfilter.Rules) map[string]uint16 {
	out := map[string]uint16{}
	for _, x := range r {
		if m := zoneRule.FindStringSubmatch(x.Text); m != nil {
			if n, err := strconv.ParseUint(m[2], 10, 16); err == nil {
				out[m[1]] = uint16(n)
			}
		}
	}
	return out
}
