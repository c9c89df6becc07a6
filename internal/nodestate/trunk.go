package nodestate

// Trunk is a port that carries other ports as VLANs.  The node of the parent port gets it, together with the Port and Network records
// of all its ports.
type Trunk struct {
	ID       string
	PortID   string // the parent, whose own packets are untagged
	AdminUp  bool
	SubPorts []SubPort // sorted by Tag
}

// SubPort is one port inside a trunk.
type SubPort struct {
	PortID string
	Tag    uint16 // VLAN id on the guest's side, 1 to 4094
}

// Key is the trunk's.
func (t *Trunk) Key() Key { return TrunkKey(t.ID) }

// TrunkKey names a trunk's record.
func TrunkKey(id string) Key { return Key{KindTrunk, id} }
