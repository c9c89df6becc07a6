package southbound

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
	pb "baryon/proto/baryon/v1"
)

// reports is what a node said and the rules have not taken yet: the latest per record, so it is bounded by what the node needs.
type reports struct {
	statuses  map[nodestate.Key]nodestate.Status
	instances map[string]nodestate.Instance
	seq       uint64 // of the last message in it
	flushing  bool
	refused   bool // told once per stream
}

// Bounds of one report.
const (
	maxReason   = 1024
	maxInstance = 256 << 10 // bytes of an instance's data, user data included
)

// reported takes a message of reports.  What is not the node's own is dropped: by malice, or because the record was taken away
// while the report was on its way.
func (c *conn) reported(m *pb.Reports) error {
	statuses := make([]nodestate.Status, 0, len(m.GetStatuses()))
	for _, st := range m.GetStatuses() {
		v, err := statusFromProto(st)
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "report: %v", err)
		}
		statuses = append(statuses, v)
	}
	own, foreign := c.own(statuses, m.GetInstances())
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.reports
	if m.GetSeq() <= r.seq {
		return status.Errorf(codes.InvalidArgument, "report %d after %d", m.GetSeq(), r.seq)
	}
	r.seq = m.GetSeq()
	if r.statuses == nil {
		r.statuses = make(map[nodestate.Key]nodestate.Status)
		r.instances = make(map[string]nodestate.Instance)
	}
	for _, st := range own {
		r.statuses[st.Key] = st
	}
	for _, in := range m.GetInstances() {
		if in == nil || foreign[in.GetPortId()] {
			continue
		}
		if size := proto.Size(in); size > maxInstance {
			c.s.log.Warn("instance data refused", "node", c.host, "port", in.GetPortId(), "bytes", size)
			c.notice = fmt.Sprintf("data of the instance on port %s refused: %d bytes, at most %d are kept", in.GetPortId(), size, maxInstance)
			continue
		}
		r.instances[in.GetPortId()] = instanceFromProto(in.GetInstance())
	}
	if !r.flushing {
		r.flushing = true
		go c.flushReports()
	}
	return nil
}

// own parts the node's own from what it must not speak of.
func (c *conn) own(statuses []nodestate.Status, instances []*pb.InstanceReport) (own []nodestate.Status, foreign map[string]bool) {
	foreign = make(map[string]bool)
	refused := 0
	var example string
	c.s.mu.RLock()
	for _, st := range statuses {
		if _, ok := c.s.engine.Get(c.host, st.Key); ok {
			own = append(own, st)
			continue
		}
		refused++
		if c.s.engine.Has(st.Key) {
			example = st.Key.String()
		}
	}
	for _, in := range instances {
		k := nodestate.PortKey(in.GetPortId())
		if _, ok := c.s.engine.Get(c.host, k); !ok {
			foreign[in.GetPortId()] = true
			refused++
			if c.s.engine.Has(k) {
				example = k.String()
			}
		}
	}
	c.s.mu.RUnlock()
	c.s.stats.refused.Add(int64(refused))
	if example != "" {
		c.mu.Lock()
		first := !c.reports.refused
		c.reports.refused = true
		c.mu.Unlock()
		if first {
			c.s.log.Warn("node reports on what is another node's; refused", "node", c.host, "record", example)
		}
	}
	return own, foreign
}

// flushReports hands reports to the rules until there are none: what comes while a transaction is under way goes with the next.
func (c *conn) flushReports() {
	wait := retryFirst
	for {
		c.mu.Lock()
		r := &c.reports
		statuses, instances, seq := r.statuses, r.instances, r.seq
		r.statuses = make(map[nodestate.Key]nodestate.Status)
		r.instances = make(map[string]nodestate.Instance)
		if seq == c.acks || c.ctx.Err() != nil {
			r.flushing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.applyReports(statuses, instances)
		c.mu.Lock()
		if err == nil {
			c.acks = seq
			c.kick()
			c.mu.Unlock()
			wait = retryFirst
			continue
		}
		// Put back what nothing newer has replaced.
		maps.Copy(statuses, r.statuses)
		maps.Copy(instances, r.instances)
		r.statuses, r.instances = statuses, instances
		c.mu.Unlock()
		if c.ctx.Err() != nil {
			continue
		}
		if wait == retryFirst {
			c.s.log.Warn("cannot store reports of a node; will retry", "node", c.host, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
		}
		wait = min(2*wait, retryMost)
	}
}

// applyReports is one transaction for all statuses and one per instance that is news.  An answer of the rules ends the matter;
// only what may succeed later is an error.
func (c *conn) applyReports(statuses map[nodestate.Key]nodestate.Status, instances map[string]nodestate.Instance) error {
	select {
	case c.s.reports <- struct{}{}:
		defer func() { <-c.s.reports }()
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	for id, in := range instances {
		if c.knows(id, in) {
			continue
		}
		if err := c.answer(c.s.cfg.Nodes.SetInstance(c.ctx, c.host, id, in), "port", id); err != nil {
			return err
		}
		c.s.stats.reports.Add(1)
	}
	if len(statuses) == 0 {
		return nil
	}
	list := make([]nodestate.Status, 0, len(statuses))
	for _, st := range statuses {
		list = append(list, st)
	}
	if err := c.answer(c.s.cfg.Nodes.ApplyReports(c.ctx, c.host, list), "statuses", fmt.Sprint(len(list))); err != nil {
		return err
	}
	c.s.stats.reports.Add(int64(len(list)))
	return nil
}

func (c *conn) answer(err error, key, value string) error {
	if err == nil || !permanent(err) {
		return err
	}
	c.s.log.Warn("report refused by the rules", "node", c.host, key, value, "err", err)
	return nil
}

// knows tells whether the store has the same of an instance already, as after every restart of an agent.
func (c *conn) knows(port string, in nodestate.Instance) bool {
	row, ok := store.Get(c.s.cfg.Store.Snapshot(), model.InstanceTable, port)
	if !ok || row.Host != c.host {
		return false
	}
	return row.ID == in.ID && row.Name == in.Name && string(row.UserData) == string(in.UserData) &&
		sameMap(row.PublicKeys, in.PublicKeys) && sameMap(row.Meta, in.Meta)
}

func sameMap(a, b map[string]string) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

func statusFromProto(m *pb.Status) (nodestate.Status, error) {
	st := nodestate.Status{
		Key:      nodestate.Key{Kind: nodestate.Kind(m.GetKind()), ID: m.GetId()},
		Revision: m.GetRevision(), State: nodestate.State(m.GetState()), Reason: m.GetReason(),
	}
	switch st.State {
	case nodestate.Done, nodestate.Absent, nodestate.Pending, nodestate.Failed:
	default:
		return st, fmt.Errorf("state %.20q", m.GetState())
	}
	if st.Revision < 0 {
		return st, fmt.Errorf("revision %d", st.Revision)
	}
	st.Reason = short(st.Reason)
	return st, nil
}

func statusToProto(st nodestate.Status) *pb.Status {
	return &pb.Status{Kind: string(st.Key.Kind), Id: clean(st.Key.ID), Revision: st.Revision, State: string(st.State), Reason: short(st.Reason)}
}

// short cuts a reason to what is kept of it.
func short(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return clean(s)
}

// clean makes text fit for a message: one byte that is not UTF-8, from a driver's error or a file, would cost the whole message.
func clean(s string) string { return strings.ToValidUTF8(s, "?") }

func cleanList(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = clean(s)
	}
	return out
}

func cleanMap(in map[string]string) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[clean(k)] = clean(v)
	}
	return out
}
