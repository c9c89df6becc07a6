package southbound

import (
	"baryon/internal/nodestate"
	pb "baryon/proto/baryon/v1"
)

// outbox is what the node has to say and no server has acknowledged: the latest status per record, the instance of each plugged
// port, and what the node says of itself.  The client's lock guards it.
type outbox struct {
	seq       uint64 // of the last message of the present stream
	statuses  map[nodestate.Key]*outStatus
	unsent    map[nodestate.Key]struct{}
	instances map[string]*outInstance // kept while plugged: the port may come, go and come again
	waiting   map[string]struct{}     // ports whose instance is to be sent as soon as the port is the node's
	info      *nodestate.NodeInfo
	infoNew   bool
}

type outStatus struct {
	status nodestate.Status
	sent   uint64 // message that took it, 0: none
}

type outInstance struct {
	instance nodestate.Instance
	sent     uint64
}

// reportPart is how many statuses one message takes at most; instancePart how many bytes of user data, roughly.
const (
	reportPart   = 1000
	instancePart = 1 << 20
)

// Report hands statuses over.  The latest per record is sent until a server has stored it.
func (c *Client) Report(statuses []nodestate.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	if o.statuses == nil {
		o.statuses, o.unsent = make(map[nodestate.Key]*outStatus), make(map[nodestate.Key]struct{})
	}
	for _, st := range statuses {
		o.statuses[st.Key] = &outStatus{status: st}
		o.unsent[st.Key] = struct{}{}
	}
	kick(c.outgo)
}

// ReportInstance hands over what was given at the plug of a port; nil: the port is not plugged any more, or nothing was given.
// It is sent when the port is bound to the node, now or later.
func (c *Client) ReportInstance(portID string, in *nodestate.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	if o.instances == nil {
		o.instances, o.waiting = make(map[string]*outInstance), make(map[string]struct{})
	}
	if in == nil {
		delete(o.instances, portID)
		delete(o.waiting, portID)
		return
	}
	o.instances[portID] = &outInstance{instance: *in}
	o.waiting[portID] = struct{}{}
	kick(c.outgo)
}

// SetInfo says what the node is; it is sent on every connect and when it changes.  The host name is the certificate's.
func (c *Client) SetInfo(info nodestate.NodeInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info.Host = c.id.Host
	c.out.info, c.out.infoNew = &info, true
	kick(c.outgo)
}

// wake sends the instance of a port that has become the node's.
func (o *outbox) wake(portID string) {
	if in, ok := o.instances[portID]; ok {
		in.sent = 0
		o.waiting[portID] = struct{}{}
	}
}

// restart begins a new stream: whatever was not acknowledged is unsent again.
func (o *outbox) restart() {
	o.seq = 0
	for k, st := range o.statuses {
		st.sent = 0
		o.unsent[k] = struct{}{}
	}
	for id, in := range o.instances {
		if in.sent > 0 {
			in.sent = 0
			o.waiting[id] = struct{}{}
		}
	}
}

// take is the next message to send, nil if there is none now.  A status of a record that the node no longer holds is dropped: no
// server would take it.
func (c *Client) takeReports() *pb.Reports {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	m := &pb.Reports{}
	for k := range o.unsent {
		if len(m.Statuses) == reportPart {
			break
		}
		delete(o.unsent, k)
		if _, ok := c.records[nodestate.HashKey(k)]; !ok {
			delete(o.statuses, k)
			continue
		}
		o.statuses[k].sent = o.seq + 1
		m.Statuses = append(m.Statuses, statusToProto(o.statuses[k].status))
	}
	size := 0
	for id := range o.waiting {
		if size > instancePart {
			break
		}
		if _, ok := c.records[nodestate.HashKey(nodestate.PortKey(id))]; !ok {
			continue
		}
		delete(o.waiting, id)
		in := o.instances[id]
		in.sent = o.seq + 1
		size += len(in.instance.UserData) + 1
		m.Instances = append(m.Instances, &pb.InstanceReport{PortId: clean(id), Instance: instanceToProto(&in.instance)})
	}
	if len(m.Statuses)+len(m.Instances) == 0 {
		return nil
	}
	o.seq++
	m.Seq = o.seq
	return m
}

// stored forgets what a server has acknowledged.
func (o *outbox) stored(seq uint64) {
	for k, st := range o.statuses {
		if st.sent > 0 && st.sent <= seq {
			delete(o.statuses, k)
		}
	}
	for _, in := range o.instances {
		if in.sent > 0 && in.sent <= seq {
			in.sent = 0
		}
	}
}

// takeInfo is the node's information if it is news to the present stream.
func (c *Client) takeInfo() *pb.NodeInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.infoNew {
		return nil
	}
	c.out.infoNew = false
	return infoToProto(c.out.info)
}
