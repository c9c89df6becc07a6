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
	if hasFamily() {
		return DatapathKernel
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// No module and no modprobe are both answers: userspace it is.
	if exec.CommandContext(ctx, "modprobe", "openvswitch").Run() == nil && hasFamily() {
		return DatapathKernel
	}
	return DatapathUser
}

func hasFamily() bool {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	return err == nil
}
