package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"baryon/internal/bridgenic"
	"baryon/internal/telemetry"
)

const bridgeNICHelp = `Take a NIC into a bridge of Open vSwitch, or give it back, without cutting this node off.

The NIC's addresses and routes (default routes and IPv6 too) move to the bridge, which keeps the NIC's MAC and MTU.  Before, those who could
tell whether the node is still reached are asked: the servers and the gateways of default routes.  If none of those who answered then answers
within the time given by --confirm, everything is put back.  What is done is written down first, so that the agent (or the next call)
repairs it after a crash, and does it again after a reboot.  --undo moves what the bridge has by then back to the NIC.

Whatever gives the NIC its address at boot (DHCP client, ifupdown, netplan) should afterwards name the bridge.`

func agentBridgeNIC() *cobra.Command {
	var (
		c           bridgenic.Config
		bridge, nic string
		undo        bool
	)
	cmd := &cobra.Command{
		Use: "bridge-nic --bridge BRIDGE (--nic NIC | --undo)", Short: "Take a NIC with its addresses into a bridge, or give it back", Long: bridgeNICHelp,
		Args:    cobra.NoArgs,
		Example: "  baryon agent bridge-nic --bridge br-ex --nic eth1 --server 192.0.2.5:6610\n  baryon agent bridge-nic --bridge br-ex --undo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The terminal may be reached through the NIC; its end must not be the end of what puts it back.
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
			log, err := telemetry.NewLogger(os.Stderr, "text", "info")
			if err != nil {
				return err
			}
			c.Log = log
			if undo {
				return bridgenic.Undo(cmd.Context(), c, bridge)
			}
			return bridgenic.Take(cmd.Context(), c, bridge, nic)
		},
	}
	f := cmd.Flags()
	f.StringVar(&bridge, "bridge", "", "the bridge, made if there is none")
	f.StringVar(&nic, "nic", "", "the NIC to take")
	f.BoolVar(&undo, "undo", false, "give the bridge's NIC back")
	f.StringSliceVar(&c.Servers, "server", nil, "addresses of servers that must stay reachable (host:port)")
	f.DurationVar(&c.Confirm, "confirm", 30*time.Second, "how long nobody may answer before everything is put back")
	f.BoolVar(&c.Unconfirmed, "unconfirmed", false, "go on although nobody answers who could confirm")
	f.StringVar(&c.StateDir, "state-dir", "/var/lib/baryon", "state directory of the agent")
	f.StringVar(&c.OVSRunDir, "ovs-run-dir", "/run/openvswitch", "where Open vSwitch keeps its sockets")
	f.StringVar(&c.Datapath, "datapath-type", "", "of a bridge that is made: system or netdev (default: br-int's)")
	cmd.MarkFlagsOneRequired("nic", "undo")
	cmd.MarkFlagsMutuallyExclusive("nic", "undo")
	if err := cmd.MarkFlagRequired("bridge"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// repairInterval is how soon a crash of bridge-nic is noticed.
const repairInterval = 5 * time.Second

// repairNICs ends what a crashed bridge-nic has left, first of all what a reboot has undone.
func repairNICs(ctx context.Context, c bridgenic.Config, log *slog.Logger) {
	told := ""
	for boot := true; ; {
		err := bridgenic.Repair(ctx, c, boot)
		if boot = boot && err != nil; err != nil && ctx.Err() == nil && err.Error() != told { // Open vSwitch may come later
			told = err.Error()
			log.Error("cannot repair NICs, will retry", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(repairInterval):
		}
	}
}
