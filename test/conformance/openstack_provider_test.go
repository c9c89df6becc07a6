package conformance_test

import (
	"strings"
	"testing"
)

// typeProviderNetworks: the flat network of the write-up, VLANs, and what is refused.
func typeProviderNetworks(t *testing.T, c *cloud) {
	o := c.osc(t)
	flat := o.one("network create --share --external --provider-physical-network public --provider-network-type flat public")
	o.want(flat, "provider:network_type", "flat", "provider:physical_network", "public", "provider:segmentation_id", "null", "mtu", "1500",
		"shared", "true", "router:external", "true")
	sub := o.one("subnet create --network public --subnet-range 203.0.113.0/24 --gateway 203.0.113.1 --no-dhcp " +
		"--allocation-pool start=203.0.113.101,end=203.0.113.250 public-sub")
	o.want(sub, "enable_dhcp", "false", "allocation_pools", `[{"end":"203.0.113.250","start":"203.0.113.101"}]`)
	vlan := o.one("network create --provider-network-type vlan --provider-physical-network office --provider-segment 42 vlan42")
	o.want(vlan, "provider:network_type", "vlan", "provider:physical_network", "office", "provider:segmentation_id", "42", "mtu", "1400")
	o.want(o.one("network create --provider-network-type vlan --provider-physical-network office vlan-any"), "provider:physical_network", "office")

	for command, want := range map[string]string{
		"--provider-network-type flat --provider-physical-network public":                         "Unable to create the flat network. Physical network public is in use.",
		"--provider-network-type vlan --provider-physical-network office --provider-segment 42":   "The VLAN 42 on physical network office is in use.",
		"--provider-network-type vlan --provider-physical-network office --provider-segment 4095": "segmentation_id out of range (1 through 4094)",
		"--provider-network-type vlan --provider-physical-network moon --provider-segment 5":      "physical_network 'moon' unknown for VLAN provider network",
		"--provider-network-type vlan --provider-physical-network storage":                        "Physical network storage requires segmentation_id",
		"--provider-network-type flat": "physical_network required for flat provider network",
		"--provider-network-type flat --provider-physical-network x --transparent-vlan":                    "vlan_transparent",
		"--provider-network-type vlan --provider-physical-network storage --provider-segment 5 --mtu 1501": "maximum is 1500",
	} {
		o.refused(want, "network create %s x", command)
	}

	// A port on a host that does not have the physical network says so, and the rest goes on.
	port := o.one("port create --network public --host node-a on-a")
	o.want(port, "binding_vif_type", "binding_failed", "binding_vif_details", "{\"reason\":\"node node-a: no bridge mapping for physical network public\"}",
		"status", "DOWN")
	o.do("port delete on-a")
	o.do("network delete public vlan42 vlan-any")
	o.do("network delete %s", o.one("network create --provider-network-type flat --provider-physical-network public again").id())
}

