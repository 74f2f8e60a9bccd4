package web_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

func (f *fixture) sub(t *testing.T, id hub.SubscriptionID) (sub hub.Subscription, ok bool) {
	t.Helper()
	f.ledger.View(func(s *hub.State) { sub, ok = s.Subscription(id) })
	return sub, ok
}

// What is done on a page is done once, is counted before it destroys anything, and the next page says what was done.
func TestConsoleActsOnSubscriptions(t *testing.T) {
	f, d := troubled(t)
	body, _ := f.does(t, "/subscriptions/s-2/resume", 303)
	shows(t, body, "Its deliveries go on where they stopped.", "Pause")
	if sub, _ := f.sub(t, 2); sub.Paused {
		t.Error("it is still paused")
	}
	body, _ = f.does(t, "/subscriptions/s-3/rewind", 200, "to", "2")
	shows(t, body, "Move s-3 to 2", "It goes on with message 2. 4 messages are sent again, and no message is skipped.")
	if sub, _ := f.sub(t, 3); sub.Cursor.Offset != 5 {
		t.Error("it moved before it was confirmed")
	}
	body, _ = f.does(t, "/subscriptions/s-3/rewind", 303, "to", "2", "confirm", "yes")
	shows(t, body, "It goes on with message 2: 4 messages are sent again, no message is skipped.")
	if sub, _ := f.sub(t, 3); sub.Cursor.Offset != 1 {
		t.Errorf("the cursor is at %d", sub.Cursor.Offset)
	}
	// What skips messages needs the name typed.
	body, _ = f.does(t, "/subscriptions/s-3/rewind", 422, "to", "latest", "confirm", "yes")
	shows(t, body, "4 messages are skipped", "Type s-3 to go on")
	f.does(t, "/subscriptions/s-3/rewind", 303, "to", "latest", "confirm", "s-3")
	f.does(t, "/subscriptions/s-3/rewind", 400, "to", "yesterday")

	body, _ = f.does(t, "/subscriptions/s-1/signature", 303, "method", "sha512")
	shows(t, body, "From now on it is signed with sha512.")
	f.does(t, "/subscriptions/s-1/signature", 400, "method", "md5")
	f.does(t, "/subscriptions/s-1/headers", 303, "name", "X-Api-Key", "value", "top-s3cret")
	var set []hub.CallbackCredentials
	f.ledger.View(func(s *hub.State) { set = s.CallbackCredentials() })
	if len(set) != 1 || set[0].Pattern != "https://failing.example/cb" {
		t.Errorf("%+v", set)
	}
	if page := f.page(t, "/subscriptions/s-1"); strings.Contains(page, "top-s3cret") {
		t.Error("the page shows the header's value")
	}

	body, _ = f.does(t, "/subscriptions/s-1/test", 200)
	shows(t, body, "A test message was not acknowledged", "503", "The endpoint itself has failed", "no header and no body of it")
	body, _ = f.does(t, "/subscriptions/s-1/redeliver", 200, "message", "1-3")
	shows(t, body, "Message 1-2 was not acknowledged") // as the owner answers in this test
	if len(d.sent) != 2 || d.sent[0].Offset != 0 || d.sent[1].Offset != 3 {
		t.Errorf("sent %+v", d.sent)
	}
	f.does(t, "/subscriptions/s-1/redeliver", 400, "message", "x")

	body, _ = f.does(t, "/subscriptions/s-1/end", 200)
	shows(t, body, "End s-1", "3 messages are not delivered any more", "Type s-1 to go on")
	f.does(t, "/subscriptions/s-1/end", 422, "confirm", "s-2")
	if _, there := f.sub(t, 1); !there {
		t.Fatal("it ended with the wrong name typed")
	}
	body, _ = f.does(t, "/subscriptions/s-1/end", 303, "confirm", "s-1")
	shows(t, body, "s-1 has ended", "1–2 of 2")
	f.does(t, "/subscriptions/s-1/pause", 404)
}

