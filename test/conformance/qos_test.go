package conformance_test

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/policies"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/ruletypes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func TestQoS(t *testing.T) {
	w := newWorld(t)
	types := must[[]ruletypes.RuleType](t)(ruletypes.ExtractRuleTypes(must[pagination.Page](t)(ruletypes.ListRuleTypes(w.ServiceClient).AllPages(w.ctx))))
	if len(types) != 2 || types[0].Type != "bandwidth_limit" || types[1].Type != "dscp_marking" {
		t.Errorf("rule types: %+v", types)
	}
	if rt := must[*ruletypes.RuleType](t)(ruletypes.GetRuleType(w.ctx, w.ServiceClient, "bandwidth_limit").Extract()); len(rt.Drivers) != 1 ||
		len(rt.Drivers[0].SupportedParameters) != 3 {
		t.Errorf("rule type: %+v", rt)
	}
	w.refused(404, ruletypes.GetRuleType(w.ctx, w.ServiceClient, "minimum_bandwidth").Err)

	p := must[*policies.Policy](t)(policies.Create(w.ctx, w.ServiceClient, policies.CreateOpts{Name: "bw", Shared: true}).Extract())
	limit := must[*rules.BandwidthLimitRule](t)(rules.CreateBandwidthLimitRule(w.ctx, w.ServiceClient, p.ID,
		rules.CreateBandwidthLimitRuleOpts{MaxKBps: 5000, MaxBurstKBps: 4000}).ExtractBandwidthLimitRule())
	if limit.MaxKBps != 5000 || limit.MaxBurstKBps != 4000 || limit.Direction != "egress" {
		t.Errorf("limit: %+v", limit)
	}
	_, err := rules.CreateBandwidthLimitRule(w.ctx, w.ServiceClient, p.ID, rules.CreateBandwidthLimitRuleOpts{MaxKBps: 1}).ExtractBandwidthLimitRule()
	w.refused(409, err)
	_, err = rules.CreateMinimumBandwidthRule(w.ctx, w.ServiceClient, p.ID, rules.CreateMinimumBandwidthRuleOpts{MinKBps: 1}).ExtractMinimumBandwidthRule()
	w.refused(409, err)
	mark := must[*rules.DSCPMarkingRule](t)(rules.CreateDSCPMarkingRule(w.ctx, w.ServiceClient, p.ID,
		rules.CreateDSCPMarkingRuleOpts{DSCPMark: 26}).ExtractDSCPMarkingRule())
	_, err = rules.CreateDSCPMarkingRule(w.ctx, w.ServiceClient, p.ID, rules.CreateDSCPMarkingRuleOpts{DSCPMark: 27}).ExtractDSCPMarkingRule()
	w.refused(400, err)
	other := 10
	if mark = must[*rules.DSCPMarkingRule](t)(rules.UpdateDSCPMarkingRule(w.ctx, w.ServiceClient, p.ID, mark.ID,
		rules.UpdateDSCPMarkingRuleOpts{DSCPMark: &other}).ExtractDSCPMarkingRule()); mark.DSCPMark != 10 {
		t.Errorf("mark: %+v", mark)
	}
	list := must[[]rules.BandwidthLimitRule](t)(rules.ExtractBandwidthLimitRules(must[pagination.Page](t)(
		rules.ListBandwidthLimitRules(w.ServiceClient, p.ID, rules.BandwidthLimitRulesListOpts{Direction: "egress"}).AllPages(w.ctx))))
	if len(list) != 1 || list[0].ID != limit.ID {
		t.Errorf("listed: %+v", list)
	}
	if shown := must[*policies.Policy](t)(policies.Get(w.ctx, w.ServiceClient, p.ID).Extract()); len(shown.Rules) != 2 || shown.RevisionNumber != 3 {
		t.Errorf("policy: %+v", shown)
	}

	// A member uses what is shared, and changes nothing of it.
	alice := w.as("alice", "member,reader")
	n := must[*networks.Network](t)(networks.Create(w.ctx, alice, networks.CreateOpts{}).Extract())
	var port struct {
		ports.Port
		policies.QoSPolicyExt
	}
	opts := policies.PortCreateOptsExt{CreateOptsBuilder: ports.CreateOpts{NetworkID: n.ID}, QoSPolicyID: p.ID}
	if err := ports.Create(w.ctx, alice, opts).ExtractInto(&port); err != nil || port.QoSPolicyID != p.ID {
		t.Errorf("port %+v: %v", port, err)
	}
	w.refused(403, policies.Delete(w.ctx, alice, p.ID).ExtractErr())
	w.refused(409, policies.Delete(w.ctx, w.ServiceClient, p.ID).ExtractErr())
	w.refused(403, rules.DeleteBandwidthLimitRule(w.ctx, alice, p.ID, limit.ID).ExtractErr())
	if err := ports.Delete(w.ctx, alice, port.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := rules.DeleteBandwidthLimitRule(w.ctx, w.ServiceClient, p.ID, limit.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, rules.GetBandwidthLimitRule(w.ctx, w.ServiceClient, p.ID, limit.ID).Err)
	if err := policies.Delete(w.ctx, w.ServiceClient, p.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	w.refused(404, policies.Get(w.ctx, w.ServiceClient, p.ID).Err)
}

// TestBadQoSInput: Neutron's errors, as a member and over the bare protocol.
func TestBadQoSInput(t *testing.T) {
	w := newWorld(t)
	p := must[*policies.Policy](t)(policies.Create(w.ctx, w.ServiceClient, policies.CreateOpts{Name: "shared", Shared: true}).Extract())
	hidden := must[*policies.Policy](t)(policies.Create(w.ctx, w.ServiceClient, policies.CreateOpts{Name: "hidden"}).Extract())
	n := must[*networks.Network](t)(networks.Create(w.ctx, w.as("alice", "member,reader"), networks.CreateOpts{}).Extract())
	for _, c := range []struct {
		method, path, body string
		code               int
		typ                string
	}{
		{"POST", "qos/policies", `{"policy":{"name":"x"}}`, 403, "PolicyNotAuthorized"},
		{"POST", "qos/policies", `{"policy":{"rules":[]}}`, 400, "HTTPBadRequest"},
		{"GET", "qos/policies/" + hidden.ID, "", 404, "QosPolicyNotFound"},
		{"GET", "qos/policies/" + hidden.ID + "/bandwidth_limit_rules", "", 404, "QosPolicyNotFound"},
		{"GET", "qos/policies/" + p.ID + "/dscp_marking_rules/none", "", 404, "QosRuleNotFound"},
		{"GET", "qos/alias-dscp-marking-rules/none", "", 404, "QosRuleNotFound"},
		{"POST", "qos/policies/" + p.ID + "/bandwidth_limit_rules", `{"bandwidth_limit_rule":{"max_kbps":1}}`, 403, "PolicyNotAuthorized"},
		{"POST", "qos/policies/" + p.ID + "/bandwidth_limit_rules", `{"bandwidth_limit_rule":{"max_kbps":-1}}`, 400, "HTTPBadRequest"},
		{"POST", "qos/policies/" + p.ID + "/bandwidth_limit_rules", `{"bandwidth_limit_rule":{"max_kbps":2147483648}}`, 400, "HTTPBadRequest"},
		{"POST", "qos/policies/" + p.ID + "/bandwidth_limit_rules", `{"bandwidth_limit_rule":{"max_kbps":1,"direction":"both"}}`, 400, "HTTPBadRequest"},
		{"POST", "qos/policies/" + p.ID + "/dscp_marking_rules", `{"dscp_marking_rule":{}}`, 400, "HTTPBadRequest"},
		{"POST", "qos/policies/" + p.ID + "/packet_rate_limit_rules", `{"packet_rate_limit_rule":{"max_kpps":1}}`, 409, "QosRuleNotSupported"},
		{"GET", "qos/rule-types?colour=red", "", 400, "HTTPBadRequest"},
		{"GET", "qos/rule-types/dscp_marking", "", 403, "PolicyNotAuthorized"},
		{"PUT", "networks/" + n.ID, `{"network":{"qos_policy_id":"` + hidden.ID + `"}}`, 404, "QosPolicyNotFound"},
		{"PUT", "networks/" + n.ID, `{"network":{"qos_policy_id":"none"}}`, 400, "HTTPBadRequest"},
		{"POST", "ports", `{"port":{"network_id":"` + n.ID + `","qos_network_policy_id":null}}`, 400, "HTTPBadRequest"},
	} {
		if code, typ, message := w.call(c.method, c.path, c.body); code != c.code || typ != c.typ {
			t.Errorf("%s %s %s: %d %s %q, want %d %s", c.method, c.path, c.body, code, typ, message, c.code, c.typ)
		}
	}
}

// typeQoS types the commands of QoS.
func typeQoS(t *testing.T, c *cloud) {
	o := c.osc(t)
	o.equal("rule types", o.column("Type", "network qos rule type list"), "bandwidth_limit dscp_marking")
	o.want(o.one("network qos rule type show bandwidth_limit"), "rule_type_name", "bandwidth_limit")
	p := o.one("network qos policy create --share --description d qos-bw")
	o.want(p, "name", "qos-bw", "shared", "true", "is_default", "false", "description", "d", "rules", "[]")
	limit := o.one("network qos rule create --type bandwidth-limit --max-kbps 5000 --max-burst-kbits 4000 --ingress qos-bw")
	o.want(limit, "max_kbps", "5000", "max_burst_kbps", "4000", "direction", "ingress")
	o.one("network qos rule create --type dscp-marking --dscp-mark 26 qos-bw")
	o.refused("conflicts with rule", "network qos rule create --type dscp-marking --dscp-mark 28 qos-bw")
	o.refused("not supported", "network qos rule create --type minimum-bandwidth --min-kbps 100 --egress qos-bw")
	o.do("network qos rule set --max-kbps 6000 --egress qos-bw %s", limit.id())
	o.want(o.one("network qos rule show qos-bw %s", limit.id()), "max_kbps", "6000", "direction", "egress")
	o.equal("rules", o.column("Type", "network qos rule list qos-bw --sort-column Type"), "bandwidth_limit dscp_marking")
	o.do("network qos policy set --name qos-new --no-share --default qos-bw")
	o.want(o.one("network qos policy show qos-new"), "shared", "false", "is_default", "true")
	o.do("network qos policy set --no-default qos-new")
	o.equal("policies", o.column("Name", "network qos policy list --no-share"), "qos-new")

	net := o.one("network create --qos-policy qos-new qos-net")
	o.want(net, "qos_policy_id", p.id())
	port := o.one("port create --network qos-net --qos-policy qos-new qos-port")
	o.want(port, "qos_policy_id", p.id(), "qos_network_policy_id", p.id())
	o.refused("is used by", "network qos policy delete qos-new")
	o.do("port unset --qos-policy qos-port")
	o.do("network set --no-qos-policy qos-net")
	o.want(o.one("port show qos-port"), "qos_policy_id", "null", "qos_network_policy_id", "null")
	o.do("network qos rule delete qos-new %s", limit.id())
	o.do("network qos policy delete qos-new")
	o.do("port delete qos-port")
	o.do("network delete qos-net")
}
