package node

import (
	"context"
	"errors"

	"quorumhub/auth"
	"quorumhub/web/gateway/registry"
)

// topicCallers tells the policies of topics who calls. It implements topics.Callers.
type topicCallers struct{ n *Node }

// Way implements topics.Callers.
func (c *topicCallers) Way(name string, steps []registry.Step) (func(context.Context) error, error) {
	if c.n.guard == nil {
		return nil, errors.New("this hub asks for no credentials (auth.mode)")
	}
	var sequence []auth.Step
	for _, s := range steps {
		sequence = append(sequence, auth.Step{Strategy: s.Strategy, Of: s.Of, Require: s.Require, Min: s.Min})
	}
	demand, err := c.n.guard.Demand(name, sequence)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		caller := auth.CallerOf(ctx)
		if caller.Prove == nil {
			return &auth.UnprovenError{Demand: demand}
		}
		return caller.Prove(ctx, demand)
	}, nil
}

// Key implements topics.Callers.
func (c *topicCallers) Key(ctx context.Context) string {
	caller := auth.CallerOf(ctx)
	return caller.Name()
}