func typeRBAC(t *testing.T, c *cloud) {
	admin := c.osc(t)
	admin.do("project create rbac-project")
	admin.do("user create --password secret --project rbac-project rita")
	admin.do("role add --user rita --project rbac-project member")
	rita := c.login(t, "rita", "secret", "rbac-project")
	net := admin.one("network create rbac-net")
	rita.refused("No Network found for rbac-net", "network show rbac-net")
	policy := admin.one("network rbac create --type network --action access_as_shared --target-project rbac-project rbac-net")
	admin.want(policy, "object_type", "network", "object_id", net.id(), "action", "access_as_shared")
	rita.want(rita.one("network show rbac-net"), "shared", "true", "router:external", "false")
	admin.want(admin.one("network show rbac-net"), "shared", "false")
	rita.do("port create --network rbac-net rita-port")
	admin.refused("cannot be removed because other objects depend on it", "network rbac delete %s", policy.id())
	rita.do("port delete rita-port")
	if list := admin.column("ID", "network rbac list --type network --action access_as_shared"); !strings.Contains(list, policy.id()) {
		t.Errorf("policies: %s", list)
	}
	rita.equal("policies that rita sees", rita.column("ID", "network rbac list"), "")
	admin.do("network rbac set --target-project admin %s", policy.id())
	rita.refused("No Network found for rbac-net", "network show rbac-net")
	admin.do("network rbac delete %s", policy.id())
	admin.do("network rbac create --type network --action access_as_external --target-all-projects rbac-net")
	rita.want(rita.one("network show rbac-net"), "router:external", "true", "shared", "false")
	admin.refused("An RBAC policy already exists with those values", "network rbac create --type network --action access_as_external --target-all-projects rbac-net")

	mine := rita.one("security group create rita-group")
	rita.refused("disallowed by policy", "network rbac create --type security_group --action access_as_shared --target-all-projects rita-group")
	lent := rita.one("network rbac create --type security_group --action access_as_shared --target-project %s rita-group", text(admin.one("project show admin")["id"]))
	rita.want(lent, "object_id", mine.id(), "object_type", "security_group")
	rita.want(rita.one("network rbac show %s", lent.id()), "action", "access_as_shared")
	rita.do("security group delete rita-group")
	rita.equal("policies left", rita.column("ID", "network rbac list"), "")
	admin.do("network delete rbac-net")
}

func typeSegments(t *testing.T, c *cloud) {
	o := c.osc(t)
	net := o.one("network create --provider-network-type vlan --provider-physical-network storage --provider-segment 201 seg-net")
	first := o.column("ID", "network segment list --network seg-net")
	o.do("network segment set --name rack1 %s", first)
	second := o.one("network segment create --network seg-net --network-type vlan --physical-network storage --segment 202 --description 'the other' rack2")
	o.want(second, "name", "rack2", "network_id", net.id(), "physical_network", "storage", "segmentation_id", "202", "description", "the other")
	o.want(o.one("network segment show rack1"), "segmentation_id", "201", "name", "rack1")
	o.do("subnet create --network seg-net --network-segment rack1 --subnet-range 10.41.0.0/24 seg-sub1")
	sub := o.one("subnet create --network seg-net --network-segment rack2 --subnet-range 10.42.0.0/24 seg-sub2")
	o.want(sub, "segment_id", second.id())
	o.refused("must either all be associated with segments", "subnet create --network seg-net --subnet-range 10.43.0.0/24 x")
	o.refused("is not connected to any segments on routed provider network", "port create --network seg-net --host node-a x")
	o.want(o.one("port create --network seg-net seg-port"), "fixed_ips", "[]", "ip_allocation", "deferred")
	o.refused("still associated with subnet", "network segment delete rack2")
	o.do("port delete seg-port")
	o.do("subnet delete seg-sub2")
	o.do("network segment delete rack2")
	o.equal("segments left", o.column("Name", "network segment list --network seg-net"), "rack1")

	own := o.one("network segment range create --private --project admin --network-type vlan --physical-network office --minimum 300 --maximum 302 seg-range")
	o.want(own, "name", "seg-range", "default", "false", "shared", "false", "minimum", "300", "maximum", "302", "network_type", "vlan", "physical_network", "office")
	o.refused("overlaps", "network segment range create --private --project admin --network-type vlan --physical-network office --minimum 302 --maximum 303 x")
	used := o.one("network create --provider-network-type vlan --provider-physical-network office seg-used")
	if id := text(used["provider:segmentation_id"]); !strings.HasPrefix(id, "30") {
		t.Errorf("id %s is not of the project's range", id)
	}
	o.refused("referenced by one or more tenant networks", "network segment range delete seg-range")
	o.do("network segment range set --minimum 300 --maximum 310 --name seg-longer seg-range")
	o.want(o.one("network segment range show seg-longer"), "maximum", "310")
	await(t, "the configured ranges beside the project's", func() bool { return len(o.list("network segment range list")) == 4 })
	o.do("network delete seg-used")
	o.do("network segment range delete seg-longer")
	o.do("network delete seg-net")
}
