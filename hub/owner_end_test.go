package hub_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// When an API key is revoked, what it owns stops, says why, and waits for an operator.
func TestSubscriptionsOfARevokedKeyPause(t *testing.T) {
	w := newTenants(t)
	w.apply(registered(hub.EventsTopic), keyCreated("k-bob", time.Time{}))
	first, second, others := w.subscribe(bob, "news", cb), w.subscribe(bob, "news", cb+"2"), w.subscribe(alice, "news", cb+"3")
	if err := w.Pause(as(bob), second, true); err != nil {
		t.Fatal(err)
	}
	n, err := w.RevokeAPIKey(as(operator), "k-bob", operator, false)
	if err != nil || n != 2 {
		t.Fatalf("%d (%v)", n, err)
	}
	for _, e := range w.wantLifecycle("paused s-1", "paused s-2") {
		if e.Reason != "owner_ended" {
			t.Errorf("%+v", e)
		}
	}
	for _, id := range []hub.SubscriptionID{first, second} {
		if got := w.sub(id); !got.Paused || got.PauseReason != hub.PauseOwnerEnded || got.Owner != bob {
			t.Errorf("%+v", got)
		}
	}
	if w.sub(others).Paused || len(w.fx.Subscriptions) != 2 {
		t.Error("a subscription of another stops")
	}
	w.State = reloaded(t, w.State)
	if got := w.sub(first); got.PauseReason != hub.PauseOwnerEnded {
		t.Errorf("after a restart: %+v", got)
	}
	// The owner, if it could still call, and others cannot resume; its own pause gave way to the hub's.
	for _, id := range []hub.SubscriptionID{first, second} {
		if err := w.Pause(as(bob), id, false); hub.CodeOf(err) != hub.CodeForbidden || !w.sub(id).Paused {
			t.Errorf("%s resumed by its owner: %v", id, err)
		}
		stale := paused(id, false) // as decided by a node that did not know
		stale.GetSubscriptionPaused().Owner = bob
		if r := w.apply(stale); r.Outcome != hub.OutcomeNotOwner {
			t.Errorf("%+v", r)
		}
	}
	if err := w.Pause(as(operator), first, false); err != nil || w.sub(first).Paused || w.sub(first).PauseReason != hub.PauseOperator {
		t.Errorf("resumed by an operator: %v, %+v", err, w.sub(first))
	}
	// Somebody else takes the other one over.
	if n, err := w.Reassign(as(operator), hub.Reassignment{Subscriptions: []hub.SubscriptionID{second}, To: alice}); err != nil || n != 1 {
		t.Fatalf("%d (%v)", n, err)
	}
	w.wantLifecycle("reassigned s-2")
	if got := w.sub(second); got.Owner != alice || !got.Paused {
		t.Errorf("%+v", got)
	}
	if err := w.Pause(as(alice), second, false); err != nil || w.sub(second).Paused {
		t.Errorf("resumed by the new owner: %v", err)
	}
}

func TestSubscriptionsOfARevokedKeyEndIfAsked(t *testing.T) {
	w := newTenants(t)
	w.apply(registered(hub.EventsTopic), keyCreated("k-bob", time.Time{}))
	w.subscribe(bob, "news", cb)
	w.subscribe(bob, "news", cb+"2", "hub.consumer_group", "g")
	kept := w.subscribe(alice, "news", cb+"3")
	n, err := w.RevokeAPIKey(as(operator), "k-bob", operator, true)
	if err != nil || n != 2 || w.Counts().Subscriptions != 1 {
		t.Fatalf("%d (%v), %+v", n, err, w.Counts())
	}
	for _, e := range w.wantLifecycle("ended s-1", "ended s-2") {
		if e.Reason != "owner_ended" {
			t.Errorf("%+v", e)
		}
	}
	if len(w.fx.Ended) != 2 || len(w.fx.Requests) != 2 || w.fx.Requests[0].Mode != hub.ModeDenied {
		t.Errorf("effects %+v, notices %+v", w.fx.Ended, w.fx.Requests)
	}
	w.sub(kept)
}

