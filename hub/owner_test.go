package hub_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Principals of two parties that do not trust each other.
const (
	alice = "issuer:idp/alice"
	bob   = "key/k-bob"
)

// newOwners returns a world in which every member knows owners.
func newOwners(tb testing.TB) *world {
	w := newWorld(tb)
	w.apply(levelSet(hub.FeatureLevel))
	return w
}

// by makes a principal the caller of an event; an empty one is an operator without a name.
func by(principal string, e *hubpb.Event, change ...func(*hubpb.Caller)) *hubpb.Event {
	c := &hubpb.Caller{Principal: principal, Operator: principal == ""}
	for _, f := range change {
		f(c)
	}
	m := e.ProtoReflect()
	kind := m.Get(m.WhichOneof(m.Descriptor().Oneofs().ByName("kind"))).Message()
	if f := kind.Descriptor().Fields().ByName("caller"); f != nil {
		kind.Set(f, protoreflect.ValueOfMessage(c.ProtoReflect()))
	}
	return e
}

// owned creates a verified subscription of a principal.
func (w *world) owned(principal, topic, callback string, group ...string) hub.SubscriptionID {
	w.Helper()
	e := requested(hub.ModeSubscribe, topic, callback, hr, "")
	if len(group) > 0 {
		e.GetSubscriptionRequested().Options = &hubpb.SubscriptionOptions{Group: group[0]}
	}
	r := w.apply(by(principal, e))
	if r.Outcome != hub.OutcomeOK {
		w.Fatalf("request of %s: %+v", principal, r)
	}
	r = w.apply(w.verified(r.ID))
	if r.Outcome != hub.OutcomeOK {
		w.Fatalf("verification for %s: %+v", principal, r)
	}
	return hub.SubscriptionID(r.ID)
}

// failures returns the reasons for which requests of a principal failed, the latest first.
func (w *world) failures(principal string) (out []string) {
	for _, f := range w.FailedRequests(hub.RequestFilter{Owner: principal}, 0, 0) {
		out = append(out, f.ModeName()+" "+f.Reason)
	}
	return out
}

// A subscription belongs to whoever asked for it when it was verified. Renewing or ending it is accepted from
// others, and fails without a word to the callback.
func TestNobodyTakesAnothersSubscription(t *testing.T) {
	for _, mode := range []hubpb.Mode{hub.ModeSubscribe, hub.ModeUnsubscribe} {
		for name, other := range map[string]*hubpb.Caller{"another": {Principal: bob}, "one who may join groups": {Principal: bob, MayJoin: true}, "nobody": nil} {
			t.Run(hubpb.Mode_name[int32(mode)]+" by "+name, func(t *testing.T) {
				w := newOwners(t)
				w.apply(registered(hub.EventsTopic))
				id := w.owned(alice, "news", cb)
				before := w.sub(id)
				renewal := w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb, 2*hr, "mine")))
				e := requested(mode, "news", cb, hr, "stolen")
				e.GetSubscriptionRequested().Caller = other
				r := w.apply(e)
				if r.Outcome != hub.OutcomeNotOwner || r.ID == 0 || len(w.fx.Requests) != 0 || len(w.fx.Settled) != 0 {
					t.Fatalf("%+v, effects %+v", r, w.fx)
				}
				if e := w.wantLifecycle("denied s-1"); len(e) == 1 && (e[0].Reason != "not_owner" || e[0].Request != hub.RequestID(r.ID).String()) {
					t.Errorf("%+v", e[0])
				}
				if got := w.failures(other.GetPrincipal()); len(got) != 1 || !slices.Contains([]string{"subscribe not_owner", "unsubscribe not_owner"}, got[0]) {
					t.Errorf("whoever asked finds %v", got)
				}
				if len(w.failures(alice)) != 0 {
					t.Error("the owner finds the request of another")
				}
				if got := w.sub(id); got.Owner != alice || !got.ExpiresAt.Equal(before.ExpiresAt) {
					t.Errorf("changed to %+v", got)
				}
				if _, pending := w.Request(hub.RequestID(renewal.ID)); !pending {
					t.Error("the owner's own request was replaced")
				}
				if r := w.apply(w.verified(renewal.ID)); r.Outcome != hub.OutcomeOK || string(w.sub(id).SealedSecret) != "mine" {
					t.Errorf("the owner's renewal: %+v", r)
				}
			})
		}
	}
}

