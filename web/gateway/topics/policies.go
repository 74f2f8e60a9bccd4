package topics

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"quorumhub/hub"
	"quorumhub/web/gateway/registry"
)

// maxBuckets bounds the callers whose rates are remembered.
const maxBuckets = 20_000

// Callers know who calls. Safe for concurrent use.
type Callers interface {
	// Way returns a check whether the caller of a context has proven who it is by an authenticator or a sequence of steps. The error
	// says what this hub lacks.
	Way(name string, steps []registry.Step) (func(ctx context.Context) error, error)
	// Key identifies the caller of ctx for limits.
	Key(ctx context.Context) string
}

// Options configures Policies. Callers is required.
type Options struct {
	Callers Callers
	// MaxBytes is the largest message.
	MaxBytes int64
	Clock    func() time.Time // nil: the system clock
	Log      *slog.Logger     // nil: nothing is logged
}

// Policies are the policies on topics of the registry in force. Before Load there are none. It implements hub.TopicPolicies and
// hub.DeliveryPolicies. Safe for concurrent use.
type Policies struct {
	o        Options
	now      atomic.Pointer[[]*policy] // in order: the first match applies; nil: none
	throttle *hub.Throttle[bucket]
	keys     recipients
}

// bucket is what a caller may publish under one policy.
type bucket struct{ caller, match string }

// policy is a registry.TopicPolicy, ready to be applied.
type policy struct {
	registry.TopicPolicy
	pattern   registry.Pattern
	rate      hub.Rate
	publish   way
	subscribe way
	content   *content // nil: any
	deliver   *delivery
	broken    error // the authorities of recipients cannot be read: nobody can be encrypted to
}

// way is how callers must prove who they are.
type way struct {
	check  func(ctx context.Context) error // nil: as the hub asks
	broken error                           // this hub lacks what is asked for: nobody can
}

// New returns Policies without any.
func New(o Options) *Policies {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Policies{o: o, throttle: hub.NewThrottle[bucket](maxBuckets, o.Clock())}
}

// Load makes the policies of a registry those in force; nil: none. It returns what of them this node cannot apply: there nothing is
// let through.
func (p *Policies) Load(reg *registry.Registry) (problems []string) {
	if reg == nil || len(reg.Topics) == 0 {
		p.now.Store(nil)
		return nil
	}
	all := make([]*policy, 0, len(reg.Topics))
	for i := range reg.Topics {
		t := &reg.Topics[i]
		pattern, err := registry.ParsePattern(t.Match)
		if err != nil {
			problems = append(problems, fmt.Sprintf("topics %s: match %s", t.Match, err)) // it was checked when it was applied
			continue
		}
		one := &policy{TopicPolicy: *t, pattern: pattern}
		lacks := func(what string, err error) {
			if err != nil {
				problems = append(problems, fmt.Sprintf("topics %s: %s: %v", t.Match, what, err))
			}
		}
		if t.Publish != nil {
			one.rate = hub.Rate(t.Publish.Limits.Rate)
			one.publish = p.way(reg, t.Publish.Auth)
			lacks("publish.auth", one.publish.broken)
			one.content, err = newContent(reg, t.Publish.Body, p.o.MaxBytes)
			lacks("publish.body", err)
		}
		if t.Subscribe != nil {
			one.subscribe = p.way(reg, t.Subscribe.Auth)
			lacks("subscribe.auth", one.subscribe.broken)
		}
		if t.Deliver != nil {
			one.deliver = newDelivery(t.Deliver, p.o.MaxBytes)
			one.deliver.trust, one.broken = trustOf(reg, t.Deliver.Protect)
			lacks("deliver.protect.trust", one.broken)
		}
		all = append(all, one)
	}
	p.now.Store(&all)
	return problems
}

func (p *Policies) way(reg *registry.Registry, name string) (w way) {
	if name == "" || name == registry.AuthNone || name == registry.AuthDefault {
		return w
	}
	w.check, w.broken = p.o.Callers.Way(name, reg.Sequences[name])
	return w
}

// of returns the policy of a topic, or nil.
func (p *Policies) of(topic string) *policy {
	all := p.now.Load()
	if all == nil {
		return nil
	}
	for _, one := range *all {
		if one.pattern.Match(topic) {
			return one
		}
	}
	return nil
}

