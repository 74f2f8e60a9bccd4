package web

import (
	"context"
	"fmt"
	"strconv"

	"quorumhub/auth"
	"quorumhub/hub"
)

// pauseNotAllowed is PauseNotAllowed for a request, whose audit line tells the number.
func (s *Server) pauseNotAllowed(ctx context.Context, by string) error {
	paused, err := s.PauseNotAllowed(ctx, by)
	if err == nil && paused > 0 {
		auth.Note(ctx, "subscriptions_paused", strconv.Itoa(paused))
	}
	return err
}

// PauseNotAllowed pauses the subscriptions whose owners, after a change of the rules, certainly may not subscribe to their topics any
// more, and returns their number.
func (s *Server) PauseNotAllowed(ctx context.Context, by string) (paused int, err error) {
	if s.Guard == nil || s.KeepNotAllowed {
		return 0, nil
	}
	var owners []string
	keys := map[string]*hub.APIKey{}
	s.State.View(func(st *hub.State) {
		owners = st.Principals()
		for _, k := range st.APIKeys() {
			keys[hub.KeyPrincipal(k.ID)] = &k
		}
	})
	for _, owner := range owners {
		ids := s.notAllowed(owner, keys[owner])
		if len(ids) == 0 {
			continue
		}
		n, err := s.Service.EndOwner(ctx, owner, hub.PauseNotAllowed, ids, by)
		if err != nil {
			return paused, fmt.Errorf("the rules are changed, but the subscriptions of %s that they no longer allow go on: %w", owner, err)
		}
		paused += n
	}
	return paused, nil
}

// notAllowed returns the running subscriptions of an owner that no rule allows.
func (s *Server) notAllowed(owner string, key *hub.APIKey) (ids []hub.SubscriptionID) {
	allowed := map[string]bool{} // by topic
	for after := hub.SubscriptionID(0); ; {
		var subs []hub.Subscription
		s.State.View(func(st *hub.State) { subs = st.OwnedBy(owner, after, snapshotPage) })
		for i := range subs {
			sub := &subs[i]
			after = sub.ID
			ok, known := allowed[sub.TopicName]
			if !known {
				ok = s.Guard.MayStill(owner, key, auth.ActionSubscribe, sub.TopicName)
				allowed[sub.TopicName] = ok
			}
			if !ok && !sub.Paused {
				ids = append(ids, sub.ID)
			}
		}
		if len(subs) < snapshotPage {
			return ids
		}
	}
}
