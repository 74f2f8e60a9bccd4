package web_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/web"
)

// Behind a unix socket the clients are those that the proxy names.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits, o.ClientConnections = few(), 2 })
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	post := func(from string) int {
		r, err := http.NewRequest(http.MethodPost, "http://localhost/topics/news", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", from)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for i := range 5 {
		if got := post(fmt.Sprint("198.51.100.", i)); got != 200 {
			t.Errorf("client %d got %d", i, got)
		}
	}
	last := 0
	for range 4 {
		last = post("198.51.100.77")
	}
	if last != 429 {
		t.Errorf("one client beyond its limit got %d", last)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
