package pipeline

import (
	"baryon/internal/names"
	"baryon/internal/openflow"
)

// Registers of the firewall's tables.
const (
	RegPort  = 5 // OpenFlow number of the port whose filter the packet is in; its conntrack zone too
	RegNet   = 6 // local VLAN
	RegFlags = 8 // what is true of the port in RegPort, and has been found out about the packet
	RegStage = 9 // where the packet was dropped
)

// Flags in RegFlags.
const (
	FlagIPv6      = 1 << 0 // the port has an IPv6 address: router advertisements are for it
	FlagStateless = 1 << 1 // all its groups are stateless: its packets are not tracked
	FlagChecked   = 1 << 2 // the target of the neighbour advertisement is the port's
	FlagAsk       = 1 << 3 // the rules are asked although the connection is known
	FlagStray     = 1 << 4 // the packet cannot begin a connection: only stateless groups may admit it
	FlagMAC       = 1 << 5 // the source MAC is the port's
)

// Stages in RegStage.
const (
	StageSource  = 1 // sent by the port from addresses, or of a kind, that are not its own
	StageEgress  = 2 // sent by the port against its groups' rules
	StageIngress = 3 // for the port, against its groups' rules
)

// Bits of ct_mark: which direction of the port admitted the connection.  Revocation asks each of them again.  A connection that cannot
// be removed from conntrack is marked as revoked instead.
const (
	MarkEgress  = 1 << 0
	MarkIngress = 1 << 1
	MarkRevoked = 1 << 2
)

// Zone is the conntrack zone of the port in RegPort.
func Zone() openflow.Subfield { return openflow.Sub(openflow.RegField(RegPort), 0, 16) }

// The firewall's tables of br-int in packet order.
var (
	BaseEgress      = &Table{names.BrInt, 71, "base_egress", "Are the packet's source addresses the port's?"}
	RulesEgress     = &Table{names.BrInt, 72, "rules_egress", "Do the port's security groups let it send this?"}
	AcceptEgress    = &Table{names.BrInt, 91, "accepted_egress", "A connection that the port may begin is remembered."}
	AcceptOrIngress = &Table{names.BrInt, 73, "accept_or_ingress", "Is the packet for a filtered port of this node?"}
	BaseIngress     = &Table{names.BrInt, 81, "base_ingress", "Is this something that every port may receive?"}
	RulesIngress    = &Table{names.BrInt, 82, "rules_ingress", "Do the port's security groups let it receive this?"}
	AcceptIngress   = &Table{names.BrInt, 92, "accepted_ingress", "A connection that somebody may begin with the port is remembered."}
	Dropped         = &Table{names.BrInt, 93, "dropped", "Whose packet is it that was dropped?"}
	Deliver         = &Table{names.BrInt, 94, "accepted", "Where does the accepted packet go?"}
)

