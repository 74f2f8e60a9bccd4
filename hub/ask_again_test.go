package hub_test

import (
	"strings"
	"testing"

	"quorumhub/hub"
)

// A request that failed is made once more as it was made, secret and options included, and belongs to whom it belonged.
func TestAskAgain(t *testing.T) {
	for _, who := range []string{alice, operator} {
		w := newTenants(t)
		w.Service = hub.NewService(w.Service.Policy(), namer(t), single{w.world}, single{w.world}, box{})
		r, err := w.ask(alice, "subscribe", "news", cb, "hub.secret", "s3cret", "hub.delivery_window", "4", "hub.delivery_mode", "parallel", "hub.lease_seconds", "7200")
		if err != nil {
			t.Fatal(err)
		}
		w.apply(failedWith(uint64(r), "status", 404, 3))
		w.State = reloaded(t, w.State)
		again, err := w.AskAgain(as(who), r)
		if err != nil || again <= r {
			t.Fatalf("%s: %s, %v", who, again, err)
		}
		if len(w.fx.Requests) != 1 || w.fx.Requests[0].ID != again {
			t.Errorf("%s: nobody verifies it: %+v", who, w.fx.Requests)
		}
		sub := w.sub(hub.SubscriptionID(w.apply(w.verified(uint64(again))).ID))
		if sub.Owner != alice || string(sub.SealedSecret) != "sealed:terc3s" || sub.LeaseSeconds != 7200 || sub.Options.Window != 4 || sub.Callback != cb {
			t.Errorf("%s: %+v", who, sub)
		}
	}
}

// A pending request that is made again is replaced, so that its callback is asked at once and not twice.
func TestAskAgainReplacesAPendingRequest(t *testing.T) {
	w := newTenants(t)
	r, _ := w.ask(alice, "unsubscribe", "news", cb)
	again, err := w.AskAgain(as(alice), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, there := w.Request(r); there || len(w.fx.Settled) != 1 {
		t.Errorf("the former request is still there: %+v", w.fx.Settled)
	}
	if now, there := w.Request(again); !there || now.Mode != hub.ModeUnsubscribe || now.Owner != alice {
		t.Errorf("%+v", now)
	}
}

// Who has no right to a request learns nothing of it, and what would not be accepted now is not accepted.
func TestAskAgainIsRefused(t *testing.T) {
	w := newTenants(t)
	r, _ := w.ask(alice, "subscribe", "news", cb)
	for _, who := range []string{bob, ""} {
		if _, err := w.AskAgain(as(who), r); hub.CodeOf(err) != hub.CodeNotFound {
			t.Errorf("%q asks about alice's request: %v", who, err)
		}
	}
	if _, err := w.AskAgain(as(operator), r+7); hub.CodeOf(err) != hub.CodeNotFound || !strings.Contains(err.Error(), `"r-8" is not a request that is pending or failed`) {
		t.Errorf("an unknown request: %v", err)
	}
	w.apply(failed(uint64(r)))
	w.denied[alice] = hub.ActionSubscribe
	if _, err := w.AskAgain(as(alice), r); hub.CodeOf(err) != hub.CodeForbidden {
		t.Errorf("alice may no longer subscribe: %v", err)
	}
	delete(w.denied, alice)
	w.quotas.PendingRequests = 1
	other, _ := w.ask(alice, "subscribe", "news", cb+"2")
	if _, err := w.AskAgain(as(alice), r); hub.CodeOf(err) != hub.CodeForbidden {
		t.Errorf("alice's quota is reached by %s: %v", other, err)
	}
	w.advance(hub.FailedRequestsFor)
	w.apply(initialized("c"))
	if _, err := w.AskAgain(as(operator), r); hub.CodeOf(err) != hub.CodeNotFound {
		t.Errorf("after an hour: %v", err)
	}
}

// A request of which too little is kept cannot be made again: without its secret it would be another one.
func TestAskAgainNeedsTheWholeRequest(t *testing.T) {
	for name, c := range map[string]struct {
		level  uint32
		secret string
	}{"an older cluster": {3, "s"}, "a long one": {hub.FeatureLevel, strings.Repeat("s", 5000)}} {
		w := newWorld(t)
		w.apply(levelSet(c.level))
		ev := requested(hub.ModeSubscribe, "news", cb, hr, "")
		ev.GetSubscriptionRequested().SealedSecret = []byte(c.secret)
		r := w.apply(ev)
		w.apply(failed(r.ID))
		s := hub.NewService(hub.Policy{Leases: leases, Clock: worldClock{w}}, namer(t), single{w}, single{w}, nil)
		if _, err := s.AskAgain(t.Context(), hub.RequestID(r.ID)); hub.CodeOf(err) != hub.CodeConflict || !strings.Contains(err.Error(), "was not kept whole") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := newOwners(t)
	w.apply(keySwitched(keyA))
	r := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, string(sealedAs(keyA, "s3cret", 1))))
	w.apply(failed(r.ID))
	w.apply(keyAnnounced(keyB))
	w.apply(keySwitched(keyB))
	w.apply(keyRetired(keyA))
	s := hub.NewService(hub.Policy{Leases: leases, Clock: worldClock{w}}, namer(t), single{w}, single{w}, nil)
	if _, err := s.AskAgain(t.Context(), hub.RequestID(r.ID)); hub.CodeOf(err) != hub.CodeConflict || !strings.Contains(err.Error(), "sealed with a key that is retired") {
		t.Errorf("its key is gone: %v", err)
	}
}
