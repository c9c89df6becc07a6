// Package agent is the composition root of a node.
package agent

import (
	"context"
	"errors"
)

type agent struct{ cfg Config }

func newAgent(cfg Config) (*agent, error) { return &agent{cfg: cfg}, nil }

func (a *agent) run(ctx context.Context) error { <-ctx.Done(); return nil }

func (c Config) withDefaults() (Config, error) {
	if c.Host == "" {
		return c, errors.New("start agent: no host name")
	}
	return c, nil
}
