package hub_test

import (
	"fmt"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func failedWith(request uint64, reason string, status int32, attempts uint32) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_RequestFailed{RequestFailed: &hubpb.RequestFailed{Request: request, Reason: reason, Status: status, Attempts: attempts}}}
}

// A request that failed can be asked for during an hour, on every node, with what its callback answered.
func TestFailedRequestsAreKeptForAnHour(t *testing.T) {
	w := newOwners(t)
	w.apply(registered(hub.EventsTopic))
	asked := w.now
	r := w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb, hr, "s3cret")))
	w.advance(time.Minute)
	w.apply(failedWith(r.ID, "status", 404, 3))
	want := hub.FailedRequest{ID: hub.RequestID(r.ID), Mode: hub.ModeSubscribe, TopicName: "news", TopicRaw: w.fx.Failed[0].TopicRaw, Callback: cb, CallbackKey: cb,
		Owner: alice, Reason: "status", Status: 404, Attempts: 3, RequestedAt: asked, SettledAt: w.now}
	if len(w.fx.Failed) != 1 || w.fx.Failed[0].Status != 404 {
		t.Errorf("effects %+v", w.fx.Failed)
	}
	if e := w.wantLifecycle("verification_failed "); len(e) == 1 && (e[0].Request != want.ID.String() || e[0].Mode != "subscribe" || e[0].Reason != "status" || e[0].Status != 404 ||
		e[0].Attempts != 3 || e[0].Callback != cb || e[0].Topic != "news" || e[0].LeaseEndsAt != "") {
		t.Errorf("%+v", e[0])
	}
	w.State = reloaded(t, w.State)
	list := w.FailedRequests(hub.RequestFilter{Topic: "news", CallbackKey: cb, Owner: alice}, 0, 0)
	if len(list) != 1 || fmt.Sprintf("%+v", list[0]) != fmt.Sprintf("%+v", withNumberOf(want, list[0])) {
		t.Errorf("%+v\nwant %+v", list, want)
	}
	for name, f := range map[string]hub.RequestFilter{"another topic": {Topic: "other", All: true}, "another callback": {CallbackKey: cb + "2", All: true},
		"another owner": {Owner: bob}, "nobody": {}} {
		if list := w.FailedRequests(f, 0, 0); len(list) != 0 {
			t.Errorf("%s: %+v", name, list)
		}
	}
	w.advance(time.Hour - time.Nanosecond)
	w.apply(initialized("c"))
	if _, ok := w.FailedRequest(want.ID); !ok {
		t.Error("forgotten within the hour")
	}
	w.advance(time.Nanosecond)
	w.apply(initialized("c"))
	if _, ok := w.FailedRequest(want.ID); ok || len(w.FailedRequests(hub.RequestFilter{All: true}, 0, 0)) != 0 {
		t.Error("still there after an hour")
	}
	again := w.apply(requested(hub.ModeSubscribe, "news", cb+"2", hr, ""))
	w.apply(failed(again.ID))
	if n := countRows(w, hub.TableFailedRequest); n != 1 {
		t.Errorf("%d rows, and one request failed within the hour", n)
	}
}

// withNumberOf returns want with what only the state knows.
func withNumberOf(want, got hub.FailedRequest) hub.FailedRequest {
	number := got
	number.ID, number.Mode, number.TopicName, number.TopicRaw, number.Callback, number.CallbackKey = want.ID, want.Mode, want.TopicName, want.TopicRaw, want.Callback, want.CallbackKey
	number.Owner, number.Reason, number.Status, number.Attempts, number.RequestedAt, number.SettledAt = want.Owner, want.Reason, want.Status, want.Attempts, want.RequestedAt, want.SettledAt
	return number
}

func countRows(w *world, table hub.Table) (n int) {
	for k := range w.disk {
		if k.Table == table {
			n++
		}
	}
	return n
}

// Whatever the fold refuses is kept with its reason.
func TestFailuresOfTheFold(t *testing.T) {
	w := newOwners(t)
	e := requested(hub.ModeSubscribe, "gone", cb, hr, "")
	e.GetSubscriptionRequested().AutoRegister = false
	r := w.apply(by(alice, e))
	w.apply(w.verified(r.ID))
	w.owned(alice, "news", cb, "g")
	w.owned(alice, "news", cb+"0", "g")
	e = requested(hub.ModeSubscribe, "news", cb+"2", hr, "")
	e.GetSubscriptionRequested().Options = &hubpb.SubscriptionOptions{Group: "g", Mode: hub.DeliveryParallel, Window: 2}
	r = w.apply(by(alice, e))
	w.apply(w.verified(r.ID))
	if got := fmt.Sprint(w.failures(alice)); got != "[subscribe group-conflict subscribe unknown-topic]" {
		t.Error(got)
	}
	// A notice of an end that its callback did not take is no request of anybody.
	w.apply(ended(hubpb.EndReason_END_OPERATOR, 1))
	notice := w.fx.Requests[0].ID
	w.apply(failed(uint64(notice)))
	if len(w.FailedRequests(hub.RequestFilter{All: true}, 0, 0)) != 2 {
		t.Error("a notice is kept")
	}
}

// Failed requests are bounded, and nobody's push out those of others.
func TestFailedRequestsAreBounded(t *testing.T) {
	s := hub.NewState()
	now, seq := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), uint64(0)
	request := uint64(0)
	fail := func(owner string, n int) {
		seq++
		var events []*hubpb.Event
		for i := range n {
			request++
			e := requested(hub.ModeSubscribe, "news", fmt.Sprint(cb, i), hr, "")
			if owner != "" {
				e = by(owner, e)
			}
			events = append(events, e, failed(request))
		}
		if _, err := s.Apply(entry(t, now, "node-1/a", seq, events...), new(hub.Effects)); err != nil {
			t.Fatal(err)
		}
	}
	seq++
	if _, err := s.Apply(entry(t, now, "node-1/a", seq, levelSet(hub.FeatureLevel)), new(hub.Effects)); err != nil {
		t.Fatal(err)
	}
	fail(alice, 10)
	fail(bob, 3000)
	if got := s.Usage(bob).FailedRequests; got != 1000 {
		t.Errorf("%d of one principal are kept", got)
	}
	for range 12 {
		fail("", 1000)
	}
	all := s.FailedRequests(hub.RequestFilter{All: true}, 0, 0)
	if len(all) != 10_000 || s.Usage(alice).FailedRequests != 10 {
		t.Errorf("%d are kept, %d of them alice's", len(all), s.Usage(alice).FailedRequests)
	}
	if page := s.FailedRequests(hub.RequestFilter{All: true}, all[4].ID, 3); len(page) != 3 || page[0].ID != all[5].ID {
		t.Errorf("%+v", page)
	}
}
