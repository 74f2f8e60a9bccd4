package web_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// Pages of the listed origins, and of no others, may read answers and make changes.
func TestCORS(t *testing.T) {
	const app = "https://app.example.org"
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.CORSOrigins = []string{app, "http://localhost:3000"} })
	f.publish(t, "news", "m1")
	for _, tc := range []struct {
		origin  string
		allowed bool
	}{{app, true}, {"http://localhost:3000", true}, {"https://evil.example", false}, {"http://app.example.org", false}, {"https://app.example.org.evil.example", false}, {"null", false}, {"", false}} {
		for _, target := range []string{"/topics/news", "/v1/topics", "/v1/nothing", "/topics/none"} {
			h := f.send("GET", target, "", "Origin", tc.origin).Header()
			want := ""
			if tc.allowed {
				want = tc.origin
			}
			if target == "/v1/nothing" {
				continue // no route
			}
			if got := h.Get("Access-Control-Allow-Origin"); got != want || h.Get("Access-Control-Allow-Credentials") != "" || !slices.Contains(h.Values("Vary"), "Origin") {
				t.Errorf("%s from %q: allowed %q, Vary %v", target, tc.origin, got, h.Values("Vary"))
			}
			if got := h.Get("Access-Control-Expose-Headers"); strings.Contains(got, "Link") != tc.allowed || strings.Contains(got, "X-Hub-Message-Id") != tc.allowed {
				t.Errorf("%s from %q: the page may read the headers %q", target, tc.origin, got)
			}
		}
		pre := f.send("OPTIONS", "/v1/stream-tickets", "", "Origin", tc.origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization").Header()
		if got := strings.Contains(pre.Get("Access-Control-Allow-Methods"), "POST") && strings.Contains(pre.Get("Access-Control-Allow-Headers"), "Authorization"); got != tc.allowed {
			t.Errorf("preflight from %q: %v", tc.origin, pre)
		}
		if tc.origin == "" {
			continue // no browser
		}
		status := 403
		if tc.allowed {
			status = 200
		}
		want(t, f.send("POST", "/topics/news", "m", "Origin", tc.origin, "Sec-Fetch-Site", "cross-site"), status)
	}
	if h := newFixture(t).send("GET", "/v1/topics", "", "Origin", app).Header(); h.Get("Access-Control-Allow-Origin") != "" {
		t.Error("an origin is allowed by default")
	}
}

// A browser's EventSource cannot set Last-Event-ID itself when its page was loaded anew.
func TestLastEventIDInTheQuery(t *testing.T) {
	r := start(t)
	for range 5 {
		r.publish(t, "news", "m")
	}
	for _, tc := range []struct{ query, header, first string }{
		{"?last_event_id=1-2", "", "1-3"}, {"?last_event_id=3", "", "1-4"}, {"?last_event_id=1-2&start=earliest", "", "1-3"},
		{"?last_event_id=1-2", "1-4", "1-5"}, {"?last_event_id=&start=earliest", "", "1-1"},
	} {
		rd := r.follow(t, "/topics/news"+tc.query, "Last-Event-ID", tc.header)
		if e := rd.next(t); e.id != tc.first {
			t.Errorf("%+v: first %s", tc, e.id)
		}
	}
	if rd := r.follow(t, "/topics/news?last_event_id=1&last_event_id=2"); rd.status != 400 {
		t.Errorf("given twice: %d", rd.status)
	}
}

// ticketFor gets a ticket; header holds the credentials.
func (f *fixture) ticketFor(t *testing.T, topic string, header ...string) (text string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"topic": topic})
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Ticket, URL string
		ExpiresAt   time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(want(t, f.send("POST", "/v1/stream-tickets", string(body), header...), 201)), &made); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(made.URL, "?ticket="+made.Ticket) || !made.ExpiresAt.After(f.clock.Now()) {
		t.Errorf("the answer is %+v", made)
	}
	return made.Ticket
}

