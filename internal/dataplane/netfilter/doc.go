// Package netfilter keeps chains of iptables and ip6tables, ipsets and conntrack entries of one network namespace equal to what is
// wanted, each by its own type:
//
//   - Tables: chains.  One atomic iptables-restore --noflush per family writes all that differs.  What is there is read by
//     iptables-save once and at every resync, not per change.
//   - Sets: ipsets of type hash:net, over netlink.  Grow is called before the chains are written, Shrink after.
//   - Conntrack: lists and deletes entries by zone, over netlink.
//   - Bridge: makes the kernel show bridged packets to iptables.
//
// It knows neither ports nor security groups.  Ownership: chains and sets by the prefixes that the caller names, and in built-in
// chains the rules that jump to such a chain.  Nothing else is touched, nor are policies.
//
// One caller at a time per value; the caller's thread decides the namespace.
package netfilter
