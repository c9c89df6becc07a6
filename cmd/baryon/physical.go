package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"baryon/internal/agent"
	"baryon/internal/agent/status"
)

// agentFile is what the agent's configuration file holds.
type agentFile struct {
	BridgeMappings map[string]string `yaml:"bridge_mappings"` // physical network: bridge
	BridgeNICs     map[string]string `yaml:"bridge_nics"`     // bridge: NIC
}

// maxAgentFile bounds the file, in bytes.
const maxAgentFile = 1 << 20

// readAgentFile reads a configuration file.  Unknown keys are errors; an empty file is one without physical networks.
func readAgentFile(path string) (agent.Physical, error) {
	f, err := os.Open(path)
	if err != nil {
		return agent.Physical{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxAgentFile+1))
	if err != nil {
		return agent.Physical{}, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxAgentFile {
		return agent.Physical{}, fmt.Errorf("read configuration: %s has more than %d bytes", path, maxAgentFile)
	}
	var file agentFile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return agent.Physical{}, fmt.Errorf("read configuration: %s: %w", path, err)
	}
	return agent.Physical{Mappings: file.BridgeMappings, NICs: file.BridgeNICs}, nil
}

// physical fills in the physical networks, from the file or from flags.
func (a *agentFlags) physical() error {
	if a.config != "" {
		if len(a.mappings) > 0 || len(a.nics) > 0 {
			return errors.New("--config: bridge mappings and NICs stand in the file or in flags, not in both")
		}
		path := a.config
		var err error
		if a.agent.Physical, err = readAgentFile(path); err != nil {
			return err
		}
		a.agent.Reload = func(context.Context) (agent.Physical, error) { return readAgentFile(path) }
		return nil
	}
	mappings, err := agent.ParseMappings(a.mappings)
	if err != nil {
		return fmt.Errorf("--bridge-mappings: %w", err)
	}
	nics, err := agent.ParseNICs(a.nics)
	if err != nil {
		return fmt.Errorf("--bridge-nic: %w", err)
	}
	a.agent.Physical = agent.Physical{Mappings: mappings, NICs: nics}
	return nil
}

// reloadOnHangup has the agent of this process read its file again on SIGHUP.
func reloadOnHangup(ctx context.Context, stateDir string, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	c := status.NewClient(stateDir)
	defer c.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if err := c.Reload(ctx); err != nil {
				log.Error("configuration not taken over", "err", err)
			}
		}
	}
}

// agentReload has the node's agent read its configuration file again.
func agentReload() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use: "reload", Short: "Read the agent's configuration file again: bridge mappings and NICs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := status.NewClient(stateDir)
			defer c.Close()
			return c.Reload(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/baryon", "state directory of the agent")
	return cmd
}
