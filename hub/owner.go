package hub

import (
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// foreign reports whether a request is about a subscription, or joins a consumer group, that belongs to somebody else
// than the request's owner.
func (s *State) foreign(r *Request, at int64) bool {
	c := r.caller
	if !s.hasOwners() || c.GetOperator() || r.Mode == ModeDenied {
		return false
	}
	topic := s.topicByName[r.TopicName]
	id, there := s.subByKey[subscriptionKey{topic, r.CallbackKey}]
	there = there && !s.subs[id].Expired(timeOf(at))
	if there && s.subs[id].Owner != "" && s.subs[id].Owner != r.Owner {
		return true
	}
	if r.Mode != ModeSubscribe || r.Options.Group == "" || c.GetMayJoin() {
		return false
	}
	g := s.groups[s.groupByKey[groupKey{topic, r.Options.Group}]]
	if g == nil || g.owner == "" || g.owner == r.Owner {
		return false
	}
	return !there || s.subs[id].Group != g.id
}

// adopt makes whoever asked for a subscription its owner if it has none, and the owner of its consumer group likewise:
// of a group that it begins, or of which it was a member before. former is the group it was in.
func (s *State) adopt(sub *Subscription, owner string, former *group) {
	if owner == "" {
		return
	}
	if sub.Owner == "" {
		s.own(sub, owner)
	}
	if g := s.groups[sub.Group]; g != nil && g.owner == "" && (g == former || len(g.members) == 1) {
		g.owner = sub.Owner
		s.touch(TableGroup, uint64(g.id))
	}
}

// endOwner pauses or ends what a principal owns.
func (s *State) endOwner(e *hubpb.OwnerEnded, fx *Effects) Result {
	ids := s.ofOwner(e.Owner, e.Subscriptions)
	s.stopOwned(ids, e.Reason, e.End, fx)
	if e.Reason == PauseOwnerEnded && len(e.Subscriptions) == 0 {
		s.endSessionsOf(e.Owner, "owner_ended", fx)
	}
	return Result{ID: uint64(len(ids))}
}

// ofOwner returns those of the subscriptions that belong to owner; of an empty list, all that do.
func (s *State) ofOwner(owner string, list []uint64) []SubscriptionID {
	if len(list) == 0 {
		return slices.Clone(s.held(owner).subscriptions)
	}
	var ids []SubscriptionID
	for _, raw := range list {
		if sub := s.subs[SubscriptionID(raw)]; sub != nil && sub.Owner == owner {
			ids = append(ids, sub.ID)
		}
	}
	return ids
}

// stopOwned pauses subscriptions because of their owner, or ends them.
func (s *State) stopOwned(ids []SubscriptionID, reason hubpb.PauseReason, end bool, fx *Effects) {
	for _, id := range ids {
		sub := s.subs[id]
		if end {
			s.denyNotice(sub, "its owner's access to the hub has ended", fx)
			s.endSubscription(id, hubpb.EndReason_END_OWNER_ENDED, fx)
			continue
		}
		s.setPaused(sub, true, reason, fx)
	}
}

// expireAPIKeys pauses what API keys own that have expired, once for each.
func (s *State) expireAPIKeys(e *hubpb.ApiKeysExpired, fx *Effects) Result {
	n := uint64(0)
	for _, id := range e.Ids {
		k := s.access.keys[id]
		if k == nil || k.EndedAt != 0 || k.GetKey().GetExpiresAt() == 0 || k.GetKey().GetExpiresAt() > s.meta.Now {
			continue
		}
		k.EndedAt = max(s.meta.Now, 1)
		s.meta.AccessVersion++
		s.touchName(TableAPIKey, id)
		s.stopOwned(s.ofOwner(KeyPrincipal(id), nil), hubpb.PauseReason_PAUSE_OWNER_ENDED, false, fx)
		s.endSessionsOf(KeyPrincipal(id), "owner_ended", fx)
		n++
	}
	return Result{ID: n}
}

// ExpiredAPIKeys returns, in order, at most max API keys that have expired at now and whose subscriptions have not been
// paused for it (hubpb.ApiKeysExpired).
func (s *State) ExpiredAPIKeys(now time.Time, max int) []string {
	if !s.hasOwners() {
		return nil
	}
	var ids []string
	for id, k := range s.access.keys {
		if at := k.GetKey().GetExpiresAt(); at != 0 && at <= now.UnixNano() && k.EndedAt == 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), max)]
}

// reassign gives subscriptions another owner, with their dead letters. A consumer group goes along with a member whose
// former owner it belongs to. What was paused because of its former owner stays paused, and the new one may resume it.
func (s *State) reassign(e *hubpb.SubscriptionsReassigned, fx *Effects) Result {
	list := e.Subscriptions
	if len(list) == 0 {
		for _, id := range s.held(e.From).subscriptions {
			list = append(list, uint64(id))
		}
	}
	moved := map[SubscriptionID]bool{}
	for _, raw := range list {
		sub := s.subs[SubscriptionID(raw)]
		if sub == nil || e.From != "" && sub.Owner != e.From || sub.Owner == e.Owner {
			continue
		}
		former := sub.Owner
		s.own(sub, e.Owner)
		if sub.Paused && (sub.PauseReason == hubpb.PauseReason_PAUSE_OWNER_ENDED || sub.PauseReason == hubpb.PauseReason_PAUSE_NOT_ALLOWED) {
			sub.PauseReason = hubpb.PauseReason_PAUSE_OWNER
		}
		if g := s.groups[sub.Group]; g != nil && g.owner == former {
			g.owner = sub.Owner
			s.touch(TableGroup, uint64(g.id))
		}
		s.touch(TableSubscription, raw)
		fx.Subscriptions = append(fx.Subscriptions, s.view(sub))
		s.announce(LifecycleReassigned, sub, fx, nil)
		moved[sub.ID] = true
	}
	if len(moved) > 0 {
		s.reassignLetters(moved, e.Owner)
	}
	return Result{ID: uint64(len(moved))}
}

func (s *State) reassignLetters(of map[SubscriptionID]bool, owner string) {
	for _, d := range s.letters.byID {
		if of[d.Subscription] && d.Owner != owner {
			s.ownLetter(d, owner)
			s.touch(TableDeadLetter, d.ID)
		}
	}
}

// ownLetter gives a dead letter an owner.
func (s *State) ownLetter(d *DeadLetter, owner string) {
	s.countLetter(d, -1)
	d.Owner = shared(owner)
	s.countLetter(d, 1)
}

// countLetter adds a dead letter to what its owner has, or with -1 takes it away.
func (s *State) countLetter(d *DeadLetter, n int) {
	s.hold(d.Owner, func(h *holding) {
		h.letterBytes += uint64(n) * d.Size
		at, _ := slices.BinarySearch(h.letters, d.ID)
		switch {
		case n > 0:
			h.letters = slices.Insert(h.letters, at, d.ID)
		case at == 0: // the oldest goes first
			h.letters = h.letters[1:]
		default:
			h.letters = slices.Delete(h.letters, at, at+1)
		}
	})
}
