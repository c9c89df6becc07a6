package metadata

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
)

// openstackVersions are the versions of OpenStack's layout, and the first one that has each file.
var openstackVersions = []string{
	"2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest",
}

const (
	sinceVendor  = "2013-10-17"
	sinceNetwork = "2015-10-15"
	sinceVendor2 = "2016-10-06"
)

// randomSeed is how many bytes of entropy meta_data.json brings, as Nova's.
const randomSeed = 512

func (t *table) openstack(p *Port) *node {
	r := &node{dir: map[string]*node{}, order: openstackVersions, plain: true}
	for _, v := range openstackVersions {
		d := map[string]*node{"meta_data.json": jsonNode(func() (any, error) { return p.metaData() })}
		if len(p.UserData) > 0 {
			d["user_data"] = blob(p.UserData)
		}
		if v >= sinceVendor {
			d["vendor_data.json"] = jsonNode(func() (any, error) { return struct{}{}, nil })
		}
		if v >= sinceNetwork {
			d["network_data.json"] = jsonNode(func() (any, error) { return t.networkData(p), nil })
		}
		if v >= sinceVendor2 {
			d["vendor_data2.json"] = jsonNode(func() (any, error) { return struct{}{}, nil })
		}
		r.dir[v] = &node{dir: d}
	}
	return r
}

func jsonNode(f func() (any, error)) *node {
	return &node{kind: "application/json", content: func() ([]byte, error) {
		v, err := f()
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}}
}

type metaData struct {
	UUID             string            `json:"uuid"`
	Name             string            `json:"name"`
	Hostname         string            `json:"hostname"`
	LaunchIndex      int               `json:"launch_index"`
	AvailabilityZone string            `json:"availability_zone"`
	ProjectID        string            `json:"project_id"`
	Meta             map[string]string `json:"meta,omitempty"`
	PublicKeys       map[string]string `json:"public_keys,omitempty"`
	Keys             []key             `json:"keys,omitempty"`
	RandomSeed       []byte            `json:"random_seed"` // base64 in JSON
	Devices          []struct{}        `json:"devices"`
}

type key struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Data string `json:"data"`
}

func (p *Port) metaData() (metaData, error) {
	m := metaData{
		UUID: p.InstanceID, Name: p.name(), Hostname: p.hostname(), AvailabilityZone: p.Zone, ProjectID: p.ProjectID,
		Meta: p.Meta, PublicKeys: p.PublicKeys, RandomSeed: make([]byte, randomSeed), Devices: []struct{}{},
	}
	for _, name := range slices.Sorted(maps.Keys(p.PublicKeys)) {
		m.Keys = append(m.Keys, key{name, "ssh", p.PublicKeys[name]})
	}
	if _, err := rand.Read(m.RandomSeed); err != nil {
		return m, fmt.Errorf("read random seed: %w", err)
	}
	return m, nil
}

type networkData struct {
	Links    []link    `json:"links"`
	Networks []network `json:"networks"`
	Services []service `json:"services"`
}

type link struct {
	ID   string `json:"id"`
	VIF  string `json:"vif_id"`
	Type string `json:"type"`
	MTU  int    `json:"mtu,omitempty"`
	MAC  string `json:"ethernet_mac_address"`
}

type network struct {
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	Link      string    `json:"link"`
	Address   string    `json:"ip_address,omitempty"`
	Netmask   string    `json:"netmask,omitempty"`
	Routes    []route   `json:"routes,omitempty"`
	NetworkID string    `json:"network_id"`
	Services  []service `json:"services,omitempty"`
}

type route struct {
	Network string `json:"network"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
}

type service struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// networkData describes the port's own network as Nova's network_data.json does: a subnet with DHCP by its kind, one without by its
// addresses.
func (t *table) networkData(p *Port) networkData {
	out := networkData{Networks: []network{}, Services: []service{}}
	id := ("tap" + p.ID)[:min(14, 3+len(p.ID))]
	out.Links = []link{{ID: id, VIF: p.ID, Type: "ovs", MTU: t.cfg.MTU, MAC: net.HardwareAddr(p.MAC[:]).String()}}
	seen := map[service]bool{}
	for _, a := range p.Addresses {
		s := t.subnets[a.SubnetID]
		if s == nil {
			continue
		}
		n := network{ID: fmt.Sprintf("network%d", len(out.Networks)), Link: id, NetworkID: t.cfg.NetworkID, Type: s.kind()}
		for _, d := range s.Nameservers {
			if d.IsUnspecified() {
				continue
			}
			v := service{"dns", d.String()}
			n.Services = append(n.Services, v)
			if !seen[v] {
				seen[v] = true
				out.Services = append(out.Services, v)
			}
		}
		if !s.EnableDHCP || s.CIDR.Addr().Is6() {
			n.Address, n.Netmask = a.IP.String(), netmask(s.CIDR)
			if s.Gateway.IsValid() {
				n.Routes = append(n.Routes, defaultRoute(s.Gateway))
			}
			for _, r := range s.Routes {
				n.Routes = append(n.Routes, route{r.Destination.Masked().Addr().String(), netmask(r.Destination), r.NextHop.String()})
			}
		}
		out.Networks = append(out.Networks, n)
	}
	return out
}

func (s *Subnet) kind() string {
	v4 := s.CIDR.Addr().Is4()
	switch {
	case v4 && s.EnableDHCP:
		return "ipv4_dhcp"
	case v4:
		return "ipv4"
	case s.Mode != "":
		return "ipv6_" + s.Mode
	case s.EnableDHCP:
		return "ipv6_dhcpv6-stateful"
	default:
		return "ipv6"
	}
}

func defaultRoute(gw netip.Addr) route {
	if gw.Is4() {
		return route{"0.0.0.0", "0.0.0.0", gw.String()}
	}
	return route{"::", "::", gw.String()}
}

func netmask(p netip.Prefix) string {
	return net.IP(net.CIDRMask(p.Bits(), p.Addr().BitLen())).String()
}
