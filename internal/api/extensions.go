package api

import (
	"net/http"
	"strings"

	"baryon/internal/neutron"
	"baryon/internal/resource"
)

// extension is one entry of /v2.0/extensions.  Alias, name and date are the published ones of the Networking API: clients and test
// suites go by them.
type extension struct {
	alias, name, description, updated string
}

// extensions are what works, by alias.  A client that finds an alias here may rely on all of the extension.
var extensions = []extension{
	{"address-group", "Address group", "Named sets of addresses that security group rules refer to.", "2020-07-15T10:00:00-00:00"},
	{"agent", "agent", "Agents of the nodes: list, show, disable, delete.", "2013-02-03T10:00:00-00:00"},
	{"allowed-address-pairs", "Allowed Address Pairs", "Addresses that a port may use besides its own.", "2013-07-23T10:00:00-00:00"},
	{"availability_zone", "Availability Zone", "Zones that agents are in.", "2015-01-01T10:00:00-00:00"},
	{"availability_zone_filter", "Availability Zone Filter Extension", "Zones can be filtered.", "2018-06-22T10:00:00-00:00"},
	{"binding", "Port Binding", "The host that carries a port and how it is plugged there.", "2014-02-03T10:00:00-00:00"},
	{"binding-extended", "Port Bindings Extended", "Several bindings of a port, one of them active.", "2017-07-17T10:00:00-00:00"},
	{"dhcp_agent_scheduler", "DHCP Agent Scheduler", "Which DHCP agents serve a network.", "2013-02-07T10:00:00-00:00"},
	{"dns-domain-ports", "dns_domain for ports", "A port's own DNS domain.", "2017-06-25T18:00:00-00:00"},
	{"dns-integration", "DNS Integration", "DNS names of ports and networks.", "2015-08-15T18:00:00-00:00"},
	{"empty-string-filtering", "Empty String Filtering Extension", "Lists can be filtered by the empty text.", "2018-05-01T10:00:00-00:00"},
	{"external-net", "Neutron external network", "The attribute router:external of networks.", "2013-01-14T10:00:00-00:00"},
	{"extra_dhcp_opt", "Neutron Extra DHCP options", "DHCP options of a port.", "2013-03-17T12:00:00-00:00"},
	{"filter-validation", "Filter parameters validation", "Unknown filters are refused.", "2018-07-04T10:00:00-00:00"},
	{"ip-substring-filtering", "IP address substring filtering", "Ports can be listed by a part of an address.", "2017-11-28T09:00:00-00:00"},
	{"ip_allocation", "IP allocation", "How a port came to its addresses.", "2016-06-10T23:00:00-00:00"},
	{"l2_adjacency", "L2 Adjacency", "Whether all of a network is one broadcast domain.", "2016-04-12T16:00:00-00:00"},
	{"multi-provider", "Multi Provider Network", "Networks that appear on the wire in several ways.", "2013-06-27T10:00:00-00:00"},
	{"net-mtu", "Network MTU", "The MTU of a network.", "2015-03-25T10:00:00-00:00"},
	{"net-mtu-writable", "Network MTU (writable)", "The MTU of a network can be set.", "2017-07-12T00:00:00-00:00"},
	{"network-ip-availability", "Network IP Availability", "How many addresses of networks and subnets are in use.", "2015-09-24T00:00:00-00:00"},
	{"network-segment-range", "Neutron Network Segment Range", "The ids from which networks get theirs, for all or for a project.", "2018-11-29T00:00:00-00:00"},
	{"network_availability_zone", "Network Availability Zone", "Zones whose DHCP agents serve a network.", "2015-01-01T10:00:00-00:00"},
	{"pagination", "Pagination support", "Lists can be read page by page.", "2016-06-12T00:00:00-00:00"},
	{"port-mac-address-regenerate", "Neutron Port MAC address regenerate", "mac_address null on update makes a new one.", "2018-05-03T10:00:00-00:00"},
	{"port-security", "Port Security", "Filtering of a port's traffic can be turned off.", "2012-07-23T10:00:00-00:00"},
	// The alias that Neutron serves; its reference also knows security-groups-port-filtering.
	{"port-security-groups-filtering", "Port filtering on security groups", "Ports can be listed by security group.", "2018-01-09T09:00:00-00:00"},
	{"project-id", "project_id field enabled", "project_id beside tenant_id.", "2016-09-09T09:09:09-09:09"},
	{"provider", "Provider Network", "How a network appears on the wire.", "2012-09-07T10:00:00-00:00"},
	{"qos", "Quality of Service", "Policies about the traffic of ports and networks: bandwidth limits and DSCP marks.", "2015-06-08T10:00:00-00:00"},
	{"qos-bw-limit-direction", "Direction for QoS bandwidth limit rule", "Limits of what a guest sends and of what it receives.", "2017-04-10T10:00:00-00:00"},
	{"qos-default", "QoS default policy", "A project's default policy for its new networks.", "2017-04-06T10:00:00-00:00"},
	{"qos-port-network-policy", "Ports QoS and network QoS policy ID", "The policy of a port's network, shown with the port.", "2021-03-17T10:00:00-00:00"},
	{"qos-rule-type-details", "Details of QoS rule types", "The parameters of a type of rule.", "2017-06-22T10:00:00-00:00"},
	{"qos-rules-alias", "Ability to manipulate QoS rules without parent policy ID", "Rules by their own id.", "2018-10-07T10:00:00-00:00"},
	{"quota-check-limit", "Quota engine limit check", "A quota below what is in use can be refused.", "2021-09-08T16:00:00-00:00"},
	{"quota_details", "Quota details management support", "What of its quotas a project uses.", "2017-02-10T10:00:00-00:00"},
	{"quotas", "Quota management support", "Limits of projects.", "2012-07-29T10:00:00-00:00"},
	{"rbac-address-group", "Add address_group type to RBAC", "Address groups can be shared.", "2021-04-05T12:00:00-00:00"},
	{"rbac-policies", "RBAC Policies", "Objects can be shared with single projects.", "2015-06-17T12:15:12-00:00"},
	{"rbac-security-groups", "Add security_group type to network RBAC", "Security groups can be shared.", "2020-01-14T12:00:00-00:00"},
	{"revision-if-match", "If-Match constraints based on revision_number", "Changes on condition of a revision.", "2016-12-11T00:00:00-00:00"},
	{"security-group", "security-group", "Security groups, their rules, and the groups of ports.", "2012-10-05T10:00:00-00:00"},
	{"security-groups-default-rules", "Default rules for security groups", "The rules that new security groups start with.", "2022-12-19T10:00:00-00:00"},
	{"security-groups-normalized-cidr", "Normalized CIDR field for security group rules", "A rule's prefix without host bits.", "2020-07-28T10:00:00-00:00"},
	{"security-groups-port-filtering", "Port filtering on security groups", "Ports can be listed by security group.", "2018-01-09T09:00:00-00:00"},
	{"security-groups-remote-address-group", "Remote address group id field for security group rules",
		"Rules can refer to address groups.", "2020-08-25T10:00:00-00:00"},
	{"security-groups-rules-belongs-to-default-sg", "Security group rules belongs to default SG",
		"Whether a rule is one of a default group.", "2023-02-14T10:00:00-00:00"},
	{"security-groups-shared-filtering", "Security group filtering on the shared field", "Groups can be listed by whether they are shared.", "2021-10-05T09:00:00-00:00"},
	{"segment", "Segment", "Segments of networks as resources, and subnets tied to them.", "2016-02-24T17:00:00-00:00"},
	{"sorting", "Sorting support", "Lists can be sorted.", "2016-06-12T00:00:00-00:00"},
	{"standard-attr-description", "standard-attr-description", "Objects have a description.", "2016-02-10T10:00:00-00:00"},
	{"standard-attr-revisions", "Resource revision numbers", "Objects have a revision number.", "2016-04-11T10:00:00-00:00"},
	{"standard-attr-tag", "Tag support for resources with standard attribute: port, subnet, network, security_group, security_group_rule", "Objects have tags.", "2017-01-01T00:00:00-00:00"},
	{"standard-attr-timestamp", "Resource timestamps", "Objects have times of creation and change.", "2016-09-12T10:00:00-00:00"},
	{"stateful-security-group", "Stateful security group", "Groups with and without connection tracking.", "2019-11-26T09:00:00-00:00"},
	{"subnet-dns-publish-fixed-ip", "Subnet DNS Publish Fixed IP", "A subnet's attribute dns_publish_fixed_ip.", "2019-09-12T10:00:00-00:00"},
	{"subnet-external-network", "Subnet belongs to an external network", "Subnets say whether their network is external.", "2023-03-08T10:00:00-00:00"},
	{"subnet-segmentid-writable", "Subnet SegmentID (writable)", "A subnet of a network with one segment can be tied to it later.", "2019-03-25T16:00:00-00:00"},
	{"trunk", "Trunk Extension", "Ports that carry other ports as VLANs.", "2016-01-01T10:00:00-00:00"},
	{"trunk-details", "Trunk port details", "What a trunk carries, shown with its parent port.", "2016-01-01T10:00:00-00:00"},
}

