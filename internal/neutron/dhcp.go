package neutron

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/google/uuid"

	"baryon/internal/model"
	"baryon/internal/neutron/ipam"
	"baryon/internal/store"
)

// dhcpDeviceID is the device_id of the DHCP port that a host has on a network, as Neutron's DHCP agent makes it: a name-based UUID of the
// host's short name, then the network.
func dhcpDeviceID(host string, network model.ID) string {
	short, _, _ := strings.Cut(host, ".")
	return "dhcp" + uuid.NewSHA1(uuid.NameSpaceDNS, []byte(short)).String() + "-" + string(network)
}

// dhcpHosts lists the nodes that can serve DHCP now.  It is read outside transactions, so that these do not depend on every node's
// heartbeat; ensureDHCP looks again at those that it chooses.
func (s *Service) dhcpHosts(r store.Read) []string {
	var hosts []string
	for node := range store.Find(r, model.NodeTable, "role", model.RoleNetwork) {
		if serving(r, node.Host, dhcpBinary) {
			hosts = append(hosts, node.Host)
		}
	}
	return hosts
}

// ensureDHCP makes a network's DHCP service what its subnets ask for: as many nodes as configured, each with a port that has an address in
// every subnet with DHCP.  A node that is dead gives its place, its port and so its addresses to another one, if there is one; one
// that comes back does not get them back.  It changes nothing when all is well.
//
// Only nodes that carry the network serve it.  Where subnets are tied to segments, each segment has nodes of its own.
//
// A network that an administrator took from an agent has a reserved port left; unless schedule is true, it gets no agent in its place.
func (o *op) ensureDHCP(tx store.Tx, n *model.Network, schedule bool) error {
	d := &dhcpPlan{o: o, tx: tx, network: n}
	for sub := range store.Find(tx, model.SubnetTable, "network", string(n.ID)) {
		if sub.EnableDHCP {
			d.subnets = append(d.subnets, sub)
		}
	}
	slices.SortFunc(d.subnets, func(a, b *model.Subnet) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	bindings := slices.Collect(store.Find(tx, model.DHCPBindingTable, "network", string(n.ID)))
	if len(d.subnets) == 0 {
		d.remove(bindings)
		return nil
	}
	places := d.places()
	var dead []*model.DHCPBinding
	for _, b := range bindings {
		if p := d.placeOf(places, b.Host); p != nil && serving(tx, b.Host, dhcpBinary) {
			p.hosts = append(p.hosts, b.Host)
		} else {
			dead = append(dead, b)
		}
	}
	full := true
	for _, p := range places {
		missing := o.s.cfg.DHCPAgents - len(p.hosts)
		if !schedule && missing > len(dead) && d.find(model.ReservedDHCPPort) != nil {
			missing = len(dead)
		}
		for _, host := range d.candidates(bindings, p, missing) {
			if len(dead) > 0 {
				d.vacate(dead[0])
				dead = dead[1:]
			}
			store.Put(tx, model.DHCPBindingTable, &model.DHCPBinding{NetworkID: n.ID, Host: host})
			p.hosts = append(p.hosts, host)
		}
		full = full && len(p.hosts) >= o.s.cfg.DHCPAgents
	}
	for _, b := range dead {
		p := d.placeOf(places, b.Host)
		switch {
		case full:
			d.vacate(b)
		case p != nil:
			p.hosts = append(p.hosts, b.Host) // nobody to replace it: it may come back
		}
	}
	for _, p := range places {
		for _, host := range p.hosts {
			if err := d.port(host, p.subnets); err != nil {
				return err
			}
		}
	}
	return nil
}

// dhcpPlace is a part of a network that is served by nodes of its own: a segment with its subnets, or the whole.
type dhcpPlace struct {
	segment model.ID // empty: the whole
	subnets []*model.Subnet
	hosts   []string // that serve it
}

// places divides the network's subnets with DHCP by segment.
func (d *dhcpPlan) places() []*dhcpPlace {
	var out []*dhcpPlace
	for _, sub := range d.subnets {
		i := slices.IndexFunc(out, func(p *dhcpPlace) bool { return p.segment == sub.SegmentID })
		if i < 0 {
			i = len(out)
			out = append(out, &dhcpPlace{segment: sub.SegmentID})
		}
		out[i].subnets = append(out[i].subnets, sub)
	}
	return out
}

// placeOf is the place that a node can serve, nil if it carries none of them.
func (d *dhcpPlan) placeOf(places []*dhcpPlace, host string) *dhcpPlace {
	at, ok := hostSegmentID(d.tx, d.network, host)
	if !ok {
		return nil
	}
	for _, p := range places {
		if p.segment == "" || p.segment == at {
			return p
		}
	}
	return nil
}

// dhcpSettled tells from a snapshot that ensureDHCP would change nothing, so that looking after all networks costs no transactions.  In doubt
// it says no.
func (s *Service) dhcpSettled(r store.Read, n *model.Network) bool {
	enabled := map[model.ID]bool{}
	for sub := range store.Find(r, model.SubnetTable, "network", string(n.ID)) {
		if sub.SegmentID != "" {
			return false
		}
		if sub.EnableDHCP {
			enabled[sub.ID] = true
		}
	}
	nodes := 0
	for b := range store.Find(r, model.DHCPBindingTable, "network", string(n.ID)) {
		nodes++
		_, carried := hostSegment(r, n, b.Host)
		if len(enabled) == 0 || !carried || !serving(r, b.Host, dhcpBinary) || !dhcpPortFits(r, n, b.Host, enabled) {
			return false
		}
	}
	return len(enabled) == 0 || nodes >= s.cfg.DHCPAgents
}

// dhcpPortFits tells whether a host has its DHCP port on the network, bound, with one address in each of the subnets and no other.
func dhcpPortFits(r store.Read, n *model.Network, host string, subnets map[model.ID]bool) bool {
	for p := range store.Find(r, model.PortTable, "device", dhcpDeviceID(host, n.ID)) {
		if p.NetworkID != n.ID || p.DeviceOwner != model.OwnerDHCP {
			continue
		}
		return p.Bound() && p.Binding.Host == host && len(p.FixedIPs) == len(subnets) &&
			!slices.ContainsFunc(p.FixedIPs, func(f model.FixedIP) bool { return !subnets[f.SubnetID] })
	}
	return false
}

// dhcpPlan is ensureDHCP at work on one network.
type dhcpPlan struct {
	o       *op
	tx      store.Tx
	network *model.Network
	subnets []*model.Subnet // with DHCP, by age
}

// candidates chooses up to n nodes that do not serve the network yet, those that serve least first, so that networks spread.  A network with
// hints is served in these zones only.
func (d *dhcpPlan) candidates(bindings []*model.DHCPBinding, place *dhcpPlace, n int) []string {
	if n <= 0 {
		return nil
	}
	type node struct {
		host string
		load int
		tie  uint64
	}
	var nodes []node
	for _, host := range d.o.s.dhcpHosts(d.o.snap) {
		if slices.ContainsFunc(bindings, func(b *model.DHCPBinding) bool { return b.Host == host }) || !d.inZone(host) {
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(string(d.network.ID) + host))
		nodes = append(nodes, node{host, store.Count(d.o.snap, model.DHCPBindingTable, "host", host), h.Sum64()})
	}
	slices.SortFunc(nodes, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.load, b.load), cmp.Compare(a.tie, b.tie), cmp.Compare(a.host, b.host))
	})
	var hosts []string
	for _, c := range nodes {
		if len(hosts) == n {
			break
		}
		if serving(d.tx, c.host, dhcpBinary) && d.placeOf([]*dhcpPlace{place}, c.host) != nil {
			hosts = append(hosts, c.host)
		}
	}
	return hosts
}