// Requests of two principals for one subscription that does not exist yet wait side by side. The first to be
// verified owns it; the other one finds that it is not the owner, though its callback agreed.
func TestFirstVerifiedIsTheOwner(t *testing.T) {
	w := newOwners(t)
	a := w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb, hr, "a")))
	b := w.apply(by(bob, requested(hub.ModeSubscribe, "news", cb, hr, "b")))
	if w.Counts().Requests != 2 || len(w.fx.Settled) != 0 {
		t.Fatalf("%+v", w.Counts())
	}
	id := hub.SubscriptionID(w.apply(w.verified(a.ID)).ID)
	if r := w.apply(w.verified(b.ID)); r.Outcome != hub.OutcomeNotOwner {
		t.Errorf("%+v", r)
	}
	if got := w.sub(id); got.Owner != alice || string(got.SealedSecret) != "a" {
		t.Errorf("%+v", got)
	}
	if got := w.failures(bob); !slices.Equal(got, []string{"subscribe not_owner"}) {
		t.Errorf("%v", got)
	}
}

func TestOperatorsActForOwners(t *testing.T) {
	w := newOwners(t)
	id := w.owned(alice, "news", cb)
	if again := w.owned("", "news", cb); again != id || w.sub(id).Owner != alice {
		t.Errorf("renewed by an operator: %s of %q", again, w.sub(id).Owner)
	}
	r := w.apply(by("", requested(hub.ModeUnsubscribe, "news", cb, 0, "")))
	w.apply(w.verified(r.ID))
	if _, there := w.Subscription(id); there || r.Outcome != hub.OutcomeOK {
		t.Errorf("ended by an operator: %+v", r)
	}
}

// A subscription whose lease is over is nobody's any more, swept or not.
func TestExpiredSubscriptionsAreFree(t *testing.T) {
	w := newOwners(t)
	w.owned(alice, "news", cb)
	w.advance(2 * time.Hour)
	if id := w.owned(bob, "news", cb); w.sub(id).Owner != bob || w.Usage(alice).Subscriptions != 0 {
		t.Errorf("%s belongs to %q; %+v", id, w.sub(id).Owner, w.Usage(alice))
	}
}

// What nobody owns belongs to the first principal whose renewal its callback confirms.
func TestOwnerNoneIsAdopted(t *testing.T) {
	w := newWorld(t)
	plain := w.subscribed("news", cb, hr, "")
	grouped := w.join(cb+"2", 0, in("g", hub.DeliveryOrdered))
	w.apply(imported("news", cb+"3", hr, time.Time{}))
	w.apply(levelSet(hub.FeatureLevel))
	pending := w.apply(by(bob, requested(hub.ModeSubscribe, "news", cb, hr, "")))
	if w.sub(plain).Owner != "" {
		t.Error("adopted before the callback has confirmed it")
	}
	w.apply(failed(pending.ID))
	if w.owned(alice, "news", cb) != plain || w.sub(plain).Owner != alice {
		t.Errorf("belongs to %q", w.sub(plain).Owner)
	}
	if r := w.apply(by(bob, requested(hub.ModeSubscribe, "news", cb, hr, ""))); r.Outcome != hub.OutcomeNotOwner {
		t.Errorf("%+v", r)
	}
	if w.owned(alice, "news", cb+"2", "g") != hub.SubscriptionID(grouped.ID) {
		t.Error("a member of a group is not renewed")
	}
	e := requested(hub.ModeSubscribe, "news", cb+"4", hr, "")
	e.GetSubscriptionRequested().Options = &hubpb.SubscriptionOptions{Group: "g"}
	if r := w.apply(by(bob, e)); r.Outcome != hub.OutcomeNotOwner {
		t.Errorf("its group was not adopted: %+v", r)
	}
	if id := w.owned(bob, "news", cb+"3"); w.sub(id).Owner != bob {
		t.Error("an imported subscription is not adopted")
	}
	// Without authentication nothing belongs to anybody, and anybody renews.
	n := newOwners(t)
	id := n.subscribed("news", cb, hr, "")
	if n.subscribed("news", cb, hr, "x") != id || n.sub(id).Owner != "" || len(n.Principals()) != 0 {
		t.Errorf("%+v", n.sub(id))
	}
}

