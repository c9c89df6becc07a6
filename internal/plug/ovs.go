package plug

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"baryon/internal/names"
)

// switchState is what plugging has to know of the switch.
type switchState struct {
	userspace bool // the bridge's datapath is ovs-vswitchd itself, not the kernel
	hasPort   bool // the device is a port already
}

// lookAtSwitch asks for both at once: each call of ovs-vsctl is a process.
func lookAtSwitch(ctx context.Context, bridge, dev string) (switchState, error) {
	if ownBridge(bridge) {
		bridge = names.BrInt // whose datapath it has to share
	}
	out, err := vsctlGet(ctx, "--bare", "--columns=datapath_type", "find", "Bridge", "name="+bridge,
		"--", "--columns=_uuid", "find", "Port", "name="+dev)
	if err != nil {
		return switchState{}, err
	}
	var st switchState
	for _, word := range strings.Fields(out) {
		if word == "netdev" {
			st.userspace = true
		} else if _, err := uuid.Parse(word); err == nil {
			st.hasPort = true
		}
	}
	return st, nil
}

// agentMark is how the agent knows what is its own in the switch's database.
const agentMark = "baryon=owner"

// ownBridge tells the bridge of a trunk.
func ownBridge(name string) bool { return strings.HasPrefix(name, names.TrunkPrefix) }

func (s switchState) datapath() string {
	if s.userspace {
		return "netdev"
	}
	return "system"
}

// addPort puts the device into the bridge with the ids by which the agent knows it.  A device that is there already keeps its tag.
func addPort(ctx context.Context, s Spec, dev string, sw switchState, digest string) error {
	var args []string
	if ownBridge(s.Bridge) {
		// Marked as the agent's own: it removes the bridge when the trunk has gone.  No tag: the guest speaks in all VLANs of its trunk.
		args = append(args, "--may-exist", "add-br", s.Bridge, "--", "set", "Bridge", s.Bridge, "datapath_type="+sw.datapath(),
			"external_ids:"+agentMark, "--")
	}
	args = append(args, "--may-exist", "add-port", s.Bridge, dev)
	if !sw.hasPort && !ownBridge(s.Bridge) {
		// The dead VLAN as a trunk of itself: nothing untagged passes before the agent has said which network this is.
		args = append(args, "tag=4095", "vlan_mode=trunk", "trunks=4095")
	}
	ids := []string{keyIfaceID + "=" + s.PortID, keyStatus + "=active", keyMAC + `="` + s.MAC + `"`}
	if s.Owner != "" {
		ids = append(ids, keyInstance+"="+s.Owner)
	}
	if digest != "" {
		ids = append(ids, keyPlug+"="+digest)
	}
	args = append(args, "--", "set", "Interface", dev, "mtu_request="+strconv.Itoa(s.MTU))
	for _, id := range ids {
		args = append(args, "external_ids:"+id)
	}
	return vsctl(ctx, args...)
}

// portsOf finds the OVS ports that stand for a port.
func portsOf(ctx context.Context, portID string) ([]string, error) {
	out, err := vsctlGet(ctx, "--bare", "--columns=name", "find", "Interface", "external_ids:"+keyIfaceID+"="+portID)
	return strings.Fields(out), err
}

// vsctl changes the switch's database without waiting for the switch: the agent, not the plugger, answers for the port's state.
func vsctl(ctx context.Context, args ...string) error {
	_, err := vsctlGet(ctx, args...)
	return err
}

func vsctlGet(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ovs-vsctl", append([]string{"--timeout=10", "--no-wait"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ovs-vsctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}
