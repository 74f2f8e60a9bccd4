package hub

import (
	"context"
	"fmt"
	"net/url"

	"quorumhub/hub/hubpb"
)

// weight returns about how many bytes of text and secrets the request has.
func (r *Request) weight() int {
	n := len(r.TopicName) + len(r.TopicRaw) + len(r.Callback) + len(r.CallbackKey) + len(r.SealedSecret) + len(r.SealedHeaders) +
		len(r.EncryptionKey) + len(r.VerifyToken) + len(r.Start) + len(r.Options.Key) + len(r.Options.Group)
	for _, f := range r.Extra {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// AskAgain makes a pending or failed subscribe or unsubscribe request once more, as it was made: its callback is asked for
// verification at once. It returns the ID of the new request; a pending one is replaced by it. Whoever made the request first
// stays its owner, and its present rights and limits apply if it asks itself.
//
// A request that is neither pending nor failed within the last hour, and one that the caller may not manage, is
// CodeNotFound. One that was not kept whole, or whose secret was sealed with a key that is retired, is CodeConflict: only
// its subscriber can make it again. Beyond these, errors are as of Subscribe.
func (s *Service) AskAgain(ctx context.Context, id RequestID) (RequestID, error) {
	r, err := s.asked(ctx, id)
	if err != nil {
		return 0, err
	}
	callback, err := url.Parse(r.Callback)
	if err != nil {
		return 0, fmt.Errorf("callback of %s: %w", id, err)
	}
	q := &SubscribeRequest{Mode: r.Mode, Topic: r.TopicName, TopicRaw: r.TopicRaw, Callback: r.Callback, CallbackURL: callback,
		CallbackKey: r.CallbackKey, EncryptionKey: r.EncryptionKey, Options: r.Options}
	if r.Start != "" {
		start, err := ParsePosition("hub.start", r.Start)
		if err != nil {
			return 0, err
		}
		q.Start = &start
	}
	ev := r.event()
	if s.sealedByRetired(ev) {
		return 0, Errorf(CodeConflict, "the secret of %s was sealed with a key that is retired; only its subscriber can ask again, with a new request", id)
	}
	own := r.Owner == s.principal(ctx)
	if err := s.checkRequest(ctx, q, own); err != nil {
		return 0, err
	}
	if own {
		ev.Caller = s.subscriber(ctx, q)
	}
	if err := s.checkWishes(q, ev.Caller); err != nil {
		return 0, err
	}
	return s.request(ctx, q, ev)
}

// asked returns a request that can be made again.
func (s *Service) asked(ctx context.Context, id RequestID) (r Request, err error) {
	var failed FailedRequest
	pending, known := false, false
	s.state.View(func(st *State) {
		if r, pending = st.Request(id); pending {
			pending = r.Mode != ModeDenied
			return
		}
		failed, known = st.FailedRequest(id)
	})
	owner := r.Owner
	if known {
		owner = failed.Owner
	}
	switch {
	case !pending && !known, !s.MayManage(ctx, owner):
		return Request{}, &Error{Code: CodeNotFound, Param: "id", Message: quote(id.String()) + " is not a request that is pending or failed within the last hour; expected an ID such as r-17"}
	case known && !failed.Repeatable():
		return Request{}, Errorf(CodeConflict, "%s was not kept whole; only its subscriber can ask again, with a new request", id)
	case known:
		r = *failed.asked
	}
	return r, nil
}

// sealedByRetired reports whether the request has a secret or headers that no key opens any more.
func (s *Service) sealedByRetired(ev *hubpb.SubscriptionRequested) (retired bool) {
	s.state.View(func(st *State) { retired = st.retiredKey(ev.SealedSecret) || st.retiredKey(ev.SealedHeaders) })
	return retired
}

// checkRequest refuses what may not be asked. own says that the caller of ctx asks for itself, so that its rights count.
func (s *Service) checkRequest(ctx context.Context, r *SubscribeRequest, own bool) error {
	action := ActionSubscribe
	if r.Mode == ModeUnsubscribe {
		action = ActionUnsubscribe
	}
	if own {
		if err := s.authorize(ctx, action, r.Topic); err != nil {
			return err
		}
	}
	if r.Mode == ModeSubscribe {
		if err := s.refuseRetired(r.Topic); err != nil {
			return err
		}
	}
	if s.crowded() {
		return Errorf(CodeUnavailable, "too many requests are waiting for verification; try again shortly")
	}
	if s.policy.CheckCallback != nil {
		if err := s.policy.CheckCallback(r.CallbackURL); err != nil {
			return &Error{Code: CodeForbidden, Param: "hub.callback", Message: err.Error()}
		}
	}
	if own {
		if err := s.checkSubscription(ctx, r); err != nil {
			return err
		}
	}
	if len(r.Headers) > 0 && !s.policy.SubscriberHeaders {
		return &Error{Code: CodeForbidden, Param: "hub.header", Message: "this hub lets only its operators choose headers for callbacks (hub.subscriber_headers)"}
	}
	return s.admit(ctx, r)
}

// checkWishes refuses options that cannot be had, and what the quotas of c would refuse later.
func (s *Service) checkWishes(r *SubscribeRequest, c *hubpb.Caller) error {
	if r.Start != nil {
		if err := s.checkStart(r); err != nil {
			return err
		}
	}
	if err := s.checkOptions(r, c); err != nil {
		return err
	}
	if err := s.checkContentOptions(r); err != nil {
		return err
	}
	return s.checkPending(r, c)
}
