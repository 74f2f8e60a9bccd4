package hub

import (
	"context"
	"strings"

	"quorumhub/hub/hubpb"
)

// MaxReassigned is how many subscriptions one call may name.
const MaxReassigned = 1000

// EndOwner pauses the subscriptions of a principal whose credential, or right, has ended, and returns their number.
// reason is PauseOwnerEnded or PauseNotAllowed. ids limits it to these; nil: all. Authorisation is up to the caller.
func (s *Service) EndOwner(ctx context.Context, owner string, reason PauseReason, ids []SubscriptionID, by string) (int, error) {
	return s.endOwner(ctx, &hubpb.OwnerEnded{Owner: owner, Reason: reason, Subscriptions: numbers(ids), By: by})
}

// EndSubscriptionsOf ends all subscriptions of a principal; their callbacks are notified with hub.mode=denied. It
// returns their number. Authorisation is up to the caller.
func (s *Service) EndSubscriptionsOf(ctx context.Context, owner, by string) (int, error) {
	return s.endOwner(ctx, &hubpb.OwnerEnded{Owner: owner, Reason: PauseOwnerEnded, End: true, By: by})
}

func (s *Service) endOwner(ctx context.Context, e *hubpb.OwnerEnded) (int, error) {
	if err := checkPrincipal("owner", e.Owner); err != nil {
		return 0, err
	}
	res, err := s.propose(ctx, e.Owner, &hubpb.Event{Kind: &hubpb.Event_OwnerEnded{OwnerEnded: e}})
	return int(res.ID), err
}

// Reassignment gives subscriptions another owner.
type Reassignment struct {
	Subscriptions []SubscriptionID // at most MaxReassigned; nil: all of From
	From          string           // only those of this owner; empty, with Subscriptions: whoever owns them
	To            string           // empty: nobody
	By            string           // principal who decides it
}

// Reassign gives subscriptions another owner and returns how many changed. What is paused stays paused; the new owner
// may resume it. Authorisation is up to the caller.
func (s *Service) Reassign(ctx context.Context, r Reassignment) (int, error) {
	switch {
	case len(r.Subscriptions) == 0 && r.From == "":
		return 0, ParamErrorf("from", "is missing; expected the present owner, or a list of subscriptions")
	case len(r.Subscriptions) > MaxReassigned:
		return 0, ParamErrorf("subscriptions", "are %d; expected at most %d, or from alone for all of one owner", len(r.Subscriptions), MaxReassigned)
	}
	if r.From != "" {
		if err := checkPrincipal("from", r.From); err != nil {
			return 0, err
		}
	}
	if r.To != "" {
		if err := checkPrincipal("owner", r.To); err != nil {
			return 0, err
		}
	}
	for _, id := range r.Subscriptions {
		known := false
		s.state.View(func(st *State) { _, known = st.Subscription(id) })
		if !known {
			return 0, noSubscription(id)
		}
	}
	res, err := s.propose(ctx, r.To, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsReassigned{SubscriptionsReassigned: &hubpb.SubscriptionsReassigned{
		Subscriptions: numbers(r.Subscriptions), From: r.From, Owner: r.To, By: r.By}}})
	return int(res.ID), err
}

// checkPrincipal returns an error for what cannot be a principal.
func checkPrincipal(param, p string) error {
	authority, subject, _ := strings.Cut(p, "/")
	if authority == "" || subject == "" || len(p) > MaxPrincipalBytes {
		return ParamErrorf(param, "is %s; expected <authority>/<subject> of at most %d bytes, such as key/k-1 or issuer:idp/alice", quote(p), MaxPrincipalBytes)
	}
	return nil
}

func numbers(ids []SubscriptionID) []uint64 {
	var out []uint64
	for _, id := range ids {
		out = append(out, uint64(id))
	}
	return out
}
