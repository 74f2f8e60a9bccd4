package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway/registry"
)

// gatewayRetry is the pause before a registry that could not be read is read again.
const gatewayRetry = time.Second

// gatewaySource reads the replicated registry of the gateway whenever it changes. It implements hub.Observer. Call start, and close at
// the end.
type gatewaySource struct {
	service func() *hub.Service
	log     *slog.Logger
	wake    chan struct{}
	changed chan struct{}

	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	info     hub.GatewayInfo
	document hub.GatewayDocument
	registry *registry.Registry // nil: none
	loadedAt time.Time
	known    bool
	failure  string // why the newest registry could not be read; empty: it was
}

func newGatewaySource(service func() *hub.Service, log *slog.Logger) *gatewaySource {
	return &gatewaySource{service: service, log: log, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

// Applied implements hub.Observer.
func (g *gatewaySource) Applied(fx *hub.Effects) {
	if fx.GatewayChanged {
		g.reload()
	}
}

// reload makes the source look at the state again, after it was replaced.
func (g *gatewaySource) reload() { signal(g.wake) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// start reads what there is, and follows the log until close. first is the registry that a hub without one begins with; nil: none.
func (g *gatewaySource) start(ctx context.Context, first *registry.Document) {
	ctx, g.cancel = context.WithCancel(ctx)
	failed := g.read() != nil
	if first != nil {
		g.work.Go(func() { g.applyFirst(ctx, first) })
	}
	g.work.Go(func() { g.follow(ctx, failed) })
}

func (g *gatewaySource) close() {
	if g.cancel != nil {
		g.cancel()
		g.work.Wait()
	}
}

func (g *gatewaySource) follow(ctx context.Context, failed bool) {
	for {
		var again <-chan time.Time
		if failed {
			again = time.After(gatewayRetry)
		}
		select {
		case <-g.wake:
		case <-again:
		case <-ctx.Done():
			return
		}
		failed = g.read() != nil
	}
}

// read takes over the present registry, unless it is the one that was read last.
func (g *gatewaySource) read() error {
	info, document, ok, err := g.service().Gateway()
	var reg *registry.Registry
	if err == nil && ok {
		// It was checked when it was applied, against the hub as it was then: what has changed there since must not take away
		// the gateway.
		var mistakes []registry.Mistake
		if reg, mistakes = registry.Read(registry.Document(document), nil); len(mistakes) > 0 {
			err = fmt.Errorf("this program does not understand it: %w", mistakes[0])
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil:
		if text := err.Error(); text != g.failure {
			g.failure = text
			g.log.Error("cannot read the gateway's registry; the gateway goes on with the one before", "error", err, "hash", info.Hash)
		}
		return err
	case g.known == ok && g.info.Hash == info.Hash && g.info.Index == info.Index:
		if ok {
			g.failure = ""
		}
		return nil
	}
	g.info, g.document, g.registry, g.known, g.failure, g.loadedAt = info, document, reg, ok, "", time.Now()
	signal(g.changed)
	return nil
}

// Serving implements web.Gateway.
func (g *gatewaySource) Serving() web.GatewayServing {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := web.GatewayServing{Hash: g.info.Hash, Index: g.info.Index, LoadedAt: g.loadedAt, Registry: g.registry}
	if g.failure != "" {
		out.Errors = append(out.Errors, g.failure)
	}
	return out
}

// hash returns the hash of the registry that this node serves.
func (g *gatewaySource) hash() string { return g.Serving().Hash }