// inZone tells whether a node is where the network's hints want it.
func (d *dhcpPlan) inZone(host string) bool {
	hints := d.network.AvailabilityZoneHints
	if len(hints) == 0 {
		return true
	}
	node, ok := store.Get(d.o.snap, model.NodeTable, host)
	return ok && slices.Contains(hints, node.AvailabilityZone)
}

// remove ends the DHCP service of the network.
func (d *dhcpPlan) remove(bindings []*model.DHCPBinding) {
	for _, b := range bindings {
		store.Delete(d.tx, model.DHCPBindingTable, model.DHCPBindingTable.Key(b))
		if p := d.find(dhcpDeviceID(b.Host, d.network.ID)); p != nil {
			removePort(d.tx, p)
		}
	}
	for p := d.find(model.ReservedDHCPPort); p != nil; p = d.find(model.ReservedDHCPPort) {
		removePort(d.tx, p)
	}
}

// vacate takes the network from a node and keeps its port for the next.
func (d *dhcpPlan) vacate(b *model.DHCPBinding) {
	store.Delete(d.tx, model.DHCPBindingTable, model.DHCPBindingTable.Key(b))
	p := d.find(dhcpDeviceID(b.Host, d.network.ID))
	if p == nil {
		return
	}
	next := *p
	next.DeviceID = model.ReservedDHCPPort
	next.Binding = model.Binding{VNICType: model.VNICNormal, VIFType: model.VIFUnbound}
	d.o.touch(&next.Standard)
	forgetPlug(d.tx, p, "")
	store.Put(d.tx, model.PortTable, &next)
}