// Admit implements hub.TopicPolicies.
func (p *Policies) Admit(ctx context.Context, a hub.Action, topic string) error {
	one := p.of(topic)
	if one == nil {
		return nil
	}
	w := one.publish
	if a == hub.ActionSubscribe {
		w = one.subscribe
	}
	switch {
	case w.broken != nil:
		return hub.Errorf(hub.CodeUnavailable, "this topic asks callers to prove themselves in a way that this node does not know; tell its operators")
	case w.check != nil:
		return w.check(ctx)
	}
	return nil
}

// Spend implements hub.TopicPolicies.
func (p *Policies) Spend(ctx context.Context, topic string, messages int) error {
	one := p.of(topic)
	if one == nil || !one.rate.Limited() {
		return nil
	}
	now, key := p.o.Clock(), bucket{p.o.Callers.Key(ctx), one.Match}
	for n := range messages {
		if a := p.throttle.Spend(key, one.rate, now); !a.OK {
			for range n {
				p.throttle.Return(key, one.rate, now)
			}
			return &hub.Error{Code: hub.CodeLimited, RetryAfter: a.Wait,
				Message: fmt.Sprintf("this topic takes at most %d messages in %s from one caller; send more later", one.rate.Requests, one.rate.Per)}
		}
	}
	return nil
}

// ChecksContent implements hub.TopicPolicies.
func (p *Policies) ChecksContent(topic string) bool {
	one := p.of(topic)
	return one != nil && one.content != nil
}

// CheckContent implements hub.TopicPolicies.
func (p *Policies) CheckContent(ctx context.Context, topic, contentType string, body []byte) error {
	one := p.of(topic)
	if one == nil || one.content == nil {
		return nil
	}
	err := one.content.check(contentType, body)
	if err != nil && one.content.lenient {
		p.o.Log.LogAttrs(ctx, slog.LevelWarn, "content is not as its topic asks; accepted, because enforce is false",
			slog.String("topic", topic), slog.String("policy", one.Match), slog.String("error", err.Error()))
		return nil
	}
	return err
}

// CheckSubscription implements hub.TopicPolicies.
func (p *Policies) CheckSubscription(_ context.Context, topic string, callback *url.URL, key string, others func() []string) error {
	one := p.of(topic)
	if key != "" {
		if _, err := p.recipient(topic, key); err != nil {
			return &hub.Error{Code: hub.CodeInvalid, Param: "hub.encryption_key", Message: err.Error()}
		}
	} else if one != nil && one.deliver != nil && one.deliver.encrypts {
		return hub.ParamErrorf("hub.encryption_key", "is missing; this topic sends encrypted messages only: expected a public JWK, or a certificate as x5c or PEM")
	}
	if one == nil || one.Subscribe == nil {
		return nil
	}
	s := one.Subscribe
	if s.RequireHTTPS && !strings.EqualFold(callback.Scheme, "https") {
		return forbidden("hub.callback", "is not https, which this topic requires")
	}
	if len(s.CallbackHosts) > 0 && !slices.ContainsFunc(s.CallbackHosts, func(pattern string) bool { return isHost(pattern, callback.Hostname()) }) {
		return forbidden("hub.callback", "is at a host to which this topic is not sent")
	}
	if most := s.Limits.PerPrincipal; most > 0 {
		have := 0
		for _, name := range others() {
			if p.of(name) == one {
				have++
			}
		}
		if have >= most {
			return &hub.Error{Code: hub.CodeForbidden, Quota: &hub.QuotaUse{Quota: hub.QuotaSubscriptions, Limit: int64(most), Used: int64(have)},
				Message: fmt.Sprintf("one caller may have at most %d subscriptions to such topics; end one first", most)}
		}
	}
	return nil
}

func forbidden(param, text string) error {
	return &hub.Error{Code: hub.CodeForbidden, Param: param, Message: text}
}

// isHost reports whether a host is the one named, or with *. before the name, one below it.
func isHost(pattern, host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	pattern = strings.ToLower(pattern)
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return host == pattern
}

// DeliveryPolicy implements hub.DeliveryPolicies.
func (p *Policies) DeliveryPolicy(topic string) (hub.DeliveryPolicy, bool) {
	if one := p.of(topic); one != nil && one.deliver != nil {
		return one.deliver, true
	}
	return nil, false
}
