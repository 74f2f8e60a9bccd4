package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// letters is a hub with three dead letters: d-1 (404) and d-2 (no response) of s-1, and d-3 (503) of s-2, a minute apart.
func letters(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	for i, callback := range []string{callbackURL, "https://other.example/cb"} {
		f.subscribe(t, []string{topicURL, publicURL + "/topics/other"}[i], callback, "hub.secret", "top-secret")
		want(t, f.send("POST", []string{"/topics/news", "/topics/other"}[i], "x"), 200)
		f.ledger.verify(t)
	}
	for i, l := range []struct {
		sub, offset uint64
		topic, body string
		status      int32
		reason      string
	}{{1, 2, "news", "hello", 404, "http-status"}, {1, 3, "news", "\xff\x00", 0, "timeout"}, {2, 2, "other", "", 503, "http-status"}} {
		want(t, f.send("POST", "/topics/"+l.topic, l.body, "Content-Type", "text/plain"), 200)
		f.clock.advance(time.Minute)
		at := f.clock.Now().UnixNano()
		res := f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
			Subscription: l.sub, Offset: l.offset, Attempts: 3, Status: l.status, Reason: l.reason, Size: uint64(len(l.body)), ContentType: "text/plain",
			PublishedAt: at, Tries: []*hubpb.Attempt{{At: at, Status: l.status, Reason: l.reason, Latency: 1_500_000, Node: "node-1"}}}}})
		if res[0].ID != uint64(i+1) {
			t.Fatalf("%+v", res)
		}
	}
	return f
}

func (f *fixture) action(t *testing.T, action, body string, status int) string {
	t.Helper()
	return strings.TrimSpace(want(t, f.send("POST", "/v1/dead-letters/"+action, body, "Content-Type", "application/json"), status))
}

func TestDeadLetterFilters(t *testing.T) {
	f := letters(t)
	start := f.clock.Now().Add(-3 * time.Minute)
	at := func(minutes int) string {
		return start.Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339Nano)
	}
	for query, listed := range map[string]string{
		"": "d-1 d-2 d-3", "topic=news": "d-1 d-2", "topic=" + url.QueryEscape(topicURL): "d-1 d-2", "callback=https://other.example/cb": "d-3",
		"subscription=s-1": "d-1 d-2", "status=404": "d-1", "status=5xx": "d-3", "status=none": "d-2", "reason=timeout": "d-2",
		"since=" + at(2): "d-2 d-3", "until=" + at(2): "d-1", "since=" + at(2) + "&until=" + at(3): "d-2", "topic=news&status=5xx": "",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(ids(f.items(t, "/v1/dead-letters", q)), " "); got != listed {
			t.Errorf("%s: listed %q, want %q", query, got, listed)
		}
		want := 0
		if listed != "" {
			want = len(strings.Fields(listed))
		}
		export := strings.Split(strings.TrimSuffix(f.send("GET", "/v1/dead-letters/export?"+query, "").Body.String(), "\n"), "\n")
		if export[0] == "" {
			export = nil
		}
		if len(export) != want {
			t.Errorf("%s: %d lines exported, want %d", query, len(export), want)
		}
	}
	for query, words := range map[string]string{"status=999": "status:", "status=4x": "such as 4xx", "since=yesterday": "since:", "until=1": "until:",
		"subscription=news": "subscription:", "callback=x": "callback:", "nope=1": "nope", "reason=a&reason=b": "reason"} {
		for _, path := range []string{"/v1/dead-letters?", "/v1/dead-letters/export?"} {
			if got := want(t, f.send("GET", path+query, ""), 400); !strings.Contains(got, words) {
				t.Errorf("%s%s: %s", path, query, got)
			}
		}
	}
}

func TestOneDeadLetter(t *testing.T) {
	f := letters(t)
	f.ledger.trim(t, 1, 3) // the content is still there
	var d map[string]any
	body := want(t, f.send("GET", "/v1/dead-letters/d-1", ""), 200)
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]any{"id": "d-1", "subscription": "s-1", "subscription_active": true, "attempts": 3.0, "status": 404.0, "size": 5.0,
		"content_type": "text/plain", "body": "hello", "replaying_since": nil, "body_base64": nil, "message_id": "1-2"} {
		if d[k] != v {
			t.Errorf("%s is %v, want %v", k, d[k], v)
		}
	}
	tries := d["tries"].([]any)
	if try := tries[0].(map[string]any); len(tries) != 1 || try["status"] != 404.0 || try["latency_ms"] != 1.5 || try["reason"] != "http-status" || try["node"] != "node-1" {
		t.Errorf("attempts %v", tries)
	}
	headers := d["headers"].(map[string]any)
	if headers["Content-Type"] != "text/plain" || headers["X-Hub-Message-Id"] != "1-2" || !strings.Contains(fmt.Sprint(headers["Link"]), topicURL) || len(headers) != 3 {
		t.Errorf("headers %v", headers)
	}
	if got := want(t, f.send("GET", "/v1/dead-letters/d-2", ""), 200); !strings.Contains(got, `"body_base64":"/wA="`) || strings.Contains(got, `"body":`) {
		t.Errorf("a binary body: %s", got)
	}
	if got := want(t, f.send("GET", "/v1/dead-letters/d-3", ""), 200); !strings.Contains(got, `"body":""`) {
		t.Errorf("an empty body: %s", got)
	}
	for _, id := range []string{"d-4", "d-0", "s-1", "x", "17"} {
		for _, try := range [][2]string{{"GET", ""}, {"DELETE", ""}, {"POST", "/replay"}} {
			if got := want(t, f.send(try[0], "/v1/dead-letters/"+id+try[1], ""), 404); !strings.Contains(got, "expected an ID such as d-17") {
				t.Errorf("%s %s: %s", try[0], id, got)
			}
		}
	}
	want(t, f.send("DELETE", "/v1/dead-letters/d-1", ""), 204)
	want(t, f.send("DELETE", "/v1/dead-letters/d-1", ""), 404)
	want(t, f.send("GET", "/v1/dead-letters/d-1", ""), 404)
}

