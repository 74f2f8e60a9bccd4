package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

// event is a received event.
type event struct{ kind, id, data string }

// reader reads one stream.
type reader struct {
	status   int
	header   http.Header
	body     io.ReadCloser
	events   chan event // closed when the connection ends
	comments chan struct{}
}

// follow opens a stream. header alternates names and values.
func (r *running) follow(t testing.TB, target string, header ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	rd := &reader{status: resp.StatusCode, header: resp.Header, body: resp.Body, events: make(chan event, 1000), comments: make(chan struct{}, 1)}
	if rd.status != http.StatusOK {
		return rd
	}
	go func() {
		defer close(rd.events)
		var e event
		for lines := bufio.NewReader(resp.Body); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\n")
			name, value, _ := strings.Cut(line, ": ")
			switch {
			case line == "":
				if e.data != "" {
					rd.events <- e
				}
				e = event{id: e.id}
			case strings.HasPrefix(line, ":"):
				select {
				case rd.comments <- struct{}{}:
				default:
				}
			case name == "event":
				e.kind = value
			case name == "id":
				e.id = value
			case name == "data":
				e.data += value
			}
		}
	}()
	return rd
}

const patience = 30 * time.Second

// next returns the next event, or fails if none arrives.
func (rd *reader) next(t testing.TB) event {
	t.Helper()
	select {
	case e, ok := <-rd.events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event arrived")
	}
	return event{}
}

// rest reads until the connection ends.
func (rd *reader) rest(t testing.TB) (all []event) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case e, ok := <-rd.events:
			if !ok {
				return all
			}
			all = append(all, e)
		case <-limit:
			t.Fatalf("the stream does not end; so far %d events", len(all))
		}
	}
}

func decode[T any](t testing.TB, e event) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.data), &v); err != nil {
		t.Fatalf("%q: %v", e.data, err)
	}
	return v
}

type streamed struct {
	ID          string    `json:"id"`
	Offset      uint64    `json:"offset"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"content_type"`
	Size        int       `json:"size"`
	Body        *string   `json:"body"`
	BodyBase64  []byte    `json:"body_base64"`
	BodyURL     string    `json:"body_url"`
}

func (f *fixture) publish(tb testing.TB, topic, body string) {
	tb.Helper()
	want(tb, f.send(http.MethodPost, "/topics/"+topic, body, "Content-Type", "text/plain"), 200)
}

func (f *fixture) metric(tb testing.TB, name string) string {
	tb.Helper()
	for line := range strings.SplitSeq(want(tb, f.send(http.MethodGet, "/metrics", ""), 200), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return rest
		}
	}
	return ""
}

func (f *fixture) awaitMetric(tb testing.TB, name, value string) {
	tb.Helper()
	for end := time.Now().Add(patience); f.metric(tb, name) != value; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s is %q, want %q", name, f.metric(tb, name), value)
		}
	}
}

func TestStreamStarts(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.StreamCatchUp = 50 * time.Millisecond })
	for i := 1; i <= 5; i++ {
		r.publish(t, "news", fmt.Sprint("m", i))
		r.clock.advance(time.Minute)
	}
	r.publish(t, "other", "x")
	for _, c := range []struct {
		query, lastID string
		first         string // id of the first event once m6 was published
	}{
		{"", "", "1-6"},
		{"?start=latest", "", "1-6"},
		{"?start=earliest", "", "1-1"},
		{"?start=3", "", "1-3"},
		{"?start=6", "", "1-6"},
		{"?start=2026-11-01T12:02:00Z", "", "1-3"},
		{"?start=2026-11-01T12:02:01Z", "", "1-4"},
		{"?start=2027-01-01T00:00:00Z", "", "1-6"},
		{"", "1-3", "1-4"},
		{"", "3", "1-4"},
		{"", "1-0", "1-1"},
		{"", "1-5", "1-6"},
		{"?start=earliest", "1-4", "1-5"}, // a reconnecting browser sends both
	} {
		var header []string
		if c.lastID != "" {
			header = []string{"Last-Event-ID", c.lastID}
		}
		rd := r.follow(t, "/topics/news"+c.query, header...)
		if rd.status != 200 || rd.header.Get("Content-Type") != "text/event-stream" || !strings.Contains(rd.header.Get("Link"), `rel="hub"`) {
			t.Fatalf("%+v: %d %v", c, rd.status, rd.header)
		}
		if c.first == "1-6" {
			select {
			case e := <-rd.events:
				t.Errorf("%+v: got %+v before anything new", c, e)
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		e := rd.next(t)
		m := decode[streamed](t, e)
		if e.id != c.first || m.ID != c.first || e.kind != "" || *m.Body != fmt.Sprint("m", m.Offset) || m.ContentType != "text/plain" || m.Size != 2 {
			t.Errorf("%+v: got %+v", c, e)
		}
	}
	for _, c := range []struct {
		target string
		status int
		says   string
	}{
		{"/topics/news?start=99", 400, "start: 99 is past the end of the topic; expected an offset from 1 to 6"},
		{"/topics/news?start=soon", 400, "expected latest, earliest"},
		{"/topics/news?offset=3", 400, `"offset": is not a parameter of a stream`},
		{"/topics/news?start=1&start=2", 400, "given 2 times"},
		{"/topics/none", 404, "none"},
	} {
		rd := r.follow(t, c.target)
		body, err := io.ReadAll(rd.body)
		if err != nil || rd.status != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %q, want %d with %q", c.target, rd.status, body, c.status, c.says)
		}
	}
}

