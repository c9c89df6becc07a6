package neutron

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"baryon/internal/model"
	"baryon/internal/neutron/ipam"
	"baryon/internal/store"
)

// maxFixedIPs bounds the addresses of one port.
const maxFixedIPs = 64

// addressing gives ports of one network their addresses, inside a transaction.
type addressing struct {
	o       *op
	tx      store.Tx
	network *model.Network
	subnets []*model.Subnet // by age

	// Of the port at hand: the subnets that reach it, and that it has to wait for a host to know them.
	near     []*model.Subnet
	deferred bool
}

func (o *op) addressing(tx store.Tx, n *model.Network) *addressing {
	a := &addressing{o: o, tx: tx, network: n}
	a.subnets = slices.SortedFunc(store.Find(tx, model.SubnetTable, "network", string(n.ID)), func(x, y *model.Subnet) int {
		return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.ID, y.ID))
	})
	return a
}

// wanted is what a request says about a port's addresses.
type wanted struct {
	sent   bool // false: choose
	ips    []model.FixedIP
	ownMAC bool // the MAC was drawn by the server, and can be drawn again if its EUI-64 address is taken
	host   string
}

// addressGate names the gate of a network's addresses.
func addressGate(id model.ID) string { return "network/" + string(id) }

// create gives a new port its addresses.
func (a *addressing) create(p *model.Port, w wanted) ([]model.FixedIP, error) {
	if w.sent && len(w.ips) == 0 {
		return nil, nil
	}
	if err := a.place(p, w.host); err != nil {
		return nil, err
	}
	var out []model.FixedIP
	var err error
	if w.sent {
		out, err = a.requested(p, w, nil)
	} else {
		out, err = a.chosen(p)
	}
	if err != nil {
		return nil, err
	}
	return a.withAuto(p, out, w.ownMAC), nil
}

// update changes a port's addresses: what is still asked for stays, a subnet asked for without an address keeps the one it has, and
// automatic addresses stay unless nothing at all is asked for.
func (a *addressing) update(p *model.Port, w wanted) ([]model.FixedIP, error) {
	old := p.FixedIPs
	waited := p.Deferred
	if w.sent && len(w.ips) == 0 {
		p.Deferred = false
		return nil, nil
	}
	if err := a.place(p, w.host); err != nil {
		return nil, err
	}
	switch {
	case !w.sent && waited:
		out, err := a.chosen(p)
		if err != nil {
			return nil, err
		}
		return a.withAuto(p, out, w.ownMAC), nil
	case !w.sent:
		if err := a.checkReach(p, old, w.host); err != nil {
			return nil, err
		}
		return a.withAuto(p, a.manual(old), w.ownMAC), nil
	}
	out, err := a.requested(p, w, old)
	if err != nil {
		return nil, err
	}
	kept := a.automatic(old)
	for _, ip := range kept {
		sub := a.byID(ip.SubnetID)
		if slices.Contains(a.near, sub) && !slices.ContainsFunc(out, func(f model.FixedIP) bool { return f.SubnetID == ip.SubnetID }) {
			out = append(out, a.auto(sub, p.MAC, w.ownMAC))
		}
	}
	return out, nil
}

// chosen picks one IPv4 and one IPv6 address, each from the first subnet that has one free.  A port that could be anywhere on a network
// whose subnets are not everywhere gets them when it gets its host.
func (a *addressing) chosen(p *model.Port) ([]model.FixedIP, error) {
	if p.Deferred = a.deferred; a.deferred {
		return nil, nil
	}
	var out []model.FixedIP
	for _, version := range []int{4, 6} {
		tried := false
		found := false
		for _, sub := range a.near {
			if sub.IPVersion != version || sub.AutoAddress() {
				continue
			}
			tried = true
			if ip, ok := a.o.pickAddress(sub, p.DeviceOwner == model.OwnerDHCP); ok {
				out = append(out, model.FixedIP{SubnetID: sub.ID, IPAddress: ip})
				found = true
				break
			}
		}
		if tried && !found {
			return nil, a.full()
		}
	}
	return out, nil
}

func (a *addressing) full() error {
	return &exhausted{[]string{addressGate(a.network.ID)}, Conflict("IpAddressGenerationFailure",
		"No more IP addresses available on network %s.", a.network.ID)}
}

// requested gives what the client asked for.  old are the addresses that the port has already.
func (a *addressing) requested(p *model.Port, w wanted, old []model.FixedIP) ([]model.FixedIP, error) {
	if len(w.ips) > maxFixedIPs {
		return nil, InvalidInput("Exceeded maximum amount of fixed ips per port: %d", maxFixedIPs)
	}
	out := make([]model.FixedIP, len(w.ips))
	for i, ask := range w.ips {
		if !ask.IPAddress.IsValid() {
			continue
		}
		f, err := a.exact(p, ask, slices.Contains(old, ask), w.ownMAC)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, f) {
			return nil, InvalidInput("Duplicate IP address '%s' in fixed_ips", f.IPAddress)
		}
		if !slices.Contains(old, f) {
			a.o.keepAddress(a.byID(f.SubnetID), f.IPAddress)
			a.askFor(f)
		}
		out[i] = f
	}
	for i, ask := range w.ips {
		if ask.IPAddress.IsValid() {
			continue
		}
		f, err := a.any(p, ask, out, old, w.ownMAC)
		if err != nil {
			return nil, err
		}
		out[i] = f
	}
	p.Deferred = false
	return out, a.checkReach(p, out, w.host)
}

