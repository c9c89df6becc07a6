package model

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"baryon/internal/resource"
)

// decodes runs one attribute of a definition through create and encode.  want is what it is shown as, or "error: ..." .
func decodes[T any](t *testing.T, def *resource.Definition[T], fill, attr, value, want string) {
	t.Helper()
	body := `{"` + def.Singular + `":{` + fill + `"` + attr + `":` + value + `}}`
	in, _, err := def.ParseCreate([]byte(body), resource.Creator{ProjectID: "p"})
	got := ""
	var refused *resource.BadRequest
	switch {
	case errors.As(err, &refused):
		got = "error: " + refused.Message
		if refused.Type != "HTTPBadRequest" {
			got = refused.Type + ": " + refused.Message
		}
		got = strings.Replace(got, "error: Invalid input for "+attr+". Reason: ", "error: ", 1)
	case err != nil:
		t.Fatal(err)
	default:
		if !in[0].Has(attr) {
			t.Errorf("%s was sent, yet Has denies it", attr)
		}
		var shown map[string]json.RawMessage
		text := def.Encoder([]string{attr}, true).Append(nil, &in[0].Value)
		if err := json.Unmarshal(text, &shown); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got = string(shown[attr])
	}
	if got != want {
		t.Errorf("%s = %.80s\n got %s\nwant %s", attr, value, got, want)
	}
}

