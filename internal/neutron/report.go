package neutron

import (
	"cmp"
	"context"
	"strings"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Bounds of what a node may report.
const (
	maxReason   = 1024
	maxUserData = 64 << 10 // Nova's limit, base64-decoded
	maxEntries  = 128      // keys or metadata entries
	maxEntry    = 16 << 10 // bytes of one
)

// reportsPerTx is how many reports one transaction takes: as many as etcd's limit of operations per transaction allows, with room.
const reportsPerTx = 400

// ApplyReports stores what a node acknowledged.  Of its ports it says whether they are wired; of DHCP host records of networks that it
// serves, that DHCP answers.  What is not its own is ignored: a node learns late that a port has moved away, and a forged report
// changes nothing.
func (s *Service) ApplyReports(ctx context.Context, host string, reports []nodestate.Status) error {
	for len(reports) > 0 {
		n := min(len(reports), reportsPerTx)
		chunk := reports[:n]
		reports = reports[n:]
		foreign := 0
		err := s.newOp(nil).run(ctx, nil, func(tx store.Tx) error {
			foreign = 0
			for i := range chunk {
				if !applyReport(tx, host, &chunk[i]) {
					foreign++
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if foreign > 0 {
			s.log.Debug("ignore reports on what is not the node's", "node", host, "count", foreign)
		}
	}
	return nil
}

// applyReport stores one report; false: it is not the node's to make.
func applyReport(tx store.Tx, host string, rep *nodestate.Status) bool {
	switch rep.Key.Kind {
	case nodestate.KindPort, nodestate.KindDHCPHost:
	case nodestate.KindTrunk:
		return applyTrunkReport(tx, host, rep)
	default:
		return true // what else there is has no status in the API
	}
	p, ok := store.Get(tx, model.PortTable, rep.Key.ID)
	if !ok {
		return false
	}
	old, had := store.Get(tx, model.PortStatusTable, rep.Key.ID)
	next := model.PortStatus{PortID: p.ID}
	if had {
		next = *old
	}
	if rep.Key.Kind == nodestate.KindPort {
		if !p.Bound() || p.Binding.Host != host {
			return false
		}
		next.Host, next.Revision = host, rep.Revision
		next.State, next.Reason = string(rep.State), truncate(rep.Reason, maxReason)
	} else {
		serves := model.DHCPBinding{NetworkID: p.NetworkID, Host: host}
		if _, ok := store.Get(tx, model.DHCPBindingTable, model.DHCPBindingTable.Key(&serves)); !ok {
			return false
		}
		if rep.State != nodestate.Done {
			return true
		}
		next.DHCPReady = true
	}
	next.Status, _ = statusOf(tx, p, &next)
	if !had || next != *old {
		store.Put(tx, model.PortStatusTable, &next)
	}
	return true
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// portStatus is a port's status and, unless it is ACTIVE, why.
func portStatus(r store.Read, p *model.Port) (status, reason string) {
	st, ok := store.Get(r, model.PortStatusTable, string(p.ID))
	if !ok {
		return model.StatusDown, unboundReason(r, p)
	}
	return statusOf(r, p, st)
}

// unboundReason says why a port is not bound to the host that it should be bound to; empty: it is, or it should not.
func unboundReason(r store.Read, p *model.Port) string {
	if p.Binding.VIFType != model.VIFBindingFailed {
		return ""
	}
	n, ok := store.Get(r, model.NetworkTable, string(p.NetworkID))
	if !ok {
		return ""
	}
	return unbindable(r, n, &p.Binding)
}

// statusOf follows from what nodes acknowledged: wired, and for guests on networks with DHCP also known to a DHCP server.
func statusOf(r store.Read, p *model.Port, st *model.PortStatus) (status, reason string) {
	if !p.AdminStateUp {
		return model.StatusDown, "the port is administratively down"
	}
	if !p.Bound() || st.Host != p.Binding.Host {
		return model.StatusDown, cmp.Or(unboundReason(r, p), st.Reason)
	}
	switch nodestate.State(st.State) {
	case nodestate.Done:
		if !st.DHCPReady && waitsForDHCP(r, p) {
			return model.StatusBuild, "the DHCP service does not know the port yet"
		}
		return model.StatusActive, ""
	case nodestate.Pending:
		return model.StatusBuild, st.Reason
	case nodestate.Failed:
		return model.StatusError, st.Reason
	}
	return model.StatusDown, st.Reason
}

// waitsForDHCP tells whether a port is a guest's with an address on a subnet with DHCP, of a network that a node serves.
func waitsForDHCP(r store.Read, p *model.Port) bool {
	if !strings.HasPrefix(p.DeviceOwner, "compute:") || store.Count(r, model.DHCPBindingTable, "network", string(p.NetworkID)) == 0 {
		return false
	}
	for _, f := range p.FixedIPs {
		if sub, ok := store.Get(r, model.SubnetTable, string(f.SubnetID)); ok && sub.EnableDHCP {
			return true
		}
	}
	return false
}

// SetInstance stores what a guest is told about itself, as it was given where the port was plugged.  The node must carry the port, or
// the port must not have a host yet.  PortNotFound: the port is not there yet; the node says it again when it gets the port's record.
func (s *Service) SetInstance(ctx context.Context, host, portID string, in nodestate.Instance) error {
	if err := checkInstance(&in); err != nil {
		return err
	}
	return s.newOp(nil).run(ctx, nil, func(tx store.Tx) error {
		p, ok := store.Get(tx, model.PortTable, portID)
		if !ok {
			return NotFound("PortNotFound", "Port %s could not be found.", portID)
		}
		if p.Binding.Host != "" && p.Binding.Host != host {
			return Forbidden("PolicyNotAuthorized", "Port %s is not on node %s.", portID, host)
		}
		next := model.Instance{
			PortID: p.ID, Host: host, ID: in.ID, Name: in.Name, PublicKeys: in.PublicKeys, UserData: in.UserData, Meta: in.Meta,
		}
		store.Put(tx, model.InstanceTable, &next)
		return nil
	})
}

func checkInstance(in *nodestate.Instance) error {
	if len(in.ID) > maxHostName || len(in.Name) > maxHostName {
		return InvalidInput("Instance id and name have at most %d bytes", maxHostName)
	}
	if len(in.UserData) > maxUserData {
		return InvalidInput("Instance user data has %d bytes, more than %d", len(in.UserData), maxUserData)
	}
	for _, m := range []map[string]string{in.PublicKeys, in.Meta} {
		if len(m) > maxEntries {
			return InvalidInput("Instance has more than %d keys or metadata entries", maxEntries)
		}
		for k, v := range m {
			if len(k) > maxHostName || len(v) > maxEntry {
				return InvalidInput("Instance key or metadata entry is too long")
			}
		}
	}
	return nil
}
