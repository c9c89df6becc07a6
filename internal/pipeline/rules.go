package pipeline

import "slices"

// Rules of br-int.
var (
	DeadVLAN = &Rule{0x01, Classify, 65535, "dl_vlan=4095", "drop: dead_vlan",
		"The dead VLAN carries nothing: ports stay on it until they are wired."}
	PortARP = &Rule{0x02, Classify, 10, "arp,in_port=P", "goto arp_spoof",
		"ARP of a port with port security is checked for its sender address."}
	PortND = &Rule{0x03, Classify, 10, "icmp6,icmp_type=136,in_port=P", "goto arp_spoof",
		"Neighbour advertisements of a port with port security are checked for their target."}
	PortChecked = &Rule{0x04, Classify, 9, "in_port=P", "goto mac_spoof",
		"Other packets of a port with port security are checked for their source MAC."}
	PortTrusted = &Rule{0x05, Classify, 9, "in_port=P", "goto transient",
		"The port has no port security or belongs to the network itself: it may use any address."}
	DeadPort = &Rule{0x06, Classify, 2, "in_port=P", "drop: dead_port",
		"The port is administratively down, or no record speaks of it: nothing is taken from it."}
	FromTunnels = &Rule{0x07, Classify, 1, "in_port=patch-tun", "goto transient",
		"What br-tun hands over has its local VLAN already."}
	ClassifyMiss = &Rule{0x08, Classify, 0, "", "drop: not_wired",
		"A port without flows of its own passes nothing (fail closed)."}
	CanaryFlow = &Rule{0x09, Canary, 0, "", "drop",
		"Its absence means that Open vSwitch has lost its flows."}
	PortIPv4 = &Rule{0x0a, ARPSpoof, 2, "arp,in_port=P,arp_spa=A", "goto mac_spoof",
		"The port owns this IPv4 address, or is allowed it by an address pair."}
	PortIPv6 = &Rule{0x0b, ARPSpoof, 2, "icmp6,icmp_type=136,in_port=P,nd_target=A", "goto mac_spoof",
		"The port owns this IPv6 address, or is allowed it, or derives it from its MAC (link-local)."}
	ARPSpoofMiss = &Rule{0x0c, ARPSpoof, 0, "", "drop: spoofed_address",
		"An address that the port does not own must not be claimed."}
	PortMAC = &Rule{0x0d, MACSpoof, 2, "in_port=P,dl_src=M", "goto transient",
		"The port owns this MAC, or is allowed it by an address pair; other sources are dropped."}
	MACSpoofMiss = &Rule{0x0f, MACSpoof, 0, "", "drop: spoofed_mac",
		"A MAC that the port does not own must not be used."}
	SwitchNormal = &Rule{0x0e, Switch, 3, "", "NORMAL",
		"MAC learning within the local VLAN."}
)

// Rules of br-tun.
var (
	TunFromLocal = &Rule{0x20, TunClassify, 1, "in_port=patch-int", "goto patch_lv_to_tun",
		"Packets of local ports look for their tunnel."}
	TunFromTunnel = &Rule{0x21, TunClassify, 1, "in_port=T", "goto gre_tun_to_lv or vxlan_tun_to_lv",
		"The tunnel's type decides in which number space its key is looked up."}
	TunClassifyMiss = &Rule{0x22, TunClassify, 0, "", "drop",
		"Nothing else has business on br-tun."}
	ToARPReply = &Rule{0x23, ToTunnel, 1, "arp,dl_dst=ff:ff:ff:ff:ff:ff", "goto arp_responder",
		"A broadcast ARP question is answered here if it can be."}
	ToUnicast = &Rule{0x24, ToTunnel, 0, "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00", "goto ucast_to_tun",
		"Unicast takes one tunnel."}
	ToFlood = &Rule{0x25, ToTunnel, 0, "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", "goto flood_to_tun",
		"Broadcast and multicast (neighbour discovery too) go to every node of the network."}
	GREMiss = &Rule{0x26, FromGRE, 0, "", "drop",
		"No network of this node has this GRE key."}
	VXLANMiss = &Rule{0x27, FromVXLAN, 0, "", "drop",
		"No network of this node has this VNI."}
	GeneveMiss = &Rule{0x28, FromGeneve, 0, "", "drop",
		"No network of this node has this Geneve VNI."}
	GRESegment = &Rule{0x29, FromGRE, 1, "tun_id=S", "push_vlan, set vlan_vid, goto learn_from_tun",
		"The key belongs to this network, which has this local VLAN here."}
	VXLANSegment = &Rule{0x2a, FromVXLAN, 1, "tun_id=S", "push_vlan, set vlan_vid, goto learn_from_tun",
		"The VNI belongs to this network, which has this local VLAN here."}
	LearnSender = &Rule{0x2b, Learn, 1, "", "learn(table=ucast_to_tun, priority=1, hard_timeout=300), output:patch-int",
		"The way back to the sender is the tunnel it came from, until a known peer says otherwise."}
	LearnedUnicast = &Rule{0x2c, Unicast, 1, "vlan_tci=V/0x0fff,dl_dst=M", "strip VLAN, set tun_id, output:T",
		"Made by Open vSwitch itself from learn_from_tun; forgotten after 300 s."}
	UnicastPeer = &Rule{0x2d, Unicast, 2, "dl_vlan=V,dl_dst=M", "pop_vlan, set tun_id, output:T",
		"A peer of the network lives behind this tunnel."}
	UnicastMiss = &Rule{0x2e, Unicast, 0, "", "goto flood_to_tun",
		"An unknown MAC is looked for everywhere."}
	ARPAnswer = &Rule{0x2f, ARPReply, 1, "arp,dl_vlan=V,arp_tpa=A,arp_op=1", "turn the question into its answer, IN_PORT",
		"The peer's MAC is known: the question need not travel."}
	ARPReplyMiss = &Rule{0x30, ARPReply, 0, "", "goto flood_to_tun",
		"Nobody known has the address."}
	FloodNetwork = &Rule{0x31, Flood, 1, "dl_vlan=V", "pop_vlan, set tun_id, output to each tunnel of the network",
		"Exactly the nodes with ports in this network get a copy."}
	FloodMiss = &Rule{0x32, Flood, 0, "", "drop",
		"The network has no ports on other nodes."}
)

// Rules lists all rules, those of each table highest priority first.
func Rules() []*Rule {
	return append([]*Rule{
		DeadVLAN, PortARP, PortND, PortChecked, PortTrusted, DeadPort, FromTunnels, ClassifyMiss,
		CanaryFlow,
		PortIPv4, PortIPv6, ARPSpoofMiss,
		PortMAC, MACSpoofMiss,
		SwitchNormal,
		TunFromLocal, TunFromTunnel, TunClassifyMiss,
		ToARPReply, ToUnicast, ToFlood,
		GRESegment, GREMiss,
		VXLANSegment, VXLANMiss,
		GeneveMiss,
		LearnSender,
		ARPAnswer, ARPReplyMiss,
		UnicastPeer, LearnedUnicast, UnicastMiss,
		FloodNetwork, FloodMiss,
		QoSMark, QoSLimit,
	}, slices.Concat(firewallRules(), providerRules())...)
}
