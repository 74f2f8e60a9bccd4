package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
	"quorumhub/web/view"
)

// Messages are found by time and by the publisher's idempotency key, page by page, the newest first.
func TestListMessages(t *testing.T) {
	f := newFixture(t)
	var times []string
	for i := range 7 {
		times = append(times, f.clock.Now().Format(time.RFC3339Nano))
		want(t, f.send("POST", "/topics/news", strings.Repeat("x", i), "Content-Type", "text/plain", "Idempotency-Key", fmt.Sprint("k", i)), 200)
		f.clock.advance(time.Minute)
	}
	f.ledger.trim(t, 1, 1)
	list := func(query string) (ids, next string) {
		t.Helper()
		var page struct {
			Items []view.Message
			Next  string
		}
		if err := json.Unmarshal([]byte(want(t, f.send("GET", "/v1/messages?topic=news&"+query, ""), 200)), &page); err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Items {
			ids += m.ID + " "
			if m.Topic != "news" || m.ContentType != "text/plain" || m.Size != int64(m.Offset-1) || m.PublishedAt.Format(time.RFC3339Nano) != times[m.Offset-1] {
				t.Errorf("%+v", m)
			}
		}
		return strings.TrimSpace(ids), page.Next
	}
	for query, want := range map[string][2]string{
		"": {"1-7 1-6 1-5 1-4 1-3 1-2", ""}, "limit=2": {"1-7 1-6", "6"}, "limit=2&cursor=6": {"1-5 1-4", "4"}, "limit=2&cursor=4": {"1-3 1-2", ""},
		"since=" + times[3]: {"1-7 1-6 1-5 1-4", ""}, "until=" + times[3]: {"1-3 1-2", ""}, "since=" + times[2] + "&until=" + times[4] + "&limit=1": {"1-4", "4"},
		"since=2036-01-01T00:00:00Z": {"", ""}, "until=2006-01-01T00:00:00Z": {"", ""},
		"idempotency_key=k3": {"1-4", ""}, "idempotency_key=k9": {"", ""}, "idempotency_key=k0": {"", ""}, // dropped by retention
	} {
		if ids, next := list(query); ids != want[0] || next != want[1] {
			t.Errorf("%s: %q, next %q; want %q", query, ids, next, want)
		}
	}
	for query, words := range map[string]string{"topic=": "topic", "topic=news&since=yesterday": "since: is", "topic=news&cursor=x": "cursor: is", "topic=news&limit=0": "limit: is",
		"topic=news&idempotency_key=": "is empty", "topic=news&what=x": "is not a parameter"} {
		if got := want(t, f.send("GET", "/v1/messages?"+query, ""), 400); !strings.Contains(got, words) {
			t.Errorf("%s: %s", query, got)
		}
	}
	want(t, f.send("GET", "/v1/messages?topic=other", ""), 404)
}

