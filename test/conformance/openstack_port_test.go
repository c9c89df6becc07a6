package conformance_test

import (
	"fmt"
	"strings"
	"testing"
)

func typePorts(t *testing.T, c *cloud) {
	o := c.osc(t)
	net := o.one("network create --dns-domain p.example. port-net").id()
	sub := o.one("subnet create --network port-net --subnet-range 10.10.0.0/24 port-sub").id()
	plain := o.one("port create --network port-net port-plain")
	o.want(plain, "network_id", net, "admin_state_up", "true", "status", "DOWN", "device_id", "", "device_owner", "", "binding_vif_type", "unbound",
		"binding_vnic_type", "normal", "binding_host_id", "", "port_security_enabled", "true", "allowed_address_pairs", "[]", "extra_dhcp_opts", "[]")
	if mac := text(plain["mac_address"]); !strings.HasPrefix(mac, "fa:16:3e:") {
		t.Errorf("mac_address %s", mac)
	}
	full := o.one("port create --network port-net --fixed-ip subnet=port-sub,ip-address=10.10.0.50 --fixed-ip ip-address=10.10.0.51 " +
		"--mac-address fa:16:3e:aa:bb:cc --device 0c0e0d6a-0000-4000-8000-000000000001 --device-owner compute:nova --dns-name web " +
		"--allowed-address ip-address=10.10.0.200 --allowed-address ip-address=10.11.0.0/24,mac-address=fa:16:3e:00:00:99 " +
		"--extra-dhcp-option name=mtu,value=1300 --extra-dhcp-option name=domain-name,value=x.example,ip-version=6 " +
		"--description 'my port' --tag p --disable port-full")
	o.want(full, "fixed_ips", fmt.Sprintf(`[{"ip_address":"10.10.0.50","subnet_id":"%s"},{"ip_address":"10.10.0.51","subnet_id":"%s"}]`, sub, sub),
		"mac_address", "fa:16:3e:aa:bb:cc", "device_id", "0c0e0d6a-0000-4000-8000-000000000001", "device_owner", "compute:nova", "dns_name", "web",
		"allowed_address_pairs", `[{"ip_address":"10.10.0.200","mac_address":"fa:16:3e:aa:bb:cc"},{"ip_address":"10.11.0.0/24","mac_address":"fa:16:3e:00:00:99"}]`,
		"extra_dhcp_opts", `[{"ip_version":4,"opt_name":"mtu","opt_value":"1300"},{"ip_version":6,"opt_name":"domain-name","opt_value":"x.example"}]`,
		"description", "my port", "tags", `["p"]`, "admin_state_up", "false")
	if s := text(full["dns_assignment"]); !strings.Contains(s, `"fqdn":"web.cloud.example."`) {
		t.Errorf("dns_assignment %s", s)
	}
	o.want(o.one("port create --network port-net --disable-port-security --no-fixed-ip port-open"), "port_security_enabled", "false", "fixed_ips", "[]")

	o.do("port set --name port-new --enable --device vm0 --device-owner compute:b --fixed-ip subnet=port-sub,ip-address=10.10.0.52 " +
		"--allowed-address ip-address=10.10.0.201 --extra-dhcp-option name=ntp-server,value=192.0.2.1 --description other --tag q --dns-name db port-full")
	changed := o.one("port show port-new")
	o.want(changed, "admin_state_up", "true", "device_id", "vm0", "device_owner", "compute:b", "description", "other", "tags", `["p","q"]`, "dns_name", "db")
	for _, address := range []string{"10.10.0.50", "10.10.0.51", "10.10.0.52"} {
		if s := text(changed["fixed_ips"]); !strings.Contains(s, address) {
			t.Errorf("fixed_ips %s lack %s", s, address)
		}
	}
	if s := text(changed["extra_dhcp_opts"]); !strings.Contains(s, "ntp-server") {
		t.Errorf("extra_dhcp_opts %s", s)
	}
	o.do("port unset --fixed-ip subnet=port-sub,ip-address=10.10.0.50 --allowed-address ip-address=10.10.0.200,mac-address=fa:16:3e:aa:bb:cc --tag p port-new")
	o.want(o.one("port show port-new"), "tags", `["q"]`,
		"fixed_ips", fmt.Sprintf(`[{"ip_address":"10.10.0.51","subnet_id":"%s"},{"ip_address":"10.10.0.52","subnet_id":"%s"}]`, sub, sub))
	o.do("port set --no-fixed-ip --fixed-ip subnet=port-sub,ip-address=10.10.0.60 --no-allowed-address --mac-address fa:16:3e:aa:bb:cd port-new")
	o.want(o.one("port show port-new"), "mac_address", "fa:16:3e:aa:bb:cd", "allowed_address_pairs", "[]",
		"fixed_ips", fmt.Sprintf(`[{"ip_address":"10.10.0.60","subnet_id":"%s"}]`, sub))
	o.do("port set --no-security-group --disable-port-security port-new")
	o.do("port set --enable-port-security port-new")
	o.do("port set --device-owner compute:x --device vm1 port-plain")

	typePortLists(o, net)
	o.refused("No Network found for nowhere", "port create --network nowhere x")
	o.refused("10.99.0.1", "port create --network port-net --fixed-ip ip-address=10.99.0.1 x")
	o.refused("10.10.0.60", "port create --network port-net --fixed-ip ip-address=10.10.0.60 x")
	o.refused("ConflictException: 409", "port create --network port-net --mac-address fa:16:3e:aa:bb:cd x")
	o.refused("'zz:16' is not a valid MAC address", "port create --network port-net --mac-address zz:16 x")
	o.refused("Invalid input for allowed_address_pairs", "port create --network port-net --allowed-address ip-address=ten x")
	o.refused("is not in ['normal',", "port create --network port-net --extra-property type=str,name=binding:vnic_type,value=odd x")
	o.refused("invalid choice: 'odd'", "port create --network port-net --vnic-type odd x")
	o.refused("'a b'", "port create --network port-net --dns-name 'a b' x")
	o.refused("No Port found for nowhere", "port show nowhere")
	o.refused("There are one or more ports still in use on the network", "network delete port-net")
	o.do("port delete port-new port-plain port-open")
	o.do("network delete port-net")
}

