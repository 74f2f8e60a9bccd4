package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/configs"
	"quorumhub/delivery"
	"quorumhub/delivery/credential"
	"quorumhub/delivery/egress"
	"quorumhub/delivery/fetch"
	"quorumhub/delivery/intent"
	"quorumhub/delivery/placement"
	"quorumhub/delivery/retry"
	"quorumhub/delivery/sweep"
	"quorumhub/hub"
	"quorumhub/store"
	"quorumhub/web"
)

// outboundClients are the guarded clients of a node: to subscribers, and to the topics that it fetches.
type outboundClients struct{ callbacks, topics *egress.Client }

// newOutboundClients opens them. own is host:port of each place where this node listens, or would listen in a cluster.
func newOutboundClients(cfg *configs.Config, own []string, rules *egress.TLSRules) (*outboundClients, error) {
	callbacks, err := egressPolicy("delivery.egress", cfg.Delivery.Egress, own)
	if err != nil {
		return nil, err
	}
	topics, err := egressPolicy("fetch.egress", cfg.Fetch.Egress, own)
	if err != nil {
		return nil, err
	}
	return &outboundClients{
		callbacks: egress.NewClient(callbacks, egress.ClientOptions{MaxIdlePerHost: cfg.Delivery.Concurrency, TLS: rules}),
		topics:    egress.NewClient(topics, egress.ClientOptions{TLS: rules}),
	}, nil
}

func (c *outboundClients) close() {
	c.callbacks.Close()
	c.topics.Close()
}

// Outbound wires the delivery room: everything that makes requests to the outside.
type Outbound struct {
	dispatcher *delivery.Dispatcher
	verifier   *intent.Verifier
	fetcher    *fetch.Fetcher
	sweeper    *sweep.Sweeper
	placer     *placement.Placer
	replayer   *delivery.Replayer
	sender     *delivery.Sender
	attempts   *attemptMetrics

	credentials *credential.Book
	notices     *hub.TopicNotices
	contents    *hub.TopicContents
}

// OutboundOptions configures an Outbound. All fields are required.
type OutboundOptions struct {
	Config     *configs.Config
	Log        *slog.Logger
	Node       string
	Namer      *hub.TopicNamer
	Store      *store.Store
	Raft       *LateNode
	Secrets    hub.SecretBox
	Registry   *prometheus.Registry
	Callbacks  http.RoundTripper // carries deliveries and verifications
	Topics     TopicClient       // carries fetches of topics
	Recipients sweep.Recipients
	References hub.ReferenceKeys // of references in place of content
	Policies   hub.DeliveryPolicies
}

// TopicClient is a client with the policy that decides which addresses it may connect to.
type TopicClient interface {
	http.RoundTripper
	Policy() *egress.Policy
}

