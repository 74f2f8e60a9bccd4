package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const aLetter = `{"id":"d-3","subscription":"s-2","topic":"news","callback":"http://cb.example/","offset":4,"message_id":"1-4","attempts":2,"status":503,` +
	`"reason":"http-status","at":"2026-11-01T12:00:00Z","published_at":"2026-11-01T11:00:00Z","content_type":"text/plain","size":5,"replaying_since":null`

func TestDeadLetterCommands(t *testing.T) {
	answer := func(w http.ResponseWriter, r request) {
		w.Header().Set("X-Correlation-Id", "0123456789abcdef")
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.Path, "/d-9/replay"):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusGone)
			_, _ = w.Write([]byte(`{"status":410,"detail":"id: d-9 cannot be replayed: its subscription s-2 to http://cb.example/ has ended","param":"id"}`))
		case strings.HasSuffix(r.Path, "/d-3/replay"):
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(`{"id":"d-3","replaying":true}`))
		case strings.HasSuffix(r.Path, "/d-3"):
			_, _ = w.Write([]byte(aLetter + `,"subscription_active":true,"tries":[{"at":"2026-11-01T11:59:00Z","status":503,"latency_ms":12.5,"reason":"http-status","node":"node-1"}],` +
				`"headers":{"Content-Type":"text/plain","Link":"<x>; rel=\"self\""},"body":"hello"}`))
		case strings.HasSuffix(r.Path, "/replay"):
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(`{"matched":12,"ended":2,"replaying":10,"dry_run":false}`))
		case strings.HasSuffix(r.Path, "/drop"):
			_, _ = w.Write([]byte(`{"matched":12,"ended":2,"dropped":12,"dry_run":false}`))
		case strings.HasSuffix(r.Path, "/export"):
			w.Header().Set("Content-Type", "application/x-ndjson")
			_, _ = w.Write([]byte(aLetter + "}\n" + aLetter + "}\n"))
		default:
			_, _ = w.Write([]byte(`{"items":[` + aLetter + `}],"next":""}`))
		}
	}
	for _, tc := range []struct {
		args []string
		asks string
		code int
		says string
	}{
		{[]string{"--topic", "news", "--status", "5xx"}, "GET /v1/dead-letters status=5xx&topic=news ", 0, "503"},
		{[]string{"list", "--reason", "timeout", "--since", "2026-01-31T12:00:00Z"}, "GET /v1/dead-letters reason=timeout&since=2026-01-31T12%3A00%3A00Z ", 0, "1-4"},
		{[]string{"show", "d-3"}, "GET /v1/dead-letters/d-3  ", 0, "12.5 ms"},
		{[]string{"show", "d-3"}, "GET /v1/dead-letters/d-3  ", 0, "    hello"},
		{[]string{"replay", "d-3"}, "POST /v1/dead-letters/d-3/replay  ", 0, "d-3 queued for replay\n"},
		{[]string{"replay", "d-9"}, "POST /v1/dead-letters/d-9/replay  ", 4, "s-2 to http://cb.example/ has ended"},
		{[]string{"replay", "--topic", "news", "--expect", "12"}, `POST /v1/dead-letters/replay  {"dry_run":false,"expect":12,"topic":"news"}`, 0,
			"12 selected, 10 queued for replay; 2 belong to subscriptions that have ended\n"},
		{[]string{"replay", "--all", "--dry-run"}, `POST /v1/dead-letters/replay  {"all":true,"dry_run":true}`, 0, "12 selected; 2 belong to subscriptions"},
		{[]string{"drop", "d-3"}, "DELETE /v1/dead-letters/d-3  ", 0, "d-3 dropped\n"},
		{[]string{"drop", "--subscription", "s-2"}, `POST /v1/dead-letters/drop  {"dry_run":false,"subscription":"s-2"}`, 0, "12 selected, 12 dropped\n"},
		{[]string{"export", "--topic", "news"}, "GET /v1/dead-letters/export topic=news ", 0, aLetter + "}\n" + aLetter + "}\n"},
		{[]string{"drop"}, "", 2, "expected the ID of a dead letter, a filter"},
		{[]string{"drop", "d-3", "--all"}, "", 2, "not both"},
		{[]string{"drop", "--all", "--topic", "news"}, "", 2, "--all and filters are mutually exclusive"},
		{[]string{"show", "17"}, "", 2, "expected the ID of a dead letter such as d-17"},
		{[]string{"--since", "yesterday"}, "", 2, "--since: got \"yesterday\""},
	} {
		hub := newScriptedHub(t, answer)
		got := run(t, "", append(append([]string{"dead-letters"}, tc.args...), "--hub", hub.URL)...)
		asked := ""
		for _, r := range hub.requests() {
			asked += r.Method + " " + r.Path + " " + r.Query.Encode() + " " + r.Body
		}
		if asked != tc.asks || !strings.Contains(got.out+got.err, tc.says) || got.code != tc.code {
			t.Errorf("%v: asked %q, got %+v", tc.args, asked, got)
		}
	}
}