// A key that expires pauses what it owns once. What an operator resumed afterwards stays resumed.
func TestSubscriptionsOfAnExpiredKeyPauseOnce(t *testing.T) {
	w := newOwners(t)
	expired := &hubpb.Event{Kind: &hubpb.Event_ApiKeysExpired{ApiKeysExpired: &hubpb.ApiKeysExpired{Ids: []string{"k-bob", "forever", "unknown"}}}}
	w.apply(keyCreated("k-bob", w.now.Add(10*time.Minute)), keyCreated("forever", time.Time{}))
	id, forever := w.owned(bob, "news", cb), w.owned(hub.KeyPrincipal("forever"), "news", cb+"2")
	if ids := w.ExpiredAPIKeys(w.now.Add(9*time.Minute), 10); len(ids) != 0 {
		t.Errorf("expired: %v", ids)
	}
	if r := w.apply(expired); r.ID != 0 || w.sub(id).Paused {
		t.Errorf("before it has expired: %+v", r)
	}
	w.advance(10 * time.Minute)
	if ids := w.ExpiredAPIKeys(w.now, 10); !slices.Equal(ids, []string{"k-bob"}) {
		t.Errorf("expired: %v", ids)
	}
	if r := w.apply(expired); r.ID != 1 || !w.sub(id).Paused || w.sub(id).PauseReason != hub.PauseOwnerEnded || w.sub(forever).Paused {
		t.Errorf("%+v, %+v", r, w.sub(id))
	}
	if ids := w.ExpiredAPIKeys(w.now, 10); len(ids) != 0 {
		t.Errorf("handled, and still expired: %v", ids)
	}
	w.apply(paused(id, false))
	w.State = reloaded(t, w.State)
	if r := w.apply(expired); r.ID != 0 || w.sub(id).Paused {
		t.Errorf("again: %+v", r)
	}
}

// A rule that goes takes what only it allowed; whoever is allowed again resumes by subscribing again.
func TestSubscriptionsThatAreNoLongerAllowedPause(t *testing.T) {
	w := newTenants(t)
	a, b := w.subscribe(alice, "news", cb), w.subscribe(alice, "sport", cb)
	others := w.subscribe(bob, "news", cb+"2")
	n, err := w.EndOwner(as(operator), alice, hub.PauseNotAllowed, []hub.SubscriptionID{a, others}, operator)
	if err != nil || n != 1 || w.sub(a).PauseReason != hub.PauseNotAllowed || w.sub(b).Paused || w.sub(others).Paused {
		t.Fatalf("%d (%v): %+v", n, err, w.sub(a))
	}
	w.subscribe(operator, "news", cb)
	if !w.sub(a).Paused {
		t.Error("renewed by an operator, who is always allowed, it resumes")
	}
	w.apply(registered(hub.EventsTopic))
	if again := w.subscribe(alice, "news", cb); again != a || w.sub(a).Paused {
		t.Errorf("its owner is allowed again: %+v", w.sub(a))
	}
	w.wantLifecycle("renewed s-1", "resumed s-1")
	// What an operator has paused stays paused, and so does what lost its owner.
	for reason, id := range map[hub.PauseReason]hub.SubscriptionID{hub.PauseOperator: a, hub.PauseOwnerEnded: b} {
		if reason == hub.PauseOperator {
			w.apply(paused(id, true))
		} else if n, err := w.EndOwner(as(operator), alice, reason, []hub.SubscriptionID{id}, operator); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		topic := w.sub(id).TopicName
		w.subscribe(alice, topic, cb)
		if got := w.sub(id); !got.Paused || got.PauseReason != reason {
			t.Errorf("%v: %+v", reason, got)
		}
	}
}