// Rules of br-int's firewall.
var (
	PortEnter = &Rule{0x40, Classify, 9, "in_port=P", "goto transient",
		"The port is wired."}
	FilteredEnter = &Rule{0x41, Switch, 100, "in_port=P", "load port and VLAN, goto base_egress",
		"A filtered port's packets are checked."}
	OpenEnter = &Rule{0x42, Switch, 100, "in_port=P", "load VLAN, goto accept_or_ingress",
		"The port has no port security or belongs to the network itself: it may send anything."}
	TunnelEnter = &Rule{0x43, Switch, 90, "dl_vlan=V", "strip VLAN, load VLAN, goto accept_or_ingress",
		"The network has filtered ports here: nothing that comes from elsewhere passes them by."}
	SwitchTunnels = &Rule{0x44, Switch, 3, "in_port=patch-tun", "NORMAL",
		"Networks without filtered ports here are switched by their local VLAN."}
	SwitchMiss = &Rule{0x7b, Switch, 0, "", "drop: not_switched",
		"The firewall does not know the port yet."}

	EgressTracked = &Rule{0x45, BaseEgress, 110, "ct_state=+trk", "ct_clear, resubmit(,71)",
		"What was tracked for another port says nothing about this one."}
	EgressTagged = &Rule{0x7c, BaseEgress, 105, "vlan_tci=0x1000/0x1000", "drop: tagged",
		"A port is an access port: it may not use VLAN tags."}
	PortMACChecked = &Rule{0x7d, BaseEgress, 100, "in_port=P,reg5=P,dl_src=M,reg8=0/32", "set reg8 bit 5, resubmit(,71)",
		"The source MAC is the port's own or of an address pair."}
	SpoofedMAC = &Rule{0x7e, BaseEgress, 99, "reg8=0/32", "drop: spoofed_mac",
		"The source MAC is not the port's."}
	PortSendsARP = &Rule{0x46, BaseEgress, 95, "arp,in_port=P,reg5=P,dl_src=M,arp_spa=A", "goto accept_or_ingress",
		"ARP with a MAC and address of the port."}
	PortSendsRARP = &Rule{0x47, BaseEgress, 95, "rarp", "goto accept_or_ingress",
		"RARP with a MAC of the port: hypervisors announce a moved guest with it."}
	PortAdvertises = &Rule{0x48, BaseEgress, 95, "icmp6,icmp_type=136,in_port=P,reg5=P,reg8=0/4,dl_src=M,nd_target=A", "set reg8 bit 2, resubmit(,71)",
		"A neighbour advertisement of an address of the port; its source is checked in the second round."}
	AdvertisesOther = &Rule{0x49, BaseEgress, 94, "icmp6,icmp_type=136,reg8=0/4", "drop: spoofed_neighbour",
		"A neighbour advertisement of somebody else's address."}
	DHCPDiscover = &Rule{0x4a, BaseEgress, 80, "udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67", "goto accept_or_ingress",
		"A DHCP client that has no address yet."}
	UnspecifiedIPv6 = &Rule{0x4b, BaseEgress, 80, "icmp6,ipv6_src=::,ipv6_dst=ff02::/16", "goto rules_egress",
		"Discovery without an address (duplicate address detection); which kinds, the next table says."}
	DHCPServer = &Rule{0x4c, BaseEgress, 70, "udp,tp_src=67,tp_dst=68", "drop: dhcp_server",
		"Only the network's own DHCP servers answer."}
	DHCPv6Server = &Rule{0x4d, BaseEgress, 70, "udp6,tp_src=547,tp_dst=546", "drop: dhcpv6_server",
		"Only the network's own DHCPv6 servers answer."}
	RouterAdvert = &Rule{0x4e, BaseEgress, 70, "icmp6,icmp_type=134", "drop: router_advertisement",
		"Only the network's own routers advertise."}
	PortSendsIP = &Rule{0x4f, BaseEgress, 65, "ip or ipv6,in_port=P,reg5=P,dl_src=M,source=A", "ct(table=rules_egress,zone=reg5)",
		"IP with a MAC and address of the port; the connection it belongs to is looked up."}
	PortSendsUntracked = &Rule{0x50, BaseEgress, 65, "ip or ipv6,in_port=P,reg5=P,dl_src=M,source=A", "goto rules_egress",
		"As above, for a port whose groups are all stateless."}
	SpoofedARP = &Rule{0x7f, BaseEgress, 10, "arp", "drop: spoofed_arp",
		"ARP with an address that is not the port's."}
	SpoofedIP = &Rule{0x80, BaseEgress, 10, "ip or ipv6", "drop: spoofed_address",
		"A source address that is not the port's."}
	BaseEgressMiss = &Rule{0x51, BaseEgress, 0, "", "drop: not_ip",
		"No protocol that ports may use."}

	SendDiscovery = &Rule{0x52, RulesEgress, 97, "icmp6,ipv6_src=::,icmp_type=131, 135 or 143", "goto accept_or_ingress",
		"Duplicate address detection and its multicast reports."}
	SendDHCP = &Rule{0x53, RulesEgress, 97, "udp 68 to 67", "goto accept_or_ingress",
		"DHCP clients may always ask."}
	SendDHCPv6 = &Rule{0x7a, RulesEgress, 95, "udp6 546 to 547", "goto accept_or_ingress",
		"DHCPv6 clients may always ask, from an address."}
	SendUnspecified = &Rule{0x54, RulesEgress, 96, "source is 0.0.0.0 or ::", "drop: no_source",
		"No other packet may come from no address."}
	SendND = &Rule{0x55, RulesEgress, 95, "icmp6,icmp_type=130, 133, 135 or 136", "goto accept_or_ingress",
		"Neighbour and router discovery may always be sent."}
	SendRevokedAnswer = &Rule{0x81, RulesEgress, 93, "ct_state=+rpl+trk,ct_mark=4/4", "drop: revoked",
		"An answer on a connection that was revoked and could not be removed from conntrack."}
	SendAsked = &Rule{0x78, RulesEgress, 92, "reg8=0/8,ct_state=-rpl+trk,ct_mark=4/4", "set reg8 bit 3, resubmit(,72)",
		"The connection was revoked and could not be removed from conntrack: the present rules say whether it may begin anew."}
	SendSCTP = &Rule{0x8e, RulesEgress, 92, "sctp,reg8=0/8,ct_state=-rpl-inv+trk", "set reg8 bit 3, resubmit(,72)",
		"Open vSwitch's userspace conntrack does not know SCTP's ports: who began is asked of the rules with every packet."}
	SendEstablished = &Rule{0x56, RulesEgress, 90, "reg8=0/8,ct_state=-new+est-inv+trk", "goto accept_or_ingress",
		"The connection was admitted; what is revoked is removed from conntrack."}
	SendOneWay = &Rule{0x82, RulesEgress, 90, "reg8=0/8,ct_state=+new-inv+trk,ct_mark=1/1", "goto accept_or_ingress",
		"The same before anything has come back: rules need not be asked per packet, and a fragment has no ports to ask about."}
	SendRelated = &Rule{0x57, RulesEgress, 90, "reg8=0/8,ct_state=-new-est+rel-inv+trk", "goto accept_or_ingress",
		"An error about an admitted connection."}
	SendStray = &Rule{0x83, RulesEgress, 89, "reg8=0/16, and ct_state=+inv+trk, ct_state=+rel+trk, or tcp,nw_frag=not_later,tcp_flags=-syn,ct_state=+trk", "set reg8 bit 4, resubmit(,72)",
		"The packet belongs to no connection and cannot begin one (Open vSwitch would take TCP without SYN for a connection that it has missed)."}
	EgressRule = &Rule{0x58, RulesEgress, 70, "protocol, port, remote address", "conjunction(id,k/n), …",
		"A rule of a stateful security group, a member it names, or a port that has the group."}
	EgressAdmits = &Rule{0x59, RulesEgress, 70, "conj_id=C,ct_state=-rel-inv+trk", "goto accepted_egress",
		"A rule of a group of the port admits the new connection."}
	EgressRuleStateless = &Rule{0x5a, RulesEgress, 69, "protocol, port, remote address", "conjunction(id,k/n), …",
		"The same of a stateless security group."}
	EgressAdmitsStateless = &Rule{0x5b, RulesEgress, 69, "conj_id=C", "resubmit(,73)",
		"A rule of a stateless group of the port admits the packet, whatever came before."}
	EgressInvalid = &Rule{0x5c, RulesEgress, 50, "ct_state=+inv+trk", "drop: invalid",
		"The packet is broken, or fits no connection and begins none."}
	EgressMidstream = &Rule{0x84, RulesEgress, 49, "reg8=16/16", "drop: stray",
		"TCP in the middle of a connection that is not known, or not any more."}
	RulesEgressMiss = &Rule{0x5d, RulesEgress, 0, "", "drop: no_egress_rule",
		"No rule lets the port send this."}

	CommitEgress = &Rule{0x5e, AcceptEgress, 100, "ip or ipv6", "ct(commit,zone=reg5,exec(set ct_mark bit 0)), resubmit(,73)",
		"The connection's further packets, and the answers, need no rule."}
	AcceptEgressMiss = &Rule{0x5f, AcceptEgress, 0, "", "drop",
		"Nothing else begins connections."}

	OpenTagged = &Rule{0x8d, AcceptOrIngress, 120, "vlan_tci=0x1000/0x1000", "drop: tagged",
		"Ports without port security may not use VLAN tags either; what comes from elsewhere has lost its local VLAN."}
	ToFiltered = &Rule{0x60, AcceptOrIngress, 100, "reg6=V,dl_dst=M", "load port and flags, resubmit(,81)",
		"The MAC is a filtered port's of this node."}
	ToOthers = &Rule{0x61, AcceptOrIngress, 80, "", "goto accepted",
		"It is for somebody else, or for many."}

	ReceiveARP = &Rule{0x62, BaseIngress, 100, "arp", "output:reg5",
		"Every port may receive ARP."}
	ReceiveND = &Rule{0x63, BaseIngress, 100, "icmp6,icmp_type=130, 135 or 136", "output:reg5",
		"Every port may receive neighbour discovery."}
	ReceiveRA = &Rule{0x64, BaseIngress, 100, "icmp6,icmp_type=134,reg8=1/1", "output:reg5",
		"A port with an IPv6 address may receive router advertisements."}
	ReceiveDHCP = &Rule{0x65, BaseIngress, 95, "udp 67 to 68; udp6 547 to 546", "output:reg5",
		"Every port may receive DHCP servers' answers."}
	ReceiveUntracked = &Rule{0x66, BaseIngress, 92, "ip or ipv6,reg8=2/2", "ct_clear, goto rules_ingress",
		"All groups of the port are stateless."}
	ReceiveIP = &Rule{0x67, BaseIngress, 90, "ip or ipv6", "ct(table=rules_ingress,zone=reg5)",
		"The connection is looked up, for this port."}
	BaseIngressMiss = &Rule{0x68, BaseIngress, 0, "", "drop: not_ip",
		"No protocol that ports may use."}

	ReceiveRevokedAnswer = &Rule{0x86, RulesIngress, 93, "ct_state=+rpl+trk,ct_mark=4/4", "drop: revoked",
		"An answer on a connection that was revoked and could not be removed from conntrack."}
	ReceiveAsked = &Rule{0x79, RulesIngress, 92, "reg8=0/8,ct_state=-rpl+trk,ct_mark=4/4", "set reg8 bit 3, resubmit(,82)",
		"The connection was revoked and could not be removed from conntrack: the present rules say whether it may begin anew."}
	ReceiveSCTP = &Rule{0x8f, RulesIngress, 92, "sctp,reg8=0/8,ct_state=-rpl-inv+trk", "set reg8 bit 3, resubmit(,82)",
		"Open vSwitch's userspace conntrack does not know SCTP's ports: who began is asked of the rules with every packet."}
	ReceiveEstablished = &Rule{0x69, RulesIngress, 90, "reg8=0/8,ct_state=-new+est-inv+trk", "output:reg5",
		"The connection was admitted; what is revoked is removed from conntrack."}
	ReceiveOneWay = &Rule{0x87, RulesIngress, 90, "reg8=0/8,ct_state=+new-inv+trk,ct_mark=2/2", "output:reg5",
		"The same before anything has come back: rules need not be asked per packet, and a fragment has no ports to ask about."}
	ReceiveRelated = &Rule{0x6a, RulesIngress, 90, "reg8=0/8,ct_state=-new-est+rel-inv+trk", "output:reg5",
		"An error about an admitted connection."}
	ReceiveStray = &Rule{0x88, RulesIngress, 89, "reg8=0/16, and ct_state=+inv+trk, ct_state=+rel+trk, or tcp,nw_frag=not_later,tcp_flags=-syn,ct_state=+trk", "set reg8 bit 4, resubmit(,82)",
		"The packet belongs to no connection and cannot begin one (Open vSwitch would take TCP without SYN for a connection that it has missed)."}
	IngressRule = &Rule{0x6b, RulesIngress, 70, "protocol, port, remote address", "conjunction(id,k/n), …",
		"A rule of a stateful security group, a member it names, or a port that has the group."}
	IngressAdmits = &Rule{0x6c, RulesIngress, 70, "conj_id=C,ct_state=-rel-inv+trk", "goto accepted_ingress",
		"A rule of a group of the port admits the new connection."}
	IngressRuleStateless = &Rule{0x6d, RulesIngress, 69, "protocol, port, remote address", "conjunction(id,k/n), …",
		"The same of a stateless security group."}
	IngressAdmitsStateless = &Rule{0x6e, RulesIngress, 69, "conj_id=C", "output:reg5",
		"A rule of a stateless group of the port admits the packet, whatever came before."}
	IngressInvalid = &Rule{0x6f, RulesIngress, 50, "ct_state=+inv+trk", "drop: invalid",
		"The packet is broken, or fits no connection and begins none."}
	IngressMidstream = &Rule{0x89, RulesIngress, 49, "reg8=16/16", "drop: stray",
		"TCP in the middle of a connection that is not known, or not any more."}
	RulesIngressMiss = &Rule{0x70, RulesIngress, 0, "", "drop: no_ingress_rule",
		"No rule lets the port receive this."}

	CommitIngress = &Rule{0x71, AcceptIngress, 100, "ip or ipv6", "ct(commit,zone=reg5,exec(set ct_mark bit 1)), output:reg5",
		"The connection's further packets, and the answers, need no rule."}
	AcceptIngressMiss = &Rule{0x72, AcceptIngress, 0, "", "drop",
		"Nothing else begins connections."}

	DroppedSource = &Rule{0x8a, Dropped, 10, "reg5=P,reg9=1", "drop: source",
		"Counts what the port sent from addresses, or of kinds, that are not its own; table 71 counts it by reason."}
	DroppedEgress = &Rule{0x8b, Dropped, 10, "reg5=P,reg9=2", "drop: egress",
		"Counts what the port sent against its groups' rules; table 72 counts it by reason."}
	DroppedIngress = &Rule{0x8c, Dropped, 10, "reg5=P,reg9=3", "drop: ingress",
		"Counts what came for the port against its groups' rules; tables 81 and 82 count it by reason."}
	DroppedFlow = &Rule{0x73, Dropped, 0, "", "drop",
		"Whose packet it was is not known any more."}

	ToOpen = &Rule{0x74, Deliver, 12, "reg6=V,dl_dst=M", "output:P",
		"The MAC is that of a port of this node that is not filtered."}
	ToMany = &Rule{0x75, Deliver, 10, "reg6=V,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", "each filtered port through base_ingress, the others, patch-tun",
		"A copy for everybody passes each port's own filter."}
	ToUnknown = &Rule{0x76, Deliver, 10, "reg6=V,dl_dst=00:00:00:00:00:00/01:00:00:00:00:00", "the ports without port security, patch-tun",
		"An unknown MAC is no filtered port's."}
	DeliverNormal = &Rule{0x77, Deliver, 1, "", "NORMAL",
		"The network has no filtered ports here."}
)