// extensionRoutes are /extensions and /extensions/{alias}.
func (s *server) extensionRoutes() []route {
	return []route{
		on("/extensions", map[string]handler{http.MethodGet: s.listExtensions}),
		on("/extensions/{}", map[string]handler{http.MethodGet: s.showExtension}),
	}
}

func (s *server) listExtensions(q *request) error {
	return q.build(http.StatusOK, func(b []byte) []byte {
		return append(resource.AppendList(append(b, `{"extensions":`...), extensions, appendExtension), '}')
	})
}

func (s *server) showExtension(q *request) error {
	alias := strings.ToLower(q.args[0])
	for _, e := range extensions {
		if e.alias == alias {
			return sendOne(q, http.StatusOK, "extension", appendExtension, e)
		}
	}
	return neutron.NotFound("ExtensionNotFound", "Extension with alias %s does not exist", resource.Show(q.args[0]))
}

func appendExtension(b []byte, e extension) []byte {
	b = resource.AppendString(append(b, `{"alias":`...), e.alias)
	b = resource.AppendString(append(b, `,"name":`...), e.name)
	b = resource.AppendString(append(b, `,"description":`...), e.description)
	b = resource.AppendString(append(b, `,"updated":`...), e.updated)
	return append(b, `,"links":[]}`...)
}
