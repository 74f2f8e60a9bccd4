package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

type batchAnswer struct {
	Topic     string
	Duplicate bool
	Messages  []struct {
		ID     string
		Offset uint64
	}
}

func TestBatch(t *testing.T) {
	f := newFixture(t)
	f.publish(t, "news", "before")
	for _, c := range []struct {
		name, target, kind, body string
		want                     []string // content type and body of each message
	}{
		{"lines", "/topics/news?hub.batch=true", "application/x-ndjson", "{\"a\": 1}\r\n\n[ 2 ]\n\"three\"",
			[]string{"application/json {\"a\": 1}", "application/json [ 2 ]", "application/json \"three\""}},
		{"parts", publishURL(publicURL+"/topics/news") + "&hub.batch=true", "multipart/mixed; boundary=\"a b\"",
			"preamble\r\n--a b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\r\ntwo\r\n--a b\r\n\r\n\x00\xff\r\n--a b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\r\n--a b--\r\nepilogue",
			[]string{"text/plain; charset=utf-8 one\r\ntwo", "application/octet-stream \x00\xff", "image/png "}},
		{"not a batch", "/topics/news?hub.batch=false", "application/x-ndjson", "1\n2\n", []string{"application/x-ndjson 1\n2\n"}},
		{"not asked for", publishURL(publicURL + "/topics/news"), "application/x-ndjson", "1\n2\n", []string{"application/x-ndjson 1\n2\n"}},
	} {
		var before hub.Topic
		f.ledger.View(func(s *hub.State) { before, _ = s.TopicByName("news") })
		w := f.send(http.MethodPost, c.target, c.body, "Content-Type", c.kind)
		body := want(t, w, 200)
		if strings.Contains(c.target, "true") {
			var a batchAnswer
			if err := json.Unmarshal([]byte(body), &a); err != nil || a.Topic != publicURL+"/topics/news" || a.Duplicate || len(a.Messages) != len(c.want) {
				t.Fatalf("%s: %s (%v)", c.name, body, err)
			}
			for i, m := range a.Messages {
				if m.Offset != before.Head+1+uint64(i) || m.ID != fmt.Sprintf("1-%d", m.Offset) {
					t.Errorf("%s: message %d is %+v", c.name, i, m)
				}
			}
		}
		msgs, err := f.ledger.Read(1, before.Head+1, 100, 1<<20)
		if err != nil || len(msgs) != len(c.want) {
			t.Fatalf("%s: %d messages (%v), want %d", c.name, len(msgs), err, len(c.want))
		}
		for i, m := range msgs {
			if got := m.ContentType + " " + string(m.Body); got != c.want[i] {
				t.Errorf("%s: message %d is %q, want %q", c.name, i, got, c.want[i])
			}
		}
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	f := newFixture(t, func(r *hub.Policy, _ *web.Options) { r.AutoRegister = false })
	f.ledger.must(t, registered("news"))
	const lines, parts = "application/x-ndjson", "multipart/mixed; boundary=b"
	part := func(header, body string) string { return "--b\r\n" + header + "\r\n\r\n" + body + "\r\n" }
	for _, c := range []struct {
		target, kind, body string
		status             int
		says               string
	}{
		{"/topics/news", lines, "1\nx\n", 400, "line 2 is not JSON"},
		{"/topics/news", lines, "", 400, "contains no messages"},
		{"/topics/news", lines, "\n\n", 400, "contains no messages"},
		{"/topics/news", lines, strings.Repeat("1\n", 1001), 413, "at most 1000"},
		{"/topics/news", lines, "\"" + strings.Repeat("x", 256<<10) + "\"", 413, "larger than 262144 bytes together"},
		{"/topics/news", lines, strings.Repeat("\"x\"", 256<<10), 413, "larger than 262144 bytes"},
		{"/topics/none", lines, "1", 404, "not registered"},
		{"/topics/news", "application/json", "[1]", 415, "multipart/mixed or application/x-ndjson"},
		{"/topics/news", "", "1", 415, "multipart/mixed or application/x-ndjson"},
		{"/topics/news", "multipart/mixed", "x", 400, "no boundary"},
		{"/topics/news", parts, "no part at all", 400, "contains no messages"},
		{"/topics/news", parts, part("Content-Type: text/plain", "1") + part("Content-Type: text/plain", "2"), 400, "part 2 is truncated"},
		{"/topics/news", parts, "--b--\r\n", 400, "contains no messages"},
		{"/topics/news", parts, part("Content-Transfer-Encoding: base64", "MQ==") + "--b--", 400, "part 1 has Content-Transfer-Encoding"},
		{"/topics/news", parts, part("Content-Type: text/plain\r\nContent-Type: text/html", "1") + "--b--", 400, "part 1 has 2 Content-Types"},
		{"/topics/news", parts, part("Content-Type: "+strings.Repeat("x", 300), "1") + "--b--", 400, "message 1: Content-Type"},
	} {
		body := want(t, f.send(http.MethodPost, c.target+"?hub.batch=true", c.body, "Content-Type", c.kind), c.status)
		if !strings.Contains(body, c.says) {
			t.Errorf("%s %.60q: %q, want %q in it", c.kind, c.body, body, c.says)
		}
		checkErrorLine(t, body)
	}
	for _, q := range []string{"?hub.batch=yes", "?hub.batch=true&hub.batch=true", "?hub.batch=%zz"} {
		if body := want(t, f.send(http.MethodPost, "/topics/news"+q, "1", "Content-Type", lines), 400); !strings.HasPrefix(body, "hub.batch: ") {
			t.Errorf("%s: %q", q, body)
		}
	}
	f.ledger.View(func(s *hub.State) {
		if top, _ := s.TopicByName("news"); top.Head != 0 {
			t.Errorf("refused batches published %d messages", top.Head)
		}
	})
	if got := f.metric(t, `quorumhub_publishes_total{result="refused"}`); got != "19" {
		t.Errorf("%s refused, want 19", got)
	}
}

func TestBatchIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	send := func(body, key string) (int, batchAnswer) {
		w := f.send(http.MethodPost, "/topics/news?hub.batch=true", body, "Content-Type", "application/x-ndjson", "Idempotency-Key", key)
		var a batchAnswer
		if w.Code == 200 {
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatal(err)
			}
			if replayed := w.Header().Get("Idempotency-Replayed") == "true"; replayed != a.Duplicate {
				t.Errorf("Idempotency-Replayed: %v, duplicate: %v", replayed, a.Duplicate)
			}
		}
		return w.Code, a
	}
	_, first := send("1\n2\n3\n", "k")
	f.publish(t, "news", "between")
	if code, again := send("1\n2\n3\n", "k"); code != 200 || !again.Duplicate || fmt.Sprint(again.Messages) != fmt.Sprint(first.Messages) {
		t.Errorf("repeated: %d %+v, first %+v", code, again, first)
	}
	for _, other := range []string{"1\n2\n", "1\n2\n3\n4\n", "12\n3\n"} {
		if code, _ := send(other, "k"); code != 422 {
			t.Errorf("other content %q under the same key got %d, want 422", other, code)
		}
	}
	if w := f.send(http.MethodPost, "/topics/news", "1", "Content-Type", "application/json", "Idempotency-Key", "k"); w.Code != 422 {
		t.Errorf("a single message under the batch's key got %d, want 422", w.Code)
	}
	if code, a := send("1\n", "l"); code != 200 || a.Messages[0].Offset != 5 {
		t.Errorf("another key: %d %+v", code, a)
	}
}

func registered(topic string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: topic}}}
}
