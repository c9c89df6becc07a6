package api

import (
	"encoding/json"
	"testing"

	"baryon/internal/model"
	"baryon/internal/resource"
)

// round decodes a body, and what it accepts must be shown as JSON; the same holds for the row after an update.
func round[T any](t *testing.T, def *resource.Definition[T], body []byte) {
	enc := def.Encoder(nil, true)
	ins, _, err := def.ParseCreate(body, resource.Creator{ProjectID: "p", AnyOwner: true})
	if err == nil {
		for _, in := range ins {
			if got := enc.Append(nil, &in.Value); !json.Valid(got) {
				t.Errorf("shown as %s", got)
			}
		}
	}
	if in, err := def.ParseUpdate(body); err == nil {
		var row T
		def.Apply(&row, in)
		if got := enc.Append(nil, &row); !json.Valid(got) {
			t.Errorf("shown as %s", got)
		}
	}
}

func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"port":{"network_id":"00000000-0000-4000-8000-000000000001","fixed_ips":[{"ip_address":"10.0.0.1"}],"mac_address":"fa:16:3e:00:00:01"}}`,
		`{"port":{"network_id":"00000000000040008000000000000001","allowed_address_pairs":[{"ip_address":"::/0"}],"extra_dhcp_opts":[{"opt_name":"3","opt_value":null}]}}`,
		`{"ports":[{"network_id":null},{"binding:profile":{"a":[1e999]}}]}`,
		`{"subnet":{"cidr":"10.0.0.0/24","ip_version":4,"gateway_ip":null,"allocation_pools":[{"start":"10.0.0.1","end":"10.0.0.2"}]}}`,
		`{"network":{"name":"\ud800\u0000","mtu":"1e3","dns_domain":"a.b.","tenant_id":"x","project_id":"x"}}`,
		`{"binding":{"host":"h","profile":{"x":{"y":[]}}}}`, `{"agent":{"admin_state_up":"0","description":null}}`,
		`{"port":{"network_id":"00000000000040008000000000000001","security_groups":["00000000000040008000000000000001"]}}`,
		`{"security_group_rule":{"security_group_id":"00000000000040008000000000000001","direction":"egress","ethertype":"ipv6","protocol":58,"port_range_min":"8","remote_ip_prefix":"::/0"}}`,
		`{"security_groups":[{"name":"x","stateful":"0"},{}]}`, `{"address_group":{"addresses":["10.0.0.0/8","::/0"]}}`,
		`{"default_security_group_rule":{"direction":"ingress","remote_group_id":"PARENT","protocol":"icmpv6","used_in_default_sg":1}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		round(t, model.Networks, body)
		round(t, model.Subnets, body)
		round(t, model.Ports, body)
		round(t, model.PortBindings, body)
		round(t, model.Agents, body)
		round(t, model.SecurityGroups, body)
		round(t, model.SecurityGroupRules, body)
		round(t, model.AddressGroups, body)
		round(t, model.DefaultRules, body)
	})
}