// One message's whole way: to whom it went, with each attempt, and who still waits for it.
func TestMessageWay(t *testing.T) {
	d := &deliveries{}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Deliveries = d })
	for i := range 3 {
		f.subscribe(t, topicURL, callbackURL+fmt.Sprint(i))
		f.ledger.verify(t)
	}
	f.publishMany(t, 3)
	f.clock.advance(time.Second)
	f.subscribe(t, topicURL, callbackURL+"late")
	f.ledger.verify(t)
	moved := func(id hub.SubscriptionID, offset uint64) {
		f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Cursors: []*hubpb.Cursor{{Subscription: uint64(id), Offset: offset, Epoch: f.epoch(id)}}}}})
	}
	moved(1, 2)
	moved(3, 1)
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: 3, Epoch: f.epoch(3), Offset: 2, Attempts: 4, Status: 404, Reason: "http-status",
		Tries: []*hubpb.Attempt{{At: 1, Status: 500, Reason: "http-status"}, {At: 2, Status: 404, Reason: "http-status"}}}}})
	d.view = view.Delivery{Node: "node-1", Attempts: []view.Attempt{{Offset: 3, Outcome: "down", Status: 503}, {Offset: 2, Outcome: "cancelled", Kind: "delivery"}}}
	way := func(query string) (w view.MessageWay) {
		t.Helper()
		if err := json.Unmarshal([]byte(want(t, f.send("GET", "/v1/messages/1-2"+query, ""), 200)), &w); err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := way("")
	var states []string
	for _, x := range w.Deliveries {
		states = append(states, x.Subscription+" "+x.State)
	}
	if got := strings.Join(states, ", "); got != "s-1 done, s-2 pending, s-3 dead_letter, s-4 earlier" || w.Topic != "news" || w.Offset != 2 || w.Next != "" {
		t.Fatalf("%s in %+v", got, w)
	}
	if a := w.Deliveries[1]; len(a.Attempts) != 1 || a.Attempts[0].Outcome != "cancelled" || a.Callback != callbackURL+"1" {
		t.Errorf("the attempts at another message are shown: %+v", a)
	}
	if l := w.Deliveries[2]; l.DeadLetter != "d-1" || len(l.Attempts) != 2 || l.Attempts[0].Status != 404 || l.Attempts[1].Status != 500 {
		t.Errorf("%+v", l)
	}
	d.view.Attempts[1].Outcome = "delivered"
	if w := way("?limit=2"); w.Deliveries[0].State != view.MessageDelivered || len(w.Deliveries) != 2 || w.Next != "s-2" {
		t.Errorf("%+v", w)
	}
	if w := way("?limit=2&cursor=s-2"); len(w.Deliveries) != 2 || w.Deliveries[0].Subscription != "s-3" || w.Next != "" {
		t.Errorf("%+v", w)
	}
	d.err = hub.Errorf(hub.CodeUnavailable, "it is away")
	if w := way(""); w.Deliveries[1].Unknown != "it is away" || len(w.Deliveries[2].Attempts) != 2 {
		t.Errorf("%+v", w)
	}
	for _, id := range []string{"1-0", "0-1", "x", "1-", "2-1", "1-2-3", "01-2"} {
		want(t, f.send("GET", "/v1/messages/"+id, ""), 404)
	}
	want(t, f.send("GET", "/v1/messages/1-4", ""), 404)
	f.ledger.trim(t, 1, 2)
	want(t, f.send("GET", "/v1/messages/1-2", ""), 410)
}

func (f *fixture) epoch(id hub.SubscriptionID) (epoch uint64) {
	f.ledger.View(func(s *hub.State) {
		sub, _ := s.Subscription(id)
		epoch = sub.Assignment.Epoch
	})
	return epoch
}

// A message is sent once more, and a test message sent, by who may manage the subscription.
func TestSendOnRequest(t *testing.T) {
	d := &deliveries{}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Deliveries = d })
	f.subscribe(t, topicURL, callbackURL)
	f.ledger.verify(t)
	f.publishMany(t, 2)
	want(t, f.send("POST", "/topics/other", "x"), 200)
	post := func(path, body string, status int) string {
		t.Helper()
		return want(t, f.send("POST", "/v1/subscriptions/"+path, body, "Content-Type", "application/json"), status)
	}
	got := post("s-1/redeliver", `{"message_id":"1-2"}`, 200)
	if !strings.Contains(got, `"status":503`) || !strings.Contains(got, `"kind":"replay"`) || len(d.sent) != 1 || d.sent[0].Offset != 2 || d.sent[0].Subscription != 1 {
		t.Errorf("%s, asked %+v", got, d.sent)
	}
	post("s-1/test", `{}`, 200)
	post("s-1/test", `{"body":"hello"}`, 200)
	post("s-1/test", `{"body":"<a/>","content_type":"application/xml"}`, 200)
	if s := d.sent[1:]; len(s) != 3 || !json.Valid(s[0].Body) || !strings.Contains(string(s[0].Body), `"subscription":"s-1"`) || s[0].ContentType != "application/json" || s[0].Offset != 0 ||
		string(s[1].Body) != "hello" || s[1].ContentType != "text/plain; charset=utf-8" || s[2].ContentType != "application/xml" {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct{ path, body, words string }{
		{"s-1/redeliver", `{}`, "message_id: is"}, {"s-1/redeliver", `{"message_id":"1-0"}`, "message_id: is"}, {"s-1/redeliver", `{"message_id":"2-1"}`, "not a message of the subscription's topic"},
		{"s-1/redeliver", `{"id":"1-2"}`, "cannot be decoded"}, {"s-1/test", `{"content_type":"a b"}`, "content_type: is"},
	} {
		if got := post(c.path, c.body, 400); !strings.Contains(got, c.words) {
			t.Errorf("%s %s: %s", c.path, c.body, got)
		}
	}
	post("s-1/test", `{"body":"`+strings.Repeat("x", 40<<10)+`"}`, 413)
	post("s-2/redeliver", `{"message_id":"1-2"}`, 404)
	post("s-2/test", `{}`, 404)
	if len(d.sent) != 4 {
		t.Errorf("asked %+v", d.sent)
	}
	d.err = &hub.Error{Code: hub.CodeConflict, Message: "s-1 is paused, and nothing is sent to it; resume it first"}
	if got := post("s-1/test", `{}`, 409); !strings.Contains(got, "is paused") {
		t.Error(got)
	}
}

