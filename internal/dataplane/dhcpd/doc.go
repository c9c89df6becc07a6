// Package dhcpd serves one network's guests with what dnsmasq and radvd give elsewhere: DHCPv4, DHCPv6, router advertisements and
// DNS, in this process and from tables.
//
// Data flow: one packet socket on the network's DHCP device receives every DHCP request and router solicitation (a kernel filter
// lets nothing else through) with the true source MAC of its frame; a pure function (answer4, answer6, advertisement) turns it and
// the current table into a reply; the reply is written as a whole frame with its checksums, so that a client without an address
// gets it and no netfilter CHECKSUM rule is needed.  DNS runs on ordinary sockets inside the namespace; questions about other names go
// out through sockets of the node's own namespace.
//
// Invariants: only ports of the table are answered, by MAC, and only when the frame's source is that MAC; everything else is
// counted and dropped silently.  Apply swaps the whole table at once: no restart, no request lost, and each request sees one table.
// There is no goroutine per port.  Leases are a record for people: what a port gets is decided by the table alone, so several servers
// of one network answer the same.
//
// Ownership: the sockets, and the files of its directory.  One caller for Apply and Close; the rest is internal.
package dhcpd
