package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/configs"
	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/store"
	"quorumhub/web"
)

// outboundClients are the guarded clients of a node: to subscribers, and to the topics that it fetches.
type outboundClients struct{ callbacks, topics *delivery.Client }

// newOutboundClients opens them. own is host:port of each place where this node listens, or would as a cluster.
func newOutboundClients(cfg *configs.Config, own []string, log *slog.Logger) (*outboundClients, error) {
	callbacks, err := egressPolicy("delivery.egress", cfg.Delivery.Egress, own)
	if err != nil {
		return nil, err
	}
	topics, err := egressPolicy("fetch.egress", cfg.Fetch.Egress, own)
	if err != nil {
		return nil, err
	}
	rules, err := outgoingTLS(cfg, log)
	if err != nil {
		return nil, err
	}
	return &outboundClients{
		callbacks: delivery.NewClient(callbacks, delivery.ClientOptions{MaxIdlePerHost: cfg.Delivery.Concurrency, TLS: rules}),
		topics:    delivery.NewClient(topics, delivery.ClientOptions{TLS: rules}),
	}, nil
}

func (c *outboundClients) close() {
	c.callbacks.Close()
	c.topics.Close()
}

// Outbound is everything that goes out of a node: the delivery room, wired.
type Outbound struct {
	dispatcher *delivery.Dispatcher
	verifier   *delivery.Verifier
	fetcher    *delivery.Fetcher
	sweeper    *delivery.Sweeper
	placer     *delivery.Placer
	replayer   *delivery.Replayer
}

// OutboundOptions configures an Outbound. All fields are required.
type OutboundOptions struct {
	Config    *configs.Config
	Log       *slog.Logger
	Node      string
	Namer     *hub.TopicNamer
	Store     *store.Store
	Raft      *LateNode
	Secrets   hub.SecretBox
	Registry  *prometheus.Registry
	Callbacks http.RoundTripper // carries deliveries and verifications
	Topics    TopicClient       // carries fetches of topics
}

// TopicClient is a client that also says which addresses it may call: redirects are checked against them.
type TopicClient interface {
	http.RoundTripper
	Policy() *delivery.Policy
}

// NewOutbound wires the delivery room. It does nothing before Start.
func NewOutbound(o OutboundOptions) *Outbound {
	out := &Outbound{}
	agent := delivery.UserAgent(programVersion(), o.Config.PublicURL())
	out.dispatcher = delivery.NewDispatcher(delivery.DispatcherOptions{
		Node: o.Node, HubURL: o.Config.PublicURL() + "/hub", Signature: o.Config.Hub.Signature,
		Namer: o.Namer, State: o.Store, Messages: o.Store, Parts: o.Store, Proposer: o.Raft, Secrets: o.Secrets, Clock: o.Raft, Log: o.Log,
		Pusher:      &delivery.Pusher{Client: o.Callbacks, Clock: o.Raft, UserAgent: agent},
		Timeout:     o.Config.Delivery.Timeout,
		Concurrency: o.Config.Delivery.Concurrency,
		PerHost:     o.Config.Delivery.HostConcurrency,
		Retry: delivery.RetryPolicy{
			Backoff:         backoffOf(&o.Config.Delivery.Retry),
			OverloadWait:    o.Config.Delivery.Retry.OverloadWait,
			MaxAge:          o.Config.Delivery.Retry.MaxAge,
			MaxAttempts:     o.Config.Delivery.Retry.MaxAttempts,
			RefusedAttempts: o.Config.Delivery.Retry.RefusedAttempts,
		},
		CursorFlush: o.Config.Delivery.CursorFlush,
		Contact:     o.Raft.Contact,
		Attempted:   newAttemptMetrics(o.Registry).attempted,
	})
	out.placer = delivery.NewPlacer(delivery.PlacerOptions{State: o.Store, Proposer: o.Raft, Cluster: o.Raft, Log: o.Log})
	out.verifier = delivery.NewVerifier(delivery.VerifierOptions{
		Outbound: &delivery.Outbound{Client: o.Callbacks, Clock: o.Raft, UserAgent: agent, Timeout: o.Config.Hub.Verification.Timeout},
		State:    o.Store, Times: o.Store, Proposer: o.Raft, Leadership: o.Raft, Clock: o.Raft, Log: o.Log,
		Attempts: o.Config.Hub.Verification.Attempts, Candidates: out.placer.Candidates,
		UnknownTopic: unknownTopic(web.Profile(o.Config.Hub.Profile)),
		Limits:       callbackLimits(o.Config),
	})
	out.fetcher = delivery.NewFetcher(delivery.FetcherOptions{
		Reader: &delivery.TopicReader{Client: o.Topics, Clock: o.Raft, UserAgent: agent,
			Timeout: o.Config.Fetch.Timeout, MaxBytes: int64(o.Config.Message.MaxBytes)},
		Namer: o.Namer, State: o.Store, Proposer: o.Raft, Leadership: o.Raft, Log: o.Log,
	})
	out.sweeper = delivery.NewSweeper(delivery.SweeperOptions{
		State: o.Store, Proposer: o.Raft, Leadership: o.Raft, Clock: o.Raft, Log: o.Log,
		Retention: o.Store, MaxAge: o.Config.Retention.MaxAge, MaxBytes: int64(o.Config.Retention.MaxBytes),
		Letters: delivery.LetterRetention{MaxAge: o.Config.Letters.MaxAge, MaxCount: o.Config.Letters.MaxCount, MaxBytes: int64(o.Config.Letters.MaxBytes)},
	})
	out.replayer = delivery.NewReplayer(out.dispatcher, o.Store)
	o.Registry.MustRegister(newDeliveryCollector(out.dispatcher), newBacklogCollector(out.dispatcher, out.replayer))
	return out
}

