// Package openflow speaks OpenFlow 1.3, 1.4 and 1.5 with Open vSwitch: values, text, wire and connection.  It stands alone: it
// uses the standard library only and knows nothing of the network that its flows make.
//
// # Values
//
// A Flow is a Match plus Actions in a table.  A Match is immutable and comparable: inside it is its own canonical wire form, so
// it is a map key, and encoding it is a copy.  Flow.Key is what a switch tells flows apart by (table, priority, match).
//
//	openflow.Flow{
//		Table: 21, Priority: 1,
//		Match:   openflow.MatchOf(openflow.VLAN(7), openflow.ARPTPA(netip.MustParsePrefix("10.0.0.5/32"))),
//		Actions: []openflow.Action{openflow.SetEthSrc(mac), openflow.OutInPort},
//	}
//
// A mistake in a match (a prefix of the wrong family, two values for one field) makes a Match whose Err is set; it prints, but
// nothing encodes it, so it never reaches a switch as something wider than meant.
//
// # Text
//
// Flow.String prints what `ovs-ofctl --no-stats --no-names -O OpenFlow14 dump-flows` prints for the flow without its leading
// blank, and ParseFlow reads that back, as well as most of what ovs-ofctl(8) accepts in add-flow.  Printer and Parser do the same
// with names for ports and tables.
//
// # Wire and connection
//
// Conn is one persistent connection.  Every request carries a transaction id (xid); an answer or an error goes to the caller
// whose message had that xid.  Apply sends any number of flow mods as one atomic, ordered bundle.  DialBridge reaches a bridge's
// management socket, Listener accepts switches that dial us as their controller.  All methods of Conn may be called from any
// goroutine.
//
// Sources: OpenFlow Switch Specification 1.3.5, 1.4.1 and 1.5.1 (ONF), ovs-fields(7), ovs-actions(7), ovs-ofctl(8), and Open
// vSwitch itself, which is the oracle of the tests.
package openflow
