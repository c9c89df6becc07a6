package openflow

import (
	"context"
	"fmt"
	"strings"
)

// GroupType says which buckets of a group a packet goes to.
type GroupType uint8

// Group types (OFPGT).
const (
	GroupAll          GroupType = iota // every bucket
	GroupSelect                        // one, by weight
	GroupIndirect                      // the only one
	GroupFastFailover                  // the first live one
)

// String names the type as ovs-ofctl does.
func (t GroupType) String() string {
	if names := [...]string{"all", "select", "indirect", "fast_failover"}; int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// ChangeKind says what a GroupMod or MeterMod does.
type ChangeKind uint16

// Changes of groups and meters (OFPGC, OFPMC).
const (
	AddNew ChangeKind = iota
	ModifyExisting
	DeleteExisting
)

var changeNames = [...]string{"add", "modify", "delete"}

// String names the change.
func (k ChangeKind) String() string {
	if int(k) < len(changeNames) {
		return changeNames[k]
	}
	return fmt.Sprintf("change(%d)", uint16(k))
}

// AllGroups selects every group in a delete or a dump, AllMeters every meter.
const (
	AllGroups uint32 = 0xfffffffc
	AllMeters uint32 = 0xffffffff
)

// Bucket is one way through a group.
type Bucket struct {
	Weight     uint16 // GroupSelect
	WatchPort  uint32 // GroupFastFailover: live while this port is; 0: none
	WatchGroup uint32 // likewise; 0: none
	Actions    []Action
}

// GroupDesc is a group.
type GroupDesc struct {
	ID      uint32
	Type    GroupType
	Buckets []Bucket
}

// String prints the group as `ovs-ofctl dump-groups` does.
func (g *GroupDesc) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "group_id=%d,type=%s", g.ID, g.Type)
	for i, b := range g.Buckets {
		fmt.Fprintf(&s, ",bucket=bucket_id:%d,", i)
		if b.Weight != 0 && g.Type == GroupSelect && b.Weight != 1 {
			fmt.Fprintf(&s, "weight:%d,", b.Weight)
		}
		if b.WatchPort != 0 {
			fmt.Fprintf(&s, "watch_port:%d,", b.WatchPort)
		}
		if b.WatchGroup != 0 {
			fmt.Fprintf(&s, "watch_group:%d,", b.WatchGroup)
		}
		s.WriteString("actions=" + FormatActions(b.Actions))
	}
	return s.String()
}

// GroupMod changes a group.
type GroupMod struct {
	Change ChangeKind
	GroupDesc
}

// String prints the change and the group.
func (m *GroupMod) String() string { return m.Change.String() + " " + m.GroupDesc.String() }

func (m *GroupMod) messageType() msgType { return typeGroupMod }

func (m *GroupMod) appendBody(b []byte, v Version) ([]byte, error) {
	if m.Change > DeleteExisting || m.Type > GroupFastFailover {
		return b, fmt.Errorf("encode group mod: unknown %s of %s", m.Change, m.Type)
	}
	b = put32(append(put16(b, uint16(m.Change)), byte(m.Type), 0), m.ID)
	lenAt := len(b)
	if v >= V15 {
		b = put32(append(b, 0, 0, 0, 0), 0xffffffff)
	}
	start := len(b)
	if m.Change != DeleteExisting {
		var err error
		for i := range m.Buckets {
			if b, err = m.Buckets[i].append(b, v, uint32(i), m.Type); err != nil {
				return b, fmt.Errorf("encode group mod: %w", err)
			}
		}
	}
	if n := len(b) - start; v >= V15 {
		b[lenAt], b[lenAt+1] = byte(n>>8), byte(n)
	}
	return b, nil
}

