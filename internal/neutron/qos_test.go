package neutron_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"baryon/internal/identity"
	"baryon/internal/model"
	"baryon/internal/neutron"
	"baryon/internal/resource"
)

func (e *env) policy(c *identity.Caller, v model.QoSPolicy) (*model.QoSPolicy, error) {
	return first(e.svc.QoSPolicies().Create(e.ctx, c, []*resource.Input[model.QoSPolicy]{resource.NewInput(v)}))
}

func (e *env) qosRule(policy model.ID, typ string, v model.QoSRule) (*model.QoSRule, error) {
	return e.svc.CreateQoSRule(e.ctx, admin, string(policy), typ, resource.NewInput(v))
}

func TestQoSRules(t *testing.T) {
	e := newEnv(t)
	_, err := e.policy(alice, model.QoSPolicy{})
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "rule:create_policy is disallowed by policy")
	p := must(e.policy(admin, model.QoSPolicy{Name: "bw", Standard: model.Standard{ProjectID: alice.ProjectID}}))(t)
	egress := must(e.qosRule(p.ID, model.QoSBandwidthLimit, model.QoSRule{MaxKbps: 5000, Direction: "egress"}))(t)
	ingress := must(e.qosRule(p.ID, model.QoSBandwidthLimit, model.QoSRule{MaxKbps: 8000, Direction: "ingress"}))(t)
	mark := must(e.qosRule(p.ID, model.QoSDSCPMarking, model.QoSRule{DSCPMark: 26}))(t)
	_, err = e.qosRule(p.ID, model.QoSBandwidthLimit, model.QoSRule{MaxKbps: 1, Direction: "egress"})
	wantError(t, err, neutron.ClassConflict, "QoSRulesConflict", string(egress.ID))
	_, err = e.qosRule(p.ID, model.QoSDSCPMarking, model.QoSRule{DSCPMark: 8})
	wantError(t, err, neutron.ClassConflict, "QoSRulesConflict", string(mark.ID))
	_, err = e.svc.UpdateQoSRule(e.ctx, admin, string(p.ID), model.QoSBandwidthLimit, string(ingress.ID),
		resource.NewInput(model.QoSRule{Direction: "egress"}, "direction"))
	wantError(t, err, neutron.ClassConflict, "QoSRulesConflict", string(egress.ID))

	// By the rule's own id, as the alias paths do.
	changed := must(e.svc.UpdateQoSRule(e.ctx, admin, "", model.QoSBandwidthLimit, string(egress.ID),
		resource.NewInput(model.QoSRule{MaxKbps: 6000}, "max_kbps")))(t)
	if changed.MaxKbps != 6000 || changed.Direction != "egress" {
		t.Errorf("changed rule %+v", changed)
	}
	_, err = e.svc.UpdateQoSRule(e.ctx, alice, "", model.QoSBandwidthLimit, string(egress.ID),
		resource.NewInput(model.QoSRule{MaxKbps: 1}, "max_kbps"))
	wantError(t, err, neutron.ClassForbidden, "PolicyNotAuthorized", "update_policy_bandwidth_limit_rule")
	_, err = e.svc.QoSRule(e.ctx, bob, "", model.QoSBandwidthLimit, string(egress.ID))
	wantError(t, err, neutron.ClassNotFound, "QosRuleNotFound", string(egress.ID))
	_, err = e.svc.QoSRule(e.ctx, admin, string(p.ID), model.QoSDSCPMarking, string(egress.ID))
	wantError(t, err, neutron.ClassNotFound, "QosRuleNotFound", string(egress.ID))
	_, err = e.svc.QoSRules(e.ctx, bob, string(p.ID), model.QoSDSCPMarking)
	wantError(t, err, neutron.ClassNotFound, "QosPolicyNotFound", string(p.ID))

	if err := e.svc.DeleteQoSRule(e.ctx, admin, string(p.ID), model.QoSBandwidthLimit, string(ingress.ID)); err != nil {
		t.Fatal(err)
	}
	left := must(e.svc.QoSRules(e.ctx, alice, string(p.ID), model.QoSBandwidthLimit))(t)
	if d := cmp.Diff([]*model.QoSRule{changed}, left); d != "" {
		t.Errorf("rules that are left (-want +got):\n%s", d)
	}
}

