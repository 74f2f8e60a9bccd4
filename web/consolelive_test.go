package web_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// live follows a page and returns what its updates say until one contains the words, or for a few seconds.
func live(t *testing.T, url, key, words string, during func()) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	r.Host = "hub.example.net"
	if key != "" {
		r.Header.Set("X-API-Key", key)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %d %v", url, resp.StatusCode, resp.Header)
	}
	var all strings.Builder
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if during != nil && strings.Contains(lines.Text(), "data:") {
			during()
			during = nil
		}
		if strings.Contains(all.String(), words) {
			return all.String()
		}
	}
	t.Fatalf("no %q in %s", words, all.String())
	return ""
}

// What becomes live on a page is what its viewer may see, and who may see the same shares what is made for it.
func TestConsoleDataIsLiveForWhoMaySeeIt(t *testing.T) {
	d := &deliveries{}
	o := newOwned(t, "", func(_ *hub.Policy, o *web.Options) { o.Deliveries = d })
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://bob.example/cb")
	o.ledger.verify(t)
	server := httptest.NewServer(o.Server)
	defer server.Close()
	for key, sees := range map[string]string{o.alice: "https://alice.example/cb", o.bob: "https://bob.example/cb"} {
		got := live(t, server.URL+"/console/subscriptions?live=1", key, sees, nil)
		if strings.Contains(got, "alice.example") && strings.Contains(got, "bob.example") {
			t.Errorf("the owner of %s sees %s", sees, got)
		}
	}
	// A subscription that is paused through the API is seen to be paused.
	live(t, server.URL+"/console/subscriptions/s-1?live=1", o.alice, "It is paused by its owner", func() {
		want(t, o.as(o.alice, "POST", "/v1/subscriptions/s-1/pause", ""), 200)
	})
	w := o.as(o.bob, "GET", "/console/subscriptions/s-1?live=1", "")
	want(t, w, http.StatusNotFound)
	// Nor is another's message's way.
	got := live(t, server.URL+"/console/messages/1-1?live=1", o.bob, "message-way", nil)
	if strings.Contains(got, "alice.example") || !strings.Contains(got, "bob.example") {
		t.Errorf("%s", got)
	}
}
