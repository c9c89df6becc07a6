package main

import (
	"context"
	"fmt"
)

// waitWired waits, without the API, until this host's agent says that the port is applied.
func waitWired(ctx context.Context, stateDir, portID string) error {
	return fmt.Errorf("%s %s", stateDir, portID)
}
