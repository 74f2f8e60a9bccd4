package hub

import (
	"cmp"
	"context"
	"time"

	"quorumhub/hub/hubpb"
)

// MaxPrincipalBytes is the longest principal.
const MaxPrincipalBytes = 512

// KeyPrincipal returns the principal of an API key.
func KeyPrincipal(id string) string { return "key/" + id }

// caller returns the principal of ctx with its rights and limits, for an event; nil if there is nothing to record:
// nobody is authenticated, or a member of the cluster does not know owners yet.
func (s *Service) caller(ctx context.Context) *hubpb.Caller {
	p := s.principal(ctx)
	operator := s.policy.Operator != nil && s.policy.Operator(ctx)
	if p == "" && !operator {
		return nil
	}
	level := s.featureLevel()
	if level < levelOwners {
		return nil
	}
	q := s.quotas(ctx, p)
	c := &hubpb.Caller{Principal: p, Operator: operator || s.policy.Operator == nil,
		MaxTopics: limit(q.Topics), MaxSubscriptions: limit(q.Subscriptions), MaxRequests: limit(q.PendingRequests),
		MaxKeys: limit(q.IdempotencyKeys), MaxNonces: limit(q.NoncesPerMinute), MaxApiKeys: limit(q.APIKeys)}
	if level >= levelQuotas {
		c.MaxStoredBytes, c.MaxDeadLetterBytes = limitBytes(q.StoredBytes), limitBytes(q.DeadLetterBytes)
	}
	return c
}

// checkFounded refuses what a principal would make while a new cluster has no feature level: it would belong to nobody.
func (s *Service) checkFounded(ctx context.Context) error {
	if s.levelKnown.Load() || s.principal(ctx) == "" {
		return nil
	}
	var level uint32
	s.state.View(func(st *State) { level = st.FeatureLevel() })
	if level == 0 {
		return Errorf(CodeUnavailable, "the nodes of this new cluster have not agreed on a feature level yet, so nothing could have an owner; try again shortly")
	}
	s.levelKnown.Store(true)
	return nil
}

// subscriber is caller for a subscribe or unsubscribe request.
func (s *Service) subscriber(ctx context.Context, r *SubscribeRequest) *hubpb.Caller {
	c := s.caller(ctx)
	switch {
	case c == nil && s.policy.Operator == nil && s.ownersKnown():
		// Without access control everybody may change what principals once owned. Nothing needs to be said about the rest.
		foreign := false
		s.state.View(func(st *State) { foreign = st.foreign(r.pending(nil), nanos(s.now())) })
		if foreign {
			c = &hubpb.Caller{Operator: true}
		}
	case c != nil && r.Options.Group != "" && !c.Operator:
		c.MayJoin = s.authorize(ctx, ActionJoinGroup, r.Topic) == nil
	}
	return c
}

// pending returns the request as the state would hold it, as far as foreign looks at it.
func (r *SubscribeRequest) pending(c *hubpb.Caller) *Request {
	return &Request{Mode: r.Mode, TopicName: r.Topic, CallbackKey: r.CallbackKey, Options: r.Options, Owner: c.GetPrincipal(), caller: c}
}

// checkPending refuses a request that the quotas of c would refuse later, or when it is verified.
func (s *Service) checkPending(r *SubscribeRequest, c *hubpb.Caller) error {
	if c.GetPrincipal() == "" {
		return nil
	}
	refused := Result{}
	s.state.View(func(st *State) {
		h := st.held(c.Principal)
		_, replaces := st.requestByKey[r.pending(c).key()]
		sub, there := st.SubscriptionByKey(r.Topic, r.CallbackKey)
		switch adds := r.Mode == ModeSubscribe && (!there || sub.Owner != c.Principal); {
		case !replaces && reached(h.requests, c.MaxRequests):
			refused = quotaReached(QuotaRequests, h.requests, c.MaxRequests)
		case adds && reached(len(h.subscriptions), c.MaxSubscriptions):
			refused = quotaReached(QuotaSubscriptions, len(h.subscriptions), c.MaxSubscriptions)
		}
	})
	return refused.Err(r.Topic)
}

// publisher returns what an event that publishes to a topic has to record: the caller if the topic may become its own,
// if there is an idempotency key, or if the state has other limits in bytes for the topic's owner; and how many seconds
// the key is remembered.
func (s *Service) publisher(ctx context.Context, topic, key string) (c *hubpb.Caller, window uint32) {
	p := s.principal(ctx)
	if p == "" && key == "" {
		return nil, 0
	}
	var at struct { // one, as it is allocated
		owners, claims, own bool
		have                byteLimits
	}
	s.state.View(func(st *State) {
		at.owners = st.hasOwners()
		t := st.topics[st.topicByName[topic]]
		at.claims = t == nil || t.unclaimed()
		if at.own = t != nil && p != "" && t.Owner == p && st.hasQuotas(); at.own {
			at.have = t.holder.limits
		}
	})
	if !at.owners {
		return nil, 0
	}
	if key != "" {
		window = uint32(max(cmp.Or(s.policy.IdempotencyWindow, DefaultIdempotencyWindow)/time.Second, 1))
	}
	if p == "" || key == "" && !at.claims && !(at.own && s.limits(ctx, p, at.have) != at.have) {
		return nil, window
	}
	return s.caller(ctx), window
}

