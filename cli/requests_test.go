package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever subscribes learns what came of it: at once, and for an hour through any node.
func TestFailedVerificationsAreTold(t *testing.T) {
	c := startDevCluster(t, 3)
	confused := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "something else") }))
	defer confused.Close()
	honest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Query().Get("hub.challenge")) }))
	defer honest.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()

	eventually(t, "every node keeps requests that failed", func() bool {
		var status struct {
			Level int `json:"feature_level"`
		}
		decode(t, run(t, "", "cluster", "status", "--json", "--hub", c.urls[0]).out, &status)
		return status.Level >= 2
	})

	for name, d := range map[string]struct {
		callback string
		code     int
		want     string
	}{
		"an honest callback": {honest.URL + "/cb", 0, "confirmed by"},
		"a wrong challenge":  {confused.URL + "/cb", 4, "did not confirm"},
		"nobody listens":     {gone.URL + "/cb", 4, "did not confirm"},
	} {
		if got := run(t, "", "subscribe", "t", d.callback, "--hub", c.urls[1]); got.code != d.code || !strings.Contains(got.out+got.err, d.want) {
			t.Errorf("%s: %+v, want code %d and %q", name, got, d.code, d.want)
		}
	}
	for i := range c.urls {
		eventually(t, fmt.Sprintf("node %d tells what failed", i+1), func() bool {
			got := run(t, "", "requests", "--state", "failed", "--hub", c.urls[i])
			return got.code == 0 && strings.Contains(got.out, confused.URL) && strings.Contains(got.out, gone.URL) && !strings.Contains(got.out, honest.URL)
		})
	}
	if got := run(t, "", "unsubscribe", "t", honest.URL+"/cb", "--hub", c.urls[2]); got.code != 0 || !strings.Contains(got.out, "confirmed") {
		t.Errorf("unsubscribe: %+v", got)
	}
}