// Until every member knows owners, nothing has one, whatever an event says.
func TestOwnersBeginWithTheFeatureLevel(t *testing.T) {
	w := newWorld(t)
	w.apply(registered(hub.EventsTopic))
	r := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
	w.apply(failed(r.ID))
	w.wantLifecycle()
	if len(w.FailedRequests(hub.RequestFilter{All: true}, 0, 0)) != 0 || len(w.fx.Failed) != 0 {
		t.Error("a failed request is kept, and programs of level 1 do not keep it")
	}
}

// A consumer group belongs to the owner of its first member. Others join only if a rule lets them.
func TestConsumerGroupsHaveAnOwner(t *testing.T) {
	ask := func(w *world, callback string, c *hubpb.Caller) hub.Result {
		e := requested(hub.ModeSubscribe, "news", callback, hr, "")
		e.GetSubscriptionRequested().Options, e.GetSubscriptionRequested().Caller = &hubpb.SubscriptionOptions{Group: "g"}, c
		return w.apply(e)
	}
	w := newOwners(t)
	w.owned(alice, "news", cb, "g")
	for name, c := range map[string]*hubpb.Caller{"another": {Principal: bob}, "nobody": nil} {
		if r := ask(w, cb+"2", c); r.Outcome != hub.OutcomeNotOwner || len(w.fx.Requests) != 0 {
			t.Errorf("%s joins: %+v", name, r)
		}
	}
	for name, c := range map[string]*hubpb.Caller{"the owner": {Principal: alice}, "an operator": {Operator: true}, "by a rule": {Principal: bob, MayJoin: true}} {
		r := ask(w, cb+name, c)
		if r = w.apply(w.verified(r.ID)); r.Outcome != hub.OutcomeOK {
			t.Errorf("%s joins: %+v", name, r)
		}
	}
	// A member renews without the rule that let it in, and cannot bring others in.
	if r := ask(w, cb+"by a rule", &hubpb.Caller{Principal: bob}); r.Outcome != hub.OutcomeOK {
		t.Errorf("a member renews: %+v", r)
	}
	if r := ask(w, cb+"3", &hubpb.Caller{Principal: bob}); r.Outcome != hub.OutcomeNotOwner {
		t.Errorf("a member brings in another: %+v", r)
	}
	// Leaving another group is no way around it.
	own := w.owned(bob, "news", cb+"5", "h")
	if r := ask(w, cb+"5", &hubpb.Caller{Principal: bob}); r.Outcome != hub.OutcomeNotOwner || w.sub(own).Options.Group != "h" {
		t.Errorf("a subscription moves in: %+v", r)
	}
	w.State = reloaded(t, w.State)
	if r := ask(w, cb+"2", &hubpb.Caller{Principal: bob}); r.Outcome != hub.OutcomeNotOwner {
		t.Errorf("after a restart: %+v", r)
	}
	// In between: the group came into being while the request was being verified.
	n := newOwners(t)
	late := ask(n, cb+"2", &hubpb.Caller{Principal: bob})
	n.owned(alice, "news", cb, "g")
	if r := n.apply(n.verified(late.ID)); r.Outcome != hub.OutcomeNotOwner || n.GroupMembers(n.sub(1).Group) != 1 {
		t.Errorf("the group came first: %+v", r)
	}
}