// pinger returns the caller if a ping may make the topic its own.
func (s *Service) pinger(ctx context.Context, topic string) *hubpb.Caller {
	c, _ := s.publisher(ctx, topic, "")
	return c
}

// operator returns the caller of what an operator does for others, such as an import; nil as caller does.
func (s *Service) operator() *hubpb.Caller {
	if !s.ownersKnown() {
		return nil
	}
	return &hubpb.Caller{Operator: true}
}

// OwnsTopic reports whether a topic belongs to the caller of ctx.
func (s *Service) OwnsTopic(ctx context.Context, topic string) (yes bool) {
	p := s.principal(ctx)
	s.state.View(func(st *State) {
		t := st.topics[st.topicByName[topic]]
		yes = t != nil && t.Belongs(p)
	})
	return yes
}

// refused tells Policy.Refused of a request about what belongs to somebody else.
func (s *Service) refused(ctx context.Context, r *SubscribeRequest, c *hubpb.Caller, id RequestID) {
	if s.policy.Refused == nil {
		return
	}
	now := s.now()
	s.policy.Refused(ctx, &FailedRequest{ID: id, Mode: r.Mode, TopicName: r.Topic, TopicRaw: r.TopicRaw, Callback: r.Callback,
		CallbackKey: r.CallbackKey, Owner: c.GetPrincipal(), Reason: FailedNotOwner, RequestedAt: now, SettledAt: now})
}

func limit(n int) uint32 { return uint32(max(n, 0)) }

func limitBytes(n int64) uint64 { return uint64(max(n, 0)) }

// reached reports whether a limit of a Caller is reached.
func reached(used int, limit uint32) bool { return limit > 0 && used >= int(limit) }

func (s *Service) principal(ctx context.Context) string {
	if s.policy.Principal == nil {
		return ""
	}
	return s.policy.Principal(ctx)
}

func (s *Service) quotas(ctx context.Context, principal string) Quotas {
	if s.policy.Quotas == nil || principal == "" {
		return Quotas{}
	}
	return s.policy.Quotas(ctx, principal)
}

// limits returns the limits in bytes of the caller of ctx, of which the state has recorded these. It must not be called
// while the state is being read.
func (s *Service) limits(ctx context.Context, principal string, have byteLimits) byteLimits {
	if s.policy.Quotas == nil || have == (byteLimits{}) && (s.policy.ByteQuotas == nil || !s.policy.ByteQuotas()) {
		return have
	}
	q := s.quotas(ctx, principal)
	return byteLimits{limitBytes(q.StoredBytes), limitBytes(q.DeadLetterBytes)}
}

// checkStored refuses, before any content is read or written, what a quota of bytes would refuse in any case.
func (s *Service) checkStored(ctx context.Context, topic string) error {
	if s.policy.ByteQuotas == nil || !s.policy.ByteQuotas() {
		return nil
	}
	var h holding
	p := s.principal(ctx)
	own := false
	s.state.View(func(st *State) {
		t := st.topics[st.topicByName[topic]]
		if own = p != "" && (t == nil || t.unclaimed() || t.Owner == p); own {
			h = st.held(p)
		} else if t != nil && t.holder != nil {
			h = *t.holder
		}
	})
	if own {
		h.limits = s.limits(ctx, p, h.limits)
	}
	return h.limits.fits(h.stored, oneByte).Err(topic)
}

// quotasKnown is ownersKnown for levelQuotas.
func (s *Service) quotasKnown() bool { return s.featureLevel() >= levelQuotas }

func (s *Service) featureLevel() (level uint32) {
	s.state.View(func(st *State) { level = st.FeatureLevel() })
	return level
}

// ownersKnown reports whether every member of the cluster knows owners.
func (s *Service) ownersKnown() bool { return s.featureLevel() >= levelOwners }

// MayManage reports whether the caller of ctx may see, change and end what belongs to owner: it is the owner, or an
// operator. Without Policy.Operator everybody may.
func (s *Service) MayManage(ctx context.Context, owner string) bool {
	return s.policy.Operator == nil || s.policy.Operator(ctx) || owner != "" && owner == s.principal(ctx)
}

// guard returns the owner to which an event of the caller of ctx must be limited, empty for an operator. It is
// called after MayManage.
func (s *Service) guard(ctx context.Context) string {
	if s.policy.Operator == nil || s.policy.Operator(ctx) {
		return ""
	}
	return s.principal(ctx)
}
