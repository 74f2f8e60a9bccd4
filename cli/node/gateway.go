package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/view"
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
	known    bool
	failure  string // why the newest registry could not be read; empty: it was

	server atomic.Pointer[web.Server] // whose gateway serves the registry; nil: not yet
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
		g.failure = ""
		return nil
	}
	g.info, g.document, g.known, g.failure = info, document, ok, ""
	signal(g.changed)
	return nil
}

// Current implements gateway.Source.
func (g *gatewaySource) Current() (gateway.Active, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := registry.Document(g.document)
	return gateway.Active{Document: d, Hash: g.info.Hash, Index: g.info.Index, AppliedAt: g.info.AppliedAt}, g.known
}

// Changed implements gateway.Source.
func (g *gatewaySource) Changed() <-chan struct{} { return g.changed }

// Serving implements view.Gateway.
func (g *gatewaySource) Serving() view.GatewayServing {
	var out view.GatewayServing
	if s := g.server.Load(); s != nil {
		out = s.Serving()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure != "" {
		out.Errors = append(out.Errors, g.failure)
	}
	return out
}

// used returns who has called what through this node.
func (g *gatewaySource) used() []view.GatewayUse {
	if s := g.server.Load(); s != nil {
		return s.ServicesUsed()
	}
	return nil
}

// hash returns the hash of the registry that this node serves.
func (g *gatewaySource) hash() string { return g.Serving().Hash }

// upstreamTransports opens guarded ways to upstreams, each to its own addresses only. own are those where this node listens.
func upstreamTransports(own []string) gateway.Transports {
	var deny []netip.AddrPort
	for _, addr := range own {
		if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
			deny = append(deny, a.AddrPort())
		}
	}
	return func(u registry.Upstream) (http.RoundTripper, error) {
		return egress.NewUpstreamClient(u.URLs, nil, deny, egress.ClientOptions{ConnectTimeout: u.ConnectTimeout})
	}
}