// outgoingTLS reads the certificates for hosts that have their own; nil without any. One that has expired keeps nothing from
// starting: it concerns the hosts of its rule only.
func outgoingTLS(cfg *configs.Config, log *slog.Logger) (*delivery.TLSRules, error) {
	if cfg.Delivery.TLSFile == "" {
		return nil, nil //nolint:nilnil // no rules is a way to run
	}
	rules, err := delivery.LoadTLSRules(cfg.Delivery.TLSFile)
	if err != nil {
		return nil, err
	}
	rules.Failed = func(err error) {
		log.Error("renewed certificates cannot be used; those before them stay in force", "error", err)
	}
	for _, text := range rules.Expired(time.Now()) {
		log.Warn("a client certificate is not valid now; its hosts will refuse it", "rule", text)
	}
	return rules, nil
}

// unknownTopic is how a profile's subscribers are told that there is no such topic; nil for the usual words.
func unknownTopic(p web.Profile) func(string) string {
	if p == web.ProfileNative {
		return nil
	}
	return web.UnknownTopic
}

// egressPolicy builds the policy of one kind of outbound request. The node's own addresses are never called.
func egressPolicy(key string, e configs.Egress, own []string) (*delivery.Policy, error) {
	var deny []netip.AddrPort
	for _, addr := range own {
		if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
			deny = append(deny, a.AddrPort())
		}
	}
	p, err := delivery.NewPolicy(delivery.PolicyOptions{Mode: delivery.Mode(e.Mode), AllowCIDRs: e.AllowCIDRs, AllowHosts: e.AllowHosts, DenyAddrs: deny})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return p, nil
}

// Observer is told of everything applied.
func (o *Outbound) Observer() hub.Observer {
	return delivery.Observers{o.dispatcher, o.verifier, o.fetcher, o.placer, o.replayer}
}

// Reload brings everything up to a state that was replaced by a snapshot.
func (o *Outbound) Reload() {
	o.dispatcher.Reload()
	o.verifier.Reload()
	o.fetcher.Reload()
	o.placer.Reload()
	o.replayer.Reload()
}

// Start takes over what the state holds.
func (o *Outbound) Start(ctx context.Context) {
	o.dispatcher.Start(ctx)
	o.verifier.Start(ctx)
	o.fetcher.Start(ctx)
	o.sweeper.Start(ctx)
	o.placer.Start(ctx)
	o.replayer.Start(ctx)
}

// Close ends all work in good order; cursors are in the log when it returns without an error.
func (o *Outbound) Close(ctx context.Context) error {
	o.placer.Close()
	o.replayer.Close()
	o.sweeper.Close()
	o.fetcher.Close()
	o.verifier.Close()
	return o.dispatcher.Close(ctx)
}

// backoffOf is what a configuration says of the waits: a schedule stands in place of the two bounds.
func backoffOf(r *configs.Retry) delivery.Backoff {
	if len(r.Schedule) > 0 {
		return delivery.Backoff{Schedule: r.Schedule}
	}
	return delivery.Backoff{Initial: r.Initial, Max: r.MaxInterval}
}
