package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/hub"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/upstream"
)

// Options configures a Gateway. Source, Callers, Bodies, Publisher, Nonces, Operations and Transports are required.
type Options struct {
	Source     Source
	Callers    Callers
	Bodies     Bodies
	Publisher  Publisher
	Nonces     Nonces
	Operations Operations
	Transports Transports
	// Loaded is called with each registry just before it is in force, and returns what of it cannot be applied. nil: nobody is told.
	Loaded func(*registry.Registry) []string
	Tokens *TokenOptions // nil: services behind get no tokens

	Log      *slog.Logger          // nil: nothing is logged
	Registry prometheus.Registerer // nil: no metrics
	Clock    func() time.Time      // nil: the system clock
}

// Gateway serves the services of a registry. It is an http.Handler for everything below the registry's prefix. Safe for concurrent
// use.
type Gateway struct {
	Options
	pipeline []stage
	ending   []stage
	current  atomic.Pointer[compiled]
	failure  atomic.Pointer[string] // why the newest registry is not the one in force; nil: it is
	metrics  *metrics
	throttle *hub.Throttle[quotaKey]
	running  runningCounts
	usage    usageCounts
	buffers  sync.Pool

	loading sync.Mutex // one load at a time
	stop    context.CancelFunc
	watch   sync.WaitGroup
}

// bufferBytes is how much of a response is passed on at a time.
const bufferBytes = 16 << 10

// New makes a Gateway, which serves nothing before Start.
func New(o Options) (*Gateway, error) {
	switch {
	case o.Source == nil, o.Callers == nil, o.Bodies == nil, o.Publisher == nil, o.Nonces == nil, o.Operations == nil, o.Transports == nil:
		return nil, errors.New("gateway: Source, Callers, Bodies, Publisher, Nonces, Operations and Transports are required")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	g := &Gateway{Options: o, throttle: hub.NewThrottle[quotaKey](maxBuckets, o.Clock())}
	g.buffers.New = func() any { b := make([]byte, bufferBytes); return &b }
	g.pipeline, g.ending = g.stages(), g.finish()
	var err error
	g.metrics, err = newMetrics(o.Registry)
	return g, err
}

// Start serves the registry in force, and each later one as the source changes, until Close.
func (g *Gateway) Start(ctx context.Context) {
	ctx, g.stop = context.WithCancel(ctx)
	g.load()
	g.watch.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.Source.Changed():
				g.load()
			}
		}
	})
}

// Close stops following the source and closes idle connections to upstreams. Requests under way go on.
func (g *Gateway) Close() {
	if g.stop == nil {
		return
	}
	g.stop()
	g.watch.Wait()
	g.current.Load().closePools(nil)
}

// load makes the source's registry the one in force, whole or not at all: one that cannot be served leaves the last good one, and
// requests under way end with the registry that they began with.
func (g *Gateway) load() {
	g.loading.Lock()
	defer g.loading.Unlock()
	active, ok := g.Source.Current()
	before := g.current.Load()
	if !ok || before != nil && before.active.Hash == active.Hash && before.active.Index == active.Index {
		return
	}
	begin := time.Now()
	next, err := g.compile(active, before)
	if err != nil {
		text := err.Error()
		g.failure.Store(&text)
		g.Log.Error("the gateway's registry cannot be served; the last good one goes on", slog.String("hash", active.Hash), slog.String("error", text))
		return
	}
	if g.Loaded != nil {
		next.errors = append(next.errors, g.Loaded(next.registry)...)
	}
	g.current.Store(next)
	g.failure.Store(nil)
	before.closePools(next)
	if before != nil {
		g.metrics.keep(next.named, before.named)
	}
	g.usage.keep(func(service, version string) bool { return next.known[[2]string{service, version}] })
	for _, text := range next.errors {
		g.Log.Warn("part of the gateway's registry cannot be served by this node", slog.String("error", text))
	}
	g.Log.Info("serving the gateway's registry", slog.String("hash", active.Hash), slog.Uint64("index", active.Index), slog.Int("services", len(next.services)),
		slog.Duration("took", time.Since(begin)))
}

// DefaultPrefix is below which the gateway serves unless the registry says otherwise.
const DefaultPrefix = "/gateway"

// Serves reports whether an escaped path is the gateway's.
func (g *Gateway) Serves(path string) bool {
	prefix := DefaultPrefix
	if c := g.current.Load(); c != nil {
		prefix = c.registry.Prefix
	}
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// ServeHTTP takes a request through the stages.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{g: g, at: g.current.Load(), w: w, r: r, start: time.Now(), correlation: w.Header().Get(correlationHeader)}
	defer x.end()
	x.run()
	for _, s := range g.ending {
		_ = s.do(x) // they answer and report, and cannot fail
	}
	if x.cut {
		panic(http.ErrAbortHandler) // only the end of the connection shows that the response is incomplete
	}
}

// run takes the exchange through the pipeline until it fails.
func (x *exchange) run() {
	for _, s := range x.g.pipeline {
		if x.resp != nil && x.resp.final {
			if _, last := s.(respondStage); !last {
				continue
			}
		}
		if err := s.do(x); err != nil {
			x.failed = err
			return
		}
	}
}

// Status is what a node's gateway serves, for operators.
type Status struct {
	Hash     string // of the registry in force; empty: none
	Index    uint64
	LoadedAt time.Time
	Registry *registry.Registry // nil: none
	// Errors are why a newer registry is not in force, and what of the one in force this node cannot serve.
	Errors    []string
	Upstreams []upstream.Status
}

// Status returns what this node serves now.
func (g *Gateway) Status() Status {
	var out Status
	if text := g.failure.Load(); text != nil {
		out.Errors = append(out.Errors, *text)
	}
	c := g.current.Load()
	if c == nil {
		return out
	}
	out.Hash, out.Index, out.LoadedAt, out.Registry = c.active.Hash, c.active.Index, c.loadedAt, c.registry
	out.Errors = append(out.Errors, c.errors...)
	for _, name := range sortedNames(c.pools) {
		out.Upstreams = append(out.Upstreams, c.pools[name].pool.Status())
	}
	return out
}

// Usage returns who has called what through this node since it started.
func (g *Gateway) Usage() []Usage { return g.usage.list() }
