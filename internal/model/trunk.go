package model

import "baryon/internal/resource"

// StatusDegraded is the status of a trunk that carries some of its ports only.
const StatusDegraded = "DEGRADED"

// OwnerSubPort is the device owner of a port inside a trunk.
const OwnerSubPort = "trunk:subport"

// SegmentationVLAN is the segmentation type that every subport has in the store; SegmentationInherit asks for the VLAN of the subport's
// network.
const (
	SegmentationVLAN    = "vlan"
	SegmentationInherit = "inherit"
)

// Trunk is a port, the parent, that carries other ports as VLANs.
type Trunk struct {
	Standard
	Name         string    `json:"name"`
	AdminStateUp bool      `json:"admin_state_up"` // false: locked against changes; its traffic goes on
	PortID       ID        `json:"port_id"`
	SubPorts     []SubPort `json:"sub_ports,omitempty"` // in the order in which they were added

	Status string `json:"-"` // computed when shown
}

// SubPort is one port inside a trunk.
type SubPort struct {
	PortID           ID     `json:"port_id"`
	SegmentationType string `json:"segmentation_type"` // a Segmentation constant
	SegmentationID   int    `json:"segmentation_id"`   // VLAN id on the guest's side, 1 to 4094
}

// TrunkTable keeps trunks.  A port belongs to one trunk, as its parent or inside it.
var TrunkTable = resource.NewTable("trunk", func(t *Trunk) string { return string(t.ID) }).
	Index("project", func(t *Trunk) []string { return []string{t.ProjectID} }).
	Index("name", func(t *Trunk) []string { return some(t.Name) }).
	Index("parent", func(t *Trunk) []string { return []string{string(t.PortID)} }).
	Unique("port", func(t *Trunk) []string {
		ids := make([]string, 0, len(t.SubPorts)+1)
		ids = append(ids, string(t.PortID))
		for _, s := range t.SubPorts {
			ids = append(ids, string(s.PortID))
		}
		return ids
	})

// TrunkStatus is what the node of the parent port acknowledged of a trunk.
type TrunkStatus struct {
	TrunkID  ID     `json:"trunk_id"`
	Host     string `json:"host"`
	Revision int64  `json:"revision"` // of the record that was applied
	State    string `json:"state"`    // a nodestate.State
	Reason   string `json:"reason,omitempty"`
}

// TrunkStatusTable keeps what nodes say of trunks.  A trunk without a row is DOWN.
var TrunkStatusTable = resource.NewTable("trunk_status", func(s *TrunkStatus) string { return string(s.TrunkID) })

// TrunkDetails is a trunk as its parent port shows it.
type TrunkDetails struct {
	TrunkID  ID
	SubPorts []SubPort
	MACs     []MAC // of the subports, in the same order
}