func TestPortAttributes(t *testing.T) {
	const id = "00000000-0000-4000-8000-00000000000a"
	for _, c := range []struct{ attr, value, want string }{
		{"name", `"é\n\u0001\"\\"`, `"é\n\u0001\"\\"`},
		{"name", `null`, "error: 'None' is not a valid string."},
		{"name", `7`, "error: '7' is not a valid string."},
		{"name", `"` + strings.Repeat("é", 255) + `"`, `"` + strings.Repeat("é", 255) + `"`},
		{"name", `"` + strings.Repeat("x", 256) + `"`, "error: '" + strings.Repeat("x", 255) + "...' exceeds maximum length of 255."},
		{"description", `["x"]`, `error: '["x"]' is not a valid string.`},
		{"admin_state_up", `"False"`, "false"},
		{"admin_state_up", `1`, "true"},
		{"admin_state_up", `"0"`, "false"},
		{"admin_state_up", `2`, "error: '2' cannot be converted to boolean."},
		{"admin_state_up", `null`, "error: 'None' cannot be converted to boolean."},
		{"port_security_enabled", `true`, "true"},
		{"mac_address", `"FA-16-3E-00-00-01"`, `"fa:16:3e:00:00:01"`},
		{"mac_address", `"01:00:5e:00:00:01"`, "error: '01:00:5e:00:00:01' is not a valid MAC address."},
		{"mac_address", `"00:00:00:00:00:00"`, "error: '00:00:00:00:00:00' is not a valid MAC address."},
		{"mac_address", `"fa:16:3e:00:00"`, "error: 'fa:16:3e:00:00' is not a valid MAC address."},
		{"mac_address", `true`, "error: 'True' is not a valid MAC address."},
		{"fixed_ips", `[]`, `[]`},
		{"fixed_ips", `null`, "error: Invalid data format for fixed IP: 'None'."},
		{"fixed_ips", `[{}]`, "error: Invalid data format for fixed IP: '{}'."},
		{"fixed_ips", `["10.0.0.1"]`, "error: Invalid data format for fixed IP: '10.0.0.1'."},
		{"fixed_ips", `[{"ip":"10.0.0.1"}]`, `error: Invalid data format for fixed IP: '{"ip":"10.0.0.1"}'.`},
		{"fixed_ips", `[{"ip_address":"10.0.0.256"}]`, "error: '10.0.0.256' is not a valid IP address."},
		{"fixed_ips", `[{"ip_address":"fe80::1%eth0"}]`, "error: 'fe80::1%eth0' is not a valid IP address."},
		{"fixed_ips", `[{"ip_address":"::ffff:10.0.0.1"}]`, "error: '::ffff:10.0.0.1' is not a valid IP address."},
		{"fixed_ips", `[{"subnet_id":"x"}]`, "error: 'x' is not a valid UUID."},
		{"fixed_ips", `[{"subnet_id":"` + id + `"},{"subnet_id":"` + id + `"}]`, `[{"subnet_id":"` + id + `","ip_address":null},{"subnet_id":"` + id + `","ip_address":null}]`},
		{"fixed_ips", `[{"ip_address":"FD00::0A","subnet_id":"0000000000004000800000000000000A"}]`, `[{"subnet_id":"` + id + `","ip_address":"fd00::a"}]`},
		{"fixed_ips", `[{"ip_address":"10.0.0.1"},{"ip_address":"10.0.0.1"}]`, `error: Duplicate fixed IP '{"ip_address":"10.0.0.1"}'.`},
		{"network_id", `"x"`, "error: 'x' is not a valid UUID."},
		{"network_id", `"00000000-0000-4000-8000-00000000000"`, "error: '00000000-0000-4000-8000-00000000000' is not a valid UUID."},
		{"network_id", `"0000000000-00-4000-8000-00000000000a"`, "error: '0000000000-00-4000-8000-00000000000a' is not a valid UUID."},
		{"allowed_address_pairs", `null`, `[]`},
		{"allowed_address_pairs", `[{"ip_address":"10.0.0.7"}]`, `[{"ip_address":"10.0.0.7","mac_address":"00:00:00:00:00:00"}]`},
		{"allowed_address_pairs", `[{"ip_address":"10.0.0.7/8","mac_address":"FA:16:3E:00:00:01"}]`, `[{"ip_address":"10.0.0.0/8","mac_address":"fa:16:3e:00:00:01"}]`},
		{"allowed_address_pairs", `[{"mac_address":"fa:16:3e:00:00:01"}]`, "AllowedAddressPairsMissingIP: AllowedAddressPair must contain ip_address."},
		{"allowed_address_pairs", `[{"ip_address":"ten"}]`, "error: 'ten' is not a valid IP address."},
		{"allowed_address_pairs", `[{"ip_address":"10.0.0.1","x":1}]`, `error: Invalid data format for allowed address pair: '{"ip_address":"10.0.0.1","x":1}'.`},
		{"extra_dhcp_opts", `null`, `[]`},
		{"extra_dhcp_opts", `[{"opt_name":"bootfile-name","opt_value":"pxe.0","ip_version":"6"}]`, `[{"opt_name":"bootfile-name","opt_value":"pxe.0","ip_version":6}]`},
		{"extra_dhcp_opts", `[{"opt_name":"a","opt_value":" "}]`, "error: ' ' Blank strings are not permitted."},
		{"extra_dhcp_opts", `[{"opt_name":"a"}]`, `error: Invalid data format for extra DHCP option: '{"opt_name":"a"}'.`},
		{"extra_dhcp_opts", `[{"opt_name":"a","opt_value":"x\ny"}]`, "error: control characters are not permitted."},
		{"extra_dhcp_opts", `[{"opt_name":"a","opt_value":"x","ip_version":5}]`, "error: '5' is not in [4, 6]."},
		{"extra_dhcp_opts", `[{"opt_name":"a","opt_value":"x"},{"opt_name":"a","opt_value":"y"}]`, `error: Duplicate extra DHCP option '{"opt_name":"a","opt_value":"y"}'.`},
		{"extra_dhcp_opts", `{}`, "error: Invalid data format for extra DHCP option: '{}'."},
		{"binding:vnic_type", `"direct"`, `"direct"`},
		{"binding:vnic_type", `"remote-managed"`, `"remote-managed"`},
		{"binding:vnic_type", `"virtio"`, "error: 'virtio' is not in ['normal', 'direct', 'macvtap', 'baremetal', 'direct-physical', 'virtio-forwarder', " +
			"'smart-nic', 'vdpa', 'accelerator-direct', 'accelerator-direct-physical', 'remote-managed']."},
		{"binding:profile", `null`, `{}`},
		{"binding:profile", `{"b":1,"a":[true]}`, `{"a":[true],"b":1}`},
		{"binding:profile", `"x"`, "error: 'x' is not a dictionary."},
		{"binding:profile", `{"a":"` + strings.Repeat("x", 4090) + `"}`, "error: 4098 bytes exceed the maximum length of 4095."},
		{"binding:host_id", `null`, `""`},
		{"dns_name", `"Web-1"`, `"web-1"`},
		{"dns_name", `"a.example.org."`, `"a.example.org."`},
		{"dns_name", `"-a"`, "error: '-a' not a valid PQDN or FQDN. Reason: Name '-a' must be 1-63 characters long, each of which can only be alphanumeric or a hyphen."},
		{"dns_name", `"a..b"`, "error: 'a..b' not a valid PQDN or FQDN. Reason: Name '' must be 1-63 characters long, each of which can only be alphanumeric or a hyphen."},
		{"dns_name", `"a.12"`, "error: 'a.12' not a valid PQDN or FQDN. Reason: TLD '12' must not be all numeric."},
		{"dns_domain", `"example.org"`, "error: 'example.org' is not a FQDN."},
		{"dns_domain", `"Example.org."`, `"example.org."`},
	} {
		fill := ""
		if c.attr != "network_id" {
			fill = `"network_id":"` + id + `",`
		}
		decodes(t, Ports, fill, c.attr, c.value, c.want)
	}
}

