package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/configs"
	"quorumhub/delivery"
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

// outbound wires the delivery room: everything that makes requests to the outside.
type outbound struct {
	callbackPolicy, topicPolicy *egress.Policy
	callbacks, topics           *egress.Client
	dispatcher                  *delivery.Dispatcher
	verifier                    *intent.Verifier
	fetcher                     *fetch.Fetcher
	sweeper                     *sweep.Sweeper
	placer                      *placement.Placer
	replayer                    *delivery.Replayer
}

type outboundOptions struct {
	cfg      *configs.Config
	log      *slog.Logger
	node     string
	namer    *hub.TopicNamer
	store    *store.Store
	raft     raftNode
	clock    hub.Clock
	secrets  hub.SecretBox
	own      []string // host:port where this node listens, or would listen in a cluster
	registry *prometheus.Registry
}

func newOutbound(o outboundOptions) (*outbound, error) {
	out := &outbound{}
	var err error
	if out.callbackPolicy, err = egressPolicy("delivery.egress", o.cfg.Delivery.Egress, o.own); err != nil {
		return nil, err
	}
	if out.topicPolicy, err = egressPolicy("fetch.egress", o.cfg.Fetch.Egress, o.own); err != nil {
		return nil, err
	}
	clock := o.clock
	agent := egress.UserAgent(programVersion(), o.cfg.PublicURL())
	rules, err := outgoingTLS(o.cfg, o.log)
	if err != nil {
		return nil, err
	}
	out.callbacks = egress.NewClient(out.callbackPolicy, egress.ClientOptions{MaxIdlePerHost: o.cfg.Delivery.Concurrency, TLS: rules})
	out.topics = egress.NewClient(out.topicPolicy, egress.ClientOptions{TLS: rules})
	out.dispatcher = delivery.NewDispatcher(delivery.DispatcherOptions{
		Node: o.node, HubURL: o.cfg.PublicURL() + "/hub", Signature: o.cfg.Hub.Signature,
		Namer: o.namer, State: o.store, Messages: o.store, Parts: o.store, Proposer: o.raft, Secrets: o.secrets, Clock: clock, Log: o.log,
		Pusher:      &delivery.Pusher{Client: out.callbacks, Clock: clock, UserAgent: agent},
		Timeout:     o.cfg.Delivery.Timeout,
		Concurrency: o.cfg.Delivery.Concurrency,
		PerHost:     o.cfg.Delivery.HostConcurrency,
		Retry: retry.Policy{
			Backoff:         backoffOf(&o.cfg.Delivery.Retry),
			OverloadWait:    o.cfg.Delivery.Retry.OverloadWait,
			MaxAge:          o.cfg.Delivery.Retry.MaxAge,
			MaxAttempts:     o.cfg.Delivery.Retry.MaxAttempts,
			RefusedAttempts: o.cfg.Delivery.Retry.RefusedAttempts,
		},
		CursorFlush: o.cfg.Delivery.CursorFlush,
		Contact:     o.raft.Contact,
		Attempted:   newAttemptMetrics(o.registry).attempted,
	})
	out.placer = placement.NewPlacer(placement.Options{State: o.store, Proposer: o.raft, Cluster: o.raft, Log: o.log})
	out.verifier = intent.NewVerifier(intent.Options{
		Caller: &intent.Caller{Client: out.callbacks, Clock: clock, UserAgent: agent, Timeout: o.cfg.Hub.Verification.Timeout},
		State:  o.store, Times: o.store, Proposer: o.raft, Leadership: o.raft, Clock: clock, Log: o.log,
		Attempts: o.cfg.Hub.Verification.Attempts, Candidates: out.placer.Candidates,
		UnknownTopic: unknownTopic(web.Profile(o.cfg.Hub.Profile)),
		Limits:       callbackLimits(o.cfg),
	})
	out.fetcher = fetch.NewFetcher(fetch.Options{
		Reader: &fetch.Reader{Client: out.topics, Clock: clock, UserAgent: agent,
			Timeout: o.cfg.Fetch.Timeout, MaxBytes: int64(o.cfg.Message.MaxBytes)},
		Namer: o.namer, State: o.store, Proposer: o.raft, Leadership: o.raft, Log: o.log,
	})
	out.sweeper = sweep.NewSweeper(sweep.Options{
		State: o.store, Proposer: o.raft, Leadership: o.raft, Clock: clock, Log: o.log,
		Retention: o.store, MaxAge: o.cfg.Retention.MaxAge, MaxBytes: int64(o.cfg.Retention.MaxBytes),
		Letters: sweep.LetterRetention{MaxAge: o.cfg.Letters.MaxAge, MaxCount: o.cfg.Letters.MaxCount, MaxBytes: int64(o.cfg.Letters.MaxBytes)},
	})
	out.replayer = delivery.NewReplayer(out.dispatcher, o.store)
	o.registry.MustRegister(newDeliveryCollector(out.dispatcher), newBacklogCollector(out.dispatcher, out.replayer))
	return out, nil
}

// outgoingTLS reads the TLS settings for particular callback hosts; nil without any. An expired certificate is only a warning,
// because it affects no other hosts.
func outgoingTLS(cfg *configs.Config, log *slog.Logger) (*egress.TLSRules, error) {
	if cfg.Delivery.TLSFile == "" {
		return nil, nil //nolint:nilnil // nil means no settings for particular hosts
	}
	rules, err := egress.LoadTLSRules(cfg.Delivery.TLSFile)
	if err != nil {
		return nil, err
	}
	rules.Failed = func(err error) {
		log.Error("cannot load renewed certificates for callbacks; still using the previous ones", "error", err)
	}
	for _, text := range rules.Expired(time.Now()) {
		log.Warn("client certificate for callbacks is not valid now; its hosts will refuse it", "rule", text)
	}
	return rules, nil
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
	p, err := egress.NewPolicy(egress.PolicyOptions{Mode: egress.Mode(e.Mode), AllowCIDRs: e.AllowCIDRs, AllowHosts: e.AllowHosts, DenyAddrs: deny})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return p, nil
}

// observer returns the observer of applied events.
func (o *outbound) observer() hub.Observer {
	return delivery.Observers{o.dispatcher, o.verifier, o.fetcher, o.placer, o.replayer}
}

// reload makes everything start over from a state that a snapshot has replaced.
func (o *outbound) reload() {
	o.dispatcher.Reload()
	o.verifier.Reload()
	o.fetcher.Reload()
	o.placer.Reload()
	o.replayer.Reload()
}

// start begins all work.
func (o *outbound) start(ctx context.Context) {
	o.dispatcher.Start(ctx)
	o.verifier.Start(ctx)
	o.fetcher.Start(ctx)
	o.sweeper.Start(ctx)
	o.placer.Start(ctx)
	o.replayer.Start(ctx)
}

// close finishes all work. If it returns without an error, the cursors are saved in the log.
func (o *outbound) close(ctx context.Context) error {
	o.placer.Close()
	o.replayer.Close()
	o.sweeper.Close()
	o.fetcher.Close()
	o.verifier.Close()
	err := o.dispatcher.Close(ctx)
	o.callbacks.Close()
	o.topics.Close()
	return err
}

// backoffOf returns the configured backoff: the schedule if there is one, else the range.
func backoffOf(r *configs.Retry) retry.Backoff {
	if len(r.Schedule) > 0 {
		return retry.Backoff{Schedule: r.Schedule}
	}
	return retry.Backoff{Initial: r.Initial, Max: r.MaxInterval}
}