// typePortLists lists the ports of typePorts by every filter.
func typePortLists(o *osc, net string) {
	o.t.Helper()
	mac := text(o.one("port show port-plain")["mac_address"])
	for filter, want := range map[string]string{
		"--network port-net":                                  "port-new port-open port-plain",
		"--network port-net --device-owner compute:x":         "port-plain",
		"--device-id vm1":                                     "port-plain",
		"--network port-net --mac-address " + mac:             "port-plain",
		"--fixed-ip ip-address=10.10.0.60":                    "port-new",
		"--network port-net --fixed-ip subnet=port-sub":       "port-new port-plain",
		"--network port-net --fixed-ip ip-substring=.10.0.60": "port-new",
		"--network port-net --tags q":                         "port-new",
		"--network port-net --name port-open --project admin": "port-open",
		"--network port-net --project service":                "",
	} {
		o.equal("port list "+filter, o.column("Name", "port list --sort-column Name %s", filter), want)
	}
	long := o.list("port list --long --network port-net --name port-plain")
	if len(long) != 1 {
		o.t.Fatalf("port list --long: %v", long)
	}
	o.want(long[0], "MAC Address", mac, "Status", "DOWN", "Device Owner", "compute:x", "Tags", "[]")
	o.want(o.list("port list --network port-net --device-owner network:dhcp")[0], "Status", "DOWN")
	o.equal("sorted by the client", o.column("Name", "port list --network port-net --any-tags q,r --sort-column Name --sort-descending"), "port-new")
	a := o.one("ip availability show port-net")
	o.want(a, "network_id", net, "total_ips", "253", "used_ips", "3") // port-new, port-plain, the DHCP service
	if got := o.list("ip availability list --ip-version 4 --project admin"); len(got) == 0 {
		o.t.Error("ip availability list is empty")
	}
}

func typePortBindings(t *testing.T, c *cloud) {
	o := c.osc(t)
	o.do("network create bind-net")
	o.do("subnet create --network bind-net --subnet-range 10.20.0.0/24 bind-sub")
	p := o.one("port create --network bind-net --host node-a --binding-profile a=1 --binding-profile b=two --device-owner compute:nova bind-port")
	o.want(p, "binding_host_id", "node-a", "binding_vif_type", "ovs", "binding_vnic_type", "normal", "binding_profile", `{"a":"1","b":"two"}`)
	details, _ := p["binding_vif_details"].(map[string]any)
	o.want(details, "bridge_name", "br-int", "datapath_type", "netdev", "port_filter", "true", "ovs_hybrid_plug", "false")
	o.do("port set --host node-b --binding-profile c=3 bind-port")
	o.want(o.one("port show bind-port"), "binding_host_id", "node-b", "binding_vif_type", "ovs", "binding_profile", `{"a":"1","b":"two","c":"3"}`)
	o.do("port unset --binding-profile a bind-port")
	o.want(o.one("port show bind-port"), "binding_profile", `{"b":"two","c":"3"}`)
	o.do("port set --no-binding-profile bind-port")
	o.want(o.one("port show bind-port"), "binding_profile", "{}")
	o.do("port set --host node-x bind-port")
	o.want(o.one("port show bind-port"), "binding_vif_type", "binding_failed")
	o.do("port unset --host bind-port")
	o.want(o.one("port show bind-port"), "binding_host_id", "", "binding_vif_type", "unbound")
	for _, vnic := range []string{"direct", "macvtap", "direct-physical", "baremetal", "virtio-forwarder", "vdpa", "remote-managed"} {
		o.want(o.one("port create --network bind-net --vnic-type %s --host node-a bind-%s", vnic, vnic), "binding_vnic_type", vnic, "binding_vif_type", "binding_failed")
		o.do("port delete bind-%s", vnic)
	}
	o.do("port set --host node-a bind-port")
	o.refused("port is already bound", "port set --vnic-type direct bind-port")
	o.refused("Invalid input for binding:profile", "port create --network bind-net --binding-profile big=%s x", strings.Repeat("x", 5000))
	o.do("port delete bind-port")
	o.do("network delete bind-net")
}
