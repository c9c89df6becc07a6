package compile

import (
	"net/netip"

	"baryon/internal/model"
	"baryon/internal/nodestate"
	"baryon/internal/store"
)

// Port compiles a bound port for the node that carries it.
func Port(r store.Read, p *model.Port) *nodestate.Port {
	rec := &nodestate.Port{
		ID:           string(p.ID),
		NetworkID:    string(p.NetworkID),
		Name:         p.Name,
		MAC:          nodestate.MAC(p.MAC),
		AdminUp:      p.AdminStateUp,
		PortSecurity: p.PortSecurityEnabled,
		DeviceOwner:  p.DeviceOwner,
		DeviceID:     p.DeviceID,
		Hybrid:       hybrid(p),
		QoS:          QoS(r, p),
	}
	for _, f := range p.FixedIPs {
		rec.Addresses = append(rec.Addresses, nodestate.Address{
			Prefix:   netip.PrefixFrom(f.IPAddress, prefixLength(r, f)),
			SubnetID: string(f.SubnetID),
		})
	}
	for _, a := range p.AllowedAddressPairs {
		mac := a.MAC
		if mac.IsZero() {
			mac = p.MAC
		}
		rec.AllowedPairs = append(rec.AllowedPairs, nodestate.Pair{MAC: nodestate.MAC(mac), Prefix: a.IPAddress})
	}
	for _, g := range groupsOf(p) {
		rec.Groups = append(rec.Groups, string(g))
	}
	return rec
}

// boundHost is the node that carries the port, empty if none does.
func boundHost(p *model.Port) string {
	if p == nil || !p.Bound() {
		return ""
	}
	return p.Binding.Host
}

// hybrid reads vif_details' ovs_hybrid_plug: what the node reported when the port was bound, so a port stays as it was plugged.
func hybrid(p *model.Port) bool {
	on, _ := p.Binding.VIFDetails["ovs_hybrid_plug"].(bool)
	return on
}

// prefixLength is the length of the subnet of an address; without its subnet an address stands alone.
func prefixLength(r store.Read, f model.FixedIP) int {
	if s, ok := store.Get(r, model.SubnetTable, string(f.SubnetID)); ok {
		return s.CIDR.Bits()
	}
	return f.IPAddress.BitLen()
}
