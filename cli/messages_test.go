package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Who is asked why a message did not arrive finds it, sees its way, and sends it again, through any node; and a verification that failed
// is asked for again once its callback is mended.
func TestFindAndSendMessages(t *testing.T) {
	c := startDevCluster(t, 3)
	var mended atomic.Bool
	var mu sync.Mutex
	var got []string // what arrived: kind, ID and body
	callback := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if !mended.Load() {
				fmt.Fprint(w, "not what you wanted")
				return
			}
			fmt.Fprint(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, strings.TrimSpace(r.Header.Get("X-Hub-Test")+" "+r.Header.Get("X-Hub-Message-Id")+" "+string(body)))
	}))
	defer callback.Close()
	arrived := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(got, ", ")
	}
	if got := run(t, "", "subscribe", "t", callback.URL+"/cb", "--hub", c.urls[0]); got.code != 4 {
		t.Fatalf("%+v", got)
	}
	mended.Store(true)
	if got := run(t, "", "requests", "ask", "r-1", "--hub", c.urls[1]); got.code != 0 || !strings.Contains(got.out, "r-1 is asked again as r-2") {
		t.Fatalf("%+v", got)
	}
	eventually(t, "the subscription is confirmed", func() bool {
		return strings.Contains(run(t, "", "subscriptions", "--hub", c.urls[2]).out, callback.URL)
	})
	for i := range 3 {
		if got := run(t, fmt.Sprint("m", i), "publish", "t", "--hub", c.urls[i], "--idempotency-key", fmt.Sprint("key", i)); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	eventually(t, "all arrived", func() bool { return arrived() == "1-1 m0, 1-2 m1, 1-3 m2" })
	for i, url := range c.urls {
		if got := run(t, "", "messages", "--topic", "t", "--key", "key1", "--hub", url); !strings.Contains(got.out, "1-2") || strings.Contains(got.out, "1-1") {
			t.Errorf("found through node %d: %+v", i+1, got)
		}
		if got := run(t, "", "messages", "show", "1-2", "--hub", url); !strings.Contains(got.out, "delivered") || !strings.Contains(got.out, "200") || !strings.Contains(got.out, callback.URL) {
			t.Errorf("seen through node %d: %+v", i+1, got)
		}
		if got := run(t, "", "subscriptions", "redeliver", "s-1", "--message", "1-2", "--hub", url); got.code != 0 || !strings.Contains(got.out, "1-2 was sent to s-1 by node-") || !strings.Contains(got.out, "delivered (200)") || !strings.Contains(got.out, "waiting") {
			t.Errorf("sent through node %d: %+v", i+1, got)
		}
	}
	if got := run(t, "", "subscriptions", "test", "s-1", "--body", "hello", "--hub", c.urls[0]); got.code != 0 || !strings.Contains(got.out, "test-") {
		t.Errorf("%+v", got)
	}
	if now := arrived(); !strings.HasPrefix(now, "1-1 m0, 1-2 m1, 1-3 m2, 1-2 m1, 1-2 m1, 1-2 m1, true test-") || !strings.HasSuffix(now, " hello") {
		t.Errorf("arrived: %s", now)
	}
	if got := run(t, "", "messages", "show", "1-2", "--hub", c.urls[2]); strings.Count(got.out, "replay") != 3 {
		t.Errorf("the attempts that were made on request are not marked: %s", got.out)
	}
	if got := run(t, "", "subscriptions", "redeliver", "s-1", "--message", "1-9", "--hub", c.urls[0]); got.code == 0 || !strings.Contains(got.err, "does not exist yet") {
		t.Errorf("%+v", got)
	}
	run(t, "", "subscriptions", "pause", "s-1", "--hub", c.urls[0])
	if got := run(t, "", "subscriptions", "test", "s-1", "--hub", c.urls[1]); got.code == 0 || !strings.Contains(got.err, "is paused") {
		t.Errorf("%+v", got)
	}
}