func TestStreamIsLive(t *testing.T) {
	r := start(t)
	r.publish(t, "news", "before")
	readers := []*reader{r.follow(t, "/topics/news"), r.follow(t, "/topics/news?start=earliest")}
	if m := decode[streamed](t, readers[1].next(t)); *m.Body != "before" {
		t.Fatalf("got %q first", *m.Body)
	}
	for i := range 200 {
		r.publish(t, "news", fmt.Sprint(i))
		r.publish(t, "noise", "x")
	}
	for _, rd := range readers {
		for i := range 200 {
			e := rd.next(t)
			if m := decode[streamed](t, e); *m.Body != fmt.Sprint(i) || e.id != fmt.Sprint("1-", i+2) {
				t.Fatalf("got %+v, want %d", e, i)
			}
		}
	}
	if w := r.send(http.MethodHead, "/topics/news", "", "Accept", "text/event-stream"); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d with %d bytes", w.Code, w.Body.Len())
	}
	if w := r.send(http.MethodGet, "/topics/news", "", "Accept", "text/html, */*;q=0.5"); w.Body.String() != "199" {
		t.Errorf("without Accept: text/event-stream: %q", w.Body)
	}
}

func TestStreamShowsGaps(t *testing.T) {
	r := start(t)
	for i := 1; i <= 5; i++ {
		r.publish(t, "news", fmt.Sprint("m", i))
	}
	r.ledger.trim(t, 1, 3)
	for _, c := range []struct{ query, lastID, data string }{
		{"", "1-1", `{"reason":"retention","first_missing":2,"last_missing":3,"next":4}`},
		{"?start=1", "", `{"reason":"retention","first_missing":1,"last_missing":3,"next":4}`},
		{"", "7-4", `{"reason":"unknown_id","last_event_id":"7-4","next":4}`},
		{"", "yesterday", `{"reason":"unknown_id","last_event_id":"yesterday","next":4}`},
		{"", "-1", `{"reason":"unknown_id","last_event_id":"-1","next":4}`},
	} {
		rd := r.follow(t, "/topics/news"+c.query, "Last-Event-ID", c.lastID)
		if e := rd.next(t); e.kind != "gap" || e.data != c.data || e.id != "1-3" {
			t.Errorf("%+v: got %+v", c, e)
			continue
		}
		if e := rd.next(t); e.kind != "" || e.id != "1-4" {
			t.Errorf("%+v: got %+v after the gap", c, e)
		}
	}
	if got := r.metric(t, "quorumhub_stream_gaps_total"); got != "5" {
		t.Errorf("%s gaps counted, want 5", got)
	}
}

// A reader from a node that is ahead waits until this one catches up, and gets no message twice.
func TestStreamWaitsForLaggingNode(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.StreamCatchUp = patience })
	r.publish(t, "news", "m1")
	opened := make(chan *reader)
	go func() { opened <- r.follow(t, "/topics/news", "Last-Event-ID", "1-3") }()
	r.publish(t, "news", "m2")
	r.publish(t, "news", "m3")
	r.publish(t, "news", "m4")
	if e := (<-opened).next(t); e.id != "1-4" || e.kind != "" {
		t.Errorf("got %+v, want message 1-4", e)
	}
}