func TestReplayAndDropAPI(t *testing.T) {
	f := letters(t)
	replaying := func() (out string) {
		f.ledger.View(func(s *hub.State) {
			for _, r := range s.Replays() {
				out += hub.DeadLetterID(r.Letter) + " "
			}
		})
		return strings.TrimSpace(out)
	}
	if got := f.action(t, "replay", `{"all":true,"dry_run":true}`, 202); got != `{"matched":3,"ended":0,"replaying":0,"dry_run":true}` || replaying() != "" {
		t.Errorf("dry run: %s; replaying %s", got, replaying())
	}
	if got := f.action(t, "replay", `{"status":"4xx","expect":2}`, 409); !strings.Contains(got, "expect: the filter selects 1 dead letters, not 2") || replaying() != "" {
		t.Errorf("%s; replaying %s", got, replaying())
	}
	if got := f.action(t, "replay", `{"status":"4xx","expect":1}`, 202); got != `{"matched":1,"ended":0,"replaying":1,"dry_run":false}` || replaying() != "d-1" {
		t.Errorf("%s; replaying %s", got, replaying())
	}
	want(t, f.send("POST", "/v1/dead-letters/d-1/replay", ""), 202) // a repetition changes nothing
	if got := want(t, f.send("POST", "/v1/dead-letters/d-2/replay", ""), 202); strings.TrimSpace(got) != `{"id":"d-2","replaying":true}` || replaying() != "d-1 d-2" {
		t.Errorf("%s; replaying %s", got, replaying())
	}
	if got := f.items(t, "/v1/dead-letters", url.Values{}); got[0]["replaying_since"] == nil || got[2]["replaying_since"] != nil {
		t.Errorf("listed %v", got)
	}

	f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{1}, Reason: hubpb.EndReason_END_UNSUBSCRIBED}}})
	w := f.send("POST", "/v1/dead-letters/d-1/replay", "")
	body := want(t, w, 410)
	checkProblem(t, w, body, "gone", "id")
	if !strings.Contains(body, "d-1 cannot be replayed: its subscription s-1 to "+callbackURL+" has ended") {
		t.Errorf("the answer is %s", body)
	}
	if got := f.action(t, "replay", `{"all":true}`, 202); got != `{"matched":3,"ended":2,"replaying":1,"dry_run":false}` || replaying() != "d-3" {
		t.Errorf("%s; replaying %s", got, replaying())
	}
	if got := want(t, f.send("GET", "/v1/dead-letters/d-1", ""), 200); !strings.Contains(got, `"subscription_active":false`) {
		t.Errorf("%s", got)
	}

	if got := f.action(t, "drop", `{"subscription":"s-1","dry_run":true}`, 200); got != `{"matched":2,"ended":2,"dropped":0,"dry_run":true}` {
		t.Errorf("dry run of a drop: %s", got)
	}
	if got := f.action(t, "drop", `{"subscription":"s-1"}`, 200); got != `{"matched":2,"ended":2,"dropped":2,"dry_run":false}` {
		t.Errorf("drop: %s", got)
	}
	if got := strings.Join(ids(f.items(t, "/v1/dead-letters", url.Values{})), " "); got != "d-3" {
		t.Errorf("%s are left", got)
	}
}

func TestInvalidDeadLetterActions(t *testing.T) {
	f := letters(t)
	for body, words := range map[string]string{
		`{}`: "selects no dead letters", ``: "cannot be decoded", `{"all":true,"topic":"news"}`: "all: is combined with a filter",
		`{"tpoic":"news"}`: "cannot be decoded", `{"all":true}x`: "has data after", `{"status":"9xx"}`: "status:", `{"all":true,"expect":-1}`: "expect:", `[]`: "cannot be decoded",
	} {
		for _, action := range []string{"replay", "drop"} {
			if got := f.action(t, action, body, 400); !strings.Contains(got, words) {
				t.Errorf("%s %s: %s", action, body, got)
			}
		}
	}
	// Web pages of other sites can make a browser send a POST, but not with this content type.
	want(t, f.send("POST", "/v1/dead-letters/drop", `{"all":true}`, "Content-Type", "text/plain"), 415)
	if n := len(f.items(t, "/v1/dead-letters", url.Values{})); n != 3 {
		t.Errorf("%d letters are left, want 3", n)
	}
}

func TestExportDeadLetters(t *testing.T) {
	f := letters(t)
	w := f.send("GET", "/v1/dead-letters/export", "")
	body := want(t, w, 200)
	if got := w.Header().Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type is %s", got)
	}
	for i, content := range []string{"hello", "\xff\x00", ""} {
		line, rest, _ := strings.Cut(body, "\n")
		body = rest
		var d struct {
			ID   string
			Body *[]byte `json:"body_base64"`
		}
		if err := json.Unmarshal([]byte(line), &d); err != nil || d.ID != fmt.Sprint("d-", i+1) || d.Body == nil || !bytes.Equal(*d.Body, []byte(content)) {
			t.Errorf("line %d is %s (%v)", i+1, line, err)
		}
	}
	if body != "" {
		t.Errorf("after the last line: %q", body)
	}
	if strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), sealedMark) {
		t.Error("the export shows a secret")
	}
	want(t, f.send("HEAD", "/v1/dead-letters/export", ""), 200)
}
