package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
	"quorumhub/web/view"
)

// page gets a page of the console.
func (f *fixture) page(t *testing.T, path string, header ...string) string {
	t.Helper()
	status, body, _ := f.browse("/console"+path, header...)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, status, body)
	}
	return body
}

// does posts a form of the console as a browser does, and follows it to the page that it leads to.
func (f *fixture) does(t *testing.T, path string, status int, fields ...string) (body string, w *httptest.ResponseRecorder) {
	t.Helper()
	return f.doesAs(t, "", path, status, fields...)
}

func (f *fixture) doesAs(t *testing.T, key, path string, status int, fields ...string) (body string, w *httptest.ResponseRecorder) {
	t.Helper()
	header := []string{"Content-Type", formType, "Accept", "text/html", "Sec-Fetch-Site", "same-origin", "Origin", publicURL}
	if key != "" {
		header = append(header, "X-API-Key", key)
	}
	w = f.send("POST", "/console"+path, encode(fields...), header...)
	if w.Code != status {
		t.Fatalf("POST %s: got %d, want %d: %s", path, w.Code, status, text(w.Body.String()))
	}
	if w.Code != http.StatusSeeOther {
		return w.Body.String(), w
	}
	get := []string{}
	if key != "" {
		get = append(get, "X-API-Key", key)
	}
	for _, c := range w.Result().Cookies() {
		get = append(get, "Cookie", c.Name+"="+c.Value)
	}
	return f.page(t, strings.TrimPrefix(w.Header().Get("Location"), "/console"), get...), w
}

var (
	tags  = regexp.MustCompile(`<[^>]*>`)
	space = regexp.MustCompile(`\s+`)
)

// text returns what a reader of a page reads.
func text(page string) string {
	if i := strings.Index(page, "<main"); i >= 0 {
		page = page[i:]
	}
	return strings.TrimSpace(space.ReplaceAllString(strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&amp;", "&", "&lt;", "<", "&gt;", ">", "&#43;", "+").Replace(tags.ReplaceAllString(page, " ")), " "))
}

// shows fails unless a reader of the page reads all of the words, and none of those that begin with a minus.
func shows(t *testing.T, page string, words ...string) {
	t.Helper()
	got := text(page)
	for _, w := range words {
		if not, ok := strings.CutPrefix(w, "-"); ok == strings.Contains(got, strings.TrimPrefix(w, "-")) {
			t.Errorf("%q, want %t, in: %s", not, !ok, got)
		}
	}
}

// troubled is a hub of which one subscription fails, one is paused and one is well.
func troubled(t *testing.T, change ...func(*hub.Policy, *web.Options)) (*fixture, *deliveries) {
	t.Helper()
	d := &deliveries{}
	f := newFixture(t, append([]func(*hub.Policy, *web.Options){func(_ *hub.Policy, o *web.Options) { o.Deliveries = d }}, change...)...)
	trouble(t, f, d)
	return f, d
}

func trouble(t *testing.T, f *fixture, d *deliveries) {
	t.Helper()
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
	for _, name := range []string{"failing", "paused", "well"} {
		f.subscribe(t, topicURL, "https://"+name+".example/cb", "hub.secret", "s3cret-of-"+name)
		f.ledger.verify(t)
	}
	f.clock.advance(time.Second)
	for i := range 5 {
		want(t, f.send("POST", "/topics/news", fmt.Sprintf(`{"n":%d,"text":"<script>alert(1)</script>"}`, i), "Content-Type", "application/json", "Idempotency-Key", fmt.Sprint("k", i)), 200)
		f.clock.advance(time.Minute)
	}
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Cursors: []*hubpb.Cursor{
		{Subscription: 1, Offset: 1, Epoch: f.epoch(1), Failures: 7, FailingSince: f.clock.Now().Add(-3 * time.Minute).UnixNano()}, {Subscription: 3, Offset: 5, Epoch: f.epoch(3), Delivered: 5}}}}})
	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: 1, Epoch: f.epoch(1), Offset: 2, Attempts: 4, Status: 404, Reason: "http-status",
		Size: 10, ContentType: "application/json", Tries: []*hubpb.Attempt{{At: f.clock.Now().UnixNano(), Status: 404, Reason: "http-status", Latency: 5e6, Node: "node-1"}}}}})
	want(t, f.send("POST", "/v1/subscriptions/s-2/pause", ""), 200)
	next := f.clock.Now().Add(40 * time.Second)
	d.view = view.Delivery{Node: "node-1", State: "waiting", NextAttempt: &next, Window: 1, Attempts: []view.Attempt{{At: f.clock.Now().Add(-time.Minute), Offset: 3, Outcome: "down", Status: 503, Reason: "http-status", LatencyMS: 12.5},
		{At: f.clock.Now().Add(-4 * time.Minute), Offset: 1, Outcome: "delivered", Status: 204, LatencyMS: 2}}}
}