func TestStreamBodies(t *testing.T) {
	r := start(t, func(rules *hub.Policy, _ *web.Options) { rules.MaxMessageBytes = 1 << 20 })
	rd := func() *reader {
		r.publish(t, "news", "first")
		return r.follow(t, "/topics/news")
	}()
	for _, c := range []struct{ name, body string }{
		{"empty", ""},
		{"lines", "a\nb\r\nc\r\r\ndata: x\n\n"},
		{"markup", `<b>"&'\</b>` + "\u2028\x00"},
		{"binary", "\xff\x00\xfe"},
		{"largest inline", strings.Repeat("é", 128<<10)},
		{"larger", strings.Repeat("x", 256<<10+1)},
	} {
		r.publish(t, "news", c.body)
		m := decode[streamed](t, rd.next(t))
		var got string
		switch {
		case m.Body != nil:
			got = *m.Body
		case m.BodyBase64 != nil:
			got = string(m.BodyBase64)
		default:
			resp, err := r.client.Get("http://" + r.addr + "/topics/news" + m.BodyURL)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			got = string(b)
		}
		if got != c.body || m.Size != len(c.body) {
			t.Errorf("%s: got %d bytes, size %d, want %d", c.name, len(got), m.Size, len(c.body))
		}
		if inline := m.Body != nil; inline != (c.name != "binary" && c.name != "larger") {
			t.Errorf("%s: body is there: %v", c.name, inline)
		}
	}
}

func TestStreamHeartbeat(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.StreamHeartbeat = 20 * time.Millisecond })
	r.publish(t, "news", "m1")
	rd := r.follow(t, "/topics/news")
	for range 3 {
		select {
		case <-rd.comments:
		case <-time.After(patience):
			t.Fatal("no heartbeat arrived")
		}
	}
	// A node out of touch with the cluster ends its streams.
	r.set(func(n *node) { n.leader = "" })
	for range 3 {
		r.clock.advance(30 * time.Millisecond)
		select {
		case <-rd.comments:
		case <-rd.events:
		case <-time.After(patience):
			t.Fatal("nothing arrived")
		}
	}
	r.awaitMetric(t, `quorumhub_streams_ended_total{reason="out_of_touch"}`, "1")
}

func TestStreamLimit(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.StreamMax = 2 })
	r.publish(t, "news", "m1")
	first := r.follow(t, "/topics/news?start=earliest")
	first.next(t)
	r.follow(t, "/topics/news?start=earliest").next(t)
	third := r.follow(t, "/topics/news")
	if third.status != 503 || third.header.Get("Retry-After") == "" {
		t.Fatalf("a third stream got %d %v", third.status, third.header)
	}
	if got := r.metric(t, "quorumhub_streams"); got != "2" {
		t.Errorf("%s streams open, want 2", got)
	}
	first.body.Close()
	r.awaitMetric(t, "quorumhub_streams", "1")
	if again := r.follow(t, "/topics/news?start=earliest"); again.status != 200 {
		t.Errorf("a stream after another one ended got %d", again.status)
	}
}

func TestStreamsEndWhenTheNodeStops(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.StopGrace = patience })
	r.publish(t, "news", "m1")
	var readers []*reader
	for range 20 {
		rd := r.follow(t, "/topics/news?start=earliest")
		rd.next(t)
		readers = append(readers, rd)
	}
	r.publish(t, "news", "m2")
	r.cancel()
	for _, rd := range readers {
		all := rd.rest(t)
		if len(all) == 0 || all[len(all)-1].kind != "end" || all[len(all)-1].data != `{"reason":"stopping"}` {
			t.Fatalf("the stream ended with %v", all)
		}
	}
	if err := <-r.served; err != nil {
		t.Errorf("the stop was not orderly: %v", err)
	}
}

func TestStreamEndsWithItsTopic(t *testing.T) {
	r := start(t)
	r.publish(t, "news", "m1")
	rd := r.follow(t, "/topics/news?start=earliest")
	rd.next(t)
	want(t, r.form("hub.mode", "deregister", "hub.topic", publicURL+"/topics/news"), 200)
	if all := rd.rest(t); len(all) != 1 || all[0].kind != "end" || all[0].data != `{"reason":"topic_removed"}` {
		t.Errorf("got %v", all)
	}
}

// A snapshot that replaces the state wakes readers.
func TestStreamContinuesAfterSnapshot(t *testing.T) {
	r := start(t)
	r.publish(t, "news", "m1")
	rd := r.follow(t, "/topics/news?start=earliest")
	rd.next(t)
	r.ledger.silent = true
	r.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: "news", ContentType: "text/plain", Body: []byte("m2")}}})
	r.ledger.feed.Reload(r.ledger)
	if m := decode[streamed](t, rd.next(t)); *m.Body != "m2" {
		t.Errorf("got %q", *m.Body)
	}
}
