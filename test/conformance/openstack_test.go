package conformance_test

import (
	"strings"
	"testing"
)

// TestOpenstackCommand types what a person types, with Debian's own client, against a real server.
func TestOpenstackCommand(t *testing.T) {
	c := startCloud(t, "--dns-domain", "cloud.example.", "--network-vlan-ranges", "office:100:199,storage", "--physical-network-mtus", "office:1400")
	// Hosts that the tests bind ports to; they stay until the last subtest has ended.
	c.node(t, "node-a", "192.0.2.1", "")
	c.node(t, "node-b", "192.0.2.2", "east")
	t.Run("groups", func(t *testing.T) {
		for name, group := range map[string]func(*testing.T, *cloud){
			"network": typeNetworks, "subnet": typeSubnets, "subnet ipv6": typeSubnets6, "port": typePorts, "port binding": typePortBindings,
			"member": typeAsMember, "agent": typeAgents, "quota": typeQuotas, "identity": typeIdentity, "process": typeProcesses, "qos": typeQoS,
			"trunk": typeTrunks, "provider": typeProviderNetworks, "rbac": typeRBAC, "segment": typeSegments,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				group(t, c)
			})
		}
	})
}

func typeNetworks(t *testing.T, c *cloud) {
	o := c.osc(t)
	plain := o.one("network create net-plain")
	o.want(plain, "name", "net-plain", "status", "ACTIVE", "admin_state_up", "true", "shared", "false", "router:external", "false",
		"is_default", "false", "mtu", "1450", "port_security_enabled", "true", "provider:network_type", "vxlan", "provider:physical_network", "null",
		"dns_domain", "", "description", "", "tags", "[]", "subnets", "[]", "availability_zone_hints", "[]", "availability_zones", "[]", "revision_number", "0")
	full := o.one("network create --provider-network-type gre --provider-segment 4711 --mtu 1400 --share --disable-port-security --disable " +
		"--dns-domain lab.example. --description 'two words' --tag blue --tag red --internal --no-default --availability-zone-hint east net-full")
	o.want(full, "provider:network_type", "gre", "provider:segmentation_id", "4711", "mtu", "1400", "shared", "true", "port_security_enabled", "false",
		"admin_state_up", "false", "dns_domain", "lab.example.", "description", "two words", "tags", `["blue","red"]`, "router:external", "false",
		"is_default", "false", "availability_zone_hints", `["east"]`)
	outside := o.one("network create --external --default net-outside")
	o.want(outside, "router:external", "true", "is_default", "true")

	// Changes.
	o.do("network set --name net-new --description changed --mtu 1300 --no-share --enable-port-security --enable --dns-domain new.example. " +
		"--tag green --external net-full")
	changed := o.one("network show %s", full.id())
	o.want(changed, "name", "net-new", "description", "changed", "mtu", "1300", "shared", "false", "port_security_enabled", "true", "admin_state_up", "true",
		"dns_domain", "new.example.", "tags", `["blue","green","red"]`, "router:external", "true", "provider:segmentation_id", "4711")
	o.do("network unset --tag blue --tag red net-new")
	o.want(o.one("network show net-new"), "tags", `["green"]`)
	o.do("network set --no-tag --internal net-new")
	o.want(o.one("network show net-new"), "tags", "[]", "router:external", "false")
	o.do("network set --no-default net-outside")
	o.do("network set --tag n net-plain")
	o.do("network set --tag n --tag m net-new")

	// Lists.
	for filter, want := range map[string]string{
		"--name net-plain":                              "net-plain",
		"--external":                                    "net-outside",
		"--internal --tags n":                           "net-new net-plain",
		"--tags n,m":                                    "net-new",
		"--any-tags m,x":                                "net-new",
		"--tags n --not-tags m":                         "net-plain",
		"--tags n --not-any-tags m,x":                   "net-plain",
		"--provider-network-type gre":                   "net-new",
		"--provider-network-type gre --disable":         "",
		"--provider-segment 4711":                       "net-new",
		"--tags n --no-share --enable --status ACTIVE":  "net-new net-plain",
		"--tags n --project admin":                      "net-new net-plain",
		"--tags n --project service":                    "",
		"--tags n --sort-column Name --sort-descending": "net-plain net-new",
	} {
		if !strings.Contains(filter, "--sort") {
			filter += " --sort-column Name"
		}
		o.equal("network list "+filter, o.column("Name", "network list %s", filter), want)
	}
	long := o.list("network list --long --name net-new")
	if len(long) != 1 {
		t.Fatalf("network list --long: %v", long)
	}
	o.want(long[0], "ID", full.id(), "Network Type", "gre", "Status", "ACTIVE", "State", "true", "Shared", "false", "Router Type", "false",
		"Tags", `["m","n"]`, "Availability Zones", "[]")

	// What is wrong is said.
	o.refused("No Network found for nowhere", "network show nowhere")
	o.refused("No project with a name or ID of 'nobody' exists.", "network create --project nobody x")
	o.refused("the following arguments are required: <name>", "network create")
	o.refused("400, Invalid input for operation: Requested MTU is too big, maximum is 1450.", "network create --mtu 9000 x")
	o.refused("mtu", "network create --mtu -1 x")
	o.refused("'stt'", "network create --provider-network-type stt x")
	o.refused("4711", "network create --provider-network-type gre --provider-segment 4711 x")
	o.refused("Invalid input for dns_domain. Reason: 'nodot' is not a FQDN.", "network create --dns-domain nodot x")
	o.refused("AvailabilityZone mars could not be found.", "network create --availability-zone-hint mars x")
	o.refused("is_default needs router:external", "network create --default x")
	o.refused("provider attributes", "network set --provider-network-type vxlan net-new")
	o.refused("2 of 2 networks failed to delete.", "network delete nowhere elsewhere")
	o.do("network create twin")
	o.do("network create twin")
	o.refused("More than one Network exists with the name 'twin'.", "network show twin")
	for _, id := range strings.Fields(o.column("ID", "network list --name twin")) {
		o.do("network delete %s", id)
	}
	o.do("network delete net-plain net-new %s", outside.id())
	o.refused("No Network found", "network show %s", full.id())
}

