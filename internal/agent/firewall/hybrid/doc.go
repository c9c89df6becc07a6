// Package hybrid is the iptables_hybrid firewall: the security groups of ports that are plugged through a Linux bridge, as iptables
// chains and ipsets with Neutron's names.
//
//	guest ── tapP ── qbrP ── qvbP ══ qvoP ── br-int
//	          └─ iptables: FORWARD → neutron-openvswi-FORWARD → sg-chain → oP (from the guest), iP (to it)
//
// Data flow: records and plugged ports → Engine (pure: wanted chains, wanted sets, ports whose connections must be checked) →
// Firewall, which has package netfilter carry it out.  The meaning of the rules is that of package firewall; a test holds the chains
// against it.
//
// Invariants: a port is Ready only while its rules are in the kernel; the caller keeps any other port on the dead VLAN.  Chains of a
// port that leaves stay until the caller says that nothing passes it any more (Finish).  Before a server has confirmed the state,
// chains that no record speaks of stay.  A port keeps its conntrack zone for as long as it is here, across restarts.
//
// Callers: the agent's loop, one call at a time.
package hybrid