func TestConsoleActsOnTopics(t *testing.T) {
	f, _ := troubled(t)
	body, _ := f.does(t, "/register", 303, "topic", "orders/eu")
	shows(t, body, "orders/eu is registered.", "Nothing has been published to it yet, and nobody is subscribed.")
	f.does(t, "/register", 409, "topic", "orders/eu")
	body, _ = f.does(t, "/publish", 303, "topic", "orders/eu", "body", ` {"a": 1}`, "content_type", "auto", "key", "k1")
	shows(t, body, "Published as message 2-1.", "application/json")
	body, _ = f.does(t, "/publish", 303, "topic", "orders/eu", "body", ` {"a": 1}`, "content_type", "auto", "key", "k1")
	shows(t, body, "It was published before, under the same key, as message 2-1; nothing was published now.")

	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	_ = m.WriteField("topic", "orders/eu")
	_ = m.WriteField("content_type", "auto")
	_ = m.WriteField("body", "not this")
	part, _ := m.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="a.png"`}, "Content-Type": {"image/png"}})
	_, _ = part.Write([]byte{0x89, 'P', 'N', 'G', 0})
	_ = m.Close()
	w := f.send("POST", "/console/publish", form.String(), "Content-Type", m.FormDataContentType(), "Sec-Fetch-Site", "same-origin", "Origin", publicURL)
	if w.Code != http.StatusSeeOther {
		t.Fatalf("a file: %d %s", w.Code, text(w.Body.String()))
	}
	shows(t, f.page(t, "/messages/2-2"), "image/png", "shown as bytes", "89 50 4e 47 00")

	f.does(t, "/topics/orders/eu", 303, "act", "limits", "max_age", "7d", "max_bytes", "10MiB")
	shows(t, f.page(t, "/topics/orders/eu"), "kept for 7d, up to 10.0 MiB")
	f.does(t, "/topics/orders/eu", 400, "act", "limits", "max_age", "soon")
	f.does(t, "/topics/orders/eu", 400, "act", "limits", "max_bytes", "much")
	f.does(t, "/topics/orders/eu", 303, "act", "limits")
	shows(t, f.page(t, "/topics/orders/eu"), "kept as the hub's")
	body, _ = f.does(t, "/topics/orders/eu", 303, "act", "life", "status", "deprecated", "sunset", "2036-12-31", "successor", "news")
	shows(t, body, "It is deprecated, and ends on 31 December 2036.", "deprecated")
	body, _ = f.does(t, "/topics/orders/eu", 303, "act", "life", "status", "active")
	shows(t, body, "-It is deprecated,")
	body, _ = f.does(t, "/topics/news", 200, "act", "life", "status", "retired")
	shows(t, body, "Retire news", "delivered to its 3 subscriptions")
	f.does(t, "/topics/news", 303, "act", "life", "status", "retired", "confirm", "news")
	f.does(t, "/publish", 410, "topic", "news", "body", "x")

	body, _ = f.does(t, "/deregister", 200, "topic", "news")
	shows(t, body, "Remove news", "5 messages are deleted, and 3 subscriptions end")
	body, _ = f.does(t, "/deregister", 303, "topic", "news", "confirm", "news")
	shows(t, body, "news is removed.")
	if status, _, _ := f.browse("/console/topics/news"); status != http.StatusNotFound {
		t.Errorf("it is still there: %d", status)
	}
}

// Acting on dead letters acts on all that match the filter, not on those of the page, and says first how many these are.
func TestConsoleActsOnAllThatMatches(t *testing.T) {
	f, _ := troubled(t)
	f.publishMany(t, 120)
	for i := range 110 {
		status := int32(404)
		if i >= 100 {
			status = 500
		}
		f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: 2, Epoch: f.epoch(2), Offset: uint64(i + 1), Attempts: 1, Status: status, Reason: "http-status"}}})
	}
	shows(t, f.page(t, "/dead-letters?status=404"), "1–50 of 101", "All 101 that match")
	shows(t, f.page(t, "/dead-letters?status=404&page=3"), "101–101 of 101")
	body, _ := f.does(t, "/dead-letters/replay", 200, "status", "404", "subscription", "s-2")
	shows(t, body, "Replay 100 dead letters", "status: 404", "subscription: s-2", "marked as a replay")
	if !strings.Contains(body, `name="expect" value="100"`) {
		t.Errorf("the form does not say how many were counted: %s", body)
	}
	body, w := f.does(t, "/dead-letters/replay", 303, "status", "404", "subscription", "s-2", "expect", "100", "confirm", "yes")
	shows(t, body, "100 dead letters will be replayed.", "100 dead letters wait for its turn", "0 of 100 are through", "replaying")
	if n := f.replaying(); n != 100 {
		t.Errorf("%d are marked, not only those of the page", n)
	}
	// Whoever comes back sees how far it is.
	progress := strings.TrimPrefix(w.Header().Get("Location"), "/console")
	results := &hubpb.DeadLettersReplayed{}
	for i := uint64(2); i < 62; i++ {
		results.Results = append(results.Results, &hubpb.ReplayResult{Letter: i, Delivered: i%2 == 0, Attempt: &hubpb.Attempt{Status: 404, Reason: "http-status"}})
	}
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_DeadLettersReplayed{DeadLettersReplayed: results}})
	shows(t, f.page(t, progress), "60 of 100 are through", "of 70")
	rest := &hubpb.DeadLettersReplayed{}
	for i := uint64(62); i < 102; i++ {
		rest.Results = append(rest.Results, &hubpb.ReplayResult{Letter: i}) // not tried: the endpoint stayed down
	}
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_DeadLettersReplayed{DeadLettersReplayed: rest}})
	shows(t, f.page(t, progress), "The replay is done.", "None of the 100 waits any more", "or were not tried because their endpoint stayed down", "of 70")
	if sub, _ := f.sub(t, 2); sub.Cursor.Failures != 0 {
		t.Errorf("replays count as failures: %+v", sub.Cursor)
	}

	// What has changed since it was counted is not done.
	f.does(t, "/dead-letters/drop", 409, "status", "500", "expect", "11", "confirm", "drop 11")
	body, _ = f.does(t, "/dead-letters/drop", 200, "status", "500")
	shows(t, body, "Drop 10 dead letters", "for good", "Type drop 10 to go on")
	f.does(t, "/dead-letters/drop", 422, "status", "500", "expect", "10", "confirm", "yes")
	body, _ = f.does(t, "/dead-letters/drop", 303, "status", "500", "expect", "10", "confirm", "drop 10")
	shows(t, body, "10 dead letters dropped.")
	body, _ = f.does(t, "/dead-letters/replay", 303, "status", "500")
	shows(t, body, "No dead letter matches the filters; nothing was done.")
	if lines := strings.Count(want(t, f.send("GET", "/console/dead-letters/export?status=404", ""), 200), "\n"); lines != 71 {
		t.Errorf("exported %d lines", lines)
	}

	body, _ = f.does(t, "/dead-letters/d-1/replay", 303)
	shows(t, body, "It will be replayed.", "It waits for its replay")
	f.does(t, "/dead-letters/d-1/drop", 422, "confirm", "d-2")
	body, _ = f.does(t, "/dead-letters/d-1/drop", 303, "confirm", "d-1")
	shows(t, body, "d-1 is dropped.")
}

func (f *fixture) replaying() (n int) {
	f.ledger.View(func(s *hub.State) { n = len(s.Replays()) })
	return n
}

func TestConsoleAsksAgain(t *testing.T) {
	f, _ := troubled(t)
	f.subscribe(t, topicURL, "https://late.example/cb")
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_RequestFailed{RequestFailed: &hubpb.RequestFailed{Request: 4, Reason: "wrong-challenge", Status: 200, Attempts: 3}}})
	f.subscribe(t, topicURL, "https://slow.example/cb")
	page := f.page(t, "/requests")
	shows(t, page, "r-4", "failed", "the answer was not the challenge", "(3 calls)", "must answer a GET with the value of hub.challenge", "r-5", "pending")
	shows(t, f.page(t, "/requests?state=failed"), "r-4", "-r-5")
	shows(t, f.page(t, "/requests?callback=slow"), "r-5", "-r-4")
	body, _ := f.does(t, "/requests/r-4/ask", 303)
	shows(t, body, "r-4 is asked again, as r-6.", "r-6")
	f.ledger.verify(t)
	f.ledger.verify(t)
	shows(t, f.page(t, "/subscriptions?callback=late"), "https://late.example/cb")
	f.does(t, "/requests/r-99/ask", 404)
	f.does(t, "/requests/x/ask", 404)
}

// Each list can be had whole, for a spreadsheet, which takes nothing in it for a formula.
func TestConsoleListsAsCSV(t *testing.T) {
	f, _ := troubled(t)
	f.publishMany(t, 60)
	want(t, f.send("POST", "/topics/=cmd()", "x"), 200)
	for path, c := range map[string]struct {
		rows int
		cell string
	}{"/topics?csv=1": {2, "'=cmd()"}, "/subscriptions?csv=1&sort=-lag": {3, "https://failing.example/cb"}, "/subscriptions?csv=1&health=failing": {1, "failing"}, "/dead-letters?csv=1": {1, "d-1"},
		"/messages?topic=news&csv=1": {65, "1-65"}, "/requests?csv=1": {0, ""}} {
		w := f.send("GET", "/console"+path, "")
		rows, err := csv.NewReader(strings.NewReader(want(t, w, 200))).ReadAll()
		if err != nil || len(rows) != c.rows+1 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/csv") {
			t.Errorf("%s: %d rows, %v, %v", path, len(rows), err, w.Header())
			continue
		}
		if c.cell != "" && !strings.Contains(fmt.Sprint(rows[1:]), c.cell) {
			t.Errorf("%s: no %q in %v", path, c.cell, rows[1:])
		}
	}
}

func TestConsoleFindsMessages(t *testing.T) {
	f, _ := troubled(t)
	f.publishMany(t, 60)
	if status, _, h := f.browse("/console/messages?id=1-2"); status != http.StatusSeeOther || h.Get("Location") != "/console/messages/1-2" {
		t.Errorf("%d %v", status, h)
	}
	shows(t, f.page(t, "/messages"), "The answer to a publish names the message")
	shows(t, f.page(t, "/messages?topic=news&key=k2"), "1-3", "-1-4", "-1-2")
	shows(t, f.page(t, "/messages?topic=news"), "1-65", "1-16", "-1-15", "Older")
	shows(t, f.page(t, "/messages?topic=news&before=16"), "1-15", "1-1", "-1-16")
	shows(t, f.page(t, "/messages?topic=news&since="+f.clock.Now().Add(-10*time.Second).UTC().Format("2006-01-02T15:04:05")), "1-65", "1-56", "-1-55")
	shows(t, f.page(t, "/messages?topic=news&since=10s"), "1-65", "-1-55")
	page := f.page(t, "/messages/1-2")
	shows(t, page, `"text": "<script>alert(1)</script>"`, "shown as JSON", "on a quorum")
	if strings.Contains(page, "<script>alert") {
		t.Error("the content is part of the page")
	}
}

// Nobody sees or does on a page what the API would not let him see or do.
func TestConsoleShowsOnlyWhatOneMaySee(t *testing.T) {
	d := &deliveries{}
	o := newOwned(t, "", func(_ *hub.Policy, o *web.Options) { o.Deliveries = d })
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://bob.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.alice, "subscribe", "https://alice.example/pending")
	o.ask(t, o.bob, "subscribe", "https://bob.example/pending")
	want(t, o.as(o.alice, "POST", "/topics/orders/eu", "the content"), 200)
	for _, id := range []hub.SubscriptionID{1, 2} { // the dead letters are d-1 and d-2
		o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: uint64(id), Epoch: o.epoch(id), Offset: 2, Attempts: 1, Status: 404, Reason: "http-status"}}})
	}
	stranger := o.key(t, "stranger", "none")
	key := func(k string) []string { return []string{"X-API-Key", k} }
	// Lists, their counts and files.
	for _, path := range []string{"/subscriptions", "/subscriptions?csv=1", "/requests", "/requests?csv=1", "/dead-letters", "/dead-letters?csv=1", "/messages/1-2"} {
		for who, c := range map[string]struct {
			key        string
			sees, not_ string
		}{"alice": {o.alice, "alice.example", "bob.example"}, "bob": {o.bob, "bob.example", "alice.example"}} {
			page := o.page(t, path, key(c.key)...)
			if !strings.Contains(page, c.sees) || strings.Contains(page, c.not_) {
				t.Errorf("%s on %s: %s", who, path, text(page))
			}
		}
		if page := o.page(t, path, key(o.root)...); !strings.Contains(page, "alice.example") || !strings.Contains(page, "bob.example") {
			t.Errorf("the operator on %s: %s", path, text(page))
		}
	}
	shows(t, o.page(t, "/subscriptions", key(o.bob)...), "1–1 of 1")
	shows(t, o.page(t, "/subscriptions", key(stranger)...), "Nobody is subscribed yet")
	shows(t, o.page(t, "/topics", key(o.bob)...), "-orders/eu")
	shows(t, o.page(t, "/topics", key(o.alice)...), "orders/eu", "1–1 of 1")
	shows(t, o.page(t, "/dead-letters", key(o.bob)...), "-Replay…", "-Drop…")
	// One thing.
	for path, who := range map[string]string{"/subscriptions/s-1": o.bob, "/dead-letters/d-1": o.bob, "/messages/1-2": stranger} {
		if status, body, _ := o.browse("/console"+path, key(who)...); status != http.StatusNotFound || strings.Contains(body, "alice.example") {
			t.Errorf("%s: %d %s", path, status, text(body))
		}
	}
	if status, _, _ := o.browse("/console/topics/orders/eu", key(o.bob)...); status != http.StatusForbidden {
		t.Errorf("another's topic: %d", status)
	}
	shows(t, o.page(t, "/topics/orders/eu", key(o.alice)...), "https://alice.example/cb", "-https://bob.example/cb")
	// The content of a message is for who may read the topic.
	shows(t, o.page(t, "/messages/1-2", key(o.bob)...), "the content")
	shows(t, o.page(t, "/messages/1-2", key(o.root)...), "-the content", "may not be read by you")
	if status, _, _ := o.browse("/console/messages?topic=orders/eu", key(stranger)...); status != http.StatusForbidden {
		t.Errorf("a stranger finds messages: %d", status)
	}
	// Acts.
	for path, fields := range map[string][]string{"/subscriptions/s-1/pause": nil, "/subscriptions/s-1/resume": nil, "/subscriptions/s-1/end": {"confirm", "s-1"}, "/subscriptions/s-1/rewind": {"to", "earliest", "confirm", "yes"},
		"/subscriptions/s-1/test": nil, "/subscriptions/s-1/redeliver": {"message", "1-2"}, "/requests/r-3/ask": nil} {
		o.doesAs(t, o.bob, path, 404, fields...)
	}
	for path, fields := range map[string][]string{"/subscriptions/s-2/signature": {"method", "sha1"}, "/subscriptions/s-2/headers": {"name", "A", "value", "b"}, "/dead-letters/replay": {"confirm", "yes"}, "/dead-letters/drop": {"confirm", "drop 2"},
		"/dead-letters/d-2/replay": nil, "/dead-letters/d-2/drop": {"confirm", "d-2"}, "/topics/orders/eu": {"act", "limits", "max_age", "1h"}, "/register": {"topic", "mine"}, "/publish": {"topic", "secret", "body", "x"}} {
		o.doesAs(t, o.bob, path, 403, fields...)
	}
	o.doesAs(t, stranger, "/deregister", 404, "topic", "orders/eu", "confirm", "orders/eu")
	if len(d.sent) != 0 || o.replaying() != 0 {
		t.Errorf("something was done for a stranger: %+v", d.sent)
	}
	o.doesAs(t, o.bob, "/subscriptions/s-2/pause", 303)
	body, _ := o.doesAs(t, o.alice, "/topics/orders/eu", 303, "act", "limits", "max_age", "1h")
	shows(t, body, "Its limits are set.")
	// From another site nothing is done, whatever the browser knows.
	w := o.send("POST", "/console/subscriptions/s-2/resume", "", "Content-Type", formType, "X-API-Key", o.bob, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	if sub, _ := o.sub(t, 2); w.Code != http.StatusForbidden || !sub.Paused {
		t.Errorf("from another site: %d, paused %t", w.Code, sub.Paused)
	}
}