// exact checks an address that the client named.
func (a *addressing) exact(p *model.Port, ask model.FixedIP, has, ownMAC bool) (model.FixedIP, error) {
	ip := ask.IPAddress
	sub := a.byID(ask.SubnetID)
	if ask.SubnetID == "" {
		i := slices.IndexFunc(a.subnets, func(s *model.Subnet) bool { return s.CIDR.Contains(ip) })
		if i < 0 {
			return ask, BadRequest("InvalidIpForNetwork",
				"IP address %s is not a valid IP for any of the subnets on the specified network.", ip)
		}
		sub = a.subnets[i]
	}
	if sub == nil {
		return ask, a.wrongSubnet(ask.SubnetID)
	}
	f := model.FixedIP{SubnetID: sub.ID, IPAddress: ip}
	if has {
		return f, nil
	}
	if !usable(sub.CIDR, ip) {
		return ask, BadRequest("InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", ip)
	}
	if sub.AutoAddress() && !routerPort(p) && (ownMAC || ip != ipam.EUI64(sub.CIDR, p.MAC)) {
		return ask, InvalidInput("IPv6 address %s can not be directly assigned to a port on subnet %s since the subnet is configured "+
			"for automatic addresses", ip, sub.ID)
	}
	return f, nil
}

// any gives an address of a subnet that the client named without an address.
func (a *addressing) any(p *model.Port, ask model.FixedIP, out, old []model.FixedIP, ownMAC bool) (model.FixedIP, error) {
	if ask.SubnetID == "" {
		return ask, InvalidInput("IP allocation requires subnet_id or ip_address")
	}
	sub := a.byID(ask.SubnetID)
	if sub == nil {
		return ask, a.wrongSubnet(ask.SubnetID)
	}
	if sub.AutoAddress() && !routerPort(p) {
		f := a.auto(sub, p.MAC, ownMAC)
		if slices.Contains(out, f) {
			return ask, InvalidInput("Duplicate IP address '%s' in fixed_ips", f.IPAddress)
		}
		return f, nil
	}
	for _, f := range old {
		if f.SubnetID == sub.ID && !slices.Contains(out, f) {
			return f, nil
		}
	}
	ip, ok := a.o.pickAddress(sub, p.DeviceOwner == model.OwnerDHCP)
	if !ok {
		return ask, a.full()
	}
	return model.FixedIP{SubnetID: sub.ID, IPAddress: ip}, nil
}

func (a *addressing) wrongSubnet(id model.ID) error {
	return InvalidInput("Failed to create port on network %s, because fixed_ips included invalid subnet %s", a.network.ID, id)
}

// withAuto adds the address of each automatic subnet that has none in the list.
func (a *addressing) withAuto(p *model.Port, out []model.FixedIP, ownMAC bool) []model.FixedIP {
	if routerPort(p) {
		return out
	}
	for _, sub := range a.near {
		if sub.AutoAddress() && !slices.ContainsFunc(out, func(f model.FixedIP) bool { return f.SubnetID == sub.ID }) {
			out = append(out, a.auto(sub, p.MAC, ownMAC))
		}
	}
	return out
}

// auto is the address that a guest gives itself on an automatic subnet.
func (a *addressing) auto(sub *model.Subnet, mac model.MAC, ownMAC bool) model.FixedIP {
	f := model.FixedIP{SubnetID: sub.ID, IPAddress: ipam.EUI64(sub.CIDR, mac)}
	if !ownMAC {
		a.askFor(f)
	}
	return f
}

// askFor says what to answer when the address is taken.
func (a *addressing) askFor(f model.FixedIP) {
	a.o.ask(model.PortTable.Name, "subnet_ip", model.SubnetIP(f.SubnetID, f.IPAddress), Conflict("IpAddressInUse",
		"Unable to complete operation for network %s. The IP address %s is in use.", a.network.ID, f.IPAddress))
}

// manual and automatic split a port's addresses by the kind of their subnet.
func (a *addressing) manual(ips []model.FixedIP) []model.FixedIP { return a.split(ips, false) }

func (a *addressing) automatic(ips []model.FixedIP) []model.FixedIP { return a.split(ips, true) }

func (a *addressing) split(ips []model.FixedIP, auto bool) []model.FixedIP {
	var out []model.FixedIP
	for _, f := range ips {
		if sub := a.byID(f.SubnetID); sub != nil && sub.AutoAddress() == auto {
			out = append(out, f)
		}
	}
	return out
}

func (a *addressing) byID(id model.ID) *model.Subnet {
	for _, s := range a.subnets {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// usable tells whether a host on the subnet can have the address: inside, and for IPv4 up to /30 neither network nor broadcast.
func usable(p netip.Prefix, ip netip.Addr) bool {
	switch {
	case !p.Contains(ip):
		return false
	case ip.Is4() && p.Bits() <= 30:
		return ip != p.Masked().Addr() && ip != ipam.Last(p)
	}
	return true
}

// routerPort tells the ports of routers, which get no automatic addresses.
func routerPort(p *model.Port) bool {
	return strings.HasPrefix(p.DeviceOwner, "network:router_") || strings.HasPrefix(p.DeviceOwner, "network:ha_router")
}
