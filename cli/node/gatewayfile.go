package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"quorumhub/cli/gateway"
	"quorumhub/configs"
	"quorumhub/hub"
	"quorumhub/web/gateway/registry"
)

// firstRegistryPause is the pause between two attempts to apply the first registry.
const firstRegistryPause = 500 * time.Millisecond

// readGatewayFile reads the registry that the configuration names, with its files and the values of its references; nil: none.
func readGatewayFile(cfg *configs.Config) (*registry.Document, error) {
	if cfg.Gateway.File == "" {
		return nil, nil //nolint:nilnil // nil means none
	}
	doc, err := gateway.Ready(cfg.Gateway.File, nil, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("gateway.file: %w", err)
	}
	return &doc, nil
}

// firstRegistry returns the registry to begin with; nil: this hub has one already, or the configuration names none. Once a hub has a
// registry the file is not even read.
func (n *Node) firstRegistry() (*registry.Document, error) {
	known := false
	n.store.View(func(s *hub.State) { _, known = s.Gateway() })
	if known {
		return nil, nil //nolint:nilnil // nil means none
	}
	return readGatewayFile(n.cfg)
}

// applyFirst applies the registry that the hub begins with, as soon as it can, unless another node does. What the hub finds wrong with
// it is logged: only another file, and so another start, can mend it.
func (g *gatewaySource) applyFirst(ctx context.Context, doc *registry.Document) {
	none := ""
	for {
		done, err := g.service().ApplyGateway(ctx, hub.GatewayDocument(*doc), hub.GatewayChange{Replaces: &none, By: "gateway.file"})
		var invalid *hub.InvalidGatewayError
		switch {
		case ctx.Err() != nil, errors.Is(err, hub.ErrGatewayReplaced):
			return
		case err == nil:
			if done.Changed {
				g.log.Info("applied the registry of gateway.file", "hash", done.Hash)
			}
			return
		case errors.As(err, &invalid):
			for _, m := range invalid.Mistakes {
				g.log.Error("gateway.file is refused; the gateway serves nothing", "mistake", m.String())
			}
			g.failed("gateway.file: " + err.Error())
			return
		case hub.CodeOf(err) != hub.CodeUnavailable:
			g.log.Error("cannot apply gateway.file; will retry", "error", err)
		}
		select {
		case <-time.After(firstRegistryPause):
		case <-ctx.Done():
			return
		}
	}
}

// failed shows why there is no registry.
func (g *gatewaySource) failed(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failure = why
}