// firewallRules lists the firewall's rules in the order of the tables, highest priority first.
func firewallRules() []*Rule {
	return []*Rule{
		PortEnter,
		FilteredEnter, OpenEnter, TunnelEnter, SwitchTunnels, SwitchMiss,
		EgressTracked, EgressTagged, PortMACChecked, SpoofedMAC, PortSendsARP, PortSendsRARP, PortAdvertises, AdvertisesOther,
		DHCPDiscover, UnspecifiedIPv6, DHCPServer, DHCPv6Server, RouterAdvert, PortSendsIP, PortSendsUntracked,
		SpoofedARP, SpoofedIP, BaseEgressMiss,
		SendDiscovery, SendDHCP, SendUnspecified, SendDHCPv6, SendND, SendRevokedAnswer, SendAsked, SendSCTP, SendEstablished, SendOneWay, SendRelated,
		SendStray, EgressRule, EgressAdmits, EgressRuleStateless, EgressAdmitsStateless, EgressInvalid, EgressMidstream, RulesEgressMiss,
		CommitEgress, AcceptEgressMiss,
		OpenTagged, ToFiltered, ToOthers,
		ReceiveARP, ReceiveND, ReceiveRA, ReceiveDHCP, ReceiveUntracked, ReceiveIP, BaseIngressMiss,
		ReceiveRevokedAnswer, ReceiveAsked, ReceiveSCTP, ReceiveEstablished, ReceiveOneWay, ReceiveRelated, ReceiveStray, IngressRule, IngressAdmits,
		IngressRuleStateless, IngressAdmitsStateless, IngressInvalid, IngressMidstream, RulesIngressMiss,
		CommitIngress, AcceptIngressMiss,
		DroppedSource, DroppedEgress, DroppedIngress, DroppedFlow,
		ToOpen, ToMany, ToUnknown, DeliverNormal,
	}
}