// find gives the network's DHCP port with a device_id, nil if there is none.
func (d *dhcpPlan) find(device string) *model.Port {
	for p := range store.Find(d.tx, model.PortTable, "device", device) {
		if p.NetworkID == d.network.ID && p.DeviceOwner == model.OwnerDHCP {
			return p
		}
	}
	return nil
}

// port makes the DHCP port of a node on the network what it should be, with an address in each of the subnets.
func (d *dhcpPlan) port(host string, subnets []*model.Subnet) error {
	device := dhcpDeviceID(host, d.network.ID)
	old := d.find(device)
	if old == nil {
		old = d.find(model.ReservedDHCPPort)
	}
	p, err := d.portFrom(old)
	if err != nil {
		return err
	}
	p.DeviceID = device
	if p.FixedIPs, err = d.addresses(p, subnets); err != nil {
		return err
	}
	if p.Binding.Host != host || !p.Bound() {
		p.Binding.Host = host
		bind(d.tx, d.network, &p.Binding)
	}
	if old != nil {
		same := old.DeviceID == p.DeviceID && slices.Equal(old.FixedIPs, p.FixedIPs) &&
			old.Binding.Host == p.Binding.Host && old.Binding.VIFType == p.Binding.VIFType
		if same {
			return nil
		}
		d.o.touch(&p.Standard)
	}
	store.Put(d.tx, model.PortTable, p)
	return nil
}

// portFrom copies the port that is there already, or makes one.  Its project is the network's, whose quota it does not depend on.
func (d *dhcpPlan) portFrom(old *model.Port) (*model.Port, error) {
	if old != nil {
		p := *old
		return &p, nil
	}
	p := model.Port{
		NetworkID: d.network.ID, AdminStateUp: true, DeviceOwner: model.OwnerDHCP,
		Binding: model.Binding{VNICType: model.VNICNormal, VIFType: model.VIFUnbound},
	}
	d.o.fresh(&p.Standard, d.network.ProjectID)
	mac, err := d.o.mac(p.NetworkID)
	p.MAC = mac
	return &p, err
}

// addresses gives the port one address in each of the subnets, those it has where it has one.  A subnet without a free address is left
// out: the others are served all the same.
func (d *dhcpPlan) addresses(p *model.Port, subnets []*model.Subnet) ([]model.FixedIP, error) {
	var out []model.FixedIP
	for _, sub := range subnets {
		i := slices.IndexFunc(p.FixedIPs, func(f model.FixedIP) bool { return f.SubnetID == sub.ID })
		switch {
		case i >= 0:
			out = append(out, p.FixedIPs[i])
		case sub.AutoAddress():
			out = append(out, model.FixedIP{SubnetID: sub.ID, IPAddress: ipam.EUI64(sub.CIDR, p.MAC)})
		default:
			ip, ok := d.o.pickAddress(sub, true)
			gate := addressGate(d.network.ID)
			switch {
			case ok:
				out = append(out, model.FixedIP{SubnetID: sub.ID, IPAddress: ip})
			case !d.o.alone[gate]:
				return nil, &exhausted{[]string{gate}, Conflict("IpAddressGenerationFailure",
					"No more IP addresses available on network %s.", d.network.ID)}
			}
		}
	}
	return out, nil
}
