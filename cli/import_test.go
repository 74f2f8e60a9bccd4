package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const twoRecords = `{"topics":[{"topic":"a"}],"subscriptions":[{"hubTopic":"a","hubCallback":"http://x/","hubSecret":"s3cret"}]}`

// importing responds to an import as a hub does.
func importing(w http.ResponseWriter, r request) {
	if strings.Contains(r.Body, `"topics":["a"]`) && strings.Contains(r.Body, "http://x/") {
		fmt.Fprint(w, `{"topics":[{"topic":"a","outcome":"created"}],"subscriptions":[{"topic":"a","callback":"http://x/","outcome":"created","id":"s-1"}],"dry_run":false}`)
		return
	}
	w.WriteHeader(http.StatusBadRequest)
}

// A request is repeated if a hub that has responded before is briefly unavailable, but not if it refuses or responds with something else.
func TestImportMeetsTheHub(t *testing.T) {
	var asked atomic.Int32
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, request)
		code   int
		asked  int32
		out    string
		err    string
	}{
		"at once": {importing, 0, 1, "created   subscription a to http://x/ (s-1)", ""},
		"choosing a leader": {func(w http.ResponseWriter, r request) {
			if asked.Load() == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			importing(w, r)
		}, 0, 2, "created   topic a", ""},
		"not allowed":    {answering(403, "", "forbidden"), 4, 1, "not sent  topic a", "run the same command again"},
		"something else": {answering(200, "", `{"topics":[]}`), 1, 1, "not sent  subscription a to http://x/", "unexpected response"},
		"an older hub":   {answering(404, "", "no such path"), 4, 1, "subscriptions: 0 created, 0 unchanged, 1 not sent", "404"},
		"no JSON at all": {answering(200, "", "<html>"), 1, 1, "not sent", "unexpected response"},
		"half an answer": {answering(200, "", `{"topics":[{"topic":"a","outcome":"created"}],"subscriptions":[]}`), 1, 1, "not sent", "unexpected response"},
	} {
		asked.Store(0)
		hub := newScriptedHub(t, func(w http.ResponseWriter, r request) {
			asked.Add(1)
			c.answer(w, r)
		})
		got := run(t, twoRecords, "import", "--verbose", "--from", "ballerina", "--hub", hub.URL)
		if got.code != c.code || asked.Load() != c.asked || !strings.Contains(got.out, c.out) || !strings.Contains(got.err, c.err) {
			t.Errorf("%s: exit code %d after %d requests, %s%s; want %d after %d with %q and %q", name, got.code, asked.Load(), got.out, got.err, c.code, c.asked, c.out, c.err)
		}
		if strings.Contains(got.out+got.err, "s3cret") {
			t.Errorf("%s: the secret is printed", name)
		}
	}
	gone := newScriptedHub(t, importing)
	gone.Close()
	if got := run(t, twoRecords, "import", "--from", "ballerina", "--hub", gone.URL); got.code != 3 || !strings.Contains(got.out, "not sent  topic a") {
		t.Errorf("an unreachable hub: %+v", got)
	}
	for _, args := range [][]string{{"--from", "kafka"}, {}, {"--from", "mosip", "--batch", "0"}, {"--from", "mosip", "--url", "ftp://x/"}, {"--from", "mosip", "--url", "http://x/", "file"}, {"--from", "mosip", "/no/such/file"}} {
		if got := run(t, twoRecords, append([]string{"import", "--hub", gone.URL}, args...)...); got.code != 2 || strings.Contains(got.err, "panic") {
			t.Errorf("%v: %+v, want exit code 2", args, got)
		}
	}
}

// manyRecords returns a snapshot of n topics with two subscriptions each.
func manyRecords(n int) string {
	var topics, subs []string
	for i := range n {
		topics = append(topics, fmt.Sprintf(`{"topic":"t%d"}`, i))
		for _, name := range []string{"a", "b"} {
			subs = append(subs, fmt.Sprintf(`{"hubTopic":"t%d","hubCallback":"http://x/%s"}`, i, name))
		}
	}
	return `{"topics":[` + strings.Join(topics, ",") + `],"subscriptions":[` + strings.Join(subs, ",") + `]}`
}

