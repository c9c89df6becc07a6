package southbound

import (
	"net/netip"
	"strconv"

	"pgregory.net/rapid"

	"baryon/internal/nodestate"
)

// Generators of records, for properties.

func genText() *rapid.Generator[string] { return rapid.StringN(0, 8, 64) }

func genID() *rapid.Generator[string] { return rapid.StringMatching(`[a-z0-9-]{1,12}`) }

func genMAC() *rapid.Generator[nodestate.MAC] {
	return rapid.Custom(func(t *rapid.T) (m nodestate.MAC) {
		copy(m[:], rapid.SliceOfN(rapid.Byte(), len(m), len(m)).Draw(t, "mac"))
		return m
	})
}

func genAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "addr"))
		return a
	})
}

func genPrefix() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := genAddr().Draw(t, "addr")
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
	})
}

func genList[T any](g *rapid.Generator[T]) *rapid.Generator[[]T] { return rapid.SliceOfN(g, 0, 3) }

func genRecord() *rapid.Generator[nodestate.Record] {
	return rapid.Custom(func(t *rapid.T) nodestate.Record {
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			return &nodestate.Network{ID: genID().Draw(t, "id"), Name: genText().Draw(t, "name"), Type: "vxlan",
				SegmentationID: rapid.Uint32().Draw(t, "segment"), MTU: rapid.IntRange(0, 9000).Draw(t, "mtu"),
				More: genList(rapid.Custom(func(t *rapid.T) nodestate.Segment {
					return nodestate.Segment{Type: "vlan", PhysicalNetwork: genText().Draw(t, "physnet"), SegmentationID: rapid.Uint32().Draw(t, "tag")}
				})).Draw(t, "more")}
		case 1:
			return &nodestate.Port{ID: genID().Draw(t, "id"), NetworkID: genID().Draw(t, "net"), Name: genText().Draw(t, "name"),
				MAC: genMAC().Draw(t, "mac"), AdminUp: rapid.Bool().Draw(t, "up"), Hybrid: rapid.Bool().Draw(t, "hybrid"),
				Addresses: genList(rapid.Custom(func(t *rapid.T) nodestate.Address {
					return nodestate.Address{Prefix: genPrefix().Draw(t, "prefix"), SubnetID: genID().Draw(t, "subnet")}
				})).Draw(t, "addresses"),
				AllowedPairs: genList(rapid.Custom(func(t *rapid.T) nodestate.Pair {
					return nodestate.Pair{MAC: genMAC().Draw(t, "mac"), Prefix: genPrefix().Draw(t, "prefix")}
				})).Draw(t, "pairs"),
				Groups: genList(genID()).Draw(t, "groups"),
				QoS: nodestate.QoS{Egress: genRate().Draw(t, "egress"), Ingress: genRate().Draw(t, "ingress"), Marked: rapid.Bool().Draw(t, "marked"),
					DSCP: uint8(rapid.IntRange(0, 63).Draw(t, "dscp"))}}
		case 2:
			return &nodestate.Peers{NetworkID: genID().Draw(t, "net"), Host: genID().Draw(t, "host"), Endpoint: genAddr().Draw(t, "endpoint"),
				Peers: genList(rapid.Custom(func(t *rapid.T) nodestate.Peer {
					return nodestate.Peer{PortID: genID().Draw(t, "port"), MAC: genMAC().Draw(t, "mac"), IPs: genList(genAddr()).Draw(t, "ips")}
				})).Draw(t, "peers")}
		case 3:
			return &nodestate.DHCP{NetworkID: genID().Draw(t, "net"), MTU: 1450, DNSDomain: genText().Draw(t, "domain"),
				Metadata: rapid.Bool().Draw(t, "metadata"), Subnets: genList(rapid.Custom(genSubnet)).Draw(t, "subnets")}
		case 4:
			return &nodestate.Group{ID: genID().Draw(t, "id"), Stateless: rapid.Bool().Draw(t, "stateless"),
				Rules: genList(rapid.Custom(genRule)).Draw(t, "rules")}
		case 5:
			return &nodestate.Members{ID: genID().Draw(t, "id"), Prefixes: genList(genNetwork()).Draw(t, "prefixes")}
		case 6:
			return &nodestate.Trunk{ID: genID().Draw(t, "id"), PortID: "parent", AdminUp: rapid.Bool().Draw(t, "up"), SubPorts: genSubPorts(t)}
		default:
			return genHost(t)
		}
	})
}