func TestQoSPolicyOfPortsAndNetworks(t *testing.T) {
	e := newEnv(t)
	own := must(e.policy(admin, model.QoSPolicy{Standard: model.Standard{ProjectID: alice.ProjectID}, IsDefault: true}))(t)
	hidden := must(e.policy(admin, model.QoSPolicy{}))(t)
	shared := must(e.policy(admin, model.QoSPolicy{Shared: true}))(t)
	_, err := e.policy(admin, model.QoSPolicy{Standard: model.Standard{ProjectID: alice.ProjectID}, IsDefault: true})
	wantError(t, err, neutron.ClassConflict, "QoSPolicyDefaultAlreadyExists", alice.ProjectID)

	byDefault := must(e.network(alice, model.Network{}))(t)
	if byDefault.QoSPolicyID != own.ID {
		t.Errorf("a new network has policy %q, not its project's default", byDefault.QoSPolicyID)
	}
	none := must(e.network(alice, model.Network{}, "qos_policy_id"))(t)
	if none.QoSPolicyID != "" {
		t.Errorf("a network that asked for no policy has %q", none.QoSPolicyID)
	}
	_, err = e.network(alice, model.Network{QoSPolicyID: hidden.ID}, "qos_policy_id")
	wantError(t, err, neutron.ClassNotFound, "QosPolicyNotFound", string(hidden.ID))
	_, err = e.port(alice, model.Port{NetworkID: byDefault.ID, QoSPolicyID: hidden.ID}, "qos_policy_id")
	wantError(t, err, neutron.ClassNotFound, "QosPolicyNotFound", string(hidden.ID))
	p := must(e.port(alice, model.Port{NetworkID: byDefault.ID, QoSPolicyID: shared.ID}, "qos_policy_id"))(t)
	if p.QoSPolicyID != shared.ID || p.QoSNetworkPolicyID != own.ID {
		t.Errorf("port has policies %q, %q", p.QoSPolicyID, p.QoSNetworkPolicyID)
	}

	remove := func(policy model.ID) error { return e.svc.QoSPolicies().Delete(e.ctx, admin, string(policy), nil) }
	wantError(t, remove(own.ID), neutron.ClassConflict, "QosPolicyInUse", "is used by network "+string(byDefault.ID))
	wantError(t, remove(shared.ID), neutron.ClassConflict, "QosPolicyInUse", "is used by port "+string(p.ID))
	_, err = e.svc.QoSPolicies().Update(e.ctx, admin, string(shared.ID), resource.NewInput(model.QoSPolicy{}, "shared"), nil)
	wantError(t, err, neutron.ClassConflict, "RbacPolicyInUse", string(shared.ID))

	// What an administrator gave, a member who does not know of it cannot take away.
	must(e.updatePort(admin, p.ID, model.Port{QoSPolicyID: hidden.ID}, "qos_policy_id"))(t)
	_, err = e.updatePort(alice, p.ID, model.Port{}, "qos_policy_id")
	wantError(t, err, neutron.ClassForbidden, "PolicyRemoveAuthorizationError", string(hidden.ID))
	must(e.updatePort(admin, p.ID, model.Port{}, "qos_policy_id"))(t)
	if err := remove(hidden.ID); err != nil {
		t.Error(err)
	}
	if err := remove(shared.ID); err != nil {
		t.Error(err)
	}
}

// TestQoSPolicySharedWithOneProject: an RBAC policy lets one project use a policy, and no other, and cannot be taken back while it is used.
func TestQoSPolicySharedWithOneProject(t *testing.T) {
	e := newEnv(t)
	p := must(e.policy(admin, model.QoSPolicy{}))(t)
	grant := must(first(e.svc.RBACPolicies().Create(e.ctx, admin, []*resource.Input[model.RBACPolicy]{resource.NewInput(model.RBACPolicy{
		ObjectType: model.RBACQoSPolicy, ObjectID: p.ID, Action: model.AccessShared, Target: bob.ProjectID,
	})})))(t)
	revoke := func() error { return e.svc.RBACPolicies().Delete(e.ctx, admin, string(grant.ID), nil) }
	n := must(e.network(bob, model.Network{QoSPolicyID: p.ID}, "qos_policy_id"))(t)
	_, err := e.network(alice, model.Network{QoSPolicyID: p.ID}, "qos_policy_id")
	wantError(t, err, neutron.ClassNotFound, "QosPolicyNotFound", string(p.ID))
	if !e.svc.QoSPolicies().Present(e.st.Snapshot(), bob, p).Shared || e.svc.QoSPolicies().Present(e.st.Snapshot(), alice, p).Shared {
		t.Error("shared is not what each project sees")
	}
	wantError(t, revoke(), neutron.ClassConflict, "RbacPolicyInUse", string(p.ID))
	if err := e.svc.Networks().Delete(e.ctx, bob, string(n.ID), nil); err != nil {
		t.Fatal(err)
	}
	if err := revoke(); err != nil {
		t.Error(err)
	}
}