func typeSubnets(t *testing.T, c *cloud) {
	o := c.osc(t)
	net := o.one("network create sub-net").id()
	plain := o.one("subnet create --network sub-net --subnet-range 10.1.0.0/24 sub-plain")
	o.want(plain, "cidr", "10.1.0.0/24", "gateway_ip", "10.1.0.1", "ip_version", "4", "enable_dhcp", "true", "network_id", net,
		"allocation_pools", `[{"end":"10.1.0.254","start":"10.1.0.2"}]`, "dns_nameservers", "[]", "host_routes", "[]", "ipv6_ra_mode", "null")
	full := o.one("subnet create --network sub-net --subnet-range 10.2.0.0/24 --allocation-pool start=10.2.0.10,end=10.2.0.20 " +
		"--allocation-pool start=10.2.0.30,end=10.2.0.40 --gateway 10.2.0.254 --dns-nameserver 192.0.2.53 --dns-nameserver 192.0.2.54 " +
		"--host-route destination=10.9.0.0/16,gateway=10.2.0.9 --no-dhcp --description 'a subnet' --tag s --dns-publish-fixed-ip sub-full")
	o.want(full, "gateway_ip", "10.2.0.254", "enable_dhcp", "false", "description", "a subnet", "tags", `["s"]`, "dns_publish_fixed_ip", "true",
		"allocation_pools", `[{"end":"10.2.0.20","start":"10.2.0.10"},{"end":"10.2.0.40","start":"10.2.0.30"}]`,
		"dns_nameservers", `["192.0.2.53","192.0.2.54"]`, "host_routes", `[{"destination":"10.9.0.0/16","nexthop":"10.2.0.9"}]`)
	o.want(o.one("subnet create --network sub-net --subnet-range 10.3.0.0/24 --gateway none sub-none"), "gateway_ip", "null",
		"allocation_pools", `[{"end":"10.3.0.254","start":"10.3.0.1"}]`)
	o.want(o.one("subnet create --network sub-net --subnet-range 10.4.0.0/24 --gateway auto --dhcp sub-auto"), "gateway_ip", "10.4.0.1")

	o.do("subnet set --name sub-new --dhcp --gateway 10.2.0.1 --dns-nameserver 192.0.2.55 --host-route destination=10.8.0.0/16,gateway=10.2.0.8 " +
		"--allocation-pool start=10.2.0.50,end=10.2.0.60 --description new --tag t --no-dns-publish-fixed-ip sub-full")
	o.want(o.one("subnet show sub-new"), "enable_dhcp", "true", "gateway_ip", "10.2.0.1", "description", "new", "tags", `["s","t"]`,
		"dns_nameservers", `["192.0.2.55","192.0.2.53","192.0.2.54"]`, "dns_publish_fixed_ip", "false",
		"host_routes", `[{"destination":"10.8.0.0/16","nexthop":"10.2.0.8"},{"destination":"10.9.0.0/16","nexthop":"10.2.0.9"}]`)
	o.do("subnet unset --dns-nameserver 192.0.2.53 --host-route destination=10.9.0.0/16,gateway=10.2.0.9 " +
		"--allocation-pool start=10.2.0.50,end=10.2.0.60 --tag s --gateway sub-new")
	o.want(o.one("subnet show sub-new"), "dns_nameservers", `["192.0.2.55","192.0.2.54"]`, "gateway_ip", "null", "tags", `["t"]`,
		"host_routes", `[{"destination":"10.8.0.0/16","nexthop":"10.2.0.8"}]`,
		"allocation_pools", `[{"end":"10.2.0.20","start":"10.2.0.10"},{"end":"10.2.0.40","start":"10.2.0.30"}]`)
	o.do("subnet set --no-allocation-pool --allocation-pool start=10.2.0.100,end=10.2.0.110 --no-host-route --no-dns-nameservers sub-new")
	o.want(o.one("subnet show sub-new"), "dns_nameservers", "[]", "host_routes", "[]", "allocation_pools", `[{"end":"10.2.0.110","start":"10.2.0.100"}]`)

	for filter, want := range map[string]string{
		"":                                      "sub-auto sub-new sub-none sub-plain",
		"--name sub-new":                        "sub-new",
		"--subnet-range 10.3.0.0/24":            "sub-none",
		"--gateway 10.1.0.1":                    "sub-plain",
		"--tags t":                              "sub-new",
		"--not-tags t":                          "sub-auto sub-none sub-plain",
		"--ip-version 6":                        "",
		"--ip-version 4 --dhcp --project admin": "sub-auto sub-new sub-none sub-plain",
		"--no-dhcp":                             "",
		"--project service":                     "",
	} {
		o.equal("subnet list "+filter, o.column("Name", "subnet list --network sub-net --sort-column Name %s", filter), want)
	}
	long := o.list("subnet list --long --network sub-net --name sub-plain")
	if len(long) != 1 {
		t.Fatalf("subnet list --long: %v", long)
	}
	o.want(long[0], "Subnet", "10.1.0.0/24", "DHCP", "true", "Gateway", "10.1.0.1", "IP Version", "4", "Network", net)

	o.refused("Invalid input for cidr", "subnet create --network sub-net --subnet-range 10.1.0.0/33 x")
	o.refused("overlaps with another subnet", "subnet create --network sub-net --subnet-range 10.1.0.128/25 x")
	o.refused("No Network found for nowhere", "subnet create --network nowhere --subnet-range 10.1.0.0/24 x")
	o.refused("10.5.0.1", "subnet create --network sub-net --subnet-range 10.5.0.0/24 --allocation-pool start=10.5.0.1,end=10.5.0.9 --gateway 10.5.0.1 x")
	o.refused("10.6.0.1", "subnet create --network sub-net --subnet-range 10.5.0.0/24 --allocation-pool start=10.6.0.1,end=10.6.0.9 x")
	o.refused("Invalid input for dns_nameservers", "subnet create --network sub-net --subnet-range 10.5.0.0/24 --dns-nameserver nine x")
	o.refused("cidr 'fd00::/64' does not match the ip_version '4'", "subnet create --network sub-net --subnet-range fd00::/64 x")
	o.refused("No Subnet found for nowhere", "subnet show nowhere")
	o.do("port create --network sub-net --fixed-ip subnet=sub-plain sub-port")
	o.refused("sub-plain", "subnet delete sub-plain")
	o.do("port delete sub-port")
	o.do("subnet delete sub-plain sub-new sub-none sub-auto")
	o.do("network delete sub-net")
}