func TestSubnetAttributes(t *testing.T) {
	const fill = `"network_id":"00000000-0000-4000-8000-00000000000a",`
	for _, c := range []struct{ attr, value, want string }{
		{"cidr", `"10.0.0.5/24"`, `"10.0.0.0/24"`},
		{"cidr", `"FD00::5/64"`, `"fd00::/64"`},
		{"cidr", `"10.0.0.0"`, "error: '10.0.0.0' isn't a recognized IP subnet cidr, '10.0.0.0/32' is recommended."},
		{"cidr", `"10.0.0.0/33"`, "error: '10.0.0.0/33' is not a valid IP subnet."},
		{"cidr", `"::ffff:10.0.0.0/120"`, "error: '::ffff:10.0.0.0/120' is not a valid IP subnet."},
		{"cidr", `null`, "error: 'None' is not a valid IP subnet."},
		{"gateway_ip", `null`, `null`},
		{"gateway_ip", `"10.0.0.1"`, `"10.0.0.1"`},
		{"gateway_ip", `""`, "error: '' is not a valid IP address."},
		{"ip_version", `"6"`, `6`},
		{"ip_version", `5`, "error: '5' is not in [4, 6]."},
		{"allocation_pools", `[]`, `[]`},
		{"allocation_pools", `null`, "error: Invalid data format for IP pool: 'None'."},
		{"allocation_pools", `[{"start":"10.0.0.2","end":"10.0.0.9"}]`, `[{"start":"10.0.0.2","end":"10.0.0.9"}]`},
		{"allocation_pools", `[{"start":"10.0.0.2"}]`, `error: Invalid data format for IP pool: '{"start":"10.0.0.2"}'.`},
		{"allocation_pools", `[{"start":"x","end":"10.0.0.9"}]`, "error: 'x' is not a valid IP address."},
		{"dns_nameservers", `null`, `[]`},
		{"dns_nameservers", `["8.8.8.8","2001:4860::8888"]`, `["8.8.8.8","2001:4860::8888"]`},
		{"dns_nameservers", `["8.8.8.8","8.8.8.8"]`, "error: Duplicate nameserver '8.8.8.8'."},
		{"dns_nameservers", `["dns.example"]`, "error: 'dns.example' is not a valid nameserver. 'dns.example' is not a valid IP address."},
		{"dns_nameservers", `"8.8.8.8"`, "error: Invalid data format for nameserver: '8.8.8.8'."},
		{"host_routes", `[{"destination":"10.1.0.1/16","nexthop":"10.0.0.9"}]`, `[{"destination":"10.1.0.0/16","nexthop":"10.0.0.9"}]`},
		{"host_routes", `[{"destination":"10.1.0.0/16","nexthop":"10.0.0.9"},{"nexthop":"10.0.0.9","destination":"10.1.0.1/16"}]`,
			`error: Duplicate hostroute '{"destination":"10.1.0.1/16","nexthop":"10.0.0.9"}'.`},
		{"host_routes", `[{"destination":"10.1.0.0/16"}]`, `error: Invalid data format for hostroute: '{"destination":"10.1.0.0/16"}'.`},
		{"ipv6_ra_mode", `"slaac"`, `"slaac"`},
		{"ipv6_ra_mode", `null`, "error: 'None' is not in ['dhcpv6-stateful', 'dhcpv6-stateless', 'slaac']."},
		{"dns_publish_fixed_ip", `"true"`, `true`},
	} {
		body := fill
		if c.attr != "ip_version" {
			body += `"ip_version":4,`
		}
		decodes(t, Subnets, body, c.attr, c.value, c.want)
	}
}

func TestNetworkAttributes(t *testing.T) {
	for _, c := range []struct{ attr, value, want string }{
		{"mtu", `"1400"`, `1400`},
		{"mtu", `-1`, "error: '-1' should be non-negative."},
		{"mtu", `1.5`, "error: '1.5' is not an integer."},
		{"mtu", `9e99`, "error: '9e99' is not an integer."},
		{"mtu", `99999999999999999999`, "error: '99999999999999999999' is too large - must be no larger than '2147483647'."},
		{"provider:segmentation_id", `null`, `null`},
		{"provider:segmentation_id", `"77"`, `77`},
		{"provider:segmentation_id", `4294967296`, "error: '4294967296' is too large - must be no larger than '4294967295'."},
		{"provider:physical_network", `null`, `null`},
		{"provider:network_type", `"gre"`, `"gre"`},
		{"shared", `"yes"`, "error: 'yes' cannot be converted to boolean."},
		{"router:external", `"1"`, `true`},
	} {
		decodes(t, Networks, "", c.attr, c.value, c.want)
	}
}

func TestAnUpdateTouchesOnlyWhatWasSent(t *testing.T) {
	in, err := Ports.ParseUpdate([]byte(`{"port":{"name":"new","mac_address":null,"extra_dhcp_opts":[{"opt_name":"a","opt_value":null}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if !in.Has("mac_address") || !in.Value.MAC.IsZero() || !in.Value.ExtraDHCPOpts[0].Remove || in.Has("admin_state_up") {
		t.Errorf("input %+v, given %v", in.Value, in.Given())
	}
	old := Port{Name: "old", DeviceID: "d", AdminStateUp: true, MAC: MAC{2, 0, 0, 0, 0, 1}}
	row := old
	Ports.Apply(&row, in)
	if row.Name != "new" || row.DeviceID != "d" || !row.AdminStateUp || !row.MAC.IsZero() {
		t.Errorf("applied %+v", row)
	}
}

func TestLongListsAreRefused(t *testing.T) {
	list := "[" + strings.Repeat(`{"subnet_id":"00000000-0000-4000-8000-00000000000a"},`, maxList) + `{}]`
	_, err := Ports.ParseUpdate([]byte(`{"port":{"fixed_ips":` + list + `}}`))
	if err == nil || len(err.Error()) > 400 {
		t.Errorf("err = %v", err)
	}
}
