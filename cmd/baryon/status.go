package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"baryon/internal/agent/status"
)

// agentStatus shows what a node's agent knows and how far it is.
func agentStatus() *cobra.Command {
	var (
		stateDir string
		asJSON   bool
		wait     time.Duration
	)
	cmd := &cobra.Command{
		Use: "status", Short: "Show every record of this node: wanted and applied revision, and why not", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := status.NewClient(stateDir)
			defer c.Close()
			r, err := askStatus(cmd.Context(), c, wait)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(r)
			}
			return printStatus(cmd, &r)
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/baryon", "state directory of the agent")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long at most until a server has confirmed the state and all of it is applied")
	return cmd
}

// askStatus asks once, or until everything is in sync.
func askStatus(ctx context.Context, c *status.Client, wait time.Duration) (status.Report, error) {
	if wait == 0 {
		return c.Status(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		r, err := c.Status(ctx)
		if err == nil && inSync(&r) {
			return r, nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("confirmed by a server: %t, healthy: %t %v, %s", r.Confirmed, r.Healthy, r.Reasons, r.LastError)
			}
			return r, fmt.Errorf("wait for the agent to be in sync: %w", errors.Join(ctx.Err(), err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func inSync(r *status.Report) bool {
	if !r.Confirmed || !r.Healthy {
		return false
	}
	for _, rec := range r.Records {
		if rec.State == "pending" || rec.Applied < rec.Wanted {
			return false
		}
	}
	return true
}

func printStatus(cmd *cobra.Command, r *status.Report) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "node %s, agent %s, Open vSwitch %s, datapath %s\n", r.Host, r.Version, r.OVSVersion, r.Datapath)
	fmt.Fprintf(out, "revision %d, confirmed by a server since start: %t, healthy: %t", r.Revision, r.Confirmed, r.Healthy)
	if len(r.Reasons) > 0 {
		fmt.Fprintf(out, " (%s)", strings.Join(r.Reasons, "; "))
	}
	fmt.Fprintf(out, "\nflows: br-int %d, br-tun %d\n\n", r.Flows["br-int"], r.Flows["br-tun"])
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tID\tWANTED\tAPPLIED\tSTATE\tDEVICE\tVLAN\tREASON")
	for _, rec := range r.Records {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", rec.Kind, rec.ID, rec.Wanted, rec.Applied, rec.State, rec.Device, rec.LocalTag, rec.Reason)
	}
	for _, d := range r.Unknown {
		fmt.Fprintf(w, "device\t%s\t\t\tunknown port\t%s\t\t\n", d.IfaceID, d.Name)
	}
	return w.Flush()
}
