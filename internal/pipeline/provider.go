package pipeline

import "baryon/internal/names"

// Provider stands for every provider bridge: each has these tables.
const Provider = "br-ex"

// The tables of a provider bridge in packet order.  On a node that hosts no distributed routers only the first is used.
var (
	ProviderClassify  = &Table{Provider, 0, "local_switching", "Does the packet come from br-int or from outside?"}
	ProviderRouters   = &Table{Provider, 1, "dvr_process", "Does the packet come from a distributed router, whose MAC must not be seen outside?"}
	ProviderTranslate = &Table{Provider, 2, "lv_translation", "As what does the packet of this local network appear on the wire?"}
	ProviderRemote    = &Table{Provider, 3, "dvr_not_learn", "Does the packet come from another node's distributed router, whose MAC must not be learnt here?"}
)

// Rules of br-int for its patch ports to the provider bridges.
var (
	FlatEnters = &Rule{0x10, Classify, 3, "in_port=int-<bridge>,vlan_vid=0", "push_vlan, set vlan_vid, goto transient",
		"Untagged packets of the physical network belong to the flat network on it."}
	VLANEnters = &Rule{0x11, Classify, 3, "in_port=int-<bridge>,dl_vlan=S", "set vlan_vid, goto transient",
		"The VLAN of the physical network belongs to this network, which has this local VLAN here."}
	ProviderForeign = &Rule{0x12, Classify, 2, "in_port=int-<bridge>", "drop: foreign_vlan",
		"No network of this node has this VLAN of the physical network."}
	SwitchProvider = &Rule{0x13, Switch, 3, "in_port=int-<bridge>", "NORMAL",
		"Networks without filtered ports here are switched by their local VLAN."}
)

// Rules of a provider bridge.
var (
	ProviderLeaves = &Rule{0x14, ProviderClassify, 4, "in_port=phy-<bridge>,dl_vlan=V", "strip VLAN or set vlan_vid, NORMAL",
		"On the wire the network is untagged (flat) or has its own VLAN, never the local one."}
	ProviderStranger = &Rule{0x15, ProviderClassify, 2, "in_port=phy-<bridge>", "drop",
		"The local VLAN is of no network on this physical network: it stays inside."}
	ProviderSwitch = &Rule{0x16, ProviderClassify, 0, "", "NORMAL",
		"The bridge is an ordinary switch for what comes from outside and for the host itself."}
	ProviderToRouters = &Rule{0x17, ProviderClassify, 2, "in_port=phy-<bridge>", "goto dvr_process",
		"With distributed routers: what comes from br-int has their MACs looked at first."}
	ProviderFromOutside = &Rule{0x18, ProviderClassify, 1, "", "goto dvr_not_learn",
		"With distributed routers: what comes from outside may be another node's router."}
	ProviderRoutersMiss = &Rule{0x19, ProviderRouters, 0, "", "goto lv_translation",
		"The packet is no distributed router's."}
	ProviderLeavesRouted = &Rule{0x1a, ProviderTranslate, 4, "in_port=phy-<bridge>,dl_vlan=V", "strip VLAN or set vlan_vid, NORMAL",
		"With distributed routers: on the wire the network is untagged (flat) or has its own VLAN, never the local one."}
	ProviderStrangerRouted = &Rule{0x1b, ProviderTranslate, 2, "in_port=phy-<bridge>", "drop",
		"With distributed routers: the local VLAN is of no network on this physical network."}
	ProviderRemoteMiss = &Rule{0x1c, ProviderRemote, 1, "", "NORMAL",
		"No other node's router: the bridge is an ordinary switch."}
)

// providerTables and providerRules are listed in packet order, highest priority first.
func providerTables() []*Table {
	return []*Table{ProviderClassify, ProviderRouters, ProviderTranslate, ProviderRemote}
}

func providerRules() []*Rule {
	return []*Rule{
		FlatEnters, VLANEnters, ProviderForeign, SwitchProvider,
		ProviderLeaves, ProviderStranger, ProviderToRouters, ProviderFromOutside, ProviderSwitch,
		ProviderRoutersMiss, ProviderLeavesRouted, ProviderStrangerRouted, ProviderRemoteMiss,
	}
}

// On tells whether a bridge has the table.
func (t *Table) On(bridge string) bool {
	if t.Bridge == Provider {
		return bridge != names.BrInt && bridge != names.BrTun
	}
	return t.Bridge == bridge
}
