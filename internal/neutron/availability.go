package neutron

import (
	"cmp"
	"math/big"
	"slices"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron/ipam"
	"baryon/internal/store"
)

// IPAvailabilities counts the addresses of all networks, for administrators.
func (s *Service) IPAvailabilities(r store.Read, c *identity.Caller) []*model.IPAvailability {
	if !c.IsAdmin() {
		return nil
	}
	var out []*model.IPAvailability
	for n := range store.All(r, model.NetworkTable) {
		out = append(out, availability(r, n))
	}
	return out
}

// IPAvailabilityOf counts the addresses of one network.
func (s *Service) IPAvailabilityOf(r store.Read, c *identity.Caller, networkID string) (*model.IPAvailability, bool) {
	n, ok := store.Get(r, model.NetworkTable, networkID)
	if !ok || !c.IsAdmin() {
		return nil, false
	}
	return availability(r, n), true
}

func availability(r store.Read, n *model.Network) *model.IPAvailability {
	a := &model.IPAvailability{NetworkID: n.ID, NetworkName: n.Name, ProjectID: n.ProjectID, TotalIPs: new(big.Int)}
	for sub := range store.Find(r, model.SubnetTable, "network", string(n.ID)) {
		used := 0
		for p := range store.Find(r, model.PortTable, "subnet", string(sub.ID)) {
			for _, f := range p.FixedIPs {
				if f.SubnetID == sub.ID {
					used++
				}
			}
		}
		row := model.SubnetIPAvailability{
			SubnetID: sub.ID, SubnetName: sub.Name, CIDR: sub.CIDR, IPVersion: sub.IPVersion,
			TotalIPs: ipam.Count(sub.AllocationPools), UsedIPs: used,
		}
		a.TotalIPs.Add(a.TotalIPs, row.TotalIPs)
		a.UsedIPs += used
		a.Subnets = append(a.Subnets, row)
	}
	slices.SortFunc(a.Subnets, func(x, y model.SubnetIPAvailability) int { return cmp.Compare(x.SubnetID, y.SubnetID) })
	return a
}
