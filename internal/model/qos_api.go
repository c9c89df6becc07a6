package model

import (
	"strconv"

	"baryon/internal/resource"
)

// maxKbps is the highest rate and burst, as Neutron has it.
const maxKbps = 1<<31 - 1

// QoSPolicies defines the resource policy of the extension qos.
var QoSPolicies = resource.Define(QoSPolicyTable, "policy", "policies",
	identity(func(p *QoSPolicy) *Standard { return &p.Standard }),
	resource.Attr("name", func(p *QoSPolicy) *string { return &p.Name }, resource.String(maxName),
		resource.Writable, resource.Default(""), resource.Filter, resource.Sort, resource.Indexed("name"), resource.Ext("qos")),
	resource.Attr("shared", func(p *QoSPolicy) *bool { return &p.Shared }, resource.Bool(),
		resource.Writable, resource.Default(false), resource.Presented, resource.Filter, resource.Policy("admin"), resource.Ext("qos")),
	resource.Attr("is_default", func(p *QoSPolicy) *bool { return &p.IsDefault }, resource.Bool(),
		resource.Writable, resource.Default(false), resource.Filter, resource.Policy("admin"), resource.Ext("qos-default")),
	resource.Derived("rules", func(p *QoSPolicy) qosRules { return qosRules{p.ID, p.Rules} },
		resource.Codec[qosRules]{Kind: "list of rules", Append: appendQoSRules}, resource.Ext("qos")),
	standard(func(p *QoSPolicy) *Standard { return &p.Standard }),
)

// qosRules are the rules of a policy together with its id, which each of them shows.
type qosRules struct {
	policy ID
	rules  []QoSRule
}

func appendQoSRules(dst []byte, rs qosRules) []byte {
	return resource.AppendList(dst, rs.rules, func(dst []byte, r QoSRule) []byte {
		dst = resource.AppendString(append(dst, `{"id":`...), r.ID)
		dst = resource.AppendString(append(dst, `,"qos_policy_id":`...), rs.policy)
		dst = resource.AppendString(append(dst, `,"type":`...), r.Type)
		if r.Type == QoSDSCPMarking {
			dst = strconv.AppendInt(append(dst, `,"dscp_mark":`...), int64(r.DSCPMark), 10)
			return append(dst, '}')
		}
		dst = strconv.AppendInt(append(dst, `,"max_kbps":`...), int64(r.MaxKbps), 10)
		dst = strconv.AppendInt(append(dst, `,"max_burst_kbps":`...), int64(r.MaxBurstKbps), 10)
		dst = resource.AppendString(append(dst, `,"direction":`...), r.Direction)
		return append(dst, '}')
	})
}

// BandwidthLimitRules defines the sub-resource bandwidth_limit_rule of a policy, AliasBandwidthLimitRules the same rules by their own id.
var (
	BandwidthLimitRules      = bandwidthLimitRules("", "qos")
	AliasBandwidthLimitRules = bandwidthLimitRules("alias_", "qos-rules-alias")
)

// DSCPMarkingRules defines the sub-resource dscp_marking_rule of a policy, AliasDSCPMarkingRules the same rules by their own id.
var (
	DSCPMarkingRules      = dscpMarkingRules("", "qos")
	AliasDSCPMarkingRules = dscpMarkingRules("alias_", "qos-rules-alias")
)

func qosRuleTable(name string) *resource.Table[QoSRule] {
	return resource.NewTable(name, func(r *QoSRule) string { return string(r.ID) })
}

func qosRuleID(ext string) resource.Attribute[QoSRule] {
	return resource.Attr("id", func(r *QoSRule) *ID { return &r.ID }, resource.UUID[ID](),
		resource.Filter, resource.Sort, resource.Indexed(resource.KeyIndex), resource.Ext(ext))
}

func bandwidthLimitRules(prefix, ext string) *resource.Definition[QoSRule] {
	return resource.Define(qosRuleTable(prefix+"bandwidth_limit_rule"), prefix+"bandwidth_limit_rule", prefix+"bandwidth_limit_rules",
		qosRuleID(ext),
		resource.Attr("max_kbps", func(r *QoSRule) *int { return &r.MaxKbps }, resource.Int[int](0, maxKbps),
			resource.Writable, resource.Required, resource.Filter, resource.Sort, resource.Ext(ext)),
		resource.Attr("max_burst_kbps", func(r *QoSRule) *int { return &r.MaxBurstKbps }, resource.Int[int](0, maxKbps),
			resource.Writable, resource.Default(0), resource.Filter, resource.Sort, resource.Ext(ext)),
		resource.Attr("direction", func(r *QoSRule) *string { return &r.Direction }, resource.Enum(DirectionIngress, DirectionEgress),
			resource.Writable, resource.Default(DirectionEgress), resource.Filter, resource.Sort, resource.Ext("qos-bw-limit-direction")),
	)
}

func dscpMarkingRules(prefix, ext string) *resource.Definition[QoSRule] {
	return resource.Define(qosRuleTable(prefix+"dscp_marking_rule"), prefix+"dscp_marking_rule", prefix+"dscp_marking_rules",
		qosRuleID(ext),
		resource.Attr("dscp_mark", func(r *QoSRule) *int { return &r.DSCPMark }, resource.OneOf(DSCPMarks()...),
			resource.Writable, resource.Required, resource.Filter, resource.Sort, resource.Ext(ext)),
	)
}

// DSCPMarks are the DSCP values that a rule may set: the default, the class selectors and the assured and expedited forwarding ones.
func DSCPMarks() []int {
	return []int{0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 44, 46, 48, 56}
}