// importer answers imports as a hub does: it refuses callbacks that end in b, and notes how many requests were under way at once.
type importer struct {
	mu               sync.Mutex
	under, most      int
	topics, subs     int
	early            bool // a subscription came before the last topic
	asked, failsFrom int
}

func (h *importer) answer(all int) func(http.ResponseWriter, request) {
	type item struct {
		Topic    string `json:"topic"`
		Callback string `json:"callback,omitempty"`
		Outcome  string `json:"outcome"`
		Reason   string `json:"reason,omitempty"`
	}
	return func(w http.ResponseWriter, r request) {
		h.mu.Lock()
		h.under++
		h.asked++
		h.most = max(h.most, h.under)
		fails := h.failsFrom > 0 && h.asked >= h.failsFrom
		h.mu.Unlock()
		time.Sleep(2 * time.Millisecond) // so that requests overlap
		var in struct {
			Topics        []string
			Subscriptions []item
		}
		if err := json.Unmarshal([]byte(r.Body), &in); err != nil {
			fails = true
		}
		out := struct {
			Topics        []item `json:"topics"`
			Subscriptions []item `json:"subscriptions"`
		}{[]item{}, []item{}}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.under--
		if fails {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		for _, name := range in.Topics {
			h.topics++
			out.Topics = append(out.Topics, item{Topic: name, Outcome: "created"})
		}
		for _, sub := range in.Subscriptions {
			h.subs++
			h.early = h.early || h.topics < all
			sub.Outcome = "created"
			if strings.HasSuffix(sub.Callback, "b") {
				sub.Outcome, sub.Reason = "refused", "not here"
			}
			out.Subscriptions = append(out.Subscriptions, sub)
		}
		_ = json.NewEncoder(w).Encode(out)
	}
}

// A large import has several requests under way, the topics first, and ends with a summary instead of a line for each record.
func TestALargeImportIsQuickAndBrief(t *testing.T) {
	const n = 300
	h := &importer{}
	hub := newScriptedHub(t, h.answer(n))
	got := run(t, manyRecords(n), "import", "--from", "ballerina", "--hub", hub.URL, "--batch", "10")
	if h.topics != n || h.subs != 2*n || h.early || h.most < 2 || h.most > 4 || h.asked != 3*n/10 {
		t.Errorf("%d topics, %d subscriptions, in another order: %t, up to %d of %d requests at once", h.topics, h.subs, h.early, h.most, h.asked)
	}
	if got.code != 4 || strings.Count(got.out, "refused   subscription") != 20 || !strings.Contains(got.out, "and 280 more like these; --verbose lists all\n") ||
		strings.Contains(got.out, "created   ") || !strings.HasSuffix(got.out, "topics: 300 created, 0 unchanged\nsubscriptions: 300 created, 0 unchanged, 300 refused\n") {
		t.Errorf("%+v", got)
	}
	got = run(t, manyRecords(n), "import", "--from", "ballerina", "--hub", hub.URL, "--verbose")
	if strings.Count(got.out, "created   topic") != n || strings.Count(got.out, "refused   subscription") != n || strings.Contains(got.out, "more like these") {
		t.Errorf("%+v", got)
	}
}

// After a batch has failed no other begins; what those under way achieved is in the report.
func TestALargeImportStopsAtTheFirstFailure(t *testing.T) {
	const n = 300
	h := &importer{failsFrom: 40}
	hub := newScriptedHub(t, h.answer(n))
	got := run(t, manyRecords(n), "import", "--from", "ballerina", "--hub", hub.URL, "--batch", "10")
	if got.code != 4 || h.asked < 40 || h.asked > 43 || !strings.Contains(got.err, "403") ||
		!strings.Contains(got.out, fmt.Sprintf("%d created, 0 unchanged, %d refused, %d not sent", h.subs/2, h.subs/2, 2*n-h.subs)) {
		t.Errorf("%d requests, %d subscriptions: %+v", h.asked, h.subs, got)
	}
}
