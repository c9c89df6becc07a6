// Command baryon is the whole of Baryon in one binary: the server, the agent of a node, and the tools around them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile from git.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	var exit *exitError
	if asExit(err, &exit) {
		os.Exit(exit.code)
	}
	fmt.Fprintln(os.Stderr, "baryon:", err)
	os.Exit(1)
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "baryon",
		Short:         "A virtual network for clouds, labs and bare hosts",
		Version:       version,
		SilenceErrors: true, // main prints the error once
		SilenceUsage:  true,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(serverCommand(), nodeCommand(), agentCommand(), plugCommand(), unplugCommand(), labCommand(), pipelineCommand())
	return cmd
}
