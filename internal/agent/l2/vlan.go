package l2

import "hash/fnv"

// The range of local VLANs; 4095 is the dead VLAN and 0 none.
const (
	minVLAN = 1
	maxVLAN = 4094
)

// vlans gives local VLANs to segments.
//
// A segment's VLAN is a hash of it, so that it does not depend on the order of arrival and is mostly the same on every node; the next
// free one is taken when two segments hash alike, and then it is the remembered VLAN that keeps it stable over restarts.
type vlans struct {
	given map[Segment]uint16
	owner map[uint16]Segment // of given and remembered VLANs
	hints map[Segment]uint16
}

func newVLANs() *vlans {
	return &vlans{given: map[Segment]uint16{}, owner: map[uint16]Segment{}, hints: map[Segment]uint16{}}
}

// remember reserves a VLAN that a segment had before.  What is taken already stays with whom it is.
func (v *vlans) remember(s Segment, id uint16) {
	if id < minVLAN || id > maxVLAN {
		return
	}
	if _, ok := v.owner[id]; ok {
		return
	}
	if _, ok := v.given[s]; ok {
		return
	}
	if old, ok := v.hints[s]; ok {
		delete(v.owner, old)
	}
	v.hints[s] = id
	v.owner[id] = s
}

// forget drops what is remembered and not given.
func (v *vlans) forget() {
	for s, id := range v.hints {
		delete(v.hints, s)
		delete(v.owner, id)
	}
}

// get gives a VLAN to a segment; 0 when none is left.
func (v *vlans) get(s Segment) uint16 {
	if id, ok := v.given[s]; ok {
		return id
	}
	id, ok := v.hints[s]
	if !ok {
		if id = v.free(s); id == 0 {
			return 0
		}
	}
	delete(v.hints, s)
	v.given[s], v.owner[id] = id, s
	return id
}

func (v *vlans) free(s Segment) uint16 {
	const n = maxVLAN - minVLAN + 1
	h := fnv.New32a()
	h.Write([]byte(s.NetworkID))
	h.Write([]byte{0})
	h.Write([]byte(s.Type))
	h.Write([]byte{byte(s.ID >> 24), byte(s.ID >> 16), byte(s.ID >> 8), byte(s.ID)})
	start := h.Sum32() % n
	for i := uint32(0); i < n; i++ {
		id := uint16(minVLAN + (start+i)%n)
		if _, taken := v.owner[id]; !taken {
			return id
		}
	}
	return 0
}

func (v *vlans) release(s Segment) {
	if id, ok := v.given[s]; ok {
		delete(v.given, s)
		delete(v.owner, id)
	}
}
