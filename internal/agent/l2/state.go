// Package l2 decides how the node's networks are switched: which local VLAN a network has, how each plugged device is tagged, which
// tunnels exist, and which flows stand on br-int and br-tun.
//
// It is pure: no clock, no IO, no goroutine.  An Engine takes in records (what the control plane wants) and devices (what Open
// vSwitch shows), in any order, and Flush returns what has changed in the wanted state since the last Flush, computed from
// the touched objects only.  Want computes the whole from a State at once with the same rules; that the two agree for every
// history is a property test.
//
// Fail closed: a device gets flows only when its port's record, its network and its local VLAN are all known.  Until the state is
// confirmed by a server, devices that no record speaks of keep what they have; afterwards they go to the dead VLAN.
package l2

import (
	"net/netip"
	"slices"

	"baryon/internal/nodestate"
)

// Node is what the engine knows of its node.
type Node struct {
	Host        string
	TunnelIP    netip.Addr // invalid: no tunnels
	TunnelTypes []string   // vxlan, gre
	VXLANPort   uint16     // 0 or 4789: the default
	Checksum    bool       // tunnels carry an outer checksum
	Filtered    bool       // the openvswitch firewall checks and delivers what ports send and receive (tables 60 and 71 on)
}

func (n Node) tunnels(typ string) bool {
	return n.TunnelIP.IsValid() && slices.Contains(n.TunnelTypes, typ)
}

// Device is a port of br-int that carries an iface-id.
type Device struct {
	Name    string // OVS port and interface
	IfaceID string // the port it claims to be
	OFPort  int    // OpenFlow number; 0: not yet; -1: could not be opened
	Error   string // why not
	Tag     int    // present VLAN tag, -1: none
	Metered bool   // what it sends is limited by a meter of br-int, not by the policing of its interface
	Shaped  bool   // what it receives can be limited by a queue
	Changed bool   // what the tag and the flows were made for was another port than IfaceID: they prove nothing
}

// Place is where a port is switched.
type Place struct {
	Device string
	OFPort int
	VLAN   uint16
	Uplink int // OpenFlow number of the port to the network's provider bridge; 0: it has none
}

// ServicePort is an internal port of br-int that a service of this node wants.
type ServicePort struct {
	ID     string // port id
	Name   string // device
	MAC    nodestate.MAC
	MTU    int
	Placed bool // the device is where it belongs; before that it stays on the dead VLAN
}

// Segment names a network on the wire; a local VLAN belongs to a segment.
type Segment struct {
	NetworkID string
	Type      string
	ID        uint32
}

// State is everything that the wanted state depends on.
type State struct {
	Node      Node
	Confirmed bool // a complete state of a server has been taken in
	Networks  map[string]*nodestate.Network
	Ports     map[string]*nodestate.Port
	Peers     map[nodestate.Key]*nodestate.Peers
	Devices   map[string]Device      // by name
	Services  map[string]ServicePort // by port id
	Trunks    map[string]*nodestate.Trunk
	Guests    map[string]Guest  // devices on the bridges of trunks, by name
	Held      map[string]string // ports that must not pass anything yet, and why
	Tunnels   map[string]int    // OpenFlow numbers of the tunnel ports that exist, by name
	PatchTun  int               // OpenFlow number of patch-tun on br-int; 0: not there yet
	Mappings  map[string]string // physical network → provider bridge
	Unusable  map[string]string // physical networks whose bridge cannot be used, and why
	Links     map[string]Link   // patch ports of the provider bridges that have numbers
	// Distributed: this node hosts distributed routers.
	Distributed bool
	PatchInt    int                // of patch-int on br-tun
	VLANs       map[Segment]uint16 // given local VLANs, and those remembered from before
}

// NewState makes an empty state.
func NewState(n Node) *State {
	return &State{
		Node: n, Networks: map[string]*nodestate.Network{}, Ports: map[string]*nodestate.Port{},
		Peers: map[nodestate.Key]*nodestate.Peers{}, Devices: map[string]Device{}, Services: map[string]ServicePort{}, Held: map[string]string{},
		Trunks: map[string]*nodestate.Trunk{}, Guests: map[string]Guest{},
		Mappings: map[string]string{}, Unusable: map[string]string{}, Links: map[string]Link{},
		Tunnels: map[string]int{}, VLANs: map[Segment]uint16{},
	}
}

// Verdict is what the engine says of a record: how far it is once what is wanted has been applied.
type Verdict struct {
	State  nodestate.State
	Reason string
}

func segmentOf(id string, s nodestate.Segment) Segment { return Segment{id, s.Type, s.SegmentationID} }
