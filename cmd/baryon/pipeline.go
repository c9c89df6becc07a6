package main

import (
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"baryon/internal/agent/status"
	"baryon/internal/pipeline"
)

// pipelineCommand prints the flow tables that this binary programs.
func pipelineCommand() *cobra.Command {
	var doc bool
	cmd := &cobra.Command{
		Use: "pipeline", Short: "Show the OpenFlow tables of a node and what may stand in them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if doc {
				_, err := fmt.Fprint(cmd.OutOrStdout(), pipeline.Doc())
				return err
			}
			for _, t := range pipeline.Tables() {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-6s %3d %-18s %s\n", t.Bridge, t.ID, t.Name, t.Question); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&doc, "doc", false, "print everything as Markdown: what docs/pipeline.md is")
	return cmd
}

// agentDrops says what br-int has dropped and why.
func agentDrops() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use: "drops", Short: "Count what br-int has dropped: by reason, and by port", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := status.NewClient(stateDir)
			defer c.Close()
			d, err := c.Drops(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TABLE\tREASON\tPACKETS\tWHY")
			for _, r := range d.Reasons {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", r.Table, r.Reason, r.Packets, r.Why)
			}
			fmt.Fprintln(w, "\nPORT\tSTAGE\tPACKETS\t")
			for _, p := range d.Ports {
				fmt.Fprintf(w, "%s\t%s\t%d\t\n", p.Port, p.Reason, p.Packets)
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/baryon", "state directory of the agent")
	return cmd
}

// agentCookie says where a flow comes from.
func agentCookie() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use: "cookie 0x…", Short: "Say for which object and why a flow with this cookie exists", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[0], 0, 64)
			if err != nil {
				return fmt.Errorf("cookie %q: must be a number such as 0xba51…", args[0])
			}
			c := status.NewClient(stateDir)
			defer c.Close()
			w, err := c.Cookie(cmd.Context(), n)
			if errors.Is(err, status.ErrNotFound) {
				return fmt.Errorf("cookie %s is not Baryon's", args[0])
			}
			if err != nil {
				return err
			}
			if w.Owner == "" {
				w.Owner = "the node itself, or an object that is gone"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "table: %s\nowner: %s\nwhy:   %s\n", w.Table, w.Owner, w.Why)
			return err
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/baryon", "state directory of the agent")
	return cmd
}
