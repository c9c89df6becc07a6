package model

import (
	"cmp"
	"math/big"
	"net/netip"

	"baryon/internal/resource"
)

// IPAvailability counts the addresses of a network.  It is computed when asked for, never stored.
type IPAvailability struct {
	NetworkID   ID
	NetworkName string
	ProjectID   string
	TotalIPs    *big.Int // sum of the sizes of the allocation pools; an IPv6 pool can exceed 64 bits
	UsedIPs     int
	Subnets     []SubnetIPAvailability
	IPVersion   int // 4 or 6: only subnets of this version were counted; 0: all
}

// SubnetIPAvailability counts the addresses of a subnet.
type SubnetIPAvailability struct {
	SubnetID   ID
	SubnetName string
	CIDR       netip.Prefix
	IPVersion  int
	TotalIPs   *big.Int
	UsedIPs    int
}

// IPAvailabilities defines network_ip_availability: one row per network.  The filter ip_version restricts which subnets are counted,
// so the API applies it before the definition's filters.
var IPAvailabilities = resource.Define(
	resource.NewTable("network_ip_availability", func(a *IPAvailability) string { return string(a.NetworkID) }),
	"network_ip_availability", "network_ip_availabilities",
	resource.Attr("network_id", func(a *IPAvailability) *ID { return &a.NetworkID }, resource.UUID[ID](),
		resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex)),
	resource.Attr("network_name", func(a *IPAvailability) *string { return &a.NetworkName }, resource.String(255), resource.Filter, resource.Sort),
	resource.Attr("project_id", func(a *IPAvailability) *string { return &a.ProjectID }, resource.String(255),
		resource.Alias("tenant_id"), resource.Filter, resource.Sort, resource.Owner),
	resource.Attr("total_ips", func(a *IPAvailability) **big.Int { return &a.TotalIPs }, bigInt()),
	resource.Attr("used_ips", func(a *IPAvailability) *int { return &a.UsedIPs }, resource.Int[int](0, 1<<62)),
	resource.Attr("subnet_ip_availability", func(a *IPAvailability) *[]SubnetIPAvailability { return &a.Subnets },
		resource.List("list of {subnet_id, subnet_name, cidr, ip_version, total_ips, used_ips}", appendSubnetIPs)),
	resource.FilterBy[IPAvailability]("ip_version", "4 or 6: count only subnets of the version", matchIPVersions),
)

// WithVersions is the availability counted over subnets of the IP versions for which keep answers true.
func (a *IPAvailability) WithVersions(keep func(version int) bool) *IPAvailability {
	out := *a
	out.TotalIPs, out.UsedIPs, out.Subnets = new(big.Int), 0, nil
	for _, s := range a.Subnets {
		if keep(s.IPVersion) {
			out.TotalIPs.Add(out.TotalIPs, s.TotalIPs)
			out.UsedIPs += s.UsedIPs
			out.Subnets = append(out.Subnets, s)
		}
	}
	return &out
}

// matchIPVersions checks the values; networks stay listed, only their counts change (WithVersions).
func matchIPVersions(values []string) (func(*IPAvailability) bool, error) {
	versions := resource.OneOf(4, 6)
	for _, v := range values {
		if _, err := versions.Decode(v); err != nil {
			return nil, err
		}
	}
	return func(*IPAvailability) bool { return true }, nil
}

func bigInt() resource.Codec[*big.Int] {
	return resource.Codec[*big.Int]{
		Kind:    "integer of any size",
		Append:  appendBig,
		Compare: func(a, b *big.Int) int { return cmp.Compare(a.Cmp(b), 0) },
	}
}

func appendBig(dst []byte, n *big.Int) []byte {
	if n == nil {
		return append(dst, '0')
	}
	return n.Append(dst, 10)
}

func appendSubnetIPs(dst []byte, s SubnetIPAvailability) []byte {
	dst = resource.AppendString(append(dst, `{"subnet_id":`...), s.SubnetID)
	dst = resource.AppendString(append(dst, `,"subnet_name":`...), s.SubnetName)
	dst = appendPrefix(append(dst, `,"cidr":`...), s.CIDR)
	dst = append(dst, `,"ip_version":`...)
	dst = append(dst, byte('0'+s.IPVersion))
	dst = appendBig(append(dst, `,"total_ips":`...), s.TotalIPs)
	dst = append(dst, `,"used_ips":`...)
	dst = appendBig(dst, big.NewInt(int64(s.UsedIPs)))
	return append(dst, '}')
}