// anyOwnedEvent is anyEvent in a cluster in which principals own what they make, and their access ends.
func anyOwnedEvent(t *rapid.T, s *hub.State, now time.Time) *hubpb.Event {
	principal := rapid.SampledFrom([]string{"", alice, bob, hub.KeyPrincipal("k1")})
	small := func(name string) uint64 { return rapid.Uint64Range(0, 8).Draw(t, name) }
	nonce := []byte{byte(rapid.IntRange(0, 20).Draw(t, "nonce"))}
	var e *hubpb.Event
	switch rapid.IntRange(0, 14).Draw(t, "kind of owned") {
	case 0:
		e = levelSet(hub.FeatureLevel)
	case 1:
		e = ownerEnded(principal.Draw(t, "owner"), rapid.Bool().Draw(t, "end"))
	case 2:
		e = reassigned(principal.Draw(t, "from"), principal.Draw(t, "to"), small("subscription"))
	case 3:
		e = keyCreated(rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "key"), now.Add(time.Minute))
	case 4:
		e = keyRevoked(rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "key"), rapid.Bool().Draw(t, "end"))
	case 5:
		e = &hubpb.Event{Kind: &hubpb.Event_ApiKeysExpired{ApiKeysExpired: &hubpb.ApiKeysExpired{Ids: []string{"k1", "k2"}}}}
	case 6:
		e = &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{Nonce: nonce, Until: now.Add(time.Duration(small("until")) * 20 * time.Second).UnixNano()}}}
	case 7:
		e = rapid.SampledFrom([]*hubpb.Event{quotaSet(alice, 8_000, 10), quotaSet(bob, 0, 20), quotaRemoved(alice)}).Draw(t, "quota")
	default:
		e = anyEvent(t, s, now)
	}
	if p := e.GetMessagePublished(); p != nil && rapid.Bool().Draw(t, "large") {
		p.Body = bytes.Repeat([]byte("x"), rapid.IntRange(1000, 5000).Draw(t, "size"))
	}
	if p := e.GetMessagePublished(); p != nil && len(p.IdempotencyKey) > 0 {
		p.KeyWindow = rapid.SampledFrom([]uint32{0, 60, 3600}).Draw(t, "window")
	}
	if rapid.IntRange(0, 3).Draw(t, "has a caller") == 0 {
		return e
	}
	few := rapid.Uint32Range(0, 3)
	return by(principal.Draw(t, "caller"), e, func(c *hubpb.Caller) {
		c.MayJoin, c.MaxTopics, c.MaxSubscriptions = rapid.Bool().Draw(t, "may join"), few.Draw(t, "topics"), few.Draw(t, "subscriptions")
		c.MaxRequests, c.MaxKeys, c.MaxNonces = few.Draw(t, "requests"), few.Draw(t, "keys"), few.Draw(t, "nonces")
		c.MaxStoredBytes, c.MaxDeadLetterBytes = 4000*small("stored"), 3*small("letters")
	})
}

// Invariant I6 with owners, quotas and the end of credentials, from whatever entry on the cluster knows them.
func TestOwnersAreTheFoldOfTheirEntriesI6(t *testing.T) { checkFold(t, anyOwnedEvent) }

func ownerEnded(owner string, end bool, ids ...uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_OwnerEnded{OwnerEnded: &hubpb.OwnerEnded{Owner: owner, Reason: hub.PauseOwnerEnded, End: end, Subscriptions: ids}}}
}

func reassigned(from, to string, ids ...uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsReassigned{SubscriptionsReassigned: &hubpb.SubscriptionsReassigned{From: from, Owner: to, Subscriptions: ids}}}
}

func keyCreated(id string, expires time.Time) *hubpb.Event {
	e := &hubpb.ApiKeyCreated{Id: id, Name: id}
	if !expires.IsZero() {
		e.ExpiresAt = expires.UnixNano()
	}
	return &hubpb.Event{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: e}}
}

func keyRevoked(id string, end bool) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_ApiKeyRevoked{ApiKeyRevoked: &hubpb.ApiKeyRevoked{Id: id, EndSubscriptions: end}}}
}
