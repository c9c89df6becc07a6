package ovsdb

import (
	"context"
	"os/exec"
	"time"

	"github.com/vishvananda/netlink"
)

// The datapath types.
const (
	DatapathKernel = "system"
	DatapathUser   = "netdev"
)

// DetectDatapath says which datapath this kernel can carry: "system" when it knows the generic netlink family ovs_datapath (after a
// try to load the module), "netdev" otherwise.
func DetectDatapath(ctx context.Context) string {
	return detect(hasFamily, func() error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return exec.CommandContext(ctx, "modprobe", "openvswitch").Run()
	})
}

// detect decides from what the kernel has and whether more can be loaded.
func detect(has func() bool, load func() error) string {
	if has() {
		return DatapathKernel
	}
	// No module and no modprobe are both answers: userspace it is.
	if load() == nil && has() {
		return DatapathKernel
	}
	return DatapathUser
}

// ChooseDatapath says what the bridges that have to be made get.  What was configured counts; then what br-int has, or else another
// bridge of ours that is there, because patch ports join only bridges of one datapath; then what was detected.  An empty type of a
// bridge that is there is the column's default, the kernel's.
func ChooseDatapath(configured, detected string, there []BridgeView) string {
	if configured != "" {
		return configured
	}
	switch {
	case len(there) == 0:
		return detected
	case there[0].DatapathType == "":
		return DatapathKernel
	}
	return there[0].DatapathType
}

func hasFamily() bool {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	return err == nil
}
