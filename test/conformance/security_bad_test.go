package conformance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
)

// call sends a body as alice and returns the status with type and message of the error.
func (w *world) call(method, path, body string) (code int, typ, message string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, method, w.url+"/v2.0/"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("X-Project-Id", "alice")
	req.Header.Set("X-Roles", "member,reader")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var answer struct {
		NeutronError struct{ Type, Message string }
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			w.t.Fatalf("%s %s: answer %q: %v", method, path, text, err)
		}
	}
	return resp.StatusCode, answer.NeutronError.Type, answer.NeutronError.Message
}

// TestBadSecurityInput: Neutron's errors, and nothing half-applied.
func TestBadSecurityInput(t *testing.T) {
	w := newWorld(t)
	alice := w.as("alice", "member,reader")
	g := must[*groups.SecGroup](t)(groups.Create(w.ctx, alice, groups.CreateOpts{Name: "web"}).Extract()).ID
	theirs := must[*groups.SecGroup](t)(groups.Create(w.ctx, w.as("bob", "member,reader"), groups.CreateOpts{Name: "bob"}).Extract()).ID
	n := w.network("n").ID
	yes := true
	must[*networks.Network](t)(networks.Update(w.ctx, w.ServiceClient, n, networks.UpdateOpts{Shared: &yes}).Extract())
	p := must[*ports.Port](t)(ports.Create(w.ctx, alice, ports.CreateOpts{NetworkID: n, SecurityGroups: &[]string{g}}).Extract()).ID
	rule := func(rest string) string {
		return fmt.Sprintf(`{"security_group_rule": {"security_group_id": "%s", "direction": "ingress"%s}}`, g, rest)
	}
	port := func(rest string) string { return fmt.Sprintf(`{"port": {"network_id": "%s", %s}}`, n, rest) }
	const unknown = "11111111-2222-4333-8444-555555555555"
	const rulesPath, groupsPath, setsPath = "security-group-rules", "security-groups", "address-groups"
	for name, tc := range map[string]struct {
		method, path, body string
		code               int
		typ, part          string
	}{
		"unknown protocol":     {"POST", rulesPath, rule(`, "protocol": "pizza"`), 400, "SecurityGroupRuleInvalidProtocol", "Security group rule protocol pizza not supported. Only protocol values ['ah', "},
		"protocol 256":         {"POST", rulesPath, rule(`, "protocol": 256`), 400, "SecurityGroupRuleInvalidProtocol", "256"},
		"protocol -1":          {"POST", rulesPath, rule(`, "protocol": "-1"`), 400, "SecurityGroupRuleInvalidProtocol", "integer representations [0 to 255]"},
		"protocol list":        {"POST", rulesPath, rule(`, "protocol": ["tcp"]`), 400, "SecurityGroupRuleInvalidProtocol", ""},
		"empty protocol":       {"POST", rulesPath, rule(`, "protocol": ""`), 400, "SecurityGroupRuleInvalidProtocol", ""},
		"reversed ports":       {"POST", rulesPath, rule(`, "protocol": "tcp", "port_range_min": 9, "port_range_max": 8`), 400, "SecurityGroupInvalidPortRange", "must be <="},
		"port 65536":           {"POST", rulesPath, rule(`, "protocol": "tcp", "port_range_min": 1, "port_range_max": 65536`), 400, "SecurityGroupInvalidPortValue", "Invalid value for port 65536"},
		"port text":            {"POST", rulesPath, rule(`, "protocol": "tcp", "port_range_min": "http"`), 400, "SecurityGroupInvalidPortValue", "Invalid value for port http"},
		"port -1":              {"POST", rulesPath, rule(`, "protocol": "tcp", "port_range_min": -1`), 400, "SecurityGroupInvalidPortValue", "-1"},
		"ICMP code alone":      {"POST", rulesPath, rule(`, "protocol": "icmp", "port_range_max": 3`), 400, "SecurityGroupMissingIcmpType", "ICMP code"},
		"prefix and group":     {"POST", rulesPath, rule(`, "remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "` + g + `"`), 400, "SecurityGroupMultipleRemoteEntites", ""},
		"CIDR of other family": {"POST", rulesPath, rule(`, "remote_ip_prefix": "fd00::/8"`), 400, "SecurityGroupRuleParameterConflict", "Conflicting value ethertype IPv4 for CIDR fd00::/8"},
		"no CIDR":              {"POST", rulesPath, rule(`, "remote_ip_prefix": "10.0.0.0/33"`), 400, "InvalidCIDR", "Invalid CIDR 10.0.0.0/33 given as IP prefix."},
		"CIDR number":          {"POST", rulesPath, rule(`, "remote_ip_prefix": 10`), 400, "InvalidCIDR", ""},
		"mapped CIDR":          {"POST", rulesPath, rule(`, "ethertype": "IPv6", "remote_ip_prefix": "::ffff:10.0.0.0/104"`), 400, "InvalidCIDR", ""},
		"ethertype":            {"POST", rulesPath, rule(`, "ethertype": "IPv5"`), 400, "SecurityGroupRuleInvalidEtherType", "ethertype 'IPv5' not supported"},
		"ethertype null":       {"POST", rulesPath, rule(`, "ethertype": null`), 400, "SecurityGroupRuleInvalidEtherType", "None"},
		"ARP":                  {"POST", rulesPath, rule(`, "ethertype": "ARP"`), 400, "SecurityGroupRuleInvalidEtherType", ""},
		"direction":            {"POST", rulesPath, `{"security_group_rule": {"security_group_id": "` + g + `", "direction": "up"}}`, 400, "HTTPBadRequest", "'up' is not in ['ingress', 'egress']"},
		"no direction":         {"POST", rulesPath, `{"security_group_rule": {"security_group_id": "` + g + `"}}`, 400, "HTTPBadRequest", "Required attribute 'direction' not specified"},
		"no group":             {"POST", rulesPath, `{"security_group_rule": {"direction": "egress"}}`, 400, "HTTPBadRequest", "Required attribute 'security_group_id' not specified"},
		"unknown group":        {"POST", rulesPath, `{"security_group_rule": {"direction": "egress", "security_group_id": "` + unknown + `"}}`, 404, "SecurityGroupNotFound", "Security group " + unknown + " does not exist"},
		"foreign remote":       {"POST", rulesPath, rule(`, "remote_group_id": "` + theirs + `"`), 404, "SecurityGroupNotFound", theirs},
		"foreign group":        {"POST", rulesPath, `{"security_group_rule": {"direction": "egress", "security_group_id": "` + theirs + `"}}`, 404, "SecurityGroupNotFound", theirs},
		"unknown addresses":    {"POST", rulesPath, rule(`, "remote_address_group_id": "` + unknown + `"`), 404, "AddressGroupNotFound", unknown},
		"normalised prefix":    {"POST", rulesPath, rule(`, "normalized_cidr": "10.0.0.0/8"`), 400, "HTTPBadRequest", "Attribute 'normalized_cidr' not allowed in POST"},
		"unknown attribute":    {"POST", rulesPath, rule(`, "port": 1`), 400, "HTTPBadRequest", "Unrecognized attribute(s) 'port'"},
		"same as the first":    {"POST", rulesPath, strings.Replace(rule(``), "ingress", "egress", 1), 409, "SecurityGroupRuleExists", "Rule id is "},
		"one of two wrong": {"POST", rulesPath, `{"security_group_rules": [{"security_group_id": "` + g + `", "direction": "ingress"}, {"security_group_id": "` + g + `", "direction": "ingress", "port_range_min": 1}]}`,
			400, "SecurityGroupProtocolRequiredWithPorts", ""},
		"twice in one": {"POST", rulesPath, `{"security_group_rules": [{"security_group_id": "` + g + `", "direction": "ingress"}, {"security_group_id": "` + g + `", "direction": "ingress", "description": "x"}]}`,
			409, "DuplicateSecurityGroupRuleInPost", ""},
		"rule of nobody":        {"GET", rulesPath + "/" + unknown, "", 404, "SecurityGroupRuleNotFound", "Security group rule " + unknown + " does not exist"},
		"group of nobody":       {"GET", groupsPath + "/" + unknown, "", 404, "SecurityGroupNotFound", "Security group " + unknown + " does not exist"},
		"group in use":          {"DELETE", groupsPath + "/" + g, "", 409, "SecurityGroupInUse", "Security Group " + g + " in use."},
		"stateful in use":       {"PUT", groupsPath + "/" + g, `{"security_group": {"stateful": false}}`, 409, "SecurityGroupInUse", g},
		"named default":         {"POST", groupsPath, `{"security_group": {"name": "DEFAULT"}}`, 409, "SecurityGroupDefaultAlreadyExists", "Default security group already exists."},
		"rules with the group":  {"POST", groupsPath, `{"security_group": {"security_group_rules": []}}`, 400, "HTTPBadRequest", "'security_group_rules' not allowed in POST"},
		"long name":             {"POST", groupsPath, `{"security_group": {"name": "` + strings.Repeat("x", 256) + `"}}`, 400, "HTTPBadRequest", "exceeds maximum length of 255"},
		"another's port group":  {"POST", "ports", port(`"security_groups": ["` + theirs + `"]`), 404, "SecurityGroupNotFound", theirs},
		"no id":                 {"POST", "ports", port(`"security_groups": ["web"]`), 400, "InvalidInput", "'web' is not an integer or uuid"},
		"groups no list":        {"POST", "ports", port(`"security_groups": "` + g + `"`), 400, "HTTPBadRequest", "security_groups"},
		"unknown on update":     {"PUT", "ports/" + p, `{"port": {"name": "x", "security_groups": ["` + unknown + `"]}}`, 404, "SecurityGroupNotFound", unknown},
		"addresses missing":     {"PUT", setsPath + "/" + unknown + "/add_addresses", `{}`, 400, "HTTPBadRequest", "'addresses' not specified"},
		"addresses wrong":       {"PUT", setsPath + "/" + unknown + "/add_addresses", `{"addresses": ["ten"]}`, 400, "InvalidInput", "'ten' is not a valid IP subnet"},
		"addresses nowhere":     {"PUT", setsPath + "/" + unknown + "/remove_addresses", `{"addresses": ["10.0.0.1"]}`, 404, "AddressGroupNotFound", unknown},
		"address range":         {"POST", setsPath, `{"address_group": {"addresses": ["10.0.0.1-10.0.0.9"]}}`, 400, "HTTPBadRequest", "not a valid IP subnet"},
		"host bits":             {"POST", setsPath, `{"address_group": {"addresses": ["10.0.0.1/8"]}}`, 400, "HTTPBadRequest", "'10.0.0.0/8' is recommended"},
		"a member's template":   {"POST", "default-security-group-rules", `{"default_security_group_rule": {"direction": "egress"}}`, 403, "PolicyNotAuthorized", "rule:create_default_security_group_rule is disallowed by policy"},
		"template rule nowhere": {"GET", "default-security-group-rules/" + unknown, "", 404, "DefaultSecurityGroupRuleNotFound", unknown},
		"thousand pairs":        {"PUT", "ports/" + p, `{"port": {"allowed_address_pairs": [` + pairs(1000) + `]}}`, 403, "PolicyNotAuthorized", "rule:update_port:allowed_address_pairs"},
	} {
		t.Run(name, func(t *testing.T) {
			code, typ, message := w.call(tc.method, tc.path, tc.body)
			if code != tc.code || typ != tc.typ || !strings.Contains(message, tc.part) {
				t.Errorf("%d %s %q, want %d %s with %q", code, typ, message, tc.code, tc.typ, tc.part)
			}
		})
	}
	after := must[*groups.SecGroup](t)(groups.Get(w.ctx, alice, g).Extract())
	kept := must[*ports.Port](t)(ports.Get(w.ctx, alice, p).Extract())
	if after.RevisionNumber != 1 || len(after.Rules) != 2 || kept.RevisionNumber != 0 || len(w.groupList(alice, groups.ListOpts{})) != 2 {
		t.Errorf("refusals left traces: group %+v, port %+v", after, kept)
	}
}