// To a stranger neither messages nor subscriptions nor requests are there, and nothing is sent for him.
func TestStrangersHaveNoPartInMessages(t *testing.T) {
	d := &deliveries{}
	o := newOwned(t, "", func(_ *hub.Policy, o *web.Options) { o.Deliveries = d })
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://bob.example/cb")
	o.ledger.verify(t)
	pending := o.ask(t, o.alice, "subscribe", "https://alice.example/cb2")
	want(t, o.as(o.alice, "POST", "/topics/orders/eu", "x"), 200)
	stranger := o.key(t, "stranger", "none")
	json := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		key, method, path, body string
		status                  int
	}{
		{stranger, "GET", "/v1/messages?topic=orders/eu", "", 403}, {stranger, "GET", "/v1/messages?topic=nothing", "", 403}, {stranger, "GET", "/v1/messages/1-1", "", 404},
		{o.bob, "POST", "/v1/subscriptions/s-1/redeliver", `{"message_id":"1-2"}`, 404}, {o.bob, "POST", "/v1/subscriptions/s-1/test", `{}`, 404},
		{o.bob, "POST", "/v1/requests/" + pending + "/ask", "", 404}, {o.bob, "GET", "/v1/messages/1-2", "", 200}, {o.bob, "GET", "/v1/messages?topic=orders/eu", "", 200},
		{"", "GET", "/v1/messages/1-1", "", 401}, {"", "POST", "/v1/subscriptions/s-1/test", `{}`, 401},
	} {
		if c.key == "" {
			want(t, o.send(c.method, c.path, c.body, json...), c.status)
			continue
		}
		want(t, o.as(c.key, c.method, c.path, c.body, json...), c.status)
	}
	if len(d.sent) != 0 {
		t.Errorf("sent %+v", d.sent)
	}
	for key, sees := range map[string]string{o.alice: "s-1", o.bob: "s-2", o.root: "s-1 s-2"} {
		body := want(t, o.as(key, "GET", "/v1/messages/1-2", ""), 200)
		for _, id := range []string{"s-1", "s-2"} {
			if strings.Contains(body, `"`+id+`"`) != strings.Contains(sees, id) {
				t.Errorf("want only %s in %s", sees, body)
			}
		}
	}
	want(t, o.as(o.alice, "POST", "/v1/subscriptions/s-1/test", `{}`, json...), 200)
	want(t, o.as(o.root, "POST", "/v1/subscriptions/s-1/redeliver", `{"message_id":"1-2"}`, json...), 200)
	w := o.as(o.alice, "POST", "/v1/requests/"+pending+"/ask", "")
	if body := want(t, w, 202); !strings.Contains(body, `"replaces":"`+pending+`"`) || w.Header().Get("X-Hub-Request-Id") == pending {
		t.Error(body)
	}
	if got := idsOf(o.list(t, o.alice, "/v1/requests")); got != w.Header().Get("X-Hub-Request-Id") {
		t.Errorf("pending now: %s", got)
	}
}
