package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

func createSubnet(ctx context.Context, api *gophercloud.ServiceClient, networkID string, s Subnet) error {
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return err
	}
	opts := subnets.CreateOpts{
		NetworkID: networkID, Name: s.Name, CIDR: s.CIDR, IPVersion: gophercloud.IPv4,
		IPv6RAMode: s.IPv6, IPv6AddressMode: s.IPv6,
	}
	if p.Addr().Is6() {
		opts.IPVersion = gophercloud.IPv6
	}
	if s.NoDHCP {
		opts.EnableDHCP = new(bool)
	}
	switch s.Gateway {
	case "":
	case "none":
		none := ""
		opts.GatewayIP = &none
	default:
		opts.GatewayIP = &s.Gateway
	}
	if s.Pool != "" {
		first, last, ok := strings.Cut(s.Pool, "-")
		if !ok {
			return fmt.Errorf("pool %q is not of the form FIRST-LAST", s.Pool)
		}
		opts.AllocationPools = []subnets.AllocationPool{{Start: first, End: last}}
	}
	return subnets.Create(ctx, api, opts).Err
}
