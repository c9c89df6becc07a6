package main

import (
	"context"
	"errors"
	"fmt"

	"baryon/internal/agent/status"
)

// waitWired waits, without the API, until this host's agent says that the port is in the dataplane.
func waitWired(ctx context.Context, stateDir, portID string) error {
	c := status.NewClient(stateDir)
	defer c.Close()
	r, err := c.WaitPort(ctx, portID)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("port %s is plugged, but this host's agent has not wired it yet: %w", portID, err)
	case err != nil:
		return fmt.Errorf("wait for port %s: %w", portID, err)
	case !r.InSync():
		return fmt.Errorf("port %s is plugged but %s: %s", portID, r.State, r.Reason)
	}
	return nil
}