func TestConsoleTellsWhoFailsAndWhy(t *testing.T) {
	f, _ := troubled(t)
	shows(t, f.page(t, "/subscriptions"), "https://failing.example/cb", "failing", "https://paused.example/cb", "paused", "https://well.example/cb", "well", "1–3 of 3")
	shows(t, f.page(t, "/subscriptions?health=failing"), "https://failing.example/cb", "-https://paused.example/cb", "-https://well.example/cb", "1–1 of 1")
	shows(t, f.page(t, "/subscriptions?callback=WELL&state=active"), "https://well.example/cb", "-https://failing.example/cb")
	shows(t, f.page(t, "/subscriptions?topic=other"), "No subscription matches")
	if body := f.page(t, "/subscriptions?sort=-lag"); strings.Index(body, "paused.example") > strings.Index(body, "failing.example") || strings.Index(body, "failing.example") > strings.Index(body, "well.example") {
		t.Error("the list is not sorted by lag")
	}
	page := f.page(t, "/subscriptions/s-1")
	shows(t, page, "Its deliveries have failed for 3 min: 7 attempts in a row; 3 messages wait, and 1 was given up. At the last one, the callback answered 503 Service Unavailable.",
		"The endpoint is left alone until the next attempt, which is due in 40 s", "The endpoint itself has failed; its own log says why.", "1-3", "12 ms", "keeps the status only", "yes, with")
	if strings.Contains(page, "s3cret") {
		t.Error("the page has the secret")
	}
	shows(t, f.page(t, "/subscriptions/s-2"), "It is paused by an operator; 5 messages wait.", "Resume")
	shows(t, f.page(t, "/subscriptions/s-3"), "All is delivered; nothing waits.")
	shows(t, f.page(t, "/topics"), "news", "1–1 of 1")
	shows(t, f.page(t, "/topics/news"), "5 messages so far, 3 subscriptions.", "1-5", "https://paused.example/cb", "2 with messages that wait")
	shows(t, f.page(t, "/messages/1-2"), "given up", "dead letter d-1", "answered 404 Not Found", "waits", "done", "https://well.example/cb")
	shows(t, f.page(t, "/dead-letters"), "d-1", "answered 404 Not Found", "1–1 of 1")
	shows(t, f.page(t, "/dead-letters/d-1"), "Given up for https://failing.example/cb after 4 attempts: the callback answered 404 Not Found.", "Check the path of the callback.", `"n": 1`)
	for _, path := range []string{"/subscriptions/s-9", "/subscriptions/x", "/topics/none", "/messages/1-99", "/messages/x", "/dead-letters/d-9"} {
		if status, _, _ := f.browse("/console" + path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, path := range []string{"/subscriptions?sort=x", "/subscriptions?health=x", "/subscriptions?what=x", "/topics?page=0", "/requests?state=x", "/messages?key=k", "/dead-letters?status=9", "/subscriptions?page=999999"} {
		if status, _, _ := f.browse("/console" + path); status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, status)
		}
	}
}