// TestBadPairs: on his own network a member sets pairs, but neither too many of them nor one twice.
func TestBadPairs(t *testing.T) {
	w := newWorld(t)
	var made struct{ Network, Port struct{ ID string } }
	alice := w.as("alice", "member,reader")
	if _, err := alice.Post(w.ctx, alice.ServiceURL("networks"), map[string]any{"network": map[string]any{}}, &made, nil); err != nil {
		t.Fatal(err)
	}
	n := made.Network.ID
	if _, err := alice.Post(w.ctx, alice.ServiceURL("ports"), map[string]any{"port": map[string]any{"network_id": n}}, &made, nil); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		pairs, typ string
		code       int
	}{
		"thousand":     {pairs(1000), "AllowedAddressPairExhausted", 400},
		"twice":        {pairs(1) + "," + pairs(1), "DuplicateAddressPairInRequest", 400},
		"no address":   {`{"mac_address": "fa:16:3e:00:00:01"}`, "AllowedAddressPairsMissingIP", 400},
		"everything":   {`{"ip_address": "0.0.0.0/0"}`, "", 200},
		"everything 6": {`{"ip_address": "::/0"}`, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			code, typ, message := w.call("PUT", "ports/"+made.Port.ID, `{"port": {"allowed_address_pairs": [`+tc.pairs+`]}}`)
			if code != tc.code || typ != tc.typ {
				t.Errorf("%d %s %q, want %d %s", code, typ, message, tc.code, tc.typ)
			}
		})
	}
}

// pairs is n allowed address pairs in JSON.
func pairs(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"ip_address": "10.1.%d.%d"}`, i/256, i%256)
	}
	return strings.Join(list, ",")
}