func TestReassignment(t *testing.T) {
	w := newTenants(t)
	a, b := w.subscribe(alice, "news", cb, "hub.consumer_group", "g"), w.subscribe(alice, "news", cb+"2")
	c := w.subscribe(bob, "news", cb+"3")
	w.published("news", 2)
	w.apply(deadLettered(b, 1))
	carol := "cert/carol.example"
	if n, err := w.Reassign(as(operator), hub.Reassignment{From: alice, To: carol}); err != nil || n != 2 {
		t.Fatalf("%d (%v)", n, err)
	}
	for id, want := range map[hub.SubscriptionID]string{a: carol, b: carol, c: bob} {
		if got := w.sub(id).Owner; got != want {
			t.Errorf("%s belongs to %q", id, got)
		}
	}
	if w.letter(1).Owner != carol || w.Usage(carol).DeadLetters != 1 || w.Usage(alice).Subscriptions != 0 {
		t.Errorf("%+v", w.Usage(carol))
	}
	w.denied[alice] = hub.ActionJoinGroup
	if _, err := w.ask(alice, "subscribe", "news", cb+"4", "hub.consumer_group", "g"); err != nil || len(w.refused) != 1 {
		t.Errorf("the group did not go along: %v", err)
	}
	w.subscribe(carol, "news", cb+"5", "hub.consumer_group", "g")
	if n, err := w.Reassign(as(operator), hub.Reassignment{Subscriptions: []hub.SubscriptionID{c, a}, From: bob, To: ""}); err != nil || n != 1 || w.sub(c).Owner != "" || w.sub(a).Owner != carol {
		t.Errorf("%d (%v): %q", n, err, w.sub(c).Owner)
	}
	for want, r := range map[string]hub.Reassignment{
		"from: is missing":         {To: carol},
		"owner: is \"carol\"":      {From: alice, To: "carol"},
		"from: is \"/\"":           {From: "/", To: carol},
		"is not a subscription":    {Subscriptions: []hub.SubscriptionID{99}, To: carol},
		"subscriptions: are 1001;": {Subscriptions: make([]hub.SubscriptionID, 1001), To: carol},
	} {
		if _, err := w.Reassign(as(operator), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// Topics belong to whoever registered them, or was the first to publish.
func TestTopicsHaveAnOwner(t *testing.T) {
	w := newTenants(t)
	publish := func(who, topic string) {
		t.Helper()
		if _, err := w.Publish(as(who), hub.Publication{Topic: topic, ContentType: "text/plain"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Register(as(alice), "registered"); err != nil {
		t.Fatal(err)
	}
	publish(bob, "registered")
	publish(alice, "published")
	publish(bob, "published")
	w.subscribe(bob, "subscribed", cb)
	if top := w.topic("subscribed"); top.Owner != bob || !top.Provisional || w.OwnsTopic(as(bob), "subscribed") {
		t.Errorf("made by a subscription: %+v", top)
	}
	publish(alice, "subscribed")
	publish("", "nobody's")
	publish(bob, "nobody's")
	if _, err := w.Ping(as(alice), "hub.example", url.Values{"hub.url": {"https://foreign.example/feed"}}); err != nil {
		t.Fatal(err)
	}
	w.subscribe(alice, hub.EventsTopic, cb)
	w.State = reloaded(t, w.State)
	for topic, want := range map[string]string{hub.EventsTopic: "", "registered": alice, "published": alice, "subscribed": alice, "nobody's": "", "https://foreign.example/feed": alice} {
		if got := w.topic(topic); got.Owner != want || got.Provisional {
			t.Errorf("%s belongs to %q", topic, got.Owner)
		}
	}
	if u := w.Usage(alice); u.Topics != 4 || w.Usage(bob).Topics != 0 {
		t.Errorf("%+v", u)
	}
	// The owner needs no rule to deregister it; others do.
	w.denied[alice], w.denied[bob] = hub.ActionDeregister, hub.ActionDeregister
	if err := w.Deregister(as(bob), "published"); hub.CodeOf(err) != hub.CodeForbidden {
		t.Errorf("by another: %v", err)
	}
	if err := w.Deregister(as(alice), "nobody's"); hub.CodeOf(err) != hub.CodeForbidden {
		t.Errorf("of nobody's topic: %v", err)
	}
	if err := w.Deregister(as(alice), "published"); err != nil || w.Usage(alice).Topics != 3 {
		t.Errorf("by its owner: %v, %+v", err, w.Usage(alice))
	}
	// What was there before the cluster knew owners, and has messages, is not anybody's.
	old := newWorld(t)
	old.published("news", 1)
	old.apply(levelSet(hub.FeatureLevel))
	old.apply(by(alice, published("news", "x")))
	if got := old.topic("news").Owner; got != "" {
		t.Errorf("an old topic belongs to %q", got)
	}
}

// API keys belong to whoever created them: nobody else may revoke them, or learns that they are there.
func TestAPIKeysHaveAnOwner(t *testing.T) {
	w := newTenants(t)
	for _, id := range []string{"a", "b"} {
		if err := w.CreateAPIKey(as(alice), hub.APIKey{ID: id, Name: id}); err != nil {
			t.Fatal(err)
		}
	}
	w.State = reloaded(t, w.State)
	if k, _ := w.APIKey("a"); k.Owner != alice || w.Usage(alice).APIKeys != 2 {
		t.Errorf("%+v", k)
	}
	_, unknown := w.RevokeAPIKey(as(bob), "c", bob, false)
	if _, err := w.RevokeAPIKey(as(bob), "a", bob, false); hub.CodeOf(err) != hub.CodeNotFound || hub.CodeOf(unknown) != hub.CodeNotFound {
		t.Errorf("by another: %v; an unknown one: %v", err, unknown)
	}
	for id, who := range map[string]string{"a": alice, "b": operator} {
		if _, err := w.RevokeAPIKey(as(who), id, who, false); err != nil {
			t.Errorf("by %s: %v", who, err)
		}
	}
	if u := w.Usage(alice); u.APIKeys != 0 {
		t.Errorf("%+v", u)
	}
}