func (k *Bucket) append(b []byte, v Version, id uint32, t GroupType) ([]byte, error) {
	weight := k.Weight
	if t == GroupSelect && weight == 0 {
		weight = 1
	}
	start := len(b)
	if v < V15 {
		b = put32(put32(put16(append(b, 0, 0), weight), orAny(k.WatchPort)), orAny(k.WatchGroup))
		b, err := appendActions(append(b, 0, 0, 0, 0), k.Actions, v)
		if err != nil {
			return b, err
		}
		return closeBucket(b, start)
	}
	b = put32(append(b, 0, 0, 0, 0), id)
	b, err := appendActions(b, k.Actions, v)
	if err != nil {
		return b, err
	}
	n := len(b) - start - 8
	b[start+2], b[start+3] = byte(n>>8), byte(n)
	if t == GroupSelect {
		b = append(put16(append(b, 0, 0, 0, 8), weight), 0, 0)
	}
	if k.WatchPort != 0 {
		b = put32(append(b, 0, 1, 0, 8), k.WatchPort)
	}
	if k.WatchGroup != 0 {
		b = put32(append(b, 0, 2, 0, 8), k.WatchGroup)
	}
	return closeBucket(b, start)
}

// closeBucket writes the length, which a bucket has first.
func closeBucket(b []byte, start int) ([]byte, error) {
	n := len(b) - start
	if n > maxActionsLen {
		return b, fmt.Errorf("bucket of %d bytes is too long", n)
	}
	b[start], b[start+1] = byte(n>>8), byte(n)
	return b, nil
}

// DumpGroups reads a group, or AllGroups.
func (c *Conn) DumpGroups(ctx context.Context, id uint32) ([]GroupDesc, error) {
	var out []GroupDesc
	build := func(b []byte) ([]byte, error) {
		if c.version >= V15 {
			b = append(put32(b, id), 0, 0, 0, 0)
		}
		return b, nil
	}
	err := c.multipart(ctx, mpGroupDesc, build, func(b []byte) (err error) {
		out, err = decodeGroups(out, b, c.version)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dump groups: %w", err)
	}
	if id != AllGroups { // before 1.5 the request has no id
		kept := out[:0]
		for _, g := range out {
			if g.ID == id {
				kept = append(kept, g)
			}
		}
		out = kept
	}
	return out, nil
}

func decodeGroups(out []GroupDesc, b []byte, v Version) ([]GroupDesc, error) {
	for len(b) > 0 {
		head := 8
		if v >= V15 {
			head = 16
		}
		if len(b) < head {
			return out, errShort
		}
		n := int(be16(b))
		if n < head || n > len(b) {
			return out, fmt.Errorf("decode group: %d of %d bytes", n, len(b))
		}
		g := GroupDesc{Type: GroupType(b[2]), ID: be32(b[4:])}
		buckets := b[head:n]
		if v >= V15 {
			if bn := int(be16(b[8:])); bn <= len(buckets) {
				buckets = buckets[:bn]
			} else {
				return out, fmt.Errorf("decode group: %w", errShort)
			}
		}
		for len(buckets) > 0 {
			k, rest, err := decodeBucket(buckets, v)
			if err != nil {
				return out, fmt.Errorf("decode group %d: %w", g.ID, err)
			}
			g.Buckets = append(g.Buckets, k)
			buckets = rest
		}
		out = append(out, g)
		b = b[n:]
	}
	return out, nil
}

func decodeBucket(b []byte, v Version) (k Bucket, rest []byte, err error) {
	head := 16
	if v >= V15 {
		head = 8
	}
	if len(b) < head {
		return k, nil, errShort
	}
	n := int(be16(b))
	if n < head || n > len(b) {
		return k, nil, fmt.Errorf("bucket of %d in %d bytes", n, len(b))
	}
	if v < V15 {
		k.Weight, k.WatchPort, k.WatchGroup = be16(b[2:]), anyIsZero(be32(b[4:])), anyIsZero(be32(b[8:]))
		k.Actions, err = decodeActions(b[head:n], v, 0)
		return k, b[n:], err
	}
	acts := int(be16(b[2:]))
	if head+acts > n {
		return k, nil, errShort
	}
	if k.Actions, err = decodeActions(b[head:head+acts], v, 0); err != nil {
		return k, nil, err
	}
	for p := b[head+acts : n]; len(p) >= 8; {
		typ, size := be16(p), int(be16(p[2:]))
		if size < 8 || size > len(p) {
			return k, nil, errShort
		}
		switch typ {
		case 0:
			k.Weight = be16(p[4:])
		case 1:
			k.WatchPort = anyIsZero(be32(p[4:]))
		case 2:
			k.WatchGroup = anyIsZero(be32(p[4:]))
		}
		p = p[min(len(p), size+pad8(size)):]
	}
	return k, b[n:], nil
}