// NewOutbound wires the delivery room. Nothing is sent before Start.
func NewOutbound(o OutboundOptions) *Outbound {
	out := &Outbound{attempts: newAttemptMetrics(o.Registry)}
	agent := egress.UserAgent(programVersion(), o.Config.PublicURL())
	out.credentials = credential.NewBook(credential.Options{State: o.Store, Secrets: o.Secrets, Client: o.Callbacks, Clock: o.Raft, UserAgent: agent})
	out.notices = hub.NewTopicNotices(o.Store, o.Namer)
	out.contents = hub.NewTopicContents(o.Store)
	out.dispatcher = delivery.NewDispatcher(delivery.DispatcherOptions{
		Node: o.Node, HubURL: o.Config.PublicURL() + "/hub", Signature: o.Config.Hub.Signature, SignatureFor: o.Config.Hub.SignatureFor,
		Namer: o.Namer, State: o.Store, Messages: o.Store, Parts: o.Store, Proposer: o.Raft, Secrets: o.Secrets, Clock: o.Raft, Log: o.Log,
		Credentials: out.credentials,
		Notices:     out.notices,
		Contents:    out.contents,
		References:  delivery.NewReferences(out.contents, o.References, o.Config.PublicURL(), o.Namer, o.Raft),
		Policies:    o.Policies,
		Pusher:      &delivery.Pusher{Client: o.Callbacks, Clock: o.Raft, UserAgent: agent},
		Timeout:     o.Config.Delivery.Timeout,
		Concurrency: o.Config.Delivery.Concurrency,
		PerHost:     o.Config.Delivery.HostConcurrency,
		Retry: retry.Policy{
			Backoff:         backoffOf(&o.Config.Delivery.Retry),
			OverloadWait:    o.Config.Delivery.Retry.OverloadWait,
			MaxAge:          o.Config.Delivery.Retry.MaxAge,
			MaxAttempts:     o.Config.Delivery.Retry.MaxAttempts,
			RefusedAttempts: o.Config.Delivery.Retry.RefusedAttempts,
		},
		CursorFlush: o.Config.Delivery.CursorFlush,
		Contact:     o.Raft.Contact,
		Attempted:   out.attempts.attempted,
	})
	out.placer = placement.NewPlacer(placement.Options{State: o.Store, Proposer: o.Raft, Cluster: o.Raft, Log: o.Log})
	out.verifier = intent.NewVerifier(intent.Options{
		Caller: &intent.Caller{Client: o.Callbacks, Clock: o.Raft, UserAgent: agent, Timeout: o.Config.Hub.Verification.Timeout, Credentials: out.credentials},
		State:  o.Store, Times: o.Store, Proposer: o.Raft, Leadership: o.Raft, Clock: o.Raft, Log: o.Log,
		Attempts: o.Config.Hub.Verification.Attempts, Candidates: out.placer.Candidates,
		UnknownTopic: unknownTopic(web.Profile(o.Config.Hub.Profile)),
		Limits:       callbackLimits(o.Config),
	})
	out.fetcher = fetch.NewFetcher(fetch.Options{
		Reader: &fetch.Reader{Client: o.Topics, Clock: o.Raft, UserAgent: agent,
			Timeout: o.Config.Fetch.Timeout, MaxBytes: int64(o.Config.Message.MaxBytes)},
		Namer: o.Namer, State: o.Store, Proposer: o.Raft, Leadership: o.Raft, Log: o.Log,
	})
	out.sweeper = sweep.NewSweeper(sweep.Options{
		State: o.Store, Proposer: o.Raft, Leadership: o.Raft, Clock: o.Raft, Log: o.Log,
		Retention: o.Store, MaxAge: o.Config.Retention.MaxAge, MaxBytes: int64(o.Config.Retention.MaxBytes),
		Grown: o.Store.Grown(), DiskShort: o.Raft.DiskShort,
		Recipients: o.Recipients,
		Letters:    sweep.LetterRetention{MaxAge: o.Config.Letters.MaxAge, MaxCount: o.Config.Letters.MaxCount, MaxBytes: int64(o.Config.Letters.MaxBytes)},
	})
	out.replayer = delivery.NewReplayer(out.dispatcher, o.Store)
	out.sender = delivery.NewSender(out.dispatcher)
	o.Registry.MustRegister(newDeliveryCollector(out.dispatcher), newBacklogCollector(out.dispatcher, out.replayer))
	return out
}

// unknownTopic returns a profile's message for an unknown topic; nil means the default message.
func unknownTopic(p web.Profile) func(string) string {
	if p == web.ProfileNative {
		return nil
	}
	return web.UnknownTopic
}

// egressPolicy builds the policy for one kind of outbound request. It denies the node's own addresses.
func egressPolicy(key string, e configs.Egress, own []string) (*egress.Policy, error) {
	var deny []netip.AddrPort
	for _, addr := range own {
		if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
			deny = append(deny, a.AddrPort())
		}
	}
	o := egress.PolicyOptions{Mode: egress.Mode(e.Mode), AllowCIDRs: e.AllowCIDRs, AllowHosts: e.AllowHosts, DenyAddrs: deny, ProxyAuth: e.ProxyAuth}
	if e.Proxy != "" {
		u, err := url.Parse(e.Proxy)
		if err != nil {
			return nil, fmt.Errorf("%s.proxy: %w", key, err)
		}
		o.Proxy = u
	}
	p, err := egress.NewPolicy(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return p, nil
}

// Observer returns the observer of applied events.
func (o *Outbound) Observer() hub.Observer {
	return delivery.Observers{o.credentials, o.notices, o.contents, o.dispatcher, o.verifier, o.fetcher, o.placer, o.replayer, o.sender}
}

// Reload makes everything start over from a state that a snapshot has replaced.
func (o *Outbound) Reload() {
	o.credentials.Reload()
	o.notices.Reload()
	o.contents.Reload()
	o.dispatcher.Reload()
	o.verifier.Reload()
	o.fetcher.Reload()
	o.placer.Reload()
	o.replayer.Reload()
	o.sender.Reload()
}

// Start begins all work.
func (o *Outbound) Start(ctx context.Context) {
	o.dispatcher.Start(ctx)
	o.verifier.Start(ctx)
	o.fetcher.Start(ctx)
	o.sweeper.Start(ctx)
	o.placer.Start(ctx)
	o.replayer.Start(ctx)
	o.sender.Start(ctx)
}

// Close finishes all work. If it returns without an error, the cursors are saved in the log.
func (o *Outbound) Close(ctx context.Context) error {
	o.placer.Close()
	o.replayer.Close()
	o.sender.Close()
	o.sweeper.Close()
	o.fetcher.Close()
	o.verifier.Close()
	return o.dispatcher.Close(ctx)
}

// backoffOf returns the configured backoff: the schedule if there is one, else the range.
func backoffOf(r *configs.Retry) retry.Backoff {
	if len(r.Schedule) > 0 {
		return retry.Backoff{Schedule: r.Schedule}
	}
	return retry.Backoff{Initial: r.Initial, Max: r.MaxInterval}
}