// A ticket opens one topic as a stream for a minute, for whoever has it, with the rights of the one who asked for it, and no longer
// than its credential lives.
func TestStreamTickets(t *testing.T) {
	g := newGuarded(t, "", func(_ *hub.Policy, o *web.Options) { o.StreamHeartbeat = 20 * time.Millisecond })
	reader, writer := g.key(t, "reader", "orders.read"), g.key(t, "writer", "orders.write")
	for _, topic := range []string{"orders/eu", "orders/us"} {
		want(t, g.send("POST", "/topics/"+topic, "m1", "X-API-Key", writer), 200)
	}
	r := serve(t, g.fixture)
	ticket := g.ticketFor(t, "orders/eu", "X-API-Key", reader)
	byURL := g.ticketFor(t, publicURL+"/topics/orders/eu", "Authorization", "Bearer "+reader)

	for what, text := range map[string]string{"by name": ticket, "by URL": byURL} {
		rd := r.follow(t, "/topics/orders/eu?start=earliest&ticket="+text)
		if rd.status != 200 || *decode[streamed](t, rd.next(t)).Body != "m1" {
			t.Errorf("%s: %d", what, rd.status)
		}
	}
	const asked = "POST /v1/stream-tickets"
	for what, tc := range map[string]struct {
		status int
		answer int
	}{
		asked + ", anonymous":     {g.send("POST", "/v1/stream-tickets", `{"topic":"orders/eu"}`).Code, 401},
		asked + ", without right": {g.send("POST", "/v1/stream-tickets", `{"topic":"orders/eu"}`, "X-API-Key", writer).Code, 403},
		asked + ", no topic":      {g.send("POST", "/v1/stream-tickets", `{}`, "X-API-Key", reader).Code, 400},
		"without ticket":          {r.follow(t, "/topics/orders/eu").status, 401},
		"another topic":           {r.follow(t, "/topics/orders/us?ticket="+ticket).status, 401},
		"no stream":               {g.send("GET", "/topics/orders/eu?ticket="+ticket, "").Code, 401},
		"publish":                 {g.send("POST", "/topics/orders/eu?ticket="+ticket, "x", "Accept", "text/event-stream").Code, 401},
		"the API":                 {g.send("GET", "/v1/topics?ticket="+ticket, "", "Accept", "text/event-stream").Code, 401},
		"made up":                 {r.follow(t, "/topics/orders/eu?ticket="+base64.RawURLEncoding.EncodeToString([]byte("{}"))).status, 401},
		"not base64":              {r.follow(t, "/topics/orders/eu?ticket=***").status, 401},
		"twice":                   {r.follow(t, "/topics/orders/eu?ticket="+ticket+"&ticket="+ticket).status, 401},
		"beside credentials":      {r.follow(t, "/topics/orders/eu?ticket="+ticket, "X-API-Key", reader).status, 401},
	} {
		if tc.status != tc.answer {
			t.Errorf("%s: %d, want %d", what, tc.status, tc.answer)
		}
	}

	// The key ends, and with it the ticket and the streams that it has opened.
	open := r.follow(t, "/topics/orders/eu?ticket="+ticket)
	id, _, _ := strings.Cut(strings.TrimPrefix(reader, "qh_"), "_")
	var keys struct {
		Items []struct{ ID, Name string }
	}
	if err := json.Unmarshal([]byte(want(t, g.send("GET", "/v1/auth/keys", "", "X-API-Key", g.root), 200)), &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys.Items {
		if k.Name == "reader" {
			id = k.ID
		}
	}
	if w := g.send("DELETE", "/v1/auth/keys/"+id, "", "X-API-Key", g.root); w.Code >= 300 {
		t.Fatalf("revoke: %d %s", w.Code, w.Body)
	}
	if all := open.rest(t); len(all) == 0 || all[len(all)-1].data != `{"reason":"forbidden"}` {
		t.Errorf("the stream of a revoked key ended with %v", all)
	}
	if status := r.follow(t, "/topics/orders/eu?ticket="+ticket).status; status != http.StatusUnauthorized {
		t.Errorf("the ticket of a revoked key: %d", status)
	}
	anybody := g.ticketFor(t, "news")
	g.clock.advance(time.Minute)
	if status := r.follow(t, "/topics/news?ticket="+anybody).status; status != http.StatusUnauthorized {
		t.Errorf("an expired ticket: %d", status)
	}
}