// genNetwork makes prefixes without host bits.
func genNetwork() *rapid.Generator[netip.Prefix] { return rapid.Map(genPrefix(), netip.Prefix.Masked) }

func genRule(t *rapid.T) nodestate.Rule {
	r := nodestate.Rule{ID: genID().Draw(t, "id"), Egress: rapid.Bool().Draw(t, "egress"), IPv6: rapid.Bool().Draw(t, "ipv6"),
		Protocol: rapid.IntRange(-1, 255).Draw(t, "protocol"), PortMin: rapid.IntRange(-1, 65535).Draw(t, "min"),
		PortMax: rapid.IntRange(-1, 65535).Draw(t, "max")}
	switch rapid.IntRange(0, 2).Draw(t, "remote") {
	case 0:
		r.Remote = genNetwork().Draw(t, "prefix")
		r.IPv6 = r.Remote.Addr().Is6()
	case 1:
		r.Members = genID().Draw(t, "members")
	}
	return r
}

func genSubnet(t *rapid.T) nodestate.DHCPSubnet {
	return nodestate.DHCPSubnet{ID: genID().Draw(t, "id"), CIDR: genPrefix().Draw(t, "cidr"), Gateway: genAddr().Draw(t, "gateway"),
		EnableDHCP: rapid.Bool().Draw(t, "dhcp"), DNSNameservers: genList(genAddr()).Draw(t, "dns"), RAMode: genText().Draw(t, "ra"),
		Routed: rapid.Bool().Draw(t, "routed"), Servers: genList(genAddr()).Draw(t, "servers"),
		HostRoutes: genList(rapid.Custom(func(t *rapid.T) nodestate.Route {
			return nodestate.Route{Destination: genPrefix().Draw(t, "to"), NextHop: genAddr().Draw(t, "via")}
		})).Draw(t, "routes")}
}

func genHost(t *rapid.T) nodestate.Record {
	text := rapid.MapOfN(genText(), genText(), 0, 3)
	return &nodestate.DHCPHost{PortID: genID().Draw(t, "port"), NetworkID: genID().Draw(t, "net"), MAC: genMAC().Draw(t, "mac"),
		Serve: rapid.Bool().Draw(t, "serve"),
		Addresses: genList(rapid.Custom(func(t *rapid.T) nodestate.HostAddress {
			return nodestate.HostAddress{SubnetID: genID().Draw(t, "subnet"), IP: genAddr().Draw(t, "ip"), Hostname: genText().Draw(t, "name"),
				FQDN: genText().Draw(t, "fqdn")}
		})).Draw(t, "addresses"),
		Options: genList(rapid.Custom(func(t *rapid.T) nodestate.DHCPOption {
			return nodestate.DHCPOption{Name: genText().Draw(t, "name"), Value: genText().Draw(t, "value"), IPVersion: 4}
		})).Draw(t, "options"),
		Instance: nodestate.Instance{ID: genText().Draw(t, "instance"), PublicKeys: text.Draw(t, "keys"), Meta: text.Draw(t, "meta"),
			UserData: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "userdata"), Zone: genText().Draw(t, "zone")}}
}

func genRate() *rapid.Generator[nodestate.Rate] {
	return rapid.Custom(func(t *rapid.T) nodestate.Rate {
		return nodestate.Rate{Kbps: rapid.IntRange(0, 1<<31-1).Draw(t, "kbps"), Burst: rapid.IntRange(0, 1<<31-1).Draw(t, "burst")}
	})
}

func genSubPorts(t *rapid.T) []nodestate.SubPort {
	var out []nodestate.SubPort
	for _, tag := range rapid.SliceOfNDistinct(rapid.IntRange(1, 4094), 0, 3, rapid.ID).Draw(t, "tags") {
		out = append(out, nodestate.SubPort{PortID: "sub" + strconv.Itoa(tag), Tag: uint16(tag)})
	}
	return out
}