func typeSubnets6(t *testing.T, c *cloud) {
	o := c.osc(t)
	o.do("network create six-net")
	for i, mode := range []string{"slaac", "dhcpv6-stateful", "dhcpv6-stateless"} {
		s := o.one("subnet create --network six-net --ip-version 6 --ipv6-ra-mode %s --ipv6-address-mode %s --subnet-range fd00:%d::/64 six-%s", mode, mode, i, mode)
		o.want(s, "ip_version", "6", "ipv6_ra_mode", mode, "ipv6_address_mode", mode, "enable_dhcp", "true")
	}
	o.want(o.one("subnet create --network six-net --ip-version 6 --subnet-range fd00:9::/64 --gateway none --no-dhcp six-static"),
		"ipv6_ra_mode", "null", "gateway_ip", "null")
	o.equal("IPv6 subnets", o.column("Name", "subnet list --network six-net --ip-version 6 --sort-column Name"), "six-dhcpv6-stateful six-dhcpv6-stateless six-slaac six-static")
	p := o.one("port create --network six-net --mac-address fa:16:3e:00:00:01 --fixed-ip subnet=six-slaac six-port")
	if s := text(p["fixed_ips"]); !strings.Contains(s, "fd00::f816:3eff:fe00:1") || !strings.Contains(s, "fd00:2::f816:3eff:fe00:1") {
		t.Errorf("addresses made from the MAC: %s", s)
	}
	o.refused("ipv6_ra_mode", "subnet create --network six-net --ip-version 4 --subnet-range 10.0.0.0/24 --ipv6-ra-mode slaac x")
	o.refused("ipv6", "subnet create --network six-net --ip-version 6 --subnet-range fd01::/64 --ipv6-ra-mode slaac --ipv6-address-mode dhcpv6-stateful x")
	o.do("port delete six-port")
	o.do("network delete six-net")
	o.equal("subnets of a deleted network", o.column("Name", "subnet list --name six-slaac"), "")
}
