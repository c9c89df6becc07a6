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
	}
}
