package view

import (
	"context"

	"quorumhub/figures"
)

// Figures are what the nodes of a cluster measure. Safe for concurrent use.
type Figures interface {
	// Picture returns the figures of all nodes, which are at most some seconds old. It is shared: treat it as immutable.
	Picture(ctx context.Context) *figures.Picture
}
