// Package ovsdb drives Open vSwitch's configuration database: bridges, ports, tags and controllers.
//
// Data flow: Run keeps a session to ovsdb-server (monitor with a cache in memory); events only mark rows, Poll re-reads the marked
// rows and says which ports changed, Port and Bridge look at the picture Poll made.  Apply turns wanted bridges, ports and tags into
// one transaction, and the number it returns is reached by CurCfg once ovs-vswitchd has done what the transaction says.
//
// Ownership: a Port row that the driver made carries external_ids:baryon=owner; only such ports are ever removed.  Ports plugged by
// others (Nova, libvirt, an operator) get tags and nothing else.  Bridges are created if missing, completed if present, never removed.
//
// One caller (the agent's loop) uses Poll, Port, Bridge and Apply; Run is on a goroutine of its own.
package ovsdb

import (
	"maps"
	"slices"
)

// The ownership mark in Port.external_ids.
const (
	OwnerKey   = "baryon"
	OwnerValue = "owner"
)

// Keys of Interface.external_ids.
const (
	KeyIfaceID     = "iface-id"     // port id (written by whoever plugs)
	KeyAttachedMAC = "attached-mac" // the port's MAC
	KeyIfaceStatus = "iface-status" // "active"
	KeyPlug        = "baryon-plug"  // changes whenever the plug's instance data does
)

// VLAN tags.
const (
	NoTag   = -1   // no tag at all
	DeadTag = 4095 // the dead VLAN: nothing is switched there
)

// Bridge is a wanted bridge.  Columns not named here are left alone.
type Bridge struct {
	Name         string
	DatapathType string            // system, netdev
	FailMode     string            // secure
	Protocols    []string          // added to what is there
	OtherConfig  map[string]string // merged into what is there
	ExternalIDs  map[string]string // merged into what is there
	Controller   string            // target: tcp:127.0.0.1:6633
	ProbeMS      int               // Controller.inactivity_probe, milliseconds
	MaxBackoffMS int               // Controller.max_backoff, milliseconds, at least 1000
}

// Port is a wanted port of ours with its one interface.
type Port struct {
	Name        string
	Bridge      string
	Type        string            // patch, vxlan, gre, internal
	Options     map[string]string // exactly these
	ExternalIDs map[string]string // of the Interface; merged into what is there
	MTU         int               // mtu_request, bytes; 0: not set
	Dead        bool              // created on the dead VLAN, as a trunk that carries nothing else; tags are then up to Tagging
}

// Equal reports that a port that looks like have needs no change to be p.
func (p Port) Equal(have Port) bool {
	return p.Bridge == have.Bridge && p.Type == have.Type && maps.Equal(p.Options, have.Options) &&
		contains(have.ExternalIDs, p.ExternalIDs) && (p.MTU == 0 || p.MTU == have.MTU)
}

// Tagging is what a port on br-int is told about its VLAN, whoever made the port.
type Tagging struct {
	Tag         int    // NoTag, a local VLAN 1–4094, or DeadTag
	Mode        string // vlan_mode; "" for none
	Trunks      []int
	OtherConfig map[string]string // of the Port; merged into what is there
}

// Equal reports that a port tagged like have needs no change to be tagged like t.
func (t Tagging) Equal(have Tagging) bool {
	return t.Tag == have.Tag && t.Mode == have.Mode && slices.Equal(t.Trunks, have.Trunks) && contains(have.OtherConfig, t.OtherConfig)
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			return false
		}
	}
	return true
}

// PortView is a port with its interface as the database shows it.  Its maps and slices must not be changed.
type PortView struct {
	Name        string
	Bridge      string // "" while the bridge's row is not known
	Ours        bool   // carries our mark
	Type        string
	Options     map[string]string
	ExternalIDs map[string]string // of the Interface
	OFPort      int               // OpenFlow port number; 0: not assigned yet; -1: Open vSwitch could not open it
	Error       string            // Interface.error
	MTURequest  int
	MAC         string
	LinkUp      bool
	Tagging     Tagging
	Limits      Limits // as far as they are ours
}

// AsPort is the view in the terms of a wanted port.
func (v PortView) AsPort() Port {
	return Port{
		Name: v.Name, Bridge: v.Bridge, Type: v.Type, Options: v.Options, ExternalIDs: v.ExternalIDs, MTU: v.MTURequest,
	}
}

// BridgeView is a bridge as the database shows it.
type BridgeView struct {
	Name         string
	DatapathType string
	FailMode     string
	Protocols    []string
	OtherConfig  map[string]string
	ExternalIDs  map[string]string
	Ours         bool // carries our mark
	Connected    bool // the wanted controller is connected
}

// Plan is what one transaction has to do.  The order inside is fixed: bridges, ports, tags, limits, removals.
type Plan struct {
	Bridges []Bridge
	Ports   []Port             // added, or changed where they are
	Tags    map[string]Tagging // by port name, new ones included; ports that are not there are skipped
	Remove  []string           // ports of ours
	Limits  map[string]Limits  // by port name; ports that are not there are skipped
	Claim   []string           // bridges that others made for us and that are ours from now on
	Release []Bridge           // bridges that carry no physical network of ours any more (name and controller are looked at)
	Raze    []string           // bridges of ours that carry nothing of others
	Sweep   bool               // QoS and Queue rows of ours that nothing names go
}

// Empty reports that there is nothing to do.
func (p Plan) Empty() bool {
	return len(p.Bridges) == 0 && len(p.Ports) == 0 && len(p.Tags) == 0 && len(p.Remove) == 0 && len(p.Limits) == 0 &&
		len(p.Claim) == 0 && len(p.Raze) == 0 && len(p.Release) == 0 && !p.Sweep
}

// Changes is what has happened since the last Poll.
type Changes struct {
	Connected bool     // there is a session and the picture is complete
	Session   int      // grows with every new session
	Fresh     bool     // first Poll of a session: every port is listed in Ports, and what vanished meanwhile too
	Ports     []string // names of ports that came, changed or went
	Bridges   bool     // a bridge came, changed or went
	CurCfg    int      // the configuration number ovs-vswitchd has reached
}
