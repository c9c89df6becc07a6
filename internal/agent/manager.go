package agent

import (
	"context"
	"time"

	"baryon/internal/nodestate"
)

// Manager runs one kind of service on the node (DHCP with DNS and RA, metadata) from the records of the kinds it names.
//
// The agent gives each manager one goroutine and calls all its methods from there, one at a time: a manager needs no lock against
// its caller, and a slow Apply delays neither switching nor another manager.  The order is Update (once or several times), Ports,
// Apply; Apply comes again whenever Ready changes, when Open vSwitch has restarted, when Outcome.Retry has passed, and as a
// periodic check, so it must be idempotent and cheap when nothing is to do.
type Manager interface {
	// Name is a word for logs and metrics: "dhcp".
	Name() string
	// Kinds are the records the manager is shown.
	Kinds() []nodestate.Kind
	// Update takes a change of the records, cut down to Kinds.  Complete and Cached mean what they mean in nodestate.Update.
	Update(u nodestate.Update)
	// Ports lists the internal ports of br-int that the manager wants now, sorted by ID.
	Ports() []InternalPort
	// Apply makes the kernel and the servers as wanted and says how far it got.
	Apply(ctx context.Context, in Input) Outcome
	// Close stops servers and closes sockets; namespaces, devices and files stay, so that a restart is invisible.
	Close() error
}

// InternalPort is an internal port of br-int for a service of this node.  The agent creates the row on the dead VLAN
// (tag 4095, vlan_mode trunk, trunks 4095); the device then appears in the agent's own network namespace, the manager moves it into
// Namespace and sets MAC, MTU and addresses, and once the manager calls it placed it gets its network's local VLAN.
type InternalPort struct {
	ID        string        // port id, becomes external_ids:iface-id
	Name      string        // device name, names.Tap(ID)
	MAC       nodestate.MAC // becomes external_ids:attached-mac and the interface's address
	MTU       int           // bytes; becomes mtu_request; 0 leaves the default
	Namespace string        // where the device belongs, for people who read the status
}

// Input is what a manager needs to know from the agent when it applies.
type Input struct {
	// Ready holds the ids of the wanted ports that Open vSwitch has created: the device exists, here or where it was moved to.
	Ready map[string]bool
	// MayRemove is false until a complete state confirmed by a server has been handed to Update.  Nothing may be removed before.
	MayRemove bool
}

// Outcome is what a manager reports after Apply.
type Outcome struct {
	// Placed lists the ids of the ports whose device is in its namespace with its address set.
	Placed []string
	// Statuses are the states of all records the manager answers for (not Port and Network records: those are the switch's).
	// A zero Revision means that of the update that brought the record.  The agent forwards only changes.
	Statuses []nodestate.Status
	// Retry asks for another Apply after this time although nothing changes; zero: no need.
	Retry time.Duration
}
