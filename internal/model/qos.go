package model

import "baryon/internal/resource"

// Types of QoS rules that nodes carry out.
const (
	QoSBandwidthLimit = "bandwidth_limit"
	QoSDSCPMarking    = "dscp_marking"
)

// QoSPolicy is a set of rules about the traffic of the ports, and of the ports of the networks, that name it.
type QoSPolicy struct {
	Standard
	Name      string    `json:"name"`
	IsDefault bool      `json:"is_default,omitempty"` // new networks of the project get it
	Rules     []QoSRule `json:"rules,omitempty"`      // in the order in which they were made

	// Shared is what a request asks for, and computed when shown: whether an RBAC policy shares the policy with the caller's project.
	Shared bool `json:"-"`
}

// QoSRule is one rule of a policy: what of it counts depends on its type.  Of one type and direction a policy has one.
type QoSRule struct {
	ID           ID     `json:"id"`
	Type         string `json:"type"`                     // a QoS constant
	MaxKbps      int    `json:"max_kbps,omitempty"`       // kilobits (1000 bits) per second; 0: no limit
	MaxBurstKbps int    `json:"max_burst_kbps,omitempty"` // kilobits; 0: nodes choose
	Direction    string `json:"direction,omitempty"`      // egress (from the guest) or ingress
	DSCPMark     int    `json:"dscp_mark,omitempty"`
}

// QoSPolicyTable keeps policies.  A project has one default policy at most.
var QoSPolicyTable = resource.NewTable("qos_policy", func(p *QoSPolicy) string { return string(p.ID) }).
	Index("project", func(p *QoSPolicy) []string { return []string{p.ProjectID} }).
	Index("name", func(p *QoSPolicy) []string { return some(p.Name) }).
	Index("rule", func(p *QoSPolicy) []string {
		ids := make([]string, 0, len(p.Rules))
		for i := range p.Rules {
			ids = append(ids, string(p.Rules[i].ID))
		}
		return ids
	}).
	Unique("project_default", func(p *QoSPolicy) []string {
		if !p.IsDefault {
			return nil
		}
		return []string{p.ProjectID}
	})
