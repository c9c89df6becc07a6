// Package plug attaches a machine to a port on this host: a network namespace (container), a tap device (QEMU, libvirt) or any
// device that exists already.  It does what Nova's os-vif does, with the same names: the agent recognises the port by the
// interface's external_ids and wires it, whoever plugged it.
//
//	direct:  guest ── tapP ── br-int
//	trunk:   guest ── tapP ── tbrT ══ br-int                        (a bridge per trunk, which the agent joins with br-int by patches)
//	hybrid:  guest ── tapP ── qbrP ── qvbP ══ qvoP ── br-int        (a Linux bridge for iptables in between)
//
// A new port enters br-int on the dead VLAN, so that it passes nothing until the agent has wired it.  Attach is idempotent: a
// second call only corrects what differs.  A call that fails removes what it made.
//
// Ownership: devices named after the port; OVS ports whose external_ids:iface-id is the port.  Callers: package cmd/baryon.
package plug

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"baryon/internal/names"
	"baryon/internal/nodestate"
)

// Spec says what is attached to which port, and how.
type Spec struct {
	PortID   string
	MAC      string // the port's; the guest's device gets it
	MTU      int    // bytes; the network's
	Hybrid   bool
	Bridge   string // "" is br-int; the bridge of a trunk (vif_details' bridge_name) is made if it is not there
	NetNS    string // network namespace that the guest's end is put into; "" for a tap or a device
	Device   string // with NetNS: the device's name in there; without: an existing device to attach, "" for a tap of the port's name
	Owner    string // instance id written to external_ids:vm-uuid, may be empty
	StateDir string // the agent's, where Instance is left for it
	Instance *nodestate.Instance
}

// External ids that a plugger writes and the agent reads.
const (
	keyIfaceID     = "iface-id"
	keyStatus      = "iface-status"
	keyMAC         = "attached-mac"
	keyInstance    = "vm-uuid"
	keyPlug        = "baryon-plug" // digest of the instance file, so that a change of it is seen
	minMTU, maxMTU = 68, 65535
)

var deviceRule = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,15}$`)

// Check tells what is wrong with a spec.
func (s *Spec) Check() error {
	if err := CheckPortID(s.PortID); err != nil {
		return err
	}
	hw, err := net.ParseMAC(s.MAC)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return fmt.Errorf("mac %q: not a unicast Ethernet address", s.MAC)
	}
	if s.MTU < minMTU || s.MTU > maxMTU {
		return fmt.Errorf("mtu %d: must be %d to %d", s.MTU, minMTU, maxMTU)
	}
	if s.Device != "" && !deviceRule.MatchString(s.Device) {
		return fmt.Errorf("device %q: not a device name", s.Device)
	}
	if s.NetNS != "" && strings.ContainsAny(s.NetNS, "/ ") {
		return fmt.Errorf("network namespace %q: not a name in /run/netns", s.NetNS)
	}
	if s.NetNS != "" {
		if _, err := os.Stat(filepath.Join("/run/netns", s.NetNS)); err != nil {
			return fmt.Errorf("network namespace %s: %w", s.NetNS, err)
		}
	}
	return nil
}

// CheckPortID tells whether the text is a port's id: a UUID with dashes.
func CheckPortID(id string) error {
	if u, err := uuid.Parse(id); err != nil || u.String() != id {
		return fmt.Errorf("port %q: not a lower-case UUID", id)
	}
	return nil
}

// Attach plugs the machine into the port.
func Attach(ctx context.Context, s Spec) (err error) {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Bridge == "" {
		s.Bridge = names.BrInt
	}
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	digest, err := writeInstance(s)
	if err != nil {
		return err
	}
	port := portDevice(s)
	sw, err := lookAtSwitch(ctx, s.Bridge, port)
	if err != nil {
		return err
	}
	guest, made, err := guestDevice(s, sw.userspace)
	if made != nil {
		undo = append(undo, made)
	}
	if err != nil {
		return err
	}
	if s.Hybrid {
		made, err := hybrid(s, guest)
		undo = append(undo, made)
		if err != nil {
			return err
		}
	}
	return addPort(ctx, s, port, sw, digest)
}

// portDevice is the device that is put into the bridge.
func portDevice(s Spec) string {
	switch {
	case s.Hybrid:
		return names.Qvo(s.PortID)
	case s.NetNS == "" && s.Device != "":
		return s.Device
	}
	return names.Tap(s.PortID)
}

// Detach removes the port's devices and its OVS port.  What is not there is no error.  A device that was not made by Attach (a tap
// of QEMU's, an existing device) is only taken out of the bridge.
func Detach(ctx context.Context, portID, stateDir string) error {
	if err := CheckPortID(portID); err != nil {
		return err
	}
	ports, err := portsOf(ctx, portID)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range ports {
		errs = append(errs, vsctl(ctx, "--if-exists", "del-port", p))
	}
	errs = append(errs, removeDevices(portID))
	if stateDir != "" {
		if err := os.Remove(instancePath(stateDir, portID)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove instance file: %w", err))
		}
	}
	return errors.Join(errs...)
}

func instancePath(stateDir, portID string) string {
	return filepath.Join(stateDir, "plugs", portID+".json")
}

// writeInstance leaves what the guest is told about itself where the agent finds it, and returns a digest of it.
func writeInstance(s Spec) (string, error) {
	if s.Instance == nil || s.StateDir == "" {
		return "", nil
	}
	text, err := json.Marshal(s.Instance)
	if err != nil {
		return "", fmt.Errorf("write instance: %w", err)
	}
	path := instancePath(s.StateDir, s.PortID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("write instance: %w", err)
	}
	// User data may hold secrets: nobody but root reads it.
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return "", fmt.Errorf("write instance: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("write instance: %w", err)
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, text).String(), nil
}
