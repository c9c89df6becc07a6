package model

import "baryon/internal/resource"

// AllTables lists the tables of this package.  Package server joins it with the tables that other packages own.
func AllTables() []resource.AnyTable {
	return []resource.AnyTable{
		NetworkTable,
		SubnetTable,
		PortTable,
		PortStatusTable,
		InstanceTable,
		NodeTable,
		HeartbeatTable,
		AgentTable,
		DHCPBindingTable,
		QuotaTable,
		QuotaGuardTable,
		SecurityGroupTable,
		SecurityGroupRuleTable,
		AddressGroupTable,
		DefaultRuleTable,
		SeedTable,
		SegmentTable,
		SegmentRangeTable,
		RBACPolicyTable,
		QoSPolicyTable,
		TrunkTable,
		TrunkStatusTable,
	}
}

// some is the index value of a text that may be empty.  Nobody looks for the empty one (resource.Indexed does not), and a set of most
// rows would only cost time and memory.
func some(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}
