package neutron

import (
	"slices"

	"baryon/internal/model"
	"baryon/internal/store"
)

// Zones are the availability zones that DHCP agents report, in order.  A zone is available while one of its agents is alive and enabled.
func (s *Service) Zones(r store.Read) []*model.AvailabilityZone {
	byName := map[string]*model.AvailabilityZone{}
	var out []*model.AvailabilityZone
	for node := range store.Find(r, model.NodeTable, "role", model.RoleNetwork) {
		z := byName[node.AvailabilityZone]
		if z == nil {
			z = &model.AvailabilityZone{Name: node.AvailabilityZone, Resource: model.ZoneNetwork, State: model.ZoneUnavailable}
			byName[z.Name] = z
			out = append(out, z)
		}
		if serving(r, node.Host, dhcpBinary) {
			z.State = model.ZoneAvailable
		}
	}
	slices.SortFunc(out, model.CompareZones)
	return out
}

// checkZoneHints refuses hints at zones that no DHCP agent is in.
func checkZoneHints(tx store.Tx, hints []string) error {
	for _, zone := range hints {
		if !hasZone(tx, zone) {
			return NotFound("AvailabilityZoneNotFound", "AvailabilityZone %s could not be found.", zone)
		}
	}
	return nil
}

func hasZone(r store.Read, zone string) bool {
	for node := range store.Find(r, model.NodeTable, "role", model.RoleNetwork) {
		if node.AvailabilityZone == zone {
			return true
		}
	}
	return false
}

// zonesOf are the zones of the nodes that serve a network's DHCP.
func zonesOf(r store.Read, network model.ID) []string {
	zones := []string{}
	for b := range store.Find(r, model.DHCPBindingTable, "network", string(network)) {
		if node, ok := store.Get(r, model.NodeTable, b.Host); ok && !slices.Contains(zones, node.AvailabilityZone) {
			zones = append(zones, node.AvailabilityZone)
		}
	}
	slices.Sort(zones)
	return zones
}