func TestAnExportThatBreaksOffIsNoSuccess(t *testing.T) {
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = w.Write([]byte(aLetter + "}\n"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer hub.Close()
	if got := run(t, "", "dead-letters", "export", "--hub", hub.URL); got.code != 3 || !strings.Contains(got.err, "incomplete") || !strings.Contains(got.out, "d-3") {
		t.Errorf("%+v", got)
	}
}

// troubled is a callback that responds with a given status and remembers what it accepted.
type troubled struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	tried  int
	got    []string
}

func newTroubled(t *testing.T, status int) *troubled {
	c := &troubled{status: status}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tried++
		if c.status/100 == 2 {
			c.got = append(c.got, r.Header.Get("X-Hub-Message-Id")+" "+string(body))
		}
		w.WriteHeader(c.status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *troubled) answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *troubled) taken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.got, ", ")
}

// get reads JSON from node i.
func (c *devCluster) get(i int, path string, into any) bool {
	resp, err := http.Get(c.urls[i] + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(into) == nil
}

// metric returns the sum of a metric over the nodes.
func (c *devCluster) metric(name string) (sum float64) {
	for _, url := range c.urls {
		resp, err := http.Get(url + "/metrics")
		if err != nil {
			c.t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		for line := range strings.SplitSeq(string(body), "\n") {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					c.t.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}

func (c *devCluster) letters(i int) (ids []string) {
	var page struct{ Items []struct{ ID string } }
	c.get(i, "/v1/dead-letters", &page)
	for _, d := range page.Items {
		ids = append(ids, d.ID)
	}
	return ids
}

// Dead letters of one node can be shown, replayed and dropped through any other.
func TestDeadLettersOfACluster(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.retry.initial=5ms", "delivery.retry.max_interval=20ms", "delivery.retry.max_attempts=3")
	callback := newTroubled(t, http.StatusServiceUnavailable)
	c.subscribe(0, "news", callback.URL+"/cb")
	eventually(t, "the subscription has an owner", func() bool {
		sum := 0
		for _, n := range c.shares(0) {
			sum += n
		}
		return sum == 1
	})
	for _, body := range []string{"one", "two", "three"} {
		if status, _ := c.publish(1, body); status != http.StatusOK {
			t.Fatalf("publish: %d", status)
		}
	}
	for i := range c.urls {
		eventually(t, "three dead letters on every node", func() bool { return len(c.letters(i)) == 3 })
	}
	for i, url := range c.urls {
		got := run(t, "", "dead-letters", "show", "d-1", "--hub", url)
		if got.code != 0 || !strings.Contains(got.out, "one") || strings.Count(got.out, "  503     http-status  ") != 3 {
			t.Errorf("node-%d shows %+v", i+1, got)
		}
	}
	showsAttempts(t, c)
	replays(t, c, callback)
	keepsLettersAfterTheEnd(t, c, callback)
}

// showsAttempts checks that every node shows the attempts, which only the owner knows, and that the nodes' metrics add up.
func showsAttempts(t *testing.T, c *devCluster) {
	t.Helper()
	for i, url := range c.urls {
		eventually(t, "the failures are saved in the log", func() bool {
			var sub struct{ Failures int }
			return c.get(i, "/v1/subscriptions/s-1", &sub) && sub.Failures == 9
		})
		got := run(t, "", "subscriptions", "show", "s-1", "--hub", url)
		if got.code != 0 || strings.Count(got.out, "  down     503   ") != 9 || !strings.Contains(got.out, "0% of the last 9") || !strings.Contains(got.out, "failing since") {
			t.Errorf("node-%d shows %+v", i+1, got)
		}
		var a struct {
			Node     string
			Total    int
			Attempts []struct {
				Offset int
				Status int
			}
		}
		if !c.get(i, "/v1/subscriptions/s-1/attempts", &a) || a.Total != 9 || len(a.Attempts) != 9 || a.Attempts[0].Offset != 3 || a.Attempts[8].Status != 503 {
			t.Errorf("node-%d shows %+v", i+1, a)
		}
	}
	for name, sum := range map[string]float64{`quorumhub_delivery_failures_total{outcome="down",reason="http-status"}`: 9,
		`quorumhub_delivery_seconds_count{outcome="down"}`: 9, "quorumhub_delivery_dead_lettered_total": 3, "quorumhub_dead_letters": 9, // on each of them
		"quorumhub_delivery_lag_messages": 0, "quorumhub_delivery_oldest_undelivered_seconds": 0} {
		if got := c.metric(name); got != sum {
			t.Errorf("%s adds up to %v, want %v", name, got, sum)
		}
	}
}

// replays replays the three dead letters: a failed replay adds an attempt, an acknowledged one removes the dead letter on all nodes.
func replays(t *testing.T, c *devCluster, callback *troubled) {
	t.Helper()
	if got := run(t, "", "dead-letters", "replay", "d-1", "--hub", c.urls[2]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eventually(t, "the failed replay is recorded", func() bool {
		var d struct {
			Attempts  int
			Replaying *string `json:"replaying_since"`
		}
		return c.get(0, "/v1/dead-letters/d-1", &d) && d.Attempts == 4 && d.Replaying == nil
	})
	callback.answer(http.StatusNoContent)
	if got := run(t, "", "dead-letters", "replay", "--topic", "news", "--until", "0s", "--expect", "3", "--hub", c.urls[1]); got.code != 0 || !strings.Contains(got.out, "3 queued for replay") {
		t.Fatalf("%+v", got)
	}
	for i := range c.urls {
		eventually(t, "no dead letters are left", func() bool { return len(c.letters(i)) == 0 })
	}
	if got := callback.taken(); got != "1-1 one, 1-2 two, 1-3 three" {
		t.Errorf("the callback accepted %s", got)
	}
}

// keepsLettersAfterTheEnd ends the subscription: its dead letters cannot be replayed any more, but exported and dropped.
func keepsLettersAfterTheEnd(t *testing.T, c *devCluster, callback *troubled) {
	t.Helper()
	callback.answer(http.StatusBadGateway)
	c.publish(0, "four")
	eventually(t, "a fourth dead letter", func() bool { return fmt.Sprint(c.letters(2)) == "[d-4]" })
	if got := run(t, "", "subscriptions", "end", "s-1", "--hub", c.urls[0]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := run(t, "", "dead-letters", "replay", "d-4", "--hub", c.urls[0]); got.code != 4 || !strings.Contains(got.err, "has ended") {
		t.Errorf("%+v", got)
	}
	if got := run(t, "", "dead-letters", "export", "--hub", c.urls[1]); got.code != 0 || !strings.Contains(got.out, `"body_base64":"Zm91cg=="`) || strings.Count(got.out, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	if got := run(t, "", "dead-letters", "drop", "--all", "--hub", c.urls[2]); got.code != 0 || !strings.Contains(got.out, "1 dropped") {
		t.Errorf("%+v", got)
	}
	for i := range c.urls {
		eventually(t, "it is gone everywhere", func() bool { return len(c.letters(i)) == 0 })
	}
}
